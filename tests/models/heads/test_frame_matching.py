"""OTAM and Bi-MHM against loops written from their definitions."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from fewshot_i2v.models.adapters.base.features import Features
from fewshot_i2v.models.heads.base import features as head_features
from fewshot_i2v.models.heads.base.frame_matching import MatchingHead, frame_distances
from fewshot_i2v.models.heads.bi_mhm import BiMhmHead, BiMhmOptions
from fewshot_i2v.models.heads.otam import OtamHead, OtamOptions, alignment_cost
from tests.models.heads.samples import FRAMES, LABELS, ONE_SHOT, WAY, WIDTH, clips, of_class

Array = npt.NDArray[np.float64]
_SIZES: dict[str, Any] = {"width": WIDTH, "way": WAY, "frames": FRAMES, "seeds": (0, 0, 0)}


def otam(**options: object) -> OtamHead:
    return OtamHead(OtamOptions.model_validate(options), **_SIZES)


def bi_mhm(**options: object) -> BiMhmHead:
    return BiMhmHead(BiMhmOptions.model_validate(options), **_SIZES)


def frames_of(features: Features, e: int, i: int) -> Array:
    return features.frames[e, i].double().numpy()


def table(x: Array, y: Array, eps: float) -> Array:
    norms = np.linalg.norm(x, axis=1)[:, None] * np.linalg.norm(y, axis=1)[None, :]
    return np.asarray(1 - x @ y.T / (norms + eps))


def soft_min(values: list[float], lam: float) -> float:
    least = min(values)
    return least - lam * math.log(sum(math.exp((least - v) / lam) for v in values))


def slow_alignment(costs: Array, lam: float) -> float:
    """The recursion cell by cell, columns of zeros on both sides."""
    rows, columns = costs.shape
    padded = np.pad(costs, ((0, 0), (1, 1)))
    cell = np.zeros_like(padded)
    cell[0] = np.cumsum(padded[0])
    for i, j in itertools.product(range(1, rows), range(1, columns + 2)):
        before = [cell[i - 1, j - 1], cell[i, j - 1]]
        if j in (1, columns + 1):
            before.append(cell[i - 1, j])
        cell[i, j] = padded[i, j] + soft_min(before, lam)
    return float(cell[-1, -1])


def paths_alignment(costs: Array, lam: float) -> float:
    """The same as a sum over all paths through the padded table, each with its own cost."""
    rows, columns = costs.shape
    padded = np.pad(costs, ((0, 0), (1, 1)))

    def weight(i: int, j: int) -> float:
        own = math.exp(-padded[i, j] / lam)
        if i == 0:
            return own * (weight(0, j - 1) if j else 1.0)
        if j == 0:
            return 1.0
        steps = [(i - 1, j - 1), (i, j - 1)] + [(i - 1, j)] * (j in (1, columns + 1))
        return own * sum(weight(*step) for step in steps)

    return -lam * math.log(weight(rows - 1, columns + 1))


@pytest.mark.parametrize("lam", [0.1, 0.5, 3.0])
@pytest.mark.parametrize("shape", [(1, 1), (1, 4), (4, 1), (2, 2), (3, 5), (5, 3), (8, 8)])
def test_alignment_is_the_recursion(shape: tuple[int, int], lam: float) -> None:
    costs = torch.rand(2, 3, *shape, generator=torch.Generator().manual_seed(1)) * 2
    got = alignment_cost(costs, lam)
    for a, b in itertools.product(range(2), range(3)):
        plain = costs[a, b].double().numpy()
        assert got[a, b].item() == pytest.approx(slow_alignment(plain, lam), abs=1e-5)
        if max(shape) < 5:
            assert got[a, b].item() == pytest.approx(paths_alignment(plain, lam), abs=1e-5)


def test_gradients_of_the_alignment_are_those_of_finite_differences() -> None:
    generator = torch.Generator().manual_seed(2)
    costs = torch.rand(2, 3, 4, generator=generator, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda c: alignment_cost(c, 0.3), costs)


@pytest.mark.parametrize(("frames", "distance"), [(12, 1.0), (32, 2.0)])
def test_alignment_is_finite_where_direct_exponentiation_is_not(
    frames: int, distance: float
) -> None:
    lam = 0.1
    costs = torch.full((frames, frames), distance, requires_grad=True)
    direct = torch.exp(-costs.detach()[0].cumsum(0)[-1] / lam)
    assert torch.isinf(-lam * direct.log())
    got = alignment_cost(costs, lam)
    got.backward()  # type: ignore[no-untyped-call]
    expected = slow_alignment(costs.detach().double().numpy(), lam)
    assert got.item() == pytest.approx(expected, rel=1e-5)
    assert costs.grad is not None
    assert costs.grad.isfinite().all()
    # every path takes exactly one cell of each column after the first
    columns = costs.grad[:, 1:].sum(0)
    torch.testing.assert_close(columns, torch.ones(frames - 1), rtol=0, atol=1e-4)


def test_a_sharp_minimum_follows_the_cheapest_path() -> None:
    costs = torch.ones(4, 4) - torch.eye(4)
    assert alignment_cost(costs, 1e-3).item() == pytest.approx(0, abs=1e-2)
    assert alignment_cost(costs.flip(0), 1e-3).item() > 2


def otam_distance(options: OtamOptions) -> Callable[[Array, Array], float]:
    def distance(x: Array, y: Array) -> float:
        costs = table(x, y, options.eps)
        one, other = (slow_alignment(c, options.lam) for c in (costs, costs.T))
        return {"query": one, "support": other, "both": one + other}[options.directions]

    return distance


def bi_mhm_distance(options: BiMhmOptions) -> Callable[[Array, Array], float]:
    def distance(x: Array, y: Array) -> float:
        costs = table(x, y, options.eps)
        factor = 1 if options.reduce == "sum" else 1 / FRAMES
        return float(factor * (costs.min(1).sum() + costs.min(0).sum()))

    return distance


def slow_score(
    head: MatchingHead,
    distance: Callable[[Array, Array], float],
    x: Array,
    members: list[Array],
) -> float:
    if head.options.shots == "prototype":
        mean = distance(x, np.mean(members, axis=0))
    else:
        mean = float(np.mean([distance(x, y) for y in members]))
    return -head.temperature * mean


def case(name: str, options: dict[str, Any]) -> tuple[MatchingHead, Any]:
    if name == "otam":
        aligned = otam(**options)
        return aligned, otam_distance(aligned.options)
    nearest = bi_mhm(**options)
    return nearest, bi_mhm_distance(nearest.options)


_CASES = [
    *[
        ("otam", {"shots": shots, "directions": directions, "eps": eps, "temperature": 2.0})
        for shots, directions, eps in [
            ("mean", "both", 0.01),
            ("prototype", "query", 0.0),
            ("mean", "support", 0.3),
            ("prototype", "both", 0.01),
        ]
    ],
    *[
        ("bi-mhm", {"shots": shots, "reduce": reduce, "eps": eps})
        for shots, reduce, eps in [
            ("mean", "mean", 0.01),
            ("prototype", "sum", 0.0),
            ("prototype", "mean", 0.3),
        ]
    ],
]
every_case = pytest.mark.parametrize(("name", "options"), _CASES)


@every_case
def test_scores_are_minus_the_distances_to_the_classes(name: str, options: dict[str, Any]) -> None:
    head, distance = case(name, options)
    support, query = clips(6, seed=0), clips(5, seed=1)
    scores = head(query, support, LABELS)
    for e, q, c in itertools.product(range(3), range(5), range(WAY)):
        members = [frames_of(support, e, i) for i in of_class(LABELS, e, c)]
        expected = slow_score(head, distance, frames_of(query, e, q), members)
        assert scores[e, q, c].item() == pytest.approx(expected, rel=1e-4, abs=1e-4)


@every_case
@pytest.mark.parametrize("labels", [LABELS, ONE_SHOT], ids=["several", "one-shot"])
def test_in_training_a_clip_is_left_out_of_its_own_class(
    name: str, options: dict[str, Any], labels: Tensor
) -> None:
    head, distance = case(name, options)
    support = clips(labels.shape[1], seed=0)
    scores = head.compute_support_logits(support, labels)
    for e, s, c in itertools.product(range(3), range(labels.shape[1]), range(WAY)):
        members = [frames_of(support, e, i) for i in of_class(labels, e, c, without=s)]
        expected = slow_score(head, distance, frames_of(support, e, s), members)
        assert scores[e, s, c].item() == pytest.approx(expected, rel=1e-4, abs=1e-4)


def test_one_shot_makes_no_difference_between_mean_and_prototype() -> None:
    support, query = clips(3, seed=0), clips(5, seed=1)
    for build in (otam, bi_mhm):
        mean, prototype = (build(shots=s)(query, support, ONE_SHOT) for s in ("mean", "prototype"))
        torch.testing.assert_close(mean, prototype)


def test_otam_sees_the_order_of_frames_and_bi_mhm_does_not() -> None:
    states = torch.eye(FRAMES, WIDTH)
    frames = torch.stack([states, states.flip(0), torch.full_like(states, 5.0)])
    support = Features(frames.expand(3, -1, -1, -1), frames.mean(-2).expand(3, -1, -1))
    labels = torch.arange(3).expand(3, -1)
    aligned, nearest = otam()(support, support, labels), bi_mhm()(support, support, labels)
    assert (aligned[:, 0, 0] > aligned[:, 0, 1] + 1).all()
    assert (aligned[:, 1, 1] > aligned[:, 1, 0] + 1).all()
    torch.testing.assert_close(nearest[:, 0, 0], nearest[:, 0, 1])


def test_the_constant_is_added_to_the_product_of_the_norms() -> None:
    x, y = torch.tensor([[[0.1, 0.0]]]), torch.tensor([[[0.3, 0.4], [0.0, 0.0]]])
    got = frame_distances(x, y, eps=0.05)
    torch.testing.assert_close(got, torch.tensor([[[[1 - 0.03 / (0.05 + 0.05), 1.0]]]]))


@pytest.mark.parametrize("eps", [0.0, 0.01])
@pytest.mark.parametrize("build", [otam, bi_mhm])
def test_frames_of_zeros_give_finite_gradients(
    build: Callable[..., MatchingHead], eps: float
) -> None:
    frames = clips(6, seed=0).frames.clone()
    frames[:, ::2, 1:] = 0.0
    frames.requires_grad_()
    logits = build(eps=eps).compute_support_logits(Features(frames, frames.mean(-2)), LABELS)
    logits.square().sum().backward()  # type: ignore[no-untyped-call]
    assert logits.isfinite().all()
    assert frames.grad is not None
    assert frames.grad.isfinite().all()


@pytest.mark.parametrize("shots", ["mean", "prototype"])
def test_many_queries_are_scored_in_pieces(shots: str, monkeypatch: pytest.MonkeyPatch) -> None:
    support, query = clips(6, seed=0), clips(7, seed=1)
    whole = otam(shots=shots)(query, support, LABELS)
    monkeypatch.setattr(head_features, "_CHUNK_ELEMENT_BUDGET", 2 * 3 * 6 * FRAMES**2)
    torch.testing.assert_close(otam(shots=shots)(query, support, LABELS), whole)


def test_temperature_is_a_factor_and_follows_the_reduction_unless_given() -> None:
    support, query = clips(6, seed=0), clips(5, seed=1)
    low, high = (otam(temperature=t)(query, support, LABELS) for t in (1.0, 7.0))
    torch.testing.assert_close(7 * low, high)
    means, sums = (bi_mhm(reduce=r)(query, support, LABELS) for r in ("mean", "sum"))
    torch.testing.assert_close(means / 10 * FRAMES, sums)
    assert bi_mhm(reduce="sum", temperature=3.0).temperature == 3.0


@pytest.mark.parametrize(
    ("options", "given"),
    [
        (OtamOptions, {"lam": 0.0}),
        (OtamOptions, {"lam": math.nan}),
        (OtamOptions, {"eps": -0.1}),
        (OtamOptions, {"temperature": 0.0}),
        (OtamOptions, {"directions": "back"}),
        (BiMhmOptions, {"reduce": "max"}),
        (BiMhmOptions, {"shots": "first"}),
        (BiMhmOptions, {"temperature": math.inf}),
    ],
)
def test_values_outside_the_range_are_refused(options: type[Any], given: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=next(iter(given))):
        options.model_validate(given)


def test_they_have_no_parameters() -> None:
    assert not list(otam().parameters())
    assert not list(bi_mhm().parameters())
