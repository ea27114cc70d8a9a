"""A server of examples/, as a real process."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from .running import EXAMPLES, Server

# The examples import each other as scripts do.
sys.path.append(str(EXAMPLES))


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """Run a server on a free port; it never outlives the test."""
    with Server(tmp_path / "engine_log.db") as running:
        yield running
