"""enginelog import: an old engine's file comes over, each row once."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import subprocess
import tempfile
from collections.abc import Callable
from contextlib import closing
from datetime import datetime, timedelta
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from async_enginelog import EngineLog, importing
from async_enginelog.importing import Importer, Zone
from async_enginelog.imports import ImportDatabase
from async_enginelog.oldfile import OldFile
from async_enginelog.segments import spool_folder
from async_enginelog.tables import TABLES

from ..old_engine import LEGACY, ZONE, old_file, write
from .conftest import Outcome

Enginelog = Callable[..., Outcome]
Sql = Callable[..., list[Any]]
Start = Callable[..., "subprocess.Popen[bytes]"]

# In the package, the verb has the name of its module.
import_old = import_module("async_enginelog.cli.import_old")

PREFIX = "ENGINE_DB_LOG_"
NOON = datetime(2025, 8, 29, 12)


@pytest.fixture
def legacy() -> Path:
    """The file that the old engine really wrote."""
    if not LEGACY.exists():
        pytest.skip(f"the old engine's file isn't there: {LEGACY}")
    return LEGACY


@pytest.fixture
def new(tmp_path: Path) -> Path:
    """The path of a database that doesn't exist yet."""
    return tmp_path / "new" / "engine_log.db"


@pytest.fixture(autouse=True)
def folder(new: Path) -> None:
    """The folder it is to be in."""
    new.parent.mkdir()


@pytest.fixture
def bring(enginelog: Enginelog, new: Path) -> Callable[..., Outcome]:
    """Imports a file; all must be well, here and in the database."""

    def call(old: Path, *options: str, code: int = 0, zone: str = ZONE) -> Outcome:
        outcome = enginelog("import", old, new, "--timezone", zone, *options)
        assert (outcome.code, outcome.err) == (code, ""), outcome
        verified = enginelog("verify", new)
        assert verified.code == 0, verified
        return outcome

    return call


@pytest.fixture
def report(bring: Callable[..., Outcome]) -> Callable[..., dict[str, Any]]:
    """Imports a file, and gives the report of it."""
    return lambda *arguments, **options: json.loads(bring(*arguments, "--json", **options).out)


def figures_of(report: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """Return how many rows of each table were read, stored, merged and empty, where there were any."""
    names = ("read", "stored", "merged", "empty")
    return {
        table.removeprefix(PREFIX): tuple(tally[name] for name in names)
        for table, tally in report["tables"].items()
        if tally["read"]
    }


def remarks_of(report: dict[str, Any]) -> list[str]:
    """Return the remarks of a report, without those on what the file lacks."""
    return [remark["what"] for remark in report["remarks"] if "the old file lacks" not in remark["what"]]


def contents(path: Path) -> dict[str, list[tuple[Any, ...]]]:
    """Return all that is in a database, but for the times of the import itself."""
    with closing(sqlite3.connect(path)) as connection:
        found = {}
        tables = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name")
        for (table,) in tables.fetchall():
            columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
            names = ", ".join(name for name in columns if name not in ("DT_ADDED", "dt_added", "DT_IMPORTED"))
            found[table] = sorted(connection.execute(f"SELECT {names} FROM {table}"), key=repr)
        return found


def times(count: int, start: datetime = NOON) -> list[str]:
    """Return times, as the old engine showed them, one for each minute."""
    return [str(start + timedelta(minutes=minute, microseconds=5)) for minute in range(count)]


def session(start: datetime, recording: int) -> dict[str, list[dict[str, Any]]]:
    """Return what an engine writes of a recording of two frames, with ids from 1."""
    first, second, third, fourth, end = times(5, start)
    connection = {"WEBSOCKET_CONNECTION_ID": 1, "CLIENT_PORT": str(recording), "DT_CONNECTION_REQUEST": first}
    messages = [
        {"MESSAGE_ID": number, "MESSAGE_TYPE": kind, "RECORDING_ID": recording, "DT_MESSAGE_RECEIVED": time}
        for number, (kind, time) in enumerate((("START", second), ("FRAME", third), ("STOP", fourth)), 1)
    ]
    return {
        "WEBSOCKET_CONNECTION": [
            {**connection, "DT_CONNECTION_CLOSED": None},
            {**connection, "DT_CONNECTION_CLOSED": end},
        ],
        "WEBSOCKET_MESSAGE": messages,
        "FUNCTIONS": [
            {"PYTHON_FUNCTION_NAME": "f", "DT_FUNCTION_MESSAGE_QUEUED": time} for time in (second, end)
        ],
    }


def add(path: Path, rows: dict[str, list[dict[str, Any]]]) -> None:
    """Write more rows into a file."""
    for table, some in rows.items():
        write(path, table, *some)


class TestLegacyFile:
    """The file that the old engine really wrote."""

    def test_counts(self, report: Callable[..., dict[str, Any]], legacy: Path) -> None:
        """One row for one thing, all others as they are, and the empty ones told."""
        found = report(legacy)
        assert figures_of(found) == {
            "FUNCTIONS": (116, 116, 0, 0),
            "SPLIT_100_MS_AUDIO_FRAME": (9, 9, 0, 0),
            "PRE_SPLIT_AUDIO_FRAME": (28, 28, 0, 0),
            "RECORDING_CONFIG": (2, 1, 1, 0),
            "WEBSOCKET_CONNECTION": (3, 1, 2, 0),
            "WEBSOCKET_MESSAGE": (32, 30, 2, 0),
            "PROCESS_REGISTRY": (10, 0, 0, 10),
            "RESOURCE_MONITOR": (1865, 1865, 0, 0),
        }
        assert (found["rows_read"], found["rows_read_before"], found["rows_stored"]) == (2065, 0, 2050)
        assert remarks_of(found) == [
            "WEBSOCKET_CONNECTION: DT_CONNECTION_CLOSED: 1 value unlike that of an earlier row of the same "
            "thing; the later counts (WEBSOCKET_CONNECTION_ID 1: 2025-08-30 00:27:44.569340, then "
            "2025-08-30 00:27:44.690550)",
            "WEBSOCKET_CONNECTION: CLIENT_HEADERS: credentials masked in 3 values",
            "PROCESS_REGISTRY: left out 10 rows without a single value",
        ]
        assert found["tables"]["ENGINE_DB_LOG_SPLIT_100_MS_AUDIO_FRAME"]["missing_columns"] == [
            "DT_START_FFT_ENGINE_LOAD_FFT_INS",
            "DT_END_FFT_ENGINE_LOAD_FFT_INS",
        ]

    def test_twice(self, bring: Callable[..., Outcome], legacy: Path, new: Path) -> None:
        """A second import changes nothing, and says so; else it says the same."""
        first = bring(legacy).out.splitlines()
        before = contents(new)
        second = bring(legacy).out.splitlines()
        assert contents(new) == before
        assert second[:-1] == first[:-1]
        assert first[-1].endswith(": 2,065 rows read")
        assert second[-1].endswith(": nothing new: all of it was imported before")

    def test_values(self, bring: Callable[..., Outcome], legacy: Path, new: Path, sql: Sql) -> None:
        """Ids stay; of the closing times the later one counts; times are UTC; credentials are masked."""
        bring(legacy)
        assert sql(
            new,
            "SELECT WEBSOCKET_CONNECTION_ID, DT_CONNECTION_REQUEST, DT_CONNECTION_CLOSED, "
            'CLIENT_HEADERS LIKE \'%"sec-websocket-key": "***"%\' FROM ENGINE_DB_LOG_WEBSOCKET_CONNECTION',
        ) == [(1, "2025-08-30 00:27:31.952383", "2025-08-30 00:27:44.690550", 1)]
        assert sql(
            new,
            "SELECT RECORDING_ID, TOTAL_BYTES_RECEIVED, DT_RECORDING_END FROM ENGINE_DB_LOG_RECORDING_CONFIG",
        ) == [(202508292027312002, 431832, "2025-08-30 00:27:44.699998")]
        assert sql(
            new, "SELECT min(ID), max(ID), count(DISTINCT ID) FROM ENGINE_DB_LOG_RESOURCE_MONITOR"
        ) == [(1, 1865, 1865)]
        assert sql(new, "SELECT DISTINCT length(DT_ADDED) FROM ENGINE_DB_LOG_FUNCTIONS") == [(26,)]

    def test_run(self, bring: Callable[..., Outcome], enginelog: Enginelog, legacy: Path, new: Path) -> None:
        """The import is one run, called after its first second, that lasted as long as its rows."""
        bring(legacy)
        [run] = json.loads(enginelog("runs", "--json", new).out)
        assert (run["run"], run["state"], run["left_open"]) == (1756513621, "imported", None)
        assert (run["started"], run["ended"]) == ("2025-08-30 00:27:01.096354", "2025-08-30 00:31:52.918024")
        assert (run["accepted"], run["committed"], run["stored"], run["last_log_seq"]) == (
            2055,
            2055,
            2050,
            2055,
        )
        assert "1756513621  -     -    -        2025-08-30 00:27:01" in enginelog("runs", new).out

    def test_stays_as_it_is(self, bring: Callable[..., Outcome], legacy: Path) -> None:
        """Not a byte of it changes, nor is anything put beside it."""
        before, beside = legacy.read_bytes(), sorted(os.listdir(legacy.parent))
        bring(legacy)
        assert (legacy.read_bytes(), sorted(os.listdir(legacy.parent))) == (before, beside)

    def test_with_an_engine(
        self, bring: Callable[..., Outcome], enginelog: Enginelog, legacy: Path, new: Path, live: Path
    ) -> None:
        """It goes into a database that an engine writes to, and LOG_SEQ goes on for both."""
        outcome = enginelog("import", legacy, live)
        assert outcome.code == 0, outcome
        code, out, _ = enginelog("verify", live)
        assert code == 0, out
        with closing(sqlite3.connect(live)) as connection:
            numbers = [
                seq
                for table in TABLES
                for (seq,) in connection.execute(
                    f"SELECT LOG_SEQ FROM {table} WHERE ENGINE_RUN_ID < 1760000000"
                )
            ]
        assert len(numbers) == len(set(numbers)) == 2050


class TestMess:
    """Files of any version, in any state."""

    def test_columns(
        self, report: Callable[..., dict[str, Any]], tmp_path: Path, new: Path, sql: Sql
    ) -> None:
        """Columns may be missing, misspelt, or in excess: what has a value and isn't known is wrong."""
        old = old_file(
            tmp_path / "old.db",
            WEBSOCKET_MESSAGE=[
                {
                    "message_id": 1,
                    "DT_MESSAGE_PROCESS_QUEDED_TO_START": "2025-08-29 20:27:31",
                    "COLOUR": None,
                },
                {"message_id": 2, "DT_MESSAGE_PROCESS_QUEDED_TO_START": None, "COLOUR": "red"},
            ],
        )
        found = report(old, code=1)
        assert remarks_of(found) == [
            "WEBSOCKET_MESSAGE: DT_MESSAGE_PROCESS_QUEDED_TO_START is taken for "
            "DT_MESSAGE_PROCESS_QUEUED_TO_START",
            "WEBSOCKET_MESSAGE: columns that aren't known here: COLOUR",
            "WEBSOCKET_MESSAGE: COLOUR: 1 value left out, of a column that isn't known here (red)",
        ]
        assert [remark["wrong"] for remark in found["remarks"]][-1:] == [True]
        assert sql(
            new, "SELECT MESSAGE_ID, DT_MESSAGE_PROCESS_QUEUED_TO_START FROM ENGINE_DB_LOG_WEBSOCKET_MESSAGE"
        ) == [(1, "2025-08-30 00:27:31.000000"), (2, None)]

    def test_tables(self, report: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
        """Other tables are told; one that is called like those of the log, and has rows, is wrong."""
        old = old_file(tmp_path / "old.db", STEPS="STEP_NAME", SOUND="x", customers=[{"name": "x"}])
        found = report(old)
        assert found["other_tables"] == {"ENGINE_DB_LOG_SOUND": 0, "customers": 1}
        assert remarks_of(found) == [
            "the table ENGINE_DB_LOG_SOUND isn't known here: left out, with 0 rows",
            "the table customers isn't known here: left out, with 1 row",
        ]
        write(old, "SOUND", {"x": 1})
        assert [remark["wrong"] for remark in report(old, code=1)["remarks"]] == [False, False, True, False]

    def test_missing_tables(self, report: Callable[..., dict[str, Any]], tmp_path: Path, sql: Sql) -> None:
        """Tables that the file lacks are told; a view in the place of one is wrong."""
        old = old_file(tmp_path / "old.db", **{name.removeprefix(PREFIX): "x" for name in TABLES})
        sql(old, "DROP TABLE ENGINE_DB_LOG_STEPS")
        assert [remark["what"] for remark in report(old)["remarks"] if "lacks the" in remark["what"]] == [
            "the old file lacks the table ENGINE_DB_LOG_STEPS"
        ]
        sql(old, "DROP TABLE ENGINE_DB_LOG_FUNCTIONS")
        sql(old, "DROP TABLE ENGINE_DB_LOG_FUNCTION_ERROR")
        sql(old, "CREATE VIEW ENGINE_DB_LOG_STEPS AS SELECT 1 AS STEP_ID")
        assert report(old, code=1)["remarks"][:2] == [
            {
                "what": "the old file lacks the tables ENGINE_DB_LOG_FUNCTIONS, ENGINE_DB_LOG_FUNCTION_ERROR",
                "wrong": False,
            },
            {
                "what": "ENGINE_DB_LOG_STEPS is a view in the old file, not a table: what it shows is left "
                "out",
                "wrong": True,
            },
        ]

    def test_numbers_beyond_64_bits(
        self, report: Callable[..., dict[str, Any]], tmp_path: Path, new: Path, sql: Sql
    ) -> None:
        """Numbers that SQLite can't hold don't become one thing: they are left out, and that is wrong."""
        numbers = (1e300, 2e300, "9" * 23, 2**63 - 1)
        rows = [{"MESSAGE_ID": number, "MESSAGE_TYPE": str(place)} for place, number in enumerate(numbers)]
        found = report(old_file(tmp_path / "old.db", WEBSOCKET_MESSAGE=rows), code=1)
        assert figures_of(found) == {"WEBSOCKET_MESSAGE": (4, 4, 0, 0)}
        assert remarks_of(found) == [
            "WEBSOCKET_MESSAGE: 3 rows without a whole key: each stands alone",
            "WEBSOCKET_MESSAGE: MESSAGE_ID: 3 values left out, not of the type of the column (1e+300)",
        ]
        assert sql(
            new, "SELECT MESSAGE_ID, MESSAGE_TYPE FROM ENGINE_DB_LOG_WEBSOCKET_MESSAGE ORDER BY LOG_SEQ"
        ) == [(None, "0"), (None, "1"), (None, "2"), (2**63 - 1, "3")]

    def test_column_called_rowid(
        self, report: Callable[..., dict[str, Any]], tmp_path: Path, sql: Sql
    ) -> None:
        """A column that is called like SQLite's number of a row loses no row."""
        old = old_file(tmp_path / "old.db", STEPS=[{"STEP_ID": number} for number in range(5)])
        sql(old, "ALTER TABLE ENGINE_DB_LOG_STEPS ADD COLUMN rowid TEXT")
        assert figures_of(report(old)) == {"STEPS": (5, 5, 0, 0)}

    def test_two_spellings_of_one_column(self, report: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
        """Where a row has both spellings of a column, and they differ, it is said which one counts."""
        row = {
            "MESSAGE_ID": 1,
            "DT_MESSAGE_PROCESS_QUEDED_TO_START": "2025-08-29 12:00:00",
            "DT_MESSAGE_PROCESS_QUEUED_TO_START": "2025-08-29 13:00:00",
        }
        assert remarks_of(report(old_file(tmp_path / "old.db", WEBSOCKET_MESSAGE=[row])))[-1] == (
            "WEBSOCKET_MESSAGE: DT_MESSAGE_PROCESS_QUEUED_TO_START: 1 value unlike that of the misspelt "
            "column in the same row; this one counts (2025-08-29T17:00:00.000000+00:00, not "
            "2025-08-29T16:00:00.000000+00:00)"
        )

    def test_log_of_local_times(self, enginelog: Enginelog, tmp_path: Path, log_path: Path, sql: Sql) -> None:
        """Beside engines that store local times, what is imported is of another kind: that is told."""
        old = old_file(tmp_path / "old.db", STEPS=[{"DT_STEP_CALLED": "2025-08-29 12:00:00"}])
        said = "engines store local times in this database (run"
        assert said not in enginelog("import", old, log_path, "--timezone", ZONE).out
        sql(
            log_path,
            "UPDATE ENGINE_LOG_RUN SET DT_STARTED = datetime(ENGINE_RUN_ID + 5 * 3600, 'unixepoch') "
            "WHERE HOW_ENDED = 'closed'",
        )
        [(run,)] = sql(log_path, "SELECT ENGINE_RUN_ID FROM ENGINE_LOG_RUN WHERE HOW_ENDED = 'closed'")
        assert f"{said} {run}), what is" in enginelog("import", old, log_path, "--timezone", ZONE).out

    def test_values(self, bring: Callable[..., Outcome], tmp_path: Path, new: Path, sql: Sql) -> None:
        """What can't be read is left out, what is too long is cut; both are told."""
        old = old_file(
            tmp_path / "old.db",
            STEPS=[
                {
                    "STEP_NAME": "a" * 101,
                    "STEP_ID": "one",
                    "RECORDING_ID": "202508292027312002",
                    "DT_ADDED": 17,
                },
                {"STEP_NAME": "b\0c", "STEP_ID": 2.0, "RECORDING_ID": "", "DT_ADDED": "2025-08-29 12:00:00"},
            ],
        )
        out = bring(old, code=1).out
        for line in (
            f"note   STEPS: STEP_NAME: 1 value cut to the width of the column ({'a' * 101})",
            "wrong  STEPS: STEP_ID: 1 value left out, not of the type of the column (one)",
            "wrong  STEPS: DT_ADDED: 1 value left out, not of the type of the column (17)",
        ):
            assert line in out.splitlines()
        assert sql(
            new, "SELECT STEP_NAME, STEP_ID, RECORDING_ID FROM ENGINE_DB_LOG_STEPS ORDER BY LOG_SEQ"
        ) == [
            ("a" * 100, None, 202508292027312002),
            ("b\u2400c", 2, None),
        ]

    def test_rows(self, report: Callable[..., dict[str, Any]], tmp_path: Path, new: Path, sql: Sql) -> None:
        """Rows without an id stand alone; those of NULLs are left out; of the rest, each is kept once."""
        row = {"MESSAGE_ID": 1, "MESSAGE_TYPE": "START", "AUDIO_FRAME_NO": None}
        old = old_file(
            tmp_path / "old.db",
            WEBSOCKET_MESSAGE=[
                row,
                row,
                {**row, "AUDIO_FRAME_NO": 1},
                {**row, "MESSAGE_TYPE": None, "AUDIO_FRAME_NO": 2},
                {**row, "MESSAGE_ID": None},
                {"MESSAGE_ID": None, "MESSAGE_TYPE": None, "AUDIO_FRAME_NO": None},
            ],
            STEPS=[{"STEP_NAME": "a"}, {"STEP_NAME": "a"}],
        )
        found = report(old)
        assert figures_of(found) == {"WEBSOCKET_MESSAGE": (6, 2, 3, 1), "STEPS": (2, 2, 0, 0)}
        assert remarks_of(found) == [
            "WEBSOCKET_MESSAGE: left out 1 row without a single value",
            "WEBSOCKET_MESSAGE: 1 row without a whole key: each stands alone",
        ]
        assert sql(
            new,
            "SELECT MESSAGE_ID, MESSAGE_TYPE, AUDIO_FRAME_NO FROM ENGINE_DB_LOG_WEBSOCKET_MESSAGE ORDER BY 1",
        ) == [(None, "START", None), (1, "START", 2)]

    def test_resources_that_sqlite_filled_in(
        self, report: Callable[..., dict[str, Any]], tmp_path: Path, new: Path, sql: Sql
    ) -> None:
        """What SQLite numbered and stamped by itself: in UTC, and empty if there is nothing else."""
        old = old_file(
            tmp_path / "old.db",
            RESOURCE_MONITOR="ID INTEGER PRIMARY KEY AUTOINCREMENT, DT_MEASUREMENT DATETIME, "
            "CPU_PERCENT REAL, DT_ADDED DATETIME DEFAULT CURRENT_TIMESTAMP",
        )
        shown, stamped = "2025-08-29 20:27:01.000001", "2025-08-30 00:27:02"
        write(old, "RESOURCE_MONITOR", {"DT_MEASUREMENT": shown, "CPU_PERCENT": 5, "DT_ADDED": stamped}, {})
        found = report(old)
        assert figures_of(found) == {"RESOURCE_MONITOR": (2, 1, 0, 1)}
        assert sql(new, "SELECT ID, DT_MEASUREMENT, DT_ADDED FROM ENGINE_DB_LOG_RESOURCE_MONITOR") == [
            (1, "2025-08-30 00:27:01.000001", "2025-08-30 00:27:02.000000")
        ]

    def test_times_where_clocks_are_set(self, report: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
        """What was shown twice, or never, is counted and told."""
        shown = ["2025-11-02 01:30:00", "2025-11-02 01:31:00", "2025-03-09 02:30:00"]
        found = report(old_file(tmp_path / "old.db", STEPS=[{"DT_STEP_CALLED": time} for time in shown]))
        assert remarks_of(found) == [
            "STEPS: DT_STEP_CALLED: 2 values that the clock showed twice, as it was set back; taken for the "
            "first time (2025-11-02 01:30:00)",
            "STEPS: DT_STEP_CALLED: 1 value that no clock showed there, as it was set forward; taken as if "
            "it hadn't been (2025-03-09 02:30:00). Is it the right time zone?",
        ]

    @pytest.mark.parametrize("rows", ["STEP_NAME, DT_ADDED", [{"STEP_NAME": "a"}, {"STEP_NAME": "b"}]])
    def test_no_time_at_all(
        self, bring: Callable[..., Outcome], enginelog: Enginelog, tmp_path: Path, new: Path, rows: Any
    ) -> None:
        """Without rows, or without times, there is a run all the same, of the time of the import."""
        old = old_file(tmp_path / "old.db", STEPS=rows)
        bring(old)
        before = contents(new)
        bring(old)
        assert contents(new) == before
        [run] = json.loads(enginelog("runs", "--json", new).out)
        assert (run["state"], run["started"]) == ("imported", None)
        assert abs(run["run"] - datetime.now().timestamp()) < 600

    def test_times_of_the_future(
        self, bring: Callable[..., Outcome], tmp_path: Path, new: Path, sql: Sql
    ) -> None:
        """A clock that ran ahead takes no number from the runs that are to come."""
        bring(old_file(tmp_path / "old.db", STEPS=[{"DT_STEP_CALLED": "2199-01-01 00:00:00"}]))
        assert sql(new, "SELECT ENGINE_RUN_ID < unixepoch() + 600, DT_STARTED FROM ENGINE_LOG_RUN") == [
            (1, "2199-01-01 05:00:00.000000")
        ]


class TestLives:
    """An old engine counts from 1 again at each start."""

    @pytest.fixture
    def old(self, tmp_path: Path) -> Path:
        """A file of two starts, two hours apart, with the same ids."""
        old = old_file(tmp_path / "old.db", **session(NOON, 7))
        add(old, session(NOON + timedelta(hours=2), 8))
        return old

    def test_each_is_a_run(
        self, report: Callable[..., dict[str, Any]], old: Path, new: Path, sql: Sql
    ) -> None:
        """Things of different starts stay apart, and those of one together, under its run."""
        found = report(old)
        assert figures_of(found) == {
            "WEBSOCKET_CONNECTION": (4, 2, 2, 0),
            "WEBSOCKET_MESSAGE": (6, 6, 0, 0),
            "FUNCTIONS": (4, 4, 0, 0),
        }
        assert remarks_of(found) == ["the engine's ids began again once: each of its starts is a run"]
        assert sql(
            new,
            "SELECT CLIENT_PORT, count(DISTINCT RECORDING_ID), min(RECORDING_ID), count(*), (SELECT count(*) "
            "FROM ENGINE_DB_LOG_FUNCTIONS AS F WHERE F.ENGINE_RUN_ID = C.ENGINE_RUN_ID) "
            "FROM ENGINE_DB_LOG_WEBSOCKET_CONNECTION AS C JOIN ENGINE_DB_LOG_WEBSOCKET_MESSAGE AS M "
            "USING (ENGINE_RUN_ID) GROUP BY ENGINE_RUN_ID ORDER BY ENGINE_RUN_ID",
        ) == [("7", 1, 7, 3, 2), ("8", 1, 8, 3, 2)]
        assert sql(new, "SELECT DT_STARTED, DT_ENDED, HOW_ENDED FROM ENGINE_LOG_RUN ORDER BY 1") == [
            ("2025-08-29 16:00:00.000005", "2025-08-29 16:04:00.000005", "imported"),
            ("2025-08-29 18:00:00.000005", "2025-08-29 18:04:00.000005", "imported"),
        ]

    def test_more_of_them_later(
        self, bring: Callable[..., Outcome], old: Path, tmp_path: Path, new: Path
    ) -> None:
        """A file that is imported as it grows comes to the same as one that is imported at once."""
        growing = old_file(tmp_path / "growing.db", **session(NOON, 7))
        bring(growing)
        add(growing, session(NOON + timedelta(hours=2), 8))
        assert bring(growing).out.splitlines()[-1].endswith("7 rows read, 7 had been imported before")
        step_by_step = contents(new)
        for path in (new, *new.parent.glob("engine_log.db-[ws]?*")):
            if path.is_file():
                path.unlink()
        bring(old)
        at_once = contents(new)
        for table in TABLES:
            # Only in the order of their numbers do they differ.
            assert [row[:-1] for row in step_by_step[table]] == [row[:-1] for row in at_once[table]]

    def test_numbers_that_are_taken(
        self, bring: Callable[..., Outcome], old: Path, tmp_path: Path, new: Path, sql: Sql
    ) -> None:
        """Another file with the same times gets the next numbers."""
        bring(old)
        bring(old_file(tmp_path / "other.db", **session(NOON, 9)))
        runs = [run for (run,) in sql(new, "SELECT ENGINE_RUN_ID FROM ENGINE_LOG_RUN ORDER BY 1")]
        assert runs == [runs[0], runs[0] + 1, runs[0] + 2 * 3600 - 1]


class TestAgain:
    """However often, and from wherever."""

    def test_grown_file(
        self, report: Callable[..., dict[str, Any]], tmp_path: Path, new: Path, sql: Sql
    ) -> None:
        """What has come since is read, and fills in what was there."""
        old = old_file(
            tmp_path / "old.db", RECORDING_CONFIG="RECORDING_ID, TOTAL_BYTES_RECEIVED", STEPS="STEP_ID"
        )
        add(old, {"RECORDING_CONFIG": [{"RECORDING_ID": 7}], "STEPS": [{"STEP_ID": 1}, {"STEP_ID": 2}]})
        report(old)
        add(
            old,
            {"RECORDING_CONFIG": [{"RECORDING_ID": 7, "TOTAL_BYTES_RECEIVED": 5}], "STEPS": [{"STEP_ID": 3}]},
        )
        found = report(old)
        assert (found["rows_read"], found["rows_read_before"]) == (5, 3)
        assert figures_of(found) == {"RECORDING_CONFIG": (2, 1, 1, 0), "STEPS": (3, 3, 0, 0)}
        assert sql(new, "SELECT RECORDING_ID, TOTAL_BYTES_RECEIVED FROM ENGINE_DB_LOG_RECORDING_CONFIG") == [
            (7, 5)
        ]
        assert sql(new, "SELECT STEP_ID FROM ENGINE_DB_LOG_STEPS ORDER BY 1") == [(1,), (2,), (3,)]

    def test_conflict_between_two_imports(
        self, report: Callable[..., dict[str, Any]], tmp_path: Path
    ) -> None:
        """A conflict is found where one row came with one import, and the other with the next."""
        rows = [{"WEBSOCKET_CONNECTION_ID": 1, "DT_CONNECTION_CLOSED": time} for time in times(2)]
        old = old_file(tmp_path / "old.db", WEBSOCKET_CONNECTION=rows[:1])
        assert remarks_of(report(old)) == []
        add(old, {"WEBSOCKET_CONNECTION": rows[1:]})
        [remark] = remarks_of(report(old))
        assert "DT_CONNECTION_CLOSED: 1 value unlike that of an earlier row" in remark

    def test_file_that_was_moved(self, bring: Callable[..., Outcome], tmp_path: Path, new: Path) -> None:
        """A file is known by its rows, not by its name."""
        old = old_file(tmp_path / "old.db", **session(NOON, 7))
        bring(old)
        before = contents(new)
        old.rename(tmp_path / "renamed.db")
        assert "nothing new" in bring(tmp_path / "renamed.db").out
        assert contents(new) == before

    def test_file_that_got_columns(self, bring: Callable[..., Outcome], tmp_path: Path, sql: Sql) -> None:
        """Nor by its columns: a newer version of the engine adds some."""
        old = old_file(tmp_path / "old.db", **session(NOON, 7))
        bring(old)
        sql(old, "ALTER TABLE ENGINE_DB_LOG_FUNCTIONS ADD COLUMN FRAME_NO INTEGER")
        assert "nothing new" in bring(old).out

    def test_file_that_was_vacuumed(self, bring: Callable[..., Outcome], tmp_path: Path, sql: Sql) -> None:
        """Nor by the numbers that SQLite gave to the rows."""
        old = old_file(tmp_path / "old.db", STEPS="STEP_ID")
        sql(old, "INSERT INTO ENGINE_DB_LOG_STEPS (rowid, STEP_ID) VALUES (-5, 1), (17, 2), (99, 3)")
        bring(old)
        sql(old, "UPDATE ENGINE_DB_LOG_STEPS SET rowid = STEP_ID")
        assert "nothing new" in bring(old).out

    @pytest.mark.parametrize(
        "change",
        [
            "DELETE FROM ENGINE_DB_LOG_FUNCTIONS",
            "DELETE FROM ENGINE_DB_LOG_FUNCTIONS WHERE rowid = 1",
            "UPDATE ENGINE_DB_LOG_FUNCTIONS SET PYTHON_FUNCTION_NAME = 'g' WHERE rowid = 1",
            "DROP TABLE ENGINE_DB_LOG_FUNCTIONS",
        ],
    )
    def test_file_that_was_changed(
        self,
        bring: Callable[..., Outcome],
        enginelog: Enginelog,
        tmp_path: Path,
        new: Path,
        sql: Sql,
        change: str,
    ) -> None:
        """Where rows that were imported are gone or changed, nobody can tell what is new: that is said."""
        old = old_file(tmp_path / "old.db", **session(NOON, 7))
        bring(old)
        before = contents(new)
        sql(old, change)
        code, _, err = enginelog("import", old, new, "--timezone", ZONE)
        assert (code, "its rows of ENGINE_DB_LOG_FUNCTIONS aren't as they were" in err) == (2, True)
        assert contents(new) == before

    def test_another_file(self, bring: Callable[..., Outcome], tmp_path: Path, new: Path, sql: Sql) -> None:
        """Two files are two imports, also if both have the same empty rows, each known again."""
        empty: list[dict[str, Any]] = [{"process_id": None}] * 3
        files = [
            old_file(tmp_path / f"{name}.db", STEPS=[{"STEP_NAME": name}], PROCESS_REGISTRY=empty[:rows])
            for name, rows in (("a", 2), ("b", 2), ("c", 3))
        ]
        for _ in range(2):
            for file in files:
                bring(file)
        assert sql(new, "SELECT STEP_NAME FROM ENGINE_DB_LOG_STEPS ORDER BY 1") == [("a",), ("b",), ("c",)]
        assert sql(new, "SELECT OLD_FILE_NAME FROM ENGINE_LOG_IMPORT ORDER BY 1") == [
            ("a.db",),
            ("b.db",),
            ("c.db",),
        ]

    def test_other_time_zone(
        self, bring: Callable[..., Outcome], enginelog: Enginelog, tmp_path: Path, new: Path
    ) -> None:
        """A file has one time zone."""
        old = old_file(tmp_path / "old.db", **session(NOON, 7))
        bring(old)
        code, _, err = enginelog("import", old, new, "--timezone", "Europe/Berlin")
        assert (code, f"imported before with the time zone {ZONE}, and not Europe/Berlin" in err) == (2, True)

    def test_after_truncate(
        self, bring: Callable[..., Outcome], enginelog: Enginelog, tmp_path: Path, new: Path
    ) -> None:
        """Whoever empties the tables may import again, with another time zone, too."""
        old = old_file(tmp_path / "old.db", **session(NOON, 7))
        bring(old)
        assert "deleted 6 rows" in enginelog("init", "--truncate", "--yes", new).out
        assert bring(old, zone="Europe/Berlin").out.splitlines()[-1].endswith("7 rows read")

    def test_recording_that_an_engine_knows(
        self, report: Callable[..., dict[str, Any]], tmp_path: Path, new: Path, sql: Sql
    ) -> None:
        """What an engine has logged of the same recording stays; only what it didn't know is filled in."""

        async def engine() -> None:
            async with EngineLog(new) as log:
                await log.log_recording_config(recording_id=7, compose_play_or_practice="Play")

        asyncio.run(engine())
        row = {"RECORDING_ID": 7, "COMPOSE_PLAY_OR_PRACTICE": "Compose", "TOTAL_BYTES_RECEIVED": 5}
        other = {**row, "RECORDING_ID": 8}
        old = old_file(tmp_path / "old.db", RECORDING_CONFIG=[row, row, other])
        add(old, {"RECORDING_CONFIG": [{**other, "TOTAL_BYTES_RECEIVED": 6}]})
        found = report(old)
        assert figures_of(found) == {"RECORDING_CONFIG": (4, 1, 3, 0)}
        assert remarks_of(found) == [
            "RECORDING_CONFIG: 2 rows of things that another engine has logged here; only what it didn't "
            "know is filled in"
        ]
        query = "SELECT RECORDING_ID, COMPOSE_PLAY_OR_PRACTICE, TOTAL_BYTES_RECEIVED "
        assert sql(new, f"{query} FROM ENGINE_DB_LOG_RECORDING_CONFIG ORDER BY 1") == [
            (7, "Play", 5),
            (8, "Compose", 6),
        ]


class TestBrokenOff:
    """Whatever happens to it in the middle."""

    @pytest.fixture
    def large(self, tmp_path: Path) -> Path:
        """A file that takes a while."""
        old = old_file(
            tmp_path / "large.db", **session(NOON, 7), STEPS="STEP_ID, DT_STEP_CALLED, RECORDING_ID"
        )
        with closing(sqlite3.connect(old)) as connection:
            connection.execute(
                "WITH N (I) AS (SELECT 1 UNION ALL SELECT I + 1 FROM N WHERE I < 30000) "
                "INSERT INTO ENGINE_DB_LOG_STEPS "
                "SELECT I, datetime(1756468800 + I, 'unixepoch') || '.25', 7 FROM N"
            )
            connection.commit()
        return old

    def rows_in(self, path: Path) -> int:
        """Return how many steps are committed."""
        if not path.exists():
            return 0
        try:
            with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=10)) as connection:
                return int(connection.execute("SELECT count(*) FROM ENGINE_DB_LOG_STEPS").fetchone()[0])
        except sqlite3.OperationalError:  # it has no table yet
            return 0

    def test_killed(
        self, start: Start, bring: Callable[..., Outcome], enginelog: Enginelog, large: Path, new: Path
    ) -> None:
        """An import that is killed goes on where it was, and comes to the same as one that wasn't."""
        whole = new.with_name("whole.db")
        assert enginelog("import", large, whole, "--timezone", ZONE).code == 0
        for part in (1, 6_000, 12_000):
            process = start("import", large, new, "--timezone", ZONE)
            while process.poll() is None and self.rows_in(new) < part:
                pass
            process.kill()
            process.communicate()
            assert enginelog("verify", new).code == 0
            assert 0 < self.rows_in(new) < 30_000
            assert "importing" in enginelog("runs", new).out
        assert "had been imported before" in bring(large).out
        assert contents(new) == contents(whole)

    def test_interrupted(
        self,
        start: Start,
        interrupt: Callable[[subprocess.Popen[bytes]], None],
        bring: Callable[..., Outcome],
        large: Path,
        new: Path,
    ) -> None:
        """Ctrl+C ends it without a word; it may be called again."""
        process = start("import", large, new, "--timezone", ZONE)
        while process.poll() is None and not self.rows_in(new):
            pass
        interrupt(process)
        out, err = process.communicate(timeout=30)
        assert (process.returncode, out, err) == (130, b"", b"")
        bring(large)
        assert self.rows_in(new) == 30_000

    async def test_shows_how_far_it_is(self, large: Path, new: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """It tells how many rows are read, of how many: in the end all of them, the second time, too."""
        monkeypatch.setattr(importing, "CHUNK_ROWS", 10_000)
        for _ in range(2):
            told = await self.progress_of(large, new)
            assert told == sorted(told)
            assert len(told) >= 6
            done, total = told[-1]
            assert done == total == 30_007

    async def progress_of(self, path: Path, new: Path) -> list[tuple[float, float]]:
        """Import a file, and return what was told meanwhile."""
        told: list[tuple[float, float]] = []
        old = await OldFile.open(path)
        database = await ImportDatabase.open(new, create=True)
        tables = (await old.tables()).known
        await Importer(old, tables, database, Zone("UTC", None), lambda *far: told.append(far)).run()
        await database.close()
        await old.close()
        return told


class TestErrors:
    """What can't be, and what to do about it."""

    def fails(self, enginelog: Enginelog, *arguments: object) -> str:
        """Return what an import complains of."""
        code, out, err = enginelog("import", *arguments)
        assert (code, out) == (2, "")
        assert "Traceback" not in err
        return err

    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("nowhere.db", "doesn't exist; pass the path of the old engine's file"),
            ("", "is a folder"),
            ("notes.txt", "isn't a SQLite database"),
            ("foreign.db", "has no table of an engine's log (it has customers)"),
            ("empty.db", "has no table of an engine's log (it has none at all)"),
            ("newer.db", "is a database of async-enginelog"),
        ],
    )
    def test_old_file(
        self,
        enginelog: Enginelog,
        unusable: dict[str, Path],
        tmp_path: Path,
        new: Path,
        name: str,
        message: str,
    ) -> None:
        """What isn't an old engine's file is told, and no database is made."""
        (tmp_path / "empty.db").touch()
        assert message in self.fails(enginelog, tmp_path / name, new)
        assert not new.exists()
        assert list(new.parent.iterdir()) == []

    @pytest.mark.parametrize("how", ["itself", "link", "hard link"])
    def test_same_file(self, enginelog: Enginelog, tmp_path: Path, how: str) -> None:
        """A file can't be imported into itself, by whatever name."""
        old = old_file(tmp_path / "old.db", STEPS=[{"STEP_NAME": "a"}])
        other = tmp_path / "other.db"
        if how == "link":
            other.symlink_to(old)
        elif how == "hard link":
            other.hardlink_to(old)
        else:
            other = old
        before = old.read_bytes()
        assert "is the database itself" in self.fails(enginelog, old, other)
        assert "is the database itself" in self.fails(enginelog, other, old)
        assert old.read_bytes() == before

    def test_database(self, enginelog: Enginelog, unusable: dict[str, Path], tmp_path: Path) -> None:
        """A database that can't be used is told, and stays as it is."""
        old = old_file(tmp_path / "old.db", STEPS=[{"STEP_NAME": "a"}])
        for text, path in unusable.items():
            if text != "doesn't exist":
                assert text in self.fails(enginelog, old, path)

    @pytest.mark.parametrize(
        ("zone", "hint"),
        [
            ("america/newyork", "did you mean America/New_York"),
            ("Nowhere/At_All", "pass one such as America/New_York"),
            ("", "there is no time zone"),
            ("../etc/passwd", "there is no time zone"),
            ("America", "there is no time zone America"),
        ],
    )
    def test_time_zone(self, enginelog: Enginelog, tmp_path: Path, new: Path, zone: str, hint: str) -> None:
        """A time zone that doesn't exist is told, with one that does."""
        old = old_file(tmp_path / "old.db", STEPS=[{"STEP_NAME": "a"}])
        assert hint in self.fails(enginelog, old, new, "--timezone", zone)
        assert not new.exists()

    def test_no_time_zones(
        self, enginelog: Enginelog, tmp_path: Path, new: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """On a machine without a list of time zones, as Windows is, the remedy is told."""
        monkeypatch.setattr(import_old, "available_timezones", set[str])
        assert "pip install tzdata" in self.fails(enginelog, tmp_path, new, "--timezone", "Nowhere")

    def test_time_zone_of_this_machine(
        self, enginelog: Enginelog, tmp_path: Path, new: Path, sql: Sql
    ) -> None:
        """Without a time zone, times are those of this machine."""
        shown = "2025-08-29 12:00:00.000001"
        old = old_file(tmp_path / "old.db", STEPS=[{"DT_STEP_CALLED": shown}])
        assert "local times are those of this machine (" in enginelog("import", old, new).out
        [(stored,)] = sql(new, "SELECT DT_STEP_CALLED FROM ENGINE_DB_LOG_STEPS")
        assert datetime.fromisoformat(f"{stored}+00:00") == datetime.fromisoformat(shown).astimezone()

    def test_two_at_once(self, enginelog: Enginelog, tmp_path: Path, new: Path) -> None:
        """Two imports at once would make each row twice: the second is told to wait."""
        old = old_file(tmp_path / "old.db", STEPS=[{"STEP_NAME": "a"}])
        folder = spool_folder(new)
        folder.mkdir()
        with FileLock(folder / "import.lock"):
            assert "another import into it is under way" in self.fails(enginelog, old, new)
        assert enginelog("import", old, new).code == 0

    def test_database_that_is_locked(
        self, enginelog: Enginelog, tmp_path: Path, log_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A database that somebody else holds for too long is told, and the import may be tried again."""
        monkeypatch.setattr(import_old, "PATIENCE", 0.01)
        old = old_file(tmp_path / "old.db", STEPS=[{"STEP_NAME": "a"}])
        with closing(sqlite3.connect(log_path, isolation_level=None)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            assert "locked" in self.fails(enginelog, old, log_path)
        assert enginelog("import", old, log_path).code == 0
        assert enginelog("verify", log_path).code == 0

    @pytest.mark.skipif(os.name == "nt" or os.geteuid() != 0, reason="only root can become another account")
    def test_old_file_that_is_not_his(self, enginelog: Enginelog) -> None:
        """A file that this account may not read is told in our words."""
        enginelog("import")  # has Python import what it needs, which may be root's own
        with tempfile.TemporaryDirectory() as folder:
            old = old_file(Path(folder) / "old.db", STEPS="STEP_ID")
            Path(folder).chmod(0o755)
            old.chmod(0o600)
            os.setresuid(65534, 65534, 0)
            try:
                said = self.fails(enginelog, old, Path(folder) / "new.db")
            finally:
                os.setresuid(0, 0, 0)
        assert f"{old} isn't readable for this user" in said

    @pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no FIFOs")
    def test_old_file_that_is_none(self, enginelog: Enginelog, tmp_path: Path, new: Path) -> None:
        """A FIFO isn't opened: that would wait for ever."""
        os.mkfifo(tmp_path / "fifo")
        assert "isn't a file; pass another path" in self.fails(enginelog, tmp_path / "fifo", new)

    def test_usage(self, enginelog: Enginelog) -> None:
        """Without a file, how it is used is told."""
        code, _, err = enginelog("import")
        assert (code, "Missing argument 'OLD'" in err) == (2, True)
