"""An evaluation on a device that is too small for the episodes side by side."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fewshot_i2v.config.evaluation import EvaluationConfig
from fewshot_i2v.errors import TuningError
from fewshot_i2v.evaluation import evaluate, row_runner
from fewshot_i2v.evaluation.results import EvaluationResult
from fewshot_i2v.evaluation.row_runner import RowRunner
from fewshot_i2v.runs.run_folder import read_run
from tests.tiny import tiny_folder, tiny_run


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_folder(tmp_path_factory.mktemp("memory"))


def _config(folder: Path, name: str, **changes: Any) -> EvaluationConfig:
    settings = {"episodes": 4, "at_once": 4, "adapter": ["st-adapter"], **changes}
    return tiny_run(folder, folder / "runs" / name, **settings)


@pytest.fixture(scope="module")
def expected(folder: Path) -> EvaluationResult:
    return evaluate.run(_config(folder, "enough"))


# each place of a batch: what computes it, and how many episodes, from the arguments
PLACES: dict[str, tuple[object, str, Callable[..., int]]] = {
    "building": (RowRunner, "build_encoder", lambda _runner, indices, *_: len(indices)),
    "loading": (row_runner, "load_inputs", lambda _row, _context, group, _encoder: len(group)),
    "tuning": (
        row_runner,
        "finetune_and_predict",
        lambda _encoder, _head, episodes, *_: len(episodes.labels),
    ),
    "frozen": (row_runner, "predict_from_features", lambda *args: len(args[-1])),
}
TUNED = ["building", "loading", "tuning"]


def _limit_memory(patch: pytest.MonkeyPatch, place: str, capacity: int) -> None:
    """Let a place of a batch compute at most so many episodes."""
    owner, name, count = PLACES[place]
    function = getattr(owner, name)

    def limited(*args: object, **keys: object) -> object:
        result = function(*args, **keys)  # memory ends late, when much was computed
        if count(*args) > capacity:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate\nmore lines")
        return result

    patch.setattr(owner, name, limited)


def _probabilities(result: EvaluationResult) -> np.ndarray:
    records = read_run(result.rows[0].folder).records
    assert sorted(records) == [0, 1, 2, 3]
    return np.array([records[i].probabilities for i in range(4)])


@pytest.mark.parametrize("place", TUNED)
def test_fewer_episodes_at_a_time_give_the_same(
    place: str, folder: Path, expected: EvaluationResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    _limit_memory(monkeypatch, place, 2)
    result = evaluate.run(_config(folder, place))
    np.testing.assert_allclose(_probabilities(result), _probabilities(expected), atol=1e-5)
    (remark,) = (text for text in result.remarks if "memory" in text)
    assert "too small for 4 episodes side by side; 2 episodes at a time ran" in remark
    assert not any("memory" in text for text in expected.remarks)


@pytest.mark.parametrize("place", TUNED)
def test_one_episode_that_is_too_large_is_an_error_that_says_what_to_change(
    place: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = evaluate.EvaluationContext.of(_config(folder, "nothing"))
    (runner,) = evaluate.build_row_runners(context)
    context.decode_episodes(runner.episodes, runner.row.tuning, progress=False)
    _limit_memory(monkeypatch, place, 0)
    with pytest.raises(TuningError, match="episode 0: the device is out of memory") as error:
        runner.run(runner.episodes)
    assert "--precision bf16" in str(error.value)
    assert "more lines" not in str(error.value)


def test_frozen_rows_survive_too(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = _config(folder, "frozen", adapter=["frozen"], head=["prototype"])
    enough = evaluate.run(config)
    _limit_memory(monkeypatch, "frozen", 1)
    result = evaluate.run(_config(folder, "frozen-small", adapter=["frozen"], head=["prototype"]))
    np.testing.assert_allclose(_probabilities(result), _probabilities(enough), atol=1e-5)
