"""What is in the spool beside a database: whose it is, who is alive, how many rows wait."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from ..leftovers import is_alive, planted_file, runs_in
from ..reading import RunRow
from ..segments import Position, read_lines, segments_of, size_of, spool_folder

__all__ = ["SpoolRun", "runs_alive", "spool_bytes", "spool_runs", "state_of", "unreadable_files"]

NOT_RECOVERED = "dead, not recovered"


class SpoolRun(NamedTuple):
    """A run that has files in the spool."""

    run: int
    alive: bool
    # Whether there are segments, not only a lock.
    has_rows_file: bool
    # Rows behind the place that is committed; not counted for a run that is alive.
    waiting: int


def state_of(run: RunRow, alive: set[int]) -> str:
    """Return in a word or two what became of a run."""
    if run.how_ended is not None:
        return run.how_ended
    return "running" if run.run in alive else NOT_RECOVERED


def runs_alive(database: Path) -> set[int]:
    """Return the runs whose processes are alive, by their locks."""
    folder = spool_folder(database)
    return {run for run in runs_in(folder) if is_alive(folder, run)}


def spool_runs(database: Path, positions: dict[int, Position]) -> dict[int, SpoolRun]:
    """Return the runs that have files in the spool; ``positions`` tells how far each is committed."""
    folder = spool_folder(database)
    found = {}
    for run in runs_in(folder):
        alive = is_alive(folder, run)
        has_rows_file = any(segments_of(folder, run))
        # What a stranger put there isn't looked into: a pipe would never end.
        alone = alive or planted_file(folder, run) is not None
        waiting = 0 if alone else _waiting(folder, run, positions.get(run, Position(1, 0)))
        found[run] = SpoolRun(run, alive, has_rows_file, waiting)
    return found


def _waiting(folder: Path, run: int, position: Position) -> int:
    rows = 0
    for number, path in segments_of(folder, run):
        if number < position.segment:
            continue
        offset = position.offset if number == position.segment else 0
        rows += _lines_behind(path, offset)
    return rows


def _lines_behind(path: Path, offset: int) -> int:
    rows = 0
    while True:
        try:
            with path.open("rb") as file:
                data, offset = read_lines(file, offset, 100_000)
        except FileNotFoundError:  # an engine that started meanwhile has committed it
            return 0
        if not data:
            return rows
        rows += data.count(b"\n")


def unreadable_files(database: Path) -> list[Path]:
    """Return the files of lines that couldn't be read, and were set aside."""
    return sorted(spool_folder(database).glob("unreadable-*"))


def spool_bytes(database: Path) -> int:
    """Return the room that the spool takes on the disk."""
    return sum(size_of(path) for path in spool_folder(database).glob("*"))
