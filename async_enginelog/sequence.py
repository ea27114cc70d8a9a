"""Numbered items in, items in order out; those that came early wait. Performs no I/O."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from operator import itemgetter
from typing import Generic, NamedTuple, TypeVar

__all__ = ["MAX_HELD", "Outcome", "Reorderer"]

T = TypeVar("T")

# Clients keep so many items to send them again; asking for older ones is in vain.
MAX_HELD = 128

# So many gaps are remembered. An item of a gap that was forgotten counts as one that came before.
MAX_GAPS = 1024

# Below any number of 64 bits.
LOWEST = -(2**63)


class Outcome(NamedTuple, Generic[T]):
    """
    What the coming of an item leads to, or that some are given up.

    Attributes:
        ready: Items that are in turn now, in order.
        lost: Numbers that are waited for no longer.
        is_held: Whether the item waits for those before it.
        is_late: Whether it comes after others have been given out in its place.

    """

    ready: list[T]
    lost: list[range]
    is_held: bool = False
    is_late: bool = False


class Reorderer(Generic[T]):
    """
    Put items in the order of their numbers; each is given out exactly once.

    An item that comes early is held until those before it are there, or given up. What was given
    up and comes nevertheless is given out at once: late, but not lost. What is more than 128
    behind the newest item is given up by itself, so that no more than 128 are held.

    Args:
        first: The number to begin with.

    """

    def __init__(self, first: int = 1) -> None:
        self.next = first
        # In the order in which they came.
        self._held: dict[int, T] = {}
        # Numbers below `next` that never came: first and last of each range, in order.
        self._gaps: list[tuple[int, int]] = [(LOWEST, first - 1)]

    @property
    def highest(self) -> int:
        """The highest number that came, or that before the first."""
        return max(self._held, default=self.next - 1)

    @property
    def missing(self) -> list[int]:
        """The numbers for which held items wait."""
        return [number for number in range(self.next, self.highest) if number not in self._held]

    @property
    def held(self) -> Mapping[int, T]:
        """The items that wait for others, by number, in the order in which they came."""
        return self._held

    def has_come(self, number: int) -> bool:
        """Tell whether an item of this number came; its gap may also be forgotten."""
        if number >= self.next:
            return number in self._held
        index = self._gap_at(number)
        return index < 0 or number > self._gaps[index][1]

    def _gap_at(self, number: int) -> int:
        """Return the index of the last gap that doesn't begin behind a number."""
        return bisect_right(self._gaps, number, key=itemgetter(0)) - 1

    def put(self, number: int, item: T) -> Outcome[T]:
        """
        Take an item in.

        Raises:
            ValueError: If one of this number came before.

        """
        if self.has_come(number):
            raise ValueError(f"item {number} came before")
        if number < self.next:
            self._forget_missing(number)
            return Outcome([item], [], is_late=True)
        given_up = self.give_up_before(number - MAX_HELD)
        self._held[number] = item
        ready = [*given_up.ready, *self._in_turn()]
        return Outcome(ready, given_up.lost, is_held=number in self._held)

    def give_up_before(self, number: int) -> Outcome[T]:
        """Wait no longer for anything before a number."""
        ready: list[T] = []
        lost: list[range] = []
        while self.next < number:
            # The next one never came: what is in turn is never held.
            end = min(number, *self._held) if self._held else number
            lost.append(range(self.next, end))
            self._gaps.append((self.next, end - 1))
            self.next = end
            ready += self._in_turn()
        del self._gaps[:-MAX_GAPS]
        return Outcome(ready, lost)

    def _in_turn(self) -> list[T]:
        ready = []
        while self.next in self._held:
            ready.append(self._held.pop(self.next))
            self.next += 1
        return ready

    def _forget_missing(self, number: int) -> None:
        """Take a number out of its gap: what remains of it are two, one or none."""
        first, last = self._gaps.pop(index := self._gap_at(number))
        rest = ((first, number - 1), (number + 1, last))
        self._gaps[index:index] = [gap for gap in rest if gap[0] <= gap[1]]
        del self._gaps[:-MAX_GAPS]
