"""
A small engine that records what clients stream, and logs all of it with async_enginelog.

Run it, and in another window a client, and in a third one look::

    python examples/server.py
    python examples/client.py
    enginelog tail -f engine_log.db

It answers on one port: ``/ws/stream`` takes recordings, ``/ws/echo`` sends back what it gets,
and ``GET /health`` says whether the engine is well.

"""

from __future__ import annotations

import argparse
import asyncio
import errno
import json
import os
import signal
import sys
from contextlib import suppress
from datetime import datetime
from typing import NamedTuple
from weakref import WeakKeyDictionary

import psutil
from functions import About, logged, now
from messages import Malformed, read_message
from stream import Stream
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from async_enginelog import EngineLog, EngineLogError, default_path, mask_headers

FILE = "server.py"
MAX_MESSAGE_BYTES = 2**20  # six seconds of audio; real clients send a sixth of a second
HEARTBEAT_SECONDS = 30.0


class Asked(NamedTuple):
    """A request for a websocket."""

    path: str
    headers: dict[str, str]
    time: datetime


class Engine:
    """Answer connections, each in a task of its own, which websockets starts."""

    def __init__(self, log: EngineLog) -> None:
        self.log = log
        # What each open connection was asked for with.
        self.asked: WeakKeyDictionary[ServerConnection, Asked] = WeakKeyDictionary()

    def process_request(self, websocket: ServerConnection, request: Request) -> Response | None:
        """Answer plain HTTP; :obj:`None` lets a websocket be opened."""
        path = request.path.partition("?")[0]
        if path == "/health":
            return websocket.respond(200, self.health())
        if path not in ("/ws/stream", "/ws/echo"):
            return websocket.respond(404, "There are /ws/stream, /ws/echo and /health.\n")
        # Cookies, tokens and keys become ***: a log is read by many.
        self.asked[websocket] = Asked(path, mask_headers(request.headers.raw_items()), now())
        return None

    def health(self) -> str:
        """Say that the engine is well, and how far its log is."""
        statistics = self.log.statistics()
        log = {"accepted": statistics.accepted, "pending": statistics.pending}
        return json.dumps({"status": "ok", "connections": len(self.asked), "log": log}) + "\n"

    async def handle(self, websocket: ServerConnection) -> None:
        """Take care of one connection, from its acceptance to its end: one row in the log."""
        connection_id = self.log.next_connection_id()
        asked = self.asked[websocket]
        await self.log_accepted(websocket, connection_id, asked)
        try:
            async with logged(self.log, "Engine.handle", FILE, About(connection_id=connection_id)):
                # A phone that leaves the room is no error.
                with suppress(ConnectionClosed):
                    if asked.path == "/ws/stream":
                        await Stream(self.log, websocket, connection_id).run()
                    else:
                        await self.echo(websocket, connection_id)
        finally:
            disconnected = now()
            await websocket.close()
            del self.asked[websocket]
            await self.log.log_websocket_connection(
                websocket_connection_id=connection_id,
                dt_websocket_disconnect_event=disconnected,
                dt_connection_closed=now(),
            )

    async def log_accepted(self, websocket: ServerConnection, connection_id: int, asked: Asked) -> None:
        host, port = websocket.remote_address[:2]
        await self.log.log_websocket_connection(
            websocket_connection_id=connection_id,
            client_host_ip_address=host,
            client_port=port,
            client_headers=asked.headers,
            dt_connection_request=asked.time,
            dt_connection_accepted=now(),
        )

    async def echo(self, websocket: ServerConnection, connection_id: int) -> None:
        """Greet, and send back what comes: clients try with this whether they get through."""
        await websocket.send("echo of async_enginelog's example engine: send me something")
        async for data in websocket:
            received = now()
            await self.log.log_websocket_message(
                message_id=self.log.next_message_id(),
                websocket_connection_id=connection_id,
                message_type=type_of(data),
                dt_message_received=received,
                dt_message_process_queued_to_start=received,
                dt_message_process_started=now(),
            )
            await websocket.send(data)

    async def heartbeat(self) -> None:
        """Say every 30 seconds that this process is alive, how large it is and what it does."""
        process = psutil.Process()
        started = now()
        while True:
            await self.log.log_process_registry(
                process_id=os.getpid(),
                start_time=started,
                last_heartbeat=now(),
                active_tasks=sorted(task.get_name() for task in asyncio.all_tasks()),
                database_connections=1,
                memory_usage_mb=process.memory_info().rss / 2**20,
                cpu_percent=process.cpu_percent(),
            )
            await asyncio.sleep(HEARTBEAT_SECONDS)


def type_of(data: str | bytes) -> str:
    """Name a message that is only sent back."""
    if isinstance(data, bytes):
        return "BINARY"
    try:
        return read_message(data).type
    except Malformed:
        return "MALFORMED"


async def run(options: argparse.Namespace) -> None:
    """Serve until a signal says to stop. Leaving the blocks closes connections, then the log."""
    stop = asyncio.Event()
    stop_on_signals(stop)
    async with EngineLog(options.db) as log:
        engine = Engine(log)
        async with serve(
            engine.handle,
            options.host,
            options.port,
            process_request=engine.process_request,
            max_size=MAX_MESSAGE_BYTES,
            compression=None,  # audio doesn't get smaller, phones only get warmer
            close_timeout=2,
        ) as server:
            host, port = server.sockets[0].getsockname()[:2]
            print(f"listening on ws://{host}:{port}/ws/stream, logging to {log.path}", flush=True)
            heartbeat = asyncio.create_task(engine.heartbeat(), name="heartbeat")
            await stop.wait()
            heartbeat.cancel()
    print(f"stopped; {log.statistics().committed:,} rows committed", flush=True)


def stop_on_signals(stop: asyncio.Event) -> None:
    """Set ``stop`` at Ctrl+C and when asked to end; SIGBREAK is how Windows asks."""
    loop = asyncio.get_running_loop()
    for name in ("SIGINT", "SIGTERM", "SIGBREAK"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), lambda *_: loop.call_soon_threadsafe(stop.set))


def port_number(text: str) -> int:
    """Read the option ``--port``; 0 lets the system choose a free one."""
    if not text.isdecimal() or int(text) > 65_535:
        raise argparse.ArgumentTypeError(f"{text!r} isn't a port; pass a number up to 65535")
    return int(text)


def main() -> int:
    parser = argparse.ArgumentParser(description="A small engine that logs all it does.")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (127.0.0.1)")
    parser.add_argument("--port", default=7070, type=port_number, help="port (7070); 0 for any free one")
    parser.add_argument(
        "--db", default=default_path(), help="database (setting ENGINELOG_DB or engine_log.db)"
    )
    options = parser.parse_args()
    try:
        asyncio.run(run(options))
    except EngineLogError as error:
        return fail(str(error))
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            return fail(
                f"port {options.port} on {options.host} is taken, perhaps by another engine; "
                "pass another one: --port 7071, or --port 0 for any that is free"
            )
        return fail(f"can't listen on {options.host}, port {options.port}: {error.strerror or error}")
    return 0


def fail(reason: str) -> int:
    print(f"server.py: {reason}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
