"""What the doctor checks around the file: where it is, on which disk, with which programs. No I/O."""

from __future__ import annotations

from pathlib import PurePath, PureWindowsPath

from .. import segments
from .doctor_facts import Driver, Finding, Findings, Level, Site, quoted

__all__ = [
    "disk_space",
    "libraries",
    "network",
    "odbc_driver",
    "one_name",
    "read_only",
    "shared_folder",
    "sqlite_version",
    "synced_folder",
]

# File systems whose files are on another machine.
NETWORK = {
    *("afs", "ceph", "cifs", "coda", "davfs", "fuse.glusterfs", "fuse.rclone", "fuse.s3fs", "fuse.sshfs"),
    *("gfs2", "glusterfs", "lustre", "ncpfs", "nfs", "nfs4", "ocfs2", "smb3", "smbfs"),
}
# Folders that a virtual machine shares with its host.
SHARED = {"9p", "fuse.grpcfuse", "fuse.vmhgfs-fuse", "prl_fs", "vboxsf", "virtiofs", "vmhgfs"}

# Folders that a program copies to elsewhere while they change.
SYNCED = ("dropbox", "google drive", "icloud", "nextcloud", "onedrive")

# What a log needs to begin: a segment and its spares. And what its spool may take by default.
SEGMENTS_TO_BEGIN = 3
SPOOL_LIMIT_BYTES = 1024**3

# RETURNING came with it; the log doesn't work without.
OLDEST_SQLITE = (3, 35, 0)

# How the ODBC driver is installed.
ON_WINDOWS = "install sqliteodbc_w64.exe from http://www.ch-werner.de/sqliteodbc/"
ON_DEBIAN = "sudo apt-get install libsqliteodbc"

ONE_HOST = "SQLite's WAL mode needs memory that its processes share: engine, file, readers on one host"


def one_name(site: Site) -> Findings:
    """A file with two names has two WALs, depending on by which it is opened."""
    if site.database and site.database.links > 1:
        yield Finding(
            f"{site.path} has {site.database.links} names (hard links)",
            "each name has a WAL and a spool of its own: who opens the other one damages the database",
            f"find the others and remove them: find / -xdev -samefile {quoted(site.path)}",
        )


def network(site: Site) -> Findings:
    """The file has to be on a disk of this machine."""
    where = _network(site)
    if where:
        yield Finding(
            f"{site.path} is on the network ({where})",
            f"{ONE_HOST}; over a network it gets damaged (https://www.sqlite.org/wal.html)",
            "stop the engine and move the database, with its -wal and -spool, to a disk of the engine's host",
        )


def _network(site: Site) -> str | None:
    drive = PureWindowsPath(site.path).drive
    if drive.startswith("\\\\") and not drive.startswith(("\\\\?\\", "\\\\.\\")):
        return drive
    if drive.upper().startswith("\\\\?\\UNC\\"):
        return drive
    mount = site.mount
    if mount and (mount.kind.lower() in NETWORK or "remote" in mount.options):
        return f"{mount.kind or 'a mapped drive'} at {mount.folder}"
    return None


def shared_folder(site: Site) -> Findings:
    """A folder shared by host and guest is on one side only."""
    if site.mount and site.mount.kind.lower() in SHARED:
        yield Finding(
            f"{site.mount.folder} is shared between two systems ({site.mount.kind})",
            f"{ONE_HOST}, that is, all on one side",
            "keep the database on a disk of the engine's side, or let nobody open it on the other",
            Level.NOTE,
        )


def read_only(site: Site) -> Findings:
    """The engine has to write."""
    if site.mount and "ro" in site.mount.options:
        yield Finding(
            f"the file system at {site.mount.folder} is read-only",
            "no row can be stored; Linux makes a file system read-only also after a fault of its disk",
            f"look for the reason (dmesg), then: sudo mount -o remount,rw {quoted(site.mount.folder)}",
        )


def synced_folder(site: Site) -> Findings:
    """Programs that copy files to a cloud lock them, and copy database and WAL at different moments."""
    names = [part.lower() for part in _parts(site.path)[:-1]]
    if any(name.startswith(SYNCED) for name in names):
        yield Finding(
            f"{site.path.parent} looks like a folder that is copied to a cloud",
            "such programs lock files while the engine writes, and what they copy isn't one state of the log",
            "keep the database elsewhere; for a copy in the cloud: enginelog backup",
            Level.NOTE,
        )


def _parts(path: PurePath) -> tuple[str, ...]:
    return PureWindowsPath(path).parts  # which takes both kinds of slashes


def disk_space(site: Site) -> Findings:
    """A log needs room to begin, and its spool more when the database fails."""
    needed = SEGMENTS_TO_BEGIN * segments.SEGMENT_BYTES
    if site.free_bytes < needed:
        yield Finding(
            f"the disk is full: {_mib(site.free_bytes)} left",
            f"a log needs {_mib(needed)} to begin; one that runs puts its rows on the console",
            f"make room on the disk of {site.path.parent}, or move the log to another one",
        )
    elif site.free_bytes < SPOOL_LIMIT_BYTES:
        yield Finding(
            f"the disk is nearly full: {_mib(site.free_bytes)} left",
            "when the database can't be written to, rows wait in the spool, by default up to 1,024 MiB",
            f"make room on the disk of {site.path.parent}",
            Level.NOTE,
        )


def _mib(size_bytes: int) -> str:
    return f"{size_bytes / 1024**2:,.0f} MiB"


def odbc_driver(site: Site) -> Findings:
    """Who reads by ODBC needs the driver, for 64 bits, and its file."""
    if site.drivers is None:
        return
    usable = [driver for driver in site.drivers if driver.bits == 64 and driver.library is not None]
    if usable:
        return
    install = ON_WINDOWS if site.windows else ON_DEBIAN
    if site.drivers:
        yield Finding(_unusable(site.drivers), "nobody can read the log by ODBC, such as SQL Server", install)
    else:
        yield Finding(
            "no ODBC driver for SQLite is installed",
            "nobody can read the log by ODBC, such as SQL Server; the engine needs none",
            install,
            Level.NOTE,
        )


def _unusable(drivers: tuple[Driver, ...]) -> str:
    named = ", ".join(driver.name for driver in drivers)
    if all(driver.bits != 64 for driver in drivers):
        return f"the ODBC driver for SQLite is installed for 32 bits only ({named})"
    return f"the ODBC driver for SQLite is registered, but its library isn't there ({named})"


def libraries(site: Site) -> Findings:
    """Libraries older than this package needs are known not to work with it."""
    if site.outdated:
        yield Finding(
            f"libraries are too old: {'; '.join(site.outdated)}",
            "the log is neither made for nor tested with them",
            "pip install -U async-enginelog",
        )


def sqlite_version(site: Site) -> Findings:
    """The log uses what older versions of SQLite don't have."""
    if site.sqlite < OLDEST_SQLITE:
        version, oldest = (".".join(map(str, numbers)) for numbers in (site.sqlite, OLDEST_SQLITE))
        yield Finding(
            f"this Python has SQLite {version}",
            f"the log needs {oldest} or newer: no row can be stored",
            "install a Python that comes with a newer one: https://www.python.org/downloads/",
        )
