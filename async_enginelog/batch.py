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

__all__ = ["Batch", "Statement", "join", "prepare"]

# Numbers of rows in a statement: few statements for any number of rows, and one for a full batch
# of rows of one kind. Each statement is a way to SQLite's thread and back.
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
    rows: Sequence[Row],
    *,
    first: int = 1,
    as_stored: Callable[[str], str] = time_text,
    fill_only: bool = False,
) -> Batch:
    """
    Merge rows that speak of the same thing, and make statements of what remains.

    Args:
        rows: In the order in which they were logged.
        first: The number of the first of them in the transaction.
        as_stored: Turns a time in a line into the text that is stored.
        fill_only: Whether what is stored already wins, as it does in a replay,
            where a row may be older than what is stored.

    Raises:
        KeyError, TypeError: If a row doesn't have native types; pass it through
            :func:`~async_enginelog.lines.plain_columns` first.

    """
    groups = _group(rows, first)
    statements: list[Statement] = []
    for (table, arguments), (numbers, group) in groups.items():
        values = zip(*map(dict.values, group), strict=True)
        columns = [
            _stored(table.columns[argument], column, as_stored)
            for argument, column in zip(arguments, values, strict=True)
        ]
        parameters = list(chain.from_iterable(zip(numbers, *columns, strict=True)))
        statements += _split(table, arguments, parameters, len(numbers), fill_only)
    keyed = {table.name for table, _ in groups if table.key}
    new_rows = sum(len(numbers) for (table, _), (numbers, _) in groups.items() if not table.key)
    return Batch(statements, len(rows), new_rows, sorted(keyed))


def join(batches: Sequence[Batch]) -> Batch:
    """Return one batch of several, to be committed together, in order."""
    if len(batches) == 1:
        return batches[0]
    return Batch(
        [statement for batch in batches for statement in batch.statements],
        sum(batch.rows for batch in batches),
        sum(batch.new_rows for batch in batches),
        sorted({table for batch in batches for table in batch.keyed_tables}),
    )


class _Group(NamedTuple):
    """Rows of the same table and columns, each with its number in the batch."""

    numbers: list[int]
    rows: list[dict[str, Any]]


_Shape = tuple[Table, tuple[str, ...]]


def _group(rows: Sequence[Row], first: int) -> dict[_Shape, _Group]:
    """Collect rows by table and columns."""
    groups: dict[_Shape, _Group] = {}
    things: dict[tuple[Any, ...], _Thing] = {}
    for number, (table, columns) in enumerate(rows, first):
        if table.key and _merge(things, number, table, columns):
            continue
        _add(groups, number, table, columns)
    for thing in things.values():
        _add(groups, *thing)
    return groups


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
) -> Iterable[Statement]:
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
    sql = f"INSERT INTO {table.name} ({','.join(names)}) VALUES {','.join([row] * rows)}"  # noqa: S608
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
