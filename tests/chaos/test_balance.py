"""The balance that all attacks end in sees what it should: a harness that finds nothing proves nothing."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from .balance import Balance, settle
from .victims import Started, recover, start

ROWS = 280  # of each of two streams: each kind of row twenty times


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """The path of a log in a folder of its own."""
    (tmp_path / "place").mkdir()
    return tmp_path / "place" / "e.db"


@pytest.fixture
def victim(database: Path) -> Started:
    """An engine that logged to it, and has ended well."""
    with start(database, tasks=1, threads=1, rows=ROWS) as victim:
        assert victim.wait() == 0, victim.last_words()
    return victim


def changed(database: Path, victim: Started, sql: str) -> Balance:
    """Change the log behind the back of all, and settle."""
    with closing(sqlite3.connect(database)) as connection, connection:
        assert connection.execute(sql).rowcount == 1
    return settle(database, [victim], recovered=True)


FIRST_STEP = "WHERE rowid = (SELECT min(rowid) FROM ENGINE_DB_LOG_STEPS)"


def test_all_is_there(database: Path, victim: Started) -> None:
    """A balance of an engine that ended well finds each row, once, in the database."""
    balance = settle(database, [victim], recovered=True)
    assert balance == (2 * ROWS, 0, 0, {"committed": 2 * ROWS}, [])


@pytest.mark.parametrize(
    "sql",
    [
        f"DELETE FROM ENGINE_DB_LOG_STEPS {FIRST_STEP}",
        f"UPDATE ENGINE_DB_LOG_STEPS SET STEP_NAME = STEP_NAME || '.' {FIRST_STEP}",
        "UPDATE ENGINE_DB_LOG_WEBSOCKET_CONNECTION SET DT_CONNECTION_CLOSED = NULL "
        "WHERE rowid = (SELECT min(rowid) FROM ENGINE_DB_LOG_WEBSOCKET_CONNECTION)",
        "UPDATE ENGINE_LOG_RUN SET ROWS_COMMITTED = ROWS_COMMITTED - 1 WHERE ROWS_COMMITTED > 0",
    ],
    ids=["row", "text", "second half", "count"],
)
def test_a_lost_row_is_seen(database: Path, victim: Started, sql: str) -> None:
    """A row that is gone, altered, half there or not counted is lost."""
    balance = changed(database, victim, sql)
    assert (balance.lost, balance.doubled) == (1, 0)
    assert balance.faults


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO ENGINE_DB_LOG_STEPS (STEP_NAME, RECORDING_ID, STEP_ID) "
        f"SELECT STEP_NAME, RECORDING_ID, STEP_ID FROM ENGINE_DB_LOG_STEPS {FIRST_STEP}",
        "UPDATE ENGINE_LOG_RUN SET ROWS_COMMITTED = ROWS_COMMITTED + 1 WHERE ROWS_COMMITTED > 0",
    ],
    ids=["row", "count"],
)
def test_a_doubled_row_is_seen(database: Path, victim: Started, sql: str) -> None:
    """A row that is there twice, or counted twice, is doubled."""
    balance = changed(database, victim, sql)
    assert (balance.lost, balance.doubled) == (0, 1)
    assert balance.faults


def test_pending_rows_are_found(database: Path) -> None:
    """What a dead engine left in its spool is pending before the next opening, and committed after it."""
    with start(database, tasks=2, threads=0) as victim:
        victim.wait_for_rows(500)
        victim.kill()
    before = settle(database, [victim], recovered=False)
    recover(database)
    after = settle(database, [victim], recovered=True)
    assert (before.lost, before.doubled, after.lost, after.doubled) == (0, 0, 0, 0)
    assert before.places["pending"] > 0
    assert after.places.keys() == {"committed"}


def test_rows_on_the_console_are_found(database: Path) -> None:
    """Rows that no spool had room for are found in the console capture."""
    with start(
        database, tasks=1, threads=1, rows=3000, segment_bytes=128 * 1024, options={"spool_limit": 256 * 1024}
    ) as victim:
        victim.wait_for_stage()
        with closing(sqlite3.connect(database, isolation_level=None)) as connection:
            connection.execute("BEGIN EXCLUSIVE")
            victim.wait_for_rows(6000)
            connection.execute("COMMIT")
        victim.wait()
    balance = settle(database, [victim], recovered=True)
    assert (balance.rows, balance.lost, balance.doubled) == (6000, 0, 0), balance.faults
    assert balance.places["console"] > 0
