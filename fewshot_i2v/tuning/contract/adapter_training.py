"""Checks of how an adapter is trained: gradients, episodes, the frozen encoder, the cache."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fewshot_i2v.config.base import FinetuneConfig
from fewshot_i2v.models.adapters.base.adapted_encoder import AdaptedEncoder
from fewshot_i2v.models.adapters.base.frozen_prefix import PrefixSpec
from fewshot_i2v.models.cache_memory import CacheMemory
from fewshot_i2v.models.encoders.block import LayerNorm
from fewshot_i2v.models.encoders.tower import Tower
from fewshot_i2v.models.feature_cache import FeatureCache
from fewshot_i2v.models.heads.linear import LinearHead, LinearOptions
from fewshot_i2v.tuning.contract.adapter_subject import (
    CELLS,
    AdapterSubject,
    episode_losses,
    features_of_episode,
    require_same_features,
    run_encoder,
    shared_pixels,
    shared_tower,
    train_encoder,
)
from fewshot_i2v.tuning.contract.check import Check, require, require_close
from fewshot_i2v.tuning.contract.learning_tasks import learning_gain
from fewshot_i2v.tuning.contract.tiny_encoder import FRAMES, tower_tensors
from fewshot_i2v.tuning.finetune import EpisodeInputs, finetune

_FROZEN_ADVICE = (
    "Read the weights of the tower and of FrozenBlock, and change copies: weight.clone(), never "
    "nn.Parameter(weight) or a method that ends in _."
)
_COPIES_ADVICE = (
    "Let copy e of each parameter act on episode e alone: no mean, norm or matrix product over the "
    "first axis."
)
_PREFIX_ADVICE = (
    "Return from first_trained_block the first block that block() changes; 0 is always right."
)


def _leaves_the_tower(subject: AdapterSubject) -> None:
    before = [tensor.clone() for tensor in tower_tensors(shared_tower())]
    encoder = subject.build(1)
    parameters = [id(p) for p in encoder.adapter.parameters()]
    require(
        [id(p) for p in encoder.parameters()] == parameters,
        "weights of the frozen encoder are parameters of the adapter",
        _FROZEN_ADVICE,
    )
    try:
        if subject.is_trained:
            train_encoder(encoder, 2)
        else:
            run_encoder(encoder, shared_pixels())
        for tensor, old in zip(tower_tensors(shared_tower()), before, strict=True):
            require(
                torch.equal(tensor, old),
                "a weight of the frozen encoder has other values after two steps",
                _FROZEN_ADVICE,
            )
            require(
                not tensor.requires_grad and tensor.grad is None,
                "a weight of the frozen encoder has a gradient",
                _FROZEN_ADVICE,
            )
    finally:
        for tensor, old in zip(tower_tensors(shared_tower()), before, strict=True):
            tensor.requires_grad_(False).copy_(old)
            tensor.grad = None


def _has_gradients(subject: AdapterSubject) -> None:
    if not subject.is_trained:
        return
    encoder = subject.build(1, 2)
    train_encoder(encoder, 2)
    encoder.adapter.zero_grad()
    torch.autograd.backward(episode_losses(encoder, shared_pixels()).sum())
    for name, parameter in encoder.adapter.named_parameters():
        gradient = parameter.grad
        require(
            gradient is not None and bool((gradient.flatten(1).abs().amax(1) > 0).all()),
            f"the parameter {name} has no gradient after two steps",
            "Use it in block (without detach and torch.no_grad), or remove it. Layers in a row "
            "that all start at zero never learn: let one start at random values.",
        )


def _trains_episodes_together_as_alone(subject: AdapterSubject) -> None:
    """Features, gradients and five optimiser steps, from a different start in each."""
    if not subject.is_trained:
        return
    seeds = (5, 6, 7)
    together = subject.build(*seeds, moved=True)
    torch.autograd.backward(episode_losses(together, shared_pixels()).sum())
    singles = [subject.build(seed, moved=True) for seed in seeds]
    for slot, alone in enumerate(singles):
        torch.autograd.backward(episode_losses(alone, shared_pixels()).sum())
        parameters = zip(
            together.adapter.named_parameters(), alone.adapter.parameters(), strict=True
        )
        for (name, ours), theirs in parameters:
            require(
                torch.equal(ours[slot], theirs[0]),
                f"the parameter {name} starts at other values beside more episodes than alone",
                "Draw the values of copy e from self.generators[e] alone.",
            )
            require(
                ours.grad is not None and theirs.grad is not None,
                f"the parameter {name} has no gradient",
                "Use it in block, or remove it.",
            )
            if ours.grad is not None and theirs.grad is not None:
                problem = f"the gradient of {name} is another one beside more episodes than alone"
                require_close(
                    ours.grad[slot] * 0.1, theirs.grad[0] * 0.1, problem, _COPIES_ADVICE, limit=1e-4
                )
    train_encoder(together, 5)
    features = run_encoder(together, shared_pixels(), cells=CELLS)
    for slot, alone in enumerate(singles):
        train_encoder(alone, 5)
        require_same_features(
            run_encoder(alone, shared_pixels(), cells=CELLS),
            features_of_episode(features, slot),
            "trained beside more episodes, it differs from the same training alone",
            _COPIES_ADVICE,
            limit=1e-4,
        )


def _keeps_gradients_apart(subject: AdapterSubject) -> None:
    if not subject.is_trained:
        return
    for slot in range(2):
        encoder = subject.build(1, 2, 3, moved=True)
        torch.autograd.backward(episode_losses(encoder, shared_pixels())[slot])
        others = [episode for episode in range(3) if episode != slot]
        for name, parameter in encoder.adapter.named_parameters():
            gradient = parameter.grad
            require(
                gradient is None or not bool(gradient[others].any()),
                f"the loss of episode {slot} has a gradient for copies of {name} of more episodes",
                _COPIES_ADVICE,
            )


def _trains_the_same_again(subject: AdapterSubject) -> None:
    if not subject.is_trained:
        return
    first, again = subject.build(1, 2), subject.build(1, 2)
    for encoder in (first, again):
        train_encoder(encoder, 3)
    pairs = zip(first.adapter.named_parameters(), again.adapter.parameters(), strict=True)
    for (name, values), repeated in pairs:
        require(
            torch.equal(values, repeated),
            f"the parameter {name} has other values after the same three steps",
            "Remove what is random in block, such as dropout.",
        )


def _reuses_its_prefix(subject: AdapterSubject) -> None:
    encoder, pixels = subject.build(1, moved=True), shared_pixels()
    shape = encoder.adapter.prefix_spec((2,)).clip_shape(shared_tower(), FRAMES)
    computed = tuple(encoder.compute_prefix(pixels, grid_sizes=(2,)).shape[1:])
    require(
        computed == shape,
        f"prefix_spec says {shape} for a clip, and {computed} is computed",
        "Do not override compute_prefix.",
    )
    prefix = encoder.compute_prefix(pixels)[None]
    before = prefix.clone()
    first, second = encoder(prefix), encoder(prefix)
    require(
        torch.equal(prefix, before) and torch.equal(first.clip, second.clip),
        "computing features changes the tokens that are cached",
        "Do not write into x; make a new tensor.",
    )
    gridded = encoder(encoder.compute_prefix(pixels, grid_sizes=(2,))[None], grid_sizes=(2,))
    require_same_features(
        first, replace(gridded, grids={}), "features depend on the grid of a head", _PREFIX_ADVICE
    )


def _without_prefix_weights(tower: Tower, spec: PrefixSpec) -> Tower:
    """The tower with NaN in every weight that is used up to the first trained block."""
    if spec.first_trained_block < 0:
        return tower

    def _spoil(part: object) -> Any:  # noqa: ANN401 - of the kind of `part`
        if isinstance(part, LayerNorm):
            return LayerNorm(_spoil(part.weight), _spoil(part.bias), part.eps)
        return torch.full_like(part, torch.nan) if isinstance(part, Tensor) else part

    first = spec.first_trained_block
    used, later = tower.blocks[:first], tower.blocks[first:]
    spoiled = [replace(b, **{name: _spoil(part) for name, part in vars(b).items()}) for b in used]
    parts = ["patch_weight", "class_token", "positions", *(["norm_pre"] if used else [])]
    stem = {part: _spoil(getattr(tower, part)) for part in parts}
    return replace(tower, **stem).with_blocks([*spoiled, *later])


def _computes_the_prefix_once(subject: AdapterSubject) -> None:
    encoder = subject.build(1, moved=True)
    spec = encoder.adapter.prefix_spec((2,))
    prefix = encoder.compute_prefix(shared_pixels(), grid_sizes=(2,))[None]
    require(not prefix.requires_grad, "the cached tokens have a gradient", _PREFIX_ADVICE)
    expected = encoder(prefix, grid_sizes=(2,))
    spoiled = AdaptedEncoder(_without_prefix_weights(shared_tower(), spec), encoder.adapter)
    features = spoiled(prefix, grid_sizes=(2,))
    require(
        torch.equal(features.clip, expected.clip)
        and torch.equal(features.grids[2], expected.grids[2]),
        f"weights below first_trained_block = {encoder.adapter.first_trained_block} are used again",
        _PREFIX_ADVICE,
    )


def _tunes_from_a_cache(subject: AdapterSubject) -> None:
    """Losses and parameters are equal when the prefix is computed anew at every step."""
    rows = [["a", "b", "c", "d"], ["e", "f", "g", "h"]]
    tower, names = shared_tower(), [clip for row in rows for clip in row]
    side, generator = tower.image_size, np.random.default_rng(0)
    clips = {
        clip: generator.integers(0, 256, (FRAMES, side, side, 3), dtype=np.uint8) for clip in names
    }

    stacked = torch.from_numpy(np.stack([np.stack([clips[c] for c in row]) for row in rows]))
    results = []
    for cached in (True, False):
        encoder = subject.build(1, 2)
        head = LinearHead(LinearOptions(), width=tower.width, way=2, frames=FRAMES, seeds=[1, 2])

        def _encode(clips: Tensor, encoder: AdaptedEncoder = encoder) -> Tensor:
            return encoder.compute_prefix(tower.normalize(clips))

        def _encode_clip(clip: str, encode: Callable[[Tensor], Tensor] = _encode) -> Tensor:
            return encode(torch.from_numpy(clips[clip])[None])[0]

        cache = FeatureCache(_encode_clip, CacheMemory.of_size(1 << 30))
        prefix = cache.gather(rows)
        episodes = EpisodeInputs(
            lambda _step, prefix=prefix, encode=_encode, cached=cached: (  # type: ignore[misc]
                prefix if cached else encode(stacked)
            ),
            torch.tensor([[0, 0, 1, 1]] * 2),
            prefix,
        )
        trace = finetune(encoder, head, episodes, FinetuneConfig(steps=4))
        trained = [*encoder.adapter.parameters(), *head.parameters()]
        results.append([trace, *(p.detach() for p in trained)])
    require(
        all(torch.equal(first, second) for first, second in zip(*results, strict=True)),
        "tuning from cached tokens differs from tuning from frames",
        _PREFIX_ADVICE,
    )
    require(
        bool((results[0][0][:, -1] < results[0][0][:, 0]).all()),
        "the loss of a linear head on its features does not fall in 4 steps",
        "Look at the size of the features, and of the gradients.",
    )


def _learns(subject: AdapterSubject) -> None:
    if not subject.is_trained:
        return
    task, gain = learning_gain(subject)
    require(
        bool(gain.mean() > 0.2) and bool((gain > 0.1).all()),
        f"in 40 steps it learns too little of {task}: {100 * float(gain.mean()):+.0f} points over "
        "the frozen encoder; expected at least 20",
        "Look at the size of its output beside that of the block, and at its initial values.",
    )


FROZEN_ENCODER_CHECK = Check("the frozen encoder is not changed", _leaves_the_tower)
ADAPTER_TRAINING_CHECKS: tuple[Check[AdapterSubject], ...] = (
    Check("every parameter of every copy has a gradient", _has_gradients),
    Check("the loss of an episode trains its copy alone", _keeps_gradients_apart),
    Check("episodes tuned together are each as alone", _trains_episodes_together_as_alone),
    Check("the same training gives the same values", _trains_the_same_again),
    Check("what is cached is computed once and not changed", _reuses_its_prefix),
    Check("nothing below first_trained_block is computed again", _computes_the_prefix_once),
    Check("tuning from the cache is tuning without it", _tunes_from_a_cache),
    Check("it learns what the frozen encoder cannot tell apart", _learns),
)
