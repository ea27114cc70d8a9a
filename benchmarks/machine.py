"""What the figures were measured on."""

from __future__ import annotations

import os
import platform
import sqlite3
import subprocess
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from async_enginelog.version import __version__

__all__ = ["description", "sentence", "version_of"]


def version_of(package: str) -> str | None:
    """Return the version of a package that is installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def description() -> dict[str, Any]:
    """Return the date, the machine and the versions that matter."""
    packages = ("aiosqlite", "orjson", "websockets")
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "async_enginelog": __version__,
        "commit": _commit(),
        **{package: version_of(package) for package in packages},
        "system": f"{platform.system()} {platform.machine()}",
        "processors": os.cpu_count(),
    }


def _commit() -> str | None:
    """Return the commit of this checkout, if it is one."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def sentence(machine: dict[str, Any], rounds: int) -> str:
    """Return it in one sentence."""
    return (
        f"{machine['date']}: Python {machine['python']}, SQLite {machine['sqlite']}, aiosqlite "
        f"{machine['aiosqlite']}, orjson {machine['orjson']}, websockets {machine['websockets']}, "
        f"{machine['system']} with {machine['processors']} processors; medians of {rounds} rounds, "
        "the range in brackets."
    )
