"""What users of EngineLog are promised."""

from __future__ import annotations

import asyncio
import os
import re
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

import async_enginelog
from async_enginelog import (
    EngineLog,
    LogClosed,
    NotAnEngineLog,
    PathError,
    SchemaTooNew,
    current_log,
    default_path,
)
from async_enginelog.tables import TABLES

from .conftest import Query

RECORDING = 202508290514312002

Call = Callable[[Any], Awaitable[None]]

# One call of each log function, with its table.
CALLS: dict[str, tuple[str, dict[str, Any]]] = {
    "log_function_execution": ("ENGINE_DB_LOG_FUNCTIONS", {"python_function_name": "f"}),
    "log_function_error": ("ENGINE_DB_LOG_FUNCTION_ERROR", {"error_message_text": "boom"}),
    "log_audio_frame_metadata": (
        "ENGINE_DB_LOG_SPLIT_100_MS_AUDIO_FRAME",
        {"recording_id": RECORDING, "audio_frame_no": 1, "yn_run_fft": True},
    ),
    "log_pre_split_audio_frame": (
        "ENGINE_DB_LOG_PRE_SPLIT_AUDIO_FRAME",
        {"recording_id": RECORDING, "audio_frame_no": 1},
    ),
    "log_recording_config": ("ENGINE_DB_LOG_RECORDING_CONFIG", {"recording_id": RECORDING}),
    "log_websocket_connection": (
        "ENGINE_DB_LOG_WEBSOCKET_CONNECTION",
        {"websocket_connection_id": 1, "client_port": 50000, "client_headers": {"host": "x"}},
    ),
    "log_websocket_message": ("ENGINE_DB_LOG_WEBSOCKET_MESSAGE", {"message_id": 1, "message_type": "START"}),
    "log_process_registry": ("ENGINE_DB_LOG_PROCESS_REGISTRY", {"process_id": 1, "memory_usage_mb": 1.5}),
    "log_steps": ("ENGINE_DB_LOG_STEPS", {"step_name": "resample"}),
    "log_resource_usage": ("ENGINE_DB_LOG_RESOURCE_MONITOR", {"cpu_percent": 12.5, "thread_count": 52}),
}


class TestLogFunctions:
    def test_there_is_one_for_each_table(self) -> None:
        """Each table has its function."""
        assert {table for table, _ in CALLS.values()} == set(TABLES)

    @pytest.mark.parametrize("name", CALLS)
    async def test_method_writes_its_table(self, path: Path, query: Query, name: str) -> None:
        """A method of the log makes a row in its table, with what was given, run and sequence."""
        table, columns = CALLS[name]
        async with EngineLog(path) as log:
            await getattr(log, name)(**columns)
            run = log.run_id

        [(stored_run, sequence)] = query(f"SELECT ENGINE_RUN_ID, LOG_SEQ FROM {table}")
        assert (stored_run, sequence) == (run, 1)
        given = query(f"SELECT {', '.join(columns)} FROM {table}")[0]
        assert None not in given

    @pytest.mark.parametrize("name", CALLS)
    async def test_function_uses_the_running_loops_log(self, path: Path, query: Query, name: str) -> None:
        """A function of the package does the same, without being handed the log."""
        table, columns = CALLS[name]
        async with EngineLog(path):
            await getattr(async_enginelog, name)(**columns)

        assert query(f"SELECT count(*) FROM {table}") == [(1,)]

    async def test_log_row_takes_the_old_dictionaries(self, path: Path, query: Query) -> None:
        """Table and column names are taken in any case, and numbers as text."""
        async with EngineLog(path) as log:
            await log.log_row("engine_db_log_steps", {"STEP_NAME": "a", "Recording_Id": str(RECORDING)})
            await async_enginelog.log_row("ENGINE_DB_LOG_STEPS", {"step_name": "b"})

        rows = query(
            "SELECT STEP_NAME, RECORDING_ID, typeof(RECORDING_ID) FROM ENGINE_DB_LOG_STEPS ORDER BY 1"
        )
        assert rows == [("a", RECORDING, "integer"), ("b", None, "null")]

    async def test_log_row_does_not_change_the_dictionary(self, path: Path) -> None:
        """The caller's dictionary stays as it is."""
        columns = {"step_name": "a"}
        async with EngineLog(path) as log:
            await log.log_row("ENGINE_DB_LOG_STEPS", columns)
            log.log_row_nowait("ENGINE_DB_LOG_STEPS", columns)

        assert columns == {"step_name": "a"}

    async def test_later_call_fills_columns_in(self, path: Path, query: Query) -> None:
        """One row for one thing: columns that aren't passed, or None, stay as they were."""
        async with EngineLog(path) as log:
            await log.log_recording_config(recording_id=RECORDING, audio_stream_file_name="a.wav")
            await log.flush()
            await log.log_recording_config(recording_id=RECORDING, total_bytes_received=17)
            await log.flush()
            await log.log_recording_config(
                recording_id=RECORDING, total_bytes_received=18, audio_stream_file_name=None
            )

        rows = query(
            "SELECT AUDIO_STREAM_FILE_NAME, TOTAL_BYTES_RECEIVED, LOG_SEQ FROM ENGINE_DB_LOG_RECORDING_CONFIG"
        )
        assert rows == [("a.wav", 18, 3)]

    async def test_order_is_kept(self, path: Path, query: Query) -> None:
        """LOG_SEQ is the order of the calls, whatever their columns."""
        async with EngineLog(path) as log:
            for number in range(50):
                if number % 3:
                    await log.log_steps(step_id=number)
                else:
                    await log.log_steps(step_id=number, step_name="third")

        rows = query("SELECT STEP_ID FROM ENGINE_DB_LOG_STEPS ORDER BY LOG_SEQ")
        assert [number for (number,) in rows] == list(range(50))

    async def test_time_of_the_call_and_of_the_commit(self, path: Path, query: Query) -> None:
        """DT_ADDED - DT_FUNCTION_MESSAGE_QUEUED is the log's own delay."""
        before = datetime.now(UTC)
        async with EngineLog(path) as log:
            await log.log_function_execution(python_function_name="f")
        after = datetime.now(UTC)

        [(queued, added)] = query("SELECT DT_FUNCTION_MESSAGE_QUEUED, DT_ADDED FROM ENGINE_DB_LOG_FUNCTIONS")
        assert f"{before:%Y-%m-%d %H:%M:%S.%f}" <= queued < added <= f"{after:%Y-%m-%d %H:%M:%S.%f}"

    async def test_times_are_stored_in_utc(self, path: Path, query: Query) -> None:
        """Aware times are shifted to UTC and always have 26 characters."""
        moment = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone(timedelta(hours=2)))
        async with EngineLog(path) as log:
            await log.log_steps(dt_step_called=moment)

        assert query("SELECT DT_STEP_CALLED FROM ENGINE_DB_LOG_STEPS") == [("2026-01-02 01:04:05.000000",)]

    async def test_timezone_local_stores_wall_clock_time(self, path: Path, query: Query) -> None:
        """With timezone="local", a naive time is stored as it was given."""
        async with EngineLog(path, timezone="local") as log:
            await log.log_steps(dt_step_called=datetime(2026, 1, 2, 3, 4, 5, 6))

        assert query("SELECT DT_STEP_CALLED FROM ENGINE_DB_LOG_STEPS") == [("2026-01-02 03:04:05.000006",)]

    async def test_credentials_in_headers_are_masked(self, path: Path, query: Query) -> None:
        """Request headers passed as a mapping are stored without their credentials."""
        async with EngineLog(path) as log:
            await log.log_websocket_connection(client_headers={"Host": "x", "Authorization": "Bearer secret"})

        assert query("SELECT CLIENT_HEADERS FROM ENGINE_DB_LOG_WEBSOCKET_CONNECTION") == [
            ('{"Host":"x","Authorization":"***"}',)
        ]

    async def test_threads_log_beside_the_loop(self, path: Path, query: Query) -> None:
        """log_row_nowait() takes rows from any thread; each arrives once."""

        def work(thread: int) -> None:
            for number in range(500):
                log.log_row_nowait("ENGINE_DB_LOG_STEPS", {"step_id": thread * 1000 + number})

        async with EngineLog(path) as log:
            threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
            for thread in threads:
                thread.start()
            for number in range(500):
                await log.log_steps(step_id=8000 + number)
            while any(thread.is_alive() for thread in threads):
                await asyncio.sleep(0.01)
            await log.flush()
            assert log.statistics().accepted == log.statistics().committed == 4500

        assert query("SELECT count(*), count(DISTINCT STEP_ID) FROM ENGINE_DB_LOG_STEPS") == [(4500, 4500)]

    async def test_row_of_a_thread_is_committed_without_being_asked(self, path: Path) -> None:
        """A thread's row wakes an idle writer."""
        async with EngineLog(path) as log:
            await asyncio.to_thread(log.log_row_nowait, "ENGINE_DB_LOG_STEPS", {"step_id": 1})
            async with asyncio.timeout(5):
                while not log.statistics().committed:
                    await asyncio.sleep(0.01)


class TestWrongUse:
    @pytest.mark.parametrize(
        ("call", "error", "message"),
        [
            (
                lambda log: log.log_steps(stepname="x"),
                TypeError,
                "ENGINE_DB_LOG_STEPS has no column 'stepname'",
            ),
            (lambda log: log.log_steps(step_id="x"), ValueError, "STEP_ID: 'x' isn't a whole number"),
            (
                lambda log: log.log_steps(step_id=[1]),
                TypeError,
                "STEP_ID: .* of type list isn't a whole number",
            ),
            (lambda log: log.log_steps(step_name=b"x"), TypeError, "STEP_NAME: .* of type bytes isn't text"),
            (lambda log: log.log_steps(dt_step_called=1.5), TypeError, "DT_STEP_CALLED: .*pass a datetime"),
            (lambda log: log.log_steps(), ValueError, "no value was given"),
            (lambda log: log.log_steps(step_name=None), ValueError, "no value was given"),
            (lambda log: log.log_steps(log_seq=1), TypeError, "has no column 'log_seq'"),
            (
                lambda log: log.log_row("STEPS", {"a": 1}),
                ValueError,
                "there is no table 'STEPS'; the tables are",
            ),
            (lambda log: log.log_row("ENGINE_DB_LOG_STEPS", {"a": 1}), TypeError, "has no column 'a'"),
        ],
    )
    async def test_wrong_arguments_raise_at_the_call(
        self, path: Path, query: Query, call: Call, error: type[Exception], message: str
    ) -> None:
        """The message names the column and says what to pass; no row is made, and the log goes on."""
        async with EngineLog(path) as log:
            with pytest.raises(error, match=message):
                await call(log)
            await log.log_steps(step_id=1)

        assert query("SELECT STEP_ID FROM ENGINE_DB_LOG_STEPS") == [(1,)]

    async def test_log_that_is_not_open(self, path: Path) -> None:
        """Each call on a log that wasn't opened says how to open one."""
        log = EngineLog(path)
        for call in (log.log_steps(step_id=1), log.flush()):
            with pytest.raises(LogClosed, match="isn't open; use `async with"):
                await call
        for method in (log.next_message_id, log.next_connection_id, log.statistics):
            with pytest.raises(LogClosed):
                method()
        with pytest.raises(LogClosed):
            _ = log.run_id
        with pytest.raises(LogClosed):
            log.log_row_nowait("ENGINE_DB_LOG_STEPS", {"step_id": 1})
        await log.aclose()
        assert not path.exists()

    async def test_log_that_is_closed(self, path: Path) -> None:
        """Each call on a log that was closed says so; closing again does nothing."""
        async with EngineLog(path) as log:
            pass
        with pytest.raises(LogClosed, match="is closed"):
            await log.log_steps(step_id=1)
        with pytest.raises(LogClosed, match="is closed"):
            log.log_row_nowait("ENGINE_DB_LOG_STEPS", {"step_id": 1})
        with pytest.raises(LogClosed, match="is closed"):
            await log.flush()
        await log.aclose()
        with pytest.raises(LogClosed, match="opens only once"):
            await log.open()
        assert "closed" in repr(log)

    async def test_no_log_on_this_loop(self) -> None:
        """Functions of the package say how to open a log."""
        with pytest.raises(LogClosed, match="no EngineLog is open on this event loop; use `async with"):
            await async_enginelog.log_steps(step_id=1)

    async def test_log_opened_last_is_the_current_one(self, tmp_path: Path) -> None:
        """Of several logs on a loop, functions of the package use the one opened last."""
        async with EngineLog(tmp_path / "a.db") as outer:
            async with EngineLog(tmp_path / "b.db") as inner:
                assert current_log() is inner
            assert current_log() is outer

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"synchronous": "OFF"}, "'OFF'; pass 'NORMAL' or 'FULL'"),
            ({"timezone": "CET"}, "'CET'; pass 'utc' or 'local'"),
            ({"timeout": 0}, "positive number of seconds"),
            ({"timeout": float("inf")}, "positive number of seconds"),
            ({"timeout": "5"}, "positive number of seconds"),
            ({"spool_limit": 1000}, "1,000 bytes; pass at least"),
        ],
    )
    def test_wrong_settings(self, settings: dict[str, object], message: str) -> None:
        """A setting that can't be is refused with what can be passed."""
        with pytest.raises(ValueError, match=message):
            EngineLog("x.db", **settings)  # type: ignore[arg-type]


class TestOpening:
    async def test_creates_file_and_folder(self, tmp_path: Path) -> None:
        """Opening makes the database, with the folders that lead to it."""
        path = tmp_path / "a" / "b" / "Ünï'code 100%.db"
        async with EngineLog(path):
            assert path.exists()

    def test_path_is_a_setting(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The path comes from ENGINELOG_DB, else it is engine_log.db in the working directory."""
        monkeypatch.delenv("ENGINELOG_DB", raising=False)
        assert default_path() == Path("engine_log.db")
        monkeypatch.setenv("ENGINELOG_DB", os.path.join("x", "y.db"))
        assert default_path() == Path("x", "y.db")
        assert EngineLog().path == Path("x", "y.db").absolute()

    async def test_relative_path_survives_a_change_of_directory(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A relative path is meant from where the log was made."""
        monkeypatch.chdir(tmp_path)
        log = EngineLog("here.db")
        (tmp_path / "elsewhere").mkdir()
        monkeypatch.chdir(tmp_path / "elsewhere")
        async with log:
            await log.log_steps(step_id=1)
        assert (tmp_path / "here.db").exists()

    async def test_bad_paths(self, tmp_path: Path) -> None:
        """Each path that can't be used has its message, and nothing is left behind."""
        (tmp_path / "text.db").write_text("This is not a database, but a text.")
        (tmp_path / "folder").mkdir()
        cases: list[tuple[Path, bool, type[Exception], str]] = [
            (tmp_path / "folder", True, PathError, "is a folder; pass the path of a file in it"),
            (
                tmp_path / "none.db",
                False,
                PathError,
                "doesn't exist; mend the path, or create it: enginelog init",
            ),
            (tmp_path / "none" / "x.db", False, PathError, "the folder .* doesn't exist"),
            (tmp_path / "text.db" / "x.db", True, PathError, "can't be created: "),
            (
                tmp_path / "text.db",
                True,
                NotAnEngineLog,
                "isn't a SQLite database; pass another path",
            ),
        ]
        for path, create, error, message in cases:
            with pytest.raises(error, match=message):
                await EngineLog(path, create=create).open()
        assert sorted(file.name for file in tmp_path.iterdir()) == ["folder", "text.db"]

    async def test_what_is_no_file(self, tmp_path: Path) -> None:
        """A pipe, a link to nowhere, a NUL: each is refused, without waiting for anything."""
        pipe, link = tmp_path / "pipe", tmp_path / "link"
        if not hasattr(os, "mkfifo"):
            pytest.skip("there are no named pipes here")
        os.mkfifo(pipe)
        link.symlink_to(link)
        with pytest.raises(PathError, match="isn't a file"):
            await EngineLog(pipe).open()
        with pytest.raises(PathError):
            await EngineLog(link).open()
        with pytest.raises(PathError, match="can't be a path"):
            EngineLog("a\0b")

    async def test_link_is_the_same_log(self, tmp_path: Path) -> None:
        """A link to the database leads to the same spool: live runs stay alive, dead ones are recovered."""
        link = tmp_path / "link.db"
        async with EngineLog(tmp_path / "e.db") as log:
            link.symlink_to(tmp_path / "e.db")
            async with EngineLog(link) as other:
                assert other.path == log.path
                assert other.run_id != log.run_id
            await log.log_steps(step_id=1)
        assert not (tmp_path / "link.db-spool").exists()

    async def test_foreign_database(self, path: Path) -> None:
        """A SQLite file of somebody else isn't touched."""
        connection = sqlite3.connect(path)
        connection.execute("CREATE TABLE ENGINE_DB_LOG_STEPS (STEP_NAME TEXT)")
        connection.close()
        before = path.read_bytes()
        with pytest.raises(
            NotAnEngineLog, match="not one of async-enginelog .it has the table ENGINE_DB_LOG_STEPS"
        ):
            await EngineLog(path).open()
        assert path.read_bytes() == before

    async def test_schema_newer_than_the_code(self, path: Path) -> None:
        """A file of a newer version is refused with a sentence that says so."""
        async with EngineLog(path):
            pass
        connection = sqlite3.connect(path)
        connection.execute("CREATE TABLE ENGINE_LOG_LATER (A BIGINT)")
        connection.execute("PRAGMA user_version = 99")
        connection.close()
        with pytest.raises(SchemaTooNew, match=r"has schema version 99, this version .* knows \d+; upgrade"):
            await EngineLog(path).open()

    async def test_spool_that_is_a_file(self, path: Path) -> None:
        """A spool that can't be made is an error of the path, and the connection is closed."""
        path.with_name(f"{path.name}-spool").write_text("in the way")
        with pytest.raises(PathError, match="the spool can't be created"):
            await EngineLog(path).open()

    async def test_empty_file_becomes_a_log(self, path: Path, query: Query) -> None:
        """A file of no bytes, as tempfile makes it, is filled."""
        path.touch()
        async with EngineLog(path) as log:
            await log.log_steps(step_id=1)
        assert query("SELECT count(*) FROM ENGINE_DB_LOG_STEPS") == [(1,)]

    async def test_run_is_recorded(self, path: Path, query: Query) -> None:
        """A run is in ENGINE_LOG_RUN from its opening on, and says how it ended."""
        async with EngineLog(path) as log:
            [(pid, how)] = query("SELECT PROCESS_ID, HOW_ENDED FROM ENGINE_LOG_RUN")
            assert (pid, how) == (os.getpid(), None)
            await log.log_steps(step_id=1)
        rows = query(
            "SELECT HOW_ENDED, ROWS_ACCEPTED, ROWS_COMMITTED, ROWS_STORED, LAST_LOG_SEQ, "
            "DT_ENDED >= DT_STARTED FROM ENGINE_LOG_RUN"
        )
        assert rows == [("closed", 1, 1, 1, 1, 1)]

    async def test_closing_leaves_no_segments(self, path: Path) -> None:
        """A log that was drained leaves nothing of its spool but the memory of run numbers."""
        async with EngineLog(path) as log:
            await log.log_steps(step_id=1)
        left = {file.name for file in path.with_name(f"{path.name}-spool").iterdir()}
        assert left <= {"last-run", "last-run.lock"}


class TestLocks:
    async def test_second_connection_does_not_drop_the_locks_of_the_first(
        self, path: Path, query: Query
    ) -> None:
        """Opening a log beside another in one process leaves SQLite's locks alone: nothing is lost."""
        async with EngineLog(path) as first:
            await first.log_steps(step_id=1)
            await first.flush()
            async with EngineLog(path):
                pass
            # A process that believed to be the last user would remove the WAL under the first log.
            read = "connect(sys.argv[1]).execute('SELECT count(*) FROM ENGINE_LOG_RUN').fetchall()"
            script = f"import sys; from sqlite3 import connect; {read}"
            await asyncio.to_thread(subprocess.run, [sys.executable, "-c", script, str(path)], check=True)
            assert path.with_name(f"{path.name}-wal").exists()
            await first.log_steps(step_id=2)
            await first.flush()
        assert query("SELECT STEP_ID FROM ENGINE_DB_LOG_STEPS ORDER BY 1") == [(1,), (2,)]
        assert query("PRAGMA integrity_check") == [("ok",)]

    async def test_flush_from_another_running_loop(self, path: Path) -> None:
        """A log belongs to its loop: another one, running beside it, is told how to reach it."""
        async with EngineLog(path) as log:
            await log.log_steps(step_id=1)
            with pytest.raises(LogClosed, match="run_coroutine_threadsafe"):
                await asyncio.to_thread(asyncio.run, log.flush())
            await log.flush()


class TestIds:
    async def test_ids_are_unique_across_runs(self, path: Path) -> None:
        """No two calls give the same id, in one run or in several, at once or one after the other."""
        async with EngineLog(path) as first, EngineLog(path) as second:
            ids = [log.next_message_id() for log in (first, second) for _ in range(100)]
        async with EngineLog(path) as third:
            ids += [third.next_message_id() for _ in range(100)]
            connections = [third.next_connection_id() for _ in range(100)]

        assert len(set(ids)) == 300
        assert len(set(connections)) == 100
        assert all(0 < number < 2**63 for number in ids + connections)


class TestStatistics:
    async def test_every_row_is_accounted_for(self, path: Path) -> None:
        """accepted == committed + pending + on_console + unreadable, before and after a flush."""
        async with EngineLog(path) as log:
            for number in range(10):
                await log.log_steps(step_id=number)
            before = log.statistics()
            await log.flush()
            after = log.statistics()

        assert (before.accepted, before.committed, before.pending) == (10, 0, 10)
        assert (after.accepted, after.committed, after.pending, after.flushes) == (10, 10, 0, 1)
        assert after.database_bytes > 0
        assert after.wal_bytes > 0
        assert after.spool_bytes > 0
        assert after.last_fault is None
        assert log.statistics().committed == 10

    async def test_flush_of_nothing_returns(self, path: Path) -> None:
        """flush() of an empty log returns at once."""
        async with EngineLog(path) as log:
            await log.flush()

    async def test_synchronous_is_a_setting(self, path: Path, query: Query) -> None:
        """synchronous="FULL" works like any other log."""
        async with EngineLog(path, synchronous="FULL") as log:
            await log.log_steps(step_id=1)
        assert query("SELECT count(*) FROM ENGINE_DB_LOG_STEPS") == [(1,)]


def test_readme_names_what_exists() -> None:
    """The version is one that Python understands."""
    assert re.fullmatch(r"\d+\.\d+\.\d+", async_enginelog.__version__)
