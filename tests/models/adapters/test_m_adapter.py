"""M-adapter: what sets it apart, beyond the contract; the equation is written out once more."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from fewshot_i2v import registry
from fewshot_i2v.errors import AdapterError, UnknownNameError
from fewshot_i2v.models.adapters.base.adapted_encoder import AdaptedEncoder
from fewshot_i2v.models.adapters.base.features import Features
from fewshot_i2v.models.encoders.tower import Tower
from tests.models.tiny_adapters import (
    FRAMES,
    make_adapter,
    make_clips,
    perturb,
    size,
    tower_tensors,
    vit_b16,
    vit_l14,
)
from tests.tiny import tiny_tower

both_pools = pytest.mark.parametrize("pool", ["tok", "avg"])
both_modes = pytest.mark.parametrize("tokens", ["all", "summary"])
every_frames = pytest.mark.parametrize("frames", [1, 2, 7])


def _encoder(
    *, pool: str = "tok", frames: int = FRAMES, moved: bool = True, **options: Any
) -> AdaptedEncoder:
    tower = replace(tiny_tower(), pool=pool)
    adapter = make_adapter("m-adapter", tower, frames=frames, seeds=(1,), **options)
    if moved:
        perturb(adapter, (1,))
    return AdaptedEncoder(tower, adapter)


def _features(encoder: AdaptedEncoder, pixels: Tensor, cells: int = 0) -> Features:
    sizes = (cells,) if cells else ()
    features: Features = encoder(encoder.compute_prefix(pixels, grid_sizes=sizes), grid_sizes=sizes)
    return features


def _close(got: Tensor, expected: Tensor, limit: float = 1e-5) -> None:
    torch.testing.assert_close(got, expected, rtol=limit, atol=limit)


def _levels(tower: Tower, pixels: Tensor) -> list[Tensor]:
    """Outputs of all blocks, each (clips, T, N + 1, D)."""
    x, seen = tower.ln_pre(tower.patch_embed(pixels)), []
    for block in tower.blocks:
        x = block.forward(x)
        seen.append(x)
    return seen


def _layer(state: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    """A linear layer or a layer norm, by the shape of its weight."""
    weight, bias = state[f"{name}.weight"][0], state[f"{name}.bias"][0]
    if weight.ndim == 1:
        return functional.layer_norm(x, weight.shape, weight, bias)
    return functional.linear(x, weight.T, bias)


def _over_time(state: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    """PyTorch's grouped convolution along T of (clips, T, tokens, r)."""
    weight, bias = state[f"{name}.weight"][0], state[f"{name}.bias"][0]
    rows = x.permute(0, 2, 3, 1).flatten(0, 1)
    rows = functional.conv1d(rows, weight[:, None], bias, padding=1, groups=len(weight))
    return rows.unflatten(0, (x.shape[0], x.shape[2])).permute(0, 3, 1, 2)


def _branch(state: dict[str, Tensor], levels: list[Tensor]) -> Tensor:
    """H of the last level: (clips, T, tokens, r)."""
    h = torch.zeros(())
    for i, x in enumerate(levels):
        p = _layer(state, f"readers.{i}.linear", _layer(state, f"readers.{i}.norm", x))
        gate = 1 / (1 + torch.exp(-state["gates"][0, i]))
        f = gate * h + (1 - gate) * p if i else p
        if i == 0 and "temporal_embedding.table" in state:
            f = f + state["temporal_embedding.table"][0][:, None, :]
        start = f"mixers.{i}"
        mixed = _over_time(state, f"{start}.time_conv", _layer(state, f"{start}.time_norm", f))
        u = f + _layer(state, f"{start}.time_linear", mixed)
        inner = _layer(state, f"{start}.mlp_in", _layer(state, f"{start}.mlp_norm", u))
        h = u + _layer(state, f"{start}.mlp_out", functional.gelu(inner))
    return h


def _up(state: dict[str, Tensor], h: Tensor) -> Tensor:
    return _layer(state, "up", _layer(state, "up_norm", h))


def _last_norm(state: dict[str, Tensor], tower: Tower, x: Tensor) -> Tensor:
    return _layer(state, "ln_post", x) if "ln_post.weight" in state else tower.ln_post(x)


@both_pools
@pytest.mark.parametrize(
    "options",
    [{}, {"width": 5}, {"every": 2, "temporal_embedding": True}, {"ln_post": True}],
    ids=["default", "narrow", "every-second", "trained-norm"],
)
def test_against_the_equation(options: dict[str, Any], pool: str) -> None:
    encoder = _encoder(pool=pool, **options)
    tower, state = encoder.tower, encoder.adapter.state_dict()
    pixels = make_clips(tower, 2)
    levels = _levels(tower, pixels)
    h = _branch(
        state, levels[(len(levels) - 1) % options.get("every", 1) :: options.get("every", 1)]
    )
    patches = levels[-1][..., 1:, :] + _up(state, h[..., 1:, :])
    v = (h[..., 0, :] + h[..., 1:, :].mean(-2)) / 2
    summary = levels[-1][..., 0, :] + _up(state, v) if pool == "tok" else patches.mean(-2)
    frames = _last_norm(state, tower, summary)
    got = _features(encoder, pixels[None], cells=4)
    _close(got.frames[0], frames)
    _close(got.clip[0], frames.mean(1))
    _close(got.grids[4][0], _last_norm(state, tower, patches))


@both_pools
def test_summary_alone_against_the_equation(pool: str) -> None:
    encoder = _encoder(pool=pool, tokens="summary")
    tower, state = encoder.tower, encoder.adapter.state_dict()
    pixels = make_clips(tower, 2)
    levels = [tower.pool_tokens(x)[..., None, :] for x in _levels(tower, pixels)]
    frames = tower.ln_post((levels[-1] + _up(state, _branch(state, levels)))[..., 0, :])
    got = _features(encoder, pixels[None])
    _close(got.frames[0], frames)
    _close(got.clip[0], frames.mean(1))


@both_pools
@both_modes
@pytest.mark.parametrize("cells", [0, 2])
@pytest.mark.parametrize("every", [1, 2, 3])
def test_prefix_has_the_shape_of_the_reading(
    tokens: str, cells: int, every: int, pool: str
) -> None:
    encoder = _encoder(pool=pool, tokens=tokens, every=every)
    sizes = (cells,) if cells else ()
    reading = encoder.adapter.prefix_spec(sizes)
    kept = encoder.compute_prefix(make_clips(encoder.tower, 2), grid_sizes=sizes)
    assert kept.shape[1:] == reading.clip_shape(encoder.tower, FRAMES)
    assert reading.levels == {1: (0, 1, 2), 2: (0, 2), 3: (2,)}[every]
    assert kept.shape[3] == (17 if tokens == "all" else 1 + cells**2)


def test_adapters_that_read_the_same_share_what_is_kept() -> None:
    wide, narrow = (_encoder(tokens="summary", width=w, ln_post=w > 4).adapter for w in (8, 4))
    assert {wide.prefix_spec(), narrow.prefix_spec()} == {wide.prefix_spec()}
    other = _encoder(tokens="all").adapter
    assert wide.prefix_spec() != other.prefix_spec()
    assert wide.prefix_spec() != wide.prefix_spec(grid_sizes=(2,))


def test_with_the_summary_alone_other_tokens_are_not_looked_at() -> None:
    """It is what all tokens would give if every one of them were the class token."""
    alone, whole = _encoder(tokens="summary"), _encoder(tokens="all")
    kept = alone.compute_prefix(make_clips(alone.tower, 1, 2))
    expected = whole(kept.expand(*kept.shape[:-2], 17, -1))
    _close(alone(kept).clip, expected.clip)
    gridded = alone.compute_prefix(make_clips(alone.tower, 1, 2), grid_sizes=(2,))
    _close(gridded[..., :1, :], kept)
    gridded[..., 1:, :] += 1
    _close(alone(gridded, grid_sizes=(2,)).clip, alone(kept).clip, 1e-6)


@both_pools
def test_with_the_summary_alone_patch_tokens_stay_frozen(pool: str) -> None:
    encoder = _encoder(pool=pool, tokens="summary")
    pixels = make_clips(encoder.tower, 1, 2)
    frozen = AdaptedEncoder(encoder.tower, make_adapter("frozen", encoder.tower))
    got, expected = (_features(e, pixels, cells=2) for e in (encoder, frozen))
    _close(got.grids[2], expected.grids[2])
    assert (got.frames - expected.frames).abs().max() > 1e-2


@both_pools
@both_modes
@pytest.mark.parametrize("more", [False, True])
def test_untrained_it_is_the_frozen_encoder(tokens: str, more: bool, pool: str) -> None:
    encoder = _encoder(pool=pool, moved=False, tokens=tokens, temporal_embedding=more, ln_post=more)
    pixels = make_clips(encoder.tower, 1, 2)
    frames = encoder.tower.encode(pixels)
    got = _features(encoder, pixels)
    torch.testing.assert_close(got.frames, frames, rtol=0, atol=2e-6)
    torch.testing.assert_close(got.clip, frames.mean(2), rtol=0, atol=2e-6)


@both_modes
def test_no_gradient_reaches_the_tower_even_where_it_would_take_one(tokens: str) -> None:
    encoder = _encoder(tokens=tokens)
    parts = tower_tensors(encoder.tower)
    for part in parts:
        part.requires_grad_()
    pixels = make_clips(encoder.tower, 1, 2).requires_grad_()
    levels = encoder.compute_prefix(pixels)
    assert levels.requires_grad
    encoder.adapter.side_branch(encoder.tower, levels).square().sum().backward()
    assert all(part.grad is None for part in [*parts, pixels])
    assert any(p.grad is not None and p.grad.any() for p in encoder.adapter.parameters())


@both_pools
@both_modes
def test_every_parameter_is_trained_but_the_first_gate(tokens: str, pool: str) -> None:
    encoder = _encoder(pool=pool, moved=False, tokens=tokens, temporal_embedding=True, ln_post=True)
    pixels = make_clips(encoder.tower, 1, 2)
    optimizer = torch.optim.AdamW(encoder.adapter.parameters(), lr=1e-2)
    for step in range(3):
        optimizer.zero_grad()
        (_features(encoder, pixels).clip - 1).square().sum().backward()
        started = {
            name
            for name, p in encoder.adapter.named_parameters()
            if p.grad is not None and p.grad.any()
        }
        first = {"up.weight", "up.bias", "ln_post.weight", "ln_post.bias"}
        assert started == (first if step == 0 else set(encoder.adapter.state_dict()))
        optimizer.step()
    gradient = encoder.adapter.get_parameter("gates").grad
    assert gradient is not None
    assert gradient.ne(0).tolist() == [[False, True, True]]


@both_modes
@pytest.mark.parametrize(("every", "reach"), [(1, 3), (2, 2), (3, 1)])
def test_frames_reach_one_neighbour_per_level(tokens: str, every: int, reach: int) -> None:
    encoder = _encoder(tokens=tokens, every=every, frames=9)
    pixels = make_clips(encoder.tower, 1, 1, frames=9)
    other = pixels.clone()
    other[:, :, 4] += 1
    change = (_features(encoder, pixels).frames - _features(encoder, other).frames).abs()
    moved = change.amax((0, 1, 3)).nonzero().flatten().tolist()
    assert moved == list(range(4 - reach, 5 + reach))
    assert encoder.adapter.temporal_radius == 1


@both_modes
@every_frames
def test_without_temporal_embedding_any_number_of_frames_is_right(tokens: str, frames: int) -> None:
    """Built for 5 frames it computes what the same parameters built for that number do."""
    used, built = _encoder(tokens=tokens), _encoder(tokens=tokens, frames=frames)
    built.adapter.load_state_dict(used.adapter.state_dict())
    pixels = make_clips(used.tower, 1, 2, frames=frames)
    got, expected = _features(used, pixels), _features(built, pixels)
    assert torch.equal(got.frames, expected.frames)
    assert got.frames.shape[2] == frames
    assert got.clip.isfinite().all()


def test_one_frame_alone_has_no_neighbours() -> None:
    encoder = _encoder(frames=1)
    assert encoder.adapter.temporal_radius == 0
    pixels = make_clips(encoder.tower, 1, 2, frames=1)
    got = _features(encoder, pixels)
    assert torch.equal(got.clip, got.frames[:, :, 0])
    still = _features(encoder, pixels.expand(-1, -1, 7, -1, -1, -1)).frames
    # the middle of a long still clip sees itself on both sides, a single frame sees zeros
    assert (still[:, :, 3] - got.frames[:, :, 0]).abs().max() > 1e-3


def test_with_temporal_embedding_other_numbers_of_frames_are_refused() -> None:
    encoder = _encoder(temporal_embedding=True)
    with pytest.raises(AdapterError, match=r"clips of 4 frames.*built for 5"):
        _features(encoder, make_clips(encoder.tower, 1, 2, frames=4))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, 4_178_316),
        ({"width": 128}, 2_300_428),
        ({"width": 192}, 4_178_316),
        ({"every": 2}, 2_163_462),
        ({"width": 256}, 6_547_724),
        ({"tokens": "summary"}, 4_178_316),
        ({"ln_post": True, "temporal_embedding": True}, 4_178_316 + 2 * 768 + 8 * 192),
    ],
    ids=str,
)
def test_parameters_of_vit_b16(options: dict[str, Any], expected: int) -> None:
    assert size("m-adapter", vit_b16(), **options) == expected
    d, r, s = 768, options.get("width", 192), 12 // options.get("every", 1)
    formula = s * (2 * d + d * r + 5 * r * r + 13 * r + 1) + 2 * r + r * d + d
    assert formula == (4_178_316 if "ln_post" in options else expected)


def test_parameters_of_vit_l14() -> None:
    assert size("m-adapter", vit_l14()) == 14_548_504


def test_start_of_the_temporal_taps() -> None:
    """Uniform within 1 / sqrt(3), as PyTorch's own depthwise convolution of three taps."""
    adapter = make_adapter("m-adapter", tiny_tower(), seeds=(1, 2), width=512)
    taps = adapter.get_parameter("mixers.0.time_conv.weight").detach()
    assert taps.shape == (2, 512, 3)
    bound = 3**-0.5
    assert 0.98 * bound < taps.abs().max() <= bound
    assert abs(float(taps.mean())) < 0.03
    assert not adapter.get_parameter("mixers.0.time_conv.bias").any()


def test_tokens_of_another_number_of_episodes_are_refused() -> None:
    tower = tiny_tower()
    encoder = AdaptedEncoder(tower, make_adapter("m-adapter", tower, seeds=(1, 2)))
    with pytest.raises(AdapterError, match=r"1 episodes.*holds 2"):
        _features(encoder, make_clips(tower, 1, 2))


@pytest.mark.parametrize(
    ("options", "match"),
    [({"every": 4}, r"every=4: .* 3 blocks"), ({"width": 513}, r"width=513: .* tower's 32")],
)
def test_options_that_do_not_fit_the_encoder(options: dict[str, int], match: str) -> None:
    with pytest.raises(AdapterError, match=match):
        make_adapter("m-adapter", tiny_tower(), **options)


def test_it_says_that_it_is_a_reconstruction() -> None:
    found = registry.load_method("adapters", "m-adapter")
    assert found.display_note == "reconstruction"
    row = next(row for row in registry.list_methods("adapters") if row.name == "m-adapter")
    assert "reconstruction" in row.summary
    with pytest.raises(UnknownNameError, match="none exist"):
        found.parse({"preset": "k400"})
