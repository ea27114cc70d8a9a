"""
What a salvage tells: what was saved and what is lost, to the user and in the fresh file itself.

"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterable
from contextlib import closing
from datetime import UTC, datetime
from typing import NamedTuple

from .shapes import Shape
from .values import time_text

__all__ = ["LOST_WATERMARK", "Saved", "settle"]

RUNS = "ENGINE_LOG_RUN"
WATERMARKS = "ENGINE_LOG_WATERMARK"

# Stands for watermarks that may be lost: it keeps all rows, until somebody who knows drops it.
LOST_WATERMARK = "lost-in-salvage"

_NEW_RUN = """
INSERT INTO ENGINE_LOG_RUN (ENGINE_RUN_ID, HOW_ENDED, ROWS_ACCEPTED, ROWS_COMMITTED, LAST_LOG_SEQ)
VALUES (?1, iif(?2, NULL, 'crashed'), ?3, ?3, ?4)
"""

# What is lost is told once, by the salvage; from now on the counts tell what is changed since.
_COUNTS = """
UPDATE ENGINE_LOG_RUN SET ROWS_STORED = ?2, LAST_LOG_SEQ = max(LAST_LOG_SEQ, ?3), ROWS_REPLAYED = (
    SELECT count(*) FROM ENGINE_LOG_REPLAYED AS REPLAYED
    WHERE REPLAYED.ENGINE_RUN_ID = ENGINE_LOG_RUN.ENGINE_RUN_ID
) WHERE ENGINE_RUN_ID = ?1
"""


class Saved(NamedTuple):
    """
    What was saved of a damaged database.

    Attributes:
        rows: How many rows of the log.
        lost: How many rows of the log are lost; :obj:`None` if that isn't known.
        missing: How many LOG_SEQ up to the highest that is left have no row, merged and pruned ones, too.
        lost_runs: Runs that only their rows tell of.
        damaged: Other tables of which something may be lost.

    """

    rows: int
    lost: int | None
    missing: int = 0
    lost_runs: int = 0
    damaged: tuple[str, ...] = ()

    def __str__(self) -> str:
        if self.lost is None:
            lost = (
                f"how many are lost isn't known, as {RUNS} is damaged, too (of the LOG_SEQ up to the highest "
                f"that is left, {self.missing:,} have no row, merged and pruned ones among them)"
            )
        else:
            lost = f"{self.lost:,} are lost"
        text = f"{self.rows:,} rows are saved, {lost}"
        if self.lost_runs:
            runs = "1 run" if self.lost_runs == 1 else f"{self.lost_runs:,} runs"
            text += f"; of {runs} nothing else is left"
        if others := [table for table in self.damaged if table != RUNS]:
            text += f"; of {', '.join(others)} something may be lost"
        if WATERMARKS in self.damaged:
            text += f", so the watermark {LOST_WATERMARK} keeps all rows until you drop it"
        return text


class _Rows(NamedTuple):
    """The rows of a run that are there, and the highest LOG_SEQ of them."""

    number: int
    newest: int


def settle(
    database: sqlite3.Connection,
    tables: Iterable[Shape],
    damaged: Collection[str],
    spools: Collection[int],
    aside: str,
) -> Saved:
    """
    Have a fresh file agree with what was saved in it, and note the salvage there.

    Args:
        database: The fresh file.
        tables: Its tables.
        damaged: Those that aren't the log's and of which something may be lost.
        spools: Runs that have a spool, and so aren't over.
        aside: The name of the damaged file.

    """
    rows = _rows_by_run(database, tables)
    stored: dict[int, int] = dict(database.execute("SELECT ENGINE_RUN_ID, ROWS_STORED FROM ENGINE_LOG_RUN"))
    told_of = rows.keys() | (_replayed_runs(database) if RUNS in damaged else set())
    lost_runs = told_of - stored.keys()
    for run in lost_runs:
        count, newest = rows.get(run, _Rows(0, 0))
        database.execute(_NEW_RUN, (run, run in spools, count, newest))
    for run in stored.keys() | lost_runs:
        database.execute(_COUNTS, (run, *rows.get(run, _Rows(0, 0))))
    known = RUNS not in damaged and not lost_runs
    saved = Saved(
        rows=(total := sum(found.number for found in rows.values())),
        lost=sum(max(0, stored[run] - rows.get(run, _Rows(0, 0)).number) for run in stored)
        if known
        else None,
        missing=max(0, _newest(database) - total),
        lost_runs=len(lost_runs),
        damaged=tuple(sorted(damaged)),
    )
    _note(database, saved, aside)
    return saved


def _note(database: sqlite3.Connection, saved: Saved, aside: str) -> None:
    now = time_text(datetime.now(UTC).isoformat(timespec="microseconds"))
    if WATERMARKS in saved.damaged:
        database.execute(
            "INSERT OR REPLACE INTO ENGINE_LOG_WATERMARK VALUES (?, 0, ?)", (LOST_WATERMARK, now)
        )
    damaged = " ".join(saved.damaged) or None
    database.execute(
        "INSERT INTO ENGINE_LOG_SALVAGE VALUES (?, ?, ?, ?, ?)",
        (now, aside[:255], saved.rows, saved.lost, damaged),
    )


def _replayed_runs(database: sqlite3.Connection) -> set[int]:
    return {run for (run,) in database.execute("SELECT DISTINCT ENGINE_RUN_ID FROM ENGINE_LOG_REPLAYED")}


def _newest(database: sqlite3.Connection) -> int:
    [(newest,)] = database.execute("SELECT coalesce(max(LAST_LOG_SEQ), 0) FROM ENGINE_LOG_RUN")
    return int(newest)


def _rows_by_run(database: sqlite3.Connection, tables: Iterable[Shape]) -> dict[int, _Rows]:
    runs: dict[int, _Rows] = {}
    for table in tables:
        if not table.is_of_log:
            continue
        with closing(
            database.execute(
                f"SELECT ENGINE_RUN_ID, count(*), coalesce(max(LOG_SEQ), 0) FROM {table.name} "  # noqa: S608  # names of our own tables
                "WHERE ENGINE_RUN_ID IS NOT NULL GROUP BY 1"
            )
        ) as found:
            for run, count, newest in found:
                before = runs.get(run, _Rows(0, 0))
                runs[run] = _Rows(before.number + count, max(before.newest, newest))
    return runs
