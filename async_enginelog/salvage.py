"""
Read a damaged database row by row into a fresh file.

Each page that is whole gives its rows, whether anything leads to it or not. Whose rows they are tells the
pointer map; where that is damaged, too, the rows themselves tell it by what goes into which columns.

"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from .migrations import APPLICATION_ID, migrations
from .ownership import create_file
from .pages import LEAVES, PAGE_BYTES, Page, Record, page_bytes_of
from .shapes import Shape
from .walfile import Wal, read_wal

__all__ = ["NEWEST", "Saved", "Stopped", "beside", "fresh_database", "save_rows"]

# Between two pages the thread gives up the GIL for a moment: an event loop never waits for more than one.
REST = 100e-6

# So many bytes tell whether the size of the pages is right.
SAMPLE_BYTES = 1024 * 1024

# The version of the schema that fresh files have.
NEWEST = len(migrations())


class Stopped(Exception):
    """Nobody waits for the end any more."""


class Saved(NamedTuple):
    """What was saved of a damaged database."""

    rows: int
    # Rows that were there according to ENGINE_LOG_RUN, as far as that was saved.
    expected: int
    # Runs that only their rows tell of.
    lost_runs: int

    def __str__(self) -> str:
        lost = max(0, self.expected - self.rows)
        runs = f"; of {self.lost_runs:,} runs nothing else is left" if self.lost_runs else ""
        return f"{self.rows:,} rows are saved, {lost:,} are lost{runs}"


def save_rows(path: Path, fresh: Path, stopped: threading.Event) -> Saved:
    """
    Save what can be read of a damaged database into a fresh file.

    Args:
        path: The damaged one; its WAL is beside it.
        fresh: Where to; is made, and on the disk in the end.
        stopped: Set when nobody waits for the end any more.

    Raises:
        Stopped: If it was set.
        sqlite3.Error: If the fresh file can't be written to.
        OSError: If the damaged one can't be opened.

    """
    fresh.unlink(missing_ok=True)
    create_file(fresh)
    with _Broken.open(path) as broken, closing(fresh_database(str(fresh), NEWEST)) as database:
        saving = _Saving(broken, database)
        for number in range(1, broken.count + 1):
            if stopped.is_set():
                raise Stopped
            saving.take(number)
            time.sleep(REST)
        saving.take_doubtful()
        lost_runs = saving.complete_runs()
        database.commit()
        [(expected,)] = database.execute("SELECT coalesce(sum(ROWS_STORED), 0) FROM ENGINE_LOG_RUN")
    with fresh.open("rb+") as file:
        os.fsync(file.fileno())
    return Saved(saving.rows, expected, lost_runs)


def fresh_database(name: str, version: int) -> sqlite3.Connection:
    """Make an empty database as a version of this package did, but without a journal."""
    database = sqlite3.connect(name)
    # Nobody needs it if this is broken off.
    for pragma in ("auto_vacuum = INCREMENTAL", "journal_mode = OFF", "synchronous = OFF"):
        database.execute(f"PRAGMA {pragma}")
    for statements in migrations()[: max(version, 0)]:
        for statement in statements:
            database.execute(statement)
    database.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    database.execute(f"PRAGMA user_version = {NEWEST}")
    database.commit()
    return database


class _Broken:
    """A damaged database: its pages, as its last commit left them."""

    def __init__(self, file: BinaryIO, wal_file: BinaryIO | None) -> None:
        self._file, self._wal_file = file, wal_file
        self._wal = read_wal(wal_file) if wal_file else Wal(0, {}, 0)
        self._size = file.seek(0, os.SEEK_END)
        self.page = lru_cache(256)(self._read)
        self.page_bytes = self._wal.page_bytes or self._best_page_bytes()
        self.page.cache_clear()
        self.count = self._wal.pages or self._size // self.page_bytes

    @classmethod
    @contextmanager
    def open(cls, path: Path) -> Iterator[_Broken]:
        """Open the files of a database that no connection of this process writes to any more."""
        wal = beside(path, "-wal")
        with path.open("rb") as file:
            if not wal.exists():
                yield cls(file, None)
                return
            with wal.open("rb") as wal_file:
                yield cls(file, wal_file)

    def _best_page_bytes(self) -> int:
        """Return the size of a page: the first one says it, unless there are more rows in the usual ones."""
        self._file.seek(0)
        said = page_bytes_of(self._file.read(100))
        rows = {size: self._rows_in_some_pages(size) for size in (said, PAGE_BYTES)}
        return PAGE_BYTES if rows[PAGE_BYTES] > rows[said] else said

    def _rows_in_some_pages(self, size: int) -> int:
        self.page_bytes = size
        self.page.cache_clear()
        pages = (Page(self.page, number, size) for number in range(1, SAMPLE_BYTES // size))
        return sum(len(page.rows()) for page in pages if page.has_rows_of_table)

    def _read(self, number: int) -> bytes:
        place = self._wal.places.get(number)
        file = self._file
        if place is None:
            place = (number - 1) * self.page_bytes
        elif self._wal_file is not None:
            file = self._wal_file
        try:
            file.seek(place)
            return file.read(self.page_bytes)
        except OSError:  # a bad place on the disk
            return b""


class _Saving:
    """Rows on their way from a damaged database into a fresh one."""

    def __init__(self, broken: _Broken, database: sqlite3.Connection) -> None:
        self._broken = broken
        self._database = database
        self._tables = list(_tables_of(database))
        by_name = {table.name: table for table in self._tables}
        # The page at which each table of the damaged file begins; no table if it isn't ours.
        self._roots = {root: by_name.get(name) for name, root in _schema(broken)}
        # Pages of which nothing tells whose they are; rows that are elsewhere, too, are old ones here.
        self._doubtful: list[int] = []
        self.rows = 0

    def take(self, number: int) -> None:
        """Save the rows of a page, if it has any and it is known whose they are."""
        page = _page(self._broken, number)
        if number == 1 or page.link().kind not in LEAVES:
            return
        root = page.root()
        table = self._roots.get(root) if root else None
        if table is not None and table.has_rowid == page.has_rows_of_table != page.has_rows_of_index:
            if self._save(table, page.rows()):
                self._doubtful.append(number)
        elif page.has_rows_of_table and root != 1 and (table is not None or root not in self._roots):
            self._doubtful.append(number)

    def take_doubtful(self) -> None:
        """Save rows that only they themselves tell something of; those that are elsewhere, too, are old."""
        for number in self._doubtful:
            rows = _page(self._broken, number).rows()
            # As far as possible all of a page belong to one table; but SQLite may have been misled, too.
            while rows:
                table = max(self._tables, key=lambda table: _fit_of_all(table, rows))
                rest = self._save(table, rows) if _fit_of_all(table, rows) else rows
                if len(rest) == len(rows):
                    break
                rows = rest

    def _save(self, table: Shape, rows: list[Record]) -> list[Record]:
        """Save those of some rows that fit into a table; return the others."""
        fitting = [row for row in rows if table.fit(row[1])]
        before = self._database.total_changes
        for width in {len(values) for _, values in fitting}:
            self._insert(table, width, [row for row in fitting if len(row[1]) == width])
        if table.is_of_log:
            self.rows += self._database.total_changes - before
        return [row for row in rows if not table.fit(row[1])]

    def _insert(self, table: Shape, width: int, rows: Sequence[Record]) -> None:
        before = self._database.total_changes
        insert = table.insert(width, with_rowid=table.has_rowid)
        self._database.executemany(
            insert, [[rowid, *values] if table.has_rowid else values for rowid, values in rows]
        )
        if table.has_rowid and self._database.total_changes - before < len(rows):
            # Their rowids were damaged, or the page is an old one, and the rows are elsewhere, too.
            insert = table.insert(width, with_rowid=False)
            for _, values in rows:
                if not self._is_there(table, values):
                    self._database.execute(insert, values)

    def _is_there(self, table: Shape, values: Sequence[Any]) -> bool:
        """Tell whether a row is there already; where there is a key, SQLite knows by itself."""
        if not table.is_of_log:
            return False
        columns = dict(zip(table.columns, values, strict=False))
        place = columns.get("LOG_SEQ"), columns.get("ENGINE_RUN_ID")
        found = self._database.execute(
            f"SELECT 1 FROM {table.name} WHERE LOG_SEQ IS ? AND ENGINE_RUN_ID IS ?",  # noqa: S608
            place,
        )
        return found.fetchone() is not None

    def complete_runs(self) -> int:
        """Make rows for runs that only their rows tell of; LOG_SEQ never goes back. Return how many."""
        lost = 0
        for run, (stored, last) in self._runs_by_rows().items():
            known = self._database.execute(
                "UPDATE ENGINE_LOG_RUN SET LAST_LOG_SEQ = max(LAST_LOG_SEQ, ?) WHERE ENGINE_RUN_ID = ?",
                (last, run),
            )
            if not known.rowcount:
                lost += 1
                self._database.execute(
                    "INSERT INTO ENGINE_LOG_RUN (ENGINE_RUN_ID, ROWS_ACCEPTED, ROWS_COMMITTED, ROWS_STORED, "
                    "LAST_LOG_SEQ) VALUES (?1, ?2, ?2, ?2, ?3)",
                    (run, stored, last),
                )
        return lost

    def _runs_by_rows(self) -> dict[int, tuple[int, int]]:
        """Return how many rows each run has, and the highest LOG_SEQ of them."""
        runs: dict[int, tuple[int, int]] = {}
        for table in self._tables:
            if not table.is_of_log:
                continue
            for run, count, last in self._database.execute(
                f"SELECT ENGINE_RUN_ID, count(*), coalesce(max(LOG_SEQ), 0) FROM {table.name} "  # noqa: S608
                "WHERE ENGINE_RUN_ID IS NOT NULL GROUP BY 1"
            ):
                stored, highest = runs.get(run, (0, 0))
                runs[run] = stored + count, max(highest, last)
        return runs


def _tables_of(database: sqlite3.Connection) -> Iterator[Shape]:
    names = "SELECT name, sql FROM sqlite_schema WHERE type = 'table' AND name LIKE 'ENGINE%'"
    for name, sql in database.execute(names).fetchall():
        columns = [column[1:3] for column in database.execute(f"PRAGMA table_info({name})")]
        arguments, types = zip(*columns, strict=True)
        yield Shape(name, arguments, types, "WITHOUT ROWID" not in sql)


def beside(path: Path, suffix: str) -> Path:
    """Return the file that SQLite, or this package, keeps beside a database."""
    return path.with_name(path.name + suffix)


def _fit_of_all(table: Shape, rows: Sequence[Record]) -> int:
    return sum(table.likeness(values) for _, values in rows) if table.has_rowid else 0


def _page(broken: _Broken, number: int) -> Page:
    return Page(broken.page, number, broken.page_bytes)


def _schema(broken: _Broken) -> Iterator[tuple[str, int]]:
    """Yield each table with the page at which it begins, as far as page 1 and those below it tell."""
    first = _page(broken, 1)
    for page in (first, *(_page(broken, number) for number in first.children())):
        for _, values in page.rows() if page.has_rows_of_table else ():
            if len(values) == 5 and values[0] == "table" and isinstance(values[3], int):
                yield values[1], values[3]
