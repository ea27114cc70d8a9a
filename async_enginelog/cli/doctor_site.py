"""Look around a database: files, accounts, disks, drivers, libraries. Opens none of its files."""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import sqlite3
import stat
import subprocess
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil

from ..reading import RunRow
from ..segments import spool_folder
from .doctor_facts import ON_WINDOWS, Account, Driver, File, Mount, Site
from .doctor_windows import PATIENCE, ask_windows, odbc_drivers

__all__ = ["account_of", "file_at", "look_around", "mount_of", "outdated", "process_account", "this_account"]


def look_around(path: Path, engine: Account | None, reader: Account | None) -> Site:
    """Return all that is around a database; ``engine`` and ``reader`` where they are known."""
    path = path.absolute()
    beside = (file_at(path.with_name(path.name + end)) for end in ("-wal", "-shm"))
    spool = spool_folder(path)
    database = file_at(path)
    folders = tuple(file for folder in path.parents if (file := file_at(folder)))
    there = folders[0].path if folders else path.parent
    if database and not path.is_file():
        engine = reader = None  # nobody is to be granted, or denied, anything of a device or a folder
    elif not ON_WINDOWS:
        engine = engine or _owner_of(file_at(spool), database, file_at(path.parent))
        reader = reader or _this_reader(engine)
    return Site(
        path=path,
        database=database,
        companions=tuple(file for file in beside if file),
        folders=folders if folders and folders[0].path == path.parent else (),
        spool=file_at(spool),
        spool_files=tuple(_files_in(spool)),
        engine=engine,
        reader=reader,
        mount=mount_of(there, _mounts()),
        free_bytes=shutil.disk_usage(there).free,
        drivers=odbc_drivers() if ON_WINDOWS else _drivers_of_unix(),
        outdated=tuple(outdated(_requirements(), importlib.metadata.version)),
        sqlite=sqlite3.sqlite_version_info,
        windows=ask_windows(there) if ON_WINDOWS else None,
    )


# -- files and accounts -----------------------------------------------------------------------------


def file_at(path: Path) -> File | None:
    """Return what is known of a file or folder without opening it; :obj:`None` if there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return File(
        path,
        stat.S_IMODE(found.st_mode),
        user=found.st_uid,
        group=found.st_gid,
        owner=_name_of(found.st_uid),
        size_bytes=found.st_size,
        links=found.st_nlink if stat.S_ISREG(found.st_mode) else 1,
        is_folder=stat.S_ISDIR(found.st_mode),
        is_link=path.is_symlink(),
        has_acl=_has_acl(path),
    )


def _has_acl(path: Path) -> bool:
    if not hasattr(os, "listxattr"):
        return False
    try:
        return "system.posix_acl_access" in os.listxattr(path)
    except OSError:
        return False


def _files_in(folder: Path) -> Iterator[File]:
    try:
        paths = sorted(folder.iterdir())
    except OSError:
        return
    for path in paths:
        if file := file_at(path):
            yield file


def _name_of(user: int) -> str:
    if ON_WINDOWS:
        return ""
    import pwd

    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return str(user)


def account_of(user: str | int) -> Account | None:
    """Return an account by its name or number; :obj:`None` if it doesn't exist, or if modes say nothing."""
    if ON_WINDOWS:
        return None
    import pwd

    try:
        entry = pwd.getpwuid(int(user)) if str(user).isdecimal() else pwd.getpwnam(str(user))
    except KeyError:
        return None
    groups = frozenset(os.getgrouplist(entry.pw_name, entry.pw_gid))
    return Account(entry.pw_name, entry.pw_uid, groups, entry.pw_gid)


def process_account(run: RunRow) -> Account | None:
    """Return the account of a run that is alive on this machine; :obj:`None` if that can't be told."""
    if ON_WINDOWS or run.process_id is None:
        return None
    try:
        process = psutil.Process(run.process_id)
        # One that is younger than the run has got the number since, or runs outside of a container.
        return account_of(process.uids().effective) if process.create_time() <= run.run + 1 else None
    except (psutil.Error, ValueError, OverflowError):
        return None


def _owner_of(*files: File | None) -> Account:
    """Guess the engine's account by what it owns; root tells least, as it can do anything."""
    owners = [(file.user, file.group) for file in files if file]
    user, group = next((owner for owner in owners if owner[0] != 0), (0, 0))
    return account_of(user) or Account(str(user), user, frozenset({group}), group)


def this_account() -> Account | None:
    """Return the account of this process; :obj:`None` where modes say nothing."""
    if ON_WINDOWS:
        return None
    user = os.geteuid()
    return Account(_name_of(user), user, frozenset({os.getegid(), *os.getgroups()}), os.getegid())


def _this_reader(engine: Account) -> Account | None:
    """Return the account of this process, unless it is root or the engine's."""
    account = this_account()
    return None if account is None or account.user in (0, engine.user) else account


# -- disks ------------------------------------------------------------------------------------------


def _mounts() -> list[Mount]:
    try:
        found = psutil.disk_partitions(all=True)
    except OSError:
        return []
    return [Mount(each.mountpoint, each.fstype, frozenset(each.opts.split(","))) for each in found]


def mount_of(folder: Path, mounts: Iterable[Mount]) -> Mount | None:
    """Return the file system that a folder is in: the innermost, and of several there the last."""
    inside = [mount for mount in mounts if folder.is_relative_to(mount.folder)]
    deepest = max((len(Path(mount.folder).parts) for mount in inside), default=0)
    return next((mount for mount in reversed(inside) if len(Path(mount.folder).parts) == deepest), None)


# -- programs ---------------------------------------------------------------------------------------


def _drivers_of_unix() -> tuple[Driver, ...] | None:
    listed = _odbcinst("-d")
    if listed is None:
        return None
    names = [name for name in re.findall(r"^\[(.+)\]$", listed, re.MULTILINE) if "sqlite" in name.lower()]
    return tuple(Driver(name, _library_of(_odbcinst("-d", "-n", name) or "")) for name in names)


def _odbcinst(*arguments: str) -> str | None:
    """Ask the driver manager; :obj:`None` if there is none."""
    command = ["odbcinst", "-q", *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout


def _library_of(entry: str) -> str | None:
    """Return the library of a driver if its file is there."""
    found = re.search(r"^Driver=(.+)$", entry, re.MULTILINE | re.IGNORECASE)
    if not found:
        return None
    name = found[1].strip()
    # Of one without a folder, only the driver manager knows where it is.
    return name if "/" not in name or Path(name).exists() else None


def _requirements() -> list[str]:
    with suppress(importlib.metadata.PackageNotFoundError):
        return importlib.metadata.requires("async-enginelog") or []
    return []


def outdated(requirements: Iterable[str], version_of: Callable[[str], str]) -> Iterator[str]:
    """Yield what of ``requirements`` such as ``orjson>=3.10`` is there in an older version."""
    for requirement in requirements:
        found = re.fullmatch(r"([\w.-]+)>=([\d.]+)", requirement)
        if found is None:  # of another kind, or only for development
            continue
        name, needed = found.groups()
        with suppress(importlib.metadata.PackageNotFoundError):
            there = version_of(name)
            if _numbers(there) < _numbers(needed):
                yield f"{name} {there}, needed is {needed}"


def _numbers(version: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", version)[:3]]
