"""The temporal embedding alone: what sets it apart, beyond the contract."""

from __future__ import annotations

import pytest
import torch

from fewshot_i2v.errors import AdapterError
from fewshot_i2v.models.adapters.base.adapted_encoder import AdaptedEncoder
from tests.models.tiny_adapters import (
    FRAMES,
    make_adapter,
    make_clips,
    perturb,
    size,
    tokens_after_blocks,
    vit_b16,
)
from tests.tiny import tiny_tower


def _encoder(*, moved: bool = True) -> AdaptedEncoder:
    tower = tiny_tower()
    adapter = make_adapter("temporal-embedding", tower, seeds=(1, 2))
    return AdaptedEncoder(tower, perturb(adapter, (1, 2)) if moved else adapter)


def test_parameters_of_vit_b16() -> None:
    assert size("temporal-embedding", vit_b16()) == 8 * 768
    assert size("temporal-embedding", vit_b16(), frames=16) == 16 * 768


def test_each_frame_is_the_frozen_encoder_of_shifted_tokens() -> None:
    encoder = _encoder()
    tower, pixels = encoder.tower, make_clips(encoder.tower, 2)
    table = encoder.adapter.get_parameter("embedding.table")
    features = encoder(encoder.compute_prefix(pixels).expand(2, -1, -1, -1, -1))
    for episode in range(2):
        for t in range(FRAMES):
            x = tower.ln_pre(tower.patch_embed(pixels[:, t]) + table[episode, t])
            for block in tower.blocks:
                x = block.forward(x)
            expected = tower.ln_post(x[:, 0])
            torch.testing.assert_close(
                features.frames[episode, :, t], expected, rtol=1e-5, atol=1e-5
            )


def test_frames_do_not_meet() -> None:
    encoder = _encoder()
    pixels = make_clips(encoder.tower, 2, 1)
    other = pixels.clone()
    other[:, :, 2] += 1
    assert encoder.adapter.temporal_radius == 0
    walks = tokens_after_blocks(encoder, pixels), tokens_after_blocks(encoder, other)
    for before, after in zip(*walks, strict=True):
        moved = (before - after).abs().amax((0, 1, 3, 4)).nonzero().flatten().tolist()
        assert moved == [2]


def test_it_starts_as_the_frozen_encoder_bit_for_bit_whatever_the_seed() -> None:
    encoder = _encoder(moved=False)
    tokens = encoder.tower.patch_embed(make_clips(encoder.tower, 2, 2))
    assert torch.equal(
        encoder.adapter.embed_tokens(encoder.tower, tokens), encoder.tower.ln_pre(tokens)
    )
    assert not encoder.adapter.get_parameter("embedding.table").any()


def test_other_numbers_of_frames_are_refused() -> None:
    encoder = _encoder()
    with pytest.raises(AdapterError, match=r"clips of 4 frames.*built for 5"):
        encoder(encoder.compute_prefix(make_clips(encoder.tower, 2, 2, frames=4)))
