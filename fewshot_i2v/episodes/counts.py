"""How many classes and clips splits have, side by side."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median_high
from typing import Any

from fewshot_i2v.episodes.split import Split

_COLUMNS = {"base": "base / train", "val": "val", "novel": "novel / test"}
_HOME = {"base": "base", "train": "base", "val": "val", "novel": "novel", "test": "novel"}


@dataclass(frozen=True)
class SubsetCounts:
    """What one subset holds.

    Attributes:
        classes: number of classes.
        clips: number of clips.
        least: clips of the smallest class.
        median: of the middle class; the larger of two middle ones.
        most: of the largest class.
    """

    classes: int
    clips: int
    least: int
    median: int
    most: int

    def __str__(self) -> str:
        """As in "31 / 4,280 (102-116-548)": classes / clips (smallest-median-largest class)."""
        spread = f"{self.least}-{self.median}-{self.most}"
        each = f"{self.least} each" if self.least == self.most else spread
        return f"{self.classes} / {self.clips:,} ({each})"


@dataclass(frozen=True)
class SplitCounts:
    """What one split holds.

    Attributes:
        name: of the split.
        generated: whether its clips are made and not listed.
        subsets: by name.
        draws: by the name of published draws, how many there are for each number of clips.
    """

    name: str
    generated: bool
    subsets: Mapping[str, SubsetCounts]
    draws: Mapping[str, Mapping[int, int]]

    def to_dict(self) -> dict[str, Any]:
        """Plain types, for JSON."""
        return asdict(self)


def counts(split: Split) -> SplitCounts:
    """Counts classes and clips."""
    subsets = {}
    for subset, classes in split.subsets.items():
        sizes = [len(clips) for clips in classes.values()]
        subsets[subset] = SubsetCounts(
            len(sizes), sum(sizes), min(sizes), median_high(sizes), max(sizes)
        )
    draws: dict[str, dict[int, int]] = {}
    for name, chosen in split.draws.items():
        for draw in chosen:
            of_name = draws.setdefault(name, {})
            of_name[draw.shot] = of_name.get(draw.shot, 0) + 1
    return SplitCounts(split.name, split.generator is not None, subsets, draws)


def counts_table(rows: Iterable[SplitCounts]) -> str:
    """The counts as a Markdown table.

    A cell is "classes / clips (smallest-median-largest class)". Published draws stand behind the
    clips that they are taken from.
    """
    head = ["split", *_COLUMNS.values()]
    lines = [_line(head), _line(["---"] * len(head))]
    for row in rows:
        cells = {_HOME[subset]: str(found) for subset, found in row.subsets.items()}
        if row.draws:
            cells["base"] += "; " + ", ".join(_draws(name, of) for name, of in row.draws.items())
        name = f"{row.name} (generated)" if row.generated else row.name
        lines.append(_line([name, *(cells.get(key, "-") for key in _COLUMNS)]))
    return "\n".join(lines)


def _draws(name: str, shots: Mapping[int, int]) -> str:
    """As in "vificlip: K = 2, 4, 8, 16" or "a5: 10 x K = 5"."""
    parts = [f"{n} x K = {shot}" if n > 1 else str(shot) for shot, n in sorted(shots.items())]
    return (
        f"{name}: {', '.join(parts)}"
        if max(shots.values()) > 1
        else (f"{name}: K = {', '.join(parts)}")
    )


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
