"""What dead runs left is committed by the next one: each row once, under its own run."""

from __future__ import annotations

import asyncio
import os
import platform
import sqlite3
import subprocess
import sys
import textwrap
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import orjson
import pytest

from async_enginelog import EngineLog
from async_enginelog.segments import Header, lock_path, segment_path, spool_folder

from .conftest import Query

ROOT = Path(__file__).parent.parent
MOMENT = "2026-01-02T03:04:05.000006+00:00"


def leave_spool(path: Path, run: int, *lines: bytes, number: int = 1, header: bytes | None = None) -> Path:
    """Leave what a dead run leaves: a segment, preallocated, and an unlocked lock file."""
    folder = spool_folder(path)
    folder.mkdir(exist_ok=True)
    lock_path(folder, run).touch()
    segment = segment_path(folder, run, number)
    if header is None:
        header = Header(run, "host", 17, "0.0.1", "2026-01-02T03:04:05.000006+00:00").line()
    segment.write_bytes(header + b"".join(lines) + bytes(4096))
    return segment


def line(table: str, **columns: object) -> bytes:
    """Return the line of a row."""
    return orjson.dumps([f"ENGINE_DB_LOG_{table}", columns]) + b"\n"


def connection(number: int, **columns: object) -> bytes:
    """Return the line of a connection that was accepted."""
    return line(
        "WEBSOCKET_CONNECTION", websocket_connection_id=number, dt_connection_accepted=MOMENT, **columns
    )


def recording(number: int, **columns: object) -> bytes:
    """Return the line of a recording that was started."""
    return line("RECORDING_CONFIG", recording_id=number, dt_recording_start=MOMENT, **columns)


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return what was said of runs that died."""
    assert {record.levelname for record in caplog.records} <= {"WARNING"}
    return [record.getMessage() for record in caplog.records if " died" in record.getMessage()]


def step(number: int) -> bytes:
    """Return the line of a step."""
    return orjson.dumps(["ENGINE_DB_LOG_STEPS", {"step_id": number}]) + b"\n"


async def open_and_close(path: Path) -> None:
    """Do what the next start does."""
    async with EngineLog(path):
        pass


class TestRecovery:
    async def test_rows_are_there_when_opening_returns(self, path: Path, query: Query) -> None:
        """Opening commits what dead runs left, under their run, with what their header says."""
        leave_spool(path, 5, step(1), step(2))
        async with EngineLog(path):
            assert query("SELECT STEP_ID, ENGINE_RUN_ID FROM ENGINE_DB_LOG_STEPS") == [(1, 5), (2, 5)]

        rows = query(
            "SELECT HOST_NAME, PROCESS_ID, LIBRARY_VERSION, DT_STARTED, HOW_ENDED, "
            "ROWS_ACCEPTED, ROWS_COMMITTED, ROWS_STORED FROM ENGINE_LOG_RUN WHERE ENGINE_RUN_ID = 5"
        )
        assert rows == [("host", 17, "0.0.1", "2026-01-02 03:04:05.000006", "crashed", 2, 2, 2)]

    async def test_several_dead_runs(self, path: Path, query: Query) -> None:
        """Each of several dead runs is recovered, the oldest first."""
        for run in (7, 5, 6):
            leave_spool(path, run, step(run))
        await open_and_close(path)

        rows = query("SELECT STEP_ID, ENGINE_RUN_ID FROM ENGINE_DB_LOG_STEPS ORDER BY LOG_SEQ")
        assert rows == [(5, 5), (6, 6), (7, 7)]

    async def test_several_segments(self, path: Path, query: Query) -> None:
        """Segments are read in order; those that are committed are gone."""
        leave_spool(path, 5, *map(step, range(3000, 4000)), number=12)
        leave_spool(path, 5, *map(step, range(3000)), number=11)
        await open_and_close(path)

        steps = [number for (number,) in query("SELECT STEP_ID FROM ENGINE_DB_LOG_STEPS ORDER BY LOG_SEQ")]
        assert steps == list(range(4000))
        assert {file.name for file in spool_folder(path).iterdir()} <= {"last-run", "last-run.lock"}

    async def test_only_what_is_not_committed(self, path: Path, query: Query) -> None:
        """A spool that comes back (a copy, a restored folder) doubles no row."""
        segment = leave_spool(path, 5, step(1), step(2))
        before = segment.read_bytes()
        await open_and_close(path)
        segment.write_bytes(before.rstrip(b"\0") + step(3))
        await open_and_close(path)

        assert query("SELECT STEP_ID FROM ENGINE_DB_LOG_STEPS ORDER BY 1") == [(1,), (2,), (3,)]

    @pytest.mark.parametrize("cut", range(1, 55, 6))
    async def test_torn_last_line(self, path: Path, query: Query, cut: int) -> None:
        """A torn last line is left out, wherever it was torn: its call hadn't returned."""
        leave_spool(path, 5, step(1), step(2)[:cut].rstrip(b"\n"))
        await open_and_close(path)

        assert query("SELECT STEP_ID FROM ENGINE_DB_LOG_STEPS") == [(1,)]

    async def test_older_and_newer_versions(self, path: Path, query: Query) -> None:
        """Lines of another version are read as far as they are known, the rest is set aside."""
        leave_spool(
            path,
            5,
            b'["ENGINE_DB_LOG_STEPS",{"STEP_ID":"1","dt_step_called":"2026-01-02 03:04:05+00:00"}]\n',
            b'["ENGINE_DB_LOG_STEPS",{"step_id":2,"column_of_next_year":1}]\n',
            header=b'{"enginelog_spool":1,"run":5}\n',
        )
        await open_and_close(path)

        rows = query("SELECT STEP_ID, DT_STEP_CALLED FROM ENGINE_DB_LOG_STEPS")
        assert rows == [(1, "2026-01-02 03:04:05.000000")]
        [file] = spool_folder(path).glob("unreadable-5-*")
        assert b"column_of_next_year" in file.read_bytes()
        assert query(
            "SELECT ROWS_COMMITTED, ROWS_UNREADABLE FROM ENGINE_LOG_RUN WHERE ENGINE_RUN_ID = 5"
        ) == [(1, 1)]

    @pytest.mark.parametrize("header", [b"", b"\n", b"not a header\n"])
    async def test_header_that_cannot_be_read(self, path: Path, query: Query, header: bytes) -> None:
        """A segment without a header gives its rows all the same; host and process are not known."""
        leave_spool(path, 5, b"\n" if not header else b"", step(1), step(2), header=header)
        await open_and_close(path)

        assert query("SELECT STEP_ID FROM ENGINE_DB_LOG_STEPS") == [(1,), (2,)]

    async def test_empty_spool(self, path: Path, query: Query) -> None:
        """A run that died before its first row, or before its first segment, leaves nothing behind."""
        segment = leave_spool(path, 5)
        lock_path(spool_folder(path), 6).touch()
        await open_and_close(path)

        assert not segment.exists()
        assert not lock_path(spool_folder(path), 6).exists()
        assert query("SELECT count(*) FROM ENGINE_DB_LOG_STEPS") == [(0,)]

    async def test_last_sign_of_life(self, path: Path, query: Query) -> None:
        """A crashed run ended at its last sign of life: when its spool was last written."""
        segment = leave_spool(path, 5, step(1))
        moment = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC).timestamp()
        os.utime(segment, (moment, moment))
        await open_and_close(path)

        rows = query("SELECT DT_LAST_SIGN_OF_LIFE, DT_ENDED FROM ENGINE_LOG_RUN WHERE ENGINE_RUN_ID = 5")
        assert rows == [("2026-03-04 05:06:07.000000",) * 2]

    async def test_hole_of_zeros(self, path: Path, query: Query) -> None:
        """Zero bytes amid the rows (a power failure) damage one row; those behind it are there."""
        rows = b"".join(map(step, range(100)))
        leave_spool(path, 5, rows[:1000] + bytes(30) + rows[1030:])
        await open_and_close(path)

        [(count, highest)] = query("SELECT count(*), max(STEP_ID) FROM ENGINE_DB_LOG_STEPS")
        assert (count, highest) == (98, 99)
        [(unreadable,)] = query("SELECT ROWS_UNREADABLE FROM ENGINE_LOG_RUN WHERE ENGINE_RUN_ID = 5")
        assert unreadable == 1
        assert len(list(spool_folder(path).glob("unreadable-5-*"))) == 1

    async def test_leftover_that_cannot_be_read(
        self, path: Path, query: Query, caplog: pytest.LogCaptureFixture
    ) -> None:
        """What can't be read now is told of, and holds up neither the others nor the engine."""
        segment_path(spool_folder(path), 5, 1).mkdir(parents=True)
        leave_spool(path, 6, step(6))
        async with EngineLog(path) as log:
            await log.log_steps(step_id=7)
            await log.flush()

        assert query("SELECT STEP_ID FROM ENGINE_DB_LOG_STEPS ORDER BY 1") == [(6,), (7,)]
        assert "what run 5 left can't be read now" in caplog.text

    async def test_living_run_is_left_alone(self, path: Path, query: Query) -> None:
        """The rows of a living run are its own, whoever else opens the database."""
        async with EngineLog(path) as first:
            await first.log_steps(step_id=1)
            await open_and_close(path)
            assert first.statistics().pending in (0, 1)
            assert query("SELECT HOW_ENDED FROM ENGINE_LOG_RUN ORDER BY 1") == [(None,), ("closed",)]
            await first.log_steps(step_id=2)

        assert query("SELECT STEP_ID FROM ENGINE_DB_LOG_STEPS") == [(1,), (2,)]

    @pytest.mark.slow
    async def test_several_processes_recover_at_once(self, path: Path, query: Query) -> None:
        """Processes that open the database at the same time recover each row once."""
        for run in range(1, 21):
            leave_spool(path, run, *map(step, range(1000)))
        script = """
            import asyncio, sys
            from async_enginelog import EngineLog

            async def main():
                async with EngineLog(sys.argv[1]) as log:
                    await log.log_steps(step_name="new")

            asyncio.run(main())
        """
        command = [sys.executable, "-c", textwrap.dedent(script), str(path)]
        engines = [subprocess.Popen(command, cwd=ROOT) for _ in range(4)]
        assert [await asyncio.to_thread(engine.wait, 60) for engine in engines] == [0, 0, 0, 0]

        rows = query(
            "SELECT count(*), count(DISTINCT STEP_ID) FROM ENGINE_DB_LOG_STEPS "
            "WHERE STEP_NAME IS NULL GROUP BY ENGINE_RUN_ID"
        )
        assert rows == [(1000, 1000)] * 20
        assert query("SELECT count(*) FROM ENGINE_DB_LOG_STEPS WHERE STEP_NAME = 'new'") == [(4,)]
        assert query("SELECT HOW_ENDED, count(*) FROM ENGINE_LOG_RUN GROUP BY 1") == [
            ("closed", 4),
            ("crashed", 20),
        ]

    async def test_run_without_a_spool(self, path: Path, query: Query) -> None:
        """A run whose spool is gone (somebody removed it) is marked as crashed, too."""
        log = await EngineLog(path).open()
        other = log.run_id + 1000
        await log.aclose()
        connection = sqlite3.connect(path)
        connection.execute("INSERT INTO ENGINE_LOG_RUN (ENGINE_RUN_ID) VALUES (?)", (other,))
        connection.commit()
        connection.close()
        await open_and_close(path)

        assert query("SELECT HOW_ENDED FROM ENGINE_LOG_RUN WHERE ENGINE_RUN_ID = ?", (other,)) == [
            ("crashed",)
        ]


class TestTelling:
    async def test_what_it_left_open(self, path: Path, caplog: pytest.LogCaptureFixture) -> None:
        """Opening says which run died, and how many connections and recordings it left open."""
        leave_spool(
            path,
            5,
            *(connection(number) for number in (1, 2)),
            connection(3, dt_connection_closed=MOMENT),
            line("WEBSOCKET_CONNECTION", websocket_connection_id=4, dt_connection_request=MOMENT),
            recording(1),
            recording(2, dt_recording_end=MOMENT),
            recording(3, dt_recording_data_purged=MOMENT),
            line("RECORDING_CONFIG", recording_id=4, compose_play_or_practice="Play"),
        )
        await open_and_close(path)

        assert warnings_of(caplog) == [
            "run 5 (process 17 on host) died; it left 2 connections and 1 recording open; "
            "see `enginelog runs`"
        ]

    @pytest.mark.parametrize(
        ("row", "what"),
        [(connection(1), "1 connection"), (recording(1), "1 recording"), (step(1), "nothing")],
    )
    async def test_only_one_kind(
        self, path: Path, caplog: pytest.LogCaptureFixture, row: bytes, what: str
    ) -> None:
        """Where there is nothing of one kind, it isn't mentioned."""
        leave_spool(path, 5, row)
        await open_and_close(path)

        [warning] = warnings_of(caplog)
        assert f"died; it left {what} open; see" in warning

    async def test_rows_without_an_id(self, path: Path, caplog: pytest.LogCaptureFixture) -> None:
        """A row without an id, of which nobody can ever say more, isn't counted."""
        leave_spool(
            path,
            5,
            line("WEBSOCKET_CONNECTION", dt_connection_accepted=MOMENT),
            line("RECORDING_CONFIG", dt_recording_start=MOMENT),
        )
        await open_and_close(path)

        assert "it left nothing open" in warnings_of(caplog)[0]

    async def test_each_is_told_once(self, path: Path, caplog: pytest.LogCaptureFixture) -> None:
        """A run that died is told of by the opening that finds it, and no other."""
        leave_spool(path, 5, connection(1))
        await open_and_close(path)
        caplog.clear()
        await open_and_close(path)

        assert warnings_of(caplog) == []

    async def test_several(self, path: Path, caplog: pytest.LogCaptureFixture) -> None:
        """Of several runs that died the newest are told of one by one, of the others how many."""
        for run in (9, 5, 7, 6, 8):
            leave_spool(path, run, connection(run), *map(recording, range(10 * run, 11 * run)))
        await open_and_close(path)

        assert [warning.split(" (")[0] for warning in warnings_of(caplog)] == [
            "run 7",
            "run 8",
            "run 9",
            "2 more runs died; see `enginelog runs`",
        ]
        assert "it left 1 connection and 9 recordings open" in warnings_of(caplog)[2]

    async def test_one_more(self, path: Path, caplog: pytest.LogCaptureFixture) -> None:
        """One run more than are told of one by one is one run."""
        for run in (5, 6, 7, 8):
            leave_spool(path, run, step(run))
        await open_and_close(path)

        assert warnings_of(caplog)[-1] == "1 more run died; see `enginelog runs`"

    async def test_unknown_process(self, path: Path, caplog: pytest.LogCaptureFixture) -> None:
        """Where nobody knows the process of a run, none is named."""
        leave_spool(path, 5, step(1), header=b'{"enginelog_spool":1,"run":5}\n')
        await open_and_close(path)

        assert warnings_of(caplog) == ["run 5 died; it left nothing open; see `enginelog runs`"]

    async def test_recording_ended_by_a_later_run(self, path: Path, caplog: pytest.LogCaptureFixture) -> None:
        """A recording that another run ended isn't open, whoever began it."""
        leave_spool(path, 5, recording(1))
        leave_spool(path, 6, line("RECORDING_CONFIG", recording_id=1, dt_recording_end=MOMENT))
        await open_and_close(path)

        assert ["it left nothing open" in warning for warning in warnings_of(caplog)] == [True, True]

    async def test_damaged_database(self, path: Path, query: Query, caplog: pytest.LogCaptureFixture) -> None:
        """Where nobody can tell what was left open, the run is told of, and the log works."""
        await open_and_close(path)
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("DROP TABLE ENGINE_DB_LOG_RECORDING_CONFIG")
            connection.commit()
        leave_spool(path, 5, step(1))
        async with EngineLog(path) as log:
            await log.log_steps(step_id=2)
            await log.flush()

        assert warnings_of(caplog) == ["run 5 (process 17 on host) died; see `enginelog runs`"]
        assert query("SELECT STEP_ID FROM ENGINE_DB_LOG_STEPS ORDER BY 1") == [(1,), (2,)]
        assert query("SELECT HOW_ENDED FROM ENGINE_LOG_RUN WHERE ENGINE_RUN_ID = 5") == [("crashed",)]

    async def test_killed_engine(self, path: Path, caplog: pytest.LogCaptureFixture) -> None:
        """An engine is killed while a client streams to it: the next one says what it left open."""
        script = """
            import asyncio, sys
            from datetime import UTC, datetime
            from async_enginelog import EngineLog

            async def main():
                async with EngineLog(sys.argv[1]) as log:
                    now, id = datetime.now(UTC), log.next_connection_id()
                    await log.log_websocket_connection(websocket_connection_id=id, dt_connection_accepted=now)
                    await log.log_recording_config(recording_id=id, dt_recording_start=now)
                    print(log.run_id, flush=True)
                    await asyncio.Event().wait()

            asyncio.run(main())
        """
        command = [sys.executable, "-c", textwrap.dedent(script), str(path)]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as engine:
            assert engine.stdout is not None
            run = int(engine.stdout.readline())
            engine.kill()
        await open_and_close(path)

        assert warnings_of(caplog) == [
            f"run {run} (process {engine.pid} on {platform.node()}) died; "
            "it left 1 connection and 1 recording open; see `enginelog runs`"
        ]
