"""EngineLog: what users hold. Opening, taking rows, flushing, closing."""

from __future__ import annotations

import asyncio
import os
import threading
import warnings
import weakref
from collections.abc import Callable, Coroutine, Iterator, Mapping
from datetime import timedelta
from types import TracebackType
from typing import Any, Literal, Self

from . import ownership, segments, tables
from .console import Console
from .database import Database, Synchronous
from .errors import LogClosed, NotAnEngineLog, PathError, SchemaTooNew, SpoolUnusable, StorageError
from .handover import hand_over
from .lines import RowEncoder, encoder_of
from .mending import Mender
from .opening import begin_run
from .paths import default_path, true_path
from .retention import Keep
from .segments import Header, spool_folder
from .spool import Spool
from .statistics import Statistics
from .steps import Step, StepNumbers
from .table_functions import TableFunctions
from .upkeep import Upkeep
from .values import local_time_text, time_text
from .writer import Writer

__all__ = ["EngineLog", "current_log", "log_in_reach"]

Timezone = Literal["utc", "local"]

# The longest timeout, in seconds; threads can't wait much longer.
MAX_TIMEOUT = 1_000_000

# One in so many rows that go to the console gives way to the other tasks of the loop.
CONSOLE_PAUSE_ROWS = 256

# How long opening waits for the rows of dead runs to be committed, in seconds. What takes
# longer goes on in the background.
RECOVERY_PATIENCE = 5.0


class EngineLog(TableFunctions):
    """
    The log of an engine, in one SQLite file.

    ::

        async with EngineLog("engine_log.db") as log:
            await log.log_steps(step_name="resample", recording_id=202508290514312002)

    The log functions take microseconds: they wait neither for a disk nor for a lock. They
    suspend only while the writer is far behind. A row survives the death of the process from the
    moment its call has returned, however the process dies. They may be called by any number of
    tasks of the event loop that opened the log; :meth:`log_row_nowait` by any thread. Cancelling a
    task in a log function is safe: the row was taken before the function suspended.

    Wrong arguments raise at the call; a disk or a database that fails never does. Then rows wait in
    the spool beside the database, a warning goes to the logger ``async_enginelog``, and
    :meth:`flush` and :meth:`aclose` say what is wrong.

    Args:
        path: The database; by default the setting ``ENGINELOG_DB``, else ``engine_log.db``.
        create: Whether to create the file and its folder if they don't exist.
        synchronous: ``"NORMAL"`` survives the death of the process; ``"FULL"`` keeps also the
            commits before a power failure, at the price of waiting for the disk in each
            (https://www.sqlite.org/pragma.html#pragma_synchronous).
        timezone: ``"utc"``, or ``"local"`` to store local wall-clock times.
        timeout: How long :meth:`flush` and :meth:`aclose` try, in seconds.
        spool_limit: How many bytes the spool may take on the disk. Beyond it, rows go to
            the console.
        mode: The mode of a database that is created, whatever the umask; its ``-wal`` and ``-shm``
            get the same. ``0o640`` lets its group read along, ``0o660`` also while no engine runs. Files
            that are there keep their own; the spool is for this account only. Means nothing on Windows.
        keep: What is kept, such as ``timedelta(days=30)``, or ``Keep(age=…, rows=…, file_bytes=…)``. What
            is beyond goes, in the background, whole recordings at once. By default, all is kept.

    Raises:
        ValueError, TypeError: If a setting can't be meant.

    """

    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        create: bool = True,
        synchronous: Synchronous = "NORMAL",
        timezone: Timezone = "utc",
        timeout: float = 10.0,
        spool_limit: int = 1024**3,
        mode: int = ownership.FILE_MODE,
        keep: Keep | timedelta | None = None,
    ) -> None:
        if synchronous not in ("NORMAL", "FULL"):
            raise ValueError(f"synchronous is {synchronous!r}; pass 'NORMAL' or 'FULL'")
        if timezone not in ("utc", "local"):
            raise ValueError(f"timezone is {timezone!r}; pass 'utc' or 'local'")
        if not isinstance(timeout, int | float) or not 0 < timeout <= MAX_TIMEOUT:
            raise ValueError(
                f"timeout is {timeout!r}; pass a positive number of seconds, up to {MAX_TIMEOUT:,}"
            )
        two_segments = 2 * segments.SEGMENT_BYTES
        if spool_limit < two_segments:
            raise ValueError(f"spool_limit is {spool_limit:,} bytes; pass at least {two_segments:,}")
        self._mode = ownership.check_mode(mode)
        self._keep = Keep.of(keep)
        self.path = true_path(path if path is not None else default_path())
        self._create = create
        self._synchronous: Synchronous = synchronous
        self._as_stored = local_time_text if timezone == "local" else time_text
        self._timeout = timeout
        self._spool_limit = spool_limit

        # Why no row is taken; None while the log is open.
        self._closed: str | None = "this EngineLog isn't open; use `async with EngineLog(…) as log:`"
        self._opened = False
        self._console = Console()
        self._mender = Mender(
            self.path,
            lambda: Database.open(self.path, create=create, synchronous=synchronous, mode=self._mode),
            self._console,
        )
        self._spool: Spool
        self._header: Header
        self._append: Callable[[bytes], bool] = self._refuse

        # The writer, its task and its loop; others take their place if the loop goes away.
        self._writer: Writer
        self._task: asyncio.Task[None]
        self._loop: asyncio.AbstractEventLoop
        # The thread of that loop; from others, rows come by another way.
        self._thread: int | None = None
        self._closing: asyncio.Task[None] | None = None

        self._id_lock = threading.Lock()
        self._connection_ids: Iterator[int]
        self._message_ids: Iterator[int]
        self._step_numbers = StepNumbers()
        # Whether the loop was told of rows from threads.
        self._told_loop = False

    def __repr__(self) -> str:
        return f"<EngineLog {str(self.path)!r} {'closed' if self._closed else 'open'}>"

    # -- opening and closing --------------------------------------------------------------------

    async def open(self) -> Self:
        """
        Open the log; ``async with`` does it.

        Creates or migrates the database, and commits what dead runs left in their spools. If the
        database can't be used at the moment (locked, say), the log opens nevertheless, and
        rows wait in the spool.

        Raises:
            PathError: If the path can't be used as it is.
            NotAnEngineLog: If the file isn't a database of this package.
            SchemaTooNew: If it was written by a newer version of this package.
            LogClosed: If this log was opened before; make another.

        """
        if self._opened:
            raise LogClosed("an EngineLog opens only once; make another")
        self._loop = asyncio.get_running_loop()
        _abandon_logs_of_closed_loops()
        self._make_folder()
        database, newest_run = await self._first_database()
        try:
            self._spool, self._header = await begin_run(
                spool_folder(self.path), newest_run, self._spool_limit, self._console
            )
        except GeneratorExit:  # the loop was closed under the opening
            if database is not None:
                database.abandon()
            raise
        except BaseException:
            if database is not None:
                await database.close()
            raise
        self._opened = True
        self._connection_ids, self._message_ids = self._spool.ids(), self._spool.ids()
        self._append, self._closed = self._spool.append, None
        self._start_writer(database)
        _logs.setdefault(self._loop, []).append(self)
        _all_logs.add(self)
        try:
            async with asyncio.timeout(RECOVERY_PATIENCE):
                await self._writer.first_news()
        except TimeoutError:
            folder = self._spool.folder
            self._console.warn("recovery", f"the rows of dead runs in {folder} are still being committed")
        except asyncio.CancelledError:
            await self._close_quietly()
            raise
        return self

    async def _close_quietly(self) -> None:
        try:
            await self.aclose()
        except StorageError as error:
            self._console.warn("closing", str(error))

    def _make_folder(self) -> None:
        if not self._create:
            return
        try:
            ownership.make_folder(self.path.parent, ownership.folder_mode(self._mode))
        except OSError as error:
            raise PathError(
                f"{self.path}: the folder {self.path.parent} can't be created: {error.strerror}"
            ) from error

    async def _first_database(self) -> tuple[Database | None, int]:
        """Return the database, if it can be used now, and the number of its newest run."""
        database = None
        try:
            database = await self._mender.open(None)
            return database, await database.newest_run()
        except (PathError, NotAnEngineLog, SchemaTooNew):
            raise
        except (StorageError, ValueError, TypeError):  # the latter two: what should be a number isn't
            if database is not None:
                await database.close()
            return None, 0  # the writer tries again, and warns
        except BaseException:
            if database is not None:
                await database.close()
            raise

    def _start_writer(self, database: Database | None = None) -> None:
        self._loop, self._thread = asyncio.get_running_loop(), threading.get_ident()
        self._upkeep = self._new_upkeep()
        self._writer = Writer(
            database,
            lambda: self._mender.open(self._writer.fault),
            self._spool,
            self._header,
            self._console,
            as_stored=self._as_stored,
            upkeep=self._upkeep,
        )
        self._task = self._loop.create_task(self._run_writer(), name="enginelog-writer")

    def _new_upkeep(self) -> Upkeep | None:
        if self._keep is None:
            return None
        return Upkeep(self._keep, self._as_stored, self._spool.folder, self._spool.off_loop, self._console)

    async def _run_writer(self) -> None:
        await self._writer.run()
        if self._closed is None and self._closing is None:
            warnings.warn(f"unclosed {self!r}; its rows are kept", ResourceWarning, source=self, stacklevel=2)

    def _is_elsewhere(self) -> bool:
        """Tell whether the loop of the writer isn't the one that runs here, and runs no more."""
        elsewhere = self._loop is not asyncio.get_running_loop()
        if elsewhere and self._loop.is_running():
            raise LogClosed(
                f"{self!r} belongs to another event loop, which is running; there, use "
                "asyncio.run_coroutine_threadsafe(log.flush(), loop)"
            )
        return elsewhere

    async def _ensure_writer(self) -> None:
        """Start another writer if the task was cancelled or its loop is gone."""
        elsewhere = self._is_elsewhere()
        if not elsewhere and self._writer.is_ending:
            await asyncio.wait({self._task})  # two at a time would commit the same rows
        if elsewhere or self._task.done():
            self._start_writer()

    async def flush(self) -> None:
        """
        Return when all rows so far are committed in the database.

        Any task may call it, any number at once; cancelling is safe and stops nothing.

        Raises:
            StorageError: If that isn't reached within the ``timeout`` of the log. The rows stay
                in the spool and are committed later.
            LogClosed: If the log isn't open.

        """
        self._check_open()
        end = self._spool.end
        try:
            async with asyncio.timeout(self._timeout):
                await self._ensure_writer()
                while not await self._writer.committed_up_to(end):
                    if self._closing is not None:
                        raise self._not_committed()
                    await self._ensure_writer()  # somebody has cancelled it meanwhile
        except TimeoutError:
            raise self._not_committed() from self._writer.fault

    def _not_committed(self) -> StorageError:
        statistics = self.statistics()
        reason = self._writer.fault or f"not done within {self._timeout:g} seconds"
        return StorageError(
            f"{statistics.pending:,} rows wait in {self._spool.folder}, to be committed when the log is "
            f"opened next: {reason}"
        )

    async def aclose(self) -> None:
        """
        Commit all rows and close the log; ``async with`` does it.

        From the beginning of this call, log functions raise :exc:`LogClosed`. May be called by
        any task, and again: each call returns when the log is closed. Cancelling it is safe;
        the closing itself goes on.

        Raises:
            StorageError: If not all rows could be committed within the ``timeout`` of the log.
                The log is closed all the same, and the rows are committed when it is opened next.

        """
        if not self._opened or (self._closed and self._closing is None):
            return
        if self._closing is None:
            self._closing = asyncio.get_running_loop().create_task(self._close(), name="enginelog-close")
        if not self._closing.cancelled():
            await asyncio.shield(self._closing)

    async def _close(self) -> None:
        self._is_elsewhere()
        self._stop_accepting("this EngineLog is closed")
        try:
            await self._ensure_writer()
            self._writer.stop()
            await self._end_writer()
            drained = await hand_over(asyncio.to_thread(self._end_threads))
        except asyncio.CancelledError:
            # The loop is taken down: the writer commits what it can at once, and so all is said and done.
            await asyncio.wait({self._task}, timeout=self._timeout)
            self._end_threads()
            raise
        if not drained:
            raise self._not_committed() from self._writer.fault

    async def _end_writer(self) -> None:
        await asyncio.wait({self._task}, timeout=self._timeout)
        if not self._task.done():
            self._writer.give_up()
            self._task.cancel()
            await asyncio.wait({self._task}, timeout=1.0)

    def _end_threads(self) -> bool:
        """Close spool and console; tell whether all is committed."""
        drained = self._spool.close("closed", committed=self._writer.position, timeout=self._timeout)
        self._console.close(self._timeout)
        return drained

    def _stop_accepting(self, reason: str) -> None:
        self._closed = reason
        self._append = self._refuse
        for logs in _logs.values():
            if self in logs:
                logs.remove(self)
        for loop in [loop for loop, logs in _logs.items() if not logs]:
            del _logs[loop]

    async def __aenter__(self) -> Self:
        return await self.open()

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if exc_value is None:
            await self.aclose()
        else:
            # An exception of the engine is worth more than one of its log.
            await self._close_quietly()

    def _abandon(self) -> None:
        """Let go of everything but the rows: the loop of this log is closed for good."""
        self._stop_accepting("the event loop of this EngineLog was closed under it; open another")
        self._writer.abandon()
        self._spool.close("abandoned", committed=None, timeout=1.0)
        warnings.warn(f"unclosed {self!r}; its rows are kept", ResourceWarning, source=self, stacklevel=3)

    def _leave_to_parent(self) -> None:
        """Forget all in a forked child, where it belongs to the parent."""
        self._closed = (
            "this EngineLog was opened before a fork and belongs to the parent process; "
            "open another in the child"
        )
        self._append = self._refuse
        self._spool.abandon()

    # -- taking rows ----------------------------------------------------------------------------

    def _refuse(self, line: bytes) -> bool:
        raise LogClosed(self._closed)

    def _check_open(self) -> None:
        if self._closed is not None:
            raise LogClosed(self._closed)

    def _accept(self, encode: RowEncoder, columns: dict[str, Any]) -> bool:
        """Take a row in; tell whether the caller should give way."""
        line = encode(columns)
        try:
            return self._append(line) and self._writer.attend()
        except SpoolUnusable as error:
            return self._accept_on_console(line, error)

    def _accept_on_console(self, line: bytes, error: SpoolUnusable) -> bool:
        console = self._console
        if console.put_row(self._header.run, line):
            console.warn("spool", f"{error}; rows go to the console, for `enginelog replay`")
        else:
            console.warn("dropped", f"{error}, and the console doesn't keep up: rows are dropped, counted")
        return (console.rows + console.dropped) % CONSOLE_PAUSE_ROWS == 0

    def _give_way(self) -> Coroutine[Any, Any, None]:
        return self._writer.give_way()

    async def log_row(self, table: str, columns: Mapping[str, object]) -> None:
        """
        Log a row of any table, with column names in any case.

        Args:
            table: Its name, in any case.
            columns: Values by column; :obj:`None` means not known.

        Raises:
            ValueError: If there is no such table, or no value is given.
            TypeError: If there is no such column, or a value has the wrong type.
            LogClosed: If the log isn't open.

        """
        if self._accept(encoder_of(tables.find_table(table)), _copied(columns)):
            await self._give_way()

    def log_row_nowait(self, table: str, columns: Mapping[str, object]) -> None:
        """
        Do the same from any thread, or from code that isn't a coroutine; never waits.

        Raises: as :meth:`log_row`.

        """
        self._accept_nowait(encoder_of(tables.find_table(table)), _copied(columns))

    def offer(self, table: tables.Table, columns: dict[str, Any]) -> None:
        """
        Do the same for what watches an engine, and never raise: it must not disturb what it watches.

        Args:
            table: One of :data:`~async_enginelog.tables.TABLES`.
            columns: Values by argument; the dictionary is used up.

        """
        try:
            self._accept_nowait(encoder_of(table), columns)
        except Exception as error:
            self._tell_refused(table, error)

    def _tell_refused(self, table: tables.Table, error: Exception) -> None:
        subject, reason = "offer", str(error)
        if not isinstance(error, LogClosed):
            subject, reason = f"offer {table.name}", repr(error)
        try:
            self.tell(subject, f"{table.name}: a row isn't logged: {reason}")
        except Exception:  # noqa: S110  # at the limit of a recursion, or where there can be no more threads
            pass

    def step(self, name: str) -> Step:
        """
        Log a step of the calling function, with how it ends: for ``with`` or ``async with``.

        ::

            async with log.step("resample"):
                ...

        Works in any thread. Two rows in ENGINE_DB_LOG_STEPS, as :class:`~async_enginelog.steps.Step` says.

        Args:
            name: What is done.

        Raises:
            TypeError: If the name isn't a text. Nothing else is raised, also if the log isn't open.

        """
        return Step(self, self._step_numbers, name)

    def tell(self, subject: str, message: str) -> None:
        """Say something on the logger ``async_enginelog``, off the loop, each subject at most every 30 s."""
        self._console.warn(subject, message)

    def _accept_nowait(self, encode: RowEncoder, columns: dict[str, Any]) -> None:
        if threading.get_ident() == self._thread:
            self._accept(encode, columns)
            return
        line = encode(columns)
        self._check_open()
        try:
            self._spool.append_from_thread(line)
        except SpoolUnusable as error:
            self._check_open()
            self._accept_on_console(line, error)
            return
        if not self._told_loop:
            self._told_loop = True
            try:
                self._loop.call_soon_threadsafe(self._hear_threads)
            except RuntimeError:  # the loop is closed; the row is safe in the spool
                pass

    def _hear_threads(self) -> None:
        self._told_loop = False
        self._writer.rows_from_thread()

    def next_connection_id(self) -> int:
        """Return an id for a connection: unique in the database, across runs and processes."""
        self._check_open()
        with self._id_lock:
            return next(self._connection_ids)

    def next_message_id(self) -> int:
        """Return an id for a message: unique in the database, across runs and processes."""
        self._check_open()
        with self._id_lock:
            return next(self._message_ids)

    @property
    def is_open(self) -> bool:
        """Whether the log takes rows: it was opened, and isn't closed or being closed."""
        return self._closed is None

    @property
    def run_id(self) -> int:
        """The ENGINE_RUN_ID of the rows of this log."""
        if not self._opened:
            raise LogClosed(self._closed)
        return self._header.run

    @property
    def database_connections(self) -> int:
        """How many connections to its database this log holds: 1, or 0 while the database fails."""
        return int(self._opened and self._writer.fault is None)

    def statistics(self) -> Statistics:
        """
        Return what became of the rows so far. Works also after closing.

        Raises:
            LogClosed: If the log was never open.

        """
        if not self._opened:
            raise LogClosed(self._closed)
        spool, writer, console = self._spool, self._writer, self._console
        spooled = spool.appended + spool.appended_by_threads
        database_path = self.path
        fault = writer.last_fault
        return Statistics(
            accepted=spooled + console.rows,
            committed=writer.committed,
            pending=spooled - writer.committed - writer.unreadable,
            on_console=console.rows,
            unreadable=writer.unreadable,
            dropped=console.dropped,
            pruned=self._upkeep.pruned_rows if self._upkeep else 0,
            flushes=writer.flushes,
            spool_bytes=spool.disk_bytes(),
            database_bytes=segments.size_of(database_path),
            wal_bytes=segments.size_of(segments.beside(database_path, "-wal")),
            last_fault=str(fault) if fault else None,
        )


def _copied(columns: Mapping[str, object]) -> dict[str, Any]:
    if not isinstance(columns, Mapping):
        raise TypeError(f"columns are {type(columns).__name__}; pass a mapping of names to values")
    return dict(columns)


# Open logs by event loop, the one opened last at the end.
_logs: dict[asyncio.AbstractEventLoop, list[EngineLog]] = {}
_all_logs: weakref.WeakSet[EngineLog] = weakref.WeakSet()


def current_log() -> EngineLog:
    """
    Return the log that is open on the running event loop; of several, the one opened last.

    Raises:
        LogClosed: If there is none.

    """
    try:
        return _logs[asyncio.get_running_loop()][-1]
    except KeyError:
        raise LogClosed(
            "no EngineLog is open on this event loop; use `async with EngineLog(…):` around the engine"
        ) from None


def log_in_reach() -> EngineLog | None:
    """
    Return the log for code that isn't handed one: that of the running event loop or, in a
    thread without a loop, the one opened last in this process; :obj:`None` if there is none.

    """
    try:
        logs = _logs.get(asyncio.get_running_loop())
    except RuntimeError:
        logs = next(reversed(list(_logs.values())), None)
    return logs[-1] if logs else None


def _abandon_logs_of_closed_loops() -> None:
    for loop, logs in list(_logs.items()):
        if loop.is_closed():
            for log in list(logs):
                log._abandon()


def _leave_logs_to_parent() -> None:
    for log in list(_all_logs):
        if log._closed is None:
            log._leave_to_parent()
    _logs.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_logs_to_parent)
