"""
Bring an old engine's file over: each of its rows exactly once, however often it is tried.

How far each table is read stands in the transaction of its rows, with a digest of all that was
read. So an import that died goes on where it was, a file that has grown is read on from there, and
one that was imported before is known again, whatever it is called now.

"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, tzinfo
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple

from filelock import FileLock, Timeout

from .errors import StorageError
from .imports import ImportDatabase, ImportRow
from .legacy import OldTable, Translator, note_conflicts, thing_of
from .oldfile import OldFile
from .segments import spool_folder
from .tally import ImportProgress, TableProgress
from .wallclock import WallClock

__all__ = ["Importer", "Zone", "only_import"]

# Rows in a transaction: so few that an engine which writes meanwhile hardly waits.
CHUNK_ROWS = 500

# Below any number that SQLite gives to a row.
BEFORE_ALL = -(2**63)


class Zone(NamedTuple):
    """A time zone: what it is called, and what it is; :obj:`None` is that of this machine."""

    name: str
    info: tzinfo | None


class _Place(NamedTuple):
    """A place in a table of the old file: SQLite's number of the row before, and a digest of all before."""

    row: int = BEFORE_ALL
    digest: str = ""


@contextmanager
def only_import(path: Path) -> Iterator[None]:
    """
    Keep others from importing into the database at ``path`` meanwhile.

    Raises:
        StorageError: If somebody else does so now.

    """
    folder = spool_folder(path)
    folder.mkdir(mode=0o700, exist_ok=True)
    lock = FileLock(folder / "import.lock", mode=0o600)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise StorageError(f"{path}: another import into it is under way; wait for its end") from None
    try:
        yield
    finally:
        lock.release()


class Importer:
    """
    Bring the rows of an old file into a database.

    Args:
        old: The old file.
        tables: Its tables.
        database: Where the rows go, held by :func:`only_import`.
        zone: What the times of the old file mean.
        advance: Told how many rows are read, and of how many.

    Attributes:
        progress: How far it is.
        rows_before: How many rows were imported when it began.

    """

    progress: ImportProgress

    def __init__(
        self,
        old: OldFile,
        tables: Sequence[OldTable],
        database: ImportDatabase,
        zone: Zone,
        advance: Callable[[float, float], None],
    ) -> None:
        self._old = old
        self._tables = tables
        self._database = database
        self._zone = zone
        self._advance = advance
        self._clock = WallClock(zone.info)
        self._lives: list[str] = []
        # Where to go on in each table.
        self._places: dict[str, _Place] = {}
        self._done = self._total = 0
        self.rows_before = 0

    async def run(self) -> None:
        """
        Import what isn't imported yet.

        Cancelling is safe, and so is the death of the process: call it again.

        Raises:
            StorageError: If a file can't be used now, or the old one was changed since a part of it was
                imported, or was imported with another time zone.

        """
        self._total = sum([await self._old.row_count(table) for table in self._tables])
        self.progress = await self._known_progress() or ImportProgress(self._zone.name)
        self.rows_before = self.progress.rows_read
        await self._begin()
        for table in self._tables:
            await self._import(table)
        await self._database.finish(self.progress)

    # -- whether it was imported before ---------------------------------------------------------

    async def _known_progress(self) -> ImportProgress | None:
        for progress in await self._database.imports():
            if await self._goes_on_from(progress):
                self._check_zone(progress)
                return progress
            self._places.clear()
            self._done = 0
        return None

    async def _goes_on_from(self, progress: ImportProgress) -> bool:
        """Tell whether the old file begins with what was imported; it may have grown since."""
        by_name = {old.table.name: old for old in self._tables}
        verdicts = {
            name: name in by_name and await self._begins_with(by_name[name], part)
            for name, part in progress.tables.items()
        }
        if all(verdicts.values()):
            return True
        if any(same and progress.tables[name].tells for name, same in verdicts.items()):
            changed = next(name for name, same in verdicts.items() if not same)
            raise StorageError(
                f"{self._old.path} was imported before (run {progress.runs[0]}), but its rows of {changed} "
                "aren't as they were then: somebody deleted or changed some, so nobody can tell which are "
                "new; import it into a database of its own"
            )
        return False

    async def _begins_with(self, old: OldTable, part: TableProgress) -> bool:
        place, left = _Place(), part.tally.read
        while left:
            rows = await self._old.rows(old, place.row, min(left, CHUNK_ROWS))
            if not rows:
                return False
            place = _behind(place, rows)
            left -= len(rows)
            self._count(len(rows))
        self._places[old.table.name] = place
        return place.digest == part.digest

    def _check_zone(self, progress: ImportProgress) -> None:
        tells = any(part.tells for part in progress.tables.values())
        if tells and progress.time_zone != self._zone.name:
            raise StorageError(
                f"{self._old.path} was imported before with the time zone {progress.time_zone}, and not "
                f"{self._zone.name}, so its times would be of two kinds. Import it with that one, or into "
                "another database"
            )
        progress.time_zone = self._zone.name

    # -- importing ------------------------------------------------------------------------------

    async def _begin(self) -> None:
        self._lives = await self._old.restarts(self._tables)
        runs = self.progress.runs
        fresh: list[str | None] = [*self._lives[max(0, len(runs) - 1) :]]
        if not runs:
            fresh.insert(0, await self._old.first_time(self._tables))
        if fresh:
            seconds = [self._second(start) for start in fresh]
            await self._database.begin(self.progress, seconds, self._old.path.name)

    def _second(self, start: str | None) -> int | None:
        try:
            return int(datetime.fromisoformat(self._clock.utc(start or "")[0]).timestamp())
        except (ValueError, OverflowError):
            return None

    async def _import(self, old: OldTable) -> None:
        part = self.progress.tables.setdefault(old.table.name, TableProgress())
        place = self._places.get(old.table.name, _Place())
        reader = Translator(old, self._clock, self._lives, part.tally, part.life)
        while rows := await self._old.rows(old, place.row, CHUNK_ROWS):
            place = _behind(place, rows)
            said = [row for _, *values in rows if (row := reader.read(values)) is not None]
            part.digest, part.life = place.digest, reader.life
            imported = [ImportRow(self.progress.runs[row.life], row.columns) for row in said]
            if old.table.key:
                imported = await self._compared(old, part, imported)
            await self._database.store(old.table, imported, part.tally, self.progress, self._old.path.name)
            self._count(len(rows))

    async def _compared(
        self, old: OldTable, part: TableProgress, rows: Sequence[ImportRow]
    ) -> list[ImportRow]:
        """Note conflicts with what is known of the same things; let what others know of them win."""
        known = await self._database.known(old.table, rows)
        compared: list[ImportRow] = []
        for row in rows:
            thing = thing_of(old.table, row.run, row.columns)
            made_by = known.runs.get(thing) if thing else None
            ours = made_by in self.progress.runs
            if made_by is not None and not ours:
                part.tally.known_before += 1
            else:
                note_conflicts(old.table, row.run, row.columns, known.times, part.tally)
            # Where the run isn't a part of the key, another engine may know the same thing, and better.
            compared.append(row._replace(fill_only=not old.table.run_in_key and not ours))
        return compared

    def _count(self, rows: int) -> None:
        self._done += rows
        self._advance(self._done, self._total)


def _behind(place: _Place, rows: Sequence[Sequence[Any]]) -> _Place:
    """Return the place behind rows, which follow a place."""
    digest = place.digest
    for _, *values in rows:
        while values and values[-1] is None:  # a newer version of the engine adds columns
            values.pop()
        digest = blake2b(f"{digest}{values!r}".encode(), digest_size=12).hexdigest()
    return _Place(rows[-1][0], digest)
