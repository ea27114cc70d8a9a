"""
One row, one JSON line: how a row is written down, and how it is read back.

``["ENGINE_DB_LOG_STEPS",{"step_name":"resample","recording_id":202508290514312002}]``

The same line is queue entry, crash journal, console fallback and replay format. It holds
the columns that were given, so it outlives an upgrade of the tables, and times in UTC,
so it outlives a change of the time zone. A raw newline or a NUL byte can't occur inside.

"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple, TypeAlias

import orjson

from .tables import TABLES, Column, Kind, Table, find_table
from .values import as_integer, as_real, as_text, as_time, fit_text, mask_headers

__all__ = ["MAX_LINE_BYTES", "Row", "RowEncoder", "decode", "encoder_of", "plain_columns"]

# A longer line has its texts cut before it is written, not after it is read:
# any line fits into a segment of the spool many times over.
MAX_LINE_BYTES = 65_536

# So many shapes of calls are remembered for each table. A program has one for each place
# that logs; the limit is for those that make up their columns as they go.
MAX_SHAPES = 512

Row: TypeAlias = tuple[Table, dict[str, Any]]

# Types whose values go into a line as they are.
NATIVE = {Kind.INTEGER: int, Kind.REAL: float, Kind.TEXT: str, Kind.TIME: datetime}

_dumps, _LINE = orjson.dumps, orjson.OPT_APPEND_NEWLINE


class _Plan(NamedTuple):
    """What is left to do for a call of a known shape."""

    times: tuple[str, ...]  # arguments that hold a datetime
    stamp: str | None  # argument that gets the time of the call


class RowEncoder:
    """
    Check the arguments of a call and write them down as a line.

    A program logs from few places, and each passes the same names and types again and
    again. So names and types are checked once for each *shape* (names and types together),
    and a shape that was found good costs one look-up from then on.

    """

    __slots__ = ("_name", "_shapes", "_table")

    def __init__(self, table: Table) -> None:
        self._table = table
        self._name = table.name
        self._shapes: dict[tuple[object, ...], _Plan] = {}

    def __call__(self, columns: dict[str, Any]) -> bytes:
        """
        Return the line for ``columns``; adds the time of the call to it.

        Raises:
            TypeError: If a column doesn't exist or a value has the wrong type.
            ValueError: If no value is given, or one can't be read as its type.

        """
        plan = self._shapes.get((*columns, *map(type, columns.values())))
        if plan is None:
            return self._encode_new_shape(columns)
        for argument in plan.times:
            if columns[argument].tzinfo is not UTC:
                columns[argument] = as_time(columns[argument])
        if plan.stamp:
            columns[plan.stamp] = datetime.now(UTC)
        try:
            line = _dumps((self._name, columns), None, _LINE)
        except TypeError:  # lone surrogates, numbers of more than 64 bits
            return self._encode_carefully(columns)
        return line if len(line) <= MAX_LINE_BYTES else self._encode_carefully(columns)

    def _encode_new_shape(self, columns: dict[str, Any]) -> bytes:
        plain = plain_columns(self._table, columns)
        if not plain:
            raise ValueError(f"{self._name}: no value was given; pass at least one column that isn't None")
        shape = (*columns, *map(type, columns.values()))
        if self._is_native(columns):
            if len(self._shapes) >= MAX_SHAPES:
                self._shapes.clear()
            self._shapes[shape] = self._plan(columns)
            return self(columns)
        return self._encode_plain(plain)

    def _is_native(self, columns: dict[str, Any]) -> bool:
        known = self._table.columns
        return all(
            argument in known and (value is None or type(value) is NATIVE[known[argument].kind])
            for argument, value in columns.items()
        )

    def _plan(self, columns: dict[str, Any]) -> _Plan:
        times = tuple(argument for argument, value in columns.items() if type(value) is datetime)
        stamp = self._table.stamp
        return _Plan(times, stamp if stamp and columns.get(stamp) is None else None)

    def _encode_carefully(self, columns: dict[str, Any]) -> bytes:
        return self._encode_plain(plain_columns(self._table, columns))

    def _encode_plain(self, plain: dict[str, Any]) -> bytes:
        stamp = self._table.stamp
        if stamp and stamp not in plain:
            plain[stamp] = datetime.now(UTC)
        line = _dumps((self._name, plain), None, _LINE)
        if len(line) <= MAX_LINE_BYTES:
            return line
        for argument, value in plain.items():
            column = self._table.columns[argument]
            if column.kind is Kind.TEXT:
                plain[argument] = fit_text(value, column.width, keep_end=column.keep_end)
        return _dumps((self._name, plain), None, _LINE)


_ENCODERS: dict[str, RowEncoder] = {}


def encoder_of(table: Table) -> RowEncoder:
    """Return the encoder of ``table``: one for all logs, so that each shape is checked once."""
    encoder = _ENCODERS.get(table.name)
    if encoder is None:
        encoder = _ENCODERS.setdefault(table.name, RowEncoder(table))
    return encoder


def plain_columns(table: Table, columns: Mapping[str, Any]) -> dict[str, Any]:
    """
    Return ``columns`` with names in lower case and values as a line has them, without the empty ones.

    Raises:
        TypeError: If a column doesn't exist or a value has the wrong type.
        ValueError: If a value can't be read as its type.

    """
    plain: dict[str, Any] = {}
    for name, value in columns.items():
        column = table.columns.get(name) or table.columns.get(str(name).lower())
        if column is None:
            raise TypeError(
                f"{table.name} has no column {name!r}; its columns are {', '.join(table.columns)}"
            )
        if value is not None:
            plain[column.argument] = _native(table, column, value)
    return plain


def _native(table: Table, column: Column, value: object) -> Any:
    try:
        match column.kind:
            case Kind.INTEGER:
                return as_integer(value)
            case Kind.REAL:
                return as_real(value)
            case Kind.TEXT:
                masked = column.headers and isinstance(value, Mapping)
                return as_text(mask_headers(value) if masked else value, column.width)  # type: ignore[arg-type]
            case Kind.TIME:  # pragma: no branch
                return as_time(value).isoformat()  # as the encoder writes it
    except (TypeError, ValueError) as error:
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"{table.name}.{column.name}: {error}") from None


def decode(data: bytes) -> tuple[list[Row], list[bytes]]:
    """
    Read lines back.

    Args:
        data: Whole lines, each with its newline.

    Returns:
        The rows, in order, and the lines that can't be read: broken ones, and
        those whose table this version doesn't know.

    """
    try:
        # A newline can't occur inside a line, so this is one array of all lines:
        # a third faster than one call for each.
        entries = orjson.loads(b"[" + data[:-1].replace(b"\n", b",") + b"]")
        return [(TABLES[name], columns) for name, columns in entries], []
    except (ValueError, TypeError, KeyError):
        return _decode_one_by_one(data)


def _decode_one_by_one(data: bytes) -> tuple[list[Row], list[bytes]]:
    rows: list[Row] = []
    unreadable: list[bytes] = []
    for line in data.split(b"\n")[:-1]:  # not splitlines(), for which a line ends elsewhere, too
        try:
            name, columns = orjson.loads(line)
            table = find_table(name)
            rows.append((table, plain_columns(table, columns)))
        except (ValueError, TypeError, AttributeError):
            unreadable.append(line)
    return rows, unreadable
