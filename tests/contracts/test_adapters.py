"""What every adapter promises; each one that is found is tested, with its default options."""

from __future__ import annotations

import re
import typing
from dataclasses import replace

import pydantic
import pytest
import torch

from fewshot_i2v import registry
from fewshot_i2v.errors import AdapterError
from fewshot_i2v.models.adapters.base.adapted_encoder import AdaptedEncoder
from fewshot_i2v.models.adapters.base.adapter import Adapter, FrameOrder
from fewshot_i2v.models.encoders.tower import Tower
from tests.contracts._adapters import (
    CELLS,
    CLIPS,
    NAMES,
    ROWS,
    TRAINED,
    assert_same,
    build,
    every_adapter,
    every_trained_adapter,
    of_episode,
    run,
    the_pixels,
    the_tower,
)
from tests.models.tiny_adapters import FRAMES, make_adapter, size, tower_tensors, vit_b16, vit_l14


def test_adapters_of_the_package_of_a_folder_and_of_another_package_are_found() -> None:
    assert {"frozen", "st-adapter", "aim", "zeroi2v"} <= set(NAMES)
    origins = {row.name: row.origin for row in ROWS}
    assert "dropped" in origins["scale-shift"]
    assert origins["temporal-shift"] == "video_shift:TemporalShift"
    assert "frozen" not in TRAINED
    assert len(TRAINED) >= 5


@every_adapter
def test_it_says_what_it_is(name: str) -> None:
    row = next(row for row in ROWS if row.name == name)
    adapter = registry.load_method("adapters", name)
    assert 20 <= len(row.summary) < 110
    assert re.search("http|unpublished", adapter.source)
    assert adapter.frame_order in typing.get_args(FrameOrder)
    assert isinstance(adapter.display_note, str)
    for flag in ("identity_at_init", "mergeable", "one_episode_at_a_time"):
        assert isinstance(getattr(adapter, flag), bool)


@every_adapter
def test_its_documentation_has_the_number_of_its_parameters(name: str) -> None:
    """Of ViT-B/16 and clips of 8 frames: "Parameters: 0" or "Parameters of an episode: ..."."""
    documentation = registry.load_method("adapters", name).__doc__ or ""
    paragraphs = [" ".join(part.split()) for part in documentation.split("\n\n")]
    said = [part for part in paragraphs if re.match(r"Parameters( of an episode)?: ", part)]
    assert len(said) == 1
    expected = size(name, vit_b16())
    assert f"{expected:,}" in re.findall(r"\d[\d,]*\d|\d", said[0])
    assert "ViT-B/16" in said[0] or expected == 0


def _fits(name: str, tower: Tower, preset: str) -> bool:
    try:
        return size(name, tower, preset=preset) > 0
    except AdapterError:
        return False


@every_adapter
def test_its_presets_fit_an_encoder_and_say_where_they_are_from(name: str) -> None:
    for preset, facts in registry.load_method("adapters", name).presets.items():
        assert len(facts.source) > 20
        assert any(_fits(name, tower, preset) for tower in (vit_b16(), vit_l14()))


@every_adapter
def test_untrained_it_is_the_frozen_encoder(name: str) -> None:
    """For static clips, where an adapter does not claim it for all.

    A `pool` of its own makes another clip feature of the same frames; there it is not compared.
    """
    pixels = the_pixels()
    encoder = build(name, 3, 4)
    if not encoder.adapter.identity_at_init:
        pixels = pixels[:, :1].expand(-1, FRAMES, -1, -1, -1)
    frames = the_tower().encode(pixels)
    frozen = run(build("frozen"), pixels, cells=CELLS)
    features = run(encoder, pixels, cells=CELLS)
    for episode in range(2):
        torch.testing.assert_close(features.frames[episode], frames, rtol=0, atol=2e-6)
        torch.testing.assert_close(
            features.grids[CELLS][episode], frozen.grids[CELLS][0], rtol=0, atol=2e-6
        )
        if type(encoder.adapter).pool_frames is Adapter.pool_frames:
            torch.testing.assert_close(features.clip[episode], frames.mean(1), rtol=0, atol=2e-6)


@every_adapter
def test_shapes_and_types_of_features(name: str) -> None:
    features = run(build(name, 1, 2, 3), the_pixels())
    assert features.frames.shape == (3, CLIPS, FRAMES, the_tower().width)
    assert features.clip.shape == (3, CLIPS, the_tower().width)
    assert features.frames.dtype == features.clip.dtype == torch.float32
    assert not features.grids


@every_adapter
def test_a_grid_of_patch_tokens_on_request(name: str) -> None:
    encoder = build(name, 1, moved=True)
    plain, gridded = run(encoder, the_pixels()), run(encoder, the_pixels(), cells=2)
    assert gridded.grids[2].shape == (1, CLIPS, FRAMES, 4, the_tower().width)
    assert_same(replace(gridded, grids={}), plain)


@every_adapter
def test_a_cell_is_the_final_norm_of_the_mean_of_its_patches(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three cells on a side of four patches: neighbours share the patches between them."""
    encoder, side = build(name, 1, 2, moved=True), the_tower().grid
    cells = run(encoder, the_pixels(), cells=CELLS).grids[CELLS]
    with monkeypatch.context() as without_norm:
        without_norm.setattr(encoder.adapter, "final_norm", lambda _tower, x: x)
        tokens = run(encoder, the_pixels(), cells=side).grids[side]
    patches = tokens.reshape(*tokens.shape[:-2], side, side, -1)
    shares = [slice(0, 2), slice(1, 3), slice(2, 4)]
    means = [patches[..., rows, columns, :].mean((-3, -2)) for rows in shares for columns in shares]
    expected = encoder.adapter.final_norm(the_tower(), torch.stack(means, -2))
    torch.testing.assert_close(cells, expected, rtol=1e-5, atol=1e-5)


@every_adapter
def test_global_random_states_are_left_alone(name: str) -> None:
    before = torch.get_rng_state()
    run(build(name, 1, 2), the_pixels())
    assert torch.equal(torch.get_rng_state(), before)


@every_adapter
def test_clips_do_not_meet(name: str) -> None:
    """Two clips at once are two batches of one, and changing places changes places."""
    encoder = build(name, 1, 2, moved=True)
    both = run(encoder, the_pixels(), cells=CELLS)
    for clip in range(CLIPS):
        alone = run(encoder, the_pixels()[clip : clip + 1], cells=CELLS)
        assert_same(alone, both.map(lambda part, clip=clip: part[:, clip, None]))  # type: ignore[misc]
    swapped = run(encoder, the_pixels().flip(0), cells=CELLS)
    assert_same(swapped, both.map(lambda part: part.flip(1)))


@every_trained_adapter
def test_tokens_of_another_number_of_episodes_are_refused(name: str) -> None:
    encoder = build(name, 1, 2)
    reading = encoder.adapter.prefix_spec()
    if reading.is_fully_frozen(the_tower()) and not reading.levels:
        pytest.skip("its blocks are all frozen: the axis is checked where its own layers begin")
    kept = encoder.compute_prefix(the_pixels())
    with pytest.raises(AdapterError, match=r"1 episodes.*holds 2"):
        encoder(kept[None])


@every_adapter
def test_bfloat16_is_near_float32_and_masters_stay_float32(name: str) -> None:
    exact = build(name, 1, moved=True)
    half = AdaptedEncoder(the_tower().to("cpu", torch.bfloat16), exact.adapter)
    expected = run(exact, the_pixels(), cells=CELLS)
    features = run(half, the_pixels().bfloat16(), cells=CELLS)
    pairs = (
        (features.frames, expected.frames),
        (features.clip, expected.clip),
        (features.grids[CELLS], expected.grids[CELLS]),
    )
    for got, want in pairs:
        assert got.dtype == torch.float32
        assert (got - want).norm() < 3e-2 * want.norm()
    if name in TRAINED:
        torch.autograd.backward(features.clip.square().sum())
        parameters = list(exact.adapter.parameters())
        assert {p.dtype for p in parameters} == {torch.float32}
        assert all(p.grad is None or p.grad.isfinite().all() for p in parameters)


@every_adapter
def test_an_unknown_option_is_refused(name: str) -> None:
    options = registry.load_method("adapters", name).Options
    with pytest.raises(pydantic.ValidationError, match="no_such_option"):
        options(no_such_option=1)


@every_adapter
def test_no_seed_is_an_error(name: str) -> None:
    with pytest.raises(AdapterError, match="one seed per episode"):
        make_adapter(name, the_tower(), seeds=())


@every_adapter
def test_a_tower_without_blocks(name: str) -> None:
    tower = the_tower().with_blocks([])
    if build(name).adapter.requires_blocks:
        with pytest.raises(AdapterError, match="works inside transformer blocks"):
            make_adapter(name, tower)
    else:
        assert make_adapter(name, tower).first_trained_block == 0


@every_adapter
def test_merging_changes_nothing_but_the_cost(name: str) -> None:
    encoder = build(name, 1, 2, moved=True)
    if not encoder.adapter.mergeable:
        with pytest.raises(AdapterError, match="cannot be merged"):
            encoder.adapter.merge(encoder.tower)
        return
    expected = run(encoder, the_pixels(), cells=CELLS)
    for episode in range(2):
        tower, rest = encoder.adapter.merge(encoder.tower, episode)
        assert isinstance(rest, Adapter)
        assert sum(p.numel() for p in rest.parameters()) * 2 < sum(
            p.numel() for p in encoder.adapter.parameters()
        )
        merged = run(AdaptedEncoder(tower, rest), the_pixels(), cells=CELLS)
        assert_same(merged, of_episode(expected, episode), 1e-4)


@every_adapter
def test_merging_twice_gives_the_same_and_leaves_adapter_and_tower_as_they_are(name: str) -> None:
    encoder = build(name, 1, 2, moved=True)
    if not encoder.adapter.mergeable:
        pytest.skip("it cannot be merged")
    before = [t.clone() for t in tower_tensors(the_tower())]
    trained = [p.detach().clone() for p in encoder.adapter.parameters()]
    (tower, rest), (again, rest_again) = (encoder.adapter.merge(the_tower(), 1) for _ in range(2))
    pairs = [
        *zip(tower_tensors(tower), tower_tensors(again), strict=True),
        *zip(rest.parameters(), rest_again.parameters(), strict=True),
        *zip(tower_tensors(the_tower()), before, strict=True),
        *zip(encoder.adapter.parameters(), trained, strict=True),
    ]
    assert all(torch.equal(one, other) for one, other in pairs)
    if rest.mergeable:
        last, remains = rest.merge(tower)
        merged = run(AdaptedEncoder(tower, rest), the_pixels(), cells=CELLS)
        twice = run(AdaptedEncoder(last, remains), the_pixels(), cells=CELLS)
        assert_same(twice, merged, 1e-6)


@pytest.mark.gpu
@every_adapter
def test_on_a_gpu(name: str) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    encoder = build(name, 1, 2, moved=True)
    expected = run(encoder, the_pixels(), cells=CELLS)
    for dtype, limit in ((torch.float32, 1e-3), (torch.bfloat16, 3e-2)):
        tower = the_tower().to("cuda", dtype)
        on_gpu = AdaptedEncoder(tower, encoder.adapter.cuda())
        features = run(on_gpu, the_pixels().to("cuda", dtype), cells=CELLS)
        for part in ("frames", "clip", "grid"):
            got, want = getattr(features, part).cpu(), getattr(expected, part)
            assert (got - want).norm() < limit * want.norm()
        if name in TRAINED:
            torch.autograd.backward(features.frames.square().sum())
