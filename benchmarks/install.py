"""
Install what the benchmarks need, each library by itself: ``python -m benchmarks.install``.

A rival that can't be installed here is left out of the tables, with the reason; the others are measured.

"""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
PIP = (sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check")


def main() -> None:
    """Install this checkout, then the extra ``bench``."""
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text("utf-8"))["project"]
    subprocess.run([*PIP, "--editable", str(CHECKOUT)], check=True)
    for requirement in project["optional-dependencies"]["bench"]:
        if subprocess.run([*PIP, requirement]).returncode:
            print(f"{requirement} can't be installed here", file=sys.stderr)


if __name__ == "__main__":
    main()
