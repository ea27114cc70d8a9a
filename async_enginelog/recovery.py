"""Commit what dead runs left in their spools, each row exactly once, under their own run."""

from __future__ import annotations

from pathlib import Path

from .committer import Committer, OffLoop
from .console import Console
from .database import Database
from .errors import StorageError
from .leftovers import Leftover, is_alive, runs_in, take_leftover
from .segments import Position

__all__ = ["recover_dead_runs"]

# Rows in a transaction.
BATCH_ROWS = 8192


async def recover_dead_runs(
    database: Database,
    folder: Path,
    own_run: int,
    committer: Committer,
    off_loop: OffLoop,
    console: Console,
) -> int:
    """
    Commit what dead runs left, and mark them as crashed at their last sign of life.

    Safe while other processes do the same: the lock of a run is held meanwhile, and how far its
    spool is committed stands in the transaction of its rows.

    Returns:
        The number of rows that were committed.

    Raises:
        StorageError: If the database can't be used now; do it again later.

    """
    recovered = 0
    for run in await off_loop(lambda: runs_in(folder)):
        if run == own_run:
            continue
        try:
            recovered += await _recover(database, folder, run, committer, off_loop)
        except StorageError:
            raise
        except OSError as error:  # of its files: the others, and the rows of this run, don't wait for it
            console.warn("leftover", f"{folder}: what run {run} left can't be read now: {error}")
    for run in await database.open_runs():
        if run != own_run and not await off_loop(lambda run=run: is_alive(folder, run)):  # type: ignore[misc]
            await database.end_run(run, "crashed", None)
    return recovered


async def _recover(
    database: Database, folder: Path, run: int, committer: Committer, off_loop: OffLoop
) -> int:
    leftover = await off_loop(lambda: take_leftover(folder, run))
    if leftover is None:
        return 0
    done = False
    try:
        recovered = await _commit_leftover(database, leftover, committer, off_loop)
        await database.end_run(run, "crashed", None)
        done = True
        return recovered
    finally:
        await off_loop(lambda: leftover.let_go(remove=done))


async def _commit_leftover(
    database: Database, leftover: Leftover, committer: Committer, off_loop: OffLoop
) -> int:
    header = await off_loop(leftover.header)
    sign_of_life = await off_loop(leftover.last_sign_of_life)
    progress = await database.progress_of(leftover.run)
    position = progress.position if progress else Position(1, 0)
    recovered = 0
    while True:
        start = position
        data, position = await off_loop(lambda start=start: leftover.read(start, BATCH_ROWS))  # type: ignore[misc]
        if not data:
            return recovered
        state = committer.state(header, position, sign_of_life=sign_of_life)
        recovered += (await committer.commit(database, data, state)).rows
