"""What rows lose where the order of frames, or all frames but one, are taken from them.

Runs that differ in `frame_order` alone were asked the same episodes of the same clips, so their
accuracies are compared episode by episode. Rows of several training seeds are compared over the
seeds that both have, for another seed is another row.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean

from fewshot_i2v.report.analysis.report_data import Row, Section
from fewshot_i2v.statistics import Interval, paired_difference

NATURAL = "natural"
ORDERS = ("shuffled", "reversed", "single")
"""The other ones, in the order to show them."""


@dataclass(frozen=True, eq=False)
class Reliance:
    """A row with its frames in natural order, against the same with other orders.

    Attributes:
        row: the row with frames in their natural order.
        others: the rows that differ from it in the order alone, by their order.
        lost: accuracy in natural order less that in another, over the episodes and training seeds
            that both have, with interval, by that order; positive where the row rests on what was
            taken. What the interval covers says so where one of them has more seeds.
    """

    row: Row
    others: Mapping[str, Row] = field(repr=False)
    lost: Mapping[str, Interval]


def order_of(row: Row) -> str:
    """The order of the frames of a row: "natural", or one of `ORDERS`."""
    return str(row.header["identity"]["config"].get("frame_order", NATURAL))


def reliances(sections: Sequence[Section], level: float) -> dict[Row, Reliance]:
    """For each row in natural order what it loses in others, where there are such rows.

    Args:
        sections: of a report; rows of different orders are in different ones.
        level: of the intervals.
    """
    # by what they have in common, then by order and training seeds; copies of a row count once
    known: dict[str, dict[str, dict[str, Row]]] = {}
    for one in (row for section in sections for row in section.rows):
        orders = known.setdefault(_but_for_order_and_seeds(one), {})
        orders.setdefault(order_of(one), {}).setdefault(_seeds_text(one), one)
    found = {}
    for orders in known.values():
        for row in orders.get(NATURAL, {}).values():
            reliance = _reliance(row, orders, level)
            if reliance.lost:
                found[row] = reliance
    return found


def _reliance(row: Row, orders: Mapping[str, Mapping[str, Row]], level: float) -> Reliance:
    others, lost = {}, {}
    for order in ORDERS:
        candidates = orders.get(order, {}).values()
        other = max(candidates, key=lambda other: len(_common_seeds(row, other)), default=None)
        difference = None if other is None else _lost(row, other, level)
        if other is not None and difference is not None:
            others[order], lost[order] = other, difference
    return Reliance(row, others, lost)


def _lost(row: Row, other: Row, level: float) -> Interval | None:
    """None where they have no training seed or no episode in common."""
    seeds = _common_seeds(row, other)
    a, b = _accuracies(row, seeds), _accuracies(other, seeds)
    common = sorted(a.keys() & b.keys())
    if not common:
        return None
    shared = row.table.shared or other.table.shared
    found = paired_difference([a[i] for i in common], [b[i] for i in common], level, shared=shared)
    if set(_seeds(row)) == set(_seeds(other)):
        return found
    said = (
        f"Where the training seeds are {_seeds_text(row)} in natural order and "
        f"{_seeds_text(other)} {order_of(other)}, the loss is over those that both have: "
        f"{', '.join(seeds)}."
    )
    return replace(found, covers=f"{found.covers} {said}")


def _seeds_text(row: Row) -> str:
    """The training seeds of a row, as a merged header has them; empty where it has none."""
    return str(row.header["identity"]["config"].get("training_seed", ""))


def _seeds(row: Row) -> list[str]:
    return _seeds_text(row).split(", ")


def _common_seeds(row: Row, other: Row) -> list[str]:
    return [seed for seed in _seeds(row) if seed in _seeds(other)]


def _accuracies(row: Row, seeds: Sequence[str]) -> Mapping[int, float]:
    """Mean accuracy over some of a row's training seeds, of each episode that all of those have.

    Empty where there are no seeds, or the seeds cannot be told apart because one of them has not
    all episodes yet.
    """
    own = _seeds(row)
    if set(seeds) == set(own):
        return row.table.accuracies
    outcomes = row.findings.outcomes
    if not seeds or len(outcomes) != len(own):
        return {}
    runs = [
        dict(zip(outcome.index.tolist(), outcome.accuracies.tolist(), strict=True))
        for seed, outcome in zip(own, outcomes, strict=True)
        if seed in seeds
    ]
    return {i: fmean(run[i] for run in runs) for i in runs[0] if all(i in run for run in runs)}


def _but_for_order_and_seeds(row: Row) -> str:
    """Equal for rows that differ in nothing else that decides their results."""
    identity = row.header["identity"]
    left = ("frame_order", "training_seed")
    config = {k: v for k, v in identity["config"].items() if k not in left}
    rest = [identity.get(key) for key in ("split", "encoder", "trials", "start")]
    return json.dumps([config, *rest], sort_keys=True)
