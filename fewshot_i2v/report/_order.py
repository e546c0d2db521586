"""What rows lose where the order of frames, or all frames but one, are taken from them.

Runs that differ in `frame_order` alone were asked the same episodes of the same clips, so their
accuracies are compared episode by episode.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from fewshot_i2v.report.sections import Row, Section
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
        lost: accuracy in natural order less that in another, over the episodes that both have,
            with interval, by that order; positive where the row rests on what was taken.
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
    known: dict[str, dict[str, Row]] = {}
    for one in (row for section in sections for row in section.rows):
        known.setdefault(_but_for_the_order(one), {}).setdefault(order_of(one), one)
    found = {}
    for orders in known.values():
        row = orders.get(NATURAL)
        if row is None:
            continue
        others = {
            order: orders[order]
            for order in ORDERS
            if order in orders and row.table.accuracies.keys() & orders[order].table.accuracies
        }
        if others:
            lost = {order: _lost(row, other, level) for order, other in others.items()}
            found[row] = Reliance(row, others, lost)
    return found


def _lost(row: Row, other: Row, level: float) -> Interval:
    a, b = row.table.accuracies, other.table.accuracies
    common = sorted(a.keys() & b.keys())
    shared = row.table.shared or other.table.shared
    return paired_difference([a[i] for i in common], [b[i] for i in common], level, shared=shared)


def _but_for_the_order(row: Row) -> str:
    """Equal for rows that differ in nothing else that decides their results."""
    identity = row.header["identity"]
    config = {k: v for k, v in identity["config"].items() if k != "frame_order"}
    rest = [identity.get(key) for key in ("split", "encoder", "trials", "start")]
    return json.dumps([config, *rest], sort_keys=True)
