"""A websocket of an ASGI server, as the recorder sees it."""

from __future__ import annotations

from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

import pytest

from async_enginelog import EngineLog, read_message
from async_enginelog.listeners.connections import ConnectionLog
from async_enginelog.listeners.sockets import AsgiSocket
from async_enginelog.peers import TrustedProxies

Event = MutableMapping[str, Any]

CONNECT: Event = {"type": "websocket.connect"}
ACCEPT: Event = {"type": "websocket.accept"}
TEXT: Event = {"type": "websocket.receive", "text": "hello"}


class Server:
    """A server that gives its events away in order, and keeps what it is sent, or refuses it."""

    def __init__(self, path: Path, *events: Event, error: Exception | None = None) -> None:
        self.sent: list[Event] = []
        self._events = list(events)
        self._error = error
        log = ConnectionLog(EngineLog(path), read_message, TrustedProxies(()))
        self.socket = AsgiSocket({"type": "websocket", "enginelog": log}, self._receive, self._send)

    async def _receive(self) -> Event:
        return self._events.pop(0)

    async def _send(self, event: Event) -> None:
        self.sent.append(event)
        if self._error is not None:
            raise self._error


class TestReceive:
    async def test_accepts_first(self, path: Path) -> None:
        """The connection is accepted when the first message is asked for."""
        server = Server(path, CONNECT, TEXT)
        assert server.sent == []
        assert await server.socket.receive() == "hello"
        assert server.sent == [ACCEPT]

    async def test_leaves_to_the_application_what_it_did(self, path: Path) -> None:
        """A connection that the application has accepted isn't accepted again."""
        server = Server(path, TEXT)
        assert await server.socket.receive() == "hello"
        assert server.sent == []

    @pytest.mark.parametrize(
        ("event", "data"),
        [
            ({"text": "hello"}, "hello"),
            ({"text": "", "bytes": None}, ""),
            ({"bytes": b"audio"}, b"audio"),
            ({"bytes": bytearray(b"audio"), "text": None}, b"audio"),
            ({"bytes": b""}, b""),
        ],
    )
    async def test_returns_text_or_bytes(self, path: Path, event: Event, data: str | bytes) -> None:
        """One of the two is there; the other is missing, or None."""
        server = Server(path, {"type": "websocket.receive", **event})
        received = await server.socket.receive()
        assert received == data
        assert type(received) is type(data)

    @pytest.mark.parametrize(
        ("code", "is_lost"),
        [(1000, False), (1001, False), (1005, True), (1006, True), (1012, True), (None, True)],
    )
    async def test_ends(self, path: Path, code: int | None, is_lost: bool) -> None:
        """At the end, it is known whether the client said goodbye."""
        server = Server(path, {"type": "websocket.disconnect", "code": code})
        assert await server.socket.receive() is None
        assert server.socket.is_lost == is_lost


class TestSend:
    async def test_sends_text(self, path: Path) -> None:
        """Text is sent as text."""
        server = Server(path)
        await server.socket.send("hello")
        assert server.sent == [{"type": "websocket.send", "text": "hello"}]

    @pytest.mark.parametrize("error", [OSError("gone"), RuntimeError("closed")])
    async def test_to_one_who_is_gone(self, path: Path, error: Exception) -> None:
        """A client that is gone is no error, whatever the server says."""
        server = Server(path, CONNECT, TEXT, error=error)
        await server.socket.receive()
        await server.socket.send("hello")
        await server.socket.close()
        assert len(server.sent) == 3


class TestClose:
    async def test_closes_once(self, path: Path) -> None:
        """It is closed normally, and once."""
        server = Server(path)
        await server.socket.close()
        await server.socket.close()
        assert server.sent == [{"type": "websocket.close", "code": 1000}]

    async def test_not_what_is_gone(self, path: Path) -> None:
        """What its client closed isn't closed again."""
        server = Server(path, {"type": "websocket.disconnect", "code": 1000})
        await server.socket.receive()
        await server.socket.close()
        assert server.sent == []
