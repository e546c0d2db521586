"""Batches of a training: pure functions of seed and step, right labels, nothing computed twice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fewshot_i2v.data.video.frame_sampling import frame_indices
from fewshot_i2v.training.batches import TrainBatches
from fewshot_i2v.training.class_split import TrainValSplit
from fewshot_i2v.training.objective import MicroBatch, build_training_encoder
from fewshot_i2v.training.train import OBJECTIVES
from fewshot_i2v.tuning.run_context import RunContext
from tests.training.training_samples import train_config, training_folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return training_folder(tmp_path_factory.mktemp("batches"))


def _batches(folder: Path, **changes: Any) -> TrainBatches:
    config = train_config(folder, folder / "unused", **changes)
    material = RunContext.open(config)
    roster = TrainValSplit.of(material.split, config)
    encoder = build_training_encoder(config, material.encoder.tower)
    objective = OBJECTIVES[config.objective](config, encoder, roster.classes)
    batches = TrainBatches(material, config, roster, objective)
    batches.prepare(progress=False)
    return batches


def _tensors(part: MicroBatch) -> list[torch.Tensor]:
    assert part.episodes is not None
    assert part.clips is not None
    episodes, clips = part.episodes, part.clips
    return [
        episodes.support, episodes.query, episodes.support_labels, episodes.query_labels,
        clips.clips, clips.labels,
    ]  # fmt: skip


def test_a_batch_depends_on_seed_and_step_alone(folder: Path) -> None:
    first, second = (_batches(folder, objective="both") for _ in range(2))
    for step in (0, 1, 2):
        list(first.micro_batches(step))
    for step in (3, 0):
        (a,), (b,) = first.micro_batches(step), second.micro_batches(step)
        assert all(torch.equal(x, y) for x, y in zip(_tensors(a), _tensors(b), strict=True))
        assert first.clip_names(step) == second.clip_names(step)
    assert first.clip_names(0) != first.clip_names(1)
    other = _batches(folder, objective="both", seed=1)
    assert other.clip_names(0)[:18] != first.clip_names(0)[:18]
    assert other.clip_names(0)[18:] != first.clip_names(0)[18:]


def test_parts_of_a_step_make_up_the_whole(folder: Path) -> None:
    whole, halves = (_batches(folder, objective="both", accumulate=n) for n in (1, 2))
    (one,), two = whole.micro_batches(5), list(halves.micro_batches(5))
    assert [part.weight for part in two] == [0.5, 0.5]
    rows = zip(*(_tensors(part) for part in two), strict=True)
    for expected, found in zip(_tensors(one), rows, strict=True):
        torch.testing.assert_close(torch.cat(found), expected)


def test_labels_follow_the_order_of_the_clips(folder: Path) -> None:
    batches = _batches(folder, objective="both", shot=2)
    (part,) = batches.micro_batches(2)
    assert part.episodes is not None
    assert part.clips is not None
    assert part.episodes.support_labels.tolist() == [[0, 0, 1, 1, 2, 2]] * 2
    assert part.episodes.query_labels.tolist() == [[0, 0, 1, 1, 2, 2]] * 2
    names = [name.split("/")[0] for name in batches.clip_names(2)]
    for e, classes in enumerate(part.episodes.classes):
        own = names[e * 12 : (e + 1) * 12]
        assert own[:6] == [c for c in classes for _ in range(2)] == own[6:]
    alone = names[24:]
    assert [batches.class_split.classes[label] for label in part.clips.labels] == alone


def test_every_clip_is_classified_once_in_each_round(folder: Path) -> None:
    batches = _batches(folder, objective="classify", clips=10)
    rounds = [
        [n for step in range(4 * r, 4 * r + 4) for n in batches.clip_names(step)] for r in (0, 1)
    ]
    assert sorted(rounds[0]) == sorted(rounds[1]) == list(batches.class_split.clips)
    assert rounds[0] != rounds[1]


def test_without_augmentation_nothing_frozen_is_computed_twice(folder: Path) -> None:
    batches = _batches(folder, augment="off", adapter="m-adapter")
    for step in range(12):
        list(batches.micro_batches(step))
    encoder, cells = batches.objective.encoder, batches.objective.grid_sizes
    bank = batches.context.prefix_cache(encoder, grid_sizes=cells)
    seen = {name for step in range(12) for name in batches.clip_names(step)}
    assert bank.clips_encoded == len(seen)


def test_augmented_clips_never_come_from_cached_features(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches = _batches(folder, adapter="m-adapter")
    monkeypatch.setattr(
        RunContext, "prefix_cache", lambda *_, **__: pytest.fail("cached features were used")
    )
    (first,), (later,) = batches.micro_batches(0), batches.micro_batches(1)
    assert first.episodes is not None
    assert later.episodes is not None
    assert first.episodes.support.shape == later.episodes.support.shape


def test_the_trial_of_a_dry_run_is_small_and_can_be_run(folder: Path) -> None:
    batches = _batches(folder, objective="both")
    for size, way in ((2, 2), (100, batches.config.way)):
        trial, n_clips = batches.trial_micro_batch(size)
        episode, labelled = trial.require_episodes(), trial.clips
        assert labelled is not None
        n_labelled = min(size, batches.config.clips)
        assert episode.support.shape[1] == episode.query.shape[1] == way
        assert len(labelled.clips) == n_labelled
        assert n_clips == 2 * way + n_labelled
        assert bool(batches.objective.backward(trial).value.isfinite())


def test_temporal_jitter_alone_shows_frames_of_the_clip_in_order(folder: Path) -> None:
    """Every frame seen is one of the three that its segment has, and the order stays."""
    augment = {"flip": "off", "crop_scale": None, "colour": 0.0, "temporal": True}
    batches = _batches(folder, augment=augment, adapter="full")
    (part,) = batches.micro_batches(0)
    assert part.episodes is not None
    name = batches.clip_names(0)[0]
    decoded = batches.context.encoder.tower.normalize(
        torch.from_numpy(np.array(batches.context.frames(name)))
    )
    seen = part.episodes.support[0, 0]
    assert len(decoded) == 3 * len(seen)
    for segment, frame in enumerate(seen):
        choices = decoded[3 * segment : 3 * segment + 3]
        assert any(torch.equal(frame, choice) for choice in choices)


@pytest.mark.parametrize("total", [1, 5, 8, 9, 16, 23, 24, 100])
def test_the_middle_thirds_are_the_frames_of_an_evaluation(total: int) -> None:
    thirds = frame_indices("segment-thirds", total, 24)
    assert thirds[1::3].tolist() == frame_indices("segment-center", total, 8).tolist()
    assert (np.diff(thirds) >= 0).all()
