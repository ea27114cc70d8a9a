"""The database as an import uses it: rows and how far the old file is read, in one transaction."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import orjson

from .batch import Batch, prepare
from .leftovers import runs_in
from .legacy import Times, thing_of
from .maintenance import Maintenance
from .segments import spool_folder
from .spool import claim_run
from .tables import Kind, Table
from .tally import ImportProgress, Tally
from .values import time_text

__all__ = ["ImportDatabase", "ImportRow", "Known"]

_RUN_SQL = """
INSERT INTO ENGINE_LOG_RUN (ENGINE_RUN_ID, HOW_ENDED) VALUES (?, 'importing')
ON CONFLICT DO NOTHING RETURNING ENGINE_RUN_ID
"""

_ROWS_SQL = """
UPDATE ENGINE_LOG_RUN SET
    HOW_ENDED = 'importing',
    DT_STARTED = min(coalesce(DT_STARTED, ?2), coalesce(?2, DT_STARTED)),
    DT_LAST_SIGN_OF_LIFE = max(coalesce(DT_LAST_SIGN_OF_LIFE, ?3), coalesce(?3, DT_LAST_SIGN_OF_LIFE)),
    ROWS_ACCEPTED = ROWS_ACCEPTED + ?4,
    ROWS_COMMITTED = ROWS_COMMITTED + ?4,
    ROWS_STORED = ROWS_STORED + ?5,
    LAST_LOG_SEQ = ?6
WHERE ENGINE_RUN_ID = ?1
"""

_DONE_SQL = """
UPDATE ENGINE_LOG_RUN SET HOW_ENDED = 'imported', DT_ENDED = DT_LAST_SIGN_OF_LIFE
WHERE HOW_ENDED = 'importing' AND ENGINE_RUN_ID IN (SELECT value FROM json_each(?))
"""


class ImportRow(NamedTuple):
    """A row on its way into the database."""

    run: int
    columns: dict[str, Any]
    # Whether what is stored already wins: another engine may know better.
    fill_only: bool = False


class Known(NamedTuple):
    """What the database has of some things: the run that made each, and its times."""

    runs: dict[tuple[int, ...], int]
    times: Times


class ImportDatabase(Maintenance):
    """A database as ``enginelog import`` uses it."""

    async def imports(self) -> list[ImportProgress]:
        """Return how far each import is, the largest first."""
        rows = await self.fetch("SELECT PROGRESS FROM ENGINE_LOG_IMPORT")
        found = [ImportProgress.of_json(orjson.loads(progress)) for (progress,) in rows]
        return sorted(found, key=lambda progress: -progress.rows_read)

    async def begin(self, progress: ImportProgress, starts: Iterable[int | None], file_name: str) -> None:
        """
        Give a run to each start of the old engine that has none yet, in one transaction.

        Args:
            starts: When each was, in seconds since 1970, as far as that is known. A run is called so.

        """
        await self.execute("BEGIN IMMEDIATE")
        progress.runs += [await self._claim(start) for start in starts]
        await self._save(progress, file_name)
        await self.commit()

    async def _claim(self, start: int | None) -> int:
        folder = spool_folder(self.path)
        # Engines get no number of the past, but those of the future are theirs.
        if start is None or not 0 < start < time.time():
            start = claim_run(folder, above=await self.newest_run())
        taken = set(runs_in(folder))
        while start in taken or not await self.fetch(_RUN_SQL, (start,)):
            start += 1
        return start

    async def known(self, table: Table, rows: Sequence[ImportRow]) -> Known:
        """Return what the database has of the things that rows speak of."""
        things = {thing_of(table, row.run, row.columns) for row in rows} - {None}
        known = Known({}, {})
        if not things:
            return known
        times = [column for column in table.columns.values() if column.kind is Kind.TIME]
        wanted = orjson.dumps(list(things)).decode()
        for thing, run, *values in await self.fetch(
            _known_sql(table, [column.name for column in times]), (wanted,)
        ):
            key = tuple(orjson.loads(thing))
            known.runs[key] = run
            pairs = zip(times, values, strict=True)
            known.times[key] = {column.argument: value for column, value in pairs if value is not None}
        return known

    async def store(
        self, table: Table, rows: Sequence[ImportRow], tally: Tally, progress: ImportProgress, file_name: str
    ) -> None:
        """
        Commit rows and how far the import is, in one transaction.

        Args:
            tally: The tally of their table, a part of ``progress``: what becomes of them is counted there.

        """
        groups: dict[tuple[int, bool], list[dict[str, Any]]] = {}
        for row in rows:
            groups.setdefault((row.run, row.fill_only), []).append(row.columns)
        batches = [
            (run, prepare([(table, columns) for columns in group], fill_only=fill_only), _span(table, group))
            for (run, fill_only), group in groups.items()
        ]
        self.check_file()
        await self.execute("BEGIN IMMEDIATE")
        stored = 0
        for run, batch, span in batches:
            stored += await self._store(run, batch, span)
        tally.stored += stored
        tally.merged += len(rows) - stored
        await self._save(progress, file_name)
        await self.commit()

    async def _store(self, run: int, batch: Batch, span: tuple[str | None, str | None]) -> int:
        [(last_seq,)] = await self.fetch("SELECT max(LAST_LOG_SEQ) FROM ENGINE_LOG_RUN")
        stored = await self.insert(batch, (_now(), run, last_seq))
        await self.execute(_ROWS_SQL, (run, *span, batch.rows, stored, last_seq + batch.rows))
        return stored

    async def _save(self, progress: ImportProgress, file_name: str) -> None:
        await self.execute(
            "INSERT INTO ENGINE_LOG_IMPORT (ENGINE_RUN_ID, OLD_FILE_NAME, DT_IMPORTED, PROGRESS) "
            "VALUES (?, ?, ?, ?) ON CONFLICT (ENGINE_RUN_ID) DO UPDATE SET "
            "DT_IMPORTED = excluded.DT_IMPORTED, PROGRESS = excluded.PROGRESS",
            (progress.runs[0], file_name, _now(), orjson.dumps(progress.as_json()).decode()),
        )

    async def finish(self, progress: ImportProgress) -> None:
        """Say that all is imported."""
        await self.execute(_DONE_SQL, (orjson.dumps(progress.runs).decode(),))
        await self.commit()


def _known_sql(table: Table, times: Sequence[str]) -> str:
    # In the order of thing_of().
    names = [table.columns[argument].name for argument in table.key]
    if table.run_in_key:
        names.insert(0, "ENGINE_RUN_ID")
    where = " AND ".join(
        f"{name} = json_extract(THING.value, '$[{place}]')" for place, name in enumerate(names)
    )
    return (
        f"SELECT THING.value, ENGINE_RUN_ID, {', '.join(times)} "  # noqa: S608  # names of our own tables and columns
        f"FROM json_each(?) AS THING CROSS JOIN {table.name} WHERE {where}"
    )


def _span(table: Table, rows: Iterable[dict[str, Any]]) -> tuple[str | None, str | None]:
    """Return the first and the last time in rows, as they are stored."""
    names = [column.argument for column in table.columns.values() if column.kind is Kind.TIME]
    times = [columns[name] for columns in rows for name in names if columns.get(name) is not None]
    return (time_text(min(times)), time_text(max(times))) if times else (None, None)


def _now() -> str:
    return time_text(datetime.now(UTC).isoformat(timespec="microseconds"))
