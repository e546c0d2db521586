"""How much one clip may take by default: numbers that the configuration and the decoding share.

They are there so that no file can hang or exhaust a machine, not to keep long clips out: an hour of
1080p at 30 frames a second passes, and so does a phone's clip of 4K at 60.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

FRAMES = 1_000_000
"""Frames of a clip: nine hours at 30 a second."""

PIXELS = 8192 * 4352
"""Pixels of a frame: 8K."""

SECONDS = 1800.0
"""Processor time for reading a clip once."""

MEMORY = 4.0
"""Memory of a decoding process, in GiB."""


class LimitValues(Protocol):
    """What one clip may take; the section `limits` of a configuration is such."""

    @property
    def frames(self) -> int:
        """Frames of a clip."""

    @property
    def pixels(self) -> int:
        """Pixels of a frame."""

    @property
    def seconds(self) -> float:
        """Processor time for reading a clip once."""

    @property
    def memory(self) -> float:
        """Memory of a decoding process, in GiB."""


@dataclass(frozen=True)
class DefaultLimits:
    """What one clip may take where nothing is configured."""

    frames: int = FRAMES
    pixels: int = PIXELS
    seconds: float = SECONDS
    memory: float = MEMORY


def raising(limit: str) -> str:
    """How to raise a limit, for the end of a message.

    Args:
        limit: "frames", "pixels", "seconds" or "memory".
    """
    return f"--max-{limit} raises the limit (limits.{limit} in a configuration)"
