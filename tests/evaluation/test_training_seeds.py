"""Rows run once per training seed: the same episodes, other draws in training."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fewshot_i2v.config.evaluation import EvaluationConfig
from fewshot_i2v.errors import ConfigError
from fewshot_i2v.evaluation import evaluate
from fewshot_i2v.evaluation.export import export_episode
from fewshot_i2v.evaluation.row_expansion import expand_rows
from fewshot_i2v.runs.row_summary import RowSummary, merge_seeds
from fewshot_i2v.runs.run_folder import RunData, read_run
from tests.tiny import tiny_folder, tiny_run


@dataclass
class Runs:
    """Small evaluations with several training seeds."""

    folder: Path

    def config(self, name: str, **changes: Any) -> EvaluationConfig:
        given = {"episodes": 4, "adapter": ["frozen", "st-adapter"], **changes}
        return tiny_run(self.folder, self.folder / "runs" / name, **given)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    return Runs(tiny_folder(tmp_path_factory.mktemp("seeds")))


def probabilities(data: RunData) -> np.ndarray:
    return np.array([record.probabilities for record in data.records.values()])


def test_each_seed_is_a_row_on_the_same_episodes(runs: Runs) -> None:
    config = runs.config("three", training_seeds=[0, 1, 7])
    assert [row.slug.rpartition("-")[2] for row in expand_rows(config)[:3]] == [
        "seed0",
        "seed1",
        "seed7",
    ]
    result = evaluate.run(config)
    data = [read_run(row.folder) for row in result.rows[3:]]
    asked = [[(r.classes, r.support, r.query) for r in d.records.values()] for d in data]
    assert asked[0] == asked[1] == asked[2]
    found = [probabilities(d) for d in data]
    assert np.abs(found[0] - found[1]).max() > 1e-6
    assert np.abs(found[1] - found[2]).max() > 1e-6
    plain = evaluate.run(runs.config("plain"))
    np.testing.assert_array_equal(found[0], probabilities(read_run(plain.rows[1].folder)))


def test_the_table_has_one_row_with_the_spread(runs: Runs) -> None:
    result = evaluate.run(runs.config("three", training_seeds=[0, 1, 7]))
    lines = result.table(columns=["seeds"]).splitlines()
    assert sum(line.startswith("st-adapter") for line in lines) == 1
    assert any("over seeds" in line for line in lines)
    assert "means over 3 training seeds" in result.table()
    means = [np.mean(list(row.accuracies.values())) for row in result.rows[3:]]
    row = next(line for line in lines if line.startswith("st-adapter"))
    spread = 100 * np.std(means, ddof=1)
    assert (f"3: ± {spread:.2f}" if spread else "3: the same") in row
    assert f" {100 * np.mean(means):.1f} " in row
    assert len(result.to_dict()["rows"]) == 6
    plain = evaluate.run(runs.config("plain"))
    assert "seeds" not in plain.table(columns=["seeds"])


def test_an_episode_of_one_seed_is_exported(runs: Runs, tmp_path: Path) -> None:
    result = evaluate.run(runs.config("three", training_seeds=[0, 1, 7]))
    cache = str(runs.folder / "cache")
    exported = export_episode(result.rows[5].folder, 1, tmp_path / "out", cache=cache)
    assert exported.difference < 1e-5


@pytest.mark.parametrize("seeds", [[1, 1], [-1], ["a"], [1.5]])
def test_bad_seeds_are_named(runs: Runs, seeds: list[object]) -> None:
    with pytest.raises(ConfigError, match="training_seeds"):
        runs.config("bad", training_seeds=seeds)


def row(seed: int | None, accuracies: dict[int, float], **more: Any) -> RowSummary:
    return RowSummary("aim", "linear", 1, accuracies, training_seed=seed, **more)


def test_means_are_over_the_episodes_that_all_seeds_have() -> None:
    rows = [
        row(0, {0: 0.2, 1: 0.4, 2: 1.0}, seconds_per_episode=1.0, peak_memory_mb=5.0),
        row(1, {0: 0.4, 1: 0.8}, failed=1, seconds_per_episode=3.0, peak_memory_mb=7.0),
    ]
    (one,) = merge_seeds(rows)
    assert one.accuracies == {0: pytest.approx(0.3), 1: pytest.approx(0.6)}
    assert one.seed_means == (pytest.approx(0.3), pytest.approx(0.6))
    assert one.seed_deviation == pytest.approx(np.std([0.3, 0.6], ddof=1))
    assert (one.failed, one.seconds_per_episode, one.peak_memory_mb) == (1, 2.0, 7.0)


def test_other_rows_stay_as_they_are_and_in_their_places() -> None:
    plain = row(None, {0: 0.5})
    single = row(3, {0: 0.25})
    assert merge_seeds([plain, single, plain]) == [plain, single, plain]
    apart = merge_seeds([row(0, {0: 0.5}), row(1, {1: 0.5})])
    assert (apart[0].accuracies, apart[0].seed_means) == ({}, ())
