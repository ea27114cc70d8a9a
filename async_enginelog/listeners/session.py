"""What one client says in the recorder protocol: START, FRAME headers each with its audio, STOP."""

from __future__ import annotations

import asyncio
import json

from ..failures import describe
from ..messages import whole_number
from ..tables import FUNCTION_ERROR, WEBSOCKET_MESSAGE
from .connections import ReceivedMessage
from .recording_log import RECORDER, ClientFrame
from .recordings import Recordings
from .sockets import Socket
from .stream import Stream

__all__ = ["Session"]

# So many recordings on one connection: each takes memory.
MAX_RECORDINGS = 16

# More audio at once, six seconds of it, would make the frames of all others late. The limit of a websockets
# server is the same, unless it is told otherwise; uvicorn's is 16 times that.
MAX_AUDIO_BYTES = 2**20

# How long a client has to close a connection after its last STOP, in seconds.
CLOSE_TIMEOUT = 10.0


class Session:
    """
    Take the messages of one connection, and do what they say.

    Nothing that a client sends ends it but STOP, of its last recording. What can't be understood, or
    doesn't fit, is logged as an error, and it goes on.

    """

    def __init__(self, socket: Socket, recordings: Recordings, sample_bytes: int) -> None:
        self._socket = socket
        self._recordings = recordings
        self._sample_bytes = sample_bytes
        # Recordings that this client feeds, the one that was begun last, and those that have ended.
        self._mine: dict[int, Stream] = {}
        self._newest: int | None = None
        self._ended: set[int] = set()
        # The highest frame that the client was asked for again, of each recording.
        self._asked: dict[int, int] = {}
        # A FRAME header without its audio, so far.
        self._header: ReceivedMessage | None = None
        # After the last STOP, the connection is closed while what still comes is taken and told of.
        self._closing: asyncio.Task[None] | None = None
        self._limit = asyncio.timeout(None)

    async def run(self) -> None:
        """Return when STOP came, and the connection is closed, or when it is gone. Cancelling is safe."""
        try:
            async with self._limit:
                self._recordings.come(self)
                while (data := await self._socket.receive()) is not None:
                    await self._take(data)
                if self._closing is not None:
                    await self._closing
        except TimeoutError:
            if not self._limit.expired():
                raise
        finally:
            self._leave()

    async def _take(self, data: str | bytes) -> None:
        taken = self._socket.log.taken
        if taken is None:
            return
        try:
            if isinstance(data, bytes):
                await self._take_audio(data, taken)
            else:
                await self._take_text(taken)
        except Exception as error:  # of ours: the stream is worth more
            self._fail(describe(error), taken)

    async def _take_text(self, taken: ReceivedMessage) -> None:
        message = taken.message
        if message.problem is not None:
            self._fail(message.problem, taken)
        if message.audio_follows:
            self._miss_audio()
            self._header = taken
        elif message.type == "START":
            await self._start(taken)
        elif message.type == "STOP":
            await self._stop(taken)
        # Others, such as pings, have their row and need no answer.

    # -- START --------------------------------------------------------------------------------------

    async def _start(self, taken: ReceivedMessage) -> None:
        message = taken.message
        if message.recording_id is None:
            self._fail("START without a RECORDING_ID", taken)
            return
        is_running_here = message.recording_id in self._mine
        stream = self._mine.get(message.recording_id) or await self._begin(message.recording_id, taken)
        if stream is None:
            return
        if not stream.recording.fields:
            stream.describe(message.fields)
        elif is_running_here:
            stream.log.note("START came twice")
        await self._ask_again(stream)

    async def _begin(self, id: int, taken: ReceivedMessage, first: int = 1) -> Stream | None:
        if not self._recordings.is_closed and (self._closing is not None or id in self._ended):
            self._fail(f"{taken.message.type} after STOP", taken)
            return None
        if len(self._mine) + len(self._ended) >= MAX_RECORDINGS:
            self._fail(f"more than {MAX_RECORDINGS} recordings on one connection", taken)
            return None
        stream = await self._recordings.begin(id, self, self._connection_id, taken.received, first)
        if stream is None:
            self._fail("the recorder is closed", taken)
            return None
        self._mine[id], self._newest = stream, id
        return stream

    @property
    def _connection_id(self) -> int | None:
        return self._socket.log.id or None

    # -- FRAME --------------------------------------------------------------------------------------

    async def _take_audio(self, audio: bytes, taken: ReceivedMessage) -> None:
        header, self._header = taken.header, None
        if header is None:
            self._fail(f"{len(audio)} bytes without a FRAME header before them: not taken", taken)
            return
        if len(audio) > MAX_AUDIO_BYTES:
            self._fail(f"{len(audio):,} bytes are more than {MAX_AUDIO_BYTES:,}: not taken", header)
            return
        stream = await self._stream_of(header)
        if stream is None:
            return
        stream.take(self._number_of(header, stream), ClientFrame(audio, taken.received, self._connection_id))
        self._check_audio(audio, header, stream.recording.id)
        await self._ask_again(stream)
        # A client that sends faster than the engine analyses is slowed down.
        await stream.room()

    async def _stream_of(self, header: ReceivedMessage) -> Stream | None:
        """Return the recording of a frame; without START it begins with the frame."""
        id = header.message.recording_id
        if id is None:
            id = self._newest
        if id is None:
            self._fail("FRAME without a RECORDING_ID, before START: not taken", header)
            return None
        if id in self._mine:
            return self._mine[id]
        if self._recordings.is_finishing(id) or self._recordings.was_stopped(id):
            self._fail("FRAME after STOP: not taken", header)
            return None
        is_new = not self._recordings.is_running(id)
        number = header.message.frame_no
        stream = await self._begin(id, header, 1 if number is None else number)
        if stream is not None and is_new:
            self._fail("FRAME before START: the recording begins with it", header)
        return stream

    def _check_audio(self, audio: bytes, header: ReceivedMessage, id: int) -> None:
        announced = whole_number(header.message.fields.get("BYTES_LEN"))
        if not audio:
            self._fail("no audio in it", header, id)
        elif len(audio) % self._sample_bytes:
            self._fail(f"{len(audio)} bytes aren't a whole number of samples", header, id)
        if announced is not None and announced != len(audio):
            self._fail(f"BYTES_LEN is {announced}, but {len(audio)} bytes came", header, id)

    def _number_of(self, header: ReceivedMessage, stream: Stream) -> int:
        """Return the number of a client's frame; one that doesn't say it is the next."""
        message = header.message
        number = stream.next_number if message.frame_no is None else message.frame_no
        if message.frame_no is None or message.recording_id is None:
            # The client left it to us: the row of the message is to say it, too.
            self._log_message(header, stream.recording.id, number)
        return number

    async def _ask_again(self, stream: Stream) -> None:
        """Ask for frames that are missing, once on a connection: the client keeps its last ones."""
        id = stream.recording.id
        missing = [number for number in stream.missing if number > self._asked.get(id, -1)]
        if not missing:
            return
        self._asked[id] = missing[-1]
        ack: dict[str, object] = {"MESSAGE_TYPE": "ACK", "MISSING_FRAMES": missing}
        if len(self._mine) > 1:
            ack["RECORDING_ID"] = str(id)
        await self._socket.send(json.dumps(ack))

    def _miss_audio(self) -> None:
        """Log that the audio of a header never came."""
        header, self._header = self._header, None
        if header is not None:
            self._fail("its audio never came", header)

    # -- STOP, and other ends -----------------------------------------------------------------------

    async def _stop(self, taken: ReceivedMessage) -> None:
        id = taken.message.recording_id
        if id is None:
            id = self._newest
        stream = self._mine.get(id) if id is not None else None
        if stream is None and id is not None and self._recordings.is_running(id):
            # All that its client had to say after it lost the connection.
            stream = await self._begin(id, taken)
        if stream is not None:
            stream.stop(taken.received)
            return
        self._fail("STOP of a recording that doesn't run", taken)
        self._close_if_done()

    def recording_ended(self, id: int) -> None:
        """Hear that a recording takes no more audio."""
        self._mine.pop(id, None)
        self._ended.add(id)
        self._close_if_done()

    def recording_moved(self, id: int) -> None:
        """Hear that a recording goes on with another connection."""
        self._mine.pop(id, None)

    def recorder_closed(self) -> None:
        """Hear that no recording will begin any more."""
        self._close_if_done()

    def _close_if_done(self) -> None:
        if not self._mine and self._closing is None:
            self._closing = asyncio.create_task(self._socket.close(), name="close-recorder")
            self._limit.reschedule(asyncio.get_running_loop().time() + CLOSE_TIMEOUT)

    def _leave(self) -> None:
        """The connection is over: let go of recordings that aren't."""
        self._recordings.go(self)
        self._miss_audio()
        for stream in list(self._mine.values()):
            if self._socket.is_lost and stream.stopped is None:
                self._recordings.wait_for_client(stream)
            else:
                stream.owner = None
                why = "connection closed before STOP" if stream.stopped is None else None
                self._recordings.end(stream, why)
        if self._closing is not None:
            self._closing.cancel()

    # -- rows ---------------------------------------------------------------------------------------

    def _log_message(self, message: ReceivedMessage, recording_id: int, frame_no: int) -> None:
        """Fill in what a message didn't say itself."""
        self._socket.log.log.offer(
            WEBSOCKET_MESSAGE,
            {"message_id": message.id, "recording_id": recording_id, "audio_frame_no": frame_no},
        )

    def _fail(self, problem: str, about: ReceivedMessage, recording_id: int | None = None) -> None:
        """Log what is wrong with a message."""
        message = about.message
        self._socket.log.log.offer(
            FUNCTION_ERROR,
            {
                "python_function_name": RECORDER.function,
                "python_file_name": RECORDER.file,
                "error_message_text": f"message {about.id}, {message.type}: {problem}",
                "recording_id": recording_id or message.recording_id,
                "audio_frame_no": message.frame_no,
            },
        )
