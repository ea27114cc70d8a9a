"""
Measure what the log costs, side by side with rivals: ``python -m benchmarks [--quick] [QUESTION ...]``.

The questions, in this order: call, take, busy, late, players, growth, back, pythons, functions. All if none
is given. ``--quick`` takes minutes, the full form hours. Tables are printed; figures go to
benchmarks/results/ as JSON, and plots beside them, or where ``--plots`` says.

"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from . import check, machine
from .cases import QUESTIONS, Failed, question_named, run_case, run_in_own_process
from .markdown import Table, goal_table
from .results import Case, Results
from .rivals import left_out

__all__ = ["main"]

ROUNDS = {True: 2, False: 5}
RESULTS = Path(__file__).with_name("results")


def measure_all(
    results: Results, path: Path, rounds: int, questions: Sequence[str], options: argparse.Namespace
) -> None:
    """Measure what isn't yet, in rounds, each rival once in a round; keep the figures as they come."""
    for number in range(rounds):
        for question in questions:
            cases = question_named(question).cases(options.quick)
            # Each round begins with another, so that nobody always comes first.
            turn = number * len(cases) // rounds
            missing = [case for case in [*cases[turn:], *cases[:turn]] if not results.has(number, case)]
            for case in missing:
                measure_one(results, number, case, options.folder)
            if missing:
                keep(results, questions, options, path)
    print(f"figures in {path}", file=sys.stderr)


def broken_off(path: Path) -> tuple[Results, list[str], bool]:
    """
    Return the figures of a run that was broken off, its questions, and whether it was a quick one.

    Raises:
        SystemExit: If it was made on something else, with which it can't be compared.

    """
    data = json.loads(path.read_text("utf-8"))
    here = machine.description() | {"date": data["machine"]["date"]}
    if changed := [f"{name} {value}" for name, value in here.items() if value != data["machine"][name]]:
        raise SystemExit(f"{path} was measured on something else; here is {', '.join(changed)}")
    return Results.of_json(data), data["questions"], data["quick"]


def figures_path(options: argparse.Namespace) -> Path:
    """Return where the figures of this run are kept."""
    RESULTS.mkdir(exist_ok=True)
    return RESULTS / f"{time.strftime('%Y%m%d-%H%M%S')}-{'quick' if options.quick else 'full'}.json"


def keep(results: Results, questions: Sequence[str], options: argparse.Namespace, path: Path) -> None:
    """Write the figures so far to a file: a run of hours may be broken off."""
    facts = {"machine": machine.description(), "quick": options.quick, "questions": list(questions)}
    path.write_text(json.dumps({**facts, **results.as_json()}, indent=1) + "\n", "utf-8")


def measure_one(results: Results, number: int, case: Case, folder: Path | None) -> None:
    """Measure a case, and say so on standard error."""
    begun = time.monotonic()
    try:
        results.add(number, case, run_case(case, folder))
        outcome = ""
    except Failed as error:
        outcome = f": {error}"
        results.left_out[f"{case.rival}, {case.question} {case.setting}".rstrip(", ")] = str(error)
    seconds = time.monotonic() - begun
    name = f"{case.question} · {case.rival} · {case.setting}".rstrip(" ·")
    print(f"round {number + 1}  {seconds:5.1f} s  {name}{outcome}", file=sys.stderr, flush=True)


def report(results: Results, questions: Sequence[str]) -> str:
    """Return what was found, in Markdown."""
    parts = []
    for question in questions:
        module = question_named(question)
        parts.append(f"### {module.TITLE}")
        parts += [table.text() for table in module.tables(results)]
        if goals := module.goals(results):
            parts.append(goal_table(goals).text())
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
    parser.add_argument("--plots", type=Path, help="where the plots go; default: beside the figures")
    parser.add_argument("--go-on", type=Path, metavar="FILE", help="go on with a run that was broken off")
    parser.add_argument("--show", type=Path, help="measure nothing: show and draw what is in this JSON file")
    parser.add_argument(
        "--check", action="store_true", help="measure only ratios that repeat, against bounds"
    )
    parser.add_argument("--case", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if unknown := [name for name in options.questions if name not in QUESTIONS]:
        parser.error(f"{unknown[0]!r} isn't a question; these are: {', '.join(QUESTIONS)}")
    return options


def show(path: Path, folder: Path | None) -> None:
    """Print and draw what was measured before."""
    data = json.loads(path.read_text("utf-8"))
    results = Results.of_json(data)
    print(machine.sentence(data["machine"], len(results.rounds)), end="\n\n")
    print(report(results, data["questions"]))
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
    if options.go_on:
        path = options.go_on
        results, questions, options.quick = broken_off(path)
    else:
        path, results = figures_path(options), Results([], left_out())
        questions = options.questions or list(QUESTIONS)
    rounds = ROUNDS[options.quick] if options.rounds is None else options.rounds
    print(machine.sentence(machine.description(), rounds), end="\n\n", flush=True)
    measure_all(results, path, rounds, questions, options)
    print(report(results, questions))
    draw(results, options.plots or RESULTS)
    return 0


if __name__ == "__main__":
    sys.exit(main())
