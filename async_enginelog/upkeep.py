"""Keep a log within its limits while its engine runs: when to prune, and how gently."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from .committer import OffLoop
from .console import Console
from .database import Database
from .leftovers import runs_in
from .pruning import Pruning
from .pruning_sql import NEWEST
from .retention import Keep, Pruned, Room
from .watermarks import Watermark, read_watermarks

__all__ = ["Clock", "Upkeep"]

# From the end of a round to the next, in seconds.
ROUND = 60.0
# After so many thousand rows of a table without an old one, a round looks at the next table.
PATIENCE = 5
# Between two steps the writer has the connection for so many times as long as the step took, in any case so
# many seconds.
SHARE = 9.0
SHORTEST = 0.005

# A log that has grown to so many times the size that it may have is told of.
ALARM = 2

# A watermark that keeps rows and hasn't moved for so long is told of, once.
STALE = timedelta(days=1)


# A clock that is set ahead by more than this while the engine runs isn't believed: what is new would go.
TRUST = timedelta(hours=1)


class Clock:
    """
    The time of day, as far as an engine can believe it: never far ahead of the time that has passed.

    Where a machine sleeps, its time may not pass; then rows go later, but never too early.

    """

    def __init__(self, now: datetime, monotonic: float) -> None:
        self._began = now
        self._monotonic = monotonic

    def believed(self, now: datetime, monotonic: float) -> datetime:
        """Return the present time: ``now``, unless the clock was set ahead."""
        passed = timedelta(seconds=monotonic - self._monotonic)
        return min(now, self._began + passed + TRUST)


class Upkeep:
    """
    Prune the log of a running engine, a round a minute.

    Args:
        keep: What is kept.
        as_stored: Turns an ISO 8601 time in UTC into the text that is stored.
        folder: The spools of the log.
        off_loop: Runs what may wait for a disk.
        console: Where is told what keeps rows too long.

    Attributes:
        pruned_rows: How many rows went so far, in all rounds, those included that were broken off.

    """

    def __init__(
        self, keep: Keep, as_stored: Callable[[str], str], folder: Path, off_loop: OffLoop, console: Console
    ) -> None:
        self._keep = keep
        self._as_stored = as_stored
        self._folder = folder
        self._off_loop = off_loop
        self._console = console
        self._clock = Clock(datetime.now(UTC), time.monotonic())
        # When the next round is due, in the time of the loop.
        self._due = 0.0
        self.pruned_rows = 0
        self._told_of: set[Watermark] = set()

    @property
    def delay(self) -> float:
        """How long it is to the next round, in seconds."""
        return max(0.0, self._due - asyncio.get_running_loop().time())

    async def round(self, database: Database, give_way: Callable[[float], Awaitable[None]]) -> Pruned:
        """
        Prune once, and return what went.

        Args:
            give_way: Called after each step, with the seconds for which the connection is to be the writer's.

        Raises:
            StorageError: If the database can't be used now; the next round is due in a minute.

        """
        loop = asyncio.get_running_loop()
        self._due = loop.time() + ROUND
        began = loop.time()
        earlier = self.pruned_rows

        async def pause() -> None:
            nonlocal began
            # Here all that was deleted is committed.
            self.pruned_rows = earlier + pruning.pruned.rows
            await give_way(max(SHORTEST, SHARE * (loop.time() - began)))
            began = loop.time()

        spooled = await self._off_loop(lambda: runs_in(self._folder))
        pruning = Pruning(
            database,
            self._keep,
            self._clock.believed(datetime.now(UTC), time.monotonic()),
            self._as_stored,
            pause=pause,
            patience=PATIENCE,
            spooled=spooled,
        )
        pruned = await pruning.run()
        await self._tell_of_watermarks(database)
        self._tell_of_size(database.path, await pruning.room())
        self._due = loop.time() + ROUND
        return pruned

    def _tell_of_size(self, path: Path, room: Room) -> None:
        """Tell of a log that takes far more room than it may, and when that is over."""
        most = self._keep.file_bytes
        if most is None:
            return
        if room.used_bytes > ALARM * most:
            self._console.warn(
                "file_bytes",
                f"{path} has {room.used_bytes:,} bytes in use, keep allows {most:,}: recordings that go "
                "on, rows of the last minute and what a watermark keeps stay; see enginelog prune --dry-run",
            )
        elif room.used_bytes <= most:
            self._console.works_again("file_bytes", f"{path} is back to {room.used_bytes:,} bytes")

    async def _tell_of_watermarks(self, database: Database) -> None:
        [(newest,)] = await database.fetch(NEWEST)
        for watermark in await read_watermarks(database):
            if watermark.is_stale(newest, datetime.now(UTC), STALE) and watermark not in self._told_of:
                self._told_of.add(watermark)
                self._console.warn(
                    f"watermark {watermark.name}",
                    f"{database.path}: nothing above LOG_SEQ {watermark.log_seq:,} is pruned, as the "
                    f"watermark {watermark.name} hasn't moved since {watermark.moved[:19]}; see "
                    "`enginelog watermark`",
                )
