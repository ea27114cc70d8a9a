"""What the command does to a database beyond logging: empty it, replay into it, copy it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from .batch import prepare
from .connection import uri
from .database import Database
from .lines import Row
from .tables import TABLES

__all__ = ["Maintenance"]

# So many pages at once are given back to the disk: some 10 ms.
VACUUM_PAGES = 1000

_REPLAYED_RUN_SQL = """
UPDATE ENGINE_LOG_RUN SET
    ROWS_REPLAYED = ROWS_REPLAYED + ?2,
    ROWS_STORED = ROWS_STORED + ?3,
    LAST_LOG_SEQ = iif(?4, ?5 + ?4, LAST_LOG_SEQ),
    ROWS_ACCEPTED = ROWS_ACCEPTED + max(0, ?6 - ROWS_ON_CONSOLE),
    ROWS_ON_CONSOLE = max(ROWS_ON_CONSOLE, ?6)
WHERE ENGINE_RUN_ID = ?1
"""

_COPIED_RUNS_SQL = """
UPDATE ENGINE_LOG_RUN SET HOW_ENDED = 'copied', DT_ENDED = DT_LAST_SIGN_OF_LIFE,
    ROWS_ACCEPTED = ROWS_COMMITTED + ROWS_ON_CONSOLE + ROWS_UNREADABLE
WHERE HOW_ENDED IS NULL
"""


class Maintenance(Database):
    """A database as the command uses it."""

    async def truncate(self) -> int:
        """
        Delete all rows of the log, in one transaction, and return how many there were.

        The runs stay, with the LOG_SEQ they gave: it never goes back.

        """
        await self.execute("UPDATE ENGINE_LOG_RUN SET ROWS_STORED = 0")
        # Old files may be imported again.
        await self.execute("DELETE FROM ENGINE_LOG_IMPORT")
        before = self.total_changes
        for table in TABLES:
            await self.execute(f"DELETE FROM {table}")  # noqa: S608  # names of our own tables
        deleted = self.total_changes - before
        await self.commit()
        await self._give_room_back()
        return deleted

    async def _give_room_back(self) -> None:
        """Make the file smaller by what is free in it, in steps that hold up no writer for long."""
        [(free,)] = await self.fetch("PRAGMA freelist_count")
        for _ in range(0, free, VACUUM_PAGES):
            # As a script: execute() of sqlite3 ends after the first page.
            await self.run_script(f"PRAGMA incremental_vacuum({VACUUM_PAGES})")

    async def replay(
        self,
        run: int,
        rows: Mapping[int, Row],
        *,
        highest: int,
        how_ended: str | None,
        as_stored: Callable[[str], str],
        added: str,
    ) -> int:
        """
        Commit rows that ``run`` put on the console, each by its number, unless they are there.

        Args:
            highest: The highest number that was seen of this run, readable or not.
            how_ended: What to say of a run that the database doesn't know.
            as_stored: Turns an ISO 8601 time in UTC into the text that is stored.
            added: The present time, as it is stored.

        Returns:
            How many rows weren't there yet.

        """
        await self.execute(
            "INSERT INTO ENGINE_LOG_RUN (ENGINE_RUN_ID, HOW_ENDED) VALUES (?, ?) ON CONFLICT DO NOTHING",
            (run, how_ended),
        )
        fresh = [row for number, row in rows.items() if await self._is_fresh(run, number)]
        batch = prepare(fresh, as_stored=as_stored, fill_only=True)
        [(last_seq,)] = await self.fetch("SELECT max(LAST_LOG_SEQ) FROM ENGINE_LOG_RUN")
        stored = await self.insert(batch, (added, run, last_seq))
        counts = (batch.rows, stored, batch.rows, last_seq, highest)
        await self.execute(_REPLAYED_RUN_SQL, (run, *counts))
        await self.commit()
        return batch.rows

    async def _is_fresh(self, run: int, number: int) -> bool:
        """Note that a row of the console is brought back; tell whether it wasn't before."""
        return bool(
            await self.fetch(
                "INSERT INTO ENGINE_LOG_REPLAYED (ENGINE_RUN_ID, CONSOLE_ROW_NO) VALUES (?, ?) "
                "ON CONFLICT DO NOTHING RETURNING CONSOLE_ROW_NO",
                (run, number),
            )
        )

    async def copy_to(self, path: Path, progress: Callable[[int, int], None]) -> None:
        """
        Copy the database into the empty file ``path``, as it is at this moment.

        The engine goes on writing meanwhile. The copy is one file, without a WAL. Cancelling
        is safe, and stops the copying; the file is then of no use.

        Args:
            progress: Told how many pages are left, and of how many. Called in another thread.

        Raises:
            StorageError: If either file can't be used now, such as on a full disk.

        """
        # Not created here: a connection that opens late, after a cancellation, mustn't make it again.
        copy = await self.connect(path, uri(path, "rw"), uri=True)
        try:
            # The first read fixes what this connection sees until the end of the transaction. Without
            # it, each commit of the engine would have the copying start again.
            await self.execute("BEGIN")
            await self.schema_version()
            await self.copy_pages(copy, progress)
            await self.execute("ROLLBACK")
            await copy.execute("PRAGMA journal_mode = DELETE")
            await copy.execute(_COPIED_RUNS_SQL)
            await copy.execute("COMMIT")
        finally:
            await copy.close()
