"""
The exceptions of the package.

::

    EngineLogError
    ├── LogClosed            (also RuntimeError)  a call on a log that isn't open
    └── StorageError         (also OSError)       the database or the spool can't be used now
        ├── PathError                             no such folder or file, a folder, no permission
        ├── DatabaseDamaged                       what is in the file can't be read
        ├── NotAnEngineLog                        not a SQLite file, or somebody else's
        ├── SchemaTooNew                          written by a newer version of this package
        └── SpoolUnusable                         no room in the spool, or its disk fails

Wrong arguments are :exc:`TypeError` and :exc:`ValueError`, as everywhere in Python.

"""

from __future__ import annotations

__all__ = [
    "DatabaseDamaged",
    "EngineLogError",
    "LogClosed",
    "NotAnEngineLog",
    "PathError",
    "RowRefused",
    "SchemaTooNew",
    "SpoolUnusable",
    "StorageError",
]


class EngineLogError(Exception):
    """Root of what this package raises of its own."""


class LogClosed(EngineLogError, RuntimeError):
    """The log isn't open: not yet, not any more, or not in this process."""


class StorageError(EngineLogError, OSError):
    """The disk, the database or the spool can't be used now; rows wait, none is lost."""


class PathError(StorageError):
    """The path of the database can't be used as it is."""


class DatabaseDamaged(StorageError):
    """The database is broken; what can be saved of it is being saved, or ``enginelog salvage`` does it."""


class NotAnEngineLog(StorageError):
    """The file isn't a SQLite database, or it is one that this package didn't make."""


class SchemaTooNew(StorageError):
    """The file was written by a newer version of this package."""


class SpoolUnusable(StorageError):
    """The spool takes no more rows: at its limit, or its disk fails."""


class RowRefused(EngineLogError, ValueError):
    """SQLite can't store a row as it is, whatever the state of the disk."""
