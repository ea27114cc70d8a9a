"""
The same engine as a FastAPI application: recordings, an echo, and a word on its health.

    pip install fastapi uvicorn
    python examples/fastapi_server.py

"""

from __future__ import annotations

import argparse
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import uvicorn
from common import MAX_MESSAGE_BYTES, guard_of, loudness, options_of
from fastapi import FastAPI, WebSocket, WebSocketDisconnect
from guard import GuardMiddleware

from async_enginelog import EngineLog, EngineLogError, Heartbeat, LogMiddleware, Recorder


def application(options: argparse.Namespace) -> FastAPI:
    """Return the application; the middleware opens the log before it starts, and closes it after its end."""
    log = EngineLog(options.db)
    recorder = Recorder(log, {"volume_10_ms": loudness})

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with Heartbeat(log), recorder:
            yield

    app = FastAPI(lifespan=lifespan)
    app.add_middleware(GuardMiddleware, guard=guard_of(options))
    app.add_middleware(LogMiddleware, log=log)  # around the guard: those it refuses are logged, too

    @app.get("/health")
    async def health() -> dict[str, Any]:
        statistics = log.statistics()
        return {
            "status": "ok",
            "log": {"accepted": statistics.accepted, "pending": statistics.pending},
        }

    @app.websocket("/ws/stream")
    async def stream(websocket: WebSocket) -> None:
        await recorder.asgi(websocket.scope, websocket.receive, websocket.send)

    @app.websocket("/ws/echo")
    async def echo(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.send_text("echo of async_enginelog's example engine: send me something")
        try:
            while True:
                await websocket.send_text(await websocket.receive_text())
        except WebSocketDisconnect:
            pass

    return app


def main() -> int:
    options = options_of("A small engine on FastAPI that logs all it does.")
    try:
        app = application(options)
    except EngineLogError as error:
        print(f"fastapi_server.py: {error}", file=sys.stderr)
        return 1
    uvicorn.run(
        app,
        host=options.host,
        port=options.port,
        ws="websockets-sansio",
        ws_max_size=MAX_MESSAGE_BYTES,
        ws_per_message_deflate=False,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
