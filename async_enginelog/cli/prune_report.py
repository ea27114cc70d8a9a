"""What ``enginelog prune`` says: what went, what stayed and why. Performs no I/O."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from ..retention import Keep, Pruned, Room
from ..values import time_text
from ..watermarks import Watermark
from .common import harmless, plural, table_text
from .doctor_facts import quoted
from .quantities import bytes_text

__all__ = ["CONVERT", "Report"]

# What makes a file give room back that was made before 1.0.
CONVERT = "PRAGMA auto_vacuum = INCREMENTAL; VACUUM"


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """
    The report of a pruning, or of what one would do.

    Attributes:
        left: How many rows each table has now.
        before: How large the file was; ``after`` how large it is.
        can_give_back: Whether the file can become smaller.

    """

    path: Path
    keep: Keep
    now: datetime
    dry_run: bool
    pruned: Pruned
    left: Mapping[str, int]
    watermarks: Sequence[Watermark]
    before: Room
    after: Room
    can_give_back: bool

    def entries(self) -> dict[str, Any]:
        """Return it for programs."""
        pruned = self.pruned
        return {
            "database": harmless(str(self.path)),
            "dry_run": self.dry_run,
            "rows": {table: pruned.tables[table] for table in self.left},
            "rows_in_all": pruned.rows,
            "rows_left": {table: self._stays(table) for table in self.left},
            "recordings": pruned.recordings,
            "rows_without_recording": pruned.lone_rows,
            "runs": pruned.runs,
            "still_needed": {"rows": pruned.needed_rows, "recordings": pruned.needed_recordings},
            "kept_by_watermark": {
                "rows": pruned.unread_rows,
                "recordings": pruned.unread_recordings,
                "watermarks": [watermark._asdict() for watermark in self._holding()],
            },
            "file_bytes_before": self.before.file_bytes,
            "file_bytes": self.after.file_bytes,
            "gives_room_back": self.can_give_back,
        }

    def text(self) -> str:
        """Return it for people."""
        rows = [(table, self.pruned.tables[table], self._stays(table)) for table in self.left]
        total = ("in all", sum(row[1] for row in rows), sum(row[2] for row in rows))
        heads = ["table", "would go" if self.dry_run else "deleted", "stays"]
        lines = [table_text(heads, [*rows, total]), "", *self._notes(), self._summary()]
        return "\n".join(map(_harmless_lines, lines))

    def _stays(self, table: str) -> int:
        return self.left[table] - (self.pruned.tables[table] if self.dry_run else 0)

    def _holding(self) -> Sequence[Watermark]:
        """Return the watermarks that keep what would go: those that are as low as the lowest."""
        return [mark for mark in self.watermarks if mark.log_seq == self.watermarks[0].log_seq]

    def _notes(self) -> Iterator[str]:
        pruned, limit = self.pruned, self.keep.file_bytes
        if pruned.unread_rows:
            names = " and ".join(
                f"{mark.name} (not moved since {mark.moved[:19]})" for mark in self._holding()
            )
            yield (
                f"note   {_counted(pruned.unread_rows, pruned.unread_recordings)} would go, too, but the "
                f"watermark {names} says that nothing above LOG_SEQ {self.watermarks[0].log_seq:,} is read; "
                "if nobody reads by it any more: enginelog watermark --drop NAME"
            )
        if pruned.needed_rows:
            yield (
                f"note   {_counted(pruned.needed_rows, pruned.needed_recordings)} would go, too, but "
                "they are still being written, or needed by what stays"
            )
        if not self.can_give_back:
            yield (
                "note   the file doesn't become smaller, as it was made by a version before 1.0: its room is "
                "used for new rows. To have it give room back, once, while no engine runs: "
                f'sqlite3 {quoted(self.path)} "{CONVERT}"'
            )
        used = self.after.used_bytes
        if limit is not None and not self.dry_run and used > limit:
            yield f"note   {bytes_text(used)} are still in use, more than {bytes_text(limit)}"

    def _summary(self) -> str:
        pruned = self.pruned
        what = (
            f"{self.path}: {'would delete' if self.dry_run else 'deleted'} {plural(pruned.rows, 'row')}: "
            f"{plural(pruned.recordings, 'whole recording')}, {plural(pruned.lone_rows, 'row')} without one"
        )
        runs = f", and {plural(pruned.runs, 'run')} without a row" if pruned.runs else ""
        return f"{what}{runs} ({', '.join(self._limits())}); {self._room()}"

    def _limits(self) -> Iterator[str]:
        if self.keep.age is not None:
            try:
                yield f"older than {time_text((self.now - self.keep.age).isoformat())[:19]} UTC"
            except OverflowError:
                yield f"older than {self.keep.age / timedelta(days=1):,.0f} days"
        if self.keep.rows is not None:
            yield f"beyond the newest {plural(self.keep.rows, 'row')}"
        if self.keep.file_bytes is not None:
            yield f"beyond {bytes_text(self.keep.file_bytes)}"

    def _room(self) -> str:
        size = bytes_text(self.after.file_bytes)
        if not self.dry_run:
            return f"the file has {size}, it had {bytes_text(self.before.file_bytes)}"
        rows = sum(self.left.values())
        about = self.after.used_bytes * self.pruned.rows / rows if rows else 0
        return f"about {bytes_text(int(about))} of {size} would become free"


def _counted(rows: int, recordings: int) -> str:
    return plural(rows, "row") + (f" ({plural(recordings, 'recording')})" if recordings else "")


def _harmless_lines(text: str) -> str:
    return "\n".join(map(harmless, text.splitlines()))
