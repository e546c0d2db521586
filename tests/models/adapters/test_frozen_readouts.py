"""Features of the frozen encoder beside those of the adapted one, for heads that read both."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from fewshot_i2v import registry
from fewshot_i2v.errors import AdapterError, HeadError
from fewshot_i2v.models.adapters.base import adapted_encoder
from fewshot_i2v.models.adapters.base.adapted_encoder import AdaptedEncoder
from fewshot_i2v.models.adapters.base.features import Features, concat_features
from fewshot_i2v.models.adapters.base.frozen_prefix import (
    ClipPrefixes,
    GridSizes,
    PrefixSpec,
    compute_prefix,
    finish_prefix,
    select_clips,
)
from fewshot_i2v.models.heads.prototype import PrototypeHead
from tests.models.tiny_adapters import make_adapter, make_clips, perturb
from tests.tiny import tiny_tower

GRIDS = (2, 4)


def features_of(name: str, *, pool: str = "tok", reads_frozen: bool = True) -> Features:
    """Features of two clips by a moved adapter of two episodes."""
    tower = replace(tiny_tower(), pool=pool)
    adapter = perturb(make_adapter(name, tower, seeds=(1, 2)), (1, 2), std=0.1)
    encoder = AdaptedEncoder(tower, adapter, reads_frozen=reads_frozen)
    prefix = encoder.compute_prefix(make_clips(tower, 2), grid_sizes=GRIDS)
    features: Features = encoder(prefix.expand(2, *prefix.shape), grid_sizes=GRIDS)
    return features


@pytest.mark.parametrize("pool", ["tok", "avg"])
@pytest.mark.parametrize("name", sorted(registry.method_names("adapters")))
def test_they_are_those_of_the_frozen_encoder(name: str, pool: str) -> None:
    frozen, adapted = features_of("frozen", pool=pool), features_of(name, pool=pool)
    assert adapted.frozen is not None
    torch.testing.assert_close(adapted.frozen.frames, frozen.frames)
    torch.testing.assert_close(adapted.frozen.clip, frozen.clip)
    for size in GRIDS:
        torch.testing.assert_close(adapted.frozen.grids[size], frozen.grids[size])
    assert not adapted.frozen.frames.requires_grad
    if name != "frozen":
        assert not torch.allclose(adapted.frames, frozen.frames)


@pytest.mark.parametrize("pool", ["tok", "avg"])
@pytest.mark.parametrize("grids", [(), GRIDS])
@pytest.mark.parametrize("name", sorted(registry.method_names("adapters")))
def test_computed_once_per_clip_they_are_the_same(
    monkeypatch: pytest.MonkeyPatch, name: str, grids: GridSizes, pool: str
) -> None:
    """From the clip's own pass through the tower, of which then no block is computed again."""
    tower = replace(tiny_tower(), pool=pool)
    adapter = perturb(make_adapter(name, tower, seeds=(1,)), (1,), std=0.1)
    encoder = AdaptedEncoder(tower, adapter, reads_frozen=True)
    pixels = make_clips(tower, 3)
    prefix = encoder.compute_prefix(pixels, grid_sizes=grids)[None]
    computed: Features = encoder(prefix, grid_sizes=grids)
    spec = encoder.frozen_spec(grids)
    if name in {"frozen", "m-adapter"}:  # their prefix holds it
        assert spec is None
        return
    assert spec is not None
    clips = [compute_prefix(tower, spec, pixels[i : i + 1]) for i in range(3)]
    monkeypatch.delattr(adapted_encoder, "finish_prefix")
    both = select_clips(ClipPrefixes(prefix, torch.cat(clips)[None]), slice(0, 3))
    cached: Features = encoder(both, grid_sizes=grids)
    assert cached.frozen is not None
    assert computed.frozen is not None
    assert torch.equal(cached.frozen.frames, computed.frozen.frames)
    assert torch.equal(cached.frozen.clip, computed.frozen.clip)
    assert cached.frozen.grids.keys() == set(grids)
    for size in grids:
        assert torch.equal(cached.frozen.grids[size], computed.frozen.grids[size])
    assert torch.equal(cached.frames, computed.frames)


def test_what_no_head_reads_has_no_prefix() -> None:
    tower = tiny_tower()
    assert AdaptedEncoder(tower, make_adapter("aim", tower, seeds=(1,))).frozen_spec(GRIDS) is None


def test_they_are_computed_only_where_a_head_reads_them() -> None:
    assert features_of("aim", reads_frozen=False).frozen is None


def test_they_follow_the_clips_of_the_adapted_features() -> None:
    features = features_of("aim")
    assert features.frozen is not None
    parts = [features.map(lambda x, i=i: x[:, i : i + 1]) for i in range(2)]
    assert parts[1].frozen is not None
    torch.testing.assert_close(parts[1].frozen.frames, features.frozen.frames[:, 1:])
    joined = concat_features(parts).frozen
    assert joined is not None
    torch.testing.assert_close(joined.grids[4], features.frozen.grids[4])


def prototype(tokens: str) -> PrototypeHead:
    tower = tiny_tower()
    options = PrototypeHead.Options(tokens=tokens, pooling="ordered").for_encoder(4)
    frames = make_clips(tower, 2).shape[-4]
    return PrototypeHead(options, width=tower.width, way=2, frames=frames, seeds=[0, 1])


def test_a_head_reads_the_adapted_and_the_frozen_encoder_side_by_side() -> None:
    features = features_of("aim")
    assert features.frozen is not None
    both = prototype("grid2+frozen-motion").select_tokens(features).frames
    adapted = prototype("grid2").select_tokens(features).frames
    frozen = prototype("motion").select_tokens(features.frozen).frames
    torch.testing.assert_close(both, torch.cat([adapted, frozen], -1))
    moved = prototype("grid2+motion").select_tokens(features).frames
    assert not torch.allclose(both, moved)


def test_a_head_says_which_features_are_missing() -> None:
    head = prototype("frozen-motion")
    assert head.reads_frozen
    assert not prototype("motion").reads_frozen
    with pytest.raises(HeadError, match=r"motion of the frozen encoder; .*reads_frozen"):
        head.select_tokens(features_of("aim", reads_frozen=False))


def test_pooled_levels_below_the_last_block_are_refused() -> None:
    tower = tiny_tower()
    spec = PrefixSpec(tower.layers, levels=(0,), summary_only=True)
    with pytest.raises(AdapterError, match=r"block 0 is the last .* without frozen-"):
        finish_prefix(tower, spec, torch.zeros(1, 1, 4, 1, tower.width))
