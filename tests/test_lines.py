"""One row, one JSON line."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from async_enginelog import lines
from async_enginelog.batch import prepare
from async_enginelog.lines import MAX_LINE_BYTES, RowEncoder, decode, encoder_of, plain_columns
from async_enginelog.tables import TABLES, Kind, Table

from .pure_helpers import (
    ADDED,
    INTEGER_MAX,
    RUN,
    expected,
    few,
    legal_columns,
    migrated,
    store,
    stored,
    undone,
)

STEPS = TABLES["ENGINE_DB_LOG_STEPS"]
ERRORS = TABLES["ENGINE_DB_LOG_FUNCTION_ERROR"]
PROCESSES = TABLES["ENGINE_DB_LOG_PROCESS_REGISTRY"]
MESSAGES = TABLES["ENGINE_DB_LOG_WEBSOCKET_MESSAGE"]
CONNECTIONS = TABLES["ENGINE_DB_LOG_WEBSOCKET_CONNECTION"]

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)

each_table = pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)


@pytest.fixture(scope="module")
def database() -> Iterator[sqlite3.Connection]:
    """A database with the schema of the log."""
    with migrated() as connection:
        yield connection


def columns_of(line: bytes) -> dict[str, Any]:
    """Return the columns of a line that is as it should be."""
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert b"\0" not in line
    assert len(line) <= MAX_LINE_BYTES
    _, columns = orjson.loads(line)
    assert isinstance(columns, dict)
    return columns


def store_lines(connection: sqlite3.Connection, data: bytes) -> None:
    """Store lines as :mod:`async_enginelog.committer` does: fast, or else with care."""
    rows, _ = decode(data)
    try:
        store(connection, prepare(rows))
    except OverflowError:  # whole numbers between 63 and 64 bits
        store(connection, prepare([(table, plain_columns(table, columns)) for table, columns in rows]))


class TestRoundTrip:
    @each_table
    @few
    @given(data=st.data())
    def test_stores_what_is_documented(
        self, database: sqlite3.Connection, table: Table, data: st.DataObject
    ) -> None:
        """Any legal call becomes one line, and what is stored of it is what the documentation says."""
        columns = data.draw(legal_columns(table))
        line = RowEncoder(table)(dict(columns))
        columns_of(line)
        beside = data.draw(st.sampled_from([b"", b"broken\n"]))
        with undone(database):
            store_lines(database, line + beside)
            [row] = stored(database, table)
        for argument, column in table.columns.items():
            value = expected(column, columns.get(argument))
            if argument == table.stamp and value is None:
                assert datetime.fromisoformat(row[argument]).tzinfo is None
            else:
                assert row[argument] == (ADDED if argument == "dt_added" and value is None else value)
        assert (row["run"], row["seq"]) == (RUN, 1)

    @each_table
    @few
    @given(data=st.data())
    def test_is_the_same_the_second_time(self, table: Table, data: st.DataObject) -> None:
        """The second call of a shape gives the line that the first one gave."""
        columns = data.draw(legal_columns(table))
        if table.stamp:
            columns[table.stamp] = NOON
        encoder = RowEncoder(table)
        first = encoder(dict(columns))
        assert encoder(dict(columns)) == first

    @each_table
    @few
    @given(data=st.data())
    def test_ends_the_same_whatever_is_beside(self, table: Table, data: st.DataObject) -> None:
        """A broken line beside it changes nothing about what a line says."""
        line = RowEncoder(table)(data.draw(legal_columns(table)))
        [(_, alone)], none = decode(line)
        [(_, beside)], broken = decode(b"{\n" + line)
        assert (none, broken) == ([], [b"{"])
        alone = {name: value for name, value in alone.items() if value is not None}
        assert prepare([(table, beside)]) == prepare([(table, plain_columns(table, alone))])

    @given(
        st.lists(
            st.sampled_from(list(TABLES.values())).flatmap(
                lambda table: st.tuples(st.just(table), legal_columns(table, max_size=3))
            ),
            max_size=5,
        )
    )
    def test_keeps_the_order(self, calls: list[tuple[Table, dict[str, Any]]]) -> None:
        """Lines behind each other are read back as the same rows in the same order."""
        written = [encoder_of(table)(columns) for table, columns in calls]
        rows, unreadable = decode(b"".join(written))
        assert [(table.name, columns) for table, columns in rows] == [tuple(orjson.loads(x)) for x in written]
        assert unreadable == []


class TestRowEncoder:
    def test_writes_what_was_given(self) -> None:
        """A line is the table and an object of the columns that were given."""
        line = RowEncoder(MESSAGES)({"message_id": 5, "message_type": "é\n\0", "dt_message_received": NOON})
        assert line == (
            b'["ENGINE_DB_LOG_WEBSOCKET_MESSAGE",{"message_id":5,"message_type":"\xc3\xa9\\n\\u0000",'
            b'"dt_message_received":"2026-01-31T12:00:00+00:00"}]\n'
        )

    @pytest.mark.parametrize("given", [{}, {"step_id": None, "step_name": None}])
    def test_refuses_nothing(self, given: dict[str, Any]) -> None:
        """A call without any value is a ValueError, the second time as well."""
        encoder = RowEncoder(STEPS)
        for _ in range(2):
            with pytest.raises(ValueError, match="ENGINE_DB_LOG_STEPS: no value was given"):
                encoder(dict(given))

    @pytest.mark.parametrize("name", ["step", "", "STEP NAME", 'step_name"', None, 1, ("step_name",)])
    def test_refuses_unknown_columns(self, name: Any) -> None:
        """A misspelt column is a TypeError that names it, its table, and the columns there are."""
        with pytest.raises(TypeError, match="ENGINE_DB_LOG_STEPS has no column") as caught:
            RowEncoder(STEPS)({name: None, "step_name": "a"})
        assert repr(name) in str(caught.value)
        assert "step_name" in str(caught.value)

    @pytest.mark.parametrize(
        ("table", "argument", "value"),
        [
            (STEPS, "step_id", []),
            (STEPS, "step_name", b"bytes"),
            (STEPS, "dt_step_called", 1.5),
            (PROCESSES, "cpu_percent", {}),
        ],
    )
    def test_refuses_wrong_types(self, table: Table, argument: str, value: object) -> None:
        """A wrong type is a TypeError that names the table and the column."""
        with pytest.raises(TypeError, match=f"^{table.name}.{table.columns[argument].name}: "):
            RowEncoder(table)({argument: value})

    @pytest.mark.parametrize(
        ("argument", "value"), [("step_id", "x"), ("step_id", 0.5), ("dt_step_called", "soon")]
    )
    def test_refuses_unreadable_values(self, argument: str, value: object) -> None:
        """A value that can't be read is a ValueError that names the table and the column."""
        with pytest.raises(ValueError, match=f"^ENGINE_DB_LOG_STEPS.{argument.upper()}: "):
            RowEncoder(STEPS)({argument: value})

    def test_refuses_with_plain_exceptions(self) -> None:
        """An exception of a kind of its own, from within a value, comes out as a plain one."""

        class Picky(ValueError):
            def __init__(self, code: int, reason: str) -> None:
                super().__init__(code, reason)

        class Number:
            def __index__(self) -> int:
                raise Picky(1, "no")

        with pytest.raises(ValueError, match="STEP_ID") as caught:
            RowEncoder(STEPS)({"step_id": Number()})
        assert type(caught.value) is ValueError

    def test_checks_every_shape(self) -> None:
        """What one shape was found good for isn't taken for another: same names, other types."""
        encoder = RowEncoder(STEPS)
        encoder({"step_id": 1, "step_name": "a"})
        with pytest.raises(TypeError, match=r"STEPS\.STEP_NAME"):
            encoder({"step_id": 1, "step_name": b"a"})
        assert columns_of(encoder({"step_id": True, "step_name": "a"}))["step_id"] == 1
        assert columns_of(encoder({"step_name": "a", "step_id": None}))["step_id"] is None

    @given(st.lists(st.sampled_from([None, 1, "1", 1.0, Decimal(1)]), max_size=8))
    def test_checks_every_call(self, values: list[Any]) -> None:
        """Whatever shapes came before, each call gets its own value's line."""
        encoder = RowEncoder(STEPS)
        for value in values:
            line = columns_of(encoder({"step_name": "a", "step_id": value, "dt_step_called": NOON}))
            assert line.get("step_id") == (None if value is None else 1)

    def test_remembers_a_limited_number_of_shapes(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A program that makes up its columns as it goes can't fill the memory."""
        monkeypatch.setattr(lines, "MAX_SHAPES", 2)
        encoder = RowEncoder(MESSAGES)
        arguments = list(MESSAGES.columns)
        for argument in arguments * 2:
            encoder({argument: None, "message_id": 1})
            assert len(encoder._shapes) <= 2

    @pytest.mark.parametrize(
        "given", [{"step_id": 1}, {"step_id": 1, "dt_step_called": None}, {"step_id": "1"}]
    )
    def test_stamps_the_time_of_the_call(self, given: dict[str, Any]) -> None:
        """Without one, a row gets the time of the call: the first, and each one after it."""
        encoder = RowEncoder(STEPS)
        for _ in range(3):
            before = datetime.now(UTC)
            called = datetime.fromisoformat(columns_of(encoder(dict(given)))["dt_step_called"])
            assert before <= called <= datetime.now(UTC)

    @pytest.mark.parametrize(
        "moment", [NOON, NOON.astimezone(timezone(timedelta(hours=5))), NOON.isoformat()]
    )
    def test_keeps_the_time_that_is_passed(self, moment: object) -> None:
        """A time that is passed isn't stamped over; it is written in UTC, whatever its zone."""
        encoder = RowEncoder(STEPS)
        for _ in range(2):
            called = columns_of(encoder({"step_id": 1, "dt_step_called": moment}))["dt_step_called"]
            assert called == "2026-01-31T12:00:00+00:00"

    def test_takes_names_in_any_case(self) -> None:
        """The engine's own upper-case dictionaries are taken."""
        line = columns_of(RowEncoder(MESSAGES)({"MESSAGE_ID": 1, "Message_Type": "START"}))
        assert line == {"message_id": 1, "message_type": "START"}

    def test_takes_a_number_that_sql_has_no_word_for(self) -> None:
        """A row whose only value is NaN is kept, whether it came as a float or as a text."""
        encoder = RowEncoder(PROCESSES)
        for value in [float("nan"), "nan", Decimal("Infinity")]:
            assert columns_of(encoder({"cpu_percent": value})) == {"cpu_percent": None}

    @pytest.mark.parametrize("text", ["x" * 70_000, "\x01" * 20_000, "😀" * 20_000, "€\ud800" * 30_000])
    @each_table
    def test_cuts_long_lines(self, table: Table, text: str) -> None:
        """However long its texts, a line fits: what is cut would have been cut in the table."""
        values: dict[Kind, Any] = {
            Kind.TEXT: text,
            Kind.INTEGER: INTEGER_MAX,
            Kind.TIME: NOON,
            Kind.REAL: 0.1,
        }
        given = {argument: values[column.kind] for argument, column in table.columns.items()}
        encoder = RowEncoder(table)
        for _ in range(2):
            line = columns_of(encoder(dict(given)))
            assert [*prepare([(table, line)]).statements[0].parameters[1:]] == [
                expected(table.columns[argument], given[argument]) for argument in line
            ]

    def test_keeps_the_end_of_a_long_traceback(self) -> None:
        """Of a traceback too long for a line, the end is kept: there the exception stands."""
        line = columns_of(RowEncoder(ERRORS)({"traceback_text": "x" * 70_000 + "ValueError"}))
        assert line["traceback_text"] == "x" * 3_990 + "ValueError"

    def test_is_one_for_each_table(self) -> None:
        """All logs of a process share the encoder of a table, and what it has learned."""
        assert encoder_of(STEPS) is encoder_of(STEPS) is not encoder_of(ERRORS)


class TestDecode:
    def test_reads_nothing(self) -> None:
        """No data is no rows."""
        assert decode(b"") == ([], [])

    @pytest.mark.parametrize(
        "broken",
        [
            b"",
            b"{}",
            b"[]",
            b"null",
            b"5",
            b"\xff\xfe",
            b'["ENGINE_DB_LOG_STEPS"]',
            b'["ENGINE_DB_LOG_STEPS",{"step_id":1}',
            b'["ENGINE_DB_LOG_STEPS",5]',
            b'["ENGINE_DB_LOG_STEPS",{"step_id":1},2]',
            b'["ENGINE_DB_LOG_STEPS",{"step_id":[]}]',
            b'["ENGINE_DB_LOG_STEPS",{"step_id":"x"}]',
            b'["ENGINE_DB_LOG_STEPS",{"dt_step_called":"soon"}]',
            b'["ENGINE_DB_LOG_STEPS",{"no_such_column":1}]',
            b'["NO_SUCH_TABLE",{"step_id":1}]',
            b"[[],{}]",
            b"[null,null]",
            b"[" * 5_000,
        ],
    )
    def test_sets_broken_lines_aside(self, broken: bytes) -> None:
        """A line that can't be read is given back as it is; those around it are read."""
        good = RowEncoder(MESSAGES)({"message_id": 1})
        # A line of an unknown table makes sure that each is looked at for itself.
        unknown = b'["TABLE_OF_TOMORROW",{}]'
        rows, unreadable = decode(good + broken + b"\n" + unknown + b"\n" + good)
        assert rows == [(MESSAGES, {"message_id": 1})] * 2
        assert unreadable == [broken, unknown]

    def test_reads_the_engines_spelling(self) -> None:
        """Tables and columns in another case are understood."""
        rows, unreadable = decode(b'["engine_db_log_websocket_message",{"MESSAGE_ID":"7"}]\n')
        assert (rows, unreadable) == ([(MESSAGES, {"message_id": 7})], [])

    @given(st.binary(max_size=60), st.binary(max_size=60))
    def test_survives_anything(self, before: bytes, behind: bytes) -> None:
        """Whatever stands around it, a whole line is read and never raises."""
        good = RowEncoder(MESSAGES)({"message_id": 1})
        rows, _ = decode(before + b"\n" + good + behind + b"\n")
        assert (MESSAGES, {"message_id": 1}) in rows

    def test_reads_times_as_they_are_written(self) -> None:
        """A time is the same text, whether or not a line beside it is broken."""
        line = RowEncoder(CONNECTIONS)({"websocket_connection_id": 1, "dt_connection_closed": NOON})
        alone, _ = decode(line)
        beside, _ = decode(b"broken\n" + line)
        assert alone == beside
        assert alone[0][1]["dt_connection_closed"] == "2026-01-31T12:00:00+00:00"


class TestPlainColumns:
    def test_leaves_out_what_is_empty(self) -> None:
        """None is left out, so that it overwrites nothing."""
        assert plain_columns(STEPS, {"step_id": None, "STEP_NAME": "a"}) == {"step_name": "a"}

    @each_table
    @few
    @given(data=st.data())
    def test_changes_nothing_twice(self, table: Table, data: st.DataObject) -> None:
        """What is plain already stays as it is."""
        plain = plain_columns(table, data.draw(legal_columns(table)))
        kept = {name: value for name, value in plain.items() if value is not None}
        assert plain_columns(table, plain) == kept
