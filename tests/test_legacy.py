"""What the rows of an old file say: merged, counted, and nothing left out in silence."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from typing import Any
from zoneinfo import ZoneInfo

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from async_enginelog.batch import prepare
from async_enginelog.legacy import OldColumn, OldTable, Times, Translator, note_conflicts, thing_of
from async_enginelog.tables import TABLES, Table
from async_enginelog.tally import ImportProgress, Note, TableProgress, Tally
from async_enginelog.values import time_text
from async_enginelog.wallclock import WallClock

from .pure_helpers import RUN, few, migrated, store, stored, undone

MESSAGES = TABLES["ENGINE_DB_LOG_WEBSOCKET_MESSAGE"]
CONNECTIONS = TABLES["ENGINE_DB_LOG_WEBSOCKET_CONNECTION"]
RECORDINGS = TABLES["ENGINE_DB_LOG_RECORDING_CONFIG"]
FUNCTIONS = TABLES["ENGINE_DB_LOG_FUNCTIONS"]
ERRORS = TABLES["ENGINE_DB_LOG_FUNCTION_ERROR"]
PROCESSES = TABLES["ENGINE_DB_LOG_PROCESS_REGISTRY"]
RESOURCES = TABLES["ENGINE_DB_LOG_RESOURCE_MONITOR"]

CLOCK = WallClock(ZoneInfo("America/New_York"))


@pytest.fixture(scope="module")
def database() -> Iterator[sqlite3.Connection]:
    """A database with the schema of the log."""
    with migrated() as connection:
        yield connection


def old_table(table: Table, *names: str) -> OldTable:
    """Return a table of an old file with these columns."""
    return OldTable(table, [OldColumn(name) for name in names])


def said_by(table: Table, **values: Any) -> tuple[dict[str, Any] | None, Tally]:
    """Return what one row says, and what is noted of it."""
    tally = Tally()
    row = Translator(old_table(table, *values), CLOCK, [], tally).read(list(values.values()))
    assert tally.read == 1
    assert tally.empty == (row is None)
    return row and row.columns, tally


def noted(tally: Tally) -> dict[str, dict[str, int]]:
    """Return how often each reason was noted, by column."""
    return {
        reason: {column: count for column, (count, _) in columns.items()}
        for reason, columns in tally.notes.items()
    }


class TestOldTable:
    def test_finds_columns_in_any_case(self) -> None:
        """A column is found however it is spelled in upper and lower case."""
        old = old_table(PROCESSES, "PROCESS_ID", "Last_Heartbeat", "cpu_percent")
        assert [(column.name, places) for column, places in old.places] == [
            ("process_id", [0]),
            ("last_heartbeat", [1]),
            ("cpu_percent", [2]),
        ]
        assert old.unknown == {}

    def test_tells_what_is_missing_and_in_excess(self) -> None:
        """What only one of the two has is told."""
        old = old_table(CONNECTIONS, "WEBSOCKET_CONNECTION_ID", "COLOUR", "CLIENT_PORT", "id")
        assert old.unknown == {"COLOUR": 1, "id": 3}
        assert old.missing == [
            "CLIENT_HOST_IP_ADDRESS",
            "CLIENT_HEADERS",
            "DT_CONNECTION_REQUEST",
            "DT_CONNECTION_ACCEPTED",
            "DT_CONNECTION_CLOSED",
            "DT_WEBSOCKET_DISCONNECT_EVENT",
        ]

    @pytest.mark.parametrize(
        ("table", "misspelt", "right"),
        [
            (MESSAGES, "DT_MESSAGE_PROCESS_QUEDED_TO_START", "DT_MESSAGE_PROCESS_QUEUED_TO_START"),
            (RECORDINGS, "dt_recording_data_queded_for_purging", "DT_RECORDING_DATA_QUEUED_FOR_PURGING"),
            (FUNCTIONS, "DT_FUNCTION_MESSAGE_QUEDED", "DT_FUNCTION_MESSAGE_QUEUED"),
        ],
    )
    def test_knows_a_misspelling(self, table: Table, misspelt: str, right: str) -> None:
        """QUEDED is taken for QUEUED."""
        old = old_table(table, misspelt)
        assert old.misspelt == {misspelt: right}
        assert [column.name for column, _ in old.places] == [right]

    def test_knows_what_sqlite_fills_in(self) -> None:
        """A row that has only a number and a default of SQLite's is as empty as one of NULLs."""
        columns = [
            OldColumn("ID", None, True),
            OldColumn("CPU_PERCENT"),
            OldColumn("DT_ADDED", "CURRENT_TIMESTAMP"),
        ]
        old = OldTable(RESOURCES, columns)
        assert old.is_empty([1, None, "2025-08-30 00:27:01"])
        assert old.is_empty([None, None, None])
        assert not old.is_empty([1, 0.0, None])


class TestValues:
    def test_what_is_right_stays(self) -> None:
        """Numbers and texts stay as they are; times become UTC."""
        columns, tally = said_by(
            MESSAGES,
            RECORDING_ID=202508292027312002,
            MESSAGE_TYPE="START",
            MESSAGE_ID=1,
            DT_MESSAGE_RECEIVED="2025-08-29 20:27:31.993506",
        )
        assert columns == {
            "recording_id": 202508292027312002,
            "message_type": "START",
            "message_id": 1,
            "dt_message_received": "2025-08-30T00:27:31.993506+00:00",
        }
        assert tally.notes == {}

    def test_numbers_of_any_type(self) -> None:
        """A number may be a text or a float, as long as it is one."""
        columns, tally = said_by(RESOURCES, ID="17", THREAD_COUNT=52.0, CPU_PERCENT=12, MEMORY_PERCENT="87.5")
        assert columns == {"id": 17, "thread_count": 52, "cpu_percent": 12.0, "memory_percent": 87.5}
        assert tally.notes == {}

    def test_what_cannot_be_read_is_noted(self) -> None:
        """A value that isn't of the type of its column is left out, and noted with the first of them."""
        columns, tally = said_by(
            MESSAGES,
            MESSAGE_ID="one",
            AUDIO_FRAME_NO=1.5,
            MESSAGE_TYPE=b"START",
            DT_MESSAGE_RECEIVED="soon",
            DT_MESSAGE_PROCESS_STARTED=1756513651.95,
            RECORDING_ID=7,
        )
        assert columns == {"recording_id": 7}
        assert tally.notes == {
            Note.UNREADABLE: {
                "MESSAGE_ID": (1, "one"),
                "AUDIO_FRAME_NO": (1, "1.5"),
                "MESSAGE_TYPE": (1, "b'START'"),
                "DT_MESSAGE_RECEIVED": (1, "soon"),
                "DT_MESSAGE_PROCESS_STARTED": (1, "1756513651.95"),
            }
        }
        assert tally.without_key == 1

    @pytest.mark.parametrize("sign", [1, -1])
    def test_numbers_beyond_64_bits_are_noted(self, sign: int) -> None:
        """A number that SQLite can't hold isn't taken for the nearest one, which may be another's id."""
        for number in (1e300, 2.0**64, 2.0**63 * 1.1, "9" * 23, "9" * 5000):
            value = number * sign if isinstance(number, float) else "-"[sign:] + number
            columns, tally = said_by(MESSAGES, MESSAGE_ID=value, RECORDING_ID=7)
            assert columns == {"recording_id": 7}
            assert noted(tally) == {"unreadable": {"MESSAGE_ID": 1}}

    @pytest.mark.parametrize("value", [2**63 - 1, str(2**63 - 1), -(2**63), -(2.0**63), f" {-(2**63)}"])
    def test_the_largest_numbers_stay(self, value: object) -> None:
        """The largest and the smallest that SQLite can hold are what they are."""
        assert said_by(MESSAGES, MESSAGE_ID=value) == ({"message_id": int(value)}, Tally(read=1))  # type: ignore[call-overload]

    def test_infinity_is_noted(self) -> None:
        """SQL has no word for infinity."""
        columns, tally = said_by(RESOURCES, ID=1, CPU_PERCENT=float("inf"))
        assert columns == {"id": 1}
        assert noted(tally) == {"unreadable": {"CPU_PERCENT": 1}}

    def test_an_empty_text_is_no_time(self) -> None:
        """Where a time or a number should be, an empty text says nothing."""
        assert said_by(MESSAGES, MESSAGE_ID="", DT_MESSAGE_RECEIVED="")[0] is None
        assert said_by(MESSAGES, MESSAGE_TYPE="")[0] == {"message_type": ""}

    def test_unknown_columns_are_noted_if_they_have_a_value(self) -> None:
        """A value of a column that isn't known is noted, also in a row that says nothing else."""
        assert said_by(MESSAGES, MESSAGE_ID=1, COLOUR=None)[1].notes == {}
        columns, tally = said_by(MESSAGES, MESSAGE_ID=None, COLOUR="red")
        assert columns is None
        assert tally.notes == {Note.UNKNOWN: {"COLOUR": (1, "red")}}

    def test_long_texts_are_cut(self) -> None:
        """A text is cut to its width, a traceback at its beginning, and that is noted."""
        columns, tally = said_by(ERRORS, TRACEBACK_TEXT="a" * 5000 + "end", ERROR_MESSAGE_TEXT="b" * 1000)
        assert columns is not None
        assert len(columns["traceback_text"]) == 4000
        assert columns["traceback_text"].endswith("end")
        assert noted(tally) == {"cut": {"TRACEBACK_TEXT": 1}}
        assert len(tally.notes["cut"]["TRACEBACK_TEXT"][1]) == 200

    @pytest.mark.parametrize(
        ("text", "masked"),
        [
            ('{"host": "x", "sec-websocket-key": "urLdtT=="}', '{"host": "x", "sec-websocket-key": "***"}'),
            ('{"Cookie":"a=\\"b\\"; c","host":"x"}', '{"Cookie":"***","host":"x"}'),
            ("{'Authorization': 'Basic x', 'host': 'y'}", "{'Authorization': '***', 'host': 'y'}"),
            ('{"host": "x", "cookie": "cut off he', '{"host": "x", "cookie": "***"'),
            ('{"cookie": ["x", "y"], "host": "z"}', '{"cookie": ["***"], "host": "z"}'),
            ('[["host","x"],["authorization","y"]]', '[["host","x"],["authorization","***"]]'),
            ("[(b'cookie', b'x'), (b'host', b'y')]", "[(b'cookie', b'***'), (b'host', b'y')]"),
            ("{b'cookie': b'x'}", "{b'cookie': b'***'}"),
            ("{'cookie': ('x', 'cut off he", "{'cookie': ('***'"),
            ("Cookie: a=b; c", "Cookie: ***"),
            (
                "Host: x\r\ncookie: a\r\n  and on\r\nAuthorization : Basic y\r\nAccept: z",
                "Host: x\r\ncookie: ***\r\nAuthorization : ***\r\nAccept: z",
            ),
        ],
    )
    def test_credentials_are_masked(self, text: str, masked: str) -> None:
        """Credentials in request headers are masked: in JSON, in what Python prints, in lines, cut off."""
        columns, tally = said_by(CONNECTIONS, CLIENT_HEADERS=text)
        assert columns == {"client_headers": masked}
        assert noted(tally) == {"masked": {"CLIENT_HEADERS": 1}}

    @pytest.mark.parametrize(
        "text",
        [
            '{"host": "cookie: none"}',
            '{"access-control-request-headers": "authorization", "host": "x"}',
            "cookies: none",
            "not headers",
            "",
        ],
    )
    def test_other_headers_stay(self, text: str) -> None:
        """What has no credentials stays as it is, whatever it is."""
        assert said_by(CONNECTIONS, CLIENT_HEADERS=text) == (
            {"client_headers": text},
            Tally(read=1, without_key=1),
        )

    def test_two_spellings_of_one_column(self) -> None:
        """Of two spellings of a column the right one counts, if it has a value; a difference is noted."""
        queded, queued = "DT_FUNCTION_MESSAGE_QUEDED", "DT_FUNCTION_MESSAGE_QUEUED"
        early, late = "2025-01-31 12:00:00", "2025-01-31 13:00:00"
        for values, hour, conflicts in (
            ({queded: early, queued: late}, 18, {"misspelt": {queued: 1}}),
            ({queded: early, queued: None}, 17, {}),
            ({queded: early, queued: early}, 17, {}),
        ):
            columns, tally = said_by(FUNCTIONS, **values)
            assert columns == {queued.lower(): f"2025-01-31T{hour}:00:00.000000+00:00"}
            assert noted(tally) == conflicts

    def test_uncertain_times_are_noted(self) -> None:
        """Times that were shown twice, or never, are noted."""
        _, tally = said_by(
            MESSAGES,
            DT_MESSAGE_RECEIVED="2025-11-02 01:30:00",
            DT_MESSAGE_PROCESS_STARTED="2025-03-09 02:30:00",
        )
        assert noted(tally) == {
            "ambiguous": {"DT_MESSAGE_RECEIVED": 1},
            "nonexistent": {"DT_MESSAGE_PROCESS_STARTED": 1},
        }

    @pytest.mark.parametrize(
        ("default", "text", "utc"),
        [
            ("CURRENT_TIMESTAMP", "2025-08-30 00:27:01", "2025-08-30T00:27:01"),
            ("current_timestamp", "2025-08-30 00:27:01", "2025-08-30T00:27:01"),
            ("CURRENT_TIMESTAMP", "2025-08-29 20:27:01.096354", "2025-08-30T00:27:01.096354"),
            (None, "2025-08-29 20:27:01", "2025-08-30T00:27:01"),
        ],
    )
    def test_times_of_sqlite_are_utc(self, default: str | None, text: str, utc: str) -> None:
        """What SQLite filled in is in UTC already; what the engine passed to the same column is local."""
        old = OldTable(RESOURCES, [OldColumn("CPU_PERCENT"), OldColumn("DT_ADDED", default)])
        row = Translator(old, CLOCK, [], Tally()).read([1.0, text])
        assert row is not None
        assert row.columns["dt_added"].startswith(utc)


class TestLives:
    LIVES = ("2025-08-29 12:00:00.000", "2025-08-29 13:00:00.000")

    def reader(self, *names: str) -> Translator:
        """Return a reader for messages of an engine that was started three times."""
        return Translator(old_table(MESSAGES, *names), CLOCK, self.LIVES, Tally())

    def test_by_the_first_time_of_a_row(self) -> None:
        """A row belongs to the start before its first time, however times are written."""
        reader = self.reader("MESSAGE_ID", "DT_MESSAGE_PROCESS_STARTED", "DT_MESSAGE_RECEIVED")
        rows = [
            (1, "2025-08-29 12:00:00.1", "2025-08-29 11:59:59.999999"),
            (2, None, "2025-08-29T12:00:00.000001"),
            (3, "2025-08-29 13:00:00.000000", None),
            (4, "2025-08-29 12:30:00.000000", "soon"),
        ]
        assert [row.life for row in map(reader.read, rows) if row] == [0, 1, 2, 1]

    def test_without_a_time(self) -> None:
        """A row without a time belongs where the row before it does."""
        reader = self.reader("MESSAGE_ID", "DT_MESSAGE_RECEIVED")
        rows = [(1, None), (2, "2025-08-29 12:30:00"), (3, None), (None, None)]
        assert [row.life for row in map(reader.read, rows) if row] == [0, 1, 1]
        assert reader.life == 1

    def test_not_by_times_of_sqlite(self) -> None:
        """What SQLite filled in doesn't say what the clock on the wall showed."""
        old = OldTable(RESOURCES, [OldColumn("DT_MEASUREMENT"), OldColumn("DT_ADDED", "CURRENT_TIMESTAMP")])
        row = Translator(old, CLOCK, self.LIVES, Tally()).read(
            ["2025-08-29 13:30:00.1", "2025-08-29 11:30:00"]
        )
        assert row is not None
        assert row.life == 2


class TestConflicts:
    def conflicts(self, table: Table, *rows: dict[str, Any], known: Times | None = None) -> dict[str, Any]:
        """Return what is noted of rows of one run."""
        tally = Tally()
        known = {} if known is None else known
        for columns in rows:
            note_conflicts(table, RUN, columns, known, tally)
        return tally.notes.get(Note.CONFLICT, {})

    def test_of_one_thing(self) -> None:
        """Another time of the same thing is a conflict; the first is shown, with both times."""
        rows = [
            {"websocket_connection_id": 1, "dt_connection_closed": f"2025-08-30T00:27:{second}+00:00"}
            for second in ("44.569340", "44.569340", "44.690550", "45.000000")
        ]
        assert self.conflicts(CONNECTIONS, *rows) == {
            "DT_CONNECTION_CLOSED": (
                2,
                "WEBSOCKET_CONNECTION_ID 1: 2025-08-30 00:27:44.569340, then 2025-08-30 00:27:44.690550",
            )
        }

    def test_with_what_is_stored(self) -> None:
        """What was stored by an import that died counts, too."""
        known: Times = {(RUN, 1): {"dt_connection_closed": "2025-08-30 00:27:44.569340"}}
        row = {"websocket_connection_id": 1, "dt_connection_closed": "2025-08-30T00:27:44.690550+00:00"}
        assert self.conflicts(CONNECTIONS, row, known=known) == {
            "DT_CONNECTION_CLOSED": (
                1,
                "WEBSOCKET_CONNECTION_ID 1: 2025-08-30 00:27:44.569340, then 2025-08-30 00:27:44.690550",
            )
        }

    def test_not_of_different_things(self) -> None:
        """Different things have different times, and so have rows that don't say what they speak of."""
        times = [f"2025-08-30T00:27:4{second}.000000+00:00" for second in range(4)]
        rows = [
            {"websocket_connection_id": number, "dt_connection_closed": time}
            for number, time in zip((1, 2, None, None), times, strict=True)
        ]
        assert self.conflicts(CONNECTIONS, *rows) == {}
        assert self.conflicts(FUNCTIONS, *({"dt_added": time} for time in times)) == {}

    def test_not_of_times_that_change(self) -> None:
        """A heartbeat is another one each time."""
        rows = [
            {
                "process_id": 1,
                "last_heartbeat": time,
                "dt_added": time,
                "start_time": "2025-08-30T00:27:40+00:00",
            }
            for time in ("2025-08-30T00:27:41.000000+00:00", "2025-08-30T00:27:42.000000+00:00")
        ]
        assert self.conflicts(PROCESSES, *rows) == {}

    def test_of_a_recording_in_two_runs(self) -> None:
        """A recording is the same in all runs."""
        tally, known = Tally(), Times()
        for run in (1, 2):
            columns = {"recording_id": 7, "dt_recording_end": f"2025-08-30T00:27:4{run}.000000+00:00"}
            note_conflicts(RECORDINGS, run, columns, known, tally)
        assert noted(tally) == {"conflict": {"DT_RECORDING_END": 1}}

    def test_thing(self) -> None:
        """A thing is known by its run and its key; a recording by its id alone."""
        assert thing_of(MESSAGES, RUN, {"message_id": 3}) == (RUN, 3)
        assert thing_of(RECORDINGS, RUN, {"recording_id": 7}) == (7,)
        assert thing_of(MESSAGES, RUN, {"message_id": None}) is None
        assert thing_of(MESSAGES, RUN, {}) is None
        assert thing_of(FUNCTIONS, RUN, {"frame_no": 1}) is None


# -- merging, whatever the rows ---------------------------------------------------------------------

NAMES = ("MESSAGE_ID", "MESSAGE_TYPE", "AUDIO_FRAME_NO", "DT_MESSAGE_RECEIVED", "COLOUR")
SOME_TIMES = [f"2025-08-29 12:00:0{second}.{second}" for second in range(4)]
ROWS = st.lists(
    st.tuples(
        st.sampled_from([1, 2, 3, "3", None, "x"]),
        st.sampled_from(["START", "FRAME", "STOP", None]),
        st.sampled_from([1, 2, "2", None, 1.5]),
        st.sampled_from([*SOME_TIMES, None, "soon"]),
        st.sampled_from([None, None, "red"]),
    ),
    max_size=30,
)


def expected_of(rows: Sequence[Sequence[Any]]) -> dict[int, dict[str, Any]]:
    """Return what is known of each message in the end, told in another way than in the package."""
    things: dict[int, dict[str, Any]] = {}
    for number, kind, frame, received, _ in rows:
        if number not in (None, "x"):
            thing = things.setdefault(int(number), {})
            if kind is not None:
                thing["message_type"] = kind
            if frame not in (None, 1.5):
                thing["audio_frame_no"] = int(frame)
            if received not in (None, "soon"):
                thing["dt_message_received"] = time_text(CLOCK.utc(received)[0])
    return things


@few
@given(rows=ROWS, sizes=st.lists(st.integers(1, 8), min_size=30, max_size=30))
def test_rows_become_things(
    database: sqlite3.Connection, rows: list[Sequence[Any]], sizes: list[int]
) -> None:
    """In whatever transactions: of each thing the last value that isn't NULL counts, and all is counted."""
    tally = Tally()
    reader = Translator(old_table(MESSAGES, *NAMES), CLOCK, [], tally)
    said = [row.columns for row in map(reader.read, rows) if row is not None]
    with undone(database):
        left = list(said)
        for size in sizes:
            some, left = left[:size], left[size:]
            store(database, prepare([(MESSAGES, dict(columns)) for columns in some]))
        found = stored(database, MESSAGES)

    things = {row["message_id"]: row for row in found if row["message_id"] is not None}
    assert {
        number: {
            name: row[name] for name in ("message_type", "audio_frame_no", "dt_message_received") if row[name]
        }
        for number, row in things.items()
    } == expected_of(rows)
    assert len(found) - len(things) == tally.without_key
    assert tally.read == len(rows) == tally.empty + len(said)
    counts = noted(tally)
    assert counts.get("unknown", {}).get("COLOUR", 0) == sum(row[4] == "red" for row in rows)
    assert counts.get("unreadable", {}).get("MESSAGE_ID", 0) == sum(row[0] == "x" for row in rows)


# -- what is remembered -----------------------------------------------------------------------------


def test_progress_survives_json() -> None:
    """What is remembered of an import is the same when it is read again."""
    tally = Tally(read=3, empty=1, stored=1, merged=1)
    tally.note(Note.CUT, "STEP_NAME", "x" * 300)
    progress = ImportProgress(
        "Europe/Berlin", [1, 2], {"A": TableProgress(tally, "abc", 1), "B": TableProgress()}
    )
    again = ImportProgress.of_json(orjson.loads(orjson.dumps(progress.as_json())))
    assert again == progress
    assert again.rows_read == 3
    assert [table.tells for table in again.tables.values()] == [True, False]
