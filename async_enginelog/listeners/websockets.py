"""Connections of a ``websockets`` server that log themselves and each message they receive."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import suppress
from typing import Any

from websockets.asyncio.server import Server
from websockets.asyncio.server import ServerConnection as ServerConnection
from websockets.exceptions import ConnectionClosed, PayloadTooBig
from websockets.frames import DATA_OPCODES, Opcode
from websockets.http11 import Request
from websockets.protocol import OPEN, Event
from websockets.server import ServerProtocol

from ..context import bind_for_good
from ..enginelog import EngineLog
from ..failures import check_log
from ..messages import MessageReader, check_reader, read_message
from ..peers import TrustedProxies
from ..values import header_names
from .connections import ConnectionLog, said
from .incoming import IncomingMessages
from .sockets import GOODBYES

__all__ = ["WebsocketsSocket", "server_connection"]


def server_connection(
    log: EngineLog,
    *,
    read_message: MessageReader = read_message,
    trusted_proxies: Iterable[str] = (),
    masked_headers: Iterable[str] = (),
) -> type[LoggedConnection]:
    """
    Return what makes a server log its connections and messages; its handler stays as it is.

    ::

        async with EngineLog() as log, serve(
            handler, "localhost", 7070, create_connection=server_connection(log)
        ) as server:
            ...

    Each connection has one row: who asked for it and when, whether and when it was accepted, when it
    began to end and when it was gone. Each message has one row: its first byte was there (received),
    it was complete (queued), the handler took it (processing started). A binary message after a header
    that announces it is in the row of the header. Functions of the handler find the connection
    bound (:func:`~async_enginelog.bound`).

    The connection behaves as :class:`~websockets.asyncio.server.ServerConnection` in all it does; no
    fault of the log ever reaches it.

    Args:
        log: An open log.
        read_message: Tells what a message says: its type, recording and frame number. Gets text as
            :class:`str`, binary as :class:`bytes`, of at most 64 KiB; longer messages aren't read.
        trusted_proxies: Addresses or networks of proxies whose ``X-Forwarded-For`` is believed.
        masked_headers: Names of headers whose values aren't logged, besides ``MASKED_HEADERS``.

    Raises:
        TypeError: If ``log`` isn't a log, ``read_message`` can't be called, or a header
            isn't a name.
        ValueError: If a trusted proxy is neither an address nor a network.

    """
    check_log(log)
    check_reader(read_message)
    proxies, masked = TrustedProxies(trusted_proxies), header_names(masked_headers)

    class Connection(LoggedConnection):
        def __init__(self, protocol: ServerProtocol, server: Server, **settings: Any) -> None:
            connection_log = ConnectionLog(log, read_message, proxies, masked)
            super().__init__(protocol, server, enginelog=connection_log, **settings)

    return Connection


class LoggedConnection(ServerConnection):
    """
    A server connection that logs itself; :func:`server_connection` makes it.

    Attributes:
        enginelog: The log of this connection: its id, and the message taken last.

    """

    def __init__(
        self, protocol: ServerProtocol, server: Server, *, enginelog: ConnectionLog, **settings: Any
    ) -> None:
        super().__init__(protocol, server, **settings)
        self.enginelog = enginelog
        self._messages = IncomingMessages(enginelog)

    # Each of these calls the method of websockets, and looks at what came of it. Nothing waits in between:
    # neither the order of things, nor where a task may be cancelled, changes.

    def connection_made(self, transport: Any) -> None:
        """Bind the connection for its handler, and begin."""
        # Before: the task of the handler, made in there, takes the context along.
        if self.enginelog.id:
            bind_for_good(websocket_connection_id=self.enginelog.id)
        super().connection_made(transport)

    async def handshake(self, *args: Any, **kwargs: Any) -> None:
        """Perform the opening handshake, and log that it led to a connection."""
        await super().handshake(*args, **kwargs)
        self._unnoticed(self._see_handshake)

    def data_received(self, data: bytes) -> None:
        """Take bytes in, and note when they came."""
        self._messages.bytes_come()
        super().data_received(data)
        self._unnoticed(self._see_bytes)

    def process_event(self, event: Event) -> None:
        """Process an event, and log the request, message or end that it is."""
        super().process_event(event)
        self._unnoticed(self._see_event, event)

    def connection_lost(self, exc: Exception | None) -> None:
        """End, and log that."""
        super().connection_lost(exc)
        self._unnoticed(self._see_end)

    async def recv(self, decode: bool | None = None) -> Any:
        """Receive the next message, and log that the engine took it."""
        try:
            data = await super().recv(decode)
        except BaseException:
            self._unnoticed(self._see_what_is_left)
            raise
        self._unnoticed(self._messages.took_next)
        return data

    async def recv_streaming(self, decode: bool | None = None) -> AsyncIterator[Any]:
        """Receive the next message frame by frame, and log when the engine took the first."""
        # A generator, typed as an iterator. What is thrown into this one is thrown into that one, as it
        # would be without the log: an EOFError, for one, means something to websockets.
        parts: Any = super().recv_streaming(decode)
        following: Awaitable[Any] = anext(parts)
        see = self._messages.began_next
        while True:
            try:
                part = await following
            except StopAsyncIteration:
                return
            self._unnoticed(see)
            see = _nothing
            try:
                yield part
            except GeneratorExit:
                raise
            except BaseException as error:
                following = parts.athrow(error)
            else:
                following = anext(parts)

    # -- what of that is logged ---------------------------------------------------------------------

    def _unnoticed(self, see: Callable[..., None], *what: object) -> None:
        """Look at what happened; a fault in that, or an unknown websockets, is no trouble for the engine."""
        try:
            see(*what)
        except Exception as error:
            message = f"connection {self.enginelog.id}: not logged: {said(error)}"
            self.enginelog.log.tell("websockets event", message)

    def _see_handshake(self) -> None:
        if self.state is OPEN and self.enginelog.is_requested:
            self.enginelog.accepted()

    def _see_event(self, event: Any) -> None:
        if isinstance(event, Request):
            # A request for anything else is plain HTTP, and has no row.
            if any("websocket" in value.lower() for value in event.headers.get_all("Upgrade")):
                self.enginelog.requested(self.remote_address, event.headers.raw_items())
        elif not self.enginelog.is_requested:
            pass
        elif event.opcode in DATA_OPCODES:
            self._messages.frame_came(event.data, is_text=event.opcode is Opcode.TEXT, is_last=event.fin)
        else:
            self._messages.control_came()
            if event.opcode is Opcode.CLOSE:
                self.enginelog.disconnected()

    def _see_bytes(self) -> None:
        # What the parser has taken out of its buffer is whole: frames, or at least the head of one.
        self._messages.bytes_came(is_midway=bool(self.protocol.reader.buffer))
        if self.protocol.parser_exc is not None and self.enginelog.is_requested:
            self._see_refusal()

    def _see_refusal(self) -> None:
        """Log at once, not when the client has gone, that nothing more is received."""
        if isinstance(self.protocol.parser_exc, PayloadTooBig) and not self.enginelog.is_disconnected:
            self._messages.refused()
        self.enginelog.disconnected()

    def _see_what_is_left(self) -> None:
        # A message that can't be decoded is taken and doesn't come back. This is the place to see it.
        self._messages.keep_last(sum(frame.fin for frame in self.recv_messages.frames.queue))

    def _see_end(self) -> None:
        if not self.enginelog.is_requested:
            return
        self._messages.ended()
        reason = self.protocol.handshake_exc or self._fault()
        if reason is not None:
            self.enginelog.failed("websockets.serve", reason)
        self.enginelog.disconnected()
        self.enginelog.closed()

    def _fault(self) -> BaseException | None:
        """Return what ended the connection; a client that is gone is no fault."""
        # websockets called it recv_exc before version 17.
        error = self.protocol.parser_exc or getattr(self, "connection_exc", getattr(self, "recv_exc", None))
        return None if isinstance(error, EOFError | OSError) else error


def _nothing() -> None:
    """Look at nothing."""


class WebsocketsSocket:
    """
    A connection of a ``websockets`` server, as a recorder sees it.

    Raises:
        TypeError: If it isn't logged.

    """

    def __init__(self, websocket: ServerConnection) -> None:
        if not isinstance(websocket, LoggedConnection):
            raise TypeError(
                "this connection isn't logged; pass it to the server: "
                "serve(…, create_connection=server_connection(log))"
            )
        self.log: ConnectionLog = websocket.enginelog
        self.is_lost = False
        self._websocket = websocket

    async def receive(self) -> str | bytes | None:
        """Return the next message; :obj:`None` at the end. Cancelling is safe."""
        try:
            data: str | bytes = await self._websocket.recv()
        except ConnectionClosed:
            self.is_lost = self._websocket.close_code not in GOODBYES
            return None
        return data

    async def send(self, text: str) -> None:
        """Send text; a connection that is gone is no error."""
        with suppress(ConnectionClosed):
            await self._websocket.send(text)

    async def close(self) -> None:
        """Close it; harmless if it is gone."""
        await self._websocket.close()
