"""What the doctor asks Windows: SQL Server's accounts, rights to a folder, ODBC drivers."""

from __future__ import annotations

import importlib
import re
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from .doctor_facts import Driver, Windows

__all__ = ["PATIENCE", "ask_windows", "odbc_drivers", "rights_in"]

# How long a program of the system is waited for, in seconds.
PATIENCE = 10.0

# MSSQLSERVER, or MSSQL$NAME for an instance with a name.
SQL_SERVER = re.compile(r"MSSQLSERVER|MSSQL\$.+", re.IGNORECASE)

DRIVERS = r"SOFTWARE\ODBC\ODBCINST.INI\ODBC Drivers"
DRIVER = r"SOFTWARE\ODBC\ODBCINST.INI\{}"


def ask_windows(folder: Path) -> Windows:
    """Return what only Windows knows; as much of it as it tells this account."""
    return Windows(_sql_servers(), rights_in(_icacls(folder), folder))


def _sql_servers() -> tuple[str, ...]:
    accounts = set()
    for service in getattr(psutil, "win_service_iter", tuple)():
        with suppress(psutil.Error, OSError):
            if SQL_SERVER.fullmatch(service.name()):
                accounts.add(str(service.username()))
    return tuple(sorted(accounts))


def _icacls(folder: Path) -> str:
    command = ["icacls", str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=PATIENCE)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout


def rights_in(listing: str, folder: Path | str) -> dict[str, frozenset[str]]:
    """
    Return the rights of each account in what ``icacls FOLDER`` says: F, M, RX, …

    ::

        C:\\VIOLIN NT SERVICE\\MSSQLSERVER:(OI)(CI)(M)
                  BUILTIN\\Users:(I)(OI)(CI)(RX)

    """
    rights: dict[str, frozenset[str]] = {}
    for line in listing.splitlines():
        found = re.fullmatch(r"\s*(.+?):((?:\([A-Z,]+\))+)\s*", line.removeprefix(str(folder)))
        if found and "(DENY)" not in found[2]:
            last = found[2].rpartition("(")[2].rstrip(")")
            rights[found[1]] = rights.get(found[1], frozenset()) | frozenset(last.split(","))
    return rights


def odbc_drivers() -> tuple[Driver, ...]:
    """Return the ODBC drivers for SQLite that are registered, for 64 and for 32 bits."""
    winreg: Any = importlib.import_module("winreg")
    found = []
    for bits, view in ((64, winreg.KEY_WOW64_64KEY), (32, winreg.KEY_WOW64_32KEY)):
        for name in _names(winreg, view):
            if "sqlite" in name.lower():
                library = _library(winreg, name, view)
                found.append(Driver(name, library if library and Path(library).exists() else None, bits))
    return tuple(found)


def _names(winreg: Any, view: int) -> list[str]:
    names: list[str] = []
    access = winreg.KEY_READ | view
    with suppress(OSError), winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, DRIVERS, 0, access) as key:
        # Raises OSError behind the last one.
        while True:
            names.append(winreg.EnumValue(key, len(names))[0])
    return names


def _library(winreg: Any, name: str, view: int) -> str | None:
    access = winreg.KEY_READ | view
    with suppress(OSError), winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, DRIVER.format(name), 0, access) as key:
        return str(winreg.QueryValueEx(key, "Driver")[0])
    return None
