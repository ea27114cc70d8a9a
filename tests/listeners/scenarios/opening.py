"""Opening: every hook of the handshake, and every way in which it can fail."""

from __future__ import annotations

import asyncio
import logging
import re
import socket
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from websockets.asyncio.server import ServerConnection, basic_auth, serve, unix_serve
from websockets.exceptions import NegotiationError
from websockets.extensions.permessage_deflate import ServerPerMessageDeflateFactory
from websockets.http11 import Request, Response

from ..raw import CLOSE, TEXT, UPGRADE, Raw, close, frame, request
from ..side_by_side import Side, plain, scenario


async def greet(connection: ServerConnection) -> None:
    """Send a banner, and echo."""
    await connection.send("welcome")
    async for message in connection:
        await connection.send(message)


async def ask(side: Side, *data: bytes, bytewise: bool = False) -> None:
    """Send bytes, and note all that comes back."""
    raw = await Raw.open(side.port)
    if bytewise:
        await raw.send_bytewise(b"".join(data))
    else:
        raw.send(*data)
    side.note("client", plain((await raw.bytes_to_end()).decode("latin-1")))


# -- the hooks --------------------------------------------------------------------------------------


def continues(connection: ServerConnection, request: Request) -> None:
    """Let it open."""


def is_healthy(connection: ServerConnection, request: Request) -> Response | None:
    """Answer plain HTTP."""
    return connection.respond(200, "OK\n") if request.path == "/health" else None


async def waits(connection: ServerConnection, request: Request) -> None:
    """Give way before it opens."""
    await asyncio.sleep(0.001)


async def refuses(connection: ServerConnection, request: Request) -> Response:
    """Refuse, with a header."""
    response = connection.respond(403, "no\n")
    response.headers["X-Reason"] = "none"
    return response


def fails(connection: ServerConnection, request: Request) -> None:
    """Fail."""
    raise ValueError("a hook failed")


async def fails_later(connection: ServerConnection, request: Request) -> None:
    """Fail as a client might that is gone."""
    await asyncio.sleep(0)
    raise ConnectionResetError("a hook failed")


class Unsayable(Exception):
    """An error that can't say what is wrong."""

    def __str__(self) -> str:
        raise RuntimeError("in __str__")


def fails_to_fail(connection: ServerConnection, request: Request) -> None:
    """Fail in failing."""
    raise Unsayable


def aborts(connection: ServerConnection, request: Request) -> None:
    """Reset the connection."""
    connection.transport.abort()


def forces(connection: ServerConnection, request: Request) -> Response:
    """Accept what isn't asked for."""
    response = connection.protocol.reject(200, "")
    return Response(101, "Switching Protocols", response.headers)


HOOKS = (continues, is_healthy, waits, refuses, fails, fails_later, fails_to_fail, aborts, forces)


@scenario(hook=HOOKS, upgrade=(True, False), line=("GET /ws/stream HTTP/1.1", "GET /health HTTP/1.1"))
async def process_request(side: Side, hook: Any, upgrade: bool, line: str) -> None:
    """A hook sees the request, and may answer."""
    if hook is fails_to_fail:
        logging.getLogger("websockets.server").setLevel(logging.CRITICAL)
    async with side.serve(greet, process_request=hook):
        headers = UPGRADE if upgrade else "Host: localhost\r\n"
        raw = await Raw.open(side.port)
        raw.send(request(headers, line))
        await asyncio.sleep(0.1)  # what the server does in that time, it has done also on a busy machine
        raw.end()
        side.note("client", plain((await raw.bytes_to_end()).decode("latin-1")))


def adds(connection: ServerConnection, request: Request, response: Response) -> None:
    """Add a header."""
    response.headers["X-Added"] = str(response.status_code)


async def replaces(connection: ServerConnection, request: Request, response: Response) -> Response:
    """Answer something else."""
    await asyncio.sleep(0)
    return connection.respond(418, "short and stout\n")


def fails_at_last(connection: ServerConnection, request: Request, response: Response) -> None:
    """Fail."""
    raise ValueError("a hook failed")


@scenario(hook=(adds, replaces, fails_at_last), before=(continues, refuses))
async def process_response(side: Side, hook: Any, before: Any) -> None:
    """A hook sees the response, and may change it."""
    async with side.serve(greet, process_request=before, process_response=hook):
        await ask(side, request(), frame(TEXT, b"a"), close())


def last(connection: ServerConnection, offered: Any) -> Any:
    """Select the last, of those that are offered to this connection."""
    assert isinstance(connection, ServerConnection)
    return offered[-1] if offered else None


def none_fits(connection: ServerConnection, offered: Any) -> Any:
    """Refuse as is proper."""
    raise NegotiationError("none fits")


def breaks(connection: ServerConnection, offered: Any) -> Any:
    """Fail."""
    raise KeyError("breaks")


@scenario(select=(None, last, none_fits, breaks), offered=("", "chat", "chat, superchat", "other"))
async def subprotocols(side: Side, select: Any, offered: str) -> None:
    """One of the subprotocols that both know is selected."""
    settings = {"subprotocols": ["superchat", "chat"], "select_subprotocol": select}
    async with side.serve(greet, **settings):
        header = f"Sec-WebSocket-Protocol: {offered}\r\n" if offered else ""
        await ask(side, request(UPGRADE + header), close())


@scenario(origins=([None], ["http://a"], [re.compile("http://[ab]")]), origin=(None, "http://a", "http://c"))
async def origins(side: Side, origins: Any, origin: str | None) -> None:
    """Requests of other origins are refused."""
    header = "" if origin is None else f"Origin: {origin}\r\n"
    async with side.serve(greet, origins=origins):
        await ask(side, request(UPGRADE + header), close())


async def checks(name: str, password: str) -> bool:
    """Check credentials."""
    await asyncio.sleep(0)
    return (name, password) == ("hello", "world")


@scenario(
    settings=({"credentials": ("hello", "world")}, {"check_credentials": checks}),
    header=(
        "",
        "Authorization: Basic aGVsbG86d29ybGQ=",
        "Authorization: Basic aGVsbG86eA==",
        "Authorization: x",
    ),
)
async def authorization(side: Side, settings: Any, header: str) -> None:
    """Credentials are asked for and checked; the handler knows the name."""
    hook = basic_auth(realm="realm", **settings)
    async with side.serve(greet, process_request=hook):
        await ask(side, request(UPGRADE + (f"{header}\r\n" if header else "")), close())


@scenario(
    settings=(
        {},
        {"compression": None},
        {"compression": "deflate"},
        {
            "compression": None,
            "extensions": [ServerPerMessageDeflateFactory(server_no_context_takeover=True)],
        },
        {"server_header": None},
        {"server_header": "engine"},
        {"server_header": ""},
    ),
    offered=(
        "",
        "permessage-deflate",
        "permessage-deflate; client_max_window_bits=9",
        "other",
        "b@d; header",
    ),
)
async def extensions(side: Side, settings: Any, offered: str) -> None:
    """Extensions are negotiated; the server says its name, or not."""
    header = f"Sec-WebSocket-Extensions: {offered}\r\n" if offered else ""
    async with side.serve(greet, **settings):
        await ask(side, request(UPGRADE + header), close())


# -- requests that fail -----------------------------------------------------------------------------

REQUESTS = {
    "nothing": b"",
    "half a line": b"GET / HT",
    "half the headers": request()[:60],
    "garbage": bytes(range(256)) * 4,
    "a newline": b"\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    "plain HTTP": request("Host: localhost\r\n"),
    "HTTP/1.0": request(line="GET / HTTP/1.0"),
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "POST": request(line="POST /ws/stream HTTP/1.1"),
    "HEAD": request("Host: localhost\r\n", line="HEAD / HTTP/1.1"),
    "long line": request(line=f"GET /{'x' * 9000} HTTP/1.1"),
    "long header": request(f"X-Long: {'x' * 9000}\r\n"),
    "many headers": request("".join(f"X-{number}: x\r\n" for number in range(300))),
    "bad header": request("no colon\r\n"),
    "body": request(f"{UPGRADE}Content-Length: 5\r\n") + b"hello",
    "chunked": request(f"{UPGRADE}Transfer-Encoding: chunked\r\n"),
    "no key": request(UPGRADE.replace("Key", "Keys")),
    "bad key": request(UPGRADE.replace("AAAA", "A", 1)),
    "two keys": request(f"{UPGRADE}Sec-WebSocket-Key: x\r\n"),
    "old version": request(UPGRADE.replace("13", "8")),
    "no version": request(UPGRADE.replace("Version", "Versions")),
    "two upgrades": request(f"{UPGRADE}Upgrade: h2c\r\n"),
    "other upgrade": request(UPGRADE.replace("websocket", "h2c", 1)),
    "upgrade in capitals": request(UPGRADE.replace("websocket", "WebSocket", 1)) + close(),
    "two in one upgrade": request(UPGRADE.replace("websocket", "websocket, h2c", 1)),
    "no connection": request(UPGRADE.replace("Connection: Upgrade", "Connection: close")),
    "two origins": request(f"{UPGRADE}Origin: a\r\nOrigin: b\r\n"),
    "not ASCII": request(f"{UPGRADE}X-Name: é\r\n") + close(),
    "frames behind": request() + frame(TEXT, b"a") + frame(TEXT, b"b") + close(),
    "close behind": request() + close(1000, b"bye") + frame(TEXT, b"too late"),
    "bad frame behind": request() + frame(3),
    "request behind": request("Host: localhost\r\n") * 2,
    "frame behind plain HTTP": request("Host: localhost\r\n") + frame(TEXT, b"a") + frame(CLOSE),
}

UNFINISHED = {"nothing", "half a line", "half the headers"}


@scenario(kind=tuple(REQUESTS), hook=(None, waits))
async def requests(side: Side, kind: str, hook: Any) -> None:
    """Whatever comes instead of a request is answered, or not, and ends."""
    timeout = 0.1 if kind in UNFINISHED else 10
    async with side.serve(greet, open_timeout=timeout, process_request=hook):
        await ask(side, REQUESTS[kind])


@scenario(kind=tuple(kind for kind, data in REQUESTS.items() if len(data) < 300 and kind not in UNFINISHED))
async def requests_bytewise(side: Side, kind: str) -> None:
    """So it is if it comes byte by byte."""
    async with side.serve(greet):
        await ask(side, REQUESTS[kind], bytewise=True)


@scenario(kind=("nothing", "half a line", "garbage", "plain HTTP"), how=("end", "abort"))
async def client_goes(side: Side, kind: str, how: str) -> None:
    """A client may go before it got an answer."""
    async with side.serve(greet, process_request=waits):
        raw = await Raw.open(side.port)
        raw.send(REQUESTS[kind])
        await side.until(lambda: side.connections and hasattr(side.connections[0], "transport"))
        if how == "end":
            raw.end()
            side.note("client", plain((await raw.bytes_to_end()).decode("latin-1")))
        else:
            raw.abort()


async def hangs(connection: ServerConnection, request: Request) -> None:
    """Take too long."""
    await asyncio.sleep(60)


@scenario(pipelined=(b"", frame(TEXT, b"early")))
async def handshake_times_out(side: Side, pipelined: bytes) -> None:
    """A handshake that takes too long is given up."""
    async with side.serve(greet, process_request=hangs, open_timeout=0.05):
        await ask(side, request(), pipelined)


@scenario(close_connections=(True, False))
async def server_closes_meanwhile(side: Side, close_connections: bool) -> None:
    """Who asks while the server closes is turned away."""

    async def waits_for_that(connection: ServerConnection, request: Request) -> None:
        await side.until(lambda: not server.is_serving())

    async with side.serve(greet, process_request=waits_for_that) as server:
        raw = await Raw.open(side.port)
        raw.send(request())
        await side.until(lambda: side.connections and side.connections[0].request is not None)
        server.close(close_connections)
        side.note("client", plain((await raw.bytes_to_end()).decode("latin-1")))
        await server.wait_closed()


# -- servers ----------------------------------------------------------------------------------------


@scenario(kind=("logger", "adapter", "level"))
async def logger(side: Side, kind: str) -> None:
    """A logger of one's own is used."""
    parent = logging.getLogger("websockets.server")
    loggers: dict[str, Any] = {
        "logger": parent.getChild("mine"),
        "adapter": logging.LoggerAdapter(parent, {"engine": 1}),
        "level": None,
    }
    if kind == "level":
        parent.setLevel(logging.INFO)

    async def handler(connection: ServerConnection) -> None:
        connection.logger.info("says the handler")
        extra: Any = getattr(connection.logger, "extra", {})
        side.note("server", "its logger knows it", extra["websocket"] == connection, connection.debug)
        await greet(connection)

    async with side.serve(handler, logger=loggers[kind]):
        raw = await side.raw()
        raw.send(close())
        await side.over(raw)


@scenario()
async def unix_socket(side: Side) -> None:
    """A server may listen on a Unix socket."""
    with TemporaryDirectory() as folder:
        path = str(Path(folder) / "socket")

        async def handler(connection: ServerConnection) -> None:
            side.note("server", connection.local_address == path, connection.remote_address)
            await greet(connection)

        async with unix_serve(handler, path, create_connection=side.create, ping_interval=None):
            reader, writer = await asyncio.open_unix_connection(path)
            writer.write(request() + frame(TEXT, b"a") + close())
            side.note("client", plain((await reader.read()).decode("latin-1")))
            writer.close()


@scenario(host=("::1", "localhost"))
async def address_families(side: Side, host: str) -> None:
    """A server may listen on IPv6, or both."""
    async with side.serve(greet, host=host):
        raw = await side.raw(host=host)
        raw.send(frame(TEXT, b"a"), close())
        await side.over(raw)


@scenario()
async def socket_of_ones_own(side: Side) -> None:
    """A server may be given a socket, start later, and serve until it is cancelled."""
    listening = socket.create_server(("127.0.0.1", 0))
    port = listening.getsockname()[1]
    create: Any = side.create  # typed as a class in websockets, which takes a wrapper, too
    server = await serve(greet, sock=listening, start_serving=False, create_connection=create)
    side.note("server", server.is_serving())
    serving = asyncio.create_task(server.serve_forever())
    raw = await Raw.open(port)
    side.note("client", plain(await raw.upgrade()))
    side.note("server", server.is_serving(), len(server.connections), len(server.sockets))
    serving.cancel()
    await asyncio.sleep(0)
    server.close()  # before version 17, cancelling it doesn't
    side.note("client", await raw.frames_to_end())
    await asyncio.wait({serving})
    await server.wait_closed()
    side.note("server", serving.cancelled(), server.is_serving(), server.connections)
