"""enginelog watermark: list, set, drop, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .conftest import Outcome

Enginelog = Callable[..., Outcome]
Sql = Callable[..., list[Any]]


def test_none(enginelog: Enginelog, log_path: Path) -> None:
    """A log that nobody reads by number says so."""
    assert enginelog("watermark", log_path).out == (
        f"{log_path} has no watermark: no reader has asked to keep what it hasn't read\n"
    )


def test_set_list_drop(enginelog: Enginelog, log_path: Path) -> None:
    """A reader says how far it has read, is listed, and dropped."""
    assert enginelog("watermark", log_path, "--set", "shipper", "--to", 0) == (
        0,
        f"{log_path}: shipper has read up to LOG_SEQ 0 (new)\n",
        "",
    )
    out = enginelog("watermark", log_path, "--set", "shipper", "--to", 7).out
    assert out == f"{log_path}: shipper has read up to LOG_SEQ 7 (it was 0)\n"

    head, line = enginelog("watermark", log_path).out.splitlines()
    assert head.split("  ")[0] == "name"
    assert line.split()[:3] == ["shipper", "7", "5"]
    [entry] = json.loads(enginelog("watermark", log_path, "--json").out)
    assert (entry["name"], entry["log_seq"], entry["behind"]) == ("shipper", 7, 5)

    out = enginelog("watermark", log_path, "--drop", "shipper").out
    assert out == f"{log_path}: dropped the watermark shipper; it keeps nothing any more\n"
    assert json.loads(enginelog("watermark", log_path, "--json").out) == []


def test_planted_time(enginelog: Enginelog, log_path: Path, sql: Sql) -> None:
    """What somebody else has put into the table does the list no harm."""
    sql(log_path, "INSERT INTO ENGINE_LOG_WATERMARK VALUES ('a' || char(27) || '[31m', 3, 'soon')")
    code, out, _ = enginelog("watermark", log_path)

    assert code == 0
    assert "a\\x1b[31m" in out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--set", "shipper"], "--set NAME and --to LOG_SEQ belong together"),
        (["--to", 5], "--set NAME and --to LOG_SEQ belong together"),
        (["--set", "a", "--to", 5, "--drop", "a"], "pass --set or --drop, not both"),
        (["--set", "", "--to", 5], "can't be the name of a watermark"),
        (["--drop", "a\nb"], "can't be the name of a watermark"),
        (["--set", "a", "--to", -1], "--to"),
        (["--set", "a", "--to", "newest"], "--to"),
        (["--set", "a", "--to", 13], "LOG_SEQ 13 was never given; pass 0 to 12, which is the newest"),
        (["--drop", "nobody"], "has no watermark nobody; list them: enginelog watermark"),
    ],
)
def test_bad_input(enginelog: Enginelog, log_path: Path, options: list[object], message: str) -> None:
    """What can't be meant is refused, with what can."""
    code, _, err = enginelog("watermark", log_path, *options)

    assert code == 2
    assert message in " ".join(err.split())


def test_unusable(enginelog: Enginelog, unusable: dict[str, Path]) -> None:
    """A path that isn't one of a log is refused, with the reason."""
    for message, path in unusable.items():
        for options in ([], ["--set", "a", "--to", 0], ["--drop", "a"]):
            code, _, err = enginelog("watermark", path, *options)
            assert (code, message in err) == (2, True), err
