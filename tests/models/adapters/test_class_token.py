"""The last block computes the class token alone where nothing else is read of it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from fewshot_i2v import registry
from fewshot_i2v.models.adapters.base.adapted_encoder import AdaptedEncoder
from fewshot_i2v.models.adapters.base.frozen_prefix import PrefixSpec, compute_prefix
from fewshot_i2v.models.encoders.tower import Tower
from tests.models.tiny_adapters import make_adapter, make_clips, perturb
from tests.tiny import tiny_tower

_IN_BLOCKS = [
    name for name in registry.method_names("adapters") if name not in ("frozen", "m-adapter")
]


def _encoder(name: str, tower: Tower | None = None, **options: object) -> AdaptedEncoder:
    tower = tower or tiny_tower()
    adapter = perturb(make_adapter(name, tower, seeds=(1, 2), **options), (1, 2), std=0.1)
    return AdaptedEncoder(tower, adapter)


def _run(encoder: AdaptedEncoder, *, grids: tuple[int, ...] = ()) -> tuple[Tensor, list[Tensor]]:
    """Frame and clip features, and gradients; a missing one is zero."""
    prefix = encoder.compute_prefix(make_clips(encoder.tower, 2, 2), grid_sizes=grids)
    encoder.adapter.zero_grad()
    features = encoder(prefix, grid_sizes=grids)
    torch.autograd.backward(features.clip.square().sum() + features.frames.pow(3).sum())
    gradients = [
        torch.zeros_like(p) if p.grad is None else p.grad for p in encoder.adapter.parameters()
    ]
    return torch.cat([features.frames, features.clip.unsqueeze(2)], 2), gradients


def _calls(encoder: AdaptedEncoder, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The blocks that are computed for the class token alone, listed as they run."""
    calls: list[int] = []
    real = type(encoder.adapter).class_token_block

    def note(self: object, i: int, *rest: object) -> Tensor:
        calls.append(i)
        return real(self, i, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(type(encoder.adapter), "class_token_block", note)
    return calls


@pytest.mark.parametrize("checkpointing", [False, True], ids=["plain", "checkpointing"])
@pytest.mark.parametrize("name", _IN_BLOCKS)
def test_features_and_gradients_are_those_of_all_tokens(
    name: str, checkpointing: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = _encoder(name)
    encoder.checkpointing = checkpointing
    calls = _calls(encoder, monkeypatch)
    features, gradients = _run(encoder)
    assert set(calls) == {2}
    calls.clear()
    encoder.all_tokens = True
    expected, expected_gradients = _run(encoder)
    assert not calls
    torch.testing.assert_close(features, expected, rtol=1e-5, atol=1e-5)
    for gradient, other in zip(gradients, expected_gradients, strict=True):
        torch.testing.assert_close(gradient, other, rtol=1e-4, atol=1e-4 * float(other.abs().max()))


@pytest.mark.parametrize("name", _IN_BLOCKS)
def test_the_adapters_of_the_package_compute_less(name: str) -> None:
    encoder = _encoder(name)
    prefix = encoder.compute_prefix(make_clips(encoder.tower, 2, 2))
    flop = []
    for encoder.all_tokens in (False, True):
        with FlopCounterMode(display=False) as counter:
            encoder(prefix)
        flop.append(counter.get_total_flops())
    # of 3 blocks; keys, values and what comes before attention are needed of all tokens
    assert flop[0] < 0.85 * flop[1]


def test_st_adapter_at_both_sites_too() -> None:
    encoder = _encoder("st-adapter", sites="both")
    features, _ = _run(encoder)
    encoder.all_tokens = True
    torch.testing.assert_close(features, _run(encoder)[0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("reads_patches", ["grid", "mean"])
def test_all_tokens_are_computed_where_patches_are_read(
    reads_patches: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tower = tiny_tower() if reads_patches == "grid" else replace(tiny_tower(), pool="avg")
    encoder = _encoder("st-adapter", tower)
    calls = _calls(encoder, monkeypatch)
    _run(encoder, grids=(2,) if reads_patches == "grid" else ())
    assert not calls


@pytest.mark.parametrize("levels", [(), (0, 2)], ids=["frozen", "levels"])
def test_the_frozen_prefix_computes_less_too(levels: tuple[int, ...]) -> None:
    tower = tiny_tower()
    spec = PrefixSpec(tower.layers, levels, summary_only=bool(levels))
    prefixes, flop = [], []
    for all_tokens in (False, True):
        with FlopCounterMode(display=False) as counter:
            pixels = make_clips(tower, 2)
            prefixes.append(compute_prefix(tower, spec, pixels, all_tokens=all_tokens))
        flop.append(counter.get_total_flops())
    torch.testing.assert_close(*prefixes, rtol=1e-5, atol=1e-5)
    assert flop[0] < 0.85 * flop[1]


@pytest.mark.parametrize(
    "spec",
    [PrefixSpec(3, grid_sizes=(2,)), PrefixSpec(3, (0, 2)), PrefixSpec(2)],
    ids=["grid", "all tokens of levels", "not frozen"],
)
def test_but_not_where_patches_are_read(spec: PrefixSpec) -> None:
    pixels = make_clips(tiny_tower(), 2)
    prefixes = [compute_prefix(tiny_tower(), spec, pixels, all_tokens=a) for a in (False, True)]
    assert torch.equal(*prefixes)


def test_in_bfloat16_it_is_near_too() -> None:
    tower = tiny_tower().to("cpu", torch.bfloat16)
    encoder = AdaptedEncoder(tower, perturb(make_adapter("aim", tower, seeds=(1,)), (1,), std=0.1))
    prefix = encoder.compute_prefix(make_clips(tower, 1, 2).bfloat16())
    features = []
    for encoder.all_tokens in (False, True):
        features.append(encoder(prefix).frames)
    torch.testing.assert_close(*features, rtol=0.05, atol=0.05)
