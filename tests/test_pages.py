"""Rows are read off pages as SQLite reads them, and what can't be a row isn't one."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from async_enginelog.pages import LEAVES, Page, page_bytes_of

PAGE = 4096
VALUES = st.one_of(
    st.none(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False),
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20),
    st.text("xyz", min_size=3000, max_size=20_000),
    st.binary(max_size=100),
)

Pages = Callable[[int], bytes]


def pages_of(data: bytes) -> Pages:
    """Give the pages of a file."""
    return lambda number: data[(number - 1) * PAGE : number * PAGE] if number > 0 else b""


def make(path: Path, rows: list[tuple[Any, ...]], ddl: str = "CREATE TABLE a (b, c)") -> bytes:
    """Make a database with a table of these rows, as this package makes them, and return its bytes."""
    path.unlink(missing_ok=True)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        connection.execute(ddl)
        if rows:
            marks = ",".join("?" * len(rows[0]))
            connection.executemany(f"INSERT INTO a VALUES ({marks})", rows)
        connection.commit()
    return path.read_bytes()


def rows_in(data: bytes) -> list[tuple[int | None, list[Any]]]:
    """Return the rows of all pages of a table or index, but for the schema."""
    count = len(data) // PAGE
    pages = [Page(pages_of(data), number, PAGE) for number in range(2, count + 1)]
    rows = [
        row
        for page in pages
        if page.link().kind in LEAVES and (page.has_rows_of_table or page.has_rows_of_index)
        for row in page.rows()
    ]
    return sorted(rows, key=lambda row: row[0] or 0)


class TestRows:
    @given(st.lists(st.tuples(VALUES, VALUES), max_size=50))
    def test_all_values(self, tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[Any, ...]]) -> None:
        """Whatever SQLite stores comes back as it does, also what overflows its page."""
        data = make(tmp_path_factory.mktemp("pages") / "a.db", rows)

        assert rows_in(data) == [(number, [*row]) for number, row in enumerate(rows, 1)]

    def test_without_rowid(self, tmp_path: Path) -> None:
        """The rows of a table without rowids stand in an index, on all of its pages."""
        rows = [(number, "x" * 500) for number in range(2000)]
        ddl = "CREATE TABLE a (b INTEGER, c TEXT, PRIMARY KEY (b)) WITHOUT ROWID"
        found = [values for _, values in rows_in(make(tmp_path / "a.db", rows, ddl))]

        assert sorted(found) == [[*row] for row in rows]

    def test_negative_rowid(self, tmp_path: Path) -> None:
        """A rowid may be any number of 64 bits."""
        rows = [(-(2**63), "a"), (2**63 - 1, "b")]
        data = make(tmp_path / "a.db", rows, "CREATE TABLE a (b INTEGER PRIMARY KEY, c)")

        assert rows_in(data) == [(-(2**63), [None, "a"]), (2**63 - 1, [None, "b"])]

    @given(st.binary(max_size=PAGE), st.sampled_from([2, 5, 10, 13]))
    def test_rubbish(self, data: bytes, kind: int) -> None:
        """A page of rubbish gives what rows it may, and no exception."""
        page = (bytes([kind]) + data).ljust(PAGE, b"\xff")[:PAGE]
        Page(pages_of(bytes(PAGE) + page), 2, PAGE).rows()

    def test_flipped_bits(self, tmp_path: Path) -> None:
        """A bit that is flipped damages the rows it hits, and no others."""
        rows = [(number, "x" * 50) for number in range(100)]
        data = bytearray(make(tmp_path / "a.db", rows))
        before = rows_in(bytes(data))
        for place in range(3 * PAGE, 4 * PAGE, 101):
            data[place] ^= 0x10
            assert len([row for row in rows_in(bytes(data)) if row not in before]) <= 2
            data[place] ^= 0x10

    def test_overflow_that_leads_nowhere(self, tmp_path: Path) -> None:
        """A row whose rest is lost is no row; a chain without an end does no harm."""
        data = bytearray(make(tmp_path / "a.db", [(1, "x" * 30_000), (2, "y")]))
        overflow = next(
            number for number in range(2, 20) if Page(pages_of(bytes(data)), number, PAGE).link().kind == 3
        )
        data[(overflow - 1) * PAGE : (overflow - 1) * PAGE + 4] = overflow.to_bytes(4, "big")

        assert rows_in(bytes(data)) == [(2, [2, "y"])]


class TestOwner:
    def test_root(self, tmp_path: Path) -> None:
        """Each page of a table leads to where the table begins; so do those of the schema."""
        data = make(tmp_path / "a.db", [(number, "x" * 500) for number in range(1000)])
        pages = [Page(pages_of(data), number, PAGE) for number in range(1, len(data) // PAGE + 1)]

        assert {page.root() for page in pages if page.has_rows_of_table} == {1, 3}
        assert pages[0].children() == []
        assert set(pages[2].children()) >= {4, 5}

    def test_damaged_map(self, tmp_path: Path) -> None:
        """A page of the map that can't be one tells nothing, not even by chance."""
        data = bytearray(make(tmp_path / "a.db", [(number, "x" * 500) for number in range(100)]))
        data[PAGE + 2000] = 77
        page = Page(pages_of(bytes(data)), 4, PAGE)

        assert page.link().kind is None
        assert page.root() is None

    def test_circle(self, tmp_path: Path) -> None:
        """A map that leads in a circle ends somewhere."""
        data = bytearray(make(tmp_path / "a.db", [(number, "x" * 500) for number in range(100)]))
        data[PAGE + 5 : PAGE + 10] = bytes([5, 0, 0, 0, 4])

        assert Page(pages_of(bytes(data)), 4, PAGE).root() is None

    def test_behind_the_end(self) -> None:
        """A page that isn't there has no rows."""
        page = Page(pages_of(b""), 7, PAGE)

        assert page.kind == 0
        assert page.link().kind is None


@pytest.mark.parametrize(
    ("said", "size"), [(4096, 4096), (512, 512), (1, 65_536), (0, 4096), (1000, 4096), (256, 4096)]
)
def test_page_bytes(said: int, size: int) -> None:
    """The size of a page is what the file says, if it can be one."""
    assert page_bytes_of(bytes(16) + said.to_bytes(2, "big") + bytes(82)) == size
