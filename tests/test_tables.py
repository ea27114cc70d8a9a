"""The tables as Python describes them, as the migrations make them, and as the engine has them."""

from __future__ import annotations

import csv
import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from async_enginelog import rows
from async_enginelog.tables import TABLES, Column, Kind, Table, find_table

from .pure_helpers import migrated

REFERENCE = Path(__file__).resolve().parent.parent.parent / "shared" / "reference" / "columns.csv"

each_table = pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
each_keyed_table = pytest.mark.parametrize(
    "table", [table for table in TABLES.values() if table.key], ids=lambda table: table.name
)


@pytest.fixture(scope="module")
def database() -> Iterator[sqlite3.Connection]:
    """A database with the schema of the log."""
    with migrated() as connection:
        yield connection


@pytest.fixture(scope="module")
def reference() -> dict[str, list[tuple[str, str]]]:
    """Names and declared types of the engine's own columns, by table."""
    if not REFERENCE.exists():
        pytest.skip(f"the engine's columns aren't there: {REFERENCE}")
    tables: dict[str, list[tuple[str, str]]] = {}
    with REFERENCE.open(newline="", encoding="utf-8") as file:
        for row in sorted(csv.DictReader(file), key=lambda row: int(row["position"])):
            tables.setdefault(row["table"], []).append((row["column"], row["declared_type"]))
    return tables


def indexes(database: sqlite3.Connection, table: Table) -> list[tuple[bool, tuple[str, ...]]]:
    """Return whether each index of a table is unique, and its columns."""
    return [
        (bool(unique), tuple(name for _, _, name in database.execute(f"PRAGMA index_info({index})")))
        for _, index, unique, _, _ in database.execute(f"PRAGMA index_list({table.name})")
    ]


class TestMigrations:
    @each_table
    def test_make_the_columns(self, database: sqlite3.Connection, table: Table) -> None:
        """The file has the columns that Python knows, same order and types, and the log's own two."""
        declared = [
            (name, kind) for _, name, kind, *_ in database.execute(f"PRAGMA table_info({table.name})")
        ]
        columns = [(column.name, column.declared) for column in table.columns.values()]
        assert declared == [*columns, ("ENGINE_RUN_ID", "BIGINT"), ("LOG_SEQ", "BIGINT")]

    @each_table
    def test_make_one_row_for_one_thing(self, database: sqlite3.Connection, table: Table) -> None:
        """A table with a key has just that unique index; one that only grows has none."""
        unique = [columns for is_unique, columns in indexes(database, table) if is_unique]
        assert unique == ([table.key_columns] if table.key else [])

    @each_table
    def test_make_changes_findable(self, database: sqlite3.Connection, table: Table) -> None:
        """Each table has an index on LOG_SEQ, for whoever reads what is new."""
        assert (False, ("LOG_SEQ",)) in indexes(database, table)

    def test_make_no_other_table(self, database: sqlite3.Connection) -> None:
        """The file has the tables that Python knows, and those of the log's own runs."""
        names = {name for (name,) in database.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
        assert {name for name in names if name.startswith("ENGINE_DB_LOG")} == set(TABLES)


class TestReference:
    def test_has_the_same_tables(self, reference: dict[str, list[tuple[str, str]]]) -> None:
        """The log has each table that the engine's log has."""
        assert set(reference) == set(TABLES)

    @each_table
    def test_has_the_same_columns(self, reference: dict[str, list[tuple[str, str]]], table: Table) -> None:
        """Each column of the engine's log is there: same spelling, same place, none besides."""
        names = [name for name, _ in reference[table.name]]
        assert [column.name for column in table.columns.values()] == names

    @each_table
    def test_has_the_same_types(self, reference: dict[str, list[tuple[str, str]]], table: Table) -> None:
        """Types and widths are the engine's; only that INTEGER is BIGINT, as ODBC cuts it to 32 bits."""
        types = [re.sub(r"\bINTEGER\b", "BIGINT", declared) for _, declared in reference[table.name]]
        assert [column.declared for column in table.columns.values()] == types


class TestTable:
    @each_table
    def test_has_arguments_in_lower_case(self, table: Table) -> None:
        """The arguments of the log functions are the column names in lower case."""
        for argument, column in table.columns.items():
            assert argument == column.argument == column.name.lower()

    @each_table
    def test_has_a_width_for_text_only(self, table: Table) -> None:
        """A text has a width, and nothing else has."""
        for column in table.columns.values():
            assert (column.width > 0) == (column.kind is Kind.TEXT)

    @each_keyed_table
    def test_has_a_key_of_whole_numbers(self, table: Table) -> None:
        """What a key is made of are ids and numbers: compared the same in Python and in SQLite."""
        assert {table.columns[argument].kind for argument in table.key} == {Kind.INTEGER}

    @each_table
    def test_stamps_a_time(self, table: Table) -> None:
        """What is stamped at the call or at the commit is a time of that table."""
        stamps = [table.columns[table.stamp]] if table.stamp else []
        assert all(column.kind is Kind.TIME for column in [*stamps, table.added or Column("", "", Kind.TIME)])

    def test_knows_its_key_columns(self) -> None:
        """Numbers start again with each run, but a recording is the same in all."""
        assert TABLES["ENGINE_DB_LOG_WEBSOCKET_MESSAGE"].key_columns == ("MESSAGE_ID", "ENGINE_RUN_ID")
        assert TABLES["ENGINE_DB_LOG_RECORDING_CONFIG"].key_columns == ("RECORDING_ID",)
        assert TABLES["ENGINE_DB_LOG_STEPS"].key_columns == ()

    def test_keeps_the_end_of_a_traceback(self) -> None:
        """Of all texts, only a traceback keeps its end: there the exception stands."""
        kept = [
            column.name for table in TABLES.values() for column in table.columns.values() if column.keep_end
        ]
        assert kept == ["TRACEBACK_TEXT"]

    def test_knows_when_a_row_was_added(self) -> None:
        """The column stamped at the commit is known, in the engine's spelling; some tables have none."""
        added = {name: table.added and table.added.name for name, table in TABLES.items()}
        assert added["ENGINE_DB_LOG_STEPS"] == "DT_ADDED"
        assert added["ENGINE_DB_LOG_PROCESS_REGISTRY"] == "dt_added"
        assert added["ENGINE_DB_LOG_WEBSOCKET_MESSAGE"] is None


class TestFindTable:
    @pytest.mark.parametrize("change", [str.lower, str.upper, str.title])
    @each_table
    def test_takes_any_case(self, table: Table, change: type[str]) -> None:
        """A table is found by its name in any case."""
        assert find_table(change(table.name)) is table

    @pytest.mark.parametrize("name", ["", "STEPS", "sqlite_schema", "ENGINE_LOG_RUN", None, 1, []])
    def test_refuses_unknown_names(self, name: str) -> None:
        """An unknown name is a ValueError that tells it, and those that are known."""
        with pytest.raises(ValueError, match="ENGINE_DB_LOG_STEPS") as caught:
            find_table(name)
        assert f"there is no table {name!r}" in str(caught.value)


def test_every_row_has_a_table() -> None:
    """Each TypedDict of rows describes just one table."""
    described = [set(getattr(rows, name).__annotations__) for name in rows.__all__]
    tables = [set(table.columns) for table in TABLES.values()]
    assert sorted(map(sorted, described)) == sorted(map(sorted, tables))
