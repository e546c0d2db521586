"""Rows that differ in the order of frames alone, and what they lose."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from fewshot_i2v.report.analysis.frame_order import (
    NATURAL_ORDER,
    frame_order_losses,
    frame_order_of,
)
from fewshot_i2v.report.analysis.report_data import ReportRow, merge_rows
from fewshot_i2v.report.exports import render_tables
from fewshot_i2v.statistics import paired_difference
from tests.report.page.page_samples import in_order_of, orders, row, section, with_config, with_seed


def test_the_loss_is_that_of_the_common_episodes() -> None:
    natural, single = (s.rows[0] for s in orders({"natural": 0.9, "single": 0.4}))
    few = {i: a for i, a in single.summary.accuracies.items() if i >= 20}
    single = replace(single, summary=replace(single.summary, accuracies=few))
    found = frame_order_losses([section(natural), section(single)], 0.9)
    assert list(found) == [natural]
    pairs = [(natural.summary.accuracies[i], few[i]) for i in range(20, 60)]
    a, b = zip(*pairs, strict=True)
    assert found[natural]["single"] == paired_difference(a, b, 0.9)
    assert found[natural]["single"].mean > 0.3
    assert list(found[natural]) == ["single"]


def test_orders_are_told_by_the_header() -> None:
    made = orders({"natural": 0.5, "reversed": 0.5})
    assert [frame_order_of(s.rows[0]) for s in made] == [NATURAL_ORDER, "reversed"]


@pytest.mark.parametrize(
    "config",
    [
        {"adapter": {"name": "lora"}},
        {"start": "demo-motions"},
        {"head": {"name": "otam"}},
        {"shot": 5},
        {"seed": 1},
        {"training_seed": 1},
        {"tuning": {"steps": 2}},
    ],
)
def test_rows_that_differ_in_anything_else_are_not_compared(config: dict[str, Any]) -> None:
    natural, shuffled = (s.rows[0] for s in orders({"natural": 0.9, "shuffled": 0.4}))
    other = with_config(shuffled, **config)
    assert frame_order_losses([section(natural), section(other)], 0.95) == {}
    both = with_config(natural, **config)
    found = frame_order_losses([section(natural, both), section(other)], 0.95)
    assert list(found) == [both]


@pytest.mark.parametrize("key", ["split", "encoder", "trials", "start"])
def test_other_clips_weights_and_starts_are_not_compared(key: str) -> None:
    natural, shuffled = (s.rows[0] for s in orders({"natural": 0.9, "shuffled": 0.4}))
    summary = shuffled.summary
    header = {**summary.header, "identity": {**summary.identity, key: {"digest": "other"}}}
    other = replace(shuffled, summary=replace(summary, header=header))
    assert frame_order_losses([section(natural), section(other)], 0.95) == {}


def test_without_a_natural_row_or_a_common_episode_there_is_nothing() -> None:
    assert frame_order_losses(orders({"shuffled": 0.9, "single": 0.4}), 0.95) == {}
    assert frame_order_losses(orders({"natural": 0.9}), 0.95) == {}
    empty = in_order_of(row("aim", count=0), "single")
    assert frame_order_losses([section(row("aim", 0.9)), section(empty)], 0.95) == {}


def of_seeds(order: str, skills: dict[int, float], count: int = 60) -> ReportRow:
    """The row of some training seeds in an order of frames, each seed with a skill of its own."""
    rows = []
    for seed, skill in skills.items():
        rows.append(in_order_of(with_seed(row("aim", skill, count=count), seed), order))
    return merge_rows(rows)[0]


def test_rows_of_other_training_seeds_are_compared_over_those_that_both_have() -> None:
    natural = of_seeds("natural", {0: 0.9, 1: 0.8, 2: 0.1})
    shuffled = of_seeds("shuffled", {1: 0.5, 0: 0.4})
    sections = [section(natural), section(shuffled)]
    (found,) = frame_order_losses(sections, 0.95).values()
    alike = [section(of_seeds("natural", {0: 0.9, 1: 0.8})), section(shuffled)]
    (expected,) = frame_order_losses(
        [alike[0], section(of_seeds("shuffled", {0: 0.4, 1: 0.5}))], 0.95
    ).values()
    assert found["shuffled"].mean == pytest.approx(expected["shuffled"].mean)
    said = (
        "Where the training seeds are 0, 1, 2 in natural order and 1, 0 shuffled, the loss is over "
        "those that both have: 0, 1."
    )
    assert found["shuffled"].covers == f"{expected['shuffled'].covers} {said}"
    assert said in render_tables(sections, ".md", title="")
    assert "Where the training seeds are" not in render_tables(alike[:1], ".md", title="")


def test_one_training_seed_meets_the_same_one_among_several() -> None:
    natural = of_seeds("natural", {0: 0.9, 1: 0.2})
    single = of_seeds("single", {1: 0.2})
    (found,) = frame_order_losses([section(natural), section(single)], 0.95).values()
    assert found["single"].mean == 0, "seed 1 against seed 1, whose answers are the same"
    more = of_seeds("single", {0: 0.9, 1: 0.2})
    (found,) = frame_order_losses([section(natural), section(single), section(more)], 0.95).values()
    assert "Where the training seeds" not in found["single"].covers, "the most seeds in common"


def test_rows_without_a_training_seed_in_common_are_not_compared() -> None:
    natural = of_seeds("natural", {0: 0.9, 1: 0.2})
    for other in ({2: 0.5}, {2: 0.5, 3: 0.5}):
        assert (
            frame_order_losses([section(natural), section(of_seeds("single", other))], 0.95) == {}
        )


def test_seeds_whose_own_accuracies_are_not_known_are_not_compared() -> None:
    natural = of_seeds("natural", {0: 0.9, 1: 0.2, 2: 0.3})
    kept = replace(natural.analysis, outcomes=natural.analysis.outcomes[:2])
    sections = [section(replace(natural, analysis=kept)), section(of_seeds("single", {0: 0.1}))]
    assert frame_order_losses(sections, 0.95) == {}
