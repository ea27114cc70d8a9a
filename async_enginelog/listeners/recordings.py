"""The recordings that run: found by id, kept while their client is away, finished and purged."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import datetime

from ..context import bind
from ..enginelog import EngineLog
from .calls import Callee, Calls
from .recording import Recording
from .recording_log import RecordingLog
from .settings import Settings
from .stream import Owner, Past, Stream

__all__ = ["Recordings"]

# So many recordings that have ended are remembered, so that one may go on after its end. Each may take
# 50 KiB.
MAX_PAST = 256


class Recordings:
    """
    Begin recordings, and see each to its end.

    A recording has one connection at a time. If that is lost, the recording waits for its client to
    come back with another one, and goes on where it was.

    Args:
        log: Where to log.
        settings: How to cut, and how long to wait.
        analysers: Who analyses the frames, by name.
        on_finished: Called when the last frame is done.
        calls: Who calls them.

    Attributes:
        is_closed: Whether no recording will begin any more.

    """

    def __init__(
        self,
        log: EngineLog,
        settings: Settings,
        analysers: Mapping[str, Callee],
        on_finished: Callee | None,
        calls: Calls,
    ) -> None:
        self._log = log
        self._settings = settings
        self._analysers = analysers
        self._on_finished = on_finished
        self._calls = calls
        self.is_closed = False

        # Recordings that haven't ended, and the timers of those whose client is away.
        self._running: dict[int, Stream] = {}
        self._timers: dict[int, asyncio.TimerHandle] = {}
        # Those that have, until they are purged.
        self._finishing: dict[int, asyncio.Task[None]] = {}
        # What there was of the last ones that have ended, the newest at the end.
        self._past: dict[int, Past] = {}
        # Clients that are there.
        self._owners: set[Owner] = set()

    def come(self, owner: Owner) -> None:
        """Hear of a client that is there."""
        self._owners.add(owner)
        if self.is_closed:
            owner.recorder_closed()

    def go(self, owner: Owner) -> None:
        """Hear that it is there no longer."""
        self._owners.discard(owner)

    def is_running(self, id: int) -> bool:
        """Tell whether a recording has begun, and hasn't ended."""
        return id in self._running

    def is_finishing(self, id: int) -> bool:
        """Tell whether a recording has ended, and isn't purged."""
        return id in self._finishing

    def was_stopped(self, id: int) -> bool:
        """Tell whether a recording has ended by STOP, if it is remembered."""
        return id in self._past and self._past[id].was_stopped

    async def begin(
        self, id: int, owner: Owner, connection_id: int | None, started: datetime, first: int = 1
    ) -> Stream | None:
        """
        Begin a recording, or go on with the one of this id.

        One that has ended is finished first, and goes on where it was: a client has just one recording of
        an id, and no row of it is overwritten. Cancelling is safe.

        Args:
            id: The RECORDING_ID.
            owner: Who feeds it.
            connection_id: The connection it comes on.
            started: When START came.
            first: The number of the first client frame.

        Returns:
            The recording; :obj:`None` if the recorder is closed.

        """
        while id in self._finishing:
            # It may be that another one is begun and ended meanwhile.
            await self._finish_now(self._finishing[id])
        if self.is_closed:
            return None
        stream = self._running.get(id)
        if stream is None:
            past = self._past.pop(id, None)
            stream = self._running[id] = self._new(id, first, past)
            if past is None:
                stream.begin(started)
            else:
                stream.log.note("goes on after its end")
        else:
            self._stop_timer(id)
            stream.log.note("goes on with another connection")
        stream.attach(owner, connection_id)
        return stream

    def _new(self, id: int, first: int, past: Past | None) -> Stream:
        log = RecordingLog(self._log, id, self._settings, self._analysers)
        return Stream(Recording(id), log, self._settings, self._analysers, self._calls, self.end, first, past)

    async def _finish_now(self, finishing: asyncio.Task[None]) -> None:
        """Wait for a recording to be finished, but not for ever."""
        await asyncio.wait({finishing}, timeout=self._settings.timeout)
        finishing.cancel()

    def wait_for_client(self, stream: Stream) -> None:
        """Keep a recording for a while: its connection was lost."""
        stream.log.note("connection lost before STOP")
        stream.detach()
        id = stream.recording.id
        loop = asyncio.get_running_loop()
        self._timers[id] = loop.call_later(self._settings.linger, self.end, stream, "client didn't come back")

    def _stop_timer(self, id: int) -> None:
        timer = self._timers.pop(id, None)
        if timer is not None:
            timer.cancel()

    def end(self, stream: Stream, why: str | None = None) -> None:
        """
        End a recording.

        Args:
            stream: The recording.
            why: Why, unless it is STOP.

        """
        id = stream.recording.id
        del self._running[id]
        self._stop_timer(id)
        if why is not None:
            stream.log.note(why)
        stream.end()
        if stream.owner is not None:
            stream.owner.recording_ended(id)
        finishing = self._finishing[id] = asyncio.create_task(self._finish(stream), name="finish-recording")
        finishing.add_done_callback(lambda _: self._finishing.pop(id))

    async def _finish(self, stream: Stream) -> None:
        try:
            await stream.finish()
            await self._tell_finished(stream)
        finally:
            stream.purge()
            self._past[stream.recording.id] = stream.past
            if len(self._past) > MAX_PAST:
                del self._past[next(iter(self._past))]

    async def _tell_finished(self, stream: Stream) -> None:
        if self._on_finished is None:
            return
        with bind(recording_id=stream.recording.id):
            call = self._calls.begin(self._on_finished, stream.recording)
        error = call.error if await call.wait() else call.too_late()
        if error is not None:
            stream.log.fail(error, self._on_finished.place)

    async def aclose(self) -> None:
        """
        End all recordings, and return when they are finished. What isn't after ``timeout`` seconds is left.

        May be called again. Cancelling leaves it to go on by itself.

        """
        self.is_closed = True
        for stream in list(self._running.values()):
            self.end(stream, "recorder closed before STOP")
        for owner in list(self._owners):
            owner.recorder_closed()
        if self._finishing:
            _, late = await asyncio.wait(self._finishing.values(), timeout=self._settings.timeout)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late)
