"""Run the measurements: ``python -m benchmarks [--quick]``."""

from __future__ import annotations

import argparse
import asyncio
import platform
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import aiosqlite
from rich.console import Console
from rich.table import Table

from . import rivals
from .rivals import Log

Rival = Callable[[Path], AbstractAsyncContextManager[Log]]


async def call_cost(rival: Rival, path: Path, rows: int) -> tuple[float, float]:
    """Return median and 99th percentile of a call, in microseconds, at 2,000 rows a second."""
    costs = []
    async with rival(path) as log:
        for number in range(rows):
            if number % 20 == 0:
                await asyncio.sleep(0.01)
            start = time.perf_counter_ns()
            await log(number)
            costs.append((time.perf_counter_ns() - start) / 1000)
    return statistics.median(costs), statistics.quantiles(costs, n=100)[98]


async def rows_per_second(rival: Rival, path: Path, rows: int) -> float:
    """Return rows a second, from the first call to the last commit, on an idle loop."""
    start = time.perf_counter()
    async with rival(path) as log:
        for number in range(rows):
            await log(number)
    return rows / (time.perf_counter() - start)


async def rows_per_second_busy(rival: Rival, path: Path, seconds: float) -> float:
    """Return rows a second to commit while other tasks of the loop keep it computing."""
    stop = asyncio.Event()

    async def compute() -> None:
        while not stop.is_set():
            sum(number * number for number in range(3000))  # some 0.2 ms
            await asyncio.sleep(0)

    tasks = [asyncio.create_task(compute()) for _ in range(3)]
    start, number = time.perf_counter(), 0
    async with rival(path) as log:
        while time.perf_counter() - start < seconds:
            # A burst, as a frame makes it, then the others' turn.
            for _ in range(100):
                await log(number)
                number += 1
            await asyncio.sleep(0)
    elapsed = time.perf_counter() - start
    stop.set()
    await asyncio.gather(*tasks)
    return number / elapsed


def in_new_database(folder: Path, measure: Callable[[Path], object]) -> object:
    """Measure in a database that has nothing but its tables."""
    with tempfile.TemporaryDirectory(dir=folder) as name:
        path = Path(name) / "engine_log.db"
        asyncio.run(rivals.make_database(path))
        return measure(path)


def spread(values: list[float], form: str = ",.0f") -> str:
    """Return median and range."""
    return f"{statistics.median(values):{form}}  ({min(values):{form}}-{max(values):{form}})"


def main() -> None:
    """Measure rivals in turns, several rounds, and print medians."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rows and rounds")
    parser.add_argument("--folder", type=Path, help="where the databases are; default: the temporary folder")
    options = parser.parse_args()
    rounds, rows = (3, 100_000) if options.quick else (7, 400_000)
    console = Console()
    console.print(
        f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}, aiosqlite {aiosqlite.__version__}, "
        f"{platform.system()} {platform.machine()}; medians of {rounds} rounds (range)"
    )

    contenders: dict[str, Rival] = {
        "async_enginelog": rivals.ours,
        "aiosqlite execute+commit": rivals.aiosqlite_each,
        "aiosqlite executemany, 50 ms": rivals.aiosqlite_executemany,
    }
    medians: dict[str, list[float]] = {name: [] for name in contenders}
    worst: dict[str, list[float]] = {name: [] for name in contenders}
    idle: dict[str, list[float]] = {name: [] for name in contenders}
    busy: dict[str, list[float]] = {name: [] for name in contenders}
    raw: list[float] = []
    for _ in range(rounds):
        for name, rival in contenders.items():
            few = rows // 50 if rival is rivals.aiosqlite_each else rows
            median, tail = in_new_database(
                options.folder, lambda path, rival=rival: asyncio.run(call_cost(rival, path, 2000))
            )
            medians[name].append(median)
            worst[name].append(tail)
            idle[name].append(
                in_new_database(
                    options.folder,
                    lambda path, rival=rival, few=few: asyncio.run(rows_per_second(rival, path, few)),
                )
            )
            busy[name].append(
                in_new_database(
                    options.folder,
                    lambda path, rival=rival: asyncio.run(rows_per_second_busy(rival, path, 3.0)),
                )
            )
        raw.append(
            in_new_database(options.folder, lambda path: rivals.raw_rows_per_second(path, rows))  # type: ignore[arg-type]
        )

    table = Table(
        "",
        "call, µs",
        "99 %, µs",
        "rows/s to commit",
        "of raw",
        "rows/s, loop computing",
        title="Nine columns",
    )
    limit = statistics.median(raw)
    for name in contenders:
        share = f"{statistics.median(idle[name]) / limit:.0%}"
        table.add_row(
            name,
            spread(medians[name], ".2f"),
            spread(worst[name], ".0f"),
            spread(idle[name]),
            share,
            spread(busy[name]),
        )
    table.add_row("sqlite3, 1,024 rows a statement", "", "", spread(raw), "100%", "")
    console.print(table)


if __name__ == "__main__":
    main()
