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

from async_enginelog.pages import Page, free_pages, page_bytes_of
from async_enginelog.pointermap import FIRST_OVERFLOW, LEAVES, PointerMap
from async_enginelog.trees import Trees

PAGE = 4096
VALUES = st.one_of(
    st.none(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False),
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20),
    st.text("xyz", min_size=3000, max_size=20_000),
    st.binary(max_size=100),
)

# Enough rows for a tree.
MANY = [(number, "x" * 500) for number in range(1000)]

Pages = Callable[[int], bytes]


def pages_of(data: bytes) -> Pages:
    """Give the pages of a file."""
    return lambda number: data[(number - 1) * PAGE : number * PAGE] if number > 0 else b""


def make(
    path: Path, rows: list[tuple[Any, ...]], ddl: str = "CREATE TABLE a (b, c)", *, has_map: bool = True
) -> bytes:
    """Make a database with a table of these rows, with or without a pointer map, and return its bytes."""
    path.unlink(missing_ok=True)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA auto_vacuum = {'INCREMENTAL' if has_map else 'NONE'}")
        connection.execute(ddl)
        if rows:
            marks = ",".join("?" * len(rows[0]))
            connection.executemany(f"INSERT INTO a VALUES ({marks})", rows)
        connection.commit()
    return path.read_bytes()


def pointers_of(data: bytes) -> PointerMap:
    """Return what a file says of its pages."""
    return PointerMap(pages_of(data), PAGE)


def page_of(data: bytes, number: int) -> Page:
    """Return a page of a file."""
    return Page(pages_of(data), number, PAGE, pointers_of(data))


def rows_in(data: bytes) -> list[tuple[int | None, list[Any]]]:
    """Return the rows of all pages of a table or index, but for the schema."""
    count = len(data) // PAGE
    pointers = pointers_of(data)
    rows = [
        row
        for page in [page_of(data, number) for number in range(2, count + 1)]
        if pointers.link(page.number).kind in LEAVES and (page.has_rows_of_table or page.has_rows_of_index)
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
        pointers = pointers_of(bytes(data))
        overflow = next(number for number in range(2, 20) if pointers.link(number).kind == FIRST_OVERFLOW)
        data[(overflow - 1) * PAGE : (overflow - 1) * PAGE + 4] = overflow.to_bytes(4, "big")

        assert rows_in(bytes(data)) == [(2, [2, "y"])]
        # Nor if nothing tells which pages are those of rows that overflow.
        assert Page(pages_of(bytes(data)), 3, PAGE).rows() == [(2, [2, "y"])]


class TestPointerMap:
    def test_root(self, tmp_path: Path) -> None:
        """Each page of a table leads to where the table begins; so do those of the schema."""
        data = make(tmp_path / "a.db", MANY)
        pages = [page_of(data, number) for number in range(1, len(data) // PAGE + 1)]

        assert {pointers_of(data).root(page.number) for page in pages if page.has_rows_of_table} == {1, 3}
        assert pages[0].children() == []
        assert set(pages[2].children()) >= {4, 5}

    def test_damaged_map(self, tmp_path: Path) -> None:
        """A page of the map that can't be one tells nothing, not even by chance."""
        data = bytearray(make(tmp_path / "a.db", [(number, "x" * 500) for number in range(100)]))
        data[PAGE + 2000] = 77
        pointers = pointers_of(bytes(data))

        assert pointers.link(4).kind is None
        assert pointers.root(4) is None

    def test_circle(self, tmp_path: Path) -> None:
        """A map that leads in a circle ends somewhere."""
        data = bytearray(make(tmp_path / "a.db", [(number, "x" * 500) for number in range(100)]))
        data[PAGE + 5 : PAGE + 10] = bytes([5, 0, 0, 0, 4])

        assert pointers_of(bytes(data)).root(4) is None

    def test_behind_the_end(self) -> None:
        """A page that isn't there has no rows."""
        assert page_of(b"", 7).kind == 0
        assert pointers_of(b"").link(7).kind is None

    @pytest.mark.parametrize("says_so", [True, False])
    @pytest.mark.parametrize("has_map", [True, False])
    def test_is_there(self, tmp_path: Path, has_map: bool, says_so: bool) -> None:
        """What stands where the map would tells whether there is one, whatever the header says."""
        data = bytearray(make(tmp_path / "a.db", MANY, has_map=has_map))
        data[52:56] = bytes(3) + bytes([says_so])
        pointers = pointers_of(bytes(data))

        if has_map or not says_so:
            assert pointers.is_there(len(data) // PAGE) == has_map
        else:  # it may be damaged, all of it; it tells nothing then
            assert {pointers.link(number).kind for number in range(2, len(data) // PAGE)} == {None}


def trees_of(data: bytes, roots: list[int]) -> Trees:
    """Return the trees of a file that begin at some pages."""
    count = len(data) // PAGE
    trees = Trees(count)
    for number in range(1, count + 1):
        trees.add(page_of(data, number))
    for _ in trees.grow(roots):
        pass
    return trees


class TestTrees:
    def test_whole(self, tmp_path: Path) -> None:
        """Each page that SQLite would find in a table belongs to it, and no other."""
        data = make(tmp_path / "a.db", MANY, has_map=False)
        with closing(sqlite3.connect(tmp_path / "a.db")) as connection:
            expected = {page for (page,) in connection.execute("SELECT pageno FROM dbstat WHERE name = 'a'")}
        trees = trees_of(data, [1, 2])

        assert {number for number in range(2, len(data) // PAGE + 1) if trees.root(number) == 2} == expected
        assert set(trees.pages(2)) == expected
        assert trees.is_whole(2)

    def test_damaged(self, tmp_path: Path) -> None:
        """A page that can't be one of the tree is none of it; a tree that leads nowhere isn't whole."""
        data = bytearray(make(tmp_path / "a.db", MANY, has_map=False))
        lost = page_of(bytes(data), 2).children()[1]
        data[(lost - 1) * PAGE : lost * PAGE] = bytes(PAGE)
        trees = trees_of(bytes(data), [1, 2, 99_999])

        assert trees.root(lost) is None
        assert not trees.is_whole(2)
        assert not trees.is_whole(99_999)
        assert trees.root(99_999) is None

    def test_two_that_claim_a_page(self, tmp_path: Path) -> None:
        """What two tables lay claim to, and what is below it, belongs to neither."""
        data = make(tmp_path / "a.db", MANY, has_map=False)
        child = page_of(data, 2).children()[1]
        trees = trees_of(data, [2, child])

        assert trees.root(child) is None
        assert not trees.is_whole(2)
        assert not trees.is_whole(child)

    def test_circle(self, tmp_path: Path) -> None:
        """A tree that leads to its own begin ends somewhere."""
        data = bytearray(make(tmp_path / "a.db", MANY, has_map=False))
        data[PAGE + 8 : PAGE + 12] = (2).to_bytes(4, "big")

        assert not trees_of(bytes(data), [2]).is_whole(2)

    def test_ways(self, tmp_path: Path) -> None:
        """A page leads to others by the rowids of their rows."""
        data = make(tmp_path / "a.db", MANY, has_map=False)
        for child, after, up_to in page_of(data, 2).ways():
            rowids = [rowid or 0 for rowid, _ in page_of(data, child).rows()]
            assert after < rowids[0] <= rowids[-1] == up_to


class TestFreePages:
    def test_whole(self, tmp_path: Path) -> None:
        """The pages are those that SQLite counts; none of them belongs to a table."""
        data = self.deleted(tmp_path)
        free = free_pages(pages_of(data), len(data) // PAGE, PAGE)

        assert free is not None
        assert len(free) == int.from_bytes(data[36:40], "big") > 10
        assert not free & set(trees_of(data, [1, 2]).pages(2))

    @pytest.mark.parametrize("place", [32, 33, 34, 35, 36, 37, 38, 39])
    def test_damaged(self, tmp_path: Path, place: int) -> None:
        """A list that leads elsewhere, or is longer or shorter than it says, is broken."""
        data = bytearray(self.deleted(tmp_path))
        data[place] ^= 1

        assert free_pages(pages_of(bytes(data)), len(data) // PAGE, PAGE) is None

    @staticmethod
    def deleted(tmp_path: Path) -> bytes:
        """Make a file from which rows were deleted."""
        make(tmp_path / "a.db", MANY, has_map=False)
        with closing(sqlite3.connect(tmp_path / "a.db")) as connection:
            connection.execute("DELETE FROM a WHERE rowid > 100")
            connection.commit()
        return (tmp_path / "a.db").read_bytes()


@pytest.mark.parametrize(
    ("said", "size"), [(4096, 4096), (512, 512), (1, 65_536), (0, 4096), (1000, 4096), (256, 4096)]
)
def test_page_bytes(said: int, size: int) -> None:
    """The size of a page is what the file says, if it can be one."""
    assert page_bytes_of(bytes(16) + said.to_bytes(2, "big") + bytes(82)) == size
