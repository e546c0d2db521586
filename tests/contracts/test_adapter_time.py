"""What every adapter says about time: whether order matters, how far a frame is seen."""

from __future__ import annotations

import pytest
import torch

from fewshot_i2v.models.adapters.base.adapted_encoder import AdaptedEncoder
from fewshot_i2v.models.adapters.base.layers import TemporalEmbedding
from tests.contracts._adapters import build, every_adapter, every_ordered_adapter, run, the_pixels
from tests.models.tiny_adapters import make_adapter, make_clips, perturb
from tests.tiny import tiny_tower

BACKWARDS, SHUFFLED = [4, 3, 2, 1, 0], [2, 0, 4, 1, 3]
ALIKE, DIFFERENT = 1e-5, 1e-3


def _change(encoder: AdaptedEncoder) -> float:
    """How much the clip features change when frames change places, at most."""
    clip = run(encoder, the_pixels()).clip
    others = [run(encoder, the_pixels()[:, order]).clip for order in (BACKWARDS, SHUFFLED)]
    return max(float((other - clip).detach().abs().max()) for other in others)


def _embeddings(encoder: AdaptedEncoder) -> list[TemporalEmbedding]:
    return [part for part in encoder.adapter.modules() if isinstance(part, TemporalEmbedding)]


@every_adapter
def test_the_order_of_frames_matters_only_where_it_says_so(name: str) -> None:
    encoder = build(name, 1, moved=True)
    if encoder.adapter.frame_order == "no":
        assert _change(encoder) < ALIKE
        frames = run(encoder, the_pixels()).frames
        moved = run(encoder, the_pixels()[:, SHUFFLED]).frames
        torch.testing.assert_close(moved, frames[:, :, SHUFFLED], rtol=ALIKE, atol=ALIKE)
    else:
        assert _change(encoder) > DIFFERENT


@every_ordered_adapter
def test_order_through_the_temporal_embedding_alone_or_through_more(name: str) -> None:
    """With all but the temporal embedding away from its start."""
    encoder = build(name, 1, moved=True)
    with torch.no_grad():
        for embedding in _embeddings(encoder):
            embedding.table.zero_()
    if encoder.adapter.frame_order == "embedding":
        assert _embeddings(encoder)
        assert _change(encoder) < ALIKE
    else:
        assert _change(encoder) > DIFFERENT


@every_adapter
@pytest.mark.parametrize("frames", [1, 2, 5, 9])
def test_one_block_sees_as_many_frames_as_it_says(name: str, frames: int) -> None:
    """Clip t + 1 is clip 0 with another frame t; which of its frames have other tokens?"""
    tower = tiny_tower(layers=1)
    adapter = perturb(make_adapter(name, tower, frames=frames, seeds=(1,)), (1,))
    pixels = make_clips(tower, 1, frames=frames).repeat(frames + 1, 1, 1, 1, 1)
    changed = torch.arange(frames)
    pixels[changed + 1, changed] = make_clips(tower, frames=frames, seed=1)
    features = run(AdaptedEncoder(tower, adapter), pixels, cells=tower.grid)
    tokens = torch.cat([features.frames.unsqueeze(-2), features.grids[tower.grid]], -2)[0].detach()
    moved = (tokens[1:] - tokens[0]).abs().amax((-2, -1))
    distance = (changed - changed.unsqueeze(-1)).abs()
    assert 0 <= adapter.temporal_radius < frames
    assert (moved[distance > adapter.temporal_radius] < ALIKE).all()
    assert moved[distance == adapter.temporal_radius].max() > DIFFERENT
    assert (moved.diagonal() > DIFFERENT).all()


@every_adapter
@pytest.mark.parametrize("frames", [1, 3, 6])
def test_other_numbers_of_frames(name: str, frames: int) -> None:
    encoder = build(name, 1, moved=True, frames=frames)
    features = run(encoder, make_clips(encoder.tower, 2, frames=frames))
    assert features.frames.shape[2] == frames
    assert features.clip.isfinite().all()
