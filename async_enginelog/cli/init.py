"""``enginelog init``: create, migrate or empty a database."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..maintenance import Maintenance
from .common import PATIENCE, DatabaseArgument, database_path, harmless, plural, run, say

__all__ = ["init"]


def init(
    database: DatabaseArgument = None,
    truncate: Annotated[bool, typer.Option("--truncate", help="Delete all rows of the log.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Don't ask before deleting.")] = False,
) -> None:
    """
    Create a database, or bring its tables up to date.

    An engine does this by itself when it opens its log. Rows are kept, unless --truncate is given:
    then the tables of the log are emptied, in one transaction, also while an engine writes. The runs stay,
    and LOG_SEQ goes on, so whoever reads by it misses nothing.

    \b
    Examples:
      enginelog init                            engine_log.db in this folder
      enginelog init /var/log/engine/log.db
      enginelog init --truncate --yes           all rows gone, without asking
    """
    path = database_path(database)
    if truncate and not yes:
        typer.confirm(f"Delete all rows of {path}?", abort=True, err=True)
    run(_init(path, is_new=not path.exists(), truncate=truncate))


async def _init(path: Path, *, is_new: bool, truncate: bool) -> int:
    before = None if is_new else await _version_of(path)
    database = await Maintenance.open(path, create=True)
    try:
        await database.wait_for_locks(PATIENCE)
        say(harmless(_outcome(path, before, await database.schema_version())))
        if truncate:
            say(f"deleted {plural(await database.truncate(), 'row')}")
    finally:
        await database.close()
    return 0


async def _version_of(path: Path) -> int:
    database = await Maintenance.open_reader(path)
    try:
        return await database.schema_version()
    finally:
        await database.close()


def _outcome(path: Path, before: int | None, after: int) -> str:
    if before is None:
        return f"created {path} with schema version {after}"
    if before < after:
        return f"migrated {path} from schema version {before} to {after}"
    return f"{path} is up to date: schema version {after}"
