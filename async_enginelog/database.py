"""
The database of a log: opened, migrated, written to.

After any trouble the connection is thrown away, and the next one asked how far things got
(see :meth:`Database.progress_of`).

"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, Self

from .batch import Batch
from .connection import Connection, check_companions, check_path, storage_errors, uri
from .errors import DatabaseDamaged, NotAnEngineLog, RowRefused, SchemaTooNew, StorageError
from .migrations import APPLICATION_ID, SCHEMA, migrations, version_of
from .ownership import FILE_MODE, create_file
from .segments import Position, beside, size_of

__all__ = ["WAL_LIMIT_BYTES", "Database", "DeadRun", "Progress", "RunState"]

# The WAL is cut back to this once readers let it be checkpointed, and is checkpointed
# passively, which waits for nobody (https://www.sqlite.org/wal.html#ckpt).
WAL_LIMIT_BYTES = 16 * 1024 * 1024
CHECKPOINT_PAGES = 2000

# No version of this package will ever have so many migrations: a higher number is damage.
MAX_VERSION = 1000

Synchronous = Literal["NORMAL", "FULL"]


class RunState(NamedTuple):
    """
    What the row of a run in ENGINE_LOG_RUN says.

    Attributes:
        position: Up to where the spool was read; from ``start`` on.

    """

    run: int
    host: str
    process_id: int
    version: str
    started: str
    sign_of_life: str
    accepted: int
    on_console: int
    start: Position
    position: Position
    alive: bool
    dropped: int = 0


class Progress(NamedTuple):
    """How far a run is committed, as the database has it."""

    position: Position
    rows: int


class DeadRun(NamedTuple):
    """A run that died, as far as the database knows it."""

    run: int
    host: str | None
    process_id: int | None


_RUN_SQL = """
INSERT INTO ENGINE_LOG_RUN (ENGINE_RUN_ID, HOST_NAME, PROCESS_ID, LIBRARY_VERSION, DT_STARTED,
    DT_LAST_SIGN_OF_LIFE, ROWS_ACCEPTED, ROWS_ON_CONSOLE, SPOOL_SEGMENT, SPOOL_OFFSET,
    ROWS_COMMITTED, ROWS_STORED, ROWS_UNREADABLE, ROWS_DROPPED, LAST_LOG_SEQ)
VALUES (?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,?12,?13,?15,
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
    ROWS_DROPPED = max(ROWS_DROPPED, excluded.ROWS_DROPPED),
    SPOOL_SEGMENT = excluded.SPOOL_SEGMENT, SPOOL_OFFSET = excluded.SPOOL_OFFSET,
    LAST_LOG_SEQ = excluded.LAST_LOG_SEQ
-- What was read from ?16, ?17 on isn't to be committed by two.
WHERE (coalesce(SPOOL_SEGMENT, 0), coalesce(SPOOL_OFFSET, 0)) <= (?16, ?17)
RETURNING LAST_LOG_SEQ - ?11
"""

_END_SQL = """
UPDATE ENGINE_LOG_RUN SET HOW_ENDED = ?, DT_ENDED = coalesce(?, DT_LAST_SIGN_OF_LIFE),
    ROWS_ACCEPTED = max(ROWS_ACCEPTED, ROWS_COMMITTED + ROWS_ON_CONSOLE + ROWS_UNREADABLE)
WHERE ENGINE_RUN_ID = ? AND HOW_ENDED IS NULL
RETURNING ENGINE_RUN_ID, HOST_NAME, PROCESS_ID
"""

_STORED_SQL = "UPDATE ENGINE_LOG_RUN SET ROWS_STORED = ROWS_STORED + ? WHERE ENGINE_RUN_ID = ?"


class Database(Connection):
    """
    The connection to the database of a log, as its writer uses it.

    Attributes:
        wal_bytes: The size of the WAL after the last batch.

    """

    wal_bytes = 0

    @classmethod
    async def open(
        cls, path: Path, *, create: bool, synchronous: Synchronous = "NORMAL", mode: int = FILE_MODE
    ) -> Self:
        """
        Open a database for writing; create and migrate it as needed.

        Args:
            mode: The mode of a file that is created, whatever the umask.

        Raises:
            PathError: If the path can't be used as it is.
            NotAnEngineLog: If the file isn't ours.
            SchemaTooNew: If it was written by a newer version.
            StorageError: If it can't be used now: locked, disk full, …

        """
        is_new = check_path(path, create=create)
        if is_new:
            with storage_errors(path):
                # Not by SQLite, which leaves it to the umask. What it makes beside it gets the same mode.
                create_file(path, mode)
        else:
            await cls._refuse_rubbish(path)
        before = check_companions(path)
        database = await cls.connect(path, str(path), uri=False)
        try:
            if is_new:
                # Only possible before the first table; lets `prune` give room back in small steps.
                await database.execute("PRAGMA auto_vacuum = INCREMENTAL")
            await database._check_owner()
            await database.execute("PRAGMA journal_mode = WAL")
            # A page that is damaged is known for it before something is written to it.
            await database.execute("PRAGMA cell_size_check = ON")
            await database.execute(f"PRAGMA synchronous = {synchronous}")
            await database.execute(f"PRAGMA journal_size_limit = {WAL_LIMIT_BYTES}")
            await database.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
            await database.migrate()
            check_companions(path, before)
            database.remember_file()
        except BaseException:
            await database.close()
            raise
        return database

    @classmethod
    async def _refuse_rubbish(cls, path: Path) -> None:
        """
        Refuse a file that isn't a SQLite database, before anything is written to it.

        SQLite finds out by itself, but not if the WAL of another database stands beside the file: it
        would write that into it. So the file is looked at alone, as if it could never change.

        """
        alone = await cls.connect(path, f"{uri(path, 'ro')}&immutable=1", uri=True)
        try:
            await alone.execute("PRAGMA schema_version")
        except NotAnEngineLog:
            raise
        except StorageError:
            pass  # it does change; what matters is its first bytes
        finally:
            await alone.close()

    @classmethod
    async def open_reader(cls, path: Path) -> Self:
        """
        Open a database for reading only. Never creates, changes or locks it.

        Raises: as :meth:`open`.

        """
        check_path(path, create=False, write=False)
        database = await cls.connect(path, uri(path, "ro"), uri=True)
        try:
            await database._check_owner()
        except BaseException:
            await database.close()
            raise
        return database

    @classmethod
    async def open_in_memory(cls) -> Self:
        """Open an empty database in memory, to see the schema that the migrations make."""
        database = await cls.connect(Path(":memory:"), ":memory:", uri=False)
        try:
            await database.migrate()
        except BaseException:
            await database.close()
            raise
        return database

    # -- schema ---------------------------------------------------------------------------------

    async def _check_owner(self) -> None:
        # Whoever made the file: no view or trigger in it may call what only a program should
        # (https://www.sqlite.org/security.html).
        await self.execute("PRAGMA trusted_schema = OFF")
        application, version, table = await self._identity()
        newest = len(migrations())
        if application == APPLICATION_ID:
            if not 0 <= version <= MAX_VERSION:
                raise DatabaseDamaged(f"{self.path} is damaged: its schema version is {version}")
            if version > newest:
                if actual := version_of([*map(tuple, await self.fetch(SCHEMA))]):
                    raise DatabaseDamaged(
                        f"{self.path} is damaged: its schema version is {version}, but its tables are "
                        f"those of version {actual}"
                    )
                raise SchemaTooNew(
                    f"{self.path} has schema version {version}, this version of async-enginelog knows "
                    f"{newest}; upgrade async-enginelog (pip install -U async-enginelog)"
                )
            return
        if table or application or version:
            named = f" (it has the table {table})" if table else ""
            raise NotAnEngineLog(
                f"{self.path} is a SQLite database, but not one of async-enginelog{named}; "
                "pass the path of a file of its own"
            )

    async def _identity(self) -> tuple[int, int, str | None]:
        """Return whose file it is, its schema version, and a table that is in it."""
        # All at one moment: another process may be making the tables just now.
        await self.execute("BEGIN")
        [(application,)] = await self.fetch("PRAGMA application_id")
        [(version,)] = await self.fetch("PRAGMA user_version")
        tables = await self.fetch("SELECT name FROM sqlite_schema WHERE type = 'table' LIMIT 1")
        await self.execute("ROLLBACK")
        return application, version, tables[0][0] if tables else None

    async def schema_version(self) -> int:
        """Return the number of the last migration that the file has."""
        [(version,)] = await self.fetch("PRAGMA user_version")
        return int(version)

    async def migrate(self) -> None:
        """Bring the schema up to date: each migration in a transaction of its own."""
        try:
            await self.carry_out(_migrate)
        except StorageError as error:
            if "already exists" in str(error) or "duplicate column" in str(error):
                raise DatabaseDamaged(
                    f"{self.path} is damaged: its schema version says that it is older than it is: {error}"
                ) from error
            raise

    # -- rows -----------------------------------------------------------------------------------

    async def write(
        self, gather: Callable[[], Batch], state: RunState, *, added: str, unreadable: int = 0
    ) -> int:
        """
        Commit a batch and how far the spool was read, in one transaction.

        Args:
            gather: Makes the batch; called in SQLite's thread, before the transaction.
            added: The present time, as it is stored.
            unreadable: How many lines were set aside.

        Returns:
            The number of rows in the batch.

        Raises:
            RowRefused: If SQLite can't store one of the rows; nothing is committed.
            StorageError: If it can't be committed now, or nobody can tell whether it was; or somebody else
                has committed rows behind ``state.start``: a thread of a loop that was closed, say.

        What ``gather`` raises, this does, too.

        """

        def transaction(sqlite: sqlite3.Connection) -> int:
            # What asks the file system may have to wait for it, so it isn't done on the loop.
            self.check_file()
            rows = _write(sqlite, gather(), state, added, unreadable)
            self.check_file()
            self.wal_bytes = size_of(beside(self.path, "-wal"))
            return rows

        try:
            return await self.carry_out(transaction)
        except RowRefused:
            await self.roll_back()
            raise

    async def insert(self, batch: Batch, first: tuple[str, int, int]) -> int:
        """
        Insert the rows of a batch and return how many are new.

        Args:
            first: The first three parameters of each statement: the time of the commit, the
                run, and the LOG_SEQ before the batch.

        """
        return await self.carry_out(lambda sqlite: _insert(sqlite, batch, first))

    async def progress_of(self, run: int) -> Progress | None:
        """Return how far ``run`` is committed; :obj:`None` if the database doesn't know it."""
        rows = await self.fetch(
            "SELECT SPOOL_SEGMENT, SPOOL_OFFSET, ROWS_COMMITTED FROM ENGINE_LOG_RUN WHERE ENGINE_RUN_ID = ?",
            (run,),
        )
        return Progress(Position(*rows[0][:2]), rows[0][2]) if rows and rows[0][0] else None

    async def end_run(self, run: int, how: str, ended: str | None) -> None:
        """Say how and when a run ended; at its last sign of life if ``ended`` is :obj:`None`."""
        await self.execute(_END_SQL, (how, ended, run))
        await self.commit()

    async def end_dead_runs(self, runs: Iterable[int]) -> list[DeadRun]:
        """Say of all ``runs`` that they crashed; return those that nobody has said it of before."""
        rows = [row for run in runs for row in await self.fetch(_END_SQL, ("crashed", None, run))]
        await self.commit()
        return [DeadRun(*row) for row in rows]

    async def frames_in_wal(self) -> int:
        """Return how many pages are in the WAL as SQLite sees it, and check them in; -1 if there is none."""
        [(_, frames, _)] = await self.fetch("PRAGMA wal_checkpoint(PASSIVE)")
        return int(frames)

    async def newest_run(self) -> int:
        """Return the highest number of a run; 0 if there is none."""
        [(run,)] = await self.fetch("SELECT coalesce(max(ENGINE_RUN_ID), 0) FROM ENGINE_LOG_RUN")
        return int(run)

    async def open_runs(self) -> list[int]:
        """Return the runs that nobody has marked as ended."""
        rows = await self.fetch("SELECT ENGINE_RUN_ID FROM ENGINE_LOG_RUN WHERE HOW_ENDED IS NULL")
        return [run for (run,) in rows]


# -- in the thread of SQLite ------------------------------------------------------------------------


def _migrate(sqlite: sqlite3.Connection) -> None:
    for number, statements in enumerate(migrations(), 1):
        if _schema_version(sqlite) >= number:
            continue
        sqlite.execute("BEGIN IMMEDIATE")
        # Another process may have done it while this one waited for the lock.
        if _schema_version(sqlite) < number:
            for statement in statements:
                sqlite.execute(statement)
            sqlite.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            sqlite.execute(f"PRAGMA user_version = {number}")
        sqlite.execute("COMMIT")


def _schema_version(sqlite: sqlite3.Connection) -> int:
    [(version,)] = sqlite.execute("PRAGMA user_version").fetchall()
    return int(version)


def _write(sqlite: sqlite3.Connection, batch: Batch, state: RunState, added: str, unreadable: int) -> int:
    counts = (batch.rows, batch.new_rows, unreadable, state.alive, state.dropped)
    found = sqlite.execute(_RUN_SQL, (*state[:8], *state.position, *counts, *state.start)).fetchall()
    if not found:
        raise StorageError(f"somebody else has committed rows of run {state.run} meanwhile")
    [(last_seq,)] = found
    stored = _insert(sqlite, batch, (added, state.run, last_seq))
    if stored > batch.new_rows:
        sqlite.execute(_STORED_SQL, (stored - batch.new_rows, state.run))
    sqlite.commit()
    return batch.rows


def _insert(sqlite: sqlite3.Connection, batch: Batch, first: tuple[str, int, int]) -> int:
    before = _highest_rows(sqlite, batch.keyed_tables)
    for sql, parameters in batch.statements:
        sqlite.execute(sql, (*first, *parameters))
    return batch.new_rows + _highest_rows(sqlite, batch.keyed_tables) - before


def _highest_rows(sqlite: sqlite3.Connection, tables: Sequence[str]) -> int:
    """
    Return the sum of the highest rowids of ``tables``.

    A row that is new has the next one, a row that is only filled in keeps its own:
    the difference counts the new ones.

    """
    if not tables:
        return 0
    # Names of our own tables, never from input.
    highest = (f"coalesce((SELECT max(rowid) FROM {table}), 0)" for table in tables)  # noqa: S608  # names of our own tables
    [(total,)] = sqlite.execute(f"SELECT {' + '.join(highest)}").fetchall()
    return int(total)
