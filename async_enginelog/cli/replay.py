"""``enginelog replay``: bring rows of a console capture into the database."""

from __future__ import annotations

import codecs
import io
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import groupby, islice
from pathlib import Path
from typing import Annotated, BinaryIO

import typer

from .. import reading
from ..console import ConsoleRow, rows_in
from ..leftovers import runs_in
from ..lines import Row, decode, plain_columns
from ..maintenance import Maintenance
from ..segments import size_of, spool_folder
from ..values import local_time_text, time_text
from .common import (
    PATIENCE,
    WRONG,
    DatabaseArgument,
    complain,
    database_path,
    harmless,
    plural,
    progress_bar,
    run,
    say,
)

__all__ = ["replay"]

BATCH_ROWS = 500
# Longer than the longest row with what may stand before it.
MAX_LINE_BYTES = 1024 * 1024
SHOWN_RANGES = 10


@dataclass
class _Tally:
    """What was found, and what became of it."""

    found: int = 0
    replayed: int = 0
    unreadable: int = 0
    numbers: defaultdict[int, set[int]] = field(default_factory=lambda: defaultdict(set))

    @property
    def already_there(self) -> int:
        return self.found - self.replayed - self.unreadable


def replay(
    capture: Annotated[
        Path, typer.Argument(metavar="FILE", help="The console capture; - is standard input.")
    ],
    database: DatabaseArgument = None,
    local: Annotated[
        bool, typer.Option("--local", help="Store local times, as an engine with timezone='local' does.")
    ] = False,
) -> None:
    """
    Bring rows from a console capture into the database.

    An engine puts rows on the console where its spool can't take them. FILE is any capture of the
    engine's standard error, with whatever else is in it. No row is doubled, however often it is
    replayed: the database remembers their numbers. Rows go under the run that logged them; where a
    column is filled in already, that stays.

    \b
    Examples:
      enginelog replay engine-stderr.txt
      journalctl -u engine -o cat | enginelog replay - /var/log/engine/log.db
    """
    run(_replay(capture, database_path(database), local_time_text if local else time_text))


async def _replay(capture: Path, path: Path, as_stored: Callable[[str], str]) -> int:
    tally = _Tally()
    with _opened(capture) as file:
        database = await Maintenance.open(path, create=False)
        try:
            await database.wait_for_locks(PATIENCE)
            with progress_bar("replaying") as advance:
                total = size_of(capture)
                rows = rows_in(_lines(file, lambda done: advance(done, max(done, total))))
                while batch := list(islice(rows, BATCH_ROWS)):
                    await _replay_batch(database, batch, as_stored, tally)
            _report(tally)
            await _report_gaps(database, tally)
        finally:
            await database.close()
    return WRONG if tally.unreadable else 0


@contextmanager
def _opened(capture: Path) -> Iterator[BinaryIO]:
    if str(capture) == "-":
        yield sys.stdin.buffer
    else:
        with capture.open("rb") as file:
            yield file


def _lines(file: BinaryIO, advance: Callable[[int], None]) -> Iterator[bytes]:
    """Yield the lines of a capture, in UTF-8 also where PowerShell has made UTF-16 of it."""
    start = file.read(2)
    if start in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        encoding = "utf-16-le" if start == codecs.BOM_UTF16_LE else "utf-16-be"
        yield from _lines_of_text(io.TextIOWrapper(file, encoding, errors="replace"))
        return
    done = len(start)
    # The first two bytes can't be a row by themselves; what stands before a row doesn't matter.
    while line := file.readline(MAX_LINE_BYTES):
        done += len(line)
        advance(done)
        yield start + line
        start = b""


def _lines_of_text(file: io.TextIOWrapper) -> Iterator[bytes]:
    try:
        for text in file:
            yield text.encode("utf-8", "replace")
    finally:
        file.detach()  # or it would close what isn't its own


async def _replay_batch(
    database: Maintenance, found: list[ConsoleRow], as_stored: Callable[[str], str], tally: _Tally
) -> None:
    added = as_stored(datetime.now(UTC).isoformat(timespec="microseconds"))
    # While the spool of a run is there, its end is for recovery to tell.
    waiting = runs_in(spool_folder(database.path))
    by_run = groupby(sorted(found), key=lambda row: row.run)
    for run_id, group in by_run:
        rows = _decoded(group, tally)
        tally.replayed += await database.replay(
            run_id,
            rows,
            highest=max(tally.numbers[run_id]),
            how_ended=None if run_id in waiting else "crashed",
            as_stored=as_stored,
            added=added,
        )


def _decoded(found: Iterable[ConsoleRow], tally: _Tally) -> dict[int, Row]:
    rows: dict[int, Row] = {}
    for run_id, number, line in found:
        tally.found += 1
        tally.numbers[run_id].add(number)
        try:
            [(table, columns)], _ = decode(line + b"\n")
            rows[number] = table, plain_columns(table, columns)
        except (TypeError, ValueError, AttributeError):
            tally.unreadable += 1
            shown = harmless(line[:200].decode("utf-8", "replace"))
            complain(f"row {number} of run {run_id} can't be read: {shown}")
    return rows


def _report(tally: _Tally) -> None:
    say(
        f"found {plural(tally.found, 'row')}: {tally.replayed:,} replayed, "
        f"{tally.already_there:,} already there, {tally.unreadable:,} unreadable"
    )


async def _report_gaps(database: Maintenance, tally: _Tally) -> None:
    for run_id, numbers in sorted(tally.numbers.items()):
        known = numbers | await reading.replayed_numbers(database, run_id)
        gaps = list(_gaps(sorted(known)))
        if gaps:
            missing = sum(last - first + 1 for first, last in gaps)
            ranges = [f"{first:,}" if first == last else f"{first:,} to {last:,}" for first, last in gaps]
            shown = ", ".join(ranges[:SHOWN_RANGES]) + (", ..." if len(ranges) > SHOWN_RANGES else "")
            say(f"run {run_id}: {plural(missing, 'row')} missing from this capture: {shown}")


def _gaps(numbers: list[int]) -> Iterator[tuple[int, int]]:
    """Yield first and last of each span that is missing between 1 and the highest number."""
    expected = 1
    for number in numbers:
        if number > expected:
            yield expected, number - 1
        expected = number + 1
