"""
What is measured, and where: each case in a process of its own.

So every rival begins in the same state, whatever the one before left in memory, and the CPU time of the
process is all its own.

"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Protocol

from .markdown import Goal, Table
from .results import Case, Figures, Results

__all__ = ["QUESTIONS", "Failed", "Question", "question_named", "run_case", "run_in_own_process"]

# In the order in which they are asked.
QUESTIONS = ("call", "take", "parts", "busy", "late", "players", "growth", "back", "pythons", "functions")

CHECKOUT = Path(__file__).resolve().parent.parent

# No case takes longer, in seconds; one that does hangs.
TIMEOUT = {True: 300.0, False: 3600.0}


class Failed(Exception):
    """A case could not be measured; the text says why, in one line."""


class Question(Protocol):
    """What a module of a question has."""

    # The question itself.
    TITLE: str

    def cases(self, quick: bool) -> list[Case]:
        """Return what is measured in one round, in order."""

    def measure(self, case: Case, folder: Path) -> Figures:
        """Measure, in a process of its own, with an empty folder for what it needs."""

    def tables(self, results: Results) -> list[Table]:
        """Return what is printed."""

    def goals(self, results: Results) -> list[Goal]:
        """Return what was hoped for, and what came of it."""


def question_named(name: str) -> Question:
    """Return the module of a question."""
    module: Question = import_module(f"benchmarks.{name}")
    return module


def run_case(case: Case, folder: Path | None, python: str = sys.executable) -> Figures:
    """
    Measure a case in a process of its own.

    Raises:
        Failed: If it can't be measured.

    """
    command = [python, "-m", "benchmarks", "--case", json.dumps(case)]
    with tempfile.TemporaryDirectory(dir=folder, ignore_cleanup_errors=True) as name:
        try:
            done = subprocess.run(
                [*command, "--folder", name],
                cwd=CHECKOUT,
                capture_output=True,
                text=True,
                timeout=TIMEOUT[case.quick],
            )
        except subprocess.TimeoutExpired:
            raise Failed(f"not done within {TIMEOUT[case.quick]:g} s") from None
    if done.returncode:
        raise Failed((done.stderr.strip().splitlines() or [f"ended with {done.returncode}"])[-1])
    figures: Figures = json.loads(done.stdout.strip().splitlines()[-1])
    return figures


def run_in_own_process(text: str, folder: Path) -> None:
    """Measure here, and print the figures: the other end of :func:`run_case`."""
    case = Case(*json.loads(text))
    figures: Mapping[str, object] = question_named(case.question).measure(case, folder)
    print(json.dumps(figures), flush=True)
