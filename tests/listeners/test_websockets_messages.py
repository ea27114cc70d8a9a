"""What a websockets server logs of its messages by itself: listeners/websockets.py."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from async_enginelog import EngineLog, Message
from async_enginelog.listeners.connections import now
from async_enginelog.values import time_text

from ..conftest import Query
from .raw import BINARY, CONT, PING, TEXT, close, deflated, frame
from .serving import (
    Unsayable,
    chatting,
    connection_rows,
    echoes,
    error_texts,
    log_talk,
    message_rows,
    receives,
    serving,
    talking,
    until,
    waits,
)

pytestmark = pytest.mark.usefixtures("small_segments")

START = b'{"MESSAGE_TYPE":"START","RECORDING_ID":"202508290514312002","AUDIO_STREAM_FILE_NAME":"a.wav"}'
HEADER = b'{"MESSAGE_TYPE":"FRAME","RECORDING_ID":"12","FRAME_NO":"3","BYTES_LEN":4}'


async def streams(connection: ServerConnection) -> None:
    """Receive everything in parts."""
    with suppress(ConnectionClosed):
        while True:
            async for _ in connection.recv_streaming():
                pass


async def receives_bytes(connection: ServerConnection) -> None:
    """Receive everything as bytes."""
    with suppress(ConnectionClosed):
        while True:
            await connection.recv(decode=False)


async def receives_in_turns(connection: ServerConnection) -> None:
    """Receive with timeouts that cancel."""
    with suppress(ConnectionClosed):
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(0.001):
                    await connection.recv()


def text_of_now() -> str:
    """Return the present time as it is stored."""
    return time_text(now().isoformat(timespec="microseconds"))


class TestWholeMessages:
    @pytest.mark.parametrize(
        ("data", "expected"),
        [
            (frame(TEXT, START), ("START", 202508290514312002, None)),
            (frame(TEXT, b'{"type":"stop","recording_id":12}'), ("STOP", 12, None)),
            (frame(TEXT, b'{"type":"ping","t":1.5}'), ("PING", None, None)),
            (frame(TEXT, b"hello"), ("TEXT", None, None)),
            (frame(TEXT), ("TEXT", None, None)),
            (frame(TEXT, b"{"), ("MALFORMED", None, None)),
            (frame(TEXT, b"[1]"), ("JSON", None, None)),
            (frame(BINARY, b"\x00" * 8820), ("BINARY", None, None)),
            (frame(BINARY), ("BINARY", None, None)),
            (frame(TEXT, START[:9], fin=False) + frame(CONT, START[9:]), ("START", 202508290514312002, None)),
            (frame(TEXT, b"\xc3", fin=False) + frame(CONT, b"\xa9"), ("TEXT", None, None)),
            (frame(BINARY, b"", fin=False) + frame(PING) + frame(CONT), ("BINARY", None, None)),
        ],
        ids=range(12),
    )
    @pytest.mark.parametrize("handler", [receives, echoes, streams, receives_bytes, receives_in_turns])
    async def test_one_row(
        self, path: Path, query: Query, handler: Any, data: bytes, expected: tuple[Any, ...]
    ) -> None:
        """A message has one row: what it says, when it was received, queued, and taken in whatever way."""
        await log_talk(path, handler, data, close())

        [row] = message_rows(query)
        assert (row.kind, row.recording, row.frame_no) == expected
        assert row.received <= row.queued <= row.started
        assert row.connection == connection_rows(query)[0].id

    async def test_compressed(self, path: Path, query: Query) -> None:
        """Compressed messages are read."""
        async with (
            EngineLog(path) as log,
            serving(log, receives) as server,
            chatting(server, compression="deflate") as client,
        ):
            await client.send(START.decode())
            await client.send([START[:20].decode(), START[20:].decode()])
            await client.send(START)

        assert [row.kind for row in message_rows(query)] == ["START", "START", "BINARY"]

    async def test_a_frame_is_its_header_and_its_audio(self, path: Path, query: Query) -> None:
        """A header and the next binary message are one row: received with the one, queued with the other."""
        taken: list[str] = []

        async def handler(connection: ServerConnection) -> None:
            async for message in connection:
                taken.append(text_of_now())
                if isinstance(message, str):
                    await connection.send(message)

        async with EngineLog(path) as log, talking(log, handler) as (_, raw):
            raw.send(frame(TEXT, HEADER))
            await raw.next_frame()
            raw.send(frame(TEXT, b'{"type":"ping"}'), frame(PING))
            await raw.next_frame()
            await raw.next_frame()
            raw.send(frame(BINARY, b"1234"), frame(BINARY, b"5678"), close())
            await raw.frames_to_end()

        header, ping, orphan = message_rows(query)
        assert (header.kind, header.recording, header.frame_no) == ("FRAME", 12, 3)
        assert (ping.kind, orphan.kind, orphan.recording) == ("PING", "BINARY", None)
        assert header.received <= taken[0] <= ping.received <= ping.started <= taken[1]
        assert taken[1] <= header.queued <= header.started <= taken[2] <= orphan.started <= taken[3]

    async def test_headers_without_audio(self, path: Path, query: Query) -> None:
        """Audio belongs to the header just before it; one without audio was received, and no more."""
        header = frame(TEXT, HEADER)
        await log_talk(path, receives, header, header, frame(BINARY, b"1234"), header, close())

        assert [(row.kind, row.queued is None, row.started is None) for row in message_rows(query)] == [
            ("FRAME", True, True),
            ("FRAME", False, False),
            ("FRAME", True, True),
        ]

    @pytest.mark.parametrize("taken", [0, 1, 2])
    async def test_messages_nobody_takes(self, path: Path, query: Query, taken: int) -> None:
        """A message that the handler never took has a row without start of processing."""

        async def handler(connection: ServerConnection) -> None:
            for _ in range(taken):
                await connection.recv()
            await connection.wait_closed()

        await log_talk(path, handler, frame(TEXT, b"a"), frame(BINARY, b"b"), frame(TEXT, b"c"), close())

        rows = message_rows(query)
        assert [row.started is not None for row in rows] == [number < taken for number in range(3)]
        assert all(row.received <= row.queued for row in rows)

    async def test_taken_after_the_end(self, path: Path, query: Query) -> None:
        """A message may be taken when the connection is closed."""

        async def handler(connection: ServerConnection) -> None:
            await connection.wait_closed()
            await connection.recv()

        await log_talk(path, handler, frame(TEXT, b"a"), close())

        [row] = message_rows(query)
        assert connection_rows(query)[0].closed <= row.started

    @pytest.mark.parametrize(
        ("first", "rest"),
        [
            (frame(TEXT, START)[:3], frame(TEXT, START)[3:]),
            (frame(TEXT, START)[:50], frame(TEXT, START)[50:]),
            (frame(TEXT, START[:9], fin=False), frame(CONT, START[9:])),
            (frame(TEXT, START[:9], fin=False) + frame(CONT, START[9:])[:5], frame(CONT, START[9:])[5:]),
        ],
        ids=["head", "half", "fragment", "fragment and a half"],
    )
    async def test_received_with_its_first_byte(
        self, path: Path, query: Query, first: bytes, rest: bytes
    ) -> None:
        """A message is received when its first byte comes, and queued when its last has come."""
        async with EngineLog(path) as log, talking(log, receives) as (_, raw):
            before = text_of_now()
            raw.send(frame(PING), first)
            await raw.next_frame()
            between = text_of_now()
            raw.send(rest, frame(TEXT, b"next"), close())
            await raw.frames_to_end()

        message, other = message_rows(query)
        assert before <= message.received <= between <= message.queued
        assert between <= other.received

    @pytest.mark.parametrize(("size", "kind"), [(65_536, "A"), (65_537, "TEXT")])
    @pytest.mark.parametrize("parts", [1, 3])
    async def test_long_messages_are_not_read(
        self, path: Path, query: Query, size: int, kind: str, parts: int
    ) -> None:
        """Of more than 64 KiB only the kind is known: reading them would make the loop late."""
        data = b'{"type":"a","rest":"' + b"x" * (size - 22) + b'"}'
        cut = size // parts + 1
        pieces = [data[begin : begin + cut] for begin in range(0, size, cut)]
        frames = [
            frame(CONT if number else TEXT, piece, fin=number == parts - 1)
            for number, piece in enumerate(pieces)
        ]
        await log_talk(path, receives, *frames, frame(BINARY, data), close())

        assert [row.kind for row in message_rows(query)] == [kind, "BINARY"]


class TestStreamedMessages:
    @pytest.mark.parametrize("how", ["break", "cancel", "finish"])
    async def test_taken_before_it_is_complete(self, path: Path, query: Query, how: str) -> None:
        """Processing starts with the first part, even if the handler leaves it at that."""

        async def handler(connection: ServerConnection) -> None:
            async def stream() -> None:
                async for _ in connection.recv_streaming():
                    await connection.send("part")
                    if how == "break":
                        break

            task = asyncio.create_task(stream())
            if how == "cancel":
                await asyncio.wait({task}, timeout=0.05)
                task.cancel()
            await asyncio.wait({task})
            await connection.wait_closed()

        async with EngineLog(path) as log, talking(log, handler) as (_, raw):
            raw.send(frame(TEXT, START[:9], fin=False))
            await raw.next_frame()
            between = text_of_now()
            raw.send(frame(CONT, START[9:]), frame(TEXT, b"next"), close())
            await raw.frames_to_end()

        message, other = message_rows(query)
        assert message.received <= message.started <= between <= message.queued
        assert (message.kind, other.started) == ("START", None)

    @pytest.mark.parametrize("when", ["before", "after"])
    async def test_incomplete(self, path: Path, query: Query, when: str) -> None:
        """A part of a message that never is complete may be taken, before the end or after it."""

        async def handler(connection: ServerConnection) -> None:
            if when == "after":
                await connection.wait_closed()
            with suppress(ConnectionClosed):
                async for _ in connection.recv_streaming():
                    await connection.send("part")

        async with EngineLog(path) as log, talking(log, handler) as (_, raw):
            raw.send(frame(BINARY, b"abc", fin=False))
            if when == "before":
                await raw.next_frame()
            raw.end()
            await raw.frames_to_end()

        [row] = message_rows(query)
        assert (row.kind, row.queued) == ("INCOMPLETE", None)
        assert row.received <= row.started


class TestBrokenMessages:
    async def test_undecodable(self, path: Path, query: Query) -> None:
        """A message that can't be decoded is MALFORMED, never taken, and leaves the others their times."""

        async def handler(connection: ServerConnection) -> None:
            await until(lambda: len(connection.recv_messages.frames) == 3)
            for _ in range(3):
                with suppress(ConnectionClosed):
                    await connection.recv()

        await log_talk(path, handler, frame(TEXT, b"\xff"), frame(TEXT, b"{}"), frame(TEXT, b"hello"))

        rows = message_rows(query)
        assert [(row.kind, row.started is not None) for row in rows] == [
            ("MALFORMED", False),
            ("JSON", True),
            ("TEXT", True),
        ]
        if hasattr(ServerConnection, "close_exc"):  # before version 17, websockets doesn't tell why
            assert "UnicodeDecodeError: 'utf-8' codec can't decode byte 0xff" in error_texts(query)[0]

    async def test_undecodable_but_not_decoded(self, path: Path, query: Query) -> None:
        """A handler that wants bytes takes it all the same."""
        await log_talk(path, receives_bytes, frame(TEXT, b"\xff"), close())

        assert [(row.kind, row.started is not None) for row in message_rows(query)] == [("MALFORMED", True)]

    @pytest.mark.parametrize(
        "data",
        [
            frame(BINARY, b"", size=100_000_000),
            frame(TEXT, b"x" * 600, fin=False) + frame(CONT, b"x" * 600),
            frame(BINARY, deflated(b"x" * 4000), rsv=4),
        ],
        ids=["100 MB", "fragments", "bomb"],
    )
    async def test_too_big(self, path: Path, query: Query, data: bytes) -> None:
        """A message that is too big is refused: its row is never queued or taken, and a line says why."""
        extensions = "Sec-WebSocket-Extensions: permessage-deflate\r\n"
        before, behind = frame(TEXT, b"before"), frame(TEXT, b"behind")
        await log_talk(path, receives, before, data, behind, max_size=1000, headers=extensions)

        first, refused = message_rows(query)
        assert (first.kind, refused.kind, refused.queued, refused.started) == ("TEXT", "TOO_BIG", None, None)
        [text] = error_texts(query)
        assert f"connection {refused.connection}: PayloadTooBig: " in text

    @pytest.mark.parametrize(
        ("data", "expected"),
        [
            (frame(BINARY, b"abc", fin=False), [("INCOMPLETE", None)]),
            (frame(BINARY, b"abc", size=100), [("INCOMPLETE", None)]),
            (frame(TEXT, HEADER) + frame(BINARY, b"abc", size=100), [("FRAME", 3), ("INCOMPLETE", None)]),
            (frame(TEXT, HEADER) + frame(BINARY, b"abc", fin=False), [("FRAME", 3), ("INCOMPLETE", None)]),
            (frame(TEXT, HEADER), [("FRAME", 3)]),
        ],
        ids=range(5),
    )
    @pytest.mark.parametrize("how", ["end", "abort", "close"])
    async def test_incomplete(
        self, path: Path, query: Query, data: bytes, expected: list[tuple[str, int]], how: str
    ) -> None:
        """What had come of a message when the client went has a row; it was never queued."""
        async with EngineLog(path) as log, talking(log, waits, close_timeout=0.1) as (server, raw):
            [connection] = server.connections
            raw.send(data)
            await until(lambda: connection.protocol.reader.buffer or len(connection.recv_messages.frames))
            if how == "end":
                raw.end()
            elif how == "abort":
                raw.abort()
            else:
                server.close()
                await raw.frames_to_end(answer=False)
            await connection.wait_closed()

        rows = message_rows(query)
        assert [(row.kind, row.frame_no) for row in rows] == expected
        assert {(row.queued, row.started) for row in rows} == {(None, None)}


class TestReadMessage:
    async def test_of_ones_own(self, path: Path, query: Query) -> None:
        """Another protocol's messages can be read, text as str, binary as bytes."""
        seen: list[object] = []

        def read(data: str | bytes) -> Message:
            seen.append(data)
            if isinstance(data, bytes):
                return Message("SOUND")
            kind, recording, number = data.split()
            return Message(kind, int(recording), int(number), audio_follows=kind == "HEAD")

        audio = frame(BINARY, b"a", fin=False) + frame(CONT, b"b")
        await log_talk(
            path, receives, frame(TEXT, b"HEAD 7 1"), audio, frame(BINARY, b"cd"), close(), read_message=read
        )

        assert seen == ["HEAD 7 1", b"ab", b"cd"]
        assert [type(data) for data in seen] == [str, bytes, bytes]
        rows = message_rows(query)
        assert [(row.kind, row.recording, row.frame_no) for row in rows] == [
            ("HEAD", 7, 1),
            ("SOUND", None, None),
        ]
        assert all(row.received <= row.queued <= row.started for row in rows)

    @pytest.mark.parametrize(
        "answer",
        [
            None,
            "START",
            ("START", 1, 2),
            Message(None),  # type: ignore[arg-type]
            Message("A", recording_id="12"),  # type: ignore[arg-type]
            Message("A", frame_no=1.5),  # type: ignore[arg-type]
            Message("A", fields=None),  # type: ignore[arg-type]
            ValueError("no such message"),
            Unsayable(),
            RecursionError(),
        ],
        ids=range(10),
    )
    async def test_that_fails(
        self, path: Path, query: Query, caplog: pytest.LogCaptureFixture, answer: Any
    ) -> None:
        """If it raises or returns something else, the message is UNREAD; that is said, and all goes on."""

        def read(data: str | bytes) -> Any:
            if isinstance(answer, Exception):
                raise answer
            return answer

        async with (
            EngineLog(path) as log,
            serving(log, echoes, read_message=read) as server,
            chatting(server) as client,
        ):
            for message in ("a", b"b"):
                await client.send(message)
                assert await client.recv() == message

        rows = message_rows(query)
        assert [row.kind for row in rows] == ["UNREAD", "UNREAD"]
        assert all(row.received <= row.queued <= row.started for row in rows)
        assert caplog.text.count("read_message failed") == 1

    async def test_with_what_no_column_holds(self, path: Path, query: Query) -> None:
        """Numbers and texts are fitted."""
        message = Message("x\0" * 99, 2**70, -(2**70))
        await log_talk(path, receives, frame(TEXT, b"a"), close(), read_message=lambda data: message)

        [row] = message_rows(query)
        assert (row.kind, row.recording, row.frame_no) == ("x␀" * 25, 2**63 - 1, -(2**63))
