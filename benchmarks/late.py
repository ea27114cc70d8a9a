"""
Is the audio late because of it? Lateness of a 1 ms ticker and of frames, with rows and without.

An engine analyses frames of 20 players, 200 a second, each for a fixed piece of work on the loop, and logs
rows for each. In one and the same process, it logs in every other second only; so what disturbs the machine
disturbs both, and the two are compared within the run.

Two more tell what to hold a ratio against. With our log open and no rows in any second, what differs is
chance. And our calls alone, into a memory map that nobody reads, are what a frame that logs can't do without.

"""

from __future__ import annotations

import asyncio
import statistics
import time
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .call import prepare_database
from .markdown import Goal, Table, at_most, shown
from .parts import CHECKED, step_named
from .results import Case, Figures, Results, Spread
from .rivals import here, rival_named
from .rivals.base import Log
from .rivals.names import EACH, MANY, OLD, OURS, QUEUE_HANDLER

__all__ = ["TITLE", "cases", "goals", "measure", "tables"]

TITLE = "Is the audio late because of it?"

RATES = (2_000, 10_000, 20_000)
# Rates at which a call shows: those of our calls alone.
HIGH_RATES = RATES[1:]
# The log is open, and nothing is logged.
NO_ROWS = 0
RIVALS = (QUEUE_HANDLER, MANY, EACH, OLD)
SECONDS = {True: 8, False: 30}
FRAMES_A_SECOND = 200
# A fixed piece of work for each frame, one to two milliseconds: not a fixed time, which would hide what takes
# the GIL away.
PIECES, PIECE = 60, range(1000)
# What is left of the second before, when rows are still being written, doesn't count; in seconds. It is twice
# the time after which the writer commits.
SETTLING = 0.4
# Who is so late doesn't catch up any more; in seconds.
GIVE_UP = 10.0
# Whose frames are so late without rows, at 99 %, is still at the rows of the second before: a frame takes two
# milliseconds, and there is one every five. What ratio comes of that means nothing.
FALLS_BEHIND_MS = 10.0
# A frame that is so late was disturbed: without rows, 99 % are two milliseconds late at most.
VERY_LATE_MS = 3.0
WITH, WITHOUT = "with", "without"
# The percentiles that are printed.
SHOWN = {"p99": "99 %", "p999": "99.9 %"}


class Lateness:
    """How late things were, in milliseconds, in seconds with rows and in seconds without."""

    def __init__(self, begun: float) -> None:
        self.begun = begun
        self.with_rows, self.without = array("d"), array("d")
        # The latest of each second, to be drawn.
        self.worst: dict[int, float] = {}

    def logging(self, now: float) -> bool:
        """Tell whether rows are logged at the moment."""
        return int(now - self.begun) % 2 == 0

    def note(self, due: float, now: float) -> None:
        """Note that what was due is done."""
        if (due - self.begun) % 1 < SETTLING:
            return
        late = (now - due) * 1000
        (self.with_rows if self.logging(due) else self.without).append(late)
        second = int(due - self.begun)
        self.worst[second] = max(self.worst.get(second, 0.0), late)

    def figures(self, name: str) -> Figures:
        """Return percentiles of both."""
        found: Figures = {}
        for phase, values in ((WITH, self.with_rows), (WITHOUT, self.without)):
            # Of 1,800 frames, 99.9 % is the second largest; of a quick run's 480, the largest.
            ordered = sorted(values)
            for label, share in (("p50", 0.5), ("p99", 0.99), ("p999", 0.999)):
                found[f"{name} {label} {phase}"] = ordered[int(len(ordered) * share)]
        return found


def cases(quick: bool) -> list[Case]:
    """Return what is measured in one round."""
    return [
        *(Case("late", OURS, str(rate), quick) for rate in (NO_ROWS, *RATES)),
        *(Case("late", CHECKED, str(rate), quick) for rate in HIGH_RATES),
        *(Case("late", name, str(RATES[0]), quick) for name in here(RIVALS)),
    ]


def measure(case: Case, folder: Path) -> Figures:
    """Measure a rival at a rate."""
    path = folder / "engine_log.db"
    rival = (step_named if case.rival == CHECKED else rival_named)(case.rival)
    prepare_database(rival, path)

    async def run() -> Figures:
        async with rival.open(path) as log:
            return await _run(log, int(case.setting), SECONDS[case.quick])

    return asyncio.run(run())


async def _run(log: Log, rate: int, seconds: int) -> Figures:
    loop = asyncio.get_running_loop()
    begun = loop.time() + 0.1
    ticks, frames = Lateness(begun), Lateness(begun)
    cpu = time.process_time()
    ticking = asyncio.create_task(_tick(ticks, seconds))
    await _analyse(log, frames, rate // FRAMES_A_SECOND, seconds)
    await ticking
    return {
        **ticks.figures("tick"),
        **frames.figures("frame"),
        "worst_frame_ms": [round(frames.worst.get(second, 0.0), 3) for second in range(seconds)],
        "cpu_share": (time.process_time() - cpu) / seconds,
    }


async def _each(period: float, begun: float, seconds: int, do: Callable[[float], Any]) -> None:
    """Call ``do`` when it is due; what is due already is done at once, as audio can't be left out."""
    loop = asyncio.get_running_loop()
    for number in range(round(seconds / period)):
        due = begun + number * period
        await asyncio.sleep(max(0.0, due - loop.time()))
        await do(due)
        if loop.time() - due > GIVE_UP:
            return


async def _tick(ticks: Lateness, seconds: int) -> None:
    clock = asyncio.get_running_loop().time

    async def tick(due: float) -> None:
        ticks.note(due, clock())

    await _each(0.001, ticks.begun, seconds, tick)


async def _analyse(log: Log, frames: Lateness, rows: int, seconds: int) -> None:
    clock = asyncio.get_running_loop().time
    function, _ = log.awaitable()

    async def frame(due: float) -> None:
        logging = frames.logging(due)
        for number in range(rows // 2 if logging else 0):
            await function(number)
        for _ in range(PIECES):
            sum(PIECE)
        for number in range(rows // 2 if logging else 0):
            await function(number)
        frames.note(due, clock())

    await _each(1 / FRAMES_A_SECOND, frames.begun, seconds, frame)


def tables(results: Results) -> list[Table]:
    """Return a line for each rival and rate."""
    measured = results.cases("late")
    lines = [
        [_name(case), *(_cell(results, case, name, label) for name in ("tick", "frame") for label in SHOWN)]
        for case in measured
    ]
    frames = _frames_each(quick=any(case.quick for case in measured))
    head = (
        "late, in ms: without rows → with rows",
        *(f"ticker {percent}" for percent in SHOWN.values()),
        *(f"frames {percent} of {frames:,}" for percent in SHOWN.values()),
    )
    return [Table(head, lines), _latest(results, measured)]


def _latest(results: Results, measured: list[Case]) -> Table:
    """Return in how many seconds of all rounds a frame was very late; a percentile of one round is chance."""
    lines = []
    for case in measured:
        # The first second is one with rows, the next one isn't, and so on.
        rounds = results.values(*case[:3], "worst_frame_ms")
        without, with_rows = ([late for worst in rounds for late in worst[first::2]] for first in (1, 0))
        if without:
            lines.append([_name(case), *map(_share_late, (without, with_rows)), _medians(without, with_rows)])
    head = (
        "the latest frame of each second, in all rounds",
        f"over {VERY_LATE_MS:g} ms without rows",
        "with rows",
        "median, ms",
    )
    return Table(head, lines)


def _medians(without: list[float], with_rows: list[float]) -> str:
    return f"{statistics.median(without):,.2f} → {statistics.median(with_rows):,.2f}"


def _share_late(latest: list[float]) -> str:
    return f"{sum(late > VERY_LATE_MS for late in latest)} of {len(latest)}"


def _frames_each(*, quick: bool) -> int:
    """Return how many frames count in all seconds with rows, and as many in those without."""
    return round(SECONDS[quick] / 2 * (1 - SETTLING) * FRAMES_A_SECOND)


def _name(case: Case) -> str:
    rate = f"{int(case.setting):,} rows/s"
    if case.rival == CHECKED:
        return f"our calls alone, nobody writes, {rate}"
    return f"{case.rival}, {rate if int(case.setting) else 'no rows in any second'}"


def _cell(results: Results, case: Case, name: str, label: str) -> str:
    without, with_rows = (_spread(results, case, f"{name} {label} {phase}") for phase in (WITHOUT, WITH))
    if without is None or with_rows is None:
        return shown(None)
    if _falls_behind(results, case):
        return f"falls behind: {with_rows.median:,.0f} ms"
    ratio = shown(_ratio(results, case, f"{name} {label}"), ".2f")
    return f"{without.median:.2f} → {with_rows.median:.2f} ({ratio} times)"


def _falls_behind(results: Results, case: Case) -> bool:
    found = _spread(results, case, f"frame p99 {WITHOUT}")
    return found is not None and found.median > FALLS_BEHIND_MS


def _spread(results: Results, case: Case, figure: str) -> Spread | None:
    return results.spread("late", case.rival, case.setting, figure)


def _ratio(results: Results, case: Case, figure: str) -> Any:
    place = (case.rival, case.setting)
    return results.ratio("late", f"{figure} {WITH}", place, place, their_figure=f"{figure} {WITHOUT}")


def goals(results: Results) -> list[Goal]:
    """Return what was hoped for; nothing of what is only there to be compared with."""
    found = []
    for rate in RATES:
        for name, words in (("tick", "ticker"), ("frame", "frames")):
            for label, percent in SHOWN.items():
                ratio = _ratio(results, Case("late", OURS, str(rate)), f"{name} {label}")
                text = f"{rate:,} rows/s: {words}, {percent} at most 1.10 times that without rows"
                found.append(at_most(text, 1.10, ratio))
    return found
