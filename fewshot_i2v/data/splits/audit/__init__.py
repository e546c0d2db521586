"""What a split hides: duplicates, leakage between recordings, overlap with pre-training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class AuditFinding:
    """One result of an audit of splits.

    Attributes:
        kind: "class twice", "same clip", "same video", "same group", "group crosses", "same
            scene", "small class", "uneven", "draws", "same class" or "seen".
        grave: whether it can make a result wrong if it is ignored.
        text: a description of one or two sentences.
        facts: the numbers, in plain types.
    """

    kind: str
    grave: bool
    text: str
    facts: Mapping[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain types, for JSON."""
        return asdict(self)
