"""The rhythm of the writer: when it commits, when it looks around, what it does after surprises."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from async_enginelog import EngineLog, segments, writer
from async_enginelog.committer import Committer

from .conftest import Query
from .test_recovery import leave_spool, step


async def reaches(condition: Callable[[], bool]) -> None:
    """Wait until it is so."""
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.001)


async def until(condition: object, query: Query, sql: str) -> None:
    """Wait until a query gives what is expected."""
    async with asyncio.timeout(10):
        while query(sql) != condition:
            await asyncio.sleep(0.01)


async def test_rows_are_committed_by_themselves(path: Path, query: Query) -> None:
    """Nobody has to flush: a row is in the database soon after its call."""
    async with EngineLog(path) as log:
        await log.log_steps(step_id=1)
        await until([(1,)], query, "SELECT STEP_ID FROM ENGINE_DB_LOG_STEPS")
        await log.log_steps(step_id=2)
        await until([(2,)], query, "SELECT count(*) FROM ENGINE_DB_LOG_STEPS")


async def test_idle_log_shows_life_and_looks_for_the_dead(
    path: Path, query: Query, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A log with nothing to do says that it is alive, and commits what runs left that died meanwhile."""
    monkeypatch.setattr(writer, "SIGN_OF_LIFE", 0.02)
    sign_of_life = "SELECT DT_LAST_SIGN_OF_LIFE FROM ENGINE_LOG_RUN WHERE ENGINE_RUN_ID <> 5"
    async with EngineLog(path):
        before = query(sign_of_life)
        leave_spool(path, 5, step(1))
        await until([(1,)], query, "SELECT STEP_ID FROM ENGINE_DB_LOG_STEPS")
        async with asyncio.timeout(5):
            while query(sign_of_life) <= before:
                await asyncio.sleep(0.01)


async def test_exception_that_nobody_thought_of(
    path: Path, query: Query, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A mistake of our own in the writer is a fault like others: rows wait, and it tries again."""
    async with EngineLog(path) as log:
        with monkeypatch.context() as patch:
            patch.setattr(Committer, "commit", lambda *_: 1 // 0)
            await log.log_steps(step_id=1)
            await reaches(lambda: log.statistics().last_fault is not None)
        await log.flush()

    assert log.statistics().last_fault == "ZeroDivisionError: integer division or modulo by zero"
    assert "ZeroDivisionError" in caplog.text
    assert query("SELECT STEP_ID FROM ENGINE_DB_LOG_STEPS") == [(1,)]


async def test_pause_is_bounded(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who logs a burst while the disk stalls waits a moment in each thousand rows, not for the disk."""
    stalled = asyncio.Event()
    commit = Committer.commit

    async def stall(self: Committer, *arguments: object) -> object:
        await stalled.wait()
        return await commit(self, *arguments)  # type: ignore[arg-type]

    async with EngineLog(path) as log:
        monkeypatch.setattr(Committer, "commit", stall)
        async with asyncio.timeout(20):
            for number in range(20_000):
                await log.log_steps(step_id=number)
        assert log.statistics().pending == 20_000
        stalled.set()
    assert log.statistics().committed == 20_000


async def test_tasks_that_compute_are_pause_enough(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where others compute in each turn, a pause is one turn of theirs: some of them would be no moment."""
    monkeypatch.setattr(writer, "PAUSE", 60.0)
    monkeypatch.setattr(writer, "LONG_TURN", 0.0)
    stalled = asyncio.Event()
    commit = Committer.commit

    async def stall(self: Committer, *arguments: object) -> object:
        await stalled.wait()
        return await commit(self, *arguments)  # type: ignore[arg-type]

    async with EngineLog(path) as log:
        monkeypatch.setattr(Committer, "commit", stall)
        turns = 0

        async def others() -> None:
            nonlocal turns
            while not stalled.is_set():
                turns += 1
                await asyncio.sleep(0)

        computing = asyncio.create_task(others())
        for number in range(20_000):
            await log.log_steps(step_id=number)
        assert turns >= 15
        stalled.set()
        await computing
    assert log.statistics().committed == 20_000


async def test_fewer_commits_while_the_wal_grows(
    path: Path, query: Query, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a reader keeps the WAL from beginning anew, each commit costs it pages; then all is as before."""
    monkeypatch.setattr(writer, "WAL_ALARM_BYTES", 50_000)
    monkeypatch.setattr(writer, "WAL_LIMIT_BYTES", 50_000)
    monkeypatch.setattr(writer, "SPARING", writer.Pace(60.0, 5000, 6000))
    committed = "SELECT count(*) FROM ENGINE_DB_LOG_STEPS"
    async with EngineLog(path) as log:
        with closing(sqlite3.connect(path, isolation_level=None)) as reader:
            reader.execute("BEGIN")
            reader.execute(committed).fetchall()
            while log.statistics().wal_bytes <= 50_000:
                await log.log_steps(step_name="x" * 100)
                await log.flush()
            flushes, rows = log.statistics().flushes, query(committed)[0][0]
            for _ in range(1000):
                await log.log_steps(step_name="x")
                await asyncio.sleep(0)
            assert log.statistics().flushes == flushes
            await log.flush()
            assert query(committed) == [(rows + 1000,)]
        await log.log_steps(step_name="the reader has gone")
        await log.flush()
        with closing(sqlite3.connect(path)) as other:
            other.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        await log.log_steps(step_name="the WAL begins anew")
        await log.flush()

        await log.log_steps(step_name="committed by itself, and soon")
        await until([(rows + 1003,)], query, committed)


class TestRowsThatComeDuringACommit:
    @pytest.fixture
    def during_commit(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Callable[[], None]]]:
        """What is put into this list is called in the midst of the next commit of rows."""
        jobs: list[Callable[[], None]] = []
        commit = Committer.commit

        async def busy_commit(self: Committer, database: Any, data: bytes, state: Any) -> Any:
            if data and jobs:
                jobs.pop()()
            return await commit(self, database, data, state)

        monkeypatch.setattr(Committer, "commit", busy_commit)
        yield jobs
        assert not jobs

    async def test_wait_as_others_do(self, path: Path, during_commit: list[Callable[[], None]]) -> None:
        """A commit of its own at once, for the few that there are, would never end while rows come."""
        async with EngineLog(path) as log:
            during_commit.append(lambda: log.log_row_nowait("ENGINE_DB_LOG_STEPS", {"step_id": 2}))
            await log.log_steps(step_id=1)
            await reaches(lambda: log.statistics().committed > 0)
            begun = time.monotonic()
            assert (log.statistics().flushes, log.statistics().pending) == (1, 1)
            await reaches(lambda: not log.statistics().pending)
            assert time.monotonic() - begun > writer.USUAL.delay / 2

    async def test_are_committed_at_once_if_many(
        self, path: Path, monkeypatch: pytest.MonkeyPatch, during_commit: list[Callable[[], None]]
    ) -> None:
        """Many don't wait; nor does anybody who flushes."""
        monkeypatch.setattr(writer, "USUAL", writer.Pace(60.0, 500, 1024))

        async with EngineLog(path) as log:

            def log_many() -> None:
                for number in range(500):
                    log.log_row_nowait("ENGINE_DB_LOG_STEPS", {"step_id": number})

            during_commit.append(log_many)
            await log.log_steps(step_id=1)
            await log.flush()
            await reaches(lambda: not log.statistics().pending)

    async def test_are_committed_at_once_if_wanted(
        self, path: Path, monkeypatch: pytest.MonkeyPatch, during_commit: list[Callable[[], None]]
    ) -> None:
        """Who flushes while rows are being committed doesn't wait for those that came since."""
        monkeypatch.setattr(writer, "USUAL", writer.Pace(60.0, 500, 1024))
        flushed: list[asyncio.Task[None]] = []

        async with EngineLog(path) as log:

            def log_and_flush() -> None:
                log.log_row_nowait("ENGINE_DB_LOG_STEPS", {"step_id": 2})
                flushed.append(asyncio.create_task(log.flush()))

            during_commit.append(log_and_flush)
            await log.log_steps(step_id=1)
            async with asyncio.timeout(5):
                await log.flush()
                await flushed.pop()
            assert log.statistics().pending == 0


async def test_full_segment_is_committed_at_once(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However patient the writer is: what waits has to fit into the spool."""
    monkeypatch.setattr(segments, "SEGMENT_BYTES", 128 * 1024)
    monkeypatch.setattr(writer, "USUAL", writer.Pace(60.0, 1_000_000, 2_000_000))
    async with EngineLog(path, spool_limit=4 * 128 * 1024) as log:
        for number in range(3000):
            if number % 2:
                await log.log_steps(step_name="x" * 100)
            else:
                log.log_row_nowait("ENGINE_DB_LOG_STEPS", {"step_name": "x" * 100})
            await asyncio.sleep(0.0001)
        assert log.statistics().committed > 1000
        assert log.statistics().on_console == 0


async def test_full_segment_of_threads_is_committed_at_once(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same for rows that come from threads alone."""
    monkeypatch.setattr(segments, "SEGMENT_BYTES", 128 * 1024)
    monkeypatch.setattr(writer, "USUAL", writer.Pace(60.0, 1_000_000, 2_000_000))

    def work(log: EngineLog) -> None:
        for _ in range(3000):
            log.log_row_nowait("ENGINE_DB_LOG_STEPS", {"step_name": "x" * 100})
            time.sleep(0.0001)

    async with EngineLog(path, spool_limit=4 * 128 * 1024) as log:
        await asyncio.to_thread(work, log)
        assert log.statistics().committed > 1000
        assert log.statistics().on_console == 0


@pytest.mark.parametrize("pace", [writer.USUAL, writer.SPARING])
async def test_nobody_waits_for_a_writer_that_has_just_been_woken(
    path: Path, monkeypatch: pytest.MonkeyPatch, pace: writer.Pace
) -> None:
    """Who logs without end pauses, but not before the writer had a chance to begin."""
    monkeypatch.setattr(writer, "USUAL", pace)
    pauses: list[int] = []

    async def give_way(self: writer.Writer) -> None:
        pauses.append(log.statistics().accepted)

    async with EngineLog(path) as log:
        await log.flush()
        monkeypatch.setattr(writer.Writer, "give_way", give_way)
        for _ in range(pace.pause_rows):
            await log.log_steps(step_name="x")
    assert pauses == [pace.pause_rows]
    assert pace.pause_rows >= pace.rows + 500
