"""Begin a run: its number, its folder, its spool."""

from __future__ import annotations

import asyncio
import os
import platform
from concurrent.futures import Future
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from . import ownership, segments
from .background import Background
from .console import Console
from .errors import PathError, SpoolUnusable
from .handover import hand_over
from .segments import Header
from .spool import Spool, claim_run
from .version import __version__

__all__ = ["begin_run"]


async def begin_run(
    folder: Path, newest_run: int, spool_limit: int, console: Console
) -> tuple[Spool, Header]:
    """
    Make the spool of a new run, in a thread.

    Args:
        folder: The spools of the database; made if it isn't there.
        newest_run: The highest number of a run that the database knows.
        spool_limit: How many bytes the spool may take on the disk.
        console: Hears what is strange.

    Cancelling is safe: the thread throws away what it makes.

    Raises:
        PathError: If it can't be made, and that isn't for want of room, or the folder is somebody else's.

    """
    opener = Background("enginelog-open")
    making = opener.submit(partial(_make_spool, folder, newest_run, spool_limit, console))
    opener.close(timeout=0)  # the thread ends with this job
    try:
        return await hand_over(asyncio.wrap_future(making))
    except BaseException:
        # What has begun goes on in its thread, whoever is cancelled, and however often.
        making.add_done_callback(_throw_away)
        raise


def _throw_away(made: Future[tuple[Spool, Header]]) -> None:
    if not made.cancelled() and made.exception() is None:
        spool, _ = made.result()
        spool.close("not opened", committed=spool.end, timeout=1.0)


def _make_spool(folder: Path, newest_run: int, limit: int, console: Console) -> tuple[Spool, Header]:
    try:
        _claim_folder(folder, console)
        spool, header = _new_run(folder, newest_run, limit)
    except PathError:
        raise
    except OSError as error:
        raise PathError(
            f"{folder}: the spool can't be created: {error.strerror or error}; "
            "the folder of the database must be writable, with room for 48 MiB"
        ) from error
    if spool.fault is not None:
        console.warn(
            "spool",
            f"{folder}: {spool.fault.strerror}; the log is open on the console alone: rows go "
            "there, for `enginelog replay`, until there is room for 48 MiB",
        )
    return spool, header


def _claim_folder(folder: Path, console: Console) -> None:
    try:
        ownership.make_folder(folder)
    except OSError as error:
        if not segments.is_disk_fault(error):
            raise
        return  # made later, once there is room
    if ownership.without_others(folder):
        console.warn("spool folder", f"{folder} could be written to by any account; not any more")
    if why := ownership.strange_folder(folder):
        raise PathError(
            f"{why}. It is left alone: rows in it may be invented. Run the engine as that account, or "
            "look what is in there and remove it"
        )


def _new_run(folder: Path, newest_run: int, limit: int) -> tuple[Spool, Header]:
    for attempt in range(5, 0, -1):
        header = Header(
            run=claim_run(folder, above=newest_run),
            host=platform.node(),
            process_id=os.getpid(),
            version=__version__,
            started=datetime.now(UTC).isoformat(timespec="microseconds"),
        )
        try:
            return Spool(folder, header, limit_bytes=limit, segment_bytes=segments.SEGMENT_BYTES), header
        except SpoolUnusable:
            # Somebody who looks for dead runs holds the new lock for a moment; the next number is free.
            if attempt == 1:
                raise
    raise AssertionError("unreachable")
