"""Find what stands beside the package in a checkout, and inside it in a wheel."""

from __future__ import annotations

from pathlib import Path

__all__ = ["resource"]


def resource(name: str) -> Path:
    """Return the folder called ``name``: ``migrations`` or ``examples``."""
    package = Path(__file__).resolve().parent
    return next((path for path in (package / name, package.parent / name) if path.is_dir()), package / name)
