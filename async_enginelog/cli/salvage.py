"""``enginelog salvage``: what can be saved of a damaged database."""

from __future__ import annotations

from pathlib import Path

from .. import reading
from ..errors import DatabaseDamaged, NotAnEngineLog
from ..salvage import holds_our_rows
from ..setaside import is_ours, replace_damaged
from .common import DatabaseArgument, database_path, run, say

__all__ = ["salvage"]


def salvage(database: DatabaseArgument = None) -> None:
    """
    Save what can be saved of a damaged database.

    Looks at all of the file. If it is damaged, all rows that can be read are put into a fresh one, which
    takes its place; the damaged one is kept beside it, under a name with -broken- in it. An engine does the
    same by itself when it comes upon damage. May be called while an engine writes: its rows wait meanwhile.

    \b
    Examples:
      enginelog salvage
      enginelog salvage engine_log.db
    """
    run(_salvage(database_path(database)))


async def _salvage(path: Path) -> int:
    certain = False
    try:
        async with reading.open_database(path):
            pass
    except DatabaseDamaged:
        pass
    except NotAnEngineLog:
        certain = not is_ours(path)
        if certain and not holds_our_rows(path):
            raise
    replaced = await replace_damaged(path, certain=certain)
    if replaced is None:
        say(f"{path} isn't damaged")
        return 0
    saved, aside = replaced
    say(f"{path} was damaged: {saved}; the damaged file is kept as {aside}")
    return 0
