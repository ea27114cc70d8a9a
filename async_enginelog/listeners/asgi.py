"""An ASGI middleware: the websockets of FastAPI, Starlette or any application log themselves."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, TypeAlias

from ..context import bind
from ..enginelog import EngineLog
from ..errors import LogClosed
from ..failures import check_log
from ..messages import MessageReader, check_reader, read_message
from ..peers import TrustedProxies
from ..values import header_names
from .connections import ConnectionLog, now, said

__all__ = ["LogMiddleware"]

# What a server and an application hand each other (https://asgi.readthedocs.io/en/latest/specs/main.html).
# Each framework has types of its own for them, which don't fit together, hence Any. An application returns
# nothing; if one does, that is between it and the server.
Receive: TypeAlias = Callable[[], Awaitable[Any]]
Send: TypeAlias = Callable[[Any], Awaitable[None]]
Application: TypeAlias = Callable[[Any, Any, Any], Awaitable[Any]]

# What an application sends when it has ended, or couldn't begin; then the server ends, too.
ENDS = {"lifespan.startup.failed", "lifespan.shutdown.complete", "lifespan.shutdown.failed"}

# What it sends to end a connection, or to refuse one.
GOODBYES = {"websocket.close", "websocket.http.response.start"}

HOW_TO_OPEN = (
    "the lifespan of a server opens the log, once; without one, and in an application that is mounted in "
    "another, use `async with log:` around the server"
)


class LogMiddleware:
    """
    An application that logs its websocket connections and messages; it stays as it is.

    ::

        app.add_middleware(LogMiddleware, log=EngineLog("engine_log.db"))  # FastAPI, Starlette
        app = LogMiddleware(app, log=EngineLog("engine_log.db"))  # any other

    The rows are those of :func:`~async_enginelog.server_connection`. A server gives a message away when
    it is complete and the application asks for it, so this is when it was received, queued and taken.
    ``scope["enginelog"]`` is the log of the connection: its id, and the message taken last.

    All happens in the task that calls. The application gets and gives the same events at the same points,
    whatever becomes of the log; anything but a websocket passes through untouched.

    If the log isn't open when the server starts, it is opened before the application hears of the start,
    and closed when the application has ended. If it can't be opened, the server is told why, and
    doesn't start. An application without lifespan doesn't say when it ends: its log stays open, and what the
    last moment logged is committed when the log is opened next. In a server without lifespan, or in a
    mounted application, nobody opens the log: open it around the server, or nothing is logged.

    Args:
        app: The application.
        log: A log, open or not; one that was closed logs nothing.
        read_message: Tells what a message says, as for :func:`~async_enginelog.server_connection`.
        trusted_proxies: Addresses or networks of proxies whose ``X-Forwarded-For`` is believed.
        masked_headers: Names of headers whose values aren't logged, besides ``MASKED_HEADERS``.

    Raises:
        TypeError: If ``log`` isn't a log, ``read_message`` can't be called, or a header
            isn't a name.
        ValueError: If a trusted proxy is neither an address nor a network.

    """

    def __init__(
        self,
        app: Application,
        log: EngineLog,
        *,
        read_message: MessageReader = read_message,
        trusted_proxies: Iterable[str] = (),
        masked_headers: Iterable[str] = (),
    ) -> None:
        check_log(log)
        check_reader(read_message)
        self.app = app
        self.log = log
        self._read_message = read_message
        self._proxies = TrustedProxies(trusted_proxies)
        self._masked_headers = header_names(masked_headers)

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> Any:
        """Call the application; cancelling does to it what it does without the log."""
        if scope["type"] == "lifespan":
            return await self._call_in_open_log(scope, receive, send)
        if scope["type"] == "websocket":
            return await self._call_and_log(scope, receive, send)
        return await self.app(scope, receive, send)

    async def _call_in_open_log(self, scope: Any, receive: Receive, send: Send) -> Any:
        problem = await self._open()
        if isinstance(problem, LogClosed):
            # Whoever opened it closes it. Or it is closed: it served an earlier lifespan, as tests of an
            # application have many; then websockets will warn.
            return await self.app(scope, receive, send)
        if problem is not None:
            await receive()
            why = f"the EngineLog can't be opened: {problem}"
            await send({"type": "lifespan.startup.failed", "message": why})
            return None
        lifespan = _Lifespan(self.log, receive, send)
        try:
            return await self.app(scope, lifespan.receive, lifespan.send)
        except asyncio.CancelledError:
            lifespan.is_ending = True
            raise
        finally:
            # A call that ends before leaves the server running, without lifespan.
            if lifespan.is_ending:
                await lifespan.close()

    async def _open(self) -> Exception | None:
        """Open the log. Return why that can't be: as context, it would follow what the application raises."""
        try:
            await self.log.open()
        except Exception as error:
            return error
        return None

    async def _call_and_log(self, scope: Any, receive: Receive, send: Send) -> Any:
        if not self.log.is_open:
            # What the log itself says of each row counts as the same trouble, and isn't said besides.
            self.log.tell("offer", f"{self.log!r}: connections aren't logged; {HOW_TO_OPEN}")
        log = ConnectionLog(self.log, self._read_message, self._proxies, self._masked_headers)
        connection = _Connection(log, receive, send)
        connection.requested(scope)
        try:
            with bind(websocket_connection_id=log.id or None):
                # A copy: what is inside of this application is no business of the server.
                return await self.app({**scope, "enginelog": log}, connection.receive, connection.send)
        finally:
            connection.ended()


class _Lifespan:
    """The lifespan of a server for its application; the log is closed before the server hears of the end."""

    def __init__(self, log: EngineLog, receive: Receive, send: Send) -> None:
        self._log = log
        self._receive = receive
        self._send = send
        self.is_ending = False

    async def receive(self) -> Any:
        event = await self._receive()
        if _type_of(event) == "lifespan.shutdown":
            self.is_ending = True
        return event

    async def send(self, event: Any) -> None:
        if _type_of(event) in ENDS:
            await self.close()
        await self._send(event)

    async def close(self) -> None:
        try:
            await self._log.aclose()
        except Exception as error:
            self._log.tell("closing", str(error))


class _Connection:
    """A websocket for the application: what passes is logged, after it has passed."""

    def __init__(self, log: ConnectionLog, receive: Receive, send: Send) -> None:
        self._log = log
        self._receive = receive
        self._send = send

    async def receive(self) -> Any:
        event = await self._receive()
        self._unnoticed(self._received, event)
        return event

    async def send(self, event: Any) -> None:
        await self._send(event)
        self._unnoticed(self._sent, event)

    def requested(self, scope: Any) -> None:
        self._unnoticed(self._requested, scope)

    def ended(self) -> None:
        self._log.disconnected()
        self._log.closed()

    def _unnoticed(self, see: Callable[[Any], None], what: object) -> None:
        """Look at what passes. If it isn't what it should be, that is no trouble for the application."""
        try:
            see(what)
        except Exception as error:
            self._log.log.tell("asgi event", f"connection {self._log.id}: not logged: {said(error)}")

    def _requested(self, scope: Any) -> None:
        pairs = scope.get("headers", ())
        headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in pairs]
        self._log.requested(scope.get("client"), headers)

    def _received(self, event: Any) -> None:
        received = now()
        if _type_of(event) == "websocket.disconnect":
            self._log.disconnected()
        elif _type_of(event) == "websocket.receive":
            # One of the two is there; the other is missing or None.
            text = event.get("text")
            data = event["bytes"] if text is None else text
            message = self._log.read(data)
            self._log.took(self._log.arrived(message, received, binary=text is None))

    def _sent(self, event: Any) -> None:
        if _type_of(event) == "websocket.accept":
            self._log.accepted()
        elif _type_of(event) in GOODBYES:
            self._log.disconnected()


def _type_of(event: object) -> object:
    """Return what an event is; what is no event is for the application or the server to refuse."""
    return event.get("type") if isinstance(event, Mapping) else None
