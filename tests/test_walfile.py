"""What a WAL holds is read as SQLite reads it, and what SQLite doesn't see is counted."""

from __future__ import annotations

import io
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from async_enginelog.walfile import Wal, read_wal, unseen_commits

PAGE, FRAME = 4096, 4096 + 24


@pytest.fixture
def database(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """A database with ten commits of a page each in its WAL, checkpointed never."""
    with closing(sqlite3.connect(tmp_path / "a.db", isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA wal_autocheckpoint = 0")
        connection.execute("CREATE TABLE a (b)")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        for number in range(10):
            connection.execute("INSERT INTO a VALUES (?)", (number,))
        yield connection


@pytest.fixture
def wal(database: sqlite3.Connection, tmp_path: Path) -> bytearray:
    """The WAL of that database."""
    return bytearray((tmp_path / "a.db-wal").read_bytes())


def read(wal: bytes | bytearray) -> Wal:
    """Read a WAL."""
    return read_wal(io.BytesIO(wal))


def unseen(wal: bytes | bytearray, seen: int) -> int:
    """Count the commits behind so many frames."""
    return unseen_commits(io.BytesIO(wal), seen, len(wal))


class TestReadWal:
    def test_newest_page(self, wal: bytearray) -> None:
        """Of a page that was committed several times, the newest is meant."""
        found = read(wal)

        assert found == Wal(PAGE, {2: 32 + 9 * FRAME + 24}, 2)

    def test_without_a_page(self) -> None:
        """A WAL that is empty, or has its begin only, holds nothing."""
        assert read(b"") == read(bytes(32)) == Wal(0, {}, 0)

    @pytest.mark.parametrize("frame", range(10))
    def test_up_to_the_damage(self, wal: bytearray, frame: int) -> None:
        """As SQLite does, it stops at a page that isn't as it was written."""
        wal[32 + frame * FRAME + 1000] ^= 1

        assert read(wal).places.get(2) == (32 + (frame - 1) * FRAME + 24 if frame else None)

    def test_as_sqlite_reads_it(self, wal: bytearray, tmp_path: Path) -> None:
        """SQLite itself sees the same rows in a WAL that is damaged."""
        wal[32 + 6 * FRAME + 1000] ^= 1
        copy = tmp_path / "copy.db"
        copy.write_bytes((tmp_path / "a.db").read_bytes())
        copy.with_name("copy.db-wal").write_bytes(wal)
        with closing(sqlite3.connect(copy)) as connection:
            assert connection.execute("SELECT count(*) FROM a").fetchone() == (6,)
        assert read(wal).places == {2: 32 + 5 * FRAME + 24}

    def test_commit_under_way(self, wal: bytearray) -> None:
        """Pages of a commit that isn't complete don't count, nor does half a page."""
        assert read(wal[: -FRAME // 2]).places == {2: 32 + 8 * FRAME + 24}


class TestUnseen:
    def test_all_are_seen(self, wal: bytearray) -> None:
        """Where SQLite sees all commits, none is counted."""
        assert unseen(wal, 10) == 0

    @pytest.mark.parametrize("frame", range(10))
    def test_behind_the_damage(self, wal: bytearray, frame: int) -> None:
        """Commits behind a damaged page are counted, but not that page."""
        wal[32 + frame * FRAME + 1000] ^= 1

        assert unseen(wal, frame) == 9 - frame

    def test_damaged_begin(self, wal: bytearray) -> None:
        """Where the begin is damaged SQLite sees nothing; the commits are there."""
        wal[16:20] = b"\1\2\3\4"

        assert read(wal).places == {}
        assert unseen(wal, 0) == 10

    def test_of_earlier_times(self, wal: bytearray, database: sqlite3.Connection, tmp_path: Path) -> None:
        """What is left of the WAL before it was begun anew isn't counted."""
        database.execute("PRAGMA wal_checkpoint(RESTART)")
        database.execute("INSERT INTO a VALUES (11)")
        fresh = (tmp_path / "a.db-wal").read_bytes()

        assert len(fresh) == len(wal)
        assert unseen(fresh, 1) == 0

    def test_what_came_later(self, wal: bytearray) -> None:
        """What was written after SQLite was asked isn't counted."""
        assert unseen_commits(io.BytesIO(wal), 5, 32 + 5 * FRAME) == 0
