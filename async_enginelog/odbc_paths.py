"""Which path of a database SQL Server can open, and how SQLite's ODBC driver is told it."""

from __future__ import annotations

import ntpath
import re
from urllib.parse import quote, unquote, urlsplit

from .errors import PathError
from .terminal import harmless

__all__ = ["connection_string", "is_foreign", "local_path"]

DRIVER = "SQLite3 ODBC Driver"

# How long the driver waits for a lock, in milliseconds. In WAL mode a reader meets none.
TIMEOUT_MS = 5000

# What the driver keeps of a path, in bytes, less a few.
MAX_NAME_BYTES = 1000
# What Windows programs open that don't ask for longer paths, less the "-wal" that SQLite appends.
MAX_PATH_CHARACTERS = 255

INSTEAD = (
    "Engine, file and SQL Server must be on one host; pass the path that the file has there, such as "
    + (r"C:\VIOLIN\engine_log.db")
)


def is_foreign(path: str) -> bool:
    """Tell whether a text can only be a path of Windows, a path on the network, or a URI."""
    return re.match(r"[A-Za-z]:|\\|//|(?i:file:)", path) is not None


def local_path(path: str) -> str:
    """
    Return the absolute path of a file, as SQL Server opens it on the same host.

    The file need not exist here: it may be on another machine. So a drive that is a folder on the network
    can't be told from one that isn't.

    Raises:
        PathError: If it is on the network, isn't absolute, or can't be the path of a file.

    """
    if path[:5].lower() == "file:":
        path = _path_of_uri(path)
    if harmless(path) != path:
        raise PathError(f"{path!r} has control characters in it; rename the file")
    if re.match(r"[\\/]{2}[?.][\\/](?!UNC[\\/])", path, re.IGNORECASE):
        path = path[4:]  # \\?\C:\… says the same as C:\…
    if re.match(r"[\\/]{2}", path):
        raise PathError(
            f"{path} is a path on the network, where SQLite's WAL mode doesn't work: its processes share "
            f"memory. {INSTEAD}"
        )
    return path if path.startswith("/") else _windows_path(path)


def _path_of_uri(uri: str) -> str:
    parts = urlsplit(uri)
    if parts.netloc.lower() not in ("", "localhost"):
        raise PathError(f"{uri} is on the host {parts.netloc}. {INSTEAD}")
    if parts.query or parts.fragment:
        raise PathError(f"{uri} has options in it; pass the path without them")
    path = unquote(parts.path)
    return path[1:] if re.match(r"/[A-Za-z]:", path) else path


def _windows_path(path: str) -> str:
    if not re.match(r"[A-Za-z]:[\\/]", path):
        raise PathError(f"{path} isn't an absolute path, and SQL Server works in another folder. {INSTEAD}")
    normal = ntpath.normpath(path)
    wrong = re.search(r'[<>:"|?*]', normal[2:])
    if wrong:
        raise PathError(f"{path} can't be a path of Windows: {wrong.group()} is in it; mend the path")
    if len(normal) == len("C:\\"):
        raise PathError(f"{path} is a drive; pass the path of a file")
    if ntpath.basename(path) in ("", ".", ".."):
        raise PathError(f"{path} is a folder; pass the path of the file in it")
    if len(normal) > MAX_PATH_CHARACTERS:
        raise PathError(
            f"{path} has {len(normal)} characters; not every program on Windows opens more than "
            f"{MAX_PATH_CHARACTERS}; use a shorter path"
        )
    return normal


def connection_string(path: str, driver: str = DRIVER) -> str:
    """
    Return how the driver is told to open a file, for a path as :func:`local_path` returns it.

    It never creates the file, reads whole numbers with 64 bits, and doesn't wait for ever.

    Raises:
        PathError: If the path is too long for the driver.

    """
    name = _name_for_driver(path)
    if len(name) > MAX_NAME_BYTES:
        raise PathError(f"{path} is too long for the ODBC driver; use a shorter path")
    return f"Driver={{{driver}}};Database={name};NoCreat=1;BigInt=1;Timeout={TIMEOUT_MS};"


def _name_for_driver(path: str) -> str:
    """
    Return a path as the driver takes it: plain, or as a URI if it wouldn't survive the way.

    On Windows the driver reads the connection string by way of the system's code page, in which not
    every character has a place, and it replaces variables such as %TEMP%. A semicolon ends a path.
    In a URI, what stands between two percent signs is a number and no variable.

    """
    if path.isascii() and not set(path) & set(";%{}"):
        return path
    slashes = path if path.startswith("/") else "/" + path.replace("\\", "/")
    return "file://" + quote(slashes, safe="/:")
