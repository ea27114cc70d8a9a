"""enginelog doctor: faults planted one at a time, each found; nothing found where nothing is wrong."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from async_enginelog import segments
from async_enginelog.cli import checks_file, doctor_locks, doctor_log, doctor_site
from async_enginelog.errors import StorageError
from async_enginelog.migrations import migrations
from async_enginelog.segments import spool_folder

from ..pure_helpers import migrated
from .conftest import Outcome

Enginelog = Callable[..., Outcome]
Sql = Callable[..., list[Any]]

NOBODY = 65534

on_posix = pytest.mark.skipif(os.name == "nt", reason="modes say nothing on Windows")
on_linux = pytest.mark.skipif(not doctor_locks.LOCKS.exists(), reason="only Linux tells who holds locks")
as_root = pytest.mark.skipif(
    os.name == "nt" or os.geteuid() != 0, reason="only root can become another account"
)

# Somebody else's program: keeps hold of a database until its standard input ends.
KEEP = """
import sqlite3, sys
database = sqlite3.connect(sys.argv[1], isolation_level=None)
for statement in sys.argv[2:]:
    database.execute(statement).fetchall()
print("ready", flush=True)
sys.stdin.read()
"""

# An engine whose last row is in the database, and which stays.
IDLE = """
import asyncio, sys
from async_enginelog import EngineLog, segments
from async_enginelog.listeners.processes import Heartbeat

segments.SEGMENT_BYTES = 1024 * 1024

async def main(path):
    async with EngineLog(path, spool_limit=4 * 1024 * 1024) as log, Heartbeat(log, 3600):
        await log.flush()
        print("ready", flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)

asyncio.run(main(sys.argv[1]))
"""


@contextmanager
def program(code: str, *arguments: object, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program until the block is left."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, **streams, env={**os.environ, **environment}) as process:  # type: ignore[call-overload]
        assert process.stdout.readline().strip() == b"ready"
        yield process
        process.communicate(timeout=30)


@pytest.fixture(autouse=True)
def odbc(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A list of ODBC drivers with one for SQLite, on machines with a driver manager; all may read it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "odbcinst.ini").write_text(f"[SQLite3]\nDriver={folder / 'odbcinst.ini'}\n")
        monkeypatch.setenv("ODBCSYSINI", name)
        yield folder


@pytest.fixture(autouse=True)
def quick_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look for those who keep locks for less than half a second."""
    monkeypatch.setattr(doctor_locks, "BETWEEN_LOOKS", 0.02)


@pytest.fixture
def examine(enginelog: Enginelog) -> Callable[..., dict[str, str]]:
    """What the doctor finds: the text of each finding, by its check; and that text and JSON agree."""

    def call(path: Path, *options: object) -> dict[str, str]:
        return findings_of(*(enginelog("doctor", path, *options, *form) for form in ((), ("--json",))))

    return call


def findings_of(text: Outcome, as_json: Outcome) -> dict[str, str]:
    """Return what was found, from both forms of saying it, which have to agree."""
    assert text.code == as_json.code, text
    assert text.err == as_json.err == ""
    report = json.loads(as_json.out)
    wrong = [finding for finding in report["findings"] if finding["level"] == "wrong"]
    assert (report["healthy"], as_json.code) == (not wrong, int(bool(wrong)))
    for finding in report["findings"]:
        assert all(finding[key] for key in ("check", "level", "what", "why", "do"))
        assert report["checks"][finding["check"]] in ("wrong", finding["level"])
    assert text.out.count("\n") == 3 * len(report["findings"]) + 1, text.out
    return {
        finding["check"]: f"{finding['level']}: {finding['what']} | {finding['why']} | {finding['do']}"
        for finding in report["findings"]
    }


Examine = Callable[..., dict[str, str]]


def schema() -> list[tuple[str, str]]:
    """Return what the migrations make: each kind and name; not what SQLite makes by itself."""
    with migrated() as connection:
        return connection.execute(
            "SELECT type, name FROM sqlite_schema WHERE name NOT LIKE 'sqlite%' ORDER BY name"
        ).fetchall()


SCHEMA = schema()


def only(found: dict[str, str], check: str, *words: str) -> None:
    """Assert that one check found something, and no other did."""
    assert list(found) == [check], found
    for word in words:
        assert word in found[check]


# -- nothing is wrong -------------------------------------------------------------------------------


class TestHealthy:
    def test_closed(self, enginelog: Enginelog, examine: Examine, log_path: Path) -> None:
        """Of a log that was closed, there is nothing to say."""
        assert examine(log_path) == {}
        checks = 38 if doctor_locks.LOCKS.exists() else 36
        assert enginelog("doctor", log_path).out == (
            f"{log_path}: nothing is wrong, no engine runs ({checks} checks)\n"
        )

    def test_while_an_engine_writes(self, enginelog: Enginelog, examine: Examine, live: Path) -> None:
        """Nor of one that is written to, however often one asks."""
        for _ in range(5):
            assert examine(live) == {}
        assert "1 engine runs" in enginelog("doctor", live).out

    def test_while_an_engine_idles(self, examine: Examine, tmp_path: Path) -> None:
        """Nor of one whose engine has nothing to say but that it is alive."""
        with program(IDLE, tmp_path / "idle.db"):
            assert examine(tmp_path / "idle.db") == {}

    def test_new(self, enginelog: Enginelog, examine: Examine, tmp_path: Path) -> None:
        """Nor of one that no engine has opened yet."""
        enginelog("init", tmp_path / "new.db")

        assert examine(tmp_path / "new.db") == {}

    def test_every_check_was_made(self, enginelog: Enginelog, log_path: Path) -> None:
        """Checks that find nothing are listed as fine; the keys of --json are stable."""
        report = json.loads(enginelog("doctor", "--json", log_path).out)

        assert list(report) == ["database", "healthy", "engines_running", "findings", "checks"]
        not_fine = {check: state for check, state in report["checks"].items() if state != "fine"}
        locks = {} if doctor_locks.LOCKS.exists() else {"readers": "not checked", "writers": "not checked"}
        assert not_fine == locks
        assert (report["database"], report["healthy"], report["engines_running"]) == (str(log_path), True, 0)

    def test_locks_that_nobody_tells_of(
        self, enginelog: Enginelog, log_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Where the system doesn't tell who holds locks, that isn't checked, and that is said."""
        monkeypatch.setattr(doctor_locks, "LOCKS", log_path.with_name("none"))
        checks = json.loads(enginelog("doctor", "--json", log_path).out)["checks"]

        assert [check for check, state in checks.items() if state == "not checked"] == ["readers", "writers"]
        assert "(36 checks)" in enginelog("doctor", log_path).out

    def test_nothing_is_left(self, enginelog: Enginelog, log_path: Path) -> None:
        """Looking leaves no trace: no file is made, none is changed."""
        before = {file: file.stat() for file in log_path.parent.rglob("*")}
        assert enginelog("doctor", log_path).code == 0
        after = {file: file.stat() for file in log_path.parent.rglob("*")}

        assert after.keys() == before.keys()
        assert all(after[file].st_mtime_ns == before[file].st_mtime_ns for file in before)

    def test_shm_that_was_removed(self, enginelog: Enginelog, dead: Path) -> None:
        """Where an engine died, and somebody removed its -shm, that is made again, and nothing else."""
        shm = dead.with_name(f"{dead.name}-shm")
        shm.unlink()
        before = {file: file.read_bytes() for file in dead.parent.rglob("*") if file.is_file()}
        enginelog("doctor", dead)
        after = {file: file.read_bytes() for file in dead.parent.rglob("*") if file.is_file()}

        assert {file: data for file, data in after.items() if file != shm} == before

    def test_engine_that_comes_meanwhile(
        self, enginelog: Enginelog, log_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """An engine that opens the log while it is looked at makes what was seen worth nothing."""
        looks = []

        def look(paths: Path) -> list[Path]:
            looks.append(doctor_log.is_quiet(log_path))
            log_path.with_name(f"{log_path.name}-shm").touch()
            if looks == [True]:
                raise StorageError("what is read is half of the one, half of the other state")
            return []

        monkeypatch.setattr(doctor_log, "unreadable_files", look)
        assert enginelog("doctor", log_path).code == 0
        log_path.with_name(f"{log_path.name}-shm").unlink()
        assert enginelog("doctor", log_path).code == 0
        assert looks == [True, False, True, False]


# -- the file can't be opened -----------------------------------------------------------------------


class TestUnusable:
    @pytest.mark.parametrize(
        ("message", "do"),
        [
            ("doesn't exist", "enginelog init"),
            ("the folder", "create it"),
            ("is a folder", "pass the path of a file"),
            ("isn't a SQLite database", "pass another path"),
            ("customers", "a file of its own"),
            ("schema version 99", "pip install -U async-enginelog"),
        ],
    )
    def test_path(self, examine: Examine, unusable: dict[str, Path], message: str, do: str) -> None:
        """What no verb can use is a finding, not a crash; what is around it is looked at all the same."""
        only(examine(unusable[message]), "database", "wrong", message, do)

    @pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no FIFOs")
    def test_fifo(self, examine: Examine, tmp_path: Path) -> None:
        """A FIFO isn't opened: that would wait for ever."""
        os.mkfifo(tmp_path / "fifo")

        only(examine(tmp_path / "fifo"), "database", "isn't a file", "pass another path")

    @pytest.mark.parametrize("name", [".", ""])
    def test_folder_without_a_name(
        self, examine: Examine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
    ) -> None:
        """The folder that one is in is a folder, too."""
        monkeypatch.chdir(tmp_path)

        only(examine(name), "database", f"{tmp_path} is a folder")

    @on_posix
    @pytest.mark.parametrize("path", ["/dev/null", "/dev", "/"])
    def test_nothing_is_advised_for_what_is_no_file(self, enginelog: Enginelog, path: str) -> None:
        """No command is told that would change a device or a folder of the system."""
        code, out, err = enginelog("doctor", path, "--reader", "nobody", "--engine", "nobody")

        assert code in (1, 2)
        assert " is" in out + err
        assert not re.search("ch(mod|own|grp)", out + err)

    def test_undecodable_message(self, examine: Examine, log_path: Path, sql: Sql) -> None:
        """Where SQLite's own message quotes what isn't text any more, the file is damaged."""
        with closing(sqlite3.connect(log_path)) as connection:
            connection.execute("PRAGMA writable_schema = ON")
            connection.execute(
                "UPDATE sqlite_schema SET name = CAST(x'ff' AS TEXT), sql = '?' WHERE type = 'view'"
            )
            connection.commit()

        only(examine(log_path), "database", "is damaged: ", "enginelog verify")

    def test_hot_journal(self, examine: Examine, log_path: Path) -> None:
        """What a program left half written must be undone by one that may write: that is told."""
        half = """
import os, sqlite3, sys
database = sqlite3.connect(sys.argv[1], isolation_level=None)
for statement in ("PRAGMA journal_mode = DELETE", "PRAGMA cache_size = 2", "BEGIN"):
    database.execute(statement)
database.executemany("INSERT INTO ENGINE_DB_LOG_STEPS (STEP_NAME) VALUES (?)", [("x" * 100,)] * 5000)
os._exit(0)
"""
        subprocess.run([sys.executable, "-c", half, log_path], check=True)

        only(examine(log_path), "database", "readonly database", "start the engine", f"sqlite3 {log_path}")

    def test_checks_that_cannot_be_made(self, enginelog: Enginelog, tmp_path: Path) -> None:
        """Checks of what is in the log aren't made then, and that is said."""
        checks = json.loads(enginelog("doctor", "--json", tmp_path / "no.db").out)["checks"]

        assert (checks["database"], checks["disk_space"], checks["schema"]) == (
            "wrong",
            "fine",
            "not checked",
        )

    def test_empty(self, examine: Examine, tmp_path: Path) -> None:
        """A file of no bytes has no tables yet."""
        (tmp_path / "empty.db").touch()

        only(examine(tmp_path / "empty.db"), "database", "is empty", "enginelog init")

    def test_damaged(self, examine: Examine, log_path: Path) -> None:
        """A damaged page is told, with what saves the rest."""
        data = bytearray(log_path.read_bytes())
        data[4096:] = b"\xaa" * (len(data) - 4096)
        log_path.write_bytes(data)

        only(examine(log_path), "database", "malformed", f"enginelog salvage {log_path}")

    @pytest.mark.parametrize(("kind", "name"), SCHEMA)
    def test_dropped(self, examine: Examine, log_path: Path, sql: Sql, kind: str, name: str) -> None:
        """Each table, view, index or trigger that somebody dropped is told by its name."""
        sql(log_path, f"DROP {kind} {name}")

        check, do = ("database", f"enginelog verify {log_path}") if kind == "table" else ("schema", "restore")
        only(examine(log_path), check, "wrong", name, do)

    def test_column_dropped(self, examine: Examine, log_path: Path, sql: Sql) -> None:
        """So is a column that isn't there any more."""
        sql(log_path, "ALTER TABLE ENGINE_DB_LOG_STEPS RENAME COLUMN STEP_ID TO NUMBER")

        only(examine(log_path), "database", "ENGINE_DB_LOG_STEPS.STEP_ID")

    def test_changed(self, examine: Examine, log_path: Path, sql: Sql) -> None:
        """What somebody changed so that rows can still be read is told, too."""
        sql(log_path, "ALTER TABLE ENGINE_DB_LOG_STEPS ADD COLUMN COLOUR TEXT")

        only(examine(log_path), "schema", "ENGINE_DB_LOG_STEPS isn't as the migrations make it: COLOUR")

    def test_locked(self, examine: Examine, log_path: Path) -> None:
        """A program that keeps the file for itself is told, on Linux by its number."""
        exclusive = "PRAGMA locking_mode = EXCLUSIVE", "DELETE FROM ENGINE_DB_LOG_STEPS"
        with program(KEEP, log_path, *exclusive) as process:
            found = examine(log_path)
            only(found, "database", "database is locked", "close the program")
            assert not doctor_locks.LOCKS.exists() or f"process {process.pid} (" in found["database"]

    @on_linux
    def test_locked_before_anything_is_written(self, examine: Examine, log_path: Path) -> None:
        """The same program is told when it has only begun."""
        with program(KEEP, log_path, "PRAGMA locking_mode = EXCLUSIVE", "BEGIN IMMEDIATE") as process:
            only(examine(log_path), "writers", f"process {process.pid} (")


# -- the file ---------------------------------------------------------------------------------------


class TestFile:
    def test_old_schema(self, examine: Examine, log_path: Path, sql: Sql) -> None:
        """A file that an older version made is brought up to date by init."""
        sql(log_path, f"PRAGMA user_version = {len(migrations()) - 1}")

        only(examine(log_path), "schema", "wrong", f"enginelog init {log_path}")

    def test_journal_mode(self, examine: Examine, log_path: Path, sql: Sql) -> None:
        """Another journal mode is worth knowing while no engine runs: a backup has it, too."""
        sql(log_path, "PRAGMA journal_mode = DELETE")

        only(examine(log_path), "journal_mode", "note", "delete, not wal", "right for a backup")

    def test_journal_mode_under_an_engine(
        self, enginelog: Enginelog, examine: Examine, tmp_path: Path
    ) -> None:
        """Under an engine it is wrong."""
        path = tmp_path / "idle.db"
        with program(IDLE, path):
            copy = tmp_path / "copy.db"
            with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(copy)) as target:
                source.backup(target)
                target.execute("PRAGMA journal_mode = DELETE")
            shutil.copytree(spool_folder(path), spool_folder(copy))
            with program(LOCKED, *spool_folder(copy).glob("1*.lock")):
                only(examine(copy), "journal_mode", "wrong", "block each other")

    @on_linux
    def test_reader_that_stays(self, examine: Examine, log_path: Path) -> None:
        """A reader that keeps one state open is worth knowing."""
        with program(KEEP, log_path, "BEGIN", "SELECT * FROM ENGINE_LOG_RUN") as process:
            only(examine(log_path), "readers", "note", f"process {process.pid} (")

    @on_linux
    def test_reader_that_made_the_wal_grow(
        self, examine: Examine, live: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Once the WAL is large, such a reader is to be ended; the engine isn't blamed."""
        monkeypatch.setattr(checks_file, "LARGE_WAL_BYTES", 100_000)
        with program(KEEP, live, "BEGIN", "SELECT * FROM ENGINE_LOG_RUN") as process:
            wait_for_wal(live)
            only(examine(live), "wal_size", "wrong", "a database of", f"have process {process.pid} (")

    def test_large_wal(self, examine: Examine, live: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Where nobody can be named, it is said what to look for."""
        monkeypatch.setattr(checks_file, "LARGE_WAL_BYTES", 100_000)
        wait_for_wal(live)

        only(examine(live), "wal_size", "wrong", "autocommit")

    def test_large_wal_that_nobody_uses(
        self, examine: Examine, dead: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Where no engine runs, a large WAL is what one left that died."""
        monkeypatch.setattr(checks_file, "LARGE_WAL_BYTES", 1000)

        assert examine(dead)["wal_size"].startswith("note: the WAL has 0 MiB")

    @on_linux
    def test_lock_to_write(self, examine: Examine, live: Path) -> None:
        """A program with changes that it hasn't committed keeps the engine from committing."""
        with program(KEEP, live, "BEGIN IMMEDIATE") as process:
            only(examine(live), "writers", f"wrong: process {process.pid} (", "rows wait in the spool")

    def test_two_engines(self, examine: Examine, live: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Two engines on one file, with a SQLite that has the WAL-reset bug, are told."""
        monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 51, 2))
        assert examine(live) == {}
        with program(IDLE, live):
            only(examine(live), "wal_reset_bug", "note", "2 engines", "3.51.2", "wal_reset_bug")


# A process that holds a file's lock as an engine does.
LOCKED = """
import sys
from filelock import FileLock
with FileLock(sys.argv[1]):
    print("ready", flush=True)
    sys.stdin.read()
"""


def wait_for_wal(path: Path) -> None:
    """Wait until the WAL has grown."""
    wal = path.with_name(f"{path.name}-wal")
    deadline = time.monotonic() + 30
    while not wal.exists() or wal.stat().st_size < 200_000:
        assert time.monotonic() < deadline
        time.sleep(0.01)


# -- the runs ---------------------------------------------------------------------------------------


def stored(seconds: float) -> str:
    """Return the present time plus so many seconds, as it is stored in UTC."""
    return time.strftime("%Y-%m-%d %H:%M:%S.000000", time.gmtime(time.time() + seconds))


class TestRuns:
    def test_rows_left_in_the_spool(self, examine: Examine, dead: Path, sql: Sql) -> None:
        """A run that died, and the row in its spool."""
        found = examine(dead)

        assert list(found) == ["left_in_spool", "died"]
        assert found["left_in_spool"].startswith("wrong: 1 row waits in the spool of run")
        assert found["died"].startswith("note: run")

    def test_spool_deleted(self, examine: Examine, dead: Path) -> None:
        """A run that died, and somebody deleted its spool."""
        shutil.rmtree(spool_folder(dead))
        found = examine(dead)

        assert list(found) == ["deleted_spool", "died"]
        assert "wrong" in found["deleted_spool"]

    def test_died_lately(self, examine: Examine, fill: Callable[..., None], dead: Path, sql: Sql) -> None:
        """What died is told with what it left open, also when its rows are recovered; not for ever."""
        fill(dead, 0)
        [(run,)] = sql(dead, "SELECT ENGINE_RUN_ID FROM ENGINE_LOG_RUN WHERE HOW_ENDED = 'crashed'")
        sql(
            dead,
            "INSERT INTO ENGINE_DB_LOG_WEBSOCKET_CONNECTION "
            "(WEBSOCKET_CONNECTION_ID, DT_CONNECTION_ACCEPTED, ENGINE_RUN_ID) "
            f"VALUES (7, '2026-01-02 03:04:05.000000', {run})",
        )
        only(examine(dead), "died", "note", f"run {run} died, leaving 1 connection and 0 recordings open")

        week_ago = stored(-8 * 86400)
        sql(
            dead, f"UPDATE ENGINE_LOG_RUN SET DT_LAST_SIGN_OF_LIFE = '{week_ago}' WHERE ENGINE_RUN_ID = {run}"
        )
        assert "died" not in examine(dead)

    def test_lines_set_aside(self, examine: Examine, log_path: Path) -> None:
        """Files of lines that couldn't be read."""
        for number in (1, 2):
            (spool_folder(log_path) / f"unreadable-17-00000{number}-0.txt").write_text("x")

        only(examine(log_path), "set_aside", "wrong", "unreadable-17-000001-0.txt and 1 more file")

    def test_backlog(self, examine: Examine, live: Path, sql: Sql) -> None:
        """A spool that has grown under an engine that is alive."""
        [(run,)] = sql(live, "SELECT ENGINE_RUN_ID FROM ENGINE_LOG_RUN")
        for number in range(20, 30):
            (spool_folder(live) / f"{run}-{number:06}.jsonl").touch()

        only(examine(live), "backlog", "wrong", f"run {run}, alive")

    @on_posix
    def test_engine_that_hangs(self, examine: Examine, tmp_path: Path, sql: Sql) -> None:
        """A process that is there, but does nothing; with a heartbeat that is as old."""
        path = tmp_path / "idle.db"
        with program(IDLE, path) as engine:
            engine.send_signal(signal.SIGSTOP)
            try:
                hung = stored(-130)
                sql(path, f"UPDATE ENGINE_LOG_RUN SET DT_STARTED = NULL, DT_LAST_SIGN_OF_LIFE = '{hung}'")
                only(examine(path), "sign_of_life", "wrong", f"since {hung[:19]}")
                sql(path, f"UPDATE ENGINE_LOG_RUN SET DT_LAST_SIGN_OF_LIFE = '{stored(0)}'")
                sql(path, f"UPDATE ENGINE_DB_LOG_PROCESS_REGISTRY SET last_heartbeat = '{stored(-400)}'")
                only(examine(path), "heartbeat", "note", "its last heartbeat")
                sql(path, "DELETE FROM ENGINE_LOG_RUN")
                assert examine(path) == {}
            finally:
                engine.send_signal(signal.SIGCONT)

    def test_engine_that_never_reached_the_database(self, examine: Examine, log_path: Path) -> None:
        """A process that is there since long, of which the database has never heard."""
        lock = spool_folder(log_path) / f"{int(time.time()) - 1000}.lock"
        with program(LOCKED, lock):
            only(examine(log_path), "sign_of_life", "wrong", f"run {lock.stem}", "at all")

    def test_number_that_is_no_time(self, examine: Examine, log_path: Path) -> None:
        """Of a run whose number isn't a time it can't be said for how long it has been there."""
        with program(LOCKED, spool_folder(log_path) / "17.lock"):
            assert examine(log_path) == {}

    def test_rows_on_the_console(self, examine: Examine, log_path: Path, sql: Sql) -> None:
        """Rows that only the console has; old ones are a note, those brought back nothing."""
        sql(log_path, "UPDATE ENGINE_LOG_RUN SET ROWS_ON_CONSOLE = 5, ROWS_REPLAYED = 2")
        only(examine(log_path), "rows_on_console", "wrong", "3 rows on the console", "enginelog replay")

        sql(log_path, f"UPDATE ENGINE_LOG_RUN SET DT_LAST_SIGN_OF_LIFE = '{stored(-30 * 86400)}'")
        found = examine(log_path)
        assert "note: run" in found["rows_on_console"]
        sql(log_path, f"UPDATE ENGINE_LOG_RUN SET DT_LAST_SIGN_OF_LIFE = '{stored(0)}', ROWS_REPLAYED = 5")
        assert examine(log_path) == {}

    def test_rows_dropped(self, examine: Examine, log_path: Path, sql: Sql) -> None:
        """Rows that nobody took, of many runs: some are named."""
        sql(log_path, "UPDATE ENGINE_LOG_RUN SET ROWS_DROPPED = 1000")
        for run in range(1, 5):
            sql(
                log_path,
                "INSERT INTO ENGINE_LOG_RUN (ENGINE_RUN_ID, HOW_ENDED, ROWS_DROPPED) "
                f"VALUES ({run}, 'closed', 1)",
            )

        only(examine(log_path), "rows_dropped", "wrong", "runs 1", ", 4, 3 and 2 more: 1,004 rows dropped")

    def test_import_broken_off(self, examine: Examine, log_path: Path, sql: Sql) -> None:
        """An import that isn't done; its times, of another engine, are nobody's business."""
        sql(
            log_path,
            "INSERT INTO ENGINE_LOG_RUN (ENGINE_RUN_ID, HOW_ENDED, DT_STARTED, DT_LAST_SIGN_OF_LIFE) "
            "VALUES (1756444489, 'importing', '2099-01-01 00:00:00.000000', '2099-01-01 00:00:00.000000')",
        )

        only(examine(log_path), "broken_import", "note", "run 1756444489", "enginelog import OLD")

    def test_another_host(self, examine: Examine, dead: Path, sql: Sql) -> None:
        """A run of another host that has just been alive, and whose lock isn't held here."""
        sql(dead, f"UPDATE ENGINE_LOG_RUN SET HOST_NAME = 'stage-2', DT_LAST_SIGN_OF_LIFE = '{stored(-20)}'")
        assert "wrong: run" in examine(dead)["host"]

        sql(dead, f"UPDATE ENGINE_LOG_RUN SET DT_LAST_SIGN_OF_LIFE = '{stored(-300)}'")
        assert "host" not in examine(dead)

    def test_another_host_whose_lock_is_held(self, examine: Examine, live: Path, sql: Sql) -> None:
        """That of a container on this machine is worth knowing."""
        sql(live, "UPDATE ENGINE_LOG_RUN SET HOST_NAME = 'container'")

        only(examine(live), "host", "note", "container")


# -- clocks -----------------------------------------------------------------------------------------


class TestClock:
    @pytest.mark.parametrize(
        "statement",
        [
            "UPDATE ENGINE_LOG_RUN SET DT_LAST_SIGN_OF_LIFE = '{}'",
            "UPDATE ENGINE_DB_LOG_STEPS SET DT_ADDED = '{}' WHERE FRAME_NO = 4",
        ],
    )
    def test_rows_of_the_future(self, examine: Examine, log_path: Path, sql: Sql, statement: str) -> None:
        """Rows that are committed already can't be from later than now."""
        sql(log_path, statement.format(stored(600)))

        only(examine(log_path), "clock_ahead", "wrong", stored(600)[:14], "timedatectl")

    def test_set_back_within_a_run(self, examine: Examine, log_path: Path, sql: Sql) -> None:
        """Rows of a run whose times go back; rows without a time say nothing."""
        sql(log_path, f"UPDATE ENGINE_DB_LOG_STEPS SET DT_ADDED = '{stored(-900)}' WHERE FRAME_NO = 3")
        sql(log_path, "UPDATE ENGINE_DB_LOG_STEPS SET DT_ADDED = NULL WHERE FRAME_NO = 0")
        sql(log_path, "UPDATE ENGINE_DB_LOG_STEPS SET DT_ADDED = '?' WHERE FRAME_NO = 4")
        sql(log_path, "UPDATE ENGINE_DB_LOG_STEPS SET DT_ADDED = '20260101' WHERE FRAME_NO = 1")

        only(examine(log_path), "clock_set_back", "note", "in run", "w32tm")

    def test_set_back_before_a_run(self, examine: Examine, log_path: Path, sql: Sql) -> None:
        """A run that began before its own number, as a clock that steps back makes it; and one over it."""
        sql(log_path, f"UPDATE ENGINE_LOG_RUN SET DT_STARTED = '{stored(-500)}'")
        only(examine(log_path), "clock_set_back", "before run")

        sql(log_path, f"UPDATE ENGINE_LOG_RUN SET DT_LAST_SIGN_OF_LIFE = '{stored(-1000)}'")
        only(examine(log_path), "clock_set_back", "before run", "and 1 more time")

    @on_posix
    def test_time_zones(self, examine: Examine, log_path: Path, fill_in_zone: Callable[..., None]) -> None:
        """Runs that store local time beside runs that store UTC."""
        fill_in_zone(log_path, "Asia/Kolkata", "local")

        only(examine(log_path), "time_zones", "wrong", "UTC+05:30", ": UTC", "timezone=")

    @on_posix
    def test_time_zones_of_long_ago(
        self, examine: Examine, log_path: Path, fill_in_zone: Callable[..., None], sql: Sql
    ) -> None:
        """Nobody can mend rows of long ago."""
        sql(log_path, f"UPDATE ENGINE_LOG_RUN SET DT_LAST_SIGN_OF_LIFE = '{stored(-9 * 86400)}'")
        sql(log_path, "UPDATE ENGINE_LOG_RUN SET DT_STARTED = DT_LAST_SIGN_OF_LIFE")
        sql(log_path, f"UPDATE ENGINE_LOG_RUN SET ENGINE_RUN_ID = {int(time.time()) - 9 * 86400}")
        fill_in_zone(log_path, "America/New_York", "local")

        only(examine(log_path), "time_zones", "note", "UTC-0")

    @on_posix
    def test_local_time(
        self,
        examine: Examine,
        tmp_path: Path,
        fill_in_zone: Callable[..., None],
        sql: Sql,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """A log of local times is healthy, in summer and in winter, also when the clock's hour goes back."""
        path = tmp_path / "local.db"
        monkeypatch.setenv("TZ", "Europe/Paris")
        time.tzset()
        try:
            fill_in_zone(path, "Europe/Paris", "local")
            for run, began, back in (
                (1752580800, "2025-07-15 14:00:00.000000", "2025-07-15 13:00:00.000000"),
                (1736942400, "2025-01-15 13:00:00.000000", "2025-01-15 12:00:00.000000"),
            ):
                sql(
                    path,
                    "INSERT INTO ENGINE_LOG_RUN (ENGINE_RUN_ID, HOW_ENDED, DT_STARTED, DT_LAST_SIGN_OF_LIFE) "
                    f"VALUES ({run}, 'closed', '{began}', '{began}')",
                )
                for number, added in enumerate((began, back)):
                    sql(
                        path,
                        "INSERT INTO ENGINE_DB_LOG_STEPS (ENGINE_RUN_ID, LOG_SEQ, DT_ADDED) "
                        f"VALUES ({run}, {number}, '{added}')",
                    )
            assert examine(path) == {}
        finally:
            monkeypatch.undo()
            time.tzset()


@pytest.fixture
def fill_in_zone() -> Callable[..., None]:
    """Runs an engine on a machine of another time zone."""
    code = (
        "import asyncio, sys\nfrom async_enginelog import EngineLog\n"
        "async def main(path, timezone):\n"
        "    async with EngineLog(path, timezone=timezone) as log:\n"
        "        await log.log_steps(step_name='one')\n"
        "asyncio.run(main(*sys.argv[1:]))"
    )

    def fill(path: Path, zone: str, timezone: str) -> None:
        command = [sys.executable, "-c", code, str(path), timezone]
        subprocess.run(command, check=True, env={**os.environ, "TZ": zone})

    return fill


# -- the place --------------------------------------------------------------------------------------


class TestPlace:
    def test_hard_link(self, examine: Examine, log_path: Path) -> None:
        """A second name of the file."""
        os.link(log_path, log_path.with_name("other.db"))

        only(examine(log_path), "one_name", "wrong", "2 names")

    def test_full_disk(self, examine: Examine, log_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Not enough room for a log to begin."""
        monkeypatch.setattr(segments, "SEGMENT_BYTES", 2**60)

        only(examine(log_path), "disk_space", "wrong", "to begin")

    def test_synced_folder(self, examine: Examine, fill: Callable[..., None], tmp_path: Path) -> None:
        """A folder that is copied to a cloud."""
        path = tmp_path / "OneDrive - Violin" / "log.db"
        path.parent.mkdir()
        fill(path)

        only(examine(path), "synced_folder", "note", "OneDrive")

    @pytest.mark.skipif(shutil.which("odbcinst") is None, reason="there is no ODBC driver manager")
    @pytest.mark.parametrize(
        ("drivers", "words"),
        [
            ("", ["note", "no ODBC driver"]),
            (
                "[SQLite3]\nDriver=/nowhere/libsqlite3odbc.so\n",
                ["wrong", "its library isn't there", "apt-get"],
            ),
            ("[SQLite3]\nDescription=none\n", ["wrong", "its library isn't there"]),
        ],
    )
    def test_odbc(self, examine: Examine, log_path: Path, odbc: Path, drivers: str, words: list[str]) -> None:
        """An ODBC driver that isn't installed, or only half."""
        (odbc / "odbcinst.ini").write_text(drivers)

        only(examine(log_path), "odbc_driver", *words)

    def test_no_driver_manager(
        self, examine: Examine, log_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Where there is no list of drivers, nothing is said of them."""
        monkeypatch.setenv("PATH", str(tmp_path))

        assert examine(log_path) == {}

    def test_old_library(self, log_path: Path, tmp_path: Path) -> None:
        """A library that is older than needed."""
        old = tmp_path / "old"
        for name, version, requires in (
            ("aiosqlite", "0.19.0", ""),
            ("async_enginelog", "0.1.0", "Requires-Dist: aiosqlite>=0.22\n"),
        ):
            info = old / f"{name}-{version}.dist-info"
            info.mkdir(parents=True)
            metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{requires}"
            (info / "METADATA").write_text(metadata)
        done = subprocess.run(
            [sys.executable, "-m", "async_enginelog", "doctor", "--json", str(log_path)],
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(old), *sys.path])},
            stdout=subprocess.PIPE,
        )
        [finding] = json.loads(done.stdout)["findings"]

        assert (done.returncode, finding["check"]) == (1, "libraries")
        assert "aiosqlite 0.19.0, needed is 0.22" in finding["what"]


# -- permissions ------------------------------------------------------------------------------------


@pytest.fixture
def site(fill: Callable[..., None]) -> Iterator[Path]:
    """A log that others can get at: not in the folder of pytest."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "engine_log.db"
        fill(path)
        yield path


def let(path: Path, mode: int, user: int | None = None) -> None:
    """Change mode and owner."""
    path.chmod(mode)
    if user is not None:
        os.chown(path, user, user)


@on_posix
class TestModes:
    """What another account may do, by the modes of real files."""

    def test_folder_closed_to_the_engine(self, examine: Examine, site: Path) -> None:
        """A folder on the way that the engine can't pass through."""
        inner = site.parent / "inner"
        inner.mkdir()
        path = inner / site.name
        shutil.copy(site, path)
        let(path, 0o666)
        let(inner, 0o777)
        found = examine(path, "--engine", "nobody")

        assert list(found) == ["engine_access"]
        assert f"can't pass through the folder {site.parent}" in found["engine_access"]

    def test_folder_read_only_for_the_engine(self, examine: Examine, site: Path) -> None:
        """SQLite and the log need to make files."""
        let(site.parent, 0o755)
        let(site, 0o666)
        shutil.rmtree(spool_folder(site))
        found = examine(site, "--engine", "nobody")

        assert "can't write to the folder" in found["engine_access"]

    def test_database_read_only_for_the_engine(self, examine: Examine, site: Path) -> None:
        """A database that somebody else has made."""
        let(site.parent, 0o1777)
        shutil.rmtree(spool_folder(site))

        found = examine(site, "--engine", str(NOBODY))
        assert f"can't write {site}" in found["engine_access"]
        assert "chown nobody" in found["engine_access"]

    def test_reader_can_read_nothing(self, examine: Examine, site: Path) -> None:
        """A folder, a file, a folder further up: each keeps a reader out."""
        only(examine(site, "--reader", "nobody"), "reader_access", "wrong", f"the folder {site.parent}")

        let(site.parent, 0o755)
        let(site, 0o600)
        only(examine(site, "--reader", "nobody"), "reader_access", f"can't read {site}", "chmod 2770")

        let(site.parent, 0o700)
        inner = site.parent / "inner"
        inner.mkdir(mode=0o755)
        site.rename(inner / site.name)
        only(examine(inner / site.name, "--reader", "nobody"), "reader_access", "chmod o+x")

    def test_reader_that_needs_the_engine(self, examine: Examine, site: Path) -> None:
        """Who can't make the -wal and -shm can read only while they are there."""
        let(site.parent, 0o755)
        let(site, 0o640)
        os.chmod(site, 0o644)
        assert "wrong" in examine(site, "--reader", "nobody")["reader_access"]

        with program(KEEP, site, "SELECT * FROM ENGINE_LOG_RUN"):
            found = examine(site, "--reader", "nobody")
        assert "note" in found["reader_access"]
        assert "as soon as the engine is stopped" in found["reader_access"]

    @as_root
    def test_reader_as_it_should_be(self, examine: Examine, site: Path) -> None:
        """With what is told to do, the doctor is content: a group for both, that new files get, too."""
        group = doctor_site.account_of("nobody")
        assert group
        os.chown(site.parent, -1, group.group)
        os.chown(site, -1, group.group)
        site.parent.chmod(0o2770)
        site.chmod(0o660)

        assert examine(site, "--reader", "nobody") == {}

    def test_open_to_all(self, examine: Examine, site: Path) -> None:
        """Files that anybody may read are worth knowing, those that anybody may write are wrong."""
        let(site.parent, 0o755)
        let(site, 0o644)
        only(examine(site), "exposed", "note", "can read", "chmod o= ")

        let(site, 0o640)
        assert examine(site) == {}
        let(spool_folder(site), 0o777)
        only(examine(site), "exposed", "wrong", str(spool_folder(site)))
        let(spool_folder(site), 0o700)
        let(site.parent, 0o777)
        only(examine(site), "exposed", "wrong", str(site.parent))
        let(site.parent, 0o1777)
        assert examine(site) == {}
        let(site, 0o666)
        only(examine(site), "exposed", "wrong", str(site))

    def test_account_by_number(self, examine: Examine, site: Path) -> None:
        """An account that has only a number, as in a container, is taken by that."""
        assert "account 54321 can't pass" in examine(site, "--reader", 54321)["reader_access"]

    def test_spool_that_is_no_folder(self, examine: Examine, site: Path) -> None:
        """What stands where the spool should be keeps the engine from opening its log."""
        shutil.rmtree(spool_folder(site))
        spool_folder(site).touch()

        only(examine(site), "engine_access", "wrong", f"{spool_folder(site)} isn't a folder", "mv ")

    def test_no_such_account(self, enginelog: Enginelog, log_path: Path) -> None:
        """An account that doesn't exist is told at once."""
        code, _, err = enginelog("doctor", log_path, "--reader", "no-such-account")

        assert code == 2
        assert "there is no account no-such-account" in " ".join(err.split())


@as_root
class TestOwners:
    """Files that belong to somebody else."""

    def test_wal_left_by_a_reader(self, examine: Examine, site: Path) -> None:
        """A -wal and -shm that a reader left behind, and the engine can't write."""
        let(site, 0o640, NOBODY)
        let(spool_folder(site), 0o700, NOBODY)
        let(site.parent, 0o700, NOBODY)
        for file in spool_folder(site).iterdir():
            let(file, 0o600, NOBODY)
        with closing(sqlite3.connect(site)) as reader:
            reader.execute("SELECT * FROM ENGINE_LOG_RUN").fetchall()
            for end in ("-wal", "-shm"):
                let(site.with_name(site.name + end), 0o640, 0)
            found = examine(site)

        # As root, SQLite has given the -wal back itself.
        only(found, "engine_access", "-shm (0640, of root)", "attempt to write a readonly database")
        assert "chown nobody" in found["engine_access"]

    def test_spool_of_root(self, examine: Examine, site: Path) -> None:
        """An engine that ran as root once."""
        let(site.parent, 0o700, NOBODY)
        let(site, 0o600, NOBODY)

        only(examine(site), "engine_access", "can't use", str(spool_folder(site)), "chown -R nobody")

    def test_engine_that_runs(self, examine: Examine, site: Path) -> None:
        """The account of an engine that runs says more than who owns the files."""
        let(site.parent, 0o700, NOBODY)
        with program(IDLE, site):
            let(site, 0o600, NOBODY)
            assert examine(site) == {}

    def test_account_without_a_name(self, examine: Examine, site: Path) -> None:
        """An owner that the machine doesn't know has a number."""
        for path in (site.parent, site, spool_folder(site), *spool_folder(site).iterdir()):
            os.chown(path, 54321, 54321)
        site.chmod(0o440)

        only(examine(site), "engine_access", "account 54321 can't write", "of 54321", "| chmod u+rw ")


@pytest.fixture
def as_nobody(examine: Examine, log_path: Path) -> Examine:
    """What the doctor finds in the hands of another account."""
    examine(log_path)  # imports what there is to import, which may be root's own

    def call(path: Path) -> dict[str, str]:
        groups = os.getgroups()
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, 0)
        os.setresuid(NOBODY, NOBODY, 0)
        try:
            return examine(path)
        finally:
            os.setresuid(0, 0, 0)
            os.setresgid(0, 0, 0)
            os.setgroups(groups)

    return call


@as_root
class TestAsAnotherAccount:
    """The doctor in the hands of a reader."""

    def test_sets_no_trap(self, as_nobody: Examine, site: Path) -> None:
        """A reader that would leave behind what the engine can't write is told so, and the doctor doesn't."""
        self.give_away(site)
        found = as_nobody(site)

        assert list(found) == ["reader_access", "exposed", "spool_hidden"]
        assert "leaves a -wal and a -shm" in found["reader_access"]
        assert sorted(site.parent.iterdir()) == [site, spool_folder(site)]

    def test_sets_no_trap_where_the_shm_was_deleted(self, as_nobody: Examine, site: Path) -> None:
        """Where it couldn't help making one, it doesn't look into the log."""
        self.give_away(site)
        wal = site.with_name(f"{site.name}-wal")
        wal.write_bytes(bytes(32))
        let(wal, 0o644, 12345)
        found = as_nobody(site)

        assert "wasn't looked into" in found["database"]
        assert sorted(site.parent.iterdir()) == [site, spool_folder(site), wal]

    def give_away(self, site: Path) -> None:
        """Give a log to another account, in a folder that all may write to."""
        for path in (site, spool_folder(site), *spool_folder(site).iterdir()):
            os.chown(path, 12345, 12345)
        let(site.parent, 0o777)
        let(site, 0o644)

    @pytest.mark.parametrize("mode", [0o700, 0o755])
    def test_spool_that_is_not_his(self, as_nobody: Examine, site: Path, mode: int) -> None:
        """Who can't look into the spool, or not at its locks, isn't told of the dead, nor of the living."""
        let(site.parent, 0o755)
        let(site, 0o644)
        with program(IDLE, site):
            let(spool_folder(site), mode)
            found = as_nobody(site)

        assert list(found) == ["reader_access", "exposed", "spool_hidden"]
        assert "note" in found["spool_hidden"]

    def test_file_that_is_not_his(self, as_nobody: Examine, site: Path) -> None:
        """Who can't read the file is told so, and what to do."""
        let(site.parent, 0o755)
        let(site, 0o600)
        found = as_nobody(site)

        assert list(found) == ["database", "reader_access"]
        assert "isn't readable for this user" in found["database"]
        let(site.parent, 0o700)
        found = as_nobody(site)
        assert list(found) == ["database", "reader_access"]
        assert "Permission denied" in found["database"]
