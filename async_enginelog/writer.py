"""
The one background task of a log: it moves rows from the spool into the database.

It is the only user of the connection. Whatever the database does, it goes on: after a fault
it throws the connection away, waits a little, opens another, asks the database how far the spool
is committed, and goes on from there. That is also how it begins, and what makes each row be
committed exactly once.

"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from .committer import Committer
from .console import Console
from .database import WAL_LIMIT_BYTES, Database
from .errors import StorageError
from .recovery import recover_dead_runs
from .segments import Header, Position
from .spool import Spool
from .upkeep import Upkeep

__all__ = ["Writer"]

# Once in so many rows that come faster than the writer takes them, the caller waits for the next
# commit, but no longer than PAUSE seconds (ten times that when half of the spool is used): a disk
# that stalls must not stall the engine. So the writer keeps up with whoever logs without end, and
# an engine at its usual pace hardly ever waits, also while the writer has a long way to catch up.
PAUSE_ROWS = 1024
PAUSE = 0.01
# Other tasks that compute for so long in their turn, in seconds, are pause enough: what is measured in turns
# of theirs would be no moment.
LONG_TURN = 0.0005
# So many rows are committed in one transaction, if they wait: the busier the loop, the longer
# each of the few steps of a transaction takes.
MAX_BATCH_ROWS = 8192
# A fault is tried again after the first of these, in seconds, then doubled up to the second.
RETRY_DELAYS = 0.1, 1.0
# An idle log says so often that it is alive, and looks for what dead runs left, in seconds.
SIGN_OF_LIFE = 30.0
# A WAL of this size is told of.
WAL_ALARM_BYTES = 4 * WAL_LIMIT_BYTES


class Pace(NamedTuple):
    """
    When rows are committed.

    Attributes:
        delay: Rows wait so long, in seconds, unless a segment of the spool is full.
        rows: So many of the loop's rows don't wait.
        pause_rows: Who logs without end waits from so many on.

    """

    delay: float
    rows: int
    pause_rows: int


USUAL = Pace(0.2, 1000, 500 + PAUSE_ROWS)
# While the WAL can't begin anew, each commit adds all pages that it touches: the fewer, the slower it grows.
SPARING = Pace(1.0, 5000, 5000 + PAUSE_ROWS)


class _Stopped(Exception):
    """The log is being closed, in the midst of a pruning; the next one goes on."""


class Writer:
    """
    Commit what is in the spool, for as long as :meth:`run` runs.

    Args:
        database: The connection, if it is open already.
        open_database: Opens the database; called after each fault.
        spool: Where the rows are.
        header: Who this run is.
        console: Where faults are told.
        as_stored: Turns an ISO 8601 time in UTC into the text that is stored.
        upkeep: Keeps the log within its limits, if it has any.

    Attributes:
        committed: Rows of this run that are committed.
        unreadable: Lines of this run's spool that were set aside.
        position: Up to where the spool is committed.
        flushes: Transactions with rows of this run.
        fault: Why the database can't be used at the moment.
        last_fault: The last such reason, also when it is over.

    """

    def __init__(
        self,
        database: Database | None,
        open_database: Callable[[], Awaitable[Database]],
        spool: Spool,
        header: Header,
        console: Console,
        *,
        as_stored: Callable[[str], str],
        upkeep: Upkeep | None = None,
    ) -> None:
        self._database = database
        self._open_database = open_database
        self._spool = spool
        self._header = header
        self._console = console
        self._upkeep = upkeep
        self._committer = Committer(spool.folder, as_stored, spool.off_loop)

        self.committed = 0
        self.unreadable = 0
        self.flushes = 0
        self.position = Position(1, 0)
        self.fault: StorageError | None = None
        self.last_fault: StorageError | None = None
        # What the database says, or should say, of ROWS_COMMITTED.
        self._database_rows = 0

        # Rows appended when the writer last took some.
        self._taken = 0
        self._pace = USUAL
        # Set when there is something to do.
        self._wake = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        # Set, and replaced, after each commit and each fault.
        self._news = asyncio.Event()
        # Whether the database was reached, and what dead runs left is committed.
        self.reached = False
        # Whether to say that this run is alive, and to look for dead ones; and when that is due next.
        self._look_around = True
        self._next_look = 0.0
        # Whether stop() was called; whether the task was cancelled by somebody else; by give_up().
        self._closing = self._last_round = self._given_up = False
        # Whether the task is there, so that news will come.
        self._running = True
        self._retry_delay = RETRY_DELAYS[0]

    # -- called by the log ----------------------------------------------------------------------

    def attend(self) -> bool:
        """Take note of rows in the spool; tell whether the caller should give way."""
        spool, pace = self._spool, self._pace
        if not self._is_pressing():
            self._wake_later()
            spool.attention = self._taken + pace.rows
            return False
        self._wake.set()
        if spool.appended - self._taken < pace.pause_rows:
            spool.attention = self._taken + pace.pause_rows
            return False
        return True

    def _is_pressing(self) -> bool:
        """Tell whether the rows that came since the writer last took some can't wait."""
        spool = self._spool
        return spool.appended - self._taken >= self._pace.rows or spool.is_beyond(self.position)

    async def give_way(self) -> None:
        """Let other tasks run, and the writer catch up, but only for a moment."""
        spool = self._spool
        spool.attention = spool.appended + PAUSE_ROWS
        if asyncio.current_task() is None:
            return  # whoever drives a coroutine by himself can't suspend it
        filling_up = spool.is_filling_up(self.position)
        computed = time.thread_time()
        await asyncio.sleep(0)
        computed = time.thread_time() - computed
        if not (self._running and self.fault is None):
            await asyncio.sleep(0.001)  # there will be no commit
        elif computed < LONG_TURN or filling_up:
            await self._next_commit(10 * PAUSE if filling_up else PAUSE)

    async def _next_commit(self, timeout: float) -> None:
        try:
            async with asyncio.timeout(timeout):
                await self._news.wait()
        except TimeoutError:
            pass

    def rows_from_thread(self) -> None:
        """Take note of rows that a thread appended; runs in the loop."""
        if self._spool.is_beyond(self.position):
            self._wake.set()
        else:
            self._wake_later()

    def _wake_later(self) -> None:
        if self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self._pace.delay, self._wake.set)

    async def first_news(self) -> None:
        """Wait until dead runs are recovered, or a fault is met."""
        while not self.reached and self.fault is None:
            await self._news.wait()

    async def committed_up_to(self, position: Position) -> bool:
        """Wait until all before ``position`` is committed; tell whether it is, as the task may end before."""
        self._wake.set()
        while self.position < position and self._running:
            await self._news.wait()
        return self.position >= position

    @property
    def is_ending(self) -> bool:
        """Whether the task was cancelled: rows that come now are for another."""
        return self._last_round or not self._running

    def stop(self) -> None:
        """Have :meth:`run` return as soon as the spool is empty and the database doesn't fail."""
        self._closing = True
        self._wake.set()

    def give_up(self) -> None:
        """Have :meth:`run` end at once when it is cancelled: its time is up."""
        self._given_up = True

    # -- the task -------------------------------------------------------------------------------

    async def run(self) -> None:
        """
        Commit rows until :meth:`stop` is called and all is committed.

        When the task is cancelled by somebody else (the event loop is taken down, and nobody
        closed the log), what is in the spool is committed before it ends, if that goes at once.

        """
        try:
            await self._work()
        except asyncio.CancelledError:
            self._last_round = True
            # The statement under way may have been committed or not: the next connection tells.
            await self._disconnect()
            if self._given_up:
                raise
            await self._work()
        except GeneratorExit:
            # The loop was closed under the task: there is nobody left to wait for anything.
            self.abandon()
            raise
        finally:
            self._running = False
            self._tell_news()
            await self._disconnect()

    async def _work(self) -> None:
        while True:
            try:
                await self._commit_all()
                self._works()
            except Exception as error:  # also one that nobody thought of: the rows are safe
                await self._fails(error)
            if self._last_round or (self._closing and self.fault is None):
                return
            await self._rest()

    async def _rest(self) -> None:
        """Wait for rows; after a fault, for the time to try again."""
        if self.fault is not None:
            await asyncio.sleep(self._retry_delay)
            self._retry_delay = min(self._retry_delay * 2, RETRY_DELAYS[1])
            return
        self._expect_rows()
        if self._upkeep is not None and self._upkeep.delay == 0:
            await self._prune(self._upkeep)
        else:
            due = self._upkeep.delay if self._upkeep is not None else SIGN_OF_LIFE
            await self._rows_within(min(due, self._next_look - asyncio.get_running_loop().time()))
            self._look_around = asyncio.get_running_loop().time() >= self._next_look

    def _expect_rows(self) -> None:
        # From here on the next row is to start the timer.
        self._spool.attention = self._spool.appended + 1

    async def _rows_within(self, seconds: float) -> None:
        """Wait for rows, but no longer than so."""
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            pass

    async def _prune(self, upkeep: Upkeep) -> None:
        try:
            await upkeep.round(await self._connected(), self._have_a_turn)
        except _Stopped:
            pass
        except Exception as error:  # a fault like others; what was deleted so far is whole
            await self._fails(error)

    async def _have_a_turn(self, seconds: float) -> None:
        """Commit rows as they come, between two steps of a pruning, for so long."""
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        while (left := end - loop.time()) > 0:
            await self._rows_within(left)
            if self._closing:
                raise _Stopped
            self._look_around = loop.time() >= self._next_look
            if self._wake.is_set() or self._look_around:
                await self._commit_all()
                self._expect_rows()

    async def _commit_all(self) -> None:
        database = await self._connected()
        if self._look_around:
            await self._commit(database, b"", self.position)
            await self._recover(database)
            self._look_around = False
        while True:
            self._take_note()
            end = self._spool.end
            data, position = await self._spool.read(self.position, MAX_BATCH_ROWS)
            if not data:
                self.position = position  # behind the header of a segment without rows
                self._tell_news()
                break
            await self._commit(database, data, position)
            if position >= end and not self._is_wanted():
                # What came meanwhile waits as other rows do: a commit at once would be one of few rows.
                if self._spool.end > position:
                    self._wake_later()
                return
        if self._closing:
            # Rows that went to the console meanwhile are in the counts, too.
            await self._commit(database, b"", position)
            await database.end_run(self._header.run, "closed", self._committer.now())

    def _is_wanted(self) -> bool:
        """Tell whether rows are to be committed at once."""
        return self._closing or self._last_round or self._wake.is_set() or self._is_pressing()

    def _take_note(self) -> None:
        """Note that all rows up to here are about to be taken."""
        self._wake.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._taken = self._spool.appended
        self._spool.attention = self._taken + self._pace.rows

    async def _commit(self, database: Database, data: bytes, position: Position) -> None:
        spool, on_console = self._spool, self._console.rows
        accepted = spool.appended + spool.appended_by_threads + on_console
        state = self._committer.state(
            self._header,
            self.position,
            position,
            accepted=accepted,
            on_console=on_console,
            dropped=self._console.dropped,
            alive=True,
        )
        outcome = await self._committer.commit(database, data, state)
        self.committed += outcome.rows
        self._database_rows += outcome.rows
        self.unreadable += outcome.unreadable
        self.flushes += bool(data)
        self.position = position
        self._spool.release(position)
        self._next_look = asyncio.get_running_loop().time() + SIGN_OF_LIFE
        self._watch_wal(database)
        self._tell_news()

    def _watch_wal(self, database: Database) -> None:
        """Tell of a reader that keeps SQLite from beginning the WAL anew, and spare it until that is over."""
        path, wal_bytes = database.path, database.wal_bytes
        if wal_bytes > WAL_ALARM_BYTES:
            self._pace = SPARING
            self._console.warn(
                "wal size",
                f"{path}-wal has grown to {wal_bytes:,} bytes: a reader holds on to an old state of the "
                "database; the WAL shrinks when that reader ends its transaction",
            )
        elif wal_bytes <= WAL_LIMIT_BYTES:
            self._pace = USUAL
            self._console.works_again("wal size", f"{path}-wal is back to {wal_bytes:,} bytes")

    async def _connected(self) -> Database:
        """Return the connection; open one if there is none, and find out how far things are."""
        if self._database is None:
            self._database = await self._open_database()
            self._look_around = True
            progress = await self._database.progress_of(self._header.run)
            if progress is not None:
                self.committed += progress.rows - self._database_rows
                self.position = max(progress.position, self._spool.start)
            self._database_rows = progress.rows if progress else 0
        return self._database

    async def _recover(self, database: Database) -> None:
        run, folder, off_loop = self._header.run, self._spool.folder, self._spool.off_loop
        recovered = await recover_dead_runs(database, folder, run, self._committer, off_loop, self._console)
        if recovered:
            self._console.warn("recovery", f"{database.path}: committed {recovered:,} rows of dead runs")
        self.reached = True
        self._tell_news()

    async def _disconnect(self) -> None:
        if self._database is not None:
            database, self._database = self._database, None
            await database.close()

    def abandon(self) -> None:
        """Let go of the connection without waiting; the loop is closed."""
        self._news = asyncio.Event()
        if self._database is not None:
            database, self._database = self._database, None
            database.abandon()

    async def _fails(self, error: Exception) -> None:
        await self._disconnect()
        fault = error
        if not isinstance(fault, StorageError):
            fault = StorageError(f"{type(error).__name__}: {error}")
            fault.__cause__ = error
        self.fault = self.last_fault = fault
        self._console.warn(
            "database", f"{fault}; rows wait in {self._spool.folder} until it works again, the engine goes on"
        )
        self._tell_news()

    def _works(self) -> None:
        if self.fault is not None:
            self.fault = None
            self._retry_delay = RETRY_DELAYS[0]
            self._console.works_again(
                "database", "the database works again; the rows that waited are committed"
            )

    def _tell_news(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()
