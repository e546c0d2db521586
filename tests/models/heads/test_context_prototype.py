"""The prototype head with context: equal to the plain one untrained, and a transformer trained."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from fewshot_i2v.errors import HeadError
from fewshot_i2v.models.adapters.base.features import Features
from fewshot_i2v.models.adapters.base.layers import EpisodeLayerNorm, EpisodeLinear
from fewshot_i2v.models.heads.context_prototype import (
    ContextPrototypeHead,
    ContextPrototypeOptions,
    TemporalLayer,
)
from fewshot_i2v.models.heads.prototype import PrototypeHead, PrototypeOptions
from tests.models.heads.samples import EPISODES, FRAMES, LABELS, WAY, WIDTH, clips
from tests.models.tiny_adapters import perturb

SIZES: dict[str, Any] = {"width": WIDTH, "way": WAY, "frames": FRAMES, "seeds": range(EPISODES)}
PATCHES = 4


def _head(**options: Any) -> ContextPrototypeHead:
    chosen = ContextPrototypeOptions.model_validate(options).for_encoder(PATCHES)
    return ContextPrototypeHead(chosen, **SIZES)


def _plain(**options: Any) -> PrototypeHead:
    ordered = {"pooling": "ordered", "center": True} | options
    return PrototypeHead(PrototypeOptions.model_validate(ordered).for_encoder(PATCHES), **SIZES)


def _with_grids(features: Features, seed: int) -> Features:
    generator = torch.Generator().manual_seed(seed)
    shape = features.frames.shape[:-1]
    grids = {n: torch.randn(*shape, n * n, WIDTH, generator=generator) for n in (2, PATCHES)}
    return Features(features.frames, features.clip, grids)


def _episode() -> tuple[Features, Features]:
    return _with_grids(clips(LABELS.shape[1], 1), 2), _with_grids(clips(5, 3), 4)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"center": False},
        {"tokens": "grid2"},
        {"tokens": "summary+grid2+motion", "weights": [1.0, 0.5, 2.0]},
        {"tokens": "grid2+motion", "weights": "loo"},
    ],
    ids=str,
)
def test_untrained_it_is_the_ordered_prototype_exactly(options: dict[str, Any]) -> None:
    support, query = _episode()
    head, plain = _head(**options), _plain(**options)
    assert torch.equal(head(query, support, LABELS), plain(query, support, LABELS))
    assert torch.equal(
        head.compute_support_logits(support, LABELS), plain.compute_support_logits(support, LABELS)
    )


def _by_hand(layer: TemporalLayer, x: Tensor, e: int) -> Tensor:
    """One clip (T, D) of an episode, by PyTorch's own attention."""

    def _linear(layer: EpisodeLinear, value: Tensor) -> Tensor:
        return value @ layer.weight[e] + layer.bias[e]

    def _norm(norm: EpisodeLayerNorm, value: Tensor) -> Tensor:
        return functional.layer_norm(value, value.shape[-1:], norm.weight[e], norm.bias[e])

    u = _norm(layer.norm_1, x) + layer.embedding[e]
    q, k, v = (
        part.unflatten(-1, (layer.heads, -1)).transpose(0, 1)
        for part in _linear(layer.qkv, u).chunk(3, -1)
    )
    attended = functional.scaled_dot_product_attention(q, k, v).transpose(0, 1).flatten(1)
    y = x + _linear(layer.out, attended)
    return y + _linear(layer.down, functional.gelu(_linear(layer.up, _norm(layer.norm_2, y))))


def test_trained_every_frame_sees_those_of_its_clip_and_no_other() -> None:
    head = perturb(_head(tokens="summary+grid2", heads=2), [5, 6, 7])
    support, _ = _episode()
    features = head.select_tokens(support)
    vectors = head.comparable(features)
    first, second = (m for m in head.layers if isinstance(m, TemporalLayer))
    for e, clip in ((0, 1), (2, 4)):
        summary = _by_hand(first, support.frames[e, clip], e)
        cells = [_by_hand(second, support.grids[2][e, clip, :, i], e) for i in range(4)]
        expected = [summary, torch.cat(cells, -1)]
        centered = torch.cat([(x - x.mean(0)).flatten() for x in expected])
        torch.testing.assert_close(vectors[e, clip], centered, atol=1e-5, rtol=1e-4)


def test_trained_it_depends_on_the_order_of_the_frames_through_the_positions() -> None:
    head = perturb(_head(), [5, 6, 7])
    x = clips(2, 1).frames
    (layer,) = head.layers
    assert not torch.allclose(layer(x.flip(2)).flip(2), layer(x), atol=1e-3)
    with torch.no_grad():
        layer.get_parameter("embedding").zero_()
    torch.testing.assert_close(layer(x.flip(2)).flip(2), layer(x))


def test_the_number_of_parameters_is_that_of_the_documentation() -> None:
    options = ContextPrototypeOptions.model_validate({})
    head = ContextPrototypeHead(options, width=768, way=5, frames=8, seeds=[0])
    count = sum(p.numel() for p in head.parameters())
    assert count == (6 * 768 + 10 + 8) * 768 == 3_552_768
    assert f"{count:,}" in (ContextPrototypeHead.__doc__ or "")
    two = ContextPrototypeHead(
        ContextPrototypeOptions.model_validate({"tokens": "summary+grid2"}).for_encoder(PATCHES),
        **SIZES | {"width": 64},
    )
    assert sum(p[0].numel() for p in two.parameters()) == 2 * (6 * 64 + 10 + FRAMES) * 64


@pytest.mark.parametrize("tokens", ["motion", "motion2"])
def test_motion_maps_alone_have_no_tokens(tokens: str) -> None:
    with pytest.raises(HeadError, match=r"a motion map has none; add summary or a grid"):
        _head(tokens=tokens)


def test_other_poolings_are_refused() -> None:
    with pytest.raises(ValueError, match="pooling"):
        ContextPrototypeOptions.model_validate({"pooling": "mean"})


def test_trained_on_episodes_it_learns_to_leave_out_what_says_nothing() -> None:
    """Clips differ strongly in a direction in which classes do not, and which hides them first."""
    head = _head(heads=2)
    generator = torch.Generator().manual_seed(0)
    patterns = torch.randn(WAY, FRAMES, WIDTH, generator=generator)
    direction = torch.randn(WIDTH, generator=generator)

    def _clips(number: int) -> tuple[Features, Tensor]:
        labels = torch.arange(number).remainder(WAY).expand(EPISODES, -1)
        amounts = 5.0 * torch.randn(EPISODES, number, FRAMES, 1, generator=generator)
        frames = patterns[labels] + amounts * direction
        return Features(frames, frames.mean(2)), labels

    optimizer = torch.optim.Adam(head.parameters(), lr=0.02)
    losses = []
    for _ in range(60):
        (support, labels), (query, truth) = _clips(WAY), _clips(4 * WAY)
        scores = head(query, support, labels)
        loss = functional.cross_entropy(scores.flatten(0, 1), truth.flatten())
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        losses.append(float(loss.detach()))
    assert sum(losses[-10:]) < 0.5 * sum(losses[:10])
