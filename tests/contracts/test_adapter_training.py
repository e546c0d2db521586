"""What every adapter promises about training: gradients, episodes, seeds, caches, and learning."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from fewshot_i2v import registry
from fewshot_i2v.config.base import FinetuneConfig
from fewshot_i2v.models.adapters.base.adapted_encoder import AdaptedEncoder
from fewshot_i2v.models.adapters.base.frozen_prefix import PrefixSpec
from fewshot_i2v.models.encoders.block import LayerNorm
from fewshot_i2v.models.encoders.tower import Tower
from fewshot_i2v.models.feature_cache import FeatureCache
from fewshot_i2v.models.heads.base.head import Head
from fewshot_i2v.tuning.finetune import EpisodeInputs, finetune
from fewshot_i2v.utils.seeding import derive_seed
from tests.contracts._adapters import (
    CELLS,
    assert_same,
    build,
    every_adapter,
    every_trained_adapter,
    losses,
    of_episode,
    run,
    the_pixels,
    the_tower,
    train,
)
from tests.contracts._tasks import accuracies, task_for
from tests.models.tiny_adapters import FRAMES, tower_tensors


@every_adapter
def test_only_its_own_parameters_are_trained_and_the_tower_stays_bit_identical(name: str) -> None:
    before = [tensor.clone() for tensor in tower_tensors(the_tower())]
    encoder = build(name, 1)
    own = [id(p) for p in encoder.adapter.parameters()]
    assert [id(p) for p in encoder.parameters()] == own
    if own:
        train(encoder, 2)
    for tensor, old in zip(tower_tensors(the_tower()), before, strict=True):
        assert torch.equal(tensor, old)
        assert not tensor.requires_grad
        assert tensor.grad is None


@every_trained_adapter
def test_every_parameter_of_every_episode_has_a_gradient_after_two_steps(name: str) -> None:
    encoder = build(name, 1, 2)
    train(encoder, 2)
    encoder.adapter.zero_grad()
    torch.autograd.backward(losses(encoder, the_pixels()).sum())
    for path, parameter in encoder.adapter.named_parameters():
        assert parameter.grad is not None, path
        assert (parameter.grad.flatten(1).abs().amax(1) > 0).all(), path


@every_trained_adapter
def test_episodes_together_are_each_alone(name: str) -> None:
    """Features, gradients and five optimiser steps, from a different start in each."""
    seeds = (5, 6, 7)
    together = build(name, *seeds, moved=True)
    torch.autograd.backward(losses(together, the_pixels()).sum())
    singles = []
    for slot, seed in enumerate(seeds):
        alone = build(name, seed, moved=True)
        torch.autograd.backward(losses(alone, the_pixels()).sum())
        pairs = zip(together.adapter.parameters(), alone.adapter.parameters(), strict=True)
        for ours, theirs in pairs:
            assert torch.equal(ours[slot], theirs[0])
            assert ours.grad is not None
            assert theirs.grad is not None
            torch.testing.assert_close(ours.grad[slot], theirs.grad[0], rtol=1e-4, atol=1e-5)
        singles.append(alone)
    train(together, 5)
    features = run(together, the_pixels(), cells=CELLS)
    for slot, alone in enumerate(singles):
        train(alone, 5)
        own = run(alone, the_pixels(), cells=CELLS)
        assert_same(own, of_episode(features, slot), 1e-4)


@every_trained_adapter
@pytest.mark.parametrize("slot", [0, 1])
def test_one_episode_has_no_gradient_from_the_loss_of_another(name: str, slot: int) -> None:
    encoder = build(name, 1, 2, 3, moved=True)
    torch.autograd.backward(losses(encoder, the_pixels())[slot])
    for parameter in encoder.adapter.parameters():
        assert parameter.shape[0] == 3
        assert parameter.grad is not None
        others = [episode for episode in range(3) if episode != slot]
        assert not parameter.grad[others].any()


def _values(encoder: AdaptedEncoder) -> Tensor:
    return torch.cat([p.detach().flatten() for p in encoder.adapter.parameters()])


@every_trained_adapter
def test_another_episode_has_another_start_unless_nothing_is_drawn(name: str) -> None:
    seeds = [derive_seed("adapter", name, 0, index) for index in range(2)]
    first, second, again = (build(name, seed) for seed in (*seeds, seeds[0]))
    assert torch.equal(_values(first), _values(again))
    state = first.adapter.generators[0].get_state()
    drawn = not torch.equal(state, torch.Generator().manual_seed(seeds[0]).get_state())
    assert drawn != torch.equal(_values(first), _values(second))


@every_trained_adapter
def test_the_same_seed_gives_the_same_trained_features(name: str) -> None:
    first, again = build(name, 1, 2), build(name, 1, 2)
    for encoder in (first, again):
        train(encoder, 3)
    assert torch.equal(_values(first), _values(again))
    assert torch.equal(run(first, the_pixels()).clip, run(again, the_pixels()).clip)


@every_adapter
def test_the_prefix_can_be_computed_once_and_is_not_modified(name: str) -> None:
    encoder = build(name, 1, moved=True)
    shape = encoder.adapter.prefix_spec((2,)).clip_shape(the_tower(), FRAMES)
    assert encoder.compute_prefix(the_pixels(), grid_sizes=(2,)).shape[1:] == shape
    cached = encoder.compute_prefix(the_pixels())[None]
    copy = cached.clone()
    first, second = encoder(cached), encoder(cached)
    assert torch.equal(cached, copy)
    assert torch.equal(first.clip, second.clip)
    whole = encoder(encoder.compute_prefix(the_pixels(), grid_sizes=(2,))[None], grid_sizes=(2,))
    assert_same(first, replace(whole, grids={}), 1e-6)


def _without_what_is_cached(tower: Tower, reading: PrefixSpec) -> Tower:
    """The tower with NaN in every weight that is used up to `first_block`."""
    if reading.first_trained_block < 0:
        return tower

    def nan(part: object) -> Any:  # noqa: ANN401 - of the kind that was given
        if isinstance(part, LayerNorm):
            return LayerNorm(nan(part.weight), nan(part.bias), part.eps)
        return torch.full_like(part, torch.nan) if isinstance(part, Tensor) else part

    used, left = (
        tower.blocks[: reading.first_trained_block],
        tower.blocks[reading.first_trained_block :],
    )
    spoiled = [replace(b, **{name: nan(part) for name, part in vars(b).items()}) for b in used]
    parts = ["patch_weight", "class_token", "positions", *(["norm_pre"] if used else [])]
    stem = {part: nan(getattr(tower, part)) for part in parts}
    return replace(tower, **stem).with_blocks([*spoiled, *left])


@every_adapter
def test_nothing_below_the_first_block_is_computed_again(name: str) -> None:
    encoder = build(name, 1, moved=True)
    reading = encoder.adapter.prefix_spec((2,))
    kept = encoder.compute_prefix(the_pixels(), grid_sizes=(2,))[None]
    assert not kept.requires_grad
    if reading.first_trained_block < 0:
        assert torch.equal(kept[0], the_pixels())
    expected = encoder(kept, grid_sizes=(2,))
    spoiled = AdaptedEncoder(_without_what_is_cached(the_tower(), reading), encoder.adapter)
    features = spoiled(kept, grid_sizes=(2,))
    assert torch.equal(features.clip, expected.clip)
    assert torch.equal(features.grids[2], expected.grids[2])


def _head(seeds: list[int]) -> Head:
    cls = registry.load_method("heads", "linear")
    head: Head = cls(cls.Options(), width=the_tower().width, way=2, frames=FRAMES, seeds=seeds)
    return head


@every_adapter
def test_tuning_from_a_cache_is_tuning_without_one(name: str) -> None:
    """Losses and parameters are equal when the prefix is computed anew at every step."""
    rows = [["a", "b", "c", "d"], ["e", "f", "g", "h"]]
    side, names = the_tower().image_size, [clip for row in rows for clip in row]
    draw = np.random.default_rng(0).integers
    files = {clip: draw(0, 256, (FRAMES, side, side, 3), dtype=np.uint8) for clip in names}

    def frames(clip: str) -> NDArray[np.uint8]:
        return files[clip]

    stacked = torch.from_numpy(np.stack([np.stack([frames(c) for c in row]) for row in rows]))
    labels = torch.tensor([[0, 0, 1, 1]] * 2)
    seen = []
    for cached in (True, False):
        encoder, head = build(name, 1, 2), _head([1, 2])

        def encode(clips: Tensor, encoder: AdaptedEncoder = encoder) -> Tensor:
            return encoder.compute_prefix(the_tower().normalize(clips))

        bank = FeatureCache(frames, encode, max_bytes=1 << 30, chunk_size=len(names))
        kept = bank.gather(rows)
        episodes = EpisodeInputs(
            lambda _step, kept=kept, encode=encode, cached=cached: (  # type: ignore[misc]
                kept if cached else encode(stacked)
            ),
            labels,
            kept,
        )
        trace = finetune(encoder, head, episodes, FinetuneConfig(steps=4))
        trained = [*encoder.adapter.parameters(), *head.parameters()]
        seen.append([trace, *(p.detach() for p in trained)])
        assert bank.clips_encoded == len(names)
    assert all(torch.equal(one, other) for one, other in zip(*seen, strict=True))
    assert (seen[0][0][:, -1] < seen[0][0][:, 0]).all()


@pytest.mark.parametrize(("task", "limit"), [("order", 0.55), ("shuffle", 0.55), ("look", 0.75)])
def test_the_frozen_encoder_is_at_a_loss_with_the_tasks_below(task: str, limit: float) -> None:
    accuracy = accuracies("frozen", task)
    assert (accuracy <= limit).all()
    assert (accuracy >= 0.45).all()


@every_trained_adapter
def test_it_learns_what_the_frozen_encoder_cannot_tell_apart(name: str) -> None:
    """By the order of frames, or where that cannot matter by a faint picture; in 40 steps."""
    task = task_for(name)
    gain = accuracies(name, task) - accuracies("frozen", task)
    assert gain.mean() > 0.2
    assert (gain > 0.1).all()


def test_the_task_fits_the_method() -> None:
    expected = {"st-adapter": "order", "aim": "order", "lora": "look", "time-smoothing": "shuffle"}
    assert {name: task_for(name) for name in expected} == expected
