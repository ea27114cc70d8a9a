"""
Whose files they are: made for this account alone, whatever the umask, and not taken from a stranger.

A folder such as /tmp is open to all accounts of a machine. There, somebody may have put a file
where an engine looks for its own: a spool full of invented rows, a link to a file that is to be
overwritten, a ``-shm`` to be cut off under the engine. What is judged here is who owns a file
and who may write to it (https://pubs.opengroup.org/onlinepubs/9799919799/basedefs/V1_chap04.html#tag_04_07).

On Windows, access control lists decide, which files inherit from their folder: nothing is done there.

"""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Iterable
from pathlib import Path

__all__ = [
    "FILE_MODE",
    "FOLDER_MODE",
    "check_mode",
    "create_file",
    "folder_mode",
    "is_open_to_all",
    "make_folder",
    "more_open",
    "planted",
    "planted_link",
    "strange_folder",
    "stranger",
    "without_others",
]

ON_WINDOWS = os.name == "nt"

# What the spool and its files always have, and the database unless the setting says otherwise.
FILE_MODE = 0o600
FOLDER_MODE = 0o700

# Links are followed so often; Linux has the same limit.
MAX_LINKS = 40

# Closing a descriptor drops the locks that SQLite holds on the same file in this process
# (https://www.sqlite.org/howtocorrupt.html, section 2.2). So nobody opens a file while it is made.
_making = threading.Lock()


def check_mode(mode: int) -> int:
    """
    Return the mode of a database if it can be one.

    Raises:
        ValueError: If its owner may not read and write it, or any account may write it.

    """
    if not isinstance(mode, int) or mode & ~0o664 or mode & FILE_MODE != FILE_MODE:
        shown = f"0o{mode:o}" if isinstance(mode, int) else repr(mode)
        raise ValueError(
            f"mode is {shown}; pass 0o600, or what lets others read: 0o640 or 0o660 for the group, "
            "0o644 for all"
        )
    return mode


def folder_mode(mode: int) -> int:
    """Return the mode of a folder whose files have ``mode``: who may read may pass."""
    return mode | (mode & 0o444) >> 2


def create_file(path: Path, mode: int = FILE_MODE) -> bool:
    """
    Create an empty file that has this mode, whatever the umask; tell whether there was none.

    A link is never followed, and a file that is there is left as it is.

    Raises:
        OSError: If it can't be created.

    """
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
    with _making:
        try:
            descriptor = os.open(path, flags, mode)
        except FileExistsError:
            return False
        try:
            if not ON_WINDOWS:
                os.fchmod(descriptor, mode)
        except PermissionError:
            pass  # FAT and its like keep no modes
        finally:
            os.close(descriptor)
    return True


def make_folder(folder: Path, mode: int = FOLDER_MODE) -> None:
    """
    Make a folder that has this mode, whatever the umask; one that is there keeps its own.

    Raises:
        OSError: If it can't be made, or is a file.

    """
    try:
        folder.mkdir(mode=mode, parents=True)
    except OSError:  # not only that it exists: what may be read only says so first
        if not folder.is_dir():
            raise
        return
    try:
        folder.chmod(mode)
    except PermissionError:
        pass  # FAT and its like keep no modes


def without_others(folder: Path) -> bool:
    """Take from all other accounts the right to write to a folder of this account; tell if they had it."""
    if ON_WINDOWS:
        return False
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or not found.st_mode & stat.S_IWOTH:
        return False
    try:
        folder.chmod(stat.S_IMODE(found.st_mode) & ~stat.S_IWOTH)
    except OSError:
        return False
    return not folder.lstat().st_mode & stat.S_IWOTH


def stranger(path: Path, *, owners: Iterable[int] = (), modes: bool = True) -> str | None:
    """
    Say why a file or folder may be the work of another account; :obj:`None` if it isn't, or isn't there.

    Args:
        owners: Accounts that are trusted, by number, besides that of this process and root.
        modes: Whether modes say anything there.

    Raises:
        OSError: If nothing can be known of it.

    """
    if ON_WINDOWS:
        return None
    try:
        found = path.lstat()
    except FileNotFoundError:
        return None
    if found.st_uid not in {0, os.geteuid(), *owners}:
        return f"{path} belongs to {_name_of(found.st_uid)}"
    if stat.S_ISLNK(found.st_mode):
        return f"{path} is a link, of {_name_of(found.st_uid)}"
    if not (stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode)):
        return f"{path} is neither a file nor a folder"
    if modes and found.st_mode & stat.S_IWOTH:
        return f"{path}, of {_name_of(found.st_uid)}, may be written to by any account of this machine"
    return None


def more_open(path: Path, than: Path) -> str | None:
    """
    Say if a file may be read or written by accounts that another file is closed to; :obj:`None` if not.

    Raises:
        OSError: If nothing can be known of them.

    """
    try:
        modes = [file.lstat().st_mode for file in (path, than)]
    except FileNotFoundError:
        return None
    return None if not modes[0] & ~modes[1] & 0o777 else f"{path} has another mode than {than}"


def strange_folder(folder: Path) -> str | None:
    """
    Say why the folder of a spool may be the work of another account; :obj:`None` if it isn't.

    Raises:
        OSError: If nothing can be known of it.

    """
    if ON_WINDOWS:
        return None
    # Where others may write to one's own after :func:`without_others`, the file system keeps no modes.
    return stranger(folder, modes=folder.lstat().st_uid != os.geteuid())


def planted(folder: Path, path: Path, *, modes: bool = True) -> str | None:
    """
    Say why a file of a spool may be the work of another account; :obj:`None` if it isn't.

    It may belong to this account, or to the owner of the folder: root looks at what an engine left.

    Args:
        modes: Whether it matters who may write to it.

    Raises:
        OSError: If nothing can be known of it.

    """
    if ON_WINDOWS:
        return None
    found = folder.stat()
    # An engine takes others' right to write from its spool. Where they have it nevertheless, the file
    # system keeps no modes: FAT, folders shared with another machine.
    return stranger(path, owners=(found.st_uid,), modes=modes and not found.st_mode & stat.S_IWOTH)


def planted_link(path: Path) -> str | None:
    """
    Say which link on the way to a file another account may have put there; :obj:`None` if there is none.

    The rule of Linux where ``fs.protected_symlinks`` is set, for any system and for who resolves links
    himself: in a folder where any account may put files, a link counts only if it belongs to this account,
    to root, or to the owner of the folder (https://docs.kernel.org/admin-guide/sysctl/fs.html).

    """
    if ON_WINDOWS:
        return None
    path = path.absolute()
    for _ in range(MAX_LINKS):
        try:
            link = next((part for part in (*reversed(path.parents), path) if part.is_symlink()), None)
        except PermissionError:  # where this account may not look, it can't follow a link either
            break
        if link is None:
            break
        owner = link.lstat().st_uid
        if is_open_to_all(link.parent) and owner not in {0, os.geteuid(), link.parent.stat().st_uid}:
            return f"{link} is a link, of {_name_of(owner)}"
        path = link.parent / link.readlink() / path.relative_to(link)
    return None


def is_open_to_all(folder: Path) -> bool:
    """
    Tell whether any account may put files into a folder, as into /tmp.

    Raises:
        OSError: If nothing can be known of it.

    """
    return not ON_WINDOWS and bool(folder.stat().st_mode & stat.S_IWOTH)


def _name_of(user: int) -> str:
    if ON_WINDOWS:
        return str(user)
    import pwd

    try:
        return f"the account {pwd.getpwuid(user).pw_name}"
    except KeyError:
        return f"the account {user}"
