"""Clients of a recorder: what they say, and one that says it in memory instead of over a network."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Self

from async_enginelog import EngineLog, Frame, Recording, read_message
from async_enginelog.listeners.connections import ConnectionLog, now
from async_enginelog.listeners.recorder import Recorder
from async_enginelog.peers import TrustedProxies

__all__ = [
    "RECORDING",
    "SOON",
    "Heard",
    "MemoryClient",
    "ack",
    "frame",
    "recording",
    "start",
    "stop",
    "until",
]

RECORDING = 202508290514312002

# Seconds; long enough for any machine, never waited for in full.
SOON = 20.0

# Frames of 10 ms and 16 bytes, small enough to look at.
SMALL: dict[str, Any] = {"frame_ms": 10, "sample_rate": 800, "sample_bytes": 2}


def start(id: Any = RECORDING, **fields: Any) -> str:
    """Return a START, as clients send it."""
    return json.dumps({"MESSAGE_TYPE": "START", "RECORDING_ID": str(id), **fields})


def frame(number: Any, id: Any = RECORDING, **fields: Any) -> str:
    """Return the header of a frame."""
    return json.dumps({"MESSAGE_TYPE": "FRAME", "RECORDING_ID": str(id), "FRAME_NO": str(number), **fields})


def stop(id: Any = RECORDING) -> str:
    """Return a STOP."""
    return json.dumps({"MESSAGE_TYPE": "STOP", "RECORDING_ID": str(id)})


def ack(*missing: int, **fields: Any) -> dict[str, Any]:
    """Return what asks for frames again."""
    return {"MESSAGE_TYPE": "ACK", "MISSING_FRAMES": list(missing), **fields}


async def until(condition: Callable[[], object]) -> None:
    """Return when something is so; fail if that takes too long."""
    async with asyncio.timeout(SOON):
        for turn in itertools.count():
            if condition():
                return
            await asyncio.sleep(0 if turn < 100 else 0.001)


class Heard:
    """An analyser that keeps what it hears; it can be held up."""

    def __init__(self) -> None:
        self.frames: dict[int, list[Frame]] = {}
        self.recordings: list[Recording] = []
        self.count = 0
        self.may_go_on = asyncio.Event()
        self.may_go_on.set()

    async def __call__(self, recording: Recording, frame: Frame) -> int:
        await self.may_go_on.wait()
        if recording not in self.recordings:
            self.recordings.append(recording)
        self.frames.setdefault(recording.id, []).append(frame)
        self.count += 1
        return 3

    def audio(self, id: int = RECORDING) -> bytes:
        """Return all audio of a recording."""
        return b"".join(frame.audio for frame in self.frames.get(id, ()))


class MemoryClient:
    """
    A client and its connection, without a network. Its messages are logged as those of a server are.

    Attributes:
        sent: What the recorder sent to it.
        is_closed: Whether the recorder closed the connection.
        message_ids: Its messages that were received; a header and its audio are one.
        audio_received: How many binary messages were received.

    """

    def __init__(self, log: EngineLog) -> None:
        self.log = ConnectionLog(log, read_message, TrustedProxies(()))
        self.is_lost = False
        self.sent: list[Any] = []
        self.is_closed = False
        self.message_ids: set[int] = set()
        self.audio_received = 0
        # Whether it reads what is sent to it, and answers when the connection is closed.
        self.reads = asyncio.Event()
        self.reads.set()
        self._messages: asyncio.Queue[str | bytes | None] = asyncio.Queue()
        self._is_waited_for = False
        self._task: asyncio.Task[None] | None = None

    def connect(self, recorder: Recorder) -> Self:
        """Let the recorder handle the connection."""
        self._task = asyncio.create_task(recorder._run(self), name="handler")
        return self

    # -- what the client does -----------------------------------------------------------------------

    async def say(self, *messages: str | bytes) -> None:
        """Send messages, and return when the recorder has taken them all, and waits for more."""
        self.say_nowait(*messages)
        await until(lambda: self.is_done or (self._is_waited_for and self._messages.empty()))

    def say_nowait(self, *messages: str | bytes) -> None:
        """Send messages."""
        for message in messages:
            self._messages.put_nowait(message)

    @property
    def is_done(self) -> bool:
        """Whether the recorder is done with the connection."""
        return self._task is not None and self._task.done()

    @property
    def failure(self) -> BaseException | None:
        """What the handler raised, unless it was cancelled."""
        assert self._task is not None
        return None if self._task.cancelled() else self._task.exception()

    @property
    def unheard(self) -> int:
        """How many messages the recorder hasn't taken yet."""
        return self._messages.qsize()

    async def lose(self) -> None:
        """Lose the connection."""
        self.is_lost = True
        await self.leave()

    async def leave(self) -> None:
        """Close the connection, and return when the recorder is done with it."""
        self._messages.put_nowait(None)
        await self.done()

    async def done(self) -> None:
        """Return when the recorder is done with the connection."""
        assert self._task is not None
        async with asyncio.timeout(SOON):
            await self._task

    def cancel(self) -> asyncio.Task[None]:
        """Cancel the handler, as a server does that shuts down; return its task."""
        assert self._task is not None
        self._task.cancel()
        return self._task

    # -- what the recorder does: its side of the connection -----------------------------------------

    async def receive(self) -> str | bytes | None:
        self._is_waited_for = True
        message = await self._messages.get()
        self._is_waited_for = False
        if message is not None:
            is_binary = isinstance(message, bytes)
            arrived = self.log.arrived(self.log.read(message), now(), binary=is_binary)
            self.message_ids.add(arrived.id)
            self.audio_received += is_binary
            self.log.took(arrived)
        return message

    async def send(self, text: str) -> None:
        await self.reads.wait()
        self.sent.append(json.loads(text))

    async def close(self) -> None:
        self.is_closed = True
        await self.reads.wait()
        self._messages.put_nowait(None)


@asynccontextmanager
async def recording(
    path: Path, on_frame: Any = None, **settings: Any
) -> AsyncIterator[tuple[EngineLog, Recorder]]:
    """Open a log and a recorder of small frames; nothing may go wrong unnoticed."""
    troubles: list[Mapping[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: troubles.append(context))
    async with EngineLog(path) as log, Recorder(log, on_frame, **(SMALL | settings)) as recorder:
        yield log, recorder
    assert troubles == []
