"""What the doctor checks of clocks and time zones. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

from ..reading import RunRow
from .common import plural
from .doctor_facts import Finding, Findings, Level, Log, SetBack
from .doctor_times import TOLERANCE, ahead_of, moment_of, offset_of, seconds

__all__ = ["clock_ahead", "clock_set_back", "time_zones"]

HOUR = timedelta(hours=1)
# What is imported is ahead of UTC by so much.
UTC = timedelta()

SYNCHRONISE = "have the clock synchronised: timedatectl set-ntp true, or on Windows: w32tm /resync"


def clock_ahead(log: Log) -> Findings:
    """What is committed already can't be later than now."""
    for run in log.own_runs:
        for latest in (run.sign_of_life, log.newest_added.get(run.run)):
            age = log.age(run, latest)
            if age is not None and age < -TOLERANCE:
                yield Finding(
                    f"run {run.run} wrote rows in the future: one is of {seconds(latest)}",
                    "this machine's clock is behind, or was ahead then; who reads by time misses rows",
                    SYNCHRONISE,
                )
                return


def clock_set_back(log: Log) -> Findings:
    """Rows of a run are committed one after the other, and runs get growing numbers."""
    back = [back for back in log.set_back if not _is_summer_time(log, back)]
    early = [run for run in log.own_runs if _began_early(run)]
    over = [run for run in log.own_runs if _ended_early(run)]
    moments = [
        *(f"in run {each.run}, at {seconds(each.before)}" for each in back),
        *(f"before run {run.run}, which began at {seconds(run.started)}" for run in early),
        *(f"in run {run.run}, which began at {seconds(run.started)}" for run in over),
    ]
    if moments:
        more = f" and {plural(len(moments) - 1, 'more time')}" if len(moments) > 1 else ""
        yield Finding(
            f"the clock was set back: {moments[0]}{more}",
            "rows around then have wrong times and durations; their order by LOG_SEQ is right",
            f"{SYNCHRONISE}; it then moves slowly",
            Level.NOTE,
        )


def _is_summer_time(log: Log, back: SetBack) -> bool:
    """Tell whether local time went back by its hour, as it does once a year."""
    before, after = moment_of(back.before), moment_of(back.after)
    if before is None or after is None:
        return True  # nothing is known of it
    local = any(run.run == back.run and offset_of(run) for run in log.runs)
    return local and abs(before - after - HOUR) <= TOLERANCE


def _began_early(run: RunRow) -> bool:
    ahead = ahead_of(run)
    return ahead is not None and offset_of(run) is None and ahead < -TOLERANCE


def _ended_early(run: RunRow) -> bool:
    started, sign_of_life = moment_of(run.started), moment_of(run.sign_of_life)
    return started is not None and sign_of_life is not None and sign_of_life < started - TOLERANCE


def time_zones(log: Log) -> Findings:
    """All runs should store the same kind of time: UTC, or local."""
    offsets = {run: offset for run in log.own_runs if (offset := offset_of(run)) is not None}
    offsets |= dict.fromkeys(log.imported_runs, UTC)
    if _agree(log, offsets):
        return
    first_of_each = {offset: run.run for run, offset in offsets.items()}
    kinds = ", ".join(f"run {run}: {_shown(offset)}" for offset, run in first_of_each.items())
    lately = {run: offset for run, offset in offsets.items() if log.is_late(run)}
    yield Finding(
        f"runs stored the times of different zones ({kinds})",
        "rows can't be put in order by time, and who asks for a span of time gets the wrong ones",
        "open every log with the same timezone=, best with 'utc'; ask for older rows by ENGINE_RUN_ID",
        Level.NOTE if _agree(log, lately) else Level.WRONG,
    )


def _agree(log: Log, offsets: Mapping[RunRow, timedelta]) -> bool:
    """Tell whether one zone explains all: the same offset, or the local time of this machine."""
    if len(set(offsets.values())) <= 1:
        return True
    return all(offset == log.local_offsets.get(run.run) for run, offset in offsets.items())


def _shown(offset: timedelta) -> str:
    minutes = round(offset / timedelta(minutes=1))
    sign = "-" if minutes < 0 else "+"
    return f"UTC{sign}{abs(minutes) // 60:02}:{abs(minutes) % 60:02}" if minutes else "UTC"
