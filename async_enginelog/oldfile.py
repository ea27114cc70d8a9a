"""The old engine's file: opened for reading only, and read in the order in which it was written."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

from .connection import Connection, check_path, uri
from .errors import DatabaseDamaged, NotAnEngineLog, PathError, StorageError
from .legacy import OldColumn, OldTable
from .migrations import APPLICATION_ID
from .segments import beside
from .tables import TABLES, WEBSOCKET_CONNECTION, WEBSOCKET_MESSAGE

__all__ = ["OldFile", "OldTables"]

# How long to wait for an engine that writes to the old file, in seconds.
PATIENCE = 10.0

# No engine is started anew within so many seconds. Two times of one thing that are closer
# are a conflict; and what was written so shortly before the first of them is the new start's.
RESTART_SECONDS = 1.0

# The things whose ids begin again with each start of the engine: the id, when such a thing began, and
# what can't be the same for two things.
COUNTED = (
    (WEBSOCKET_CONNECTION, "websocket_connection_id", "dt_connection_request", None),
    (WEBSOCKET_MESSAGE, "message_id", "dt_message_received", "recording_id"),
)

# The rest are SQLite's own.
_NAMES_SQL = "SELECT name FROM sqlite_schema WHERE type = ? AND substr(name, 1, 7) <> 'sqlite_'"

# What SQLite calls its number of a row, unless a column is called so (https://www.sqlite.org/rowidtable.html).
ROW_NUMBERS = ("rowid", "_rowid_", "oid")


class OldTables(NamedTuple):
    """
    What is in an old file.

    Attributes:
        known: Tables of the engine's log.
        others: Other tables, with their numbers of rows.
        views: Views that are called like tables of the log that aren't there.

    """

    known: list[OldTable]
    others: dict[str, int | None]
    views: Sequence[str] = ()

    @property
    def missing(self) -> list[str]:
        """The tables of the log that aren't there."""
        there = {old.table.name for old in self.known}
        return [name for name in TABLES if name not in there]


class OldFile(Connection):
    """A connection to the old engine's file, which it never changes, nor its WAL."""

    # What the file was like when it was opened, if nobody had it open: no lock keeps it so.
    _at_rest: tuple[int, int] | None = None

    @classmethod
    async def open(cls, path: Path) -> Self:
        """
        Open a file for reading.

        What its WAL holds is read, too. While its engine writes, it is waited for; the engine
        waits for this only during single, short queries.

        Raises:
            PathError: If there is no file, or it can't be read.
            NotAnEngineLog: If it isn't a SQLite database, or is one of this package.
            StorageError: If it can't be read now.

        """
        _check(path)
        at_rest = _state_at_rest(path)
        # Otherwise SQLite would make the WAL that isn't there, to read the file, and leave it there.
        mode = "&immutable=1" if at_rest else ""
        old = await cls.connect(path, uri(path, "ro") + mode, uri=True)
        try:
            old._at_rest = at_rest
            # The engine's texts may be anybody's; one that isn't Unicode mustn't stop the import.
            old._connection.text_factory = lambda data: data.decode("utf-8", "replace")
            await old.wait_for_locks(PATIENCE)
            await old._check_readable()
        except BaseException:
            await old.close()
            raise
        return old

    async def fetch(self, sql: str, parameters: Sequence[Any] = ()) -> list[Any]:
        """Do what a connection does, and say what to do if that can't be."""
        try:
            return await super().fetch(sql, parameters)
        except NotAnEngineLog:
            raise
        except StorageError as error:
            raise type(error)(f"{error}{_hint(error, self.path)}") from error

    async def _check_readable(self) -> None:
        [(application,)] = await self.fetch("PRAGMA application_id")
        await self.fetch("SELECT count(*) FROM sqlite_schema")
        if application == APPLICATION_ID:
            raise NotAnEngineLog(
                f"{self.path} is a database of async-enginelog, not of the old engine: nothing to import"
            )

    async def tables(self) -> OldTables:
        """
        Return what is in the file.

        Raises:
            NotAnEngineLog: If no table is one of the engine's log.
            StorageError: If the rows of one have no numbers, which tell how far it is read.

        """
        names = [name for (name,) in await self.fetch(_NAMES_SQL, ("table",))]
        by_name = {name.upper(): name for name in names}
        known = [await self._table(table, by_name[table]) for table in TABLES if table in by_name]
        if not known:
            found = f"it has {', '.join(sorted(names)[:3])}" if names else "it has none at all"
            raise NotAnEngineLog(f"{self.path} has no table of an engine's log ({found}); pass another path")
        others = {name: await self._count(name) for name in names if name.upper() not in TABLES}
        views = {name.upper() for (name,) in await self.fetch(_NAMES_SQL, ("view",))}
        return OldTables(known, others, [table for table in TABLES if table in views])

    async def _table(self, table: str, name: str) -> OldTable:
        columns = await self.fetch("SELECT name, dflt_value, type, pk FROM pragma_table_info(?)", (name,))
        old = OldTable(
            TABLES[table],
            [
                OldColumn(column, default, kind.upper() == "INTEGER" and pk == 1)
                for column, default, kind, pk in columns
            ],
        )
        await self._check_numbered(old)
        return old

    async def _check_numbered(self, old: OldTable) -> None:
        """Refuse a table whose rows have no numbers before anything is imported, not halfway."""
        number, name = _row_number(old), old.table.name
        why = "; in a copy of the file, make it anew without that, and import the copy"
        if number is None:
            raise StorageError(f"{self.path}: {name} has columns called {', '.join(ROW_NUMBERS)}{why}")
        try:
            await self.fetch(f"SELECT {number} FROM {name} LIMIT 0")  # noqa: S608  # ROW_NUMBERS, and a table of our own
        except StorageError as error:
            if "no such column" not in str(error):
                raise
            raise StorageError(f"{self.path}: {name} is a table WITHOUT ROWID{why}") from error

    async def _count(self, name: str) -> int | None:
        try:
            [(rows,)] = await self.fetch(f"SELECT count(*) FROM {_quoted(name)}")  # noqa: S608  # quoted
        except StorageError:  # a virtual table, of a module that isn't here
            return None
        return int(rows)

    async def row_count(self, old: OldTable) -> int:
        """Return how many rows a table has."""
        return await self._count(old.table.name) or 0

    async def rows(self, old: OldTable, after: int, limit: int) -> list[tuple[Any, ...]]:
        """
        Return rows in the order in which they were written: SQLite's number of each, and its values.

        Raises:
            StorageError: If they can't be read now.

        """
        number = _row_number(old)
        columns = ", ".join(_quoted(column.name) for column in old.columns)
        sql = f"SELECT {number}, {columns} FROM {old.table.name} WHERE {number} > ? ORDER BY {number} LIMIT ?"  # noqa: S608  # names of our own tables; columns are quoted
        rows = await self.fetch(sql, (after, limit))
        if self._at_rest != (self._at_rest and _state_at_rest(self.path)):
            raise StorageError(f"{self.path}: its engine writes to it again; call this again")
        return rows

    async def first_time(self, tables: Sequence[OldTable]) -> str | None:
        """Return the first time that the engine showed anywhere, as it showed it."""
        first: list[str] = []
        for old in tables:
            names = [_quoted(old.columns[place].name) for place in old.clocks]
            # What begins otherwise is no time.
            times = [f"min(iif({name} GLOB '[12][0-9][0-9][0-9]-*', {name}, NULL))" for name in names]
            [found] = await self.fetch(f"SELECT {', '.join(times) or 'min(NULL)'} FROM {old.table.name}")  # noqa: S608  # names of our own tables; columns are quoted
            first += [time.replace("T", " ") for time in found if time is not None]
        return min(first, default=None)

    async def restarts(self, tables: Sequence[OldTable]) -> list[str]:
        """
        Return when the engine was started anew, as it showed the time, in order.

        It counts connections and messages from 1 again then. So where an id was used twice, the engine was
        started in between; the second use tells when. As few starts are assumed as explain all.

        """
        reused = [sql for old in tables for sql in _reused_ids(old)]
        if not reused:
            return []
        await self.execute(f"CREATE TEMP TABLE REUSED AS {' UNION ALL '.join(reused)}")
        await self.execute("CREATE INDEX temp.REUSED_BORN ON REUSED (BORN, BORN_BEFORE)")
        starts: list[str] = []
        while found := await self.fetch(_NEXT_START_SQL, (starts[-1] if starts else "",)):
            starts.append(found[0][0])
        await self.execute("DROP TABLE temp.REUSED")
        return starts


_NEXT_START_SQL = f"""
SELECT strftime('%Y-%m-%d %H:%M:%f', BORN, '-{RESTART_SECONDS} seconds') FROM temp.REUSED
WHERE BORN > ?1 AND BORN_BEFORE >= ?1 ORDER BY BORN LIMIT 1
"""  # noqa: S608  # a constant


def _reused_ids(old: OldTable) -> Iterator[str]:
    """Yield a query for the births of things whose id was used before, and the births of those before."""
    there = {column.argument for column, _ in old.places}
    for table, number, born, mark in COUNTED:
        if old.table is table and {number, born} <= there:
            marked = mark if mark in there else "NULL"
            # Half of the last milliseconds is lost as SQLite rounds.
            yield f"""
            SELECT BORN, BORN_BEFORE FROM (
                SELECT BORN, lag(BORN) OVER BEFORE AS BORN_BEFORE, MARK, lag(MARK) OVER BEFORE AS MARK_BEFORE
                FROM (
                    SELECT DISTINCT {number} AS ID, replace({born}, 'T', ' ') AS BORN, {marked} AS MARK
                    FROM {table.name} WHERE {number} IS NOT NULL AND {born} GLOB '[12][0-9][0-9][0-9]-*'
                ) WINDOW BEFORE AS (PARTITION BY ID ORDER BY BORN)
            ) WHERE (julianday(BORN) - julianday(BORN_BEFORE)) * 86400 > {RESTART_SECONDS + 0.002}
                AND (MARK = MARK_BEFORE) IS NOT 1
            """  # noqa: S608  # names of our own tables and columns; a constant


def _row_number(old: OldTable) -> str | None:
    """Return what SQLite's number of a row is called there; :obj:`None` if columns have all its names."""
    columns = {column.name.lower() for column in old.columns}
    return next((name for name in ROW_NUMBERS if name not in columns), None)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _check(path: Path) -> None:
    if not path.exists():
        raise PathError(f"{path} doesn't exist; pass the path of the old engine's file")
    check_path(path, create=False, write=False)


def _state_at_rest(path: Path) -> tuple[int, int] | None:
    """Return what changes when somebody writes, if a file is in WAL mode and nobody has it open."""
    with path.open("rb") as file:
        header = file.read(20)
    # https://www.sqlite.org/fileformat.html#the_database_header
    if header[18:19] != b"\2" or beside(path, "-wal").exists():
        return None
    stat = path.stat()
    return stat.st_mtime_ns, stat.st_size


def _hint(error: StorageError, path: Path) -> str:
    """Return what to do about a file that can't be read, or that SQLite can't read without writing to it."""
    if isinstance(error, DatabaseDamaged):
        saved = path.with_name(f"saved-{path.name}").name
        return (
            f". Save what can be read, and import that: sqlite3 {path.name} .recover | sqlite3 {saved}; what "
            "was cut off of it is in a backup, if there is one"
        )
    if "locked" in str(error):
        return "; close the program that holds it (its engine, or a database browser), and call this again"
    if beside(path, "-journal").exists():
        return (
            f"; its engine died while it wrote, and {path.name}-journal has what must be undone. Copy both "
            "files, open the copy once with any program that may write to it, and import the copy"
        )
    if beside(path, "-wal").exists():
        return f"; copy {path.name} and {path.name}-wal into a folder that is yours, and import the copy"
    return ""
