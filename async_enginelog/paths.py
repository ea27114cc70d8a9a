"""Where the log is: the one name of its file, and the name if none is given."""

from __future__ import annotations

import os
from pathlib import Path

from . import ownership
from .errors import PathError

__all__ = ["default_path", "true_path"]


def true_path(path: str | os.PathLike[str]) -> Path:
    """
    Return the one name of a file: absolute, as an engine may change its working directory, and
    without links, as the spool is beside the file and not beside a link to it.

    Raises:
        PathError: If it can't be a path, or another account may have put a link there.

    """
    try:
        if why := ownership.planted_link(Path(path)):
            raise PathError(f"{why}, and any account may put files into its folder; use a folder of your own")
        return Path(path).resolve()
    except (ValueError, OSError, RuntimeError) as error:  # a NUL, or links in a circle
        raise PathError(f"{path!r} can't be a path: {error}; mend it") from error


def default_path() -> Path:
    """Return the path of the database: the setting ``ENGINELOG_DB``, else ``engine_log.db``."""
    return Path(os.environ.get("ENGINELOG_DB") or "engine_log.db")
