"""How far our adapters are from golden outputs of the methods' official implementations."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from fewshot_i2v.models.adapters.base.adapted_encoder import AdaptedEncoder
from fewshot_i2v.models.adapters.frozen import Frozen
from tests.models.golden_tower import Golden, golden_adapter, golden_parameters, golden_tower, ours
from tests.models.tiny_adapters import tokens_after_blocks


@dataclass(frozen=True)
class Parity:
    """Largest differences of one case.

    Attributes:
        adapter: name of the adapter's module, such as "st_adapter".
        tokens: of the tokens after every block, absolute.
        feature: of the clip and frame features, absolute.
        gradients: of every gradient, divided by the norm of the tensor; None where the file has
            none.
    """

    adapter: str
    tokens: float
    feature: float
    gradients: float | None


def parity(path: Path) -> Parity | None:
    """Compares one golden file; None where we have no adapter of its method.

    Args:
        path: of an adapter's file, not of a matching head's.
    """
    golden = Golden.read(path)
    tower = golden_tower(golden)
    encoder = AdaptedEncoder(tower, golden_adapter(golden, tower))
    if isinstance(encoder.adapter, Frozen) and golden.method != "clip":
        return None
    pixels = golden["input"][None]
    with torch.no_grad():
        walk = enumerate(tokens_after_blocks(encoder, pixels))
        tokens = max(_apart(x[0], golden[f"tokens.block.{i}"]) for i, x in walk)
    features = encoder(encoder.compute_prefix(pixels))
    apart = [_apart(features.clip[0], golden["feature"])]
    if "frame_features" in golden.tensors:
        apart.append(_apart(features.frames[0], golden["frame_features"]))
    gradients = _gradients(golden, encoder, features.clip) if "loss" in golden.tensors else None
    module = type(encoder.adapter).__module__.rpartition(".")[2]
    return Parity(module, tokens, max(apart), gradients)


def _gradients(golden: Golden, encoder: AdaptedEncoder, clip: Tensor) -> float:
    clip.square().sum().backward()
    worst = 0.0
    for name, parameter in golden_parameters(golden, encoder.adapter).items():
        expected = ours(name, golden[f"grad.{name}"])
        # without one, it does not reach the class token and is left out here
        gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        # a gradient that is exactly zero in theirs has no norm to be measured by
        norm = float(expected.norm()) or 1.0
        worst = max(worst, _apart(gradient[0], expected) / norm)
    return worst


def _apart(got: Tensor, expected: Tensor) -> float:
    return float((got.detach() - expected).abs().max())
