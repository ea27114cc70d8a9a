"""What does a call cost? Median, 99th percentile, CPU for each row, and whether the row survives a kill."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import statistics
import time
from array import array
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

from async_enginelog import EngineLog

from .markdown import Goal, Table, at_least, at_most, shown
from .results import Case, Figures, Results, lowest
from .rivals import here, rival_named
from .rivals.base import Log, Rival, count_rows, make_database
from .rivals.names import NOTHING, OURS, PICOLOGGING, QUEUE_HANDLER
from .rivals.sqlite import make_old_tables

__all__ = ["TITLE", "cases", "goals", "measure", "prepare_database", "tables"]

TITLE = "What does a call cost?"

# Rows come in groups, so many a second in all; 2,000.
GROUP, PERIOD = 20, 0.01
SECONDS = {True: 1.0, False: 5.0}
# Logged before the process kills itself.
KILLED_ROWS = 1000

PACED, KILLED = "2,000 rows/s", "killed"

LogGroup = Callable[[Log, int], Awaitable[None]]


def cases(quick: bool) -> list[Case]:
    """Return what is measured in one round."""
    paced = [Case("call", name, PACED, quick) for name in here()]
    return paced + [Case("call", name, KILLED, quick) for name in here() if name != NOTHING]


def measure(case: Case, folder: Path) -> Figures:
    """Measure a rival."""
    path, rival = folder / "engine_log.db", rival_named(case.rival)
    if case.setting == KILLED:
        prepare_database(rival, path)
        return {"kept": kept_after_kill(rival, path) / KILLED_ROWS}
    return asyncio.run(paced(rival, folder, SECONDS[case.quick]))


def prepare_database(rival: Rival, path: Path) -> None:
    """Make the tables that a rival writes to."""
    if rival.own_tables:
        make_old_tables(path)
    else:
        asyncio.run(make_database(path))


# -- at an even pace --------------------------------------------------------------------------------


async def paced(rival: Rival, folder: Path, seconds: float) -> Figures:
    """
    Log 2,000 rows a second.

    The CPU time is that of the whole process, writer and closing included, less that of the same
    again without a row. Calls are timed in a run of their own: a look at the clock is CPU time, too.

    """
    groups = round(seconds / PERIOD)
    costs = array("d")
    await _run(rival, folder / "first.db", groups // 10, _log_group)  # what is first loads and compiles
    idle = await _run(rival, folder / "idle.db", groups, _log_nothing)
    busy = await _run(rival, folder / "busy.db", groups, _log_group)
    await _run(rival, folder / "timed.db", groups, partial(_time_group, costs))
    in_order = sorted(costs)
    return {
        "median_us": statistics.median(in_order),
        "p99_us": in_order[len(in_order) * 99 // 100],
        "cpu_us": (busy - idle) / len(costs) * 1e6,
        "rows": len(costs),
    }


async def _run(rival: Rival, path: Path, groups: int, log_group: LogGroup) -> float:
    """Return the CPU time it took, in seconds."""
    await asyncio.to_thread(prepare_database, rival, path)
    async with rival.open(path) as log:
        await _log_group(log, 0)
        cpu = time.process_time()
        await _each_period(groups, partial(log_group, log))
    return time.process_time() - cpu


async def _each_period(groups: int, log_group: Callable[[int], Awaitable[None]]) -> None:
    loop = asyncio.get_running_loop()
    began = loop.time()
    for number in range(1, groups + 1):
        await asyncio.sleep(max(0.0, began + number * PERIOD - loop.time()))
        await log_group(number * GROUP)


async def _log_nothing(log: Log, first: int) -> None:
    pass


async def _log_group(log: Log, first: int) -> None:
    for number in range(first, first + GROUP):
        # Whoever needn't be awaited isn't.
        if log.awaits:
            await log.function(number)
        else:
            log.function(number)


async def _time_group(costs: array[float], log: Log, first: int) -> None:
    now, function = time.perf_counter_ns, log.function
    if log.awaits:
        for number in range(first, first + GROUP):
            start = now()
            await function(number)
            costs.append((now() - start) / 1000)
    else:
        for number in range(first, first + GROUP):
            start = now()
            function(number)
            costs.append((now() - start) / 1000)


# -- killed -----------------------------------------------------------------------------------------


def kept_after_kill(rival: Rival, path: Path) -> int:
    """Return how many of 1,000 rows are there when the process was killed after the last call."""
    process = multiprocessing.get_context("spawn").Process(target=_log_and_die, args=(rival.name, path))
    process.start()
    process.join()
    if process.exitcode in (0, 1):
        raise RuntimeError(f"{rival.name}: ended with {process.exitcode} before it was killed")
    if rival.name == OURS:
        asyncio.run(_recover(path))
    return count_rows(path)


def _log_and_die(name: str, path: Path) -> None:
    asyncio.run(_log_rows(rival_named(name), path))


async def _log_rows(rival: Rival, path: Path) -> None:
    async with rival.open(path) as log:
        function, _ = log.awaitable()
        for number in range(KILLED_ROWS):
            await function(number)
        os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))


async def _recover(path: Path) -> None:
    async with EngineLog(path) as log:
        await log.flush()


# -- what is told -----------------------------------------------------------------------------------


def tables(results: Results) -> list[Table]:
    """Return a line for each rival."""
    rows = [_line(results, name) for name in results.rivals("call", PACED)]
    head = ("a call at 2,000 rows/s", "median, µs", "99 %, µs", "CPU a row, µs", "ours to theirs")
    return [Table((*head, "kept of 1,000 rows logged at once before `kill -9`"), rows)]


def _line(results: Results, name: str) -> list[str]:
    of: Callable[[str, str], Any] = lambda figure, setting: results.spread("call", name, setting, figure)  # noqa: E731
    ratio = results.ratio("call", "median_us", (OURS, PACED), (name, PACED))
    return [
        name,
        shown(of("median_us", PACED), ".2f"),
        shown(of("p99_us", PACED), ".0f"),
        shown(of("cpu_us", PACED), ".1f"),
        shown(ratio, ".2f") if name != OURS else "",
        shown(of("kept", KILLED), ".0%") if name != NOTHING else "",
    ]


def goals(results: Results) -> list[Goal]:
    """Return what was hoped for."""
    ours = (OURS, PACED)
    kept = results.spread("call", OURS, KILLED, "kept")
    return [
        at_most(
            "median at most 0.15 of QueueHandler's",
            0.15,
            results.ratio("call", "median_us", ours, (QUEUE_HANDLER, PACED)),
        ),
        at_most(
            "median at most picologging's own",
            1.0,
            results.ratio("call", "median_us", ours, (PICOLOGGING, PACED)),
        ),
        at_most("CPU for each row at most 10 µs", 10.0, results.spread("call", *ours, "cpu_us"), ".1f"),
        at_least("crash-proof all the while", 1.0, lowest(kept), ".0%"),
    ]
