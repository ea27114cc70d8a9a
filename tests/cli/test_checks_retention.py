"""What the doctor says of retention: readers that hold rows back, room that can't be given back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from async_enginelog.cli import checks_retention
from async_enginelog.cli.doctor_facts import Level
from async_enginelog.cli.doctor_retention import Retention, look_at_retention
from async_enginelog.maintenance import Maintenance
from async_enginelog.watermarks import Watermark

Sql = Callable[..., list[Any]]

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
PATH = Path("/srv/violin/engine_log.db")


def build_log(**facts: Any) -> Any:
    """Return what a healthy log says of retention, but for ``facts``."""
    return SimpleNamespace(path=PATH, now=NOW, retention=Retention(**facts))


def test_healthy() -> None:
    """A log without readers by number, and one whose readers read, are fine."""
    mark = Watermark("shipper", 90, "2026-11-22 12:00:00.000000")
    idle = Watermark("sqlserver", 100, "2026-01-01 12:00:00.000000")
    for log in (build_log(), build_log(watermarks=(mark, idle), newest_log_seq=100)):
        for check in (
            checks_retention.watermark,
            checks_retention.gives_room_back,
            checks_retention.broken_pruning,
        ):
            assert list(check(log)) == []


def test_a_watermark_that_stands_still() -> None:
    """A reader that hasn't read for a week keeps everything since: wrong, with what mends it."""
    mark = Watermark("my shipper", 90, "2026-11-15 12:00:00.000000")
    [finding] = checks_retention.watermark(build_log(watermarks=(mark,), newest_log_seq=1100))

    assert finding.level is Level.WRONG
    assert finding.what == (
        "the watermark my shipper stands at LOG_SEQ 90 since 2026-11-15 12:00:00, 1,010 behind the newest"
    )
    assert "enginelog watermark /srv/violin/engine_log.db --drop 'my shipper'" in finding.do


def test_a_file_that_stays_large() -> None:
    """A file of an earlier version is worth knowing, with the command that converts it."""
    [finding] = checks_retention.gives_room_back(build_log(auto_vacuum=0))

    assert finding.level is Level.NOTE
    assert 'sqlite3 /srv/violin/engine_log.db "PRAGMA auto_vacuum = INCREMENTAL; VACUUM"' in finding.do


def test_broken_off() -> None:
    """A recording that is deleted in part is told."""
    [finding] = checks_retention.broken_pruning(build_log(being_pruned=1))

    assert finding.what == "1 recording (ENGINE_LOG_PRUNING) is deleted in part"


def test_is_asked(log_path: Path, sql: Sql) -> None:
    """What a log says of it; one that is older than these tables says nothing."""
    sql(log_path, "INSERT INTO ENGINE_LOG_WATERMARK VALUES ('shipper', 3, '2026-01-01')")
    sql(log_path, "INSERT INTO ENGINE_LOG_PRUNING VALUES (7, 3)")

    async def look() -> Retention:
        database = await Maintenance.open_reader(log_path)
        try:
            return await look_at_retention(database)
        finally:
            await database.close()

    assert asyncio.run(look()) == Retention((Watermark("shipper", 3, "2026-01-01"),), 12, 2, 1)
    sql(log_path, "DROP TABLE ENGINE_LOG_WATERMARK")
    assert asyncio.run(look()) == Retention()
