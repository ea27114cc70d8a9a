"""What is played to plain and logged servers, by name."""

from ..side_by_side import SCENARIOS
from . import broken, closing, opening, receiving, sending

__all__ = ["SCENARIOS", "broken", "closing", "opening", "receiving", "sending"]
