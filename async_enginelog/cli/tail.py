"""``enginelog tail``: the newest rows, and those that come."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from .. import reading
from ..database import Database
from ..reading import LogRow
from ..tables import TABLES, Kind, Table, find_table
from .common import DatabaseArgument, database_path, harmless, run, say

__all__ = ["tail"]

PREFIX = "ENGINE_DB_LOG_"

# How often to look for rows, in seconds, and how many LOG_SEQ to read at once.
POLL = 0.2
WINDOW = 1000

# A longer value is cut: where a traceback keeps its end, so does the line.
MAX_VALUE = 200


class _Wanted(NamedTuple):
    tables: Collection[Table]
    recording: int | None


def tail(
    database: DatabaseArgument = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as rows come, until Ctrl+C.")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="Begin with so many rows.")] = 10,
    table: Annotated[
        list[str] | None,
        typer.Option("--table", "-t", help="Only this table, such as steps; may be given again."),
    ] = None,
    recording: Annotated[int | None, typer.Option("--recording", "-r", help="Only this recording.")] = None,
) -> None:
    """
    Show the newest rows, and follow as more come.

    Rows of all tables come in the order of their commits, one line each: the time, the table, and
    the columns that aren't empty; of several times, only the last, which says how far the thing has
    got. A row that is filled in later appears again.

    \b
    Examples:
      enginelog tail -f
      enginelog tail -f --table function_error --table steps
      enginelog tail -n 100 --recording 202508290514312002
    """
    wanted = _Wanted(_tables(table or [], recording), recording)
    run(_tail(database_path(database), wanted, lines, follow=follow))


def _tables(names: Collection[str], recording: int | None) -> list[Table]:
    chosen = [_find(name) for name in names] or list(TABLES.values())
    if recording is None:
        return chosen
    of_recording = [table for table in chosen if "recording_id" in table.columns]
    if not of_recording:
        raise typer.BadParameter(f"{chosen[0].name} has no RECORDING_ID", param_hint="--recording")
    return of_recording


def _find(name: str) -> Table:
    try:
        return find_table(name if name.upper().startswith(PREFIX) else PREFIX + name)
    except ValueError:
        short = ", ".join(known.removeprefix(PREFIX).lower() for known in TABLES)
        raise typer.BadParameter(
            f"there is no table {harmless(name)}; the tables are {short}", param_hint="--table"
        ) from None


async def _tail(path: Path, wanted: _Wanted, lines: int, *, follow: bool) -> int:
    async with reading.open_database(path, outdated=False) as database:
        newest = await reading.newest_log_seq(database)
        _show(
            await reading.newest_rows(
                database, wanted.tables, lines, up_to=newest, recording=wanted.recording
            )
        )
        if follow:
            await _follow(database, wanted, newest)
    return 0


async def _follow(database: Database, wanted: _Wanted, seen: int) -> None:
    while True:
        await asyncio.sleep(POLL)
        database.check_file()
        newest = await reading.newest_log_seq(database)
        while seen < newest:
            up_to = min(seen + WINDOW, newest)
            _show(
                await reading.rows_up_to(
                    database, wanted.tables, after=seen, up_to=up_to, recording=wanted.recording
                )
            )
            seen = up_to


def _show(rows: Collection[LogRow]) -> None:
    if rows:
        say("\n".join(map(_line, rows)))


def _line(row: LogRow) -> str:
    table, columns = row.table, row.columns
    told = _telling_time(row)
    time = columns.get(told or "", "")
    style = {"fg": typer.colors.RED} if table.name.endswith("_ERROR") else {"fg": typer.colors.CYAN}
    name = typer.style(table.name.removeprefix(PREFIX), **style)  # type: ignore[arg-type]
    shown = [told] if told and told not in (table.stamp, "dt_added") else []
    shown += [argument for argument in columns if table.columns[argument].kind is not Kind.TIME]
    values = " ".join(f"{argument}={_value(row, argument)}" for argument in shown)
    return f"{_text(time):<26}  {name}  {values}"


def _telling_time(row: LogRow) -> str | None:
    """Return the argument of the time that says most: of the call, else the last one."""
    table, columns = row.table, row.columns
    if table.stamp in columns:
        return table.stamp
    times = [argument for argument in columns if table.columns[argument].kind is Kind.TIME]
    of_thing = [argument for argument in times if argument != "dt_added"] or times
    return max(of_thing, key=lambda argument: str(columns[argument]), default=None)


def _value(row: LogRow, argument: str) -> str:
    column = row.table.columns[argument]
    if column.kind is Kind.TIME:
        return _text(row.columns[argument]).partition(" ")[2] or _text(row.columns[argument])
    text = _text(row.columns[argument])
    if len(text) > MAX_VALUE:
        text = f"...{text[-MAX_VALUE:]}" if column.keep_end else f"{text[:MAX_VALUE]}..."
    return _quoted(text)


def _quoted(text: str) -> str:
    """Return a value as one, also where it is made to look like several: ``x" recording_id="7``."""
    if '"' in text:
        return "'" + text.replace("'", "\\'") + "'"
    return f'"{text}"' if text.startswith("'") or any(map(str.isspace, text)) else text


def _text(value: object) -> str:
    return harmless(str(value))
