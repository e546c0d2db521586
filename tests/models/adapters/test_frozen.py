"""The frozen encoder: nothing is computed twice."""

from __future__ import annotations

import torch

from fewshot_i2v.models.adapters.base.adapted_encoder import AdaptedEncoder
from tests.models.tiny_adapters import FRAMES, count, make_adapter, make_clips
from tests.tiny import tiny_tower


def test_only_the_summary_token_of_a_clip_is_kept() -> None:
    tower = tiny_tower()
    encoder = AdaptedEncoder(tower, make_adapter("frozen", tower))
    assert encoder.adapter.prefix_spec().is_fully_frozen(tower)
    assert encoder.compute_prefix(make_clips(tower, 2)).shape == (2, FRAMES, 1, tower.width)
    assert encoder.compute_prefix(make_clips(tower, 2), grid_sizes=(2,)).shape == (
        2,
        FRAMES,
        5,
        tower.width,
    )
    assert count(encoder.adapter) == 0


def test_features_for_any_number_of_episodes_from_one_adapter() -> None:
    tower = tiny_tower()
    encoder = AdaptedEncoder(tower, make_adapter("frozen", tower))
    tokens = encoder.compute_prefix(make_clips(tower, 3, 2))
    features = encoder(tokens)
    assert features.clip.shape == (3, 2, tower.width)
    assert torch.equal(features.clip, features.frames.mean(2))
