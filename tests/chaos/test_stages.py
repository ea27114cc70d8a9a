"""The moments of the attacks exist: a function with a new name would be attacked no more, in silence."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import CodeType

import pytest

import async_enginelog

from .stages import STAGES

PACKAGE = Path(async_enginelog.__file__).parent


def names_in(code: CodeType) -> Iterator[str]:
    """Yield the qualified names of all functions in some code."""
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield constant.co_qualname
            yield from names_in(constant)


@pytest.fixture(scope="module")
def functions() -> set[str]:
    """The qualified names of all functions of the package."""
    files = PACKAGE.rglob("*.py")
    return {name for file in files for name in names_in(compile(file.read_text("utf-8"), file.name, "exec"))}


@pytest.mark.parametrize("stage", STAGES)
def test_functions_of_a_stage_exist(stage: str, functions: set[str]) -> None:
    """Each function in which an engine is to die is one of the package."""
    assert [name for name in STAGES[stage].split() if name not in functions] == []
