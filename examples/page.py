"""
A page for browsers: record from the microphone, and watch the rows of the log as they are committed.

The files of the page are in ``page/``. Rows are read from the database, as any other program
could, by one reader for all who watch; while nobody does, nothing is read.

"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import orjson
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed
from websockets.frames import CloseCode
from websockets.http11 import Response
from websockets.protocol import State

from async_enginelog import EngineLogError
from async_enginelog.database import Database
from async_enginelog.reading import LogRow, newest_log_seq, open_database, rows_up_to
from async_enginelog.tables import TABLES

FOLDER = Path(__file__).parent / "page"
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}
HEADERS = {
    "Cache-Control": "no-cache",
    # All that the page loads, scripts of the audio thread too, comes from this server.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "microphone=(self)",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}

# How often to look for rows while somebody watches, in seconds.
POLL = 0.1

# So many LOG_SEQ are kept for those who are slow; the page begins with them.
WINDOW = 500

PREFIX = "ENGINE_DB_LOG_"

# JavaScript holds whole numbers up to this; greater ones, such as ids, are sent as text.
MAX_SAFE_INTEGER = 2**53 - 1


class Page:
    """
    The page: its files, and the rows it shows.

    Args:
        path: The database of the log.

    """

    def __init__(self, path: Path) -> None:
        # Only what is in the folder now can be asked for, whatever a path says.
        files = {f"/{file.name}": file for file in FOLDER.iterdir() if file.suffix in TYPES}
        self._files = {
            "/" if name == "/index.html" else name: (TYPES[file.suffix], file.read_text("utf-8"))
            for name, file in files.items()
        }
        self._recent = _RecentRows(path)

    def respond(self, websocket: ServerConnection, path: str) -> Response:
        """Return the file of the page at ``path``; 404 for any other."""
        if path not in self._files:
            return websocket.respond(404, "There are /, /health, /ws/stream, /ws/echo and /ws/rows.\n")
        content_type, text = self._files[path]
        response = websocket.respond(200, text)
        del response.headers["Content-Type"]
        response.headers.update({"Content-Type": content_type, **HEADERS})
        return response

    async def show_rows(self, websocket: ServerConnection) -> None:
        """
        Send rows as they are committed, until the browser is gone, to this machine only. Cancelling is safe.

        Each message has ``rows`` that are new or changed; ``skipped``, how many changes a browser
        that is slow doesn't get; and ``problem``, why none can be read at the moment.

        """
        if why := _refusal(websocket):
            await websocket.close(CloseCode.POLICY_VIOLATION, why)
            return
        with suppress(ConnectionClosed):
            async with self._recent.watched() as recent:
                await _send_rows(websocket, recent)


async def _send_rows(websocket: ServerConnection, recent: _RecentRows) -> None:
    told: tuple[int, str | None] | None = None
    while websocket.state is State.OPEN:
        await recent.look()
        state = (recent.newest, recent.problem)
        if state != told:
            news = recent.since(told[0] if told else None)
            told = state
            # Waits while the browser doesn't keep up; what it misses meanwhile it skips.
            await websocket.send(news)
        await asyncio.sleep(POLL)


def _refusal(websocket: ServerConnection) -> str | None:
    """Say why a client doesn't get the log, which knows all of the others; :obj:`None` if it does."""
    if not ip_address(websocket.remote_address[0]).is_loopback:
        return "rows are shown on the machine of the engine only"
    assert websocket.request is not None  # noqa: S101  # there is one when a connection is open
    headers = websocket.request.headers
    origin = headers.get("Origin")
    # Browsers let any page open a websocket to anywhere.
    if origin is not None and origin.partition("://")[2] != headers.get("Host"):
        return "rows are for this server's own page"
    return None


class _RecentRows:
    """
    The newest rows of the log, for all who watch.

    Attributes:
        newest: The LOG_SEQ up to which the log was read.
        problem: Why it can't be read at the moment.

    """

    def __init__(self, path: Path) -> None:
        self.newest = 0
        self.problem: str | None = None
        self._path = path
        # Rows above this LOG_SEQ, up to the newest, as JSON.
        self._after = 0
        self._rows: deque[tuple[int, bytes]] = deque()

        self._watchers = 0
        # The reader serves one query at a time.
        self._lock = asyncio.Lock()
        self._reader: Database | None = None
        self._opened = AsyncExitStack()
        self._looked = float("-inf")

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[_RecentRows]:
        """Keep the reader open; the last who leaves closes it."""
        self._watchers += 1
        try:
            yield self
        finally:
            self._watchers -= 1
            async with self._lock:
                if not self._watchers:
                    await self._close()

    async def look(self) -> None:
        """Read what was committed since the last look, unless somebody has just looked."""
        loop = asyncio.get_running_loop()
        async with self._lock:
            if loop.time() - self._looked < POLL / 2:
                return
            try:
                await self._read(self._reader or await self._open())
                self.problem = None
            except EngineLogError as error:
                self.problem = str(error)
                await self._close()  # the next look opens it again
            self._looked = loop.time()

    async def _open(self) -> Database:
        self._reader = await self._opened.enter_async_context(open_database(self._path))
        return self._reader

    async def _close(self) -> None:
        self._reader = None
        await self._opened.aclose()

    async def _read(self, reader: Database) -> None:
        reader.check_file()
        newest = await newest_log_seq(reader)
        if newest == self.newest:
            return
        if newest < self.newest:  # another file has taken its place
            self.newest = 0
            self._rows.clear()
        # If that is more than is kept, what lies between is left out.
        after = max(self.newest, newest - WINDOW)
        rows = await rows_up_to(reader, TABLES.values(), after=after, up_to=newest, recording=None)
        self._keep(rows, newest)

    def _keep(self, rows: Iterable[LogRow], newest: int) -> None:
        self._rows.extend((row.log_seq, _encoded(row)) for row in rows)
        self.newest = newest
        self._after = max(newest - WINDOW, 0)
        while self._rows and self._rows[0][0] <= self._after:
            self._rows.popleft()

    def since(self, seen: int | None) -> str:
        """Return a message with the rows above LOG_SEQ ``seen``; all that are kept for who is new."""
        if seen is None or seen > self.newest:
            seen = self._after
        rows = b",".join(row for log_seq, row in self._rows if log_seq > seen)
        about = orjson.dumps({"skipped": max(self._after - seen, 0), "problem": self.problem})
        return (about[:-1] + b',"rows":[' + rows + b"]}").decode()


def _encoded(row: LogRow) -> bytes:
    """Return a row as JSON; what a later change fills in has the same ``id``."""
    name = row.table.name.removeprefix(PREFIX)
    key = [row.columns.get(argument) for argument in row.table.key]
    if None in key or not key:
        key = [f"#{row.log_seq}"]
    return orjson.dumps(
        {
            "id": " ".join(map(str, (name, *key))),
            "log_seq": row.log_seq,
            "table": name,
            "columns": {argument: _as_sent(value) for argument, value in row.columns.items()},
        }
    )


def _as_sent(value: Any) -> Any:
    return str(value) if isinstance(value, int) and abs(value) > MAX_SAFE_INTEGER else value
