"""Rows become few, large statements that store what single ones would."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from async_enginelog.batch import MAX_PARAMETERS, STATEMENT_ROWS, Batch, Gathering, prepare
from async_enginelog.lines import Row
from async_enginelog.tables import TABLES, Column, Kind, Table
from async_enginelog.values import local_time_text

from .pure_helpers import ADDED, RUN, few, migrated, store, stored, undone

STEPS = TABLES["ENGINE_DB_LOG_STEPS"]
ERRORS = TABLES["ENGINE_DB_LOG_FUNCTION_ERROR"]
FRAMES = TABLES["ENGINE_DB_LOG_SPLIT_100_MS_AUDIO_FRAME"]
RECORDINGS = TABLES["ENGINE_DB_LOG_RECORDING_CONFIG"]
MESSAGES = TABLES["ENGINE_DB_LOG_WEBSOCKET_MESSAGE"]
PROCESSES = TABLES["ENGINE_DB_LOG_PROCESS_REGISTRY"]

each_table = pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)


@pytest.fixture(scope="module")
def shared_database() -> Iterator[sqlite3.Connection]:
    """A database with the schema of the log, for all tests of the module."""
    with migrated() as connection:
        yield connection


@pytest.fixture
def database(shared_database: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    """An empty database with the schema of the log."""
    with undone(shared_database):
        yield shared_database


def given_rows(table: Table, *rows: dict[str, Any]) -> list[Row]:
    """Return rows of one table, in the order given."""
    return [(table, dict(columns)) for columns in rows]


def rows_of(batch: Batch) -> list[int]:
    """Return the number of rows of each statement."""
    return [statement.sql.count("?2,?3+?") for statement in batch.statements]


class TestMerge:
    def test_makes_one_row_of_one_thing(self, database: sqlite3.Connection) -> None:
        """What is said of one thing fills its row; what is said last, of the same column, counts."""
        rows = given_rows(
            MESSAGES,
            {"message_id": 1, "message_type": "START", "recording_id": 5},
            {"message_id": 2, "message_type": "FRAME"},
            {"message_id": 1, "message_type": "STOP", "audio_frame_no": 9},
        )
        store(database, prepare(rows))
        second, first = stored(database, MESSAGES)
        assert (first["message_type"], first["recording_id"], first["audio_frame_no"]) == ("STOP", 5, 9)
        assert (second["seq"], first["seq"]) == (2, 3)

    def test_overwrites_nothing_with_none(self, database: sqlite3.Connection) -> None:
        """None says nothing: not within a batch, and not over what is stored."""
        said = {"message_id": 1, "message_type": "START"}
        silent = {"message_id": 1, "message_type": None}
        store(database, prepare(given_rows(MESSAGES, said, silent)))
        store(database, prepare(given_rows(MESSAGES, silent)), base_seq=2)
        [row] = stored(database, MESSAGES)
        assert (row["message_type"], row["seq"]) == ("START", 3)

    @pytest.mark.parametrize("columns", [{"audio_frame_no": 1}, {"audio_frame_no": 1, "recording_id": None}])
    def test_leaves_rows_without_a_whole_key_alone(
        self, database: sqlite3.Connection, columns: dict[str, Any]
    ) -> None:
        """Where nobody can tell what a row speaks of, it is a row of its own."""
        for base_seq in (0, 2):
            store(database, prepare(given_rows(FRAMES, columns, columns)), base_seq=base_seq)
        assert [row["seq"] for row in stored(database, FRAMES)] == [1, 2, 3, 4]

    def test_leaves_rows_of_growing_tables_alone(self, database: sqlite3.Connection) -> None:
        """The same step twice is two rows."""
        store(database, prepare(given_rows(STEPS, {"step_id": 1}, {"step_id": 1})))
        assert [row["seq"] for row in stored(database, STEPS)] == [1, 2]

    def test_tells_the_tables_apart(self, database: sqlite3.Connection) -> None:
        """The same id in two tables is two things."""
        pre_split = TABLES["ENGINE_DB_LOG_PRE_SPLIT_AUDIO_FRAME"]
        key = {"recording_id": 1, "audio_frame_no": 1}
        store(database, prepare([(FRAMES, dict(key)), (pre_split, dict(key))]))
        assert [row["seq"] for table in (FRAMES, pre_split) for row in stored(database, table)] == [1, 2]

    def test_tells_the_runs_apart(self, database: sqlite3.Connection) -> None:
        """The same message id in two runs is two messages; the same recording is one recording."""
        for run in (1, 2):
            rows = [*given_rows(MESSAGES, {"message_id": 1}), *given_rows(RECORDINGS, {"recording_id": 1})]
            store(database, prepare(rows), run=run, base_seq=run * 10)
        assert [row["run"] for row in stored(database, MESSAGES)] == [1, 2]
        assert [(row["run"], row["seq"]) for row in stored(database, RECORDINGS)] == [(1, 22)]

    def test_leaves_the_rows_as_they_were(self) -> None:
        """A batch that has to be tried again is prepared of the same rows, to the same end."""
        rows = given_rows(MESSAGES, {"message_id": 1}, {"message_id": 1, "message_type": "a"})
        assert prepare(rows) == prepare(rows)
        assert rows[0] == (MESSAGES, {"message_id": 1})


class TestGathering:
    def test_bit_by_bit_is_the_same_as_all_at_once(self) -> None:
        """However the rows come, one statement for all of a kind is made, and one row of one thing."""
        rows = given_rows(STEPS, {"step_id": 1}, {"step_id": 2, "recording_id": 5}, {"step_id": 3})
        rows += given_rows(
            MESSAGES, {"message_id": 1}, {"message_id": 2}, {"message_id": 1, "audio_frame_no": 9}
        )
        rows += given_rows(STEPS, {"step_id": 4})
        for size in range(1, len(rows) + 1):
            gathering = Gathering()
            for first in range(0, len(rows), size):
                gathering.add(rows[first : first + size])
            assert gathering.batch() == prepare(rows), size
        assert sorted(rows_of(prepare(rows))) == [1, 1, 1, 1, 2]

    def test_of_nothing_is_an_empty_batch(self) -> None:
        """A transaction may say how far things are, and no more."""
        assert Gathering().batch() == Batch([], 0, 0, [])


class TestFillOnly:
    def test_changes_nothing_that_is_stored(self, database: sqlite3.Connection) -> None:
        """In a replay, what is stored wins, and what is missing is filled in."""
        store(database, prepare(given_rows(MESSAGES, {"message_id": 1, "message_type": "new"})))
        old = {"message_id": 1, "message_type": "old", "recording_id": 5}
        store(database, prepare(given_rows(MESSAGES, old), fill_only=True), base_seq=1)
        [row] = stored(database, MESSAGES)
        assert (row["message_type"], row["recording_id"], row["seq"]) == ("new", 5, 2)


class TestAdded:
    def test_is_the_time_of_the_commit(self, database: sqlite3.Connection) -> None:
        """DT_ADDED is stamped at the commit, unless it was passed."""
        passed = "2020-01-01T00:00:00+00:00"
        rows = given_rows(STEPS, {"step_id": 1}, {"step_id": 2, "dt_added": passed}, {"dt_added": None})
        store(database, prepare(rows))
        times = [row["dt_added"] for row in stored(database, STEPS)]
        assert times == [ADDED, "2020-01-01 00:00:00.000000", ADDED]

    @pytest.mark.parametrize("later", [{}, {"dt_added": None}])
    def test_stays_that_of_the_first_commit(
        self, database: sqlite3.Connection, later: dict[str, Any]
    ) -> None:
        """A row that is filled in keeps the time at which it was added; passing None changes nothing."""
        store(database, prepare(given_rows(RECORDINGS, {"recording_id": 1})), added="2026-01-01 first")
        again = given_rows(RECORDINGS, {"recording_id": 1, "total_bytes_received": 5} | later)
        store(database, prepare(again), added="2026-01-02 later")
        [row] = stored(database, RECORDINGS)
        assert (row["dt_added"], row["total_bytes_received"]) == ("2026-01-01 first", 5)


class TestStored:
    @pytest.mark.parametrize(
        ("text", "fitted"),
        [
            ("a", "a"),
            (None, None),
            ("x" * 100, "x" * 100),
            ("x" * 101, "x" * 100),
            ("a\0b", "a␀b"),
            ("é" * 100, "é" * 100),
            ("😀" * 51, "😀" * 50),
        ],
    )
    @pytest.mark.parametrize("beside", ["b", None])
    def test_fits_texts(
        self, database: sqlite3.Connection, text: str | None, fitted: str | None, beside: str | None
    ) -> None:
        """Texts are fitted to their column, whatever is stored beside them; None stays None."""
        store(database, prepare(given_rows(STEPS, {"step_name": text}, {"step_name": beside})))
        assert [row["step_name"] for row in stored(database, STEPS)] == [fitted, beside]

    def test_keeps_the_end_of_a_traceback(self, database: sqlite3.Connection) -> None:
        """Of a traceback that is too long, the end is kept."""
        store(database, prepare(given_rows(ERRORS, {"traceback_text": "x" * 5000 + "end"})))
        assert stored(database, ERRORS)[0]["traceback_text"] == "x" * 3997 + "end"

    def test_stores_times_as_told(self) -> None:
        """How times are stored is the caller's choice: UTC, or local time."""
        row = {"dt_step_called": "2026-01-31T12:00:00+00:00"}
        [utc] = prepare(given_rows(STEPS, row)).statements
        [local] = prepare(given_rows(STEPS, row), as_stored=local_time_text).statements
        assert list(utc.parameters) == [1, "2026-01-31 12:00:00.000000"]
        assert list(local.parameters) == [1, local_time_text("2026-01-31T12:00:00+00:00")]

    @pytest.mark.parametrize(
        ("columns", "error"),
        [({"nonsense": 1}, KeyError), ({"step_name": 5}, TypeError), ({"dt_step_called": 5}, TypeError)],
    )
    def test_refuses_foreign_values(self, columns: dict[str, Any], error: type[Exception]) -> None:
        """A row that no encoder wrote is refused as a whole, before anything is executed."""
        with pytest.raises(error):
            prepare(given_rows(STEPS, columns))


class TestStatements:
    def test_are_none_for_no_rows(self) -> None:
        """No rows need no statement."""
        assert prepare([]) == Batch([], 0, 0, [])

    def test_count_what_they_hold(self) -> None:
        """A batch tells how many rows it took, how many are new for certain, and what tables have keys."""
        rows = [
            *given_rows(STEPS, {"step_id": 1}, {"step_name": "a"}),
            *given_rows(MESSAGES, {"message_id": 1}, {"message_id": 1}, {"recording_id": 1}),
            *given_rows(FRAMES, {"recording_id": 1}),
        ]
        assert prepare(rows)[1:] == (6, 2, [FRAMES.name, MESSAGES.name])

    @given(st.integers(1, 2100))
    @few
    def test_have_few_sizes(self, count: int) -> None:
        """Any number of rows goes into a few statements of few sizes, so that SQLite knows them."""
        batch = prepare(given_rows(STEPS, *({"step_id": number} for number in range(count))))
        sizes = rows_of(batch)
        assert sum(sizes) == count
        assert set(sizes) <= set(STATEMENT_ROWS)
        assert len(sizes) <= len(STATEMENT_ROWS) + count // STATEMENT_ROWS[0]
        values = [statement.parameters[1::2] for statement in batch.statements]
        assert [step for some in values for step in some] == list(range(count))

    @each_table
    def test_are_within_the_limit_of_sqlite(self, database: sqlite3.Connection, table: Table) -> None:
        """With all its columns, and more rows than a statement takes, each table is within the limits."""
        whole = dict.fromkeys(table.columns)
        keys = (dict.fromkeys(table.key, number) for number in range(1100))
        batch = prepare(given_rows(table, *(whole | key for key in keys)))
        assert all(len(statement.parameters) + 3 <= MAX_PARAMETERS for statement in batch.statements)
        store(database, batch)
        assert [row["seq"] for row in stored(database, table)] == list(range(1, 1101))

    def test_shrink_with_the_width_of_a_table(self) -> None:
        """A table of very many columns gets smaller statements, not too many parameters."""
        columns = {f"c{number}": Column(f"C{number}", f"c{number}", Kind.INTEGER) for number in range(300)}
        batch = prepare(given_rows(Table("WIDE", columns), *[dict.fromkeys(columns, 1)] * 200))
        assert rows_of(batch) == [64, 64, 64, 8]

    def test_are_the_same_text_again(self) -> None:
        """The same kind of batch has the same statements: they are found in the cache by their text."""
        first, second = (prepare(given_rows(STEPS, {"step_id": number})) for number in range(2))
        assert first.statements[0].sql is second.statements[0].sql

    def test_take_rows_without_columns(self, database: sqlite3.Connection) -> None:
        """A row that says nothing is still a row."""
        store(database, prepare(given_rows(STEPS, {}, {})))
        assert [(row["seq"], row["dt_added"]) for row in stored(database, STEPS)] == [(1, ADDED), (2, ADDED)]


# -- the same, told in the most simple way ----------------------------------------------------------


class Commit(NamedTuple):
    """A batch, and what it is committed with."""

    rows: list[Row]
    run: int
    fill_only: bool


_VALUES: dict[Kind, st.SearchStrategy[Any]] = {
    Kind.INTEGER: st.integers(0, 3),
    Kind.REAL: st.floats(0, 1),
    Kind.TEXT: st.sampled_from(["Y", "N"]),
    Kind.TIME: st.integers(1, 9).map(lambda day: f"2020-01-0{day}T00:00:00.000000+00:00"),
}
_INTERESTING = {
    STEPS: ("step_id", "step_name", "dt_added"),
    FRAMES: ("recording_id", "audio_frame_no", "yn_run_fft", "dt_start_fft", "fft_record_cnt"),
    RECORDINGS: ("recording_id", "compose_yn_run_fft", "dt_added", "dt_recording_end"),
    PROCESSES: ("process_id", "cpu_percent", "dt_added"),
    MESSAGES: ("recording_id", "message_id", "message_type"),
}


def _rows(table: Table) -> st.SearchStrategy[Row]:
    values = {name: st.none() | _VALUES[table.columns[name].kind] for name in _INTERESTING[table]}
    return st.fixed_dictionaries({}, optional=values).map(lambda columns: (table, columns))


ROWS = st.lists(st.sampled_from(list(_INTERESTING)).flatmap(_rows), max_size=12)
COMMITS = st.lists(st.builds(Commit, ROWS, st.integers(1, 2), st.booleans()), max_size=4)


def added_at(number: int) -> str:
    """Return the time of a commit."""
    return f"2026-01-01 00:00:00.{number:06}"


class Reference:
    """What the tables should hold, worked out one row at a time."""

    def __init__(self) -> None:
        self.tables: dict[Table, list[dict[str, Any]]] = {table: [] for table in _INTERESTING}
        self.seq = 0

    def commit(self, commit: Commit, added: str) -> None:
        """Take a batch in."""
        said: list[dict[str, Any]] = []
        for table, columns in commit.rows:
            self.seq += 1
            given = {
                name: value[:26].replace("T", " ") if table.columns[name].kind is Kind.TIME else value
                for name, value in columns.items()
                if value is not None
            }
            thing = [table, *(given.get(name, object()) for name in table.key or ["none"])]
            same = [entry for entry in said if entry["thing"] == thing]
            if same:
                same[0]["given"] |= given
                same[0]["seq"] = self.seq
            else:
                said.append({"thing": thing, "given": given, "seq": self.seq})
        for entry in said:
            self.apply(entry["thing"][0], entry["given"], entry["seq"], commit, added)

    def apply(self, table: Table, given: dict[str, Any], seq: int, commit: Commit, added: str) -> None:
        """Fill the row of a thing in, or add it."""
        run = {"run": commit.run} if table.run_in_key else {}
        key = {name: given.get(name, object()) for name in table.key} | run
        for row in self.tables[table] if table.key else []:
            if {name: row[name] for name in key} == key:
                stored = {name: value for name, value in row.items() if value is not None}
                row |= (given | stored if commit.fill_only else stored | given) | {"seq": seq}
                return
        stamp = {"dt_added": added} if table.added else {}
        row = dict.fromkeys(table.columns) | stamp | given | {"run": commit.run, "seq": seq}
        self.tables[table].append(row)


@settings(max_examples=300)
@given(COMMITS)
def test_stores_what_single_rows_would(shared_database: sqlite3.Connection, commits: list[Commit]) -> None:
    """Merged and in large statements, rows leave the database as they would one at a time."""
    reference = Reference()
    with undone(shared_database):
        for number, commit in enumerate(commits):
            batch = prepare(commit.rows, fill_only=commit.fill_only)
            store(shared_database, batch, added=added_at(number), run=commit.run, base_seq=reference.seq)
            reference.commit(commit, added_at(number))
        for table, rows in reference.tables.items():
            assert stored(shared_database, table) == sorted(rows, key=lambda row: row["seq"])


def test_uses_the_run_given(database: sqlite3.Connection) -> None:
    """Each row tells which run of the engine made it."""
    store(database, prepare(given_rows(STEPS, {"step_id": 1})))
    assert [row["run"] for row in stored(database, STEPS)] == [RUN]
