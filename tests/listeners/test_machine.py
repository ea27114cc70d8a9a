"""How busy the machine is: a row again and again, and never a moment of the event loop's time."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Awaitable, Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil
import pytest

from async_enginelog import EngineLog, Heartbeat
from async_enginelog.listeners import machine
from async_enginelog.listeners.machine import MachineMonitor

from ..conftest import Query

SOON = 20.0  # seconds; never waited for in full
NEVER = 3600.0

MEASURED = (
    "SELECT DT_MEASUREMENT, CPU_PERCENT, MEMORY_PERCENT, DISK_IO_TOTAL_BYTES, THREAD_COUNT, "
    "MEMORY_AVAILABLE_GB FROM ENGINE_DB_LOG_RESOURCE_MONITOR ORDER BY LOG_SEQ"
)


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Wait until something is so."""
    async with asyncio.timeout(SOON):
        while not await condition():
            await asyncio.sleep(0.005)


async def rows(log: EngineLog, query: Query, count: int) -> list[tuple[Any, ...]]:
    """Return the rows that are committed, when there are so many."""
    found: list[tuple[Any, ...]] = []

    async def enough() -> bool:
        nonlocal found
        await log.flush()
        found = query(MEASURED)
        return len(found) >= count

    await until(enough)
    return found


def watching() -> list[threading.Thread]:
    """Return the threads that measure."""
    return [thread for thread in threading.enumerate() if thread.name == "enginelog-resources"]


async def test_rows(path: Path, query: Query) -> None:
    """Each interval there is a row of its own, with what psutil says of the machine, in UTC."""
    async with EngineLog(path) as log, Heartbeat(log, NEVER, resources=0.02):
        found = await rows(log, query, 3)
        memory, disks = psutil.virtual_memory(), psutil.disk_io_counters()

    times = [datetime.fromisoformat(f"{row[0]}+00:00") for row in found]
    assert times == sorted(set(times))
    assert (times[1] - times[0]).total_seconds() >= 0.01
    _, cpu, used, moved, threads, available = found[-1]
    assert 0 <= cpu <= 100
    assert used == pytest.approx(memory.percent, abs=20)
    assert available == pytest.approx(memory.available / 2**30, rel=0.5)
    assert moved is None if disks is None else 0 < moved <= disks.read_bytes + disks.write_bytes
    assert threads >= 2


async def test_none(path: Path, query: Query) -> None:
    """Without an interval nothing is measured."""
    async with EngineLog(path) as log, Heartbeat(log, 0.02):
        assert watching() == []
    assert query(MEASURED) == []


async def test_off_the_loop(path: Path, query: Query, monkeypatch: pytest.MonkeyPatch) -> None:
    """The event loop is asked for nothing: it may stand still, or psutil may, and rows still come."""
    hangs, asked = threading.Event(), threading.Event()

    def hang() -> None:
        asked.set()
        hangs.wait(SOON)

    monkeypatch.setattr(psutil, "disk_io_counters", hang)
    monkeypatch.setattr(machine, "PATIENCE", 0.01)
    loop = asyncio.get_running_loop()
    async with EngineLog(path) as log:
        async with Heartbeat(log, NEVER, resources=0.02):
            assert asked.wait(SOON)  # blocks the loop; the thread goes on
        before = loop.time()
        await asyncio.sleep(0)
        assert loop.time() - before < 1
        hangs.set()
        await until(is_over)
    assert query(MEASURED) == []


async def is_over() -> bool:
    """Tell whether no thread measures any more."""
    return not watching()


async def test_leaving(path: Path, query: Query, caplog: pytest.LogCaptureFixture) -> None:
    """When the block is left the thread has ended; the block may be entered again."""
    async with EngineLog(path) as log:
        heartbeat = Heartbeat(log, NEVER, resources=0.02)
        for turn in (1, 2):
            async with heartbeat:
                assert len(watching()) == 1
                await rows(log, query, turn)
            assert watching() == []
    assert caplog.text == ""


async def test_log_closed_before(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """When the log is closed it ends by itself, without a word."""
    log = await EngineLog(path).open()
    async with Heartbeat(log, NEVER, resources=0.02):
        await log.aclose()
        await until(is_over)
    assert caplog.text == ""


async def test_fault_in_measuring(
    path: Path, query: Query, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What can't be measured is told of once, and the rest is logged."""

    def fail() -> None:
        raise OSError("no such thing")

    monkeypatch.setattr(psutil, "virtual_memory", fail)
    monkeypatch.setattr(psutil, "disk_io_counters", lambda: None)
    async with EngineLog(path) as log, Heartbeat(log, NEVER, resources=0.02):
        found = await rows(log, query, 3)

    assert [row[2:4] for row in found] == [(None, None)] * len(found)
    assert found[0][4] >= 2
    assert caplog.text.count("memory of the machine can't be measured: OSError('no such thing')") == 1


async def test_no_thread(
    path: Path, query: Query, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A system that gives no thread is told of; the heartbeat goes on."""

    start = threading.Thread.start

    def fail(thread: threading.Thread) -> None:
        if thread.name == "enginelog-resources":
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", fail)
    async with EngineLog(path) as log, Heartbeat(log, NEVER, resources=0.02):
        pass
    assert "how busy the machine is can't be logged: can't start new thread" in caplog.text
    assert query("SELECT count(*) FROM ENGINE_DB_LOG_PROCESS_REGISTRY") == [(1,)]


@pytest.mark.parametrize("interval", [0, -1, 0.009, float("nan"), float("inf"), 10**400, "1", []])
def test_wrong_interval(path: Path, interval: Any) -> None:
    """An interval that would keep a CPU busy, or isn't one, is refused, with what to pass."""
    with pytest.raises(ValueError, match="pass a number of seconds, at least 0.01, or None"):
        Heartbeat(EngineLog(path), resources=interval)


async def test_endless_interval(path: Path, query: Query) -> None:
    """An interval that is longer than a thread can wait is no trouble."""
    async with EngineLog(path) as log:
        monitor = MachineMonitor(log, sys.float_info.max)
        monitor.start()
        await monitor.stop()
    assert query(MEASURED) == []
