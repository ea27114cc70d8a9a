"""
Run the attacks and print one table: ``python -m tests.chaos [--quick] [--seconds N] [NAME ...]``.

Ends with 1 unless every promise holds.

"""

from __future__ import annotations

import argparse
import json
import logging
import platform
import random
import sqlite3
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

from .attack import Attack, Broken, Outcome, Skipped, all_attacks, verdict

QUICK_SECONDS = 1.5


class Report(NamedTuple):
    """A line of the table."""

    attack: Attack
    outcome: Outcome
    verdict: str
    seconds: float


def attack_once(attack: Attack, seconds: float, seed: int, folder: Path | None = None) -> Report:
    """Attack in a folder of its own, and judge."""
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(dir=folder, prefix="chaos-", ignore_cleanup_errors=True) as name:
        place = Path(name) / "place"
        place.mkdir()
        try:
            outcome = attack.run(place, max(seconds, attack.least), random.Random(f"{seed} {attack.name}"))
            judged = verdict(attack, outcome)
        except Skipped as error:
            outcome, judged = Outcome(0, 0, why=str(error)), "skipped"
        except Broken as error:
            outcome, judged = Outcome(0, 0, why=str(error)), "BROKEN"
        except Exception:
            outcome, judged = Outcome(0, 0, why=traceback.format_exc()), "BROKEN"
    return Report(attack, outcome, judged, time.monotonic() - begun)


def table_of(reports: list[Report]) -> Table:
    """Return the one table."""
    table = Table(title=None)
    table.add_column("attack")
    for name in ("times", "rows compared", "lost", "doubled", "longest call", "wait", "stall"):
        table.add_column(name, justify="right")
    table.add_column("verdict")
    for report in reports:
        times, rows, lost, doubled, call, wait, stall, *_ = report.outcome
        counts = [f"{count:,}" for count in (times, rows, lost, doubled)]
        table.add_row(report.attack.name, *counts, _ms(call), _ms(wait), _ms(stall), report.verdict)
    return table


def _ms(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds * 1e3:,.2f} ms"


def _line(report: Report) -> dict[str, object]:
    return {
        "attack": report.attack.name,
        "promise": report.attack.promise,
        **report.outcome._asdict(),
        "verdict": report.verdict,
        "seconds": round(report.seconds, 1),
    }


def main() -> int:
    """Attack, print, judge."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="attacks, or the beginnings of their names")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_SECONDS:g} s for each attack")
    parser.add_argument("--full", action="store_true", help="1 to 5 minutes for each, and 10,000,000 rows")
    parser.add_argument("--seconds", type=float, help="how long each attack lasts; default: most of them 30")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="to have the same chances again")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to write the table, too")
    parser.add_argument("--folder", type=Path, help="where the logs are; default: the temporary folder")
    parser.add_argument("--list", action="store_true", help="say what attacks there are, and no more")
    options = parser.parse_args()
    attacks = [
        attack
        for attack in all_attacks()
        if not options.names or any(attack.name.startswith(name) for name in options.names)
    ]
    console = Console(width=None if sys.stdout.isatty() else 130)
    if options.list or not attacks:
        for attack in attacks or all_attacks():
            console.print(f"{attack.name}: {attack.promise}", highlight=False)
        return 0 if attacks else 2
    # What the logs under attack say is expected here.
    logging.getLogger("async_enginelog").setLevel(logging.CRITICAL)
    reports = []
    for attack in attacks:
        report = attack_once(attack, _seconds(attack, options), options.seed, options.folder)
        reports.append(report)
        console.print(f"{report.verdict:8} {attack.name} ({report.seconds:.1f} s)", highlight=False)
        if report.verdict.startswith("BROKEN"):  # now: who breaks off a run of half an hour wants to know
            console.print(f"seed {options.seed}: {report.outcome.why}", highlight=False, markup=False)
    print_all(console, reports, options.seed)
    if options.json:
        options.json.write_text(json.dumps([_line(report) for report in reports], indent=1), "utf-8")
    return int(any(report.verdict.startswith("BROKEN") for report in reports))


def _seconds(attack: Attack, options: argparse.Namespace) -> float:
    if options.seconds or options.quick:
        return float(options.seconds or QUICK_SECONDS)
    return attack.full if options.full else attack.usual


def print_all(console: Console, reports: list[Report], seed: int) -> None:
    """Print the table, and below it what has to be said to some of its lines."""
    console.print(
        f"\nPython {platform.python_version()}, SQLite {sqlite3.sqlite_version}, {platform.system()} "
        f"{platform.machine()}; seed {seed}; longest call: CPU time; longest wait: "
        "of a call or the loop, asleep; longest stall of the loop: wall-clock time",
        highlight=False,
    )
    console.print(table_of(reports), highlight=False)
    for report in reports:
        if report.outcome.why:
            console.print(f"{report.attack.name}: {report.outcome.why}", highlight=False, markup=False)
    broken = [report.attack.name for report in reports if report.verdict.startswith("BROKEN")]
    skipped = [report.attack.name for report in reports if report.verdict == "skipped"]
    console.print(
        f"\n{len(reports) - len(broken) - len(skipped)} of {len(reports)} attacks hold; "
        f"broken: {', '.join(broken) or 'none'}; skipped: {', '.join(skipped) or 'none'}",
        highlight=False,
        markup=False,
    )


if __name__ == "__main__":
    sys.exit(main())
