"""
Commit lines of a spool: decoded, prepared, written, and set aside where that can't be.

"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import NamedTuple, Protocol, TypeVar

from .batch import Batch, Gathering, prepare
from .database import Database, RunState
from .errors import RowRefused, StorageError
from .handover import Turns
from .lines import Row, decode, plain_columns
from .ownership import create_file
from .segments import Header, Position, slices

__all__ = ["Committer", "OffLoop", "Outcome"]

T = TypeVar("T")

# So much is decoded in one go: some 50 lines, or 0.1 ms.
SLICE_BYTES = 16 * 1024


class OffLoop(Protocol):
    """Run a job that may wait for a disk outside of the event loop."""

    def __call__(self, job: Callable[[], T], /) -> Awaitable[T]: ...


class Outcome(NamedTuple):
    """What became of lines: rows that are committed, and lines that were set aside."""

    rows: int
    unreadable: int


class Committer:
    """
    Commit lines, whoever wrote them.

    Args:
        folder: Where lines that can't be stored are set aside.
        as_stored: Turns an ISO 8601 time in UTC into the text that is stored.
        off_loop: Runs what may wait for a disk.

    """

    def __init__(self, folder: Path, as_stored: Callable[[str], str], off_loop: OffLoop) -> None:
        self._folder = folder
        self._off_loop = off_loop
        self.as_stored = as_stored

    def state(
        self,
        header: Header,
        start: Position,
        position: Position,
        *,
        sign_of_life: datetime | None = None,
        accepted: int = 0,
        on_console: int = 0,
        dropped: int = 0,
        alive: bool = False,
    ) -> RunState:
        """Return what the row of a run is to say once it is read to ``position``; counts never go down."""
        return RunState(
            header.run,
            header.host[:100],
            header.process_id,
            header.version,
            self.as_stored(header.started),
            self._text(sign_of_life or datetime.now(UTC)),
            accepted,
            on_console,
            start,
            position,
            alive,
            dropped,
        )

    def _text(self, moment: datetime) -> str:
        return self.as_stored(moment.isoformat(timespec="microseconds"))

    def now(self) -> str:
        """Return the present time as it is stored."""
        return self._text(datetime.now(UTC))

    async def commit(self, database: Database, data: bytes, state: RunState) -> Outcome:
        """
        Commit ``data``, read up to ``state.position``.

        Lines that can't be read, or that SQLite can't store whatever the state of the
        disk, are set aside first, in a file of their own beside the spool.

        Raises:
            StorageError: If it can't be committed now. Nothing is then, or all; ask the database.

        """
        try:
            rows = await database.write(lambda: self._gather(data), state, added=self.now())
            return Outcome(rows, 0)
        except (RowRefused, KeyError, TypeError, AttributeError):
            # Not only the row that is the reason, but each is looked at with care.
            return await self._commit_carefully(database, data, state)

    def _gather(self, data: bytes) -> Batch:
        gathering, turns = Gathering(self.as_stored), Turns()
        for lines in slices(data, SLICE_BYTES):
            rows, unreadable = decode(lines)
            if unreadable:
                raise RowRefused(f"{len(unreadable)} lines can't be read")
            gathering.add(rows)
            turns.give_way()
        return gathering.batch()

    async def _commit_carefully(self, database: Database, data: bytes, state: RunState) -> Outcome:
        rows, unreadable = await self._off_loop(lambda: _sift(data))
        if unreadable:
            await self._set_aside(unreadable, state)
        gather = partial(prepare, rows, as_stored=self.as_stored)
        try:
            await database.write(gather, state, added=self.now(), unreadable=len(unreadable))
        except RowRefused as error:
            raise StorageError(f"a row is refused that should not be: {error}") from error
        return Outcome(len(rows), len(unreadable))

    async def _set_aside(self, lines: list[bytes], state: RunState) -> None:
        # Named by its place: when the commit has to be tried again, so is this, to the same end.
        segment, offset = state.position
        path = self._folder / f"unreadable-{state.run}-{segment:06}-{offset}.txt"
        await self._off_loop(lambda: _write_anew(path, b"".join(line + b"\n" for line in lines)))


def _write_anew(path: Path, data: bytes) -> None:
    path.unlink(missing_ok=True)
    create_file(path)
    path.write_bytes(data)


def _sift(data: bytes) -> tuple[list[Row], list[bytes]]:
    """Separate lines whose rows can be stored from those that can't."""
    rows: list[Row] = []
    unreadable: list[bytes] = []
    turns = Turns()
    for line in data.split(b"\n")[:-1]:  # not splitlines(), for which a line ends elsewhere, too
        try:
            [(table, columns)], _ = decode(line + b"\n")
            rows.append((table, plain_columns(table, columns)))
        except (TypeError, ValueError, AttributeError):
            unreadable.append(line)
        turns.give_way()
    return rows, unreadable
