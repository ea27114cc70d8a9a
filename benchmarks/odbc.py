"""
What reading along over ODBC costs the engine, and how fresh it is: ``python -m benchmarks.odbc``.

An engine in a process of its own logs 5,000 rows a second and measures each call. This process reads what is
new as the script for SQL Server does, through SQLite's real driver, and now and then a whole view. It reads
and pauses in turns, so that one run has calls with a reader and without. At the end every row must have been
seen just once.

"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
from array import array
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from async_enginelog import EngineLog
from async_enginelog.migrations import migrations
from async_enginelog.odbc import bridge_version
from async_enginelog.odbc_paths import connection_string
from async_enginelog.sqlserver import Link, Target, create_script
from tests import odbc, tsql
from tests.tsql_procedure import executed

ROWS_A_SECOND = 5000
TICK = 0.01
POLL = 0.05
# Every so many polls, a whole view is read, too.
VIEW_POLLS = 20
TABLE = "ENGINE_DB_LOG_STEPS"


def with_reader(now: float, begin: float, period: float) -> bool:
    """Tell whether it is the reader's turn; both processes have the same clock."""
    return int((now - begin) / period) % 2 == 0


# -- the engine -------------------------------------------------------------------------------------


async def write(path: Path, begin: float, seconds: float, period: float) -> dict[str, Any]:
    """Log rows at an even rate, and return what the calls took, in microseconds."""
    costs = {True: array("d"), False: array("d")}
    number = 0
    async with EngineLog(path) as log:
        await asyncio.sleep(max(0.0, begin - time.monotonic()))
        while (now := time.monotonic()) < begin + seconds:
            taken = costs[with_reader(now, begin, period)]
            while number < (now - begin) * ROWS_A_SECOND:
                number += 1
                start = time.perf_counter_ns()
                await log.log_steps(
                    step_id=number, step_name="resample", recording_id=7, frame_no=number // 50
                )
                taken.append((time.perf_counter_ns() - start) / 1000)
            await asyncio.sleep(TICK)
    assert log.statistics().last_fault is None
    return {"rows": number, "with": shown(costs[True]), "without": shown(costs[False])}


def shown(values: array[float]) -> dict[str, float]:
    """Return median, 99th percentile and maximum."""
    ordered = sorted(values)
    return {
        "calls": len(ordered),
        "median": statistics.median(ordered),
        "p99": ordered[len(ordered) * 99 // 100],
        "max": ordered[-1],
    }


# -- the reader -------------------------------------------------------------------------------------


class Reader:
    """Follows a table, as the procedure of the script does, and reads its view."""

    def __init__(self, path: Path, driver: str) -> None:
        self._connection = odbc.Connection(connection_string(str(path), driver))
        self._script = create_script(Link(str(path), Target("E", "V"), bridge_version(migrations())))
        self._view = next(
            query for query in tsql.pass_through_queries(self._script) if f"V_ODBC_{TABLE}" in query
        )
        self._last = 0
        self.polls = 0
        self.views = 0
        self.ages: list[float] = []
        self.errors: list[str] = []
        self.seen = array("q")

    def read_new(self) -> None:
        """Read what is new, and note how old the newest row is."""
        [query] = tsql.pass_through_queries(executed(self._script, table=TABLE, after_seq=self._last))
        answer = self._ask(query)
        columns = [column.name for column in answer.executed]
        self.polls += 1
        if answer.rows:
            newest = datetime.fromisoformat(answer.rows[-1][columns.index("DT_STEP_CALLED")])
            self.ages.append((datetime.now(UTC) - newest.replace(tzinfo=UTC)).total_seconds() * 1000)
            self._last = answer.rows[-1][columns.index("LOG_SEQ")]
            place = columns.index("STEP_ID")
            self.seen.extend(row[place] for row in answer.rows)

    def read_view(self) -> None:
        """Read the newest 10,000 rows."""
        self.views += 1
        self._ask(self._view)

    def _ask(self, query: str) -> odbc.Answer:
        answer = self._connection.ask(query)
        self.errors += answer.remarks
        if answer.prepared != answer.executed:
            self.errors.append(f"the types changed: {query}")
        return answer

    def drain(self) -> None:
        """Read to the end. How old rows are doesn't count any more."""
        ages = list(self.ages)
        before = -1
        while len(self.seen) > before:
            before = len(self.seen)
            self.read_new()
        self.ages = ages


class Result(NamedTuple):
    """What a run showed; ages in milliseconds, calls in microseconds."""

    seconds_read: float
    polls: int
    views: int
    errors: list[str]
    rows: int
    seen_once: bool
    age_median: float
    age_max: float
    calls_with: dict[str, float]
    calls_without: dict[str, float]


def measure(path: Path, driver: str, seconds: float, period: float) -> Result:
    """Read for ``seconds`` while an engine writes for twice as long."""
    begin = time.monotonic() + 2.0
    asyncio.run(make(path))
    arguments = ["--engine", str(path), "--begin", repr(begin), "--seconds", repr(2 * seconds)]
    command = [sys.executable, "-m", "benchmarks.odbc", *arguments, "--period", repr(period)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(__file__).parent.parent) as engine:
        reader = Reader(path, driver)
        read_in_turns(reader, begin, seconds, period)
        assert engine.stdout is not None
        written = json.loads(engine.stdout.read())
    reader.drain()
    return Result(
        seconds,
        reader.polls,
        reader.views,
        reader.errors,
        written["rows"],
        sorted(reader.seen) == list(range(1, written["rows"] + 1)),
        statistics.median(reader.ages),
        max(reader.ages),
        written["with"],
        written["without"],
    )


async def make(path: Path) -> None:
    """Make the database, so that there is something to connect to."""
    async with EngineLog(path):
        pass


def read_in_turns(reader: Reader, begin: float, seconds: float, period: float) -> None:
    """Read in every other period. What has gathered in a pause is read first, and its age doesn't count."""
    time.sleep(max(0.0, begin - time.monotonic()))
    paused = False
    while (now := time.monotonic()) < begin + 2 * seconds:
        if not with_reader(now, begin, period):
            paused = True
            time.sleep(POLL)
            continue
        if paused:
            reader.drain()
            paused = False
        reader.read_new()
        if reader.polls % VIEW_POLLS == 0:
            reader.read_view()
        time.sleep(POLL)


def report(result: Result) -> str:
    """Return what is told of a run."""
    lines = [
        f"read over ODBC for {result.seconds_read:g} s while an engine logged {result.rows:,} rows: "
        f"{result.polls:,} polls, {result.views:,} whole views, errors: {len(result.errors)}",
        f"every row seen once: {'yes' if result.seen_once else 'NO'}",
        f"age of the newest row: median {result.age_median:.0f} ms, maximum {result.age_max:.0f} ms",
    ]
    for name, calls in (("with", result.calls_with), ("without", result.calls_without)):
        lines.append(
            f"a call of the engine {name} the reader: median {calls['median']:.2f} µs, "
            f"99 % {calls['p99']:.1f} µs, maximum {calls['max'] / 1000:.1f} ms ({calls['calls']:,.0f} calls)"
        )
    return "\n".join([*lines, *result.errors[:5]])


def main() -> None:
    """Read the options and measure."""
    parser = argparse.ArgumentParser(description="What reading along over ODBC costs, and how fresh it is.")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long to read")
    parser.add_argument("--period", type=float, default=5.0, help="how long a turn is")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--engine", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--begin", type=float, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.engine:
        print(json.dumps(asyncio.run(write(options.engine, options.begin, options.seconds, options.period))))
        return
    driver = odbc.find_driver()
    if driver is None:
        sys.exit(f"SQLite's ODBC driver isn't installed; {odbc.HOW_TO_GET_IT}")
    with tempfile.TemporaryDirectory() as folder:
        result = measure(Path(folder) / "engine_log.db", driver, options.seconds, options.period)
    print(json.dumps(result._asdict()) if options.json else report(result))


if __name__ == "__main__":
    main()
