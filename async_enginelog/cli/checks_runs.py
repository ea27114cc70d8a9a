"""What the doctor checks of the runs: who is alive, who died, and where their rows are. No I/O."""

from __future__ import annotations

from collections.abc import Callable, Collection
from datetime import timedelta

from ..reading import RunRow
from .common import plural
from .doctor_facts import Finding, Findings, Level, Log, quoted
from .doctor_times import began, seconds

__all__ = [
    "backlog",
    "broken_import",
    "deleted_spool",
    "died",
    "heartbeat",
    "host",
    "left_in_spool",
    "rows_dropped",
    "rows_on_console",
    "set_aside",
    "sign_of_life",
    "spool_hidden",
]

# A run says every 30 s that it is alive; so does a heartbeat, unless the engine chose another interval.
SIGN_OF_LIFE = timedelta(minutes=2)
HEARTBEAT = timedelta(minutes=5)

# An engine that keeps up has three segments: one it writes to, and two spares.
MANY_SEGMENTS = 8

# So many runs are named.
NAMED = 3


def spool_hidden(log: Log) -> Findings:
    """Who can't look into the spool can't tell the living from the dead."""
    if log.alive is None:
        yield Finding(
            "the spool can't be looked into by this account",
            "so nothing is said here of which runs are alive, and of rows that wait",
            f"run it as the engine's account, or as root: sudo enginelog doctor {quoted(log.path)}",
            Level.NOTE,
        )


def host(log: Log) -> Findings:
    """All processes must be on one host, or the locks that keep them apart don't."""
    for run in log.runs:
        if run.how_ended is not None or run.host in (None, log.host) or log.alive is None:
            continue
        age = log.age(run, run.sign_of_life)
        if run.run in log.alive:
            yield Finding(
                f"run {run.run} is alive on the host {run.host}, and this is {log.host}",
                "right if that is a container on this machine; WAL mode doesn't work over a network",
                "keep engine, file and readers on one host",
                Level.NOTE,
            )
        elif age is not None and age < SIGN_OF_LIFE:
            yield Finding(
                f"run {run.run} on {run.host} was alive {age.seconds} s ago, but not by its lock here",
                "unless it has just died, it writes to this file from another host, and that damages it",
                f"stop the engine on {run.host}, and move the log to a disk of its own host",
            )


def left_in_spool(log: Log) -> Findings:
    """What dead runs left is committed when an engine opens the log next; until then it isn't seen."""
    waiting = [spool for spool in log.spools.values() if not spool.alive and spool.waiting]
    if waiting:
        rows, dead = sum(spool.waiting for spool in waiting), [spool.run for spool in waiting]
        yield Finding(
            f"{plural(rows, 'row waits', 'rows wait')} in the spool of {_named(dead)}, whose process died",
            "nothing is lost, but no reader sees them yet",
            "the engine that runs commits them once it has been idle for 30 s; or start it anew"
            if log.alive
            else "start the engine: it commits them when it opens this log",
        )


def deleted_spool(log: Log) -> Findings:
    """A run that died with rows in its spool needs the spool."""
    there = {run for run, spool in log.spools.items() if spool.has_rows_file}
    gone = [run.run for run in log.runs_dead if run.run not in there]
    if gone:
        yield Finding(
            f"{_named(gone)} died, and the spool was deleted",
            "rows that weren't committed yet are lost",
            "bring the spool back from a backup, if there is one; how many are lost: enginelog verify "
            f"{quoted(log.path)}",
        )


def set_aside(log: Log) -> Findings:
    """Lines that can't be read are kept for somebody to look at them."""
    if log.unreadable:
        more = f" and {plural(len(log.unreadable) - 1, 'more file')}" if len(log.unreadable) > 1 else ""
        yield Finding(
            f"lines of a spool couldn't be read; they are in {log.unreadable[0]}{more}",
            "these rows are in no table; a disk that fails, or a newer version, is behind it",
            "look what they are, save what is of use, and delete the file",
        )


def backlog(log: Log) -> Findings:
    """A spool that grows belongs to an engine whose commits fail, or don't keep up."""
    behind = [run for run in sorted(log.alive or ()) if log.segments.get(run, 0) >= MANY_SEGMENTS]
    if behind:
        count = max(log.segments[run] for run in behind)
        yield Finding(
            f"the spool of {_named(behind)}, alive, has {count} segments",
            "its rows aren't committed as fast as they come; at its limit they go to the console",
            "see what the engine says on standard error (the logger async_enginelog), and who holds locks",
        )


def sign_of_life(log: Log) -> Findings:
    """A run whose process is alive says so every 30 s, unless it can't commit."""
    known = {run.run: run for run in log.runs}
    for run in sorted(log.alive or ()):
        row = known.get(run)
        age = log.age(row, row.sign_of_life) if row else _age_of(log, run)
        if age is not None and age > SIGN_OF_LIFE:
            said = f"since {seconds(row.sign_of_life)}" if row else "at all"
            yield Finding(
                f"run {run} is alive, but hasn't committed anything {said}",
                "its process hangs, or the database can't be written to; its rows wait in the spool",
                "see what the engine says on standard error (the logger async_enginelog), and what it does",
            )


def _age_of(log: Log, run: int) -> timedelta | None:
    moment = began(run)
    return None if moment is None else log.now - moment


def heartbeat(log: Log) -> Findings:
    """A heartbeat that stops while its run goes on says that a task has ended."""
    for run in log.runs_alive:
        last = log.heartbeats.get(run.run)
        age = log.age(run, last)
        if age is not None and age > HEARTBEAT:
            yield Finding(
                f"run {run.run} is alive, but its last heartbeat is of {seconds(last)}",
                "its Heartbeat has ended while the log goes on, unless its interval is longer than that",
                "keep the block `async with Heartbeat(log)` around all that the engine does",
                Level.NOTE,
            )


def rows_on_console(log: Log) -> Findings:
    """Rows that only the console has can be brought back, as long as somebody has kept it."""
    yield from _by_age(
        log,
        lambda run: run.on_console - run.replayed,
        "on the console that were never replayed",
        "the spool couldn't take them; they are in no table",
        f"enginelog replay ENGINE_STDERR.txt {quoted(log.path)}",
    )


def rows_dropped(log: Log) -> Findings:
    """Rows that nobody took are gone."""
    yield from _by_age(
        log,
        lambda run: run.dropped,
        "dropped",
        "the spool had no room, and the console didn't keep up; they are lost",
        "find out why the database or the disk failed; EngineLog(spool_limit=...) gives the spool more room",
    )


def _by_age(log: Log, rows_of: Callable[[RunRow], int], what: str, why: str, do: str) -> Findings:
    """Sum up runs: those of the last days are wrong, for older ones nobody can do anything any more."""
    for level, late in ((Level.WRONG, True), (Level.NOTE, False)):
        found = [run for run in log.runs if rows_of(run) > 0 and log.is_late(run) is late]
        if found:
            rows = sum(map(rows_of, found))
            yield Finding(
                f"{_named([run.run for run in found])}: {plural(rows, 'row')} {what}", why, do, level
            )


def died(log: Log) -> Findings:
    """Engines that die leave their clients alone."""
    found = [run for run in log.runs if run.how_ended == "crashed" and log.is_late(run)]
    dead = [*log.runs_dead, *found]
    if dead:
        left = [log.left_open[run.run] for run in dead if run.run in log.left_open]
        connections = sum(each.connection_count for each in left)
        recordings = sum(each.recording_count for each in left)
        yield Finding(
            f"{_named([run.run for run in dead])} died, leaving {plural(connections, 'connection')} and "
            f"{plural(recordings, 'recording')} open, the last at {seconds(dead[0].sign_of_life)}",
            "what was logged is safe; the clients were cut off",
            f"enginelog runs {quoted(log.path)}; the engine's standard error, or dmesg, may say why",
            Level.NOTE,
        )


def broken_import(log: Log) -> Findings:
    """An import that was broken off can go on."""
    found = [run.run for run in log.runs if run.how_ended == "importing"]
    if found:
        yield Finding(
            f"the import of {_named(found)} isn't done",
            "unless it is under way, rows of the old file are missing",
            f"do it again, it goes on where it was: enginelog import OLD {quoted(log.path)}",
            Level.NOTE,
        )


def _named(runs: Collection[int]) -> str:
    named = ", ".join(str(run) for run in list(runs)[:NAMED])
    more = f" and {len(runs) - NAMED:,} more" if len(runs) > NAMED else ""
    return f"{'run' if len(runs) == 1 else 'runs'} {named}{more}"
