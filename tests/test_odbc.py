"""
The log as SQL Server sees it: through SQLite's real ODBC driver.

The driver reads in a process of its own, as SQL Server does. In the process of the engine it could
bring a second copy of SQLite, and closing a file in one copy drops the locks of the other
(https://www.sqlite.org/howtocorrupt.html#multiple_copies_of_sqlite_linked_into_the_same_application).

"""

from __future__ import annotations

import multiprocessing
import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from async_enginelog import EngineLog
from async_enginelog.tables import TABLES, Column, Kind, Table

from .conftest import Query
from .pure_helpers import expected, utf16_units

HOW_TO_GET_IT = "`make odbc` installs what is missing, on Debian"

try:
    import pyodbc
except ImportError as error:  # also if the wheel is there, but not the driver manager it loads
    pytest.skip(f"pyodbc can't be used: {error}; {HOW_TO_GET_IT}", allow_module_level=True)

# How the driver calls itself where it is registered: on Debian, on Windows.
NAMES = ("SQLite3", "SQLite3 ODBC Driver")
FOLDERS = ("/usr/lib", "/usr/local/lib", "/opt/homebrew/lib")


def find_driver() -> str | None:
    """Return the driver's registered name, else the path of its library."""
    registered = next((name for name in NAMES if name in pyodbc.drivers()), None)
    if registered is not None:
        return registered
    found = (path for folder in FOLDERS for path in Path(folder).rglob("libsqlite3odbc.*"))
    return next((str(path) for path in sorted(found)), None)


DRIVER = find_driver()
if DRIVER is None:
    pytest.skip(f"SQLite's ODBC driver isn't installed; {HOW_TO_GET_IT}", allow_module_level=True)

RECORDING = 202508290514312002
BIGGEST = 2**63 - 1
MOMENT = datetime(2026, 1, 31, 23, 59, 59, 999_999, UTC)
PATIENCE = 60.0

# What is expected of the driver, and no other type. From 256 characters on it calls a text long;
# which of the two alphabets it is depends on its build.
TYPES = {
    pyodbc.SQL_BIGINT: "BIGINT",
    pyodbc.SQL_DOUBLE: "REAL",
    pyodbc.SQL_TYPE_TIMESTAMP: "DATETIME",
    pyodbc.SQL_VARCHAR: "VARCHAR({})",
    pyodbc.SQL_WVARCHAR: "VARCHAR({})",
    pyodbc.SQL_LONGVARCHAR: "VARCHAR({})",
    pyodbc.SQL_WLONGVARCHAR: "VARCHAR({})",
}

each_table = pytest.mark.parametrize("table", TABLES.values(), ids=list(TABLES))

Read = Callable[..., Any]


# -- the reader, in its own process -----------------------------------------------------------------


@cache
def connected(path: str) -> Any:
    """Connect as the script for SQL Server does, once for each database."""
    connection = pyodbc.connect(
        f"Driver={{{DRIVER}}};Database={path};NoCreat=1;Timeout=5000;", autocommit=True
    )
    # The Debian build of the driver gives UTF-8; that for Windows UTF-16, as pyodbc expects of it.
    connection.setdecoding(pyodbc.SQL_CHAR, encoding="utf-8")
    return connection


def read_rows(path: str, sql: str, *parameters: object) -> list[tuple[Any, ...]]:
    """Return what a SELECT gives."""
    with closing(connected(path).cursor()) as cursor:
        return [tuple(row) for row in cursor.execute(sql, *parameters).fetchall()]


def read_types(path: str, table: str) -> list[tuple[str, str]]:
    """Return name and type of each column as the driver tells them, not as they are declared."""
    with closing(connected(path).cursor()) as cursor:
        return [
            (row.column_name, TYPES.get(row.data_type, row.type_name + "?").format(row.column_size))
            for row in cursor.columns(table=table)
        ]


def read_first(path: str, sql: str) -> tuple[Any, ...]:
    """Return the first row of a SELECT, and leave the rest unread until the end of the test."""
    cursor = connected(path).cursor()
    unread.append(cursor)
    return tuple(cursor.execute(sql).fetchone())


def read_error(path: str) -> str:
    """Return why a database can't be connected to; an empty text if it can."""
    try:
        connected(path)
    except pyodbc.Error as error:
        return str(error)
    return ""


def disconnect(path: str) -> None:
    """Let go of the file."""
    unread.clear()
    if connected.cache_info().currsize:
        connected(path).close()
    connected.cache_clear()


unread: list[Any] = []


@pytest.fixture(scope="module")
def process() -> Iterator[ProcessPoolExecutor]:
    """A process that isn't the engine's."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as executor:
        yield executor


@pytest.fixture
def read(process: ProcessPoolExecutor, path: Path) -> Iterator[Read]:
    """Call a function of the reader for the database at ``path``; by default, read a SELECT."""

    def call(*arguments: object, how: Callable[..., Any] = read_rows) -> Any:
        return process.submit(how, str(path), *arguments).result(PATIENCE)

    yield call
    process.submit(disconnect, str(path)).result(PATIENCE)


# -- what is written --------------------------------------------------------------------------------


def full_text(width: int) -> str:
    """Return a text that fills a column: characters of two UTF-16 units, and one of one if it is odd."""
    return "\N{VIOLIN}" * (width // 2) + "é" * (width % 2)


def full_value(column: Column, number: int) -> Any:
    """Return a value that leaves no room in its column, another one for each column."""
    match column.kind:
        case Kind.INTEGER:
            return BIGGEST - number
        case Kind.REAL:
            return 0.1 + number
        case Kind.TEXT:
            return full_text(column.width)
        case Kind.TIME:
            return MOMENT - timedelta(days=number, microseconds=number)


def full_row(table: Table) -> dict[str, Any]:
    """Return a row with a value in every column but DT_ADDED, which the log fills itself."""
    columns = table.columns.values()
    return {
        column.argument: full_value(column, number)
        for number, column in enumerate(columns)
        if column is not table.added
    }


async def write(path: Path, *rows: tuple[Table, dict[str, Any]]) -> int:
    """Log rows with an engine that then ends; return its run."""
    async with EngineLog(path) as log:
        for table, columns in rows:
            await log.log_row(table.name, columns)
        return log.run_id


# -- types ------------------------------------------------------------------------------------------


@each_table
async def test_types(path: Path, read: Read, table: Table) -> None:
    """Every column reads as its type: ids with 64 bits, times as times, texts with their width."""
    await write(path)
    declared = [
        (column.name, column.declared.removeprefix("VAR").replace("CHAR", "VARCHAR"))
        for column in table.columns.values()
    ]
    assert read(table.name, how=read_types) == [*declared, ("ENGINE_RUN_ID", "BIGINT"), ("LOG_SEQ", "BIGINT")]


async def test_types_of_runs(path: Path, read: Read, query: Query) -> None:
    """The table of the runs reads as right as the others."""
    await write(path)
    declared = query("SELECT name, type FROM pragma_table_info('ENGINE_LOG_RUN')")
    assert read("ENGINE_LOG_RUN", how=read_types) == declared != []


# -- values -----------------------------------------------------------------------------------------


@each_table
async def test_full_rows(path: Path, read: Read, table: Table) -> None:
    """Values that fill every column of a table come back exactly, and nothing is cut."""
    row = full_row(table)
    run = await write(path, (table, row))
    columns = [table.columns[argument] for argument in row]
    names = ", ".join(column.name for column in columns)
    [found] = read(f"SELECT {names}, ENGINE_RUN_ID, LOG_SEQ FROM {table.name}")
    for column, value in zip(columns, found[:-2], strict=True):
        shown = value.isoformat(" ", "microseconds") if column.kind is Kind.TIME else value
        assert shown == expected(column, row[column.argument]), column.name
    assert found[-2:] == (run, 1)


@each_table
async def test_nulls(path: Path, read: Read, query: Query, table: Table) -> None:
    """A column that nobody gave a value reads as NULL, whatever its type."""
    first = next(argument for argument, column in table.columns.items() if column.kind is Kind.INTEGER)
    run = await write(path, (table, {first: RECORDING}))
    given = {first, "dt_added", table.stamp}
    empty = [column.name for argument, column in table.columns.items() if argument not in given]
    [found] = read(f"SELECT {table.columns[first].name}, ENGINE_RUN_ID, {', '.join(empty)} FROM {table.name}")
    assert found == (RECORDING, run, *[None] * len(empty))
    assert query(f"SELECT count(*) FROM {table.name}") == [(1,)]


@pytest.mark.parametrize("number", [RECORDING, BIGGEST, -(2**63), 2**31, 0])
async def test_whole_numbers(path: Path, read: Read, number: int) -> None:
    """A number of 64 bits isn't wrapped to 32, in a row and as what is looked for."""
    await write(path, (TABLES["ENGINE_DB_LOG_RECORDING_CONFIG"], {"recording_id": number}))
    assert read("SELECT RECORDING_ID FROM ENGINE_DB_LOG_RECORDING_CONFIG WHERE RECORDING_ID = ?", number) == [
        (number,)
    ]


@pytest.mark.parametrize("moment", [MOMENT, MOMENT.replace(microsecond=1), MOMENT.replace(microsecond=0)])
async def test_times(path: Path, read: Read, moment: datetime) -> None:
    """A time is exact to the microsecond, read as a time and read as a text."""
    await write(path, (TABLES["ENGINE_DB_LOG_STEPS"], {"dt_step_called": moment}))
    plain = moment.replace(tzinfo=None)
    assert read("SELECT DT_STEP_CALLED, CAST(DT_STEP_CALLED AS TEXT) FROM ENGINE_DB_LOG_STEPS") == [
        (plain, plain.isoformat(" ", "microseconds"))
    ]


async def test_time_of_the_commit(path: Path, read: Read) -> None:
    """What the log stamps itself reads as a time, too."""
    before = datetime.now(UTC).replace(tzinfo=None)
    await write(path, (TABLES["ENGINE_DB_LOG_STEPS"], {"step_name": "resample"}))
    after = datetime.now(UTC).replace(tzinfo=None)
    [(called, added)] = read("SELECT DT_STEP_CALLED, DT_ADDED FROM ENGINE_DB_LOG_STEPS")
    assert before <= called <= added <= after


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        ("\N{VIOLIN}" * 50, "\N{VIOLIN}" * 50),
        ("\N{VIOLIN}" * 51, "\N{VIOLIN}" * 50),
        ("x" + "\N{VIOLIN}" * 50, "x" + "\N{VIOLIN}" * 49),
        ("before\0after", "before\N{SYMBOL FOR NULL}after"),
        ("lone \ud83d surrogate", "lone \N{REPLACEMENT CHARACTER} surrogate"),
        ("tab\t line\r\n end\\ 'quoted' é — ü", "tab\t line\r\n end\\ 'quoted' é — ü"),
        ("", ""),
    ],
    ids=["full", "too long", "half a character too long", "NUL", "surrogate", "special", "empty"],
)
async def test_texts(path: Path, read: Read, given: str, stored: str) -> None:
    """A text is never cut by the driver: what it couldn't read isn't stored."""
    await write(path, (TABLES["ENGINE_DB_LOG_STEPS"], {"step_name": given, "python_file_name": "a.py"}))
    assert read("SELECT STEP_NAME, PYTHON_FILE_NAME FROM ENGINE_DB_LOG_STEPS") == [(stored, "a.py")]
    assert utf16_units(stored) <= 100


async def test_traceback_keeps_its_end(path: Path, read: Read) -> None:
    """A long text arrives whole: 4,000 UTF-16 units, up to the last one."""
    traceback = "\N{VIOLIN}" * 3000 + "ValueError: too loud"
    await write(path, (TABLES["ENGINE_DB_LOG_FUNCTION_ERROR"], {"traceback_text": traceback}))
    [(found,)] = read("SELECT TRACEBACK_TEXT FROM ENGINE_DB_LOG_FUNCTION_ERROR")
    assert found.endswith("\N{VIOLIN}ValueError: too loud")
    assert utf16_units(found) == 4000


# -- reading along ----------------------------------------------------------------------------------


async def test_reads_while_the_log_is_open(path: Path, read: Read) -> None:
    """A reader that stays connected sees each row once it is committed, by the highest LOG_SEQ it saw."""
    newer = "SELECT LOG_SEQ, STEP_ID FROM ENGINE_DB_LOG_STEPS WHERE LOG_SEQ > ? ORDER BY LOG_SEQ"
    seen: list[int] = []
    highest = 0
    async with EngineLog(path) as log:
        for start in range(0, 500, 100):
            for number in range(start, start + 100):
                await log.log_steps(step_id=number, recording_id=RECORDING)
            await log.flush()
            rows = read(newer, highest)
            assert len(rows) == 100
            highest = rows[-1][0]
            seen += [number for _, number in rows]
        assert log.statistics().last_fault is None
    assert seen == list(range(500))


async def test_sees_a_row_filled_in(path: Path, read: Read) -> None:
    """The same row is seen as it grows, each time under a higher LOG_SEQ."""
    sql = "SELECT DT_RECORDING_END, LOG_SEQ FROM ENGINE_DB_LOG_RECORDING_CONFIG"
    async with EngineLog(path) as log:
        await log.log_recording_config(recording_id=RECORDING)
        await log.flush()
        [(nothing, before)] = read(sql)
        await log.log_recording_config(recording_id=RECORDING, dt_recording_end=MOMENT)
        await log.flush()
        [(end, after)] = read(sql)
    assert nothing is None
    assert end == MOMENT.replace(tzinfo=None)
    assert after > before


async def test_a_slow_reader_holds_up_nobody(path: Path, read: Read) -> None:
    """While a reader has read but the first of its rows, the log commits, and others read that."""
    async with EngineLog(path) as log:
        for number in range(1000):
            await log.log_steps(step_id=number)
        await log.flush()
        first = "SELECT STEP_ID FROM ENGINE_DB_LOG_STEPS ORDER BY LOG_SEQ"
        assert read(first, how=read_first) == (0,)
        await log.log_steps(step_id=1000)
        await log.flush()
        assert read("SELECT STEP_ID FROM ENGINE_DB_LOG_STEPS WHERE STEP_ID = 1000") == [(1000,)]
        assert log.statistics().last_fault is None


async def test_reads_while_another_writes(path: Path, read: Read) -> None:
    """A reader doesn't wait for whoever holds the database for writing."""
    await write(path, (TABLES["ENGINE_DB_LOG_STEPS"], {"step_id": 1}))
    with closing(sqlite3.connect(path, isolation_level=None)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        writer.execute("UPDATE ENGINE_DB_LOG_STEPS SET STEP_ID = 2")
        assert read("SELECT STEP_ID FROM ENGINE_DB_LOG_STEPS") == [(1,)]
        writer.execute("COMMIT")
    assert read("SELECT STEP_ID FROM ENGINE_DB_LOG_STEPS") == [(2,)]


def test_a_wrong_path_makes_no_file(path: Path, read: Read) -> None:
    """With NoCreat=1, a reader that is told a wrong path fails, and leaves no empty database there."""
    assert "connect failed" in read(how=read_error)
    assert not path.exists()
