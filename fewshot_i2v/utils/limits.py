"""Default decoding limits of one clip, used by the configuration and by the decoder.

They exist so that no file can hang or exhaust a machine, not to exclude long clips: an hour of
1080p at 30 frames a second passes, and so does a phone's clip of 4K at 60.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

DEFAULT_MAX_FRAMES = 1_000_000
"""Frames of a clip: nine hours at 30 a second."""

DEFAULT_MAX_PIXELS = 8192 * 4352
"""Pixels of a frame: 8K."""

DEFAULT_MAX_SECONDS = 1800.0
"""Processor time for reading a clip once."""

DEFAULT_MAX_MEMORY_GIB = 4.0
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

    frames: int = DEFAULT_MAX_FRAMES
    pixels: int = DEFAULT_MAX_PIXELS
    seconds: float = DEFAULT_MAX_SECONDS
    memory: float = DEFAULT_MAX_MEMORY_GIB


def limit_hint(limit: str) -> str:
    """How to raise a limit, to end a message with.

    Args:
        limit: "frames", "pixels", "seconds" or "memory".
    """
    return f"--max-{limit} raises the limit (limits.{limit} in a configuration)"
