"""Broken frames: bytes that no decent client sends, to handlers of any kind."""

from __future__ import annotations

from typing import Any

from websockets.asyncio.server import ServerConnection

from ..raw import BINARY, CLOSE, CONT, PING, PONG, TEXT, close, deflated, frame
from ..side_by_side import Side, scenario
from .receiving import recv_to_end, stream

BROKEN = {
    "unmasked": frame(TEXT, b"a", masked=False),
    "opcode 3": frame(3, b"a"),
    "opcode 11": frame(11, b"a"),
    "continuation of nothing": frame(CONT, b"a"),
    "text within a message": frame(TEXT, b"a", fin=False) + frame(TEXT, b"b"),
    "binary within a message": frame(BINARY, b"a", fin=False) + frame(BINARY, b"b", fin=False),
    "close within a message": frame(TEXT, b"a", fin=False) + close(),
    "long ping": frame(PING, b"x" * 126),
    "long pong": frame(PONG, b"x" * 126),
    "fragmented ping": frame(PING, b"x", fin=False),
    "fragmented close": frame(CLOSE, b"", fin=False),
    "close of one byte": frame(CLOSE, b"x"),
    "close with 999": close(999),
    "close with 1005": close(1005),
    "close with 5000": close(5000),
    "close not UTF-8": close(1000, b"\xff"),
    "long close": close(1000, b"x" * 124),
    "rsv 1": frame(TEXT, b"a", rsv=4),
    "rsv 2": frame(TEXT, b"a", rsv=2),
    "rsv 3 of a ping": frame(PING, b"a", rsv=1),
    "text not UTF-8": frame(TEXT, b"\xff"),
    "text not UTF-8 in a fragment": frame(TEXT, b"a", fin=False) + frame(CONT, b"\xff"),
    "character cut in two": frame(TEXT, b"\xc3", fin=False) + frame(CONT, b"\xa9"),
    "character cut off": frame(TEXT, b"\xc3", fin=False) + frame(CONT, b""),
    "100 MB announced": frame(BINARY, b"", size=100_000_000),
    "2^63 bytes announced": frame(BINARY, b"", size=2**63 + 1),
    "many empty fragments": frame(TEXT, b"", fin=False) + frame(CONT, b"", fin=False) * 300 + frame(CONT),
    "garbage": bytes(range(255, 0, -1)),
}


async def receives(side: Side, connection: ServerConnection) -> None:
    """Call recv() to the end, and beyond."""
    await recv_to_end(side, connection)


async def iterates(side: Side, connection: ServerConnection) -> None:
    """Iterate."""
    async for message in connection:
        side.note("server", "message", message)


async def streams(side: Side, connection: ServerConnection) -> None:
    """Stream."""
    for _ in range(4):
        await stream(side, connection)


async def waits(side: Side, connection: ServerConnection) -> None:
    """Receive nothing until it is too late."""
    await connection.wait_closed()
    await recv_to_end(side, connection, decode=False)


@scenario(kind=tuple(BROKEN), handle=(receives, iterates, streams, waits))
async def broken(side: Side, kind: str, handle: Any) -> None:
    """A broken frame ends the connection; what was right before it can be received."""

    async def handler(connection: ServerConnection) -> None:
        await handle(side, connection)

    async with side.serve(handler, max_queue=None):
        raw = await side.raw()
        raw.send(frame(TEXT, b"before"), BROKEN[kind], frame(TEXT, b"behind"), close())
        await side.over(raw)


@scenario(kind=("not deflated", "rsv in a continuation", "bomb", "whole"), handle=(receives, streams))
async def broken_compression(side: Side, kind: str, handle: Any) -> None:
    """So does what can't be unfolded."""
    data = {
        "not deflated": frame(TEXT, b"\xff\xff\xff", rsv=4),
        "rsv in a continuation": frame(TEXT, deflated(b"a"), rsv=4, fin=False) + frame(CONT, b"a", rsv=4),
        "bomb": frame(BINARY, deflated(b"x" * 4000), rsv=4),
        "whole": frame(TEXT, deflated(b"a"), rsv=4),
    }

    async def handler(connection: ServerConnection) -> None:
        await handle(side, connection)

    async with side.serve(handler, max_size=1000):
        raw = await side.raw(headers="Sec-WebSocket-Extensions: permessage-deflate\r\n")
        raw.send(data[kind], close())
        await side.over(raw)


@scenario(how=("recv", "stream"))
async def too_many_fragments(side: Side, how: str) -> None:
    """A message of more fragments than any handler wants is refused, in new versions of websockets."""

    async def handler(connection: ServerConnection) -> None:
        if how == "recv":
            await side.attempt("server", "recv", connection.recv())
        else:
            parts = 0
            async for _ in connection.recv_streaming():
                parts += 1
            side.note("server", parts)

    async with side.serve(handler, max_queue=None):
        raw = await side.raw()
        raw.send(frame(BINARY, b"x", fin=False), frame(CONT, b"x", fin=False) * 5000, frame(CONT), close())
        side.note("client", (await raw.frames_to_end())[-1])
        side.trace["log"] = side.trace["log"][-3:]
