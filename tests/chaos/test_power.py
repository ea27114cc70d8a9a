"""
What reaches the disk when: all that stands between a commit and a power failure.

Nobody pulls a plug here. These tests count on a real run what SQLite syncs, and look in which order it does.

"""

from __future__ import annotations

from pathlib import Path

import pytest

from .attack import Skipped
from .faults import Faults, Syncs
from .victims import start

COMMITS = 40

pytestmark = pytest.mark.slow


def syncs(folder: Path, synchronous: str, *setup: str) -> Syncs:
    """Return what an engine syncs that commits so often, and checkpoints now and then."""
    try:
        faults = Faults(folder)
    except Skipped as error:
        pytest.skip(str(error))
    with start(
        folder / "e.db",
        rows=COMMITS,
        tasks=1,
        threads=0,
        checkpoint_pages=50,
        life="tests.chaos.lives:commits",
        options={"synchronous": synchronous},
        setup=list(setup),
        env=faults.env,
    ) as victim:
        assert victim.wait() == 0, victim.last_words()
    assert victim.record.extra == COMMITS
    return faults.syncs


def test_full_syncs_each_commit(tmp_path: Path) -> None:
    """With FULL, each commit is on the disk: the WAL is synced as often as that, at least."""
    seen = syncs(tmp_path, "FULL")
    assert seen.wal >= COMMITS
    assert seen.database > 0
    assert seen.out_of_order == 0


def test_normal_syncs_each_checkpoint(tmp_path: Path) -> None:
    """With NORMAL, commits wait for no disk, but checkpoints do, so that the database is always whole."""
    seen = syncs(tmp_path, "NORMAL")
    assert 0 < seen.wal < COMMITS / 2
    assert seen.database > 0
    assert seen.out_of_order == 0


@pytest.mark.parametrize("synchronous", ["NORMAL", "FULL"])
def test_a_library_that_never_syncs_is_noticed(synchronous: str, tmp_path: Path) -> None:
    """What the tests above look at differs if the library leaves it all to the kernel."""
    seen = syncs(tmp_path, synchronous, "tests.chaos.sabotage:never_syncs")
    assert seen.wal < COMMITS / 2
    assert seen.out_of_order > 0
