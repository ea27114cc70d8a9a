"""The tone of a violin, synthesised: signed 16 bit little endian, mono, 44,100 Hz; performs no I/O."""

from __future__ import annotations

import math
import sys
from array import array

SAMPLE_RATE = 44_100
BYTES_PER_SECOND = 2 * SAMPLE_RATE

# A bowed string is close to a sawtooth; the body of the instrument favours some partials.
PARTIALS = (1.0, 0.75, 0.6, 0.35, 0.4, 0.2, 0.12, 0.1)
VIBRATO_HZ, VIBRATO_DEPTH = 5.5, 0.006
ATTACK_SECONDS = 0.08

# One period of the string, looked up for each sample: a sine for each partial would take
# longer than the recording.
TABLE_SIZE = 2048
_LOUDEST = sum(PARTIALS)
PERIOD = [
    sum(
        level * math.sin(2 * math.pi * number * index / TABLE_SIZE)
        for number, level in enumerate(PARTIALS, 1)
    )
    / _LOUDEST
    for index in range(TABLE_SIZE)
]


def tone(size_bytes: int, pitch_hz: float = 440.0) -> bytes:
    """Return exactly ``size_bytes`` bytes of a violin that plays ``pitch_hz``; the same ones each time."""
    samples = array("h", (round(level) for level in _levels(-(-size_bytes // 2), pitch_hz)))
    if sys.byteorder == "big":
        samples.byteswap()
    return samples.tobytes()[:size_bytes]


def _levels(count: int, pitch_hz: float) -> list[float]:
    levels = []
    phase, step = 0.0, pitch_hz * TABLE_SIZE / SAMPLE_RATE
    vibrato, attack = 2 * math.pi * VIBRATO_HZ / SAMPLE_RATE, ATTACK_SECONDS * SAMPLE_RATE
    for number in range(count):
        levels.append(20_000 * min(1.0, number / attack) * PERIOD[int(phase) % TABLE_SIZE])
        phase += step * (1 + VIBRATO_DEPTH * math.sin(vibrato * number))
    return levels
