"""A training on a device that is too small for a step."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from fewshot_i2v.errors import TuningError
from fewshot_i2v.training.objective import MicroBatch, MicroBatchLoss, Objective
from fewshot_i2v.training.train import OBJECTIVES, train
from tests.training.training_samples import train_config, training_folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return training_folder(tmp_path_factory.mktemp("memory"))


def _limit_memory(patch: pytest.MonkeyPatch, name: str, largest_weight: float) -> list[float]:
    """Let an objective compute micro-batches of at most this share of a step."""
    objective_class: type[Objective] = OBJECTIVES[name]
    backward, weights = objective_class.backward, list[float]()

    def limited(self: Objective, micro_batch: MicroBatch) -> MicroBatchLoss:
        loss = backward(self, micro_batch)  # gradients of a failed step must not stay
        if micro_batch.weight > largest_weight:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate")
        weights.append(micro_batch.weight)
        return loss

    patch.setattr(objective_class, "backward", limited)
    return weights


@pytest.mark.parametrize("name", ["both", "classify", "episodic"])
def test_a_step_in_parts_trains_the_same_adapter(
    name: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = train(train_config(folder, tmp_path / "expected", objective=name, accumulate=2))
    weights = _limit_memory(monkeypatch, name, 0.5)
    notes: list[str] = []
    started = train(train_config(folder, tmp_path / "small", objective=name), log=notes.append)
    assert set(weights) == {0.5}
    assert started.digest == expected.digest
    (note,) = (text for text in notes if "out of memory" in text)
    assert "in 2 parts" in note


def test_a_part_that_cannot_be_cut_is_an_error_that_says_what_to_change(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _limit_memory(monkeypatch, "both", 0.0)
    with pytest.raises(TuningError, match="one episode or clip at a time") as error:
        train(train_config(folder, tmp_path / "none", objective="both"))
    assert "checkpointing" in str(error.value)
