"""
How many players does a machine carry? Clients stream to the real server until one frame in a hundred is late.

Each player sends 10 frames of 100 ms a second, with the time in the first bytes, and the analyser looks at
the time when it is done: lateness is all from the client's ``send()`` to the end of the analysis. Server and
players are processes of their own. Players join step by step.

Each rival has the same server, listeners and recorder, and so has the server without logging: its log throws
away what it is offered. What the listeners do to know it (times, a SHA-256 of the audio) is in its figures.

What a frame costs is CPU time of the server at a moderate number of players, of the loop's thread and of all
others. It is all of a frame, analysis and network included: what a rival costs is its difference to the
server without logging. A rival whose rows still wait has not paid for them all.

"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sqlite3
import struct
import subprocess
import sys
import time
from array import array
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any, NamedTuple

import aiosqlite
from websockets.asyncio.client import connect
from websockets.asyncio.server import serve

from async_enginelog import EngineLog, Frame, Recorder, Recording, server_connection
from async_enginelog.tables import Table as LogTable

from .markdown import Goal, Table, at_least, shown
from .results import Case, Figures, Results
from .rivals.names import EACH, OLD, OURS
from .rows import insert_sql, stored_values

__all__ = ["TITLE", "cases", "goals", "measure", "tables"]

TITLE = "How many players does a machine carry?"

WITHOUT = "without logging"
RIVALS = (WITHOUT, OURS, EACH, OLD)
FRAME_BYTES = 8820
PERIOD = 0.1
STAMP = struct.Struct("<d")
REST = os.urandom(FRAME_BYTES - STAMP.size)
# A fixed piece of work for each frame, on the loop, a millisecond or so.
PIECES, PIECE = 30, range(1000)

# How late a frame may be, in milliseconds: as long as it is.
LATE_MS = 100.0
# What share of frames may be late.
ENOUGH = 0.01
# Players that join at each step, and how long a step takes, in seconds.
STEP = 10
STEP_SECONDS = {True: 2.0, False: 4.0}
# A step fails only if it does so several times: the machine may have been busy with something else.
TRIES = 3
MOST = 400
# At so many players a frame's cost is taken, in an interval of so many steps: a number that all carry but the
# slowest, so that nothing is waiting for long.
COST_PLAYERS = 100
COST_STEPS = 2


# -- the server -------------------------------------------------------------------------------------


class _WithoutLog(EngineLog):
    """
    Throws away what listeners offer.

    They listen as ever: a recorder takes only connections that log themselves.

    """

    def offer(self, table: LogTable, columns: dict[str, Any]) -> None:
        """Take a row."""


class _OldLog(EngineLog):
    """Opens, inserts and commits on the event loop, as the old engine did."""

    def offer(self, table: LogTable, columns: dict[str, Any]) -> None:
        """Take a row."""
        with closing(sqlite3.connect(self.path)) as connection:
            connection.execute(*insert_of(table, columns))
            connection.commit()


class _AiosqliteLog(EngineLog):
    """Gives rows to a task that executes and commits each."""

    rows: asyncio.Queue[tuple[str, list[Any]]]

    def offer(self, table: LogTable, columns: dict[str, Any]) -> None:
        """Take a row."""
        self.rows.put_nowait(insert_of(table, columns))

    async def write(self) -> None:
        """Write rows until cancelled."""
        async with aiosqlite.connect(self.path) as connection:
            await connection.execute("PRAGMA synchronous = NORMAL")
            while True:
                await connection.execute(*await self.rows.get())
                await connection.commit()


LOGS: dict[str, type[EngineLog]] = {WITHOUT: _WithoutLog, OURS: EngineLog, EACH: _AiosqliteLog, OLD: _OldLog}


def insert_of(table: LogTable, columns: dict[str, Any]) -> tuple[str, list[Any]]:
    """Return the statement for a row, and its values; headers of a connection are stored as JSON."""
    values = [json.dumps(value) if isinstance(value, dict) else value for value in stored_values(columns)]
    return insert_sql(table.name, tuple(columns)), values


@asynccontextmanager
async def _opened(name: str, path: Path) -> AsyncIterator[EngineLog]:
    async with LOGS[name](path) as log:
        if not isinstance(log, _AiosqliteLog):
            yield log
            return
        log.rows = asyncio.Queue()
        writing = asyncio.create_task(log.write())
        writing.add_done_callback(_end_server)
        yield log
        writing.cancel()


class Report(NamedTuple):
    """What a server says of an interval: its frames, how many were late, and the CPU seconds it has used."""

    frames: int
    late: int
    # Of the loop's thread, and of the whole process, since it began.
    loop: float
    process: float


def _end_server(writing: asyncio.Task[None]) -> None:
    """End a server that writes no more: nothing it says would be of the rival any longer."""
    if not writing.cancelled():
        print(f"rows aren't written: {writing.exception()!r}", file=sys.stderr, flush=True)
        os._exit(1)


async def serve_players(name: str, path: Path) -> None:
    """Serve until standard input ends; print a report of each interval that a line asks for."""
    lateness = array("d")

    async def analyse(recording: Recording, frame: Frame) -> int:
        for _ in range(PIECES):
            sum(PIECE)
        (sent,) = STAMP.unpack_from(frame.audio)
        lateness.append((time.monotonic() - sent) * 1000)
        return 1

    async with _opened(name, path) as log, Recorder(log, analyse) as recorder:
        create = server_connection(log)
        async with serve(
            recorder.handle, "127.0.0.1", 0, create_connection=create, compression=None, backlog=1000
        ) as server:
            print(server.sockets[0].getsockname()[1], flush=True)
            while await asyncio.to_thread(sys.stdin.readline):
                late = sum(value > LATE_MS for value in lateness)
                report = Report(len(lateness), late, time.thread_time(), time.process_time())
                print(json.dumps(report), flush=True)
                del lateness[:]
            # Players are still there, and nobody needs to hear their last frames.
            os._exit(0)


# -- the players ------------------------------------------------------------------------------------


async def _play(port: int, number: int, stop: asyncio.Event) -> None:
    fields = {"RECORDING_ID": str(10**17 + number)}
    async with connect(f"ws://127.0.0.1:{port}", compression=None, proxy=None, open_timeout=60) as websocket:
        await websocket.send(json.dumps({"MESSAGE_TYPE": "START", **fields}))
        loop = asyncio.get_running_loop()
        # Not all at the same moment: players don't breathe together.
        began = loop.time() + PERIOD * (number * 0.618 % 1)
        frame_no = 0
        while not stop.is_set():
            frame_no += 1
            await asyncio.sleep(max(0.0, began + frame_no * PERIOD - loop.time()))
            await websocket.send(json.dumps({"MESSAGE_TYPE": "FRAME", "FRAME_NO": str(frame_no), **fields}))
            await websocket.send(STAMP.pack(time.monotonic()) + REST)


async def _ramp(server: asyncio.subprocess.Process, step: int, seconds: float) -> Figures:
    """Let players join until one frame in a hundred is late."""
    assert server.stdout is not None
    port = int(await server.stdout.readline())
    stop = asyncio.Event()
    players: list[asyncio.Task[None]] = []
    curve: list[tuple[int, float]] = []
    cost: Figures = {}
    while len(players) < MOST and (not curve or curve[-1][1] <= ENOUGH):
        players += [asyncio.create_task(_play(port, len(players) + place, stop)) for place in range(step)]
        await _report(server, seconds / 2)  # while they join
        for _ in range(TRIES):
            report = await _report(server, seconds / 2)
            share = _late_share(report, len(players), seconds / 2)
            if share <= ENOUGH:
                break
        curve.append((len(players), share))
        if len(players) == COST_PLAYERS and share <= ENOUGH:
            cost = cost_of_frame(report, await _report(server, seconds * COST_STEPS))
    stop.set()
    for player in players:
        player.cancel()
    await asyncio.gather(*players, return_exceptions=True)
    return {"players": _carried(curve), "curve": curve, **cost}


async def _report(server: asyncio.subprocess.Process, seconds: float) -> Report:
    """Return what the server says of the next seconds."""
    assert server.stdin is not None
    assert server.stdout is not None
    await asyncio.sleep(seconds)
    server.stdin.write(b"\n")
    return Report(*json.loads(await server.stdout.readline()))


def _late_share(report: Report, players: int, seconds: float) -> float:
    """Return the share of frames that were late within some seconds; those that never came were, too."""
    # A few are under way, or come from the interval before.
    missing = max(0.0, 1 - report.frames / (players * seconds / PERIOD) - 0.05)
    return report.late / report.frames + missing if report.frames else 1.0


def cost_of_frame(before: Report, after: Report) -> Figures:
    """Return the CPU time of a frame between two reports, in microseconds: the loop's, and that of others."""
    if not after.frames:
        return {}
    loop, process = after.loop - before.loop, after.process - before.process
    return {"loop_us": loop / after.frames * 1e6, "others_us": (process - loop) / after.frames * 1e6}


def _carried(curve: list[tuple[int, float]]) -> float:
    """Return the number of players at which the share of late frames crossed the line."""
    players, share = curve[-1]
    if share <= ENOUGH:
        return float(players)
    before, share_before = curve[-2] if len(curve) > 1 else (0, 0.0)
    return before + (players - before) * (ENOUGH - share_before) / (share - share_before)


# -- the question -----------------------------------------------------------------------------------


def cases(quick: bool) -> list[Case]:
    """Return what is measured in one round."""
    return [Case("players", name, "", quick) for name in RIVALS]


def measure(case: Case, folder: Path) -> Figures:
    """Let players join a server."""
    return asyncio.run(_measure(case, folder / "engine_log.db"))


async def _measure(case: Case, path: Path) -> Figures:
    server = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks.players", "--rival", case.rival, "--path", path),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        return await _ramp(server, STEP, STEP_SECONDS[case.quick])
    finally:
        if server.returncode is None:
            server.kill()
        await server.wait()


def tables(results: Results) -> list[Table]:
    """Return a line for each rival."""
    head = (
        f"players until one frame in a hundred is late; CPU at {COST_PLAYERS} players",
        "players",
        "of those without logging",
        "loop, µs a frame",
        "other threads, µs a frame",
    )
    return [Table(head, [_line(results, name) for name in results.rivals("players")])]


def _line(results: Results, name: str) -> list[str]:
    found, loop, others = (
        shown(results.spread("players", name, "", figure)) for figure in ("players", "loop_us", "others_us")
    )
    share = results.ratio("players", "players", (name, ""), (WITHOUT, ""))
    return [name, found, shown(share, ".2f") if name != WITHOUT else "", loop, others]


def goals(results: Results) -> list[Goal]:
    """Return what was hoped for."""
    ratio = results.ratio("players", "players", (OURS, ""), (WITHOUT, ""))
    return [at_least("at least 0.9 of the number without logging", 0.9, ratio)]


def main() -> None:
    """Be the server."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rival", required=True)
    parser.add_argument("--path", type=Path, required=True)
    options = parser.parse_args()
    asyncio.run(serve_players(options.rival, options.path))


if __name__ == "__main__":
    main()
