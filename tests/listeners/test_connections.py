"""A connection and its messages in the log, whatever server they come from: listeners/connections.py."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from async_enginelog import EngineLog, Message, read_message
from async_enginelog.listeners.connections import ConnectionLog, now, said
from async_enginelog.peers import TrustedProxies

from ..conftest import Query
from .serving import Unsayable, connection_rows, error_texts, message_rows, until

pytestmark = pytest.mark.usefixtures("small_segments")

HEADER = Message("FRAME", 12, 3, audio_follows=True)
BINARY = Message("BINARY")
LATER = timedelta(seconds=1)


def connection_log(log: EngineLog, read: Callable[[Any], Any] = read_message) -> ConnectionLog:
    """Return the log of a connection that was asked for."""
    connection = ConnectionLog(log, read, TrustedProxies())
    connection.requested(("192.0.2.1", 50000), [("Host", "x")])
    return connection


@pytest.fixture
async def log(path: Path) -> AsyncIterator[EngineLog]:
    """An open log."""
    async with EngineLog(path) as log:
        yield log


class TestConnection:
    async def test_times(self, log: EngineLog, query: Query) -> None:
        """Each step of a connection fills its time in; the last two do so once."""
        before = now()
        connection = connection_log(log)
        assert connection.is_requested
        connection.accepted()
        began_to_end = [connection.is_disconnected]
        connection.disconnected()
        began_to_end.append(connection.is_disconnected)
        connection.closed()
        assert began_to_end == [False, True]
        await log.flush()
        [row] = connection_rows(query)
        connection.disconnected()
        connection.closed()
        await log.flush()

        assert connection_rows(query) == [row]
        assert (row.id, row.host, row.port, row.headers) == (
            connection.id,
            "192.0.2.1",
            "50000",
            '{"Host":"x"}',
        )
        assert (
            f"{before:%Y-%m-%d %H:%M:%S.%f}"
            <= row.requested
            <= row.accepted
            <= row.disconnected
            <= row.closed
        )

    async def test_headers_may_be_read_once(self, log: EngineLog, query: Query) -> None:
        """Headers may come from a generator; repeated ones are joined."""
        connection = ConnectionLog(log, read_message, TrustedProxies(["127.0.0.1"]))
        pairs = [("X-Forwarded-For", "192.0.2.1"), ("X-Forwarded-For", "192.0.2.2"), ("Cookie", "a=b")]
        connection.requested(("127.0.0.1", 1), (pair for pair in pairs))
        await log.flush()

        [row] = connection_rows(query)
        assert row.host == "192.0.2.2"
        assert row.headers == '{"X-Forwarded-For":"192.0.2.1, 192.0.2.2","Cookie":"***"}'

    async def test_ids_are_the_connections_own(self, log: EngineLog) -> None:
        """No two connections have an id in common."""
        assert len({connection_log(log).id for _ in range(10)}) == 10

    @pytest.mark.parametrize(
        ("error", "text"),
        [(ValueError("no"), "ValueError: no"), (KeyError(), "KeyError: "), (Unsayable(), "Unsayable")],
    )
    async def test_failure(self, log: EngineLog, query: Query, error: Exception, text: str) -> None:
        """Why it failed is an error line that names the connection."""
        connection = connection_log(log)
        connection.failed("serve", error)
        await log.flush()

        assert said(error) == text
        assert error_texts(query) == [f"connection {connection.id}: {text}"]
        assert query("SELECT PYTHON_FUNCTION_NAME FROM ENGINE_DB_LOG_FUNCTION_ERROR") == [("serve",)]


class TestMessages:
    async def test_one_row(self, log: EngineLog, query: Query) -> None:
        """A message's row says what it is, and when it was received, queued and taken."""
        connection = connection_log(log)
        received = now() - LATER
        message = connection.arrived(Message("START", 12, 7), received, binary=False)
        taken = [connection.taken]
        connection.took(message)
        taken.append(connection.taken)
        assert taken == [None, message]
        await log.flush()

        [row] = message_rows(query)
        assert row[:5] == (message.id, connection.id, "START", 12, 7)
        assert row.received == f"{received:%Y-%m-%d %H:%M:%S.%f}"
        assert row.received < row.queued <= row.started

    async def test_taken_earlier(self, log: EngineLog, query: Query) -> None:
        """It may have been taken at another time than now."""
        connection = connection_log(log)
        started = datetime(2026, 1, 2, 3, 4, 5, 6, UTC)
        connection.took(connection.arrived(BINARY, now(), binary=True), started)
        await log.flush()

        assert message_rows(query)[0].started == "2026-01-02 03:04:05.000006"

    async def test_header_and_audio_are_one(self, log: EngineLog, query: Query) -> None:
        """A header's row is queued and started with its audio, whatever text comes between."""
        connection = connection_log(log)
        header = connection.arrived(HEADER, now(), binary=False)
        connection.took(header)
        between = connection.arrived(Message("PING"), now(), binary=False)
        await log.flush()
        assert [(row.queued is None, row.started) for row in message_rows(query)] == [
            (True, None),
            (False, None),
        ]

        audio = connection.arrived(BINARY, now(), binary=True)
        connection.took(audio)
        await log.flush()
        assert (audio.id, audio.header, audio.message, header.header) == (header.id, header, BINARY, None)
        assert connection.taken is audio
        first, second = message_rows(query)
        assert (first.id, first.kind, first.frame_no) == (header.id, "FRAME", 3)
        assert first.received <= second.queued <= first.queued <= first.started
        assert second.id == between.id

    async def test_header_and_audio_that_come_at_once_are_logged_once(
        self, log: EngineLog, query: Query
    ) -> None:
        """A client that sends one after the other, as they all do, costs a call less for each frame."""
        connection = connection_log(log)
        before = log.statistics().accepted
        connection.arrived(HEADER, now(), binary=False)
        assert log.statistics().accepted == before
        connection.arrived(BINARY, now(), binary=True)
        connection.settle()
        assert log.statistics().accepted == before + 1
        await log.flush()

        (row,) = message_rows(query)
        assert (row.kind, row.recording, row.frame_no) == ("FRAME", 12, 3)
        assert row.received <= row.queued

    async def test_header_whose_audio_comes_later_is_logged_before(
        self, log: EngineLog, query: Query
    ) -> None:
        """Whatever becomes of the audio, or of the engine: the header has come."""
        connection = connection_log(log)
        connection.arrived(HEADER, now(), binary=False)
        connection.settle()
        connection.settle()
        await log.flush()
        assert [(row.kind, row.frame_no, row.queued) for row in message_rows(query)] == [("FRAME", 3, None)]

        connection.arrived(BINARY, now(), binary=True)
        await log.flush()
        (row,) = message_rows(query)
        assert (row.kind, row.frame_no, row.queued is None) == ("FRAME", 3, False)

    async def test_audio_belongs_to_the_header_before_it(self, log: EngineLog, query: Query) -> None:
        """Of two headers, the second has the audio; binary without a header is a message of its own."""
        connection = connection_log(log)
        first, second = (connection.arrived(HEADER, now(), binary=False) for _ in range(2))
        audio, orphan = (connection.arrived(BINARY, now(), binary=True) for _ in range(2))
        await log.flush()

        assert (audio.id, orphan.header) == (second.id, None)
        assert len({first.id, second.id, orphan.id}) == 3
        assert [(row.kind, row.queued is None) for row in message_rows(query)] == [
            ("FRAME", True),
            ("FRAME", False),
            ("BINARY", False),
        ]

    async def test_incomplete(self, log: EngineLog, query: Query) -> None:
        """A message that never was complete has a row of its own, without a time of queueing."""
        connection = connection_log(log)
        connection.arrived(HEADER, now(), binary=False)
        rest = connection.arrived(Message("INCOMPLETE"), now(), binary=True, is_complete=False)
        await log.flush()

        assert rest.header is None
        assert [(row.kind, row.queued) for row in message_rows(query)] == [
            ("FRAME", None),
            ("INCOMPLETE", None),
        ]


class TestReading:
    async def test_whole_messages_only(self, log: EngineLog) -> None:
        """Text and bytes of up to 64 KiB are read; of longer ones only the kind is known."""
        seen: list[int] = []

        def read(data: str | bytes) -> Message:
            seen.append(len(data))
            return Message("READ")

        connection = connection_log(log, read)
        for letter, kind in (("x", "TEXT"), (b"x", "BINARY")):
            assert connection.read(letter * 65_536) == Message("READ")
            assert connection.read(letter * 65_537) == Message(kind)
        assert seen == [65_536, 65_536]

    @pytest.mark.parametrize(
        ("answer", "problem"),
        [
            (None, "it returned NoneType; return a Message"),
            (Message(5), "the type of a Message is text"),  # type: ignore[arg-type]
            (Message("A", frame_no="5"), "are whole numbers or None"),  # type: ignore[arg-type]
            (Message("A", fields=[]), "the fields of a Message are a mapping"),  # type: ignore[arg-type]
        ],
    )
    async def test_answers_that_are_none(
        self, log: EngineLog, caplog: pytest.LogCaptureFixture, answer: Any, problem: str
    ) -> None:
        """What isn't a message, or holds what it shouldn't, makes the message UNREAD, and is said."""
        message = connection_log(log, lambda data: answer).read("hello")
        assert message.type == "UNREAD"
        assert message.problem is not None
        assert message.problem.startswith("read_message failed: TypeError: ")
        assert problem in message.problem
        await until(lambda: problem in caplog.text)

    @pytest.mark.parametrize("error", [ValueError("no"), Unsayable(), RecursionError()])
    async def test_reader_that_raises(self, log: EngineLog, error: Exception) -> None:
        """So does an exception, whichever."""

        def read(data: str | bytes) -> Message:
            raise error

        assert connection_log(log, read).read(b"hello") == Message(
            "UNREAD", problem=f"read_message failed: {said(error)}"
        )


class TestWithoutALog:
    async def test_that_is_open(self, path: Path, caplog: pytest.LogCaptureFixture) -> None:
        """Without an open log all goes on; messages are known, but not logged, and that is said once."""
        connection = connection_log(EngineLog(path))
        connection.accepted()
        header = connection.arrived(HEADER, now(), binary=False)
        audio = connection.arrived(BINARY, now(), binary=True)
        connection.took(audio)
        connection.failed("serve", ValueError())
        connection.closed()

        assert (connection.id, header.id, audio.header) == (0, 0, header)
        assert connection.taken is audio
        await until(lambda: "made while it isn't open aren't logged" in caplog.text)
        assert len(caplog.records) == 1

    async def test_that_is_opened_later(self, path: Path, query: Query) -> None:
        """What began before the log was opened leaves no half rows in it."""
        log = EngineLog(path)
        connection = connection_log(log)
        async with log:
            connection.arrived(BINARY, now(), binary=True)
            connection.closed()

        assert connection_rows(query) == []
        assert message_rows(query) == []

    async def test_that_is_closed_meanwhile(
        self, path: Path, query: Query, caplog: pytest.LogCaptureFixture
    ) -> None:
        """What comes after the log was closed isn't logged; what came before is."""
        async with EngineLog(path) as log:
            connection = connection_log(log)
        connection.took(connection.arrived(BINARY, now(), binary=True))
        connection.closed()

        assert [row.closed for row in connection_rows(query)] == [None]
        assert message_rows(query) == []
        await until(lambda: "this EngineLog is closed" in caplog.text)
