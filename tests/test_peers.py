"""Who is at the other end, also behind proxies: peers.py."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from async_enginelog.peers import MAX_PROXIES, Peer, TrustedProxies

from .pure_helpers import ANY_CHARACTERS

LOCAL = ("127.0.0.1", 50000)


def behind(*values: str, name: str = "X-Forwarded-For") -> list[tuple[str, str]]:
    """Return request headers."""
    return [("Host", "x"), *((name, value) for value in values)]


class TestSockets:
    @pytest.mark.parametrize(
        ("address", "peer"),
        [
            (("192.0.2.1", 50000), Peer("192.0.2.1", 50000)),
            (["192.0.2.1", 50000], Peer("192.0.2.1", 50000)),
            (("2001:db8::1", 50000, 0, 0), Peer("2001:db8::1", 50000)),
            (("::1", 50000, 0, 0), Peer("::1", 50000)),
            (("::ffff:192.0.2.1", 50000, 0, 0), Peer("192.0.2.1", 50000)),
            (("fe80::1%eth0", 50000, 0, 2), Peer("fe80::1%eth0", 50000)),
            (("testclient", 50000), Peer("testclient", 50000)),
            (("192.0.2.1", None), Peer("192.0.2.1", None)),
            ("", Peer(None, None)),
            ("/run/engine.sock", Peer(None, None)),
            (b"\0abstract", Peer(None, None)),
            (None, Peer(None, None)),
            ((), Peer(None, None)),
            (("192.0.2.1",), Peer(None, None)),
        ],
    )
    def test_what_a_socket_says(self, address: object, peer: Peer) -> None:
        """Addresses of IPv4 and IPv6 are read as people write them; other sockets have none."""
        assert TrustedProxies().client(address, []) == peer


class TestProxies:
    def test_are_not_believed_by_default(self) -> None:
        """Any client can send the header, so nobody's is believed unless told."""
        assert TrustedProxies().client(LOCAL, behind("192.0.2.1")) == Peer(*LOCAL)

    def test_are_not_believed_if_they_are_others(self) -> None:
        """The header counts only from an address that is trusted."""
        proxies = TrustedProxies(["10.0.0.1"])
        assert proxies.client(LOCAL, behind("192.0.2.1")) == Peer(*LOCAL)
        assert proxies.client("/run/engine.sock", behind("192.0.2.1")) == Peer(None, None)

    @pytest.mark.parametrize(
        ("values", "host"),
        [
            (["192.0.2.1"], "192.0.2.1"),
            (["192.0.2.1:4711"], "192.0.2.1"),
            (["2001:db8::1"], "2001:db8::1"),
            (["[2001:db8::1]:4711"], "2001:db8::1"),
            (['"[2001:db8::1]"'], "2001:db8::1"),
            (["::ffff:192.0.2.1"], "192.0.2.1"),
            (["unknown"], "unknown"),
            (["203.0.113.9, 192.0.2.1"], "192.0.2.1"),
            (["203.0.113.9", "192.0.2.1"], "192.0.2.1"),
            (["192.0.2.1, 10.1.2.3"], "192.0.2.1"),
            (["192.0.2.1,10.1.2.3, 127.0.0.1"], "192.0.2.1"),
            (["192.0.2.1, , 10.1.2.3,"], "192.0.2.1"),
            (["10.0.0.9, 10.0.0.8"], "10.0.0.9"),
        ],
    )
    def test_client_is_the_last_that_is_no_proxy(self, values: list[str], host: str) -> None:
        """Each proxy adds at the end whom it was asked by; what stands before may be forged."""
        assert TrustedProxies(["127.0.0.1", "10.0.0.0/8"]).client(LOCAL, behind(*values)) == Peer(host, None)

    @pytest.mark.parametrize(
        "headers", [[], behind(""), behind(" , ,"), behind("192.0.2.1", name="Forwarded")]
    )
    def test_that_say_nothing(self, headers: list[tuple[str, str]]) -> None:
        """Without the header, the proxy is all that is known."""
        assert TrustedProxies(["127.0.0.1"]).client(LOCAL, headers) == Peer(*LOCAL)

    @pytest.mark.parametrize("name", ["x-forwarded-for", "X-FORWARDED-FOR"])
    def test_header_in_any_case(self, name: str) -> None:
        """Names of headers have no case."""
        assert TrustedProxies(["127.0.0.1"]).client(LOCAL, behind("192.0.2.1", name=name)).host == "192.0.2.1"

    def test_ipv6(self) -> None:
        """Networks of IPv6 can be trusted beside those of IPv4."""
        proxies = TrustedProxies(["2001:db8::/32", "127.0.0.1"])
        assert proxies.client(("2001:db8::1", 1, 0, 0), behind("192.0.2.1")).host == "192.0.2.1"
        assert proxies.client(("::ffff:127.0.0.1", 1, 0, 0), behind("192.0.2.1")).host == "192.0.2.1"

    def test_chain_without_end(self) -> None:
        """Of a header with a hundred thousand proxies only the last few are looked at."""
        proxies = TrustedProxies(["127.0.0.0/8"])
        chain = ",".join(["192.0.2.1"] + ["127.0.0.1"] * MAX_PROXIES * 4000)
        began = time.process_time()
        assert proxies.client(LOCAL, behind(chain)).host == "127.0.0.1"
        assert time.process_time() - began < 0.1
        just_enough = ",".join(["192.0.2.1"] + ["127.0.0.1"] * (MAX_PROXIES - 1))
        assert proxies.client(LOCAL, behind(just_enough)).host == "192.0.2.1"

    @pytest.mark.parametrize("network", ["nginx", "10.0.0.1/8", "10.0.0", "", "10.0.0.0/33"])
    def test_that_can_not_be(self, network: str) -> None:
        """What is neither an address nor a network is refused, with what to pass."""
        with pytest.raises(ValueError, match="trusted proxies: .*; pass addresses or networks"):
            TrustedProxies([network])

    def test_text_is_no_list(self) -> None:
        """One address that was passed as text is refused, not read letter by letter."""
        with pytest.raises(ValueError, match="trusted proxies are '10.0.0.1'; pass a list"):
            TrustedProxies("10.0.0.1")


HEADERS = st.lists(
    st.tuples(
        st.sampled_from(["X-Forwarded-For", "Host"]) | st.text(),
        st.text(ANY_CHARACTERS) | st.text('0123456789abcdef.:,[]"% /-', max_size=60),
    )
)
ADDRESSES = st.one_of(
    st.just(LOCAL),
    st.none() | st.text() | st.binary(),
    st.tuples(st.text(ANY_CHARACTERS), st.integers()),
    st.lists(st.text() | st.integers() | st.none()),
)


@given(ADDRESSES, HEADERS)
@example(LOCAL, [("X-Forwarded-For", "[")])
@example(LOCAL, [("X-Forwarded-For", "fe80::1%" + "x" * 1000)])
@example(LOCAL, [("X-Forwarded-For", "127.0.0.1, ::ffff:127.0.0.1, \ud800")])
def test_never_raises(address: Any, headers: list[tuple[str, str]]) -> None:
    """Whatever a socket and a client say, there is a peer."""
    for proxies in (TrustedProxies(), TrustedProxies(["0.0.0.0/0", "::/0"]), TrustedProxies(["127.0.0.1"])):
        peer = proxies.client(address, headers)
        assert isinstance(peer.host, str | None)
        assert isinstance(peer.port, int | None)
