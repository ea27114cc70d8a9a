"""
The one SQLite connection of a log: opened, migrated, written to, copied, closed.

Only this module knows aiosqlite, and what its users suffer from: its thread isn't a daemon,
so a forgotten connection would hang the exit of the process (see :func:`_stop_at_exit`);
cancelling an ``await`` doesn't stop the statement, so after any trouble the connection is
thrown away and the database asked how far it got (see :meth:`Database.progress_of`).

"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

import aiosqlite

from .batch import Batch, prepare
from .errors import NotAnEngineLog, PathError, RowRefused, SchemaTooNew, StorageError
from .handover import hand_over
from .lines import Row
from .migrations import APPLICATION_ID, migrations
from .segments import Position
from .tables import TABLES

__all__ = ["Database", "Progress", "RunState"]

# How long SQLite itself waits for a lock, in seconds: short, as the writer tries again anyway
# and wants to see its deadline.
BUSY_TIMEOUT = 0.25

# The WAL is cut back to this once readers let it be checkpointed, and is checkpointed
# passively, which waits for nobody (https://www.sqlite.org/wal.html#ckpt).
WAL_LIMIT_BYTES = 16 * 1024 * 1024
CHECKPOINT_PAGES = 2000

# A copy is made in steps of so many pages of 4 KiB; between them it tells how far it is.
COPY_PAGES = 256

# So many pages at once are given back to the disk: some 10 ms.
VACUUM_PAGES = 1000

Synchronous = Literal["NORMAL", "FULL"]


class RunState(NamedTuple):
    """What the row of a run in ENGINE_LOG_RUN says."""

    run: int
    host: str
    process_id: int
    version: str
    started: str
    sign_of_life: str
    accepted: int
    on_console: int
    position: Position
    alive: bool


class Progress(NamedTuple):
    """How far a run is committed, as the database has it."""

    position: Position
    rows: int


_RUN_SQL = """
INSERT INTO ENGINE_LOG_RUN (ENGINE_RUN_ID, HOST_NAME, PROCESS_ID, LIBRARY_VERSION, DT_STARTED,
    DT_LAST_SIGN_OF_LIFE, ROWS_ACCEPTED, ROWS_ON_CONSOLE, SPOOL_SEGMENT, SPOOL_OFFSET,
    ROWS_COMMITTED, ROWS_STORED, ROWS_UNREADABLE, LAST_LOG_SEQ)
VALUES (?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,?12,?13,
    (SELECT coalesce(max(LAST_LOG_SEQ), 0) FROM ENGINE_LOG_RUN) + ?11)
ON CONFLICT (ENGINE_RUN_ID) DO UPDATE SET
    DT_LAST_SIGN_OF_LIFE = max(coalesce(DT_LAST_SIGN_OF_LIFE, ''), excluded.DT_LAST_SIGN_OF_LIFE),
    DT_ENDED = iif(?14, NULL, DT_ENDED), HOW_ENDED = iif(?14, NULL, HOW_ENDED),
    -- A replay may have made the row, of a run that was never heard of; recovery tells the rest.
    HOST_NAME = coalesce(HOST_NAME, excluded.HOST_NAME),
    PROCESS_ID = coalesce(PROCESS_ID, excluded.PROCESS_ID),
    LIBRARY_VERSION = coalesce(LIBRARY_VERSION, excluded.LIBRARY_VERSION),
    DT_STARTED = coalesce(DT_STARTED, excluded.DT_STARTED),
    ROWS_ACCEPTED = max(ROWS_ACCEPTED, excluded.ROWS_ACCEPTED,
        ROWS_COMMITTED + ?11 + max(ROWS_ON_CONSOLE, excluded.ROWS_ON_CONSOLE) + ROWS_UNREADABLE + ?13),
    ROWS_ON_CONSOLE = max(ROWS_ON_CONSOLE, excluded.ROWS_ON_CONSOLE),
    ROWS_COMMITTED = ROWS_COMMITTED + ?11,
    ROWS_STORED = ROWS_STORED + ?12,
    ROWS_UNREADABLE = ROWS_UNREADABLE + ?13,
    SPOOL_SEGMENT = excluded.SPOOL_SEGMENT, SPOOL_OFFSET = excluded.SPOOL_OFFSET,
    LAST_LOG_SEQ = excluded.LAST_LOG_SEQ
RETURNING LAST_LOG_SEQ - ?11
"""

_REPLAYED_RUN_SQL = """
UPDATE ENGINE_LOG_RUN SET
    ROWS_REPLAYED = ROWS_REPLAYED + ?2,
    ROWS_STORED = ROWS_STORED + ?3,
    LAST_LOG_SEQ = iif(?4, ?5 + ?4, LAST_LOG_SEQ),
    ROWS_ACCEPTED = ROWS_ACCEPTED + max(0, ?6 - ROWS_ON_CONSOLE),
    ROWS_ON_CONSOLE = max(ROWS_ON_CONSOLE, ?6)
WHERE ENGINE_RUN_ID = ?1
"""

# A copy knows nothing of what its runs did afterwards, nor of their spools: they end here.
_COPIED_RUNS_SQL = """
UPDATE ENGINE_LOG_RUN SET HOW_ENDED = 'copied', DT_ENDED = DT_LAST_SIGN_OF_LIFE,
    ROWS_ACCEPTED = ROWS_COMMITTED + ROWS_ON_CONSOLE + ROWS_UNREADABLE
WHERE HOW_ENDED IS NULL
"""


class Database:
    """
    The connection to one database file. One task at a time may use it.

    Each method raises :exc:`StorageError` if the disk or the database can't be used now. The
    connection is of no use then: close it and open another.

    """

    def __init__(self, path: Path, connection: aiosqlite.Connection) -> None:
        self.path = path
        self._connection = connection
        self._file = _identity(path)

    @classmethod
    async def open(cls, path: Path, *, create: bool, synchronous: Synchronous = "NORMAL") -> Self:
        """
        Open a database for writing; create and migrate it as needed.

        Raises:
            PathError: If the path can't be used as it is.
            NotAnEngineLog: If the file isn't ours.
            SchemaTooNew: If it was written by a newer version.
            StorageError: If it can't be used now: locked, disk full, …

        """
        is_new = _check_path(path, create=create)
        database = await cls._connect(path, str(path), uri=False)
        try:
            if is_new:
                # Only possible before the first table; lets `prune` give room back in small steps.
                await database.execute("PRAGMA auto_vacuum = INCREMENTAL")
            await database._check_owner()
            await database.execute("PRAGMA journal_mode = WAL")
            await database.execute(f"PRAGMA synchronous = {synchronous}")
            await database.execute(f"PRAGMA journal_size_limit = {WAL_LIMIT_BYTES}")
            await database.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
            await database.migrate()
            database._file = _identity(path)
        except BaseException:
            await database.close()
            raise
        return database

    @classmethod
    async def open_reader(cls, path: Path) -> Self:
        """
        Open a database for reading only. Never creates, changes or locks it.

        Raises: as :meth:`open`.

        """
        _check_path(path, create=False, write=False)
        database = await cls._connect(path, _uri(path, "ro"), uri=True)
        try:
            await database._check_owner()
        except BaseException:
            await database.close()
            raise
        return database

    @classmethod
    async def open_in_memory(cls) -> Self:
        """Open an empty database in memory, to see the schema that the migrations make."""
        database = await cls._connect(Path(":memory:"), ":memory:", uri=False)
        try:
            await database.migrate()
        except BaseException:
            await database.close()
            raise
        return database

    @classmethod
    async def _connect(cls, path: Path, name: str, *, uri: bool) -> Self:
        with _storage_errors(path):
            # In this mode sqlite3 sends BEGIN IMMEDIATE itself, within the call of the first
            # statement that writes: one hand-over to the thread less for each transaction.
            connecting = aiosqlite.connect(
                name, uri=uri, timeout=BUSY_TIMEOUT, isolation_level="IMMEDIATE", cached_statements=256
            )
            opening = asyncio.ensure_future(hand_over(connecting))
            try:
                connection = await asyncio.shield(opening)
            except asyncio.CancelledError:
                # Its thread would open the file nevertheless, and tell so to a loop that may be closed.
                await _end_of(opening)
                with suppress(sqlite3.Error):
                    await opening.result().close()
                raise
        _stop_at_exit(connection)
        return cls(path, connection)

    async def wait_for_locks(self, timeout: float) -> None:
        """Have SQLite wait so many seconds for a lock; the default suits the writer of a log."""
        await self.execute(f"PRAGMA busy_timeout = {int(timeout * 1000)}")

    async def close(self) -> None:
        """Close the connection; an open transaction is rolled back. Never raises."""
        try:
            await hand_over(self._connection.close())
        except (sqlite3.Error, ValueError):
            pass
        finally:
            _running_loops.pop(self._connection, None)

    def abandon(self) -> None:
        """Have the connection closed by its thread, without waiting; for a loop that is closed."""
        self._connection.stop()
        _running_loops.pop(self._connection, None)

    async def execute(self, sql: str, parameters: Sequence[Any] = ()) -> None:
        """Execute one statement."""
        await self.fetch(sql, parameters)

    async def fetch(self, sql: str, parameters: Sequence[Any] = ()) -> list[Any]:
        """Execute one statement and return its rows as tuples."""
        with _storage_errors(self.path):
            return await self._call(sql, parameters)

    async def _call(self, sql: str, parameters: Sequence[Any] = ()) -> list[Any]:
        return list(await hand_over(self._connection.execute_fetchall(sql, parameters)))

    # -- schema ---------------------------------------------------------------------------------

    async def _check_owner(self) -> None:
        [(application,)] = await self.fetch("PRAGMA application_id")
        [(version,)] = await self.fetch("PRAGMA user_version")
        newest = len(migrations())
        if application == APPLICATION_ID:
            if version > newest:
                raise SchemaTooNew(
                    f"{self.path} has schema version {version}, this version of async-enginelog knows "
                    f"{newest}; upgrade async-enginelog (pip install -U async-enginelog)"
                )
            return
        tables = [name for (name,) in await self.fetch("SELECT name FROM sqlite_schema WHERE type = 'table'")]
        if tables or application or version:
            named = f" (it has the table {tables[0]})" if tables else ""
            raise NotAnEngineLog(
                f"{self.path} is a SQLite database, but not one of async-enginelog{named}; "
                "pass the path of a file of its own"
            )

    async def schema_version(self) -> int:
        """Return the number of the last migration that the file has."""
        [(version,)] = await self.fetch("PRAGMA user_version")
        return int(version)

    async def migrate(self) -> None:
        """Bring the schema up to date: each migration in a transaction of its own."""
        for number, statements in enumerate(migrations(), 1):
            if await self.schema_version() >= number:
                continue
            await self.execute("BEGIN IMMEDIATE")
            # Another process may have done it while this one waited for the lock.
            if await self.schema_version() < number:
                for statement in statements:
                    await self.execute(statement)
                await self.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                await self.execute(f"PRAGMA user_version = {number}")
            await self.execute("COMMIT")

    # -- rows -----------------------------------------------------------------------------------

    def check_file(self) -> None:
        """
        Make sure that the path still leads to the file that is open.

        On Linux and macOS a deleted file can be written to as if nothing had happened.

        Raises:
            StorageError: If the file was deleted, moved or replaced.

        """
        if _identity(self.path) != self._file:
            raise StorageError(f"{self.path} was deleted or replaced under the log")

    async def write(self, batch: Batch, state: RunState, *, added: str, unreadable: int = 0) -> None:
        """
        Commit a batch and how far the spool was read, in one transaction.

        Raises:
            RowRefused: If SQLite can't store one of the rows; nothing is committed.
            StorageError: If it can't be committed now, or nobody can tell whether it was.

        """
        self.check_file()
        try:
            with _storage_errors(self.path):
                await self._write(batch, state, added, unreadable)
        except RowRefused:
            with _storage_errors(self.path):
                await hand_over(self._connection.rollback())
            raise
        self.check_file()

    async def _write(self, batch: Batch, state: RunState, added: str, unreadable: int) -> None:
        counts = (batch.rows, batch.new_rows, unreadable)
        [(last_seq,)] = await self._call(_RUN_SQL, (*state[:8], *state.position, *counts, state.alive))
        before = await self._highest_rows(batch.keyed_tables)
        for sql, parameters in batch.statements:
            await self._call(sql, (added, state.run, last_seq, *parameters))
        stored = await self._highest_rows(batch.keyed_tables) - before
        if stored:
            await self._call(
                "UPDATE ENGINE_LOG_RUN SET ROWS_STORED = ROWS_STORED + ? WHERE ENGINE_RUN_ID = ?",
                (stored, state.run),
            )
        await hand_over(self._connection.commit())

    async def _highest_rows(self, tables: Sequence[str]) -> int:
        """
        Return the sum of the highest rowids of ``tables``.

        A row that is new has the next one, a row that is only filled in keeps its own:
        the difference counts the new ones.

        """
        if not tables:
            return 0
        highest = (f"coalesce((SELECT max(rowid) FROM {table}), 0)" for table in tables)  # noqa: S608
        [(total,)] = await self._call(f"SELECT {' + '.join(highest)}")
        return int(total)

    async def progress_of(self, run: int) -> Progress | None:
        """Return how far ``run`` is committed; :obj:`None` if the database doesn't know it."""
        rows = await self.fetch(
            "SELECT SPOOL_SEGMENT, SPOOL_OFFSET, ROWS_COMMITTED FROM ENGINE_LOG_RUN WHERE ENGINE_RUN_ID = ?",
            (run,),
        )
        return Progress(Position(*rows[0][:2]), rows[0][2]) if rows and rows[0][0] else None

    async def end_run(self, run: int, how: str, ended: str | None) -> None:
        """Say how and when a run ended; at its last sign of life if ``ended`` is :obj:`None`."""
        with _storage_errors(self.path):
            await self._call(
                "UPDATE ENGINE_LOG_RUN SET HOW_ENDED = ?, DT_ENDED = coalesce(?, DT_LAST_SIGN_OF_LIFE), "
                "ROWS_ACCEPTED = max(ROWS_ACCEPTED, ROWS_COMMITTED + ROWS_ON_CONSOLE + ROWS_UNREADABLE) "
                "WHERE ENGINE_RUN_ID = ? AND HOW_ENDED IS NULL",
                (how, ended, run),
            )
            await hand_over(self._connection.commit())

    async def open_runs(self) -> list[int]:
        """Return the runs that nobody has marked as ended."""
        rows = await self.fetch("SELECT ENGINE_RUN_ID FROM ENGINE_LOG_RUN WHERE HOW_ENDED IS NULL")
        return [run for (run,) in rows]

    # -- for the command ------------------------------------------------------------------------

    async def truncate(self) -> int:
        """
        Delete all rows of the nine tables, in one transaction, and return how many there were.

        The runs stay, with the LOG_SEQ they gave: it never goes back.

        """
        with _storage_errors(self.path):
            fetch = self._connection.execute_fetchall
            await fetch("UPDATE ENGINE_LOG_RUN SET ROWS_STORED = 0")
            before = self._connection.total_changes
            for table in TABLES:
                await fetch(f"DELETE FROM {table}")  # noqa: S608
            deleted = self._connection.total_changes - before
            await hand_over(self._connection.commit())
        await self._give_room_back()
        return deleted

    async def _give_room_back(self) -> None:
        """Make the file smaller by what is free in it, in steps that hold up no writer for long."""
        [(free,)] = await self.fetch("PRAGMA freelist_count")
        with _storage_errors(self.path):
            for _ in range(0, free, VACUUM_PAGES):
                # As a script: execute() of sqlite3 ends after the first page.
                await self._connection.executescript(f"PRAGMA incremental_vacuum({VACUUM_PAGES})")

    async def replay(
        self,
        run: int,
        rows: Mapping[int, Row],
        *,
        highest: int,
        how_ended: str | None,
        as_stored: Callable[[str], str],
        added: str,
    ) -> int:
        """
        Commit rows that ``run`` put on the console, each by its number, unless they are there.

        Args:
            highest: The highest number that was seen of this run, readable or not.
            how_ended: What to say of a run that the database doesn't know.
            as_stored: Turns an ISO 8601 time in UTC into the text that is stored.
            added: The present time, as it is stored.

        Returns:
            How many rows weren't there yet.

        """
        with _storage_errors(self.path):
            fetch = self._connection.execute_fetchall
            await fetch(
                "INSERT INTO ENGINE_LOG_RUN (ENGINE_RUN_ID, HOW_ENDED) VALUES (?, ?) ON CONFLICT DO NOTHING",
                (run, how_ended),
            )
            fresh = [row for number, row in rows.items() if await self._is_fresh(run, number)]
            batch = prepare(fresh, as_stored=as_stored, fill_only=True)
            [(last_seq,)] = await fetch("SELECT max(LAST_LOG_SEQ) FROM ENGINE_LOG_RUN")
            before = await self._highest_rows(batch.keyed_tables)
            for sql, parameters in batch.statements:
                await fetch(sql, (added, run, last_seq, *parameters))
            stored = batch.new_rows + await self._highest_rows(batch.keyed_tables) - before
            counts = (batch.rows, stored, batch.rows, last_seq, highest)
            await fetch(_REPLAYED_RUN_SQL, (run, *counts))
            await hand_over(self._connection.commit())
        return batch.rows

    async def _is_fresh(self, run: int, number: int) -> bool:
        """Note that a row of the console is brought back; tell whether it wasn't before."""
        return bool(
            await self._call(
                "INSERT INTO ENGINE_LOG_REPLAYED (ENGINE_RUN_ID, CONSOLE_ROW_NO) VALUES (?, ?) "
                "ON CONFLICT DO NOTHING RETURNING CONSOLE_ROW_NO",
                (run, number),
            )
        )

    async def copy_to(self, path: Path, progress: Callable[[int, int], None]) -> None:
        """
        Copy the database into the empty file ``path``, as it is at this moment.

        The engine goes on writing meanwhile. The copy is one file, without a WAL. Cancelling
        is safe, and stops the copying; the file is then of no use.

        Args:
            progress: Told how many pages are left, and of how many. Called in another thread.

        Raises:
            StorageError: If either file can't be used now, such as on a full disk.

        """
        # Not created here: a connection that opens late, after a cancellation, mustn't make it again.
        copy = await self._connect(path, _uri(path, "rw"), uri=True)
        try:
            # The first read fixes what this connection sees until the end of the transaction. Without
            # it, each commit of the engine would have the copying start again.
            await self.execute("BEGIN")
            await self.schema_version()
            await self._copy_pages(copy, progress)
            await self.execute("ROLLBACK")
            await copy.execute("PRAGMA journal_mode = DELETE")
            await copy.execute(_COPIED_RUNS_SQL)
            await copy.execute("COMMIT")
        finally:
            await copy.close()

    async def _copy_pages(self, copy: Self, progress: Callable[[int, int], None]) -> None:
        stopped = threading.Event()

        def step(_: int, left: int, pages: int) -> None:
            if stopped.is_set():  # the thread would go on to the end, whoever waits for it
                raise InterruptedError("the copying was stopped")
            progress(left, pages)

        backup = self._connection.backup(copy._connection, pages=COPY_PAGES, progress=step)
        copying = asyncio.ensure_future(backup)
        try:
            with _storage_errors(copy.path):
                await asyncio.shield(copying)
        finally:
            # To close the copy while the thread still writes to it would be a segmentation fault.
            stopped.set()
            await _end_of(copying)


async def _end_of(task: asyncio.Future[Any]) -> None:
    """Wait until ``task`` has ended, whoever is cancelled meanwhile, and look away from how."""
    while not task.done():
        with suppress(asyncio.CancelledError):
            await asyncio.wait({task})
    if not task.cancelled():
        task.exception()


def _uri(path: Path, mode: str) -> str:
    # https://www.sqlite.org/uri.html
    return f"{path.absolute().as_uri()}?mode={mode}"


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_dev, stat.st_ino


def _check_path(path: Path, *, create: bool, write: bool = True) -> bool:
    """
    Make sure that a database can be at ``path``; tell whether it is yet to be made.

    SQLite's own message is "unable to open database file" for all of these.

    """
    with _storage_errors(path):
        if path.is_dir():
            raise PathError(f"{path} is a folder; pass the path of a file in it")
        if not path.parent.is_dir():
            raise PathError(f"{path}: the folder {path.parent} doesn't exist; create it, or mend the path")
        is_new = not path.exists()
        if is_new and not create:
            raise PathError(f"{path} doesn't exist; mend the path, or create it: enginelog init {path}")
        # Readers need the folder too, but only once the last writer has gone; SQLite tells.
        if write and not os.access(path.parent, os.W_OK | os.X_OK):
            raise PathError(
                f"{path}: the folder {path.parent} isn't writable for this user; SQLite keeps two files "
                "beside the database, so the folder must be, too"
            )
        if is_new:
            return True
        if not os.access(path, os.R_OK | (os.W_OK if write else 0)):
            raise PathError(f"{path} isn't {'writable' if write else 'readable'} for this user")
        with path.open("rb") as file:
            magic = file.read(16)
    if magic and magic != b"SQLite format 3\0":
        raise NotAnEngineLog(f"{path} isn't a SQLite database: it begins with {magic!r}; pass another path")
    return not magic


@contextmanager
def _storage_errors(path: Path) -> Iterator[None]:
    """Turn what SQLite and the operating system raise into exceptions of our own."""
    try:
        yield
    except StorageError:
        raise
    except (OverflowError, UnicodeError, sqlite3.IntegrityError, sqlite3.DataError) as error:
        raise RowRefused(str(error)) from error
    except (sqlite3.InterfaceError, sqlite3.ProgrammingError) as error:
        if "binding" in str(error):  # a value of a type that SQLite has no word for
            raise RowRefused(str(error)) from error
        raise StorageError(f"{path}: {error}") from error
    except (sqlite3.Error, OSError) as error:
        raise StorageError(f"{path}: {error}") from error
    except ValueError as error:  # aiosqlite's word for a connection that is closed
        raise StorageError(f"{path}: {error}") from error


# -- leaving without a word -------------------------------------------------------------------------

_running_loops: weakref.WeakKeyDictionary[aiosqlite.Connection, asyncio.AbstractEventLoop] = (
    weakref.WeakKeyDictionary()
)
_guard: threading.Thread | None = None
_inherited: list[Any] = []


def _stop_at_exit(connection: aiosqlite.Connection) -> None:
    """
    See to it that a connection that nobody closes doesn't hang the exit of the interpreter.

    The interpreter waits for aiosqlite's thread, which waits for a connection to be closed.
    So a daemon thread waits for the main thread to end, and tells those connections to stop
    whose event loop doesn't run any more.

    """
    global _guard
    _running_loops[connection] = asyncio.get_running_loop()
    if _guard is None or not _guard.is_alive():
        _guard = threading.Thread(target=_stop_connections, name="enginelog-exit", daemon=True)
        _guard.start()


def _stop_connections() -> None:
    threading.main_thread().join()
    while True:
        for connection, loop in list(_running_loops.items()):
            if not loop.is_running():
                connection.stop()
                _running_loops.pop(connection, None)
        time.sleep(0.05)


def _keep_inherited() -> None:
    """Never touch the parent's connections in a forked child, not even to delete them."""
    # https://www.sqlite.org/howtocorrupt.html#_carrying_an_open_database_connection_across_a_fork_
    _inherited.extend(_running_loops)
    _running_loops.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_keep_inherited)
