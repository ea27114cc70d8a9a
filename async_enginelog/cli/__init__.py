"""The command ``enginelog``: one module for each verb."""

from __future__ import annotations

from typing import Annotated

import typer

from ..version import __version__
from .backup import backup
from .common import never_fail_to_print
from .demo import demo
from .doctor import doctor
from .import_old import import_old
from .init import init
from .prune import prune
from .replay import replay
from .runs import runs
from .salvage import salvage
from .sqlserver_script import sqlserver_script
from .stats import stats
from .tail import tail
from .verify import verify
from .watermark import watermark

__all__ = ["main"]

main = typer.Typer(
    name="enginelog",
    no_args_is_help=True,
    # Help is plain text: boxes don't survive every console, file or code page.
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _say_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"enginelog {__version__}")
        raise typer.Exit


@main.callback()
def enginelog(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_say_version, is_eager=True, help="Say the version and exit."),
    ] = False,
) -> None:
    """
    Look after the log of an engine, also while the engine writes it.

    DATABASE is the setting ENGINELOG_DB where it is left out, else engine_log.db.

    Every verb ends with 0 if all is well, 1 if it found something wrong, 2 if it couldn't do its work.
    """
    never_fail_to_print()


VERBS = (
    demo,
    init,
    tail,
    stats,
    runs,
    verify,
    doctor,
    prune,
    watermark,
    replay,
    backup,
    salvage,
    sqlserver_script,
)

for verb in VERBS:
    main.command()(verb)
# A function can't be called so.
main.command("import")(import_old)
