"""``enginelog doctor``: what is wrong with the place of a log, and how to mend it."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

from ..errors import StorageError
from . import checks_access, checks_clock, checks_file, checks_retention, checks_runs, checks_site
from .checks_access import leaves_a_trap, not_opened
from .checks_file import unusable
from .common import WRONG, JsonOption, database_path, harmless, json_text, plural, run, say
from .doctor_facts import ON_WINDOWS, Account, Finding, Holders, Level, Log, Site
from .doctor_locks import find_holders
from .doctor_log import look_inside, makes_files
from .doctor_site import account_of, look_around, process_account, this_account

__all__ = ["doctor"]

SITE_CHECKS = (
    checks_site.one_name,
    checks_site.network,
    checks_site.shared_folder,
    checks_site.read_only,
    checks_site.synced_folder,
    checks_site.disk_space,
    checks_access.engine_access,
    checks_access.reader_access,
    checks_access.sql_server_access,
    checks_access.exposed,
    checks_site.odbc_driver,
    checks_site.libraries,
    checks_site.sqlite_version,
)
LOG_CHECKS = (
    checks_file.schema,
    checks_file.journal_mode,
    checks_file.wal_size,
    checks_file.readers,
    checks_file.writers,
    checks_file.wal_reset_bug,
    checks_runs.spool_hidden,
    checks_runs.host,
    checks_runs.left_in_spool,
    checks_runs.deleted_spool,
    checks_runs.set_aside,
    checks_runs.backlog,
    checks_runs.sign_of_life,
    checks_runs.heartbeat,
    checks_runs.rows_on_console,
    checks_runs.rows_dropped,
    checks_runs.died,
    checks_runs.broken_import,
    checks_clock.clock_ahead,
    checks_clock.clock_set_back,
    checks_clock.time_zones,
    checks_retention.watermark,
    checks_retention.gives_room_back,
    checks_retention.broken_pruning,
)

# These are made only where the system tells who holds locks.
LOCK_CHECKS = {checks_file.readers, checks_file.writers}

# The numbers of accounts are below this one of 32 bits, which means none.
NO_ACCOUNT = 2**32 - 1

FINE, NOT_CHECKED = "fine", "not checked"


class _Report(NamedTuple):
    """What each check found, by its name, in order; :obj:`None` of those that couldn't be made."""

    path: Path
    found: dict[str, list[Finding] | None]
    alive: int | None

    @property
    def levels(self) -> Counter[Level]:
        return Counter(finding.level for findings in self.found.values() for finding in findings or ())

    def state_of(self, check: str) -> str:
        """Return what became of a check: the worst of its findings, or fine, or that it wasn't made."""
        findings = self.found[check]
        if findings is None:
            return NOT_CHECKED
        levels = {finding.level for finding in findings}
        return next((level.value for level in (Level.WRONG, Level.NOTE) if level in levels), FINE)


def doctor(
    database: Annotated[
        Path | None,
        typer.Argument(
            metavar="DATABASE",
            help="The database. [default: $ENGINELOG_DB, else engine_log.db]",
            show_default=False,
            readable=False,  # that it can't be read is for the doctor to say
        ),
    ] = None,
    engine: Annotated[
        str | None,
        typer.Option(metavar="ACCOUNT", help="Who runs the engine. [default: its owner]", show_default=False),
    ] = None,
    reader: Annotated[
        str | None,
        typer.Option(metavar="ACCOUNT", help="Who reads along. [default: you]", show_default=False),
    ] = None,
    json: JsonOption = False,
) -> None:
    """
    Find what is wrong around a log, and how to mend it.

    Looks at the file and its folder, permissions, disk, WAL, readers that don't let go, spools left
    behind, rows on the console, clocks and time zones, ODBC drivers. Whether each row is there is for
    `enginelog verify` to say.

    Reads only, and may be called while an engine writes. Of each finding it says what, why it
    matters, and what mends it. Ends with 1 if something is wrong; notes are only worth knowing.

    \b
    Examples:
      enginelog doctor
      sudo enginelog doctor /srv/violin/engine_log.db --reader grafana
      enginelog doctor --json
    """
    accounts = _account(engine, "--engine"), _account(reader, "--reader")
    run(_doctor(database_path(database), *accounts, json))


def _account(name: str | None, option: str) -> Account | None:
    if name is None:
        return None
    account = account_of(name)
    if account is None and name.isdecimal() and int(name) < NO_ACCOUNT and not ON_WINDOWS:
        return Account(name, int(name), frozenset())  # as in a container, whose accounts have no names
    if account is None:
        raise typer.BadParameter(f"there is no account {harmless(name)} on this machine", param_hint=option)
    return account


async def _doctor(path: Path, engine: Account | None, reader: Account | None, as_json: bool) -> int:
    report = await _examine(path, engine, reader)
    say(_json(report) if as_json else _text(report))
    return WRONG if report.levels[Level.WRONG] else 0


async def _examine(path: Path, engine: Account | None, reader: Account | None) -> _Report:
    holders = await find_holders(path)
    site = look_around(path, engine, reader)
    log, troubles = await _look_inside(site, path, holders)
    if log and not engine:
        site = _with_running_engine(site, log)
    found: dict[str, list[Finding] | None] = {"database": troubles}
    for look_at_site in SITE_CHECKS:
        found[look_at_site.__name__] = list(look_at_site(site))
    for look_at_log in LOG_CHECKS:
        known = log if holders.known or look_at_log not in LOCK_CHECKS else None
        found[look_at_log.__name__] = None if known is None else list(look_at_log(known))
    alive = None if log is None or log.alive is None else len(log.alive)
    return _Report(path, found, alive)


async def _look_inside(site: Site, path: Path, holders: Holders) -> tuple[Log | None, list[Finding]]:
    """Return what the database says, or why it can't be asked."""
    account = this_account()
    if account and makes_files(path) and leaves_a_trap(account, site):
        return None, [not_opened(path, account)]
    try:
        return await look_inside(path, holders, datetime.now(UTC)), []
    except StorageError as error:
        return None, [unusable(error, path, holders)]


def _with_running_engine(site: Site, log: Log) -> Site:
    """Return the site with the account of an engine that runs here, which says more than who owns what."""
    for row in log.runs_alive:
        account = process_account(row) if row.host == log.host else None
        if account is not None:
            return replace(site, engine=account)
    return site


# -- saying it --------------------------------------------------------------------------------------


def _text(report: _Report) -> str:
    findings = sorted(
        (finding for found in report.found.values() for finding in found or ()),
        key=lambda finding: finding.level is Level.NOTE,
    )
    return "\n".join([*map(_paragraph, findings), _summary(report)])


def _paragraph(finding: Finding) -> str:
    colour = typer.colors.RED if finding.level is Level.WRONG else typer.colors.YELLOW
    mark = typer.style(f"{finding.level.value:<5}", fg=colour)
    what, why, do = map(harmless, finding[:3])
    return f"{mark}  {what}\n       {why}\n       {do}"


def _summary(report: _Report) -> str:
    wrong, notes = report.levels[Level.WRONG], report.levels[Level.NOTE]
    checked = sum(findings is not None for findings in report.found.values())
    said = [plural(wrong, "thing is", "things are") + " wrong" if wrong else "nothing is wrong"]
    if notes:
        said.append(plural(notes, "note"))
    if report.alive is not None:
        said.append(plural(report.alive, "engine runs", "engines run") if report.alive else "no engine runs")
    return harmless(f"{report.path}: {', '.join(said)} ({plural(checked, 'check')})")


def _json(report: _Report) -> str:
    wanted: dict[str, Any] = {
        "database": harmless(str(report.path)),
        "healthy": not report.levels[Level.WRONG],
        "engines_running": report.alive,
        "findings": [
            _entry(check, finding) for check, findings in report.found.items() for finding in findings or ()
        ],
        "checks": {check: report.state_of(check) for check in report.found},
    }
    return json_text(wanted)


def _entry(check: str, finding: Finding) -> dict[str, str]:
    what, why, do = map(harmless, finding[:3])
    return {"check": check, "level": finding.level.value, "what": what, "why": why, "do": do}
