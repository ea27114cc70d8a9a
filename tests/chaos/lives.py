"""Lives of an engine that are out of the ordinary; each runs in a victim, see :class:`~.orders.Orders`."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
import threading
import time
import traceback
import warnings

import psutil

from async_enginelog import EngineLog, LogClosed, StorageError

from .victim import OPEN, Victim

__all__ = ["commits", "eager_tasks", "fifty_logs", "forgets_to_close", "forks", "loses_loops", "on_uvloop"]

# How long a loop lives, or a child takes, in seconds.
SHORT = 0.05


async def _open(victim: Victim) -> EngineLog:
    victim.log = await EngineLog(victim.orders.database, **victim.orders.options).open()
    victim.loop = asyncio.get_running_loop()
    victim.record.stage = OPEN
    return victim.log


def loses_loops(victim: Victim) -> None:
    """Close each loop with a log open on it, tasks in the middle of their calls, and threads beside it."""
    warnings.simplefilter("ignore")
    # One task and one thread for each loop.
    for index in range(0, victim.orders.tasks, 2):
        loop = asyncio.new_event_loop()
        task, _ = loop.run_until_complete(_start_streams(victim, index))
        loop.run_until_complete(asyncio.sleep(SHORT))
        loop.close()
        if index % 4:
            del task
            gc.collect()
    asyncio.run(_open_and_close(victim))


async def _start_streams(victim: Victim, index: int) -> tuple[asyncio.Task[None], threading.Thread]:
    await _open(victim)
    task = asyncio.ensure_future(victim.log_in_task(index))
    done = asyncio.get_running_loop().create_future()
    thread = threading.Thread(target=victim.log_in_thread, args=(index + 1, done), daemon=True)
    thread.start()
    return task, thread


async def _open_and_close(victim: Victim) -> None:
    async with EngineLog(victim.orders.database):
        pass


def forks(victim: Victim) -> None:
    """Fork in the middle of logging; children find the log closed, and open their own."""
    warnings.simplefilter("ignore", DeprecationWarning)  # of 3.12: threads and fork() don't go together

    async def parent() -> None:
        await _open(victim)
        streams = [asyncio.ensure_future(victim.log_in_task(0))]
        done = asyncio.get_running_loop().create_future()
        threading.Thread(target=victim.log_in_thread, args=(1, done), daemon=True).start()
        for index in range(2, victim.orders.tasks):
            await asyncio.sleep(SHORT)
            child = os.fork()
            if not child:
                _child(victim, index)
            streams.append(asyncio.ensure_future(_end_of(child)))
        for ended in streams[1:]:
            await ended
        await victim.log.aclose()
        await streams[0]

    asyncio.run(parent())


async def _end_of(child: int) -> None:
    deadline = time.monotonic() + 20
    while True:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            if status:
                sys.exit(f"a child ended with {os.waitstatus_to_exitcode(status)}")
            return
        if time.monotonic() > deadline:
            os.kill(child, signal.SIGUSR2)
            await asyncio.sleep(0.5)
            os.kill(child, signal.SIGKILL)
            sys.exit("a child hangs")
        await asyncio.sleep(0.01)


def _child(victim: Victim, index: int) -> None:
    code = 1
    try:
        try:
            victim.log.log_row_nowait("ENGINE_DB_LOG_STEPS", {"step_id": 1})
        except LogClosed:
            asyncio.run(_log_for_a_moment(victim, index))
            code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


async def _log_for_a_moment(victim: Victim, index: int) -> None:
    log = await _open(victim)
    stream = asyncio.ensure_future(victim.log_in_task(index))
    await asyncio.sleep(SHORT)
    try:
        await log.aclose()
    except StorageError:
        # SQLite has inherited that the parent holds a lock, and never hears that it lets go of it
        # (https://www.sqlite.org/howtocorrupt.html, section 2.6). The rows wait in the child's spool.
        victim.record.extra += 1
    await stream


def forgets_to_close(victim: Victim) -> None:
    """Come to the end of the program with logs open, in each of the ways this can be forgotten."""
    warnings.simplefilter("ignore")
    asyncio.run(_log_and_forget(victim, 0))
    in_thread = threading.Thread(target=lambda: _loop_for_ever(victim, 1), daemon=True)
    in_thread.start()
    time.sleep(SHORT)
    loop = asyncio.new_event_loop()
    loop.run_until_complete(_log_and_forget(victim, 2))
    if victim.orders.extra.get("exit"):
        sys.exit(0)


async def _log_and_forget(victim: Victim, index: int) -> None:
    await _open(victim)
    # Kept by the loop alone.
    victim.record.extra = id(asyncio.ensure_future(victim.log_in_task(index)))
    await asyncio.sleep(SHORT)


def _loop_for_ever(victim: Victim, index: int) -> None:
    loop = asyncio.new_event_loop()
    own = Victim(victim.orders)
    loop.run_until_complete(_log_and_forget(own, index))
    loop.run_forever()


def commits(victim: Victim) -> None:
    """Log rows, each committed before the next; note how many commits there were."""

    async def run() -> None:
        log = await _open(victim)
        for _ in range(victim.orders.rows):
            await log.log_steps(step_name="a commit")
            await log.flush()
        victim.record.extra = log.statistics().flushes
        await log.aclose()

    asyncio.run(run())


def eager_tasks(victim: Victim) -> None:
    """Run tasks as soon as they are made, until they wait for the first time."""

    async def run() -> None:
        # Python 3.12 or newer.
        asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)  # type: ignore[attr-defined]
        await victim.run()

    asyncio.run(run())


def on_uvloop(victim: Victim) -> None:
    """Run on the other event loop."""
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(victim.run())


def fifty_logs(victim: Victim) -> None:
    """Open and close as many logs as there are streams, half of them all at once; leave nothing behind."""
    half = victim.orders.tasks // 2
    asyncio.run(_many_logs(victim, 0, half))
    before = _belongings()
    asyncio.run(_many_logs(victim, half, 2 * half))
    deadline = time.monotonic() + 10.0
    # A thread that was told to end may need a moment for it. What is used again and again isn't given back to
    # the system in between; it must not become more than noise. A segment is 16 MB.
    while (after := _belongings())[:2] != before[:2] and time.monotonic() < deadline:
        time.sleep(0.05)
    if after[:2] != before[:2] or after[2] > before[2] + 32:
        sys.exit(f"threads, handles, MB after {half} logs: {before}, after {2 * half}: {after}")


def _belongings() -> tuple[int, int, int]:
    gc.collect()
    process = psutil.Process()
    return threading.active_count(), process.num_fds(), process.memory_info().rss // 2**20


async def _many_logs(victim: Victim, first: int, last: int) -> None:
    middle = (first + last) // 2
    for index in range(first, middle):
        await _one_of_many(victim, index)
    await asyncio.gather(*(_one_of_many(victim, index) for index in range(middle, last)))


async def _one_of_many(victim: Victim, index: int) -> None:
    own = Victim(victim.orders)
    async with EngineLog(victim.orders.database, timeout=60.0) as own.log:
        await own.log_in_task(index)
