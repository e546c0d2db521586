"""Parity with outputs of the methods' official implementations (see tests/golden/README.md)."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from fewshot_i2v.models.adapters.base.adapted_encoder import AdaptedEncoder
from tests.models.golden_tower import Golden, golden_adapter, golden_parameters, golden_tower, ours
from tests.models.tiny_adapters import make_adapter, tokens_after_blocks

_HERE = Path(__file__).resolve().parents[2] / "golden"
_SMALL = ("clip_t8", "adaptformer_b8_t5", "aim_k1_s1_t5", "sta_both_t5", "zeroi2v_h4_s0.5_t5")
_REST = (
    "adaptformer_b8_t8",
    "aim_k1_s0.5_t8",
    "aim_k2_s0.5_t8",
    "aim_k2_s1_t8",
    "sta_both_t8",
    "sta_premlp_t8",
    "zeroi2v_h2_s0.5_t8",
    "zeroi2v_h2_s1_t8",
    "zeroi2v_h4_s1_t8",
)
_BOTH = [pytest.param(1, 0, id="alone"), pytest.param(3, 1, id="beside-others")]
_CASES = [*_SMALL, *(pytest.param(name, marks=pytest.mark.shared) for name in _REST)]


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Golden:
    name: str = request.param
    folder = _HERE if name in _SMALL else request.getfixturevalue("shared") / "golden"
    return Golden.read(folder / f"{name}.safetensors")


def _close(got: Tensor, expected: Tensor, limit: float) -> None:
    torch.testing.assert_close(got.detach(), expected, rtol=0, atol=limit)


def _encoder(golden: Golden, episodes: int, slot: int) -> tuple[AdaptedEncoder, Tensor]:
    tower = golden_tower(golden)
    encoder = AdaptedEncoder(tower, golden_adapter(golden, tower, episodes=episodes, slot=slot))
    return encoder, golden["input"].expand(episodes, *golden["input"].shape)


@pytest.mark.parametrize(("episodes", "slot"), _BOTH)
@pytest.mark.parametrize("golden", _CASES, indirect=True)
def test_tokens_features_and_gradients(golden: Golden, episodes: int, slot: int) -> None:
    encoder, pixels = _encoder(golden, episodes, slot)
    for i, tokens in enumerate(tokens_after_blocks(encoder, pixels)):
        _close(tokens[slot], golden[f"tokens.block.{i}"], 1e-4)
    features = encoder(encoder.compute_prefix(pixels))
    _close(features.clip[slot], golden["feature"], 1e-5)
    if "frame_features" in golden.tensors:
        _close(features.frames[slot], golden["frame_features"], 3e-5)
    if "loss" not in golden.tensors:
        return
    features.clip.square().sum().backward()
    grads = golden.named("grad.")
    parameters = golden_parameters(golden, encoder.adapter)
    assert grads.keys() == parameters.keys()
    for name, parameter in parameters.items():
        expected = ours(name, grads[name])
        if parameter.grad is None:  # it does not reach the class token, and is left out here
            assert not expected.any(), name
            continue
        _close(parameter.grad[slot], expected, 1e-5 * float(expected.norm()) + 1e-6)


@pytest.mark.parametrize("golden", _CASES, indirect=True)
def test_frozen_encoder_on_the_same_trunk(golden: Golden) -> None:
    start = "" if golden.method == "clip" else "clip."
    tower = golden_tower(golden)
    encoder = AdaptedEncoder(tower, make_adapter("frozen", tower, frames=golden.json("T")))
    features = encoder(encoder.compute_prefix(golden["input"][None]))
    _close(features.frames[0], golden[f"{start}frame_features"], 1e-5)
    _close(features.clip[0], golden[f"{start}feature"], 1e-5)


@pytest.mark.parametrize(("episodes", "slot"), _BOTH)
@pytest.mark.parametrize(
    "golden",
    ["zeroi2v_h4_s0.5_t5"]
    + [
        pytest.param(name, marks=pytest.mark.shared) for name in _REST if name.startswith("zeroi2v")
    ],
    indirect=True,
)
def test_merged_zeroi2v(golden: Golden, episodes: int, slot: int) -> None:
    encoder, pixels = _encoder(golden, episodes, slot)
    with torch.no_grad():
        before = encoder(encoder.compute_prefix(pixels)).clip[slot]
        merged = AdaptedEncoder(*encoder.adapter.merge(encoder.tower, slot))
        *_, last = tokens_after_blocks(merged, golden["input"][None])
        feature = merged(merged.compute_prefix(golden["input"][None])).clip[0]
    _close(last[0], golden["merged.tokens.last"], 2e-4)
    _close(feature, golden["merged.feature"], 2e-4)
    _close(feature, before, 2e-4)
