"""A logged server, a client that sends any bytes, and the rows that come of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from websockets.asyncio.client import connect
from websockets.asyncio.server import Server, ServerConnection, serve

from async_enginelog import EngineLog, bound, server_connection

from ..conftest import Query
from .raw import Raw

__all__ = [
    "ConnectionRow",
    "MessageRow",
    "Unsayable",
    "chatting",
    "connection_rows",
    "echoes",
    "error_texts",
    "log_talk",
    "message_rows",
    "port_of",
    "receives",
    "sees_its_id",
    "serving",
    "talking",
    "until",
    "waits",
]

Handler: TypeAlias = Callable[[ServerConnection], Awaitable[None]]

# Text, or None where there was none yet. A test that compares one knows that it is there.
Time: TypeAlias = Any

PATIENCE = 10.0


class ConnectionRow(NamedTuple):
    """A row of ENGINE_DB_LOG_WEBSOCKET_CONNECTION."""

    id: int
    host: str | None
    port: str | None
    headers: str
    requested: Time
    accepted: Time
    disconnected: Time
    closed: Time


class MessageRow(NamedTuple):
    """A row of ENGINE_DB_LOG_WEBSOCKET_MESSAGE."""

    id: int
    connection: int
    kind: str
    recording: int | None
    frame_no: int | None
    received: Time
    queued: Time
    started: Time


def connection_rows(query: Query) -> list[ConnectionRow]:
    """Return the connections, in the order in which they were asked for."""
    rows = query(
        "SELECT WEBSOCKET_CONNECTION_ID, CLIENT_HOST_IP_ADDRESS, CLIENT_PORT, CLIENT_HEADERS,"
        " DT_CONNECTION_REQUEST, DT_CONNECTION_ACCEPTED, DT_WEBSOCKET_DISCONNECT_EVENT, DT_CONNECTION_CLOSED"
        " FROM ENGINE_DB_LOG_WEBSOCKET_CONNECTION ORDER BY WEBSOCKET_CONNECTION_ID"
    )
    return [ConnectionRow(*row) for row in rows]


def message_rows(query: Query) -> list[MessageRow]:
    """Return the messages, in the order in which they came."""
    rows = query(
        "SELECT MESSAGE_ID, WEBSOCKET_CONNECTION_ID, MESSAGE_TYPE, RECORDING_ID, AUDIO_FRAME_NO,"
        " DT_MESSAGE_RECEIVED, DT_MESSAGE_PROCESS_QUEUED_TO_START, DT_MESSAGE_PROCESS_STARTED"
        " FROM ENGINE_DB_LOG_WEBSOCKET_MESSAGE ORDER BY MESSAGE_ID"
    )
    return [MessageRow(*row) for row in rows]


def error_texts(query: Query) -> list[str]:
    """Return what was logged as errors."""
    return [text for (text,) in query("SELECT ERROR_MESSAGE_TEXT FROM ENGINE_DB_LOG_FUNCTION_ERROR")]


async def until(condition: Callable[[], object]) -> None:
    """Wait until something is so."""
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.001)


def port_of(server: Server) -> int:
    """Return the port on which a server listens."""
    port: int = next(iter(server.sockets)).getsockname()[1]
    return port


@asynccontextmanager
async def serving(log: EngineLog, handler: Handler, **settings: Any) -> AsyncIterator[Server]:
    """Serve on a free port, logging."""
    settings = {"ping_interval": None, "close_timeout": 1, "host": "127.0.0.1", "port": 0, **settings}
    known = {
        name: settings.pop(name)
        for name in ("read_message", "trusted_proxies", "masked_headers")
        if name in settings
    }
    async with serve(handler, create_connection=server_connection(log, **known), **settings) as server:
        yield server


def chatting(server: Server, scheme: str = "ws", **settings: Any) -> connect:
    """Return a decent client."""
    return connect(f"{scheme}://127.0.0.1:{port_of(server)}", proxy=None, **settings)


@asynccontextmanager
async def talking(
    log: EngineLog,
    handler: Handler,
    *,
    upgrade: bool = True,
    headers: str = "",
    client_host: str = "127.0.0.1",
    **settings: Any,
) -> AsyncIterator[tuple[Server, Raw]]:
    """Serve, and connect a client that sends any bytes; at the end, both are gone."""
    async with serving(log, handler, **settings) as server:
        raw = await Raw.open(port_of(server), host=client_host)
        try:
            if upgrade:
                await raw.upgrade(headers)
            yield server, raw
        finally:
            await raw.gone()


async def log_talk(path: Path, handler: Handler, *data: bytes, **settings: Any) -> None:
    """Log a connection on which a client sends bytes, all at once, and answers the close."""
    async with EngineLog(path) as log, talking(log, handler, **settings) as (_, raw):
        raw.send(*data)
        await raw.frames_to_end()


# -- handlers ---------------------------------------------------------------------------------------


async def receives(connection: ServerConnection) -> None:
    """Receive until the end."""
    async for _ in connection:
        pass


async def echoes(connection: ServerConnection) -> None:
    """Send back what comes."""
    async for message in connection:
        await connection.send(message)


async def waits(connection: ServerConnection) -> None:
    """Receive nothing."""
    await connection.wait_closed()


async def sees_its_id(connection: ServerConnection) -> None:
    """Tell the client which connection is bound."""
    async for _ in connection:
        await connection.send(str(bound().websocket_connection_id))


class Unsayable(Exception):
    """An error that can't say what is wrong."""

    def __str__(self) -> str:
        raise RuntimeError("in __str__")
