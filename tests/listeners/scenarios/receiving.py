"""Receiving: whole messages and streamed ones, in any form, by any handler."""

from __future__ import annotations

import asyncio
from typing import Any

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConcurrencyError

from ..raw import BINARY, CONT, PING, TEXT, close, frame
from ..side_by_side import Side, scenario, told

DECODE = (None, True, False)
DATA = ("text", "", "é€😀", b"bytes", b"", b"\xc3\xa9")
FRAGMENTS = ([b"abc"], [b"a", b"", b"bc"], [b"\xf0", b"\x9f\x98", b"\x80"], [b"", b""])


def fragmented(opcode: int, parts: list[bytes]) -> bytes:
    """Return a message in several frames."""
    last = len(parts) - 1
    return b"".join(
        frame(CONT if number else opcode, part, fin=number == last) for number, part in enumerate(parts)
    )


async def recv_to_end(side: Side, connection: ServerConnection, **settings: Any) -> None:
    """Call recv() until well after the end."""
    after = 0
    while after < 2:
        before = side.trace["server"][:]
        await side.attempt("server", "recv", connection.recv(**settings))
        after += len(side.trace["server"]) > len(before) and connection.state.name == "CLOSED"


async def stream(side: Side, connection: ServerConnection, decode: bool | None = None) -> None:
    """Note each part of a streamed message, and how it ends."""
    try:
        async for part in connection.recv_streaming(decode):
            side.note("server", "part", part)
    except Exception as error:
        side.note("server", "stream ended", type(error).__name__, str(error))
    else:
        side.note("server", "stream ended")


@scenario(decode=DECODE, data=DATA)
async def recv_decodes(side: Side, decode: bool | None, data: str | bytes) -> None:
    """A message is text or bytes, as asked for."""

    async def handler(connection: ServerConnection) -> None:
        await side.attempt("server", "recv", connection.recv(decode))
        await side.attempt("server", "recv", connection.recv(decode=decode))

    async with side.serve(handler), side.connect() as client:
        await client.send(data)
        await client.send(data)
        await side.over(client)


@scenario(decode=DECODE)
async def recv_not_utf8(side: Side, decode: bool | None) -> None:
    """What can't be decoded ends the connection; what came behind can still be received."""

    async def handler(connection: ServerConnection) -> None:
        await side.until(lambda: len(connection.recv_messages.frames) == 4)
        for _ in range(4):
            await side.attempt("server", "recv", connection.recv(decode=decode))

    async with side.serve(handler):
        raw = await side.raw()
        raw.send(*(frame(opcode, b"a\xff") + frame(opcode, b"good") for opcode in (TEXT, BINARY)))
        await side.over(raw)


@scenario(code=(1000, 1001, None, 1002, 1011, 3000, 4999))
async def iteration(side: Side, code: int | None) -> None:
    """Iterating ends at a normal end, and raises at another."""

    async def handler(connection: ServerConnection) -> None:
        async for message in connection:
            side.note("server", "message", message)
        side.note("server", "iteration ended")
        await side.attempt("server", "anext", anext(aiter(connection)))

    async with side.serve(handler):
        raw = await side.raw()
        raw.send(frame(TEXT, b"a"), frame(BINARY, b"b"), fragmented(TEXT, [b"c", b"d"]), close(code))
        await side.over(raw)


@scenario(first=("recv", "stream"), second=("recv", "stream", "iterate"))
async def two_at_once(side: Side, first: str, second: str) -> None:
    """Only one task may receive."""

    async def receive(connection: ServerConnection, how: str) -> None:
        if how == "recv":
            await side.attempt("server", "recv", connection.recv())
        elif how == "stream":
            await stream(side, connection)
        else:
            await side.attempt("server", "anext", anext(aiter(connection)))

    async def handler(connection: ServerConnection) -> None:
        task = asyncio.create_task(receive(connection, first))
        await asyncio.sleep(0)
        await receive(connection, second)
        await connection.send("go")
        await task
        await receive(connection, second)

    async with side.serve(handler), side.connect() as client:
        await client.recv()
        await client.send("a")
        await client.send("b")
        await side.over(client)


@scenario(parts=([b"abc"], [b"a", b"b", b"c"]))
async def recv_timed_out(side: Side, parts: list[bytes]) -> None:
    """A recv() that is cancelled, before or within a message, loses nothing."""

    async def handler(connection: ServerConnection) -> None:
        for _ in range(2):
            await side.attempt_within("server", "recv", connection.recv(), 0.05)
            await side.attempt("server", "send", connection.send("timed out"))
        while True:
            await side.attempt("server", "recv", connection.recv())
            if connection.close_code is not None:
                return

    async with side.serve(handler):
        raw = await side.raw()
        data = fragmented(BINARY, parts)
        raw.send(data[:7])  # of one frame a part, of three the first
        await raw.next_frame()
        await raw.next_frame()
        raw.send(data[7:], frame(TEXT, b"next"), close())
        await side.over(raw)


@scenario(code=(1000, 1011))
async def recv_after_close(side: Side, code: int) -> None:
    """What came before the close can be received after it; then it's over."""

    async def handler(connection: ServerConnection) -> None:
        await connection.wait_closed()
        for _ in range(4):
            await side.attempt("server", "recv", connection.recv())
        await stream(side, connection)

    async with side.serve(handler):
        raw = await side.raw()
        raw.send(frame(TEXT, b"a"), fragmented(BINARY, [b"b", b"c"]), close(code))
        await side.over(raw)


@scenario(decode=DECODE, opcode=(TEXT, BINARY), parts=FRAGMENTS)
async def streaming(side: Side, decode: bool | None, opcode: int, parts: list[bytes]) -> None:
    """A message comes part by part, then the next one."""

    async def handler(connection: ServerConnection) -> None:
        for _ in range(2):
            await stream(side, connection, decode)
        await side.attempt("server", "recv", connection.recv(decode))

    async with side.serve(handler):
        raw = await side.raw()
        raw.send(fragmented(opcode, parts))
        await raw.send_bytewise(fragmented(opcode, parts))
        raw.send(fragmented(opcode, parts))
        await side.over(raw)


@scenario(parts=([b"abc"], [b"a", b"b", b"c"]), how=("break", "raise", "aclose", "athrow"))
async def streaming_given_up(side: Side, parts: list[bytes], how: str) -> None:
    """A stream that isn't read to its end makes the connection unusable."""

    async def handler(connection: ServerConnection) -> None:
        generator: Any = connection.recv_streaming()
        side.note("server", "part", await anext(generator))
        if how == "aclose":
            await side.attempt("server", "aclose", generator.aclose())
        elif how == "athrow":
            await side.attempt("server", "athrow", generator.athrow(ValueError("thrown")))
        elif how == "raise":
            raise ValueError("within a stream")
        side.note("server", "frames", len(connection.recv_messages.frames))
        if how != "break":
            await side.attempt("server", "anext", anext(generator))
        del generator
        await side.attempt("server", "recv", connection.recv())
        await stream(side, connection)

    async with side.serve(handler):
        raw = await side.raw()
        raw.send(fragmented(BINARY, parts), frame(TEXT, b"next"))
        await side.over(raw)


def undecodable() -> UnicodeDecodeError:
    """Return what a decoder raises."""
    return UnicodeDecodeError("utf-8", b"a", 0, 1, "thrown")


THROWN = (
    ValueError,
    EOFError,
    undecodable,
    ConcurrencyError,
    RuntimeError,
    asyncio.CancelledError,
    StopIteration,
)


@scenario(error=THROWN, parts=([b"abc"], [b"a", b"b", b"c"]), taken=(1, 2))
async def thrown_into_a_stream(side: Side, error: Any, parts: list[bytes], taken: int) -> None:
    """What is thrown into a stream is as if it were raised there, and may mean something to it."""

    async def handler(connection: ServerConnection) -> None:
        generator: Any = connection.recv_streaming()
        for _ in range(taken):
            await side.attempt("server", "part", anext(generator))
        try:
            await side.attempt("server", "athrow", generator.athrow(error()))
        except asyncio.CancelledError as cancelled:
            side.note("server", "cancelled", told(cancelled))
        await side.attempt("server", "anext", anext(generator))
        await side.attempt("server", "aclose", generator.aclose())
        await side.attempt("server", "recv", connection.recv())

    async with side.serve(handler):
        raw = await side.raw()
        raw.send(fragmented(BINARY, parts), frame(TEXT, b"next"), close())
        await side.over(raw)


@scenario(sent=(0, 1, 2))
async def streaming_timed_out(side: Side, sent: int) -> None:
    """Cancelling a stream before its first part is safe; within, it isn't."""
    parts = [frame(BINARY, b"a", fin=False), frame(CONT, b"b", fin=False), frame(CONT, b"c")]

    async def handler(connection: ServerConnection) -> None:
        await side.until(lambda: len(connection.recv_messages.frames) == sent)
        await side.attempt_within("server", "stream", stream(side, connection), 0.05)
        await connection.send("timed out")
        await side.attempt("server", "recv", connection.recv())
        await stream(side, connection)

    async with side.serve(handler):
        raw = await side.raw()
        raw.send(*parts[:sent])
        await raw.next_frame()
        raw.send(*parts[sent:], frame(TEXT, b"next"))
        await side.over(raw)


@scenario(decode=DECODE, parts=([b"a\xff"], [b"a", b"\xff"], [b"a\xc3", b"b"], [b"a\xc3"]))
async def streaming_not_utf8(side: Side, decode: bool | None, parts: list[bytes]) -> None:
    """What can't be decoded ends a stream, and the connection."""

    async def handler(connection: ServerConnection) -> None:
        await stream(side, connection, decode)
        await side.attempt("server", "recv", connection.recv())

    async with side.serve(handler):
        raw = await side.raw()
        raw.send(fragmented(TEXT, parts), frame(TEXT, b"next"))
        await side.over(raw)


@scenario(how=("stream", "recv"), end=("close", "eof", "abort"))
async def end_within_a_message(side: Side, how: str, end: str) -> None:
    """A message that is never complete ends with the connection."""

    async def handler(connection: ServerConnection) -> None:
        if how == "stream":
            await stream(side, connection)
            await stream(side, connection)
        await recv_to_end(side, connection)

    async with side.serve(handler):
        raw = await side.raw()
        raw.send(frame(TEXT, b"whole"), frame(TEXT, b"a", fin=False), frame(CONT, b"b", fin=False))
        protocol: Any = side.connections[0].protocol
        size = "current_size" if hasattr(protocol, "current_size") else "cur_size"  # before version 16
        await side.until(lambda: getattr(protocol, size) == 2)
        if end == "abort":
            raw.abort()
        elif end == "eof":
            raw.end()
        else:
            raw.send(close())
        await side.over(raw)


@scenario(how=("recv", "stream"))
async def control_frames_between(side: Side, how: str) -> None:
    """Pings and pongs may come between the frames of a message."""

    async def handler(connection: ServerConnection) -> None:
        if how == "stream":
            await stream(side, connection)
        await recv_to_end(side, connection)

    async with side.serve(handler):
        raw = await side.raw()
        parts = [frame(TEXT, b"a", fin=False), frame(CONT, b"b", fin=False), frame(CONT, b"c")]
        raw.send(*(part + frame(PING, b"ping %d" % number) for number, part in enumerate(parts)), close())
        await side.over(raw)


@scenario(bytewise=(False, True), how=("iterate", "recv", "stream"))
async def a_hundred_messages(side: Side, bytewise: bool, how: str) -> None:
    """Many messages in one segment, or many segments for one message."""

    async def handler(connection: ServerConnection) -> None:
        if how == "iterate":
            async for message in connection:
                side.note("server", "message", message)
        elif how == "recv":
            await recv_to_end(side, connection)
        else:
            for _ in range(101):
                await stream(side, connection)

    async with side.serve(handler):
        raw = await side.raw()
        count = 20 if bytewise else 100
        data = b"".join(frame(TEXT if number % 2 else BINARY, b"%d" % number) for number in range(count))
        if bytewise:
            await raw.send_bytewise(data + close())
        else:
            raw.send(data, close())
        await side.over(raw)


@scenario(how=("recv", "stream"))
async def turns_of_the_loop(side: Side, how: str) -> None:
    """A message that is there is received without giving way to other tasks."""
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async def handler(connection: ServerConnection) -> None:
        await side.until(lambda: len(connection.recv_messages.frames) == 50)
        counting = asyncio.create_task(count())
        for _ in range(50):
            before = turns
            await (connection.recv() if how == "recv" else stream(side, connection))
            side.note("server", "turns", turns - before)
        counting.cancel()

    async with side.serve(handler, max_queue=None):
        raw = await side.raw()
        raw.send(*(frame(TEXT, b"x") for _ in range(50)))
        await side.over(raw)


@scenario(max_queue=(0, 1, 3, (8, 2), (4, 4), (None, 1), None))
async def back_pressure(side: Side, max_queue: Any) -> None:
    """A client that sends faster than the handler reads is stopped, and let go on, at the same messages."""
    count = 20
    is_done = asyncio.Event()

    async def handler(connection: ServerConnection) -> None:
        await is_done.wait()

    async with side.serve(handler, max_queue=max_queue):
        raw = await side.raw()
        transport: Any = side.connections[0].transport
        messages = side.connections[0].recv_messages
        sent = taken = 0

        async def settled() -> None:
            await side.until(lambda: not transport.is_reading() or len(messages.frames) == sent - taken)
            side.note("server", sent, taken, len(messages.frames), messages.paused, transport.is_reading())

        while transport.is_reading() and sent < count:
            raw.send(frame(TEXT, b"%d" % sent))
            sent += 1
            await settled()
        raw.send(*(frame(TEXT, b"%d" % number) for number in range(sent, count)))
        sent = count
        while taken < count:
            side.note("server", await side.connections[0].recv())
            taken += 1
            await settled()
        is_done.set()
        await side.over(raw)


@scenario(
    max_size=(None, 10, (10, 4), (None, 4), (10, None)),
    parts=([b"x" * 10], [b"x" * 11], [b"x" * 4, b"x" * 4, b"x" * 4]),
)
async def max_size(side: Side, max_size: Any, parts: list[bytes]) -> None:
    """Messages and fragments that are too big are refused."""

    async def handler(connection: ServerConnection) -> None:
        await recv_to_end(side, connection)

    async with side.serve(handler, max_size=max_size):
        raw = await side.raw()
        raw.send(frame(TEXT, b"small"), fragmented(BINARY, parts), close())
        await side.over(raw)


@scenario(how=("recv", "stream"), size=(1_000, 100_000, 2_000_000))
async def compressed(side: Side, how: str, size: int) -> None:
    """Compressed messages, whole and fragmented; one that unfolds to more than the limit is refused."""

    async def handler(connection: ServerConnection) -> None:
        for _ in range(2):
            if how == "stream":
                await stream(side, connection)
            else:
                await side.attempt("server", "recv", connection.recv())
            await side.attempt("server", "send", connection.send("taken"))

    async with side.serve(handler), side.connect(compression="deflate") as client:
        for message in ("x" * size, [b"x" * size, b"", b"y" * 5]):
            await side.attempt("client", "send", client.send(message))
            await side.attempt("client", "recv", client.recv())
        await side.over(client)
