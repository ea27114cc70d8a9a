"""Messages whose frames come one by one: listeners/incoming.py."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from async_enginelog import EngineLog, read_message
from async_enginelog.listeners.connections import ConnectionLog, now
from async_enginelog.listeners.incoming import IncomingMessages
from async_enginelog.peers import TrustedProxies
from async_enginelog.values import time_text

from ..conftest import Query
from .serving import message_rows

pytestmark = pytest.mark.usefixtures("small_segments")


@pytest.fixture
async def log(path: Path) -> AsyncIterator[EngineLog]:
    """An open log."""
    async with EngineLog(path) as log:
        yield log


@pytest.fixture
def messages(log: EngineLog) -> IncomingMessages:
    """The messages of a connection."""
    return IncomingMessages(ConnectionLog(log, read_message, TrustedProxies()))


def clock() -> str:
    """Return the present time as it is stored."""
    return time_text(now().isoformat(timespec="microseconds"))


def text(messages: IncomingMessages, data: bytes = b"a", *, is_last: bool = True) -> None:
    """Let a frame of text come, all at once."""
    messages.bytes_come()
    messages.frame_came(data, is_text=True, is_last=is_last)
    messages.bytes_came(is_midway=False)


class TestTimes:
    async def test_first_byte(self, log: EngineLog, query: Query, messages: IncomingMessages) -> None:
        """A message is received when its first byte comes, however often bytes come until it is complete."""
        times = [clock()]
        for _ in range(3):
            messages.bytes_come()
            messages.bytes_came(is_midway=True)
            times.append(clock())
        text(messages)
        text(messages)
        await log.flush()

        first, second = message_rows(query)
        assert times[0] <= first.received <= times[1] <= times[3] <= first.queued <= second.received

    async def test_second_in_the_same_bytes(
        self, log: EngineLog, query: Query, messages: IncomingMessages
    ) -> None:
        """The end of one message and the beginning of the next may come together."""
        messages.bytes_come()
        messages.bytes_came(is_midway=True)
        between = clock()
        messages.bytes_come()
        messages.frame_came(b"one", is_text=True, is_last=True)
        messages.bytes_came(is_midway=True)
        then = clock()
        text(messages)
        await log.flush()

        first, second = message_rows(query)
        assert first.received <= between <= second.received <= then <= second.queued

    async def test_after_a_control_frame(
        self, log: EngineLog, query: Query, messages: IncomingMessages
    ) -> None:
        """So may the end of a ping and the beginning of a message."""
        messages.bytes_come()
        messages.bytes_came(is_midway=True)
        between = clock()
        messages.bytes_come()
        messages.control_came()
        messages.bytes_came(is_midway=True)
        text(messages)
        await log.flush()

        assert between <= message_rows(query)[0].received

    async def test_first_of_many_frames(
        self, log: EngineLog, query: Query, messages: IncomingMessages
    ) -> None:
        """A message in many frames is received with the first, and queued with the last."""
        text(messages, b"a", is_last=False)
        between = clock()
        text(messages, b"b", is_last=False)
        text(messages, b"c")
        await log.flush()

        [row] = message_rows(query)
        assert row.received <= between <= row.queued


class TestTaking:
    async def test_in_order(self, log: EngineLog, query: Query, messages: IncomingMessages) -> None:
        """Messages are taken in the order in which they came; if there is none, nothing happens."""
        messages.took_next()
        for _ in range(3):
            text(messages)
        messages.took_next()
        messages.began_next()
        await log.flush()

        assert [row.started is not None for row in message_rows(query)] == [True, True, False]

    async def test_begun_before_it_is_complete(
        self, log: EngineLog, query: Query, messages: IncomingMessages
    ) -> None:
        """A message of which a part was taken has begun, and isn't the next any more."""
        text(messages, is_last=False)
        messages.began_next()
        between = clock()
        text(messages)
        text(messages)
        messages.took_next()
        await log.flush()

        first, second = message_rows(query)
        assert first.started <= between <= first.queued <= second.started

    async def test_begun_without_a_message(self, log: EngineLog, messages: IncomingMessages) -> None:
        """Where nothing came, nothing has begun."""
        messages.began_next()
        assert log.statistics().accepted == 0

    async def test_messages_that_are_lost(
        self, log: EngineLog, query: Query, messages: IncomingMessages
    ) -> None:
        """The oldest messages can be forgotten, if there are so many."""
        for _ in range(3):
            text(messages)
        messages.keep_last(5)
        messages.keep_last(1)
        messages.took_next()
        await log.flush()

        assert [row.started is not None for row in message_rows(query)] == [False, False, True]


class TestBreakingOff:
    @pytest.mark.parametrize("begun", [False, True])
    @pytest.mark.parametrize("kind", ["INCOMPLETE", "TOO_BIG"])
    async def test_within_a_message(
        self, log: EngineLog, query: Query, messages: IncomingMessages, kind: str, begun: bool
    ) -> None:
        """A message that is broken off has one row, never queued, taken if a part of it was."""
        text(messages, is_last=False)
        if begun:
            messages.began_next()
        if kind == "TOO_BIG":
            messages.refused()
        messages.ended()
        messages.ended()
        await log.flush()

        assert [(row.kind, row.queued, row.started is not None) for row in message_rows(query)] == [
            (kind, None, begun)
        ]

    async def test_begun_afterwards(self, log: EngineLog, query: Query, messages: IncomingMessages) -> None:
        """Its part may be taken after the end."""
        text(messages, is_last=False)
        messages.ended()
        messages.began_next()
        await log.flush()

        [row] = message_rows(query)
        assert row.received <= row.started

    async def test_within_a_frame(self, log: EngineLog, query: Query, messages: IncomingMessages) -> None:
        """The beginning of a frame is the beginning of a message."""
        messages.bytes_come()
        messages.bytes_came(is_midway=True)
        between = clock()
        messages.ended()
        await log.flush()

        [row] = message_rows(query)
        assert (row.kind, row.queued) == ("INCOMPLETE", None)
        assert row.received <= between

    async def test_between_messages(self, log: EngineLog, query: Query, messages: IncomingMessages) -> None:
        """Between messages, only what is refused is broken off."""
        text(messages)
        messages.ended()
        messages.refused()
        await log.flush()

        assert [row.kind for row in message_rows(query)] == ["TEXT", "TOO_BIG"]


class TestReading:
    @pytest.mark.parametrize(
        ("parts", "is_text", "kind"),
        [
            ([b'{"type":', b'"ping"}'], True, "PING"),
            ([b"\xc3", b"\xa9"], True, "TEXT"),
            ([b"\xff"], True, "MALFORMED"),
            ([b"\xff"], False, "BINARY"),
            ([b"x" * 40_000, b"x" * 40_000, b"x"], True, "TEXT"),
            ([b"x" * 70_000], False, "BINARY"),
            ([bytearray(b"a"), memoryview(b"b")], True, "TEXT"),
            ([], True, "TEXT"),
        ],
    )
    async def test_kinds(
        self,
        log: EngineLog,
        query: Query,
        messages: IncomingMessages,
        parts: list[bytes],
        is_text: bool,
        kind: str,
    ) -> None:
        """A message is read when it is whole, unless it is long or no UTF-8."""
        for part in parts:
            messages.frame_came(part, is_text=is_text, is_last=False)
        messages.frame_came(b"", is_text=is_text, is_last=True)
        await log.flush()

        assert [row.kind for row in message_rows(query)] == [kind]
