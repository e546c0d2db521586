"""Which row is recommended, for what reasons, and what would change that."""

from __future__ import annotations

import random
import re

import pytest

from fewshot_i2v.report.analysis.recommendation import Recommendation, recommend_rows
from fewshot_i2v.report.tables.decision_text import RowPhrases
from fewshot_i2v.report.tables.recommendation_text import (
    Paragraph,
    paragraph_lines,
    paragraph_sentences,
    recommendation_paragraphs,
    section_recommendation,
)
from fewshot_i2v.runs.row_summary import RowSummary
from fewshot_i2v.statistics.sample_size import episodes_for_difference
from tests.report.page.page_samples import row as report_row
from tests.report.page.page_samples import section
from tests.report.tables.test_accuracy_table import row


def around(mean: float, seed: int, count: int = 12, spread: float = 0.05) -> dict[int, float]:
    generator = random.Random(seed)
    return {i: mean + generator.uniform(-spread, spread) for i in range(count)}


def adapter(name: str, mean: float, parameters: int, **changes: object) -> RowSummary:
    values = around(mean, len(name) + parameters)
    return row(name, accuracies=values, parameters=parameters, seconds_per_episode=0.5, **changes)


def paragraphs(*rows: RowSummary) -> list[Paragraph]:
    return recommendation_paragraphs(recommend_rows(rows, 0.95), RowPhrases.of(rows))


def said(*rows: RowSummary) -> str:
    return " ".join(paragraph_sentences(paragraphs(*rows)))


def points(*rows: RowSummary) -> list[str]:
    use, change = paragraphs(*rows)
    assert use.points == ()
    assert change.text == "What would change that:"
    return list(change.points)


def only(*rows: RowSummary) -> Recommendation:
    (recommendation,) = recommend_rows(rows, 0.95)
    return recommendation


def test_the_cheapest_of_those_that_cannot_be_told_apart_is_recommended() -> None:
    rows = row(accuracies=around(0.5, 1)), adapter("aim", 0.901, 9000), adapter("lora", 0.9, 10)
    assert only(*rows).row == 2
    text = said(*rows)
    assert re.match(
        r"Use lora: it beats frozen by \d\d\.\d \[\d\d\.\d, \d\d\.\d\] points at 1 shot, with 10 "
        r"trained parameters and 0\.5 s an episode\."
        r"( It is the cheapest of the rows that cannot be told apart\.)? "
        r"What would change that: aim may be as good, with 9,000 trained parameters",
        text,
    )


def test_the_answer_is_a_short_paragraph_and_a_list_of_points() -> None:
    rows = (
        row(accuracies=around(0.5, 1)),
        adapter("aim", 0.901, 9000),
        adapter("lora", 0.9, 10),
        adapter("bitfit", 0.9, 20),
    )
    lines = paragraph_lines(paragraphs(*rows))
    beginnings = [line for line in lines if not line.startswith("  ")]
    heading = lines.index("What would change that:")
    assert lines[0].startswith("Use lora: it beats frozen by ")
    assert all(line.startswith(("- ", "  ")) for line in lines[heading + 1 :])
    assert max(map(len, lines)) <= 80
    assert len([line for line in beginnings if line.startswith("- ")]) == len(points(*rows)) >= 3


@pytest.mark.parametrize("n_parameters", [0, 9000])
def test_each_point_is_a_sentence_of_one_fact(n_parameters: int) -> None:
    values = around(0.7, 1, 14)
    rows = (
        row(accuracies=values),
        row("aim", accuracies=values | {0: 0.9}, parameters=n_parameters),
        row("lora", accuracies=around(0.71, 2, 14), parameters=10),
    )
    made = points(*rows)
    assert len(made) == len(set(made)) == 4
    for point in made:
        assert re.fullmatch(r"\S[^.;]*(\d\.\d[^.;]*)*\.", point), point
    text = " ".join(made)
    assert text.count("aim may be") == text.count("lora may be") == 1
    assert "aim differs from frozen in 1 of 14 episodes: too few" in text
    assert "episodes would show a difference of 2 points between lora and frozen" in text


def test_a_row_that_may_be_as_good_at_two_numbers_of_shots_is_named_once() -> None:
    rows = []
    for shot in (1, 5):
        rows += [
            row(accuracies=around(0.5, shot), shot=shot),
            adapter("aim", 0.9, 9, shot=shot),
            adapter("lora", 0.9, 10, shot=shot),
        ]
    made = points(*rows)
    assert len([point for point in made if "may be as good" in point]) == 1


def test_a_cheap_row_that_is_clearly_lower_is_not() -> None:
    rows = row(accuracies=around(0.5, 1)), adapter("aim", 0.9, 9000), adapter("lora", 0.8, 10)
    assert only(*rows).row == 1
    assert said(*rows).startswith("Use aim: it beats frozen by ")
    assert points(*rows) == ["More episodes of these clips would not change that."]


def test_a_row_that_could_be_lower_by_more_than_two_points_is_not_taken_for_its_cost() -> None:
    noisy = adapter("lora", 0.8, 10)
    wild = around(0.84, 3, spread=0.16)
    rows = (
        row(accuracies=around(0.5, 1)),
        adapter("aim", 0.9, 9000),
        row("lora", accuracies=wild, parameters=noisy.parameters),
    )
    recommendation = only(*rows)
    assert recommendation.row == 1
    assert recommendation.rivals in ((), (2,))


def test_without_a_shown_gain_the_frozen_encoder_is_recommended() -> None:
    rows = row(accuracies=around(0.7, 1)), adapter("aim", 0.705, 9000)
    text = said(*rows)
    assert text.startswith("Use frozen at 1 shot, without training: no adapter is shown to beat it")
    assert re.search(r"The nearest, aim, is at [+-]?\d\.\d points \[-\d\.\d, \d\.\d\]\.", text)
    assert "aim may be as good" in text


def test_the_baseline_is_the_best_readout_of_the_frozen_encoder() -> None:
    """An adapter that beats frozen with its own head, but not the best readout, is not used."""
    rows = (
        row("frozen", "prototype:tokens=summary", accuracies=around(0.5, 1)),
        row("frozen", "prototype:tokens=motion", accuracies=around(0.9, 2)),
        row("aim", "prototype:tokens=summary", accuracies=around(0.7, 3)),
    )
    assert only(*rows).row == 1
    assert said(*rows).startswith("Use frozen (tokens=motion) at 1 shot, without training")


def test_episodes_to_tell_two_rows_apart_are_those_of_plan() -> None:
    rows = row(accuracies=around(0.5, 1)), adapter("aim", 0.9, 9), adapter("lora", 0.9, 10)
    recommendation = only(*rows)
    a, b = rows[1].accuracies, rows[2].accuracies
    differences = [a[i] - b[i] for i in a]
    mean = sum(differences) / len(differences)
    deviation = (sum((d - mean) ** 2 for d in differences) / (len(differences) - 1)) ** 0.5
    # no less than what a true difference of 2 points spreads, for one query clip an episode
    deviation = max(deviation, (0.02 * 0.98) ** 0.5)
    n_pairs = recommendation.decision.best.n_pairs
    needed = episodes_for_difference(deviation, 0.02, power=0.8, level=1 - 0.05 / n_pairs)
    assert recommendation.episodes == needed
    assert f"About {needed:,} episodes would show a difference of 2 points" in said(*rows)
    assert f"(--episodes {needed})" in said(*rows)


def test_each_rival_has_its_own_cost() -> None:
    rows = row(accuracies=around(0.7, 1)), adapter("aim", 0.705, 9000), adapter("lora", 0.7, 10)
    first = sorted(points(*rows)[:2])
    assert first == [
        "aim may be as good, with 9,000 trained parameters and 0.5 s an episode.",
        "lora may be as good, with 10 trained parameters and 0.5 s an episode.",
    ]


def test_a_rival_that_hardly_differs_has_no_number() -> None:
    values = around(0.7, 1, 14)
    rows = row(accuracies=values), row("aim", accuracies=values | {0: 0.9, 1: 0.8})
    text = said(*rows)
    assert "aim differs from frozen in 2 of 14 episodes: too few to say how many" in text
    assert "would show" not in text
    assert "would mostly have shown" not in text
    assert only(*rows).next_episodes == 50
    same = row(accuracies=values), row("aim", accuracies=values)
    assert "aim differs from frozen in 0 of 14 episodes" in said(*same)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_too_few_episodes_are_no_verdict(count: int) -> None:
    rows = row(accuracies=around(0.2, 1, count)), row("aim", accuracies=around(0.9, 2, count))
    text = said(*rows)
    assert text.startswith("Use frozen at 1 shot, for now: so few episodes allow no verdict")
    assert "It takes at least 6." in text
    assert "episodes would show" not in text, "their spread is not known"


def test_without_a_baseline_that_is_said() -> None:
    text = said(adapter("aim", 0.9, 9), adapter("lora", 0.5, 5))
    assert text.startswith("Use aim at 1 shot, the highest of the rows: whether it gains anything")
    assert "add --adapter frozen" in text
    assert "no adapter was run beside it" in said(row())


def test_numbers_of_shots_with_the_same_answer_share_a_sentence() -> None:
    rows = []
    for shot in (1, 5):
        rows += [row(accuracies=around(0.5, shot), shot=shot), adapter("aim", 0.9, 9, shot=shot)]
    text = said(*rows)
    assert text.count("Use aim") == 1
    assert re.search(r"points at 1 shot and by \d\d\.\d .* at 5 shots", text)


def test_rows_that_saw_their_classes_are_not_considered() -> None:
    seen = {"start": "base-trained", "start_name": "m", "seen": True}
    rows = [report_row("frozen", 0.5), report_row("aim", 0.9, **seen)]
    sentences = paragraph_sentences(section_recommendation(section(*rows)))
    assert sentences[0].startswith("Use frozen at 1 shot: no adapter was run beside it")
    assert sentences[-1] == "Not considered: 1 row whose start saw these classes or clips."
    none = said(row(accuracies={}, failed=2))
    assert none.startswith("No row can be recommended")


def test_the_toy_encoder_on_real_clips_is_warned_of() -> None:
    rows = [report_row("frozen", 0.5, toy_encoder=True), report_row("aim", 0.9, toy_encoder=True)]
    first = section_recommendation(section(*rows))[0].text
    assert first.startswith("Encoder demo is a toy")
    assert "Add --encoder ViT-B-16 --pretrained openai." in first


def test_other_clips_are_said_where_the_predictions_are_known() -> None:
    made = section(report_row("frozen", 0.4), report_row("aim", 0.9))
    text = " ".join(paragraph_sentences(section_recommendation(made)))
    assert text.startswith("Use aim: it beats frozen by ")
    assert "The gain holds on other clips of these classes, too." in text
