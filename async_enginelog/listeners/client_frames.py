"""The frames of one client, in order: each taken once, missing ones waited for, but not for ever."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import NamedTuple

from ..sequence import Outcome, Reorderer
from .recording_log import ClientFrame, RecordingLog

__all__ = ["Arrived", "ClientFrames"]

# A number so far ahead of the last one, two days of audio, is none.
MAX_JUMP = 1_000_000

# So many frames are recognised when they come again. Clients keep 128 to send them again.
MAX_RECOGNISED = 256

# So much audio waits for frames that are missing. As clients send them, 128 frames are 2 MiB.
MAX_HELD_BYTES = 8 * 2**20


class Arrived(NamedTuple):
    """
    What is known of the frames that came.

    Attributes:
        frames: Their numbers, and those that wait for others.
        recognised: The newest ones: the number that the client gave them, and their SHA-256.

    """

    frames: Reorderer[ClientFrame]
    recognised: dict[tuple[int, str], None]


class ClientFrames:
    """
    Give out the frames of a client in the order of their numbers.

    Every frame is given out once, unless it is the same as one that came before. None waits longer than
    ``patience`` for those before it, while its client is there to send them. A frame whose number can't be
    right loses it, and is given out at once.

    Args:
        log: The rows of the recording.
        patience: How long a frame waits for others, in seconds.
        first: The number of the first frame.
        take: Called with each frame that is in turn.
        complete: Called when no frame waits for others.
        arrived: What came before, if this goes on with it; ``first`` is of no interest then.

    Attributes:
        arrived: What came so far.

    """

    def __init__(
        self,
        log: RecordingLog,
        patience: float,
        first: int,
        take: Callable[[ClientFrame], None],
        complete: Callable[[], None],
        arrived: Arrived | None = None,
    ) -> None:
        self._log = log
        self._patience = patience
        self._take, self._complete = take, complete
        self._loop = asyncio.get_running_loop()
        self.arrived = arrived or Arrived(Reorderer(first if 0 <= first <= MAX_JUMP else 1), {})
        self._frames, self._recognised = self.arrived
        # Set while a frame waits for others and the client is there.
        self._timer: asyncio.TimerHandle | None = None
        # Since when the client is there, in the time of the loop; None while it is away.
        self._attended_since: float | None = None

    @property
    def highest(self) -> int:
        """The highest number so far."""
        return self._frames.highest

    @property
    def missing(self) -> Sequence[int]:
        """The numbers for which others wait."""
        return self._frames.missing

    def attend(self) -> None:
        """Hear that the client is there, or there again: patience begins anew."""
        self._attended_since = self._loop.time()
        self._watch()

    def leave(self) -> None:
        """Hear that the client is away: what is missing can't come."""
        self._attended_since = None
        self._stop_timer()

    def put(self, number: int, frame: ClientFrame) -> None:
        """Take a frame in, of this number as the client has it."""
        if (number, frame.sha256_hex) in self._recognised:
            # A client that isn't sure sends a frame again. It must not be heard twice.
            self._log.note("frame came twice, not cut again", number)
            return
        self._remember(number, frame)
        doubt = self._doubt(number)
        if doubt is None:
            frame.number = number
            self._put(number, frame)
        else:
            # Its audio is heard, whatever it says; it takes no other frame's place.
            error = ValueError(f"client frame {number} {doubt}: cut in where it came")
            self._log.fail(error, frame_no=number)
            self._take(frame)

    def _put(self, number: int, frame: ClientFrame) -> None:
        outcome = self._frames.put(number, frame)
        if outcome.is_late:
            self._log.note("frame came too late for its place, cut in where it came", number)
        if outcome.is_held:
            self._log.client_frame(frame)
        self._give_out(outcome)
        if sum(len(held.audio) for held in self._frames.held.values()) > MAX_HELD_BYTES:
            self.give_up()
        self._watch()

    def give_up(self) -> None:
        """Wait for nothing any more: give out all that is held."""
        self._give_out(self._frames.give_up_before(self.highest))

    def _remember(self, number: int, frame: ClientFrame) -> None:
        self._recognised[number, frame.sha256_hex] = None
        if len(self._recognised) > MAX_RECOGNISED:
            del self._recognised[next(iter(self._recognised))]

    def _doubt(self, number: int) -> str | None:
        """Tell why a number can't be right."""
        if not 0 <= number <= self.highest + MAX_JUMP:
            return "has an absurd number"
        if self._frames.has_come(number):
            return "came before, with other audio or long ago"
        return None

    def _give_out(self, outcome: Outcome[ClientFrame]) -> None:
        if outcome.lost:
            gaps = ", ".join(
                f"{gap[0]} to {gap[-1]}" if len(gap) > 1 else f"{gap[0]}" for gap in outcome.lost
            )
            self._log.fail(LookupError(f"client frame {gaps} never came; it goes on without"))
        for frame in outcome.ready:
            self._take(frame)

    def _watch(self) -> None:
        """See to it that no frame waits longer than is right."""
        self._stop_timer()
        if not self._frames.held:
            self._complete()
        elif self._attended_since is not None:
            number, oldest = next(iter(self._frames.held.items()))
            when = max(oldest.arrived, self._attended_since) + self._patience
            self._timer = self._loop.call_at(when, self._lose_patience, number)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _lose_patience(self, number: int) -> None:
        self._give_out(self._frames.give_up_before(number))
        self._watch()
