"""``enginelog sqlserver-script``: the script by which SQL Server reads the log along."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from .. import reading
from ..errors import PathError
from ..migrations import migrations
from ..odbc import bridge_version
from ..odbc_paths import is_foreign, local_path
from ..paths import default_path, true_path
from ..sqlserver import FIRST_WORDS, ROWS, Link, Target, create_script, remove_script
from .common import complain, harmless, run, say

__all__ = ["sqlserver_script"]

CREATE_FILE = Path("create_sql_server_linked_server.sql")
REMOVE_FILE = Path("remove_sql_server_linked_server.sql")
STANDARD_OUTPUT = Path("-")


def sqlserver_script(
    database: Annotated[
        str | None,
        typer.Argument(
            metavar="DATABASE",
            help=r"The database, as SQL Server opens it: C:\VIOLIN\engine_log.db. "
            "[default: $ENGINELOG_DB, else engine_log.db]",
            show_default=False,
        ),
    ] = None,
    linked_server: Annotated[
        str, typer.Option("--linked-server", metavar="NAME", help="How the linked server is called.")
    ] = "ENGINE_LOG",
    sql_database: Annotated[
        str, typer.Option("--sql-database", metavar="NAME", help="The database of SQL Server for the views.")
    ] = "VIOLIN",
    schema: Annotated[str, typer.Option("--schema", metavar="NAME", help="The schema in it.")] = "dbo",
    login: Annotated[
        list[str] | None,
        typer.Option(
            "--login",
            metavar=r"DOMAIN\USER",
            help="Who may use the linked server; may be given often. [default: every login]",
            show_default=False,
        ),
    ] = None,
    rows: Annotated[
        int, typer.Option("--rows", min=1, max=2**31 - 1, help="How many of its newest rows a view shows.")
    ] = ROWS,
    copy_every: Annotated[
        int | None,
        typer.Option(
            "--copy-every",
            metavar="SECONDS",
            min=10,
            max=86_399,
            help="Make a job of SQL Server Agent that copies what is new so often; "
            "from 60 on, whole minutes.",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help=f"The file to write, - for standard output. [default: {CREATE_FILE}]",
            show_default=False,
        ),
    ] = None,
    remove: Annotated[
        bool, typer.Option("--remove", help="Write the script that takes it all away.")
    ] = False,
) -> None:
    """
    Write the script that links SQL Server with the log.

    It is for Management Studio, and makes over ODBC: a view for each table under its name, one view of
    all, a procedure for ranges, and copies that follow the log. Engine, log and SQL Server must be on
    one Windows machine. The script may be written on any machine, and run again at any time.

    \b
    Examples:
      enginelog sqlserver-script C:\\VIOLIN\\engine_log.db
      enginelog sqlserver-script D:\\log.db --login PC\\me --copy-every 30
      enginelog sqlserver-script --remove
    """
    try:
        target = Target(linked_server, sql_database, schema)
        # The path is found below, where errors of the disk are told.
        link = Link("", target, bridge_version(migrations()), tuple(login or ()), rows, copy_every)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    if remove:
        work = _remove(target, output or REMOVE_FILE)
    else:
        work = _create(database, link, output or CREATE_FILE)
    run(work)


async def _create(database: str | None, link: Link, output: Path) -> int:
    path, here = _locate(database)
    if here is not None:
        await _check(here, link.schema_version)
    if not is_foreign(path):
        complain(
            f"{path} is a path of this machine, but SQL Server reads SQLite on Windows only; "
            "pass the path that the file has there, if it is there"
        )
    return _write(output, create_script(replace(link, path=path)))


async def _remove(target: Target, output: Path) -> int:
    return _write(output, remove_script(target))


def _locate(database: str | None) -> tuple[str, Path | None]:
    """Return the path as SQL Server opens it, and where the file is on this machine, if it should be."""
    given = str(default_path()) if database is None else database
    path = local_path(given) if is_foreign(given) else given
    if is_foreign(path) and os.name != "nt":
        return path, None
    # Without links; on Windows, what looks like a drive but is on the network shows its true path.
    here = true_path(path)
    return local_path(str(here)), here


async def _check(path: Path, needed: int) -> None:
    async with reading.open_database(path) as database:
        version = await database.schema_version()
    if version < needed:
        raise PathError(
            f"{path} has schema version {version}, SQL Server needs {needed}; "
            f"bring it up to date: enginelog init {path}"
        )


def _write(output: Path, script: str) -> int:
    if output == STANDARD_OUTPUT:
        say(script.rstrip())
        return 0
    if output.is_dir():
        raise PathError(f"{output} is a folder; pass the path of a file in it")
    if output.exists() and FIRST_WORDS.encode() not in _beginning(output):
        raise PathError(f"{output} exists and isn't such a script; delete it, or pass another --output")
    # With a mark by which Management Studio sees that it is Unicode, and ends of lines as there.
    output.write_text(script, "utf-8-sig", newline="\r\n")
    say(
        f"wrote {harmless(str(output))}; open it in Management Studio as a member of sysadmin, "
        "read its first lines, run it"
    )
    return 0


def _beginning(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(200)
