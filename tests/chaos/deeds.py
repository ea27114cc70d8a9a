"""What a victim can be told to do while it lives, and how to end."""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from async_enginelog import LogClosed, StorageError
from async_enginelog.maintenance import Maintenance

if TYPE_CHECKING:
    from .victim import Victim

__all__ = ["AT_ONCE", "CHORES", "ENDINGS", "SHORTAGE", "close"]

# -- chores -----------------------------------------------------------------------------------------


async def flush(victim: Victim) -> None:
    """Wait until all is committed."""
    with suppress(StorageError, LogClosed):
        await victim.log.flush()


async def back_up(victim: Victim) -> None:
    """Copy the database while the log is written to."""
    path = Path(victim.orders.database)
    copy = path.with_name(f"{path.name}.{os.getpid()}.backup")
    copy.unlink(missing_ok=True)
    copy.touch()
    with suppress(StorageError):
        source = await Maintenance.open(path, create=False)
        try:
            await source.copy_to(copy, lambda left, pages: None)
        finally:
            await source.close()


async def truncate_wal(victim: Victim) -> None:
    """Have the whole WAL checkpointed, by another connection."""
    with suppress(StorageError):
        other = await Maintenance.open(Path(victim.orders.database), create=False)
        try:
            await other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        finally:
            await other.close()


CHORES: dict[str, Callable[[Victim], Any]] = {"flush": flush, "backup": back_up, "checkpoint": truncate_wal}


# -- endings ----------------------------------------------------------------------------------------

# How long somebody who takes all memory keeps it, in seconds.
SHORTAGE = 0.3


def close(victim: Victim) -> None:
    """Leave the block of the log, and then the process, in order."""


def fail(victim: Victim) -> NoReturn:
    """Have an exception that nobody handles."""
    raise RuntimeError("an exception of the engine that nobody handles")


def leave(victim: Victim) -> NoReturn:
    """Leave in the middle of a handler."""
    sys.exit(3)


def take_all_memory(victim: Victim) -> None:
    """
    Take what memory there is, with little left to take, until somebody has none; give it back a while later.

    What is on its way to the console is in memory alone: it gets there once there is some again.

    """
    import resource

    size = int(Path("/proc/self/statm").read_text("ascii").split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + 2_000_000, resource.RLIM_INFINITY))
    hoard: list[bytearray] = []
    taken = threading.Event()

    def give_back() -> None:
        taken.wait()
        time.sleep(SHORTAGE)
        hoard.clear()

    # Before there is no memory for a thread.
    threading.Thread(target=give_back, daemon=True).start()
    for size in (1 << 20, 1 << 16, 1 << 12, 1 << 8):
        with suppress(MemoryError):
            while True:
                hoard.append(bytearray(size))
    taken.set()


def _signal_myself(name: str) -> Callable[[Victim], None]:
    return lambda victim: os.kill(os.getpid(), getattr(signal, name))


def block(victim: Victim) -> None:
    """Block the loop, and go on."""
    victim.loop.call_soon_threadsafe(time.sleep, float(victim.orders.extra.get("block", 1.0)))


# What the main task does, in turn with all others.
ENDINGS: dict[str, Callable[[Victim], Any]] = {"close": close, "raise": fail, "sys.exit": leave}

# What is done wherever one is.
AT_ONCE: dict[str, Callable[[Victim], Any]] = {
    "SIGKILL": _signal_myself("SIGKILL"),
    "SIGTERM": _signal_myself("SIGTERM"),
    "SIGINT": _signal_myself("SIGINT"),
    "sys.exit in a signal handler": _signal_myself("SIGUSR1"),
    "os._exit": lambda victim: os._exit(5),
    "segfault": lambda victim: faulthandler._sigsegv(),  # type: ignore[attr-defined]
    "out of memory": take_all_memory,
    "block": block,
}
