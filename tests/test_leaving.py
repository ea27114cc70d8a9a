"""How a log ends: closed, forgotten, cancelled, forked, its loop gone."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from async_enginelog import EngineLog, LogClosed, PathError, opening
from async_enginelog.database import Database
from async_enginelog.handover import Turns

from .conftest import Query

ROOT = Path(__file__).parent.parent


def run_script(path: Path, script: str, *options: str) -> subprocess.CompletedProcess[str]:
    """Run a script that finds the database's path in sys.argv[1]; fail if it hangs."""
    return subprocess.run(
        [sys.executable, *options, "-c", textwrap.dedent(script), str(path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
    )


@contextmanager
def loops_closed_early() -> Iterator[None]:
    """Let nobody complain of what is left of closed loops, now or in a test that comes later."""
    before = set(threading.enumerate())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
        for thread in set(threading.enumerate()) - before:
            if not thread.daemon:
                thread.join(20)
        gc.collect()


def test_loop_closed_while_rows_are_being_committed(
    path: Path, query: Query, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thread that is at it goes on, and comes too late: another log has committed its rows."""
    reached, released = threading.Event(), threading.Event()
    threads: list[threading.Thread] = []
    give_way = Turns.give_way

    def hang(self: Turns) -> None:
        if not threads:
            threads.append(threading.current_thread())
        if threading.current_thread() is threads[0]:
            reached.set()
            released.wait(20)
        give_way(self)

    async def log_rows() -> None:
        log = await EngineLog(path).open()
        monkeypatch.setattr(Turns, "give_way", hang)
        for number in range(2000):
            log.log_row_nowait("ENGINE_DB_LOG_STEPS", {"step_id": number})
        while not reached.is_set():
            await asyncio.sleep(0.001)

    async def recover() -> None:
        async with EngineLog(path) as log:
            await log.flush()

    with monkeypatch.context() as quiet, loops_closed_early():
        quiet.setattr(threading, "excepthook", lambda _: None)  # aiosqlite has no loop left to tell
        loop = asyncio.new_event_loop()
        loop.run_until_complete(log_rows())
        loop.close()
        asyncio.run(recover())
        released.set()
        threads[0].join(20)
        asyncio.run(recover())
    rows = query("SELECT count(*), count(DISTINCT STEP_ID) FROM ENGINE_DB_LOG_STEPS")
    assert rows == [(2000, 2000)]
    assert query("SELECT max(ROWS_COMMITTED) FROM ENGINE_LOG_RUN") == [(2000,)]


class TestForgotten:
    def test_asyncio_run_without_close(self, path: Path, query: Query) -> None:
        """Forgetting to close doesn't hang the exit, loses no row, and gives a ResourceWarning."""
        script = """
            import asyncio, sys
            from async_enginelog import EngineLog

            async def main():
                log = await EngineLog(sys.argv[1]).open()
                for number in range(1000):
                    await log.log_steps(step_id=number)

            asyncio.run(main())
        """
        done = run_script(path, script, "-W", "default")

        assert done.returncode == 0, done.stderr
        assert "ResourceWarning: unclosed <EngineLog" in done.stderr
        assert query("SELECT count(*) FROM ENGINE_DB_LOG_STEPS") == [(1000,)]

    def test_loop_that_is_never_closed(self, path: Path) -> None:
        """A loop that just stops leaves its rows in the spool; the interpreter exits all the same."""
        script = """
            import asyncio, sys
            from async_enginelog import EngineLog

            async def main():
                global log
                log = await EngineLog(sys.argv[1]).open()
                for number in range(1000):
                    await log.log_steps(step_id=number)

            loop = asyncio.new_event_loop()
            loop.run_until_complete(main())
        """
        assert run_script(path, script).returncode == 0
        assert self.count_after_reopening(path) == 1000

    def test_exit_from_a_handler(self, path: Path) -> None:
        """sys.exit() and os._exit() in a task lose no row either."""
        for leave in ("sys.exit(3)", "os._exit(3)"):
            script = f"""
                import asyncio, os, sys
                from async_enginelog import EngineLog

                async def main():
                    async with EngineLog(sys.argv[1]) as log:
                        for number in range(1000):
                            await log.log_steps(step_id=number)
                        {leave}

                asyncio.run(main())
            """
            assert run_script(path, script).returncode == 3
        assert self.count_after_reopening(path) == 2000

    def test_exit_from_a_signal_handler(self, path: Path) -> None:
        """A signal handler that raises at any line of opening and closing doesn't hang the exit."""
        script = """
            import asyncio, sys
            from async_enginelog import EngineLog

            async def main():
                async with EngineLog(sys.argv[1]) as log:
                    await log.log_steps(step_id=1)

            def trace_call(frame, event, argument):
                known = frame.f_globals["__name__"] in ("async_enginelog.connection", "aiosqlite.core")
                if known and frame.f_code.co_name in ("connect", "__await__", "_connect", "close", "stop"):
                    return trace_line

            def trace_line(frame, event, argument):
                # What is raised here, Python raises at that line, as it does from a signal handler.
                global left
                left -= 1
                if left == 0:
                    sys.exit("from a signal handler")
                return trace_line

            for line in range(1, 10_000):
                left = line
                sys.settrace(trace_call)
                try:
                    asyncio.run(main())
                except SystemExit:
                    pass
                finally:
                    sys.settrace(None)
                if left > 0:
                    break
            print(line)
        """
        done = run_script(path, script, "-W", "ignore")
        assert done.returncode == 0, done.stderr
        assert int(done.stdout) > 100

    def test_development_mode_has_nothing_to_say(self, path: Path) -> None:
        """A log that is closed gives no warning under -X dev -W error."""
        script = """
            import asyncio, sys
            from async_enginelog import EngineLog

            async def main():
                async with EngineLog(sys.argv[1]) as log:
                    await log.log_steps(step_id=1)

            asyncio.run(main())
        """
        done = run_script(path, script, "-X", "dev", "-W", "error")
        assert (done.returncode, done.stderr) == (0, "")

    @staticmethod
    def count_after_reopening(path: Path) -> int:
        async def count() -> int:
            async with EngineLog(path):
                pass
            reader = await Database.open_reader(path)
            [(rows,)] = await reader.fetch("SELECT count(*) FROM ENGINE_DB_LOG_STEPS")
            await reader.close()
            return int(rows)

        return asyncio.run(count())


class TestLoops:
    def test_one_log_after_the_other(self, path: Path, query: Query) -> None:
        """A second event loop in the same process opens its own log of the same database."""

        async def main(number: int) -> None:
            async with EngineLog(path) as log:
                await log.log_steps(step_id=number)

        for number in range(3):
            asyncio.run(main(number))
        assert query("SELECT STEP_ID FROM ENGINE_DB_LOG_STEPS ORDER BY 1") == [(0,), (1,), (2,)]

    def test_loop_closed_under_the_log(self, path: Path, query: Query) -> None:
        """Rows of a log whose loop was closed under it are committed by the next log, once."""
        loop = asyncio.new_event_loop()
        log = loop.run_until_complete(EngineLog(path).open())
        for number in range(100):
            loop.run_until_complete(log.log_steps(step_id=number))
        with loops_closed_early():
            loop.close()
            # A thread may not have noticed.
            log.log_row_nowait("ENGINE_DB_LOG_STEPS", {"step_id": 100})

            async def main() -> None:
                async with EngineLog(path) as second:
                    await second.log_steps(step_id=101)

            asyncio.run(main())
            with pytest.raises(LogClosed, match="event loop of this EngineLog was closed under it"):
                log.log_row_nowait("ENGINE_DB_LOG_STEPS", {"step_id": 102})
            del log

        steps = [step for (step,) in query("SELECT STEP_ID FROM ENGINE_DB_LOG_STEPS ORDER BY LOG_SEQ")]
        assert steps == list(range(102))
        assert query("SELECT HOW_ENDED FROM ENGINE_LOG_RUN ORDER BY ENGINE_RUN_ID") == [
            ("crashed",),
            ("closed",),
        ]

    def test_loop_closed_in_a_transaction(self, path: Path, query: Query) -> None:
        """A loop closed while a statement is under way leaves no lock, though the log is still held."""
        script = """
            import asyncio, sys
            from pathlib import Path
            from async_enginelog import EngineLog
            from async_enginelog.database import Database

            LONG = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000000) "

            async def begin():
                global database, task
                database = await Database.open(Path(sys.argv[1]), create=True)
                await database.execute("BEGIN IMMEDIATE")
                task = asyncio.ensure_future(database.fetch(LONG + "SELECT count(*) FROM n"))
                await asyncio.sleep(0.01)

            loop = asyncio.new_event_loop()
            loop.run_until_complete(begin())
            loop.close()

            async def go_on():
                async with EngineLog(sys.argv[1]) as log:
                    await log.log_steps(step_id=1)

            asyncio.run(go_on())
        """
        done = run_script(path, script, "-W", "ignore")

        assert done.returncode == 0, done.stderr
        assert query("SELECT STEP_ID FROM ENGINE_DB_LOG_STEPS") == [(1,)]

    def test_closing_on_another_loop(self, path: Path, query: Query) -> None:
        """aclose() on another loop commits the rest there."""
        first = asyncio.new_event_loop()
        log = first.run_until_complete(EngineLog(path).open())
        first.run_until_complete(log.log_steps(step_id=1))
        with loops_closed_early():
            first.close()
            asyncio.run(log.aclose())

        assert query("SELECT STEP_ID FROM ENGINE_DB_LOG_STEPS") == [(1,)]
        assert query("SELECT HOW_ENDED FROM ENGINE_LOG_RUN") == [("closed",)]

    async def test_fifty_logs_leave_nothing_behind(self, tmp_path: Path) -> None:
        """50 logs opened and closed: no thread, file handle or task is left over."""
        process = psutil.Process()

        async def one(number: int) -> None:
            async with EngineLog(tmp_path / f"{number}.db") as log:
                await log.log_steps(step_id=1)

        await one(0)
        threads, files = set(threading.enumerate()), process.num_fds() if os.name != "nt" else 0
        for number in range(1, 50):
            await one(number)

        left = {thread.name for thread in set(threading.enumerate()) - threads}
        assert {name for name in left if not name.startswith("asyncio_")} == set()
        assert os.name == "nt" or process.num_fds() <= files
        assert len(asyncio.all_tasks()) == 1


class TestOpening:
    """An opening that comes to nothing leaves nothing behind: no thread, no lock, no file."""

    @pytest.fixture
    def hanging(self, monkeypatch: pytest.MonkeyPatch) -> Hanging:
        """Have the thread that makes a spool wait."""
        hanging = Hanging()
        monkeypatch.setattr(opening, "_make_spool", hanging.make_spool)
        return hanging

    @pytest.mark.parametrize("times", [1, 2, 5])
    async def test_cancelled(self, path: Path, hanging: Hanging, times: int) -> None:
        """Whoever is cancelled, and however often: as asyncio.run() does at its end, or scopes of anyio."""
        task = asyncio.create_task(EngineLog(path).open())
        await asyncio.to_thread(hanging.reached.wait, 10)
        for _ in range(times):
            for other in asyncio.all_tasks() - {asyncio.current_task()}:
                other.cancel()
            await asyncio.sleep(0)
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.to_thread(hanging.check_nothing_is_left, path)

    def test_loop_closed_under_it(self, path: Path, hanging: Hanging) -> None:
        """There is nobody left to wait for anything."""
        loop = asyncio.new_event_loop()
        task = loop.create_task(EngineLog(path).open())
        while not hanging.reached.is_set():
            loop.run_until_complete(asyncio.sleep(0.01))
        loop.close()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            del task
            gc.collect()
            hanging.check_nothing_is_left(path)

    async def test_failed(self, path: Path) -> None:
        """What is raised is said once, by who catches it."""
        said: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: said.append(context))
        path.with_name(f"{path.name}-spool").touch()
        with pytest.raises(PathError):
            await EngineLog(path).open()
        gc.collect()
        await asyncio.sleep(0)
        assert said == []


class Hanging:
    """The making of a spool, in a thread that hangs until it is released."""

    def __init__(self) -> None:
        self._make_spool = opening._make_spool
        self._threads = set(threading.enumerate())
        self.reached, self._released = threading.Event(), threading.Event()

    def make_spool(self, *arguments: Any) -> Any:
        """Hang, and do it."""
        self.reached.set()
        self._released.wait(10)
        return self._make_spool(*arguments)

    def check_nothing_is_left(self, path: Path) -> None:
        """Release it, and wait until all is as it was."""
        self._released.set()
        deadline = time.monotonic() + 10
        while left := self._left(path):
            assert time.monotonic() < deadline, left
            time.sleep(0.01)
            gc.collect()

    def _left(self, path: Path) -> list[object]:
        threads = {thread for thread in threading.enumerate() if thread.name.startswith("enginelog-")}
        files = path.with_name(f"{path.name}-spool").glob("[0-9]*")
        exit_thread = {thread for thread in threads if thread.name == "enginelog-exit"}
        return [*(threads - self._threads - exit_thread), *files]


class TestCancelling:
    async def test_cancelling_everything(self, path: Path, query: Query) -> None:
        """After somebody cancels every task, the log still takes rows, flushes and closes."""
        async with EngineLog(path) as log:
            await log.log_steps(step_id=1)
            with pytest.warns(ResourceWarning, match="unclosed"):
                for task in asyncio.all_tasks() - {asyncio.current_task()}:
                    task.cancel()
                await asyncio.sleep(0.2)
            assert query("SELECT STEP_ID FROM ENGINE_DB_LOG_STEPS") == [(1,)]
            for number in range(2, 5000):
                await log.log_steps(step_id=number)
            await log.flush()
            await log.log_steps(step_id=5000)

        assert query("SELECT count(*), max(STEP_ID) FROM ENGINE_DB_LOG_STEPS") == [(5000, 5000)]
        assert query("SELECT HOW_ENDED FROM ENGINE_LOG_RUN") == [("closed",)]

    async def test_cancelling_aclose(self, path: Path, query: Query) -> None:
        """Closing goes on when the one who waits for it is cancelled."""
        log = await EngineLog(path).open()
        for number in range(100):
            await log.log_steps(step_id=number)
        closing = asyncio.create_task(log.aclose())
        await asyncio.sleep(0)
        closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing
        await log.aclose()

        assert query("SELECT count(*) FROM ENGINE_DB_LOG_STEPS") == [(100,)]
        assert query("SELECT HOW_ENDED FROM ENGINE_LOG_RUN") == [("closed",)]

    def test_closing_cancelled_with_its_loop(self, path: Path, query: Query) -> None:
        """A closing that asyncio.run() cancels at its end is finished all the same."""
        logs: list[EngineLog] = []

        async def main() -> None:
            log = await EngineLog(path).open()
            logs.append(log)
            for number in range(3000):
                await log.log_steps(step_id=number)
            closing = asyncio.create_task(log.aclose())
            await asyncio.sleep(0)
            closing.cancel()

        asyncio.run(main())
        asyncio.run(logs[0].aclose())
        asyncio.run(self.open_and_close(path))
        assert query("SELECT count(*), count(DISTINCT STEP_ID) FROM ENGINE_DB_LOG_STEPS") == [(3000, 3000)]

    @staticmethod
    async def open_and_close(path: Path) -> None:
        async with EngineLog(path):
            pass

    @pytest.mark.parametrize("turns", [*range(0, 30), *range(30, 300, 15)])
    async def test_cancelling_anywhere(self, path: Path, query: Query, turns: int) -> None:
        """Wherever the user's task is cancelled: rows whose call returned are there, once."""
        accepted: list[int] = []

        async def engine() -> None:
            async with EngineLog(path) as log:
                for number in range(3000):
                    await log.log_steps(step_id=number)
                    accepted.append(number)
                    if number % 700 == 0:
                        await log.flush()

        task = asyncio.create_task(engine())
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        # What was cancelled inside aclose() goes on by itself; give it the end.
        for other in asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait({other})
        async with EngineLog(path):
            pass

        steps = [step for (step,) in query("SELECT STEP_ID FROM ENGINE_DB_LOG_STEPS ORDER BY LOG_SEQ")]
        # The row of the call that was cancelled may be there, too.
        assert steps in (accepted, [*accepted, len(accepted)])

    @pytest.mark.parametrize("turns", [0, 1, 2, 3, 5, 8, 13, 21, 34, 55, 89])
    async def test_cancelling_the_writer_anywhere(self, path: Path, query: Query, turns: int) -> None:
        """Wherever the writer is cancelled, each row is committed once."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            async with EngineLog(path) as log:
                for number in range(2000):
                    log.log_row_nowait("ENGINE_DB_LOG_STEPS", {"step_id": number})
                flushing = asyncio.create_task(log.flush())
                for _ in range(turns):
                    await asyncio.sleep(0)
                [writer] = [task for task in asyncio.all_tasks() if task.get_name() == "enginelog-writer"]
                writer.cancel()
                await flushing

        assert query("SELECT count(*), count(DISTINCT STEP_ID) FROM ENGINE_DB_LOG_STEPS") == [(2000, 2000)]

    async def test_flush_while_a_cancelled_writer_ends(self, path: Path, query: Query) -> None:
        """Rows that come while a cancelled writer does its last round are for the next writer."""
        accepted = 0
        async with EngineLog(path, timeout=5.0) as log:
            for turns in range(60):
                [writer] = [task for task in asyncio.all_tasks() if task.get_name() == "enginelog-writer"]
                await log.log_steps(step_id=accepted)
                flushing = asyncio.create_task(log.flush())
                await asyncio.sleep(0)
                writer.cancel()
                for _ in range(turns):
                    await asyncio.sleep(0)
                await log.log_steps(step_id=accepted + 1)
                accepted += 2
                await log.flush()
                await flushing

        assert query("SELECT count(*), count(DISTINCT STEP_ID) FROM ENGINE_DB_LOG_STEPS") == [(120, 120)]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
class TestFork:
    def test_child_must_open_its_own(self, path: Path, query: Query) -> None:
        """In a forked child the log is closed and says so; both processes lose nothing."""
        script = """
            import asyncio, os, sys
            from async_enginelog import EngineLog, LogClosed

            async def child_main(path):
                async with EngineLog(path) as log:
                    await log.log_steps(step_id=2, step_name="child")

            async def main():
                async with EngineLog(sys.argv[1]) as log:
                    for number in range(100):
                        await log.log_steps(step_id=1, step_name="parent")
                    child = os.fork()
                    if child == 0:
                        try:
                            log.log_row_nowait("ENGINE_DB_LOG_STEPS", {"step_id": 3})
                        except LogClosed as error:
                            assert "before a fork" in str(error), error
                        else:
                            os._exit(1)
                        asyncio.events._set_running_loop(None)
                        asyncio.run(child_main(sys.argv[1]))
                        os._exit(0)
                    for number in range(100):
                        await log.log_steps(step_id=1, step_name="parent")
                    _, status = await asyncio.to_thread(os.waitpid, child, 0)
                    assert status == 0, status

            asyncio.run(main())
        """
        done = run_script(path, script)

        assert done.returncode == 0, done.stderr
        rows = query("SELECT STEP_NAME, count(*) FROM ENGINE_DB_LOG_STEPS GROUP BY 1 ORDER BY 1")
        assert rows == [("child", 1), ("parent", 200)]
        assert query("SELECT DISTINCT HOW_ENDED FROM ENGINE_LOG_RUN") == [("closed",)]

    @pytest.mark.parametrize(("work", "is_done"), [(0.1, True), (2.0, False)])
    def test_fork_lets_sqlite_finish(self, path: Path, work: float, *, is_done: bool) -> None:
        """A child would inherit its locks, and nobody who gives them up. A fork doesn't wait for long."""
        script = f"""
            import asyncio, os, pathlib, sys, threading, time
            from async_enginelog.connection import Connection

            begun, done = threading.Event(), []

            def work(sqlite):
                sqlite.execute("CREATE TABLE t (a)")
                begun.set()
                time.sleep({work})
                sqlite.commit()
                done.append(True)

            async def main():
                path = pathlib.Path(sys.argv[1])
                connection = await Connection.connect(path, str(path), uri=False)
                working = asyncio.create_task(connection.carry_out(work))
                while not begun.is_set():
                    await asyncio.sleep(0.001)
                asked = time.monotonic()
                child = os.fork()
                if child == 0:
                    os._exit(bool(done) is not {is_done})
                assert time.monotonic() - asked < 1
                _, status = os.waitpid(child, 0)
                assert status == 0, status
                await working
                assert await connection.fetch("SELECT count(*) FROM t") == [(0,)]
                await connection.close()

            asyncio.run(main())
        """
        done = run_script(path, script)
        assert done.returncode == 0, done.stderr

    def test_parent_dies_child_lives(self, path: Path, query: Query) -> None:
        """A forked child that lives on doesn't keep the dead parent's rows from being recovered."""
        script = """
            import asyncio, os, sys, time
            from async_enginelog import EngineLog

            async def main():
                async with EngineLog(sys.argv[1]) as log:
                    for number in range(100):
                        await log.log_steps(step_id=number)
                    if os.fork() == 0:
                        os.close(1), os.close(2)
                        time.sleep(5)
                        os._exit(0)
                    os.kill(os.getpid(), 9)

            asyncio.run(main())
        """
        assert run_script(path, script).returncode == -signal.SIGKILL
        asyncio.run(self.open_and_close(path))

        assert query("SELECT count(*) FROM ENGINE_DB_LOG_STEPS") == [(100,)]
        assert query("SELECT HOW_ENDED FROM ENGINE_LOG_RUN ORDER BY 1 DESC") == [("crashed",), ("closed",)]

    @staticmethod
    async def open_and_close(path: Path) -> None:
        async with EngineLog(path):
            pass


async def test_several_processes_share_one_database(path: Path, query: Query) -> None:
    """Four engines on one database: each row once, LOG_SEQ unique over all of them."""
    script = """
        import asyncio, sys
        from async_enginelog import EngineLog

        async def main():
            async with EngineLog(sys.argv[1]) as log:
                for number in range(5000):
                    await log.log_steps(step_id=number, recording_id=log.run_id)
                    if number % 100 == 0:
                        await asyncio.sleep(0.001)

        asyncio.run(main())
    """
    command = [sys.executable, "-c", textwrap.dedent(script), str(path)]
    engines = [subprocess.Popen(command, cwd=ROOT) for _ in range(4)]
    assert [await asyncio.to_thread(engine.wait, 60) for engine in engines] == [0, 0, 0, 0]

    rows = query(
        "SELECT count(*), count(DISTINCT LOG_SEQ), count(DISTINCT ENGINE_RUN_ID) FROM ENGINE_DB_LOG_STEPS"
    )
    assert rows == [(20_000, 20_000, 4)]
    assert query("SELECT HOW_ENDED, ROWS_STORED, count(*) FROM ENGINE_LOG_RUN GROUP BY 1, 2") == [
        ("closed", 5000, 4)
    ]


@pytest.mark.slow
async def test_a_million_rows_in_a_row(path: Path, query: Query) -> None:
    """One coroutine logs a million rows, await after await: other tasks run, memory stays flat."""
    process = psutil.Process()
    turns = 0
    worst = 0.0

    async def other() -> None:
        nonlocal turns, worst
        loop = asyncio.get_running_loop()
        while True:
            before = loop.time()
            await asyncio.sleep(0.001)
            worst = max(worst, loop.time() - before)
            turns += 1

    async with EngineLog(path) as log:
        task = asyncio.create_task(other())
        memory = []
        for number in range(1_000_000):
            await log.log_steps(step_id=number, step_name="a step")
            if number % 100_000 == 99_999:
                memory.append(process.memory_info().rss // 2**20)
        task.cancel()
    print(
        f"turns of the other task {turns:,}, longest {worst * 1e3:.0f} ms; MiB at each 100,000 rows {memory}"
    )
    assert turns > 100
    assert max(memory[2:]) - min(memory[2:]) < 48
    assert query("SELECT count(*), max(STEP_ID) FROM ENGINE_DB_LOG_STEPS") == [(1_000_000, 999_999)]
