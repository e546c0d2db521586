"""What is read of the frozen tower: cells, precision, what shares a cache."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from fewshot_i2v.errors import AdapterError
from fewshot_i2v.models.adapters.base.adapted_encoder import AdaptedEncoder
from fewshot_i2v.models.adapters.base.adapter import Adapter, AdapterOptions
from fewshot_i2v.models.adapters.base.frozen_prefix import (
    PrefixSpec,
    _cell_weights,
    check_grids,
    compute_prefix,
    grid_means,
)
from fewshot_i2v.models.encoders.block import FrozenBlock
from fewshot_i2v.models.encoders.tower import Tower
from tests.models.tiny_adapters import make_adapter, make_clips
from tests.tiny import tiny_tower


@pytest.mark.parametrize(("side", "cells"), [(4, 1), (4, 2), (4, 3), (7, 3), (14, 4), (5, 5)])
def test_cells_are_those_of_adaptive_pooling(side: int, cells: int) -> None:
    patches = torch.randn(2, 3, side * side, 6, generator=torch.Generator().manual_seed(0))
    images = patches.reshape(6, side, side, 6).permute(0, 3, 1, 2)
    expected = functional.adaptive_avg_pool2d(images, cells).flatten(2).transpose(1, 2)
    torch.testing.assert_close(grid_means(patches, cells), expected.reshape(2, 3, cells**2, 6))


def test_cells_first_asked_for_in_inference_can_be_trained_through_later() -> None:
    _cell_weights.cache_clear()
    with torch.inference_mode():
        grid_means(torch.zeros(1, 16, 2), 3)
    patches = torch.ones(1, 16, 2, requires_grad=True)
    grid_means(patches, 3).sum().backward()  # type: ignore[no-untyped-call]
    assert patches.grad is not None
    assert patches.grad.sum() == pytest.approx(18)


def test_a_grid_finer_than_the_patches_is_refused() -> None:
    check_grids(tiny_tower(), (4,))
    with pytest.raises(AdapterError, match=r"5 x 5 cells: this encoder has 4 x 4 .* at most grid4"):
        check_grids(tiny_tower(), (5,))


@pytest.mark.parametrize("pool", ["tok", "avg"])
@pytest.mark.parametrize("cells", [0, 2, 3])
@pytest.mark.parametrize("name", ["frozen", "m-adapter", "lora", "adaptformer"])
def test_untrained_adapters_agree_in_bfloat16(name: str, cells: int, pool: str) -> None:
    """Each reads the same bfloat16 tokens, so that no precision is compared with another."""
    tower = replace(tiny_tower(), pool=pool).to("cpu", torch.bfloat16)
    pixels = make_clips(tower, 2).bfloat16()
    x = tower.ln_pre(tower.patch_embed(pixels))
    for block in tower.blocks:
        x = block.forward(x)
    wide = x.float()
    summary = wide[..., 0, :] if pool == "tok" else wide[..., 1:, :].mean(-2)
    options = {"tokens": "summary"} if name == "m-adapter" else {}
    encoder = AdaptedEncoder(tower, make_adapter(name, tower, **options))
    sizes = (cells,) if cells else ()
    features = encoder(encoder.compute_prefix(pixels, grid_sizes=sizes)[None], grid_sizes=sizes)
    close = {"rtol": 0, "atol": 2e-6}
    torch.testing.assert_close(features.frames[0], tower.norm_post(summary), **close)
    if cells:
        expected = tower.norm_post(grid_means(wide[..., 1:, :], cells))
        torch.testing.assert_close(features.grids[cells][0], expected, **close)


def test_what_follows_the_last_block_stays_exact() -> None:
    tower = replace(tiny_tower(), projection=torch.full((32, 8), 0.1)).to("cpu", torch.bfloat16)
    assert tower.dtype == torch.bfloat16
    assert tower.norm_post.weight.dtype == torch.float32
    assert torch.equal(tower.norm_post.weight, tiny_tower().norm_post.weight)
    assert tower.projection is not None
    assert tower.projection.unique().tolist() == [torch.tensor(0.1).item()]


def test_a_small_branch_is_not_rounded_away_in_bfloat16() -> None:
    tower = tiny_tower()
    adapter = make_adapter("m-adapter", tower)
    pixels = make_clips(tower, 2)

    def _moved(at: Tower, size: float) -> Tensor:
        drawn = torch.randn(1, 8, 32, generator=torch.Generator().manual_seed(1))
        adapter.up.load_state_dict({"weight": size * drawn, "bias": torch.zeros(1, 32)})  # type: ignore[union-attr, operator]
        encoder = AdaptedEncoder(at, adapter)
        kept = encoder.compute_prefix(pixels.to(at.dtype))[None]
        clip: Tensor = encoder(kept).clip
        return clip

    half = tower.to("cpu", torch.bfloat16)
    exact = _moved(tower, 1e-3) - _moved(tower, 0.0)
    rounded = _moved(half, 1e-3) - _moved(half, 0.0)
    assert (rounded - exact).norm() < 0.1 * exact.norm()


def test_readings_that_give_the_same_share_a_cache() -> None:
    tower = tiny_tower()
    assert PrefixSpec(0, grid_sizes=(4,)).cache_key(tower) == PrefixSpec(0)
    assert PrefixSpec(3, grid_sizes=(2,)).cache_key(tower) != PrefixSpec(3).cache_key(tower)
    levels = PrefixSpec(3, levels=(0, 1, 2))
    assert replace(levels, grid_sizes=(2,)).cache_key(tower) == levels
    assert replace(levels, grid_sizes=(2,), summary_only=True).cache_key(tower) != levels


@pytest.mark.parametrize("cells", [0, 2])
@pytest.mark.parametrize(
    "reading", [PrefixSpec(-1), PrefixSpec(0), PrefixSpec(2), PrefixSpec(3), PrefixSpec(3, (0, 2))]
)
def test_the_shape_of_a_reading_is_what_it_gives(reading: PrefixSpec, cells: int) -> None:
    tower = tiny_tower()
    asked = replace(reading, grid_sizes=(cells,) if cells else ())
    assert compute_prefix(tower, asked, make_clips(tower)).shape == asked.clip_shape(tower, 5)


class Late(Adapter):
    """Works in the last block, and believes that it changes what enters the first."""

    source = "https://example.org"
    identity_at_init = False
    frame_order = "no"

    def __init__(
        self, tower: Tower, options: AdapterOptions, *, frames: int, seeds: Sequence[int]
    ) -> None:
        super().__init__(tower, options, frames=frames, seeds=seeds)

    @property
    def first_trained_block(self) -> int:
        return 2

    def embed_tokens(self, tower: Tower, x: Tensor) -> Tensor:
        return 2 * tower.ln_pre(x)

    def block(self, i: int, frozen: FrozenBlock, x: Tensor) -> Tensor:
        return frozen.forward(x)


def test_a_change_below_the_first_trained_block_is_refused() -> None:
    tower = tiny_tower()
    with pytest.raises(
        AdapterError, match="Late has its own `embed_tokens`, which first_trained_block=2 skips"
    ):
        AdaptedEncoder(tower, Late(tower, AdapterOptions(), frames=5, seeds=[0]))
