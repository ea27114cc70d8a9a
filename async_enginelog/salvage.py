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
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, TypeVar

from .damaged import Damaged
from .migrations import APPLICATION_ID, migrations
from .ownership import create_file
from .pages import Record
from .salvaged import Saved, settle
from .shapes import Shape

__all__ = ["NEWEST", "Stopped", "fresh_database", "holds_our_rows", "save_rows"]

T = TypeVar("T")

# Between two pages the thread gives up the GIL for a moment: an event loop never waits for more than one.
REST = 100e-6

# The same while pages are only looked at, each for some microseconds.
PAGES_AT_ONCE = 50

# The version of the schema that fresh files have.
NEWEST = len(migrations())


class Stopped(Exception):
    """Nobody waits for the end any more."""


def save_rows(
    path: Path, fresh: Path, stopped: threading.Event, *, spools: Collection[int] = (), aside: str = ""
) -> Saved:
    """
    Save what can be read of a damaged database into a fresh file.

    Args:
        path: The damaged one; its WAL is beside it.
        fresh: Where to; is made, and on the disk in the end.
        stopped: Set when nobody waits for the end any more.
        spools: Runs that have a spool beside it.
        aside: The name under which the damaged one will be kept.

    Raises:
        Stopped: If it was set.
        sqlite3.Error: If the fresh file can't be written to.
        OSError: If the damaged one can't be opened, or the fresh one not made.

    """
    fresh.unlink(missing_ok=True)
    if not create_file(fresh):
        raise FileExistsError(f"{fresh} is there already")
    with Damaged.open(path) as damaged, closing(fresh_database(str(fresh), NEWEST)) as database:
        for number in _calmly(damaged.numbers, stopped, PAGES_AT_ONCE):
            damaged.trees.add(damaged.page(number))
        saving = _Saving(damaged, database)
        for _ in _calmly(saving.grow_trees(), stopped):
            pass
        for number in _calmly(damaged.numbers, stopped):
            saving.take(number)
        for number in _calmly(saving.doubtful, stopped):
            saving.take_doubtful(number)
        saved = settle(database, saving.tables, saving.damaged_tables(), spools, aside)
        database.commit()
    with fresh.open("rb+") as file:
        os.fsync(file.fileno())
    return saved


def holds_our_rows(path: Path) -> bool:
    """Tell whether rows of a log stand in a file, whatever is left of it besides."""
    with Damaged.open(path) as damaged, closing(fresh_database(":memory:", NEWEST)) as newest:
        tables = [table for table in _tables_of(newest) if table.is_of_log]
        return any(
            any(table.likeness(values) for table in tables)
            for page in damaged.sample()
            if page.has_rows_of_table
            for _, values in page.rows()
        )


def _calmly(things: Iterable[T], stopped: threading.Event, at_once: int = 1) -> Iterator[T]:
    """Yield things, and give up the GIL after so many of them."""
    for number, thing in enumerate(things, 1):
        if stopped.is_set():
            raise Stopped
        yield thing
        if number % at_once == 0:
            time.sleep(REST)


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


class _Saving:
    """Rows on their way from a damaged database into a fresh one."""

    def __init__(self, damaged: Damaged, database: sqlite3.Connection) -> None:
        self._damaged = damaged
        self._database = database
        self.tables = list(_tables_of(database))
        by_name = {table.name: table for table in self.tables}
        # Where each table and each index of the damaged file begins.
        self._entries = list(damaged.schema())
        # The same for tables; none of ours if it isn't ours.
        self._roots = {
            entry.root: by_name.get(entry.name) for entry in self._entries if entry.kind == "table"
        }
        # Tables of which a page has other rows than those that it says it has.
        self._damaged_tables: set[str] = set()
        # Whether there may be damage in a page of which it isn't known whose it is.
        self._is_unsure = False
        # Pages of which nothing tells whose they are; rows that are elsewhere, too, are old ones here.
        self.doubtful: list[int] = []

    def grow_trees(self) -> Iterator[None]:
        """Find out which page leads to which."""
        return self._damaged.trees.grow([1, *(entry.root for entry in self._entries)])

    def take(self, number: int) -> None:
        """Save the rows of a page, if it has any and it is known whose they are."""
        roots = self._damaged.roots_of(number)
        if roots is None or number == 1 or roots == {1}:
            return
        page = self._damaged.page(number)
        is_known = len(roots) == 1 and roots <= self._roots.keys()
        table = self._roots[min(roots)] if is_known else None
        if table is not None and table.has_rowid == page.has_rows_of_table != page.has_rows_of_index:
            rows = page.rows()
            if self._is_of(table, rows):
                if self._save(table, rows) or len(rows) < page.cells:
                    self._damaged_tables.add(table.name)
                    self.doubtful.append(number)
                return
        self._is_unsure |= not self._damaged.is_sure_of(number) or page.is_broken
        if page.has_rows_of_table and (table is not None or not is_known):
            self.doubtful.append(number)

    def take_doubtful(self, number: int) -> None:
        """Save rows that only they themselves tell something of; those that are elsewhere, too, are old."""
        rows = self._damaged.page(number).rows()
        # As far as possible all of a page belong to one table; but SQLite may have been misled, too.
        while rows:
            table = max(self.tables, key=lambda table: _fit_of_all(table, rows))
            rest = self._save(table, rows) if _fit_of_all(table, rows) else rows
            if len(rest) == len(rows):
                break
            rows = rest

    def damaged_tables(self) -> set[str]:
        """Return the tables, but for those of the log, of which something may be lost."""
        return {table.name for table in self.tables if not table.is_of_log and self._may_have_lost(table)}

    def _may_have_lost(self, table: Shape) -> bool:
        roots = {entry.name: entry.root for entry in self._entries}
        trees = self._damaged.trees
        # The index of its key has an entry for each row.
        index = roots.get(f"sqlite_autoindex_{table.name}_1", 0)
        if trees.is_whole(index):
            entries = sum(self._damaged.page(number).cells for number in trees.pages(index))
            [(saved,)] = self._database.execute(f"SELECT count(*) FROM {table.name}")  # noqa: S608  # names of our own tables
            if entries != saved:
                return bool(entries > saved)
        if root := roots.get(table.name):
            return not trees.is_whole(root) or table.name in self._damaged_tables
        if self._has_whole_schema():
            return False  # an older version made the file, without this table
        # Its rows may have been found nevertheless, but only if they are in a table of their own kind.
        return self._is_unsure or not table.has_rowid

    def _has_whole_schema(self) -> bool:
        trees = self._damaged.trees
        return trees.is_whole(1) and not any(self._damaged.page(page).is_broken for page in trees.pages(1))

    def _is_of(self, table: Shape, rows: Sequence[Record]) -> bool:
        """Tell whether no other table is more like rows: a page may stand where another one should."""
        fit = _fit_of_all(table, rows)
        return not table.has_rowid or all(fit >= _fit_of_all(other, rows) for other in self.tables)

    def _save(self, table: Shape, rows: list[Record]) -> list[Record]:
        """Save those of some rows that fit into a table; return the others."""
        fitting = [row for row in rows if table.fit(row[1])]
        self._insert(table, fitting)
        return [row for row in rows if not table.fit(row[1])]

    def _insert(self, table: Shape, rows: Sequence[Record]) -> None:
        before = self._database.total_changes
        insert = table.insert(with_rowid=table.has_rowid)
        self._database.executemany(
            insert, [[rowid, *values] if table.has_rowid else values for rowid, values in rows]
        )
        if table.has_rowid and self._database.total_changes - before < len(rows):
            # Their rowids were damaged, or the page is an old one, and the rows are elsewhere, too.
            insert = table.insert(with_rowid=False)
            for _, values in rows:
                if not self._is_there(table, values):
                    self._database.execute(insert, values)

    def _is_there(self, table: Shape, values: Sequence[Any]) -> bool:
        """Tell whether a row is there already; where there is a key, SQLite knows by itself."""
        columns = dict(zip(table.columns, values, strict=True))
        if table.is_of_log:
            columns = {name: columns[name] for name in ("LOG_SEQ", "ENGINE_RUN_ID")}
        same = " AND ".join(f"{name} IS ?" for name in columns)
        found = self._database.execute(
            f"SELECT 1 FROM {table.name} WHERE {same}",  # noqa: S608  # names of our own tables and columns
            [*columns.values()],
        )
        return found.fetchone() is not None


def _tables_of(database: sqlite3.Connection) -> Iterator[Shape]:
    names = "SELECT name, sql FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite%'"
    for name, sql in database.execute(names).fetchall():
        columns = [column[1:3] for column in database.execute(f"PRAGMA table_info({name})")]
        arguments, types = zip(*columns, strict=True)
        yield Shape(name, arguments, types, "WITHOUT ROWID" not in sql)


def _fit_of_all(table: Shape, rows: Sequence[Record]) -> int:
    return sum(table.likeness(values) for _, values in rows) if table.has_rowid else 0
