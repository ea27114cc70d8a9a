"""enginelog verify: content with what is whole, names what isn't."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from async_enginelog import reading
from async_enginelog.cli import findings
from async_enginelog.cli.spools import SpoolRun
from async_enginelog.database import Database
from async_enginelog.errors import StorageError
from async_enginelog.migrations import migrations
from async_enginelog.reading import RunRow
from async_enginelog.segments import spool_folder

from .conftest import Outcome

Enginelog = Callable[..., Outcome]
Sql = Callable[..., list[Any]]


def wrong(outcome: Outcome) -> str:
    """Return what one command found wrong."""
    assert outcome.code == 1, outcome
    assert outcome.err == ""
    return outcome.out


def test_whole(enginelog: Enginelog, log_path: Path) -> None:
    """A log that was closed is whole."""
    assert enginelog("verify", log_path) == (
        0,
        f"{log_path} is whole: schema version {len(migrations())}, 1 run, 12 rows\n",
        "",
    )


@pytest.mark.parametrize("verb", [["verify"], ["stats"], ["prune", "--keep-rows", 1, "--dry-run"]])
def test_hot_journal(enginelog: Enginelog, log_path: Path, tmp_path: Path, verb: list[object]) -> None:
    """Of a file that a program died on, it is said what lies beside it, and what makes it whole."""
    dead = tmp_path / "dead.db"
    with closing(sqlite3.connect(log_path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
        connection.execute("PRAGMA cache_size = 1")
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("UPDATE ENGINE_DB_LOG_STEPS SET STEP_NAME = 'half'")
        connection.execute("CREATE TABLE half AS SELECT zeroblob(100000)")
        for suffix in ("", "-journal"):
            shutil.copy(f"{log_path}{suffix}", f"{dead}{suffix}")
    code, out, err = enginelog(*verb, dead)

    assert (code, out) == (2, "")
    assert f"By {dead}-journal its half-done change is undone" in err
    assert f"start the engine, or open it once: sqlite3 {dead} .tables; don't delete the -journal" in err
    with closing(sqlite3.connect(dead)) as connection:
        assert connection.execute("SELECT count(*) FROM sqlite_schema WHERE name = 'half'").fetchone() == (0,)
    assert enginelog(*verb, dead).code == 0


def test_spool_that_is_no_folder(enginelog: Enginelog, log_path: Path) -> None:
    """What stands where the spool should be keeps engines from opening the log: that is wrong."""
    shutil.rmtree(spool_folder(log_path))
    spool_folder(log_path).touch()
    assert f"{spool_folder(log_path)} isn't a folder" in wrong(enginelog("verify", log_path))


def test_while_an_engine_writes(enginelog: Enginelog, live: Path) -> None:
    """However often it is asked while an engine writes, the counts agree; the run is told."""
    for _ in range(5):
        code, out, _ = enginelog("verify", live)
        assert code == 0, out
        assert "is running on" in out


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("DELETE FROM ENGINE_DB_LOG_STEPS WHERE FRAME_NO = 2", "gone from ENGINE_DB_LOG_STEPS: 1"),
        ("DELETE FROM ENGINE_DB_LOG_STEPS WHERE FRAME_NO = 4", "ENGINE_DB_LOG_STEPS: 4"),
        ("INSERT INTO ENGINE_DB_LOG_STEPS SELECT * FROM ENGINE_DB_LOG_STEPS LIMIT 1", "1 too many"),
        ("INSERT INTO ENGINE_DB_LOG_STEPS (STEP_NAME) VALUES ('odd')", "1 row of run None"),
        ("UPDATE ENGINE_DB_LOG_STEPS SET LOG_SEQ = 99 WHERE FRAME_NO = 2", "LOG_SEQ 99"),
        ("UPDATE ENGINE_LOG_RUN SET ROWS_ACCEPTED = 13", "(closed): it accepted 13 rows"),
        ("INSERT INTO ENGINE_LOG_REPLAYED VALUES (17, 1)", "run 17"),
        ("UPDATE ENGINE_LOG_RUN SET ROWS_REPLAYED = 5", "ROWS_REPLAYED says 5"),
        ("DELETE FROM ENGINE_LOG_RUN", "which ENGINE_LOG_RUN doesn't know"),
    ],
)
def test_tampered_rows(enginelog: Enginelog, log_path: Path, sql: Sql, statement: str, expected: str) -> None:
    """Rows and counts that don't agree are told with run and table."""
    [(run,)] = sql(log_path, "SELECT ENGINE_RUN_ID FROM ENGINE_LOG_RUN")
    sql(log_path, statement)
    out = wrong(enginelog("verify", log_path))

    assert expected in out
    assert "1 thing is wrong" in out or str(run) in out


def test_missing_after_a_pruning(enginelog: Enginelog, log_path: Path, sql: Sql) -> None:
    """After a pruning the log is whole; if a row is missing besides, what was pruned isn't suspected."""
    assert enginelog("prune", log_path, "--keep-rows", 1).code == 0
    assert enginelog("verify", log_path).code == 0

    sql(log_path, "DELETE FROM ENGINE_DB_LOG_RECORDING_CONFIG")
    out = wrong(enginelog("verify", log_path))
    assert "1 missing" in out
    assert "gone from" not in out


def test_all_rows_of_a_run_gone(enginelog: Enginelog, log_path: Path, sql: Sql) -> None:
    """A run without any rows is told, too."""
    for table in ("STEPS", "SPLIT_100_MS_AUDIO_FRAME", "WEBSOCKET_CONNECTION", "RECORDING_CONFIG"):
        sql(log_path, f"DELETE FROM ENGINE_DB_LOG_{table}")

    assert "12 missing (no table has any)" in wrong(enginelog("verify", log_path))


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("DROP INDEX ENGINE_DB_LOG_STEPS_SEQ", "the index ENGINE_DB_LOG_STEPS_SEQ is missing"),
        ("DROP TABLE ENGINE_DB_LOG_STEPS", "the table ENGINE_DB_LOG_STEPS is missing"),
        ("DROP TABLE ENGINE_LOG_RUN", "the table ENGINE_LOG_RUN is missing"),
        ("ALTER TABLE ENGINE_DB_LOG_STEPS ADD COLUMN EXTRA", "make it: EXTRA"),
        ("ALTER TABLE ENGINE_DB_LOG_STEPS RENAME COLUMN STEP_NAME TO NAME", "make it: NAME, STEP_NAME"),
    ],
)
def test_tampered_schema(
    enginelog: Enginelog, log_path: Path, sql: Sql, statement: str, expected: str
) -> None:
    """What isn't as the migrations make it is told by name."""
    sql(log_path, statement)

    assert expected in wrong(enginelog("verify", log_path))


def test_index_on_another_column(enginelog: Enginelog, log_path: Path, sql: Sql) -> None:
    """An index that kept its name, but not its columns, is told."""
    sql(log_path, "DROP INDEX ENGINE_DB_LOG_STEPS_SEQ")
    sql(log_path, "CREATE INDEX ENGINE_DB_LOG_STEPS_SEQ ON ENGINE_DB_LOG_STEPS (STEP_NAME)")

    assert "the index ENGINE_DB_LOG_STEPS_SEQ isn't as" in wrong(enginelog("verify", log_path))


def test_more_tables_are_no_harm(enginelog: Enginelog, log_path: Path, sql: Sql) -> None:
    """Who adds views, tables or indexes of their own is left in peace."""
    sql(log_path, "CREATE VIEW ERRORS AS SELECT * FROM ENGINE_DB_LOG_FUNCTION_ERROR")
    sql(log_path, "CREATE INDEX MY_OWN ON ENGINE_DB_LOG_STEPS (STEP_NAME)")

    assert enginelog("verify", log_path).code == 0


def test_old_schema() -> None:
    """A file that isn't migrated yet gets that remedy, and no list of what it lacks."""
    [finding] = findings.schema_findings(1, 2, {}, {"table NEW": []})

    assert "enginelog init" in finding.remedy


def test_columns_in_another_order() -> None:
    """A difference that no column has by itself is told without a list."""
    [finding] = findings.schema_findings(1, 1, {"table T": [("A",), ("B",)]}, {"table T": [("B",), ("A",)]})

    assert finding.what == "the table T isn't as the migrations make it"


def test_damaged_file(enginelog: Enginelog, fill: Callable[..., None], log_path: Path) -> None:
    """A damaged page is a finding, not a traceback."""
    fill(log_path, 500)
    data = bytearray(log_path.read_bytes())
    middle = len(data) // 2 // 4096 * 4096
    data[middle : middle + 3 * 4096] = b"\xaa" * (3 * 4096)
    log_path.write_bytes(data)

    assert "the file is damaged" in wrong(enginelog("verify", log_path))


def test_file_that_cannot_be_read_on(
    enginelog: Enginelog, log_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor is a file at which SQLite gives up."""

    async def give_up(database: object) -> list[str]:
        raise StorageError("database disk image is malformed")

    monkeypatch.setattr(reading, "integrity_faults", give_up)

    assert "damaged: database disk image is malformed" in wrong(enginelog("verify", log_path))


def test_dead_run(enginelog: Enginelog, fill: Callable[..., None], dead: Path) -> None:
    """Rows that wait in the spool of a dead run are told; opening the log mends it."""
    out = wrong(enginelog("verify", dead))
    assert "in its spool 1 row waits" in out
    assert "nothing is lost" in out

    fill(dead, 1)
    assert enginelog("verify", dead).code == 0


def test_deleted_spool(enginelog: Enginelog, dead: Path, sql: Sql) -> None:
    """A spool that was deleted before its rows were committed is told, with the run."""
    [(run,)] = sql(dead, "SELECT ENGINE_RUN_ID FROM ENGINE_LOG_RUN")
    shutil.rmtree(spool_folder(dead))

    out = wrong(enginelog("verify", dead))
    assert f"run {run}: its process is gone and its spool was deleted; rows may be lost" in out


def test_deleted_segments(enginelog: Enginelog, dead: Path, sql: Sql) -> None:
    """The same if only its segments were; rows known to be accepted are counted."""
    sql(dead, "UPDATE ENGINE_LOG_RUN SET ROWS_ACCEPTED = ROWS_ACCEPTED + 3")
    for segment in spool_folder(dead).glob("*.jsonl"):
        segment.unlink()

    assert "at least 3 rows lost" in wrong(enginelog("verify", dead))


def test_spool_of_an_unknown_run(enginelog: Enginelog, log_path: Path) -> None:
    """A spool whose run the database has never heard of is told, too."""
    (spool_folder(log_path) / "17-000001.jsonl").write_bytes(b"header\n" + b'["T",{}]\n' * 51)

    assert "run 17 is dead; in its spool 51 rows wait" in wrong(enginelog("verify", log_path))


def test_spool_that_is_committed(enginelog: Enginelog, dead: Path, sql: Sql) -> None:
    """A dead run whose spool holds nothing more is a note."""
    sql(dead, "UPDATE ENGINE_LOG_RUN SET SPOOL_SEGMENT = 9")
    code, out, _ = enginelog("verify", dead)

    assert code == 0
    assert "0 rows wait in its spool" in out or "in its spool 0 rows wait" in out


def test_unreadable_lines(enginelog: Enginelog, log_path: Path) -> None:
    """Files of lines that were set aside are told with their path."""
    (spool_folder(log_path) / "unreadable-17-000001-0.txt").write_text("x")

    assert "unreadable-17-000001-0.txt" in wrong(enginelog("verify", log_path))


def test_run_that_begins_meanwhile(
    enginelog: Enginelog, log_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that began after its spool would have been looked for isn't taken for a dead one."""
    run_rows = reading.run_rows
    newer = RunRow(2**40, "host", 1, "0", "", "", None, None, 10, 8, 0, 0, 0, 0, 8, 8, 1, 0)
    extra: list[RunRow] = []

    async def growing(database: Database) -> list[RunRow]:
        rows = extra + await run_rows(database)
        extra.append(newer)
        return rows

    monkeypatch.setattr(reading, "run_rows", growing)

    assert enginelog("verify", log_path).code == 0
    assert extra


def test_run_on_the_way() -> None:
    """Rows of a run that is alive may still be on their way."""
    row = RunRow(17, "host", 1, "0", "", "", None, None, 10, 8, 0, 0, 0, 0, 8, 8, 1, 0)
    spool = SpoolRun(17, alive=True, has_rows_file=True, waiting=0)
    [finding] = findings.run_findings(row, spool)

    assert finding.what.endswith("; 2 rows on the way")
    assert not finding.wrong
