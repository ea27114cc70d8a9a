"""What the example engines refuse: other sites' pages, too many connections, too many messages."""

from __future__ import annotations

import re
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, closing
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Origin

from .running import EXAMPLES, PATIENCE, wait_until

LISTENING = re.compile(r"(?:listening on ws|running on http)://127\.0\.0\.1:(\d+)")


class Engine:
    """One of the example engines on a free port."""

    def __init__(self, script: str, db: Path, *options: object) -> None:
        self.db = db
        self.output = db.with_suffix(".txt")
        command = [sys.executable, str(EXAMPLES / script), "--port", "0", "--db", str(db)]
        with self.output.open("w") as output:
            self.process = subprocess.Popen(
                [*command, *map(str, options)], stdout=output, stderr=subprocess.STDOUT
            )
        wait_until(lambda: LISTENING.search(self.said()) is not None or self.process.poll() is not None)
        found = LISTENING.search(self.said())
        assert found, self.said()
        self.port = int(found[1])

    def said(self) -> str:
        """Return what it has said on the console."""
        return self.output.read_text()

    def opened(self, path: str = "/ws/echo", origin: str | None = None, **options: Any) -> connect:
        """Return a client that is about to connect."""
        url = f"ws://{options.pop('name', '127.0.0.1')}:{self.port}{path}"
        return connect(url, origin=Origin(origin) if origin else None, proxy=None, **options)

    def stop(self) -> None:
        """Ask it to stop."""
        self.process.terminate()
        self.process.wait(PATIENCE)

    def errors(self) -> list[str]:
        """Return the errors that it logged."""
        with closing(sqlite3.connect(self.db)) as connection:
            sql = "SELECT ERROR_MESSAGE_TEXT FROM ENGINE_DB_LOG_FUNCTION_ERROR ORDER BY LOG_SEQ"
            return [text for (text,) in connection.execute(sql)]


Start = Callable[..., Engine]


@pytest.fixture(params=["server.py", "fastapi_server.py"])
def start(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Start]:
    """Start the engine with options; it never outlives the test."""
    started: list[Engine] = []

    def call(*options: object) -> Engine:
        started.append(Engine(request.param, tmp_path / "engine_log.db", *options))
        return started[-1]

    yield call
    for engine in started:
        engine.process.kill()
        engine.process.wait(PATIENCE)


async def greeted(websocket: ClientConnection) -> bool:
    """Tell whether a connection is served."""
    return "echo" in str(await websocket.recv())


async def status_of(opening: connect) -> int:
    """Return the status with which a connection is refused."""
    with pytest.raises(InvalidStatus) as raised:
        async with opening:
            pass
    return raised.value.response.status_code


class TestOrigins:
    async def test_other_sites(self, start: Start) -> None:
        """A page of another site gets a 403, and the engine says which page it was."""
        engine = start()
        for origin in (
            *("https://evil.test", "null", f"http://evil.test:{engine.port}", "http://127.0.0.1.evil.test:1"),
            *(f"http://127.0.0.1@evil.test:{engine.port}", f"https://127.0.0.1:{engine.port}", "file://"),
        ):
            assert await status_of(engine.opened(origin=origin)) == HTTPStatus.FORBIDDEN, origin
        assert "127.0.0.1 is refused (403): the page 'https://evil.test' isn't allowed" in engine.said()

    async def test_name_of_another_site_for_this_engine(self, start: Start) -> None:
        """A page whose own name leads to this engine is another site's, too (DNS rebinding)."""
        engine = start()
        origin = f"http://evil.test:{engine.port}"
        opening = engine.opened(name="evil.test", origin=origin, host="127.0.0.1", port=engine.port)
        assert await status_of(opening) == HTTPStatus.FORBIDDEN

    @pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", socket.gethostname().lower()])
    async def test_own_page(self, start: Start, host: str) -> None:
        """Its own page may connect, by whatever name of this machine it was asked for."""
        engine = start()
        async with engine.opened(origin=f"http://{host}:{engine.port}") as websocket:
            assert await greeted(websocket)

    async def test_no_browser(self, start: Start) -> None:
        """What sends no Origin is no browser, and may connect."""
        async with start().opened() as websocket:
            assert await greeted(websocket)

    async def test_allowed_page(self, start: Start) -> None:
        """A page of another site may connect if the engine's author says so; just that one."""
        engine = start("--allow-origin", "https://violin.test", "--allow-origin", "https://b.test")
        for origin in ("https://violin.test", "https://b.test"):
            async with engine.opened(origin=origin) as websocket:
                assert await greeted(websocket)
        assert await status_of(engine.opened(origin="https://violinxtest")) == HTTPStatus.FORBIDDEN

    async def test_control_characters_in_the_name(self, start: Start) -> None:
        """What a page calls itself does the console no harm."""
        engine = start()
        await status_of(engine.opened(additional_headers={"Origin": "http://x\x9b31m\x85forged"}))
        assert r"\x9b31m\x85forged" in engine.said()


class TestConnections:
    async def test_of_one_address(self, start: Start) -> None:
        """An address that has as many connections as it may gets a 429, until one of them ends."""
        engine = start("--max-connections-of-address", 2)
        async with AsyncExitStack() as stack:
            first = await stack.enter_async_context(engine.opened())
            await stack.enter_async_context(engine.opened())
            assert await status_of(engine.opened()) == HTTPStatus.TOO_MANY_REQUESTS
            await first.close()
            async with engine.opened() as websocket:
                assert await greeted(websocket)
        assert "127.0.0.1 is refused (429): it has 2 connections already" in engine.said()

    async def test_in_all(self, start: Start) -> None:
        """When there are as many connections as there may be, the next gets a 503."""
        engine = start("--max-connections", 1)
        async with engine.opened():
            assert await status_of(engine.opened()) == HTTPStatus.SERVICE_UNAVAILABLE
        assert "(503): all 1 connections are taken" in engine.said()

    async def test_too_often(self, start: Start) -> None:
        """Who connects again and again gets a 429, though nothing of it is left."""
        engine = start("--max-connects-per-second", 1)
        statuses = set()
        for _ in range(20):
            try:
                async with engine.opened():
                    pass
            except InvalidStatus as refusal:
                statuses.add(refusal.response.status_code)
        assert statuses == {429}
        assert "it connects more than 1 times a second" in engine.said()

    async def test_refused_ones_are_logged(self, start: Start) -> None:
        """The rows of a refused connection say that it was asked for and closed, not that it was accepted."""
        engine = start("--max-connections", 1)
        async with engine.opened():
            await status_of(engine.opened())
        engine.stop()
        with closing(sqlite3.connect(engine.db)) as connection:
            sql = (
                "SELECT DT_CONNECTION_ACCEPTED IS NOT NULL FROM ENGINE_DB_LOG_WEBSOCKET_CONNECTION "
                "WHERE DT_CONNECTION_CLOSED IS NOT NULL ORDER BY WEBSOCKET_CONNECTION_ID"
            )
            assert connection.execute(sql).fetchall() == [(1,), (0,)]


class TestMessages:
    @pytest.mark.parametrize("path", ["/ws/echo", "/ws/stream"])
    async def test_too_fast(self, start: Start, path: str) -> None:
        """Who sends more than may be sent is closed with 1008; others are served."""
        engine = start("--max-messages-per-second", 10)
        with pytest.raises(ConnectionClosed) as closed:
            async with engine.opened(path) as websocket:
                for _ in range(500):
                    await websocket.send("x")
                while True:
                    await websocket.recv()
        assert closed.value.rcvd is not None
        assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1008, "more than 10 messages a second")
        assert "127.0.0.1 is cut off (1008): more than 10 messages a second" in engine.said()
        assert "Traceback" not in engine.said()
        async with engine.opened() as websocket:
            assert await greeted(websocket)

    async def test_too_large(self, start: Start) -> None:
        """A message of more than 1 MiB closes the connection with 1009; one line says so, for any number."""
        engine = start()
        for _ in range(5):
            async with engine.opened() as websocket:
                await websocket.send("x" * (2**20 + 1))
                with pytest.raises(ConnectionClosed, match="1009"):
                    while True:
                        await websocket.recv()
        wait_until(lambda: "127.0.0.1 is cut off (1009): a message is too large" in engine.said())
        assert engine.said().count("1009") <= 5
        assert "Traceback" not in engine.said()


class TestGuard:
    """What needs no server."""

    def test_one_client_of_ipv6(self) -> None:
        """A client that has a whole network of 64 bits counts as one address; IPv4 stays what it is."""
        from guard import group_of

        assert group_of("2001:db8:1:2:3:4:5:6") == group_of("2001:db8:1:2::9") == "2001:db8:1:2::"
        assert group_of("2001:db8:1:3::1") != group_of("2001:db8:1:2::1")
        assert group_of("::ffff:192.0.2.1") != group_of("::ffff:192.0.2.2")
        assert (group_of("192.0.2.1"), group_of("fe80::1%eth0"), group_of("?")) == (
            "192.0.2.1",
            "fe80::",
            "?",
        )

    def test_remembers_no_more_than_it_should(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Clients of ever new addresses don't fill the memory."""
        import guard

        monkeypatch.setattr(guard, "MAX_ADDRESSES", 10)
        keeper = guard.Guard(guard.Limits(), [])
        for number in range(100):
            visitor = object()
            assert keeper.enter(visitor, f"192.0.2.{number}") is None
            keeper.leave(visitor)
            keeper.leave(visitor)
        assert len(keeper._rates) == 10
        assert not keeper._inside
        assert not keeper._of_address

    @pytest.mark.parametrize("option", ["--max-connections=0", "--max-connections=many"])
    def test_no_count(self, option: str) -> None:
        """A limit that is none is refused."""
        command = [sys.executable, str(EXAMPLES / "server.py"), option]
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
        assert done.returncode == 2
        assert "isn't a count" in done.stderr
