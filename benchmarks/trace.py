"""
The mixed trace: what a real session made the example engine log, row by row.

``session.jsonl`` holds the lines of its spool, from the connection of the client to its end, while
``examples/client.py`` streamed the session of 28 frames that was recorded from a phone;
``python -m benchmarks.trace`` records it anew.

"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

import orjson

from async_enginelog.segments import segments_of, spool_folder
from async_enginelog.tables import TABLES, Kind

__all__ = ["TRACE", "session", "trace_row"]

TRACE = Path(__file__).with_name("session.jsonl")
EXAMPLES = Path(__file__).resolve().parent.parent / "examples"

# Ids that make rows of one session speak of one thing, and must not make those of two do so.
IDS = ("recording_id", "websocket_connection_id", "message_id")

TraceRow = tuple[str, dict[str, Any]]


@cache
def session() -> list[TraceRow]:
    """Return table and columns of each row of the session, times as datetimes."""
    return [_row(line) for line in TRACE.read_bytes().splitlines()]


def _row(line: bytes) -> TraceRow:
    name, columns = orjson.loads(line)
    for argument, value in columns.items():
        if value is not None and TABLES[name].columns[argument].kind is Kind.TIME:
            columns[argument] = datetime.fromisoformat(value)
    return name, columns


def trace_row(number: int) -> TraceRow:
    """Return row ``number`` of an endless trace: the session again and again, with other ids each time."""
    rows = session()
    times, place = divmod(number, len(rows))
    name, columns = rows[place]
    columns = columns.copy()
    for argument in IDS:
        if columns.get(argument) is not None:
            columns[argument] += times * 1000
    return name, columns


def record() -> None:
    """Stream the session to the example engine, and keep what it logs."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "engine_log.db"
        command = [sys.executable, str(EXAMPLES / "server.py"), "--port", "0", "--db", str(path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
            assert server.stdout is not None
            try:
                _stream(re.findall(r"ws://[^:]+:(\d+)", server.stdout.readline())[0])
                lines = _spooled(path)
            finally:
                server.terminate()
                server.communicate()
    TRACE.write_bytes(b"".join(line + b"\n" for line in lines))
    print(f"{len(lines)} rows in {TRACE.name}")


def _stream(port: str) -> None:
    arguments = ("--port", port, "--trace", EXAMPLES / "session_28_frames.csv", "--speed", "4")
    subprocess.run(
        [sys.executable, EXAMPLES / "client.py", *arguments], check=True, stdout=subprocess.DEVNULL
    )


def _spooled(path: Path) -> list[bytes]:
    folder = spool_folder(path)
    run = int(next(folder.glob("*.lock")).stem)
    segments = [segment.read_bytes().rstrip(b"\0") for _, segment in segments_of(folder, run)]
    # Each begins with a header.
    lines = [line for segment in segments for line in segment.splitlines()[1:]]
    return [line for line in lines if b"PROCESS_REGISTRY" not in line]


if __name__ == "__main__":
    record()
