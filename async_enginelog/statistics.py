"""What became of the rows of a log, in numbers."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Statistics"]


class Statistics(NamedTuple):
    """
    What became of the rows of a log.

    ``accepted == committed + pending + on_console + unreadable`` always holds; ``dropped``
    rows were not accepted.

    """

    accepted: int
    committed: int
    pending: int
    on_console: int
    # Lines of the spool that were damaged; they are kept in its folder.
    unreadable: int
    # Rows that neither the spool nor the console took.
    dropped: int
    # Rows of the log, whoever made them, that this one has deleted to keep within ``keep``.
    pruned: int
    flushes: int
    spool_bytes: int
    database_bytes: int
    wal_bytes: int
    last_fault: str | None
