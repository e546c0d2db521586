"""The nearest-clip head against loops written from its definition."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from fewshot_i2v.errors import HeadError
from fewshot_i2v.models.adapters.base.features import Features
from fewshot_i2v.models.heads.base import features
from fewshot_i2v.models.heads.nearest import NearestHead, NearestOptions
from fewshot_i2v.models.heads.prototype import PrototypeHead, PrototypeOptions
from tests.models.heads.samples import FRAMES, LABELS, ONE_SHOT, WAY, WIDTH, clips, of_class

_SIZES: dict[str, Any] = {"width": WIDTH, "way": WAY, "frames": FRAMES, "seeds": (0, 0, 0)}
ALLOWED = [
    {"pooling": pooling, "metric": metric, "softness": softness, "temperature": 3.0}
    for pooling, metric, softness in itertools.product(
        ("clip", "mean", "ordered"), ("cosine", "euclidean"), (0.0, 0.2)
    )
]
every_option = pytest.mark.parametrize(
    "options", ALLOWED, ids=lambda o: f"{o['pooling']}-{o['metric']}-{o['softness']}"
)


def head(**options: object) -> NearestHead:
    return NearestHead(NearestOptions.model_validate(options), **_SIZES)


def similarity(x: Features, i: int, y: Features, j: int, e: int, options: dict[str, Any]) -> float:
    a, b = (
        {
            "clip": f.clip[e, k],
            "mean": f.frames[e, k].mean(0),
            "ordered": f.frames[e, k].flatten(),
        }[options["pooling"]].double()
        for f, k in ((x, i), (y, j))
    )
    if options["metric"] == "cosine":
        return torch.cosine_similarity(a, b, dim=0).item()
    return -(a - b).square().mean().item()


def slow_score(values: list[float], options: dict[str, Any]) -> float:
    soft = options["softness"]
    if soft == 0:
        return float(options["temperature"] * max(values))
    return float(options["temperature"] * soft * math.log(np.mean(np.exp(np.array(values) / soft))))


@every_option
def test_scores_are_those_of_the_nearest_clip_of_each_class(options: dict[str, Any]) -> None:
    support, query = clips(6, seed=0), clips(5, seed=1)
    scores = head(**options)(query, support, LABELS)
    for e, q, c in itertools.product(range(3), range(5), range(WAY)):
        values = [similarity(query, q, support, i, e, options) for i in of_class(LABELS, e, c)]
        expected = slow_score(values, options)
        assert scores[e, q, c].item() == pytest.approx(expected, rel=1e-4, abs=1e-4)


@every_option
@pytest.mark.parametrize("labels", [LABELS, ONE_SHOT], ids=["several", "one-shot"])
def test_in_training_a_clip_is_not_its_own_neighbour(
    options: dict[str, Any], labels: Tensor
) -> None:
    support = clips(labels.shape[1], seed=0)
    scores = head(**options).compute_support_logits(support, labels)
    for e, s, c in itertools.product(range(3), range(labels.shape[1]), range(WAY)):
        others = of_class(labels, e, c, without=s)
        values = [similarity(support, s, support, i, e, options) for i in others]
        expected = slow_score(values, options)
        assert scores[e, s, c].item() == pytest.approx(expected, rel=1e-4, abs=1e-4)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("softness", [0.0, 0.1])
def test_with_one_shot_it_is_the_prototype_head(metric: str, softness: float) -> None:
    support, query = clips(3, seed=0), clips(5, seed=1)
    mean = PrototypeHead(PrototypeOptions.model_validate({"metric": metric}), **_SIZES)
    expected = mean(query, support, ONE_SHOT)
    got = head(metric=metric, softness=softness)(query, support, ONE_SHOT)
    torch.testing.assert_close(got, expected, atol=1e-4, rtol=1e-4)


def test_softness_goes_from_the_maximum_to_the_mean() -> None:
    support, query = clips(6, seed=0), clips(5, seed=1)
    hard, nearly, flat = (
        head(softness=s, temperature=1.0)(query, support, LABELS) for s in (0.0, 1e-4, 1e4)
    )
    torch.testing.assert_close(nearly, hard, atol=1e-3, rtol=0)
    cosines = torch.nn.functional.cosine_similarity(
        query.clip.unsqueeze(2), support.clip.unsqueeze(1), dim=-1
    )
    members = torch.nn.functional.one_hot(LABELS, WAY).float()
    mean = cosines @ members / members.sum(1, keepdim=True)
    torch.testing.assert_close(flat, mean, atol=5e-3, rtol=0)


def test_only_the_soft_version_sends_a_gradient_to_every_clip() -> None:
    query, reached = clips(1, seed=1), []
    for softness in (0.0, 0.5):
        given = clips(6, seed=0)
        clip = given.clip.clone().requires_grad_()
        scores = head(softness=softness)(query, Features(given.frames, clip), LABELS)
        scores.sum().backward()
        assert clip.grad is not None
        reached.append((clip.grad.abs().sum(-1) > 0).sum(-1).tolist())
    assert reached == [[WAY] * 3, [6] * 3]


def test_many_queries_are_scored_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    support, query = clips(6, seed=0), clips(7, seed=1)
    whole = head()(query, support, LABELS)
    monkeypatch.setattr(features, "_CHUNK_ELEMENT_BUDGET", 2 * 3 * 6 * WAY)
    torch.testing.assert_close(head()(query, support, LABELS), whole)


def test_centering_needs_ordered_frames_and_more_than_one() -> None:
    with pytest.raises(HeadError, match=r"NearestOptions: center=true .*use pooling=ordered"):
        head(center=True)
    options = NearestOptions(center=True, pooling="ordered")
    with pytest.raises(HeadError, match="one frame"):
        NearestHead(options, **(_SIZES | {"frames": 1}))
    assert NearestHead(options, **_SIZES).options.center


@pytest.mark.parametrize("given", [{"softness": -0.1}, {"softness": math.inf}, {"temperature": 0}])
def test_values_outside_the_range_are_refused(given: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=next(iter(given))):
        head(**given)


def test_it_has_no_parameters() -> None:
    assert not list(head().parameters())
