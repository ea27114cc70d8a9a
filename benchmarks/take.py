"""
How much can it take? Rows a second to commit, on an idle loop that logs without end.

Others have a turn of the loop every 1,000 rows: who collects rows would else write them all at the end.

"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from async_enginelog.tables import RECORDING_CONFIG, TABLES

from .call import prepare_database
from .markdown import Goal, Table, at_least, shown
from .results import Case, Figures, Results
from .rivals import here, rival_named
from .rivals.base import Log, Rival, count_rows
from .rivals.limits import limit
from .rivals.names import EACH, LIMIT, NOTHING, OURS
from .rows import SHAPES
from .trace import trace_row

__all__ = ["SETTINGS", "TITLE", "cases", "expected_rows", "goals", "measure", "tables"]

TITLE = "How much can it take?"

SETTINGS = ("narrow", "wide", "trace")
ROWS = {True: 60_000, False: 400_000}
# Who is slow logs for so long, in seconds.
SECONDS = {True: 1.0, False: 5.0}
# Looks at the clock once in so many rows, and lets others have a turn of the loop.
LOOK, TURN = 16, 1000


def cases(quick: bool) -> list[Case]:
    """Return what is measured in one round."""
    names = [name for name in here() if name != NOTHING]
    found = []
    for setting in SETTINGS:
        found += [Case("take", name, setting, quick) for name in names]
        found.append(Case("take", LIMIT, setting, quick))
    return found


def measure(case: Case, folder: Path) -> Figures:
    """Measure a rival, or the limit."""
    path, rows = folder / "engine_log.db", ROWS[case.quick]
    if case.rival == LIMIT:
        prepare_database(rival_named(OURS), path)
        seconds, cpu = limit(path, case.setting, rows)
        return {"rows_s": rows / seconds, "cpu_us": cpu / rows * 1e6, "lost": 0.0}
    rival = rival_named(case.rival)
    prepare_database(rival, path)
    return asyncio.run(saturated(rival, path, case.setting, rows, SECONDS[case.quick]))


async def saturated(rival: Rival, path: Path, setting: str, rows: int, patience: float) -> Figures:
    """Log rows without end; the time is that to the last commit."""
    async with rival.open(path) as log:
        begun, cpu = time.perf_counter(), time.process_time()
        logged = await _log(log, setting, rows, begun + patience)
    seconds, cpu = time.perf_counter() - begun, time.process_time() - cpu
    lost = 1 - count_rows(path) / (expected_rows(rival, logged) if setting == "trace" else logged)
    return {"rows_s": logged * (1 - lost) / seconds, "cpu_us": cpu / logged * 1e6, "lost": lost}


async def _log(log: Log, setting: str, rows: int, deadline: float) -> int:
    function, row = log.awaitable()
    shape = None if setting == "narrow" else SHAPES[setting]  # of which each rival has a call of its own
    for number in range(1, rows + 1):
        await (row(*shape(number)) if shape else function(number))
        if number % LOOK == 0 and time.perf_counter() > deadline:
            return number
        if number % TURN == 0:
            await asyncio.sleep(0)
    return rows


def expected_rows(rival: Rival, logged: int) -> int:
    """Return how many rows a database should have of so many of the trace: some speak of one thing."""
    if rival.own_tables:
        return logged
    merged = {name: table.key for name, table in TABLES.items() if table.key}
    if rival.name != OURS:  # see insert_sql()
        merged = {RECORDING_CONFIG.name: RECORDING_CONFIG.key}
    made = [trace_row(number) for number in range(1, logged + 1)]
    things = {(name, *(columns.get(key) for key in merged[name])) for name, columns in made if name in merged}
    return len(things) + sum(name not in merged for name, _ in made)


def tables(results: Results) -> list[Table]:
    """Return a line for each rival."""
    columns = ("rows/s to commit", *(f"{setting}{_width(setting)}" for setting in SETTINGS))
    rows = [
        [name, *(_cell(results, name, setting) for setting in SETTINGS), _lost(results, name)]
        for name in results.rivals("take")
    ]
    return [Table((*columns, "lost"), rows)]


def _width(setting: str) -> str:
    return {"narrow": " (9 columns)", "wide": " (20 of 48 columns)", "trace": " (a real session)"}[setting]


def _cell(results: Results, name: str, setting: str) -> str:
    found = results.spread("take", name, setting, "rows_s")
    share = results.ratio("take", "rows_s", (name, setting), (LIMIT, setting))
    if found is None or share is None or name == LIMIT:
        return shown(found)
    return f"{shown(found)}, {share.median:.0%} of the limit"


def _lost(results: Results, name: str) -> str:
    found = [results.spread("take", name, setting, "lost") for setting in SETTINGS]
    most = max((spread.median for spread in found if spread), default=0.0)
    return f"{most:.0%}" if most > 0.0005 else ""


def goals(results: Results) -> list[Goal]:
    """Return what was hoped for."""
    found = []
    for setting in SETTINGS:
        ours = (OURS, setting)
        found += [
            at_least(
                f"{setting}: at least 0.5 of the limit",
                0.5,
                results.ratio("take", "rows_s", ours, (LIMIT, setting)),
            ),
            at_least(
                f"{setting}: at least 50 times aiosqlite execute+commit",
                50.0,
                results.ratio("take", "rows_s", ours, (EACH, setting)),
                ".0f",
            ),
        ]
    return found
