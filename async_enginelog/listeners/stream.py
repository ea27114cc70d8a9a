"""The audio of one recording: taken in, cut into exact frames, analysed, logged."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple, Protocol

from ..framing import Frame, FrameCutter
from .analysis import Analysis
from .calls import Callee, Calls
from .client_frames import Arrived, ClientFrames
from .connections import now
from .recording import Recording
from .recording_log import ClientFrame, RecordingLog
from .settings import Settings

__all__ = ["Owner", "Stream"]


class Owner(Protocol):
    """Who feeds a recording: what one client says."""

    def recording_ended(self, id: int) -> None:
        """Hear that a recording takes no more audio."""

    def recording_moved(self, id: int) -> None:
        """Hear that a recording goes on with another connection."""

    def recorder_closed(self) -> None:
        """Hear that no recording will begin any more."""


class Past(NamedTuple):
    """
    What there was of a recording that has ended; if it goes on, none of its rows is overwritten.

    Attributes:
        cutter: How far its audio is cut.
        arrived: The frames of the client that came.
        frames_analysed: How many frames are done.
        was_stopped: Whether it ended by STOP.

    """

    cutter: FrameCutter
    arrived: Arrived
    frames_analysed: int
    was_stopped: bool


class Stream:
    """
    Take the audio of a recording, from START to purge.

    Args:
        recording: The recording.
        log: Its rows.
        settings: How to cut, and how long to wait.
        analysers: Who analyses its frames, by name.
        calls: Who calls them.
        over: Called when STOP came and no frame waits for others.
        first: The number of the first client frame.
        past: What it was, if it has ended before.

    Attributes:
        recording: The recording.
        log: Its rows.
        owner: Who feeds it; :obj:`None` while its client is away.
        stopped: When STOP came.

    """

    def __init__(
        self,
        recording: Recording,
        log: RecordingLog,
        settings: Settings,
        analysers: Mapping[str, Callee],
        calls: Calls,
        over: Callable[[Stream], None],
        first: int = 1,
        past: Past | None = None,
    ) -> None:
        self.recording = recording
        self.log = log
        self.owner: Owner | None = None
        self.stopped: datetime | None = None
        self._over = over
        self._cutter = past.cutter if past else settings.cutter()
        self._client_frames = ClientFrames(
            log, settings.patience, first, self._cut, self._complete, past.arrived if past else None
        )
        # The client's frame that was cut last.
        self._client: ClientFrame | None = None
        self._frames_analysed = past.frames_analysed if past else 0
        self._analysis = Analysis(
            analysers,
            calls,
            recording,
            recording.id,
            done=self._analysed,
            failed=self._analyser_failed,
            max_backlog=settings.max_backlog,
        )

    @property
    def past(self) -> Past:
        """What it was, for one that goes on after its end."""
        return Past(
            self._cutter, self._client_frames.arrived, self._frames_analysed, self.stopped is not None
        )

    # -- begin and end ------------------------------------------------------------------------------

    def begin(self, started: datetime) -> None:
        """Log that the recording came to be."""
        self.log.recording(dt_recording_start=started, compose_yn_run_fft=self.log.runs_fft)

    def describe(self, fields: Mapping[str, Any]) -> None:
        """Take in what START says."""
        self.recording.fields = fields
        self.log.recording(
            compose_play_or_practice=_text(fields.get("COMPOSE_PLAY_OR_PRACTICE")),
            audio_stream_file_name=_text(fields.get("AUDIO_STREAM_FILE_NAME")),
            dt_process_websocket_start_message_done=now(),
        )

    def attach(self, owner: Owner, connection_id: int | None) -> None:
        """Be fed by this client, and no longer by another."""
        if self.owner is not None:
            self.owner.recording_moved(self.recording.id)
        self.owner, self.recording.connection_id = owner, connection_id
        self.log.recording(websocket_connection_id=connection_id)
        self._client_frames.attend()

    def detach(self) -> None:
        """Wait until the client comes back."""
        self.owner = None
        self._client_frames.leave()

    def stop(self, stopped: datetime) -> None:
        """Hear that STOP came; it is over when nothing is missing."""
        self.stopped = stopped
        if not self.missing:
            self._over(self)

    def end(self) -> None:
        """Take no more audio: the tail becomes the last frame."""
        self._client_frames.leave()
        self._client_frames.give_up()
        tail = self._cutter.flush()
        if tail is not None:
            self._queue([tail])
        self.log.recording(
            # Unknown if STOP never came.
            dt_recording_end=self.stopped,
            max_pre_split_audio_frame_no_split=self._client_frames.highest,
            total_bytes_received=self._cutter.bytes_received,
            total_split_100_ms_frames_produced=self._cutter.frames_cut,
        )

    async def finish(self) -> None:
        """Return when the last frame is done. Cancelling leaves those that aren't, and logs how many."""
        try:
            await self._analysis.finish()
        finally:
            self._finished()

    def _finished(self) -> None:
        if self._analysis.backlog:
            self.log.fail(RuntimeError(f"{self._analysis.backlog} frames aren't analysed"))
        done = now()
        self.log.recording(
            split_100_ms_frame_counter=self._frames_analysed,
            last_split_100_ms_frame_time=done if self._frames_analysed else None,
            dt_recording_data_queued_for_purging=done,
        )

    def purge(self) -> None:
        """Give the memory back."""
        self.recording.data.clear()
        self.log.recording(dt_recording_data_purged=now())

    # -- frames of the client -----------------------------------------------------------------------

    @property
    def next_number(self) -> int:
        """The number of the next client frame, for a client that doesn't number them."""
        return self._client_frames.highest + 1

    @property
    def missing(self) -> Sequence[int]:
        """The client frames that others wait for."""
        return self._client_frames.missing

    def take(self, number: int, frame: ClientFrame) -> None:
        """Take a frame of the client, of this number; never waits."""
        self._client_frames.put(number, frame)

    async def room(self) -> None:
        """Return when the analysers aren't too far behind. Cancelling is safe."""
        await self._analysis.room()

    def _complete(self) -> None:
        if self.stopped is not None:
            self._over(self)

    def _cut(self, client: ClientFrame) -> None:
        self._client = client
        start_ms = self._cutter.milliseconds(self._cutter.bytes_received)
        self._queue(self._cutter.feed(client.audio))
        end_ms = self._cutter.milliseconds(self._cutter.bytes_received) - 1
        self.log.client_frame(
            client,
            start_ms=start_ms,
            end_ms=max(start_ms, end_ms),
            dt_frame_split_into_100_ms_frames=now(),
        )

    # -- frames of 100 ms ---------------------------------------------------------------------------

    def _queue(self, frames: Iterable[Frame]) -> None:
        """Log frames that the client's frame made whole, and queue them for the analysers."""
        for frame in frames:
            self.log.frame(frame, self._client)
            self._analysis.put(frame)

    def _analysed(self, frame: Frame, columns: dict[str, Any]) -> None:
        self._frames_analysed += 1
        self.log.analysed(frame, columns)

    def _analyser_failed(self, analyser: Callee, frame: Frame, error: BaseException) -> None:
        self.log.fail(error, analyser.place, frame.number)


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None
