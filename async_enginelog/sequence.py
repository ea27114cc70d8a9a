"""Numbered items in, items in order out; those that came early wait. Performs no I/O."""

from __future__ import annotations

from bisect import bisect_right
from typing import Generic, NamedTuple, TypeVar

__all__ = ["Arrival", "Sequence"]

T = TypeVar("T")

# Clients keep so many items to send them again; asking for older ones is in vain.
MAX_HELD = 128

# So many gaps are remembered. An item of a gap that was forgotten counts as one that came before.
MAX_GAPS = 1024

# Below and above any number of 64 bits.
LOWEST = -(2**63)


class Arrival(NamedTuple, Generic[T]):
    """
    What an item's coming leads to.

    Attributes:
        ready: Items that are in turn now, in order.
        missing: Numbers that are found to be missing by it.
        is_held: Whether it waits for those before it.
        is_repeated: Whether an item of this number came before; then it isn't taken.
        is_late: Whether it comes after others have been given out in its place.

    """

    ready: list[T]
    missing: list[int]
    is_held: bool = False
    is_repeated: bool = False
    is_late: bool = False


class Sequence(Generic[T]):
    """
    Put items in the order of their numbers; each is given out exactly once.

    An item that comes early is held until those before it are there, or given up. What was given
    up and comes nevertheless is given out at once: late, but not lost.

    Args:
        first: The number to begin with.

    """

    def __init__(self, first: int = 1) -> None:
        self.next = first
        self._held: dict[int, T] = {}
        # Numbers below `next` that never came: ends of ranges, in order. What lies below the
        # first one never came, either.
        self._gaps: list[tuple[int, int]] = [(LOWEST, first - 1)]

    @property
    def highest(self) -> int:
        """The highest number that came, or that before the first."""
        return max(self._held, default=self.next - 1)

    @property
    def first_gap(self) -> range:
        """The missing numbers before the first held item; empty if nothing is held."""
        return range(self.next, min(self._held, default=self.next))

    @property
    def missing(self) -> list[int]:
        """The numbers for which held items wait."""
        return [number for number in range(self.next, self.highest) if number not in self._held]

    def put(self, number: int, item: T) -> Arrival[T]:
        """Take an item in."""
        if number < self.next:
            return self._put_late(number, item)
        if number in self._held:
            return Arrival([], [], is_repeated=True)
        ready: list[T] = []
        if number - self.next > MAX_HELD:
            # Nobody can send all that again: what is held isn't held for it.
            ready = self.give_up()
            self._skip_to(number)
        highest = self.highest
        self._held[number] = item
        ready += self._in_turn()
        missing = list(range(max(highest + 1, self.next), number))
        return Arrival(ready, missing, is_held=number in self._held)

    def _put_late(self, number: int, item: T) -> Arrival[T]:
        index = bisect_right(self._gaps, (number, 2**64)) - 1
        first, last = self._gaps[index] if index >= 0 else (0, -1)
        if not first <= number <= last:
            return Arrival([], [], is_repeated=True)
        self._gaps[index : index + 1] = [
            gap for gap in ((first, number - 1), (number + 1, last)) if gap[0] <= gap[1]
        ]
        return Arrival([item], [], is_late=True)

    def _in_turn(self) -> list[T]:
        ready = []
        while self.next in self._held:
            ready.append(self._held.pop(self.next))
            self.next += 1
        return ready

    def skip_gap(self) -> list[T]:
        """Wait no longer for the first of what is missing: return what is held up to the next gap."""
        self._skip_to(min(self._held, default=self.next))
        return self._in_turn()

    def give_up(self) -> list[T]:
        """Wait for nothing: return all that is held, in order."""
        ready = []
        while self._held:
            ready += self.skip_gap()
        return ready

    def _skip_to(self, number: int) -> None:
        if number > self.next:
            self._gaps.append((self.next, number - 1))
            del self._gaps[:-MAX_GAPS]
            self.next = number
