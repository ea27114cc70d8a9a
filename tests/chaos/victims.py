"""The attacker's hands: start victims, give them orders, wait for their end, and settle."""

from __future__ import annotations

import asyncio
import itertools
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from async_enginelog import EngineLog

from .attack import Broken, Outcome, longest
from .balance import Balance, settle
from .orders import Orders
from .record import MAX_STREAMS, Record
from .victim import OPEN
from .waits import CAN_TELL

__all__ = ["PATIENCE", "Started", "account", "outcome", "recover", "start"]

ROOT = Path(__file__).parent.parent.parent

# Nothing that a victim is told to do takes longer, in seconds.
PATIENCE = 30.0

# So many victims may hang in asyncio itself: one, and one in so many.
MAY_HANG = 50
# What faulthandler says of an event loop with nothing to do.
IDLE_LOOP = re.compile(r'\(most recent call first\):\n  File "[^"]*selectors\.py", line \d+ in select\n')

_streams = itertools.count(1, MAX_STREAMS)


class Started:
    """A victim that was started; also what the balance must know of it."""

    def __init__(self, orders: Orders, console: Path, process: subprocess.Popen[bytes]) -> None:
        self.orders = orders
        self.console = console
        self.process = process
        self.record = Record(Path(orders.record))
        self.first_stream = orders.first_stream
        self.streams = orders.tasks + orders.threads
        # Whether asyncio itself hung, and had to be killed.
        self.stuck = False

    @property
    def rows(self) -> int:
        """How many rows were accepted so far."""
        return sum(self.record.returned[: self.streams])

    def wait_for_stage(self, stage: int = OPEN) -> bool:
        """Wait until it is so far; tell whether it is, or died before."""
        self._wait_for(lambda: self.record.stage >= stage)
        return bool(self.record.stage >= stage)

    def wait_for_rows(self, rows: int) -> None:
        """Wait until so many rows were accepted, or it has ended."""
        self._wait_for(lambda: self.rows >= rows)

    def wait_until(self, done: Callable[[], bool], timeout: float) -> bool:
        """Wait until something is so, or the victim has ended; tell whether it is."""
        deadline = time.monotonic() + timeout
        while not done() and self.process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.002)
        return done()

    def wait_for_fire(self, timeout: float) -> bool:
        """Wait until it carries out an order, or has ended; tell whether it did."""
        return self.wait_until(lambda: self.record.fire > 0, timeout)

    def _wait_for(self, done: Callable[[], bool]) -> None:
        if not self.wait_until(done, PATIENCE) and self.process.poll() is None:
            raise Broken(f"a victim hangs: not there within {PATIENCE:g} s; {self._where_it_hangs()}")

    def order(self, word: str) -> None:
        """Give it an order, if it still lives."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(f"{word}\n".encode())
            self.process.stdin.flush()
        except OSError:
            pass

    def kill(self, number: int | None = None) -> None:
        """Send it a signal; by default, the one that can't be handled."""
        if number is None:
            self.process.kill()
        else:
            self.process.send_signal(number)

    def wait(self, timeout: float = PATIENCE) -> int:
        """
        Wait for its end.

        A signal handler that raises while asyncio itself is at work may make it forget to call what is ready,
        and wait for it for good (https://github.com/python/cpython/issues/83803): such a victim is killed.

        Raises:
            Broken: If it doesn't end, though it should.

        """
        try:
            code = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            where = self._where_it_hangs()
            self.stuck = bool(self.record.in_asyncio and IDLE_LOOP.search(where))
            if not self.stuck:
                raise Broken(f"a victim doesn't end within {timeout:g} s; {where}") from None
            code = self.process.wait(timeout)
        assert self.process.stdin is not None
        try:
            self.process.stdin.close()
        except OSError:  # what was in the pipe can't be told any more
            pass
        return code

    def close(self, timeout: float = PATIENCE) -> int:
        """Have it close its log and end."""
        self.order("close")
        return self.wait(timeout)

    def _where_it_hangs(self) -> str:
        if hasattr(signal, "SIGUSR2"):
            self.kill(signal.SIGUSR2)
            time.sleep(0.5)
        self.process.kill()
        self.process.wait()
        return self.last_words(60)

    def last_words(self, lines: int = 12) -> str:
        """Return the end of what it said on the console, rows left out."""
        text = self.console.read_text("utf-8", "replace").splitlines()
        return "\n".join([line for line in text if not line.startswith("enginelog-row")][-lines:])

    def __enter__(self) -> Started:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.wait()


def start(
    database: Path, *, python: Sequence[str] = (), env: dict[str, str] | None = None, **orders: Any
) -> Started:
    """
    Start a victim.

    Args:
        database: Its log; what belongs to the victim is beside it, in a folder of its own.
        python: Arguments of the interpreter.
        env: Further variables of its environment.
        orders: As in :class:`~tests.chaos.orders.Orders`.

    """
    first = next(_streams)
    folder = database.parent.with_name(f"{database.parent.name}-victims")
    folder.mkdir(exist_ok=True)
    record, console = folder / f"{first}.record", folder / f"{first}.stderr"
    Record(record)
    written = Orders(str(database), str(record), first, **orders)
    if written.tasks + written.threads > MAX_STREAMS:
        raise ValueError(f"a victim has up to {MAX_STREAMS} streams")
    # What is killed can't report its coverage, and dies more slowly for trying.
    clean = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    with console.open("wb") as stderr:
        process = subprocess.Popen(
            [sys.executable, *python, "-m", f"{__package__}.victim", written.as_json()],
            cwd=ROOT,
            env=clean | (env or {}),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
        )
    return Started(written, console, process)


def recover(database: Path, **options: Any) -> None:
    """Open the log and close it, so that all that dead runs left is committed."""

    async def open_and_close() -> None:
        async with EngineLog(database, timeout=PATIENCE, **options) as log:
            await log.flush()

    asyncio.run(open_and_close())


def account(database: Path, victims: Sequence[Started]) -> Balance:
    """Settle after the death of the victims, have the next opening recover, and settle again."""
    before = settle(database, victims, recovered=False)
    recover(database)
    after = settle(database, victims, recovered=True)
    return Balance(
        after.rows,
        before.lost + after.lost,
        before.doubled + after.doubled,
        before.places + Counter({f"{place}, recovered": rows for place, rows in after.places.items()}),
        [f"before recovery: {fault}" for fault in before.faults] + after.faults,
    )


def outcome(times: int, balance: Balance, victims: Sequence[Started], why: str = "") -> Outcome:
    """Return what came of an attack on these victims."""
    records = [victim.record for victim in victims]
    stuck = sum(victim.stuck for victim in victims)
    if stuck > 1 + len(victims) // MAY_HANG:
        raise Broken(f"{stuck} of {len(victims)} victims hang; {victims[-1].last_words()}")
    hung = f"{stuck} hung in asyncio itself, in which a signal handler had raised" if stuck else ""
    waits = [wait for record in records for wait in (record.call_wait, record.turn_wait)]
    return Outcome(
        times,
        balance.rows,
        balance.lost,
        balance.doubled,
        # Not every life measures all of it.
        longest(*(record.call_cpu / 1e9 or None for record in records)),
        max(waits, default=0) / 1e9 if CAN_TELL else None,
        longest(*(record.stall / 1e9 or None for record in records)),
        "; ".join(filter(None, [why, hung, *balance.faults])),
        sum(record.failed_calls for record in records),
    )
