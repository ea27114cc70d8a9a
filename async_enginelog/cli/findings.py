"""Decide what is wrong with a log, without performing any I/O."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from ..reading import RunRow, SalvageRow, Schema, TableCount
from .common import plural
from .spools import SpoolRun

__all__ = [
    "Observation",
    "Snapshot",
    "integrity_findings",
    "lacking",
    "row_findings",
    "run_findings",
    "salvage_findings",
    "schema_findings",
    "spool_findings",
    "spool_folder_findings",
    "unreadable_findings",
]

SHOWN_FAULTS = 10


class Observation(NamedTuple):
    """Something to know about a log: wrong, or worth a note."""

    what: str
    remedy: str
    wrong: bool = True


class Snapshot(NamedTuple):
    """The runs and the rows of the log, at one moment."""

    runs: list[RunRow]
    tables: Mapping[str, TableCount]
    replayed: Mapping[int, int]
    newest_log_seq: int


def schema_findings(version: int, newest: int, actual: Schema, expected: Schema) -> Iterator[Observation]:
    """Compare tables and indexes to what the migrations make; more of them than that is no harm."""
    if version < newest:
        yield Observation(
            f"the schema version is {version}, this version of async-enginelog has {newest}",
            "bring it up to date: enginelog init",
        )
        return
    for name in sorted(expected.keys() - actual.keys()):
        yield Observation(f"the {name} is missing", "somebody dropped it; restore a backup, or make it again")
    for name in sorted(expected.keys() & actual.keys()):
        if expected[name] != actual[name]:
            yield Observation(
                f"the {name} isn't as the migrations make it{_difference(actual[name], expected[name])}",
                "somebody changed it; restore a backup, or undo the change",
            )


def lacking(actual: Schema, expected: Schema) -> list[str]:
    """Return the tables and columns that aren't there, so that rows can't be read."""
    gone = []
    for name, columns in expected.items():
        kind, _, table = name.partition(" ")
        if kind == "table":
            there = {column[0] for column in actual.get(name, ())}
            lost = [f"{table}.{column[0]}" for column in columns if column[0] not in there]
            gone += lost if there else [table]
    return gone


def _difference(actual: Iterable[tuple[object, ...]], expected: Iterable[tuple[object, ...]]) -> str:
    odd = sorted({str(entry[0]) for entry in set(actual) ^ set(expected)})
    return f": {', '.join(odd)}" if odd else ""


def integrity_findings(faults: list[str]) -> Iterator[Observation]:
    """Tell what SQLite finds wrong in the file."""
    for fault in faults[:SHOWN_FAULTS]:
        yield Observation(
            f"the file is damaged: {fault}",
            "save what can be read: enginelog salvage; the damaged file is kept",
        )


def row_findings(snapshot: Snapshot) -> Iterator[Observation]:
    """Compare the rows that are there to what ENGINE_LOG_RUN says."""
    known = {run.run for run in snapshot.runs}
    for table, count in snapshot.tables.items():
        for unknown in sorted(count.by_run.keys() - known, key=str):
            yield Observation(
                f"{table} has {plural(count.by_run[unknown] or 0, 'row')} of run {unknown}, which "
                "ENGINE_LOG_RUN doesn't know",
                "somebody inserted them, or deleted the run; enginelog writes neither",
            )
        if count.newest_log_seq > snapshot.newest_log_seq:
            yield Observation(
                f"{table} has LOG_SEQ {count.newest_log_seq:,}, but the highest that was given is "
                f"{snapshot.newest_log_seq:,}",
                "somebody changed LOG_SEQ or ENGINE_LOG_RUN; readers by LOG_SEQ may miss rows",
            )
    for unknown in sorted(snapshot.replayed.keys() - known):
        yield Observation(
            f"ENGINE_LOG_REPLAYED has {plural(snapshot.replayed[unknown], 'row')} of run {unknown}, which "
            "ENGINE_LOG_RUN doesn't know",
            "somebody inserted them, or deleted the run; a replay would leave such rows out",
        )
    for run in snapshot.runs:
        yield from _stored_findings(run, snapshot)


def _stored_findings(run: RunRow, snapshot: Snapshot) -> Iterator[Observation]:
    by_table = {table: count.by_run.get(run.run, 0) for table, count in snapshot.tables.items()}
    there = sum(by_table.values())
    if there != run.stored:
        change = f"{abs(there - run.stored):,} {'missing' if there < run.stored else 'too many'}"
        yield Observation(
            f"run {run.run}: it made {plural(run.stored, 'row')}, and {there:,} are there, {change} "
            f"({_suspects(by_table, snapshot)})",
            "somebody deleted or inserted rows; restore a backup if they are needed",
        )
    replayed = snapshot.replayed.get(run.run, 0)
    if replayed != run.replayed:
        yield Observation(
            f"run {run.run}: ROWS_REPLAYED says {run.replayed:,}, ENGINE_LOG_REPLAYED has {replayed:,}",
            "somebody changed one of them; a replay may double or leave out rows",
        )


def _suspects(by_table: Mapping[str, int], snapshot: Snapshot) -> str:
    """Say where rows went missing, as the numbers show that SQLite gave them; else where there are any."""
    gone = {table: count.gone for table, count in snapshot.tables.items() if count.gone > 0}
    missing = sum(run.stored for run in snapshot.runs) - sum(
        sum(count.by_run.values()) for count in snapshot.tables.values()
    )
    # What was pruned is gone, too, and isn't missing: then the numbers don't tell.
    if gone and sum(gone.values()) <= missing:
        return "gone from " + ", ".join(f"{table}: {count:,}" for table, count in gone.items())
    return (
        ", ".join(f"{table}: {count:,}" for table, count in by_table.items() if count) or "no table has any"
    )


def salvage_findings(salvages: Iterable[SalvageRow]) -> Iterator[Observation]:
    """Tell of salvages: what they lost, ENGINE_LOG_RUN counts no more."""
    for found in salvages:
        lost = "nobody knows how many" if found.lost is None else f"{found.lost:,}"
        others = ", ".join((found.damaged_tables or "").split())
        yield Observation(
            f"this file was salvaged on {found.salvaged[:19]}: {found.saved:,} rows were saved, {lost} lost"
            + (f"; of {others} something may be lost" if others else ""),
            f"the damaged file was kept as {found.damaged_file}" if found.damaged_file else "",
            False,
        )


def run_findings(run: RunRow, spool: SpoolRun | None) -> Iterator[Observation]:
    """Tell whether all rows that a run accepted have arrived."""
    if run.dropped:
        yield Observation(
            f"run {run.run} dropped {plural(run.dropped, 'row')}: the spool had no room, and the console "
            "didn't keep up",
            "",
            False,
        )
    waiting = run.accepted - run.accounted
    if run.how_ended is not None:
        if waiting:
            yield Observation(
                f"run {run.run} ({run.how_ended}): it accepted {plural(run.accepted, 'row')}, but "
                f"{run.accounted:,} are committed, on the console or unreadable",
                "if its spool was deleted, the rest is lost; else report this as a bug",
            )
    elif spool is not None and spool.alive:
        some = f"; {plural(waiting, 'row')} on the way" if waiting > 0 else ""
        yield Observation(
            f"run {run.run} is running on {run.host}, process {run.process_id}{some}", "", False
        )
    elif spool is None or not spool.has_rows_file:
        lost = f"at least {plural(waiting, 'row')} lost" if waiting > 0 else "rows may be lost"
        yield Observation(
            f"run {run.run}: its process is gone and its spool was deleted; {lost}",
            "bring the spool back from a backup, if there is one, and open the log",
        )


def spool_folder_findings(folder: Path, *, is_other: bool) -> Iterator[Observation]:
    """Tell whether something else is where the folder of the spools should be."""
    if is_other:
        yield Observation(
            f"{folder} isn't a folder, so no engine can open the log", "look what it is, and move it away"
        )


def spool_findings(spools: Iterable[SpoolRun]) -> Iterator[Observation]:
    """Tell what dead runs left behind."""
    for spool in spools:
        if spool.alive or not spool.has_rows_file:
            continue
        yield Observation(
            f"run {spool.run} is dead; in its spool {plural(spool.waiting, 'row waits', 'rows wait')}",
            "nothing is lost: they are committed when an engine opens this log next",
            spool.waiting > 0,
        )


def unreadable_findings(files: Iterable[Path]) -> Iterator[Observation]:
    """Tell of lines that were set aside."""
    for file in files:
        yield Observation(
            f"lines of a spool couldn't be read; they are in {file}",
            "look what they are, save what is of use, and delete the file",
        )
