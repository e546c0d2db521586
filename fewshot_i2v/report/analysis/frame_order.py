"""Loss of accuracy of rows whose frames are in another order, or all the same frame.

Runs that differ only in `frame_order` have the same episodes of the same clips, so their accuracies
are compared episode by episode. Rows of several training seeds are compared over the seeds that
both have, since another seed is another row.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import fmean

from fewshot_i2v.report.analysis.report_data import ReportRow, ReportSection
from fewshot_i2v.statistics import Interval, paired_difference

NATURAL_ORDER = "natural"
CHANGED_ORDERS = ("shuffled", "reversed", "single")
"""The other ones, in the order to show them."""


LossesByRow = Mapping[ReportRow, Mapping[str, Interval]]
"""Of each row in natural order, by the order that it was run in too: its accuracy minus the one in
that order, with its interval; positive where the row uses what was removed."""


def frame_order_of(row: ReportRow) -> str:
    """Frame order of a row: "natural", or one of `CHANGED_ORDERS`."""
    return str(row.summary.config.get("frame_order", NATURAL_ORDER))


def frame_order_losses(
    sections: Sequence[ReportSection], level: float
) -> dict[ReportRow, dict[str, Interval]]:
    """Loss in other frame orders for each row in natural order, where there are such rows.

    It is over the episodes and training seeds that both have; `covers` says so where one of them
    has more seeds.
    """
    # by what they have in common, then by order and training seeds; copies of a row count once
    rows_by_key: dict[str, dict[str, dict[str, ReportRow]]] = {}
    for candidate in (row for section in sections for row in section.rows):
        orders = rows_by_key.setdefault(_key_without_order_and_seed(candidate), {})
        orders.setdefault(frame_order_of(candidate), {}).setdefault(
            _seeds_text(candidate), candidate
        )
    losses = {}
    for orders in rows_by_key.values():
        for row in orders.get(NATURAL_ORDER, {}).values():
            row_losses = _row_losses(row, orders, level)
            if row_losses:
                losses[row] = row_losses
    return losses


def _row_losses(
    row: ReportRow, orders: Mapping[str, Mapping[str, ReportRow]], level: float
) -> dict[str, Interval]:
    """Losses of a row by order, each against the row with the most training seeds in common."""
    losses = {}
    for order in CHANGED_ORDERS:
        candidates = orders.get(order, {}).values()
        if candidates:
            changed = max(candidates, key=lambda changed: len(_common_seeds(row, changed)))
            loss = _loss_interval(row, changed, level)
            if loss is not None:
                losses[order] = loss
    return losses


def _loss_interval(row: ReportRow, changed: ReportRow, level: float) -> Interval | None:
    """Loss with its interval; None where they have no training seed or episode in common."""
    seeds = _common_seeds(row, changed)
    a, b = _accuracies(row, seeds), _accuracies(changed, seeds)
    common = sorted(a.keys() & b.keys())
    if not common:
        return None
    clips_shared = row.summary.shared or changed.summary.shared
    interval = paired_difference(
        [a[i] for i in common], [b[i] for i in common], level, clips_shared=clips_shared
    )
    if set(_seeds(row)) == set(_seeds(changed)):
        return interval
    seeds_note = (
        f"Where the training seeds are {_seeds_text(row)} in natural order and "
        f"{_seeds_text(changed)} {frame_order_of(changed)}, the loss is over those that both have: "
        f"{', '.join(seeds)}."
    )
    return replace(interval, covers=f"{interval.covers} {seeds_note}")


def _seeds_text(row: ReportRow) -> str:
    """Training seeds of a row, as a merged header has them; empty where it has none."""
    return str(row.summary.config.get("training_seed", ""))


def _seeds(row: ReportRow) -> list[str]:
    return _seeds_text(row).split(", ")


def _common_seeds(row: ReportRow, changed: ReportRow) -> list[str]:
    return [seed for seed in _seeds(row) if seed in _seeds(changed)]


def _accuracies(row: ReportRow, seeds: Sequence[str]) -> Mapping[int, float]:
    """Mean accuracy over some of a row's training seeds, of each episode that all of those have.

    Empty where there are no seeds, or where one of the row's seeds has not all episodes yet, so
    that the seeds cannot be separated.
    """
    row_seeds = _seeds(row)
    if set(seeds) == set(row_seeds):
        return row.summary.accuracies
    outcomes = row.analysis.outcomes
    if not seeds or len(outcomes) != len(row_seeds):
        return {}
    runs = [
        dict(zip(outcome.index.tolist(), outcome.accuracies.tolist(), strict=True))
        for seed, outcome in zip(row_seeds, outcomes, strict=True)
        if seed in seeds
    ]
    return {i: fmean(run[i] for run in runs) for i in runs[0] if all(i in run for run in runs)}


def _key_without_order_and_seed(row: ReportRow) -> str:
    """Key that is equal for rows that differ in nothing else that decides results."""
    identity = row.summary.identity
    ignored = ("frame_order", "training_seed")
    config = {k: v for k, v in row.summary.config.items() if k not in ignored}
    origins = [identity.get(key) for key in ("split", "encoder", "trials", "start")]
    return json.dumps([config, *origins], sort_keys=True)
