"""The engine goes on and nothing is lost, whatever becomes of the database or the spool."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from async_enginelog import EngineLog, PathError, StorageError, console, segments
from async_enginelog.console import rows_in

from .conftest import Query

LOCKER = """
import sqlite3, sys, time
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN EXCLUSIVE")
print("locked", flush=True)
time.sleep(float(sys.argv[2]))
connection.execute("COMMIT")
"""


@contextmanager
def locked_by_another_process(path: Path, seconds: float) -> Iterator[None]:
    """Hold an exclusive lock on the database for so long."""
    process = subprocess.Popen(
        [sys.executable, "-c", LOCKER, str(path), str(seconds)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "locked\n"
    try:
        yield
    finally:
        process.wait()
        process.stdout.close()


@contextmanager
def tmpfs(folder: Path, size: str) -> Iterator[Path]:
    """A small disk of its own; skips where mounting isn't allowed."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting a small disk needs root")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill_up(disk: Path) -> None:
    """Take all room there is on a disk."""
    with (disk / "ballast").open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            pass


async def until_failing(log: EngineLog) -> str:
    """Wait until the writer has met a fault, and return it."""
    async with asyncio.timeout(10):
        while (fault := log.statistics().last_fault) is None:
            await asyncio.sleep(0.01)
    return fault


class TestLocked:
    @pytest.mark.slow
    async def test_ten_seconds_under_load(
        self, path: Path, query: Query, caplog: pytest.LogCaptureFixture
    ) -> None:
        """2,000 rows a second go on for 10 s under a lock: none lost, in order, no call waits for it."""
        async with EngineLog(path) as log:
            await log.log_steps(step_id=0)
            await log.flush()
            with locked_by_another_process(path, 10.0):
                number, slowest = 0, 0.0
                start = time.perf_counter()
                while (elapsed := time.perf_counter() - start) < 9.5:
                    while number < elapsed * 2000:
                        number += 1
                        # CPU time of this thread: what the machine does meanwhile isn't the log's.
                        before = time.thread_time()
                        await log.log_steps(step_id=number)
                        slowest = max(slowest, time.thread_time() - before)
                    await asyncio.sleep(0.005)
                assert log.statistics().committed == 1
                assert "locked" in (log.statistics().last_fault or "")
            await log.flush()

        rows = [row for (row,) in query("SELECT STEP_ID FROM ENGINE_DB_LOG_STEPS ORDER BY LOG_SEQ")]
        print(f"{number:,} rows under the lock, slowest call {slowest * 1e3:.2f} ms of CPU")
        assert number > 15_000
        assert rows == list(range(number + 1))
        assert slowest < 0.005
        warnings = [record.message for record in caplog.records if record.name == "async_enginelog"]
        assert len(warnings) == 2
        assert "rows wait in" in warnings[0]
        assert "works again" in warnings[1]

    async def test_flush_and_close_say_what_is_wrong(self, path: Path, query: Query) -> None:
        """flush() and aclose() raise after their timeout; the next start commits the rows."""
        log = await EngineLog(path, timeout=0.5).open()
        with locked_by_another_process(path, 3.0):
            await log.log_steps(step_id=1)
            with pytest.raises(StorageError, match=r"1 rows wait in .*-spool.*database is locked"):
                await log.flush()
            with pytest.raises(StorageError, match="1 rows wait in"):
                await log.aclose()
        async with EngineLog(path):
            pass

        assert query("SELECT STEP_ID FROM ENGINE_DB_LOG_STEPS") == [(1,)]
        assert query("SELECT HOW_ENDED FROM ENGINE_LOG_RUN ORDER BY ENGINE_RUN_ID") == [
            ("crashed",),
            ("closed",),
        ]

    async def test_exception_of_the_engine_is_worth_more(self, path: Path) -> None:
        """Leaving `async with` by an exception raises that, not the log's trouble."""
        with pytest.raises(KeyError, match="the engine's"):
            async with EngineLog(path, timeout=0.3) as log:
                with locked_by_another_process(path, 2.0):
                    await log.log_steps(step_id=1)
                    raise KeyError("the engine's")

    async def test_opening_while_locked(self, path: Path, query: Query) -> None:
        """A log opens on a locked database, takes rows, and commits them after the release."""
        async with EngineLog(path):
            pass
        with locked_by_another_process(path, 1.5):
            log = await EngineLog(path).open()
            await log.log_steps(step_id=1)
            assert log.statistics().pending == 1
        await log.aclose()

        assert query("SELECT STEP_ID FROM ENGINE_DB_LOG_STEPS") == [(1,)]

    async def test_burst_does_not_starve_the_loop(self, path: Path) -> None:
        """While the database fails, a burst of rows lets other tasks run now and then."""
        async with EngineLog(path) as log:
            with locked_by_another_process(path, 1.5):
                await log.log_steps(step_id=0)
                await until_failing(log)
                turns = 0

                async def other() -> None:
                    nonlocal turns
                    while True:
                        turns += 1
                        await asyncio.sleep(0)

                task = asyncio.create_task(other())
                for number in range(20_000):
                    await log.log_steps(step_id=number)
                task.cancel()
            assert turns >= 10


class TestFileGoesAway:
    @pytest.mark.skipif(sys.platform == "win32", reason="Windows doesn't delete a file that is open")
    async def test_deleted(self, path: Path, query: Query, caplog: pytest.LogCaptureFixture) -> None:
        """A database deleted under the log is made anew; rows that weren't committed go into it."""
        async with EngineLog(path) as log:
            await log.log_steps(step_id=1)
            await log.flush()
            for suffix in ("", "-wal", "-shm"):
                path.with_name(path.name + suffix).unlink()
            await log.log_steps(step_id=2)
            await log.flush()
            await log.log_steps(step_id=3)

        assert query("SELECT STEP_ID FROM ENGINE_DB_LOG_STEPS ORDER BY 1") == [(2,), (3,)]
        assert "was deleted or replaced under the log" in caplog.text

    @pytest.mark.skipif(sys.platform == "win32", reason="Windows doesn't replace a file that is open")
    async def test_replaced_by_rubbish_and_put_right(self, path: Path, query: Query) -> None:
        """A file that isn't a database isn't touched; rows wait until it is gone."""
        async with EngineLog(path) as log:
            other = path.with_name("other")
            other.write_bytes(b"rubbish" * 1000)
            os.replace(other, path)
            await log.log_steps(step_id=1)
            assert await until_failing(log)
            async with asyncio.timeout(5):
                while "isn't a SQLite database" not in (log.statistics().last_fault or ""):
                    await asyncio.sleep(0.01)
            assert path.read_bytes() == b"rubbish" * 1000
            path.unlink()

        assert query("SELECT STEP_ID FROM ENGINE_DB_LOG_STEPS") == [(1,)]

    @pytest.mark.skipif(sys.platform == "win32", reason="Windows doesn't delete a file that is open")
    async def test_folder_vanishes_and_returns(self, tmp_path: Path) -> None:
        """With the whole folder gone, the engine goes on; with the folder back, so does the log."""
        folder, path = tmp_path / "logs", tmp_path / "logs" / "e.db"
        async with EngineLog(path) as log:
            # The folder can't be removed while segments are made in it ahead of need.
            async with asyncio.timeout(10):
                while log.statistics().spool_bytes < 3 * segments.SEGMENT_BYTES:
                    await asyncio.sleep(0.001)
            shutil.rmtree(folder)
            await log.log_steps(step_id=1)
            await until_failing(log)
            await log.log_steps(step_id=2)
            folder.mkdir()

        with closing(sqlite3.connect(path)) as connection:
            rows = connection.execute("SELECT STEP_ID FROM ENGINE_DB_LOG_STEPS").fetchall()
        assert rows == [(1,), (2,)]

    @pytest.mark.skipif(sys.platform == "win32", reason="Windows doesn't delete a file that is open")
    @pytest.mark.parametrize("suffix", ["-wal", "-shm"])
    async def test_companion_deleted(self, path: Path, query: Query, suffix: str) -> None:
        """A WAL deleted under the log is noticed, before rows are written to what nobody will ever read."""
        async with EngineLog(path) as log:
            await log.log_steps(step_id=1)
            await log.flush()
            path.with_name(path.name + suffix).unlink()
            await log.log_steps(step_id=2)
            await log.flush()

            assert f"{suffix} was deleted or replaced under the log" in (log.statistics().last_fault or "")
            assert query("SELECT STEP_ID FROM ENGINE_DB_LOG_STEPS ORDER BY 1") == [(1,), (2,)]

    async def test_table_dropped(self, path: Path, query: Query) -> None:
        """A table that somebody dropped is a fault like others; rows wait until it is back."""
        async with EngineLog(path) as log:
            with closing(sqlite3.connect(path, timeout=10)) as connection:
                [(ddl,)] = connection.execute(
                    "SELECT sql FROM sqlite_schema WHERE name = 'ENGINE_DB_LOG_STEPS'"
                ).fetchall()
                connection.execute("DROP TABLE ENGINE_DB_LOG_STEPS")
                await log.log_steps(step_id=1)
                assert "no such table: ENGINE_DB_LOG_STEPS" in await until_failing(log)
                connection.execute(ddl)

        assert query("SELECT STEP_ID FROM ENGINE_DB_LOG_STEPS") == [(1,)]


class TestDisk:
    async def test_database_on_a_full_disk(self, tmp_path: Path) -> None:
        """With the database's disk full, rows wait in the spool; with room again, they are committed."""
        with tmpfs(tmp_path / "disk", "80m") as disk:
            path = disk / "e.db"
            async with EngineLog(path) as log:
                await log.log_steps(step_id=0)
                await log.flush()
                fill_up(disk)
                for number in range(1, 20_001):
                    await log.log_steps(step_id=number, step_name="x" * 100)
                assert "full" in await until_failing(log)
                assert log.statistics().on_console == 0
                (disk / "ballast").unlink()
                await log.flush()
            with closing(sqlite3.connect(path)) as connection:
                count = connection.execute(
                    "SELECT count(*), max(STEP_ID) FROM ENGINE_DB_LOG_STEPS"
                ).fetchone()
        assert count == (20_001, 20_000)

    async def test_spool_and_database_on_a_full_disk(
        self, tmp_path: Path, capfd: pytest.CaptureFixture[str], small_segments: int
    ) -> None:
        """With no room for the spool either, rows go to the console, counted; nothing is lost."""
        with tmpfs(tmp_path / "disk", "3m") as disk:
            log = await EngineLog(disk / "e.db", timeout=0.5).open()
            fill_up(disk)
            for number in range(8000):
                await log.log_steps(step_id=number, step_name="x" * 100)
            statistics = log.statistics()
            assert statistics.on_console > 0
            with pytest.raises(StorageError):
                await log.aclose()
            assert statistics.accepted == 8000
            assert statistics.accepted == sum(statistics[1:5])
            (disk / "ballast").unlink()
            async with EngineLog(disk / "e.db"):
                pass
            with closing(sqlite3.connect(disk / "e.db")) as connection:
                stored = {row for (row,) in connection.execute("SELECT STEP_ID FROM ENGINE_DB_LOG_STEPS")}
        console = {
            int(row.line.split(b'"step_id":')[1].split(b",")[0])
            for row in rows_in(capfd.readouterr().err.encode().splitlines())
        }
        assert stored.isdisjoint(console)
        assert stored | console == set(range(8000))

    @pytest.mark.parametrize("is_new", [True, False])
    async def test_opening_on_a_full_disk(
        self,
        tmp_path: Path,
        capfd: pytest.CaptureFixture[str],
        caplog: pytest.LogCaptureFixture,
        small_segments: int,
        is_new: bool,
    ) -> None:
        """A log opens on a full disk, on the console alone, says so, and comes to itself with room again."""
        with tmpfs(tmp_path / "disk", "3m") as disk:
            path = disk / "e.db"
            if not is_new:
                async with EngineLog(path):
                    pass
            fill_up(disk)
            async with EngineLog(path) as log:
                for number in range(100):
                    await log.log_steps(step_id=number)
                assert log.statistics().on_console == log.statistics().accepted == 100
                assert "No space left on device; the log is open on the console alone" in caplog.text
                (disk / "ballast").unlink()
                async with asyncio.timeout(10):
                    while log.statistics().committed == 0:
                        number += 1
                        await log.log_steps(step_id=number)
                        await asyncio.sleep(0.01)
            with closing(sqlite3.connect(path)) as connection:
                stored = {row for (row,) in connection.execute("SELECT STEP_ID FROM ENGINE_DB_LOG_STEPS")}
        console = {
            int(row.line.split(b'"step_id":')[1].split(b",")[0])
            for row in rows_in(capfd.readouterr().err.encode().splitlines())
        }
        assert stored.isdisjoint(console)
        assert stored | console == set(range(number + 1))

    async def test_opening_and_closing_on_a_full_disk(self, tmp_path: Path, small_segments: int) -> None:
        """A log that never had a disk closes, and says what its database is missing."""
        with tmpfs(tmp_path / "disk", "1m") as disk:
            fill_up(disk)
            log = await EngineLog(disk / "e.db", timeout=0.3).open()
            await log.log_steps(step_id=1)
            await log.aclose()
            statistics = log.statistics()

        assert (statistics.on_console, statistics.pending, statistics.spool_bytes) == (1, 0, 0)

    async def test_opening_on_a_read_only_disk(
        self, tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
    ) -> None:
        """A log whose disk has become read-only opens on the console; a new one has a wrong path."""
        with tmpfs(tmp_path / "disk", "60m") as disk:
            async with EngineLog(disk / "e.db"):
                pass
            subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
            async with EngineLog(disk / "e.db", timeout=0.3) as log:
                await log.log_steps(step_id=1)
                assert log.statistics().on_console == 1
                assert "its disk is read-only" in (log.statistics().last_fault or "")
            with pytest.raises(PathError, match="isn't writable"):
                await EngineLog(disk / "new.db").open()
        assert "the log is open on the console alone" in caplog.text

    async def test_read_only_file(self, path: Path, query: Query) -> None:
        """A database that can't be written to any more is a fault like others, and ends like them."""
        async with EngineLog(path) as log:
            await log.log_steps(step_id=1)
            await log.flush()
            copy = path.with_name("copy")
            shutil.copy(path, copy)
            for suffix in ("-wal", "-shm"):
                path.with_name(path.name + suffix).unlink()
            os.replace(copy, path)
            # Not even root writes to an immutable file.
            if subprocess.run(["chattr", "+i", str(path)], capture_output=True).returncode:
                pytest.skip("this file system can't make a file immutable, or this user may not")
            try:
                await log.log_steps(step_id=2)
                assert await until_failing(log)
                async with asyncio.timeout(5):
                    while "isn't writable for this user" not in (log.statistics().last_fault or ""):
                        await asyncio.sleep(0.01)
            finally:
                subprocess.run(["chattr", "-i", str(path)], check=True)

        assert (2,) in query("SELECT STEP_ID FROM ENGINE_DB_LOG_STEPS")


class TestSpoolLimit:
    async def test_rows_beyond_the_limit_go_to_the_console(
        self, path: Path, query: Query, capfd: pytest.CaptureFixture[str], small_segments: int
    ) -> None:
        """At the limit of the spool, rows go to the console, counted; none is lost or doubled."""
        async with EngineLog(path, spool_limit=4 * small_segments) as log:
            with locked_by_another_process(path, 2.0):
                for number in range(8000):
                    await log.log_steps(step_id=number, step_name="x" * 50)
                statistics = log.statistics()
                assert statistics.on_console > 0
                assert statistics.pending > 0
                assert statistics.spool_bytes <= 4 * small_segments
        statistics = log.statistics()
        assert statistics.accepted == 8000 == statistics.committed + statistics.on_console

        stored = {row for (row,) in query("SELECT STEP_ID FROM ENGINE_DB_LOG_STEPS")}
        err = capfd.readouterr().err
        console = {
            int(row.line.split(b'"step_id":')[1].split(b",")[0]) for row in rows_in(err.encode().splitlines())
        }
        assert len(stored) == statistics.committed
        assert stored.isdisjoint(console)
        assert stored | console == set(range(8000))
        assert query("SELECT ROWS_ACCEPTED, ROWS_ON_CONSOLE FROM ENGINE_LOG_RUN") == [
            (8000, statistics.on_console)
        ]

    async def test_console_that_does_not_keep_up(
        self,
        path: Path,
        query: Query,
        monkeypatch: pytest.MonkeyPatch,
        capfd: pytest.CaptureFixture[str],
        caplog: pytest.LogCaptureFixture,
        small_segments: int,
    ) -> None:
        """Rows that find no place at all are warned of and counted, and the loop goes on."""
        monkeypatch.setattr(console, "MAX_WAITING", 10)
        turns = 0

        async def other() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        async with EngineLog(path, spool_limit=2 * small_segments) as log:
            task = asyncio.create_task(other())
            with locked_by_another_process(path, 1.0):
                for number in range(20_000):
                    await log.log_steps(step_id=number, step_name="x" * 50)
            task.cancel()
            statistics = log.statistics()
        assert statistics.dropped > 0
        assert statistics.accepted + statistics.dropped == 20_000
        assert turns > 20
        assert "rows are dropped" in caplog.text
        assert query("SELECT ROWS_DROPPED FROM ENGINE_LOG_RUN") == [(statistics.dropped,)]

    async def test_spool_is_used_again_after_the_limit(
        self, path: Path, capfd: pytest.CaptureFixture[str], small_segments: int
    ) -> None:
        """Once the writer has drained it, the spool takes rows again."""
        async with EngineLog(path, spool_limit=2 * small_segments) as log:
            with locked_by_another_process(path, 1.0):
                for number in range(4000):
                    await log.log_steps(step_id=number, step_name="x" * 50)
            await log.flush()
            on_console = log.statistics().on_console
            assert on_console > 0
            await asyncio.sleep(0.1)
            for number in range(500):
                await log.log_steps(step_id=4000 + number)
            assert log.statistics().on_console == on_console


class TestUnreadable:
    async def test_damaged_lines_are_set_aside(self, path: Path, query: Query) -> None:
        """Lines that can't be read are kept in a file, counted, and don't stop the others."""
        async with EngineLog(path) as log:
            await log.log_steps(step_id=1)
            # As a disk error would do it; the public functions can't.
            log._append(b'["ENGINE_DB_LOG_STEPS",{"step_id":2\n')
            log._append(b'["ENGINE_DB_LOG_STEPS",{"no_such_column":2}]\n')
            log._append(b'["ENGINE_DB_LOG_STEPS",{"step_id":18446744073709551615}]\n')
            log._append(b'["NO_SUCH_TABLE",{"a":2}]\n')
            log._append(b'["ENGINE_DB_LOG_STEPS",{"step_id":{"a":[]}}]\n')
            await log.log_steps(step_id=3)
            await log.flush()
            statistics = log.statistics()

        assert query("SELECT STEP_ID FROM ENGINE_DB_LOG_STEPS ORDER BY LOG_SEQ") == [(1,), (2**63 - 1,), (3,)]
        assert (statistics.unreadable, statistics.committed, statistics.pending) == (4, 3, 0)
        [file] = path.with_name(f"{path.name}-spool").glob("unreadable-*")
        assert file.read_bytes().count(b"\n") == 4
        assert query("SELECT ROWS_ACCEPTED, ROWS_COMMITTED, ROWS_UNREADABLE FROM ENGINE_LOG_RUN") == [
            (7, 3, 4)
        ]


@pytest.fixture(autouse=True)
def _capture_warnings(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "async_enginelog")
