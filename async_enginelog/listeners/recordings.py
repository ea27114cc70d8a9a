"""The recordings that run: found by id, kept while their client is away, finished and purged."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from ..enginelog import EngineLog
from ..framing import FrameCutter
from .analysis import Analysers
from .recording import Recording

__all__ = ["Recordings"]


class Recordings:
    """
    Begin recordings, and see each to its end.

    A recording has one connection at a time. If that is lost, the recording waits for its client to
    come back with another one, and goes on where it was.

    Args:
        log: Where to log.
        analysers: Who analyses the frames.
        make_cutter: Makes what cuts the audio of a recording into frames.
        on_finished: Called when the last frame is done.
        patience: How long frames wait for others that are missing, in seconds.
        linger: How long a recording waits for its client, in seconds.
        max_backlog: How many frames of a recording may wait for analysers.

    """

    def __init__(
        self,
        log: EngineLog,
        analysers: Analysers[Recording],
        make_cutter: Callable[[], FrameCutter],
        on_finished: Callable[[Recording], Any] | None,
        *,
        patience: float,
        linger: float,
        max_backlog: int,
    ) -> None:
        self.log = log
        self.patience = patience
        self._analysers = analysers
        self._make_cutter = make_cutter
        self._on_finished = on_finished
        self._linger = linger
        self._max_backlog = max_backlog

        # Recordings that haven't ended, and the timers of those that wait for their client.
        self._running: dict[int, Recording] = {}
        self._timers: dict[int, asyncio.TimerHandle] = {}
        # Those that have, until they are purged.
        self._finishing: set[asyncio.Task[None]] = set()

    def begin(
        self, id: int, connection_id: int, fields: Mapping[str, Any], started: datetime, first: int = 1
    ) -> Recording:
        """Begin a recording, or go on with the one that is known by this id."""
        recording = self._running.get(id)
        if recording is not None:
            self._stop_timer(recording)
            recording.resume(connection_id)
            return recording
        recording = self._running[id] = Recording(
            self.log,
            id,
            connection_id,
            fields,
            self._make_cutter(),
            self._analysers,
            max_backlog=self._max_backlog,
            patience=self.patience,
            first=first,
        )
        recording.start(started)
        return recording

    def is_running(self, id: int) -> bool:
        """Tell whether a recording is known by this id."""
        return id in self._running

    def end(self, recording: Recording, stopped: datetime | None) -> None:
        """End a recording: at STOP or, if that never came, for want of a client."""
        self._stop_timer(recording)
        if self._running.get(recording.id) is not recording:
            return  # it has ended on another connection
        del self._running[recording.id]
        recording.end(stopped)
        task = asyncio.create_task(self._finish(recording), name=f"finish-{recording.id}")
        self._finishing.add(task)
        task.add_done_callback(self._finishing.discard)

    def wait_for_client(self, recording: Recording) -> None:
        """Keep a recording for a while: its connection was lost."""
        recording.note("connection lost before STOP")
        loop = asyncio.get_running_loop()
        self._timers[recording.id] = loop.call_later(self._linger, self.end, recording, None)

    def _stop_timer(self, recording: Recording) -> None:
        timer = self._timers.pop(recording.id, None)
        if timer is not None:
            timer.cancel()

    async def _finish(self, recording: Recording) -> None:
        try:
            await recording.finish()
            await self._tell_finished(recording)
        finally:
            recording.purge()

    async def _tell_finished(self, recording: Recording) -> None:
        if self._on_finished is None:
            return
        try:
            async with asyncio.timeout(self._analysers.timeout):
                await self._analysers.call(self._on_finished, recording).future
        except Exception as error:
            recording.fail("on_finished", error, error)

    async def aclose(self, timeout: float) -> None:
        """End all recordings; those that aren't finished after ``timeout`` seconds are left as they are."""
        for recording in list(self._running.values()):
            self.end(recording, None)
        if self._finishing:
            _, late = await asyncio.wait(self._finishing, timeout=timeout)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late, timeout=1.0)
