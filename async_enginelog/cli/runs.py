"""``enginelog runs``: who wrote the log, when, and how it ended."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import orjson
import typer

from .. import reading
from ..reading import RunRow
from .common import DatabaseArgument, JsonOption, database_path, run, say, table_text
from .spools import runs_alive, state_of

__all__ = ["runs"]

HEADS = [
    "run",
    "host",
    "pid",
    "version",
    "started",
    "last sign of life",
    "state",
    "accepted",
    "committed",
    "on console",
    "replayed",
]


def runs(
    database: DatabaseArgument = None,
    limit: Annotated[int, typer.Option(min=1, help="Show so many runs.")] = 20,
    json: JsonOption = False,
) -> None:
    """
    List the engine's runs, newest first, and how each ended.

    A run is running; or closed, as it should be; or crashed, and all it had taken is committed;
    or "dead, not recovered": rows may wait in its spool until an engine opens this log again; or
    copied, if it was running when a backup was made, and this is that backup.

    \b
    Examples:
      enginelog runs
      enginelog runs --limit 3 --json
    """
    run(_runs(database_path(database), limit, json))


async def _runs(path: Path, limit: int, as_json: bool) -> int:
    # In this order: a run that ends in between is seen as ended, not as dead.
    alive = runs_alive(path)
    async with reading.open_database(path) as database:
        found = await reading.run_rows(database, limit)
    if as_json:
        entries = [{**run._asdict(), "state": state_of(run, alive)} for run in found]
        say(orjson.dumps(entries, option=orjson.OPT_INDENT_2).decode())
    elif found:
        say(table_text(HEADS, [_line(run, alive) for run in found]))
    else:
        say(f"no engine has written to {path} yet")
    return 0


def _line(run: RunRow, alive: set[int]) -> list[object]:
    return [
        str(run.run),  # an id, not a quantity
        run.host,
        None if run.process_id is None else str(run.process_id),
        run.version,
        _to_seconds(run.started),
        _to_seconds(run.sign_of_life),
        state_of(run, alive),
        run.accepted,
        run.committed,
        run.on_console,
        run.replayed,
    ]


def _to_seconds(moment: str | None) -> str | None:
    return None if moment is None else moment[:19]
