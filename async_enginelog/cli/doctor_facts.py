"""What the doctor is given to judge by, and what it says: facts in, findings out."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum
from pathlib import Path
from typing import NamedTuple

from ..reading import RunRow
from ..unfinished import LeftOpen
from .doctor_retention import Retention
from .doctor_times import moment_of, offset_of
from .spools import SpoolRun

__all__ = [
    "ON_WINDOWS",
    "Account",
    "Driver",
    "File",
    "Finding",
    "Findings",
    "Holder",
    "Holders",
    "Level",
    "Log",
    "Mount",
    "SetBack",
    "Site",
    "Windows",
    "quoted",
]


class Level(Enum):
    """How bad a finding is: wrong, or only worth knowing."""

    NOTE = "note"
    WRONG = "wrong"


class Finding(NamedTuple):
    """What was found, why it matters, and the command or click that mends it."""

    what: str
    why: str
    do: str
    level: Level = Level.WRONG


Findings = Iterator[Finding]

ON_WINDOWS = os.name == "nt"

# What is older can't be mended any more: it is a note.
LATELY = timedelta(days=7)

# How runs of an engine end; others were imported.
OWN_ENDS = {None, "closed", "crashed", "copied"}
IMPORTED_ENDS = {"importing", "imported"}


def quoted(*paths: Path | str) -> str:
    """Return paths as they are written in a command."""
    if ON_WINDOWS:
        return " ".join(f'"{path}"' for path in paths)
    return shlex.join(map(str, paths))


# -- around the file --------------------------------------------------------------------------------


class Account(NamedTuple):
    """An account of the machine, as far as the modes of files are concerned; 0 is root."""

    name: str
    user: int
    groups: frozenset[int]
    # Of these, the one that its files get.
    group: int = -1


@dataclass(frozen=True, slots=True)
class File:
    """A file or folder: its mode and owner, by number and by name."""

    path: Path
    mode: int
    user: int = 0
    group: int = 0
    owner: str = ""
    size_bytes: int = 0
    links: int = 1
    is_folder: bool = False
    # Whether it is a link to what the rest is about.
    is_link: bool = False
    # Whether more than the mode decides: then nothing is said of who may do what.
    has_acl: bool = False


class Mount(NamedTuple):
    """The file system that a file is in, as the machine has it."""

    folder: str
    kind: str
    options: frozenset[str]


class Driver(NamedTuple):
    """An ODBC driver that is registered; ``library`` is :obj:`None` if its file isn't there."""

    name: str
    library: str | None
    bits: int = 64


class Windows(NamedTuple):
    """What only Windows knows: the accounts of its SQL Servers, and who has which rights to the folder."""

    sql_servers: tuple[str, ...]
    rights: Mapping[str, frozenset[str]]


@dataclass(frozen=True, kw_only=True)
class Site:
    """
    All that is around the database; it need not be there itself.

    Attributes:
        path: The database.
        database: The file itself, if there is one.
        companions: Its ``-wal`` and ``-shm``, if they are there.
        folders: The folder of the database, and those it is in, innermost first.
        spool: The folder of the spools, if there is one.
        spool_files: What is in it, as far as this account can see.
        engine: The account that the engine runs as; :obj:`None` where modes say nothing.
        reader: The account of a reader that isn't the engine's, if one is known.
        mount: Where the folder is, if the machine says.
        free_bytes: The room on that disk.
        drivers: The ODBC drivers for SQLite; :obj:`None` where there is no list of drivers.
        outdated: Libraries that are older than this package needs: what is there, what is needed.
        sqlite: The version of SQLite.
        windows: What only Windows knows.

    """

    path: Path
    database: File | None
    companions: tuple[File, ...]
    folders: tuple[File, ...]
    spool: File | None
    spool_files: tuple[File, ...]
    engine: Account | None
    reader: Account | None
    mount: Mount | None
    free_bytes: int
    drivers: tuple[Driver, ...] | None
    outdated: tuple[str, ...]
    sqlite: tuple[int, ...]
    windows: Windows | None = None


# -- inside the file --------------------------------------------------------------------------------


class Holder(NamedTuple):
    """A process that holds a lock."""

    process_id: int
    name: str

    def __str__(self) -> str:
        return f"process {self.process_id} ({self.name})"


class Holders(NamedTuple):
    """Who held which lock of SQLite for as long as was looked; nobody if that isn't ``known``."""

    readers: tuple[Holder, ...] = ()
    writers: tuple[Holder, ...] = ()
    exclusive: tuple[Holder, ...] = ()
    known: bool = True


class SetBack(NamedTuple):
    """A row of a run that was committed at an earlier time than the row before it."""

    run: int
    before: str
    after: str


@dataclass(frozen=True, kw_only=True)
class Log:
    """
    What the database says, and what is in its spool.

    Attributes:
        path: The database.
        now: The present time, aware.
        host: The name of this machine.
        version: The version of the schema; ``newest_version`` is what this package knows.
        schema_faults: What of it isn't as the migrations make it; nothing is told of an older version.
        journal_mode: SQLite's word for how it commits; ``wal`` as the log leaves it.
        runs: Newest first.
        alive: The runs whose processes are alive; :obj:`None` if the spool can't be looked into.
        spools: The runs that have files in the spool.
        segments: How many segments each of them has.
        unreadable: Files of lines that were set aside.
        heartbeats: The last of each run that has any.
        left_open: What runs that died lately left open.
        newest_added: The newest time of a commit, by run, as it is stored.
        set_back: Where the clock went back, as the rows show.
        local_offsets: What the local time of this machine was ahead of UTC when each run began.
        wal_bytes: The size of the WAL; ``database_bytes`` that of the database.
        holders: Who holds locks.
        sqlite: The version of SQLite.
        retention: What it says of retention.

    """

    path: Path
    now: datetime
    host: str
    version: int
    newest_version: int
    schema_faults: tuple[str, ...] = ()
    journal_mode: str
    runs: tuple[RunRow, ...]
    alive: frozenset[int] | None
    spools: Mapping[int, SpoolRun]
    segments: Mapping[int, int]
    unreadable: tuple[Path, ...]
    heartbeats: Mapping[int, str]
    left_open: Mapping[int, LeftOpen]
    newest_added: Mapping[int, str]
    set_back: tuple[SetBack, ...]
    local_offsets: Mapping[int, timedelta]
    wal_bytes: int
    database_bytes: int
    holders: Holders
    sqlite: tuple[int, ...]
    retention: Retention = field(default_factory=Retention)

    @property
    def own_runs(self) -> list[RunRow]:
        """The runs of engines with this package, newest first; not those that were imported."""
        return [run for run in self.runs if run.how_ended in OWN_ENDS]

    @property
    def imported_runs(self) -> list[RunRow]:
        """The runs that were imported from an old engine's file, or are being so, newest first."""
        return [run for run in self.runs if run.how_ended in IMPORTED_ENDS]

    @property
    def runs_alive(self) -> list[RunRow]:
        """The runs that are alive, newest first."""
        return [run for run in self.runs if run.run in (self.alive or ())]

    @property
    def runs_dead(self) -> list[RunRow]:
        """The runs whose process is gone without a word, newest first; none if that can't be told."""
        if self.alive is None:
            return []
        return [run for run in self.runs if run.how_ended is None and run.run not in self.alive]

    def age(self, run: RunRow, stored: str | None) -> timedelta | None:
        """Return how long ago a time was that ``run`` stored; :obj:`None` if it isn't one."""
        moment = moment_of(stored)
        return None if moment is None else self.now - moment + (offset_of(run) or timedelta())

    def is_late(self, run: RunRow) -> bool:
        """Tell whether a run was alive lately; also if that isn't known."""
        age = self.age(run, run.sign_of_life)
        return age is None or age < LATELY
