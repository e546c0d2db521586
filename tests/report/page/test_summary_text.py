"""The answer in words: what is said of the best row, of those as good, and of the others."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence

import numpy as np
import pytest

from fewshot_i2v.report.analysis import report_data
from fewshot_i2v.report.analysis.decisions import best_rows, gain_verdicts
from fewshot_i2v.report.page.labels import make_labels
from fewshot_i2v.report.page.summary_text import section_summary, summarize
from fewshot_i2v.runs.row_summary import RowSummary, baseline_of
from fewshot_i2v.statistics.paired_tests import compare_paired, holm, mcnemar
from tests.report.page import page_samples


def accuracies(mean: float, seed: int, count: int = 60) -> dict[int, float]:
    draws = random.Random(seed)
    return {i: sum(draws.random() < mean for _ in range(25)) / 25 for i in range(count)}


def row(adapter: str, found: Mapping[int, float], **given: object) -> RowSummary:
    values: dict[str, object] = {"head": "linear", "shot": 1, **given}
    return RowSummary(adapter=adapter, accuracies=found, **values)  # type: ignore[arg-type]


def told(rows: Sequence[RowSummary]) -> list[str]:
    return summarize(rows, make_labels(rows), gain_verdicts(rows, 0.95), best_rows(rows, 0.95))


FROZEN = accuracies(0.4, 1)
SAME = accuracies(0.4, 2)
HIGH = accuracies(0.8, 3)
ALSO_HIGH = accuracies(0.8, 4)


def test_the_best_row_its_gain_and_those_as_good() -> None:
    rows = [row("frozen", FROZEN), row("aim", HIGH), row("lora", ALSO_HIGH), row("full", SAME)]
    (text,) = told(rows)
    best, other = (
        ("aim", "lora") if sum(HIGH.values()) > sum(ALSO_HIGH.values()) else ("lora", "aim")
    )
    assert text.startswith(f"With 1 clip per class: {best} beats frozen on these clips by ")
    assert (
        f"It cannot be told apart from {other}; the other 2 rows are lower on these clips." in text
    )
    assert "No gain over frozen is shown for full." in text


def test_another_row_with_the_same_accuracy_is_named() -> None:
    turned = dict(enumerate(reversed(FROZEN.values())))
    (text,) = told([row("frozen", FROZEN), row("aim", turned), row("lora", accuracies(0.1, 9))])
    assert re.match(
        r"With 1 clip per class: \w+ has the highest accuracy, .* %.*, and \w+ has as much",
        text,
    )
    (alone,) = told([row("frozen", FROZEN), row("lora", accuracies(0.1, 9))])
    assert "has as much" not in alone


def test_numbers_and_intervals_are_those_of_the_paired_difference() -> None:
    rows = [row("frozen", FROZEN), row("aim", HIGH)]
    found = compare_paired(list(HIGH.values()), list(FROZEN.values())).difference
    assert found.low is not None
    assert found.high is not None
    ends = f"[{100 * found.low:.1f}, {100 * found.high:.1f}]"
    (text,) = told(rows)
    assert f"by {100 * found.mean:.1f} points {ends}, at " in text
    assert text.endswith("The other row is lower on these clips.")


def test_a_paragraph_for_each_number_of_shots() -> None:
    rows = [row("frozen", FROZEN, shot=shot) for shot in (1, 5)]
    rows += [row("aim", HIGH, shot=shot) for shot in (1, 5)]
    texts = told(rows)
    assert [t.partition(":")[0] for t in texts] == [
        "With 1 clip per class",
        "With 5 clips per class",
    ]


def test_no_gain_is_no_gain_even_of_the_best() -> None:
    (text,) = told([row("frozen", FROZEN), row("aim", SAME | {0: 1.0})])
    if "aim has the highest" in text:
        assert "but no gain over frozen is shown" in text
    else:
        assert "frozen has the highest accuracy" in text
    assert "beats" not in text


def test_worse_than_frozen_is_said() -> None:
    low = {i: value / 4 for i, value in FROZEN.items()}
    (text,) = told([row("frozen", FROZEN), row("aim", HIGH), row("bad", low)])
    assert "Worse than frozen on these clips: bad." in text


def test_rows_that_saw_the_classes_or_read_names_are_not_ranked() -> None:
    rows = [
        row("frozen", FROZEN),
        row("seen", ALSO_HIGH, start="base-trained", start_name="b", seen=True),
        row("aim", HIGH),
        row("named", ALSO_HIGH, head="zero-shot", uses_names=True),
    ]
    (text,) = told(rows)
    assert text.startswith("With 1 clip per class: fresh aim")
    ranked, _, left = text.partition("Not ranked: ")
    assert "seen" not in ranked
    assert "named" not in ranked
    assert "fresh named with zero-shot, which read the class names" in left
    assert "base-trained seen (seen) with linear, which saw what it is evaluated on" in left
    assert "Every row saw" in told([rows[1]])[0]


def test_a_row_with_few_episodes_is_neither_the_best_nor_called_alike() -> None:
    few = dict.fromkeys(range(4), 1.0)
    (text,) = told([row("frozen", FROZEN), row("aim", HIGH), row("lucky", few)])
    assert ": aim beats" in text
    assert (
        "Against one other row there are too few episodes for any verdict on so many pairs of rows."
        in text
    )
    assert "lucky" not in text


def test_one_row_alone_and_none_at_all() -> None:
    (text,) = told([row("aim", HIGH)])
    assert "aim has a mean accuracy of " in text
    assert text.endswith(" over episodes.")
    assert told([row("aim", {})]) == ["No episode has succeeded so far."]


def test_many_names_are_cut_short() -> None:
    rows = [row("frozen", FROZEN), row("best", HIGH)]
    rows += [row(f"a{i}", accuracies(0.4, 10 + i)) for i in range(8)]
    (text,) = told(rows)
    assert " and 5 more rows." in text


def test_heads_are_named_where_they_differ() -> None:
    rows = [row("frozen", FROZEN), row("aim", HIGH), row("aim", SAME, head="otam")]
    assert "aim with linear beats frozen" in told(rows)[0]


def test_verdicts_against_frozen_are_those_of_compare() -> None:
    low = {i: value / 2 for i, value in FROZEN.items()}
    rows = [row("frozen", FROZEN), row("a", HIGH), row("b", SAME), row("c", low)]
    found = gain_verdicts(rows, 0.95)
    p = holm([compare_paired(list(r.accuracies.values()), list(FROZEN.values())).test.p
              for r in rows[1:]])  # fmt: skip
    expected = ["open" if value > 0.05 else "apart" for value in p]
    assert [a.verdict if a.verdict == "open" else "apart" for a in found.values()] == expected
    assert found[1].verdict == "better"
    assert found[3].verdict == "worse"


@pytest.mark.parametrize(("place", "expected"), [(0, 0), (1, 0), (2, None), (3, None)])
def test_the_partner_has_the_same_head_shot_and_episodes(place: int, expected: int | None) -> None:
    rows = [
        row("frozen", FROZEN),
        row("aim", HIGH),
        row("aim", HIGH, shot=5),
        row("aim", {i + 1000: v for i, v in HIGH.items()}),
    ]
    assert baseline_of(rows[place], rows) is (None if expected is None else rows[expected])


def test_a_better_row_with_few_episodes_is_called_better() -> None:
    few = dict.fromkeys(range(20), 1.0)
    (text,) = told([row("frozen", FROZEN), row("aim", HIGH), row("lucky", few)])
    assert ": aim beats" in text
    assert "cannot be told apart" not in text
    said = "lucky is better on the 20 episodes that both have; it has too few to be named best."
    assert said in text


def test_a_better_row_with_a_lower_mean_over_other_episodes_is_called_better() -> None:
    best = dict.fromkeys(range(40), 0.6) | dict.fromkeys(range(40, 80), 1.0)
    other = {i: 0.7 + 0.001 * i for i in range(40)}
    (text,) = told([row("aim", best), row("lora", other)])
    assert "aim has the highest accuracy" in text
    assert "lora is better on the 40 episodes that both have; its mean is lower" in text


def test_rows_without_a_common_episode_are_named() -> None:
    apart = {i + 1000: value for i, value in SAME.items()}
    (text,) = told([row("frozen", FROZEN), row("aim", HIGH), row("late", apart), row("none", {})])
    assert "Not ranked: late, which has no episode in common with aim" in text
    assert "none, of which no episode has succeeded" in text


def test_rows_that_cannot_be_compared_with_frozen_are_named() -> None:
    late = {i: HIGH[i] / 2 for i in range(30, 60)}
    base = {i: FROZEN[i] for i in range(30)}
    (text,) = told([row("frozen", base), row("aim", HIGH), row("late", late)])
    assert "Not compared with frozen: late, which has no episode in common with it." in text


def _one_episode(adapter: str, skill: float, way: int = 4) -> report_data.ReportRow:
    return page_samples.row(adapter, skill, count=1, way=way, query=20)


def test_one_episode_is_compared_clip_by_clip_as_compare_does() -> None:
    rows = [_one_episode("frozen", 0.3), _one_episode("aim", 0.95)]
    made = page_samples.section(*rows)
    frozen, aim = (r.analysis.outcomes[0] for r in rows)
    expected = mcnemar(range(80), aim.correct, range(80), frozen.correct)
    assert expected.p < 0.05
    found = gain_verdicts(made.summaries, 0.95, [r.analysis.outcomes for r in made.rows])[1]
    assert (found.unit, found.verdict, found.too_few) == ("clip", "better", False)
    assert found.difference.n == 80
    difference = aim.correct.astype(float) - frozen.correct
    assert found.difference.mean == pytest.approx(difference.mean())
    (text,) = section_summary(made)
    assert "aim beats frozen with these support clips by " in text
    assert "The other row is lower with these support clips." in text
    assert "too few episodes" not in text


def test_one_episode_without_its_clips_sends_to_compare() -> None:
    rows = page_samples.section(_one_episode("frozen", 0.3), _one_episode("aim", 0.95)).summaries
    (text,) = told(rows)
    assert text.count("clip by clip with `fewshot-i2v compare`") == 1
    assert " points over frozen. " in text
    assert "too few episodes" not in text
    assert "no gain" not in text


def test_clips_of_several_training_seeds_are_means_over_the_seeds() -> None:
    def _seeded(adapter: str, skill: float, seed: int) -> report_data.ReportRow:
        made = _one_episode(adapter, skill)
        return page_samples.with_seed(made, seed)

    rows = report_data.merge_rows(
        [_seeded("frozen", 0.3, 0), _seeded("frozen", 0.3, 1), _seeded("aim", 0.9, 0),
         _seeded("aim", 0.5, 1)]
    )  # fmt: skip
    found = gain_verdicts([r.summary for r in rows], 0.95, [r.analysis.outcomes for r in rows])[1]
    rights = [np.mean([o.correct for o in r.analysis.outcomes], axis=0) for r in rows]
    expected = compare_paired(rights[1].tolist(), rights[0].tolist())
    assert found.difference.mean == pytest.approx(expected.difference.mean)
    assert found.difference.low == pytest.approx(expected.difference.low)
    assert (found.verdict == "better") == (expected.test.p <= 0.05)


def test_a_gain_that_no_verdict_can_reach_is_not_said_to_be_none() -> None:
    """Six episodes in which a row is always far better, beside too many comparisons."""
    under, over = dict.fromkeys(range(6), 0.25), {i: 0.75 + i / 100 for i in range(6)}
    rows = [RowSummary("frozen", "linear", 1, under)]
    rows += [RowSummary(f"aim:scale={i}.0", "linear", 1, over) for i in range(1, 13)]
    said = summarize(rows, make_labels(rows), gain_verdicts(rows, 0.95), best_rows(rows, 0.95))[0]
    assert "over frozen; but 6 episodes allow no verdict on 12 comparisons" in said
    assert "no gain" not in said
