"""Watermarks: set, moved, listed, dropped, and refused where they can't be meant."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from async_enginelog.maintenance import Maintenance
from async_enginelog.watermarks import (
    Watermark,
    check_name,
    drop_watermark,
    read_watermarks,
    set_watermark,
)

from .conftest import Query
from .planted import DAY, PlantedRow, plant


@pytest.fixture
async def database(path: Path) -> AsyncIterator[Maintenance]:
    """A log of ten rows."""
    plant(path, [PlantedRow("ENGINE_DB_LOG_STEPS", 10, DAY)] * 10)
    database = await Maintenance.open(path, create=False)
    yield database
    await database.close()


async def test_set_and_list(database: Maintenance) -> None:
    """A reader says how far it has read; the lowest is listed first."""
    assert await set_watermark(database, "shipper", 5) is None
    assert await set_watermark(database, "sqlserver", 3) is None
    assert await set_watermark(database, "shipper", 8) == 5

    marks = await read_watermarks(database)
    assert [(mark.name, mark.log_seq) for mark in marks] == [("sqlserver", 3), ("shipper", 8)]


@pytest.mark.parametrize(
    ("before", "after", "moves"), [(5, 6, True), (5, 4, True), (5, 5, False), (10, 10, True)]
)
async def test_moved(database: Maintenance, before: int, after: int, moves: bool, query: Query) -> None:
    """Who says the same again hasn't moved, unless all there is has been read."""
    await set_watermark(database, "shipper", before)
    await database.execute("UPDATE ENGINE_LOG_WATERMARK SET DT_MOVED = '2026-01-01'")
    await database.commit()
    await set_watermark(database, "shipper", after)

    [(log_seq, moved)] = query("SELECT LOG_SEQ, DT_MOVED FROM ENGINE_LOG_WATERMARK")
    assert (log_seq, moved != "2026-01-01") == (after, moves)


@pytest.mark.parametrize("log_seq", [-1, 11, 2**63 - 1])
async def test_never_given(database: Maintenance, log_seq: int) -> None:
    """A LOG_SEQ that was never given can't have been read: it would keep nothing, in silence."""
    with pytest.raises(ValueError, match=r"was never given; pass 0 to 10, which is the newest"):
        await set_watermark(database, "shipper", log_seq)
    assert await read_watermarks(database) == []


@pytest.mark.parametrize("name", ["", "  ", "x" * 101, "a\nb", "\x1b[31m"])
def test_names(name: str) -> None:
    """A name can be shown."""
    with pytest.raises(ValueError, match="can't be the name of a watermark; pass 1 to 100 characters"):
        check_name(name)
    assert check_name("SQL Server, Köln") == "SQL Server, Köln"


async def test_drop(database: Maintenance) -> None:
    """A reader that is dropped keeps nothing any more; one that isn't there can't be."""
    await set_watermark(database, "shipper", 5)
    assert await drop_watermark(database, "shipper")
    assert not await drop_watermark(database, "shipper")


def test_stale() -> None:
    """A watermark that is behind and hasn't moved is stale; one that has read all isn't."""
    now = datetime(2026, 11, 23, tzinfo=UTC)
    mark = Watermark("shipper", 5, "2026-11-20 00:00:00.000000")
    assert mark.is_stale(6, now, timedelta(days=2))
    assert not mark.is_stale(5, now, timedelta(days=2))
    assert not mark.is_stale(6, now, timedelta(days=4))
