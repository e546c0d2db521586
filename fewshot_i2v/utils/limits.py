"""What decoding one clip may take: the defaults of the configuration and of the decoder.

The limits exist so that no file can hang or exhaust a machine, not to exclude long clips: an hour
of 1080p at 30 frames a second passes, and so does a phone's clip of 4K at 60.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from fewshot_i2v.errors import ConfigError

DEFAULT_MAX_FRAMES = 1_000_000
"""Frames of a clip: nine hours at 30 a second."""

DEFAULT_MAX_PIXELS = 8192 * 4352
"""Pixels of a frame: 8K."""

DEFAULT_MAX_SECONDS = 1800.0
"""Processor time for reading a clip once."""

DEFAULT_MAX_MEMORY_GIB = 4.0
"""Memory of a decoding process, in GiB."""


@dataclass(frozen=True)
class ClipLimits:
    """Limits of one clip; their names are those of the section `limits` of a configuration.

    Attributes:
        frames: of a clip.
        pixels: of a frame.
        seconds: processor time of the decoding process, above 0; other load on the machine does not
            count. A process that hangs without computing is ended after four times as long by the
            clock, which is also the limit on Windows.
        memory: address space of the decoding process in GiB, 0 for no limit. Enforced where the
            system can (not on Windows and macOS).

    Raises:
        ConfigError: if the time or the memory is no such number.
    """

    frames: int = DEFAULT_MAX_FRAMES
    pixels: int = DEFAULT_MAX_PIXELS
    seconds: float = DEFAULT_MAX_SECONDS
    memory: float = DEFAULT_MAX_MEMORY_GIB

    def __post_init__(self) -> None:
        if not math.isfinite(self.seconds) or self.seconds <= 0:
            raise ConfigError(f"seconds is {self.seconds!r}: a number above 0 is needed")
        if not math.isfinite(self.memory) or self.memory < 0:
            raise ConfigError(f"memory is {self.memory!r}: a number of at least 0 is needed")


DEFAULT_LIMITS = ClipLimits()


def limit_hint(limit: str) -> str:
    """Name the flag that raises a limit of `ClipLimits`, to end a message with."""
    return f"--max-{limit} raises the limit (limits.{limit} in a configuration)"
