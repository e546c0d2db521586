"""A training on a device that is too small for a step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from fewshot_i2v.errors import TuningError
from fewshot_i2v.models.adapters.base.adapted_encoder import AdaptedEncoder
from fewshot_i2v.models.adapters.base.features import Features
from fewshot_i2v.models.cache_memory import CacheBytes
from fewshot_i2v.models.heads.base.head import Head
from fewshot_i2v.statistics import Interval
from fewshot_i2v.training.objective import MicroBatch, MicroBatchLoss, Objective
from fewshot_i2v.training.train import OBJECTIVES, train
from fewshot_i2v.training.validation import EpisodicValidation
from fewshot_i2v.tuning import feature_caches
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


@pytest.mark.parametrize("place", ["encoder", "head"])
def test_a_validation_in_parts_selects_the_same_adapter(
    place: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = train(train_config(folder, tmp_path / "expected", objective="classify"))
    n_failed, scoring = 0, [False]

    def check(features: Features) -> None:
        nonlocal n_failed
        if scoring[0] and features.clip.shape[0] * features.clip.shape[1] > 7:
            n_failed += 1
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate")

    accuracy, encode, score = (
        EpisodicValidation.accuracy,
        AdaptedEncoder.forward,
        Head.forward,
    )

    def accuracy_of(validation: EpisodicValidation) -> Interval:
        scoring[0] = True
        try:
            return accuracy(validation)
        finally:
            scoring[0] = False

    def limited_encode(encoder: AdaptedEncoder, *args: Any, **keys: Any) -> Features:
        features = encode(encoder, *args, **keys)
        check(features)
        return features

    def limited_score(head: Head, query: Features, *args: Any) -> torch.Tensor:
        scores = score(head, query, *args)
        check(query)
        return scores

    monkeypatch.setattr(EpisodicValidation, "accuracy", accuracy_of)
    if place == "encoder":
        monkeypatch.setattr(AdaptedEncoder, "forward", limited_encode)
    else:
        monkeypatch.setattr(Head, "forward", limited_score)
    notes: list[str] = []
    config = train_config(folder, tmp_path / "small", objective="classify")
    started = train(config, log=notes.append)
    assert started.digest == expected.digest
    said = [text for text in notes if "from here on a validation computes" in text]
    assert len(said) == n_failed > 0


def test_cached_clips_in_host_memory_are_said_and_train_the_same(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = train(train_config(folder, tmp_path / "expected", objective="both"))
    monkeypatch.setattr(feature_caches, "cache_limits", lambda *_: CacheBytes(3_000, 1 << 24))
    notes: list[str] = []
    started = train(train_config(folder, tmp_path / "small", objective="both"), log=notes.append)
    assert started.digest == expected.digest
    (note,) = (text for text in notes if "computed once" in text)
    assert "in host memory" in note
