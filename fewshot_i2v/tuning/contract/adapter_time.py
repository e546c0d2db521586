"""Checks of what an adapter says about time: whether order matters, how far a frame is seen."""

from __future__ import annotations

import torch

from fewshot_i2v.models.adapters.base.adapted_encoder import AdaptedEncoder
from fewshot_i2v.models.adapters.base.layers import TemporalEmbedding
from fewshot_i2v.tuning.contract.adapter_subject import (
    AdapterSubject,
    run_encoder,
    shared_pixels,
)
from fewshot_i2v.tuning.contract.check import Check, largest_difference, require, require_close
from fewshot_i2v.tuning.contract.tiny_encoder import make_clips, perturb, tiny_tower

_BACKWARDS, _SHUFFLED = [4, 3, 2, 1, 0], [2, 0, 4, 1, 3]
_SAME, _DIFFERENT = 1e-5, 1e-3
_RADIUS_ADVICE = "Return from temporal_radius how many frames to each side one block sees."


def _order_effect(encoder: AdaptedEncoder) -> float:
    """How much the clip features change when frames change places, at most."""
    clip = run_encoder(encoder, shared_pixels()).clip
    reordered = [
        run_encoder(encoder, shared_pixels()[:, order]).clip for order in (_BACKWARDS, _SHUFFLED)
    ]
    return max(largest_difference(features, clip) for features in reordered)


def _embeddings(encoder: AdaptedEncoder) -> list[TemporalEmbedding]:
    return [part for part in encoder.adapter.modules() if isinstance(part, TemporalEmbedding)]


def _declares_the_frame_order(subject: AdapterSubject) -> None:
    encoder = subject.build(1, moved=True)
    stated, effect = encoder.adapter.frame_order, _order_effect(encoder)
    if stated != "no":
        require(
            effect > _DIFFERENT,
            f"frame_order is {stated!r}, and other orders of the frames give the same features",
            'Set frame_order = "no", or let frames see each other.',
        )
        return
    problem = 'frame_order is "no", and another order of the frames gives other features'
    advice = 'Set frame_order = "yes" (or "embedding"), or let no frame see the frames beside it.'
    require(effect < _SAME, problem, advice)
    frames = run_encoder(encoder, shared_pixels()).frames
    moved = run_encoder(encoder, shared_pixels()[:, _SHUFFLED]).frames
    require_close(moved, frames[:, :, _SHUFFLED], problem, advice, limit=_SAME)


def _declares_the_embedding(subject: AdapterSubject) -> None:
    encoder = subject.build(1, moved=True)
    # without any effect of the order, the check of frame_order has said all there is
    if encoder.adapter.frame_order == "no" or _order_effect(encoder) <= _DIFFERENT:
        return
    with torch.no_grad():
        for embedding in _embeddings(encoder):
            embedding.table.zero_()
    effect = _order_effect(encoder)
    if encoder.adapter.frame_order == "embedding":
        require(
            bool(_embeddings(encoder)) and effect < _SAME,
            'frame_order is "embedding", and order matters without a TemporalEmbedding too',
            'Set frame_order = "yes".',
        )
    else:
        require(
            effect > _DIFFERENT,
            'frame_order is "yes", and order matters through the TemporalEmbedding alone',
            'Set frame_order = "embedding".',
        )


def _declares_the_radius(subject: AdapterSubject) -> None:
    for frames in (1, 2, 5, 9):
        _check_radius(subject, frames)


def _check_radius(subject: AdapterSubject, frames: int) -> None:
    """Clip t + 1 is clip 0 with another frame t; which of its frames have other tokens?"""
    tower = tiny_tower(layers=1)
    adapter = perturb(subject.create(tower, frames=frames, seeds=(1,)), (1,))
    pixels = make_clips(tower, 1, frames=frames).repeat(frames + 1, 1, 1, 1, 1)
    changed = torch.arange(frames)
    pixels[changed + 1, changed] = make_clips(tower, frames=frames, seed=1)
    features = run_encoder(AdaptedEncoder(tower, adapter), pixels, cells=tower.grid)
    tokens = torch.cat([features.frames.unsqueeze(-2), features.grids[tower.grid]], -2)[0].detach()
    effect = (tokens[1:] - tokens[0]).abs().amax((-2, -1))
    distance = (changed - changed.unsqueeze(-1)).abs()
    radius = adapter.temporal_radius
    require(
        0 <= radius < frames,
        f"temporal_radius is {radius} for clips of {frames} frames; expected 0 to {frames - 1}",
        _RADIUS_ADVICE,
    )
    require(
        bool((effect[distance > radius] < _SAME).all()),
        f"temporal_radius is {radius} for clips of {frames} frames, and a block sees further",
        _RADIUS_ADVICE,
    )
    require(
        bool(effect[distance == radius].max() > _DIFFERENT),
        f"temporal_radius is {radius} for clips of {frames} frames, and no block sees as far",
        _RADIUS_ADVICE,
    )
    require(
        bool((effect.diagonal() > _DIFFERENT).all()),
        "the features of a frame do not depend on the frame",
        "Give the tokens of x to frozen.forward, or add to its result.",
    )


ADAPTER_TIME_CHECKS: tuple[Check[AdapterSubject], ...] = (
    Check("the order of frames matters as frame_order says", _declares_the_frame_order),
    Check("order enters through an embedding as frame_order says", _declares_the_embedding),
    Check("a block sees as many frames as temporal_radius says", _declares_the_radius),
)
