"""The page of the example server: its files, and the rows it is sent as they are committed."""

from __future__ import annotations

import asyncio
import http.client
import json
import re
import socket
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import pytest
from page import Page
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.typing import Origin

from async_enginelog import EngineLog, server_connection

from .running import EXAMPLES

FOLDER = EXAMPLES / "page"
FILES = sorted(file.name for file in FOLDER.iterdir())
RECORDING = 202508290514312002
PATIENCE = 20.0

# By which other machines would reach this one.
OWN_ADDRESS = next(
    (
        address.address
        for found in psutil.net_if_addrs().values()
        for address in found
        if address.family == socket.AF_INET and not address.address.startswith("127.")
    ),
    "",
)


class Served(NamedTuple):
    """A page, on a port of this computer."""

    port: int

    def watch(self, **options: Any) -> connect:
        """Open the websocket that the page opens."""
        return connect(self.rows("127.0.0.1"), proxy=None, max_size=None, **options)

    def rows(self, host: str) -> str:
        """Return the address of that websocket."""
        return f"ws://{host}:{self.port}/ws/rows"

    async def get(self, path: str) -> tuple[int, http.client.HTTPMessage, bytes]:
        """Ask for just this path, which no client has tidied up; return status, headers and body."""

        def ask() -> tuple[int, http.client.HTTPMessage, bytes]:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
            try:
                connection.request("GET", path)
                answer = connection.getresponse()
                return answer.status, answer.headers, answer.read()
            finally:
                connection.close()

        return await asyncio.to_thread(ask)


@asynccontextmanager
async def serve_page(path: Path, host: str = "127.0.0.1", **options: Any) -> AsyncIterator[Served]:
    """Serve the page of the database at ``path``."""
    page = Page(path)

    def process_request(websocket: ServerConnection, request: Request) -> Response | None:
        return None if request.path == "/ws/rows" else page.respond(websocket, request.path)

    async with serve(
        page.show_rows,
        host,
        0,
        process_request=process_request,
        close_timeout=1,
        **options,
    ) as server:
        yield Served(next(iter(server.sockets)).getsockname()[1])


@pytest.fixture
async def log(path: Path) -> AsyncIterator[EngineLog]:
    """A log that is open."""
    async with EngineLog(path) as log:
        yield log


@pytest.fixture
async def served(log: EngineLog) -> AsyncIterator[Served]:
    """The page of that log, on connections that log themselves."""
    async with serve_page(log.path, create_connection=server_connection(log)) as served:
        yield served


async def news_of(websocket: ClientConnection) -> dict[str, Any]:
    """Return the next message."""
    async with asyncio.timeout(PATIENCE):
        return dict(json.loads(await websocket.recv()))


async def rows_until(websocket: ClientConnection, step: str) -> tuple[list[dict[str, Any]], int]:
    """Return the rows that come, up to that of a step, and how many were skipped."""
    rows: list[dict[str, Any]] = []
    skipped = 0
    while not any(row["columns"].get("step_name") == step for row in rows):
        news = await news_of(websocket)
        rows += news["rows"]
        skipped += news["skipped"]
    return rows, skipped


class TestFiles:
    @pytest.mark.parametrize("name", FILES)
    async def test_has_its_type(self, served: Served, name: str) -> None:
        """Each file of the page is sent as it is, as what it is; browsers may use it for nothing else."""
        status, headers, body = await served.get("/" if name == "index.html" else f"/{name}")

        assert (status, body) == (200, (FOLDER / name).read_bytes())
        types = {"html": "text/html", "js": "text/javascript", "css": "text/css", "svg": "image/svg+xml"}
        assert headers.get_all("Content-Type") == [
            types[name.rpartition(".")[2]] + ("" if name.endswith("svg") else "; charset=utf-8")
        ]
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert "default-src 'none'; script-src 'self';" in headers["Content-Security-Policy"]

    @pytest.mark.parametrize(
        "asked",
        [
            *("/page.py", "/../page.py", "/page/../../server.py", "/%2e%2e/page.py", "/..%2fpage.py"),
            *("//etc/passwd", "/../../../../../../etc/passwd", "/index.html/", "/favicon.ico", "/ws/other"),
        ],
    )
    async def test_nothing_else(self, served: Served, asked: str) -> None:
        """What isn't a file of the page isn't found, by whatever way it is asked for."""
        status, _, body = await served.get(asked)

        assert (status, body) == (404, b"There are /, /health, /ws/stream, /ws/echo and /ws/rows.\n")

    @pytest.mark.parametrize("name", FILES)
    def test_works_offline(self, name: str) -> None:
        """No file of the page asks for anything on another server, and what it asks for here is there."""
        text = (FOLDER / name).read_text("utf-8")
        elsewhere = set(re.findall(r"(?:https?:)?//[\w.-]+\.\w+", text))
        assert elsewhere <= {"http://www.w3.org", "http://127.0.0.1"}
        asked = re.findall(r"""(?:(?:href|src)=|from |addModule\()"\.?(/[^"]+)""", text)
        assert {path.removeprefix("/") for path in asked} <= set(FILES)

    @pytest.mark.parametrize("name", [name for name in FILES if name.endswith(".js")])
    def test_text_stays_text(self, name: str) -> None:
        """No script makes HTML or code of text: a log holds what strangers have sent."""
        text = (FOLDER / name).read_text("utf-8")
        assert not re.search(
            r"(inner|outer)HTML|insertAdjacentHTML|document\.write|\beval\b|Function\(", text
        )


class TestRows:
    async def test_begins_with_what_is_there(self, log: EngineLog, served: Served) -> None:
        """Who begins to watch gets the rows of before, then those that come."""
        await log.log_steps(step_name="before")
        await log.flush()
        async with served.watch() as websocket:
            rows, _ = await rows_until(websocket, "before")
            assert [row["table"] for row in rows] == ["STEPS"]
            await log.log_steps(step_name="after")
            rows, skipped = await rows_until(websocket, "after")

        assert [row["log_seq"] for row in rows] == sorted(row["log_seq"] for row in rows)
        assert skipped == 0

    async def test_columns(self, log: EngineLog, served: Served) -> None:
        """A row has the columns that aren't NULL; ids that JavaScript can't hold are text."""
        await log.log_recording_config(recording_id=RECORDING, audio_stream_file_name="<b>.wav")
        async with served.watch() as websocket:
            await log.log_steps(step_name="end", frame_no=7)
            rows, _ = await rows_until(websocket, "end")

        [recording] = [row for row in rows if row["table"] == "RECORDING_CONFIG"]
        assert recording["id"] == f"RECORDING_CONFIG {RECORDING}"
        assert recording["columns"].pop("dt_added")
        assert recording["columns"] == {
            "recording_id": str(RECORDING),
            "audio_stream_file_name": "<b>.wav",
        }
        assert rows[-1]["columns"]["frame_no"] == 7

    async def test_changed_row_keeps_its_id(self, log: EngineLog, served: Served) -> None:
        """A row that is filled in comes again, whole, under the same id."""
        async with served.watch() as websocket:
            await log.log_audio_frame_metadata(recording_id=1, audio_frame_no=2, start_ms=100)
            await log.log_steps(step_name="first")
            before, _ = await rows_until(websocket, "first")
            await log.log_audio_frame_metadata(recording_id=1, audio_frame_no=2, end_ms=199)
            await log.log_steps(step_name="second")
            after, _ = await rows_until(websocket, "second")

        [first] = [row for row in before if row["table"].startswith("SPLIT")]
        [second] = [row for row in after if row["table"].startswith("SPLIT")]
        assert first["id"] == second["id"]
        assert (second["columns"]["start_ms"], second["columns"]["end_ms"]) == (100, 199)

    async def test_steps_have_ids_of_their_own(self, log: EngineLog, served: Served) -> None:
        """In a table without a key, no row is another."""
        async with served.watch() as websocket:
            for _ in range(2):
                await log.log_steps(step_name="same")
            await log.log_steps(step_name="end")
            rows, _ = await rows_until(websocket, "end")

        ids = [row["id"] for row in rows]
        assert len(set(ids)) == len(ids)

    async def test_too_many_rows_are_skipped_and_counted(self, log: EngineLog, served: Served) -> None:
        """Of more rows at once than are kept, the page gets the newest, and how many it doesn't get."""
        async with served.watch() as websocket:
            await log.log_steps(step_name="begin")
            await rows_until(websocket, "begin")
            for number in range(2_000):
                log.log_row_nowait("ENGINE_DB_LOG_STEPS", {"step_name": "many", "frame_no": number})
            log.log_row_nowait("ENGINE_DB_LOG_STEPS", {"step_name": "end"})
            rows, skipped = await rows_until(websocket, "end")

        assert skipped > 0
        assert len(rows) + skipped == 2_001

    async def test_slow_browser_skips(self, log: EngineLog, served: Served) -> None:
        """A browser that doesn't read makes nobody wait and nothing grow: it skips rows, and is told."""
        async with served.watch(max_queue=1, compression=None) as slow:
            for batch in range(20):
                for _ in range(400):
                    await log.log_function_error(traceback_text="x" * 4_000)
                await log.log_steps(step_name=f"batch {batch}")
                # Another browser sees all of it, while the slow one is stuck.
                async with served.watch() as quick:
                    await rows_until(quick, f"batch {batch}")
            rows, skipped = await rows_until(slow, "batch 19")

        assert skipped > 0
        others = [row for row in rows if row["table"] in ("FUNCTION_ERROR", "STEPS")]
        assert len(others) + skipped >= 20 * 401

    async def test_watching_feeds_nothing(self, log: EngineLog, served: Served) -> None:
        """Of a browser that watches, its connection has a row; what it is sent has none."""
        async with served.watch() as websocket:
            for number in range(3):
                await log.log_steps(step_name=f"step {number}")
                await rows_until(websocket, f"step {number}")
        async with served.watch() as websocket:
            await log.log_steps(step_name="end")
            rows, _ = await rows_until(websocket, "end")

        assert {row["table"] for row in rows} == {"STEPS", "WEBSOCKET_CONNECTION"}

    async def test_one_reader_for_all(self, log: EngineLog, served: Served) -> None:
        """However many watch, the database is open for them once; when all have gone, it is closed."""
        before = threading.active_count()  # each connection to a database has its thread
        async with served.watch() as one, served.watch() as two, served.watch() as three:
            await log.log_steps(step_name="all")
            for websocket in (one, two, three):
                await rows_until(websocket, "all")
            assert threading.active_count() == before + 1
        deadline = time.monotonic() + PATIENCE
        while threading.active_count() > before:
            assert time.monotonic() < deadline, "the reader isn't closed"
            await asyncio.sleep(0.01)

    async def test_other_sites_get_nothing(self, served: Served) -> None:
        """A page of another site, in the same browser, can't read the log; this server's own can."""
        async with served.watch(origin="https://elsewhere.test") as websocket:
            with pytest.raises(ConnectionClosed, match="1008"):
                await websocket.recv()
        async with served.watch(origin=f"http://127.0.0.1:{served.port}") as websocket:
            assert "rows" in await news_of(websocket)

    @pytest.mark.skipif(not OWN_ADDRESS, reason="this machine has no address but that of itself")
    async def test_other_machines_get_nothing(self, path: Path) -> None:
        """A log tells of all clients: who comes by the network isn't shown it, with or without an origin."""
        async with EngineLog(path), serve_page(path, host=OWN_ADDRESS) as served:
            for origin in (None, Origin(f"http://{OWN_ADDRESS}:{served.port}")):
                async with connect(served.rows(OWN_ADDRESS), origin=origin, proxy=None) as websocket:
                    with pytest.raises(ConnectionClosed, match="on the machine of the engine only"):
                        await websocket.recv()

    async def test_database_that_cannot_be_read(self, path: Path) -> None:
        """The page is told why there are no rows; once there are, they come."""
        async with serve_page(path) as served, served.watch() as websocket:
            assert "doesn't exist" in (await news_of(websocket))["problem"]
            async with EngineLog(path) as log:
                await log.log_steps(step_name="there")
                rows, _ = await rows_until(websocket, "there")

        assert rows[-1]["table"] == "STEPS"
