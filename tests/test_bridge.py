"""What LogHandler promises: records of logging as rows, at no risk for who logs."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from async_enginelog import EngineLog, bind
from async_enginelog.bridge import LogHandler
from async_enginelog.functions import logged

from .conftest import Query

RECORDING = 202508290514312002
FILE = "test_bridge.py"

Told = Callable[[], Awaitable[list[str]]]


@pytest.fixture
async def log(path: Path) -> AsyncIterator[EngineLog]:
    """Give a log that is open."""
    async with EngineLog(path) as log:
        yield log


def logger_with(handler: logging.Handler, name: str = "engine.listener") -> logging.Logger:
    """Return a logger for this handler alone, out of reach of those of pytest, which raise what is wrong."""
    logger = logging.Logger(name, logging.DEBUG)
    logger.addHandler(handler)
    return logger


@pytest.fixture
def handler(log: EngineLog) -> LogHandler:
    """Give a handler that brings records into the log."""
    return LogHandler(log)


@pytest.fixture
def logger(handler: LogHandler) -> logging.Logger:
    """Give a logger that has this handler."""
    return logger_with(handler)


@pytest.fixture
def told(log: EngineLog, query: Query) -> Told:
    """Return the names of the steps, in order."""

    async def read() -> list[str]:
        await log.flush()
        return [name for (name,) in query("SELECT STEP_NAME FROM ENGINE_DB_LOG_STEPS ORDER BY LOG_SEQ")]

    return read


@pytest.fixture
def errors(log: EngineLog, query: Query) -> Told:
    """Return the messages of the errors, in order."""

    async def read() -> list[str]:
        await log.flush()
        rows = query("SELECT ERROR_MESSAGE_TEXT FROM ENGINE_DB_LOG_FUNCTION_ERROR ORDER BY LOG_SEQ")
        return [message for (message,) in rows]

    return read


class TestRows:
    async def test_a_record_is_a_step(self, log: EngineLog, logger: logging.Logger, query: Query) -> None:
        """A row has message, function, file and time of the record, and what is bound."""
        before = datetime.now(UTC)
        with bind(recording_id=RECORDING, frame_no=7, audio_chunk_no=2):
            logger.info("cut %d frames", 3)
        after = datetime.now(UTC)
        await log.flush()
        [(called, *columns)] = query(
            "SELECT DT_STEP_CALLED, STEP_NAME, PYTHON_FUNCTION_NAME, PYTHON_FILE_NAME, RECORDING_ID, "
            "AUDIO_CHUNK_NO, FRAME_NO, STEP_ID FROM ENGINE_DB_LOG_STEPS"
        )
        assert columns == ["cut 3 frames", "test_a_record_is_a_step", FILE, RECORDING, 2, 7, None]
        # The time of a record is a float, which rounds.
        assert f"{before:%Y-%m-%d %H:%M:%S.%f}"[:-3] <= called[:-3] <= f"{after:%Y-%m-%d %H:%M:%S.%f}"[:-3]

    async def test_the_time_is_the_records(self, handler: LogHandler, log: EngineLog, query: Query) -> None:
        """A record that comes late has the time when it was made."""
        record = logging.makeLogRecord({"msg": "late", "created": 1767323045.5})
        handler.handle(record)
        await log.flush()
        assert query("SELECT DT_STEP_CALLED FROM ENGINE_DB_LOG_STEPS") == [("2026-01-02 03:04:05.500000",)]

    async def test_an_exception_is_an_error(
        self, log: EngineLog, logger: logging.Logger, told: Told, query: Query
    ) -> None:
        """A record with an exception has message and exception in one column, the traceback in another."""
        with bind(recording_id=RECORDING, frame_no=7, audio_chunk_no=2):
            try:
                raise ValueError("boom")
            except ValueError:
                logger.exception("frame %d failed", 7)
        assert await told() == []
        [(traceback, *columns)] = query(
            "SELECT TRACEBACK_TEXT, ERROR_MESSAGE_TEXT, PYTHON_FUNCTION_NAME, PYTHON_FILE_NAME, "
            "RECORDING_ID, AUDIO_FRAME_NO, AUDIO_CHUNK_NO FROM ENGINE_DB_LOG_FUNCTION_ERROR"
        )
        name = "test_an_exception_is_an_error"
        assert columns == ["frame 7 failed: ValueError: boom", name, FILE, RECORDING, 7, 2]
        assert traceback.endswith('    raise ValueError("boom")\nValueError: boom\n')

    async def test_one_exception_has_one_row(self, logger: logging.Logger, told: Told, errors: Told) -> None:
        """An exception that has its row already is told as a step: the message isn't lost."""

        @logged(start=False)
        def fail() -> None:
            raise ValueError("boom")

        try:
            fail()
        except ValueError:
            logger.exception("given up")
        assert await errors() == ["ValueError: boom"]
        assert await told() == ["given up: ValueError: boom"]

    async def test_a_cancellation_is_no_error(self, logger: logging.Logger, told: Told, errors: Told) -> None:
        """That something was cancelled is a step."""
        logger.warning("stopped", exc_info=asyncio.CancelledError())
        assert await errors() == []
        assert await told() == ["stopped: CancelledError"]

    async def test_no_exception_at_all(self, logger: logging.Logger, told: Told) -> None:
        """Asking for an exception where there is none makes a step."""
        logger.info("all is well", exc_info=True)
        assert await told() == ["all is well"]

    async def test_the_formatter_has_its_say(
        self, handler: LogHandler, logger: logging.Logger, told: Told, errors: Told
    ) -> None:
        """The message is what the formatter makes of it, without the traceback; the record stays as it is."""
        handler.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
        record = logger.makeRecord("engine", logging.ERROR, "x.py", 1, "failed", (), None)
        record.exc_info = (ValueError, ValueError("boom"), None)
        logger.handle(record)
        logger.info("fine")
        assert await told() == ["INFO engine.listener: fine"]
        assert await errors() == ["ERROR engine: failed: ValueError: boom"]
        assert record.exc_text is None

    async def test_levels_and_filters(self, handler: LogHandler, logger: logging.Logger, told: Told) -> None:
        """Levels and filters are as those of any handler."""
        handler.setLevel("WARNING")
        handler.addFilter(lambda record: "secret" not in record.getMessage())
        for message in ("plain", "secret"):
            logger.info(message)
            logger.warning(message)
        assert await told() == ["plain"]

    async def test_a_filter_may_change_the_record(self, log: EngineLog, told: Told) -> None:
        """If the filters give another record, as they may from Python 3.12 on, that one is brought in."""

        class Shortening(LogHandler):
            def filter(self, record: logging.LogRecord) -> Any:
                return logging.makeLogRecord({**vars(record), "msg": "short"})

        logger_with(Shortening(log)).info("long")
        assert await told() == ["short"]

    async def test_threads(self, logger: logging.Logger, told: Told) -> None:
        """Any thread may log."""
        await asyncio.gather(*(asyncio.to_thread(logger.info, "thread %d", number) for number in range(8)))
        assert sorted(await told()) == [f"thread {number}" for number in range(8)]


class TestHarmless:
    @pytest.mark.parametrize("name", ["async_enginelog", "aiosqlite", "filelock", "aiosqlite.core"])
    async def test_what_the_log_says_is_left_out(self, handler: LogHandler, told: Told, name: str) -> None:
        """Rows about rows would have no end."""
        logger_with(handler, name).error("no")
        logger_with(handler, f"not.{name}").error("yes")
        assert await told() == ["yes"]

    async def test_the_root_logger_may_have_it(self, handler: LogHandler, log: EngineLog, told: Told) -> None:
        """At the root, at the finest level, the log doesn't feed itself."""
        root = logging.getLogger()
        level = root.level
        root.addHandler(handler)
        root.setLevel(logging.DEBUG)
        try:
            logging.getLogger("engine").debug("once")
            for _ in range(5):
                await log.flush()
        finally:
            root.removeHandler(handler)
            root.setLevel(level)
        assert await told() == ["once"]

    async def test_a_message_that_logs(self, logger: logging.Logger, told: Told) -> None:
        """What is logged while a record is brought in isn't; otherwise there would be no end."""

        class Chatty:
            def __str__(self) -> str:
                logger.info("I am asked: %s", self)
                return "chatty"

        logger.info("%s", Chatty())
        logger.info("next")
        assert await told() == ["chatty", "next"]

    async def test_arguments_that_do_not_fit(
        self, logger: logging.Logger, told: Told, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """A message that can't be formatted is brought in as it is; nothing is printed."""
        logger.info("cut %d frames", "three")

        class Mute:
            def __str__(self) -> str:
                raise RuntimeError("no")

        logger.info(Mute())
        assert await told() == [
            "cut %d frames (TypeError: %d format: a real number is required, not str)",
            "Mute (RuntimeError: no)",
        ]
        assert capsys.readouterr().err == ""

    async def test_a_filter_that_fails(self, handler: LogHandler, logger: logging.Logger) -> None:
        """Not even a filter that is wrong disturbs who logs."""
        handler.addFilter(lambda record: 1 / 0 > 0)
        logger.info("no")

    async def test_records_do_not_wait_for_each_other(self, logger: logging.Logger, told: Told) -> None:
        """While a thread is still at its record, another one brings in its own."""
        asked, go_on = threading.Event(), threading.Event()

        class Slow:
            def __str__(self) -> str:
                asked.set()
                assert go_on.wait(5)
                return "slow"

        slow = asyncio.create_task(asyncio.to_thread(logger.info, "%s", Slow()))
        assert await asyncio.to_thread(asked.wait, 5)
        logger.info("meanwhile")
        go_on.set()
        await slow
        assert await told() == ["meanwhile", "slow"]

    async def test_a_log_that_is_not_open(
        self, path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Before a log is open and after it is closed, records go nowhere, and nobody hears of it."""
        log = EngineLog(path)
        logger = logger_with(LogHandler(log))
        logger.warning("before")
        async with log:
            pass
        logger.error("after", exc_info=ValueError("boom"))
        log.tell("test", "the only warning")  # comes after any other
        async with asyncio.timeout(5):
            while not caplog.messages:
                await asyncio.sleep(0.01)
        assert caplog.messages == ["the only warning"]
        assert capsys.readouterr().err == ""
