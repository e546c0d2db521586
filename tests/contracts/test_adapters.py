"""What every adapter promises; each one that is found is tested, with its default options."""

from __future__ import annotations

import functools

import pydantic
import pytest
import torch
from torch import Tensor

from fewshot_i2v import plugins
from fewshot_i2v.adapters._contract import AdaptedEncoder, Adapter, Features
from fewshot_i2v.encoders.tower import Tower
from fewshot_i2v.errors import AdapterError
from tests.tiny import tiny_tower
from tests.tiny_adapters import FRAMES, make_adapter, make_clips, perturb, tower_tensors

NAMES = [row.name for row in plugins.found("adapters")]
every_adapter = pytest.mark.parametrize("name", NAMES)
CLIPS = 2


@functools.cache
def _tower() -> Tower:
    return tiny_tower()


@functools.cache
def _pixels() -> Tensor:
    return make_clips(_tower(), CLIPS)


def _encoder(name: str, *seeds: int, moved: bool = False, frames: int = FRAMES) -> AdaptedEncoder:
    adapter = make_adapter(name, _tower(), frames=frames, seeds=seeds or (0,))
    if moved:
        perturb(adapter, seeds or (0,))
    return AdaptedEncoder(_tower(), adapter)


def _run(encoder: AdaptedEncoder, pixels: Tensor, *, grid: bool = False) -> Features:
    tokens = encoder.prefix(pixels, grid=grid)
    features: Features = encoder(tokens.expand(encoder.adapter.episodes, *tokens.shape), grid=grid)
    return features


def _losses(encoder: AdaptedEncoder, pixels: Tensor) -> Tensor:
    """One loss per episode, (E,), that every feature enters."""
    features = _run(encoder, pixels, grid=True)
    parts = [features.frames, features.clip]
    parts += [] if features.grid is None else [features.grid]
    targets = torch.linspace(-1, 1, _tower().width)
    return torch.stack([(part - targets).square().flatten(1).mean(1) for part in parts]).sum(0)


def _train(encoder: AdaptedEncoder, steps: int) -> None:
    optimizer = torch.optim.AdamW(encoder.adapter.parameters(), lr=1e-2)
    for _ in range(steps):
        optimizer.zero_grad()
        _losses(encoder, _pixels()).sum().backward()
        optimizer.step()


def _same(got: Features, expected: Features, limit: float = 1e-5) -> None:
    close = functools.partial(torch.testing.assert_close, rtol=limit, atol=limit)
    close(got.frames, expected.frames)
    close(got.clip, expected.clip)


def _trained(name: str) -> bool:
    return any(True for _ in _encoder(name).adapter.parameters())


TRAINED = [name for name in NAMES if _trained(name)]
every_trained_adapter = pytest.mark.parametrize("name", TRAINED)


def test_adapters_are_found_and_some_are_trained() -> None:
    assert {"frozen", "st-adapter", "aim", "zeroi2v"} <= set(NAMES)
    assert "frozen" not in TRAINED
    assert len(TRAINED) >= 3


@every_adapter
def test_it_says_what_it_is(name: str) -> None:
    row = next(row for row in plugins.found("adapters") if row.name == name)
    adapter = plugins.load("adapters", name)
    assert 20 < len(row.summary) < 110
    assert "http" in adapter.source
    assert "Parameters" in adapter.__doc__
    for flag in ("identity_at_start", "mergeable", "temporal"):
        assert isinstance(getattr(adapter, flag), bool)


@every_adapter
def test_untrained_it_is_the_frozen_encoder(name: str) -> None:
    """For static clips, where an adapter does not claim it for all."""
    pixels = _pixels()
    encoder = _encoder(name, 3, 4)
    if not encoder.adapter.identity_at_start:
        pixels = pixels[:, :1].expand(-1, FRAMES, -1, -1, -1)
    frames = _tower().encode(pixels)
    features = _run(encoder, pixels)
    for episode in range(2):
        torch.testing.assert_close(features.frames[episode], frames, rtol=0, atol=2e-6)


@every_adapter
def test_shapes_and_types_of_features(name: str) -> None:
    features = _run(_encoder(name, 1, 2, 3), _pixels())
    assert features.frames.shape == (3, CLIPS, FRAMES, _tower().width)
    assert features.clip.shape == (3, CLIPS, _tower().width)
    assert features.frames.dtype == features.clip.dtype == torch.float32
    assert features.grid is None


@every_adapter
def test_a_grid_of_patch_tokens_on_request(name: str) -> None:
    encoder = _encoder(name, 1, moved=True)
    plain, gridded = _run(encoder, _pixels()), _run(encoder, _pixels(), grid=True)
    assert gridded.grid is not None
    assert gridded.grid.shape == (1, CLIPS, FRAMES, _tower().grid ** 2, _tower().width)
    _same(gridded, plain)


@every_adapter
def test_only_its_own_parameters_are_trained_and_the_tower_stays_bit_identical(name: str) -> None:
    before = [tensor.clone() for tensor in tower_tensors(_tower())]
    encoder = _encoder(name, 1)
    own = [id(p) for p in encoder.adapter.parameters()]
    assert [id(p) for p in encoder.parameters()] == own
    if own:
        _train(encoder, 2)
    for tensor, old in zip(tower_tensors(_tower()), before, strict=True):
        assert torch.equal(tensor, old)
        assert not tensor.requires_grad
        assert tensor.grad is None


@every_trained_adapter
def test_every_parameter_of_every_episode_has_a_gradient_after_two_steps(name: str) -> None:
    encoder = _encoder(name, 1, 2)
    _train(encoder, 2)
    encoder.adapter.zero_grad()
    _losses(encoder, _pixels()).sum().backward()
    for path, parameter in encoder.adapter.named_parameters():
        assert parameter.grad is not None, path
        assert (parameter.grad.flatten(1).abs().amax(1) > 0).all(), path


@every_trained_adapter
def test_episodes_together_are_each_alone(name: str) -> None:
    """Start, features, gradients and five optimiser steps."""
    seeds = (5, 6, 7)
    together = _encoder(name, *seeds)
    _losses(together, _pixels()).sum().backward()
    for slot, seed in enumerate(seeds):
        alone = _encoder(name, seed)
        _losses(alone, _pixels()).sum().backward()
        pairs = zip(together.adapter.parameters(), alone.adapter.parameters(), strict=True)
        for ours, theirs in pairs:
            assert torch.equal(ours[slot], theirs[0])
            assert ours.grad is not None
            assert theirs.grad is not None
            torch.testing.assert_close(ours.grad[slot], theirs.grad[0], rtol=1e-5, atol=1e-5)
    _train(together, 5)
    features = _run(together, _pixels())
    for slot, seed in enumerate(seeds):
        alone = _encoder(name, seed)
        _train(alone, 5)
        mine = Features(features.frames[slot, None], features.clip[slot, None])
        _same(_run(alone, _pixels()), mine)


@every_trained_adapter
def test_one_episode_has_no_gradient_from_the_loss_of_another(name: str) -> None:
    encoder = _encoder(name, 1, 2, 3, moved=True)
    _losses(encoder, _pixels())[1].backward()
    for parameter in encoder.adapter.parameters():
        assert parameter.shape[0] == 3
        assert parameter.grad is not None
        assert not parameter.grad[0].any()
        assert not parameter.grad[2].any()


@every_trained_adapter
def test_another_seed_is_another_start(name: str) -> None:
    first, second, again = (
        torch.cat([p.flatten() for p in _encoder(name, seed).adapter.parameters()])
        for seed in (1, 2, 1)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, second)


@every_adapter
def test_global_random_states_are_left_alone(name: str) -> None:
    before = torch.get_rng_state()
    _run(_encoder(name, 1, 2), _pixels())
    assert torch.equal(torch.get_rng_state(), before)


@every_adapter
def test_order_of_frames(name: str) -> None:
    """It matters to a temporal method and not to one that never lets frames meet."""
    encoder = _encoder(name, 1, moved=True)
    there, back = _run(encoder, _pixels()).clip, _run(encoder, _pixels().flip(1)).clip
    if encoder.adapter.temporal:
        assert (there - back).abs().max() > 1e-3
    else:
        torch.testing.assert_close(there, back, rtol=0, atol=1e-5)


@every_adapter
def test_clips_do_not_meet(name: str) -> None:
    """Two clips at once are two batches of one, and changing places changes places."""
    encoder = _encoder(name, 1, 2, moved=True)
    both = _run(encoder, _pixels())
    for clip in range(CLIPS):
        alone = _run(encoder, _pixels()[clip : clip + 1])
        _same(alone, Features(both.frames[:, clip, None], both.clip[:, clip, None]))
    swapped = _run(encoder, _pixels().flip(0))
    _same(swapped, Features(both.frames.flip(1), both.clip.flip(1)))


@every_adapter
@pytest.mark.parametrize("frames", [1, 3])
def test_other_numbers_of_frames(name: str, frames: int) -> None:
    encoder = _encoder(name, 1, moved=True, frames=frames)
    features = _run(encoder, _pixels()[:, :frames])
    assert features.frames.shape[2] == frames
    assert features.clip.isfinite().all()


@every_adapter
def test_the_prefix_can_be_computed_once_and_is_not_modified(name: str) -> None:
    encoder = _encoder(name, 1, moved=True)
    cached = encoder.prefix(_pixels())[None]
    copy = cached.clone()
    first, second = encoder(cached), encoder(cached)
    assert torch.equal(cached, copy)
    assert torch.equal(first.clip, second.clip)
    whole = encoder(encoder.prefix(_pixels(), grid=True)[None])
    _same(first, whole, 1e-6)


@every_trained_adapter
def test_tokens_of_another_number_of_episodes_are_refused(name: str) -> None:
    encoder = _encoder(name, 1, 2)
    if encoder.frozen_throughout:
        pytest.skip("its blocks are all frozen: the axis is checked where its own layers begin")
    tokens = encoder.prefix(_pixels())
    with pytest.raises(AdapterError, match=r"1 episodes.*holds 2"):
        encoder(tokens[None])


@every_adapter
def test_bfloat16_is_near_float32_and_masters_stay_float32(name: str) -> None:
    exact = _encoder(name, 1, moved=True)
    half = AdaptedEncoder(_tower().to("cpu", torch.bfloat16), exact.adapter)
    expected = _run(exact, _pixels())
    features = _run(half, _pixels().bfloat16())
    for got, want in ((features.frames, expected.frames), (features.clip, expected.clip)):
        assert got.dtype == torch.float32
        assert (got - want).norm() < 3e-2 * want.norm()
    if name in TRAINED:
        features.clip.square().sum().backward()
        parameters = list(exact.adapter.parameters())
        assert {p.dtype for p in parameters} == {torch.float32}
        assert all(p.grad is None or p.grad.isfinite().all() for p in parameters)


@every_adapter
def test_state_round_trip(name: str) -> None:
    trained = _encoder(name, 1, 2, moved=True)
    fresh = _encoder(name, 8, 9)
    fresh.adapter.load_state_dict(trained.adapter.state_dict())
    got, expected = _run(fresh, _pixels()), _run(trained, _pixels())
    assert torch.equal(got.frames, expected.frames)
    assert torch.equal(got.clip, expected.clip)


@every_adapter
def test_an_unknown_option_is_refused(name: str) -> None:
    options = plugins.load("adapters", name).Options
    with pytest.raises(pydantic.ValidationError, match="no_such_option"):
        options(no_such_option=1)


@every_adapter
def test_no_seed_is_an_error(name: str) -> None:
    with pytest.raises(AdapterError, match="one seed per episode"):
        make_adapter(name, _tower(), seeds=())


@every_adapter
def test_a_tower_without_blocks(name: str) -> None:
    tower = _tower().with_blocks([])
    if _encoder(name).adapter.needs_blocks:
        with pytest.raises(AdapterError, match="works inside transformer blocks"):
            make_adapter(name, tower)
    else:
        assert make_adapter(name, tower).first_block == 0


@every_adapter
def test_merging_changes_nothing_but_the_cost(name: str) -> None:
    encoder = _encoder(name, 1, 2, moved=True)
    if not encoder.adapter.mergeable:
        with pytest.raises(AdapterError, match="cannot be merged"):
            encoder.adapter.merge(encoder.tower)
        return
    expected = _run(encoder, _pixels())
    for episode in range(2):
        tower, rest = encoder.adapter.merge(encoder.tower, episode)
        assert isinstance(rest, Adapter)
        assert sum(p.numel() for p in rest.parameters()) * 2 < sum(
            p.numel() for p in encoder.adapter.parameters()
        )
        mine = Features(expected.frames[episode, None], expected.clip[episode, None])
        _same(_run(AdaptedEncoder(tower, rest), _pixels()), mine, 1e-4)


@pytest.mark.gpu
@every_adapter
def test_on_a_gpu(name: str) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    encoder = _encoder(name, 1, 2, moved=True)
    expected = _run(encoder, _pixels())
    for dtype, limit in ((torch.float32, 1e-3), (torch.bfloat16, 3e-2)):
        tower = _tower().to("cuda", dtype)
        features = _run(AdaptedEncoder(tower, encoder.adapter.cuda()), _pixels().to("cuda", dtype))
        assert (features.clip.cpu() - expected.clip).norm() < limit * expected.clip.norm()
        if name in TRAINED:
            features.frames.square().sum().backward()
