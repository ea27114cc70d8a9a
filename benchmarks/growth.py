"""What does it cost as it grows? Inserting, following, reading back and verifying; and bytes a row."""

from __future__ import annotations

import asyncio
import sqlite3
import statistics
import subprocess
import sys
import time
from array import array
from collections.abc import Iterable
from contextlib import closing
from operator import truediv
from pathlib import Path
from typing import Any

from async_enginelog import EngineLog, reading
from async_enginelog.tables import TABLES

from .markdown import Goal, Table, at_least, at_most, shown
from .results import Case, Figures, Results
from .rivals.names import OLD, OURS
from .rivals.ours import methods_of
from .rivals.sqlite import make_old_tables
from .rows import NARROW, insert_sql, narrow_row, stored_values
from .trace import session, trace_row

__all__ = ["TITLE", "cases", "goals", "measure", "tables", "write_old_file"]

TITLE = "What does it cost as it grows?"

GROWING, BYTES = "growing", "bytes a row"
# How many rows are logged before the figures are taken.
SIZES = {True: (10_000, 200_000), False: (10_000, 100_000, 1_000_000, 10_000_000)}
# The insert rate is the median of so many chunks of so many rows, in turns with an empty database: so
# what disturbs the machine for minutes doesn't look like growth. A chunk has room for several checkpoints, as
# each pays for them. The empty one gets some rows before, which aren't timed: its threads and statements
# should be as warm as those of the large one.
CHUNKS, CHUNK, WARM_UP = 5, 50_000, 10_000
BYTES_ROWS = 20_000
READS = 20


def cases(quick: bool) -> list[Case]:
    """Return what is measured in one round."""
    return [Case("growth", OURS, GROWING, quick)] + [
        Case("growth", name, f"{BYTES}, {shape}", quick)
        for name in (OURS, OLD)
        for shape in ("functions", "session")
    ]


def measure(case: Case, folder: Path) -> Figures:
    """Let a database grow, or weigh one."""
    path = folder / "engine_log.db"
    if case.setting == GROWING:
        return asyncio.run(_grow(path, SIZES[case.quick]))
    rows = _rows(case.setting)
    if case.rival == OLD:
        write_old_file(path, rows)
    else:
        asyncio.run(_write_ours(path, rows))
    return {"bytes": path.stat().st_size / BYTES_ROWS}


# -- growing ----------------------------------------------------------------------------------------


async def _grow(path: Path, sizes: Iterable[int]) -> Figures:
    curve = []
    number = 0
    for size in sizes:
        async with EngineLog(path, timeout=600) as log:
            number = await _log_trace(log, number, size)
            here, empty = array("d"), array("d")
            for chunk in range(CHUNKS):
                here.append(await _rate(log, number))
                number += CHUNK
                async with EngineLog(path.with_name(f"empty-{size}-{chunk}.db"), timeout=60) as other:
                    empty.append(await _rate(other, await _log_trace(other, 0, WARM_UP)))
            tail, recording = await _tail(path), await _read_back(path)
        curve.append(
            {
                "rows": size,
                "rows_s": statistics.median(here),
                "of_empty": statistics.median(map(truediv, here, empty)),
                "tail_ms": tail,
                "recording_ms": recording,
                "verify_s": _verify(path),
                "mib": path.stat().st_size / 2**20,
            }
        )
    return {"curve": curve}


async def _rate(log: EngineLog, first: int) -> float:
    """Return rows a second to commit, over a chunk."""
    begun = time.perf_counter()
    await _log_trace(log, first, first + CHUNK)
    return CHUNK / (time.perf_counter() - begun)


async def _log_trace(log: EngineLog, first: int, end: int) -> int:
    methods = methods_of(log)
    for number in range(first, end):
        table, columns = trace_row(number)
        await methods[table](**columns)
    await log.flush()
    return max(first, end)


async def _tail(path: Path) -> float:
    """Return how long it takes to ask for what is new, in milliseconds; who follows stays connected."""
    took = []
    async with reading.open_database(path) as database:
        newest = await reading.newest_log_seq(database)
        for number in range(READS):
            begun = time.perf_counter()
            await reading.rows_up_to(
                database, TABLES.values(), after=newest - 10 - number, up_to=newest, recording=None
            )
            took.append(time.perf_counter() - begun)
    return statistics.median(took) * 1000


async def _read_back(path: Path) -> float:
    """
    Return how long it takes at most to read the recording of a session back, in milliseconds.

    It is of some 200 rows, each time those of another session, through a connection that was just opened, as
    that of a command is; opening it isn't timed. The operating system may have the file in memory.

    """
    recording = next(columns["recording_id"] for _, columns in session() if columns.get("recording_id"))
    took = []
    for number in range(READS):
        async with reading.open_database(path) as database:
            sessions = max(1, await reading.newest_log_seq(database) // len(session()))
            wanted = recording + 1000 * (number * 7919 % sessions)
            begun = time.perf_counter()
            for table in TABLES.values():
                if "recording_id" in table.columns:
                    await database.fetch(f"SELECT * FROM {table.name} WHERE RECORDING_ID = ?", (wanted,))
            took.append(time.perf_counter() - begun)
    return max(took) * 1000


def _verify(path: Path) -> float:
    begun = time.perf_counter()
    command = [sys.executable, "-m", "async_enginelog", "verify", str(path)]
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - begun


# -- bytes a row ------------------------------------------------------------------------------------

_Rows = list[tuple[str, dict[str, Any]]]


def _rows(setting: str) -> _Rows:
    make = trace_row if "session" in setting else narrow_row
    return [make(number) for number in range(BYTES_ROWS)]


async def _write_ours(path: Path, rows: _Rows) -> None:
    async with EngineLog(path, timeout=60) as log:
        methods = methods_of(log)
        for table, columns in rows:
            await methods[table](**columns)


def write_old_file(path: Path, rows: _Rows) -> None:
    """
    Write each row as a row of its own, as the old engine did; at once, which makes the same file.

    It told its functions' rows when they were added; its file of a real session says so.

    """
    make_old_tables(path)
    with closing(sqlite3.connect(path)) as connection:
        for table, columns in rows:
            if table == NARROW:
                columns = {"dt_added": columns["dt_function_message_queued"], **columns}
            connection.execute(insert_sql(table, tuple(columns)), stored_values(columns))
        connection.commit()


# -- what is told -----------------------------------------------------------------------------------


def _of_size(results: Results, size: int, figure: str) -> Any:
    def find(found: Any) -> float | None:
        curve = found("growth", OURS, GROWING).get("curve", [])
        return next((point[figure] for point in curve if point["rows"] == size), None)

    return results.each_round(find)


def _sizes(results: Results) -> list[int]:
    curves = results.values("growth", OURS, GROWING, "curve")
    return [point["rows"] for point in curves[0]] if curves else []


def tables(results: Results) -> list[Table]:
    """Return a line for each size, and the bytes a row."""
    forms = {
        "rows_s": ",.0f",
        "of_empty": ".2f",
        "tail_ms": ".1f",
        "recording_ms": ".1f",
        "verify_s": ".1f",
        "mib": ",.0f",
    }
    rows = [
        [f"{size:,}", *(shown(_of_size(results, size, figure), form) for figure, form in forms.items())]
        for size in _sizes(results)
    ]
    head = (
        "rows logged before",
        "rows/s to commit",
        "of an empty one",
        "what is new, ms",
        "a session's recording read back, ms at most",
        "verify, s",
        "MiB",
    )
    shapes = ("functions", "session")
    weights = [
        [name, *(shown(results.spread("growth", name, f"{BYTES}, {shape}", "bytes")) for shape in shapes)]
        for name in (OURS, OLD)
    ]
    return [
        Table(head, rows),
        Table(("bytes in the file for each row logged", "rows of functions", "a session"), weights),
    ]


def goals(results: Results) -> list[Goal]:
    """Return what was hoped for."""
    sizes = _sizes(results)
    if not sizes:
        return []
    largest = sizes[-1]
    backs = [spread for size in sizes if (spread := _of_size(results, size, "recording_ms"))]
    found = [
        at_least(
            f"insert rate at {largest:,} rows at least 0.9 of empty",
            0.9,
            _of_size(results, largest, "of_empty"),
        ),
        at_most("a recording read back in under 50 ms at any size", 50.0, max(backs, default=None), ".1f"),
    ]
    for shape in ("functions", "session"):
        setting = f"{BYTES}, {shape}"
        ratio = results.ratio("growth", "bytes", (OURS, setting), (OLD, setting))
        found.append(at_most(f"bytes a row below the old file's: {shape}", 1.0, ratio))
    return found
