"""Run the examples as processes, talk to them, and read what they logged."""

from __future__ import annotations

import json
import re
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, Self

from async_enginelog.resources import resource

EXAMPLES = resource("examples")
TRACE = EXAMPLES / "session_28_frames.csv"
PATIENCE = 30.0


def run_example(script: str, *options: object) -> subprocess.CompletedProcess[str]:
    """Run an example to its end."""
    command = [sys.executable, str(EXAMPLES / script), *map(str, options)]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)


class Server:
    """examples/server.py on a free port; a context manager that never leaves it behind."""

    def __init__(self, db: Path, *options: str) -> None:
        self.db = db
        command = [sys.executable, str(EXAMPLES / "server.py"), "--port", "0", "--db", str(db), *options]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert self.process.stdout is not None
        self.said = self.process.stdout.readline()
        found = re.match(r"listening on ws://127\.0\.0\.1:(\d+)/ws/stream", self.said)
        if found is None:
            self.kill()
            raise AssertionError(f"the server did not start: {self.said}")
        self.port = int(found[1])

    def url(self, path: str = "/ws/stream") -> str:
        return f"ws://127.0.0.1:{self.port}{path}"

    def get(self, path: str) -> str:
        """Ask for a page over HTTP."""
        url = f"http://127.0.0.1:{self.port}{path}"
        with urllib.request.urlopen(url, timeout=PATIENCE) as answer:
            return str(answer.read().decode())

    def accepted(self) -> int:
        """Return how many rows the log has taken."""
        return int(json.loads(self.get("/health"))["log"]["accepted"])

    def stop(self) -> str:
        """Ask the server to stop, as an operator does; return what it said since it started."""
        if self.process.poll() is None:
            self.process.terminate()
        output, _ = self.process.communicate(timeout=PATIENCE)
        assert self.process.returncode == 0, output
        return output

    def kill(self) -> None:
        """Let the server die on the spot."""
        self.process.kill()
        self.process.communicate(timeout=PATIENCE)

    def rows(self, sql: str, *parameters: object) -> list[dict[str, Any]]:
        """Return what the database says."""
        with closing(sqlite3.connect(self.db)) as connection:
            connection.row_factory = sqlite3.Row
            return [dict(row) for row in connection.execute(sql, parameters)]

    def table(self, name: str, order: str = "LOG_SEQ") -> list[dict[str, Any]]:
        """Return all rows of one of the tables."""
        return self.rows(f"SELECT * FROM ENGINE_DB_LOG_{name} ORDER BY {order}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.kill()


def wait_until(reached: Callable[[], bool]) -> None:
    """Return when ``reached()``; fail if that takes too long."""
    deadline = time.monotonic() + PATIENCE
    while not reached():
        assert time.monotonic() < deadline, "not reached in time"
        time.sleep(0.01)
