"""An engine that keeps its log within its limits: in the background, beside its rows, whatever dies when."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from async_enginelog import EngineLog, pruning_recordings, retention, upkeep, watermarks, writer
from async_enginelog.database import Database
from async_enginelog.errors import StorageError
from async_enginelog.retention import Keep
from async_enginelog.upkeep import Clock
from async_enginelog.watermarks import Watermark

from .conftest import Query
from .planted import DAY, PlantedRow, plant, rows_in

ROOT = Path(__file__).parent.parent
MONTH = timedelta(days=30)
CONFIG = "ENGINE_DB_LOG_RECORDING_CONFIG"
FRAMES = "ENGINE_DB_LOG_SPLIT_100_MS_AUDIO_FRAME"
STEPS = "ENGINE_DB_LOG_STEPS"
ROWS = "SELECT count(*) FROM ENGINE_DB_LOG_STEPS"


def old_log(path: Path, recordings: int = 5, rows: int = 20) -> int:
    """Make a log of old recordings, and return how many rows it has."""
    planted = [
        PlantedRow(table, 10, 40 * DAY, number, ended=table == CONFIG)
        for number in range(1, recordings + 1)
        for table in (CONFIG, *[FRAMES] * rows)
    ]
    plant(path, planted, now=datetime.now(UTC))
    return len(planted)


async def until(condition: Callable[[], bool]) -> None:
    """Wait until something is so."""
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.01)


async def test_what_is_old_goes(path: Path, query: Query) -> None:
    """An engine with a limit prunes when it opens its log; its own rows are young, and stay."""
    rows = old_log(path)
    async with EngineLog(path, keep=MONTH) as log:
        await log.log_steps(step_name="new")
        await until(lambda: query(f"SELECT count(*) FROM {FRAMES}") == [(0,)])
        await log.flush()

        assert query(ROWS) == [(1,)]
        await until(lambda: query("SELECT ENGINE_RUN_ID FROM ENGINE_LOG_RUN") == [(log.run_id,)])
        assert log.statistics().pruned == rows


async def test_all_is_kept_by_default(path: Path, query: Query) -> None:
    """Without a limit, nothing ever goes."""
    rows = old_log(path)
    async with EngineLog(path) as log:
        await log.log_steps(step_name="new")
    assert len(rows_in(path)) == rows + 1
    assert log.statistics().pruned == 0


async def test_again_and_again(path: Path, query: Query, monkeypatch: pytest.MonkeyPatch) -> None:
    """What becomes old while the engine runs goes in one of the next rounds."""
    monkeypatch.setattr(upkeep, "ROUND", 0.02)
    async with EngineLog(path, keep=Keep(rows=10)) as log:
        for day in range(5):
            for number in range(20):
                moment = datetime.now(UTC) - timedelta(hours=10 - day)
                await log.log_steps(step_id=day * 20 + number, dt_step_called=moment)
            await log.flush()
            await until(lambda: query(ROWS) == [(10,)])
        await until(lambda: log.statistics().pruned == 90)
        steps = query("SELECT STEP_ID FROM ENGINE_DB_LOG_STEPS ORDER BY LOG_SEQ")
        assert steps == [(number,) for number in range(90, 100)]


async def test_what_is_being_written_stays(path: Path, query: Query, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the limit: a recording that is under way, an open connection and the process stay."""
    monkeypatch.setattr(upkeep, "ROUND", 0.02)
    async with EngineLog(path, keep=Keep(rows=1)) as log:
        hour = datetime.now(UTC) - timedelta(hours=1)
        await log.log_websocket_connection(websocket_connection_id=1, dt_connection_accepted=hour)
        await log.log_process_registry(process_id=1, last_heartbeat=hour)
        await log.log_recording_config(recording_id=1, dt_recording_start=hour)
        for number in range(10):
            await log.log_audio_frame_metadata(recording_id=1, audio_frame_no=number, dt_end_pyin=hour)
            await log.log_steps(step_name="lone", dt_step_called=hour)
        await log.flush()
        await until(lambda: query(ROWS) == [(1,)])

        assert len(rows_in(path)) == 1 + 3 + 10
        # It ends; then it is as old as its last row.
        await log.log_recording_config(recording_id=1, dt_recording_end=hour)
        await log.log_steps(step_name="newest")
        await log.flush()
        await until(lambda: query(f"SELECT count(*) FROM {FRAMES}") == [(0,)])


async def test_rows_are_committed_meanwhile(
    path: Path, query: Query, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between two steps of a pruning, the writer has its turns: no row waits for the end of it."""
    monkeypatch.setattr(pruning_recordings, "STEP_ROWS", 1)
    old_log(path, recordings=3000, rows=0)
    left: list[int] = []
    async with EngineLog(path, keep=MONTH) as log:
        for number in range(5):
            await log.log_steps(step_id=number)
            await log.flush()
            left += [query(f"SELECT count(*) FROM {CONFIG}")[0][0]]
        assert query(ROWS) == [(5,)]
    assert left[-1] > 0


async def test_closing_breaks_it_off(path: Path, query: Query, monkeypatch: pytest.MonkeyPatch) -> None:
    """A log that is closed doesn't wait for the end of a pruning; the next one goes on."""
    monkeypatch.setattr(pruning_recordings, "STEP_ROWS", 1)
    monkeypatch.setattr(upkeep, "SHORTEST", 0.05)
    old_log(path, recordings=2000, rows=0)
    began = time.monotonic()
    async with EngineLog(path, keep=MONTH) as log:
        await log.log_steps(step_id=1)
    assert time.monotonic() - began < 10
    assert query("SELECT HOW_ENDED FROM ENGINE_LOG_RUN WHERE ENGINE_RUN_ID <> 10") == [("closed",)]
    assert query(ROWS) == [(1,)]
    left = query(f"SELECT count(*) FROM {CONFIG}")[0][0]
    assert left > 0
    assert log.statistics().pruned == 2000 - left


async def test_a_fault_in_it(
    path: Path, query: Query, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A disk that fails in a pruning is a fault like others: no row is lost, and the next round goes on."""
    monkeypatch.setattr(upkeep, "ROUND", 0.05)
    old_log(path)
    vacuum = Database.run_script
    faults = [StorageError("the disk fails"), RuntimeError("that nobody thought of")]

    async def fail(self: Database, script: str) -> None:
        if faults:
            raise faults.pop()
        await vacuum(self, script)

    monkeypatch.setattr(Database, "run_script", fail)
    async with EngineLog(path, keep=MONTH) as log:
        await log.log_steps(step_id=1)
        await until(lambda: not faults and query("PRAGMA freelist_count") == [(0,)])
        await log.flush()
        assert query(ROWS) == [(1,)]
    assert "that nobody thought of" in caplog.text


async def test_sign_of_life_meanwhile(path: Path, query: Query, monkeypatch: pytest.MonkeyPatch) -> None:
    """A log that is being pruned, and has nothing else to do, says that it is alive."""
    monkeypatch.setattr(pruning_recordings, "STEP_ROWS", 1)
    monkeypatch.setattr(writer, "SIGN_OF_LIFE", 0.02)
    old_log(path, recordings=2000, rows=0)
    sign = "SELECT DT_LAST_SIGN_OF_LIFE FROM ENGINE_LOG_RUN WHERE ENGINE_RUN_ID <> 10"
    async with EngineLog(path, keep=MONTH):
        for _ in range(3):
            before = query(sign)
            await until(lambda before=before: query(sign) != before)  # type: ignore[misc]
        assert query(f"SELECT count(*) > 0 FROM {CONFIG}") == [(1,)]


async def test_a_watermark_that_stands_still(
    path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader that doesn't read any more keeps its rows, and the engine says so, once."""
    monkeypatch.setattr(upkeep, "ROUND", 0.02)
    rows = old_log(path)
    rounds: list[Database] = []

    async def read_watermarks(database: Database) -> list[Watermark]:
        rounds.append(database)
        return await watermarks.read_watermarks(database)

    monkeypatch.setattr(upkeep, "read_watermarks", read_watermarks)
    with closing(sqlite3.connect(path, timeout=10)) as connection:
        connection.execute(
            "INSERT INTO ENGINE_LOG_WATERMARK VALUES ('shipper', 3, '2026-01-01 12:00:00.000000')"
        )
        connection.commit()
        async with EngineLog(path, keep=MONTH):
            await until(lambda: "shipper" in caplog.text and len(rounds) > 2)
            assert len(rows_in(path)) == rows
            connection.execute("DELETE FROM ENGINE_LOG_WATERMARK")
            connection.commit()
            await until(lambda: not rows_in(path))
    assert caplog.text.count("shipper") == 1
    assert (
        "nothing above LOG_SEQ 3 is pruned, as the watermark shipper hasn't moved since 2026-01-01 12:00:00; "
        "see `enginelog watermark`"
    ) in caplog.text


async def test_more_than_it_may_have(
    path: Path, query: Query, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An engine that logs far more in a minute than is to be kept says so, and when that is over."""
    monkeypatch.setattr(upkeep, "ROUND", 0.05)
    async with EngineLog(path, keep=Keep(file_bytes=2**20)) as log:
        for number in range(20_000):
            await log.log_steps(step_id=number, step_name="x" * 100)
        await until(lambda: "keep allows 1,048,576: recordings that go on, rows of the last" in caplog.text)
        assert query(ROWS) == [(20_000,)]
        monkeypatch.setattr(retention, "SETTLED", timedelta())
        await until(lambda: f"{path} is back to" in caplog.text)
        assert log.statistics().pruned > 10_000


async def test_log_seq_goes_on(path: Path, query: Query) -> None:
    """After the newest rows were pruned, too, no LOG_SEQ is given again."""
    async with EngineLog(path) as log:
        for number in range(10):
            await log.log_steps(step_id=number, dt_step_called=datetime.now(UTC) - 50 * DAY)
    async with EngineLog(path, keep=MONTH) as log:
        await until(lambda: query(ROWS) == [(0,)])
        await log.log_steps(step_id=10)
    assert query("SELECT LOG_SEQ FROM ENGINE_DB_LOG_STEPS") == [(11,)]


class TestClock:
    NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)

    def test_is_believed(self) -> None:
        """A clock that goes on, is mended a little, or steps back tells the time."""
        clock = Clock(self.NOW, 100.0)
        for seconds in (0, 50, 3500, -(10**6)):
            moment = self.NOW + timedelta(seconds=seconds)
            assert clock.believed(moment, 100.0) == moment
        assert clock.believed(self.NOW + 90 * DAY, 100.0 + 90 * 86_400) == self.NOW + 90 * DAY

    def test_set_ahead(self) -> None:
        """A clock that jumps ahead by a year makes nothing a year older."""
        clock = Clock(self.NOW, 100.0)
        assert clock.believed(self.NOW + 365 * DAY, 160.0) == self.NOW + timedelta(seconds=60, hours=1)


# -- killed -----------------------------------------------------------------------------------------

KILLED = """
import asyncio, sys
from datetime import timedelta
from async_enginelog import EngineLog, pruning, pruning_recordings, segments, upkeep

segments.SEGMENT_BYTES = 1024 * 1024
pruning_recordings.STEP_ROWS = 50
pruning.STEP_PAGES = 5
upkeep.ROUND = 0.01

async def main(path):
    async with EngineLog(path, keep=timedelta(days=30), spool_limit=4 * 1024 * 1024) as log:
        print("ready", flush=True)
        number = 0
        while True:
            for _ in range(5):
                number += 1
                await log.log_steps(step_name="live", step_id=number)
            await asyncio.sleep(0.001)

asyncio.run(main(sys.argv[1]))
"""


# Then an engine may live, and bring it to an end.
KILLS = 60


def whole_or_gone(path: Path, sizes: dict[int, int]) -> int:
    """Check that each recording that has its own row has all its rows, and return how many have."""
    rows = rows_in(path)
    listed = {row.recording for row in rows if row.table.name == CONFIG}
    found = Counter(row.recording for row in rows if row.recording)
    with closing(sqlite3.connect(path)) as connection:
        noted = {number for (number,) in connection.execute("SELECT RECORDING_ID FROM ENGINE_LOG_PRUNING")}
        stored = dict(connection.execute("SELECT ENGINE_RUN_ID, ROWS_STORED FROM ENGINE_LOG_RUN"))
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert {number: found[number] for number in listed if number} == {n: sizes[n] for n in listed if n}
    assert found.keys() - listed <= noted
    assert Counter(row.run for row in rows) == Counter({run: count for run, count in stored.items() if count})
    return len(listed)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(sys.platform == "win32", reason="a process is killed in another way there")
def test_killed_again_and_again(path: Path) -> None:
    """An engine is killed in the midst of pruning, again and again: nothing is half, the rest goes on."""
    randomly = random.Random(20261123)
    now = datetime.now(UTC)
    sizes = {number: randomly.choice([1, 10, 40, 300, 900]) + 1 for number in range(1, 61)}
    planted = [
        PlantedRow(table, 10, 40 * DAY, number, ended=table == CONFIG)
        for number, size in sizes.items()
        for table in (CONFIG, *[FRAMES] * (size - 1))
    ]
    young = [PlantedRow(CONFIG, 10, DAY, 999, ended=True), *[PlantedRow(FRAMES, 10, DAY, 999)] * 50]
    plant(path, [*planted, *young], now=now)
    sizes[999] = 51
    listed, kills, halves = len(sizes), 0, 0
    while listed > 1 and kills < KILLS:
        process = subprocess.Popen(
            [sys.executable, "-c", KILLED, str(path)],
            cwd=ROOT,
            env={name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert process.stdout is not None
        process.stdout.readline()
        end = time.monotonic() + randomly.uniform(0.0, 0.25)
        while time.monotonic() < end:
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        kills += 1
        listed = whole_or_gone(path, sizes)
        with closing(sqlite3.connect(path)) as connection:
            halves += len(connection.execute("SELECT * FROM ENGINE_LOG_PRUNING").fetchall())
    print(f"{kills} kills, {halves} of them within a large recording")
    assert halves
    assert asyncio.run(_finished(path))
    assert whole_or_gone(path, sizes) == 1


async def _finished(path: Path) -> bool:
    left = f"SELECT (SELECT count(*) FROM {CONFIG}), (SELECT count(*) FROM ENGINE_LOG_PRUNING)"
    async with EngineLog(path, keep=MONTH):
        with closing(sqlite3.connect(path)) as connection:
            await until(lambda: connection.execute(left).fetchone() == (1, 0))
    return True
