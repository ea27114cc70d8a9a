"""What a step promises: a row when it begins, one when it ends, and a number that says they are one."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from async_enginelog import EngineLog, bind, steps
from async_enginelog.functions import logged
from async_enginelog.steps import StepNumbers

from .conftest import Query

RECORDING = 202508290514312002
FILE = "test_steps.py"

Told = Callable[[], Awaitable[list[tuple[int, str]]]]


@pytest.fixture
async def log(path: Path) -> AsyncIterator[EngineLog]:
    """Give a log that is open."""
    async with EngineLog(path) as log:
        yield log


@pytest.fixture
def told(log: EngineLog, query: Query) -> Told:
    """Return numbers and names of the steps, in order, without times."""

    async def read() -> list[tuple[int, str]]:
        await log.flush()
        rows = query("SELECT STEP_ID, STEP_NAME FROM ENGINE_DB_LOG_STEPS ORDER BY LOG_SEQ")
        return [(number, re.sub(r"\(\d+\.\d{3}s\)", "(s)", name)) for number, name in rows]

    return read


class TestRows:
    async def test_with(self, log: EngineLog, told: Told) -> None:
        """A step has two rows of the same number, the second of which tells how it ended."""
        with log.step("resample"):
            assert await told() == [(1, "resample")]
        assert await told() == [(1, "resample"), (1, "resample: End (s)")]

    async def test_async_with(self, log: EngineLog, told: Told) -> None:
        """The same object is for `async with`."""
        step = log.step("resample")
        async with step as entered:
            assert entered is step
        assert await told() == [(1, "resample"), (1, "resample: End (s)")]

    async def test_what_a_row_says(self, log: EngineLog, query: Query) -> None:
        """A row has the calling function and its file, what is bound, when it was, and how long that took."""

        class Engine:
            async def analyse(self) -> None:
                with log.step("resample"):
                    await asyncio.sleep(0.02)

        with bind(recording_id=RECORDING, frame_no=7, audio_chunk_no=2):
            await Engine().analyse()
        await log.flush()
        begin, end = query(
            "SELECT PYTHON_FUNCTION_NAME, PYTHON_FILE_NAME, RECORDING_ID, AUDIO_CHUNK_NO, FRAME_NO, STEP_ID, "
            "STEP_NAME, DT_STEP_CALLED FROM ENGINE_DB_LOG_STEPS ORDER BY LOG_SEQ"
        )
        name = "TestRows.test_what_a_row_says.Engine.analyse"
        assert begin[:7] == (name, FILE, RECORDING, 2, 7, 1, "resample")
        assert end[:6] == begin[:6]
        assert 0.02 <= float(re.fullmatch(r"resample: End \((\d\.\d{3})s\)", end[6])[1]) < 5  # type: ignore[index]
        assert begin[7] < end[7]

    async def test_what_is_bound_at_the_beginning_counts(self, log: EngineLog, query: Query) -> None:
        """Both rows are of the same recording, whatever is bound inside."""
        with log.step("a"), bind(recording_id=RECORDING):
            pass
        await log.flush()
        assert query("SELECT count(RECORDING_ID) FROM ENGINE_DB_LOG_STEPS") == [(0,)]

    async def test_an_error(self, log: EngineLog, told: Told, query: Query) -> None:
        """An exception passes, is told, and has its row with its traceback."""
        with (
            pytest.raises(ValueError, match="boom"),
            bind(recording_id=RECORDING, frame_no=7, audio_chunk_no=2),
        ):
            async with log.step("resample"):
                raise ValueError("boom")
        assert (await told())[1] == (1, "resample: Error: ValueError: boom")
        [(traceback, *columns)] = query(
            "SELECT TRACEBACK_TEXT, ERROR_MESSAGE_TEXT, PYTHON_FUNCTION_NAME, PYTHON_FILE_NAME, "
            "RECORDING_ID, AUDIO_FRAME_NO, AUDIO_CHUNK_NO FROM ENGINE_DB_LOG_FUNCTION_ERROR"
        )
        assert columns == ["ValueError: boom", "TestRows.test_an_error", FILE, RECORDING, 7, 2]
        assert traceback.endswith("ValueError: boom\n")

    async def test_one_exception_has_one_row(self, log: EngineLog, told: Told, query: Query) -> None:
        """Through steps and functions an exception has one row, that of the innermost."""

        @logged
        def fail() -> None:
            with log.step("inner"):
                raise ValueError("boom")

        with pytest.raises(ValueError, match="boom"), log.step("outer"):
            fail()
        assert (await told())[2:] == [
            (2, "inner: Error: ValueError: boom"),
            (1, "outer: Error: ValueError: boom"),
        ]
        names = query("SELECT PYTHON_FUNCTION_NAME FROM ENGINE_DB_LOG_FUNCTION_ERROR")
        assert names == [("TestRows.test_one_exception_has_one_row.fail",)]

    async def test_a_cancellation_is_no_error(self, log: EngineLog, told: Told, query: Query) -> None:
        """A step that is cancelled says so; nothing is an error."""

        async def wait() -> None:
            async with log.step("wait"):
                await asyncio.Event().wait()

        task = asyncio.create_task(wait())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (await told())[1] == (1, "wait: Cancelled (s)")
        assert query("SELECT count(*) FROM ENGINE_DB_LOG_FUNCTION_ERROR") == [(0,)]

    async def test_a_generator_that_is_closed(self, log: EngineLog, told: Told) -> None:
        """A step in a generator that is closed was closed with it."""

        def items() -> Generator[int, None, None]:
            with log.step("items"):
                yield 1

        generator = items()
        next(generator)
        generator.close()
        assert (await told())[1] == (1, "items: Closed (s)")

    async def test_a_long_name_leaves_room(self, log: EngineLog, told: Told) -> None:
        """However long a name is, its second row tells how it ended."""
        with log.step("𝄞" * 200):
            pass
        assert await told() == [(1, "𝄞" * 50), (1, "𝄞" * 35 + ": End (s)")]

    async def test_again(self, log: EngineLog, told: Told) -> None:
        """The same object used again is another step."""
        step = log.step("again")
        for _ in range(2):
            with step:
                pass
        assert await told() == [(1, "again"), (1, "again: End (s)"), (2, "again"), (2, "again: End (s)")]


class TestNumbers:
    async def test_each_recording_has_its_own(self, log: EngineLog, told: Told) -> None:
        """Steps are numbered from 1 within a recording, and those without one within the run."""
        for recording_id in (1, 2, None, 1, None):
            with bind(recording_id=recording_id), log.step(str(recording_id)):
                pass
        begun = [row for row in await told() if ":" not in row[1]]
        assert begun == [(1, "1"), (1, "2"), (1, "None"), (2, "1"), (2, "None")]

    async def test_threads_share_them(self, log: EngineLog, query: Query) -> None:
        """In threads, steps go on counting with what is bound; no number comes twice."""

        def work() -> None:
            for _ in range(100):
                with log.step("work"):
                    pass

        with bind(recording_id=RECORDING):
            await asyncio.gather(*(asyncio.to_thread(work) for _ in range(4)))
        await log.flush()
        numbers = query("SELECT STEP_ID FROM ENGINE_DB_LOG_STEPS WHERE RECORDING_ID = ?", (RECORDING,))
        assert sorted(numbers) == sorted(2 * [(number,) for number in range(1, 401)])

    def test_no_number_comes_twice(self) -> None:
        """However threads take turns, each gets numbers of its own."""
        numbers = StepNumbers()
        interval = sys.getswitchinterval()
        sys.setswitchinterval(1e-6)
        try:
            with ThreadPoolExecutor(4) as pool:
                given = list(pool.map(lambda _: [numbers.next(1) for _ in range(5000)], range(4)))
        finally:
            sys.setswitchinterval(interval)
        assert sorted(number for some in given for number in some) == list(range(1, 20_001))

    def test_old_recordings_are_forgotten(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Of more than a thousand recordings, that used longest ago begins again; the run never does."""
        monkeypatch.setattr(steps, "MAX_RECORDINGS", 3)
        numbers = StepNumbers()
        assert [numbers.next(recording) for recording in (None, 1, 2, 3, 1, 4)] == [1, 1, 1, 1, 2, 1]
        assert [numbers.next(recording) for recording in (1, 3, 4, 2, None)] == [3, 2, 2, 1, 2]


class TestHarmless:
    def test_a_name_is_a_text(self) -> None:
        """Another name is refused at once."""
        name: Any = 5
        with pytest.raises(TypeError, match="the name of a step is 5; pass a text"):
            EngineLog("x.db").step(name)

    async def test_a_log_that_is_not_open(self, path: Path, caplog: pytest.LogCaptureFixture) -> None:
        """Before a log is open and after it is closed, what is inside just runs; the missing row is told."""
        log = EngineLog(path)
        ran = []
        with log.step("before"):
            ran.append("before")
        async with log:
            pass
        with pytest.raises(ValueError, match="boom"), log.step("after"):
            ran.append("after")
            raise ValueError("boom")
        assert ran == ["before", "after"]
        async with asyncio.timeout(5):
            while "isn't logged" not in caplog.text:
                await asyncio.sleep(0.01)

    async def test_at_any_depth(self, log: EngineLog) -> None:
        """However near the limit of recursion is, only the exception of the block or the limit's arrives."""

        def at_depth(depth: int) -> None:
            if depth:
                at_depth(depth - 1)
            else:
                with log.step("deep"):
                    raise ValueError("boom")

        arrived = set()
        for depth in range(800, 1000):
            try:
                at_depth(depth)
            except (ValueError, RecursionError) as error:
                arrived.add(type(error))
        assert arrived == {ValueError, RecursionError}
