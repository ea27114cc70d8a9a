"""How soon is it back? Recovery of what a killed engine left, and opening."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import sqlite3
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from async_enginelog import EngineLog

from .markdown import Goal, Table, at_most, shown
from .results import Case, Figures, Results
from .rivals import rival_named
from .rivals.base import Log, count_rows
from .rivals.names import OURS

__all__ = ["TITLE", "cases", "goals", "measure", "tables"]

TITLE = "How soon is it back?"

RECOVERY, NEW, EMPTY, LARGE = "recovery", "a new database", "an empty database", "a large database"
SETTINGS = (RECOVERY, NEW, EMPTY, LARGE)
ROWS = {True: 100_000, False: 1_000_000}


def cases(quick: bool) -> list[Case]:
    """Return what is measured in one round."""
    return [Case("back", OURS, setting, quick) for setting in SETTINGS]


def measure(case: Case, folder: Path) -> Figures:
    """Recover, or open once: the first time in a process is what an engine has."""
    path, rows = folder / "engine_log.db", ROWS[case.quick]
    if case.setting == RECOVERY:
        return _recovery(path, rows)
    if case.setting != NEW:
        exitcode = _in_own_process(_commit, path, rows if case.setting == LARGE else 0)
        assert exitcode == 0, f"logging ended with {exitcode}"
    return asyncio.run(_open(path))


# Opens the log on a database, and logs so many rows.
_Engine = Callable[[Path, int], Coroutine[Any, Any, None]]


def _in_own_process(engine: _Engine, path: Path, rows: int) -> int | None:
    """Run an engine before what is measured here, and return its exit code."""
    process = multiprocessing.get_context("spawn").Process(target=_run, args=(engine, path, rows))
    process.start()
    process.join()
    return process.exitcode


def _run(engine: _Engine, path: Path, rows: int) -> None:
    asyncio.run(engine(path, rows))


async def _commit(path: Path, rows: int) -> None:
    """Leave a database as an engine does that was closed."""
    async with rival_named(OURS).open(path) as log:
        await _log_rows(log, rows)
    assert count_rows(path) == rows


async def _open(path: Path) -> Figures:
    log = EngineLog(path)
    begun = time.perf_counter()
    await log.open()
    opened = time.perf_counter()
    await log.aclose()
    return {"open_ms": (opened - begun) * 1000, "close_ms": (time.perf_counter() - opened) * 1000}


def _recovery(path: Path, rows: int) -> Figures:
    _in_own_process(_spool_and_die, path, rows)
    before = count_rows(path)
    opening, seconds = asyncio.run(_recover(path))
    after = count_rows(path)
    assert after == rows, f"{after:,} of {rows:,} rows are there"
    return {"recovery_s": seconds, "rows_s": (after - before) / seconds, "open_ms": opening * 1000}


async def _spool_and_die(path: Path, rows: int) -> None:
    async with rival_named(OURS).open(path) as log:
        # Whoever holds this keeps the rows in the spool.
        lock = sqlite3.connect(path, isolation_level=None)
        lock.execute("BEGIN IMMEDIATE")
        await _log_rows(log, rows)
        os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))


async def _log_rows(log: Log, rows: int) -> None:
    for number in range(rows):
        await log.function(number)
        if number % 1000 == 0:
            await asyncio.sleep(0.001)


async def _recover(path: Path) -> tuple[float, float]:
    begun = time.perf_counter()
    async with EngineLog(path, timeout=600) as log:
        opening = time.perf_counter() - begun
        await log.flush()
        return opening, time.perf_counter() - begun


def tables(results: Results) -> list[Table]:
    """Return what opening takes, and recovery."""
    opening = [
        [
            name,
            *(shown(results.spread("back", OURS, name, figure), ".1f") for figure in ("open_ms", "close_ms")),
        ]
        for name in SETTINGS[1:]
    ]
    recovery = [
        shown(results.spread("back", OURS, RECOVERY, figure), form)
        for figure, form in (("recovery_s", ".2f"), ("rows_s", ",.0f"), ("open_ms", ",.0f"))
    ]
    quick = any(case.quick for case in results.cases("back"))
    rows = f"{ROWS[quick]:,} rows of a killed engine"
    return [
        Table(("opening", "open, ms", "close, ms"), opening),
        Table(("recovery", "seconds", "rows/s", "until the engine goes on, ms"), [[rows, *recovery]]),
    ]


def goals(results: Results) -> list[Goal]:
    """Return what was hoped for; with fewer rows, a share of the time."""
    quick = any(case.quick for case in results.cases("back"))
    seconds = 10 * ROWS[quick] / ROWS[False]
    rows = f"recovery of {ROWS[quick]:,} rows in at most {seconds:g} s"
    found = [at_most(rows, seconds, results.spread("back", OURS, RECOVERY, "recovery_s"))]
    for setting in SETTINGS[1:]:
        opening = results.spread("back", OURS, setting, "open_ms")
        found.append(at_most(f"opening {setting} under 50 ms", 50.0, opening, ".1f"))
    return found
