"""``enginelog prune``: delete what is old."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from .. import reading
from ..leftovers import runs_in
from ..maintenance import Maintenance
from ..pruning import Pruning
from ..reading import RunRow
from ..retention import Keep
from ..segments import spool_folder
from ..tables import TABLES
from ..values import time_text
from ..watermarks import read_watermarks
from .common import PATIENCE, DatabaseArgument, JsonOption, database_path, json_text, progress_bar, run, say
from .doctor_facts import OWN_ENDS
from .doctor_times import offset_of
from .prune_report import Report
from .quantities import as_bytes, as_duration

__all__ = ["prune"]

# Between two steps an engine has the database for so many times as long as the step took.
SHARE = 4.0

T = TypeVar("T")


def prune(
    database: DatabaseArgument = None,
    older_than: Annotated[
        str | None,
        typer.Option(metavar="SPAN", help="Delete what is older: 30d, 12h, 90min, 2w.", show_default=False),
    ] = None,
    keep_rows: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Keep so many of the newest rows.", show_default=False),
    ] = None,
    keep_size: Annotated[
        str | None,
        typer.Option(metavar="SIZE", help="Keep what fits into a file of 500MB, 2GB.", show_default=False),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be deleted.")] = False,
    json: JsonOption = False,
) -> None:
    """
    Delete what is old, and give its room back to the disk.

    Whole recordings go, with all their rows, and rows that belong to none, each by its own time. Of several
    limits the first that is reached counts. What is still being written stays, and what a reader hasn't read
    that has a watermark. Works while an engine writes, in small steps between its commits. An engine
    can do the same by itself: EngineLog(keep=...).

    \b
    Examples:
      enginelog prune --older-than 30d --dry-run
      enginelog prune /var/log/engine/log.db --older-than 12w --keep-size 2GB
    """
    if older_than is None and keep_rows is None and keep_size is None:
        raise typer.BadParameter("say what is to go: --older-than 30d, --keep-rows N or --keep-size 2GB")
    keep = Keep(
        age=None if older_than is None else _parsed(as_duration, older_than, "--older-than"),
        rows=keep_rows,
        file_bytes=None if keep_size is None else _parsed(as_bytes, keep_size, "--keep-size"),
    )
    run(_prune(database_path(database), keep, json, dry_run=dry_run))


def _parsed(parse: Callable[[str], T], text: str, option: str) -> T:
    try:
        return parse(text)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint=option) from None


async def _prune(path: Path, keep: Keep, as_json: bool, *, dry_run: bool) -> int:
    async with AsyncExitStack() as stack:
        database = await _opened(stack, path, dry_run=dry_run)
        runs = await reading.run_rows(database)
        advance = stack.enter_context(progress_bar(f"pruning {path.name}"))
        pause = _Pause(beside_an_engine=any(row.how_ended is None for row in runs) and not dry_run)
        now = datetime.now(UTC)
        pruning = Pruning(
            database,
            keep,
            now,
            as_stored_by(runs),
            pause=lambda: pause(advance, pruning),
            dry_run=dry_run,
            spooled=runs_in(spool_folder(path)),
        )
        before = await pruning.room()
        pruned = await pruning.run()
        if not dry_run:
            await database.fetch("PRAGMA wal_checkpoint(PASSIVE)")
        report = Report(
            path=path,
            keep=keep,
            now=now,
            dry_run=dry_run,
            pruned=pruned,
            left={table.name: await reading.row_count(database, table) for table in TABLES.values()},
            watermarks=await read_watermarks(database),
            before=before,
            after=await pruning.room(),
            can_give_back=await pruning.can_give_back(),
        )
    say(json_text(report.entries()) if as_json else report.text())
    return 0


async def _opened(stack: AsyncExitStack, path: Path, *, dry_run: bool) -> Maintenance:
    if dry_run:
        return await stack.enter_async_context(reading.open_database(path, outdated=False))
    database = await Maintenance.open(path, create=False)
    stack.push_async_callback(database.close)
    await database.wait_for_locks(PATIENCE)
    return database


class _Pause:
    """Between two steps, let an engine have the database for longer than the step took."""

    def __init__(self, *, beside_an_engine: bool) -> None:
        self._share = SHARE if beside_an_engine else 0.0
        self._began = time.monotonic()

    async def __call__(self, advance: Callable[[float, float], None], pruning: Pruning) -> None:
        advance(pruning.looked_at, pruning.rows)
        await asyncio.sleep(self._share * (time.monotonic() - self._began))
        self._began = time.monotonic()


def as_stored_by(runs: list[RunRow]) -> Callable[[str], str]:
    """
    Return what turns a time in UTC into the text that these runs store.

    If they store different ones, it is the earliest: so nothing goes too early.

    """
    own = [run for run in runs if run.how_ended in OWN_ENDS]
    ahead = min((offset_of(run) or timedelta() for run in own), default=timedelta())
    if len(own) < len(runs):
        ahead = min(ahead, timedelta())  # what was imported is in UTC

    def as_stored(iso: str) -> str:
        return time_text((datetime.fromisoformat(iso) + ahead).isoformat(timespec="microseconds"))

    return as_stored
