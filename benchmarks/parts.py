"""
What limits it? What a call and a row can't do without, each part measured alone.

A call that raises for wrong arguments, and whose row survives the process, builds the row, writes it down
with the time, copies it to where the kernel keeps it, and checks it. The writer reads it, gathers it with
others, and inserts it. None of it can be left out, and nearly all of it holds the GIL.

"""

from __future__ import annotations

import asyncio
import mmap
import sqlite3
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import orjson

from async_enginelog.batch import Statement, prepare
from async_enginelog.lines import decode, encoder_of
from async_enginelog.segments import create_segment
from async_enginelog.tables import TABLES

from .call import PACED, SECONDS, paced, prepare_database
from .markdown import Goal, Table, shown
from .results import Case, Figures, Results, Spread, quotient
from .rivals import rival_named
from .rivals.base import Log, Rival
from .rivals.limits import STATEMENT_ROWS, calling, complete
from .rivals.names import LIMIT, NOTHING, OURS, QUEUE_HANDLER
from .rows import NARROW

__all__ = ["CHECKED", "PARTS", "TITLE", "cases", "goals", "measure", "measure_row", "step_named", "tables"]

TITLE = "What limits it?"

CALLS, ROW = "calls", "a row"
# The last step of a call; what is left is to count it.
CHECKED = "… names and types checked"
BATCHES = {True: 100, False: 400}
# Room for all lines of a run.
MAP_BYTES = 128 * 2**20

# What is done to a row, in this order; and the most there could be if no more were.
CALL, DECODE, GATHER, INSERT = "call", "decode", "gather", "bind and insert"
PARTS = (CALL, DECODE, GATHER, INSERT)
MOST = {
    "one part after the other": PARTS,
    "with inserting beside it, for nothing": (CALL, DECODE, GATHER),
}

Columns = dict[str, Any]
Keep = Callable[[Columns], object]


# -- a call: each step does what the one before does, and one thing more ------------------------------


def _write_down(columns: Columns) -> bytes:
    columns["dt_function_message_queued"] = datetime.now(UTC)
    return orjson.dumps((NARROW, columns), None, orjson.OPT_APPEND_NEWLINE)


def _forgotten(lines: mmap.mmap) -> Keep:
    return _write_down


def _into_map(lines: mmap.mmap) -> Keep:
    write = lines.write
    return lambda columns: write(_write_down(columns))


def _checked(lines: mmap.mmap) -> Keep:
    write, encode = lines.write, encoder_of(TABLES[NARROW])
    return lambda columns: write(encode(columns))


STEPS: dict[str, Callable[[mmap.mmap], Keep]] = {
    "… and a line with the time": _forgotten,
    "… into a memory map": _into_map,
    CHECKED: _checked,
}


def _new_map(path: Path) -> mmap.mmap:
    return create_segment(path.with_suffix(".lines"), b"", MAP_BYTES)


@asynccontextmanager
async def _open(step: str, path: Path) -> AsyncIterator[Log]:
    with _new_map(path) as lines:
        yield calling(STEPS[step](lines))


def step_named(name: str) -> Rival:
    """Return what calls as we do, and does no more with a row than a step says; nobody reads the lines."""
    return Rival(name, partial(_open, name), "a part of our call")


# -- a row, from the call to the disk -----------------------------------------------------------------


class _Row:
    """Does all that is done to a row, batch by batch, and takes the CPU time of each part."""

    def __init__(self, lines: mmap.mmap, connection: sqlite3.Connection) -> None:
        self.spent = dict.fromkeys(PARTS, 0)
        self._lines = lines
        self._function = calling(_checked(lines)).function
        self._connection = connection

    async def measure(self, batches: int) -> Figures:
        self._connection.execute("BEGIN IMMEDIATE")
        for first in range(0, batches * STATEMENT_ROWS, STATEMENT_ROWS):
            begin = self._lines.tell()
            begun = time.thread_time_ns()
            for number in range(first, first + STATEMENT_ROWS):
                await self._function(number)
            self.spent[CALL] += time.thread_time_ns() - begun
            data = self._lines[begin : self._lines.tell()]
            rows, _ = self._timed(DECODE, partial(decode, data))
            batch = self._timed(GATHER, partial(prepare, rows))
            self._timed(INSERT, partial(self._insert, first, batch.statements))
        self._timed(INSERT, self._connection.commit)
        rows = batches * STATEMENT_ROWS
        return {part: nanoseconds / rows / 1000 for part, nanoseconds in self.spent.items()}

    def _timed(self, part: str, work: Callable[[], Any]) -> Any:
        begun = time.thread_time_ns()
        done = work()
        self.spent[part] += time.thread_time_ns() - begun
        return done

    def _insert(self, first: int, statements: list[Statement]) -> None:
        for statement in statements:
            self._connection.execute(*complete(statement, first))


def measure_row(path: Path, batches: int) -> Figures:
    """Return the CPU time of each part of a row, in microseconds; batches have 1,024 rows."""
    prepare_database(rival_named(OURS), path)
    with _new_map(path) as lines, closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous = NORMAL")
        return asyncio.run(_Row(lines, connection).measure(batches))


# -- what is measured, and told -----------------------------------------------------------------------


def cases(quick: bool) -> list[Case]:
    """Return what is measured in one round."""
    return [*(Case("parts", step, CALLS, quick) for step in STEPS), Case("parts", OURS, ROW, quick)]


def measure(case: Case, folder: Path) -> Figures:
    """Measure a call that does no more than a step says, or all that is done to a row."""
    if case.setting == ROW:
        return measure_row(folder / "engine_log.db", BATCHES[case.quick])
    return asyncio.run(paced(step_named(case.rival), folder, SECONDS[case.quick]))


def tables(results: Results) -> list[Table]:
    """Return a line for each step of a call, for each part of a row, and for what both allow."""
    steps = [("call", NOTHING, PACED), *(("parts", step, CALLS) for step in STEPS), ("call", OURS, PACED)]
    calls = [
        (step[1], shown(results.spread(*step, "median_us"), ".2f"), shown(_to_queue(results, step), ".2f"))
        for step in steps
    ]
    row = [(part, shown(results.spread("parts", OURS, ROW, part), ".2f")) for part in PARTS]
    most = [
        (what, shown(results.each_round(partial(_most, parts))), shown(_to_limit(results, parts), ".2f"))
        for what, parts in MOST.items()
    ]
    return [
        Table(("a call at 2,000 rows/s", "median, µs", f"to {QUEUE_HANDLER}"), calls),
        Table(("a row of nine columns, saturated", "CPU, µs"), row),
        Table(("at most", "rows/s", f"to {LIMIT}"), most),
    ]


def _to_queue(results: Results, step: tuple[str, str, str]) -> Spread | None:
    question, ours = step[0], step[1:]
    return results.ratio(question, "median_us", ours, (QUEUE_HANDLER, PACED), their_question="call")


def _most(parts: tuple[str, ...], find: Callable[..., Figures]) -> float | None:
    figures = find("parts", OURS, ROW)
    return 1e6 / sum(figures[part] for part in parts) if figures else None


def _to_limit(results: Results, parts: tuple[str, ...]) -> Spread | None:
    return results.each_round(
        lambda find: quotient(_most(parts, find), find("take", LIMIT, "narrow").get("rows_s"))
    )


def goals(results: Results) -> list[Goal]:
    """Return none: this is what the goals of other questions are held against."""
    return []
