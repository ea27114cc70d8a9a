"""What the doctor checks of permissions: what the engine, a reader and others may do. No I/O."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from .common import plural
from .doctor_facts import Account, File, Finding, Findings, Level, Site, Windows, quoted

__all__ = ["engine_access", "exposed", "leaves_a_trap", "not_opened", "reader_access", "sql_server_access"]

READ, WRITE, PASS = 4, 2, 1
STICKY, SET_GROUP = 0o1000, 0o2000

# Somebody of whom nothing is known: what files let others do.
OTHERS = Account("others", -1, frozenset())

# Rights that include to create, change and delete; and who is meant by everybody, among them services.
MODIFY = {"F", "M"}
EVERYBODY = ("everyone", "builtin\\users", "nt authority\\authenticated users")

TRAP = 'the engine then meets "attempt to write a readonly database", and its rows wait in the spool'
TWO_FILES = "SQLite keeps two files beside the database, -wal and -shm"


def may(account: Account, file: File, need: int) -> bool:
    """Tell whether the mode of a file lets an account do all of ``need``; READ, WRITE and PASS as bits."""
    if account.user == 0 or (file.has_acl and account is not OTHERS):
        return True
    shift = 6 if file.user == account.user else 3 if file.group in account.groups else 0
    return file.mode >> shift & need == need


def engine_access(site: Site) -> Findings:
    """The engine writes the database, what SQLite keeps beside it, and the spool."""
    yield from _spool_that_is_none(site)
    if site.engine is None:
        return
    engine = site.engine
    closed = _closed_folder(engine, site.folders)
    if closed:
        yield Finding(
            f"the engine's account {engine.name} can't pass through the folder {closed.path}",
            "it can't open the log",
            f"sudo chmod o+x {quoted(closed.path)}",
        )
    if site.folders and not may(engine, site.folders[0], WRITE | PASS):
        folder = site.folders[0]
        yield Finding(
            f"the engine's account {engine.name} can't write to the folder {folder.path} ({_mode(folder)})",
            f"{TWO_FILES}, and the log its spool: without them no row is stored",
            f"{_granted(engine, folder)}; better, give the log a folder of its own",
        )
    if site.database and not may(engine, site.database, READ | WRITE):
        yield Finding(
            f"the engine's account {engine.name} can't write {site.database.path} ({_mode(site.database)})",
            "its rows wait in the spool, then go to the console",
            _granted(engine, site.database),
        )
    yield from _companions(site, engine)
    yield from _spool(site, engine)
    yield from _strange(site, engine)


def _spool_that_is_none(site: Site) -> Findings:
    if site.spool and not site.spool.is_folder:
        yield Finding(
            f"{site.spool.path} isn't a folder",
            "the engine keeps its spool in a folder of that name: it can't open the log",
            f"look what it is, and move it away: mv {quoted(site.spool.path, f'{site.spool.path}-moved')}",
        )


def _companions(site: Site, engine: Account) -> Findings:
    foreign = [file for file in site.companions if not may(engine, file, READ | WRITE)]
    if foreign:
        yield Finding(
            f"the engine's account {engine.name} can't write {_listed(foreign)}",
            f"a reader leaves them behind that may write to the folder, but not the database; {TRAP}",
            f"don't delete them, there may be rows in them: {_given(engine, foreign)}; "
            "then let the reader write the database, too, or not to the folder",
        )


def _spool(site: Site, engine: Account) -> Findings:
    files = [file for file in site.spool_files if not may(engine, file, READ | WRITE)]
    if site.spool and not may(engine, site.spool, READ | WRITE | PASS):
        files.insert(0, site.spool)
    if site.spool and files:
        spool = quoted(site.spool.path)
        yield Finding(
            f"the engine's account {engine.name} can't use {_listed(files)}",
            "it ran as another account once; now it can't start, or not commit what is in there",
            f"sudo chown -R {engine.name} {spool} && sudo chmod -R u+rwX {spool}",
        )


def _strange(site: Site, engine: Account) -> Findings:
    """What the engine leaves alone, as another account may have put it there."""
    files = [site.spool, *site.spool_files]
    if site.folders and may(OTHERS, site.folders[0], WRITE):
        files += [site.database, *site.companions]
    strange = [file for file in files if file and (file.is_link or file.user not in (0, engine.user))]
    if strange and all(may(engine, file, READ | WRITE) for file in strange):
        yield Finding(
            f"the engine's account {engine.name} leaves alone {_listed(strange)}",
            "another account may have put it there, with rows that it made up",
            "look what it is; if it is the engine's, and not a link: "
            f"sudo chown -h {engine.name} {quoted(*(file.path for file in strange))}",
        )


def reader_access(site: Site) -> Findings:
    """A reader reads three files, and makes two of them if the engine isn't there to do so."""
    if site.reader is None or not site.folders:
        return
    reader, folder = site.reader, site.folders[0]
    closed = _closed_folder(reader, site.folders[1:])
    files = [file for file in (site.database, *site.companions) if file]
    unreadable = [file for file in files if not may(reader, file, READ)]
    if closed:
        do = f"sudo chmod o+x {quoted(closed.path)}"
        yield _no_reading(reader, f"pass through the folder {closed.path}", do)
    elif not may(reader, folder, PASS):
        yield _no_reading(reader, f"pass through the folder {folder.path}", _shared(reader, site))
    elif unreadable:
        yield _no_reading(reader, f"read {_listed(unreadable)}", _shared(reader, site))
    elif not files:
        return
    elif not may(reader, folder, WRITE):
        yield from _reader_without_folder(reader, site)
    elif leaves_a_trap(reader, site):
        yield Finding(
            f"what the reader's account {reader.name} makes in {folder.path}, the engine can't write",
            f"when it reads while the engine is stopped, it leaves a -wal and a -shm behind; {TRAP}",
            _shared(reader, site),
        )


def _no_reading(reader: Account, what: str, do: str) -> Finding:
    why = "it can't open the log: it needs the database, its -wal and its -shm"
    return Finding(f"the reader's account {reader.name} can't {what}", why, do)


def leaves_a_trap(reader: Account, site: Site) -> bool:
    """Tell whether the engine can't write the -wal and -shm that ``reader`` makes while it is stopped."""
    if reader.user == 0 or not (site.engine and site.database and site.folders):
        return False  # what root makes, SQLite gives to the owner of the database
    folder = site.folders[0]
    if not may(reader, site.database, READ) or not may(reader, folder, WRITE | PASS):
        return False
    group = folder.group if folder.mode & SET_GROUP else reader.group
    return not may(site.engine, File(site.path, site.database.mode, reader.user, group), READ | WRITE)


def not_opened(path: Path, account: Account) -> Finding:
    """Say why the database wasn't looked into: so as not to set the trap."""
    return Finding(
        f"{path} wasn't looked into: {account.name} would leave a -shm there that the engine can't write",
        "so nothing is said here of what is in the log",
        f"run it as the engine's account, or as root: sudo enginelog doctor {quoted(path)}",
        Level.NOTE,
    )


def _reader_without_folder(reader: Account, site: Site) -> Findings:
    running = bool(site.companions)
    then = "as soon as the engine is stopped" if running else "until the engine runs"
    yield Finding(
        f"the reader's account {reader.name} can't write to the folder {site.folders[0].path}",
        f"{TWO_FILES}, and a reader makes them if they aren't there: it can't open the log {then}",
        _shared(reader, site),
        Level.NOTE if running else Level.WRONG,
    )


def exposed(site: Site) -> Findings:
    """What any account of the machine may do."""
    if site.engine is None or not site.folders or _closed_folder(OTHERS, site.folders):
        return
    folder = site.folders[0]
    inside = [file for file in (site.database, *site.companions) if file]
    open_to_all = [file for file in inside if may(OTHERS, file, WRITE)]
    # Others can't delete what isn't theirs in a sticky folder, such as /tmp.
    if may(OTHERS, folder, WRITE) and not folder.mode & STICKY:
        open_to_all.append(folder)
    spool = [file for file in (site.spool, *site.spool_files) if file and not file.is_link]
    open_to_all += [file for file in spool if may(OTHERS, file, WRITE)]
    if open_to_all:
        yield Finding(
            f"any account of this machine may write to {_listed(open_to_all)}",
            "it may change or delete the log; truncating a file of the spool kills the engine",
            f"sudo chmod o-w {quoted(*(file.path for file in open_to_all))}",
        )
    elif site.database and may(OTHERS, site.database, READ):
        yield Finding(
            f"any account of this machine can read {site.path}",
            "addresses and headers of clients, and tracebacks, are in it",
            f"if others aren't meant to: chmod o= {quoted(*(file.path for file in inside))}",
            Level.NOTE,
        )


def sql_server_access(site: Site) -> Findings:
    """SQL Server opens the file as its service account, which needs to modify the folder."""
    if site.windows is None:
        return
    for account in site.windows.sql_servers:
        if not _may_modify(account, site.windows):
            yield Finding(
                f"the account of SQL Server, {account}, isn't granted to modify {site.path.parent}",
                f"{TWO_FILES}, which a reader on Windows has to write: the linked server can't open the log",
                f"in PowerShell, as administrator: icacls {_literal(site.path.parent)} "
                f"/grant {_literal(f'{account}:(OI)(CI)M')}",
                Level.NOTE,  # groups that the account is in aren't known
            )


def _literal(text: object) -> str:
    """Quote for PowerShell: in double quotes it would take what begins with $ for a variable."""
    return "'" + str(text).replace("'", "''") + "'"


def _may_modify(account: str, windows: Windows) -> bool:
    names = {account.lower(), *EVERYBODY}
    if account.lower() in ("localsystem", "nt authority\\system"):
        names.add("nt authority\\system")
    granted = (rights for name, rights in windows.rights.items() if name.lower() in names)
    return any(rights & MODIFY for rights in granted)


# -- words ------------------------------------------------------------------------------------------


def _closed_folder(account: Account, folders: Iterable[File]) -> File | None:
    """Return the outermost folder that an account can't pass through."""
    closed = [folder for folder in folders if not may(account, folder, PASS)]
    return closed[-1] if closed else None


def _mode(file: File) -> str:
    return f"{file.mode & 0o7777:04o}, of {file.owner}"


def _listed(files: list[File]) -> str:
    more = f" and {plural(len(files) - 2, 'more file')}" if len(files) > 2 else ""
    return " and ".join(f"{file.path} ({_mode(file)})" for file in files[:2]) + more


def _granted(account: Account, file: File) -> str:
    if file.user == account.user:
        return f"chmod u+rw{'x' if file.mode & 0o111 else ''} {quoted(file.path)}"
    return _given(account, [file])


def _given(account: Account, files: list[File]) -> str:
    paths = quoted(*(file.path for file in files))
    return f"sudo chown {account.name} {paths} && sudo chmod u+rw {paths}"


def _shared(reader: Account, site: Site) -> str:
    """Return the commands that let a group read and write the log; new files get its group and mode."""
    folder = quoted(site.folders[0].path)
    files = quoted(site.path, *(file.path for file in site.companions))
    members = [account.name for account in (site.engine, reader) if account and account.user != 0]
    joined = " && ".join(f"sudo usermod -aG enginelog {quoted(name)}" for name in members)
    return (
        f"let a group have it: sudo groupadd -f enginelog && {joined} && "
        f"sudo chgrp enginelog {folder} {files} && "
        f"sudo chmod 2770 {folder} && sudo chmod 660 {files}; then start both anew, the engine with "
        "EngineLog(..., mode=0o660), which a file gets that is made anew"
    )
