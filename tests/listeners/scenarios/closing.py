"""Closing: by the handler, the client, the server, the clock, or nobody."""

from __future__ import annotations

import asyncio
import gc
import weakref
from typing import Any

from websockets.asyncio.server import ServerConnection

from ..raw import BINARY, CLOSE, PING, PONG, TEXT, Raw, close, frame
from ..side_by_side import Side, attributes, scenario
from .sending import later


async def waits(connection: ServerConnection) -> None:
    """Do nothing until the end."""
    await connection.wait_closed()


async def receives(connection: ServerConnection) -> None:
    """Receive until the end."""
    async for _ in connection:
        pass


async def returns(connection: ServerConnection) -> None:
    """Return at once."""


async def raises(connection: ServerConnection) -> None:
    """Fail."""
    raise ValueError("the handler failed")


async def is_cancelled(connection: ServerConnection) -> None:
    """Be cancelled."""
    raise asyncio.CancelledError


async def aborts(connection: ServerConnection) -> None:
    """Reset the connection."""
    connection.transport.abort()
    await connection.recv()


async def enters(connection: ServerConnection) -> None:
    """Use the connection as a context."""
    async with connection as entered:
        assert entered is connection
        raise KeyError("in the context")


HANDLERS = (waits, receives, returns, raises, is_cancelled, aborts, enters)


@scenario(handler=HANDLERS, sent=(b"", frame(TEXT, b"a") + frame(BINARY, b"b"), close(1001)))
async def handlers_end(side: Side, handler: Any, sent: bytes) -> None:
    """However a handler ends, so ends the connection."""
    async with side.serve(handler):
        raw = await side.raw()
        raw.send(sent)
        await asyncio.sleep(0.01)
        raw.end()
        await side.over(raw)


@scenario(
    arguments=(
        (),
        (1001,),
        (1000, "bye"),
        (4000, "é" * 60),
        (1011, "x" * 123),
        (1000, "x" * 124),
        (1005,),
        (999,),
        ("x",),
    )
)
async def handler_closes(side: Side, arguments: Any) -> None:
    """A handler may close with a code and a reason; again does nothing."""

    async def handler(connection: ServerConnection) -> None:
        for _ in range(2):
            await side.attempt("server", "close", connection.close(*arguments))
            side.note("server", attributes(connection))

    async with side.serve(handler), side.connect() as client:
        await side.over(client)


@scenario()
async def closes_at_once(side: Side) -> None:
    """Closing twice at once, and waiting for it in several tasks, one of them cancelled."""

    async def handler(connection: ServerConnection) -> None:
        waiting = [asyncio.create_task(connection.wait_closed()) for _ in range(3)]
        await asyncio.sleep(0)
        waiting[0].cancel()
        closing = [side.attempt("server", "close", connection.close(code)) for code in (1000, 1001)]
        await asyncio.gather(*closing, *waiting[1:])
        side.note("server", waiting[0].cancelled())

    async with side.serve(handler), side.connect() as client:
        await side.over(client)


@scenario()
async def closes_within_a_message(side: Side) -> None:
    """Closing while a fragmented message is sent."""

    async def handler(connection: ServerConnection) -> None:
        sending = asyncio.create_task(side.attempt("server", "send", connection.send(later(*"abcdefgh"))))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        await side.attempt("server", "close", connection.close())
        await sending

    async with side.serve(handler), side.connect() as client:
        await side.over(client)


@scenario(
    handler=(waits, receives),
    code=(None, 1000, 1001, 1003, 1011, 3000, 4999),
    reason=(b"", "aufhören".encode()),
)
async def client_closes(side: Side, handler: Any, code: int | None, reason: bytes) -> None:
    """A client may close with a code and a reason."""
    async with side.serve(handler):
        raw = await side.raw()
        raw.send(close(code, reason))
        await side.over(raw)


@scenario(sends=(b"", frame(TEXT, b"still here"), frame(PING, b"ping"), frame(TEXT, b"never", size=9)))
async def client_ignores_the_close(side: Side, sends: bytes) -> None:
    """A client that doesn't answer a close is cut off in time."""

    async def handler(connection: ServerConnection) -> None:
        await side.attempt("server", "close", connection.close(1001, "time is up"))
        for _ in range(2):
            await side.attempt("server", "recv", connection.recv())

    async with side.serve(handler, close_timeout=0.05):
        raw = await side.raw()
        side.note("client", await raw.next_frame())
        raw.send(sends)
        side.note("client", await raw.frames_to_end(answer=False))


@scenario(close_timeout=(None, 0.05))
async def client_answers_late(side: Side, close_timeout: float | None) -> None:
    """Messages that come before the answer to a close can still be received."""

    async def handler(connection: ServerConnection) -> None:
        closing = asyncio.create_task(connection.close())
        for _ in range(3):
            await side.attempt("server", "recv", connection.recv())
        await closing

    async with side.serve(handler, close_timeout=close_timeout):
        raw = await side.raw()
        side.note("client", await raw.next_frame())
        raw.send(frame(TEXT, b"a"), frame(TEXT, b"b"), close())
        await side.over(raw)


@scenario(arguments=({}, {"code": 1012}, {"code": 1012, "reason": "restart"}), handler=(waits, receives))
async def server_closes(side: Side, arguments: Any, handler: Any) -> None:
    """A server that closes closes its connections."""
    async with side.serve(handler) as server:
        clients = [await side.raw() for _ in range(3)]
        await side.until(lambda: len(server.connections) == 3)
        side.note("server", len(server.connections), server.is_serving())
        try:
            server.close(**arguments)
        except TypeError as error:  # websockets 15 knows neither
            side.note("server", str(error))
        server.close()
        side.note("server", len(server.connections), server.is_serving())
        for client in clients:
            side.note("client", await client.next_frame())
            client.send(close(1001))
            await side.over(client)
        await server.wait_closed()
        side.note("server", len(server.connections), server.is_serving())


@scenario()
async def server_lets_them_be(side: Side) -> None:
    """A server may wait for its clients to go."""
    async with side.serve(receives) as server:
        raw = await side.raw()
        server.close(close_connections=False)
        raw.send(frame(TEXT, b"a"))
        await side.until(lambda: not server.is_serving())
        side.note("server", len(server.connections))
        raw.send(close())
        await side.over(raw)


@scenario(ping_timeout=(None, 0.5), handler=(waits, receives))
async def keepalive(side: Side, ping_timeout: float | None, handler: Any) -> None:
    """A client that answers pings is kept."""
    async with side.serve(handler, ping_interval=0.01, ping_timeout=ping_timeout):
        raw = await side.raw()
        for _ in range(5):
            received = await raw.next_frame()
            assert received is not None
            side.note("client", received.opcode, len(received.data))
            raw.send(frame(PONG, received.data))
        await side.until(lambda: side.connections[0].latency > 0)
        raw.send(close())
        await raw.frames_to_end()
        await side.until(lambda: side.connections[0].connection_lost_waiter.done())
        # How many pings more there were depends on the machine.
        side.trace["log"] = [
            entry for entry in side.trace["log"] if "PING" not in entry[1] and "PONG" not in entry[1]
        ]
        side.trace["log"] = [entry for entry in side.trace["log"] if "keepalive" not in entry[1]]


@scenario(handler=(waits, receives), sends=(b"", frame(TEXT, b"half", size=8)))
async def keepalive_fails(side: Side, handler: Any, sends: bytes) -> None:
    """A client that answers no ping is cut off."""
    async with side.serve(handler, ping_interval=0.02, ping_timeout=0.05, close_timeout=0.05):
        raw = await side.raw()
        raw.send(sends)
        side.note("client", {received.opcode for received in await raw.frames_to_end(answer=False)})


PARTS = {
    "idle": b"",
    "message": frame(TEXT, b"whole"),
    "half a head": frame(TEXT, b"x" * 300)[:3],
    "half a frame": frame(BINARY, b"x" * 300)[:100],
    "half a message": frame(TEXT, b"a", fin=False),
    "half a close": close()[:5],
}


@scenario(how=("end", "abort", "gone", "half-open"), part=tuple(PARTS), handler=(waits, receives))
async def client_vanishes(side: Side, how: str, part: str, handler: Any) -> None:
    """A client may go without a word, anywhere."""
    async with side.serve(handler):
        raw = await side.raw()
        raw.send(PARTS[part])
        reader = side.connections[0].protocol.reader
        await side.until(
            lambda: (
                not PARTS[part]
                or reader.buffer
                or side.connections[0].recv_messages.frames.queue
                or handler is receives
            )
        )
        await asyncio.sleep(0.001)
        if how == "abort":
            raw.abort()
        elif how == "gone":
            await raw.gone()
        else:
            raw.end()
            if how == "half-open":
                side.note("client", await raw.next_frame())
            await side.over(raw)


@scenario()
async def handler_task_is_cancelled(side: Side) -> None:
    """A handler that is cancelled from outside ends its connection."""
    async with side.serve(receives) as server:
        raw = await side.raw()
        await side.until(lambda: server.connections)
        before_version_17: dict[Any, Any] = getattr(server, "handlers", {})
        tasks: Any = getattr(server, "handler_tasks", before_version_17.values())
        for task in list(tasks):
            task.cancel()
        await asyncio.sleep(0.01)
        raw.send(close(1011))
        raw.end()
        await side.over(raw)


@scenario(collect=(False, True))
async def nothing_holds_it(side: Side, collect: bool) -> None:
    """A connection that has ended isn't kept alive."""
    async with side.serve(receives):
        async with side.connect() as client:
            await client.send("a")
        await side.until(lambda: side.connections[0].connection_lost_waiter.done())
        await side.until(lambda: len(side.trace["server"]) == 2)
        await asyncio.sleep(0)
        reference = weakref.ref(side.connections.pop())
        if collect:
            gc.collect()
        side.note("server", "is held", reference() is not None)


@scenario()
async def a_close_frame_counts_once(side: Side) -> None:
    """What comes behind a close frame is ignored."""
    async with side.serve(receives):
        raw = await side.raw()
        raw.send(close(1000, b"first"), close(1001, b"second"), frame(TEXT, b"late"), frame(CLOSE), frame(3))
        await side.over(raw)


@scenario()
async def two_at_a_time(side: Side) -> None:
    """Connections don't know of each other."""

    async def handler(connection: ServerConnection) -> None:
        number = side.connections.index(connection)
        async for message in connection:
            side.note(f"server {number}", message)
            await connection.send(message)

    async with side.serve(handler):
        clients = [await Raw.open(side.port) for _ in range(10)]
        for client in clients:
            await client.upgrade()
        for number, client in enumerate(clients):
            client.send(frame(TEXT, b"from %d" % number), close())
        for client in clients:
            side.note("client", await client.frames_to_end())
        side.trace.pop("log")  # the order among connections is the kernel's
        side.trace.pop("server")
