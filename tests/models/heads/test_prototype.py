"""The prototype head against loops written from its definition."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from fewshot_i2v.errors import HeadError
from fewshot_i2v.models.adapters.base.features import Features
from fewshot_i2v.models.heads.prototype import PrototypeHead, PrototypeOptions
from tests.models.heads import samples

WIDTH, WAY, FRAMES = 10, 3, 4
Array = npt.NDArray[np.float64]
# episodes with different, unbalanced and unsorted numbers of support clips per class
LABELS = torch.tensor([[0, 0, 1, 1, 1, 2], [2, 1, 0, 1, 2, 2], [0, 1, 2, 0, 1, 2]])
ALLOWED = [
    {"pooling": pooling, "center": center, "metric": metric, "temperature": 3.0}
    for pooling, center, metric in itertools.product(
        ("clip", "mean", "ordered"), (False, True), ("cosine", "euclidean")
    )
    if pooling == "ordered" or not center
]
every_option = pytest.mark.parametrize(
    "options", ALLOWED, ids=lambda o: f"{o['pooling']}-{o['metric']}-center={o['center']}"
)


def clips(number: int, seed: int) -> Features:
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(3, number, FRAMES, WIDTH, generator=generator) + 2
    return Features(drawn, 2 * drawn[..., 0, :] - drawn[..., 1, :])


def head(frames: int = FRAMES, **options: object) -> PrototypeHead:
    chosen = PrototypeOptions.model_validate(options)
    return PrototypeHead(chosen, width=WIDTH, way=WAY, frames=frames, seeds=(0, 0, 0))


def vector(features: Features, e: int, i: int, options: dict[str, Any]) -> Array:
    frames = features.frames[e, i].double().numpy()
    if options["pooling"] == "clip":
        return features.clip[e, i].double().numpy()
    if options["pooling"] == "mean":
        return np.asarray(frames.mean(0))
    return np.asarray((frames - frames.mean(0) * options["center"]).ravel())


def score(x: Array, prototype: Array, options: dict[str, Any]) -> float:
    if options["metric"] == "cosine":
        similarity = x @ prototype / np.sqrt((x @ x) * (prototype @ prototype))
    else:
        similarity = -((x - prototype) ** 2).sum() / len(x)
    return float(options["temperature"] * similarity)


@every_option
def test_scores_are_those_of_the_class_means(options: dict[str, Any]) -> None:
    support, query = clips(6, seed=0), clips(5, seed=1)
    scores = head(**options)(query, support, LABELS)
    for e, q, c in itertools.product(range(3), range(5), range(WAY)):
        members = [vector(support, e, i, options) for i in range(6) if LABELS[e, i] == c]
        prototype = np.mean(members, axis=0)
        expected = score(vector(query, e, q, options), prototype, options)
        assert scores[e, q, c].item() == pytest.approx(expected, rel=1e-4, abs=1e-4)


@every_option
def test_in_training_a_clip_is_not_part_of_its_own_prototype(options: dict[str, Any]) -> None:
    support = clips(6, seed=0)
    scores = head(**options).compute_support_logits(support, LABELS)
    for e, s, c in itertools.product(range(3), range(6), range(WAY)):
        members = [i for i in range(6) if LABELS[e, i] == c and i != s] or [s]
        prototype = np.mean([vector(support, e, i, options) for i in members], axis=0)
        expected = score(vector(support, e, s, options), prototype, options)
        assert scores[e, s, c].item() == pytest.approx(expected, rel=1e-4, abs=1e-4)


def test_with_one_shot_the_own_score_is_the_highest_possible_and_constant() -> None:
    labels = torch.tensor([[2, 0, 1]]).expand(3, -1)
    frames = clips(3, seed=0).frames.requires_grad_()
    support = Features(frames, frames.mean(-2))
    own = (
        head(temperature=7.0)
        .compute_support_logits(support, labels)
        .gather(-1, labels.unsqueeze(-1))
    )
    torch.testing.assert_close(own, torch.full_like(own, 7.0))
    own.sum().backward()  # type: ignore[no-untyped-call]
    assert frames.grad is not None
    assert frames.grad.abs().max() < 1e-5


def test_the_prototype_is_the_mean_of_vectors_that_are_not_normalised() -> None:
    frames = torch.zeros(3, 4, FRAMES, WIDTH)
    frames[:, 0, :, 0] = 9.0
    frames[:, 1, :, 1] = 1.0
    frames[:, 2, :, 2] = frames[:, 3, :, 3] = 1.0
    labels = torch.tensor([[0, 0, 1, 2]]).expand(3, -1)
    features = Features(frames, frames.mean(-2))
    scores = head(temperature=1.0)(features, features, labels)
    assert scores[0, 0, 0].item() == pytest.approx(9 / 82**0.5, rel=1e-6)


def test_temperature_never_changes_the_prediction() -> None:
    support, query = clips(6, seed=0), clips(9, seed=1)
    low, high = (head(temperature=t)(query, support, LABELS) for t in (0.1, 50.0))
    assert torch.equal(low.argmax(-1), high.argmax(-1))
    torch.testing.assert_close(500 * low, high)


def moving(backwards: bool) -> Tensor:
    """Frames that go through the same states forwards or backwards, (3, 1, T, D)."""
    states = torch.eye(FRAMES, WIDTH)
    return (states.flip(0) if backwards else states).expand(3, 1, -1, -1)


def test_ordered_frames_tell_a_motion_from_its_reverse_and_means_do_not() -> None:
    frames = torch.cat([moving(False), moving(True), torch.full((3, 1, FRAMES, WIDTH), 5.0)], 1)
    support = Features(frames, frames.mean(-2))
    labels = torch.tensor([[0, 1, 2]]).expand(3, -1)
    mean = head(pooling="mean")(support, support, labels)
    torch.testing.assert_close(mean[:, 0, 0], mean[:, 0, 1])
    ordered = head(pooling="ordered")(support, support, labels)
    assert (ordered[:, 0, 0] > ordered[:, 0, 1] + 1).all()
    assert (ordered[:, 1, 1] > ordered[:, 1, 0] + 1).all()


def test_centering_removes_what_stays_the_same_within_a_clip() -> None:
    support, query = clips(6, seed=0), clips(5, seed=1)
    moved = Features(query.frames + 100 * query.frames[:, :, :1], query.clip)
    shifted = Features(query.frames + torch.linspace(-9, 9, WIDTH), query.clip)
    built = head(pooling="ordered", center=True)
    plain = built(query, support, LABELS)
    torch.testing.assert_close(built(shifted, support, LABELS), plain, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(built(moved, support, LABELS), plain, atol=1e-2, rtol=1e-2)


def test_a_static_clip_is_centred_to_zero_even_where_rounding_leaves_something() -> None:
    support = clips(6, seed=0)
    frame = torch.randn(3, 5, 1, WIDTH, generator=torch.Generator().manual_seed(5))
    still = Features((frame * 1.1).expand(-1, -1, 7, -1), frame.squeeze(-2))
    assert (still.frames - still.frames.mean(-2, keepdim=True)).any(), (
        "no rounding to guard against"
    )
    long = Features(support.frames.repeat(1, 1, 2, 1)[:, :, :7], support.clip)
    assert not head(frames=7, pooling="ordered", center=True)(still, long, LABELS).any()


@pytest.mark.parametrize("pooling", ["mean", "clip"])
def test_centering_needs_ordered_frames(pooling: str) -> None:
    with pytest.raises(HeadError, match="use pooling=ordered"):
        head(pooling=pooling, center=True)


def test_centering_needs_more_than_one_frame() -> None:
    with pytest.raises(HeadError, match="one frame"):
        head(frames=1, pooling="ordered", center=True)


def test_a_class_without_support_is_named() -> None:
    labels = LABELS.clone()
    labels[1][labels[1] == 0] = 2
    with pytest.raises(HeadError, match="class 0 of episode 1"):
        head()(clips(5, seed=1), clips(6, seed=0), labels)


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
def test_temperature_must_be_positive_and_finite(value: float) -> None:
    with pytest.raises(ValidationError, match="temperature"):
        PrototypeOptions(temperature=value)


def test_it_has_no_parameters() -> None:
    assert not list(head().parameters())


def test_a_subclass_may_override_the_query_logits_alone() -> None:
    """What a class prepares for its own logits is not taken for those of a subclass."""

    class Negated(PrototypeHead):
        def query_logits(self, query: Features, support: Features, labels: Tensor) -> Tensor:
            return -super().query_logits(query, support, labels)

    arguments: dict[str, Any] = {"width": 10, "way": 3, "frames": 4, "seeds": [0, 1, 2]}
    query, support = samples.clips(5, seed=1), samples.clips(6, seed=2)
    plain, negated = (cls(PrototypeOptions(), **arguments) for cls in (PrototypeHead, Negated))
    scores = plain.scorer(support, samples.LABELS)(query)
    torch.testing.assert_close(scores, plain.query_logits(query, support, samples.LABELS))
    torch.testing.assert_close(negated(query, support, samples.LABELS), -scores)
