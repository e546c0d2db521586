"""How the starting points of the study of `egogestar` are tuned further: chosen, and compared."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import yaml

from fewshot_i2v.runs.row_summary import RowSummary
from fewshot_i2v.statistics import paired_difference

STEPS = 10
RATES = (0.0001, 0.0003, 0.001)
"""Learning rates of the adapter to choose from, the default one the largest."""


SPLIT = Path(__file__).resolve().parents[1] / "episodes" / "egogestar.yaml"


def held_out_split(held: Sequence[str], folder: Path) -> Path:
    """Writes the base classes of `egogestar` as a split whose validation classes are `held`.

    Returns:
        The file; it is not written again when it is there.
    """
    file = folder / f"egogestar-{'-'.join(held)}.yaml"
    if not file.is_file():
        split = yaml.safe_load(SPLIT.read_text(encoding="utf-8"))
        base = split["subsets"]["base"]
        split["name"] = file.stem
        split["subsets"] = {
            "base": {name: clips for name, clips in base.items() if name not in held},
            "val": {name: base[name] for name in held},
        }
        folder.mkdir(parents=True, exist_ok=True)
        file.write_text(yaml.safe_dump(split, sort_keys=False), encoding="utf-8")
    return file


def gains(tuned: Iterable[RowSummary], started: Iterable[RowSummary]) -> list[dict[str, Any]]:
    """What tuning further changed, over the episodes that both have, by adapter, head and shot.

    The difference of an episode is the mean over the training seeds of the starting points; the
    interval is over episodes.
    """
    before = {(row.adapter, row.head, row.shot, row.start_name): row for row in started}
    groups: dict[tuple[str, str, Any], list[tuple[RowSummary, RowSummary]]] = {}
    for row in tuned:
        same = before[row.adapter, row.head, row.shot, row.start_name]
        groups.setdefault((row.adapter, row.head, row.shot), []).append((row, same))
    return [
        {"adapter": adapter, "head": head, "shot": shot} | _gain(pairs)
        for (adapter, head, shot), pairs in groups.items()
    ]


def _gain(pairs: Sequence[tuple[RowSummary, RowSummary]]) -> dict[str, Any]:
    common = set.intersection(*(set(row.accuracies) for pair in pairs for row in pair))
    order = sorted(common)
    after = [mean(row.accuracies[i] for row, _ in pairs) for i in order]
    before = [mean(same.accuracies[i] for _, same in pairs) for i in order]
    interval = paired_difference(after, before)
    by_seed = [mean(row.accuracies[i] - same.accuracies[i] for i in order) for row, same in pairs]
    return {
        "episodes": len(common),
        "seeds": len(pairs),
        "gain": interval.mean,
        "half_width": interval.half_width,
        "between_seeds": stdev(by_seed) if len(pairs) > 1 else None,
    }
