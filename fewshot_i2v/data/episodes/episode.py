"""One episode: its classes and clips by name."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from itertools import chain


@dataclass(frozen=True, slots=True)
class Episode:
    """One episode: its classes and clips by name.

    Attributes:
        index: its number, from 0.
        classes: the episode's classes; label c is `classes[c]`.
        support: clip names of each class, in the order of `classes`.
        query: clip names of each class, in the order of `classes`.
    """

    index: int
    classes: tuple[str, ...]
    support: tuple[tuple[str, ...], ...]
    query: tuple[tuple[str, ...], ...]

    def clip_names(self) -> tuple[str, ...]:
        """Return all distinct clip names: support class by class, then query class by class."""
        return tuple(dict.fromkeys(self.support_clips + self.query_clips))

    @property
    def support_clips(self) -> tuple[str, ...]:
        """Names of the support clips, class by class."""
        return tuple(chain.from_iterable(self.support))

    @property
    def query_clips(self) -> tuple[str, ...]:
        """Names of the query clips, class by class."""
        return tuple(chain.from_iterable(self.query))

    @property
    def shape(self) -> tuple[int, int, int]:
        """Classes, support clips and query clips; episodes of one shape can run in parallel."""
        return len(self.classes), sum(map(len, self.support)), sum(map(len, self.query))

    def to_dict(self) -> dict[str, object]:
        """The attributes as plain data."""
        return {
            "index": self.index,
            "classes": list(self.classes),
            "support": [list(names) for names in self.support],
            "query": [list(names) for names in self.query],
        }

    @property
    def digest(self) -> str:
        """First 16 hex digits of the SHA-256 of `to_dict` as canonical JSON."""
        text = json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]
