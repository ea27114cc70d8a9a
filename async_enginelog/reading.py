"""
What the command ``enginelog`` asks a database: read queries and nothing else.

Each takes a :class:`~async_enginelog.database.Database` that reads only. None of them stops
the engine; those that belong together are asked inside of :func:`snapshot`. Names of tables and
columns come from :mod:`~async_enginelog.tables`, never from input.

"""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Collection, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

from .database import Database
from .errors import NotAnEngineLog, StorageError
from .maintenance import Maintenance
from .migrations import migrations
from .segments import Position
from .tables import Table

__all__ = [
    "LogRow",
    "RunRow",
    "Schema",
    "TableCount",
    "expected_schema",
    "integrity_faults",
    "last_heartbeats",
    "newest_log_seq",
    "newest_rows",
    "open_database",
    "replayed_numbers",
    "replayed_rows",
    "row_count",
    "rows_by_run",
    "rows_up_to",
    "run_rows",
    "salvage_rows",
    "schema_of",
    "snapshot",
]


class RunRow(NamedTuple):
    """A row of ENGINE_LOG_RUN."""

    run: int
    host: str | None
    process_id: int | None
    version: str | None
    started: str | None
    sign_of_life: str | None
    ended: str | None
    how_ended: str | None
    accepted: int
    committed: int
    on_console: int
    unreadable: int
    dropped: int
    replayed: int
    stored: int
    last_log_seq: int
    segment: int | None
    offset: int | None

    @property
    def accounted(self) -> int:
        """How many rows have arrived somewhere; all that were accepted, once the run has ended."""
        return self.committed + self.on_console + self.unreadable

    @property
    def position(self) -> Position:
        """Up to where the spool is committed."""
        return Position(self.segment or 1, self.offset or 0)


class SalvageRow(NamedTuple):
    """A row of ENGINE_LOG_SALVAGE; ``lost`` is :obj:`None` where that isn't known."""

    salvaged: str
    damaged_file: str | None
    saved: int
    lost: int | None
    damaged_tables: str | None


class TableCount(NamedTuple):
    """The rows of a table: by run, and how many of the numbers SQLite gave them are gone."""

    by_run: dict[int | None, int]
    gone: int
    newest_log_seq: int


class LogRow(NamedTuple):
    """A row of one of the tables: what isn't NULL, by argument, in the order of the table."""

    log_seq: int
    table: Table
    columns: dict[str, Any]


# Each table with its columns, each index with its table, columns and whether it is unique.
Schema = dict[str, list[tuple[Any, ...]]]


@asynccontextmanager
async def open_database(path: Path, *, outdated: bool = True) -> AsyncIterator[Maintenance]:
    """
    Open a database for reading, and close it.

    Args:
        outdated: Whether a file of an older version will do, which lacks what came since.

    Raises:
        StorageError: As :meth:`Database.open_reader` does, or if there are no tables in it yet.

    """
    try:
        database = await Maintenance.open_reader(path)
    except StorageError as error:
        if _is_to_be_rolled_back(error):
            raise StorageError(_ROLL_BACK.format(path=path)) from error
        raise
    try:
        version = await database.schema_version()
        if not version:
            raise NotAnEngineLog(f"{path} is empty; create its tables: enginelog init {path}")
        if version < len(migrations()) and not outdated:
            raise StorageError(
                f"{path} has schema version {version}, and tables have come since; bring it up to date: "
                f"enginelog init {path}"
            )
        yield database
    finally:
        await database.close()


@asynccontextmanager
async def snapshot(database: Database) -> AsyncIterator[None]:
    """Let all queries inside see one state of the database, whatever the engine writes meanwhile."""
    await database.execute("BEGIN")
    yield
    # After a fault the connection is closed, which ends the transaction, too.
    await database.execute("ROLLBACK")


# Such a journal is called hot (https://www.sqlite.org/lockingv3.html#rollback). An engine, with its WAL,
# leaves none.
_ROLL_BACK = (
    "{path}: a program died while it changed the file without a WAL, as VACUUM does in journal mode delete. "
    "By {path}-journal its half-done change is undone, but only by who may write: start the engine, or open "
    "it once: sqlite3 {path} .tables; don't delete the -journal, the file would stay damaged"
)


def _is_to_be_rolled_back(error: StorageError) -> bool:
    return getattr(error.__cause__, "sqlite_errorcode", None) == sqlite3.SQLITE_READONLY_ROLLBACK


async def run_rows(database: Database, limit: int | None = None) -> list[RunRow]:
    """Return the runs, newest first."""
    rows = await database.fetch(
        "SELECT ENGINE_RUN_ID, HOST_NAME, PROCESS_ID, LIBRARY_VERSION, DT_STARTED, DT_LAST_SIGN_OF_LIFE, "
        "DT_ENDED, HOW_ENDED, ROWS_ACCEPTED, ROWS_COMMITTED, ROWS_ON_CONSOLE, ROWS_UNREADABLE, "
        "ROWS_DROPPED, ROWS_REPLAYED, ROWS_STORED, LAST_LOG_SEQ, SPOOL_SEGMENT, SPOOL_OFFSET "
        "FROM ENGINE_LOG_RUN ORDER BY ENGINE_RUN_ID DESC LIMIT ?",
        (-1 if limit is None else limit,),
    )
    return [RunRow(*row) for row in rows]


async def salvage_rows(database: Database) -> list[SalvageRow]:
    """Return what was saved when the file was damaged, oldest first."""
    rows = await database.fetch(
        "SELECT DT_SALVAGED, DAMAGED_FILE_NAME, ROWS_SAVED, ROWS_LOST, TABLES_DAMAGED "
        "FROM ENGINE_LOG_SALVAGE ORDER BY DT_SALVAGED"
    )
    return [SalvageRow(*row) for row in rows]


async def last_heartbeats(database: Database) -> dict[int, str]:
    """Return the last heartbeat of each run that has one."""
    return dict(
        await database.fetch(
            "SELECT ENGINE_RUN_ID, max(last_heartbeat) FROM ENGINE_DB_LOG_PROCESS_REGISTRY "
            "WHERE last_heartbeat IS NOT NULL GROUP BY ENGINE_RUN_ID"
        )
    )


async def newest_log_seq(database: Database) -> int:
    """Return the highest LOG_SEQ that was ever given; all rows up to it are committed."""
    [(newest,)] = await database.fetch("SELECT coalesce(max(LAST_LOG_SEQ), 0) FROM ENGINE_LOG_RUN")
    return int(newest)


async def row_count(database: Database, table: Table) -> int:
    """Return how many rows a table has."""
    [(count,)] = await database.fetch(f"SELECT count(*) FROM {table.name}")  # noqa: S608  # names of our own tables and columns
    return int(count)


async def rows_by_run(database: Database, table: Table) -> TableCount:
    """Return how many rows of a table each run made."""
    rows = await database.fetch(
        "SELECT ENGINE_RUN_ID, count(*), max(rowid), coalesce(max(LOG_SEQ), 0) "  # noqa: S608  # names of our own tables and columns
        f"FROM {table.name} GROUP BY ENGINE_RUN_ID"
    )
    by_run = {run: count for run, count, _, _ in rows}
    highest = max((row[2] for row in rows), default=0)
    return TableCount(by_run, highest - sum(by_run.values()), max((row[3] for row in rows), default=0))


async def replayed_rows(database: Database) -> dict[int, int]:
    """Return how many rows of the console were brought back, by run."""
    return dict(
        await database.fetch("SELECT ENGINE_RUN_ID, count(*) FROM ENGINE_LOG_REPLAYED GROUP BY ENGINE_RUN_ID")
    )


async def replayed_numbers(database: Database, run: int) -> set[int]:
    """Return the numbers of the console rows of ``run`` that were brought back."""
    rows = await database.fetch(
        "SELECT CONSOLE_ROW_NO FROM ENGINE_LOG_REPLAYED WHERE ENGINE_RUN_ID = ?", (run,)
    )
    return {number for (number,) in rows}


# -- the state of the file --------------------------------------------------------------------------


async def schema_of(database: Database) -> Schema:
    """Return tables and indexes, as SQLite has them."""
    columns = await database.fetch(
        "SELECT 'table ' || entry.name, info.name, info.type, info.\"notnull\", info.dflt_value, info.pk "
        "FROM sqlite_schema AS entry JOIN pragma_table_info(entry.name) AS info "
        "WHERE entry.type = 'table' ORDER BY entry.name, info.cid"
    )
    indexes = await database.fetch(
        "SELECT 'index ' || list.name, entry.name, list.\"unique\", info.name "
        "FROM sqlite_schema AS entry JOIN pragma_index_list(entry.name) AS list "
        "JOIN pragma_index_info(list.name) AS info "
        "WHERE entry.type = 'table' ORDER BY list.name, info.seqno"
    )
    # By their text: the columns of a view whose table is gone can't be asked for.
    views = await database.fetch(
        "SELECT 'view ' || name, 'its text', sql FROM sqlite_schema WHERE type = 'view' ORDER BY name"
    )
    schema: Schema = {}
    for name, *rest in (*columns, *indexes, *views):
        schema.setdefault(name, []).append(tuple(rest))
    return schema


async def expected_schema() -> Schema:
    """Return tables and indexes, as the migrations make them."""
    database = await Database.open_in_memory()
    try:
        return await schema_of(database)
    finally:
        await database.close()


async def integrity_faults(database: Database) -> list[str]:
    """Return what SQLite finds wrong in the file (https://www.sqlite.org/pragma.html#pragma_integrity_check)."""
    return [text for (text,) in await database.fetch("PRAGMA integrity_check") if text != "ok"]


# -- rows, by LOG_SEQ -------------------------------------------------------------------------------


async def newest_rows(
    database: Database, tables: Collection[Table], limit: int, *, up_to: int, recording: int | None
) -> list[LogRow]:
    """Return the last ``limit`` rows that changed, oldest first, none above LOG_SEQ ``up_to``."""
    rest = "LOG_SEQ <= ? ORDER BY LOG_SEQ DESC LIMIT ?"
    found = await _rows(database, tables, recording, rest, (up_to, limit))
    return found[-limit:] if limit else []


async def rows_up_to(
    database: Database, tables: Collection[Table], *, after: int, up_to: int, recording: int | None
) -> list[LogRow]:
    """Return rows that are new or changed, by LOG_SEQ: above ``after``, none above ``up_to``."""
    rest = "LOG_SEQ > ? AND LOG_SEQ <= ? ORDER BY LOG_SEQ"
    return await _rows(database, tables, recording, rest, (after, up_to))


async def _rows(
    database: Database, tables: Iterable[Table], recording: int | None, rest: str, parameters: tuple[int, ...]
) -> list[LogRow]:
    found: list[LogRow] = []
    for table in tables:
        names = ", ".join(column.name for column in table.columns.values())
        where, bound = rest, parameters
        if recording is not None:
            where, bound = f"RECORDING_ID = ? AND {rest}", (recording, *parameters)
        rows = await database.fetch(f"SELECT LOG_SEQ, {names} FROM {table.name} WHERE {where}", bound)  # noqa: S608  # names of our own tables and columns
        for log_seq, *values in rows:
            pairs = zip(table.columns, values, strict=True)
            found.append(LogRow(log_seq, table, {name: value for name, value in pairs if value is not None}))
    return sorted(found, key=lambda row: row.log_seq)
