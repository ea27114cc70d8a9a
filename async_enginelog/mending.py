"""Open a database; say if it is damaged, and save what can be saved."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path

from .console import Console
from .database import Database
from .errors import DatabaseDamaged, NotAnEngineLog, StorageError
from .handles import is_open_here
from .handover import hand_over
from .salvage import holds_our_rows
from .segments import beside, size_of
from .setaside import (
    finish_replacing,
    is_being_replaced,
    is_ours,
    keep_wal,
    replace_damaged,
    unseen_in_wal,
)

__all__ = ["Mender"]

# What SQLite says of a file whose schema or header is broken, and of others: the file is looked at.
_SUSPICIOUS = {
    sqlite3.SQLITE_ERROR,
    sqlite3.SQLITE_FORMAT,
    sqlite3.SQLITE_MISMATCH,
    sqlite3.SQLITE_READONLY,
}


class Mender:
    """
    Open the database of a log, whatever happens to it.

    Args:
        path: Where it is.
        open_database: Opens it.
        console: Where it is told.

    """

    def __init__(
        self, path: Path, open_database: Callable[[], Awaitable[Database]], console: Console
    ) -> None:
        self._path = path
        self._open_database = open_database
        self._console = console
        # Whether this is the first time.
        self._is_first = True
        # The last fault of which nothing was found in the file.
        self._harmless: str | None = None

    async def open(self, fault: StorageError | None) -> Database:
        """
        Open the database; if it was found to be damaged, save first what can be saved.

        That may take minutes. Cancelling is safe: the damaged file then stays where it is.

        Args:
            fault: What went wrong the last time.

        Raises:
            DatabaseDamaged: If it is damaged, and that wasn't known before.
            StorageError: As :meth:`Database.open` does.

        """
        if is_being_replaced(self._path):
            await asyncio.to_thread(finish_replacing, self._path)
        if fault is not None and self._may_be_damage(fault):
            await self._save(fault)
        try:
            database = await self._open_database()
        except NotAnEngineLog as error:
            if await asyncio.to_thread(is_ours, self._path):
                raise DatabaseDamaged(f"{self._path} is damaged: {error}") from error
            if await asyncio.to_thread(holds_our_rows, self._path):
                raise NotAnEngineLog(
                    f"{error}; but rows of a log are in it: save them with `enginelog salvage {self._path}`"
                ) from error
            raise
        try:
            if self._is_first:
                await self._look_at_wal(database)
                self._is_first = False
        except BaseException:
            await database.close()
            raise
        return database

    def _may_be_damage(self, fault: StorageError) -> bool:
        if isinstance(fault, DatabaseDamaged):
            return True
        code = getattr(fault.__cause__, "sqlite_errorcode", None) or 0
        return code & 0xFF in _SUSPICIOUS and str(fault) != self._harmless

    async def _save(self, fault: StorageError) -> None:
        if not isinstance(fault, DatabaseDamaged) and is_open_here(self._path):
            self._harmless = str(fault)  # to look would harm that connection
            return
        if isinstance(fault, DatabaseDamaged):
            self._console.warn("damage", f"{fault}; what can be saved is being saved, row by row")
        # Who meets the same damage again in a file that was found to be whole knows better.
        certain = isinstance(fault, DatabaseDamaged) and str(fault) == self._harmless
        replaced = await hand_over(replace_damaged(self._path, certain=certain))
        if replaced is None:
            self._harmless = str(fault)
            return
        self._harmless = None
        saved, aside = replaced
        self._console.warn(
            "salvage", f"{self._path} was damaged: {saved}; the damaged file is kept as {aside}"
        )

    async def _look_at_wal(self, database: Database) -> None:
        """Tell of commits that SQLite lost, and keep the WAL, which is written over otherwise."""
        commits = 0
        # An engine in another process may be between writing a commit and showing it: but not again.
        for _ in range(2):
            end = size_of(beside(self._path, "-wal"))
            seen = await database.frames_in_wal() if end else -1
            if seen < 0:
                return
            commits = await hand_over(asyncio.to_thread(unseen_in_wal, self._path, seen, end))
            if not commits:
                return
        aside = await asyncio.to_thread(keep_wal, self._path)
        kept = f"it is kept as {aside}" if aside else "there is no room to keep it"
        self._console.warn(
            "wal",
            f"{self._path}-wal is damaged: {commits:,} commits behind the damage are lost, but for rows that "
            f"are still in the spool, which are committed again; {kept}",
        )
