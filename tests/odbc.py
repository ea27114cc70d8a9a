"""
A reader that does what SQL Server does: it asks the ODBC driver for types twice, and reads at those sizes.

pyodbc doesn't show the types that a driver tells before a query has run, and re-reads what was cut. So this
speaks to the driver manager itself, by ctypes. It runs in a process of its own (see test_odbc.py).

"""

from __future__ import annotations

import ctypes
import ctypes.util
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from ctypes import byref, c_double, c_int, c_int64, c_short, c_ulong, c_void_p, create_string_buffer
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

HOW_TO_GET_IT = "`make odbc` installs what is missing, on Debian"

# Another build of the driver, by the path of its library. That for Windows tells and takes UTF-16;
# built for Linux with --enable-winterface, it does so here, too.
OTHER_DRIVER = "ENGINELOG_ODBC_DRIVER"

# How the driver calls itself where it is registered: on Debian, on Windows.
NAMES = ("SQLite3", "SQLite3 ODBC Driver")
FOLDERS = ("/usr/lib", "/usr/local/lib", "/opt/homebrew/lib")

# https://learn.microsoft.com/sql/odbc/reference/develop-app/
SUCCESS, WITH_INFO, NO_DATA = 0, 1, 100
NULL_DATA = -1
BIGINT, INTEGER, DOUBLE = -5, 4, 8
VARCHAR, WVARCHAR, LONGVARCHAR, WLONGVARCHAR = 12, -9, -1, -10
AS_BIGINT, AS_DOUBLE, AS_WIDE_TEXT = -25, 8, -8
TEXTS = (VARCHAR, WVARCHAR)
LONG_TEXTS = (LONGVARCHAR, WLONGVARCHAR)
CHUNK = 1024


# What else may be asked of a column: is it counted up, updatable, searchable, unsigned, …; its length,
# precision, scale, octets, …; and as text, the names of its type, column and table.
# https://learn.microsoft.com/sql/odbc/reference/syntax/sqlcolattribute-function
NUMBERS = (2, 6, 8, 9, 10, 11, 12, 13, 32, 1002, 1003, 1005, 1006, 1008, 1013)
NAMES_OF = (14, 22, 23)


class Column(NamedTuple):
    """What SQLDescribeCol says of a column, and SQLColAttribute."""

    name: str
    type: int
    size: int
    digits: int
    nullable: int
    attributes: tuple[int | str, ...]


class Answer(NamedTuple):
    """What became of a query."""

    prepared: list[Column]
    executed: list[Column]
    rows: list[tuple[Any, ...]]
    # What was said on the way: [] if each call succeeded without a remark.
    remarks: list[str]


class Fault(Exception):
    """A call that failed, with what the driver says of it."""


@cache
def manager() -> ctypes.CDLL | None:
    """Return the driver manager; None if there is none."""
    name = "odbc32.dll" if os.name == "nt" else ctypes.util.find_library("odbc")
    return ctypes.CDLL(name) if name else None


def find_driver() -> str | None:
    """Return the name or the path of the driver; None if there is none."""
    if manager() is None:
        return None
    if os.environ.get(OTHER_DRIVER):
        return os.environ[OTHER_DRIVER]
    if os.name == "nt":
        return NAMES[1]
    found = (path for folder in FOLDERS for path in Path(folder).rglob("libsqlite3odbc.*"))
    return next((str(path) for path in sorted(found)), None)


def _said(kind: int, handle: c_void_p) -> str:
    state, number, message, length = create_string_buffer(6), c_int(), create_string_buffer(1000), c_short()
    library = manager()
    assert library is not None
    library.SQLGetDiagRec(kind, handle, 1, state, byref(number), message, 1000, byref(length))
    return f"{state.value.decode()} {message.value.decode('utf-8', 'replace')}"


def _wide(text: str) -> bytes:
    return text.encode("utf-16-le") + b"\0\0"


class Connection:
    """A connection in autocommit, as MSDASQL has it outside of transactions."""

    def __init__(self, connection_string: str) -> None:
        library = manager()
        assert library is not None
        self._library = library
        self._environment, self._handle = c_void_p(), c_void_p()
        library.SQLAllocHandle(1, None, byref(self._environment))
        library.SQLSetEnvAttr(self._environment, 200, c_void_p(3), 0)
        library.SQLAllocHandle(2, self._environment, byref(self._handle))
        name = _wide(connection_string)
        if library.SQLDriverConnectW(self._handle, None, name, -3, None, 0, None, 0) not in (
            SUCCESS,
            WITH_INFO,
        ):
            message = _said(2, self._handle)
            self._free()
            raise Fault(message)

    def close(self) -> None:
        """Let go of the file."""
        self._library.SQLDisconnect(self._handle)
        self._free()

    def _free(self) -> None:
        self._library.SQLFreeHandle(2, self._handle)
        self._library.SQLFreeHandle(1, self._environment)

    @contextmanager
    def _statement(self) -> Iterator[c_void_p]:
        statement = c_void_p()
        self._library.SQLAllocHandle(3, self._handle, byref(statement))
        yield statement
        self._library.SQLFreeHandle(3, statement)

    def _check(self, result: int, statement: c_void_p, remarks: list[str]) -> int:
        if c_short(result).value not in (SUCCESS, NO_DATA):
            remarks.append(_said(3, statement))
        return c_short(result).value

    def ask(self, sql: str) -> Answer:
        """Prepare, describe, execute, describe, read all rows at the declared sizes."""
        remarks: list[str] = []
        with self._statement() as statement:
            self._check(self._library.SQLPrepareW(statement, _wide(sql), -3), statement, remarks)
            prepared = self._describe(statement)
            self._check(self._library.SQLExecute(statement), statement, remarks)
            executed = self._describe(statement)
            rows = self._bound_rows(statement, executed, remarks)
        return Answer(prepared, executed, rows, remarks)

    def read_in_chunks(self, sql: str) -> list[tuple[str | None, ...]]:
        """Return all values as texts, each read in pieces, as long texts are."""
        with self._statement() as statement:
            remarks: list[str] = []
            self._check(self._library.SQLPrepareW(statement, _wide(sql), -3), statement, remarks)
            self._check(self._library.SQLExecute(statement), statement, remarks)
            if remarks:
                raise Fault(remarks[0])
            columns = len(self._describe(statement))
            rows = []
            while c_short(self._library.SQLFetch(statement)).value == SUCCESS:
                rows.append(tuple(self._chunks(statement, number) for number in range(1, columns + 1)))
        return rows

    def _chunks(self, statement: c_void_p, number: int) -> str | None:
        text = b""
        while True:
            buffer, length = create_string_buffer(CHUNK), c_int64()
            result = self._library.SQLGetData(
                statement, number, AS_WIDE_TEXT, buffer, c_int64(CHUNK), byref(length)
            )
            if length.value == NULL_DATA:
                return None
            if c_short(result).value == WITH_INFO:
                text += buffer.raw[: CHUNK - 2]
                continue
            return (text + buffer.raw[: max(length.value, 0)]).decode("utf-16-le")

    def _describe(self, statement: c_void_p) -> list[Column]:
        count = c_short()
        self._library.SQLNumResultCols(statement, byref(count))
        return [self._describe_one(statement, number) for number in range(1, count.value + 1)]

    def _describe_one(self, statement: c_void_p, number: int) -> Column:
        name, length, kind = create_string_buffer(600), c_short(), c_short()
        size, digits, nullable = c_ulong(), c_short(), c_short()
        self._library.SQLDescribeColW(
            statement,
            number,
            name,
            300,
            byref(length),
            byref(kind),
            byref(size),
            byref(digits),
            byref(nullable),
        )
        text = name.raw[: 2 * length.value].decode("utf-16-le")
        numbers = [self._number(statement, number, field) for field in NUMBERS]
        names = [self._name(statement, number, field) for field in NAMES_OF]
        return Column(text, kind.value, size.value, digits.value, nullable.value, (*numbers, *names))

    def _number(self, statement: c_void_p, column: int, field: int) -> int:
        value = c_int64()
        self._library.SQLColAttributeW(statement, column, field, None, 0, None, byref(value))
        return value.value

    def _name(self, statement: c_void_p, column: int, field: int) -> str:
        name, length = create_string_buffer(600), c_short()
        self._library.SQLColAttributeW(statement, column, field, name, 600, byref(length), None)
        return name.raw[: length.value].decode("utf-16-le", "replace")

    def _bound_rows(
        self, statement: c_void_p, columns: Sequence[Column], remarks: list[str]
    ) -> list[tuple[Any, ...]]:
        buffers = [_Buffer(column) for column in columns]
        for number, buffer in enumerate(buffers, 1):
            buffer.bind(self._library, statement, number)
        rows = []
        while self._check(self._library.SQLFetch(statement), statement, remarks) in (SUCCESS, WITH_INFO):
            rows.append(tuple(buffer.value() for buffer in buffers))
        return rows


class _Buffer:
    """Room for a value of a column, just as large as the column is said to be."""

    def __init__(self, column: Column) -> None:
        self.length = c_int64()
        self.room: Any
        if column.type in (BIGINT, INTEGER):
            self.kind, self.room = AS_BIGINT, c_int64()
        elif column.type == DOUBLE:
            self.kind, self.room = AS_DOUBLE, c_double()
        else:
            self.kind, self.room = AS_WIDE_TEXT, create_string_buffer(2 * column.size + 2)

    def bind(self, library: ctypes.CDLL, statement: c_void_p, number: int) -> None:
        """Have the driver fill it with each row."""
        size = ctypes.sizeof(self.room)
        library.SQLBindCol(statement, number, self.kind, byref(self.room), c_int64(size), byref(self.length))

    def value(self) -> Any:
        """Return what the driver put there."""
        if self.length.value == NULL_DATA:
            return None
        if self.kind != AS_WIDE_TEXT:
            return self.room.value
        return self.room.raw[: min(self.length.value, len(self.room) - 2)].decode("utf-16-le", "replace")


# -- for a process of its own -----------------------------------------------------------------------


_open: dict[str, Connection] = {}


def connected(connection_string: str) -> Connection:
    """Connect once."""
    if connection_string not in _open:
        _open[connection_string] = Connection(connection_string)
    return _open[connection_string]


def ask(connection_string: str, sql: str) -> Answer:
    """Ask one query."""
    return connected(connection_string).ask(sql)


def read_in_chunks(connection_string: str, sql: str) -> list[tuple[str | None, ...]]:
    """Read a query in pieces."""
    return connected(connection_string).read_in_chunks(sql)


def try_to_connect(connection_string: str) -> str:
    """Return why a database can't be connected to; an empty text if it can."""
    try:
        Connection(connection_string).close()
    except Fault as fault:
        return str(fault)
    return ""


def disconnect() -> None:
    """Let go of all files."""
    while _open:
        _open.popitem()[1].close()
