"""``enginelog verify``: whether the log is whole."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import typer

from .. import reading
from ..connection import storage_errors
from ..database import Database
from ..errors import StorageError
from ..migrations import migrations
from ..segments import spool_folder
from ..setaside import has_whole_free_list
from ..tables import TABLES
from . import findings
from .common import WRONG, DatabaseArgument, database_path, harmless, plural, progress_bar, run, say
from .findings import Observation, Snapshot
from .spools import spool_runs, unreadable_files

__all__ = ["verify"]

STEPS = len(TABLES) + 3


def verify(database: DatabaseArgument = None) -> None:
    """
    Check that the log is whole, and say what isn't.

    Checks the tables and indexes, the integrity of the file, that each row is there that the runs
    made, that all a run accepted has arrived, and what dead runs left in the spool. May be called
    while an engine writes. Ends with 1 if something is wrong.

    \b
    Examples:
      enginelog verify
      enginelog verify /backups/monday.db
    """
    run(_verify(database_path(database)))


async def _verify(path: Path) -> int:
    with progress_bar(f"verifying {path.name}") as advance:
        async with reading.open_database(path) as database:
            checked = _Check(database, lambda done: advance(done, STEPS))
            await checked.run()
        # The file is closed now: who looks at its bytes may not have it open.
        if not any(finding.wrong for finding in checked.findings) and not await asyncio.to_thread(
            _has_whole_free_list, path
        ):
            checked.findings += findings.integrity_findings(["its list of free pages is broken"])
    for finding in checked.findings:
        say(_text(finding))
    wrong = sum(finding.wrong for finding in checked.findings)
    if wrong:
        say(harmless(f"{path}: {plural(wrong, 'thing is', 'things are')} wrong"))
        return WRONG
    say(harmless(f"{path} is whole: {checked.summary}"))
    return 0


def _has_whole_free_list(path: Path) -> bool:
    with storage_errors(path):
        return has_whole_free_list(path)


def _text(finding: Observation) -> str:
    if finding.wrong:
        mark = typer.style("wrong", fg=typer.colors.RED)
        return f"{mark}  {harmless(finding.what)}\n       {harmless(finding.remedy)}"
    remedy = f"; {finding.remedy}" if finding.remedy else ""
    return f"note   {harmless(finding.what + remedy)}"


class _Check:
    """All the checks, one after the other."""

    def __init__(self, database: Database, advance: Callable[[int], None]) -> None:
        self._database = database
        self._advance = advance
        self._done = 0
        self.findings: list[Observation] = []
        self.summary = ""

    def _step(self) -> None:
        self._done += 1
        self._advance(self._done)

    async def run(self) -> None:
        """Find out; a file so damaged that it can't be read on is a finding, too."""
        try:
            await self._check_file()
            if not self.findings or not findings.lacking(self._actual, self._expected):
                await self._check_rows()
        except StorageError as error:
            self.findings += findings.integrity_findings([str(error)])
        folder = spool_folder(self._database.path)
        is_other = folder.exists() and not folder.is_dir()
        self.findings += findings.spool_folder_findings(folder, is_other=is_other)
        self.findings += findings.unreadable_findings(unreadable_files(self._database.path))

    async def _check_file(self) -> None:
        version = await self._database.schema_version()
        self._actual = await reading.schema_of(self._database)
        self._expected = await reading.expected_schema()
        self.findings += findings.schema_findings(version, len(migrations()), self._actual, self._expected)
        self._step()
        self.findings += findings.integrity_findings(await reading.integrity_faults(self._database))
        self._step()
        self.summary = f"schema version {version}"

    async def _check_rows(self) -> None:
        async with reading.snapshot(self._database):
            snapshot = await self._snapshot()
        self.findings += findings.row_findings(snapshot)
        self.findings += findings.salvage_findings(await reading.salvage_rows(self._database))
        spools = spool_runs(self._database.path, {row.run: row.position for row in snapshot.runs})
        self._step()
        # Asked again, as runs that have ended meanwhile have taken their spools with them; those
        # that have begun meanwhile may have theirs since.
        looked_at = {row.run for row in snapshot.runs}
        for row in await reading.run_rows(self._database):
            if row.run in looked_at:
                self.findings += findings.run_findings(row, spools.get(row.run))
        self.findings += findings.spool_findings(spools.values())
        rows = sum(sum(count.by_run.values()) for count in snapshot.tables.values())
        self.summary += f", {plural(len(snapshot.runs), 'run')}, {plural(rows, 'row')}"

    async def _snapshot(self) -> Snapshot:
        runs = await reading.run_rows(self._database)
        replayed = await reading.replayed_rows(self._database)
        newest = await reading.newest_log_seq(self._database)
        tables = {}
        for table in TABLES.values():
            tables[table.name] = await reading.rows_by_run(self._database, table)
            self._step()
        return Snapshot(runs, tables, replayed, newest)
