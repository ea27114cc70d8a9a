"""The promises under attack, in short: ``make chaos`` does the same for longer."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from .__main__ import attack_once
from .attack import Attack, all_attacks

ATTACKS = list(all_attacks())

# Of each attack; what it must do at least commonly takes longer.
SECONDS = 0.3


@pytest.mark.skipif(sys.platform == "win32", reason="most of these attacks are those of POSIX systems")
@pytest.mark.slow
@pytest.mark.parametrize("attack", ATTACKS, ids=[attack.name for attack in ATTACKS])
def test_promise_holds(attack: Attack, tmp_path: Path) -> None:
    """Under each attack, for a moment: nothing is lost or doubled, and what else is promised holds."""
    report = attack_once(attack, SECONDS, seed=5, folder=tmp_path)
    if report.verdict == "skipped":
        pytest.skip(report.outcome.why)
    assert not report.verdict.startswith("BROKEN"), f"{report.verdict}: {attack.promise} {report.outcome}"
