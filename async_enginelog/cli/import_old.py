"""``enginelog import``: bring an old engine's file over."""

from __future__ import annotations

import time
from contextlib import AsyncExitStack
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated
from zoneinfo import ZoneInfo, available_timezones

import typer

from ..errors import PathError
from ..importing import Importer, Zone, only_import
from ..imports import ImportDatabase
from ..oldfile import OldFile
from ..reading import run_rows
from .common import (
    PATIENCE,
    WRONG,
    DatabaseArgument,
    JsonOption,
    database_path,
    harmless,
    json_text,
    progress_bar,
    run,
    say,
)
from .doctor_facts import OWN_ENDS
from .doctor_times import offset_of
from .import_report import Report

__all__ = ["import_old"]


def import_old(
    old: Annotated[
        Path,
        typer.Argument(
            metavar="OLD",
            readable=False,  # else typer refuses a file that it can't read, without saying what to do
            help="The file of the old engine. It is only read.",
        ),
    ],
    database: DatabaseArgument = None,
    timezone: Annotated[
        str | None,
        typer.Option(
            metavar="ZONE",
            help="What the old engine's clock showed, such as America/New_York. "
            "[default: the time zone of this machine]",
            show_default=False,
        ),
    ] = None,
    json: JsonOption = False,
) -> None:
    """
    Bring the file of an old engine over, with a report.

    Rows that speak of one thing become one: what the later ones say counts. Local times become UTC. Ids
    stay as they are; each start of the old engine is a run, as its ids began again with each. Works while
    an engine writes to DATABASE, which is created if it isn't there.

    May be called again: after it was broken off it goes on, and it reads what has come into OLD since.
    Ends with 1 if there is something in OLD that couldn't be brought over; it is reported.

    \b
    Examples:
      enginelog import SQLite_VIOLIN_MVP_2.db engine_log.db
      enginelog import old.db --timezone America/New_York --json
    """
    run(_import(old, database_path(database), _zone(timezone), json))


def _zone(name: str | None) -> Zone:
    if name is None:
        return Zone(f"of this machine ({'/'.join(dict.fromkeys(time.tzname))})", None)
    try:
        return Zone(name, ZoneInfo(name))
    except (KeyError, ValueError, OSError):  # unknown; no name at all; a folder of them
        raise typer.BadParameter(_no_zone(name), param_hint="--timezone") from None


def _no_zone(name: str) -> str:
    known = available_timezones()
    if not known:  # as on Windows
        return "this machine has no list of time zones; install it: pip install tzdata"
    by_lower_case = {zone.lower(): zone for zone in known}
    close = [by_lower_case[zone] for zone in get_close_matches(name.lower(), by_lower_case, n=3)]
    hint = f"did you mean {' or '.join(close)}?" if close else "pass one such as America/New_York"
    return f"there is no time zone {harmless(name)}; {hint}"


def _check_files(old: Path, path: Path) -> None:
    if path.exists() and old.exists() and path.samefile(old):
        raise PathError(f"{old} is the database itself; pass the file of the old engine")


async def _import(old_path: Path, path: Path, zone: Zone, as_json: bool) -> int:
    _check_files(old_path, path)
    async with AsyncExitStack() as stack:
        old = await OldFile.open(old_path)
        stack.push_async_callback(old.close)
        tables = await old.tables()  # before there is a database: a wrong path makes none
        database = await ImportDatabase.open(path, create=True)
        stack.push_async_callback(database.close)
        await database.wait_for_locks(PATIENCE)
        stack.enter_context(only_import(path))
        advance = stack.enter_context(progress_bar(f"importing {old_path.name}"))
        importer = Importer(old, tables.known, database, zone, advance)
        await importer.run()
        local_runs = await _local_runs(database)
    report = Report(old_path, path, tables, importer.progress, importer.rows_before, local_runs)
    say(json_text(report.entries()) if as_json else report.text())
    return WRONG if report.is_incomplete else 0


async def _local_runs(database: ImportDatabase) -> list[int]:
    """Return the runs of engines that stored local times, which what is imported doesn't have."""
    return [run.run for run in await run_rows(database) if run.how_ended in OWN_ENDS and offset_of(run)]
