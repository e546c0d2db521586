"""Weights of readouts that are chosen per episode by leaving support clips out."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from fewshot_i2v import registry
from fewshot_i2v.config.method import MethodSpec
from fewshot_i2v.errors import ConfigError
from fewshot_i2v.models.adapters.base.features import Features
from fewshot_i2v.models.factory import resolve_options
from fewshot_i2v.models.heads.base.comparison_head import ComparisonHead
from fewshot_i2v.models.heads.base.readout_weights import choose_weights

WAY, SHOT, FRAMES, WIDTH = 3, 4, 4, 8
LABELS = torch.arange(WAY).repeat_interleave(SHOT).repeat(2, 1)
TOKENS = "summary+grid2"
CASES: list[tuple[str, dict[str, Any]]] = [
    ("prototype", {"pooling": "ordered"}),
    ("prototype", {"pooling": "ordered", "center": True}),
    ("nearest", {"pooling": "mean"}),
    ("otam", {}),
    ("bi-mhm", {"shots": "mean"}),
    ("logistic", {"c": 1.0, "pooling": "mean"}),
]
every_case = pytest.mark.parametrize(("name", "options"), CASES, ids=str)


def _build(name: str, *, episodes: int = 2, **options: Any) -> ComparisonHead:
    cls = registry.load_method("heads", name)
    head: ComparisonHead = cls(
        cls.Options.model_validate({"tokens": TOKENS, "weights": "loo", **options}),
        width=WIDTH,
        way=WAY,
        frames=FRAMES,
        seeds=[0] * episodes,
    )
    return head


def _clips(labels: Tensor, seed: int) -> Features:
    """Two episodes: in the first the summary tells the class, in the second the grid does.

    The other one is noise, as large.
    """
    centers = torch.Generator().manual_seed(5)
    drawn = torch.Generator().manual_seed(seed)
    parts = []
    for values, informative in ((1, 0), (4, 1)):
        shape = (FRAMES, values, WIDTH)
        means = torch.randn(2, WAY, *shape, generator=centers)
        noise = torch.randn(*labels.shape, *shape, generator=drawn)
        part = noise.clone()
        part[informative] = means[informative, labels[informative]] + 0.3 * noise[informative]
        parts.append(part)
    frames = parts[0].squeeze(-2)
    return Features(frames, frames.mean(-2), {2: parts[1]})


def _weights(head: ComparisonHead, support: Features, labels: Tensor) -> Tensor:
    weights = head.episode_weights(head.comparable(head.select_tokens(support)), labels)
    assert weights is not None
    return weights


SUPPORT, QUERY = _clips(LABELS, 1), _clips(LABELS, 2)


@every_case
def test_the_readout_that_tells_the_class_weighs_more_in_each_episode(
    name: str, options: dict[str, Any]
) -> None:
    head = _build(name, **options)
    weights = _weights(head, SUPPORT, LABELS)
    assert weights.dtype == torch.float32
    assert weights[0, 0] > 1.3 > 0.7 > weights[0, 1]
    assert weights[1, 1] > 1.3 > 0.7 > weights[1, 0]
    torch.testing.assert_close(weights.sum(-1), torch.full((2,), 2.0))


@every_case
def test_it_predicts_better_than_with_equal_weights(name: str, options: dict[str, Any]) -> None:
    chosen, equal = (_build(name, **options, weights=w) for w in ("loo", "equal"))
    scores = [
        head(QUERY, SUPPORT, LABELS).gather(-1, LABELS[..., None]).mean()
        - head(QUERY, SUPPORT, LABELS).mean()
        for head in (chosen, equal)
    ]
    assert scores[0] > scores[1] + 0.01
    assert (chosen(QUERY, SUPPORT, LABELS).argmax(-1) == LABELS).float().mean() > 0.9


@every_case
def test_predictions_are_those_of_the_chosen_numbers(name: str, options: dict[str, Any]) -> None:
    head = _build(name, **options)
    got, weights = head(QUERY, SUPPORT, LABELS), _weights(head, SUPPORT, LABELS)
    for e in range(2):
        fixed = _build(name, episodes=1, **options, weights=weights[e].tolist())
        one = slice(e, e + 1)
        query, support = (f.map(lambda x, one=one: x[one]) for f in (QUERY, SUPPORT))  # type: ignore[misc]
        torch.testing.assert_close(
            fixed(query, support, LABELS[one]), got[one], atol=1e-5, rtol=1e-5
        )


@every_case
def test_training_uses_equal_weights(name: str, options: dict[str, Any]) -> None:
    chosen, equal = (_build(name, **options, weights=w) for w in ("loo", "equal"))
    assert torch.equal(
        chosen.compute_support_logits(SUPPORT, LABELS),
        equal.compute_support_logits(SUPPORT, LABELS),
    )


@every_case
def test_with_one_clip_a_class_it_is_equal_weights_to_the_bit(
    name: str, options: dict[str, Any]
) -> None:
    lone = SUPPORT.map(lambda x: x[:, ::SHOT])
    chosen, equal = (_build(name, **options, weights=w) for w in ("loo", "equal"))
    labels = LABELS[:, ::SHOT]
    assert torch.equal(_weights(chosen, lone, labels), torch.ones(2, 2))
    assert torch.equal(chosen(QUERY, lone, labels), equal(QUERY, lone, labels))


@every_case
def test_one_lone_clip_in_an_episode_does_not_change_the_weights_of_another(
    name: str, options: dict[str, Any]
) -> None:
    labels = LABELS.clone()
    labels[0, 1:SHOT] = 1  # its class 0 has one clip now
    weights = _weights(_build(name, **options), SUPPORT, labels)
    assert torch.equal(weights[0], torch.ones(2))
    alone = _weights(_build(name, **options), SUPPORT, LABELS)[1]
    torch.testing.assert_close(weights[1], alone)


@every_case
def test_classes_may_have_different_numbers_of_clips(name: str, options: dict[str, Any]) -> None:
    fewer = torch.tensor([0, 1, 4, 5, 6, 7, 8, 9, 10])
    support, labels = SUPPORT.map(lambda x: x[:, fewer]), LABELS[:, fewer]
    weights = _weights(_build(name, **options), support, labels)
    assert weights[0, 0] > weights[0, 1]
    assert weights[1, 1] > weights[1, 0]


@every_case
def test_the_order_of_clips_and_the_queries_do_not_matter(
    name: str, options: dict[str, Any]
) -> None:
    head = _build(name, **options)
    order = torch.randperm(LABELS.shape[1], generator=torch.Generator().manual_seed(0))
    mixed = SUPPORT.map(lambda x: x[:, order])
    weights = _weights(head, SUPPORT, LABELS)
    torch.testing.assert_close(_weights(head, mixed, LABELS[:, order]), weights)
    scores = head(QUERY, SUPPORT, LABELS)
    few = head(QUERY.map(lambda x: x[:, 2:4]), SUPPORT, LABELS)
    torch.testing.assert_close(few, scores[:, 2:4], atol=1e-5, rtol=1e-5)


def test_weights_are_averaged_by_the_likelihood_of_the_clips_left_out() -> None:
    labels = torch.tensor([[0, 0, 1, 1]])
    sure = {0.0: 0.2, 0.5: 0.7, 1.0: 1.0, 1.5: 3.0, 2.0: 0.1}

    def _logits(weights: Tensor) -> Tensor:
        return torch.zeros(1, 4, 2).scatter(2, labels[..., None], sure[float(weights[0, 0])])

    likelihoods = {w: (1 / (1 + math.exp(-x))) ** 4 for w, x in sure.items()}
    mean = sum(w * p for w, p in likelihoods.items()) / sum(likelihoods.values())
    chosen = choose_weights(_logits, labels, way=2, count=2)
    torch.testing.assert_close(chosen, torch.tensor([[mean, 2 - mean]]))


def test_more_and_surer_clips_decide_more_clearly() -> None:
    def _chosen(clips: int) -> float:
        labels = torch.tensor([[0] * clips + [1] * clips])

        def _logits(weights: Tensor) -> Tensor:
            sure = float(weights[0, 0])
            return torch.zeros(1, 2 * clips, 2).scatter(2, labels[..., None], sure)

        return float(choose_weights(_logits, labels, way=2, count=2)[0, 0])

    assert 1.0 < _chosen(2) < _chosen(8) < _chosen(64) < 2.0
    assert _chosen(64) > 1.9


def test_many_readouts_have_their_weights_at_once() -> None:
    """A sieve of all tuples would look at 5 to the power of 20."""
    labels = torch.tensor([[0, 0, 1, 1]])
    chosen = choose_weights(lambda _: torch.zeros(1, 4, 2), labels, way=2, count=20)
    torch.testing.assert_close(chosen, torch.ones(1, 20))


@pytest.mark.parametrize("value", ["[-1,1]", "[nan,1]", "[]", "loos", "[true]", "1"])
def test_weights_of_another_form_are_answered_with_what_is_expected(value: str) -> None:
    spec = MethodSpec.parse(f"prototype:tokens=summary+motion,weights={value}")
    with pytest.raises(ConfigError, match=r"weights: got .*expected equal, loo, or a list of"):
        resolve_options("heads", spec)


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_all_steps_of_a_quarter_are_tried(count: int) -> None:
    labels, tried = torch.tensor([[0, 0, 1, 1]]), []

    def _logits(weights: Tensor) -> Tensor:
        tried.append(tuple(round(x, 4) for x in weights[0].tolist()))
        return torch.zeros(1, 4, 2)

    chosen = choose_weights(_logits, labels, way=2, count=count)
    torch.testing.assert_close(chosen, torch.ones(1, count))  # all are as likely
    if count == 1:
        assert not tried
        return
    assert all(abs(sum(weights) - count) < 1e-3 for weights in tried)
    corners = {tuple(float(count * (i == j)) for j in range(count)) for i in range(count)}
    assert corners <= set(tried)
    assert len(tried) == len(set(tried)) == {2: 5, 3: 15, 4: 35}[count]
