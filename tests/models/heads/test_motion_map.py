"""The motion map against its definition, and what follows from it."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor

from fewshot_i2v.config.readouts import Readout
from fewshot_i2v.models.adapters.base.adapted_encoder import AdaptedEncoder
from fewshot_i2v.models.adapters.base.features import Features
from fewshot_i2v.models.heads.base.readouts import motion_map, select_readout
from tests.models.tiny_adapters import make_adapter, make_clips
from tests.tiny import tiny_tower

CLIPS, FRAMES, CELLS, CHANNELS = 3, 5, 4, 6


def _tokens(seed: int = 0) -> Tensor:
    """Tokens of a grid, (E, clips, T, cells, D), in double precision."""
    shape = (2, CLIPS, FRAMES, CELLS, CHANNELS)
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).double() + 3


def test_it_is_what_its_definition_says() -> None:
    tokens = _tokens()
    values = tokens.numpy()
    for e, clip in itertools.product(range(2), range(CLIPS)):
        expected = np.zeros((FRAMES, CELLS))
        for t, cell in itertools.product(range(FRAMES), range(CELLS)):
            usual = np.zeros(CHANNELS)
            for frame in range(FRAMES):
                usual += values[e, clip, frame, cell] / FRAMES
            expected[t, cell] = np.sqrt(((values[e, clip, t, cell] - usual) ** 2).sum())
        expected -= expected.mean()
        np.testing.assert_allclose(motion_map(tokens)[e, clip].numpy(), expected, atol=1e-12)


def test_a_readout_has_a_value_for_each_cell_of_each_frame_and_means_over_frames() -> None:
    tokens = _tokens().float()
    features = Features(torch.zeros(2, CLIPS, FRAMES, 9), torch.zeros(2, CLIPS, 9), {2: tokens})
    selected = select_readout(Readout("motion", 2, 2), features)
    assert torch.equal(selected.frames, motion_map(tokens))
    assert torch.equal(selected.clip, motion_map(tokens).mean(-2))
    assert not selected.grids
    torch.testing.assert_close(
        selected.frames.sum((-2, -1)), torch.zeros(2, CLIPS), atol=1e-4, rtol=0
    )


def test_half_precision_is_read_in_float32() -> None:
    tokens = _tokens().bfloat16()
    features = Features(torch.zeros(2, CLIPS, FRAMES, 9), torch.zeros(2, CLIPS, 9), {2: tokens})
    selected = select_readout(Readout("motion", 2, 2), features)
    assert selected.frames.dtype == torch.float32
    assert torch.equal(selected.frames, motion_map(tokens.float()))


@pytest.mark.parametrize("rounding", [0.0, 1e-7])
def test_a_static_clip_has_a_map_of_zeros(rounding: float) -> None:
    still = _tokens()[:, :, :1].float().repeat(1, 1, FRAMES, 1, 1)
    noise = torch.randn(still.shape, generator=torch.Generator().manual_seed(1))
    moving = _tokens().float()
    maps = motion_map(torch.cat([still * (1 + rounding * noise), moving], 1))
    assert torch.equal(maps[:, :CLIPS], torch.zeros(2, CLIPS, FRAMES, CELLS))
    assert (maps[:, CLIPS:].abs().amax((-2, -1)) > 0.1).all()


def test_the_smallest_motion_that_is_not_rounding_counts() -> None:
    still = _tokens()[:, :, :1].repeat(1, 1, FRAMES, 1, 1)
    still[:, :, 2, 1] *= 1 + 1e-3
    assert (motion_map(still).amax((-2, -1)) > 0).all()


def test_gradients_are_right_and_finite_where_nothing_moves() -> None:
    assert torch.autograd.gradcheck(motion_map, _tokens()[0, :2].requires_grad_())
    # one cell of the first clip rests, where a root has no finite slope; the second clip is static
    tokens = _tokens()[0, :2]
    tokens[0, :, 1] = tokens[0, :1, 1]
    tokens[1] = tokens[1, :1]
    tokens.requires_grad_()
    motion_map(tokens).square().sum().backward()  # type: ignore[no-untyped-call]
    assert tokens.grad is not None
    assert tokens.grad.isfinite().all()
    assert tokens.grad[0].any()
    assert not tokens.grad[1].any()


def test_what_cells_look_like_is_gone() -> None:
    """Another look of a cell in all frames alike, such as more light on it, changes nothing."""
    tokens = _tokens()
    looks = 5 * torch.randn(
        2, CLIPS, 1, CELLS, CHANNELS, generator=torch.Generator().manual_seed(1)
    )
    torch.testing.assert_close(motion_map(tokens + looks), motion_map(tokens))


def test_larger_tokens_make_a_larger_map_and_turned_ones_the_same() -> None:
    tokens = _tokens()
    torch.testing.assert_close(motion_map(2.5 * tokens), 2.5 * motion_map(tokens))
    turn, _ = torch.linalg.qr(_tokens(1)[0, 0, 0, :, :].mT @ _tokens(2)[0, 0, 0] + torch.eye(6))
    torch.testing.assert_close(motion_map(tokens @ turn), motion_map(tokens))


def test_it_keeps_when_and_where() -> None:
    tokens = _tokens()
    later, places = torch.tensor([3, 0, 4, 1, 2]), torch.tensor([2, 0, 3, 1])
    expected = motion_map(tokens)[:, :, later][..., places]
    torch.testing.assert_close(motion_map(tokens[:, :, later][:, :, :, places]), expected)


def test_a_cell_that_alone_moves_stands_out() -> None:
    tokens = _tokens()[:, :, :1].repeat(1, 1, FRAMES, 1, 1)
    tokens[:, :, 3, 2] += 1
    values = motion_map(tokens)
    assert (values.flatten(-2).argmax(-1) == 3 * CELLS + 2).all()
    others = values[..., [0, 1, 3]]
    torch.testing.assert_close(others, others[:, :, :1, :1].expand_as(others))


@pytest.mark.parametrize("name", ["aim", "st-adapter", "lora"])
def test_adapters_are_trained_through_it(name: str) -> None:
    tower = tiny_tower()
    encoder = AdaptedEncoder(tower, make_adapter(name, tower, seeds=(1, 2)))
    prefix = encoder.compute_prefix(make_clips(tower, 2), grid_sizes=(4,))
    features = encoder(prefix.expand(2, *prefix.shape), grid_sizes=(4,))
    motion_map(features.grids[4]).square().sum().backward()  # type: ignore[no-untyped-call]
    gradients = [p.grad for p in encoder.adapter.parameters() if p.grad is not None]
    assert all(gradient.isfinite().all() for gradient in gradients)
    assert any(gradient[episode].any() for gradient in gradients for episode in range(2))
