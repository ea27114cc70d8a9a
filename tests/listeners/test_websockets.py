"""What a websockets server logs of its connections by itself: listeners/websockets.py."""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
import ssl
import subprocess
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection, basic_auth, unix_serve
from websockets.http11 import Request, Response

from async_enginelog import EngineLog, server_connection

from ..conftest import Query
from .raw import BINARY, CLOSE, PING, PONG, TEXT, UPGRADE, Raw, close, frame, request
from .serving import (
    Unsayable,
    chatting,
    connection_rows,
    echoes,
    error_texts,
    log_talk,
    message_rows,
    port_of,
    receives,
    sees_its_id,
    serving,
    talking,
    until,
    waits,
)

pytestmark = pytest.mark.usefixtures("small_segments")


class TestConnections:
    async def test_one_row(self, path: Path, query: Query) -> None:
        """A connection has one row: who it was, and when it was what."""
        async with EngineLog(path) as log, serving(log, receives) as server:
            async with chatting(server) as client:
                host, port = client.local_address
            next_id = log.next_connection_id()

        [row] = connection_rows(query)
        assert row.id == next_id - 1
        assert (row.host, row.port) == (host, str(port))
        assert row.accepted is not None
        assert row.requested <= row.accepted <= row.disconnected <= row.closed
        assert error_texts(query) == []

    async def test_credentials_in_headers_are_masked(self, path: Path, query: Query) -> None:
        """Request headers are kept as JSON, without the credentials in them."""
        headers = "Authorization: Bearer secret\r\nCookie: a=secret\r\nUser-Agent: phone\r\n"
        await log_talk(path, receives, close(), headers=headers)

        [row] = connection_rows(query)
        stored = json.loads(row.headers)
        masked = {name for name, value in stored.items() if value == "***"}
        assert masked == {"Authorization", "Cookie", "Sec-WebSocket-Key"}
        assert stored["User-Agent"] == "phone"

    async def test_credentials_of_the_engines_own(self, path: Path, query: Query) -> None:
        """Headers that an engine names are masked, too, in any case, besides those that always are."""
        headers = "X-Violin: secret\r\nCookie: a=b\r\nReferer: https://a.b/?token=secret\r\n"
        await log_talk(path, receives, close(), headers=headers, masked_headers=["x-VIOLIN"])

        [row] = connection_rows(query)
        stored = json.loads(row.headers)
        assert (stored["X-Violin"], stored["Cookie"]) == ("***", "***")
        assert "secret" not in row.headers

    @pytest.mark.parametrize("names", ["cookie", [b"cookie"]])
    def test_credentials_that_are_no_names(self, path: Path, names: Any) -> None:
        """One name instead of several would mask nothing."""
        with pytest.raises(TypeError, match="masked_headers is .*; pass names"):
            server_connection(EngineLog(path), masked_headers=names)

    async def test_ipv6(self, path: Path, query: Query) -> None:
        """An IPv6 address is stored as people write it."""
        async with EngineLog(path) as log, talking(log, receives, host="::1", client_host="::1"):
            pass

        [row] = connection_rows(query)
        assert row.host == "::1"
        assert row.port is not None
        assert row.port.isdigit()

    async def test_ipv4_on_a_socket_for_both(self, path: Path, query: Query) -> None:
        """An IPv4 client of an IPv6 socket has an IPv4 address."""
        both = socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True)
        async with EngineLog(path) as log, talking(log, receives, sock=both, host=None, port=None):
            pass

        assert [row.host for row in connection_rows(query)] == ["127.0.0.1"]

    @pytest.mark.parametrize(
        ("trusted_proxies", "client"),
        [((), "127.0.0.1"), (["127.0.0.1"], "192.0.2.7"), (["127.0.0.0/8", "192.0.2.0/24"], "2001:db8::1")],
    )
    async def test_clients_behind_proxies(
        self, path: Path, query: Query, trusted_proxies: list[str], client: str
    ) -> None:
        """Trusted proxies are believed who the client is; others aren't."""
        headers = "X-Forwarded-For: 2001:db8::1, 192.0.2.7:4711\r\n"
        await log_talk(path, receives, close(), headers=headers, trusted_proxies=trusted_proxies)

        [row] = connection_rows(query)
        assert row.host == client
        assert (row.port is None) == (client != "127.0.0.1")

    def test_proxies_that_are_none(self, path: Path) -> None:
        """What can't be a proxy is refused at once."""
        with pytest.raises(ValueError, match="trusted proxies: 'nginx'"):
            server_connection(EngineLog(path), trusted_proxies=["nginx"])

    async def test_unix_socket(self, tmp_path: Path, path: Path, query: Query) -> None:
        """On a Unix socket nobody has an address."""
        where = str(tmp_path / "socket")
        async with (
            EngineLog(path) as log,
            unix_serve(receives, where, create_connection=server_connection(log)),
        ):
            reader, writer = await asyncio.open_unix_connection(where)
            writer.write(request())
            await reader.readuntil(b"\r\n\r\n")
            writer.write(close())
            await reader.read()
            writer.close()

        [row] = connection_rows(query)
        assert (row.host, row.port) == (None, None)
        assert row.accepted is not None

    @pytest.mark.skipif(shutil.which("openssl") is None, reason="there is no openssl to make a certificate")
    async def test_tls(self, tmp_path: Path, path: Path, query: Query) -> None:
        """Encrypted connections are logged, and bound, in the same way."""
        key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
        command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=x"]
        subprocess.run([*command, "-keyout", key, "-out", certificate], check=True, capture_output=True)
        ours, theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        ours.load_cert_chain(certificate, key)
        theirs.check_hostname, theirs.verify_mode = False, ssl.CERT_NONE
        async with (
            EngineLog(path) as log,
            serving(log, sees_its_id, ssl=ours) as server,
            chatting(server, "wss", ssl=theirs) as first,
            chatting(server, "wss", ssl=theirs) as second,
        ):
            seen = []
            for client in (first, second, first, second):
                await client.send("x" * 100_000)
                seen.append(int(str(await client.recv())))

        assert seen == [row.id for row in connection_rows(query)] * 2
        assert [row.host for row in connection_rows(query)] == ["127.0.0.1", "127.0.0.1"]
        assert [row.kind for row in message_rows(query)] == ["TEXT"] * 4

    async def test_a_thousand_that_send_nothing(self, path: Path, query: Query) -> None:
        """A thousand connections have a thousand rows, each with all its times."""
        async with EngineLog(path) as log, serving(log, waits) as server:
            for _ in range(4):
                clients = [await Raw.open(port_of(server)) for _ in range(250)]
                await asyncio.gather(*(client.upgrade() for client in clients))
                for client in clients:
                    client.send(close())
                await asyncio.gather(*(client.frames_to_end() for client in clients))

        rows = connection_rows(query)
        assert len({row.id for row in rows}) == len(rows) == 1000
        assert all(row.requested <= row.accepted <= row.disconnected <= row.closed for row in rows)
        assert message_rows(query) == []


# -- hooks of the handshake -------------------------------------------------------------------------


def refuses(connection: ServerConnection, request: Request) -> Response:
    """Refuse."""
    return connection.respond(403, "no\n")


def fails(connection: ServerConnection, request: Request) -> None:
    """Fail as an engine does whose database is gone: with an OSError that isn't the client's."""
    raise TimeoutError("no answer from the database")


def fails_to_fail(connection: ServerConnection, request: Request) -> None:
    """Fail in failing."""
    raise Unsayable


def is_healthy(connection: ServerConnection, request: Request) -> Response | None:
    """Answer plain HTTP."""
    return connection.respond(200, "OK\n") if request.path == "/health" else None


async def takes_its_time(connection: ServerConnection, request: Request) -> None:
    """Give way before the connection opens."""
    await asyncio.sleep(0.01)


class TestRequests:
    @pytest.mark.parametrize(
        ("settings", "headers", "error"),
        [
            ({"process_request": refuses}, UPGRADE, None),
            ({"process_request": basic_auth(credentials=("a", "b"))}, UPGRADE, None),
            ({"process_request": fails}, UPGRADE, "TimeoutError: no answer from the database"),
            ({"process_request": fails_to_fail}, UPGRADE, "Unsayable"),
            ({"origins": ["http://a"]}, f"{UPGRADE}Origin: http://b\r\n", "InvalidOrigin: "),
            ({"subprotocols": ["chat"]}, UPGRADE, "NegotiationError: "),
            ({}, UPGRADE.replace("13", "8"), "InvalidHeaderValue: invalid Sec-WebSocket-Version header: 8"),
            ({}, f"{UPGRADE}Upgrade: h2c\r\n", "InvalidUpgrade: "),
            ({}, UPGRADE.replace("websocket", "WebSocket, h2c", 1), "InvalidUpgrade: "),
        ],
    )
    async def test_rejected(
        self,
        path: Path,
        query: Query,
        caplog: pytest.LogCaptureFixture,
        settings: dict[str, Any],
        headers: str,
        error: str | None,
    ) -> None:
        """A request that is rejected has a row without acceptance; if that is an error, a line says why."""
        caplog.set_level("CRITICAL", "websockets.server")  # pytest can't say the unsayable either
        async with EngineLog(path) as log, talking(log, receives, upgrade=False, **settings) as (_, raw):
            raw.send(request(headers))
            assert (await raw.bytes_to_end()).startswith(b"HTTP/1.1 ")

        [row] = connection_rows(query)
        assert row.accepted is None
        assert row.requested <= row.disconnected <= row.closed
        texts = error_texts(query)
        assert len(texts) == (error is not None)
        assert all(text.startswith(f"connection {row.id}: {error}") for text in texts)

    @pytest.mark.parametrize(
        "data",
        [
            request("Host: x\r\n", "GET /health HTTP/1.1"),
            request("Host: x\r\n"),
            request("Host: x\r\n") + frame(TEXT, b"a") + frame(CLOSE),
            request("Host: x\r\n") + request("Host: x\r\n"),
            request(UPGRADE.replace("websocket", "h2c", 1)),
            b"",
            b"GET / HT",
            bytes(range(256)),
        ],
        ids=range(8),
    )
    @pytest.mark.parametrize("hook", [is_healthy, takes_its_time])
    async def test_what_asks_for_no_websocket(self, path: Path, query: Query, data: bytes, hook: Any) -> None:
        """Plain HTTP and garbage leave no row."""
        async with EngineLog(path) as log:
            async with talking(log, receives, upgrade=False, process_request=hook) as (_, raw):
                raw.send(data)
                raw.end()
                await raw.bytes_to_end()
            assert log.statistics().accepted == 0

        assert connection_rows(query) == []

    async def test_what_is_accepted_unasked(self, path: Path, query: Query) -> None:
        """Nor does what a hook makes a websocket that wasn't asked for."""

        def forces(connection: ServerConnection, request: Request) -> Response:
            return Response(101, "Switching Protocols", connection.respond(200, "").headers)

        settings: dict[str, Any] = {"upgrade": False, "process_request": forces}
        async with EngineLog(path) as log, talking(log, echoes, **settings) as (_, raw):
            raw.send(request("Host: x\r\n"))
            assert (await raw.head()).startswith("HTTP/1.1 101 ")
            raw.send(frame(TEXT, b"a"))
            assert (await raw.next_frame()) is not None
            raw.send(close())
            await raw.frames_to_end()

        assert connection_rows(query) == []
        assert message_rows(query) == []

    async def test_given_up(self, path: Path, query: Query) -> None:
        """A handshake that takes too long has a row without acceptance."""

        async def hangs(connection: ServerConnection, request: Request) -> None:
            await asyncio.sleep(60)

        settings: dict[str, Any] = {"upgrade": False, "process_request": hangs, "open_timeout": 0.05}
        async with EngineLog(path) as log, talking(log, receives, **settings) as (_, raw):
            raw.send(request(), frame(TEXT, b"early"))
            await raw.bytes_to_end()

        [row] = connection_rows(query)
        assert (row.accepted, error_texts(query)) == (None, [])
        assert row.requested <= row.disconnected <= row.closed
        assert [(row.kind, row.started) for row in message_rows(query)] == [("TEXT", None)]


class TestEnds:
    @pytest.mark.parametrize("how", ["gone", "abort", "end"])
    async def test_client_that_is_gone(self, path: Path, query: Query, how: str) -> None:
        """A client that goes without a word ends the row, and is no error."""
        async with EngineLog(path) as log, talking(log, receives) as (server, raw):
            if how == "gone":
                await raw.gone()
            elif how == "abort":
                raw.abort()
            else:
                raw.end()
            await until(lambda: not server.connections)

        [row] = connection_rows(query)
        assert row.accepted <= row.disconnected <= row.closed
        assert error_texts(query) == []

    @pytest.mark.parametrize("settings", [{}, {"ping_interval": 0.01, "ping_timeout": 0.02}])
    async def test_client_that_is_silent(self, path: Path, query: Query, settings: dict[str, Any]) -> None:
        """Nor is one that answers neither pings nor the close."""

        async def closes(connection: ServerConnection) -> None:
            await (waits(connection) if settings else connection.close())

        async with EngineLog(path) as log, talking(log, closes, close_timeout=0.02, **settings) as (_, raw):
            await raw.frames_to_end(answer=False)

        [row] = connection_rows(query)
        assert row.accepted <= row.disconnected <= row.closed
        assert error_texts(query) == []

    @pytest.mark.parametrize("how", ["server", "handler"])
    async def test_server_that_closes(self, path: Path, query: Query, how: str) -> None:
        """A server that closes ends the row, and so does a handler that fails."""

        async def handler(connection: ServerConnection) -> None:
            if how == "handler":
                raise ValueError("the handler failed")
            await connection.wait_closed()

        async with EngineLog(path) as log, serving(log, handler) as server, chatting(server) as client:
            if how == "server":
                server.close()
            await client.wait_closed()

        [row] = connection_rows(query)
        assert row.accepted <= row.disconnected <= row.closed

    async def test_protocol_error(self, path: Path, query: Query) -> None:
        """A client that breaks the rules is an error."""
        await log_talk(path, receives, frame(TEXT, b"a"), frame(3), frame(TEXT, b"b"))

        [row] = connection_rows(query)
        assert error_texts(query) == [f"connection {row.id}: ProtocolError: invalid opcode"]
        assert [row.kind for row in message_rows(query)] == ["TEXT"]

    @pytest.mark.parametrize(
        ("last", "kinds"),
        [(frame(BINARY, b"", size=100_000_000), ["TOO_BIG"]), (frame(3), []), (close(), [])],
    )
    async def test_disconnect_is_logged_at_once(
        self, path: Path, query: Query, last: bytes, kinds: list[str]
    ) -> None:
        """The end begins when nothing more is received, even if the client stays a while."""
        async with EngineLog(path) as log, talking(log, receives, close_timeout=5) as (_, raw):
            raw.send(last)
            await raw.next_frame()
            await log.flush()
            [row], messages = connection_rows(query), message_rows(query)
            assert row.disconnected is not None
            assert row.closed is None
            assert [message.kind for message in messages] == kinds
            raw.send(b"x" * 1000)
            raw.end()
            await raw.bytes_to_end()

        [after] = connection_rows(query)
        assert after.disconnected == row.disconnected <= after.closed
        assert message_rows(query) == messages

    async def test_pings_only(self, path: Path, query: Query) -> None:
        """Pings and pongs aren't messages."""
        await log_talk(path, waits, frame(PING, b"a") * 20, frame(PONG), close())

        assert len(connection_rows(query)) == 1
        assert message_rows(query) == []
