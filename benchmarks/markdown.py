"""Tables in Markdown: the same text for the terminal and for the documentation. Performs no I/O."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from .results import Spread

__all__ = ["Goal", "Table", "at_least", "at_most", "goal_table", "shown"]

UNKNOWN = "not measured"


class Table(NamedTuple):
    """A table: what stands above each column, and its rows."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]

    def text(self) -> str:
        """Return it in Markdown, its columns aligned."""
        lines = [self.columns, *self.rows]
        widths = [max(len(cell) for cell in column) for column in zip(*lines, strict=True)]
        shown = [
            "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |"
            for line in lines
        ]
        rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
        return "\n".join([shown[0], rule, *shown[1:]])


class Goal(NamedTuple):
    """What was hoped for, and what came of it; reached is None if it wasn't measured."""

    text: str
    figure: str
    reached: bool | None


def at_most(text: str, limit: float, found: Spread | None, form: str = ".2f") -> Goal:
    """Return a goal that the median should not be above ``limit``."""
    return Goal(text, shown(found, form), found.median <= limit if found else None)


def at_least(text: str, limit: float, found: Spread | None, form: str = ".2f") -> Goal:
    """Return a goal that the median should not be below ``limit``."""
    return Goal(text, shown(found, form), found.median >= limit if found else None)


def shown(found: Spread | None, form: str = ",.0f") -> str:
    """Return median and range, or that there are none."""
    return found.shown(form) if found else UNKNOWN


def goal_table(goals: Sequence[tuple[str, Goal]]) -> Table:
    """Return the goals, the question before each and the figure behind."""
    words = {True: "yes", False: "no", None: ""}
    rows = [(question, goal.text, goal.figure, words[goal.reached]) for question, goal in goals]
    return Table(("question", "goal", "measured", "reached"), rows)
