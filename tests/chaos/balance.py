"""
The balance: accepted = committed + pending in the spool + on the console, compared row by row.

Reads the database, the spool and the console capture by itself, not through the library under attack.

"""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from async_enginelog.tables import TABLES

from .numbered import COLUMNS, belonging_together, numbers_in
from .record import Record

__all__ = ["Balance", "Streams", "console_lines", "settle"]

# Tells whether rows of a stream, which belong together, may be gone since somebody has pruned.
MayGo = Callable[[int, list[int]], bool]

# So many faults are told one by one.
TOLD = 5


class Streams(Protocol):
    """Who logged: what the balance must know of a victim."""

    @property
    def first_stream(self) -> int:
        """The number of its first stream."""

    @property
    def streams(self) -> int:
        """How many it has."""

    @property
    def record(self) -> Record:
        """What it did."""

    @property
    def console(self) -> Path:
        """Where its standard error went."""


class Balance(NamedTuple):
    """What became of the accepted rows."""

    rows: int
    lost: int
    doubled: int
    # Rows by where they were found.
    places: Counter[str]
    # The first few of what is wrong, in words.
    faults: list[str]

    def __add__(self, other: object) -> Balance:
        """Put two balances together: of two databases, or of two moments."""
        if not isinstance(other, Balance):
            return NotImplemented
        return Balance(
            self.rows + other.rows,
            self.lost + other.lost,
            self.doubled + other.doubled,
            self.places + other.places,
            (self.faults + other.faults)[:TOLD],
        )


NOTHING = Balance(0, 0, 0, Counter(), [])


def stored_time(moment: datetime) -> str:
    """Return a time as the database has it."""
    return moment.strftime("%Y-%m-%d %H:%M:%S.%f")


def settle(
    database: Path,
    victims: Iterable[Streams],
    *,
    recovered: bool,
    counted: bool = True,
    as_stored: Callable[[datetime], str] = stored_time,
    may_go: MayGo | None = None,
) -> Balance:
    """
    Compare what the victims logged with what there is, row by row.

    Args:
        database: The log.
        victims: All that logged to it. None of them is alive.
        recovered: Whether a log was opened and closed since: then nothing may wait in the spool any more,
            and what does counts as lost. Otherwise a copy of the database is looked at, and the spool
            behind what is committed.
        counted: Whether the database counts these rows and no others, so that its counts can be compared,
            too: of rows that fill in what others began, only they tell one that is committed twice.
        as_stored: How times look in the database.
        may_go: What may be pruned, if anything may. It must be gone whole.

    """
    ledger = _Ledger(victims, may_go)
    if recovered:
        _look_into_database(database, ledger, as_stored)
    else:
        with _Copy(database) as copy:
            positions = _look_into_database(copy, ledger, as_stored)
        for line in _pending_lines(database.with_name(f"{database.name}-spool"), positions):
            ledger.find("pending", *_parsed(line), datetime.isoformat)
    for victim in ledger.victims:
        for line in console_lines(victim.console):
            ledger.find("console", *_parsed(line), datetime.isoformat)
    if recovered and counted:
        ledger.compare_counts(_counts(database))
    return ledger.balance()


class _Ledger:
    """How often each row was found."""

    def __init__(self, victims: Iterable[Streams], may_go: MayGo | None) -> None:
        self.victims = list(victims)
        self._may_go = may_go
        self._accepted: dict[int, int] = {}
        self._begun: dict[int, int] = {}
        for victim in self.victims:
            for index in range(victim.streams):
                self._accepted[victim.first_stream + index] = victim.record.returned[index]
                self._begun[victim.first_stream + index] = victim.record.began[index]
        self._found = {stream: bytearray(begun + 2) for stream, begun in self._begun.items()}
        self._places: Counter[str] = Counter()
        self._faults: list[str] = []
        self._invented = self._uncounted = 0

    def find(
        self, place: str, table: str, columns: dict[str, Any], as_found: Callable[[datetime], Any]
    ) -> None:
        """Take note of what was found somewhere."""
        for stream, number in numbers_in(table, columns, as_found):
            if stream not in self._found:
                continue
            if number > self._begun[stream]:
                self._invented += 1
                self._tell(f"row {number} of stream {stream} was never logged, but is {place}")
                continue
            self._places[place] += 1
            found = self._found[stream]
            found[number] = min(255, found[number] + 1)

    def compare_counts(self, counts: _Counts) -> None:
        """Take note of what the database says of itself."""
        begun, accepted = sum(self._begun.values()), sum(self._accepted.values())
        taken = counts.committed + counts.on_console + counts.unreadable
        # Those that went to the console just before a death were counted in memory only.
        told = counts.committed + self._places["console"] + counts.unreadable
        if taken > begun:
            self._invented += taken - begun
            self._tell(f"the log counts {taken} rows, of {begun} that were logged: {counts}")
        if told < accepted and not counts.dropped:
            self._uncounted = accepted - told
            self._tell(f"the log counts {told} rows, of {accepted} that it took: {counts}")

    def _tell(self, fault: str) -> None:
        if len(self._faults) < TOLD:
            self._faults.append(fault)

    def balance(self) -> Balance:
        """Return what came of it; a row that nobody logged counts as doubled."""
        rows, lost, doubled = 0, 0, self._invented
        for stream, found in self._found.items():
            accepted = self._accepted[stream]
            rows += accepted
            pruned = self._pruned(stream)
            self._places["pruned"] += pruned
            missing = found.count(0, 1, accepted + 1) - pruned
            once = found.count(1, 1)
            twice = len(found) - 1 - once - found.count(0, 1)
            lost, doubled = lost + missing, doubled + twice
            if missing:
                self._tell(f"stream {stream}: {missing} of {accepted} rows are lost or altered")
            if twice:
                first = next(number for number, times in enumerate(found) if times > 1)
                self._tell(f"stream {stream}: {twice} rows are there more than once; the first is {first}")
        return Balance(rows, max(lost, self._uncounted), doubled, +self._places, self._faults)

    def _pruned(self, stream: int) -> int:
        """Return how many rows of a stream are gone that may be: with all that belongs together."""
        if self._may_go is None:
            return 0
        found, accepted, pruned = self._found[stream], self._accepted[stream], 0
        number = found.find(0, 1, accepted + 1)
        while number > 0:
            whole = [each for each in belonging_together(number) if 1 <= each <= accepted]
            pruned += not any(found[each] for each in whole) and self._may_go(stream, whole)
            number = found.find(0, number + 1, accepted + 1)
        return pruned


class _Copy:
    """A copy of a database with its journals, so that looking at it doesn't mend it."""

    def __init__(self, database: Path) -> None:
        self._database = database
        # Not beside it: that disk may be full.
        self._folder = tempfile.TemporaryDirectory(prefix="chaos-copy-")

    def __enter__(self) -> Path:
        folder = Path(self._folder.name)
        for suffix in ("", "-wal", "-journal"):
            path = self._database.with_name(self._database.name + suffix)
            if path.exists():
                shutil.copy(path, folder)
        return folder / self._database.name

    def __exit__(self, *_: object) -> None:
        self._folder.cleanup()


class _Counts(NamedTuple):
    """What the database says of all runs."""

    committed: int
    on_console: int
    unreadable: int
    dropped: int


def _counts(database: Path) -> _Counts:
    with closing(sqlite3.connect(database, timeout=60)) as connection:
        [counts] = connection.execute(
            "SELECT sum(ROWS_COMMITTED), sum(ROWS_ON_CONSOLE), sum(ROWS_UNREADABLE), sum(ROWS_DROPPED) "
            "FROM ENGINE_LOG_RUN"
        )
    return _Counts(*counts)


_Positions = dict[int, tuple[int, int]]


def _look_into_database(database: Path, ledger: _Ledger, as_stored: Callable[[datetime], str]) -> _Positions:
    """Find the committed rows; return how far the spool of each run is committed."""
    if not database.exists():
        return {}
    with closing(sqlite3.connect(database, timeout=60)) as connection:
        # A byte that was flipped in it makes a row another one, and is no reason not to read it.
        connection.text_factory = lambda text: text.decode("utf-8", "replace")
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema")}
        for table, arguments in COLUMNS.items():
            if table in tables:  # it may have died in a migration
                names = ", ".join(TABLES[table].columns[argument].name for argument in arguments)
                for row in connection.execute(f"SELECT {names} FROM {table}"):
                    ledger.find("committed", table, dict(zip(arguments, row, strict=True)), as_stored)
        if "ENGINE_LOG_RUN" not in tables:
            return {}
        return {
            run: (segment or 1, offset or 0)
            for run, segment, offset in connection.execute(
                "SELECT ENGINE_RUN_ID, SPOOL_SEGMENT, SPOOL_OFFSET FROM ENGINE_LOG_RUN"
            )
        }


def _pending_lines(folder: Path, positions: _Positions) -> Iterator[bytes]:
    """Yield the whole lines in the spool that aren't committed."""
    for path in sorted(folder.glob("*-*.jsonl")):
        run, number = map(int, re.findall(r"\d+", path.name))
        segment, offset = positions.get(run, (1, 0))
        if number < segment:
            continue
        data = path.read_bytes()
        start = offset if number == segment and offset else data.find(b"\n") + 1
        end = data.find(b"\0", start)
        yield from data[start : end if end >= 0 else None].split(b"\n")[:-1]


def console_lines(capture: Path) -> Iterator[bytes]:
    if capture.exists():
        with capture.open("rb") as lines:
            for line in lines:
                if match := re.match(rb"enginelog-row \d+ \d+ (.*)\n", line):
                    yield match[1]


def _parsed(line: bytes) -> tuple[str, dict[str, Any]]:
    table, columns = json.loads(line)
    return table, columns
