"""The similarity to the nearest labelled clip, beside a head that compares with class means."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fewshot_i2v.config.method import MethodSpec

NEAREST = "nearest"
"""Name of this score of "none of these"."""


def nearest_clip_head(name: str, options: Mapping[str, Any]) -> MethodSpec | None:
    """Returns the head that reads and compares as another one does, with single clips.

    A class whose clips differ has a mean that is like none of them. A clip of another class can be
    near to that mean, and far from every clip.

    Args:
        name: of the head that classifies.
        options: of it.

    Returns:
        None where that head has no class means.
    """
    return MethodSpec(name="nearest", options=dict(options)) if name == "prototype" else None
