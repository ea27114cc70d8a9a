"""One connection of a recorder: START, then FRAME headers each followed by its audio, then STOP."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from functions import About, log_error, logged, now
from messages import Malformed, Message, read_message
from recording import Recording
from websockets.asyncio.server import ServerConnection

from async_enginelog import EngineLog

FILE = "stream.py"


class Header(NamedTuple):
    """A FRAME message that waits for its audio."""

    message_id: int
    message: Message


class Stream:
    """
    Take the messages of one connection, and log each.

    Nothing that a client sends stops the stream: what can't be understood is logged as an error.

    """

    def __init__(self, log: EngineLog, websocket: ServerConnection, connection_id: int) -> None:
        self.log = log
        self.websocket = websocket
        self.connection_id = connection_id
        self.recording: Recording | None = None
        self.header: Header | None = None
        self.stopped = False

    async def run(self) -> None:
        """Return when STOP came or the connection is gone."""
        try:
            async for data in self.websocket:
                await self.receive(data, now())
                if self.stopped:
                    break
        finally:
            await self.finish()

    async def finish(self) -> None:
        """Finish the recording, however the connection came to its end."""
        recording = self.recording
        if recording is None:
            return
        if not self.stopped:
            # The phone is gone: what has come is analysed, but there is no end to log.
            await self.log.log_steps(step_name="connection lost before STOP", recording_id=recording.id)
            await recording.finish_analysis()
            return
        # The client waits for this.
        await self.websocket.close()
        await recording.purge()

    async def receive(self, data: str | bytes, received: datetime) -> None:
        """Take one message; never fails."""
        about = About(self.recording.id if self.recording else None, connection_id=self.connection_id)
        try:
            if isinstance(data, bytes):
                await self.receive_audio(data, received)
            else:
                await self.receive_message(read_message(data), received)
        except Malformed as error:
            await self.log_message(Message("MALFORMED"), received)
            await log_error(self.log, error, "Stream.receive", FILE, about)
        except Exception as error:
            await log_error(self.log, error, "Stream.receive", FILE, about)

    async def receive_message(self, message: Message, received: datetime) -> None:
        """Do what a text message says."""
        match message.type:
            case "START":
                await self.start(message, received)
            case "FRAME":
                # The row of the message is there from now on, even if its audio never comes.
                message_id = await self.log_message(message, received, waits=True)
                self.header = Header(message_id, message)
            case "STOP":
                await self.stop(message, received)
            case _:
                # A ping, or something that only a newer client knows.
                await self.log_message(message, received)

    async def start(self, message: Message, received: datetime) -> None:
        """Begin the recording."""
        if message.recording_id is None:
            raise Malformed("START without a RECORDING_ID of digits")
        await self.log_message(message, received)
        if self.recording is None:
            await self.begin(message)
        else:
            await self.log.log_steps(step_name="START came twice", recording_id=message.recording_id)

    async def begin(self, message: Message) -> Recording:
        self.recording = Recording(self.log, self.connection_id, message)
        await self.recording.start()
        return self.recording

    async def receive_audio(self, audio: bytes, received: datetime) -> None:
        """Pair audio with the header that came before it."""
        header, self.header = self.header, None
        if header is None or (self.recording is None and header.message.recording_id is None):
            # Nobody can tell to what it belongs.
            await self.log_message(Message("ORPHAN_AUDIO"), received)
            return
        message = header.message
        queued = now()
        # A client that connects again may go on without another START.
        recording = self.recording or await self.begin(message)
        number = message.frame_no
        if number is None:
            number = max(recording.frame_numbers, default=0) + 1
        # The same message_id as that of the header: this fills columns of its row in.
        await self.log.log_websocket_message(
            message_id=header.message_id,
            recording_id=recording.id,
            audio_frame_no=number,
            dt_message_process_queued_to_start=queued,
            dt_message_process_started=now(),
        )
        await recording.take(number, audio, received)

    async def stop(self, message: Message, received: datetime) -> None:
        """End the recording; :meth:`run` then closes the connection."""
        await self.log_message(message, received)
        self.stopped = True
        if self.recording is not None:
            async with logged(self.log, "Stream.stop", FILE, About(self.recording.id)):
                await self.recording.stop()

    async def log_message(self, message: Message, received: datetime, *, waits: bool = False) -> int:
        """Log a message and return its id; one that ``waits`` for its audio isn't processed yet."""
        message_id = self.log.next_message_id()
        recording_id = message.recording_id
        if recording_id is None and self.recording is not None:
            recording_id = self.recording.id
        await self.log.log_websocket_message(
            message_id=message_id,
            websocket_connection_id=self.connection_id,
            recording_id=recording_id,
            message_type=message.type,
            audio_frame_no=message.frame_no,
            dt_message_received=received,
            dt_message_process_queued_to_start=None if waits else now(),
            dt_message_process_started=None if waits else now(),
        )
        return message_id
