"""Run the measurements: ``python -m benchmarks [--quick]``."""

from __future__ import annotations

import argparse
import asyncio
import platform
import sqlite3
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable
from pathlib import Path

import aiosqlite
from rich.console import Console
from rich.table import Table

from . import rivals
from .rivals import Rival

RIVALS: dict[str, Rival] = {
    "async_enginelog": rivals.ours,
    "aiosqlite execute+commit": rivals.aiosqlite_each,
    "aiosqlite executemany": rivals.aiosqlite_executemany,
}

# How long the loop computes in each turn, in milliseconds.
TURNS = (0.2, 1.0, 5.0)
# How long rivals are measured on a loop that computes.
SECONDS = 2.0


async def call_cost(rival: Rival, path: Path, rows: int) -> list[float]:
    """Return median and 99th percentile of a call, in microseconds, at 2,000 rows a second."""
    costs = []
    async with rival(path) as log:
        for number in range(rows):
            if number % 20 == 0:
                await asyncio.sleep(0.01)
            start = time.perf_counter_ns()
            await log(number)
            costs.append((time.perf_counter_ns() - start) / 1000)
    return [statistics.median(costs), statistics.quantiles(costs, n=100)[98]]


async def rows_per_second(rival: Rival, path: Path, rows: int) -> list[float]:
    """Return rows a second, from the first call to the last commit, on an idle loop."""
    start = time.perf_counter()
    async with rival(path) as log:
        for number in range(rows):
            await log(number)
    return [rows / (time.perf_counter() - start)]


async def rows_per_second_busy(rival: Rival, path: Path, turn_ms: float) -> list[float]:
    """Return rows a second to commit while another task computes in every turn of the loop."""
    stop = asyncio.Event()

    async def compute() -> None:
        while not stop.is_set():
            end = time.perf_counter() + turn_ms / 1000
            while time.perf_counter() < end:
                sum(range(100))
            await asyncio.sleep(0)

    async with rival(path) as log:
        computing = asyncio.create_task(compute())
        start, number = time.perf_counter(), 0
        try:
            async with asyncio.timeout(SECONDS):  # a single call may starve for longer
                while True:
                    await log(number)
                    number += 1
                    if number % 500 == 0:
                        await asyncio.sleep(0)
        except TimeoutError:
            pass
        elapsed = time.perf_counter() - start
        # What isn't committed by now doesn't count; some rivals would take minutes for it.
        committed = rivals.count_rows(path)
        stop.set()
        await computing
    return [committed / elapsed]


def in_new_database(folder: Path | None, measure: Callable[[Path], Awaitable[list[float]]]) -> list[float]:
    """Measure in a database that has nothing but its tables."""

    async def run(path: Path) -> list[float]:
        await rivals.make_database(path)
        return await measure(path)

    with tempfile.TemporaryDirectory(dir=folder) as name:
        return asyncio.run(run(Path(name) / "engine_log.db"))


async def limit(path: Path, rows: int) -> list[float]:
    """Return rows a second of plain sqlite3."""
    return [rivals.raw_rows_per_second(path, rows)]


Results = dict[tuple[str, str], list[list[float]]]


def one_round(results: Results, folder: Path | None, rows: int) -> None:
    """Measure every rival once, in turns."""
    for name, rival in RIVALS.items():
        few = rows // 40 if rival is rivals.aiosqlite_each else rows
        questions: dict[str, Callable[[Path], Awaitable[list[float]]]] = {
            "call": lambda path, rival=rival: call_cost(rival, path, 2000),  # type: ignore[misc]
            "idle": lambda path, rival=rival, few=few: rows_per_second(rival, path, few),  # type: ignore[misc]
        }
        for turn in TURNS:
            questions[f"busy {turn}"] = lambda path, rival=rival, turn=turn: rows_per_second_busy(  # type: ignore[misc]
                rival, path, turn
            )
        for question, measure in questions.items():
            results[name, question].append(in_new_database(folder, measure))
    results["limit", "idle"].append(in_new_database(folder, lambda path: limit(path, rows)))


def shown(values: list[list[float]], form: str = ",.0f", which: int = 0) -> str:
    """Return median and range."""
    chosen = [value[which] for value in values]
    return f"{statistics.median(chosen):{form}} ({min(chosen):{form}}-{max(chosen):{form}})"


def median(values: list[list[float]]) -> float:
    """Return the median of the first figures."""
    return statistics.median(value[0] for value in values)


def report(results: Results, console: Console) -> None:
    """Print medians, ranges and ratios."""
    costs = Table("a call at 2,000 rows/s", "median, µs", "99 %, µs", title="What does a call cost?")
    for name in RIVALS:
        costs.add_row(name, shown(results[name, "call"], ".2f"), shown(results[name, "call"], ".0f", 1))
    console.print(costs)

    rates = Table(
        "rows/s to commit, idle loop", "median (range)", "of the limit", title="How much can it take?"
    )
    most = median(results["limit", "idle"])
    for name in RIVALS:
        rates.add_row(name, shown(results[name, "idle"]), f"{median(results[name, 'idle']) / most:.1%}")
    rates.add_row("sqlite3, statements of 1,024 rows", shown(results["limit", "idle"]), "100%")
    console.print(rates)

    busy = Table("rows/s to commit, loop computing", title="And when the engine is busy?")
    for turn in TURNS:
        busy.add_column(f"turns of {turn:g} ms")
    for name in RIVALS:
        busy.add_row(name, *(shown(results[name, f"busy {turn}"]) for turn in TURNS))
    console.print(busy)


def main() -> None:
    """Measure rivals in turns, several rounds, and print medians."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rows and rounds")
    parser.add_argument("--folder", type=Path, help="where the databases are; default: the temporary folder")
    options = parser.parse_args()
    rounds, rows = (3, 100_000) if options.quick else (7, 400_000)
    console = Console(width=110)
    console.print(
        f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}, "
        f"aiosqlite {aiosqlite.__version__}, {platform.system()} {platform.machine()}; nine columns, "
        f"medians of {rounds} rounds (range)"
    )
    results: Results = defaultdict(list)
    for _ in range(rounds):
        one_round(results, options.folder, rows)
    report(results, console)


if __name__ == "__main__":
    main()
