"""What a tower computes has a version: prefixes on disk of another version are not read.

Where one of these outputs changes, raise `PREFIX_VERSION`, and record the new outputs under the new
number. A change below their tolerance, such as of the order of a sum, needs a new version too: it
is not seen here.
"""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from fewshot_i2v.models.adapters.base.frozen_prefix import (
    PREFIX_VERSION,
    PrefixSpec,
    compute_prefix,
)
from fewshot_i2v.models.encoders.pixel_tower import make_pixel_tower
from fewshot_i2v.models.encoders.tower import Tower
from tests.tiny import tiny_tower

RECORDED: dict[int, dict[str, list[float]]] = {
    1: {
        "fp32 pooled": [0.69745, 0.07679, 0.15424, 1.39131, 1.28394, 1.19661],
        "fp32 levels": [0.29836, 0.96286, 0.28182, -1.6461, -1.5408, 0.861, 0.98428],
        "fp32 tokens": [0.29836, -1.84841, -1.15305, 0.75859, 0.61525, -0.6024, 1.02982],
        "bf16 pooled": [0.70703, 0.07715, 0.1582, 1.39832, 1.28369, 1.19655],
        "bf16 levels": [0.30273, 0.95703, 0.28125, -1.65625, -1.53906, 0.85938, 0.98431],
        "bf16 tokens": [0.30273, -1.84375, -1.15625, 0.76172, 0.60938, -0.60938, 1.02999],
        "resized pooled": [-0.75277, -0.30855, -0.44534, -0.21548, -0.17873, 1.34549],
        "resized levels": [-1.07136, 0.51751, -0.05337, -1.65817, -0.9529, 0.49112, 1.09582],
        "resized tokens": [-1.07136, 1.60529, 1.63731, -1.70408, -0.90164, 1.02347],
        "pixels pooled": [-0.18039, 0.69804, 0.69804, -1.05882, -1.05882, 0.48042],
    },
}
"""By version: first values of each output."""


def _towers() -> dict[str, Tower]:
    tower = tiny_tower()
    pixels = make_pixel_tower(
        mean=torch.full((3,), 0.5), std=torch.full((3,), 0.25), image_size=32, patch=8
    )
    return {
        "fp32": tower,
        "bf16": tower.to("cpu", torch.bfloat16),
        "resized": tower.resized(2 * tower.image_size),
        "pixels": pixels,
    }


def outputs() -> dict[str, list[float]]:
    """The first values of what is computed of one clip by each tower and spec."""
    found = {}
    for name, tower in _towers().items():
        depth = tower.layers
        specs = {"pooled": PrefixSpec(depth, grid_sizes=(2,))}
        if depth:
            specs |= {
                "levels": PrefixSpec(depth, levels=(0,), summary_only=True),
                "tokens": PrefixSpec(1),
            }
        side = tower.image_size
        frames = torch.arange(2 * side * side * 3).mul(37).remainder(256).to(torch.uint8)
        pixels = tower.normalize(frames.reshape(1, 2, side, side, 3))
        for kind, spec in specs.items():
            prefix = compute_prefix(tower, spec, pixels).float().flatten()
            picked = prefix[:: max(1, len(prefix) // 5)][:6]
            found[f"{name} {kind}"] = [*picked.tolist(), prefix.abs().mean().item()]
    return found


def _differing() -> list[str]:
    recorded = RECORDED[PREFIX_VERSION]
    found = outputs()
    assert found.keys() == recorded.keys()
    return [
        name
        for name, values in found.items()
        if values != pytest.approx(recorded[name], abs=0.02 if "bf16" in name else 1e-4)
    ]


def test_outputs_are_those_of_the_version() -> None:
    assert _differing() == [], "what a tower computes changed: raise PREFIX_VERSION"


@pytest.mark.parametrize("changed", ["silu", "layer_norm", "scaled_dot_product_attention"])
def test_a_changed_operation_shows(changed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    original = getattr(functional, changed)
    monkeypatch.setattr(functional, changed, lambda *a, **k: original(*a, **k) * 1.01)
    assert "fp32 pooled" in _differing()
