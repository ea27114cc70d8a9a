"""
A guard against getting slower: ratios that repeat, against bounds (``make bench-check``).

Rows a second and percentiles differ by a factor of two from one minute to the next on a machine that is
shared, and so do their ratios when something else wants the second processor. What repeats is checked here:
the median of a call, the CPU time of a row, each against a rival's in the same round; the bytes of a row; and
that no row is lost.

The bounds were found by running the check five times on a 2-core machine on which nothing else ran: those of
times are a seventh above the highest median that was seen, those of bytes, which don't vary, a twentieth. A
change that makes a call or the writer a third slower goes beyond them. That of a computing loop is twice what
was seen: rows a second vary, and without the GIL being handed over they come a hundred times as slowly.

"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from .call import KILLED, PACED
from .cases import Failed, run_case
from .growth import BYTES
from .markdown import Table, shown
from .results import Case, Results, Spread, highest
from .rivals.names import LIMIT, OLD, OURS, QUEUE_HANDLER

__all__ = ["BOUNDS", "main"]

ROUNDS = 5


class Bound(NamedTuple):
    """A ratio that must not be above its bound; of exact ones, not even by a little."""

    text: str
    limit: float
    find: Callable[[Results], Spread | None]


BOUNDS = (
    Bound(
        "a call, of QueueHandler's",
        0.29,
        lambda results: results.ratio("call", "median_us", (OURS, PACED), (QUEUE_HANDLER, PACED)),
    ),
    Bound(
        "CPU of a row when saturated, of QueueHandler's",
        0.51,
        lambda results: results.ratio("take", "cpu_us", (OURS, "narrow"), (QUEUE_HANDLER, "narrow")),
    ),
    Bound(
        "CPU of a row when saturated, of sqlite3 alone",
        4.4,
        lambda results: results.ratio("take", "cpu_us", (OURS, "narrow"), (LIMIT, "narrow")),
    ),
    Bound(
        "CPU of a row of a session, of sqlite3 alone",
        7.2,
        lambda results: results.ratio("take", "cpu_us", (OURS, "trace"), (LIMIT, "trace")),
    ),
    Bound(
        "bytes of a row of functions, of the old file's",
        0.85,
        lambda results: results.ratio("growth", "bytes", *_pair(f"{BYTES}, functions")),
    ),
    Bound(
        "bytes of a row of a session, of the old file's",
        0.96,
        lambda results: results.ratio("growth", "bytes", *_pair(f"{BYTES}, session")),
    ),
    Bound(
        "rows/s of sqlite3 alone, of ours beside turns of 0.2 ms",
        8.0,
        lambda results: results.ratio("busy", "rows_s", (LIMIT, ""), (OURS, "0.2")),
    ),
    Bound(
        "rows lost when saturated, at worst",
        0.0,
        lambda results: highest(results.spread("take", OURS, "narrow", "lost")),
    ),
    Bound(
        "rows lost by kill -9, at worst",
        0.0,
        lambda results: highest(
            results.each_round(lambda find: 1.0 - find("call", OURS, KILLED).get("kept", 0.0))
        ),
    ),
)


def _pair(setting: str) -> tuple[tuple[str, str], tuple[str, str]]:
    return (OURS, setting), (OLD, setting)


def _cases() -> list[Case]:
    return [
        Case("call", OURS, PACED, True),
        Case("call", QUEUE_HANDLER, PACED, True),
        Case("call", OURS, KILLED, True),
        *(Case("take", name, "narrow", True) for name in (OURS, QUEUE_HANDLER, LIMIT)),
        *(Case("take", name, "trace", True) for name in (OURS, LIMIT)),
        Case("busy", OURS, "0.2", True),
        Case("busy", LIMIT, "", True),
        *(
            Case("growth", name, f"{BYTES}, {shape}", True)
            for name in (OURS, OLD)
            for shape in ("functions", "session")
        ),
    ]


def main(folder: Path | None) -> int:
    """Measure, print, and return 1 if a ratio is beyond its bound."""
    results = Results([], {})
    for number in range(ROUNDS):
        for case in _cases():
            try:
                results.add(number, case, run_case(case, folder))
            except Failed as error:
                print(f"{case.question} · {case.rival} · {case.setting}: {error}", file=sys.stderr)
    rows, beyond = [], False
    for bound in BOUNDS:
        found = bound.find(results)
        well = found is not None and found.median <= bound.limit
        beyond |= not well
        rows.append((bound.text, shown(found, ".3f"), f"{bound.limit:g}", "" if well else "BEYOND"))
    print(Table(("ratio", "measured", "bound", ""), rows).text())
    return int(beyond)
