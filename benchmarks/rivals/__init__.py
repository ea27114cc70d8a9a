"""The rivals, each used as its documentation recommends; one module for each library."""

from __future__ import annotations

from functools import cache
from importlib import import_module

from .base import Rival
from .names import MODULES

__all__ = ["here", "left_out", "rival_named", "rivals_here"]


def rival_named(name: str) -> Rival:
    """Return a rival; :exc:`ImportError` if its library isn't installed."""
    module = import_module(f"{__name__}.{MODULES[name]}")
    rivals: list[Rival] = module.RIVALS
    return next(rival for rival in rivals if rival.name == name)


@cache
def left_out() -> dict[str, str]:
    """Return the rivals that can't be measured here, and why."""
    missing = {}
    for name in MODULES:
        try:
            rival_named(name)
        except ImportError as error:
            missing[name] = str(error)
    return missing


def here(names: tuple[str, ...] = tuple(MODULES)) -> list[str]:
    """Return those of ``names`` that can be measured here, in the order of the tables."""
    return [name for name in MODULES if name in names and name not in left_out()]


def rivals_here() -> list[Rival]:
    """Return the rivals that can be measured here, in the order of the tables."""
    return [rival_named(name) for name in here()]
