"""The files of a spool."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from async_enginelog import segments
from async_enginelog.segments import (
    FORMAT,
    Header,
    create_segment,
    first_lines,
    lock_path,
    read_header,
    segment_path,
    segments_of,
    size_of,
    slices,
    spool_folder,
)

HEADER = Header(1_763_872_243, "engine-1 é", 4711, "0.1.0", "2026-01-31T12:00:00+00:00")
SIZE = 64 * 1024
LINES = [b'["A",{"a":1}]\n', b'["B",{}]\n', '["C",{"c":"é\\n"}]\n'.encode()]
MANY = 10_000


def read_lines(path: Path, offset: int, max_lines: int) -> tuple[bytes, int]:
    """Read from a file by its name."""
    with path.open("rb") as file:
        return segments.read_lines(file, offset, max_lines)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The path of a segment that doesn't exist yet."""
    return segment_path(tmp_path, HEADER.run, 1)


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of one megabyte."""
    mount, umount = shutil.which("mount"), shutil.which("umount")
    if sys.platform != "linux" or mount is None or umount is None:
        pytest.skip("a small disk can only be made on Linux")
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(
        [mount, "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)], capture_output=True
    ).returncode:
        pytest.skip("this user isn't allowed to mount a small disk")
    yield disk
    subprocess.run([umount, "-l", str(disk)], check=True)


def write_segment(path: Path, rows: bytes, size_bytes: int = SIZE) -> int:
    """Make a segment with rows, as the spool does; return where the rows end."""
    segment = create_segment(path, HEADER.line(), size_bytes)
    try:
        segment.write(rows)
        return segment.tell()
    finally:
        segment.close()


def read_all(path: Path, max_lines: int) -> Iterator[bytes]:
    """Read a segment piece by piece, as the writer does."""
    data, offset = read_lines(path, 0, max_lines)
    while data:
        yield data
        data, offset = read_lines(path, offset, max_lines)


class TestNames:
    def test_are_beside_the_database(self, tmp_path: Path) -> None:
        """The spool of a database is a folder beside it, with its name in front."""
        assert spool_folder(tmp_path / "engine log.db") == tmp_path / "engine log.db-spool"

    def test_tell_the_run(self, tmp_path: Path) -> None:
        """Each file of a run begins with its number."""
        assert lock_path(tmp_path, 17).name == "17.lock"
        assert segment_path(tmp_path, 17, 3).name == "17-000003.jsonl"

    def test_are_found_in_order(self, tmp_path: Path) -> None:
        """The segments of a run are found in the order of their numbers, those of other runs aren't."""
        for number in (1_000_001, 2, 10, 1):
            segment_path(tmp_path, 17, number).touch()
        for name in ("117-000001.jsonl", "17-x.jsonl", "17-000003.jsonl.bak", "17.lock", "17-1-2.jsonl"):
            (tmp_path / name).touch()
        numbers = [1, 2, 10, 1_000_001]
        assert list(segments_of(tmp_path, 17)) == [(n, segment_path(tmp_path, 17, n)) for n in numbers]

    def test_are_none_without_a_folder(self, tmp_path: Path) -> None:
        """Where there is no folder, there are no segments."""
        assert list(segments_of(tmp_path / "none", 17)) == []


class TestHeader:
    def test_is_one_line(self) -> None:
        """The header is a JSON line that tells the format and the run."""
        line = HEADER.line()
        assert line.endswith(b"\n")
        assert line.count(b"\n") == 1
        assert orjson.loads(line) == {"enginelog_spool": FORMAT, **HEADER._asdict()}

    def test_is_read_back(self, path: Path) -> None:
        """What stands at the beginning of a segment is read back as it was."""
        write_segment(path, b"".join(LINES))
        assert read_header(path) == HEADER

    @pytest.mark.parametrize(
        "content", [b"", bytes(SIZE), b"null\n", b"[]\n", b'"x"\n', b"5\n", b'{"run":1}\n', b"\xff\n"]
    )
    def test_is_none_if_unreadable(self, path: Path, content: bytes) -> None:
        """A file without a header, or with another one, has none; that isn't an error."""
        path.write_bytes(content)
        assert read_header(path) is None

    def test_is_none_if_torn(self, path: Path) -> None:
        """A header that was torn, wherever, is none."""
        line = HEADER.line()
        for cut in range(len(line) - 2):
            path.write_bytes(line[:cut] + bytes(100))
            assert read_header(path) is None


class TestCreateSegment:
    @pytest.mark.parametrize("size_bytes", [SIZE, SIZE + 1, 600 * 1024])
    def test_makes_a_file_of_zeros(self, path: Path, size_bytes: int) -> None:
        """A segment is its header, and zeros up to its size."""
        create_segment(path, HEADER.line(), size_bytes).close()
        assert path.read_bytes() == HEADER.line().ljust(size_bytes, b"\0")

    @pytest.mark.skipif(sys.platform == "win32", reason="Windows doesn't tell the room a file takes")
    @pytest.mark.parametrize("by_hand", [False, True])
    def test_takes_its_room_for_real(
        self, path: Path, by_hand: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The room is on the disk before the first row: a full disk can't kill the engine later."""
        if by_hand:  # where the system has no call for it
            monkeypatch.delattr(os, "posix_fallocate", raising=False)
        create_segment(path, HEADER.line(), 1024 * 1024 + 1).close()
        assert path.stat().st_blocks * 512 >= 1024 * 1024
        assert path.stat().st_size == 1024 * 1024 + 1
        assert read_header(path) == HEADER

    def test_goes_on_behind_the_header(self, path: Path) -> None:
        """The map stands where the first row goes, and takes no byte more than the segment has."""
        segment = create_segment(path, HEADER.line(), SIZE)
        assert segment.tell() == len(HEADER.line())
        with pytest.raises(ValueError, match="out of range"):
            segment.write(bytes(SIZE))
        segment.close()

    @pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such permissions")
    def test_is_nobody_elses(self, path: Path) -> None:
        """Only its owner may read what the engine logs."""
        create_segment(path, HEADER.line(), SIZE).close()
        assert path.stat().st_mode & 0o777 == 0o600

    def test_overwrites_nothing(self, path: Path) -> None:
        """A file that exists is left as it is."""
        path.write_bytes(b"rows")
        with pytest.raises(FileExistsError):
            create_segment(path, HEADER.line(), SIZE)
        assert path.read_bytes() == b"rows"

    def test_needs_its_folder(self, tmp_path: Path) -> None:
        """Without its folder, it is the error of the operating system that says so."""
        with pytest.raises(FileNotFoundError):
            create_segment(tmp_path / "none" / "1-000001.jsonl", HEADER.line(), SIZE)

    @pytest.mark.parametrize("by_hand", [False, True])
    def test_leaves_nothing_on_a_full_disk(
        self, tiny_disk: Path, by_hand: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Where there is no room, it is an OSError, no half file is left, and a smaller one fits."""
        if by_hand:
            monkeypatch.delattr(os, "posix_fallocate", raising=False)
        path = segment_path(tiny_disk, HEADER.run, 1)
        with pytest.raises(OSError, match="No space") as caught:
            create_segment(path, HEADER.line(), 2 * 1024 * 1024)
        assert caught.value.errno == errno.ENOSPC
        assert list(tiny_disk.iterdir()) == []
        create_segment(path, HEADER.line(), SIZE).close()


class TestReadLines:
    def test_reads_what_was_written(self, path: Path) -> None:
        """The rows are read without the header, and the offset is behind them."""
        end = write_segment(path, b"".join(LINES))
        assert read_lines(path, 0, MANY) == (b"".join(LINES), end)
        assert read_lines(path, end, MANY) == (b"", end)

    def test_leaves_out_a_torn_line(self, path: Path) -> None:
        """Wherever the last line was torn, those before it are read, and nothing of it."""
        whole, last = b"".join(LINES[:-1]), LINES[-1]
        for cut in range(len(last)):
            for rest in (b"", bytes(100)):  # a file that ends, a segment that goes on
                path.write_bytes(HEADER.line() + whole + last[:cut] + rest)
                start = len(HEADER.line())
                assert read_lines(path, 0, MANY) == (whole, start + len(whole))

    def test_ends_at_a_zero_byte(self, path: Path) -> None:
        """A line with a hole in it, and whatever stands behind, isn't read."""
        path.write_bytes(HEADER.line() + LINES[0] + b'["A",\0\0}]\n' + LINES[1] + bytes(50))
        assert read_lines(path, 0, MANY) == (LINES[0], len(HEADER.line() + LINES[0]))

    def test_reads_all_of_a_full_segment(self, path: Path) -> None:
        """A segment that is full to its last byte is read to its last row."""
        rows = b"".join(LINES)
        write_segment(path, rows, len(HEADER.line()) + len(rows))
        assert read_lines(path, 0, MANY)[0] == rows

    @given(st.lists(st.binary(min_size=1, max_size=9), max_size=30), st.integers(1, 40))
    def test_reads_in_small_pieces(
        self, tmp_path_factory: pytest.TempPathFactory, rows: list[bytes], max_lines: int
    ) -> None:
        """Piece by piece, each row is read once, whole, and in order."""
        lines = [row.translate(None, b"\n\r\0") + b"\n" for row in rows]
        path = tmp_path_factory.mktemp("spool") / "1-000001.jsonl"
        path.write_bytes(HEADER.line() + b"".join(lines) + bytes(50))
        pieces = list(read_all(path, max_lines))
        assert [piece.splitlines(keepends=True) for piece in pieces] == [
            lines[first : first + max_lines] for first in range(0, len(lines), max_lines)
        ]

    def test_reads_more_than_fits_at_once(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Rows that a single read doesn't hold are read by the next ones."""
        monkeypatch.setattr(segments, "READ_BYTES", 40)
        write_segment(path, b"".join(LINES * 10))
        assert b"".join(read_all(path, MANY)) == b"".join(LINES * 10)

    @pytest.mark.parametrize("content", [b"", bytes(SIZE), HEADER.line()[:20] + bytes(SIZE), HEADER.line()])
    def test_reads_nothing_of_a_segment_without_rows(self, path: Path, content: bytes) -> None:
        """A segment whose process died before the first row has none."""
        path.write_bytes(content)
        assert read_lines(path, 0, MANY)[0] == b""

    def test_needs_its_file(self, path: Path) -> None:
        """A segment that is gone is the error of the operating system."""
        with pytest.raises(FileNotFoundError):
            read_lines(path, 0, MANY)


class TestFirstLines:
    @pytest.mark.parametrize(
        ("data", "count", "first"),
        [
            (b"", 5, b""),
            (b"torn", 5, b""),
            (b"a\nb\ntorn", 5, b"a\nb\n"),
            (b"a\nb\ntorn", 1, b"a\n"),
            (b"a\nb\n", 2, b"a\nb\n"),
            (b"\n\n\n", 2, b"\n\n"),
        ],
    )
    def test_are_whole(self, data: bytes, count: int, first: bytes) -> None:
        """Only lines with their newline count, and no more than asked for."""
        assert first_lines(data, count) == first


class TestSlices:
    @given(
        st.lists(st.binary(max_size=20).map(lambda text: text.replace(b"\n", b"") + b"\n")),
        st.integers(1, 99),
    )
    def test_are_whole_lines(self, lines: list[bytes], size: int) -> None:
        """Together they are what was given; each ends with the line in which its size is reached."""
        data = b"".join(lines)
        cut = list(slices(data, size))
        assert b"".join(cut) == data
        for piece in cut:
            assert piece.endswith(b"\n")
            assert piece.rfind(b"\n", 0, -1) + 1 < size
        assert all(len(piece) >= size for piece in cut[:-1])


class TestSizeOf:
    def test_is_in_bytes(self, path: Path) -> None:
        """The size of a file is told in bytes; a file that isn't there has none."""
        assert size_of(path) == 0
        path.write_bytes(b"12345")
        assert size_of(path) == 5
