"""Blocks computed with other maps, and copies of frozen tensors."""

from __future__ import annotations

import pytest
import torch

from fewshot_i2v.errors import AdapterError
from fewshot_i2v.models.adapters.base.adapted_encoder import AdaptedEncoder
from fewshot_i2v.models.adapters.base.blockwise import BlockMaps, rounded_like
from fewshot_i2v.models.adapters.base.layers import EpisodeLayerNorm, repeat_per_episode
from fewshot_i2v.models.encoders.block import FrozenBlock, LayerNorm
from tests.models.tiny_adapters import count, make_adapter, make_clips, make_tokens, tower_tensors
from tests.tiny import tiny_tower

MERGED = pytest.mark.parametrize("name", ["bitfit", "full", "lora"])
EVERY = pytest.mark.parametrize(
    "name", ["adaptformer", "bitfit", "full", "lora", "temporal-embedding"]
)


class _Nothing(BlockMaps):
    def merged(self, frozen: FrozenBlock, episode: int) -> FrozenBlock:
        return frozen


def test_without_own_maps_it_is_the_frozen_block_bit_for_bit() -> None:
    x = make_tokens(2, 2)
    for block in tiny_tower().blocks:
        assert torch.equal(_Nothing()(block, x), block.forward(x))


@MERGED
def test_merging_leaves_no_graph_and_no_parameter(name: str) -> None:
    tower = tiny_tower()
    merged, rest = make_adapter(name, tower, seeds=(0, 1)).merge(tower, 1)
    assert count(rest) == 0
    assert merged is not tower
    assert not any(tensor.requires_grad for tensor in tower_tensors(merged))
    for episode in (-1, 2):
        with pytest.raises(AdapterError, match=f"episode {episode}: this adapter holds 0 to 1"):
            make_adapter(name, tower, seeds=(0, 1)).merge(tower, episode)


@MERGED
def test_merging_keeps_the_type_of_the_tower(name: str) -> None:
    tower = tiny_tower().to("cpu", torch.bfloat16)
    merged, _ = make_adapter(name, tower).merge(tower)
    for ours, frozen in zip(tower_tensors(merged), tower_tensors(tower), strict=True):
        assert ours.dtype == frozen.dtype
        torch.testing.assert_close(ours, frozen, rtol=0, atol=0)


@EVERY
@pytest.mark.parametrize("inside", [True, False])
def test_shapes_without_values_are_enough(name: str, inside: bool) -> None:
    """Built, run and merged on the meta device, as costs are counted."""
    tower = tiny_tower().to("meta", torch.float32)
    if inside:
        with torch.device("meta"):
            adapter = make_adapter(name, tower)
    else:
        adapter = make_adapter(name, tower).to("meta")
    assert count(adapter) == count(make_adapter(name, tiny_tower()))
    encoder = AdaptedEncoder(tower, adapter)
    features = encoder(
        encoder.compute_prefix(make_clips(tower, 1, 2).to("meta"), grid_sizes=(2,)), grid_sizes=(2,)
    )
    assert features.clip.is_meta
    assert features.clip.shape == (1, 2, tower.width)
    if adapter.mergeable:
        merged, _ = adapter.merge(tower)
        assert all(tensor.is_meta for tensor in tower_tensors(merged))


def test_copies_are_contiguous_float32_and_share_no_memory() -> None:
    frozen = torch.arange(6, dtype=torch.bfloat16).reshape(2, 3).T
    every = repeat_per_episode(frozen, 4)
    assert every.shape == (4, 3, 2)
    assert every.is_contiguous()
    assert every.dtype == torch.float32
    every[1] = 0
    assert torch.equal(every[0], frozen.float())
    assert not repeat_per_episode(frozen, 1).requires_grad


def test_a_layer_norm_of_a_hollow_tower_is_hollow() -> None:
    hollow = torch.empty(6, device="meta")
    norm = EpisodeLayerNorm(LayerNorm(hollow, hollow), 2)
    assert norm.weight.is_meta
    assert norm.weight.shape == (2, 6)


def test_a_rounded_weight_has_its_own_memory() -> None:
    value = torch.ones(3)
    merged = rounded_like(value, torch.zeros(3))
    value += 1
    assert torch.equal(merged, torch.ones(3))
