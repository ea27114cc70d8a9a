"""What attacks on the disk share: a victim that logs all the time, and turns in which it is troubled."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .attack import Broken
from .balance import Balance
from .victims import Started, start

__all__ = ["RATE", "SEGMENT", "logging_victim", "must_live", "places", "turns"]

# So small that segments change all the time.
SEGMENT = 128 * 1024
# So that the console, the last resort, can take it all.
RATE = 1500.0


@contextmanager
def logging_victim(database: Path, victims: list[Started], **orders: Any) -> Iterator[Started]:
    """Have a victim log until the end of the block, and close its log."""
    settings: dict[str, Any] = {"segment_bytes": SEGMENT, "checkpoint_pages": 50, "rate": RATE} | orders
    with start(database, **settings) as victim:
        victims.append(victim)
        victim.wait_for_stage()
        must_live(victim)
        yield victim
        must_live(victim)
        if code := victim.close():
            raise Broken(f"the engine ended with {code}: {victim.last_words()}")


def must_live(victim: Started) -> None:
    if (code := victim.process.poll()) is not None:
        raise Broken(f"the engine died with {code}: {victim.last_words()}")
    if victim.record.failed_calls:
        raise Broken(f"{victim.record.failed_calls} calls have raised: {victim.last_words()}")


def turns(seconds: float, each: float = 4.0) -> Iterator[float]:
    """Yield the end of each turn."""
    turns = max(1, round(seconds / each))
    begin = time.monotonic()
    for turn in range(1, turns + 1):
        yield begin + seconds * turn / turns


def places(total: Balance) -> str:
    """Return how many rows went to the console: there it is that the attack was felt."""
    return f"{total.places['console']:,} rows on the console" if total.places["console"] else ""
