"""The tuple head against loops written from its definition."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor
from torch.nn import functional

from fewshot_i2v.errors import HeadError
from fewshot_i2v.models.adapters.base.features import Features
from fewshot_i2v.models.heads.base import features
from fewshot_i2v.models.heads.trx import TrxHead, TrxOptions, TupleMaps, position_codes
from tests.models.heads.samples import (
    EPISODES,
    FRAMES,
    LABELS,
    ONE_SHOT,
    WAY,
    WIDTH,
    clips,
    of_class,
)


def head(frames: int = FRAMES, **options: Any) -> TrxHead:
    """A head whose parameters are all random, the layer norms and biases as well."""
    chosen = TrxOptions.model_validate({"channels": 8, **options})
    built = TrxHead(chosen, width=WIDTH, way=WAY, frames=frames, seeds=range(EPISODES))
    generator = torch.Generator().manual_seed(0)
    for parameter in built.parameters():
        if parameter.ndim == 2:
            with torch.no_grad():
                parameter.add_(0.5 * torch.randn(parameter.shape, generator=generator))
    return built


def maps_of(built: TrxHead) -> list[TupleMaps]:
    return [m for m in built.maps if isinstance(m, TupleMaps)]


def keys_and_values(maps: TupleMaps, frames: Tensor, e: int) -> tuple[Tensor, Tensor]:
    """Of one clip (T, D), tuple by tuple."""
    coded = frames + position_codes(len(frames), WIDTH)
    tuples = itertools.combinations(range(len(frames)), maps.size)
    joined = torch.stack([torch.cat([coded[t] for t in chosen]) for chosen in tuples])
    keys = joined @ maps.key[e] + maps.key_bias[e]
    norm = (maps.norm.weight[e], maps.norm.bias[e])
    return functional.layer_norm(keys, keys.shape[-1:], *norm), joined @ maps.value[e]


def slow_score(built: TrxHead, clip: Tensor, members: list[Tensor], e: int) -> float:
    total = 0.0
    for maps in maps_of(built):
        keys, values = keys_and_values(maps, clip, e)
        pairs = [keys_and_values(maps, member, e) for member in members]
        of_class = [torch.cat(parts) for parts in zip(*pairs, strict=True)]
        for key, value in zip(keys, values, strict=True):
            weights = (of_class[0] @ key / math.sqrt(len(key))).softmax(0)
            found = (weights.unsqueeze(-1) * of_class[1]).sum(0)
            total += ((value - found) ** 2).mean().item() / len(keys)
    return -built.options.temperature * total / len(built.maps)


@pytest.mark.parametrize("cardinalities", [(1,), (2,), (2, 3), (4, 2)])
def test_scores_are_minus_the_distances_of_tuples(cardinalities: tuple[int, ...]) -> None:
    built = head(cardinalities=cardinalities, temperature=3.0)
    support, query = clips(6, seed=0), clips(2, seed=1)
    scores = built(query, support, LABELS)
    for e, q, c in itertools.product(range(EPISODES), range(2), range(WAY)):
        members = [support.frames[e, i] for i in of_class(LABELS, e, c)]
        expected = slow_score(built, query.frames[e, q], members, e)
        assert scores[e, q, c].item() == pytest.approx(expected, rel=1e-4, abs=1e-4)


@pytest.mark.parametrize("labels", [LABELS, ONE_SHOT], ids=["several", "one-shot"])
def test_in_training_a_clip_offers_no_tuples_to_itself(labels: Tensor) -> None:
    built, number = head(), labels.shape[1]
    support = clips(number, seed=0)
    scores = built.compute_support_logits(support, labels)
    for e, s, c in itertools.product(range(EPISODES), range(number), range(WAY)):
        members = [support.frames[e, i] for i in of_class(labels, e, c, without=s)]
        expected = slow_score(built, support.frames[e, s], members, e)
        assert scores[e, s, c].item() == pytest.approx(expected, rel=1e-4, abs=1e-4)


def test_renaming_the_classes_renames_the_scores() -> None:
    built, support, query = head(), clips(6, seed=0), clips(3, seed=1)
    order = torch.tensor([2, 0, 1])
    renamed = built(query, support, order[LABELS])
    torch.testing.assert_close(renamed[..., order], built(query, support, LABELS))


def test_the_order_of_frames_matters() -> None:
    built, support, query = head(), clips(6, seed=0), clips(3, seed=1)
    back = Features(query.frames.flip(-2), query.clip)
    assert not torch.allclose(built(back, support, LABELS), built(query, support, LABELS))


def test_a_bias_of_the_values_would_have_no_effect() -> None:
    built, support, query = head(cardinalities=(2,)), clips(6, seed=0), clips(3, seed=1)
    plain = built(query, support, LABELS)
    maps = maps_of(built)[0]
    tuples = maps._map_tuples
    shift = torch.linspace(-3, 3, 8)
    maps._map_tuples = (  # type: ignore[method-assign]
        lambda frames, weight: tuples(frames, weight) + shift * (weight is maps.value)
    )
    torch.testing.assert_close(built(query, support, LABELS), plain, atol=1e-4, rtol=1e-4)


def test_position_codes() -> None:
    codes = position_codes(5, 7)
    assert codes.shape == (5, 7)
    for t, channel in itertools.product(range(5), range(7)):
        angle = t / 10_000 ** ((channel - channel % 2) / 7)
        wave = math.cos(angle) if channel % 2 else math.sin(angle)
        assert codes[t, channel].item() == pytest.approx(0.1 * wave, abs=1e-6)


@pytest.mark.parametrize(("channels", "widths"), [(8, (8, 8)), (1152, (20, 30)), (25, (20, 25))])
def test_keys_and_values_are_never_wider_than_a_tuple(
    channels: int, widths: tuple[int, int]
) -> None:
    built = head(channels=channels)
    assert tuple(m.key.shape[-1] for m in maps_of(built)) == widths
    for maps, n, c in zip(maps_of(built), (2, 3), widths, strict=True):
        numbers = [p.numel() // EPISODES for p in maps.parameters()]
        assert sum(numbers) == (2 * n * WIDTH + 3) * c


def test_published_sizes() -> None:
    options = TrxOptions()
    built = TrxHead(options, width=768, way=5, frames=8, seeds=(0,))
    assert options.cardinalities == (2, 3)
    assert [m.key.shape[-1] for m in maps_of(built)] == [1152, 1152]
    assert [len(m.tuple_positions) for m in maps_of(built)] == [28, 56]
    assert sum(p.numel() for p in built.parameters()) == 8_854_272


def test_maps_start_as_linear_layers_do() -> None:
    options = TrxOptions(cardinalities=(2,))
    built = TrxHead(options, width=200, way=2, frames=2, seeds=(0, 1))
    (maps,) = maps_of(built)
    # the range of torch.nn.Linear(400, ...)
    bound = 1 / math.sqrt(400)
    for weight in (maps.key, maps.value):
        assert weight.abs().max().item() == pytest.approx(bound, rel=1e-3)
        assert weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.02)
    assert not maps.key_bias.any()
    assert (maps.norm.weight == 1).all()
    assert not torch.equal(maps.key[0], maps.key[1])
    assert not torch.equal(maps.key, maps.value)


@pytest.mark.parametrize(("frames", "cardinalities"), [(2, (2, 3)), (1, (2,)), (4, (1, 5))])
def test_too_few_frames_for_a_tuple_are_refused(
    frames: int, cardinalities: tuple[int, ...]
) -> None:
    largest = max(cardinalities)
    with pytest.raises(HeadError, match=rf"tuples of {largest} frames and clips have {frames}"):
        head(frames=frames, cardinalities=cardinalities)


@pytest.mark.parametrize("given", [[], [0], [2, 2], 2, ["two"]])
def test_bad_cardinalities_are_refused(given: object) -> None:
    with pytest.raises(ValidationError, match="cardinalities"):
        TrxOptions.model_validate({"cardinalities": given})


def test_a_list_as_in_yaml_is_taken() -> None:
    assert TrxOptions.model_validate({"cardinalities": [2]}).cardinalities == (2,)


def test_many_queries_are_scored_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    built, support, query = head(), clips(6, seed=0), clips(5, seed=1)
    whole = built(query, support, LABELS)
    monkeypatch.setattr(features, "_CHUNK_ELEMENT_BUDGET", 1)
    torch.testing.assert_close(built(query, support, LABELS), whole)
