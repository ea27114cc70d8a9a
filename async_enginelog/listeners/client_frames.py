"""The frames of one client, in order: each taken once, missing ones waited for, but not for ever."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from ..sequence import Outcome, Reorderer
from .recording_log import ClientFrame, RecordingLog

__all__ = ["ClientFrames"]

# A number so far ahead of the last one, two days of audio, is none.
MAX_JUMP = 1_000_000

# So many frames are recognised when they come again. Clients keep 128 to send them again.
MAX_RECOGNISED = 256

# So much audio waits for frames that are missing. As clients send them, 128 frames are 2 MiB.
MAX_HELD_BYTES = 8 * 2**20


class ClientFrames:
    """
    Give out the frames of a client in the order of their numbers.

    Every frame is given out once, unless it is the same as one that came before. None waits longer than
    ``patience`` for those before it, while its client is there to send them.

    Args:
        log: The rows of the recording.
        patience: How long a frame waits for others, in seconds.
        first: The number of the first frame.
        take: Called with each frame that is in turn.
        complete: Called when no frame waits for others.

    """

    def __init__(
        self,
        log: RecordingLog,
        patience: float,
        first: int,
        take: Callable[[ClientFrame], None],
        complete: Callable[[], None],
    ) -> None:
        self._log = log
        self._patience = patience
        self._take, self._complete = take, complete
        self._loop = asyncio.get_running_loop()
        self._frames: Reorderer[ClientFrame] = Reorderer(first if 0 <= first <= MAX_JUMP else 1)
        # SHA-256 of the newest frames, by the number that the client gave them.
        self._recognised: dict[int, str] = {}
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

    def put(self, frame: ClientFrame) -> None:
        """Take a frame in."""
        if self._recognised.get(frame.number) == frame.sha256_hex:
            # A client that isn't sure sends a frame again. It must not be heard twice.
            self._log.note("frame came twice, not cut again", frame.number)
            return
        self._recognise(frame)
        self._give_number(frame)
        outcome = self._frames.put(frame.number, frame)
        if outcome.is_late:
            self._log.note("frame came too late for its place, cut in where it came", frame.number)
        if outcome.is_held:
            self._log.client_frame(frame)
        self._give_out(outcome)
        if sum(len(held.audio) for held in self._frames.held) > MAX_HELD_BYTES:
            self.give_up()
        self._watch()

    def give_up(self) -> None:
        """Wait for nothing any more: give out all that is held."""
        self._give_out(self._frames.give_up_before(self.highest))

    def _recognise(self, frame: ClientFrame) -> None:
        self._recognised.pop(frame.number, None)
        self._recognised[frame.number] = frame.sha256_hex
        if len(self._recognised) > MAX_RECOGNISED:
            del self._recognised[next(iter(self._recognised))]

    def _give_number(self, frame: ClientFrame) -> None:
        """Make a frame whose number can't be right the next one: its audio is heard, whatever it says."""
        if not 0 <= frame.number <= self.highest + MAX_JUMP:
            why = "has an absurd number"
        elif self._frames.has_come(frame.number):
            why = "came before, with other audio or long ago"
        else:
            return
        said, frame.number = frame.number, self.highest + 1
        error = ValueError(f"client frame {said} {why}; it is taken as {frame.number}")
        self._log.fail(error, frame_no=frame.number)

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
        oldest = next(iter(self._frames.held), None)
        if oldest is None:
            self._complete()
        elif self._attended_since is not None:
            when = max(oldest.arrived, self._attended_since) + self._patience
            self._timer = self._loop.call_at(when, self._lose_patience, oldest.number)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _lose_patience(self, number: int) -> None:
        self._give_out(self._frames.give_up_before(number))
        self._watch()
