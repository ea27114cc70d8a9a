"""Look into a database and its spool, as a reader that neither writes nor keeps a lock."""

from __future__ import annotations

import os
import platform
import sqlite3
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Self

from .. import reading
from ..connection import check_path, uri
from ..database import Database
from ..errors import NotAnEngineLog, StorageError
from ..migrations import migrations
from ..reading import RunRow
from ..segments import beside, segments_of, size_of, spool_folder
from ..tables import FUNCTION_ERROR, FUNCTIONS, STEPS
from ..unfinished import count_left_open
from .doctor_facts import Holders, Log, SetBack
from .doctor_retention import look_at_retention
from .doctor_times import TOLERANCE, began, moment_of
from .findings import lacking, schema_findings
from .spools import SpoolRun, spool_runs, unreadable_files

__all__ = ["is_quiet", "look_inside", "makes_files"]

# Tables whose rows are never changed, so that DT_ADDED grows with LOG_SEQ; so many rows of each.
GROWING = (FUNCTIONS, FUNCTION_ERROR, STEPS)
ROWS = 10_000

# Of so many runs that died it is asked what they left open.
DIED = 100

_COMMITS = f"""
SELECT ENGINE_RUN_ID, DT_ADDED, lag(DT_ADDED) OVER (PARTITION BY ENGINE_RUN_ID ORDER BY LOG_SEQ) AS BEFORE
FROM (SELECT ENGINE_RUN_ID, DT_ADDED, LOG_SEQ FROM {{}} ORDER BY LOG_SEQ DESC LIMIT {ROWS})
"""  # noqa: S608  # a number; {} takes names of our own tables


async def look_inside(path: Path, holders: Holders, now: datetime) -> Log:
    """
    Return what a database says, and its spool.

    Raises:
        StorageError: If it can't be opened or read, or isn't a log of this package.

    """
    while True:
        quiet = is_quiet(path)
        try:
            log = await _look(path, holders, now)
        except StorageError:
            if not quiet or is_quiet(path):
                raise
        else:
            if not quiet or is_quiet(path):
                return log
        # An engine opened it meanwhile: what was seen of a file that can't change is worth nothing.


async def _look(path: Path, holders: Holders, now: datetime) -> Log:
    check_path(path, create=False, write=False)  # what isn't a file, such as a FIFO, must not be opened
    mode_in_header = _mode_in_header(path) if is_quiet(path) else None
    async with _opened(path) as database:
        [(journal_mode,)] = await database.fetch("PRAGMA journal_mode")
        version = await database.schema_version()
        schema_faults = await _schema_faults(database, version)
        looked_at = await reading.run_rows(database)
        spools = _spools(path, looked_at)
        alive = None if spools is None else frozenset(run for run, spool in spools.items() if spool.alive)
        async with reading.snapshot(database):
            runs = await _runs_since(database, looked_at)
            died = [run.run for run in runs if run.how_ended == "crashed" or _is_dead(run, alive)]
            left_open = await count_left_open(database, died[:DIED])
            heartbeats = await reading.last_heartbeats(database)
            newest, set_back = await _commits(database)
            retention = await look_at_retention(database)
    return Log(
        path=path,
        now=now,
        host=platform.node()[:100],  # as much as the log keeps of it
        version=version,
        newest_version=len(migrations()),
        schema_faults=schema_faults,
        journal_mode=mode_in_header or journal_mode,
        runs=tuple(runs),
        alive=alive,
        spools=spools or {},
        segments={run: len(list(segments_of(spool_folder(path), run))) for run in spools or ()},
        unreadable=tuple(unreadable_files(path)),
        heartbeats=heartbeats,
        left_open=left_open,
        newest_added=newest,
        set_back=tuple(set_back),
        local_offsets=_local_offsets(runs),
        wal_bytes=size_of(beside(path, "-wal")),
        database_bytes=size_of(path),
        holders=holders,
        sqlite=sqlite3.sqlite_version_info,
        retention=retention,
    )


# -- without leaving a trace ------------------------------------------------------------------------


def is_quiet(path: Path) -> bool:
    """Tell whether nobody has a database open; who opens it then makes a -wal and a -shm, and leaves them."""
    return not (_exists(path, "-shm") or size_of(beside(path, "-wal")) or _exists(path, "-journal"))


def makes_files(path: Path) -> bool:
    """Tell whether looking into a database makes a -shm: when an engine died, and somebody removed it."""
    return not _exists(path, "-shm") and size_of(beside(path, "-wal")) > 0


def _exists(path: Path, end: str) -> bool:
    return os.path.exists(beside(path, end))  # which doesn't raise if one may not know


def _mode_in_header(path: Path) -> str | None:
    """
    Return "wal" if a file says so (https://www.sqlite.org/fileformat.html#file_format_version_numbers).

    Only for a file that this process doesn't have open: closing it drops the locks of all its
    connections. To a file that can't change, SQLite says that it isn't in WAL mode.

    """
    try:
        with path.open("rb") as file:
            return "wal" if file.read(20)[18:] == b"\2\2" else None
    except OSError:
        return None


class _Untouched(Database):
    """A database that is left as it is: nothing is made beside it."""

    @classmethod
    async def open_reader(cls, path: Path) -> Self:
        if not is_quiet(path):
            return await super().open_reader(path)
        database = await cls.connect(path, f"{uri(path, 'ro')}&immutable=1", uri=True)
        try:
            await database._check_owner()
        except BaseException:
            await database.close()
            raise
        return database


@asynccontextmanager
async def _opened(path: Path) -> AsyncIterator[Database]:
    database = await _Untouched.open_reader(path)
    try:
        if not await database.schema_version():
            raise NotAnEngineLog(f"{path} is empty; create its tables: enginelog init {path}")
        yield database
    finally:
        await database.close()


# -- what is asked ----------------------------------------------------------------------------------


async def _schema_faults(database: Database, version: int) -> tuple[str, ...]:
    """
    Return what isn't as the migrations make it; nothing of a file of an older version.

    Raises:
        StorageError: If what rows are read from is gone.

    """
    if version < len(migrations()):
        return ()
    actual, expected = await reading.schema_of(database), await reading.expected_schema()
    if gone := lacking(actual, expected):
        raise StorageError(f"{database.path}: no such table or column: {', '.join(gone)}")
    return tuple(finding.what for finding in schema_findings(version, len(migrations()), actual, expected))


async def _runs_since(database: Database, looked_at: Iterable[RunRow]) -> list[RunRow]:
    """
    Return those runs as they are now.

    Those that have ended meanwhile have taken their spools with them; those that have begun
    meanwhile may have theirs since.

    """
    known = {run.run for run in looked_at}
    return [run for run in await reading.run_rows(database) if run.run in known]


def _is_dead(run: RunRow, alive: frozenset[int] | None) -> bool:
    return alive is not None and run.how_ended is None and run.run not in alive


def _spools(path: Path, runs: Iterable[RunRow]) -> dict[int, SpoolRun] | None:
    """Return the runs in the spool; :obj:`None` if this account can't look into it."""
    folder = spool_folder(path)
    try:
        if folder.is_dir() and not os.access(folder, os.R_OK | os.X_OK):
            return None
        return spool_runs(path, {run.run: run.position for run in runs})
    except OSError:
        return None


async def _commits(database: Database) -> tuple[dict[int, str], list[SetBack]]:
    """Return the newest time of a commit of each run, and where such times went back."""
    newest: dict[int, str] = {}
    set_back = []
    for table in GROWING:
        for run, added, before in await database.fetch(_COMMITS.format(table.name)):
            if not isinstance(added, str):  # somebody else's doing
                continue
            newest[run] = max(newest.get(run, ""), added)
            if isinstance(before, str) and _goes_back(before, added):
                set_back.append(SetBack(run, before, added))
    return newest, set_back


def _goes_back(before: str, after: str) -> bool:
    if after >= before:  # as text, as it is with nearly all
        return False
    earlier, later = moment_of(before), moment_of(after)
    return earlier is not None and later is not None and earlier - later > TOLERANCE


def _local_offsets(runs: Iterable[RunRow]) -> dict[int, timedelta]:
    """Return what the local time of this machine is ahead of UTC when each run began."""
    moments = {run.run: began(run.run) or datetime.now(UTC) for run in runs}
    return {run: moment.astimezone().utcoffset() or timedelta() for run, moment in moments.items()}
