"""
The recorder as its users' type checker sees it; run by mypy, never by Python.

Each ignored error is one that has to be reported: mypy complains of an ignore that isn't needed.

"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, assert_type

from fastapi import FastAPI, WebSocket
from websockets.asyncio.server import serve

from async_enginelog import EngineLog, Frame, Recorder, Recording, server_connection


async def analyse(recording: Recording, frame: Frame) -> int:
    """Analyse a frame, asynchronously."""
    assert_type(recording.id, int)
    assert_type(recording.connection_id, int | None)
    assert_type(recording.fields, Mapping[str, Any])
    recording.data["last"] = frame.number
    return len(frame.audio)


def volume(recording: Recording, frame: Frame) -> Sequence[float]:
    """Analyse a frame in a thread."""
    return []


class Detector:
    """Analyse a frame with what is kept in between."""

    async def __call__(self, recording: Recording, frame: Frame) -> None:
        """Analyse a frame."""


async def finished(recording: Recording) -> None:
    """Hear that a recording is finished."""


async def records(log: EngineLog) -> None:
    """A recorder takes one analyser or several, of any kind, and is a handler of websockets."""
    Recorder(log)
    Recorder(log, analyse, frame_ms=500, sample_rate=16_000, sample_bytes=4)
    Recorder(log, Detector(), on_finished=finished, timeout=1, patience=0.5, linger=10, max_backlog=10)
    Recorder(log, lambda recording, frame: len(frame.audio), on_finished=lambda recording: recording.id)
    async with Recorder(log, {"fft": analyse, "volume_10_ms": volume, "ons": Detector()}) as recorder:
        assert_type(recorder, Recorder)
        async with serve(recorder.handle, "", 7070, create_connection=server_connection(log)) as server:
            await server.serve_forever()
        await recorder.aclose()


async def records_in_fastapi(app: FastAPI, recorder: Recorder) -> None:
    """It is an ASGI application."""
    app.mount("/ws/stream", recorder.asgi)

    @app.websocket("/ws/other")
    async def other(websocket: WebSocket) -> None:
        await recorder.asgi(websocket.scope, websocket.receive, websocket.send)


async def without_frame(recording: Recording) -> int:
    """Take no frame."""
    return 0


async def is_told_of_mistakes(log: EngineLog) -> None:
    """What can't analyse a frame, or isn't a setting, is an error before the program runs."""
    Recorder(log, without_frame)  # type: ignore[arg-type]
    Recorder(log, {"fft": without_frame})  # type: ignore[dict-item]
    Recorder(log, on_finished=analyse)  # type: ignore[arg-type]
    Recorder(log, analyse, 500)  # type: ignore[call-arg, arg-type]
    Recorder(log, analyse, frame_length=500)  # type: ignore[call-arg]
