"""Prune a log: delete what is old, in steps so small that no writer waits, and give the room back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from datetime import datetime

from . import pruning_sql as sql
from .database import Database
from .pruning_preview import foretell
from .pruning_recordings import LOOK_ROWS, Pause, Recordings, Round, list_of
from .retention import Fate, Keep, Pruned, Room, limits_of, rows_that_fit
from .tables import Table

__all__ = ["INCREMENTAL", "Pruning"]

# So many runs are deleted in one transaction.
STEP_RUNS = 100
# So many pages are given back in one: a page at the end of the file moves to one that is free.
STEP_PAGES = 200

# What PRAGMA auto_vacuum says if room can be given back in steps.
INCREMENTAL = 2


class Pruning:
    """
    One round through a log.

    Args:
        database: The log. For a dry run, one that reads only will do.
        keep: What is kept.
        now: The present time, aware.
        as_stored: Turns an ISO 8601 time in UTC into the text that is stored.
        pause: Called after each step: then the connection is free for others, and not in a transaction
            (in a dry run, it is in one that reads).
        dry_run: Whether to only tell what would go. It looks at all of the log in a few large steps.
        patience: After so many thousand rows of a table of which none is old, the rest isn't looked at:
            rows come nearly in the order of their times. :obj:`None` looks at all.
        spooled: Runs that have files in the spool; they stay.

    Attributes:
        pruned: What went so far.
        rows: How many rows there were at the beginning; ``looked_at`` of them are done.

    """

    def __init__(
        self,
        database: Database,
        keep: Keep,
        now: datetime,
        as_stored: Callable[[str], str],
        *,
        pause: Pause,
        dry_run: bool = False,
        patience: int | None = None,
        spooled: Collection[int] = (),
    ) -> None:
        self._database = database
        self._keep = keep
        self._round = Round(database, limits_of(keep, now, as_stored), pause)
        self._recordings = Recordings(self._round)
        self._pause = pause
        self._dry_run = dry_run
        self._patience = patience
        self._spooled = spooled
        # The highest LOG_SEQ that is looked at.
        self._end = 0
        self.rows = self.looked_at = 0

    @property
    def pruned(self) -> Pruned:
        """What went so far."""
        return self._round.pruned

    async def run(self) -> Pruned:
        """
        Prune, and return what went.

        May be cancelled in any step, and the process may die in any: all is whole, and the next round
        goes on. After a cancellation the connection may be in a transaction; throw it away.

        Raises:
            StorageError: If the database can't be used now.

        """
        if self._dry_run:
            return await self._foretell()
        await self._begin()
        await self._find_horizon()
        await self._recordings.finish()
        await self._walk_all()
        await self._prune_runs()
        await self._give_room_back()
        return self.pruned

    async def _foretell(self) -> Pruned:
        # One transaction: all is told of one moment.
        await self._database.execute("BEGIN")
        await self._begin()
        await self._find_horizon()
        async for share in foretell(self._round, self._end):
            self.looked_at = int(self.rows * share)
            await self._pause()
        self.pruned.runs = len(await self._empty_runs(self.pruned.of_runs))
        await self._database.execute("ROLLBACK")
        return self.pruned

    async def room(self) -> Room:
        """Return how large the file is."""
        [(page_bytes,)] = await self._database.fetch("PRAGMA page_size")
        [(pages,)] = await self._database.fetch("PRAGMA page_count")
        [(trees,)] = await self._database.fetch("SELECT count(*) FROM sqlite_schema WHERE rootpage > 0")
        used = pages - await self._free_pages()
        return Room(pages * page_bytes, used * page_bytes, trees * page_bytes)

    async def can_give_back(self) -> bool:
        """Tell whether the file becomes smaller; one that was made without ``auto_vacuum`` doesn't."""
        [(kind,)] = await self._database.fetch("PRAGMA auto_vacuum")
        return bool(kind == INCREMENTAL)

    async def _begin(self) -> None:
        await self._round.begin()
        [(self.rows, self._end)] = await self._database.fetch(
            "SELECT coalesce(sum(ROWS_STORED), 0), coalesce(max(LAST_LOG_SEQ), 0) FROM ENGINE_LOG_RUN"
        )
        if self._patience is not None and self._round.watermark is not None:
            # Who only wants to delete needn't look at what must stay.
            self._end = min(self._end, self._round.watermark)

    async def _find_horizon(self) -> None:
        """Find the LOG_SEQ up to which rows are old by their number."""
        left = self.rows - rows_that_fit(self._keep, self.rows, await self.room())
        horizon = 0
        while left > 0 and horizon < self._end:
            count = min(left, LOOK_ROWS)
            found = await self._database.fetch(sql.NEXT_SEQS, (horizon, count - 1))
            await self._pause()
            if not found:
                break
            horizon, left = found[0][0], left - count
        self._round.limits = self._round.limits._replace(up_to_seq=horizon)
        if self._keep.age is None:
            self._end = min(self._end, horizon)

    # -- all rows, in the order of LOG_SEQ ------------------------------------------------------

    async def _walk_all(self) -> None:
        for table in sql.OF_RECORDINGS:
            await self._walk(table)
        await self._recordings.delete_group()
        for table in sql.LONE:
            await self._walk(table)

    async def _walk(self, table: Table) -> None:
        after = without = 0
        while self._patience is None or without < self._patience:
            [(last,)] = await self._database.fetch(sql.window(table), (after, LOOK_ROWS, self._end))
            if last is None:
                return
            span = (after, last, *self._round.limits[:3])
            found = await self._database.fetch(sql.survey(table), span)
            await self._pause()
            await self._take_lone(table, span, [row for row in found if row[0] is None])
            await self._recordings.judge({row[0] for row in found} - {None})
            self.looked_at = min(self.rows, self.looked_at + LOOK_ROWS)
            without = 0 if found else without + 1
            after = last

    async def _take_lone(
        self, table: Table, span: tuple[object, ...], found: Sequence[tuple[None, int | None, str, int]]
    ) -> None:
        """Delete rows that belong to no recording."""
        for _, _, fate, rows in found:
            self.pruned.note_stays(Fate(fate), rows)
        if any(Fate(fate) is Fate.GOES for _, _, fate, _ in found):
            self.pruned.lone_rows += await self._round.delete(table, sql.delete_lone(table), span)
            await self._database.commit()
            await self._pause()

    # -- runs and room --------------------------------------------------------------------------

    async def _prune_runs(self) -> None:
        """Delete runs that are old and have no rows any more."""
        empty = await self._empty_runs(Counter())
        await self._pause()
        for first in range(0, len(empty), STEP_RUNS):
            await self._delete_runs(empty[first : first + STEP_RUNS])
            await self._pause()

    async def _empty_runs(self, going: Counter[int | None]) -> list[int]:
        """Return the runs that may go once so many rows of each are gone."""
        limits = self._round.limits
        found = await self._database.fetch(sql.EMPTY_RUNS, (limits.before, limits.up_to_seq))
        return [run for run, rows in found if rows == going[run] and run not in self._spooled]

    async def _delete_runs(self, runs: Sequence[int]) -> None:
        gone = [run for (run,) in await self._database.fetch(sql.DELETE_RUNS, (list_of(runs),))]
        await self._database.execute(sql.DELETE_REPLAYED, (list_of(gone),))
        await self._database.commit()
        self.pruned.runs += len(gone)

    async def _free_pages(self) -> int:
        [(free,)] = await self._database.fetch("PRAGMA freelist_count")
        return int(free)

    async def _give_room_back(self) -> None:
        if not await self.can_give_back():
            return
        free, before = await self._free_pages(), 0
        while free and free != before:
            # As a script: execute() of sqlite3 ends after the first page.
            await self._database.run_script(f"PRAGMA incremental_vacuum({STEP_PAGES})")
            await self._pause()
            before, free = free, await self._free_pages()
