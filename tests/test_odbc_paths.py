"""Which paths SQL Server can open, and how the driver is told."""

from __future__ import annotations

import re
from urllib.parse import unquote, urlsplit

import pytest

from async_enginelog.errors import PathError
from async_enginelog.odbc_paths import connection_string, is_foreign, local_path

LONG = "C:\\" + "x" * 252


def told(path: str) -> str:
    """Return what the driver is told of a path."""
    found = re.fullmatch(r"Driver=\{.*?\};Database=([^;]*);NoCreat=1;BigInt=1;Timeout=5000;", path)
    assert found is not None
    return found.group(1)


@pytest.mark.parametrize(
    ("given", "path"),
    [
        (r"C:\VIOLIN\engine_log.db", r"C:\VIOLIN\engine_log.db"),
        ("c:/VIOLIN/engine_log.db", r"c:\VIOLIN\engine_log.db"),
        (r"C:\VIOLIN\..\x\.\log.db", r"C:\x\log.db"),
        (r"D:\it's [a] (log) {1} #2, 100% = ü 🎻.db", r"D:\it's [a] (log) {1} #2, 100% = ü 🎻.db"),
        (r"\\?\C:\log.db", r"C:\log.db"),
        (r"\\.\C:\log.db", r"C:\log.db"),
        ("file:///C:/a%20b/log.db", r"C:\a b\log.db"),
        ("FILE:C:/log.db", r"C:\log.db"),
        ("file://localhost/C:/log.db", r"C:\log.db"),
        ("file:///srv/log.db", "/srv/log.db"),
        ("/srv/a b/log.db", "/srv/a b/log.db"),
        (LONG, LONG),
    ],
)
def test_local_paths(given: str, path: str) -> None:
    """A path of a file on the same host is taken, whatever characters it has; URIs and / are translated."""
    assert local_path(given) == path


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (r"\\server\share\log.db", "on the network"),
        ("//server/share/log.db", "on the network"),
        (r"\/server\share/log.db", "on the network"),
        (r"\\?\UNC\server\share\log.db", "on the network"),
        (r"\\.\unc\server\share\log.db", "on the network"),
        (r"\\wsl$\Debian\srv\log.db", "on the network"),
        ("file:////server/share/log.db", "on the network"),
        ("file://server/share/log.db", "on the host server"),
        ("file:///C:/log.db?mode=ro", "has options in it"),
        ("log.db", "isn't an absolute path"),
        (r"C:log.db", "isn't an absolute path"),
        (r"\log.db", "isn't an absolute path"),
        ("", "isn't an absolute path"),
        ("C:\\", "is a drive"),
        ("C:\\VIOLIN\\dir\\", "is a folder"),
        ("C:/VIOLIN/dir/", "is a folder"),
        ("C:\\VIOLIN\\dir\\.", "is a folder"),
        ("C:\\VIOLIN\\dir\\..", "is a folder"),
        ("file:///C:/VIOLIN/dir/", "is a folder"),
        ("C:\\a\nb.db", "control characters"),
        ("file:///C:/a%0Ab.db", "control characters"),
        ("C:\\\ud83d.db", "control characters"),
        ("C:\\\u202egpj.db", "control characters"),
        ('C:\\"log".db', 'has " in it|" is in it'),
        (r"C:\log.db:stream", ": is in it"),
        (LONG + "x", "256 characters"),
    ],
)
def test_refused_paths(given: str, reason: str) -> None:
    """A path that can't work is refused, and the reason told."""
    with pytest.raises(PathError, match=reason):
        local_path(given)


def test_mapped_drives() -> None:
    """A drive may be a folder on the network; only its own machine knows, so here it is taken."""
    assert local_path(r"Z:\log.db") == r"Z:\log.db"


@pytest.mark.parametrize("path", [r"\\server\x.db", "//server/x.db", "file://server/x.db"])
def test_refusals_say_what_to_do(path: str) -> None:
    """Who is refused because of another host is told which path to pass instead."""
    with pytest.raises(PathError, match=r"must be on one host; pass the path .* such as C:\\VIOLIN"):
        local_path(path)


@pytest.mark.parametrize(
    ("path", "foreign"),
    [("C:\\x", True), ("c:x", True), ("\\x", True), ("//s/x", True), ("File:x", True)]
    + [(path, False) for path in ("/x", "x", "a/b", "./C:/x", "files/x", "")],
)
def test_foreign_paths(path: str, foreign: bool) -> None:
    """Paths that no other system than Windows would write so are told from others."""
    assert is_foreign(path) is foreign


@pytest.mark.parametrize("path", [r"C:\VIOLIN\engine_log.db", r"D:\it's [a] (log) #2 = x!.db", "/srv/a b.db"])
def test_plain_paths(path: str) -> None:
    """A path is told as it is, if it survives that."""
    assert told(connection_string(path)) == path


@pytest.mark.parametrize(
    "path", [r"C:\a;b.db", r"C:\%TEMP%\x.db", "C:\\ü.db", "C:\\🎻 Пётр.db", r"C:\{x}.db", "/srv/a;b?#%20.db"]
)
def test_paths_as_uris(path: str) -> None:
    """One that wouldn't is told as a URI, in which it does: no semicolon, no variable, ASCII only."""
    uri = told(connection_string(path))
    assert uri.isascii()
    assert not set(uri) & set(" ;?#{}")
    assert all(re.fullmatch("[0-9A-F]{2}", part[:2]) for part in uri.split("%")[1:])
    plain = unquote(urlsplit(uri).path)
    assert (plain[1:].replace("/", "\\") if is_foreign(path) else plain) == path


def test_long_paths() -> None:
    """A path that the driver would cut is refused."""
    with pytest.raises(PathError, match="too long for the ODBC driver"):
        connection_string("C:\\" + "п" * 250)
