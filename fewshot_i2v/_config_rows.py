"""What the rows of a run are called on disk."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from fewshot_i2v._config_choice import Choice
from fewshot_i2v._config_starts import Place, name_of_start


@dataclass(frozen=True)
class RowParts:
    """What tells a row from the others of its run."""

    adapter: Choice
    start: str
    place: Place | None
    head: Choice
    shot: int | str
    seed: int | None

    @property
    def text(self) -> str:
        """Readable; not always unique."""
        seed = "" if self.seed is None else f"-seed{self.seed}"
        text = f"{self.adapter.label}-{self.head.label}-{self.shot}shot{seed}"
        return text if self.place is None else f"{text}-from-{name_of_start(self.start)}"

    @property
    def digest(self) -> str:
        """Of what makes the row what it is."""
        text = f"{self.adapter.label} {self.head.label} {self.shot}"
        text += "" if self.seed is None else f" {self.seed}"
        return _digest(text if self.place is None else f"{text} {self.place.digest}")


def slugs(parts: Sequence[RowParts]) -> list[str]:
    """File names of the rows: readable, and told apart by a digest where reading cannot."""
    found = []
    for text in (part.text for part in parts):
        safe = re.sub(r"[^A-Za-z0-9_.,=+-]", "_", text)
        whole = re.fullmatch(r"[A-Za-z0-9_.,=:+-]{1,100}", text)
        found.append(safe if whole else f"{safe[:88]}-{_digest(text)}")
    seen = Counter(slug.casefold() for slug in found)
    return [
        slug if seen[slug.casefold()] == 1 else f"{slug}-{part.digest}"
        for slug, part in zip(found, parts, strict=True)
    ]


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]
