"""
How late frames are when many clients stream, with the log and without: ``python -m benchmarks.lateness``.

Each client sends 10 frames of 100 ms a second, with the time in the first bytes; the analyser looks at the
time when it is done. So lateness is all from the client's ``send()`` to the end of the analysis. Server and
clients are processes of their own; servers with the log and without take turns. Without means: the
same listeners, but rows are thrown away.

"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import struct
import sys
import tempfile
import time
from array import array
from pathlib import Path
from typing import Any, NamedTuple

import psutil
from rich.console import Console
from rich.table import Table
from websockets.asyncio.client import connect
from websockets.asyncio.server import serve

from async_enginelog import EngineLog, Frame, Recorder, Recording, server_connection
from async_enginelog.tables import Table as LogTable

FRAME_BYTES = 8820
PERIOD = 0.1
STAMP = struct.Struct("<d")
REST = os.urandom(FRAME_BYTES - STAMP.size)


class Result(NamedTuple):
    """What a server saw."""

    frames: int
    median_ms: float
    p99_ms: float
    worst_ms: float
    cpu_percent: float
    rows: int


class NoLog(EngineLog):
    """A log that is open and throws away what listeners offer."""

    def offer(self, table: LogTable, columns: dict[str, Any]) -> None:
        """Throw a row away."""


async def serve_until_told(folder: str, logged: bool) -> None:
    """Serve until standard input ends, and say what became of the frames."""
    lateness = array("d")

    async def analyse(recording: Recording, frame: Frame) -> int:
        samples = array("h", frame.audio)
        peak = max(max(samples), -min(samples))
        (sent,) = STAMP.unpack_from(frame.audio)
        lateness.append((time.monotonic() - sent) * 1000)
        return peak

    process = psutil.Process()
    log = (EngineLog if logged else NoLog)(Path(folder) / "engine_log.db")
    async with log, Recorder(log, analyse) as recorder:
        create_connection = server_connection(log)
        async with serve(
            recorder.handle,
            "127.0.0.1",
            0,
            create_connection=create_connection,
            compression=None,
            backlog=1000,
        ) as server:
            print(server.sockets[0].getsockname()[1], flush=True)
            process.cpu_percent()
            await asyncio.to_thread(sys.stdin.readline)
            cpu = process.cpu_percent()
    ordered = sorted(lateness)
    result = Result(
        len(ordered),
        statistics.median(ordered),
        ordered[len(ordered) * 99 // 100],
        ordered[-1],
        cpu,
        log.statistics().committed,
    )
    print(json.dumps(result), flush=True)


async def stream(port: int, number: int, frames: int) -> None:
    """Be one client."""
    fields = {"RECORDING_ID": str(10**17 + number)}
    async with connect(f"ws://127.0.0.1:{port}", compression=None, proxy=None, open_timeout=60) as websocket:
        await websocket.send(json.dumps({"MESSAGE_TYPE": "START", **fields}))
        loop = asyncio.get_running_loop()
        # Not all at the same moment: players don't breathe together.
        began = loop.time() + PERIOD * (number % 100) / 100
        for frame_no in range(1, frames + 1):
            await asyncio.sleep(max(0.0, began + frame_no * PERIOD - loop.time()))
            await websocket.send(json.dumps({"MESSAGE_TYPE": "FRAME", "FRAME_NO": str(frame_no), **fields}))
            await websocket.send(STAMP.pack(time.monotonic()) + REST)
        await websocket.send(json.dumps({"MESSAGE_TYPE": "STOP", **fields}))
        await websocket.wait_closed()


async def measure(logged: bool, clients: int, seconds: float) -> Result:
    """Let clients stream to a server in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        server = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "benchmarks.lateness", "--serve", folder),
            *([] if logged else ["--no-log"]),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        assert server.stdin is not None
        assert server.stdout is not None
        port = int(await server.stdout.readline())
        frames = round(seconds / PERIOD)
        await asyncio.gather(*(stream(port, number, frames) for number in range(clients)))
        server.stdin.close()
        result = Result(*json.loads(await server.stdout.readline()))
        await server.wait()
    return result


async def compare(clients: int, seconds: float, rounds: int) -> None:
    """Measure in turns, and print."""
    console = Console()
    sent = clients * round(seconds / PERIOD)
    console.print(f"{clients} clients, {seconds:g} s, 10 frames a second each: {sent:,} frames sent")
    table = Table("", "frames lost", "late: median", "99 %", "worst", "CPU of the server", "rows committed")
    for _ in range(rounds):
        for logged in (True, False):
            result = await measure(logged, clients, seconds)
            table.add_row(
                "logged" if logged else "not logged",
                f"{sent - result.frames:,}",
                f"{result.median_ms:.1f} ms",
                f"{result.p99_ms:.1f} ms",
                f"{result.worst_ms:.1f} ms",
                f"{result.cpu_percent:.0f} %",
                f"{result.rows:,}",
            )
    console.print(table)


def main() -> None:
    """Read the options and measure."""
    parser = argparse.ArgumentParser(description="How late frames are, with the log and without.")
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    parser.add_argument("--no-log", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        asyncio.run(serve_until_told(options.serve, not options.no_log))
    else:
        asyncio.run(compare(options.clients, options.seconds, options.rounds))


if __name__ == "__main__":
    main()
