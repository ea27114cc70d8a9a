"""What an import has to tell: what was read, what became of it, and why, without performing any I/O."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import typer

from ..legacy import OldTable
from ..oldfile import OldTables
from ..tally import ImportProgress, Note, Tally
from .common import harmless, plural, table_text

__all__ = ["Remark", "Report"]

HEADS = ("table", "read", "stored", "merged", "empty")
PREFIX = "ENGINE_DB_LOG_"

# So many names are told in a row.
MAX_NAMES = 4

# What is said of the values of a column: how many there are, and the first of them.
_SENTENCES = {
    Note.CONFLICT: "{count} unlike that of an earlier row of the same thing; the later counts ({example})",
    Note.MISSPELT: "{count} unlike that of the misspelt column in the same row; this one counts ({example})",
    Note.UNKNOWN: "{count} left out, of a column that isn't known here ({example})",
    Note.UNREADABLE: "{count} left out, not of the type of the column ({example})",
    Note.CUT: "{count} cut to the width of the column ({example})",
    Note.MASKED: "credentials masked in {count}",
    Note.AMBIGUOUS: "{count} that the clock showed twice, as it was set back; taken for the first time "
    "({example})",
    Note.NONEXISTENT: "{count} that no clock showed there, as it was set forward; taken as if it hadn't been "
    "({example}). Is it the right time zone?",
    Note.UTC: "{count} filled in by SQLite, in UTC",
}
_WRONG = {Note.UNKNOWN, Note.UNREADABLE}


class Remark(NamedTuple):
    """Something to know about an import; ``wrong`` if something couldn't be brought over."""

    what: str
    wrong: bool = False


@dataclass(frozen=True)
class Report:
    """
    All there is to tell of an import.

    Args:
        old: The old file.
        database: Where its rows are now.
        tables: What is in the old file.
        progress: What became of its rows, in all imports of it.
        rows_before: How many of them had been read before this import.
        local_runs: The runs of engines that store local times in the same database.

    """

    old: Path
    database: Path
    tables: OldTables
    progress: ImportProgress
    rows_before: int
    local_runs: Sequence[int] = ()

    @property
    def is_incomplete(self) -> bool:
        """Whether something couldn't be brought over."""
        return any(remark.wrong for remark in self.remarks())

    def entries(self) -> dict[str, Any]:
        """Return the report for programs."""
        return {
            "old_file": harmless(str(self.old)),
            "database": harmless(str(self.database)),
            "time_zone": self.progress.time_zone,
            "runs": self.progress.runs,
            "rows_read": self.progress.rows_read,
            "rows_read_before": self.rows_before,
            "rows_stored": sum(self._tally(old).stored for old in self.tables.known),
            "tables": {old.table.name: self._entry(old) for old in self.tables.known},
            "other_tables": self.tables.others,
            "remarks": [remark._asdict() for remark in self.remarks()],
        }

    def _entry(self, old: OldTable) -> dict[str, Any]:
        return {**asdict(self._tally(old)), "missing_columns": old.missing, "misspelt_columns": old.misspelt}

    def _tally(self, old: OldTable) -> Tally:
        return self.progress.tables[old.table.name].tally

    def text(self) -> str:
        """Return the report for people."""
        rows = [(old.table.name, *self._figures(self._tally(old))) for old in self.tables.known]
        sums = [sum(figures) for figures in zip(*(row[1:] for row in rows), strict=True)]
        lines = [
            table_text(HEADS, [*rows, ("in all", *sums)]),
            "",
            *map(_line, self.remarks()),
            harmless(self._outcome()),
        ]
        return "\n".join(lines)

    def _figures(self, tally: Tally) -> tuple[int, ...]:
        return tally.read, tally.stored, tally.merged, tally.empty

    def _outcome(self) -> str:
        fresh = self.progress.rows_read - self.rows_before
        if not fresh:
            said = "nothing new: all of it was imported before"
        elif self.rows_before:
            said = f"{plural(fresh, 'row')} read, {self.rows_before:,} had been imported before"
        else:
            said = f"{plural(fresh, 'row')} read"
        runs = ", ".join(map(str, self.progress.runs[:MAX_NAMES])) + _more(len(self.progress.runs))
        noun = "run" if len(self.progress.runs) == 1 else f"{len(self.progress.runs):,} runs"
        return (
            f"imported {self.old} into {self.database} ({noun} {runs}; local times are those "
            f"{_of_zone(self.progress.time_zone)}): {said}"
        )

    # -- remarks --------------------------------------------------------------------------------

    def remarks(self) -> Iterator[Remark]:
        """Tell all that isn't as one would expect it."""
        yield from _of_tables(self.tables)
        for old in self.tables.known:
            short = old.table.name.removeprefix(PREFIX)
            for remark in (*_of_columns(old), *_of_rows(self._tally(old)), *_of_values(self._tally(old))):
                yield remark._replace(what=f"{short}: {remark.what}")
        if again := len(self.progress.runs) - 1:
            often = "once" if again == 1 else f"{again:,} times"
            yield Remark(f"the engine's ids began again {often}: each of its starts is a run")
        for name, rows in sorted(self.tables.others.items()):
            count = "rows that can't be counted" if rows is None else plural(rows, "row")
            # A table of the engine's log that has rows should have come along.
            wrong = name.upper().startswith(PREFIX) and rows != 0
            yield Remark(f"the table {name} isn't known here: left out, with {count}", wrong)
        if self.local_runs:
            noun = "run" if len(self.local_runs) == 1 else "runs"
            runs = ", ".join(map(str, self.local_runs[:MAX_NAMES])) + _more(len(self.local_runs))
            yield Remark(
                f"engines store local times in this database ({noun} {runs}), what is imported is in UTC: "
                "rows can't be put in order by time; better import it into a database of its own"
            )


def _of_tables(tables: OldTables) -> Iterator[Remark]:
    missing = [name for name in tables.missing if name not in tables.views]
    if missing:
        noun = "table" if len(missing) == 1 else "tables"
        yield Remark(f"the old file lacks the {noun} {', '.join(missing)}")
    for name in tables.views:
        yield Remark(f"{name} is a view in the old file, not a table: what it shows is left out", wrong=True)


def _of_columns(old: OldTable) -> Iterator[Remark]:
    if old.missing:
        yield Remark(f"the old file lacks {_names(old.missing)}")
    for wrong, right in old.misspelt.items():
        yield Remark(f"{wrong} is taken for {right}")
    if old.unknown:
        yield Remark(f"columns that aren't known here: {_names(list(old.unknown))}")


def _of_rows(tally: Tally) -> Iterator[Remark]:
    if tally.empty:
        yield Remark(f"left out {plural(tally.empty, 'row')} without a single value")
    if tally.without_key:
        yield Remark(f"{plural(tally.without_key, 'row')} without a whole key: each stands alone")
    if tally.known_before:
        yield Remark(
            f"{plural(tally.known_before, 'row')} of things that another engine has logged here; only what "
            "it didn't know is filled in"
        )


def _of_values(tally: Tally) -> Iterator[Remark]:
    for reason, sentence in _SENTENCES.items():
        for column, (count, example) in tally.notes.get(reason.value, {}).items():
            what = sentence.format(count=plural(count, "value"), example=example)
            yield Remark(f"{column}: {what}", reason in _WRONG)


def _line(remark: Remark) -> str:
    mark = typer.style("wrong", fg=typer.colors.RED) if remark.wrong else "note "
    return f"{mark}  {harmless(remark.what)}"


def _names(names: list[str]) -> str:
    return ", ".join(names[:MAX_NAMES]) + _more(len(names))


def _more(count: int) -> str:
    return f" and {count - MAX_NAMES:,} more" if count > MAX_NAMES else ""


def _of_zone(name: str) -> str:
    return name if name.startswith("of ") else f"of {name}"
