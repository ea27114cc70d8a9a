"""What came of the rounds: medians, ratios within a round, and JSON. Performs no I/O."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

__all__ = ["Case", "Figures", "Results", "Spread", "highest", "lowest", "quotient", "spread"]

# Figures of a case by name; a curve is a list.
Figures = dict[str, Any]


class Case(NamedTuple):
    """What one process measures: a rival in a setting, for a question."""

    question: str
    rival: str
    setting: str = ""
    quick: bool = False


class Spread(NamedTuple):
    """Median and range over the rounds."""

    median: float
    low: float
    high: float

    def shown(self, form: str = ",.0f") -> str:
        """Return it as text: the median, and the range in brackets."""
        low, high = f"{self.low:{form}}", f"{self.high:{form}}"
        return f"{self.median:{form}}" if low == high else f"{self.median:{form}} ({low} to {high})"


def spread(values: Iterable[float]) -> Spread | None:
    """Return median and range; :obj:`None` if there are no values."""
    ordered = sorted(values)
    return Spread(statistics.median(ordered), ordered[0], ordered[-1]) if ordered else None


def lowest(found: Spread | None) -> Spread | None:
    """Return a spread in which the lowest counts: for what must always be."""
    return found._replace(median=found.low) if found else None


def highest(found: Spread | None) -> Spread | None:
    """Return a spread in which the highest counts: for what must never be."""
    return found._replace(median=found.high) if found else None


def quotient(ours: float | None, theirs: float | None) -> float | None:
    """Return ours to theirs; :obj:`None` if one of them wasn't measured."""
    return ours / theirs if ours is not None and theirs else None


class Results:
    """
    The figures of all rounds.

    Args:
        rounds: For each round, the figures of each case.
        left_out: Rivals that can't be measured here, and why.

    """

    def __init__(self, rounds: list[dict[Case, Figures]], left_out: Mapping[str, str]) -> None:
        self.rounds = rounds
        self.left_out = dict(left_out)

    def add(self, round_no: int, case: Case, figures: Figures) -> None:
        """Note what came of a case."""
        while len(self.rounds) <= round_no:
            self.rounds.append({})
        self.rounds[round_no][case] = figures

    def has(self, round_no: int, case: Case) -> bool:
        """Tell whether a case was measured in a round."""
        return round_no < len(self.rounds) and case in self.rounds[round_no]

    def cases(self, question: str) -> list[Case]:
        """Return the cases of a question that were measured, in order."""
        return list(
            dict.fromkeys(case for figures in self.rounds for case in figures if case.question == question)
        )

    def rivals(self, question: str, setting: str | None = None) -> list[str]:
        """Return the rivals that were measured, in order."""
        cases = self.cases(question)
        return list(dict.fromkeys(case.rival for case in cases if setting in (None, case.setting)))

    def values(self, question: str, rival: str, setting: str, figure: str) -> list[Any]:
        """Return a figure of each round that has it."""
        found = (_find(figures, question, rival, setting) for figures in self.rounds)
        return [figures[figure] for figures in found if figures and figures.get(figure) is not None]

    def spread(self, question: str, rival: str, setting: str, figure: str) -> Spread | None:
        """Return median and range of a figure."""
        return spread(self.values(question, rival, setting, figure))

    def ratio(
        self,
        question: str,
        figure: str,
        ours: tuple[str, str],
        theirs: tuple[str, str],
        *,
        their_figure: str | None = None,
        their_question: str | None = None,
    ) -> Spread | None:
        """Return median and range of ours to theirs, each a rival and a setting, within the rounds."""
        return self.each_round(
            lambda find: quotient(
                find(question, *ours).get(figure),
                find(their_question or question, *theirs).get(their_figure or figure),
            )
        )

    def each_round(self, of_round: Callable[[Callable[..., Figures]], float | None]) -> Spread | None:
        """Return median and range of what is computed from each round; None leaves a round out."""
        values = (
            of_round(lambda *names, figures=figures: _find(figures, *names) or {}) for figures in self.rounds
        )
        return spread(value for value in values if value is not None)

    def as_json(self) -> dict[str, Any]:
        """Return all of it for a JSON file."""
        rounds = [
            [{**case._asdict(), "figures": figures} for case, figures in measured.items()]
            for measured in self.rounds
        ]
        return {"rounds": rounds, "left_out": self.left_out}

    @classmethod
    def of_json(cls, data: dict[str, Any]) -> Results:
        """Return what :meth:`as_json` gave."""
        rounds = [
            {Case(*(entry[name] for name in Case._fields)): entry["figures"] for entry in entries}
            for entries in data["rounds"]
        ]
        return cls(rounds, data["left_out"])


def _find(figures: dict[Case, Figures], question: str, rival: str, setting: str = "") -> Figures | None:
    for quick in (False, True):
        if (case := Case(question, rival, setting, quick)) in figures:
            return figures[case]
    return None
