"""Spans of time and sizes as people write them: ``30d``, ``12h``, ``2GB``. Performs no I/O."""

from __future__ import annotations

import re
from datetime import timedelta

from ..retention import MIN_FILE_BYTES

__all__ = ["as_bytes", "as_duration", "bytes_text"]

_SECONDS = {"s": 1, "sec": 1, "min": 60, "h": 3600, "d": 86_400, "w": 604_800, "y": 31_536_000}
_WORDS = {"second": "s", "minute": "min", "hour": "h", "day": "d", "week": "w", "year": "y"}

# As the names say: kB, MB … are powers of 1000, KiB, MiB … of 1024; a letter alone is short for the latter.
_POWERS = "KMGT"


def as_duration(text: str) -> timedelta:
    """
    Return the span of time that is meant by a text such as ``30d``, ``1.5h`` or ``2 weeks``.

    Raises:
        ValueError: If it can't be told, or is 0.

    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([A-Za-z]+)", text.strip())
    unit = match[2].lower() if match else ""
    if unit in ("m", "mo", "month", "months"):
        raise ValueError(f"{text!r} can be minutes or months; pass one such as 30min or 30d")
    unit = _WORDS.get(unit.removesuffix("s"), unit)
    if match is None or unit not in _SECONDS:
        raise ValueError(f"{text!r} isn't a span of time; pass one such as 30d, 12h, 90min or 2w")
    try:
        span = timedelta(seconds=float(match[1]) * _SECONDS[unit])
    except OverflowError:
        span = timedelta.max
    if span <= timedelta():
        raise ValueError(f"{text!r} is no time at all; to delete all rows: enginelog init --truncate")
    return span


def as_bytes(text: str) -> int:
    """
    Return the number of bytes that is meant by a text such as ``500MB``, ``2GiB`` or ``2G``.

    Raises:
        ValueError: If it can't be told, or is less than a log needs.

    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(?:([KMGTkmgt])(i?[Bb])?|[Bb])?", text.strip())
    if match is None:
        raise ValueError(f"{text!r} isn't a size; pass one such as 500MB or 2GB")
    power = _POWERS.index(match[2].upper()) + 1 if match[2] else 0
    base = 1000 if (match[3] or "").lower() == "b" else 1024
    size = int(float(match[1]) * base**power)
    if size < MIN_FILE_BYTES:
        raise ValueError(f"{text!r} is less than a log needs; pass 1MiB or more")
    return size


def bytes_text(size: int) -> str:
    """Return a size as people read it."""
    return f"{size / 1024**2:,.1f} MiB" if size >= 1024**2 else f"{size / 1024:,.0f} KiB"
