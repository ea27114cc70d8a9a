"""What the verbs share: the argument DATABASE, saying things, progress bars, and how they end."""

from __future__ import annotations

import asyncio
import errno
import os
import sys
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from ..errors import EngineLogError, PathError
from ..paths import default_path, true_path
from ..terminal import harmless, harmless_json

__all__ = [
    "INTERRUPTED",
    "PATIENCE",
    "UNUSABLE",
    "WRONG",
    "DatabaseArgument",
    "JsonOption",
    "complain",
    "database_path",
    "harmless",
    "json_text",
    "never_fail_to_print",
    "plural",
    "progress_bar",
    "run",
    "say",
    "table_text",
]

# How a verb ends, besides 0.
WRONG = 1
UNUSABLE = 2
INTERRUPTED = 130

# How long a verb that writes waits for an engine that writes, in seconds.
PATIENCE = 10.0

DatabaseArgument = Annotated[
    Path | None,
    typer.Argument(
        metavar="DATABASE",
        readable=False,  # else typer refuses a file that it can't read, without saying what to do
        help="The database. [default: $ENGINELOG_DB, else engine_log.db]",
        show_default=False,
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]

# Tells how far the work is: done, of how much.
Advance = Callable[[float, float], None]


def database_path(database: Path | None) -> Path:
    """
    Return the path that is meant where none was given, too: as it was given, unless by a link.

    Raises:
        typer.Exit: If no file can have it; that is told.

    """
    given = default_path() if database is None else database
    try:
        true = true_path(os.fspath(given))
        if not true.name:  # what is beside it would have no name
            raise PathError(f"{true} is a folder; pass the path of a file in it")
    except PathError as error:
        complain(str(error))
        raise typer.Exit(UNUSABLE) from None
    # "." has no name.
    return given if given.name and given.absolute() == true else true


class OutputGone(Exception):
    """Nobody reads the output any more, as in ``enginelog tail | head``."""


def run(work: Coroutine[Any, Any, int]) -> None:
    """
    Run a verb, and end the command as it should end: no traceback whatever happens to the disk.

    Raises:
        typer.Exit: Always.

    """
    try:
        code = asyncio.run(work)
    except KeyboardInterrupt:
        code = INTERRUPTED
    except OutputGone:
        _discard_output()
        code = 0
    except EngineLogError as error:
        complain(str(error))
        code = UNUSABLE
    except OSError as error:
        complain(f"{error.filename}: {error.strerror}" if error.filename else str(error))
        code = UNUSABLE
    raise typer.Exit(code)


def say(text: str) -> None:
    """
    Print a text; colours are left out where the output isn't a terminal.

    Raises:
        OutputGone: If nobody reads it any more.

    """
    try:
        typer.echo(text)
    except OSError as error:
        if error.errno in (errno.EPIPE, errno.EINVAL):  # the latter is Windows' word for it
            raise OutputGone from error
        raise


def json_text(data: object) -> str:
    """Return JSON that reads well, and does a terminal no harm."""
    return harmless_json(orjson.dumps(data, option=orjson.OPT_INDENT_2).decode())


def complain(message: str) -> None:
    """Print an error."""
    typer.echo(f"enginelog: {harmless(message)}", err=True)


def never_fail_to_print() -> None:
    """Have a character that the console doesn't know be written as its number."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")


def _discard_output() -> None:
    """Let what is still buffered go nowhere when the interpreter flushes it at exit."""
    try:
        descriptor = sys.stdout.fileno()
    except (OSError, ValueError):  # not a file at all
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, descriptor)
    os.close(nowhere)


def plural(count: int, noun: str, plural_noun: str | None = None) -> str:
    """Return a count with its noun: ``1 row``, ``1,234 rows``."""
    return f"{count:,} {noun if count == 1 else plural_noun or noun + 's'}"


def table_text(heads: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return aligned columns, numbers to the right; plain text, so it survives any console."""
    cells = [[_cell(value) for value in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(heads, *cells, strict=True)]
    to_right = [any(isinstance(row[place], int) for row in rows) for place in range(len(heads))]
    lines = []
    for line in (heads, *cells):
        aligned = (
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(line, widths, to_right, strict=True)
        )
        lines.append("  ".join(aligned).rstrip())
    return "\n".join(lines)


def _cell(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else harmless(str(value))


@contextmanager
def progress_bar(title: str) -> Iterator[Advance]:
    """Show a progress bar while work is done; none where the output isn't a terminal."""
    # Without markup: the title has the name of a file in it.
    title_column = TextColumn("{task.description}", markup=False)
    columns = (title_column, BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    shown = sys.stdout.isatty() and sys.stderr.isatty()
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=not shown) as progress:
        task = progress.add_task(harmless(title), total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)
