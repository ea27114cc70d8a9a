"""The rows of one recording: its own, those of its frames, and of what went wrong."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from datetime import datetime
from typing import Any

from ..context import Bound
from ..enginelog import EngineLog
from ..failures import describe, log_failure
from ..framing import Frame, sha256_hex
from ..places import Place
from ..tables import AUDIO_FRAME, PRE_SPLIT_AUDIO_FRAME, RECORDING_CONFIG, STEPS
from .connections import now
from .settings import Settings

__all__ = ["ClientFrame", "RecordingLog"]

# Where what goes wrong is met that isn't of the engine's own functions.
RECORDER = Place("Recorder", "recorder.py")

# The analysers that have a switch in the table of frames.
SWITCHES = tuple(column for column in AUDIO_FRAME.columns if column.startswith("yn_run_"))


class ClientFrame:
    """
    A frame as the client cut it.

    Attributes:
        number: Its FRAME_NO; :obj:`None` if it has none of its own.
        audio: PCM, as much as it pleases the client.
        received: When its audio was there.
        paired: When it was taken, together with its header.
        connection_id: On which connection it came.
        arrived: When it was taken, in the time of the loop.
        sha256_hex: The SHA-256 of its audio.

    """

    __slots__ = ("arrived", "audio", "connection_id", "number", "paired", "received", "sha256_hex")

    def __init__(self, audio: bytes, received: datetime, connection_id: int | None) -> None:
        self.number: int | None = None
        self.audio = audio
        self.received = received
        self.paired = now()
        self.connection_id = connection_id
        self.arrived = asyncio.get_running_loop().time()
        self.sha256_hex = sha256_hex(audio)


class RecordingLog:
    """
    Log a recording. Nothing here waits or raises.

    Args:
        log: Where to.
        recording_id: Its RECORDING_ID.
        settings: How it is cut.
        analysers: The names of those who analyse its frames.

    """

    def __init__(
        self, log: EngineLog, recording_id: int, settings: Settings, analysers: Collection[str]
    ) -> None:
        self._log = log
        self._id = recording_id
        self._encoding = settings.encoding
        self._milliseconds = settings.cutter().milliseconds
        # "Y" and "N" rather than bool, which the log would have to look at more closely.
        self._switches = {
            column: "Y" if column.removeprefix("yn_run_") in analysers else "N" for column in SWITCHES
        }

    @property
    def runs_fft(self) -> str:
        """Whether one of the analysers is the FFT, ``"Y"`` or ``"N"``."""
        return self._switches["yn_run_fft"]

    def recording(self, **columns: Any) -> None:
        """Log columns of the recording itself."""
        self._log.offer(RECORDING_CONFIG, {"recording_id": self._id, **columns})

    def client_frame(self, frame: ClientFrame, **columns: Any) -> None:
        """Log a frame of the client, and what became of it."""
        self._log.offer(
            PRE_SPLIT_AUDIO_FRAME,
            {
                "recording_id": self._id,
                "audio_frame_no": frame.number,
                "dt_frame_received": frame.received,
                "dt_frame_paired_with_websockets_metadata": frame.paired,
                "audio_frame_size_bytes": len(frame.audio),
                "audio_frame_encoding": "raw",
                "audio_frame_sha256_hex": frame.sha256_hex,
                "websocket_connection_id": frame.connection_id,
                "pre_split_audio_frame_duration_in_ms": self._milliseconds(len(frame.audio)),
                **columns,
            },
        )

    def frame(self, frame: Frame, client: ClientFrame | None) -> None:
        """Log a frame of 100 ms that is queued for the analysers, and when the last of its audio came."""
        self._log.offer(
            AUDIO_FRAME,
            {
                "recording_id": self._id,
                "audio_frame_no": frame.number,
                "start_ms": frame.start_ms,
                "end_ms": frame.end_ms,
                **self._switches,
                "dt_frame_received": client.received if client else None,
                "dt_frame_paired_with_websockets_metadata": client.paired if client else None,
                "audio_frame_size_bytes": len(frame.audio),
                "audio_frame_encoding": self._encoding,
                "audio_frame_sha256_hex": frame.sha256_hex,
                "dt_processing_queued_to_start": now(),
            },
        )

    def analysed(self, frame: Frame, columns: dict[str, Any]) -> None:
        """Log what became of the analysis of a frame."""
        if columns:
            self._log.offer(
                AUDIO_FRAME, {"recording_id": self._id, "audio_frame_no": frame.number, **columns}
            )

    def note(self, step: str, frame_no: int | None = None) -> None:
        """Log something that happened and is no error."""
        self._log.offer(
            STEPS,
            {
                "step_name": step,
                "python_function_name": RECORDER.function,
                "python_file_name": RECORDER.file,
                "recording_id": self._id,
                "frame_no": frame_no,
            },
        )

    def fail(self, error: BaseException, place: Place = RECORDER, frame_no: int | None = None) -> None:
        """Log what went wrong; an exception that a logged function told of already has its row."""
        if isinstance(error, asyncio.CancelledError | GeneratorExit | StopIteration | StopAsyncIteration):
            # Of a function of the engine, these are failures as others are.
            error, cause = RuntimeError(f"it raised {describe(error)}"), error
            error.__cause__ = cause
        about = Bound(recording_id=self._id, frame_no=frame_no)
        try:
            log_failure(self._log, error, place, about)
        except Exception as trouble:
            self._log.tell("offer", f"an error of recording {self._id} isn't logged: {describe(trouble)}")
