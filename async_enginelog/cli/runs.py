"""``enginelog runs``: who wrote the log, when, how it ended, and what it left open."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from .. import reading
from ..reading import RunRow
from ..unfinished import LeftOpen, OpenConnection, OpenRecording, left_open
from .common import (
    DatabaseArgument,
    JsonOption,
    database_path,
    harmless,
    json_text,
    plural,
    run,
    say,
    table_text,
)
from .spools import NOT_RECOVERED, runs_alive, state_of

__all__ = ["runs"]

HEADS = [
    "run",
    "host",
    "pid",
    "version",
    "started",
    "last sign of life",
    "state",
    "accepted",
    "committed",
    "on console",
    "replayed",
]
# Of runs that died; not shown if there are none.
OPEN_HEADS = ["open connections", "open recordings"]

# So many of the connections and of the recordings that a run left open are named.
NAMED = 3
NAMED_IN_JSON = 1000


class _Run(NamedTuple):
    """A run with all that is told of it; ``left`` is :obj:`None` unless it died."""

    row: RunRow
    state: str
    heartbeat: str | None
    left: LeftOpen | None


def runs(
    database: DatabaseArgument = None,
    limit: Annotated[int, typer.Option(min=1, help="Show so many runs.")] = 20,
    json: JsonOption = False,
) -> None:
    """
    List the runs, newest first, and how each ended.

    A run is running; or closed, as it should be; or crashed, and all it had taken is committed;
    or "dead, not recovered": rows may wait in its spool until an engine opens this log again; or
    copied, if it was running when a backup was made, and this is that backup; or imported (importing,
    until all is there) from the file of an old engine.

    Of runs that died, the connections and recordings that they left open are counted, and the
    first of each named.

    \b
    Examples:
      enginelog runs
      enginelog runs --limit 3 --json
    """
    run(_runs(database_path(database), limit, json))


async def _runs(path: Path, limit: int, as_json: bool) -> int:
    found = await _find(path, limit, NAMED_IN_JSON if as_json else NAMED)
    if as_json:
        say(json_text([_entry(run) for run in found]))
    elif found:
        say(_text(found))
    else:
        say(harmless(f"no engine has written to {path} yet"))
    return 0


async def _find(path: Path, limit: int, named: int) -> list[_Run]:
    # In this order: a run that ends in between is seen as ended, not as dead.
    alive = runs_alive(path)
    async with reading.open_database(path) as database, reading.snapshot(database):
        rows = await reading.run_rows(database, limit)
        states = {row.run: state_of(row, alive) for row in rows}
        died = [number for number, state in states.items() if state in ("crashed", NOT_RECOVERED)]
        left = await left_open(database, died, named)
        heartbeats = await reading.last_heartbeats(database)
    return [_Run(row, states[row.run], heartbeats.get(row.run), left.get(row.run)) for row in rows]


def _entry(run: _Run) -> dict[str, object]:
    return {
        **run.row._asdict(),
        "state": run.state,
        "last_heartbeat": run.heartbeat,
        "left_open": run.left,
    }


def _text(found: list[_Run]) -> str:
    with_open = any(run.left for run in found)
    heads = HEADS + OPEN_HEADS if with_open else HEADS
    lines = [_line(run) + (_counts(run) if with_open else []) for run in found]
    told = [line for run in found for line in _left_open_lines(run)]
    return "\n".join([table_text(heads, lines), *told])


def _line(run: _Run) -> list[object]:
    row = run.row
    return [
        str(row.run),  # an id, not a quantity
        row.host,
        None if row.process_id is None else str(row.process_id),
        row.version,
        _to_seconds(row.started),
        # Where nobody has looked since a run died, its heartbeat may be the later one.
        _to_seconds(max(filter(None, (row.sign_of_life, run.heartbeat)), default=None)),
        run.state,
        row.accepted,
        row.committed,
        row.on_console,
        row.replayed,
    ]


def _counts(run: _Run) -> list[object]:
    return [run.left.connection_count, run.left.recording_count] if run.left else [None, None]


def _left_open_lines(run: _Run) -> Iterator[str]:
    """Name what a run that died left open, as far as it isn't too much."""
    left = run.left
    if left is None or not left.connection_count + left.recording_count:
        return
    heartbeat = f"; its last heartbeat was at {_to_seconds(run.heartbeat)}" if run.heartbeat else ""
    yield "\n" + harmless(f"run {run.row.run} died and left open{heartbeat}:")
    yield from (f"  {_connection(connection)}" for connection in left.connections)
    yield from _more(left.connection_count - len(left.connections), "connection")
    yield from (f"  {_recording(recording)}" for recording in left.recordings)
    yield from _more(left.recording_count - len(left.recordings), "recording")


def _connection(connection: OpenConnection) -> str:
    peer = f" of {connection.host}" if connection.host else ""
    peer += f", port {connection.port}" if connection.port else ""
    return harmless(
        f"connection {connection.connection_id}{peer}, accepted {_to_seconds(connection.accepted)}"
    )


def _recording(recording: OpenRecording) -> str:
    last = recording.last_frame_no
    frames = "no frame" if last is None else f"last frame {last:,}"
    return harmless(f"recording {recording.recording_id}, started {_to_seconds(recording.started)}, {frames}")


def _more(count: int, noun: str) -> Iterator[str]:
    if count:
        yield f"  ... and {plural(count, f'more {noun}')}"


def _to_seconds(moment: str | None) -> str | None:
    return None if moment is None else moment[:19]
