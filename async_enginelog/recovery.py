"""Commit what dead runs left in their spools, each row exactly once, under their own run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .committer import Committer, OffLoop
from .console import Console
from .database import Database, DeadRun
from .errors import StorageError
from .leftovers import Leftover, is_alive, runs_in, take_leftover
from .segments import Position
from .unfinished import LeftOpen, count_left_open

__all__ = ["recover_dead_runs"]

# Rows in a transaction.
BATCH_ROWS = 8192

# So many runs that died are told of one by one.
TOLD_RUNS = 3
LIST = "`enginelog runs`"


async def recover_dead_runs(
    database: Database,
    folder: Path,
    own_run: int,
    committer: Committer,
    off_loop: OffLoop,
    console: Console,
) -> int:
    """
    Commit what dead runs left, mark them as crashed at their last sign of life, and tell of them.

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
    dead = [
        run
        for run in await database.open_runs()
        if run != own_run and not await off_loop(lambda run=run: is_alive(folder, run))  # type: ignore[misc]
    ]
    if dead:
        await _tell(database, sorted(await database.end_dead_runs(dead)), console)
    return recovered


async def _recover(
    database: Database, folder: Path, run: int, committer: Committer, off_loop: OffLoop
) -> int:
    leftover = await off_loop(lambda: take_leftover(folder, run))
    if leftover is None:
        return 0
    try:
        recovered = await _commit_leftover(database, leftover, committer, off_loop)
    except GeneratorExit:
        # The loop was closed under the task: nobody is left to wait for a thread.
        leftover.let_go(remove=False)
        raise
    except BaseException:
        await off_loop(lambda: leftover.let_go(remove=False))
        raise
    await off_loop(lambda: leftover.let_go(remove=True))
    return recovered


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
        state = committer.state(header, start, position, sign_of_life=sign_of_life)
        recovered += (await committer.commit(database, data, state)).rows


async def _tell(database: Database, died: Sequence[DeadRun], console: Console) -> None:
    """Warn of runs that died, oldest first: of the last with what they left open, of the others how many."""
    told, others = died[-TOLD_RUNS:], len(died[:-TOLD_RUNS])
    left: dict[int, LeftOpen] = {}
    try:
        left = await count_left_open(database, [dead.run for dead in told])
    finally:
        # Also if the database fails now: they are marked, so the next recovery doesn't find them.
        for dead in told:
            console.warn(f"died {dead.run}", f"{_named(dead)} died{_what(left.get(dead.run))}; see {LIST}")
        if others:
            console.warn("died", f"{others:,} more {'run' if others == 1 else 'runs'} died; see {LIST}")


def _named(dead: DeadRun) -> str:
    known = dead.process_id and dead.host
    return f"run {dead.run} (process {dead.process_id} on {dead.host})" if known else f"run {dead.run}"


def _what(left: LeftOpen | None) -> str:
    """Return the words for what a run left open, if that is known."""
    if left is None:
        return ""
    counts = (left.connection_count, "connection"), (left.recording_count, "recording")
    things = [f"{count:,} {noun if count == 1 else noun + 's'}" for count, noun in counts if count]
    return f"; it left {' and '.join(things) or 'nothing'} open"
