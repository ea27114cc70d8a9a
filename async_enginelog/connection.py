"""
The one aiosqlite connection: connected, called, closed.

Only this module knows aiosqlite, and what its users suffer from: its thread isn't a daemon,
so a forgotten connection would hang the exit of the process (see :mod:`~async_enginelog.handles`);
cancelling an ``await`` doesn't stop the statement, so after any trouble the connection is
thrown away; and its thread starves beside a busy event loop (see :mod:`~async_enginelog.handover`).

"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self, TypeVar

import aiosqlite

from .errors import DatabaseDamaged, NotAnEngineLog, PathError, RowRefused, StorageError
from .handles import Handle, stop, stop_at_exit, tidy_up
from .handover import hand_over
from .ownership import is_open_to_all, more_open, stranger

__all__ = ["Connection", "check_companions", "check_path", "storage_errors", "uri"]

T = TypeVar("T")

# How long SQLite itself waits for a lock, in seconds: short, as the writer tries again anyway
# and wants to see its deadline.
BUSY_TIMEOUT = 0.25

# What SQLite keeps beside a database.
COMPANIONS = ("-wal", "-shm", "-journal")

# A copy is made in steps of so many pages of 4 KiB; between them it tells how far it is.
COPY_PAGES = 256


class Connection:
    """
    A connection to one database file. One task at a time may use it.

    Each method raises :exc:`StorageError` if the disk or the database can't be used now. The
    connection is of no use then: close it and open another.

    """

    def __init__(self, path: Path, connection: aiosqlite.Connection) -> None:
        self.path = path
        self._connection = connection
        self.remember_file()

    @classmethod
    async def connect(cls, path: Path, name: str, *, uri: bool) -> Self:
        """Connect to what SQLite calls ``name``, the file at ``path``."""
        with storage_errors(path):
            # In this mode sqlite3 sends BEGIN IMMEDIATE itself, within the call of the first
            # statement that writes: one hand-over to the thread less for each transaction.
            connecting = aiosqlite.connect(
                name,
                uri=uri,
                timeout=BUSY_TIMEOUT,
                isolation_level="IMMEDIATE",
                cached_statements=256,
                factory=Handle,
                check_same_thread=False,
            )
            tidy_up()
            stop_at_exit(connecting)
            opening = asyncio.ensure_future(hand_over(connecting))
            try:
                connection = await asyncio.shield(opening)
            except asyncio.CancelledError:
                # Its thread would open the file nevertheless, and tell so to a loop that may be closed.
                await _end_of(opening)
                with suppress(sqlite3.Error, asyncio.CancelledError):
                    await opening.result().close()
                stop(connecting)
                raise
            except BaseException:
                stop(connecting)
                raise
        return cls(path, connection)

    def check_file(self) -> None:
        """
        Make sure that the path still leads to the files that are open: the database, its WAL and its index.

        On Linux and macOS a deleted file can be written to as if nothing had happened.

        Raises:
            StorageError: If one was deleted, moved or replaced.

        """
        for name, identity in self._files.items():
            if _identity(name) != identity:
                raise StorageError(f"{name} was deleted or replaced under the log")

    def remember_file(self) -> None:
        """Note which files the path leads to now, for :meth:`check_file`."""
        path = str(self.path)
        found = {name: _identity(name) for name in (path, f"{path}-wal", f"{path}-shm")}
        # SQLite makes those beside when it needs them, and lets them be as long as the database is open.
        self._files = {name: identity for name, identity in found.items() if identity or name == path}

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
            self.abandon()

    def abandon(self) -> None:
        """Have the connection closed by its thread, without waiting; for a loop that is closed."""
        stop(self._connection)

    async def execute(self, sql: str, parameters: Sequence[Any] = ()) -> None:
        """Execute one statement."""
        await self.fetch(sql, parameters)

    async def fetch(self, sql: str, parameters: Sequence[Any] = ()) -> list[Any]:
        """
        Execute one statement and return its rows as tuples.

        The first statement that writes begins a transaction; :meth:`commit` ends it.

        """
        with storage_errors(self.path):
            return list(await hand_over(self._connection.execute_fetchall(sql, parameters)))

    async def run_script(self, script: str) -> None:
        """Commit, then execute statements each to its end."""
        with storage_errors(self.path):
            await hand_over(self._connection.executescript(script))

    async def carry_out(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """
        Call ``work`` with SQLite's own connection, in the thread of aiosqlite, and return what it returns.

        For statements that belong together, and what has to be computed for them: one way to the thread and
        back. Each other method is one of its own, for which a busy event loop needs one turn or two.

        """
        results: list[T] = []
        calling: Any = lambda sqlite: results.append(work(sqlite))  # noqa: E731 - instead of a script
        with storage_errors(self.path):
            await hand_over(self._connection.executescript(calling))
        return results[0]

    async def commit(self) -> None:
        """Commit what was written since the last commit."""
        with storage_errors(self.path):
            await hand_over(self._connection.commit())

    async def roll_back(self) -> None:
        """Forget what was written since the last commit."""
        with storage_errors(self.path):
            await hand_over(self._connection.rollback())

    @property
    def total_changes(self) -> int:
        """How many rows this connection has inserted, changed and deleted."""
        return self._connection.total_changes

    async def copy_pages(self, copy: Self, progress: Callable[[int, int], None]) -> None:
        """Copy all pages into the database of ``copy``; tell how many are left, of how many."""
        stopped = threading.Event()

        def step(_: int, left: int, pages: int) -> None:
            if stopped.is_set():  # the thread would go on to the end, whoever waits for it
                raise InterruptedError("the copying was stopped")
            progress(left, pages)

        backup = self._connection.backup(copy._connection, pages=COPY_PAGES, progress=step)
        copying = asyncio.ensure_future(backup)
        try:
            with storage_errors(copy.path):
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


def uri(path: Path, mode: str) -> str:
    """Return the URI of a file (https://www.sqlite.org/uri.html)."""
    return f"{path.absolute().as_uri()}?mode={mode}"


def _identity(name: str) -> tuple[int, int] | None:
    try:
        stat = os.stat(name)
    except OSError:
        return None
    return stat.st_dev, stat.st_ino


def check_path(path: Path, *, create: bool, write: bool = True) -> bool:
    """
    Make sure that a database can be at ``path``; tell whether it is yet to be made.

    SQLite's own message is "unable to open database file" for all of these.

    """
    with storage_errors(path):
        if path.is_dir():
            raise PathError(f"{path} is a folder; pass the path of a file in it")
        if not path.parent.is_dir():
            raise PathError(f"{path}: the folder {path.parent} doesn't exist; create it, or mend the path")
        if write:
            _refuse_planted(path)
        is_new = not path.exists() and not path.is_symlink()
        if is_new and not create:
            raise PathError(f"{path} doesn't exist; mend the path, or create it: enginelog init {path}")
        if write and not is_new and _is_on_read_only_disk(path):
            raise StorageError(f"{path}: its disk is read-only")
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
        # Never opened here: closing any descriptor of the file would drop the locks that SQLite holds on
        # it in this process (https://www.sqlite.org/howtocorrupt.html, section 2.2).
        if not path.is_file():
            raise PathError(f"{path} isn't a file; pass another path")
        return path.stat().st_size == 0


def _refuse_planted(path: Path) -> None:
    """
    Refuse a database that another account may have put there, where any account may.

    Elsewhere, whoever owns the folder has chosen who may; an engine may share its database with others.

    """
    if not is_open_to_all(path.parent):
        return
    if why := stranger(path, modes=False):
        raise PathError(f"{why}, and any account may put files into {path.parent}; use a folder of your own")


def check_companions(path: Path, before: Collection[Path] | None = None) -> list[Path]:
    """
    Refuse a ``-wal``, ``-shm`` or ``-journal`` that another account may have put beside a database.

    Asked before a database is opened, and again after: only what is there can't be exchanged any more.

    Args:
        before: What was there before it was opened.

    Returns:
        Those that are there.

    Raises:
        StorageError: If there is one.

    """
    with storage_errors(path):
        files = [path.with_name(path.name + end) for end in COMPANIONS]
        for file in files if is_open_to_all(path.parent) else ():
            why = stranger(file, modes=False)
            if not why and before is not None and file not in before:
                # SQLite makes it like the database. But what it finds, it gives to root if it runs as root.
                why = more_open(file, path)
            if why:
                raise StorageError(
                    f"{why}, and any account may put files into {path.parent}; look what it is, and "
                    "remove it if it isn't the engine's"
                )
        return [file for file in files if file.exists()]


def _is_on_read_only_disk(path: Path) -> bool:
    """Tell whether nobody can write there, as the system makes it when a disk fails."""
    return hasattr(os, "statvfs") and bool(os.statvfs(path.parent).f_flag & os.ST_RDONLY)


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turn what SQLite and the operating system raise into exceptions of our own."""
    try:
        yield
    except (StorageError, RowRefused):
        raise
    except UnicodeDecodeError as error:  # in SQLite's own message, which names what isn't text any more
        raise DatabaseDamaged(f"{path} is damaged: {error}") from error
    except (OverflowError, UnicodeError, sqlite3.IntegrityError, sqlite3.DataError) as error:
        raise RowRefused(str(error)) from error
    except (sqlite3.InterfaceError, sqlite3.ProgrammingError) as error:
        if "binding" in str(error):  # a value of a type that SQLite has no word for
            raise RowRefused(str(error)) from error
        raise StorageError(f"{path}: {error}") from error
    except (sqlite3.Error, OSError) as error:
        if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_NOTADB:
            raise NotAnEngineLog(f"{path} isn't a SQLite database; pass another path") from error
        if _tells_of_damage(error):
            raise DatabaseDamaged(f"{path} is damaged: {error}") from error
        raise StorageError(f"{path}: {error}") from error
    except ValueError as error:  # aiosqlite's word for a connection that is closed
        raise StorageError(f"{path}: {error}") from error


def _tells_of_damage(error: Exception) -> bool:
    # The first byte is the error, the others say where it was met.
    code = getattr(error, "sqlite_errorcode", None) or 0
    return code & 0xFF == sqlite3.SQLITE_CORRUPT or "Could not decode to UTF-8" in str(error)
