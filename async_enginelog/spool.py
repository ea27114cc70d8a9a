"""
The crash-proof queue of a run: a row is in it as soon as the call returns.

A segment is a preallocated file, mapped into memory. Appending a row is one copy into that
memory: no system call, no disk wait, and the kernel keeps what was copied when the process
dies, however it dies. See :mod:`~async_enginelog.segments` for the files.

"""

from __future__ import annotations

import asyncio
import errno
import mmap
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count, islice
from pathlib import Path
from typing import BinaryIO, TypeVar

from filelock import FileLock, Timeout

from .background import Background
from .errors import SpoolUnusable
from .handover import hand_over
from .ownership import create_file, make_folder, strange_folder
from .segments import (
    READ_BYTES,
    Header,
    Position,
    create_segment,
    first_lines,
    is_disk_fault,
    lock_path,
    read_lines,
    segment_path,
)

__all__ = ["IDS_PER_RUN", "Spool", "claim_run", "drop_lock", "take_lock"]

T = TypeVar("T")

# Ids of connections and messages are RUN * IDS_PER_RUN + n: unique in the database without
# asking it. A run that needs more of them claims another number. 2 ** 63 is enough for all
# runs until the year 2262.
IDS_PER_RUN = 10**9

# The last run whose ids fit into 64 bits.
MAX_RUN = 2**63 // IDS_PER_RUN - 1

# Segments made ahead of need. One would do, but for a disk that is slow for a moment.
SPARES = 2

# Segments that are kept though all in them is committed, as long as there is room: should the WAL with the
# commits be damaged, they are committed again. One commonly holds twice what SQLite commits between two
# checkpoints.
KEPT = 1

# How soon a segment that couldn't be made is tried again, in seconds.
RETRY_DELAY = 1.0


def claim_run(folder: Path, above: int = 0) -> int:
    """
    Claim a number that no other run of this database has or will have.

    It is the present second since 1970, or one more than the number claimed last if that is
    higher: so it stays unique when many runs start at once, and when the clock steps back.

    Args:
        folder: The spools of the database.
        above: The highest number that the database knows.

    Where it can't be remembered, as the disk is full, other runs know of it by its files and the database.

    """
    try:
        with FileLock(folder / "last-run.lock", timeout=10, mode=0o600):
            number = _next_run(folder, above)
            _remember(folder, number)
    except OSError:
        number = _next_run(folder, above)
    return number


def _next_run(folder: Path, above: int) -> int:
    try:
        last = int((folder / "last-run").read_text("ascii"))
    except (OSError, ValueError):
        last = 0
    # A number that leaves no room for ids is damage, or of a clock that is.
    last = max(number for number in (0, last, above, *_runs_with_files(folder)) if number < MAX_RUN)
    now = int(time.time())
    return max(now if now < MAX_RUN else 0, last + 1)


def _remember(folder: Path, number: int) -> None:
    # In one step: a memory that is cut in half would forget.
    fresh = folder / "last-run.new"
    fresh.unlink(missing_ok=True)  # of a process that died here, or a link to somebody's file
    create_file(fresh)
    fresh.write_text(str(number), "ascii")
    fresh.replace(folder / "last-run")


def _runs_with_files(folder: Path) -> list[int]:
    return [int(path.stem) for path in folder.glob("*.lock") if path.stem.isdecimal()]


def take_lock(folder: Path, run: int) -> FileLock | None:
    """Take the lock of ``run`` without waiting; :obj:`None` if its process is alive."""
    lock = FileLock(lock_path(folder, run), mode=0o600, thread_local=False)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        return None
    return lock


def drop_lock(lock: FileLock, *, remove: bool) -> None:
    """Release a lock that :func:`take_lock` gave, and remove its file if ``remove``."""
    path = Path(lock.lock_file)
    if remove and os.name != "nt":
        # While it is held: nobody else can hold it at the same time. Whoever waits for
        # it finds that the file is gone, and no segments.
        path.unlink(missing_ok=True)
    lock.release()
    if remove and os.name == "nt":  # an open file can't be removed there
        try:
            path.unlink(missing_ok=True)
        except OSError:
            pass


class Spool:
    """
    Take rows in at one end and give them to the writer at the other.

    Guarantees: rows come out in the order they went in, each at least until :meth:`release` says
    that it is committed; :meth:`append` never waits for a disk. Any thread may append;
    all else belongs to the event loop.

    Args:
        folder: Where the segments are; must exist.
        header: Who writes this spool.
        limit_bytes: How much room the spool may take on the disk.
        segment_bytes: Size of one segment.

    If the disk has no room for the first segment, or fails, the spool begins without one, and takes rows
    once one can be made.

    Attributes:
        fault: Why no segment could be made the last time.

    Raises:
        OSError: If the first segment can't be made, and that isn't the disk's fault.

    """

    def __init__(self, folder: Path, header: Header, *, limit_bytes: int, segment_bytes: int) -> None:
        self.folder = folder
        self.run = header.run
        self._header = header.line()
        self._segment_bytes = segment_bytes
        self._max_segments = max(2, limit_bytes // segment_bytes)
        self._lock_file: FileLock | None = None
        self.fault: OSError | None = None

        # Rows appended by the event loop, and by threads: an int each, so that
        # the loop's count needs no lock.
        self.appended = 0
        self.appended_by_threads = 0

        # When `appended` reaches this, append() returns True: the writer wants to know. So it does after
        # each segment.
        self.attention = 1

        # Oldest and newest segment that exist and aren't released, newest mapped; 0 as long as there is none.
        self._oldest, self._newest = 1, 0
        # All before this one is committed; see KEPT.
        self._drained = 1
        # A file to read each segment that isn't released, also when somebody removes its name.
        self._files: dict[int, BinaryIO] = {}
        self._retry_at = 0.0
        self._map = self._first_map()
        self._write = self._map.write

        # Guards all that follows, and the change of segments. Python's own: one written in Python would stay
        # held, should a signal handler raise between taking it and saying so.
        self._lock = threading.RLock()
        # For the counter alone: reentrant, as a row that is in the spool must be counted.
        self._count_lock = threading.RLock()
        self._spares: deque[mmap.mmap] = deque()
        self._preparing = False
        self._closed: str | None = None
        self._closed_at = 0

        # Makes and removes segments, and reads those that aren't mapped any more.
        self._background = Background("enginelog-spool")
        self._prepare_spare()

    def _first_map(self) -> mmap.mmap:
        try:
            first = self._create(1)
        except OSError as error:
            if not is_disk_fault(error):
                if self._lock_file is not None:
                    drop_lock(self._lock_file, remove=True)
                raise
            self.fault, self._retry_at = error, time.monotonic() + RETRY_DELAY
            # Every write to a map that is closed fails, as to one that is full.
            nothing = mmap.mmap(-1, 1)
            nothing.close()
            return nothing
        self._newest = 1
        return first

    def append(self, line: bytes) -> bool:
        """
        Take a row in; it survives the death of the process from here on.

        Only for the thread of the event loop.

        Returns:
            Whether :attr:`attention` is reached.

        Raises:
            SpoolUnusable: If there is no room: at the limit, or the disk fails.

        """
        try:
            self._write(line)  # one C call: atomic among threads
        except ValueError:
            self._append_to_next_segment(line)
        self.appended = appended = self.appended + 1
        return appended >= self.attention

    def append_from_thread(self, line: bytes) -> None:
        """Do the same from any thread."""
        try:
            self._write(line)
        except ValueError:
            self._append_to_next_segment(line)
        with self._count_lock:
            self.appended_by_threads += 1

    def _append_to_next_segment(self, line: bytes) -> None:
        # While a thread holds the lock, Python may throw something away in that thread, which logs that it
        # ends (a generator, a task whose exception nobody saw). Such a row must not go in between.
        if self._lock._is_owned():  # type: ignore[attr-defined]  # threading.Condition asks the same
            raise SpoolUnusable("the spool is at work in the very thread that logs")
        with self._lock:
            try:
                self._write(line)  # another thread may have changed segments meanwhile
                return
            except ValueError:
                pass
            if self._closed:
                raise SpoolUnusable(self._closed)
            if not self._spares:
                self._prepare_spare()
                raise SpoolUnusable(self._reason())
            # All that may fail for want of memory comes first: a change of segments happens whole or not.
            spare, newest = self._spares[0], self._newest + 1
            write = spare.write
            # Before others know of it, who may fill it.
            write(line)
            # Closing makes every write that still goes to the old segment fail, so that
            # it comes here; what was copied into it stays in its file.
            try:
                self._map.close()
            finally:  # a signal handler may raise as soon as it is closed
                self._map, self._write, self._newest = spare, write, newest
                self._spares.popleft()
                self.attention = 0
            self._prepare_spare()

    def _reason(self) -> str:
        if self.fault is not None:
            return f"{self.folder}: {self.fault.strerror or self.fault}"
        if self._at_limit():
            return f"{self.folder} is at its limit of {self._max_segments * self._segment_bytes:,} bytes"
        return f"{self.folder}: the disk is too slow to make the next segment"

    def _at_limit(self) -> bool:
        return self._newest + len(self._spares) + 1 - self._oldest >= self._max_segments

    def _prepare_spare(self) -> None:
        """Have a segment made ahead of need, off the loop, unless there are enough or it can't be."""
        ready = self._preparing or len(self._spares) >= SPARES
        if ready or self._closed or self._at_limit() or time.monotonic() < self._retry_at:
            return
        self._preparing = True
        try:
            self._background.submit(self._prepare)
        except BaseException:
            self._preparing = False
            raise

    def _prepare(self) -> None:
        spare, fault = self._try_to_create()
        if fault is not None and (kept := self._give_up_kept()):
            # Room is needed more than a second copy.
            for number in kept:
                self._remove(number)
            spare, fault = self._try_to_create()
        with self._lock:
            self.fault, self._preparing = fault, False
            if spare is None:
                self._retry_at = time.monotonic() + RETRY_DELAY
            else:
                self._spares.append(spare)
            self._prepare_spare()

    def _try_to_create(self) -> tuple[mmap.mmap | None, OSError | None]:
        try:
            with self._lock:
                number = self._newest + len(self._spares) + 1
            # The lock isn't held any more: segments change meanwhile, but the sum stays the same.
            return self._create(number), None
        except OSError as error:
            return None, error
        except MemoryError:
            return None, OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))

    def _give_up_kept(self) -> range:
        """Return the segments that are kept though all in them is committed; they aren't kept any more."""
        with self._lock:
            kept = range(self._oldest, self._drained)
            self._oldest = max(self._oldest, self._drained)
        return kept

    def _create(self, number: int) -> mmap.mmap:
        path = segment_path(self.folder, self.run, number)
        if not self.folder.is_dir():  # somebody removed it, or there was no room for it
            # The folder above may be a disk that was taken away: its return hides what is put there now.
            self.folder.parent.stat()
            make_folder(self.folder)
            if why := strange_folder(self.folder):
                raise PermissionError(why)
        self._hold_lock()
        segment = create_segment(path, self._header, self._segment_bytes)
        self._files[number] = path.open("rb")
        return segment

    def _hold_lock(self) -> None:
        if self._lock_file is None:
            self._lock_file = take_lock(self.folder, self.run)
        if self._lock_file is None:
            raise SpoolUnusable(f"{lock_path(self.folder, self.run)} is locked by another process")

    def _remove(self, number: int) -> None:
        file = self._files.pop(number, None)
        if file is not None:
            file.close()
        segment_path(self.folder, self.run, number).unlink(missing_ok=True)

    @property
    def end(self) -> Position:
        """The place behind the newest row."""
        with self._lock:
            return Position(max(1, self._newest), self._closed_at if self._closed else self._tell())

    def _tell(self) -> int:
        return self._map.tell() if self._newest else 0

    @property
    def start(self) -> Position:
        """The place of the oldest row that may still be there."""
        return Position(self._oldest, 0)

    def is_beyond(self, position: Position) -> bool:
        """Tell whether the segment of ``position`` is full."""
        return self._newest > position.segment

    def is_filling_up(self, position: Position) -> bool:
        """Tell whether what waits behind ``position`` takes more than half of the room."""
        return (self._newest - position.segment) * 2 > self._max_segments

    async def read(self, position: Position, max_lines: int) -> tuple[bytes, Position]:
        """
        Return whole lines from ``position``, none if there are none, and the place behind them.

        Raises:
            OSError: If a segment that isn't mapped any more can't be read.

        """
        while True:
            with self._lock:
                if position.segment == self._newest and not self._closed:
                    return self._read_newest(position, max_lines)
                newest = self._newest
            if not newest:
                return b"", position
            data, offset = await self._read_file(position, max_lines)
            if data or position.segment >= newest:
                return data, Position(position.segment, offset)
            position = Position(position.segment + 1, 0)

    def _read_newest(self, position: Position, max_lines: int) -> tuple[bytes, Position]:
        start = position.offset or len(self._header)
        data = first_lines(self._map[start : min(self._map.tell(), start + READ_BYTES)], max_lines)
        return data, Position(position.segment, start + len(data))

    async def _read_file(self, position: Position, max_lines: int) -> tuple[bytes, int]:
        file = self._files[position.segment]
        return await self.off_loop(lambda: read_lines(file, position.offset, max_lines))

    async def off_loop(self, job: Callable[[], T]) -> T:
        """Run a job that may wait for a disk in the thread of the spool."""
        return await hand_over(asyncio.wrap_future(self._background.submit(job)))

    def release(self, position: Position) -> None:
        """Give back the room of what is before ``position``, but for the newest segment: it is committed."""
        with self._lock:
            self._drained = max(self._drained, position.segment)
            first = position.segment - (0 if self._at_limit() else KEPT)
            drained = range(self._oldest, first)
            self._oldest = max(self._oldest, first)
            self._prepare_spare()
        for number in drained:
            self._background.submit(partial(self._remove, number))

    def disk_bytes(self) -> int:
        """Return the room that the segments take on the disk."""
        with self._lock:
            return (self._newest - self._oldest + 1 + len(self._spares)) * self._segment_bytes

    def ids(self) -> Iterator[int]:
        """Yield ids that are unique in the database, across runs and processes."""
        run = self.run
        while True:
            yield from islice(count(run * IDS_PER_RUN + 1), IDS_PER_RUN - 1)
            run = claim_run(self.folder)

    def close(self, reason: str, *, committed: Position | None, timeout: float) -> bool:
        """
        Take no more rows, and leave the files if they hold rows that aren't committed.

        Args:
            reason: What :meth:`append` says from now on.
            committed: Up to where all is committed; :obj:`None` if that isn't known.
            timeout: How long to wait for a disk that hangs, in seconds.

        Returns:
            Whether all was committed, so that nothing is left.

        """
        with self._lock:
            if self._closed:
                return False
            self._closed, self._closed_at = reason, self._tell()
            self._map.close()
        cleaning = self._background.submit(lambda: self._clean_up(committed))
        self._background.close(timeout)
        return cleaning.done() and cleaning.exception() is None and cleaning.result()

    def _clean_up(self, committed: Position | None) -> bool:
        for number, spare in enumerate(self._spares, self._newest + 1):
            spare.close()
            self._remove(number)
        self._spares.clear()
        drained = committed is not None and self._is_committed(committed)
        if drained:
            for number in range(self._oldest, self._newest + 1):
                self._remove(number)
        for file in self._files.values():
            file.close()
        if self._lock_file is not None:
            drop_lock(self._lock_file, remove=drained)
        return drained

    def _is_committed(self, committed: Position) -> bool:
        """Tell whether no row stands behind ``committed``, not even one of a thread's at the last moment."""
        if not self._newest:
            return True
        offset = committed.offset if committed.segment == self._newest else 0
        return not read_lines(self._files[self._newest], offset, 1)[0]

    def abandon(self) -> None:
        """
        Let go of the files in a forked child, where they belong to the parent.

        The map is shared memory: a row of the child would land on top of the parent's.

        """
        self._lock = threading.RLock()  # the parent's may have been held in the fork
        self._closed = "this log was opened before a fork; open one in the child"
        self._closed_at = 0
        self._map.close()
        for spare in self._spares:
            spare.close()
