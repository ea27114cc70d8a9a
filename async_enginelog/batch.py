"""
Turn rows into few, large SQL statements, without performing any I/O.

SQLite's Python binding gives up the GIL for each statement and has to win it back from a
busy event loop, so a statement for each row is slow just when it matters. Here rows of the same
table and columns go into one ``INSERT … VALUES (…),(…)``, of a fixed number of rows, so
that SQLite finds the statement in its cache.

"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from itertools import chain
from typing import Any, NamedTuple

from .lines import Row
from .tables import Column, Kind, Table
from .values import fit_text, time_text

__all__ = ["Batch", "Statement", "prepare"]

# Numbers of rows in a statement: at most ten statements for any number of rows. Ever larger ones
# gain nothing (measured: 100 and 1,000 rows are within 5 % on an idle machine) but hold
# the GIL longer while their parameters are bound.
STATEMENT_ROWS = (512, 256, 128, 64, 32, 16, 8, 4, 2, 1)

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
    rows: Sequence[Row],
    *,
    as_stored: Callable[[str], str] = time_text,
    fill_only: bool = False,
) -> Batch:
    """
    Merge rows that speak of the same thing, and make statements of what remains.

    Args:
        rows: In the order in which they were logged; their dictionaries are used up.
        as_stored: Turns a time in a line into the text that is stored.
        fill_only: Whether what is stored already wins, as it does in a replay,
            where a row may be older than what is stored.

    Raises:
        KeyError, TypeError: If a row doesn't have native types; pass it through
            :func:`~async_enginelog.lines.plain_columns` first.

    """
    groups = _group(rows)
    statements: list[Statement] = []
    for (table, arguments), (numbers, group) in groups.items():
        values = list(zip(*map(dict.values, group), strict=True))
        columns = [
            _stored(table.columns[argument], column, as_stored)
            for argument, column in zip(arguments, values, strict=True)
        ]
        parameters = list(chain.from_iterable(zip(numbers, *columns, strict=True)))
        statements += _split(table, arguments, parameters, len(numbers), fill_only)
    keyed = {table.name for table, _ in groups if table.key}
    new_rows = sum(len(numbers) for (table, _), (numbers, _) in groups.items() if not table.key)
    return Batch(statements, len(rows), new_rows, sorted(keyed))


_Groups = dict[tuple[Table, tuple[str, ...]], tuple[list[int], list[dict[str, Any]]]]


def _group(rows: Sequence[Row]) -> _Groups:
    """Collect rows of the same table and columns, each with its number in the batch."""
    groups: _Groups = {}
    for number, table, columns in _merge(rows):
        shape = (table, tuple(columns))
        group = groups.get(shape)
        if group is None:
            groups[shape] = group = ([], [])
        group[0].append(number)
        group[1].append(columns)
    return groups


def _merge(rows: Sequence[Row]) -> Iterable[tuple[int, Table, dict[str, Any]]]:
    """Number the rows; make one of those with the same key, numbered like the last."""
    merged: list[list[Any]] = []
    things: dict[tuple[Any, ...], list[Any]] = {}
    for number, (table, columns) in enumerate(rows, 1):
        entry = [number, table, columns]
        if table.key:
            key = (table, *map(columns.get, table.key))
            known = things.setdefault(key, entry)
            # Without a whole key, nobody can tell what the row speaks of: it stands alone.
            if known is not entry and None not in key:
                known[0] = number
                known[2].update((name, value) for name, value in columns.items() if value is not None)
                continue
        merged.append(entry)
    return merged  # type: ignore[return-value]  # lists, as their numbers change


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
) -> Iterable[Statement]:
    width = len(arguments) + 1
    first = 0
    for size in STATEMENT_ROWS:
        while rows - first >= size and size * width + 3 <= MAX_PARAMETERS:
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
    sql = f"INSERT INTO {table.name} ({','.join(names)}) VALUES {','.join([row] * rows)}"  # noqa: S608
    return sql + _on_conflict(table, columns, fill_only) if table.key else sql


def _on_conflict(table: Table, columns: Sequence[Column], fill_only: bool) -> str:
    changes = ["LOG_SEQ=excluded.LOG_SEQ"]
    for column in columns:
        if column.argument in table.key:
            continue
        new, old = f"excluded.{column.name}", f"{table.name}.{column.name}"
        first, second = (old, new) if fill_only else (new, old)
        changes.append(f"{column.name}=coalesce({first},{second})")
    return f" ON CONFLICT ({','.join(table.key_columns)}) DO UPDATE SET {','.join(changes)}"
