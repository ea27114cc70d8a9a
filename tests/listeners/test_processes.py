"""The heartbeat: one row of this process in the registry, filled in again and again."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
from collections import Counter
from collections.abc import Awaitable, Callable, Generator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from async_enginelog import EngineLog
from async_enginelog.listeners.processes import TIMES, Heartbeat, _next_due, condensed

from ..conftest import Query

ROOT = Path(__file__).parent.parent.parent
SOON = 20.0  # seconds; never waited for in full
NEVER = 3600.0

REGISTRY = (
    "SELECT process_id, start_time, last_heartbeat, active_tasks, database_connections, memory_usage_mb, "
    "cpu_percent FROM ENGINE_DB_LOG_PROCESS_REGISTRY"
)


async def committed_row(log: EngineLog, query: Query) -> dict[str, Any]:
    """Return the one row of the registry, once all is committed."""
    await log.flush()
    names = REGISTRY.removeprefix("SELECT ").partition(" FROM")[0].split(", ")
    [row] = query(REGISTRY)
    return dict(zip(names, row, strict=True))


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Wait until something is so."""
    async with asyncio.timeout(SOON):
        while not await condition():
            await asyncio.sleep(0.005)


async def beats(log: EngineLog, query: Query, more: int) -> list[str]:
    """Return the times of so many heartbeats that follow."""
    seen: list[str] = []

    async def enough() -> bool:
        moment = (await committed_row(log, query))["last_heartbeat"]
        if moment not in seen:
            seen.append(moment)
        return len(seen) > more

    await until(enough)
    return seen[1:]


def heartbeat_task() -> asyncio.Task[Any]:
    """Return the task of the heartbeat."""
    [task] = [task for task in asyncio.all_tasks() if task.get_name() == "enginelog-heartbeat"]
    return task


def moment(text: str) -> datetime:
    """Return a time as it is stored."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


class TestRow:
    async def test_is_there_at_once(self, path: Path, query: Query) -> None:
        """The first row is logged on entering; it says who, since when, and how large."""
        async with EngineLog(path) as log, Heartbeat(log, NEVER):
            row = await committed_row(log, query)

        process = psutil.Process()
        assert row["process_id"] == os.getpid()
        assert abs(moment(row["start_time"]).timestamp() - process.create_time()) < 0.001
        assert datetime.now(UTC) - moment(row["last_heartbeat"]) < timedelta(seconds=SOON)
        assert row["memory_usage_mb"] == pytest.approx(process.memory_info().rss / 2**20, rel=0.5)
        assert row["database_connections"] == 1
        assert row["cpu_percent"] is None

    async def test_is_one_row(self, path: Path, query: Query) -> None:
        """Later heartbeats fill in the same row; the start of the process stays."""
        async with EngineLog(path) as log, Heartbeat(log, 0.02):
            first = await committed_row(log, query)
            await beats(log, query, more=3)
            last = await committed_row(log, query)

        assert last["last_heartbeat"] > first["last_heartbeat"]
        assert last["start_time"] == first["start_time"]
        assert query("SELECT count(*) FROM ENGINE_DB_LOG_PROCESS_REGISTRY") == [(1,)]

    async def test_last_row_on_leaving(self, path: Path, query: Query) -> None:
        """Leaving logs a last time, whatever the interval, and ends the task."""
        async with EngineLog(path) as log:
            async with Heartbeat(log, NEVER):
                first = await committed_row(log, query)
                task = heartbeat_task()
            last = await committed_row(log, query)

        assert last["last_heartbeat"] > first["last_heartbeat"]
        assert task.cancelled()

    async def test_cpu_of_the_interval(self, path: Path, query: Query) -> None:
        """The CPU time is that since the heartbeat before, in percent of one CPU."""
        loop = asyncio.get_running_loop()
        async with EngineLog(path) as log:
            async with Heartbeat(log, NEVER):
                began, used = loop.time(), psutil.Process().cpu_times()
                while loop.time() - began < 0.3:
                    pass
                spent, busy = loop.time() - began, psutil.Process().cpu_times()
            row = await committed_row(log, query)

        percent = 100 * (busy.user + busy.system - used.user - used.system) / spent
        assert row["cpu_percent"] == pytest.approx(percent, abs=25)

    async def test_no_connection_while_the_database_fails(self, path: Path, query: Query) -> None:
        """While the database can't be used, the log has no connection; afterwards it has one again."""
        async with EngineLog(path) as log:
            path.rename(path.with_name("away"))
            path.mkdir()
            async with Heartbeat(log, NEVER):

                async def failed() -> bool:
                    return log.statistics().last_fault is not None

                await until(failed)
            path.rmdir()
            path.with_name("away").rename(path)
            row = await committed_row(log, query)
            assert row["database_connections"] == 0
            async with Heartbeat(log, NEVER):
                assert (await committed_row(log, query))["database_connections"] == 1


class TestRhythm:
    def test_lateness_does_not_add_up(self) -> None:
        """Each heartbeat is due an interval after the one before was due, however late that came."""
        due = 100.0
        for late in (0.4, 0.9, 0.1, 0.5):
            due = _next_due(due, 1.0, now=due + late)

        assert due == 104.0

    def test_what_was_missed_is_not_made_up_for(self) -> None:
        """After the loop stood still for many intervals there is one heartbeat, not as many."""
        due = _next_due(100.0, 1.0, now=117.3)

        assert due == 117.3
        assert _next_due(due, 1.0, now=117.4) == 118.3

    @pytest.mark.parametrize("interval", [0, -1, float("nan"), float("inf"), 10**400, "30", None])
    def test_wrong_interval(self, path: Path, interval: Any) -> None:
        """An interval that isn't a positive number is refused, with what to pass."""
        with pytest.raises(ValueError, match="pass a positive number of seconds"):
            Heartbeat(EngineLog(path), interval)

    @pytest.mark.parametrize("interval", [5e-324, 1e308, 10**300])
    async def test_extreme_interval(self, path: Path, query: Query, interval: float) -> None:
        """Any other interval works, be it tiny or endless."""
        async with EngineLog(path) as log, Heartbeat(log, interval):
            for _ in range(10):
                await asyncio.sleep(0)
            assert not heartbeat_task().done()


class TestTrouble:
    async def test_fault_in_measuring(
        self, path: Path, query: Query, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        """What can't be measured is told of once; the rest is logged, and the next heartbeat comes."""

        def fail(process: psutil.Process) -> None:
            raise psutil.AccessDenied(process.pid)

        monkeypatch.setattr(psutil.Process, "memory_info", fail)
        async with EngineLog(path) as log, Heartbeat(log, 0.02):
            await beats(log, query, more=2)
            row = await committed_row(log, query)

        assert row["memory_usage_mb"] is None
        assert row["active_tasks"] is not None
        assert caplog.text.count("memory_usage_mb of a heartbeat can't be measured: psutil.AccessDenied") == 1

    async def test_no_process_to_look_at(
        self, path: Path, query: Query, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A system that tells nothing of its processes leaves the rest of the row."""

        def fail(self: psutil.Process, pid: int | None = None) -> None:
            raise psutil.NoSuchProcess(os.getpid())

        monkeypatch.setattr(psutil.Process, "__init__", fail)
        async with EngineLog(path) as log, Heartbeat(log, NEVER):
            row = await committed_row(log, query)

        assert (row["process_id"], row["start_time"], row["memory_usage_mb"]) == (os.getpid(), None, None)
        assert row["database_connections"] == 1

    async def test_task_cancelled_by_somebody(self, path: Path, query: Query) -> None:
        """If somebody cancels its task, leaving still logs the last row, and neither hangs nor raises."""
        async with EngineLog(path) as log:
            async with Heartbeat(log, NEVER):
                first = await committed_row(log, query)
                heartbeat_task().cancel()
                await asyncio.sleep(0)
            assert (await committed_row(log, query))["last_heartbeat"] > first["last_heartbeat"]

    async def test_log_closed_before(self, path: Path, caplog: pytest.LogCaptureFixture) -> None:
        """When the log is closed the heartbeat ends by itself, without a word."""
        log = await EngineLog(path).open()
        async with Heartbeat(log, 0.02):
            task = heartbeat_task()
            await log.aclose()
            async with asyncio.timeout(SOON):
                await task

        assert caplog.text == ""

    async def test_log_never_opened(self, path: Path, caplog: pytest.LogCaptureFixture) -> None:
        """With a log that isn't open nothing is raised; it is told that nothing is logged."""
        log = EngineLog(path)
        async with Heartbeat(log, NEVER):

            async def told() -> bool:
                return "ENGINE_DB_LOG_PROCESS_REGISTRY: a row isn't logged" in caplog.text

            await until(told)

    async def test_exception_of_the_engine(self, path: Path, query: Query) -> None:
        """An exception goes through, and the last row is logged."""
        with pytest.raises(ZeroDivisionError):
            async with EngineLog(path) as log, Heartbeat(log, NEVER):
                raise ZeroDivisionError

        assert query("SELECT count(*) FROM ENGINE_DB_LOG_PROCESS_REGISTRY") == [(1,)]

    async def test_cancelling_the_engine(self, path: Path, query: Query) -> None:
        """A cancelled engine leaves as it should, its last row logged."""
        inside = asyncio.Event()

        async def engine() -> None:
            async with EngineLog(path) as log, Heartbeat(log, NEVER):
                inside.set()
                await asyncio.Event().wait()

        task = asyncio.create_task(engine())
        await inside.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

        assert query("SELECT count(*) FROM ENGINE_DB_LOG_PROCESS_REGISTRY") == [(1,)]
        assert {task.get_name() for task in asyncio.all_tasks()}.isdisjoint({"enginelog-heartbeat"})


async def protocol_handler(stop: asyncio.Event) -> None:
    """Run until told to stop."""
    await stop.wait()


class Nameless(Generator[Any, Any, None]):
    """A coroutine that has no name, as those of compiled code."""

    def __init__(self, waiting: asyncio.Future[None]) -> None:
        self._waiting = iter(waiting)

    def send(self, value: Any) -> Any:
        return next(self._waiting)

    def throw(self, *error: Any) -> Any:
        raise StopIteration

    def __await__(self) -> Generator[Any, Any, None]:
        return self


class TestTasks:
    async def test_names_and_counts(self, path: Path, query: Query) -> None:
        """Tasks have their name; those without one are counted by their coroutine."""
        stop = asyncio.Event()
        tasks = [asyncio.create_task(protocol_handler(stop)) for _ in range(200)]
        tasks += [asyncio.create_task(protocol_handler(stop), name="frame listener")]
        async with EngineLog(path) as log:
            async with Heartbeat(log, NEVER):
                pass
            row = await committed_row(log, query)
        stop.set()
        await asyncio.gather(*tasks)

        names = orjson.loads(row["active_tasks"])
        assert names[0] == f"protocol_handler {TIMES}200"
        assert {"frame listener", "enginelog-writer"} < set(names)
        # Its own was ended before the last row.
        assert "enginelog-heartbeat" not in names

    async def test_the_heartbeat_is_a_task(self, path: Path, query: Query) -> None:
        """The task of the heartbeat is there by its name, among the others."""
        async with EngineLog(path) as log, Heartbeat(log, 0.02):
            await beats(log, query, more=1)
            row = await committed_row(log, query)

        assert "enginelog-heartbeat" in orjson.loads(row["active_tasks"])

    async def test_ten_thousand_tasks(self, path: Path, query: Query) -> None:
        """With thousands of tasks, which are named in several turns of the loop, the count is right."""
        stop = asyncio.Event()
        tasks = [asyncio.create_task(protocol_handler(stop)) for _ in range(10_000)]
        await asyncio.sleep(0)
        async with EngineLog(path) as log, Heartbeat(log, NEVER):
            row = await committed_row(log, query)
        stop.set()
        await asyncio.gather(*tasks)

        assert orjson.loads(row["active_tasks"])[0] == f"protocol_handler {TIMES}10000"

    async def test_names_of_every_kind(self, path: Path, query: Query) -> None:
        """Odd names are stored as valid JSON, cut if they are long; a coroutine may have none."""
        loop, stop = asyncio.get_running_loop(), asyncio.Event()
        nameless = loop.create_future()
        odd = ["", 'a "quoted" \\ name', "\0\x1b\ud800", "☃" * 5000, "Task-seven"]
        tasks = [asyncio.create_task(protocol_handler(stop), name=name) for name in odd]
        compiled = asyncio.Task(Nameless(nameless))
        async with EngineLog(path) as log, Heartbeat(log, NEVER):
            row = await committed_row(log, query)
        stop.set()
        nameless.set_result(None)
        await asyncio.gather(*tasks, compiled)

        names = orjson.loads(row["active_tasks"])
        assert {"", 'a "quoted" \\ name', "␀\x1b�", "☃" * 100, "Task-seven"} < set(names)
        assert compiled.get_name() in names


class TestCondensed:
    def test_nothing_left_out(self) -> None:
        """What fits is all there, the most frequent first, then by name."""
        assert condensed(Counter({"b": 1, "a": 1, "c": 3})) == [f"c {TIMES}3", "a", "b"]
        assert condensed(Counter()) == []

    def test_what_was_left_out(self) -> None:
        """Tasks that have no room are counted in the last entry."""
        names = Counter({f"client-{number:05}": 1 for number in range(10_000)}) + Counter({"handler": 200})
        entries = condensed(names)

        assert entries[:2] == [f"handler {TIMES}200", "client-00000"]
        assert entries[-1] == f"… {10_200 - 200 - (len(entries) - 2)} more"

    @given(st.dictionaries(st.text(max_size=200), st.integers(1, 10**8), max_size=400))
    def test_json_fits(self, names: dict[str, int]) -> None:
        """Whatever the names are, the JSON fits, hardly any room is wasted, and each task is counted."""
        entries = condensed(Counter(names))
        units = len(orjson.dumps(entries).decode().encode("utf-16-le")) // 2
        assert units <= 1000

        counts = sorted(names.values(), reverse=True)
        if entries[-1:] == [f"… {sum(counts[len(entries) - 1 :])} more"]:
            # The next name takes 6 units for each of 100 characters at most, and its count.
            assert units > 1000 - 600 - 50
        else:
            assert len(entries) == len(names)


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is not a signal on Windows")
async def test_killed_process(path: Path, query: Query) -> None:
    """The last heartbeat of a process that is killed survives it, under its run."""
    script = """
        import asyncio, sys
        from async_enginelog import EngineLog
        from async_enginelog.listeners.processes import Heartbeat

        async def main():
            async with EngineLog(sys.argv[1]) as log, Heartbeat(log):
                print(log.run_id, flush=True)
                await asyncio.Event().wait()

        asyncio.run(main())
    """
    engine = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script), str(path)], cwd=ROOT, stdout=subprocess.PIPE
    )
    assert engine.stdout is not None
    run = int(engine.stdout.readline())
    engine.send_signal(signal.SIGKILL)
    engine.communicate()
    async with EngineLog(path):
        pass

    assert query("SELECT process_id, ENGINE_RUN_ID FROM ENGINE_DB_LOG_PROCESS_REGISTRY") == [
        (engine.pid, run)
    ]
