"""
A server without sockets, on which everything happens in the same turn of the loop each time.

Between real sockets, chance decides which bytes come together, and before or after what the handler
does. Here the client's bytes are handed over at fixed turns, so that two runs can be compared turn
by turn, whatever a handler is doing when they come.

"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from websockets.asyncio.server import ServerConnection, serve

from .raw import request
from .side_by_side import attributes, told

__all__ = ["ExactLoop", "Step", "play_exactly"]

# After the client's steps, and after its end, so many turns are enough for everything to happen.
REST = 40


class Step(NamedTuple):
    """What a client does: it sends bytes, says that no more come, or is gone; then the loop turns."""

    what: bytes | str
    turns: int = 0


class ExactLoop(asyncio.SelectorEventLoop):
    """A loop that counts its turns while it plays, and hands over what makes connections."""

    def __init__(self) -> None:
        super().__init__()
        self.turn = 0
        self.connection_factory: Callable[[], Any]
        self._counts = False

    async def create_server(self, protocol_factory: Any, *args: Any, **kwargs: Any) -> Any:
        """Listen to nobody."""
        self.connection_factory = protocol_factory
        return _Nobody(self)

    def count(self, counts: bool) -> None:
        """Count turns from now on, or no more."""
        self.turn, self._counts = 0, counts
        if counts:
            self.call_soon(self._count)

    def _count(self) -> None:
        self.turn += 1
        if self._counts:
            self.call_soon(self._count)


class _Nobody:
    """A listening socket, in place of :class:`asyncio.Server`."""

    sockets = ()

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._is_serving = True

    def get_loop(self) -> asyncio.AbstractEventLoop:
        return self._loop

    def is_serving(self) -> bool:
        return self._is_serving

    def close(self) -> None:
        self._is_serving = False

    async def wait_closed(self) -> None:
        """It is closed at once."""


class _Wire(asyncio.Transport):
    """A transport that notes what is done with it; the kernel's buffer is a bytearray."""

    def __init__(self, note: Callable[..., None]) -> None:
        super().__init__({"peername": ("127.0.0.1", 50_000), "sockname": ("127.0.0.1", 7070)})
        self._note = note
        self._protocol: Any = None
        self._is_closing = self._has_ended = False
        self._is_reading = True
        self._unread = bytearray()

    def connect(self, protocol: Any) -> None:
        self._protocol = protocol
        protocol.connection_made(self)

    # -- the client's end

    def take(self, what: bytes | str) -> None:
        if what == "gone":
            self._lose(ConnectionResetError("gone"))
        elif what == "end":
            self._has_ended = True
        elif isinstance(what, bytes):
            self._unread += what
        self._deliver()

    def _deliver(self) -> None:
        if self._is_closing or not self._is_reading:
            return
        if self._unread:
            data, self._unread = bytes(self._unread), bytearray()
            self._protocol.data_received(data)
        elif self._has_ended:
            self._protocol.eof_received()
            self.close()
        if self._has_ended and not self._is_closing:
            asyncio.get_running_loop().call_soon(self._deliver)

    def _lose(self, error: Exception | None) -> None:
        if not self._is_closing:
            self._is_closing = True
            asyncio.get_running_loop().call_soon(self._protocol.connection_lost, error)

    # -- the server's end

    def write(self, data: Any) -> None:
        self._note("write", bytes(data))

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self._note("write_eof")

    def pause_reading(self) -> None:
        self._note("pause_reading")
        self._is_reading = False

    def resume_reading(self) -> None:
        self._note("resume_reading")
        self._is_reading = True
        asyncio.get_running_loop().call_soon(self._deliver)

    def is_reading(self) -> bool:
        return self._is_reading

    def is_closing(self) -> bool:
        return self._is_closing

    def close(self) -> None:
        self._note("close")
        self._lose(None)

    def abort(self) -> None:
        self._note("abort")
        self._lose(None)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._note("limits", high, low)

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return (0, 0)


async def play_exactly(
    # A class or, as websockets has it, a wrapper; typed as it is there.
    create: type[ServerConnection],
    handler: Callable[[ServerConnection, Callable[..., None]], Any],
    steps: Sequence[Step],
    **settings: Any,
) -> tuple[list[Any], Any]:
    """Play a client's steps to a handler; return all that happened, with its turn, and the connection."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, ExactLoop)
    trace: list[Any] = []

    def note(*what: Any) -> None:
        trace.append((loop.turn, *what))

    async def noted(connection: ServerConnection) -> None:
        try:
            await handler(connection, note)
        finally:
            note("handler ended", connection.state.name)

    loop.set_exception_handler(lambda _, context: note("loop", told(context.get("exception"))))
    settings = {"ping_interval": None, "close_timeout": None, "compression": None, **settings}
    async with serve(noted, create_connection=create, **settings):
        connection, wire = loop.connection_factory(), _Wire(note)
        loop.count(True)
        wire.connect(connection)
        for step in [
            Step(request(), 4),
            *steps,
            Step("nothing", REST),
            Step("end", REST),
            Step("gone", REST),
        ]:
            wire.take(step.what)
            for _ in range(step.turns):
                await asyncio.sleep(0)
        loop.count(False)
    loop.set_exception_handler(None)
    # The response has the date.
    trace = [entry for entry in trace if entry[1] != "write" or not entry[2].startswith(b"HTTP/1.1 101")]
    trace.append(attributes(connection))
    return trace, connection
