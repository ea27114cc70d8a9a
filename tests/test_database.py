"""The connection: schema, transactions, and what becomes of errors."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from async_enginelog import NotAnEngineLog, PathError, SchemaTooNew, StorageError, database
from async_enginelog.batch import Batch, Statement, prepare
from async_enginelog.database import Database, RunState
from async_enginelog.errors import RowRefused
from async_enginelog.migrations import APPLICATION_ID, migrations
from async_enginelog.segments import Position
from async_enginelog.tables import RESOURCE_MONITOR, STEPS

from .conftest import Query

NOW = "2026-01-02 03:04:05.000006"


def state(run: int = 1, offset: int = 100, start: int | None = None) -> RunState:
    """Return the state of a run that has accepted three rows."""
    begin = Position(1, offset if start is None else start)
    return RunState(run, "host", 17, "0.1.0", NOW, NOW, 3, 0, begin, Position(1, offset), True)


def steps(*numbers: int) -> Callable[[], Batch]:
    """Return what makes a batch of steps."""
    return partial(prepare, [(STEPS, {"step_id": number}) for number in numbers])


class TestSchema:
    async def test_new_file(self, path: Path, query: Query) -> None:
        """A new file is in WAL mode, gives room back in steps, and says whose it is."""
        base = await Database.open(path, create=True)
        assert await base.schema_version() == len(migrations())
        await base.close()

        assert query("PRAGMA journal_mode") == [("wal",)]
        assert query("PRAGMA auto_vacuum") == [(2,)]
        assert query("PRAGMA application_id") == [(APPLICATION_ID,)]
        assert query("PRAGMA integrity_check") == [("ok",)]

    async def test_interrupted_migration_leaves_the_old_schema(
        self, path: Path, query: Query, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A migration that fails in its middle changes nothing; the next one starts over."""
        await (await Database.open(path, create=True)).close()
        broken = (*migrations(), ("CREATE TABLE A (B)", "CREATE TABLE A (B)"))
        monkeypatch.setattr(database, "migrations", lambda: broken)
        with pytest.raises(StorageError, match="table A already exists"):
            await Database.open(path, create=True)
        assert query("SELECT name FROM sqlite_schema WHERE name = 'A'") == []
        assert query("PRAGMA user_version") == [(len(migrations()),)]

        mended = (*migrations(), ("CREATE TABLE A (B)", "CREATE TABLE C (D)"))
        monkeypatch.setattr(database, "migrations", lambda: mended)
        await (await Database.open(path, create=True)).close()
        assert query("SELECT name FROM sqlite_schema WHERE name IN ('A', 'C')") == [("A",), ("C",)]
        assert query("PRAGMA user_version") == [(len(mended),)]

    async def test_file_of_an_older_version(
        self, path: Path, query: Query, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """An older file gets the tables that came since, and keeps its rows."""
        with monkeypatch.context() as older:
            older.setattr(database, "migrations", lambda: migrations()[:1])
            base = await Database.open(path, create=True)
            await base.write(steps(1, 2), state(), added=NOW)
            await base.close()
        assert query("PRAGMA user_version") == [(1,)]

        base = await Database.open(path, create=False)
        await base.write(partial(prepare, [(RESOURCE_MONITOR, {"cpu_percent": 12.5})]), state(), added=NOW)
        await base.close()
        assert query("PRAGMA user_version") == [(len(migrations()),)]
        assert query("SELECT STEP_ID, LOG_SEQ FROM ENGINE_DB_LOG_STEPS") == [(1, 1), (2, 2)]
        assert query("SELECT CPU_PERCENT, LOG_SEQ FROM ENGINE_DB_LOG_RESOURCE_MONITOR") == [(12.5, 3)]

    async def test_newer_schema_is_refused_for_readers_too(self, path: Path) -> None:
        """Neither writer nor reader touches a file of a newer version."""
        await (await Database.open(path, create=True)).close()
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("CREATE TABLE ENGINE_LOG_LATER (A BIGINT)")
            connection.execute("PRAGMA user_version = 7")
            connection.commit()
        for opening in (Database.open(path, create=True), Database.open_reader(path)):
            with pytest.raises(SchemaTooNew, match="schema version 7"):
                await opening

    async def test_reader_of_a_file_that_is_not_there(self, path: Path) -> None:
        """A reader creates nothing."""
        with pytest.raises(PathError, match="doesn't exist"):
            await Database.open_reader(path)
        assert not path.exists()

    async def test_reader_of_a_foreign_file(self, path: Path) -> None:
        """A reader refuses what isn't a log, too."""
        path.write_bytes(b"%PDF-1.7 and so on")
        with pytest.raises(NotAnEngineLog, match="isn't a SQLite database"):
            await Database.open_reader(path)

    async def test_corrupt_file(self, path: Path) -> None:
        """A file whose inside is damaged is a storage error, not an exception of SQLite."""
        await (await Database.open(path, create=True)).close()
        data = bytearray(path.read_bytes())
        data[100:4096] = b"\xff" * 3996
        path.write_bytes(data)
        with pytest.raises(StorageError, match="malformed|not a database"):
            await Database.open(path, create=True)


class TestWriting:
    async def test_rows_and_position_are_one_transaction(self, path: Path, query: Query) -> None:
        """What the run says and its rows are committed together."""
        base = await Database.open(path, create=True)
        await base.write(steps(1, 2), state(), added=NOW)
        await base.write(steps(3), state(offset=150), added=NOW)
        progress = await base.progress_of(1)
        await base.close()

        assert progress == (Position(1, 150), 3)
        assert query("SELECT STEP_ID, LOG_SEQ, DT_ADDED FROM ENGINE_DB_LOG_STEPS") == [
            (1, 1, NOW),
            (2, 2, NOW),
            (3, 3, NOW),
        ]
        assert query("SELECT ROWS_STORED, LAST_LOG_SEQ FROM ENGINE_LOG_RUN") == [(3, 3)]

    async def test_rows_are_not_committed_by_two(self, path: Path, query: Query) -> None:
        """Who has read the same part of a spool as somebody else, and is later, commits nothing of it."""
        base = await Database.open(path, create=True)
        await base.write(steps(1, 2), state(start=0, offset=100), added=NOW)
        for start in (0, 99):
            with pytest.raises(StorageError, match="somebody else has committed rows of run 1 meanwhile"):
                await base.write(steps(2, 3), state(start=start, offset=150), added=NOW)
            await base.close()
            base = await Database.open(path, create=True)
        await base.write(steps(3), state(start=100, offset=150), added=NOW)
        assert await base.progress_of(1) == (Position(1, 150), 3)
        await base.close()
        assert query("SELECT STEP_ID FROM ENGINE_DB_LOG_STEPS") == [(1,), (2,), (3,)]

    async def test_sequence_goes_on_over_all_runs(self, path: Path, query: Query) -> None:
        """LOG_SEQ continues where any run left it."""
        base = await Database.open(path, create=True)
        await base.write(steps(1), state(run=1), added=NOW)
        await base.write(steps(2), state(run=2), added=NOW)
        await base.write(steps(3), state(run=1), added=NOW)
        await base.close()

        assert query("SELECT ENGINE_RUN_ID, LOG_SEQ FROM ENGINE_DB_LOG_STEPS") == [(1, 1), (2, 2), (1, 3)]

    @pytest.mark.parametrize("value", [2**64, "\ud800", [], object()])
    async def test_refused_row_commits_nothing(self, path: Path, query: Query, value: object) -> None:
        """A value that SQLite has no word for is refused, with all of its transaction."""
        base = await Database.open(path, create=True)
        batch = steps(1)()
        bad = Statement(batch.statements[0].sql, [1, value])
        with pytest.raises(RowRefused):
            await base.write(lambda: Batch([*batch.statements, bad], 2, 2, []), state(), added=NOW)
        assert await base.progress_of(1) is None
        await base.write(steps(5), state(), added=NOW)
        await base.close()

        assert query("SELECT STEP_ID FROM ENGINE_DB_LOG_STEPS") == [(5,)]

    async def test_batch_is_made_off_the_loop(self, path: Path) -> None:
        """Whatever it takes to make a batch, the event loop has its turns meanwhile."""
        threads: list[threading.Thread] = []

        def gather() -> Batch:
            threads.append(threading.current_thread())
            return steps(1, 2, 3)()

        base = await Database.open(path, create=True)
        assert await base.write(gather, state(), added=NOW) == 3
        await base.close()
        assert threads != [threading.current_thread()]

    async def test_batch_that_can_not_be_made(self, path: Path, query: Query) -> None:
        """What making the batch raises is raised, and nothing is written; the connection goes on."""

        def impossible() -> Batch:
            raise KeyError("no such column")

        base = await Database.open(path, create=True)
        with pytest.raises(KeyError, match="no such column"):
            await base.write(impossible, state(), added=NOW)
        assert await base.progress_of(1) is None
        await base.write(steps(1), state(), added=NOW)
        await base.close()
        assert query("SELECT STEP_ID FROM ENGINE_DB_LOG_STEPS") == [(1,)]

    async def test_end_of_a_run_is_told_once(self, path: Path, query: Query) -> None:
        """How a run ended stays as it was told first."""
        base = await Database.open(path, create=True)
        await base.write(steps(1), state(), added=NOW)
        assert await base.open_runs() == [1]
        await base.end_run(1, "closed", NOW)
        await base.end_run(1, "crashed", None)
        assert await base.open_runs() == []
        await base.close()

        assert query("SELECT HOW_ENDED, DT_ENDED FROM ENGINE_LOG_RUN") == [("closed", NOW)]

    async def test_closed_connection_is_a_storage_error(self, path: Path) -> None:
        """Using a connection that is closed says so; closing it again does nothing."""
        base = await Database.open(path, create=True)
        await base.close()
        await base.close()
        with pytest.raises(StorageError, match="closed|no active connection"):
            await base.fetch("SELECT 1")
