"""``enginelog watermark``: up to where readers have read."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer

from .. import reading
from ..maintenance import Maintenance
from ..watermarks import Watermark, check_name, drop_watermark, read_watermarks, set_watermark
from .common import (
    PATIENCE,
    UNUSABLE,
    DatabaseArgument,
    JsonOption,
    complain,
    database_path,
    harmless,
    json_text,
    run,
    say,
    table_text,
)
from .doctor_times import moment_of

__all__ = ["watermark"]


def watermark(
    database: DatabaseArgument = None,
    name: Annotated[
        str | None,
        typer.Option("--set", metavar="NAME", help="Say how far this reader has read.", show_default=False),
    ] = None,
    log_seq: Annotated[
        int | None,
        typer.Option(
            "--to", metavar="LOG_SEQ", min=0, help="The last LOG_SEQ it has read.", show_default=False
        ),
    ] = None,
    drop: Annotated[
        str | None,
        typer.Option("--drop", metavar="NAME", help="Forget this reader.", show_default=False),
    ] = None,
    json: JsonOption = False,
) -> None:
    """
    List readers and how far they have read, set how far one has, or drop one.

    What a reader with a watermark hasn't read isn't pruned. A reader is whoever remembers the highest
    LOG_SEQ it has seen: a job of SQL Server, a shipper of logs. It sets its watermark each time it has
    stored what it read; a new one begins with 0, which keeps all.

    \b
    Examples:
      enginelog watermark
      enginelog watermark --set sqlserver --to 123456
      enginelog watermark --drop sqlserver
    """
    path = database_path(database)
    if name is not None and drop is not None:
        raise typer.BadParameter("pass --set or --drop, not both")
    if (name is None) != (log_seq is None):
        raise typer.BadParameter("--set NAME and --to LOG_SEQ belong together")
    for given, option in ((name, "--set"), (drop, "--drop")):
        _check(given, option)
    if name is not None and log_seq is not None:
        run(_set(path, name, log_seq))
    elif drop is not None:
        run(_drop(path, drop))
    else:
        run(_list(path, json))


def _check(name: str | None, option: str) -> None:
    try:
        if name is not None:
            check_name(name)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint=option) from None


async def _set(path: Path, name: str, log_seq: int) -> int:
    database = await Maintenance.open(path, create=False)
    try:
        await database.wait_for_locks(PATIENCE)
        before = await set_watermark(database, name, log_seq)
    except ValueError as error:
        complain(str(error))
        return UNUSABLE
    finally:
        await database.close()
    was = "new" if before is None else f"it was {before:,}"
    say(harmless(f"{path}: {name} has read up to LOG_SEQ {log_seq:,} ({was})"))
    return 0


async def _drop(path: Path, name: str) -> int:
    database = await Maintenance.open(path, create=False)
    try:
        await database.wait_for_locks(PATIENCE)
        dropped = await drop_watermark(database, name)
    finally:
        await database.close()
    if not dropped:
        complain(f"{path} has no watermark {name}; list them: enginelog watermark")
        return UNUSABLE
    say(harmless(f"{path}: dropped the watermark {name}; it keeps nothing any more"))
    return 0


async def _list(path: Path, as_json: bool) -> int:
    async with reading.open_database(path, outdated=False) as database, reading.snapshot(database):
        found = await read_watermarks(database)
        newest = await reading.newest_log_seq(database)
    if as_json:
        say(json_text([{**mark._asdict(), "behind": newest - mark.log_seq} for mark in found]))
    elif found:
        heads = ["name", "read up to LOG_SEQ", "behind", "moved (UTC)", "days ago"]
        say(table_text(heads, [_line(mark, newest) for mark in found]))
    else:
        say(harmless(f"{path} has no watermark: no reader has asked to keep what it hasn't read"))
    return 0


def _line(mark: Watermark, newest: int) -> list[object]:
    moved = moment_of(mark.moved)
    days = None if moved is None else (datetime.now(UTC) - moved) // timedelta(days=1)
    return [mark.name, mark.log_seq, newest - mark.log_seq, mark.moved[:19], days]
