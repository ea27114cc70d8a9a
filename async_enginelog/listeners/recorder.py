"""The recorder protocol as a ready listener for both kinds of server."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self

from ..enginelog import EngineLog
from ..failures import check_log
from .analysis import Analyser, analysers_by_name
from .calls import Callee, Calls
from .recording import Recording
from .recordings import Recordings
from .session import Session
from .settings import Settings
from .sockets import AsgiSocket, Receive, Scope, Send, Socket
from .websockets import ServerConnection, WebsocketsSocket

__all__ = ["Recorder"]

# As many threads for analysers as Python's own executors have.
THREADS = min(32, (os.cpu_count() or 1) + 4)


class Recorder:
    """
    Take what recorders stream, cut it into exact frames, hand these to analysers, and log all of it.

    ::

        async def analyse(recording: Recording, frame: Frame) -> int: ...

        async with EngineLog() as log, Recorder(log, analyse) as recorder:
            create_connection = server_connection(log)
            async with serve(recorder.handle, "", 7070, create_connection=create_connection) as server:
                await server.serve_forever()

    In an ASGI application behind :class:`~async_enginelog.LogMiddleware`, :meth:`asgi` is the
    application for the path of the recorders.

    A client's frame is as long as the client pleases. Frames are put in the order of their numbers, those
    that are missing are asked for again, and the audio is cut anew. Nothing that a client sends
    and nothing that an analyser does stops it; what can't be understood is logged as an error, and
    all audio that follows a header is heard, once. When a connection is lost, the client may go on with
    another one: START again, and the frames that it doesn't know to have arrived.

    An analyser is called with the :class:`Recording` and a :class:`~async_enginelog.Frame`, in order. It
    is a coroutine function, or a function, which runs in a thread. If it returns a number, or
    something that has a length, that is logged as its count of records. The recording and the
    frame are bound for it (:func:`~async_enginelog.bound`). While analysers are far behind, the client
    is made to wait; a server whose keepalive is shorter than such a wait takes the connection for lost.

    Args:
        log: The log; open it before the first connection.
        on_frame: An analyser, or several by name, which work side by side. The names are those for which
            ENGINE_DB_LOG_SPLIT_100_MS_AUDIO_FRAME has columns: ``"fft"``, ``"ons"``, ``"pyin"``,
            ``"crepe"``, ``"volume_1_ms"``, ``"volume_10_ms"`` and a few more.
        on_finished: Called with a recording when its last frame is done, before its data is purged; a
            coroutine function or a function, as an analyser.
        frame_ms: Length of a frame, in milliseconds.
        sample_rate: Samples a second.
        sample_bytes: Bytes of a sample, all channels together.
        timeout: How long an analyser may take for a frame, in seconds; then it is cancelled, or, in a
            thread, isn't called again until it returns. Also how long :meth:`aclose` waits.
        patience: How long frames wait for others that are missing, in seconds.
        linger: How long a recording waits for its client when the connection was lost (it ended without
            the close code 1000 or 1001), in seconds.
        max_backlog: How many frames of a recording may wait for analysers, before its client is
            made to wait.

    Raises:
        TypeError: If ``log`` isn't a log, an analyser or ``on_finished`` can't be called, or a
            length, rate or width isn't a whole number.
        ValueError: If there are no columns for an analyser, a frame isn't a whole number of samples, or
            a number isn't positive.

    """

    def __init__(
        self,
        log: EngineLog,
        on_frame: Analyser[Recording] | Mapping[str, Analyser[Recording]] | None = None,
        *,
        on_finished: Callable[[Recording], Any] | None = None,
        frame_ms: int = 100,
        sample_rate: int = 44_100,
        sample_bytes: int = 2,
        timeout: float = 10.0,
        patience: float = 2.0,
        linger: float = 30.0,
        max_backlog: int = 600,
    ) -> None:
        check_log(log)
        self._settings = Settings(frame_ms, sample_rate, sample_bytes, timeout, patience, linger, max_backlog)
        self._calls = Calls(timeout, THREADS)
        self._recordings = Recordings(
            log,
            self._settings,
            analysers_by_name(on_frame),
            None if on_finished is None else Callee.of(on_finished, "on_finished"),
            self._calls,
        )

    async def handle(self, websocket: ServerConnection) -> None:
        """
        Handle a connection of a ``websockets`` server: give this method to ``serve()``.

        Returns when STOP came and the connection is closed, or when it is gone; the analysis of what came
        goes on. Cancelling is safe.

        Raises:
            TypeError: If the server doesn't have ``create_connection=server_connection(log)``.

        """
        await self._run(WebsocketsSocket(websocket))

    async def asgi(self, scope: Scope, receive: Receive, send: Send) -> None:
        """
        Do the same as an ASGI application; plain HTTP is answered with 426 (RFC 9110, section 15.5.22).

        In FastAPI: ``app.mount("/ws/stream", recorder.asgi)``, or in a function for a websocket
        ``await recorder.asgi(websocket.scope, websocket.receive, websocket.send)``. As an application of its
        own it closes the recorder when the server shuts down.

        Raises:
            TypeError: If the application isn't behind :class:`~async_enginelog.LogMiddleware`.

        """
        if scope["type"] == "websocket":
            await self._run(AsgiSocket(scope, receive, send))
        elif scope["type"] == "lifespan":
            await self._live(receive, send)
        else:
            headers = [(b"upgrade", b"websocket"), (b"connection", b"upgrade"), (b"content-length", b"0")]
            await send({"type": "http.response.start", "status": 426, "headers": headers})
            await send({"type": "http.response.body", "body": b""})

    async def _live(self, receive: Receive, send: Send) -> None:
        while (await receive())["type"] != "lifespan.shutdown":
            await send({"type": "lifespan.startup.complete"})
        await self.aclose()
        await send({"type": "lifespan.shutdown.complete"})

    async def _run(self, socket: Socket) -> None:
        await Session(socket, self._recordings, self._settings.sample_bytes).run()

    async def aclose(self) -> None:
        """
        End all recordings, and return when they are finished; ``async with`` does it.

        What isn't analysed within ``timeout`` seconds is left, and logged as an error. Connections that are
        open are closed, and START begins no more recordings. Close the log afterwards. May be called
        again; cancelling is safe.

        """
        await self._recordings.aclose()
        self._calls.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()
