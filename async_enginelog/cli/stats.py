"""``enginelog stats``: how much there is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .. import reading
from ..segments import beside, size_of
from ..tables import TABLES
from .common import (
    DatabaseArgument,
    JsonOption,
    database_path,
    harmless,
    json_text,
    plural,
    run,
    say,
    table_text,
)
from .spools import runs_alive, spool_bytes

__all__ = ["stats"]


def stats(database: DatabaseArgument = None, json: JsonOption = False) -> None:
    """
    Show how much there is: rows, runs, sizes, time span.

    \b
    Examples:
      enginelog stats
      enginelog stats --json engine_log.db
    """
    run(_stats(database_path(database), json))


async def _stats(path: Path, as_json: bool) -> int:
    figures = await _figures(path)
    say(json_text(figures) if as_json else _text(figures))
    return 0


async def _figures(path: Path) -> dict[str, Any]:
    async with reading.open_database(path, outdated=False) as database, reading.snapshot(database):
        rows = {table.name: await reading.row_count(database, table) for table in TABLES.values()}
        runs = await reading.run_rows(database)
        newest = await reading.newest_log_seq(database)
    return {
        "database": harmless(str(path)),
        "rows": rows,
        "rows_in_all": sum(rows.values()),
        "runs": len(runs),
        "runs_alive": len(runs_alive(path)),
        "rows_accepted": sum(run.accepted for run in runs),
        "rows_on_console": sum(run.on_console for run in runs),
        "rows_replayed": sum(run.replayed for run in runs),
        "newest_log_seq": newest,
        "first_run_started": min((run.started for run in runs if run.started), default=None),
        "last_sign_of_life": max((run.sign_of_life for run in runs if run.sign_of_life), default=None),
        "database_bytes": size_of(path),
        "wal_bytes": size_of(beside(path, "-wal")),
        "spool_bytes": spool_bytes(path),
    }


def _text(figures: dict[str, Any]) -> str:
    rows = [*figures["rows"].items(), ("in all", figures["rows_in_all"])]
    first, last = figures["first_run_started"], figures["last_sign_of_life"]
    facts = [
        ("runs", f"{figures['runs']:,}, {figures['runs_alive']:,} of them alive"),
        ("accepted", _accepted(figures)),
        ("newest LOG_SEQ", f"{figures['newest_log_seq']:,}"),
        ("time span", harmless(f"{first} to {last}") if first else "none yet"),
        ("database", _size(figures["database_bytes"])),
        ("WAL", _size(figures["wal_bytes"])),
        ("spool", _size(figures["spool_bytes"])),
    ]
    lines = [f"{name:<16}{text}" for name, text in facts]
    return "\n".join([table_text(["table", "rows"], rows), "", *lines])


def _accepted(figures: dict[str, Any]) -> str:
    accepted = plural(figures["rows_accepted"], "row")
    if not figures["rows_on_console"]:
        return accepted
    return (
        f"{accepted}, {figures['rows_on_console']:,} of them went to the console, "
        f"{figures['rows_replayed']:,} were replayed from there"
    )


def _size(size_bytes: int) -> str:
    return f"{size_bytes / 1024**2:,.1f} MiB" if size_bytes >= 1024**2 else f"{size_bytes / 1024:,.0f} KiB"
