"""Models whose blocks cannot be walked work frozen, and say so when asked for more."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fewshot_i2v.errors import AdapterError, EncoderError
from fewshot_i2v.models.adapters.base.adapted_encoder import AdaptedEncoder
from fewshot_i2v.models.adapters.base.adapter import Adapter, AdapterOptions
from fewshot_i2v.models.encoders.block import FrozenBlock
from fewshot_i2v.models.encoders.opaque_tower import OpaqueTower
from fewshot_i2v.models.encoders.open_clip_conversion import tower_from_open_clip

HALF = torch.full((3,), 0.5)
RESNET: dict[str, Any] = {"layers": [1, 1, 1, 1], "width": 8, "head_width": 8}
UNKNOWN: dict[str, tuple[dict[str, Any], str]] = {
    "resnet": (RESNET, "it is a ResNet, which has no transformer blocks"),
    "attention-pooled": (
        {"attentional_pool": True, "attn_pooler_heads": 2, "output_tokens": True},
        "pools by attention",
    ),
    "qk-norm": ({"qk_norm": True}, "CustomResidualAttentionBlock"),
    "scaled-cosine": (
        {"block_type": "custom", "scale_heads": True},
        "CustomResidualAttentionBlock",
    ),
    "norm-before-mean": ({"pool_type": "avg"}, "its pooling"),
    "tanh-gelu": ({"act_kwargs": {"approximate": "tanh"}}, "neither GELU nor QuickGELU"),
}
Visual = Callable[..., Any]
Random = Callable[..., Tensor]


class Untrained(Adapter):
    """The frozen encoder as it is."""

    source = "none"
    identity_at_init = True
    temporal = False

    @property
    def requires_blocks(self) -> bool:
        return False

    def block(self, i: int, frozen: FrozenBlock, x: Tensor) -> Tensor:
        return frozen.forward(x)


class NeedsBlocks(Untrained):
    """One that works inside blocks."""

    @property
    def requires_blocks(self) -> bool:
        return True


def build(visual: Any) -> OpaqueTower:  # noqa: ANN401 - an open_clip module, which has no types
    tower = tower_from_open_clip(visual, mean=HALF, std=HALF)
    assert isinstance(tower, OpaqueTower)
    return tower


@pytest.fixture
def plain(make_visual: Visual) -> OpaqueTower:
    return build(make_visual(**RESNET))


@pytest.mark.parametrize("kind", UNKNOWN)
def test_features_are_the_output_of_the_whole_model(
    kind: str, make_visual: Visual, random: Random
) -> None:
    changes, reason = UNKNOWN[kind]
    visual, pixels = make_visual(**changes), random((2, 3, 3, 32, 32))
    tower = build(visual)
    assert reason in tower.reason
    with torch.no_grad():
        expected = visual(pixels.flatten(0, 1))
    expected = (expected[0] if isinstance(expected, tuple) else expected).unflatten(0, (2, 3))
    assert (tower.layers, tower.blocks, tower.width) == (0, (), 24)
    assert torch.equal(tower.patch_embed(pixels), expected.unsqueeze(-2))
    assert torch.equal(tower.encode(pixels), expected)


def test_a_frozen_adapter_works_through_the_common_encoder(
    plain: OpaqueTower, random: Random
) -> None:
    encoder = AdaptedEncoder(plain, Untrained(plain, AdapterOptions(), frames=4, seeds=[0]))
    pixels = random((1, 2, 4, 3, 32, 32))
    assert encoder.adapter.prefix_spec().is_fully_frozen(plain)
    features = encoder(encoder.compute_prefix(pixels))
    assert torch.equal(features.frames, plain.encode(pixels))
    assert torch.equal(features.clip, features.frames.mean(-2))
    assert not list(encoder.parameters())


def test_adapting_it_is_refused_in_words(plain: OpaqueTower, random: Random) -> None:
    with pytest.raises(AdapterError, match="those of this encoder cannot be adapted: it"):
        NeedsBlocks(plain, AdapterOptions(), frames=4, seeds=[0])
    adapter = Untrained(plain, AdapterOptions(), frames=4, seeds=[0])
    encoder = AdaptedEncoder(plain, adapter)
    with pytest.raises(AdapterError, match="2 x 2 cells, and this encoder has no patch tokens"):
        encoder.compute_prefix(random((1, 1, 4, 3, 32, 32)), grid_sizes=(2,))
    for name in ("heads", "patch", "grid"):
        with pytest.raises(EncoderError, match="it is a ResNet, which has no transformer blocks"):
            getattr(plain, name)
    with pytest.raises(EncoderError, match="no blocks"):
        plain.with_blocks([])


def test_other_input_sizes_are_refused(plain: OpaqueTower, random: Random) -> None:
    assert plain.resized(32) is plain
    with pytest.raises(EncoderError, match="32 pixels only, not 64"):
        plain.resized(64)
    with pytest.raises(EncoderError, match="takes 32 x 32"):
        plain.patch_embed(random((1, 3, 64, 64)))


def test_the_model_is_copied_frozen_and_not_touched(make_visual: Visual, random: Random) -> None:
    visual, pixels = make_visual(**RESNET).train(), random((2, 3, 32, 32))
    before = copy.deepcopy(visual.state_dict())
    tower = build(visual)
    features = tower.encode(pixels)
    assert not features.requires_grad
    assert visual.training
    assert all(torch.equal(before[name], value) for name, value in visual.state_dict().items())
    nn.init.zeros_(visual.conv1.weight)
    assert torch.equal(tower.encode(pixels), features)


def test_bfloat16_is_another_copy(plain: OpaqueTower, random: Random) -> None:
    pixels = random((2, 3, 32, 32))
    low = plain.to("cpu", torch.bfloat16)
    assert plain.to("cpu", torch.float32) is plain
    assert (low.dtype, low.mean.dtype, plain.dtype) == (
        torch.bfloat16,
        torch.float32,
        torch.float32,
    )
    exact, rounded = plain.encode(pixels), low.encode(pixels.bfloat16()).float()
    assert (rounded - exact).norm() / exact.norm() < 3e-2


def test_models_without_one_feature_per_image_are_refused(make_visual: Visual) -> None:
    with pytest.raises(EncoderError, match="expected one feature vector per image"):
        tower_from_open_clip(make_visual(pool_type="none"), mean=HALF, std=HALF)
    with pytest.raises(EncoderError, match="only square input"):
        tower_from_open_clip(make_visual(image_size=[32, 16]), mean=HALF, std=HALF)
