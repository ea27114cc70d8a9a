"""Messages whose frames come one by one: what of them is logged, and when. Knows no server."""

from __future__ import annotations

from collections import deque
from datetime import datetime
from typing import TypeAlias

from ..messages import MAX_READ_BYTES, Message
from .connections import ConnectionLog, ReceivedMessage, now

__all__ = ["IncomingMessages"]

Bytes: TypeAlias = bytes | bytearray | memoryview


class IncomingMessages:
    """
    Log the messages of a connection that tells of its bytes and frames. Nothing here waits.

    A message is received when its first byte comes, queued when its last frame has come, and its
    processing starts when the engine takes it, whole or, of one that is streamed, the first frame.

    """

    def __init__(self, log: ConnectionLog) -> None:
        self._log = log
        # The message of which not all frames have come.
        self._partial: _Partial | None = None
        # Messages that are complete and not yet taken, in order.
        self._waiting: deque[ReceivedMessage] = deque()
        # The message that never will be complete; a part of it may be taken all the same.
        self._broken_off: ReceivedMessage | None = None
        # When the newest bytes came, and when the first byte of the frame that comes next.
        self._now = self._since = now()
        self._is_midway = False

    # -- what the client sends ----------------------------------------------------------------------

    def bytes_come(self) -> None:
        """Note the time: of what comes now, or began before and isn't complete."""
        self._now = now()
        if not self._is_midway:
            self._since = self._now

    def bytes_came(self, *, is_midway: bool) -> None:
        """Note that all of them are taken in, and whether they ended within a frame."""
        self._is_midway = is_midway
        self._log.settle()

    def control_came(self) -> None:
        """Note a frame that is no message."""
        self._since = self._now

    def frame_came(self, data: Bytes, *, is_text: bool, is_last: bool) -> None:
        """Take in a frame of a message, the first or a further one; log the message if it is the last."""
        partial = self._partial or _Partial(is_text, self._since)
        self._since = self._now
        partial.add(data)
        self._partial = None if is_last else partial
        if is_last:
            content = partial.content()
            message = partial.unread() if content is None else self._log.read(content)
            arrived = self._log.arrived(message, partial.received, binary=not partial.is_text)
            if partial.started is None:
                self._waiting.append(arrived)
            else:
                self._log.took(arrived, partial.started)

    def refused(self) -> None:
        """Log that a message, or the rest of it, is too big to be let in."""
        self._break_off("TOO_BIG", self._partial or _Partial(True, self._since))

    def ended(self) -> None:
        """Log the message that isn't complete; no more comes."""
        if self._partial is not None or self._is_midway:
            self._break_off("INCOMPLETE", self._partial or _Partial(True, self._since))

    def _break_off(self, kind: str, partial: _Partial) -> None:
        self._partial, self._is_midway = None, False
        arrived = self._log.arrived(
            Message(kind), partial.received, binary=not partial.is_text, is_complete=False
        )
        self._broken_off = arrived
        if partial.started is not None:
            self._log.took(arrived, partial.started)

    # -- what the engine does -----------------------------------------------------------------------

    def took_next(self) -> None:
        """Log that the engine took the next message, whole."""
        if self._waiting:
            self._log.took(self._waiting.popleft())

    def began_next(self) -> None:
        """Log that the engine took the first frame of the next message; the others may not be there."""
        if self._waiting:
            self._log.took(self._waiting.popleft())
        elif self._partial is not None:
            self._partial.started = now()
        elif self._broken_off is not None:
            self._log.took(self._broken_off)

    def keep_last(self, count: int) -> None:
        """Forget all but so many messages; the engine can't take the others any more."""
        while len(self._waiting) > count:
            self._waiting.popleft()


class _Partial:
    """A message as its frames come."""

    __slots__ = ("_parts", "_size", "is_text", "received", "started")

    def __init__(self, is_text: bool, received: datetime) -> None:
        self.is_text = is_text
        self.received = received
        # When the engine took its first frame, if it did before the last had come.
        self.started: datetime | None = None
        self._parts: list[Bytes] = []
        self._size = 0

    def add(self, data: Bytes) -> None:
        """Take a frame in. Of a long message nothing is kept: it isn't read."""
        self._size += len(data)
        if self._size > MAX_READ_BYTES:
            self._parts.clear()
        elif data:
            self._parts.append(data)

    def content(self) -> str | bytes | None:
        """Return the whole message; :obj:`None` if it is long, or text that isn't UTF-8."""
        if self._size > MAX_READ_BYTES:
            return None
        data = b"".join(self._parts)
        try:
            return data.decode() if self.is_text else data
        except UnicodeDecodeError:
            return None

    def unread(self) -> Message:
        """Tell of a message that can't be read what it is nevertheless."""
        if self._size <= MAX_READ_BYTES:
            return Message("MALFORMED", problem="its text isn't UTF-8")
        return Message("TEXT" if self.is_text else "BINARY")
