"""A websocket as the recorder sees it, whichever server it comes from."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Protocol, TypeAlias

from .connections import ConnectionLog

__all__ = ["GOODBYES", "AsgiSocket", "Receive", "Scope", "Send", "Socket"]

Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]

# The codes with which a client closes a connection for good (RFC 6455, section 7.4.1). Of a lost one,
# some servers say 1006, and some 1005, as of one that is closed without a code.
GOODBYES = frozenset({1000, 1001})


class Socket(Protocol):
    """
    A websocket that is logged.

    Attributes:
        log: Its log; ``log.taken`` is the message that was received last.
        is_lost: Whether it ended without its client saying goodbye: it may come back with another one.

    """

    log: ConnectionLog
    is_lost: bool

    async def receive(self) -> str | bytes | None:
        """Return the next message; :obj:`None` at the end. Cancelling is safe."""

    async def send(self, text: str) -> None:
        """Send text; a connection that is gone is no error."""

    async def close(self) -> None:
        """Close it; harmless if it is gone."""


class AsgiSocket:
    """
    A websocket of an ASGI server (https://asgi.readthedocs.io/en/latest/specs/www.html#websocket).

    It is accepted with the first call of :meth:`receive`, unless the application has done that.

    Raises:
        TypeError: If it isn't logged.

    """

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        log = scope.get("enginelog")
        if not isinstance(log, ConnectionLog):
            raise TypeError(
                "this connection isn't logged; put LogMiddleware around the application: "
                "app.add_middleware(LogMiddleware, log=log)"
            )
        self.log: ConnectionLog = log
        self.is_lost = False
        self._is_open = True
        self._receive, self._send = receive, send

    async def receive(self) -> str | bytes | None:
        """Return the next message; :obj:`None` at the end. Cancelling is safe."""
        event = await self._receive()
        if event["type"] == "websocket.connect":
            await self._try_send({"type": "websocket.accept"})
            event = await self._receive()
        if event["type"] == "websocket.disconnect":
            self._is_open = False
            self.is_lost = event.get("code") not in GOODBYES
            return None
        text = event.get("text")
        return text if text is not None else bytes(event["bytes"])

    async def send(self, text: str) -> None:
        """Send text; a connection that is gone is no error."""
        await self._try_send({"type": "websocket.send", "text": text})

    async def close(self) -> None:
        """Close it; harmless if it is gone."""
        if self._is_open:
            self._is_open = False
            await self._try_send({"type": "websocket.close", "code": 1000})

    async def _try_send(self, event: MutableMapping[str, Any]) -> None:
        try:
            await self._send(event)
        except Exception:  # noqa: S110  # the specification names OSError; servers have errors of their own
            pass
