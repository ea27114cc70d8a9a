"""
One server with plain connections and one with logged ones, and what each was seen to do.

A scenario is a server, its handler and a client. It is played on both sides, and notes what it
sees. The two traces must be equal; only what is random in any run is left out of them.

"""

from __future__ import annotations

import asyncio
import functools
import itertools
import logging
import re
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, TypeAlias

from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.frames import DATA_OPCODES, Frame

from .raw import Raw

__all__ = ["SCENARIOS", "Handler", "Scenario", "Side", "attributes", "scenario", "told"]

Handler: TypeAlias = Callable[[ServerConnection], Awaitable[None]]
Scenario: TypeAlias = Callable[["Side"], Awaitable[None]]

SCENARIOS: dict[str, Scenario] = {}

# How long anything may take that is expected to happen.
PATIENCE = 5.0


def scenario(**variants: tuple[Any, ...]) -> Callable[[Callable[..., Awaitable[None]]], Scenario]:
    """Make a function a scenario, once for each combination of the arguments."""

    def register(play: Callable[..., Awaitable[None]]) -> Scenario:
        for values in itertools.product(*(enumerate(choices) for choices in variants.values())):
            arguments = {name: value for name, (_, value) in zip(variants, values, strict=True)}
            name = "-".join([play.__name__, *(_named(value, number) for number, value in values)])
            assert name not in SCENARIOS, name
            SCENARIOS[name] = functools.partial(_play, play, arguments)
        return play

    return register


async def _play(play: Callable[..., Awaitable[None]], arguments: dict[str, Any], side: Side) -> None:
    await play(side, **arguments)


def _named(value: object, number: int) -> str:
    if callable(value):
        return str(getattr(value, "__name__", f"#{number}"))
    text = str(value)
    return text if re.fullmatch(r"[\w., ()-]{1,24}", text, re.ASCII) else f"#{number}"


class Side:
    """
    One of the two sides.

    Attributes:
        trace: What was noted, by who noted it, in order.
        connections: The server's connections, in the order in which they came.
        messages: How many whole messages each of them received, by its id, counted at the protocol.

    """

    def __init__(self, connection_class: type[ServerConnection]) -> None:
        self.trace: dict[str, list[Any]] = {}
        self.connections: list[ServerConnection] = []
        self.messages: Counter[object] = Counter()
        self._connection_class = connection_class
        self._server: Server | None = None

    def create(self, *args: Any, **kwargs: Any) -> ServerConnection:
        """Create a connection as ``serve(create_connection=…)`` does, and remember it."""
        connection = self._connection_class(*args, **kwargs)
        self.connections.append(connection)
        protocol: Any = connection.protocol
        protocol.events_received = self._counting(connection.id, protocol.events_received)
        return connection

    def _counting(self, id: object, events_received: Callable[[], list[Any]]) -> Callable[[], list[Any]]:
        def counted() -> list[Any]:
            events = events_received()
            frames = [event for event in events if isinstance(event, Frame) and event.opcode in DATA_OPCODES]
            self.messages[id] += sum(frame.fin for frame in frames)
            return events

        return counted

    # -- noting -------------------------------------------------------------------------------------

    def note(self, who: str, *what: Any) -> None:
        """Add to the trace."""
        self.trace.setdefault(who, []).append(what)

    async def attempt(self, who: str, what: str, awaitable: Awaitable[Any]) -> Any:
        """Note what comes of an awaitable: its result or its exception; return the result."""
        try:
            result = await awaitable
        except Exception as error:
            self.note(who, what, told(error))
            return None
        self.note(who, what, result)
        return result

    async def attempt_within(self, who: str, what: str, awaitable: Awaitable[Any], seconds: float) -> Any:
        """Note what comes of an awaitable that is cancelled after some time."""
        return await self.attempt(who, what, asyncio.wait_for(awaitable, seconds))

    async def listen(self, who: str, connection: Any) -> None:
        """Note all that a connection receives, and how it ends."""
        try:
            while True:
                self.note(who, "received", await connection.recv())
        except ConnectionClosed as error:
            self.note(who, "ended", told(error), connection.close_code, connection.close_reason)

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait until something is so."""
        async with asyncio.timeout(PATIENCE):
            while not condition():
                await asyncio.sleep(0.001)

    # -- playing ------------------------------------------------------------------------------------

    @asynccontextmanager
    async def serve(self, handler: Handler, **settings: Any) -> AsyncIterator[Server]:
        """Serve on a free port, without keepalive unless told otherwise."""
        settings = {"ping_interval": None, "close_timeout": 2, "host": "127.0.0.1", "port": 0, **settings}
        start = settings.pop("start", serve)
        async with start(self._noted(handler), create_connection=self.create, **settings) as server:
            self._server = server
            yield server

    def _noted(self, handler: Handler) -> Handler:
        async def noted(connection: ServerConnection) -> None:
            self.note("server", "opened", attributes(connection))
            try:
                await handler(connection)
            except BaseException as error:
                self.note("server", "handler raised", told(error))
                raise
            self.note("server", "handler returned", connection.state.name)

        return noted

    @property
    def port(self) -> int:
        """The port of the server."""
        assert self._server is not None
        port: int = next(iter(self._server.sockets)).getsockname()[1]
        return port

    def connect(self, **given: Any) -> connect:
        """Return a client, without keepalive and compression unless told otherwise."""
        settings: dict[str, Any] = {"ping_interval": None, "compression": None, "proxy": None}
        settings |= {"user_agent_header": "client", **given}
        uri = settings.pop("uri", f"ws://127.0.0.1:{self.port}/ws/stream")
        return connect(uri, **settings)

    async def raw(self, *, upgrade: bool = True, headers: str = "", **settings: Any) -> Raw:
        """Return a client that sends any bytes; its connection is open unless told otherwise."""
        raw = await Raw.open(self.port, **settings)
        if upgrade:
            self.note("client", "response", plain(await raw.upgrade(headers)))
        return raw

    async def over(self, client: Raw | ClientConnection) -> None:
        """Note what a client receives until the connection is closed."""
        if isinstance(client, Raw):
            self.note("client", *await client.frames_to_end())
        else:
            await self.listen("client", client)

    async def play(self, play: Scenario) -> None:
        """Play a scenario, and note what can be noted of any."""
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(
            lambda _, context: self.note("loop", plain(context["message"]), told(context.get("exception")))
        )
        try:
            with self._noting_log():
                await play(self)
                await self.until(lambda: all(is_over(connection) for connection in self.connections))
        finally:
            loop.set_exception_handler(None)
        for connection in self.connections:
            self.note("afterwards", attributes(connection))

    @contextmanager
    def _noting_log(self) -> Iterator[None]:
        """Note what websockets logs: at level DEBUG, each frame, both ways, and each change of state."""
        logger, handler = logging.getLogger("websockets.server"), _Notes(self)
        level, propagate = logger.level, logger.propagate
        logger.addHandler(handler)
        logger.setLevel(logging.DEBUG)
        logger.propagate = False
        try:
            yield
        finally:
            logger.removeHandler(handler)
            logger.setLevel(level)
            logger.propagate = propagate


class _Notes(logging.Handler):
    """Notes what is logged."""

    def __init__(self, side: Side) -> None:
        super().__init__()
        self._side = side

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        self._side.note("log", record.levelname, plain(record.getMessage()), told(error))


def is_over(connection: ServerConnection) -> bool:
    """Tell whether a connection has ended, or never began."""
    return not hasattr(connection, "transport") or connection.connection_lost_waiter.done()


# -- what is seen of things -------------------------------------------------------------------------

RANDOM = [
    (re.compile(r"(Sec-WebSocket-(?:Key|Accept)|Date): [^\r\n]+"), r"\1: *"),
    (re.compile(r"((?:PING|PONG) ).* \[.*\b4 bytes\]"), r"\1*"),
    (re.compile(r"(127\.0\.0\.1|localhost|\[?::1\]?):\d+"), r"\1:*"),
    (re.compile(r"0x[0-9a-f]+"), "0x*"),
    (re.compile(r"server listening on .*"), "server listening on *"),
    (re.compile(r"websockets/[\d.]+"), "websockets/*"),
]


def plain(text: str) -> str:
    """Return a text without what is random."""
    for pattern, replacement in RANDOM:
        text = pattern.sub(replacement, text)
    return text


def told(error: object) -> object:
    """Return what an exception says: types, messages and causes."""
    if not isinstance(error, BaseException):
        return error
    try:
        message = plain(str(error))
    except Exception:
        message = "(unsayable)"
    return (
        type(error).__name__,
        message,
        told(error.__cause__),
        told(error.__context__),
        error.__suppress_context__,
        [told(inner) for inner in getattr(error, "exceptions", ())],
    )


# Attributes that hold no more than a value, by the names of any version of websockets.
VALUES = [
    *("state", "close_code", "close_reason", "subprotocol", "debug", "close_timeout", "ping_interval"),
    *("ping_timeout", "connection_exc", "recv_exc", "paused", "username", "max_queue", "write_limit"),
    *("max_queue_high", "max_queue_low", "write_limit_high", "write_limit_low"),
]
PROTOCOL_VALUES = [
    *("state", "close_code", "close_reason", "close_rcvd", "close_sent", "close_rcvd_then_sent", "eof_sent"),
    *("handshake_exc", "parser_exc", "origin", "extensions", "subprotocol", "current_size"),
    *("expect_continuation_frame",),
]


def attributes(connection: ServerConnection) -> dict[str, Any]:
    """Return what a connection's attributes say."""
    seen = {name: told(getattr(connection, name, "none")) for name in VALUES}
    seen |= {f"protocol.{name}": told(getattr(connection.protocol, name, "none")) for name in PROTOCOL_VALUES}
    seen["protocol.extensions"] = repr(connection.protocol.extensions)
    seen["latency is measured"] = connection.latency > 0
    seen["keeps alive"] = connection.keepalive_task is not None and not connection.keepalive_task.done()
    if connection.request is not None:
        seen["request"] = (connection.request.path, plain(str(connection.request.headers)))
    if connection.response is not None:
        response = connection.response
        seen["response"] = (response.status_code, response.reason_phrase, response.body)
        seen["response headers"] = plain(str(response.headers))
    if hasattr(connection, "transport"):
        seen |= _of_transport(connection)
    return seen


def _of_transport(connection: ServerConnection) -> dict[str, Any]:
    transport, messages = connection.transport, connection.recv_messages
    addresses = (connection.local_address, connection.remote_address)
    pings: Any = getattr(connection, "pending_pings", getattr(connection, "pong_waiters", None))
    return {
        "addresses": [address[0] if isinstance(address, tuple) else type(address) for address in addresses],
        "is_closing": transport.is_closing(),
        "write limits": None if transport.is_closing() else transport.get_write_buffer_limits(),
        "frames left": [(frame.opcode, bytes(frame.data), frame.fin) for frame in messages.frames.queue],
        "queue": (messages.paused, messages.closed, messages.get_in_progress, messages.high, messages.low),
        "pings": len(pings),
    }
