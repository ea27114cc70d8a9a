"""
Measure what ``@logged`` adds to a call: ``python -m benchmarks.functions [--quick]``.

A bare function and the same one logged are called in turns, in batches small enough for the writer to keep
up; between them, the log is flushed. Figures are medians over batches.

"""

from __future__ import annotations

import argparse
import asyncio
import platform
import statistics
import tempfile
from collections import defaultdict
from collections.abc import Awaitable, Callable
from pathlib import Path
from time import perf_counter

from rich.console import Console
from rich.table import Table

from async_enginelog import EngineLog
from async_enginelog.functions import logged

# Two rows a call: fewer rows in a batch than would make a caller give way to the writer.
CALLS = 400


def plain(recording_id: int, frame_no: int) -> int:
    """Do nothing."""
    return frame_no


async def coroutine(recording_id: int, frame_no: int) -> int:
    """Do nothing, asynchronously."""
    return frame_no


def nothing_said(value: int) -> int:
    """Do nothing, with an argument that doesn't say what it works on."""
    return value


KINDS: dict[str, tuple[Callable[..., object], tuple[int, ...]]] = {
    "plain": (plain, (202508290514312002, 7)),
    "plain, without ids": (nothing_said, (7,)),
    "async": (coroutine, (202508290514312002, 7)),
}
VARIANTS: dict[str, Callable[[Callable[..., object]], Callable[..., object]]] = {
    "bare": lambda function: function,
    "start=False": logged(start=False),
    "logged": logged,
}

Results = dict[tuple[str, str, bool], list[float]]


def call_plain(function: Callable[..., object], arguments: tuple[int, ...]) -> float:
    """Return the seconds of a batch of calls."""
    began = perf_counter()
    for _ in range(CALLS):
        function(*arguments)
    return perf_counter() - began


async def call_async(function: Callable[..., Awaitable[object]], arguments: tuple[int, ...]) -> float:
    """Return the seconds of a batch of awaited calls."""
    began = perf_counter()
    for _ in range(CALLS):
        await function(*arguments)
    return perf_counter() - began


async def one_round(results: Results, log: EngineLog | None) -> None:
    """Measure each kind and variant once, in turns."""
    for kind, (function, arguments) in KINDS.items():
        for variant, decorate in VARIANTS.items():
            decorated = decorate(function)
            if kind == "async":
                seconds = await call_async(decorated, arguments)  # type: ignore[arg-type]
            else:
                seconds = call_plain(decorated, arguments)
            results[kind, variant, log is not None].append(seconds / CALLS * 1e6)
            if log is not None:
                await log.flush()


async def measure(rounds: int) -> Results:
    """Measure without a log, then with one that is open; a few rounds first that don't count."""
    results: Results = defaultdict(list)
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(rounds):
            await one_round(results, None)
        async with EngineLog(Path(folder) / "engine_log.db") as log:
            for _ in range(5):
                await one_round(defaultdict(list), log)
            for _ in range(rounds):
                await one_round(results, log)
    return results


def report(results: Results, console: Console) -> None:
    """Print what a call takes, and what of that is the log's."""
    table = Table(
        "µs a call", "bare", "no log open", "start=False", "logged", title="What does @logged cost?"
    )
    for kind in KINDS:
        bare = statistics.median(results[kind, "bare", True])
        cells = [f"{bare:.2f}"]
        for variant, is_open in (("logged", False), ("start=False", True), ("logged", True)):
            figures = results[kind, variant, is_open]
            low, median, high = statistics.quantiles(figures, n=4)
            cells.append(f"{median:.2f} ({low:.2f}-{high:.2f})")
        table.add_row(kind, *cells)
    console.print(table)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.functions", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    rounds = 50 if parser.parse_args().quick else 300
    console = Console(width=110)
    console.print(
        f"Python {platform.python_version()}, {platform.system()} {platform.machine()}; medians of {rounds} "
        f"batches of {CALLS} calls (quartiles)"
    )
    report(asyncio.run(measure(rounds)), console)


if __name__ == "__main__":
    main()
