"""``python -m async_enginelog`` is the command ``enginelog``."""

from __future__ import annotations

from .cli import main

if __name__ == "__main__":
    main(prog_name="enginelog")
