"""
A small engine that records what clients stream; async_enginelog logs all of it.

Run it, open http://127.0.0.1:7070/ to record from your microphone, or stream from another window, and
look::

    python examples/server.py
    python examples/client.py
    enginelog tail -f engine_log.db

It answers on one port: ``/ws/stream`` takes recordings, ``/ws/echo`` sends back what it gets, ``/`` is a
page for browsers, and ``GET /health`` says whether the engine is well.

"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from contextlib import suppress

from common import MAX_MESSAGE_BYTES, guard_of, loudness, options_of, reason_of, stop_on_signals
from guard import Guard, address_of, guarded
from page import Page
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from async_enginelog import EngineLog, EngineLogError, Heartbeat, Recorder, server_connection


class Engine:
    """Answer connections by their path."""

    def __init__(self, log: EngineLog, recorder: Recorder, guard: Guard) -> None:
        self.log = log
        self.recorder = recorder
        self.guard = guard
        self.page = Page(log.path)

    def process_request(self, websocket: ServerConnection, request: Request) -> Response | None:
        """Answer plain HTTP; :obj:`None` lets a websocket be opened."""
        path = request.path.partition("?")[0]
        if path == "/health":
            return websocket.respond(200, self.health(websocket))
        if path not in ("/ws/stream", "/ws/echo", "/ws/rows"):
            return self.page.respond(websocket, path)
        address = address_of(websocket)
        origins = request.headers.get_all("Origin")
        if not self.guard.welcomes(origins[0] if origins else None, address):
            return None  # which `origins` of serve() refuses
        status = self.guard.enter(websocket, address)
        return websocket.respond(status, f"{status.phrase}\n") if status else None

    def health(self, websocket: ServerConnection) -> str:
        """Say that the engine is well, and how far its log is."""
        statistics = self.log.statistics()
        log = {"accepted": statistics.accepted, "pending": statistics.pending}
        connections = len(websocket.server.connections)
        return json.dumps({"status": "ok", "connections": connections, "log": log}) + "\n"

    async def handle(self, websocket: ServerConnection) -> None:
        """Take care of one connection."""
        assert websocket.request is not None  # noqa: S101  # there is one when a connection is open
        match websocket.request.path.partition("?")[0]:
            case "/ws/stream":
                await self.recorder.handle(websocket)
            case "/ws/echo":
                await echo(websocket)
            case "/ws/rows":
                await self.page.show_rows(websocket)


async def echo(websocket: ServerConnection) -> None:
    """Greet, and send back what comes: clients try with this whether they get through."""
    with suppress(ConnectionClosed):  # also if the guard closes it
        await websocket.send("echo of async_enginelog's example engine: send me something")
        async for message in websocket:
            await websocket.send(message)


async def run(options: argparse.Namespace) -> None:
    """Serve until a signal says to stop. Leaving the blocks ends connections, recordings, then the log."""
    stop = asyncio.Event()
    stop_on_signals(stop)
    async with (
        EngineLog(options.db) as log,
        Heartbeat(log),
        Recorder(log, {"volume_10_ms": loudness}) as recorder,
    ):
        guard = guard_of(options)
        engine = Engine(log, recorder, guard)
        async with serve(
            engine.handle,
            options.host,
            options.port,
            process_request=engine.process_request,
            create_connection=guarded(server_connection(log), guard),
            origins=[None, *guard.origins],  # browsers let any page connect to anywhere
            max_size=MAX_MESSAGE_BYTES,
            compression=None,  # audio doesn't get smaller, phones only get warmer
            close_timeout=2,
        ) as server:
            host, port = server.sockets[0].getsockname()[:2]
            print(f"listening on ws://{host}:{port}/ws/stream, logging to {log.path}", flush=True)
            await stop.wait()
    print(f"stopped; {log.statistics().committed:,} rows committed", flush=True)


def main() -> int:
    options = options_of("A small engine that logs all it does.")
    try:
        asyncio.run(run(options))
    except (EngineLogError, OSError) as error:
        print(f"server.py: {reason_of(error, options)}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
