"""Hypothesis chooses the damages, and finds the smallest that breaks a promise."""

from __future__ import annotations

import random
from math import inf

import pytest

from .attack import Broken
from .damage import DAMAGES, difference, try_damages

CLEAN = bytes(3 * 4096)


def damaged(chance: random.Random) -> bytes:
    """Return what becomes of a file."""
    data = bytearray(CLEAN)
    chance.choice(DAMAGES)(data, chance)
    return bytes(data)


def test_the_smallest_damage_is_told() -> None:
    """Of all damages that break something, the one that is told changes a single byte."""

    def examine(chance: random.Random) -> None:
        after = damaged(chance)
        if any(after):
            raise Broken(difference(CLEAN, after))

    with pytest.raises(Broken, match=r"^1 bytes from \d+ to \d+ are others, the size was 12288 and is 12288"):
        try_damages(examine, 20, inf, random.Random(1))


def test_it_ends_in_time() -> None:
    """When the time is up, no damage is tried but the first."""
    tried: list[bytes] = []
    try_damages(lambda chance: tried.append(damaged(chance)), 20, -inf, random.Random(1))
    assert len(tried) == 1


def test_chance_decides() -> None:
    """With the same chance, the same damages are tried, as many as were asked for."""

    def tried(seed: int) -> list[bytes]:
        found: list[bytes] = []
        try_damages(lambda chance: found.append(damaged(chance)), 12, inf, random.Random(seed))
        return found

    assert tried(1) == tried(1) != tried(2)
    assert len(tried(1)) == 12
