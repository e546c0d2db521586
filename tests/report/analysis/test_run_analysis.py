"""What a page shows of a run beyond its accuracies, against counting by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score

from fewshot_i2v.report.analysis.run_analysis import RunAnalysis, calibration_metrics
from fewshot_i2v.runs.episode_record import EpisodeRecord
from fewshot_i2v.statistics.calibration import Calibration
from fewshot_i2v.statistics.metrics import brier_score, log_loss
from fewshot_i2v.statistics.predictions import PredictionTable
from tests.report.page.page_samples import record, records
from tests.statistics.made_runs import episode, some_records


def by_hand(given: list[EpisodeRecord]) -> tuple[dict[tuple[str, str], list[int]], set[str]]:
    """For each pair of classes that met: how often the one was taken for the other, of how many."""
    met: dict[tuple[str, str], list[int]] = {}
    for r in given:
        for label, guess in zip(r.labels, r.predictions, strict=True):
            for place, other in enumerate(r.classes):
                cell = met.setdefault((r.classes[label], other), [0, 0])
                cell[0] += guess == place
                cell[1] += 1
    return met, {name for pair in met for name in pair}


def test_confusions_count_only_where_both_classes_were_there() -> None:
    given = records(0.6, 40)
    met, names = by_hand(given)
    found = RunAnalysis.from_records(given)
    assert found.classes == tuple(sorted(names))
    rates = found.confusion_rates()
    for (a, b), (taken, asked) in met.items():
        place = found.classes.index(a), found.classes.index(b)
        assert found.opportunities[place] == asked
        assert rates[place] == pytest.approx(taken / asked)


def test_the_most_frequent_confusions_come_first_and_a_class_is_not_confused_with_itself() -> None:
    found = RunAnalysis.from_records(records(0.5, 40))
    confusions = found.top_confusions()[:5]
    assert len(confusions) == 5
    assert all(a != b for a, b, _, _ in confusions)
    rates = [rate for _, _, rate, _ in confusions]
    assert rates == sorted(rates, reverse=True)


def test_classes_that_never_met_have_no_rate() -> None:
    given = [record(i, 1.0, classes=pair, way=2) for i in range(4) for pair in [("a", "b")]]
    given += [record(i, 1.0, classes=("c", "d"), way=2) for i in range(4, 8)]
    rates = RunAnalysis.from_records(given).confusion_rates()
    assert np.isnan(rates[0, 2])
    assert rates[0, 1] == 0
    assert RunAnalysis.from_records(given).top_confusions() == []


def test_recalls_are_one_for_each_episode_with_the_class() -> None:
    given = records(0.7, 30)
    found = RunAnalysis.from_records(given)
    for name, values in zip(found.classes, found.recalls, strict=True):
        own = [r for r in given if name in r.classes]
        shares = []
        for r in own:
            place = r.classes.index(name)
            pairs = zip(r.labels, r.predictions, strict=True)
            shares.append(np.mean([guess == place for label, guess in pairs if label == place]))
        assert values.tolist() == pytest.approx(shares)
    intervals = found.class_intervals(0.95, clips_shared=True)
    assert intervals["run"].n == len([r for r in given if "run" in r.classes])


def test_measures_are_those_of_the_statistics() -> None:
    given = records(0.7, 30)
    outcomes = PredictionTable.from_records(given)
    found = RunAnalysis.from_records(given)
    measures = calibration_metrics(found, 0.95)
    assert measures is not None
    assert measures.ece == Calibration.from_outcomes(outcomes).interval()
    assert measures.log_loss == log_loss(outcomes)
    labels = [row[c] for r in given for c, row in zip(r.labels, r.probabilities, strict=True)]
    everything = [p for r in given for row in r.probabilities for p in row]
    assert measures.brier == brier_score(np.array(labels), np.array(everything))
    assert measures.over_confident == pytest.approx(0.7 - outcomes.correct.mean())
    assert (measures.predictions, measures.unresolved) == (180, 0)
    assert calibration_metrics(RunAnalysis(), 0.95) is None


@pytest.mark.parametrize("seed", range(4))
def test_balanced_accuracy_is_that_of_scikit_learn(seed: int) -> None:
    given = some_records(seed, episodes=20, classes=7, query=(1, 5))
    truth = [r.classes[c] for r in given for c in r.labels]
    guess = [r.classes[c] for r in given for c in r.predictions]
    found = RunAnalysis.from_records(given).balanced_accuracy
    assert found == pytest.approx(balanced_accuracy_score(truth, guess))


def test_every_class_counts_once_however_often_it_is_asked() -> None:
    common = [
        episode(i, ["a", "b"], [[f"a/{i}", f"a/{i}q"], [f"b/{i}", f"b/{i}q"]], 1, [0, 1])
        for i in range(9)
    ]
    rare = episode(9, ["a", "rare"], [["a/x", "a/y"], ["r/x", "r/y"]], 1, [0, 0])
    found = RunAnalysis.from_records([*common, rare])
    assert found.outcomes[0].mean == pytest.approx(0.95)
    assert found.balanced_accuracy == pytest.approx(2 / 3)


def test_labels_without_any_probability_are_counted() -> None:
    sure = [
        replace(r, probabilities=[[float(c == guess) for c in range(3)] for guess in r.predictions])
        for r in records(0.5, 10)
    ]
    found = RunAnalysis.from_records(sure)
    wrong = sum(a != b for r in sure for a, b in zip(r.labels, r.predictions, strict=True))
    assert 0 < wrong == found.unresolved
    assert found.calibration is not None
    assert found.calibration.ece == pytest.approx(wrong / 60)


def test_hardest_and_easiest_are_by_accuracy_then_by_what_was_sure() -> None:
    given = records(0.6, 30)
    found = RunAnalysis.from_records(given)
    accuracies = sorted(r.accuracy for r in given if r.accuracy is not None)
    assert [r.accuracy for r in found.hardest] == accuracies[:2]
    assert [r.accuracy for r in found.easiest] == accuracies[::-1][:2]
    assert not {r.index for r in found.hardest} & {r.index for r in found.easiest}


def test_few_episodes_are_not_shown_as_both() -> None:
    assert RunAnalysis.from_records(records(0.5, 1)).hardest == ()
    found = RunAnalysis.from_records(records(0.5, 3))
    assert (len(found.hardest), len(found.easiest)) == (1, 1)


def test_failed_episodes_and_empty_runs_leave_nothing() -> None:
    failed = EpisodeRecord(
        index=0,
        status="failed",
        classes=["a", "b"],
        support=[["x"], ["y"]],
        query=[["p"], ["q"]],
        labels=[0, 1],
        error={"path": "x", "reason": "empty"},
    )
    assert RunAnalysis.from_records([failed]).classes == ()
    assert RunAnalysis.from_records([]).top_confusions() == []


def test_training_seeds_are_averaged_and_one_that_lags_behind_is_left_out() -> None:
    one, two = (RunAnalysis.from_records(records(skill, 20)) for skill in (1.0, 0.0))
    lagging = RunAnalysis.from_records(records(0.0, 10))
    merged = RunAnalysis.merge_seeds([one, two, lagging])
    assert {float(v) for values in merged.recalls for v in values} == {0.5}
    assert (merged.opportunities == 2 * one.opportunities).all()
    assert merged.hardest == one.hardest
    assert merged.calibration is not None
    assert merged.calibration.predictions == 2 * 20 * 6
    assert merged.calibration.accuracy == 0.5
    assert merged.balanced_accuracy == 0.5
    assert merged.brier == pytest.approx((one.brier + two.brier) / 2)


def test_calibration_of_equal_training_seeds_is_that_of_one() -> None:
    one = RunAnalysis.from_records(records(0.7, 30))
    first, merged = (
        calibration_metrics(one, 0.95),
        calibration_metrics(RunAnalysis.merge_seeds([one] * 4), 0.95),
    )
    assert first is not None
    assert merged is not None
    assert merged.by_chance == pytest.approx(first.by_chance)
    assert merged.ece.mean == pytest.approx(first.ece.mean)
    assert merged.ece.low == pytest.approx(first.ece.low)
    assert merged.ece.high == pytest.approx(first.ece.high)
    assert merged.predictions == 4 * first.predictions


def test_calibration_of_other_training_seeds_is_the_mean_of_theirs() -> None:
    seeds = [RunAnalysis.from_records(records(0.7, 30, salt=salt)) for salt in ("a", "b")]
    each = [m for seed in seeds if (m := calibration_metrics(seed, 0.95)) is not None]
    merged = calibration_metrics(RunAnalysis.merge_seeds(seeds), 0.95)
    assert merged is not None
    assert merged.ece.mean == pytest.approx(np.mean([m.ece.mean for m in each]))
    assert merged.by_chance == pytest.approx(np.mean([m.by_chance for m in each]))
