"""One recording, from START to purge: client frames in order, cut into exact frames, analysed, logged."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, NamedTuple

from ..enginelog import EngineLog
from ..framing import Frame, FrameCutter, sha256_hex
from ..sequence import Sequence
from ..tables import AUDIO_FRAME, FUNCTION_ERROR, PRE_SPLIT_AUDIO_FRAME, RECORDING_CONFIG, STEPS
from .analysis import Analysers, Analysis
from .connections import now

__all__ = ["ClientFrame", "Recording"]

FILE = "recorder"

# The analysers that have a switch in the table of frames.
SWITCHES = tuple(column for column in AUDIO_FRAME.columns if column.startswith("yn_run_"))


class ClientFrame(NamedTuple):
    """
    A frame as the client cut it.

    Attributes:
        number: Its FRAME_NO.
        audio: PCM, as much as it pleases the client.
        received: When its header was there.
        paired: When its audio was there, too.
        connection_id: On which connection it came.

    """

    number: int
    audio: bytes
    received: datetime
    paired: datetime
    connection_id: int


class Recording:
    """
    A recording while it runs: what analysers are handed along with each frame.

    Attributes:
        id: Its RECORDING_ID.
        fields: What START said, with names in upper case.
        connection_id: The connection it came on last.
        sample_bytes: Bytes of a sample, all channels together.
        data: For the engine's analysers to keep what they need for this recording; emptied when it
            is purged. With analysers in threads, it is up to them not to disturb each other.

    """

    def __init__(
        self,
        log: EngineLog,
        id: int,
        connection_id: int,
        fields: Mapping[str, Any],
        cutter: FrameCutter,
        analysers: Analysers[Recording],
        *,
        max_backlog: int,
        patience: float,
        first: int = 1,
    ) -> None:
        self.id = id
        self.fields = fields
        self.connection_id = connection_id
        self.data: dict[Any, Any] = {}

        self._log = log
        self.sample_bytes = cutter.sample_bytes
        self._cutter = cutter
        self._sequence: Sequence[ClientFrame] = Sequence(first)
        self._patience = patience
        # While frames wait for others that are missing.
        self._patience_timer: asyncio.TimerHandle | None = None
        self._frames_analysed = 0
        self._switches = {name: name.removeprefix("yn_run_") in analysers.by_name for name in SWITCHES}
        self._analysis = Analysis(
            analysers, self, id, done=self._analysed, failed=self._analyser_failed, max_backlog=max_backlog
        )

    def __repr__(self) -> str:
        return f"<Recording {self.id}>"

    # -- begin and end ------------------------------------------------------------------------------

    def start(self, started: datetime) -> None:
        """Begin: the row of the recording comes to be."""
        self._log_recording(
            dt_recording_start=started,
            compose_play_or_practice=_text(self.fields.get("COMPOSE_PLAY_OR_PRACTICE")),
            audio_stream_file_name=_text(self.fields.get("AUDIO_STREAM_FILE_NAME")),
            compose_yn_run_fft=self._switches["yn_run_fft"],
            websocket_connection_id=self.connection_id,
            dt_process_websocket_start_message_done=now(),
        )

    def resume(self, connection_id: int) -> None:
        """Go on with another connection."""
        self.connection_id = connection_id
        self.note("goes on with another connection")
        self._log_recording(websocket_connection_id=connection_id)

    def end(self, stopped: datetime | None) -> None:
        """
        Take no more audio: the tail becomes the last frame.

        Args:
            stopped: When STOP came; :obj:`None` if the connection was lost instead.

        """
        self.give_up_missing()
        tail = self._cutter.flush()
        if tail is not None:
            self._queue([tail], None)
        self._log_recording(
            dt_recording_end=stopped,
            max_pre_split_audio_frame_no_split=self._sequence.highest,
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
            self.fail("finish", RuntimeError(f"{self._analysis.backlog} frames aren't analysed"))
        done = now()
        self._log_recording(
            split_100_ms_frame_counter=self._frames_analysed,
            last_split_100_ms_frame_time=done if self._frames_analysed else None,
            dt_recording_data_queued_for_purging=done,
        )

    def purge(self) -> None:
        """Give the memory back."""
        self.data.clear()
        self._log_recording(dt_recording_data_purged=now())

    # -- frames of the client -----------------------------------------------------------------------

    @property
    def next_number(self) -> int:
        """The number of the next client frame, for a client that doesn't number them."""
        return self._sequence.highest + 1

    @property
    def missing(self) -> list[int]:
        """The client frames that others wait for."""
        return self._sequence.missing

    def take(self, frame: ClientFrame) -> list[int]:
        """
        Take a frame of the client; never waits.

        Returns:
            Numbers of frames that are found to be missing by it.

        """
        arrival = self._sequence.put(frame.number, frame)
        if arrival.is_repeated:
            # A client that isn't sure sends a frame again. It must not be heard twice.
            self.note("frame came twice, not cut again", frame.number)
            return []
        if arrival.is_late:
            self.note("frame came too late for its place, cut in where it came", frame.number)
        if arrival.is_held:
            self._log_client_frame(frame)
        self._cut_all(arrival.ready)
        self._watch_gaps()
        return arrival.missing

    def _watch_gaps(self) -> None:
        """Let frames that wait for others wait so long and no longer."""
        if not self._sequence.first_gap:
            self._stop_timer()
        elif self._patience_timer is None:
            loop = asyncio.get_running_loop()
            self._patience_timer = loop.call_later(self._patience, self._lose_patience)

    def _stop_timer(self) -> None:
        if self._patience_timer is not None:
            self._patience_timer.cancel()
            self._patience_timer = None

    def _lose_patience(self) -> None:
        self._stop_timer()
        self._skip_gap()
        self._watch_gaps()

    def _skip_gap(self) -> None:
        gap = self._sequence.first_gap
        numbers = f"{gap[0]} to {gap[-1]}" if len(gap) > 1 else f"{gap[0]}"
        self.fail("take", LookupError(f"client frame {numbers} never came; it goes on without"))
        self._cut_all(self._sequence.skip_gap())

    def give_up_missing(self) -> None:
        """Wait for nothing that is missing: go on with the frames that came."""
        self._stop_timer()
        while self._sequence.first_gap:
            self._skip_gap()

    async def room(self) -> None:
        """Return when the analysers aren't too far behind. Cancelling is safe."""
        await self._analysis.room()

    def _cut_all(self, frames: Iterable[ClientFrame]) -> None:
        for frame in frames:
            self._cut(frame)

    def _cut(self, client: ClientFrame) -> None:
        start_ms = self._cutter.milliseconds(self._cutter.bytes_received)
        self._queue(self._cutter.feed(client.audio), client)
        end_ms = self._cutter.milliseconds(self._cutter.bytes_received) - 1
        self._log_client_frame(
            client,
            start_ms=start_ms,
            end_ms=max(start_ms, end_ms),
            dt_frame_split_into_100_ms_frames=now(),
        )

    def _log_client_frame(self, client: ClientFrame, **columns: Any) -> None:
        self._log.offer(
            PRE_SPLIT_AUDIO_FRAME,
            {
                "recording_id": self.id,
                "audio_frame_no": client.number,
                "dt_frame_received": client.received,
                "dt_frame_paired_with_websockets_metadata": client.paired,
                "audio_frame_size_bytes": len(client.audio),
                "audio_frame_encoding": "raw",
                "audio_frame_sha256_hex": sha256_hex(client.audio),
                "websocket_connection_id": client.connection_id,
                "pre_split_audio_frame_duration_in_ms": self._cutter.milliseconds(len(client.audio)),
                **columns,
            },
        )

    # -- frames of 100 ms ---------------------------------------------------------------------------

    def _queue(self, frames: Iterable[Frame], client: ClientFrame | None) -> None:
        """Log frames and queue them for the analysers; the tail belongs to no one frame of the client."""
        for frame in frames:
            self._log.offer(
                AUDIO_FRAME,
                {
                    "recording_id": self.id,
                    "audio_frame_no": frame.number,
                    "start_ms": frame.start_ms,
                    "end_ms": frame.end_ms,
                    **self._switches,
                    "dt_frame_received": client.received if client else None,
                    "dt_frame_paired_with_websockets_metadata": client.paired if client else None,
                    "audio_frame_size_bytes": len(frame.audio),
                    "audio_frame_encoding": "pcm16",
                    "audio_frame_sha256_hex": frame.sha256_hex,
                    "dt_processing_queued_to_start": now(),
                },
            )
            self._analysis.put(frame)

    def _analysed(self, frame: Frame, columns: dict[str, Any]) -> None:
        self._frames_analysed += 1
        if columns:
            self._log.offer(AUDIO_FRAME, {"recording_id": self.id, "audio_frame_no": frame.number, **columns})

    def _analyser_failed(self, name: str, frame: Frame, error: BaseException) -> None:
        self.fail(f"on_frame {name}".strip(), error, error, frame)

    # -- what is worth telling ----------------------------------------------------------------------

    def note(self, name: str, frame_no: int | None = None) -> None:
        """Log something that happened and is no error."""
        self._log.offer(
            STEPS,
            {
                "step_name": name,
                "python_file_name": FILE,
                "recording_id": self.id,
                "frame_no": frame_no,
            },
        )

    def fail(
        self, name: str, error: BaseException, raised: BaseException | None = None, frame: Frame | None = None
    ) -> None:
        """Log what went wrong; with a traceback if it was ``raised``."""
        self._log.offer(
            FUNCTION_ERROR,
            {
                "python_function_name": name,
                "python_file_name": FILE,
                "error_message_text": f"{type(error).__name__}: {error}",
                "traceback_text": "".join(traceback.format_exception(raised)) if raised else None,
                "recording_id": self.id,
                "audio_frame_no": frame.number if frame else None,
                "start_ms": frame.start_ms if frame else None,
                "end_ms": frame.end_ms if frame else None,
            },
        )

    def _log_recording(self, **columns: Any) -> None:
        self._log.offer(RECORDING_CONFIG, {"recording_id": self.id, **columns})


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None
