"""What the doctor checks of the file: its schema, its WAL, and who keeps hold of it. No I/O."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from ..database import WAL_LIMIT_BYTES
from ..errors import NotAnEngineLog, PathError, SchemaTooNew, StorageError
from .doctor_facts import Finding, Findings, Holder, Holders, Level, Log, quoted

__all__ = ["journal_mode", "readers", "schema", "unusable", "wal_reset_bug", "wal_size", "writers"]

# The log has SQLite cut the WAL back to a quarter of it as soon as no reader stands in the way.
LARGE_WAL_BYTES = 4 * WAL_LIMIT_BYTES

# https://www.sqlite.org/wal.html#the_wal_reset_bug: fixed in 3.51.3, and in these lines since these.
RESET_BUG_FIXED = (3, 51, 3)
RESET_BUG_BACKPORTS = {(3, 44): 6, (3, 50): 7}

PERMISSIONS = "mend what is said here of permissions, or run this as the engine's account"

# What SQLite says when it can't open or read a file, why that matters, and what to do.
SQLITE_SAYS = {
    "locked": (
        "as long as it is locked for itself alone, neither engine nor readers get in",
        "close the program that holds it (a database browser, PRAGMA locking_mode = EXCLUSIVE)",
    ),
    "unable to open": (
        "it, its -wal or its -shm can't be opened, or not be created in the folder",
        "mend what is said here of permissions, or start the engine, which creates them",
    ),
    "Permission denied": ("this account may not even look for it", PERMISSIONS),
    "readonly": (
        "a program died while it wrote; what it left must be undone or read in first, and the doctor only "
        "reads",
        "start the engine, which does so; or open it once with a program that may write to it: "
        "sqlite3 {path} .tables",
    ),
    "is damaged": (
        "the file is damaged; what the engine logs may be lost",
        "enginelog verify {path}; restore a backup, or save what can be read: enginelog salvage {path}",
    ),
    "no such": (
        "somebody dropped what the log needs",
        "enginelog verify {path} tells what is missing; restore a backup",
    ),
    "": ("neither engine nor readers can use it", "enginelog verify {path}"),
}

# The same for what this package says; its own messages end with what to do.
WE_SAY: dict[type[StorageError], str] = {
    PathError: "the engine and its readers look there for the log",
    NotAnEngineLog: "the engine refuses it, so as not to write into what isn't its own",
    SchemaTooNew: "an older version doesn't know its tables, so it neither reads nor writes it",
}


def unusable(error: StorageError, path: Path, holders: Holders) -> Finding:
    """Say why a database can't be opened or read, and what to do."""
    text = str(error)
    for kind, why in WE_SAY.items():
        if isinstance(error, kind):
            what, _, do = text.rpartition("; ")
            return Finding(what or text, why, do if what else PERMISSIONS)
    why, do = next(said for words, said in SQLITE_SAYS.items() if words in text.removeprefix(str(path)))
    holder = f"{_listed(holders.exclusive)} holds it: " if holders.exclusive else ""
    return Finding(text, why, holder + do.replace("{path}", quoted(path)))


def schema(log: Log) -> Findings:
    """A newer version of the package knows tables and columns that the file lacks."""
    if log.version < log.newest_version:
        yield Finding(
            f"the schema version is {log.version}, this version of async-enginelog has {log.newest_version}",
            "views and columns that readers and the command rely on aren't there yet",
            f"enginelog init {quoted(log.path)} (an engine does so, too, when it opens the log)",
        )
    for fault in log.schema_faults:
        yield Finding(
            fault,
            "somebody dropped or changed it; the engine, this command, or SQL Server's views rely on it",
            "restore a backup, or undo the change; what it should be is in migrations/sqlite",
        )


def journal_mode(log: Log) -> Findings:
    """In any mode but WAL, readers and the writer wait for each other."""
    if log.journal_mode != "wal":
        why = (
            "JournalMode= of an ODBC connection changes it for good; then readers and engine block each other"
        )
        yield Finding(
            f"the journal mode is {log.journal_mode}, not wal",
            why if log.alive else f"right for a backup; else, {why}",
            "take JournalMode= out of the ODBC settings; the engine sets it right when it opens the log next",
            Level.WRONG if log.alive else Level.NOTE,
        )


def wal_size(log: Log) -> Findings:
    """A WAL that doesn't stop growing has a reader that doesn't stop reading."""
    if log.wal_bytes < LARGE_WAL_BYTES:
        return
    size, beside = (f"{size_bytes / 1024**2:,.0f} MiB" for size_bytes in (log.wal_bytes, log.database_bytes))
    unused = log.alive is not None and not log.alive
    if unused:
        do = "nothing: it goes away when an engine opens this log and closes it"
    elif held := _others(log, log.holders.readers):
        do = f"have {_listed(held)} end its transaction, or end the process"
    else:
        do = "end the transactions of readers: in ODBC, autocommit on; in a database browser, close the query"
    yield Finding(
        f"the WAL has {size}, beside a database of {beside}",
        "a reader that keeps a transaction open keeps it from being cut back; it grows, and reads get slower",
        do,
        Level.NOTE if unused else Level.WRONG,
    )


def readers(log: Log) -> Findings:
    """A reader that stays keeps the WAL growing; as long as it is small that is worth knowing."""
    held = _others(log, set(log.holders.readers) - set(log.holders.writers))
    if held and log.wal_bytes < LARGE_WAL_BYTES:
        yield Finding(
            f"{_listed(held)} kept one state of the log open for as long as was looked",
            "a long query does no harm; a transaction that is forgotten keeps the WAL growing",
            "if it isn't a long query, end its transaction: in ODBC, autocommit on",
            Level.NOTE,
        )


def writers(log: Log) -> Findings:
    """Nobody but the engine should keep the lock that is needed to write."""
    held = _others(log, {*log.holders.writers, *log.holders.exclusive})
    if held:
        yield Finding(
            f"{_listed(held)} kept the log locked for writing for as long as was looked",
            "meanwhile the engine can't commit: its rows wait in the spool",
            "write or revert the changes in it (in DB Browser: Ctrl+S or Revert), or end the process",
        )


def wal_reset_bug(log: Log) -> Findings:
    """Where two engines write to one file, a bug of SQLite may damage it."""
    version = log.sqlite
    backport = RESET_BUG_BACKPORTS.get((version[0], version[1]))
    fixed = version >= RESET_BUG_FIXED or (backport is not None and version[2] >= backport)
    if len(log.runs_alive) > 1 and not fixed:
        yield Finding(
            f"{len(log.runs_alive)} engines write to this file, with SQLite {'.'.join(map(str, version))}",
            "two that write and checkpoint at the same instant may damage it, very rarely "
            "(https://www.sqlite.org/wal.html#the_wal_reset_bug)",
            "give each engine a file of its own, or install a Python with SQLite 3.51.3 or newer",
            Level.NOTE,
        )


def _others(log: Log, holders: Collection[Holder]) -> list[Holder]:
    """Return those who aren't engines: these come and go so fast that they may seem to stay."""
    engines = {run.process_id for run in log.runs_alive if run.host == log.host}
    return sorted(holder for holder in holders if holder.process_id not in engines)


def _listed(holders: Collection[Holder]) -> str:
    return " and ".join(map(str, holders))
