"""The spool: rows in at one end, out at the other, in order, whatever the segments do."""

from __future__ import annotations

import errno
import itertools
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from async_enginelog import segments
from async_enginelog import spool as spool_module
from async_enginelog.errors import SpoolUnusable
from async_enginelog.segments import Header, Position, lock_path, segment_path
from async_enginelog.spool import IDS_PER_RUN, Spool, claim_run, drop_lock, take_lock

SEGMENT = 128 * 1024
LINE = b'["ENGINE_DB_LOG_STEPS",{"step_name":"%s"}]\n' % (b"x" * 1000)


@pytest.fixture
def build(tmp_path: Path) -> Callable[..., Spool]:
    """Build a spool with small segments."""

    def make(limit_bytes: int = 100 * SEGMENT, run: int = 5) -> Spool:
        header = Header(run, "host", 17, "0.1.0", "2026-01-02T03:04:05+00:00")
        return Spool(tmp_path, header, limit_bytes=limit_bytes, segment_bytes=SEGMENT)

    return make


def wait_for(condition: Callable[[], bool]) -> None:
    """Wait for the spool's thread."""
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)


async def read_all(spool: Spool) -> bytes:
    """Read all that is in a spool."""
    data, position = b"", Position(1, 0)
    while True:
        more, position = await spool.read(position, 50)
        if not more:
            return data
        data += more


class TestClaim:
    def test_numbers_are_seconds(self, tmp_path: Path) -> None:
        """The first number is the present second."""
        before = int(time.time())
        assert before <= claim_run(tmp_path) <= time.time()

    @pytest.mark.parametrize("year", [-2000, 1969, 2300, 9999, 300_000])
    def test_clocks_that_are_wrong(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, year: int) -> None:
        """Whatever the clock says, a number has room for its ids in 64 bits, and grows."""
        first = claim_run(tmp_path)
        monkeypatch.setattr(time, "time", lambda: (year - 1970) * 31_556_952.0)

        assert first < claim_run(tmp_path) < claim_run(tmp_path) < 2**63 // IDS_PER_RUN

    def test_memory_that_cannot_be_written(self, tmp_path: Path) -> None:
        """Where the number can't be remembered it is told by the files of the runs, and by the database."""
        (tmp_path / "last-run").mkdir()
        number = claim_run(tmp_path)
        lock = take_lock(tmp_path, number)

        assert claim_run(tmp_path) > number
        assert claim_run(tmp_path, above=number + 5000) == number + 5001
        assert lock is not None
        drop_lock(lock, remove=True)

    def test_numbers_are_unique_at_any_pace(self, tmp_path: Path) -> None:
        """Many claims in one second give as many numbers."""
        numbers = [claim_run(tmp_path) for _ in range(20)]
        assert numbers == sorted(set(numbers))

    def test_clock_that_steps_back(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Numbers grow although the clock doesn't."""
        first = claim_run(tmp_path)
        monkeypatch.setattr(time, "time", lambda: 1000.0)
        assert claim_run(tmp_path) == first + 1

    @pytest.mark.parametrize("damage", [b"\xff?", b"", b"9" * 11, b"9" * 5000])
    def test_memory_that_is_damaged(self, tmp_path: Path, damage: bytes) -> None:
        """A memory that can't be read, or that leaves no room for ids, is made anew."""
        (tmp_path / "last-run").write_bytes(damage)
        assert claim_run(tmp_path) <= time.time()

    def test_memory_that_is_lost(self, tmp_path: Path) -> None:
        """Without its memory, what the database and the folder know is enough."""
        later = int(time.time()) + 1000
        assert claim_run(tmp_path, above=later) == later + 1
        (tmp_path / "last-run").unlink()
        lock_path(tmp_path, later + 5).touch()
        assert claim_run(tmp_path, above=later) == later + 6


class TestLock:
    def test_lock_is_exclusive(self, tmp_path: Path) -> None:
        """A run has one owner, also within one process."""
        lock = take_lock(tmp_path, 5)
        assert lock is not None
        assert take_lock(tmp_path, 5) is None
        drop_lock(lock, remove=True)
        assert not lock_path(tmp_path, 5).exists()

    def test_spool_of_a_living_run(self, build: Callable[..., Spool]) -> None:
        """A run that is alive can't be taken over."""
        spool = build()
        with pytest.raises(SpoolUnusable, match="is locked by another process"):
            build()
        spool.close("closed", committed=spool.end, timeout=5)


class TestAppendAndRead:
    async def test_many_segments(self, build: Callable[..., Spool]) -> None:
        """Rows come out as they went in, over many segments."""
        spool = build()
        lines = [b'["%d",{"step_name":"%s"}]\n' % (number, b"x" * 900) for number in range(1500)]
        for number, line in enumerate(lines):
            if number % 100 == 0:
                wait_for(lambda: len(spool._spares) >= 1)
            spool.append(line)

        assert spool.end.segment >= 10
        assert await read_all(spool) == b"".join(lines)
        spool.close("closed", committed=None, timeout=5)

    async def test_segments_that_were_removed(self, build: Callable[..., Spool], tmp_path: Path) -> None:
        """Rows come out although somebody removed the files."""
        spool = build()
        for _ in range(3 * SEGMENT // len(LINE)):
            wait_for(lambda: len(spool._spares) >= 1)
            spool.append(LINE)
        for file in tmp_path.iterdir():
            file.unlink()
        assert (await read_all(spool)).count(b"\n") == 3 * SEGMENT // len(LINE)
        spool.close("closed", committed=spool.end, timeout=5)

    async def test_release_gives_room_back(self, build: Callable[..., Spool], tmp_path: Path) -> None:
        """Segments before the position are removed, but for the newest of them; the others stay."""
        spool = build()
        for _ in range(4):
            wait_for(lambda: len(spool._spares) >= 1)
            for _ in range(SEGMENT // len(LINE)):
                spool.append(LINE)
        before = spool.disk_bytes()
        assert spool.start == Position(1, 0)
        spool.release(Position(4, 200))

        wait_for(lambda: not segment_path(tmp_path, 5, 2).exists())
        assert not segment_path(tmp_path, 5, 1).exists()
        assert segment_path(tmp_path, 5, 3).exists()
        assert segment_path(tmp_path, 5, 4).exists()
        assert spool.start == Position(3, 0)
        assert spool.disk_bytes() <= before
        spool.close("closed", committed=spool.end, timeout=5)
        assert list(tmp_path.iterdir()) == []

    def test_limit(self, build: Callable[..., Spool]) -> None:
        """At its limit the spool refuses rows, and says why; released, all of it, it takes them again."""
        spool = build(limit_bytes=2 * SEGMENT)
        wait_for(lambda: len(spool._spares) == 1)
        with pytest.raises(SpoolUnusable, match=r"is at its limit of 262,144 bytes"):
            for _ in range(3 * SEGMENT // len(LINE)):
                spool.append(LINE)
        assert spool.disk_bytes() == 2 * SEGMENT
        spool.release(Position(2, 0))
        assert spool.start == Position(2, 0)
        wait_for(lambda: len(spool._spares) == 1)
        spool.append(LINE)
        spool.close("closed", committed=spool.end, timeout=5)

    def test_disk_that_fails(self, build: Callable[..., Spool], monkeypatch: pytest.MonkeyPatch) -> None:
        """A segment that can't be made makes the spool refuse rows with the disk's words, for a while."""
        monkeypatch.setattr(spool_module, "RETRY_DELAY", 0.3)

        def full(*_: object) -> object:
            raise OSError(28, "No space left on device")

        def fill() -> None:
            for _ in range(4 * SEGMENT // len(LINE)):
                spool.append(LINE)

        spool = build()
        wait_for(lambda: len(spool._spares) == 2)
        with monkeypatch.context() as patch:
            patch.setattr(spool_module, "create_segment", full)
            with pytest.raises(SpoolUnusable):
                fill()
            wait_for(lambda: not spool._preparing)
            with pytest.raises(SpoolUnusable, match="No space left on device"):
                spool.append(LINE)

        def takes_rows_again() -> bool:
            try:
                spool.append(LINE)
            except SpoolUnusable:
                return False
            return True

        wait_for(takes_rows_again)
        spool.close("closed", committed=spool.end, timeout=5)

    async def test_disk_that_is_full_gets_back_what_is_only_kept(
        self, build: Callable[..., Spool], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A segment that is kept for a damaged WAL goes before a row goes to the console for want of room."""
        spool = build()
        wait_for(lambda: len(spool._spares) == spool_module.SPARES)
        while spool.end.segment < 2:
            spool.append(LINE)
        wait_for(lambda: len(spool._spares) == spool_module.SPARES)
        spool.release(spool.end)
        assert segment_path(tmp_path, 5, 1).exists()

        create = segments.create_segment

        def no_room(path: Path, *arguments: object) -> object:
            if segment_path(tmp_path, 5, 1).exists():
                raise OSError(errno.ENOSPC, "no room")
            return create(path, *arguments)  # type: ignore[arg-type]

        monkeypatch.setattr(spool_module, "create_segment", no_room)
        while spool.end.segment < 6:
            wait_for(lambda: len(spool._spares) == spool_module.SPARES)
            spool.append(LINE)
        assert not segment_path(tmp_path, 5, 1).exists()
        assert spool.fault is None
        spool.close("done", committed=spool.end, timeout=5)

    async def test_no_memory_within_a_change_of_segments(self, build: Callable[..., Spool]) -> None:
        """A change happens whole or not at all: what is read is what was taken, in its place."""

        class Forgetful:
            def __init__(self, segment: Any) -> None:
                self.segment = segment

            @property
            def write(self) -> Any:
                spool._spares[0] = self.segment
                raise MemoryError

        spool = build()
        lines = []
        wait_for(lambda: len(spool._spares) == spool_module.SPARES)
        for number in range(400):
            lines.append(b'["ENGINE_DB_LOG_STEPS",{"step_name":"%d%s"}]\n' % (number, b"x" * 1000))
            if number in (50, 250):
                wait_for(lambda: len(spool._spares) == spool_module.SPARES)
                spool._spares[0] = Forgetful(spool._spares[0])  # type: ignore[assignment]
            try:
                spool.append(lines[-1])
            except MemoryError:
                lines.pop()
        assert len(lines) == 398
        assert await read_all(spool) == b"".join(lines)
        spool.close("done", committed=spool.end, timeout=5)

    async def test_signal_handler_that_raises_within_a_change_of_segments(
        self, build: Callable[..., Spool]
    ) -> None:
        """Whoever is interrupted between one segment and the next leaves a spool that is read to its end."""

        class Interrupted:
            def __init__(self, segment: Any) -> None:
                self.segment = segment

            def close(self) -> None:
                self.segment.close()
                raise SystemExit

        spool = build()
        wait_for(lambda: len(spool._spares) == spool_module.SPARES)
        spool._map = Interrupted(spool._map)  # type: ignore[assignment]
        lines = []
        with pytest.raises(SystemExit):
            for number in range(400):
                lines.append(b'["ENGINE_DB_LOG_STEPS",{"step_name":"%d%s"}]\n' % (number, b"x" * 1000))
                spool.append(lines[-1])
        end = spool.end
        assert await read_all(spool) == b"".join(lines)
        spool.append(LINE)
        assert await read_all(spool) == b"".join(lines) + LINE
        assert end < spool.end
        assert spool.close("done", committed=spool.end, timeout=5)

    def test_folder_that_was_removed(self, build: Callable[..., Spool], tmp_path: Path) -> None:
        """The folder is made again when somebody removed it."""
        folder = tmp_path / "spool"
        folder.mkdir()
        header = Header(5, "host", 17, "0.1.0", "2026-01-02T03:04:05+00:00")
        spool = Spool(folder, header, limit_bytes=100 * SEGMENT, segment_bytes=SEGMENT)
        wait_for(lambda: len(spool._spares) == 2)
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()
        for _ in range(2 * SEGMENT // len(LINE)):
            spool.append(LINE)
        wait_for(folder.exists)
        spool.close("closed", committed=spool.end, timeout=5)

    def test_closed(self, build: Callable[..., Spool]) -> None:
        """A closed spool refuses rows with the reason; closing again does nothing."""
        spool = build()
        spool.append(LINE)
        end = spool.end
        assert spool.close("because", committed=end, timeout=5)
        assert not spool.close("again", committed=end, timeout=5)
        for append in (spool.append, spool.append_from_thread):
            with pytest.raises(SpoolUnusable, match="because"):
                append(LINE)
        assert spool.end == end

    def test_row_of_the_last_moment(self, build: Callable[..., Spool], tmp_path: Path) -> None:
        """A row behind what is committed keeps the files, for the next start."""
        spool = build()
        spool.append(LINE)
        committed = spool.end
        spool.append(LINE)
        assert not spool.close("closed", committed=committed, timeout=5)
        assert segment_path(tmp_path, 5, 1).exists()
        assert not segment_path(tmp_path, 5, 2).exists()

    def test_attention(self, build: Callable[..., Spool]) -> None:
        """append() tells when the number of rows reaches what the writer asked for."""
        spool = build()
        spool.attention = 3
        assert [spool.append(LINE) for _ in range(4)] == [False, False, True, True]
        spool.close("closed", committed=spool.end, timeout=5)


class TestIds:
    def test_ids_of_a_run(self, build: Callable[..., Spool]) -> None:
        """Ids begin with the number of the run."""
        spool = build(run=1234)
        assert list(itertools.islice(spool.ids(), 2)) == [1234 * IDS_PER_RUN + 1, 1234 * IDS_PER_RUN + 2]
        spool.close("closed", committed=spool.end, timeout=5)

    def test_more_ids_than_a_run_has(
        self, build: Callable[..., Spool], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """When they are used up, another number is claimed: no id comes twice."""
        monkeypatch.setattr(spool_module, "IDS_PER_RUN", 10)
        spool = build(run=1234)
        ids = list(itertools.islice(spool.ids(), 30))
        assert len(set(ids)) == 30
        spool.close("closed", committed=spool.end, timeout=5)


class TestWithoutRoom:
    @pytest.fixture
    def full(self, monkeypatch: pytest.MonkeyPatch) -> Callable[[int | None], None]:
        """Make the disk full, or let it fail otherwise; make room with None."""
        fault: list[int | None] = [None]

        def write(descriptor: int, data: bytes) -> int:
            if (number := fault[0]) is not None:
                raise OSError(number, os.strerror(number))
            return real(descriptor, data)

        real = os.write
        monkeypatch.delattr(os, "posix_fallocate", raising=False)
        monkeypatch.setattr(os, "write", write)
        monkeypatch.setattr(spool_module, "RETRY_DELAY", 0.0)

        def set_fault(number: int | None) -> None:
            fault[0] = number

        return set_fault

    @pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EROFS])
    async def test_takes_rows_once_there_is_room(
        self, build: Callable[..., Spool], full: Callable[[int | None], None], number: int
    ) -> None:
        """A spool for which there is no room refuses rows until there is, and is then like others."""
        full(number)
        spool = build()
        assert (spool.end, spool.disk_bytes()) == (Position(1, 0), 0)
        assert await spool.read(Position(1, 0), 10) == (b"", Position(1, 0))
        for _ in range(2):
            with pytest.raises(SpoolUnusable, match=os.strerror(number)):
                spool.append(LINE)
        full(None)
        wait_for(lambda: _is_taken(spool))

        assert await read_all(spool) == LINE
        assert spool.end.segment == 1
        spool.close("closed", committed=None, timeout=10)

    def test_closed_without_ever_having_had_room(
        self, tmp_path: Path, build: Callable[..., Spool], full: Callable[[int | None], None]
    ) -> None:
        """It leaves nothing behind, as nothing was in it."""
        full(errno.ENOSPC)
        spool = build()

        assert spool.close("closed", committed=Position(1, 0), timeout=10)
        assert list(tmp_path.iterdir()) == []

    def test_path_that_is_wrong(
        self, tmp_path: Path, build: Callable[..., Spool], full: Callable[[int | None], None]
    ) -> None:
        """What isn't the disk's fault is an error at once, and the lock is let go."""
        full(errno.EACCES)
        with pytest.raises(PermissionError):
            build()
        assert list(tmp_path.iterdir()) == []

    def test_disk_that_was_taken_away(self, tmp_path: Path) -> None:
        """Where the folder above is gone too, nothing is made: its return would hide it."""
        header = Header(5, "host", 17, "0.1.0", "2026-01-02T03:04:05+00:00")
        with pytest.raises(FileNotFoundError):
            Spool(tmp_path / "gone" / "e.db-spool", header, limit_bytes=2 * SEGMENT, segment_bytes=SEGMENT)
        assert list(tmp_path.iterdir()) == []


def _is_taken(spool: Spool) -> bool:
    try:
        spool.append(LINE)
    except SpoolUnusable:
        return False
    return True
