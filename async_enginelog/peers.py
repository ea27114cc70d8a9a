"""Who is at the other end of a connection, also behind proxies; performs no I/O."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import NamedTuple

__all__ = ["Peer", "TrustedProxies"]

# How proxies say for whom they ask: each adds the address it was asked from at the end
# (https://developer.mozilla.org/docs/Web/HTTP/Reference/Headers/X-Forwarded-For).
FORWARDED_FOR = "x-forwarded-for"


# So many of them are believed in a chain; anybody can send a header with thousands.
MAX_PROXIES = 32


class Peer(NamedTuple):
    """An address and a port; :obj:`None` where there is none, as on a Unix socket."""

    host: str | None
    port: int | None


class TrustedProxies:
    """
    The proxies whose word is taken for who the client is.

    Args:
        networks: Addresses or networks, such as ``"10.0.0.0/8"``; none by default, because
            any client can send the header.

    Raises:
        ValueError: If one isn't an address or a network.

    """

    def __init__(self, networks: Iterable[str] = ()) -> None:
        if isinstance(networks, str):
            raise ValueError(f"trusted proxies are {networks!r}; pass a list of addresses or networks")
        try:
            self._networks: list[IPv4Network | IPv6Network] = [ip_network(text) for text in networks]
        except ValueError as error:
            raise ValueError(f"trusted proxies: {error}; pass addresses or networks") from None

    def client(self, address: object, headers: Iterable[tuple[str, str]]) -> Peer:
        """
        Return the client of a connection: the last address that isn't a trusted proxy's.

        Args:
            address: The peer of the socket, as ``getpeername()`` or ASGI's ``client`` give it.
            headers: Names and values of the request.

        """
        peer = _peer_of(address)
        if not self._networks or not self._trusts(peer.host):
            return peer
        forwarded = ",".join(value for name, value in headers if name.lower() == FORWARDED_FOR)
        for text in reversed(forwarded.rsplit(",", MAX_PROXIES)[-MAX_PROXIES:]):
            if host := _plain_host(text):
                peer = Peer(host, None)
                if not self._trusts(host):
                    break
        return peer

    def _trusts(self, host: str | None) -> bool:
        address = _address(host)
        return address is not None and any(address in network for network in self._networks)


def _peer_of(address: object) -> Peer:
    """Read what a socket says: (host, port) for IPv4, four items for IPv6, a path for Unix."""
    if not isinstance(address, Sequence) or isinstance(address, str | bytes) or len(address) < 2:
        return Peer(None, None)
    host, port = address[:2]
    return Peer(_plain_host(str(host)), port if isinstance(port, int) and port > 0 else None)


def _plain_host(text: str) -> str:
    """Return an address as people write it: ``::ffff:192.0.2.1`` is IPv4 on a socket for both."""
    text = text.strip().strip('"')
    if text.startswith("["):  # [2001:db8::1]:4711
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:  # 192.0.2.1:4711
        text = text.partition(":")[0]
    address = _address(text)
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return str(mapped or text)


def _address(host: str | None) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(host or "")
    except ValueError:
        return None
