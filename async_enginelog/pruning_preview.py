"""Foretell what a pruning would delete, by a few large queries: nobody waits for one that only reads."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from functools import partial

from . import pruning_sql as sql
from .pruning_recordings import Round
from .retention import Fate
from .tables import TABLES, Table

__all__ = ["foretell"]


async def foretell(shared: Round, end: int) -> AsyncIterator[float]:
    """
    Count what a round would delete, within the transaction that is open; it notes there what it needs.

    Args:
        end: The highest LOG_SEQ that is looked at.

    Yields:
        After each step, what share of the work is done.

    Raises:
        StorageError: If the database can't be used now, or there is no room for temporary files.

    """
    steps = [
        *[partial(_read_recordings, shared, table) for table in sql.OF_RECORDINGS],
        partial(_judge_recordings, shared, end),
        *[partial(_judge_lone, shared, end, table) for table in TABLES.values()],
    ]
    for statement in sql.SCRATCH:
        await shared.database.execute(statement)
    for done, step in enumerate(steps, 1):
        await step()
        yield done / len(steps)


async def _read_recordings(shared: Round, table: Table) -> None:
    await shared.database.execute(sql.parts(table))


async def _judge_recordings(shared: Round, end: int) -> None:
    database, limits = shared.database, shared.limits
    await database.execute(sql.FATES, (limits.before, limits.up_to_seq, limits.settled, limits.abandoned))
    await database.execute(sql.GONE, _span(shared, end))
    for name, run, fate, rows in await database.fetch(sql.ROWS_OF_FATES):
        _note(shared, name, run, Fate(fate), rows)
    for fate, recordings in await database.fetch(sql.RECORDINGS_OF_FATES):
        shared.pruned.note_stays(Fate(fate), 0, recordings)
        shared.pruned.recordings += recordings * (Fate(fate) is Fate.GOES)


async def _judge_lone(shared: Round, end: int, table: Table) -> None:
    for run, fate, rows in await shared.database.fetch(sql.lone_fates(table), _span(shared, end)):
        _note(shared, table.name, run, Fate(fate), rows)
        shared.pruned.lone_rows += rows * (Fate(fate) is Fate.GOES)


def _span(shared: Round, end: int) -> tuple[object, ...]:
    return (0, end, *shared.limits[:3])


def _note(shared: Round, table: str, run: int | None, fate: Fate, rows: int) -> None:
    if fate is Fate.GOES:
        shared.pruned.note_rows(table, Counter({run: rows}))
    else:
        shared.pruned.note_stays(fate, rows)
