"""Connections of a ``websockets`` server that log themselves and each message they receive."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import suppress
from datetime import datetime
from typing import Any

from websockets.asyncio.server import Server
from websockets.asyncio.server import ServerConnection as ServerConnection
from websockets.exceptions import ConnectionClosed, PayloadTooBig
from websockets.frames import DATA_OPCODES, CloseCode, Frame, Opcode
from websockets.http11 import Request
from websockets.protocol import OPEN, Event
from websockets.server import ServerProtocol
from websockets.typing import BytesLike

from ..context import bind_for_good
from ..enginelog import EngineLog
from ..messages import MAX_READ_BYTES, Message, MessageReader, read_message
from ..peers import TrustedProxies
from .connections import ConnectionLog, ReceivedMessage, now

__all__ = ["WebsocketsSocket", "server_connection"]


def server_connection(
    log: EngineLog,
    *,
    read_message: MessageReader = read_message,
    trusted_proxies: Iterable[str] = (),
) -> Callable[..., LoggedConnection]:
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

    Raises:
        ValueError: If a trusted proxy is neither an address nor a network.

    """
    proxies = TrustedProxies(trusted_proxies)

    def create(protocol: ServerProtocol, server: Server, **settings: Any) -> LoggedConnection:
        return LoggedConnection(
            protocol, server, enginelog=ConnectionLog(log, read_message, proxies), **settings
        )

    return create


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
        # The message of which not all frames have come.
        self._incoming: _Incoming | None = None
        # Messages that are complete and not yet taken, in order.
        self._arrived: deque[ReceivedMessage] = deque()

    # What follows calls the method of websockets first, and never waits in between: neither the order of
    # things, nor where a task may be cancelled, changes.

    def connection_made(self, transport: Any) -> None:
        """Bind the connection for its handler, and begin."""
        # Before: the task of the handler, made in there, takes the context along.
        bind_for_good(websocket_connection_id=self.enginelog.id)
        super().connection_made(transport)

    async def handshake(self, *args: Any, **kwargs: Any) -> None:
        """Perform the opening handshake, and log that it led to a connection."""
        await super().handshake(*args, **kwargs)
        if self.state is OPEN:
            self.enginelog.accepted()

    def process_event(self, event: Event) -> None:
        """Process an event, and log the request, message or end that it is."""
        super().process_event(event)
        if isinstance(event, Request):
            if "websocket" in event.headers.get("Upgrade", "").lower():  # else it is plain HTTP
                self.enginelog.requested(self.remote_address, event.headers.raw_items())
        elif isinstance(event, Frame):
            if event.opcode in DATA_OPCODES:
                self._data_arrived(event)
            elif event.opcode is Opcode.CLOSE:
                self.enginelog.disconnected()

    def connection_lost(self, exc: Exception | None) -> None:
        """End, and log that."""
        super().connection_lost(exc)
        self._log_the_end()

    async def recv(self, decode: bool | None = None) -> Any:
        """Receive the next message, and log that the engine took it."""
        data = await super().recv(decode)
        self._took()
        return data

    async def recv_streaming(self, decode: bool | None = None) -> AsyncIterator[Any]:
        """Receive the next message frame by frame, and log when the engine took the first."""
        started = None
        try:
            async for part in super().recv_streaming(decode):
                started = started or now()
                yield part
        finally:
            if started is not None:
                self._took(started)

    # -- what of that is logged ---------------------------------------------------------------------

    def _data_arrived(self, frame: Frame) -> None:
        incoming = self._incoming or _Incoming(frame.opcode is Opcode.TEXT)
        incoming.add(frame)
        if not frame.fin:
            self._incoming = incoming
            return
        self._incoming = None
        data = incoming.data()
        message = incoming.unread() if data is None else self.enginelog.read(data)
        self._message_arrived(incoming, message)

    def _message_arrived(self, incoming: _Incoming, message: Message) -> None:
        arrived = self.enginelog.arrived(message, incoming.received, binary=not incoming.is_text)
        self._arrived.append(arrived)

    def _took(self, started: datetime | None = None) -> None:
        # None is there if a streaming was given up before its message was complete.
        if self._arrived:
            self.enginelog.took(self._arrived.popleft(), started)

    def _log_the_end(self) -> None:
        reason = self.protocol.parser_exc or self.protocol.handshake_exc or self.connection_exc
        if self._incoming is not None:
            self._message_arrived(self._incoming, Message("INCOMPLETE"))
        elif isinstance(reason, PayloadTooBig):
            self._message_arrived(_Incoming(is_text=True), Message("TOO_BIG"))
        if self.request is None or not self.enginelog.is_requested:
            return
        # A client that is gone is no error.
        if reason is not None and not isinstance(reason, EOFError | OSError):
            self.enginelog.failed("websockets.serve", reason)
        self.enginelog.disconnected()
        self.enginelog.closed()


class _Incoming:
    """A message as its frames come."""

    __slots__ = ("_parts", "_size", "is_text", "received")

    def __init__(self, is_text: bool) -> None:
        self.is_text = is_text
        self.received = now()
        self._parts: list[BytesLike] = []
        self._size = 0

    def add(self, frame: Frame) -> None:
        """Take a frame in. Of a long message nothing is kept: it isn't read."""
        self._size += len(frame.data)
        if self._size <= MAX_READ_BYTES:
            self._parts.append(frame.data)
        else:
            self._parts.clear()

    def data(self) -> str | bytes | None:
        """Return the whole message; :obj:`None` if it is long, or text that isn't UTF-8."""
        if self._size > MAX_READ_BYTES:
            return None
        data = b"".join(self._parts)
        try:
            return data.decode() if self.is_text else data
        except UnicodeDecodeError:
            return None

    def unread(self) -> Message:
        """Tell of a message that can't be read what it is nevertheless."""
        if self._size <= MAX_READ_BYTES:
            return Message("MALFORMED", problem="its text isn't UTF-8")
        return Message("TEXT" if self.is_text else "BINARY")


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
            self.is_lost = self._websocket.close_code == CloseCode.ABNORMAL_CLOSURE
            return None
        return data

    async def send(self, text: str) -> None:
        """Send text; a connection that is gone is no error."""
        with suppress(ConnectionClosed):
            await self._websocket.send(text)

    async def close(self) -> None:
        """Close it; harmless if it is gone."""
        await self._websocket.close()
