"""One thing that an audit of splits found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Finding:
    """One thing that an audit found.

    Attributes:
        kind: "class twice", "same clip", "same video", "same group", "group crosses", "same
            scene", "small class", "uneven", "draws", "same class" or "seen".
        grave: whether a result can be wrong because of it, where nobody minds it.
        text: what it is, in a sentence or two.
        facts: the numbers, in plain types.
    """

    kind: str
    grave: bool
    text: str
    facts: Mapping[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """Plain types, for JSON."""
        return asdict(self)
