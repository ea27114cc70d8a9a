"""One recording, from START to STOP: its audio is cut into frames of 100 ms, analysed and logged."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from hashlib import sha256

from functions import About, logged, now
from messages import Message
from volume import decode, volume_10_ms

from async_enginelog import EngineLog, Frame, FrameCutter

FILE = "recording.py"


def milliseconds(size_bytes: int) -> int:
    """Return how long so many bytes of audio last: 88.2 of them a millisecond."""
    return size_bytes * 10 // 882


class Recording:
    """
    What the engine knows of a recording while it runs.

    Audio is taken in as fast as it comes; a task of its own analyses it, so that an
    analyser that takes long never makes the next message wait.

    """

    def __init__(self, log: EngineLog, connection_id: int, message: Message) -> None:
        self.log = log
        self.id = message.recording_id
        self.connection_id = connection_id
        self.file_name = message.file_name
        self.mode = message.mode or "Play"

        self.cutter = FrameCutter()
        self.frame_numbers: set[int] = set()
        # The result of the analysis, by 100 ms frame; purged after STOP.
        self.volumes: dict[int, list[float]] = {}

        # Frames to analyse; None ends the task.
        self._queue: asyncio.Queue[Frame | None] = asyncio.Queue()
        self._analyser: asyncio.Task[None] | None = None

    def _logged(self, function: str, frame_no: int | None = None) -> AbstractAsyncContextManager[None]:
        about = About(self.id, frame_no, self.connection_id)
        return logged(self.log, f"Recording.{function}", FILE, about)

    async def start(self) -> None:
        """Begin: the row of the recording comes to be."""
        started = now()
        async with self._logged("start"):
            self._analyser = asyncio.create_task(self._analyse_frames(), name=f"analyser-{self.id}")
            await self.log.log_recording_config(
                recording_id=self.id,
                dt_recording_start=started,
                compose_play_or_practice=self.mode,
                audio_stream_file_name=self.file_name,
                compose_yn_run_fft=False,
                websocket_connection_id=self.connection_id,
                dt_process_websocket_start_message_done=now(),
            )

    async def take(self, number: int, audio: bytes, received: datetime) -> None:
        """Take a frame of the client, which is as long as it pleases; cut it into those of 100 ms."""
        if number in self.frame_numbers:
            # A client that isn't sure sends a frame again. It must not be heard twice.
            await self._step("frame came twice, not cut again", number)
            return
        self.frame_numbers.add(number)
        paired = now()
        async with self._logged("take", number):
            before = self.cutter.bytes_received
            await self._queue_frames(self.cutter.feed(audio), received)
            await self.log.log_pre_split_audio_frame(
                recording_id=self.id,
                audio_frame_no=number,
                start_ms=milliseconds(before),
                end_ms=milliseconds(before + len(audio)) - 1,
                dt_frame_received=received,
                dt_frame_paired_with_websockets_metadata=paired,
                audio_frame_size_bytes=len(audio),
                audio_frame_encoding="raw",
                audio_frame_sha256_hex=sha256(audio).hexdigest(),
                websocket_connection_id=self.connection_id,
                pre_split_audio_frame_duration_in_ms=milliseconds(len(audio)),
                dt_frame_split_into_100_ms_frames=now(),
            )

    async def stop(self) -> None:
        """End: the tail becomes the last frame; return when all is analysed."""
        ended = now()
        async with self._logged("stop"):
            tail = self.cutter.flush()
            if tail is not None:
                await self._step("tail cut", tail.number)
                await self._queue_frames([tail], ended)
            await self.finish_analysis()
            await self.log.log_recording_config(
                recording_id=self.id,
                dt_recording_end=ended,
                dt_recording_data_queued_for_purging=now(),
                max_pre_split_audio_frame_no_split=max(self.frame_numbers, default=0),
                total_bytes_received=self.cutter.bytes_received,
                total_split_100_ms_frames_produced=self.cutter.frames_cut,
                split_100_ms_frame_counter=len(self.volumes),
                last_split_100_ms_frame_time=now() if self.volumes else None,
            )

    async def finish_analysis(self) -> None:
        """Return when all that is queued is analysed; nothing more will be."""
        if self._analyser is not None:
            self._queue.put_nowait(None)
            await self._analyser
            self._analyser = None

    async def purge(self) -> None:
        """Give the memory back; an engine would also delete files here."""
        self.volumes.clear()
        await self.log.log_recording_config(recording_id=self.id, dt_recording_data_purged=now())

    async def _step(self, name: str, frame_no: int) -> None:
        await self.log.log_steps(
            step_name=name, python_file_name=FILE, recording_id=self.id, frame_no=frame_no
        )

    # -- frames of 100 ms ---------------------------------------------------------------------------

    async def _queue_frames(self, frames: Iterable[Frame], received: datetime) -> None:
        for frame in frames:
            self._queue.put_nowait(frame)
            await self.log.log_audio_frame_metadata(
                recording_id=self.id,
                audio_frame_no=frame.number,
                start_ms=frame.start_ms,
                end_ms=frame.end_ms,
                dt_frame_received=received,
                audio_frame_size_bytes=len(frame.audio),
                audio_frame_encoding="pcm16",
                audio_frame_sha256_hex=frame.sha256_hex,
                dt_processing_queued_to_start=now(),
            )

    async def _analyse_frames(self) -> None:
        while (frame := await self._queue.get()) is not None:
            try:
                async with self._logged("_analyse", frame.number):
                    await self._analyse(frame)
            except Exception:  # noqa: S110  # it is logged, with its traceback; the next frame may go well
                pass
            # Neither a full queue nor the log makes this task wait: let the others have their turn.
            await asyncio.sleep(0)

    async def _analyse(self, frame: Frame) -> None:
        # A third of a millisecond. What takes long belongs in an executor, off the event loop.
        started = now()
        samples = decode(frame.audio)
        decoded = now()
        self.volumes[frame.number] = volume_10_ms(samples)
        ended = now()
        # The same recording and number as before: this fills columns of that row in.
        await self.log.log_audio_frame_metadata(
            recording_id=self.id,
            audio_frame_no=frame.number,
            dt_processing_start=started,
            dt_frame_decoded_from_bytes_into_audio_samples=decoded,
            dt_start_volume_10_ms=decoded,
            dt_end_volume_10_ms=ended,
            volume_10_ms_record_cnt=len(self.volumes[frame.number]),
            dt_processing_end=ended,
        )
