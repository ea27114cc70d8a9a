"""And when the engine is busy? Rows a second to commit while the loop computes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path

from .call import prepare_database
from .markdown import Goal, Table, at_least, shown
from .results import Case, Figures, Results, lowest
from .rivals import here, rival_named
from .rivals.base import Rival, count_rows
from .rivals.limits import limit
from .rivals.names import LIMIT, MANY, NOTHING, OURS
from .take import ROWS

__all__ = ["TITLE", "cases", "goals", "measure", "tables"]

TITLE = "And when the engine is busy?"

# How long the loop computes in each turn, in milliseconds; or who computes in its place.
TURNS = ("0.2", "1", "5")
NUMPY = "NumPy in two threads"
SETTINGS = (*TURNS, NUMPY)
SECONDS = {True: 2.0, False: 3.0}
# So many rows are logged between two turns.
GROUP = 500


def cases(quick: bool) -> list[Case]:
    """Return what is measured in one round."""
    found = [Case("busy", name, setting, quick) for setting in SETTINGS for name in here()]
    return [*found, Case("busy", LIMIT, "", quick)]


def measure(case: Case, folder: Path) -> Figures:
    """Measure a rival; or what the machine can do at the moment, without a loop."""
    path = folder / "engine_log.db"
    if case.rival == LIMIT:
        prepare_database(rival_named(OURS), path)
        return {"rows_s": ROWS[case.quick] / limit(path, "narrow", ROWS[case.quick])[0]}
    rival = rival_named(case.rival)
    prepare_database(rival, path)
    return asyncio.run(beside(rival, path, case.setting, SECONDS[case.quick]))


async def beside(rival: Rival, path: Path, setting: str, seconds: float) -> Figures:
    """Log while others compute. What isn't committed in time doesn't count: some take minutes for it."""
    stop = asyncio.Event()
    compute = _numpy(stop) if setting == NUMPY else _python(stop, float(setting) / 1000)
    async with rival.open(path) as log:
        function, _ = log.awaitable()
        computing = asyncio.create_task(compute)
        begun, logged = time.perf_counter(), count()
        try:
            async with asyncio.timeout(seconds):  # a single call may starve for longer
                await _log(function, logged)
        except TimeoutError:
            pass
        elapsed, committed = time.perf_counter() - begun, count_rows(path)
        stop.set()
        turns = await computing
    figures = {"rows_s": committed, "logged_s": next(logged), "turns_s": turns}
    return {name: number / elapsed for name, number in figures.items()}


async def _log(function: Callable[[int], Awaitable[None]], numbers: Iterable[int]) -> None:
    for number in numbers:
        await function(number)
        if number % GROUP == 0:
            await asyncio.sleep(0)


async def _python(stop: asyncio.Event, turn: float) -> int:
    turns = 0
    while not stop.is_set():
        end = time.perf_counter() + turn
        while time.perf_counter() < end:
            sum(range(100))
        turns += 1
        await asyncio.sleep(0)
    return turns


async def _numpy(stop: asyncio.Event) -> int:
    """Analyse frames as an engine does, in executors: NumPy gives up the GIL, and takes it again."""
    import numpy as np

    samples = np.sin(np.arange(4410) / 7)

    def analyse() -> None:
        for first in range(0, 4410, 441):
            np.abs(np.fft.rfft(samples[first : first + 441], 2048)).max()

    async def analyser(pool: ThreadPoolExecutor) -> int:
        turns = 0
        while not stop.is_set():
            await asyncio.get_running_loop().run_in_executor(pool, analyse)
            turns += 1
        return turns

    with ThreadPoolExecutor(2) as pool:
        return sum(await asyncio.gather(analyser(pool), analyser(pool)))


def tables(results: Results) -> list[Table]:
    """Return a line for each rival: what is committed, and how often the loop computed meanwhile."""
    columns = [f"turns of {setting} ms" if setting in TURNS else setting for setting in SETTINGS]
    names = [name for name in results.rivals("busy") if name != LIMIT]
    heads = {
        "rows_s": "rows/s to commit, loop computing",
        "logged_s": "rows/s logged meanwhile",
        "turns_s": "turns/s of who computes meanwhile",
    }
    return [
        Table(
            (head, *columns),
            [
                [name, *(shown(results.spread("busy", name, setting, figure)) for setting in SETTINGS)]
                for name in names
                if (name, figure) != (NOTHING, "rows_s")
            ],
        )
        for figure, head in heads.items()
    ]


def goals(results: Results) -> list[Goal]:
    """Return what was hoped for."""
    found = []
    for setting in SETTINGS:
        where = f"turns of {setting} ms" if setting in TURNS else setting
        share = results.ratio("busy", "rows_s", (OURS, setting), (LIMIT, ""))
        found += [
            _times_executemany(results, setting, f"{where}: at least 20 times executemany"),
            at_least(f"{where}: never under an eighth of the limit", 0.125, lowest(share)),
        ]
    return found


def _times_executemany(results: Results, setting: str, text: str) -> Goal:
    ours, theirs = (results.spread("busy", name, setting, "rows_s") for name in (OURS, MANY))
    if ours is None or theirs is None:
        return Goal(text, shown(None), None)
    figure = f"{ours.median:,.0f} against {theirs.median:,.0f} rows/s"
    return Goal(text, figure, ours.median >= 20 * theirs.median)
