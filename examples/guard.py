"""
What the example engines put up with: from which pages, how many connections, how fast.

Sizes are for a school whose violinists share one address. Behind a proxy, all clients have its address:
let it do the counting there, or raise the limit.

"""

from __future__ import annotations

import logging
import re
import socket
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterable
from http import HTTPStatus
from ipaddress import IPv6Address, ip_address
from typing import Any, NamedTuple

import psutil
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed
from websockets.frames import CloseCode

logger = logging.getLogger("engine")

# A burst may be so many seconds' worth: a browser that connects again sends what it kept.
BURST_SECONDS = 5.0

# So many addresses are remembered for how fast they come.
MAX_ADDRESSES = 10_000


class Limits(NamedTuple):
    """How much an engine puts up with. A recorder sends about a dozen messages a second."""

    connections: int = 500
    connections_of_address: int = 100
    connects_per_second: float = 20.0
    messages_per_second: float = 500.0


class Rate:
    """So many a second, and a burst of :data:`BURST_SECONDS` at most."""

    def __init__(self, per_second: float) -> None:
        self.per_second = per_second
        self.left = self.most = max(per_second * BURST_SECONDS, 1.0)
        self.at = time.monotonic()

    def allows(self) -> bool:
        """Count one; tell whether it is within the rate."""
        now = time.monotonic()
        self.left = min(self.left + (now - self.at) * self.per_second, self.most)
        self.at = now
        if self.left < 1.0:
            return False
        self.left -= 1.0
        return True


class Guard:
    """
    Decide who may come in, and say on the log ``engine`` who may not.

    Args:
        limits: How much the engine puts up with.
        origins: The pages that may connect, as patterns.

    """

    def __init__(self, limits: Limits, origins: Iterable[re.Pattern[str]]) -> None:
        self.limits = limits
        self.origins = tuple(origins)
        self._inside: dict[object, str] = {}
        self._of_address: Counter[str] = Counter()
        # By address, the one that came last at the end.
        self._rates: dict[str, Rate] = {}
        self._lines = Rate(1.0)
        self._untold = 0

    def enter(self, visitor: object, address: str) -> HTTPStatus | None:
        """Let a connection in, or return the status that says why not."""
        group = group_of(address)
        limits, status, why = self.limits, HTTPStatus.TOO_MANY_REQUESTS, ""
        if not self._rate_of(group).allows():
            why = f"it connects more than {limits.connects_per_second:g} times a second"
        elif self._of_address[group] >= limits.connections_of_address:
            why = f"it has {limits.connections_of_address:,} connections already"
        elif len(self._inside) >= limits.connections:
            status, why = HTTPStatus.SERVICE_UNAVAILABLE, f"all {limits.connections:,} connections are taken"
        if why:
            self.tell(f"{address} is refused ({status}): {why}")
            return status
        self._inside[visitor] = group
        self._of_address[group] += 1
        return None

    def leave(self, visitor: object) -> None:
        """Let a connection go; harmless if it wasn't let in."""
        group = self._inside.pop(visitor, None)
        if group is not None:
            self._of_address[group] -= 1
            if not self._of_address[group]:
                del self._of_address[group]

    def _rate_of(self, group: str) -> Rate:
        rate = self._rates.pop(group, None) or Rate(self.limits.connects_per_second)
        self._rates[group] = rate
        if len(self._rates) > MAX_ADDRESSES:
            del self._rates[next(iter(self._rates))]
        return rate

    def welcomes(self, origin: str | None, address: str) -> bool:
        """Tell whether a page may connect; what sends no ``Origin`` is no browser."""
        if origin is None or any(pattern.fullmatch(origin) for pattern in self.origins):
            return True
        self.tell(f"{address} is refused (403): the page {origin!a} isn't allowed; allow it: --allow-origin")
        return False

    def tell(self, line: str) -> None:
        """Say something about once a second: who is refused may come again at once."""
        if not self._lines.allows():
            self._untold += 1
            return
        more = f" ({self._untold:,} more weren't told of)" if self._untold else ""
        self._untold = 0
        logger.warning("%s%s", line, more)


def group_of(address: str) -> str:
    """Return what counts as one address: of IPv6, a network of 64 bits belongs to one client."""
    try:
        found = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(found, IPv6Address) and found.ipv4_mapped is None:
        return str(IPv6Address(int(found) >> 64 << 64))
    return str(found)


def own_origins(host: str, port: int, allowed: Iterable[str] = ()) -> list[re.Pattern[str]]:
    """
    Return the origins of the engine's own page, whatever name or address of this machine it is asked by.

    Not simply what the request calls its ``Host``: a page may give its own name the address of this engine.

    Args:
        host: Where it listens.
        port: Its port; 0 if that isn't known yet.
        allowed: Origins of other pages, such as ``https://violin.example``.

    """
    name = socket.gethostname().lower()
    addresses = (address.address for found in psutil.net_if_addrs().values() for address in found)
    hosts = {"localhost", "127.0.0.1", "::1", host.lower(), name, f"{name}.local", *addresses} - {""}
    names = "|".join(re.escape(f"[{host}]" if ":" in host else host) for host in sorted(hosts))
    ports = r":\d+" if port == 0 else "(:80)?" if port == 80 else f":{port}"
    return [re.compile(f"http://({names}){ports}"), *(re.compile(re.escape(page)) for page in allowed)]


# -- for websockets ---------------------------------------------------------------------------------


def guarded(connection: type[ServerConnection], guard: Guard) -> type[ServerConnection]:
    """Return connections that say when they leave, and are closed if they send too fast."""

    class GuardedConnection(connection):  # type: ignore[valid-type, misc]
        def connection_made(self, transport: Any) -> None:
            self.rate = Rate(guard.limits.messages_per_second)
            self.told = False
            super().connection_made(transport)

        def connection_lost(self, exc: Exception | None) -> None:
            guard.leave(self)
            super().connection_lost(exc)

        async def recv(self, decode: bool | None = None) -> Any:
            try:
                data = await super().recv(decode)
            except ConnectionClosed as closed:
                if (
                    closed.sent is not None
                    and not self.told
                    and closed.sent.code == CloseCode.MESSAGE_TOO_BIG
                ):
                    self.told = True
                    guard.tell(f"{address_of(self)} is cut off (1009): a message is too large")
                raise
            if self.rate.allows():
                return data
            guard.tell(f"{address_of(self)} is cut off (1008): {too_fast(guard)}")
            await self.close(CloseCode.POLICY_VIOLATION, too_fast(guard))
            while True:  # until it raises ConnectionClosed
                await super().recv(decode)

    return GuardedConnection


def address_of(websocket: ServerConnection) -> str:
    """Return the address of a client."""
    address = websocket.remote_address
    return str(address[0]) if address else "?"


def too_fast(guard: Guard) -> str:
    """Say why a connection is closed."""
    return f"more than {guard.limits.messages_per_second:g} messages a second"


# -- for ASGI ---------------------------------------------------------------------------------------

Application = Callable[[Any, Any, Any], Awaitable[Any]]


class GuardMiddleware:
    """The same for an ASGI application: only its websockets are counted."""

    def __init__(self, app: Application, guard: Guard) -> None:
        self.app = app
        self.guard = guard

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Call the application, unless the connection is refused."""
        if scope["type"] != "websocket":
            await self.app(scope, receive, send)
            return
        visitor, address = object(), str((scope.get("client") or "?")[0])
        status = self._refusal(visitor, address, scope)
        if status is not None:
            await receive()
            headers = [(b"content-type", b"text/plain")]
            await send({"type": "websocket.http.response.start", "status": status, "headers": headers})
            await send({"type": "websocket.http.response.body", "body": f"{status.phrase}\n".encode()})
            return
        try:
            await self.app(scope, self._limited(address, receive, send), send)
        finally:
            self.guard.leave(visitor)

    def _refusal(self, visitor: object, address: str, scope: Any) -> HTTPStatus | None:
        origins = deque((value.decode("latin-1") for name, value in scope["headers"] if name == b"origin"), 1)
        if not self.guard.welcomes(origins[0] if origins else None, address):
            return HTTPStatus.FORBIDDEN
        return self.guard.enter(visitor, address)

    def _limited(self, address: str, receive: Any, send: Any) -> Callable[[], Awaitable[Any]]:
        rate = Rate(self.guard.limits.messages_per_second)

        async def limited() -> Any:
            event = await receive()
            if event["type"] == "websocket.disconnect" and event.get("code") == CloseCode.MESSAGE_TOO_BIG:
                self.guard.tell(f"{address} is cut off (1009): a message is too large")
            if event["type"] != "websocket.receive" or rate.allows():
                return event
            why = too_fast(self.guard)
            self.guard.tell(f"{address} is cut off (1008): {why}")
            code = int(CloseCode.POLICY_VIOLATION)
            await send({"type": "websocket.close", "code": code, "reason": why})
            return {"type": "websocket.disconnect", "code": code, "reason": why}

        return limited
