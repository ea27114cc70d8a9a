"""Spans of time and sizes, as people write them."""

from __future__ import annotations

from datetime import timedelta

import pytest

from async_enginelog.cli.quantities import as_bytes, as_duration, bytes_text


@pytest.mark.parametrize(
    ("text", "span"),
    [
        ("30d", timedelta(days=30)),
        (" 1.5 H ", timedelta(minutes=90)),
        ("90min", timedelta(minutes=90)),
        ("2w", timedelta(days=14)),
        ("45s", timedelta(seconds=45)),
        ("2 weeks", timedelta(days=14)),
        ("1 minute", timedelta(minutes=1)),
        ("1y", timedelta(days=365)),
        ("99999999999y", timedelta.max),
    ],
)
def test_duration(text: str, span: timedelta) -> None:
    """A number and a unit."""
    assert as_duration(text) == span


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("30m", "'30m' can be minutes or months; pass one such as 30min or 30d"),
        ("1 month", "can be minutes or months"),
        ("30", "isn't a span of time; pass one such as 30d, 12h, 90min or 2w"),
        ("", "isn't a span of time"),
        ("-5d", "isn't a span of time"),
        ("d", "isn't a span of time"),
        ("5 parsecs", "isn't a span of time"),
        ("0d", "'0d' is no time at all; to delete all rows: enginelog init --truncate"),
    ],
)
def test_no_duration(text: str, message: str) -> None:
    """What can be read in two ways, or in none, is refused."""
    with pytest.raises(ValueError, match=message):
        as_duration(text)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("2GB", 2 * 1000**3),
        ("2GiB", 2 * 1024**3),
        ("2G", 2 * 1024**3),
        ("1.5 mib", 1_572_864),
        ("5000000", 5_000_000),
        ("5000000B", 5_000_000),
        ("1tb", 10**12),
        ("2000K", 2000 * 1024),
    ],
)
def test_bytes(text: str, size: int) -> None:
    """GB is a power of 1000, GiB one of 1024, and so is G, as elsewhere."""
    assert as_bytes(text) == size


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "isn't a size; pass one such as 500MB or 2GB"),
        ("-1GB", "isn't a size"),
        ("2 pieces", "isn't a size"),
        ("GB", "isn't a size"),
        ("0GB", "'0GB' is less than a log needs; pass 1MiB or more"),
        ("1000", "is less than a log needs"),
    ],
)
def test_no_bytes(text: str, message: str) -> None:
    """What isn't a size, or one that no log has room in, is refused."""
    with pytest.raises(ValueError, match=message):
        as_bytes(text)


def test_bytes_text() -> None:
    """A size as people read it."""
    assert (bytes_text(5000), bytes_text(3 * 1024**2)) == ("5 KiB", "3.0 MiB")
