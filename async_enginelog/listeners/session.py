"""What one client says in the recorder protocol: START, FRAME headers each with its audio, STOP."""

from __future__ import annotations

import asyncio
import json
from datetime import datetime

from ..tables import FUNCTION_ERROR, WEBSOCKET_MESSAGE
from .connections import ReceivedMessage, now
from .recording import ClientFrame, Recording
from .recordings import Recordings
from .sockets import Socket

__all__ = ["Session"]

# So many recordings on one connection: each takes memory.
MAX_RECORDINGS = 16


class Session:
    """
    Take the messages of one connection, and do what they say.

    Nothing that a client sends ends it but STOP, of its last recording. What can't be understood, or
    doesn't fit, is logged as an error, and it goes on.

    """

    def __init__(self, socket: Socket, recordings: Recordings) -> None:
        self._socket = socket
        self._recordings = recordings
        # Recordings of this connection that haven't ended, the one that was started last, and when
        # STOP came for those that only wait for frames that are missing.
        self._mine: dict[int, Recording] = {}
        self._newest: int | None = None
        self._stopping: dict[int, datetime] = {}
        # Recordings that have ended here.
        self._ended: set[int] = set()
        # A FRAME header without its audio, so far.
        self._header: ReceivedMessage | None = None
        # Until when STOP waits for frames that are missing, in the loop's time.
        self._deadline: float | None = None
        self._is_done = False

    async def run(self) -> None:
        """Return when STOP came, and the connection is closed, or when it is gone. Cancelling is safe."""
        try:
            while not self._is_done:
                await self._take_next()
        finally:
            self._leave()
        await self._socket.close()

    async def _take_next(self) -> None:
        try:
            async with asyncio.timeout_at(self._deadline):
                data = await self._socket.receive()
        except TimeoutError:
            self._end_stopping()
            return
        taken = self._socket.log.taken
        if data is None or taken is None:
            self._is_done = True
            return
        try:
            await self._take(data, taken)
        except Exception as error:  # of ours: the stream is worth more
            self._fail(f"{type(error).__name__}: {error}", taken)

    async def _take(self, data: str | bytes, taken: ReceivedMessage) -> None:
        if isinstance(data, bytes):
            await self._take_audio(data, taken)
            return
        if taken.message.problem is not None:
            self._fail(taken.message.problem, taken)
        match taken.message.type:
            case "START":
                self._start(taken)
            case "FRAME":
                self._miss_audio()
                self._header = taken
            case "STOP":
                self._stop(taken)
            # Others, such as pings, have their row and need no answer.

    # -- START --------------------------------------------------------------------------------------

    def _start(self, taken: ReceivedMessage) -> None:
        id = taken.message.recording_id
        if id is None:
            self._fail("START without a RECORDING_ID of digits", taken)
        elif id in self._mine:
            self._mine[id].note("START came twice")
        elif self._may_begin(id, taken):
            self._begin(id, taken)

    def _may_begin(self, id: int, taken: ReceivedMessage) -> bool:
        if id in self._ended:
            self._fail(f"{taken.message.type} after STOP", taken)
        elif len(self._mine) + len(self._ended) >= MAX_RECORDINGS:
            self._fail(f"more than {MAX_RECORDINGS} recordings on one connection", taken)
        else:
            return True
        return False

    def _begin(self, id: int, taken: ReceivedMessage, first: int = 1) -> Recording:
        message = taken.message
        recording = self._recordings.begin(id, self._socket.log.id, message.fields, taken.received, first)
        self._mine[id], self._newest = recording, id
        return recording

    # -- FRAME --------------------------------------------------------------------------------------

    async def _take_audio(self, audio: bytes, taken: ReceivedMessage) -> None:
        header, self._header = taken.header, None
        if header is None:
            self._fail(f"{len(audio)} bytes without a FRAME header before them: not taken", taken)
            return
        recording = self._recording_of(header)
        if recording is None:
            return
        self._check_audio(audio, header, recording)
        missing = recording.take(self._client_frame(audio, taken, header, recording))
        if missing:
            # The client keeps its last frames, and sends these again.
            await self._socket.send(json.dumps({"MESSAGE_TYPE": "ACK", "MISSING_FRAMES": missing}))
        if recording.id in self._stopping and not recording.missing:
            self._end(recording)
        # A client that sends faster than the engine analyses is slowed down.
        await recording.room()

    def _recording_of(self, header: ReceivedMessage) -> Recording | None:
        """Return the recording of a frame; without START it begins with the frame."""
        id = header.message.recording_id
        if id is None:
            id = self._newest
        if id is None:
            self._fail("FRAME without a RECORDING_ID, before START: its audio isn't taken", header)
            return None
        recording = self._mine.get(id)
        if recording is not None:
            return recording
        if not self._may_begin(id, header):
            return None
        if not self._recordings.is_running(id):
            self._fail("FRAME before START: the recording begins with it", header)
        number = header.message.frame_no
        return self._begin(id, header, 1 if number is None else number)

    def _check_audio(self, audio: bytes, header: ReceivedMessage, recording: Recording) -> None:
        announced = header.message.fields.get("BYTES_LEN")
        if not audio:
            self._fail("no audio in it", header, recording)
        elif len(audio) % recording.sample_bytes:
            self._fail(f"{len(audio)} bytes aren't a whole number of samples", header, recording)
        if isinstance(announced, int) and announced != len(audio):
            self._fail(f"BYTES_LEN is {announced}, but {len(audio)} bytes came", header, recording)

    def _client_frame(
        self, audio: bytes, taken: ReceivedMessage, header: ReceivedMessage, recording: Recording
    ) -> ClientFrame:
        number = header.message.frame_no
        if number is None:
            number = recording.next_number
        if header.message.frame_no is None or header.message.recording_id is None:
            # The client left it to us: the row of the message is to say it, too.
            self._socket.log.log.offer(
                WEBSOCKET_MESSAGE,
                {"message_id": taken.id, "recording_id": recording.id, "audio_frame_no": number},
            )
        return ClientFrame(number, audio, taken.received, now(), self._socket.log.id)

    def _miss_audio(self) -> None:
        """Log that the audio of a header never came."""
        header, self._header = self._header, None
        if header is not None:
            self._fail("its audio never came", header)

    # -- STOP, and other ends -----------------------------------------------------------------------

    def _stop(self, taken: ReceivedMessage) -> None:
        self._miss_audio()
        id = taken.message.recording_id
        if id is None:
            id = self._newest
        recording = self._mine.get(id) if id is not None else None
        if recording is None:
            self._fail("STOP of a recording that doesn't run on this connection", taken)
            self._is_done = not self._mine
        elif id not in self._stopping:
            self._stopping[recording.id] = taken.received
            if recording.missing:
                # The client was asked for them, and may still send them.
                self._deadline = asyncio.get_running_loop().time() + self._recordings.patience
            else:
                self._end(recording)

    def _end_stopping(self) -> None:
        """End recordings for which STOP came, whatever is missing."""
        for id in list(self._stopping):
            self._end(self._mine[id])

    def _end(self, recording: Recording) -> None:
        del self._mine[recording.id]
        self._ended.add(recording.id)
        self._recordings.end(recording, self._stopping.pop(recording.id))
        if not self._stopping:
            self._deadline = None
        self._is_done = not self._mine

    def _leave(self) -> None:
        """The connection is over: let go of recordings that aren't."""
        self._miss_audio()
        self._end_stopping()
        for recording in self._mine.values():
            if recording.connection_id != self._socket.log.id:
                continue  # its client came back on another connection
            if self._socket.is_lost:
                self._recordings.wait_for_client(recording)
            else:
                recording.note("connection closed before STOP")
                self._recordings.end(recording, None)

    def _fail(self, problem: str, about: ReceivedMessage, recording: Recording | None = None) -> None:
        """Log what is wrong with a message."""
        message = about.message
        self._socket.log.log.offer(
            FUNCTION_ERROR,
            {
                "python_function_name": "Recorder",
                "error_message_text": f"message {about.id}, {message.type}: {problem}",
                "recording_id": recording.id if recording else message.recording_id,
                "audio_frame_no": message.frame_no,
            },
        )
