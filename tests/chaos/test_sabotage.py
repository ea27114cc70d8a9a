"""The attacks notice a library that breaks its first promise: if all "holds", nothing is proved."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from . import victims
from .__main__ import attack_once
from .attack import Outcome, all_attacks, verdict
from .orders import Orders
from .waits import BOUND, CAN_TELL

ATTACKS = {attack.name: attack for attack in all_attacks()}


def sabotaged(monkeypatch: pytest.MonkeyPatch, deed: str) -> None:
    """Have all victims set up a deed of :mod:`~tests.chaos.sabotage`."""

    def orders(*arguments: Any, **others: Any) -> Orders:
        ordered = Orders(*arguments, **others)
        ordered.setup = [*ordered.setup, f"tests.chaos.sabotage:{deed}"]
        return ordered

    monkeypatch.setattr(victims, "Orders", orders)


@pytest.mark.slow
@pytest.mark.skipif(not CAN_TELL, reason="only Linux tells for how long a thread has slept")
@pytest.mark.parametrize(
    ("deed", "broken"),
    [
        ("call_waits", r"BROKEN: a call or the loop waited for 0\.\d+ s"),
        ("loop_waits", r"BROKEN: a call or the loop waited for 0\.\d+ s"),
        ("call_raises", r"BROKEN: \d calls raised"),
    ],
)
def test_a_broken_promise_is_named(
    deed: str, broken: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A call that waits or raises, and a loop that waits, are found, and the verdict says what it was."""
    sabotaged(monkeypatch, deed)
    report = attack_once(ATTACKS["death: SIGTERM"], 0.3, seed=5, folder=tmp_path)
    assert re.fullmatch(broken, report.verdict), report


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        (Outcome(1, 1), "holds"),
        (Outcome(1, 1, lost=1), "BROKEN: rows are lost"),
        (Outcome(1, 1, doubled=1), "BROKEN: rows are doubled"),
        (Outcome(1, 1, raised=3), "BROKEN: 3 calls raised"),
        (Outcome(1, 1, longest_call=2 * BOUND), "BROKEN: a call computed for 0.50 s"),
        (Outcome(1, 1, longest_wait=2 * BOUND), "BROKEN: a call or the loop waited for 0.50 s"),
        (Outcome(1, 1, longest_call=BOUND, longest_wait=BOUND, longest_stall=5.0), "holds"),
    ],
)
def test_verdict_names_what_is_broken(outcome: Outcome, expected: str) -> None:
    """Each part of the outcome that breaks a promise is named."""
    assert verdict(ATTACKS["load: soak"], outcome) == expected
