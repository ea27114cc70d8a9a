"""
Measure what the log costs, side by side with rivals: ``python -m benchmarks [--quick] [QUESTION ...]``.

The questions, in this order: call, take, parts, busy, late, players, growth, back, pythons, functions. All if
none is given. ``--quick`` takes minutes, the full form hours. What is printed is Markdown: the rivals, all
goals, and the tables of each question. Figures go to benchmarks/results/ as JSON, and plots beside them, or
where ``--plots`` says.

"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from . import check, machine
from .cases import QUESTIONS, Failed, question_named, run_case, run_in_own_process
from .markdown import Table, goal_table
from .results import Case, Results
from .rivals import left_out

__all__ = ["main"]

ROUNDS = {True: 2, False: 5}
RESULTS = Path(__file__).with_name("results")


class Run(NamedTuple):
    """What is to be measured, how far it is, and where the figures are kept."""

    path: Path
    machine: dict[str, Any]
    rivals: list[list[str]]
    questions: list[str]
    planned_rounds: int
    quick: bool
    results: Results

    def measure(self, folder: Path | None) -> None:
        """Measure what isn't yet, in rounds, each rival once in a round; keep the figures as they come."""
        for number in range(self.planned_rounds):
            for question in self.questions:
                cases = question_named(question).cases(self.quick)
                # Each round begins with another, so that nobody always comes first.
                turn = number * len(cases) // self.planned_rounds
                for case in [*cases[turn:], *cases[:turn]]:
                    if not self.results.has(number, case):
                        measure_one(self.results, number, case, folder)
                        self.keep()
        print(f"figures in {self.path}", file=sys.stderr)

    def keep(self) -> None:
        """Write the figures so far to a file: a run of hours may be broken off, even while it writes."""
        names = ("machine", "rivals", "questions", "planned_rounds", "quick")
        facts = {name: getattr(self, name) for name in names}
        new = self.path.with_suffix(".new")
        new.write_text(json.dumps({**facts, **self.results.as_json()}, indent=1) + "\n", "utf-8")
        new.replace(self.path)


def begin(options: argparse.Namespace) -> Run:
    """Return a run with all to be done."""
    RESULTS.mkdir(exist_ok=True)
    kind = "quick" if options.quick else "full"
    path = RESULTS / f"{time.strftime('%Y%m%d-%H%M%S')}-{kind}.json"
    questions = options.questions or list(QUESTIONS)
    rounds = options.rounds or ROUNDS[options.quick]
    results = Results([], left_out())
    return Run(path, machine.description(), machine.rivals(), questions, rounds, options.quick, results)


def go_on(path: Path) -> Run:
    """
    Return a run that was broken off.

    Raises:
        SystemExit: If it was made on something else, with which it can't be compared.

    """
    data = json.loads(path.read_text("utf-8"))
    there, here = data["machine"], machine.description()
    names = dict.fromkeys([*here, *there])
    if changed := [name for name in names if name != "date" and here.get(name) != there.get(name)]:
        found = "; ".join(f"{name} {there.get(name)}, and here is {here.get(name)}" for name in changed)
        raise SystemExit(f"{path} was measured on something else: {found}")
    results = Results.of_json(data)
    questions, rounds = data["questions"], data["planned_rounds"]
    return Run(path, there, machine.rivals(), questions, rounds, data["quick"], results)


def measure_one(results: Results, number: int, case: Case, folder: Path | None) -> None:
    """Measure a case, and say so on standard error; a failure is noted until that round of it works."""
    begun = time.monotonic()
    what = f"{case.rival}, {case.question} {case.setting}".rstrip() + f", round {number + 1}"
    try:
        results.add(number, case, run_case(case, folder))
        results.left_out.pop(what, None)
        outcome = ""
    except Failed as error:
        outcome = f": {error}"
        results.left_out[what] = str(error)
    seconds = time.monotonic() - begun
    name = f"{case.question} · {case.rival} · {case.setting}".rstrip(" ·")
    print(f"round {number + 1}  {seconds:5.1f} s  {name}{outcome}", file=sys.stderr, flush=True)


def report(results: Results, questions: Sequence[str], rivals: Sequence[Sequence[str]]) -> str:
    """Return what was found, in Markdown: of whom, whether it is what was hoped for, and all of it."""
    parts = []
    measured = {case.rival for figures in results.rounds for case in figures}
    if lines := [line for line in rivals if line[0] in measured]:
        parts += ["### The rivals", Table(("rival", "package", "how it is used"), lines).text()]
    modules = {question: question_named(question) for question in questions}
    goals = [(question, goal) for question, module in modules.items() for goal in module.goals(results)]
    if goals:
        parts += ["### The goals", goal_table(goals).text()]
    for module in modules.values():
        parts += [f"### {module.TITLE}", *(table.text() for table in module.tables(results))]
    if results.left_out:
        rows = sorted(results.left_out.items())
        parts += ["### What could not be measured", Table(("", "why"), rows).text()]
    return "\n\n".join(parts)


def draw(results: Results, folder: Path) -> None:
    """Draw what can be drawn."""
    try:
        from . import plots
    except ImportError as error:
        print(f"no plots: {error}", file=sys.stderr)
        return
    folder.mkdir(parents=True, exist_ok=True)
    plots.draw_all(results, folder)


def read_options(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the options of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("questions", nargs="*", metavar="QUESTION", help="what to measure; all by default")
    parser.add_argument("--quick", action="store_true", help="fewer rows and rounds: minutes, not hours")
    parser.add_argument("--rounds", type=int, help="how often each rival is measured")
    parser.add_argument("--folder", type=Path, help="where the databases are; default: the temporary folder")
    parser.add_argument(
        "--plots", type=Path, help="where the plots go; default: beside the figures, also with --go-on"
    )
    parser.add_argument("--go-on", type=Path, metavar="FILE", help="go on with a run that was broken off")
    parser.add_argument(
        "--show",
        type=Path,
        metavar="FILE",
        help="measure nothing: print what is in this JSON file, and draw it where --plots says, if it does",
    )
    parser.add_argument(
        "--check", action="store_true", help="measure only ratios that repeat, against bounds"
    )
    parser.add_argument("--case", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if unknown := [name for name in options.questions if name not in QUESTIONS]:
        parser.error(f"{unknown[0]!r} isn't a question; these are: {', '.join(QUESTIONS)}")
    if options.folder and not options.folder.is_dir():
        parser.error(f"{options.folder} isn't a folder; create it, or leave --folder out")
    if options.go_on and (options.questions or options.quick or options.rounds):
        parser.error("--go-on measures what that run was to: leave out questions, --quick and --rounds")
    return options


def show(path: Path, folder: Path | None) -> None:
    """Print what was measured before, and draw it; an older version kept no rivals."""
    data = json.loads(path.read_text("utf-8"))
    results = Results.of_json(data)
    print(machine.sentence(data["machine"], len(results.rounds)), end="\n\n")
    print(report(results, data["questions"], data.get("rivals", [])))
    if folder is not None:
        draw(results, folder)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and keep."""
    options = read_options(arguments)
    if options.case:
        run_in_own_process(options.case, options.folder)
        return 0
    if options.show:
        show(options.show, options.plots)
        return 0
    if options.check:
        return check.main(options.folder)
    run = go_on(options.go_on) if options.go_on else begin(options)
    print(machine.sentence(run.machine, run.planned_rounds), end="\n\n", flush=True)
    run.measure(options.folder)
    print(report(run.results, run.questions, run.rivals))
    draw(run.results, options.plots or run.path.parent)
    return 0


if __name__ == "__main__":
    sys.exit(main())
