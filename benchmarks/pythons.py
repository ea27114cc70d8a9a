"""What about Python itself? What a call costs on asyncio and uvloop, on each Python that is installed."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
from functools import cache
from importlib import import_module
from pathlib import Path

from .call import SECONDS, paced
from .cases import CHECKOUT, Failed
from .markdown import Goal, Table, shown
from .results import Case, Figures, Results
from .rivals import rival_named
from .rivals.names import OURS

__all__ = ["TITLE", "cases", "goals", "measure", "tables"]

TITLE = "What about Python itself?"

OLDEST = (3, 11)
LOOPS = ("asyncio", "uvloop")
# Each Python gets an environment of its own, made once.
ENVIRONMENTS = CHECKOUT / ".venv-bench" / "pythons"
PACKAGES = ("-e", str(CHECKOUT))


def cases(quick: bool) -> list[Case]:
    """Return what is measured in one round."""
    return [Case("pythons", name, loop, quick) for name in _installed() for loop in LOOPS]


@cache
def _installed() -> dict[str, str]:
    """Return the Pythons that are installed and new enough: name and version, and the program."""
    found: dict[str, str] = {}
    for program in [sys.executable, *_candidates()]:
        ask = "import platform, sys; print(platform.python_implementation(), *sys.version_info[:3])"
        done = subprocess.run([program, "-c", ask], capture_output=True, text=True)
        if done.returncode == 0:
            name, *version = done.stdout.split()
            if tuple(map(int, version)) >= OLDEST:
                found.setdefault(f"{name} {'.'.join(version)}", program)
    return dict(sorted(found.items(), key=lambda item: [int(part) for part in item[0].split()[1].split(".")]))


def _candidates() -> list[str]:
    on_path = [shutil.which(f"python3.{minor}") for minor in range(OLDEST[1], OLDEST[1] + 10)]
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    return [*map(str, sorted(pyenv.glob("3.*/bin/python"))), *(program for program in on_path if program)]


def measure(case: Case, folder: Path) -> Figures:
    """Measure in another Python."""
    python = _environment(case.rival, case.setting)
    command = [str(python), "-m", "benchmarks.pythons", case.setting, str(folder), str(SECONDS[case.quick])]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True)
    if done.returncode:
        raise Failed(done.stderr.strip().splitlines()[-1])
    figures: Figures = json.loads(done.stdout)
    return figures


def _environment(name: str, loop: str) -> Path:
    """Return the Python of an environment that has what is needed."""
    folder = ENVIRONMENTS / name.replace(" ", "-").lower()
    python = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    if not python.exists():
        subprocess.run([_installed()[name], "-m", "venv", str(folder)], check=True)
    packages = (*PACKAGES, "uvloop") if loop == "uvloop" else PACKAGES
    ready = folder / f"ready-{loop}"
    if not ready.exists():
        command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *packages]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
            raise Failed((errors or done.stderr.splitlines() or ["pip failed"])[-1])
        ready.touch()
    return python


def _run(loop: str, folder: Path, seconds: float) -> Figures:
    factory = import_module("uvloop").new_event_loop if loop == "uvloop" else None
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(paced(rival_named(OURS), folder, seconds))


def tables(results: Results) -> list[Table]:
    """Return a line for each Python and loop."""
    forms = {"median_us": ".2f", "p99_us": ".0f", "cpu_us": ".1f"}
    rows = [
        [
            f"{case.rival}, {case.setting}",
            *(
                shown(results.spread("pythons", case.rival, case.setting, figure), form)
                for figure, form in forms.items()
            ),
        ]
        for case in results.cases("pythons")
    ]
    return [Table(("a call at 2,000 rows/s", "median, µs", "99 %, µs", "CPU a row, µs"), rows)]


def goals(results: Results) -> list[Goal]:
    """Return nothing: this is only to be known."""
    return []


if __name__ == "__main__":
    print(json.dumps(_run(sys.argv[1], Path(sys.argv[2]), float(sys.argv[3]))))
