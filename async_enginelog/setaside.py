"""
Set a damaged database aside, and put a fresh file with all that can be saved in its place.

The damaged file is kept as it is. All of this happens in a thread, while the rows of the engine wait in
the spool.

"""

from __future__ import annotations

import asyncio
import glob
import os
import secrets
import shutil
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from .background import Background
from .connection import storage_errors
from .damaged import MAGIC, Damaged
from .errors import StorageError
from .handles import is_open_here
from .leftovers import runs_in
from .migrations import APPLICATION_ID
from .ownership import create_file, make_folder
from .salvage import NEWEST, fresh_database, save_rows
from .salvaged import Saved
from .segments import beside, size_of, spool_folder
from .walfile import unseen_commits

__all__ = [
    "finish_replacing",
    "has_whole_free_list",
    "is_being_replaced",
    "is_ours",
    "keep_wal",
    "replace_damaged",
    "unseen_in_wal",
]

# https://www.sqlite.org/fileformat2.html#the_database_header
HEADER_BYTES = 100
# The names of the tables stand in a file of ours near its begin: in so many parts of so many bytes.
PART_BYTES, MAX_PARTS = 1024 * 1024, 64
# Somebody who writes to the damaged file meanwhile has it read again, so often.
ATTEMPTS = 3
# How long to wait for a writer of the damaged file to end its transaction, or for a connection to be
# closed, in seconds.
PATIENCE = 2.0


def is_ours(path: Path) -> bool:
    """Tell whether a file that SQLite can't read was a database of this package, by what is left of it."""
    return _is_cut_off(path) or any(_has_trace(file) for file in (path, beside(path, "-wal")))


def _is_cut_off(path: Path) -> bool:
    """Tell whether just the begin of a SQLite header is left, beside the spools of a log."""
    try:
        with path.open("rb") as file:
            header = file.read(HEADER_BYTES)
    except OSError:
        return False
    begins = header.startswith(MAGIC[: len(header)])
    return 0 < len(header) < HEADER_BYTES and begins and (spool_folder(path) / "last-run").exists()


def _has_trace(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            part = file.read(PART_BYTES)
            if part[68:72] == APPLICATION_ID.to_bytes(4, "big"):
                return True
            for _ in range(MAX_PARTS):
                # An old engine's file has the other tables, but not this one.
                if b"CREATE TABLE ENGINE_LOG_RUN" in part:
                    return True
                part = file.read(PART_BYTES)
    except OSError:
        pass
    return False


async def replace_damaged(path: Path, *, certain: bool = False) -> tuple[Saved, Path] | None:
    """
    Put a fresh file in the place of a damaged database, with all rows that can be read.

    Cancelling is safe: the damaged file then stays where it is.

    Args:
        certain: It is known that it is damaged, and ours; nothing that finds it whole counts.

    Returns:
        What was saved, and where the damaged file is; :obj:`None` if it isn't damaged, or not ours.

    Raises:
        StorageError: If another process is at it, or the disk fails.

    """
    stopped = threading.Event()
    thread = Background("enginelog-salvage")
    try:
        with storage_errors(path):
            return await asyncio.wrap_future(thread.submit(lambda: _replace_damaged(path, stopped, certain)))
    finally:
        stopped.set()
        thread.close(0)


def _replace_damaged(path: Path, stopped: threading.Event, certain: bool) -> tuple[Saved, Path] | None:
    make_folder(spool_folder(path))
    with _only_one(path):
        _finish_swap(path)
        _wait_until_closed(path)
        is_damaged = certain or (is_ours(path) and not _is_whole(path))
        return _replace(path, stopped) if is_damaged else None


@contextmanager
def _only_one(path: Path) -> Iterator[None]:
    try:
        with FileLock(spool_folder(path) / "salvage.lock", blocking=False, mode=0o600):
            yield
    except Timeout:
        raise StorageError(f"{path} is damaged; another process is saving what can be saved") from None


def _wait_until_closed(path: Path) -> None:
    # To close a file takes away the locks that SQLite has on it anywhere in this process
    # (https://www.sqlite.org/howtocorrupt.html, section 2.2).
    end = time.monotonic() + PATIENCE
    while is_open_here(path):
        if time.monotonic() > end:
            raise StorageError(
                f"{path} may be damaged; it isn't looked at as long as something else in this process, such "
                "as another log, has it open"
            )
        time.sleep(0.01)


def _is_whole(path: Path) -> bool:
    if size_of(path) == 0:
        return True
    if not _has_good_header(path):
        return False
    try:
        with _reading(path) as database:
            [(first_fault,)] = database.execute("PRAGMA integrity_check(1)")
            if first_fault != "ok" or not _is_known(database):
                return False
        return has_whole_free_list(path)
    except sqlite3.Error:
        return False


@contextmanager
def _reading(path: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as database:
        yield database


def has_whole_free_list(path: Path) -> bool:
    """
    Tell whether the list of free pages in a database is whole: SQLite only looks at it as it writes.

    No connection of this process may have the database open: it would lose its locks.

    Raises:
        sqlite3.Error: If the database can't be read now.
        OSError: The same.

    """
    with _reading(path) as database:
        # As long as this sees one moment, nobody changes a page that stood in the file, or the WAL, at that.
        database.execute("BEGIN")
        database.execute("SELECT count(*) FROM sqlite_schema").fetchall()
        with Damaged.open(path) as pages:
            return pages.free is not None


def _has_good_header(path: Path) -> bool:
    """Look at what SQLite, misled by it, takes for its own limits (https://www.sqlite.org/fileformat2.html)."""
    with path.open("rb") as file:
        header = file.read(HEADER_BYTES).ljust(HEADER_BYTES, b"\0")
    versions, fractions = header[18:20], header[21:24]
    schema_format, encoding = int.from_bytes(header[44:48], "big"), int.from_bytes(header[56:60], "big")
    return (
        header.startswith(MAGIC)
        and max(versions) <= 2
        and fractions == b"\x40\x20\x20"
        and schema_format <= 4
        and encoding <= 1
    )


def _is_known(database: sqlite3.Connection) -> bool:
    """Tell whether the file says who made it and how; a few bytes that no check of SQLite's looks at."""
    [(application,)] = database.execute("PRAGMA application_id")
    [(version,)] = database.execute("PRAGMA user_version")
    actual = _table_names(database)
    with (
        closing(fresh_database(":memory:", version)) as as_made,
        closing(fresh_database(":memory:", NEWEST)) as newest,
    ):
        of_later_versions = _table_names(newest) - _table_names(as_made)
    return bool(application == APPLICATION_ID and version <= NEWEST and not actual & of_later_versions)


def _table_names(database: sqlite3.Connection) -> set[str]:
    return {name for (name,) in database.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}


def _replace(path: Path, stopped: threading.Event) -> tuple[Saved, Path]:
    _remove_unfinished(path)
    # A name that nobody can know before, to put something else there.
    fresh, aside = beside(path, f"-salvage-{secrets.token_hex(8)}"), _free_name(path)
    spools = runs_in(spool_folder(path))
    try:
        with _held(path):
            for _ in range(ATTEMPTS):
                before = _state(path)
                saved = save_rows(path, fresh, stopped, spools=spools, aside=aside.name)
                if _state(path) == before:
                    break
            shutil.copymode(path, fresh)
            _swap(path, aside, fresh)
    finally:
        fresh.unlink(missing_ok=True)
    return saved, aside


def _remove_unfinished(path: Path) -> None:
    """Remove what salvages left that were killed; only one at a time is under way."""
    for file in path.parent.glob(f"{glob.escape(path.name)}-salvage-{'[0-9a-f]' * 16}"):
        try:
            file.unlink()
        except OSError:  # of another account, which does no harm
            pass


def _state(path: Path) -> list[tuple[int, int]]:
    """Return what changes when somebody writes."""
    files = [file for file in (path, beside(path, "-wal")) if file.exists()]
    return [(file.stat().st_size, file.stat().st_mtime_ns) for file in files]


@contextmanager
def _held(path: Path) -> Iterator[None]:
    """Keep other processes from writing to the damaged file, if it isn't too damaged for that."""
    if os.name == "nt":  # an open file can't get another name there
        yield
        return
    with closing(sqlite3.connect(path, timeout=PATIENCE, isolation_level=None)) as database:
        try:
            database.execute("BEGIN IMMEDIATE")
        except sqlite3.Error:
            pass
        # Closed when the file has its other name: so SQLite doesn't copy the WAL into it, nor delete it.
        yield


def _swap(path: Path, aside: Path, fresh: Path) -> None:
    """Have the fresh file take the place of the damaged one; at no moment is there none, if that can be."""
    note = _note_of(path)
    note.with_suffix(".new").write_text(aside.name, "utf-8")
    os.replace(note.with_suffix(".new"), note)
    try:
        os.link(path, aside)
    except OSError:  # a file system without links
        os.replace(path, aside)
    os.replace(fresh, path)
    _finish_swap(path)


def _note_of(path: Path) -> Path:
    """Return the file that says under which name a damaged database is being set aside."""
    return spool_folder(path) / "salvage.swap"


def is_being_replaced(path: Path) -> bool:
    """Tell whether somebody is about to put a fresh file in the place of a database, or died of it."""
    return _note_of(path).exists()


def finish_replacing(path: Path) -> None:
    """
    Bring to an end what somebody began who died: before that, the WAL beside a fresh file isn't its own.

    Raises:
        StorageError: If he is alive.

    """
    with storage_errors(path), _only_one(path):
        _finish_swap(path)


def _finish_swap(path: Path) -> None:
    note = _note_of(path)
    if not note.exists():
        return
    aside = path.with_name(note.read_text("utf-8"))
    wal = beside(path, "-wal")
    if not path.exists():
        os.replace(aside, path)  # the damaged file, back in its place: it is saved anew
    elif aside.exists() and aside.samefile(path):
        aside.unlink()  # the same, by its other name
    elif aside.exists():
        # The WAL belongs to the file that is aside.
        if size_of(wal):
            os.replace(wal, beside(aside, "-wal"))
        wal.unlink(missing_ok=True)
        beside(path, "-shm").unlink(missing_ok=True)
    note.unlink()


def _free_name(path: Path) -> Path:
    name = beside(path, time.strftime("-broken-%Y%m%d-%H%M%S", time.gmtime()))
    number = 1
    while name.exists() or beside(name, "-wal").exists():
        number += 1
        name = name.with_name(f"{name.name.partition('_')[0]}_{number}")
    return name


def unseen_in_wal(path: Path, seen: int, end: int) -> int:
    """
    Return how many commits in the WAL of a database SQLite doesn't see.

    The database may be open: SQLite holds no locks on its WAL that could be lost here.

    Args:
        path: The database.
        seen: How many frames of the WAL SQLite sees.
        end: The size of the WAL before that was asked.

    """
    try:
        with beside(path, "-wal").open("rb") as file:
            return unseen_commits(file, seen, end)
    except OSError:  # gone meanwhile
        return 0


def keep_wal(path: Path) -> Path | None:
    """Copy the WAL of a database to another name, and return that; :obj:`None` if there is no room for it."""
    aside = beside(_free_name(path), "-wal")
    try:
        # Made first: while it is copied, nobody may read it either whom the umask would let.
        if not create_file(aside):
            return None
        shutil.copy(beside(path, "-wal"), aside)
    except OSError:
        aside.unlink(missing_ok=True)
        return None
    return aside
