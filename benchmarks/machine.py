"""What the figures were measured on, and of what."""

from __future__ import annotations

import hashlib
import os
import platform
import re
import sqlite3
import subprocess
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from async_enginelog.version import __version__

from .rivals import rivals_here

__all__ = ["description", "rivals", "sentence"]

OUR_PACKAGES = ("aiosqlite", "orjson", "websockets")


def description() -> dict[str, Any]:
    """Return the date, the machine and the versions that matter."""
    packages = dict.fromkeys([*OUR_PACKAGES, *(rival.package for rival in rivals_here() if rival.package)])
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "commit": _commit(),
        **{package: _version_of(package) for package in packages},
        "system": f"{platform.system()} {platform.machine()}",
        "processors": os.cpu_count(),
        "processor": _processor(),
    }


def rivals() -> list[list[str]]:
    """Return a line for each rival: its name, its package with the version, and how it is used."""
    return [
        [rival.name, f"{rival.package} {_version_of(rival.package)}" if rival.package else "", rival.how]
        for rival in rivals_here()
    ]


def _version_of(package: str) -> str | None:
    """Return the version of a package that is installed; ours is that of this checkout."""
    try:
        return __version__ if package == "async-enginelog" else metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _commit() -> str | None:
    """Return the commit of this checkout, if it is one; and what tells uncommitted changes from others."""
    try:
        commit = _git("rev-parse", "--short", "HEAD").decode().strip()
        changes = _git("diff", "HEAD")
    except (OSError, subprocess.CalledProcessError):
        return None
    return f"{commit}+{hashlib.sha256(changes).hexdigest()[:7]}" if changes else commit


def _git(*arguments: str) -> bytes:
    command = ["git", "-C", str(Path(__file__).parent), *arguments]
    return subprocess.run(command, capture_output=True, check=True).stdout


def _processor() -> str | None:
    """Return what the processor is called, where Linux says it."""
    try:
        text = Path("/proc/cpuinfo").read_text("utf-8")
    except OSError:
        return None
    found = re.search(r"^model name\s*: (.+)$", text, re.MULTILINE)
    return found[1] if found else None


def sentence(machine: dict[str, Any], rounds: int) -> str:
    """Return it in one sentence; figures of an older version don't tell the processor's name."""
    processor = f" ({name})" if (name := machine.get("processor")) else ""
    return (
        f"{machine['date']}: Python {machine['python']}, SQLite {machine['sqlite']}, aiosqlite "
        f"{machine['aiosqlite']}, orjson {machine['orjson']}, websockets {machine['websockets']}, "
        f"{machine['system']} with {machine['processors']} processors{processor}; medians of {rounds} "
        "rounds, the range in brackets."
    )
