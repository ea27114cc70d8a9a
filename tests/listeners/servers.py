"""A recorder behind each kind of server."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import uvicorn
from fastapi import FastAPI, WebSocket
from websockets.asyncio.server import serve

from async_enginelog import EngineLog, server_connection
from async_enginelog.listeners.asgi import LogMiddleware
from async_enginelog.listeners.recorder import Recorder

__all__ = ["KINDS", "Serving", "serve_asgi", "serve_fastapi", "serve_websockets"]


class Running(NamedTuple):
    """A server that runs."""

    uri: str
    log: EngineLog
    recorder: Recorder


# Makes a recorder for a log.
Make: TypeAlias = Callable[[EngineLog], Recorder]
Serving: TypeAlias = Callable[[Path, Make], AbstractAsyncContextManager[Running]]


@asynccontextmanager
async def serve_websockets(path: Path, make: Make, **settings: Any) -> AsyncIterator[Running]:
    """Serve with websockets."""
    async with EngineLog(path) as log, make(log) as recorder:
        create_connection = server_connection(log)
        async with serve(
            recorder.handle, "127.0.0.1", 0, create_connection=create_connection, **settings
        ) as server:
            port = next(iter(server.sockets)).getsockname()[1]
            yield Running(f"ws://127.0.0.1:{port}", log, recorder)


@asynccontextmanager
async def serve_asgi(path: Path, make: Make) -> AsyncIterator[Running]:
    """Serve with uvicorn: the recorder is the application, and is closed with the server."""
    log = EngineLog(path)
    recorder = make(log)
    async with _serve_app(LogMiddleware(recorder.asgi, log)) as uri:
        yield Running(uri, log, recorder)


@asynccontextmanager
async def serve_fastapi(path: Path, make: Make) -> AsyncIterator[Running]:
    """Serve with uvicorn: the recorder is called by a function of a FastAPI application."""
    log = EngineLog(path)
    recorder = make(log)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with recorder:
            yield

    app = FastAPI(lifespan=lifespan)
    app.add_middleware(LogMiddleware, log=log)

    @app.websocket("/")
    async def stream(websocket: WebSocket) -> None:
        await recorder.asgi(websocket.scope, websocket.receive, websocket.send)

    @app.websocket("/accepted")
    async def accepted(websocket: WebSocket) -> None:
        await websocket.accept(subprotocol="recorder")
        await recorder.asgi(websocket.scope, websocket.receive, websocket.send)

    app.mount("/mounted", recorder.asgi)
    async with _serve_app(app) as uri:
        yield Running(uri, log, recorder)


@asynccontextmanager
async def _serve_app(app: Any) -> AsyncIterator[str]:
    listening = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(
        app, ws="websockets-sansio", log_config=None, access_log=False, ws_per_message_deflate=False
    )
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve(sockets=[listening]))
    try:
        yield f"ws://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        await task
        listening.close()


KINDS: dict[str, Serving] = {
    "websockets": serve_websockets,
    "asgi": serve_asgi,
    "fastapi": serve_fastapi,
}
