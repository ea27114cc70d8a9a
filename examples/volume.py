"""A stand-in for an engine's analysers: how loud the audio is; performs no I/O."""

from __future__ import annotations

import math
import sys
from array import array
from collections.abc import Sequence

SAMPLES_PER_10_MS = 441


def decode(audio: bytes) -> Sequence[int]:
    """Turn PCM audio into samples; half a sample at the end is left out."""
    samples = array("h", audio[: len(audio) // 2 * 2])
    if sys.byteorder == "big":
        samples.byteswap()
    return samples


def volume_10_ms(samples: Sequence[int]) -> list[float]:
    """Return the volume (root mean square) of each 10 ms; the last ones may be fewer."""
    parts = (
        samples[first : first + SAMPLES_PER_10_MS] for first in range(0, len(samples), SAMPLES_PER_10_MS)
    )
    return [math.sqrt(sum(sample * sample for sample in part) / len(part)) for part in parts]
