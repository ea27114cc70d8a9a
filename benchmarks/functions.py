"""
What does ``@logged`` cost? A bare function and the same one logged are called in turns.

Batches are small enough for the writer to keep up; between them, the log is flushed.

"""

from __future__ import annotations

import asyncio
import statistics
import sys
from collections import defaultdict
from collections.abc import Awaitable, Callable
from pathlib import Path
from time import perf_counter

from async_enginelog import EngineLog
from async_enginelog.functions import logged

from .markdown import Goal, Table, shown
from .results import Case, Figures, Results
from .rivals.names import OURS

__all__ = ["TITLE", "cases", "goals", "measure", "tables"]

TITLE = "What does @logged cost?"

# Two rows a call: fewer rows in a batch than would make a caller give way to the writer.
CALLS = 400
BATCHES = {True: 50, False: 300}


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
COLUMNS = {"bare": "bare", "no log open": "logged, closed", "start=False": "start=False", "logged": "logged"}

Batches = dict[str, list[float]]


def cases(quick: bool) -> list[Case]:
    """Return what is measured in one round."""
    return [Case("functions", OURS, "", quick)]


def measure(case: Case, folder: Path) -> Figures:
    """Return the medians over batches, in microseconds a call."""
    batches = asyncio.run(_measure(folder / "engine_log.db", BATCHES[case.quick]))
    return {name: statistics.median(values) for name, values in batches.items()}


async def _measure(path: Path, rounds: int) -> Batches:
    """Measure without a log, then with one that is open; a few rounds first that don't count."""
    batches: Batches = defaultdict(list)
    for _ in range(rounds):
        await _one_round(batches, None)
    async with EngineLog(path) as log:
        for _ in range(5):
            await _one_round(defaultdict(list), log)
        for _ in range(rounds):
            await _one_round(batches, log)
    return batches


async def _one_round(batches: Batches, log: EngineLog | None) -> None:
    """Measure each kind and variant once, in turns."""
    for kind, (function, arguments) in KINDS.items():
        for variant, decorate in VARIANTS.items():
            decorated = decorate(function)
            if kind == "async":
                seconds = await _call_async(decorated, arguments)  # type: ignore[arg-type]
            else:
                seconds = _call_plain(decorated, arguments)
            name = f"{kind} {variant}" if log else f"{kind} {variant}, closed"
            batches[name].append(seconds / CALLS * 1e6)
            if log is not None:
                await log.flush()


def _call_plain(function: Callable[..., object], arguments: tuple[int, ...]) -> float:
    """Return the seconds of a batch of calls."""
    began = perf_counter()
    for _ in range(CALLS):
        function(*arguments)
    return perf_counter() - began


async def _call_async(function: Callable[..., Awaitable[object]], arguments: tuple[int, ...]) -> float:
    """Return the seconds of a batch of awaited calls."""
    began = perf_counter()
    for _ in range(CALLS):
        await function(*arguments)
    return perf_counter() - began


def tables(results: Results) -> list[Table]:
    """Return a line for each kind of function."""
    rows = [
        [
            kind,
            *(
                shown(results.spread("functions", OURS, "", f"{kind} {figure}"), ".2f")
                for figure in COLUMNS.values()
            ),
        ]
        for kind in KINDS
    ]
    return [Table(("µs a call", *COLUMNS), rows)]


def goals(results: Results) -> list[Goal]:
    """Return nothing: this is only to be known."""
    return []


if __name__ == "__main__":
    from .__main__ import main

    sys.exit(main(["functions", *sys.argv[1:]]))
