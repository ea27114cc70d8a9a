"""The lives that the walker lives again and again: all that an engine does with the library, by name."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from websockets.asyncio.client import connect
from websockets.asyncio.server import serve
from websockets.exceptions import WebSocketException

from async_enginelog import (
    EngineLog,
    Heartbeat,
    Keep,
    LogMiddleware,
    Recorder,
    StorageError,
    log_steps,
    logged,
    pruning,
    pruning_recordings,
    server_connection,
    upkeep,
)
from async_enginelog.maintenance import Maintenance
from async_enginelog.pruning import Pruning
from async_enginelog.values import time_text

from ..listeners.clients import frame, start, stop
from .numbered import call
from .record import Record
from .victim import Measured
from .waits import Stopwatch

__all__ = ["LIVES", "Own", "finish_pruning", "log_rows"]

# Enough rows to make the caller give way to the writer.
BURST = 1100

# So long at most, in seconds, is waited for what a cancellation may have ended.
SOON = 2.0


@dataclass
class Own:
    """The stream of a life, for the balance."""

    first_stream: int
    streams: int
    record: Record
    console: Path


async def log_rows(log: EngineLog, own: Own, rows: int) -> None:
    """Log the next rows of the stream."""
    record = own.record
    with Stopwatch() as watch:
        for _ in range(rows):
            number = record.began[0] = record.began[0] + 1
            function, _, columns = call(own.first_stream, number)
            try:
                await Measured(getattr(log, function)(**columns), record, watch)
            finally:
                # Also if it was cancelled: the row was taken before the call was suspended.
                record.returned[0] = number


async def logs(database: Path, own: Own) -> None:
    """Open, recover what the dead have left, log in a burst, flush, back up, and close."""
    async with EngineLog(database) as log:
        await log_rows(log, own, BURST)
        await log.flush()
        await _back_up(database)
        await log_rows(log, own, 5)


async def _back_up(database: Path) -> None:
    copy = database.with_name("copy.db")
    copy.unlink(missing_ok=True)
    copy.touch()
    source = await Maintenance.open(database, create=False)
    try:
        with suppress(StorageError):
            await source.copy_to(copy, lambda left, pages: None)
    finally:
        await source.close()


async def keeps(database: Path, own: Own) -> None:
    """Prune all that may go, in many small steps, beside rows that come."""
    upkeep.ROUND, upkeep.SHARE, upkeep.SHORTEST = 0.001, 0.1, 0.0
    pruning.STEP_PAGES, pruning_recordings.STEP_ROWS = 1, 5
    async with EngineLog(database, keep=Keep(rows=1)) as log:
        await log_rows(log, own, 30)
        await _until(lambda: log.statistics().pruned > 0)
        await log_rows(log, own, 5)
        assert log._upkeep is not None
        ends = log._upkeep._due
        await _until(lambda: log._upkeep is None or log._upkeep._due > ends)


async def finish_pruning(database: Path) -> None:
    """Bring to an end what was broken off, as whoever prunes next does: recordings go in parts here."""
    source = await Maintenance.open(database, create=False)
    try:
        everything = Keep(rows=10**9)
        await Pruning(source, everything, datetime.now(UTC), time_text, pause=_no_pause).run()
    finally:
        await source.close()


async def _no_pause() -> None:
    pass


async def mends(database: Path, own: Own) -> None:
    """Find the database damaged, and save what is in it."""
    async with EngineLog(database) as log:
        await log_rows(log, own, 50)
        with suppress(StorageError):
            await log.flush()


async def listens(database: Path, own: Own) -> None:
    """Serve recorders, with websockets and as an ASGI application, beside a heartbeat."""
    async with EngineLog(database) as log, Heartbeat(log, 0.01), Recorder(log, _analyse) as recorder:
        await _work()
        async with serve(recorder.handle, "127.0.0.1", 0, create_connection=server_connection(log)) as server:
            port = next(iter(server.sockets)).getsockname()[1]
            with suppress(WebSocketException, TimeoutError, OSError):
                await _record(f"ws://127.0.0.1:{port}")
        await _call_application(LogMiddleware(recorder.asgi, log))
        other = EngineLog(database.with_name("other.db"))
        await _call(LogMiddleware(Recorder(other).asgi, other), "lifespan", ["startup", "shutdown"])
        await log_rows(log, own, 50)


async def _analyse(recording: Any, frame: Any) -> int:
    await _work()
    return 1


@logged
async def _work() -> None:
    await log_steps(step_name="a step of the walker")
    await asyncio.sleep(0)


async def _record(uri: str) -> None:
    async with asyncio.timeout(SOON), connect(uri) as client:
        await client.send(start())
        for number in range(1, 4):
            await client.send(frame(number))
            await client.send(bytes(8820))
        await client.send(stop())
        async for _ in client:
            pass


async def _call_application(app: Any) -> None:
    """Stream to the application; a frame comes late."""
    told: list[str | bytes] = [start(7)]
    for number in (1, 3, 2):
        told += [frame(number, 7), bytes(8820)]
    told.append(stop(7))
    events = [{"type": "receive", "bytes" if type(each) is bytes else "text": each} for each in told]
    await _call(app, "websocket", ["connect", *events, {"type": "disconnect", "code": 1000}])


async def _call(app: Any, kind: str, events: list[Any]) -> None:
    """Call an application as an ASGI server would."""
    to_come = iter([event if isinstance(event, dict) else {"type": event} for event in events])

    async def receive() -> Any:
        await asyncio.sleep(0)
        event = next(to_come, {"type": "disconnect", "code": 1000})
        return event | {"type": f"{kind}.{event['type']}"}

    async def send(event: Any) -> None:
        await asyncio.sleep(0)

    scope = {"type": kind, "path": "/", "headers": [], "client": ("127.0.0.1", 1), "query_string": b""}
    await app(scope, receive, send)


async def _until(is_so: Callable[[], bool]) -> None:
    end = time.monotonic() + SOON
    while not is_so() and time.monotonic() < end:
        await asyncio.sleep(0.005)


LIVES: dict[str, Callable[[Path, Own], Coroutine[Any, Any, None]]] = {
    "logs": logs,
    "keeps": keeps,
    "mends": mends,
    "listens": listens,
}
