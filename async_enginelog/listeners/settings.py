"""The settings of a recorder."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..framing import FrameCutter

__all__ = ["Settings"]


@dataclass(frozen=True, slots=True)
class Settings:
    """
    The settings of a recorder, as :class:`~async_enginelog.Recorder` describes them.

    Raises:
        ValueError: If a frame isn't a whole number of samples, or a number isn't positive.

    """

    frame_ms: int
    sample_rate: int
    sample_bytes: int
    timeout: float
    patience: float
    linger: float
    max_backlog: int

    def __post_init__(self) -> None:
        for name in ("timeout", "patience", "linger", "max_backlog"):
            number = getattr(self, name)
            if not isinstance(number, int | float) or not 0 < number < math.inf:
                raise ValueError(f"{name} is {number!r}; pass a positive number")
        self.cutter()  # raises now, not at the first recording

    def cutter(self) -> FrameCutter:
        """Return what cuts the audio of a recording into frames."""
        return FrameCutter(self.frame_ms, self.sample_rate, self.sample_bytes)

    @property
    def encoding(self) -> str:
        """What a frame consists of, such as ``"pcm16"``."""
        return f"pcm{8 * self.sample_bytes}"
