"""The plain loop of the benchmark computes what the adapters of the same names compute."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from open_clip.transformer import VisionTransformer
from torch import Tensor, nn

from fewshot_i2v import registry
from fewshot_i2v.models.adapters.base.adapted_encoder import AdaptedEncoder
from fewshot_i2v.models.encoders.open_clip_conversion import tower_from_open_clip

BENCHMARKS = Path(__file__).resolve().parents[2] / "scripts" / "benchmarks"
FRAMES, WIDTH = 4, 64
# of a block of the adapter: the module of the plain block, by its names there and here
MODULES = {
    "st-adapter": {"": "pre_mlp"},
    "aim": {"temporal": "temporal_out", "spatial": "spatial", "joint": "joint"},
    "zeroi2v": {name: name for name in ("attn_in", "attn_out", "mlp_in", "mlp_out")},
    "adaptformer": {"parallel": "parallel"},
    "frozen": {},
}


@pytest.fixture
def plain_loop(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module `_plain_loop`, as a benchmark beside it imports it."""
    monkeypatch.setattr(sys, "path", [str(BENCHMARKS), *sys.path])
    import _plain_loop

    return _plain_loop  # type: ignore[no-any-return]


def _visual() -> VisionTransformer:
    torch.manual_seed(0)
    return VisionTransformer(32, 16, WIDTH, 2, 4, 4.0, output_dim=WIDTH)


def _copy_linear(target: nn.Module, source: Any) -> None:  # noqa: ANN401 - of one episode
    target.weight.data = source.weight[0].T.clone()
    target.bias.data = source.bias[0].clone()


def _copy_parameters(plain: Any, adapter: Any, modules: dict[str, str]) -> None:  # noqa: ANN401
    """Give the plain encoder the values of the only episode of an adapter."""
    for i, block in enumerate(plain.blocks):
        for there, here in modules.items():
            target = getattr(block, there) if there else block
            source = getattr(adapter, here)[i]
            _copy_linear(target.down, source.down)
            _copy_linear(target.up, source.up)
            if hasattr(target, "conv"):
                target.conv.weight.data = source.conv.weight[0].view_as(target.conv.weight).clone()
                target.conv.bias.data = source.conv.bias[0].clone()
    if plain.temporal is not None:
        embedding = next(adapter.temporal_embedding.parameters())
        plain.temporal.data = embedding[0].view_as(plain.temporal).clone()
        plain.ln_post.weight.data = adapter.ln_post.weight[0].clone()
        plain.ln_post.bias.data = adapter.ln_post.bias[0].clone()


def _clips(count: int) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.randint(0, 256, (count, FRAMES, 32, 32, 3), dtype=torch.uint8, generator=generator)


@pytest.mark.parametrize("method", sorted(MODULES))
def test_it_computes_the_features_of_the_adapter(method: str, plain_loop: ModuleType) -> None:
    visual, half = _visual(), torch.full((3,), 0.5)
    tower = tower_from_open_clip(visual, mean=half, std=half)
    adapter_class = registry.load_method("adapters", method)
    adapter = adapter_class(tower, adapter_class.Options(), frames=FRAMES, seeds=[0])
    generator = torch.Generator().manual_seed(1)
    for parameter in adapter.parameters():  # initial zeros would hide most of a method
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
    plain = plain_loop.PlainVideoEncoder(visual, method, FRAMES, half, half)
    _copy_parameters(plain, adapter, MODULES[method])
    clips = _clips(3)
    encoder = AdaptedEncoder(tower, adapter)
    with torch.no_grad():
        expected = encoder(encoder.compute_prefix(tower.normalize(clips)).unsqueeze(0)).clip[0]
        torch.testing.assert_close(plain(clips), expected, atol=2e-5, rtol=1e-4)
    count = sum(p.numel() for p in plain.parameters())
    assert count == sum(p.numel() for p in adapter.parameters())


def test_all_methods_of_the_loop_are_compared(plain_loop: ModuleType) -> None:
    assert plain_loop.BLOCKS.keys() == MODULES.keys()


def test_it_learns_the_support_clips(plain_loop: ModuleType) -> None:
    half = torch.full((3,), 0.5)
    encoder = plain_loop.PlainVideoEncoder(_visual(), "st-adapter", FRAMES, half, half)
    clips, labels = _clips(3), torch.arange(3)
    logits = plain_loop.tune_and_predict(
        encoder, support=clips, labels=labels, query=clips, steps=40
    )
    assert logits.argmax(-1).tolist() == [0, 1, 2]
