"""``enginelog backup``: a copy of the database, made while the engine writes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from .. import reading
from ..errors import PathError
from ..ownership import create_file
from ..segments import size_of
from .common import DatabaseArgument, complain, database_path, harmless, progress_bar, run, say
from .spools import spool_runs

__all__ = ["backup"]


def backup(
    destination: Annotated[Path, typer.Argument(metavar="DEST", help="The file to make; it mustn't exist.")],
    database: DatabaseArgument = None,
) -> None:
    """
    Copy the database while the engine writes.

    The copy shows the database as it was when the copying began. Copying the file by other means can't
    do that: its newest rows are in a second file. Only this account may read the copy. A backup that fails
    leaves nothing behind.

    \b
    Examples:
      enginelog backup /backups/monday.db
      enginelog backup /backups/monday.db engine_log.db
    """
    run(_backup(destination, database_path(database)))


async def _backup(destination: Path, path: Path) -> int:
    _check(destination)
    async with reading.open_database(path) as database:
        with _part_of(destination) as part, progress_bar(f"copying {path.name}") as advance:
            await database.copy_to(part, lambda left, pages: advance(pages - left, pages))
    say(harmless(f"copied {path} to {destination} ({size_of(destination):,} bytes)"))
    _tell_of_waiting_rows(path)
    return 0


def _check(destination: Path) -> None:
    if destination.is_dir():
        raise PathError(f"{destination} is a folder; pass the path of a file in it")
    if destination.exists():
        raise PathError(f"{destination} exists; a backup never overwrites, so pass another path or delete it")
    if not destination.parent.is_dir():
        raise PathError(f"{destination}: the folder {destination.parent} doesn't exist; create it")


@contextmanager
def _part_of(destination: Path) -> Iterator[Path]:
    """Give a file to copy into; it becomes ``destination`` when all went well, else it goes."""
    part = destination.with_name(f"{destination.name}.part")
    if not create_file(part):
        raise PathError(
            f"{part} exists: another backup is under way, or one was killed; in that case delete it"
        )
    try:
        yield part
        _check(destination)  # it may have come into being meanwhile
        part.rename(destination)
    finally:
        for suffix in ("", "-journal", "-wal", "-shm"):
            part.with_name(part.name + suffix).unlink(missing_ok=True)


def _tell_of_waiting_rows(path: Path) -> None:
    dead = [
        str(run) for run, spool in spool_runs(path, {}).items() if spool.has_rows_file and not spool.alive
    ]
    if dead:
        complain(
            f"what the dead run {', '.join(dead)} left in its spool isn't in the copy; "
            "it is committed when an engine opens this log next"
        )
