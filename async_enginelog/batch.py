"""
Turn rows into few, large SQL statements, without performing any I/O.

SQLite's Python binding gives up the GIL for each statement and has to win it back from a
busy event loop, so a statement for each row is slow just when it matters. Here rows of the same
table and columns go into one ``INSERT … VALUES (…),(…)``, of a fixed number of rows, so
that SQLite finds the statement in its cache.

"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from itertools import chain
from typing import Any, NamedTuple

from .lines import Row
from .tables import Column, Kind, Table
from .values import fit_text, time_text

__all__ = ["Batch", "Gathering", "Statement", "prepare"]

# Numbers of rows in a statement: few statements for any number of rows. For each, SQLite's thread
# has to win back the GIL.
STATEMENT_ROWS = (1024, 512, 256, 128, 64, 32, 16, 8, 4, 2, 1)

# https://www.sqlite.org/limits.html#max_variable_number
MAX_PARAMETERS = 32_766


class Statement(NamedTuple):
    """
    An INSERT and its parameters.

    The first three are put before them by who executes it: ``?1`` the time of the commit,
    ``?2`` the run, ``?3`` the LOG_SEQ before the batch.

    """

    sql: str
    parameters: Sequence[Any]


class Batch(NamedTuple):
    """Rows that are committed together."""

    statements: list[Statement]
    rows: int
    # Of these, rows of tables that only grow.
    new_rows: int
    # Tables with a key, whose rows may be new or not.
    keyed_tables: list[str]


def prepare(
    rows: Sequence[Row], *, as_stored: Callable[[str], str] = time_text, fill_only: bool = False
) -> Batch:
    """
    Merge rows that speak of the same thing, and make statements of what remains.

    Args:
        rows: In the order in which they were logged.
        as_stored: Turns a time in a line into the text that is stored.
        fill_only: Whether what is stored already wins, as it does in a replay,
            where a row may be older than what is stored.

    Raises:
        KeyError, TypeError: If a row doesn't have native types; pass it through
            :func:`~async_enginelog.lines.plain_columns` first.

    """
    gathering = Gathering(as_stored)
    gathering.add(rows)
    return gathering.batch(fill_only=fill_only)


class _Group(NamedTuple):
    """Rows of the same table and columns, each with its number in the batch."""

    numbers: list[int]
    rows: list[dict[str, Any]]


_Shape = tuple[Table, tuple[str, ...]]


class Gathering:
    """
    Rows that are to be committed together, gathered bit by bit: see :func:`prepare`.

    What is kept of most rows is their values alone, in one list for each table and columns. Thousands of
    dictionaries that wait together would keep the garbage collector busy, and everybody waiting for it.

    Args:
        as_stored: Turns a time in a line into the text that is stored.

    """

    def __init__(self, as_stored: Callable[[str], str] = time_text) -> None:
        self._as_stored = as_stored
        self._rows = 0
        self._parameters: dict[_Shape, list[Any]] = {}
        self._things: dict[tuple[Any, ...], _Thing] = {}

    def add(self, rows: Sequence[Row]) -> None:
        """
        Add rows, in the order in which they were logged.

        Raises: as :func:`prepare`.

        """
        groups: dict[_Shape, _Group] = {}
        for number, (table, columns) in enumerate(rows, self._rows + 1):
            if table.key and _merge(self._things, number, table, columns):
                continue
            _add(groups, number, table, columns)
        self._rows += len(rows)
        self._take_values(groups)

    def _take_values(self, groups: dict[_Shape, _Group]) -> None:
        for (table, arguments), (numbers, rows) in groups.items():
            values = zip(*map(dict.values, rows), strict=True)
            columns = [
                _stored(table.columns[argument], column, self._as_stored)
                for argument, column in zip(arguments, values, strict=True)
            ]
            parameters = self._parameters.setdefault((table, arguments), [])
            parameters.extend(chain.from_iterable(zip(numbers, *columns, strict=True)))

    def batch(self, *, fill_only: bool = False) -> Batch:
        """Return all that was added, as statements. Nothing can be added after it."""
        groups: dict[_Shape, _Group] = {}
        for thing in self._things.values():
            _add(groups, *thing)
        self._take_values(groups)
        statements: list[Statement] = []
        new_rows = 0
        for (table, arguments), parameters in self._parameters.items():
            rows = len(parameters) // (len(arguments) + 1)
            statements += _split(table, arguments, parameters, rows, fill_only)
            new_rows += 0 if table.key else rows
        keyed = {table.name for table, _ in self._parameters if table.key}
        return Batch(statements, self._rows, new_rows, sorted(keyed))


def _add(groups: dict[_Shape, _Group], number: int, table: Table, columns: dict[str, Any]) -> None:
    shape = (table, tuple(columns))
    group = groups.get(shape)
    if group is None:
        groups[shape] = group = _Group([], [])
    group.numbers.append(number)
    group.rows.append(columns)


class _Thing(NamedTuple):
    """All that the batch says of one thing, numbered like the last row of it."""

    number: int
    table: Table
    columns: dict[str, Any]


def _merge(things: dict[tuple[Any, ...], _Thing], number: int, table: Table, columns: dict[str, Any]) -> bool:
    """Merge a row with those of the same key; tell whether it has a whole key."""
    key = (table, *map(columns.get, table.key))
    if None in key:
        return False  # nobody can tell what the row speaks of: it stands alone
    known = things.get(key)
    if known is not None:
        given = {name: value for name, value in columns.items() if value is not None}
        columns = known.columns | given
    things[key] = _Thing(number, table, columns)
    return True


def _stored(column: Column, values: Sequence[Any], as_stored: Callable[[str], str]) -> Sequence[Any]:
    """Return the values of one column as they are stored."""
    if column.kind is Kind.TIME:
        return [None if value is None else as_stored(value) for value in values]
    if column.kind is not Kind.TEXT:
        return values
    # Nearly always all texts fit as they are; this asks for all of them at once.
    texts = [value for value in values if value is not None] if None in values else values
    together = "".join(texts)
    if together.isascii() and "\0" not in together and max(map(len, texts), default=0) <= column.width:
        return values
    return [
        None if value is None else fit_text(value, column.width, keep_end=column.keep_end) for value in values
    ]


def _split(
    table: Table, arguments: tuple[str, ...], parameters: list[Any], rows: int, fill_only: bool
) -> Iterator[Statement]:
    width = len(arguments) + 1
    first = 0
    for size in STATEMENT_ROWS:
        if size * width + 3 > MAX_PARAMETERS:
            continue
        while rows - first >= size:
            sql = insert_sql(table, arguments, size, fill_only)
            yield Statement(sql, parameters[first * width : (first + size) * width])
            first += size


@lru_cache(maxsize=1024)
def insert_sql(table: Table, arguments: tuple[str, ...], rows: int, fill_only: bool) -> str:
    """Return the INSERT of ``rows`` rows with these columns; bound names only, no values."""
    columns = [table.columns[argument] for argument in arguments]
    names = ["ENGINE_RUN_ID", "LOG_SEQ", *(column.name for column in columns)]
    values = ["?2", "?3+?", *("?" for _ in columns)]
    if table.added is not None:
        if "dt_added" in arguments:
            values[2 + arguments.index("dt_added")] = "coalesce(?,?1)"
        else:
            names.append(table.added.name)
            values.append("?1")
    row = f"({','.join(values)})"
    # Names come from our own tables, never from input.
    sql = f"INSERT INTO {table.name} ({','.join(names)}) VALUES {','.join([row] * rows)}"  # noqa: S608  # names of our own tables and columns
    return sql + _on_conflict(table, columns, fill_only) if table.key else sql


def _on_conflict(table: Table, columns: Sequence[Column], fill_only: bool) -> str:
    changes = ["LOG_SEQ=excluded.LOG_SEQ"]
    for column in columns:
        if column.argument in table.key:
            continue
        new, old = f"excluded.{column.name}", f"{table.name}.{column.name}"
        first, second = (old, new) if fill_only else (new, old)
        if column.argument == "dt_added" and not fill_only:
            # The time of the commit stands in for None, and mustn't overwrite the stored one.
            first, second = f"nullif({new},?1)", f"{old},?1"
        changes.append(f"{column.name}=coalesce({first},{second})")
    return f" ON CONFLICT ({','.join(table.key_columns)}) DO UPDATE SET {','.join(changes)}"
