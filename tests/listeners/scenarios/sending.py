"""Sending, pinging, broadcasting: what logging has no part in, and must leave as it is."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any

from websockets.asyncio.server import ServerConnection, broadcast

from ..raw import PING, PONG, TEXT, close, frame
from ..side_by_side import Side, scenario


async def later(*items: Any) -> AsyncIterator[Any]:
    """Yield, and give way between."""
    for item in items:
        await asyncio.sleep(0)
        yield item


def unevenly() -> AsyncIterator[Any]:
    """Yield text and bytes."""
    return later("a", b"b")


def evenly() -> AsyncIterator[Any]:
    """Yield text."""
    return later("a", "b")


WHAT: tuple[Any, ...] = (
    *("text", "", "é€😀", b"bytes", bytearray(b"array"), memoryview(b"view")),
    *(["a", "b"], [b"a", b"b"], [], ("a", b"b"), [1], {"a": "b"}, 1, None, evenly, unevenly),
)


@scenario(what=WHAT, text=(None, True, False))
async def send(side: Side, what: Any, text: bool | None) -> None:
    """Anything may be sent, or is refused."""

    async def handler(connection: ServerConnection) -> None:
        message = what() if callable(what) else what
        await side.attempt("server", "send", connection.send(message, text=text))
        await side.attempt("server", "send", connection.send("and then", text=text))

    async with side.serve(handler):
        await side.over(await side.raw())


@scenario(compression=(None, "deflate"))
async def echo(side: Side, compression: str | None) -> None:
    """What is received can be sent back."""

    async def handler(connection: ServerConnection) -> None:
        async for message in connection:
            await connection.send(message)

    async with side.serve(handler, compression=compression):
        async with side.connect(compression=compression) as client:
            for number in range(20):
                await client.send("x" * number**3 if number % 2 else b"x" * number**3)
                side.note("client", "echo", await client.recv())
        side.note("client", "closed", client.close_code, client.close_reason)


@scenario()
async def sends_take_turns(side: Side) -> None:
    """A message waits until a fragmented one is sent."""

    async def handler(connection: ServerConnection) -> None:
        async def send(name: str, message: Any) -> None:
            await side.attempt("server", name, connection.send(message))

        await asyncio.gather(
            send("fragmented", later("a", "b", "c")),
            send("whole", "d"),
            send("list", ["e", "f"]),
            send("last", b"g"),
        )

    async with side.serve(handler):
        await side.over(await side.raw())


@scenario(how=("send", "ping", "pong", "close", "recv", "wait_closed", "broadcast"))
async def after_the_end(side: Side, how: str) -> None:
    """A connection that is closed refuses, or does nothing."""

    async def handler(connection: ServerConnection) -> None:
        await connection.wait_closed()
        calls: dict[str, Callable[[], Any]] = {
            "send": lambda: connection.send("x"),
            "ping": lambda: connection.ping(),
            "pong": lambda: connection.pong(),
            "close": lambda: connection.close(),
            "recv": lambda: connection.recv(),
            "wait_closed": lambda: connection.wait_closed(),
            "broadcast": lambda: asyncio.to_thread(lambda: None),
        }
        await side.attempt("server", how, calls[how]())
        broadcast([connection], "x")

    async with side.serve(handler):
        raw = await side.raw()
        raw.send(close(1000, b"bye"))
        await side.over(raw)


@scenario(data=("text", b"bytes", bytearray(b"array"), "", b"x" * 125, b"x" * 126, 5, ["a"]))
async def pings(side: Side, data: Any) -> None:
    """A ping waits for its pong, and measures the latency."""

    async def handler(connection: ServerConnection) -> None:
        pong = await side.attempt("server", "pong", connection.pong(data))
        side.note("server", "pong", pong, connection.latency)
        try:
            waiter = await connection.ping(data)
        except Exception as error:
            side.note("server", "ping", type(error).__name__, str(error))
            return
        await side.attempt("server", "the same again", connection.ping(data))
        side.note("server", "latency", (await waiter) > 0, connection.latency > 0)
        side.note("server", "free again", (await (await connection.ping(data))) > 0)

    async with side.serve(handler), side.connect() as client:
        await side.over(client)


@scenario(answered=(0, 1, 2))
async def pong_for_earlier_pings(side: Side, answered: int) -> None:
    """A pong answers the pings before its own; those behind it fail when the connection ends."""

    async def handler(connection: ServerConnection) -> None:
        waiters = [await connection.ping(f"ping {number}") for number in range(3)]
        await connection.wait_closed()
        for waiter in waiters:
            try:
                side.note("server", "latency", (await waiter) > 0)
            except Exception as error:
                side.note("server", "ping failed", type(error).__name__, str(error))

    async with side.serve(handler):
        raw = await side.raw()
        for _ in range(3):
            await raw.next_frame()
        raw.send(frame(PONG, b"unknown"), frame(PONG, b"ping %d" % answered), close())
        await side.over(raw)


@scenario(how=("recv", "nothing"))
async def pings_only(side: Side, how: str) -> None:
    """A client that only pings gets its pongs, whether the handler receives or not."""

    async def handler(connection: ServerConnection) -> None:
        if how == "recv":
            await side.attempt("server", "recv", connection.recv())
        await connection.wait_closed()

    async with side.serve(handler):
        raw = await side.raw()
        raw.send(*(frame(PING, b"ping %d" % number) for number in range(50)), frame(PING), close())
        await side.over(raw)


@scenario(raise_exceptions=(False, True), message=("text", b"bytes", 5))
async def broadcasting(side: Side, raise_exceptions: bool, message: Any) -> None:
    """A broadcast reaches all that are open and not within a message."""
    done = asyncio.Event()

    async def handler(connection: ServerConnection) -> None:
        if len(side.connections) == 2:
            await connection.send(until_done())
        await done.wait()

    async def until_done() -> AsyncIterator[str]:
        yield "first"
        await done.wait()
        yield "last"

    async with side.serve(handler) as server:
        clients = [await side.raw() for _ in range(3)]
        await clients[1].next_frame()
        clients[2].send(close())
        await side.until(lambda: len(server.connections) == 2)
        try:
            broadcast(side.connections, message, raise_exceptions=raise_exceptions)
        except Exception as error:
            side.note("server", "broadcast", type(error).__name__, str(error))
        done.set()
        for client in clients:
            await side.over(client)


@scenario(text=(None, True, False), message=("text", b"bytes"))
async def broadcasting_as(side: Side, text: bool | None, message: Any) -> None:
    """A broadcast may be sent as text or bytes."""

    async def handler(connection: ServerConnection) -> None:
        try:
            broadcast([connection], message, text=text)
        except TypeError as error:  # websockets 15 doesn't know `text` here
            side.note("server", "broadcast", str(error))

    async with side.serve(handler):
        await side.over(await side.raw())


@scenario(write_limit=(1_000, (5_000, 10), (20_000, None)))
async def client_does_not_read(side: Side, write_limit: Any) -> None:
    """send() waits while the client doesn't read, and goes on when it does."""
    is_stuck = asyncio.Event()

    async def handler(connection: ServerConnection) -> None:
        connection.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        sending = asyncio.create_task(connection.send(b"x" * 1_000_000))
        done, _ = await asyncio.wait({sending}, timeout=0.05)
        side.note("server", "sent at once", bool(done), connection.paused)
        is_stuck.set()
        await sending
        side.note("server", "sent", connection.paused)

    async with side.serve(handler, write_limit=write_limit):
        raw = await side.raw()
        raw.stop_reading()
        await is_stuck.wait()
        raw.read_again()
        frames = await raw.frames_to_end()
        side.note("client", [(received.opcode, len(received.data)) for received in frames])


@scenario()
async def full_duplex(side: Side) -> None:
    """Two tasks of a handler may receive and send at once."""

    async def handler(connection: ServerConnection) -> None:
        async def send() -> None:
            for number in range(20):
                await connection.send(str(number))

        sending = asyncio.create_task(send())
        async for message in connection:
            side.note("server", "message", message)
        await sending

    async with side.serve(handler):
        raw = await side.raw()
        raw.send(*(frame(TEXT, b"%d" % number) for number in range(20)))
        for _ in range(20):
            side.note("client", await raw.next_frame())
        raw.send(close())
        await side.over(raw)
