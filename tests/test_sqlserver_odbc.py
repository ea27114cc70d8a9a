"""
What SQL Server asks, asked through SQLite's real ODBC driver: types before and after, values at their sizes.

Every query is taken out of the script as it is written. How pyodbc sees the tables is in test_odbc.py.

"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from async_enginelog import EngineLog
from async_enginelog.migrations import migrations
from async_enginelog.odbc import SOURCES, Source, bridge_version
from async_enginelog.odbc_paths import connection_string, local_path
from async_enginelog.sqlserver import Link, Target, create_script
from async_enginelog.tables import Column, Kind

from . import odbc, tsql
from .conftest import Query
from .odbc import Answer
from .tsql_procedure import executed

DRIVER = odbc.find_driver()
if DRIVER is None:
    pytest.skip(f"SQLite's ODBC driver isn't installed; {odbc.HOW_TO_GET_IT}", allow_module_level=True)

PATIENCE = 60.0
CHECKOUT = Path(__file__).resolve().parent.parent
SCRIPT = create_script(Link("/srv/log.db", Target("E", "V"), bridge_version(migrations()), rows=1000))

each_source = pytest.mark.parametrize("source", SOURCES.values(), ids=list(SOURCES))

Ask = Callable[..., Any]


# -- the queries ------------------------------------------------------------------------------------


class Asked(NamedTuple):
    """A query that the linked server is asked, and what it is about."""

    source: Source | None
    text: str


def source_of(text: str) -> Source | None:
    """Return the table that a query reads in whole rows or in part; None if it computes something."""
    found = [source for source in SOURCES.values() if f" {source.view} " in f" {' '.join(text.split())} "]
    return found[0] if found and "substr(" not in text else None


def ranges(source: Source) -> list[str]:
    """Return what the procedure asks for a table, with each kind of limit."""
    limits: list[dict[str, Any]] = [
        {},
        {"after_seq": 0, "up_to_seq": 2**63 - 1, "max_rows": 5},
        {"from_time": "0001-01-01 00:00:00.000000", "to_time": "9999-12-31 23:59:59.999999"},
    ]
    if source.has("RECORDING_ID"):
        limits.append({"recording_id": 2**63 - 1})
    statements = [executed(SCRIPT, table=source.name, **limit) for limit in limits]
    statements.append(executed(SCRIPT, table=source.name, into="#new"))
    return [query for statement in statements for query in tsql.pass_through_queries(statement)]


QUERIES = [
    Asked(source_of(text), text)
    for text in (
        *tsql.pass_through_queries(SCRIPT),
        *(text for source in SOURCES.values() for text in ranges(source)),
    )
]


# -- the rows ---------------------------------------------------------------------------------------

LOWEST, HIGHEST = -(2**63), 2**63 - 1


def extreme(column: Column, number: int) -> Any:
    """Return a value at an end of what a column holds; several of them, by number."""
    match column.kind:
        case Kind.INTEGER:
            return [HIGHEST, LOWEST, 2**31, -(2**31) - 1, 202508290514312002][number]
        case Kind.REAL:
            # The driver reads them by way of 15 digits: 0.1 + 0.2 would come as 0.3.
            return [1.7e308, -2.2250738585072e-308, 0.1, -0.0, 1234567.89012345][number]
        case Kind.TIME:
            last, first = "9999-12-31 23:59:59.999999", "0001-01-01 00:00:00.000000"
            return [last, first, "2026-01-31 12:34:56.000001", last, first][number]
        case Kind.TEXT:
            texts = ["\N{VIOLIN}" * (column.width // 2) + "é" * (column.width % 2), "€" * column.width]
            return [*texts, "", "7" * min(column.width, 20), "-\t\r\n' \"%_"[: column.width]][number]


# Each of the rows alone, as the driver may look at the first: what is in the tables, by name.
STATES: dict[str, Sequence[int | None]] = {
    "empty": [],
    "NULL": [None],
    "full": range(5),
    **{f"row {number}": [number] for number in range(5)},
}


def fill(path: Path, state: str) -> dict[str, list[tuple[Any, ...]]]:
    """Put the rows of a state into each table, and return them."""
    rows: dict[str, list[tuple[Any, ...]]] = {}
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for source in SOURCES.values():
            connection.execute(f"DELETE FROM {source.name}")
            rows[source.name] = [
                tuple(_value(source, column, number) for column in source.columns) for number in STATES[state]
            ]
            marks = ", ".join("?" for _ in source.columns)
            connection.executemany(f"INSERT INTO {source.name} VALUES ({marks})", rows[source.name])
    return rows


def _value(source: Source, column: Column, number: int | None) -> Any:
    if column.name == source.sequence:
        return [1, 2**31, 2**40, 2**53 + 1, HIGHEST][number or 0]
    if number is not None:
        return extreme(column, number)
    return 0 if source.name == "ENGINE_LOG_RUN" and column.kind is Kind.INTEGER else None


# -- the reader, in its own process -----------------------------------------------------------------


@pytest.fixture(scope="module")
def process() -> Iterator[ProcessPoolExecutor]:
    """A process that isn't the engine's."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as executor:
        yield executor


@pytest.fixture
def ask(process: ProcessPoolExecutor, path: Path) -> Iterator[Ask]:
    """Ask the database at ``path``, connected to as the script does it."""
    assert DRIVER is not None
    connection = connection_string(str(path), DRIVER)

    def call(*arguments: object, how: Callable[..., Any] = odbc.ask) -> Any:
        return process.submit(how, connection, *arguments).result(PATIENCE)

    yield call
    process.submit(odbc.disconnect).result(PATIENCE)


@pytest.fixture
async def database(path: Path) -> Path:
    """A database that an engine has made, and closed."""
    async with EngineLog(path):
        pass
    return path


def fits(column: odbc.Column, source: Source | None) -> bool:
    """Tell whether a type is what SQL Server needs: 64 bits, text of 255, long text as it is declared."""
    declared = next((c for c in source.columns if c.name == column.name), None) if source else None
    kind = declared.kind if declared else Kind.TEXT
    if kind is Kind.INTEGER:
        return (column.type, column.size) == (odbc.BIGINT, 20)
    if kind is Kind.REAL:
        return column.type == odbc.DOUBLE
    if declared and declared.width > 255:
        return column.type in odbc.LONG_TEXTS and column.size == declared.width
    return column.type in odbc.TEXTS and column.size == 255


# -- types and values -------------------------------------------------------------------------------


def test_types_stay(database: Path, ask: Ask, capsys: pytest.CaptureFixture[str]) -> None:
    """Every query has the same types when it is prepared and when it has run, whatever rows there are."""
    states = 0
    seen: dict[str, list[odbc.Column]] = {}
    for state in STATES:
        fill(database, state)
        for source, text in QUERIES:
            answer: Answer = ask(text)
            assert answer.remarks == [], text
            assert all(fits(column, source) for column in answer.prepared), answer.prepared
            for described in (answer.prepared, answer.executed):
                assert described == seen.setdefault(text, described) != []
                states += 1
    with capsys.disabled():
        print(
            f"\npass-through queries: {len(QUERIES)} ({len(seen)} different); states of their metadata "
            f"compared: {states} (before and after running; {', '.join(STATES)})"
        )


def test_values_are_exact(database: Path, ask: Ask, query: Query) -> None:
    """Values at the ends of what a column holds come whole, at the sizes that the driver tells."""
    rows = fill(database, "full")
    for source, text in QUERIES:
        if source is None:
            continue
        answer: Answer = ask(text)
        names = [column.name for column in answer.executed]
        places = [next(n for n, c in enumerate(source.columns) if c.name == name) for name in names]
        expected = {tuple(row[place] for place in places) for row in rows[source.name]}
        assert answer.remarks == []
        assert set(answer.rows) <= expected
        assert len(answer.rows) == len(set(answer.rows)) == len(query(text)) > 0


@each_source
def test_long_texts_in_pieces(database: Path, ask: Ask, source: Source) -> None:
    """Read in pieces, as SQL Server reads long texts, they are the same."""
    long = [column for column in source.columns if column.width > 255]
    if not long:
        assert source.name not in ("ENGINE_DB_LOG_FUNCTIONS", "ENGINE_DB_LOG_FUNCTION_ERROR")
        return
    rows = fill(database, "full")
    names = ", ".join(column.name for column in long)
    found = ask(f"SELECT {names} FROM {source.view} ORDER BY {source.sequence}", how=odbc.read_in_chunks)
    places = [source.columns.index(column) for column in long]
    assert found == [tuple(row[place] for place in places) for row in rows[source.name]]


# What a query may be broken by, and where the fault would show.
BROKEN = {
    "count": "SELECT count(*) AS X FROM V_ODBC_ENGINE_DB_LOG_STEPS",
    "maximum": "SELECT max(LOG_SEQ) AS X FROM V_ODBC_ENGINE_DB_LOG_STEPS",
    "cast": "SELECT CAST(LOG_SEQ AS INTEGER) AS X FROM V_ODBC_ENGINE_DB_LOG_STEPS",
    "sum": "SELECT LOG_SEQ + 0 AS X FROM V_ODBC_ENGINE_DB_LOG_STEPS",
    "coalesce": "SELECT coalesce(STEP_ID, 0) AS X FROM V_ODBC_ENGINE_DB_LOG_STEPS",
    "real": "SELECT memory_usage_mb * 1.0 AS X FROM V_ODBC_ENGINE_DB_LOG_PROCESS_REGISTRY",
    "time as a time": "SELECT DT_STEP_CALLED AS X FROM ENGINE_DB_LOG_STEPS",
    "long text computed": "SELECT substr(TRACEBACK_TEXT, 1, 250) AS X FROM ENGINE_DB_LOG_FUNCTION_ERROR",
    "no such view": "SELECT X FROM V_ODBC_NOTHING",
    "no such column": "SELECT X FROM V_ODBC_ENGINE_DB_LOG_STEPS",
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_queries_are_caught(database: Path, ask: Ask, name: str) -> None:
    """A query that SQL Server would stumble over doesn't pass these tests."""
    caught = set()
    seen: list[odbc.Column] | None = None
    for state in STATES:
        fill(database, state)
        answer: Answer = ask(BROKEN[name])
        seen = answer.prepared if seen is None else seen
        if answer.remarks:
            caught.add("remarks")
        if not answer.prepared == answer.executed == seen:
            caught.add("types change")
        if not all(
            column.type in (odbc.BIGINT, odbc.DOUBLE, *odbc.TEXTS, *odbc.LONG_TEXTS) for column in seen
        ):
            caught.add("wrong type")
    expected = {"time as a time": "wrong type", "long text computed": "remarks"}
    expected |= {"no such view": "remarks", "no such column": "remarks"}
    assert expected.get(name, "types change") in caught


# -- paths ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "a b.db",
        "it's [a] (log) {1} #2.db",
        "100%.db",
        "%TEMP% %20.db",
        "a;b=c.db",
        "ü Пётр 🎻.db",
        "a?b&c=d.db",
        'a"b.db',
        "[x]!@$^~`+,=.db",
    ],
)
async def test_paths(tmp_path: Path, process: ProcessPoolExecutor, name: str) -> None:
    """A file is opened under any name, and a wrong path makes none."""
    assert DRIVER is not None
    path = tmp_path / name
    connection = connection_string(local_path(str(path)), DRIVER)
    assert "connect failed" in process.submit(odbc.try_to_connect, connection).result(PATIENCE)
    assert list(tmp_path.iterdir()) == []
    async with EngineLog(path) as log:
        await log.log_steps(step_id=7)
    query = "SELECT STEP_ID FROM V_ODBC_ENGINE_DB_LOG_STEPS"
    try:
        answer: Answer = process.submit(odbc.ask, connection, query).result(PATIENCE)
    finally:
        process.submit(odbc.disconnect).result(PATIENCE)
    assert answer.rows == [(7,)]


# -- following --------------------------------------------------------------------------------------


async def test_copies_follow(path: Path, ask: Ask) -> None:
    """Read in pieces by LOG_SEQ and merged by key, as the script does, the copies become what the log is."""
    copies: dict[str, dict[Any, tuple[Any, ...]]] = {name: {} for name in SOURCES}
    last = dict.fromkeys(SOURCES, 0)

    def copy_new() -> None:
        for source in SOURCES.values():
            if not source.changes_are_numbered:
                last[source.name] = 0
            while True:
                statement = executed(
                    SCRIPT, table=source.name, after_seq=last[source.name], max_rows=50, into="#x"
                )
                [query] = tsql.pass_through_queries(statement)
                rows = ask(query).rows
                keys = [[column.name for column in source.columns].index(name) for name in source.key]
                copies[source.name] |= {tuple(row[key] for key in keys): row for row in rows}
                sequence = [column.name for column in source.columns].index(source.sequence)
                last[source.name] = max([last[source.name], *(row[sequence] for row in rows)])
                if len(rows) < 50:
                    break

    async with EngineLog(path) as log:
        for number in range(1000):
            await log.log_steps(step_id=number)
            await log.log_recording_config(recording_id=number % 30, total_bytes_received=number)
            await log.log_audio_frame_metadata(recording_id=number % 30, audio_frame_no=number // 60)
            if number % 300 == 0:
                await asyncio.to_thread(copy_new)
    copy_new()
    with closing(sqlite3.connect(path)) as connection:
        for source in SOURCES.values():
            names = ", ".join(column.name for column in source.columns)
            rows = connection.execute(f"SELECT {names} FROM {source.view}").fetchall()
            assert sorted(rows) == sorted(copies[source.name].values()), source.name
    assert len(copies["ENGINE_DB_LOG_STEPS"]) == 1000


def read_along(seconds: float, period: float) -> dict[str, Any]:
    """Measure as `python -m benchmarks.odbc` does, and return what it found."""
    options = ["--seconds", repr(seconds), "--period", repr(period), "--json"]
    command = [sys.executable, "-m", "benchmarks.odbc", *options]
    result = subprocess.run(command, cwd=CHECKOUT, capture_output=True, check=True, timeout=2 * seconds + 60)
    return dict(json.loads(result.stdout))


@pytest.mark.parametrize(
    "seconds", [2.0, pytest.param(20.0, marks=[pytest.mark.slow, pytest.mark.timeout(300)])]
)
def test_reading_along(seconds: float, capsys: pytest.CaptureFixture[str]) -> None:
    """Beside an engine that writes 5,000 rows a second, a reader sees each row, soon, once, and no error."""
    result = read_along(seconds, period=min(5.0, seconds / 4))
    calls_with, calls_without = result["calls_with"], result["calls_without"]
    with capsys.disabled():
        print(
            f"\nread over ODBC for {seconds:g} s beside {result['rows']:,} rows: {result['polls']:,} polls, "
            f"errors: {len(result['errors'])}; age of the newest row: median {result['age_median']:.0f} ms, "
            f"maximum {result['age_max']:.0f} ms; a call of the engine: median {calls_with['median']:.2f} µs "
            f"with the reader, {calls_without['median']:.2f} µs without"
        )
    assert result["errors"] == []
    assert result["seen_once"]
    assert result["polls"] > 5 * seconds
    # A machine that is busy with other things is slow at this, too; a reader that sees no commits is slower.
    assert result["age_median"] < 1000
    assert calls_with["median"] < 10 * calls_without["median"]
