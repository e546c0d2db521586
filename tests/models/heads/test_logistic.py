"""The logistic head against scikit-learn on the same vectors, and its choice of C."""

from __future__ import annotations

import warnings

import numpy as np
import numpy.typing as npt
import pytest
import torch
from pydantic import ValidationError
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import LeaveOneOut, cross_val_predict
from torch import Tensor, nn

from fewshot_i2v.errors import HeadError
from fewshot_i2v.models.adapters.base.features import Features
from fewshot_i2v.models.heads import logistic
from fewshot_i2v.models.heads.logistic import (
    C_GRID,
    DEFAULT_C,
    LinearWeights,
    LogisticHead,
    LogisticOptions,
    choose_c,
)
from tests.models.heads.tiny_texts import LABELS, clips, make

Array = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]
PAIRS = torch.tensor([[0, 0, 1, 1, 2, 2], [2, 1, 0, 1, 0, 2], [0, 1, 2, 0, 1, 2]])


def clusters(way: int, shot: int, width: int, noise: float, seed: int = 0) -> tuple[Array, Labels]:
    rng = np.random.default_rng(seed)
    y = np.repeat(np.arange(way), shot)
    x = rng.normal(size=(way, width))[y] + noise * rng.normal(size=(len(y), width))
    return x, y


@pytest.mark.parametrize(
    ("options", "c"), [({"c": 3.0}, 3.0), ({"c": 0.2, "normalize": False}, 0.2), ({"c": 50}, 50.0)]
)
def test_scores_are_those_of_scikit_learn(options: dict[str, float], c: float) -> None:
    support, query = clips(6, seed=0), clips(5, seed=1)
    scores = make("logistic", None, **options)(query, support, LABELS)
    for e in range(3):
        x, q = support.clip[e].double().numpy(), query.clip[e].double().numpy()
        if options.get("normalize", True):
            x, q = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (x, q))
        model = LogisticRegression(C=c, tol=1e-10, max_iter=10_000).fit(x, LABELS[e])
        np.testing.assert_allclose(
            torch.softmax(scores[e], -1), model.predict_proba(q), atol=1e-4, rtol=1e-4
        )


def test_the_chosen_c_has_the_least_loss_on_clips_left_out() -> None:
    chosen = set()
    for seed, noise in enumerate((0.3, 3.0)):
        x, y = clusters(3, 3, 8, noise, seed)
        losses = []
        for c in C_GRID:
            model = LogisticRegression(C=c, tol=1e-10, max_iter=10_000)
            left_out = cross_val_predict(model, x, y, cv=LeaveOneOut(), method="predict_proba")
            losses.append(-np.log(left_out[np.arange(len(y)), y]).sum())
        best = C_GRID[int(np.argmin(losses))]
        assert choose_c(x, y) == best
        chosen.add(best)
    assert len(chosen) > 1, "these clusters do not tell values of C apart"


def test_every_judged_clip_is_unseen(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = clusters(3, 2, 6, 1.0)
    fits: list[set[tuple[float, ...]]] = []
    judged: list[tuple[float, ...]] = []
    fit, scores = logistic._fit, logistic._logits

    def watched_fit(x: Array, y: Labels, c: float) -> LinearWeights:
        fits.append({tuple(row) for row in x})
        return fit(x, y, c)

    def watched_scores(fitted: LinearWeights, q: Array) -> Array:
        if len(q) == 1:
            judged.append(tuple(q[0]))
        return scores(fitted, q)

    monkeypatch.setattr(logistic, "_fit", watched_fit)
    monkeypatch.setattr(logistic, "_logits", watched_scores)
    choose_c(x, y)
    assert len(fits) == len(judged) == len(C_GRID) * len(y)
    assert all(len(seen) == len(y) - 1 for seen in fits)
    assert not any(row in seen for row, seen in zip(judged, fits, strict=True))


def test_query_clips_have_no_part_in_the_choice_or_the_fit() -> None:
    support, query = clips(6, seed=0), clips(5, seed=1)
    head = make("logistic")
    whole = head(query, support, PAIRS)
    one = Features(query.frames[:, :1], query.clip[:, :1])
    torch.testing.assert_close(head(one, support, PAIRS), whole[:, :1])


def test_with_a_class_of_one_clip_c_is_the_default() -> None:
    x, y = clusters(3, 2, 6, 1.0)
    assert choose_c(x[:-1], y[:-1]) == DEFAULT_C
    support, query = clips(3, seed=0), clips(5, seed=1)
    labels = torch.tensor([[2, 0, 1]]).expand(3, -1)
    loo = make("logistic")(query, support, labels)
    fixed = make("logistic", None, c=DEFAULT_C)(query, support, labels)
    assert torch.equal(loo, fixed)


def head_of(way: int, **options: object) -> LogisticHead:
    return LogisticHead(
        LogisticOptions.model_validate(options), width=10, way=way, frames=4, seeds=(0, 0, 0)
    )


def documented(x: Array, y: Labels, c: float, way: int) -> tuple[Array, Array]:
    """Weights and intercepts at the documented minimum, by a general optimiser in float64."""
    vectors, labels = torch.from_numpy(x), torch.from_numpy(y)
    weight, bias = torch.zeros(way, x.shape[1]).double(), torch.zeros(way).double()
    steps = torch.optim.LBFGS(
        [weight.requires_grad_(), bias.requires_grad_()],
        max_iter=1_000,
        tolerance_grad=1e-10,
        tolerance_change=0,
        line_search_fn="strong_wolfe",
    )

    def loss() -> Tensor:
        steps.zero_grad()
        scores = vectors @ weight.T + bias
        value = nn.functional.cross_entropy(scores, labels, reduction="sum")
        value = value + weight.square().sum() / (2 * c)
        torch.autograd.backward(value)
        return value

    steps.step(loss)  # type: ignore[no-untyped-call]
    return weight.detach().numpy(), bias.detach().numpy()


@pytest.mark.parametrize("way", [2, 3])
@pytest.mark.parametrize("c", [0.1, 2.0, 30.0])
def test_for_any_number_of_classes_it_is_the_documented_multinomial_model(
    way: int, c: float
) -> None:
    x, y = clusters(way, 3, 4, 1.5)
    weight, bias = logistic._fit(x, y, c)
    expected = documented(x, y, c, way)
    np.testing.assert_allclose(weight, expected[0], atol=1e-6)
    # a number added to all intercepts changes nothing
    np.testing.assert_allclose(bias - bias.mean(), expected[1] - expected[1].mean(), atol=1e-6)


def test_two_classes_get_two_logits() -> None:
    support, query = clips(4, seed=0), clips(5, seed=1)
    labels = torch.tensor([[0, 1, 1, 0]]).expand(3, -1)
    scores = head_of(2, c=2.0, normalize=False)(query, support, labels)
    assert scores.shape == (3, 5, 2)
    for e in range(3):
        x, q = (f.clip[e].double().numpy() for f in (support, query))
        weight, bias = documented(x, labels[e].numpy(), 2.0, 2)
        expected = torch.from_numpy(q @ weight.T + bias).softmax(-1)
        torch.testing.assert_close(scores[e].softmax(-1).double(), expected, atol=1e-5, rtol=0)


def test_the_chosen_c_of_two_classes_is_of_the_documented_model_too() -> None:
    x, y = clusters(2, 3, 4, 1.5, seed=9)
    losses = []
    for c in C_GRID:
        total = 0.0
        for i in range(len(y)):
            weight, bias = documented(np.delete(x, i, 0), np.delete(y, i), c, 2)
            scores = weight @ x[i] + bias
            total += np.logaddexp.reduce(scores) - scores[y[i]]
        losses.append(total)
    assert choose_c(x, y) == C_GRID[int(np.argmin(losses))]


def test_one_class_is_refused() -> None:
    with pytest.raises(HeadError, match="at least 2"):
        head_of(1)


def test_training_scores_are_those_of_prototypes_of_the_same_vectors() -> None:
    support = clips(6, seed=0)
    plain = make("logistic", None, normalize=False, pooling="ordered", temperature=4.0)
    prototype = make("prototype", None, pooling="ordered", temperature=4.0)
    assert torch.equal(
        plain.compute_support_logits(support, LABELS),
        prototype.compute_support_logits(support, LABELS),
    )
    lengths = torch.linspace(0.1, 9, 6).view(1, 6, 1)
    scaled = Features(support.frames, support.clip * lengths)
    torch.testing.assert_close(
        make("logistic").compute_support_logits(scaled, LABELS),
        make("logistic").compute_support_logits(support, LABELS),
    )


def test_the_fit_sends_nothing_back() -> None:
    frames: Tensor = clips(6, seed=0).frames.requires_grad_()
    support = Features(frames, frames.mean(-2))
    head = make("logistic", None, c=1.0)
    assert head.compute_support_logits(support, LABELS).requires_grad
    assert not head(support, support, LABELS).requires_grad


def test_it_works_under_inference() -> None:
    support, query = clips(6, seed=0), clips(5, seed=1)
    head = make("logistic", None, c=1.0)
    plain = head(query, support, LABELS)
    with torch.inference_mode():
        assert torch.equal(head(query, support, LABELS), plain)


@pytest.mark.parametrize("way", [2, 3])
@pytest.mark.parametrize("scale", [0.0, 1e-3, 300.0])
def test_clips_that_cannot_be_told_apart_or_are_far_apart_still_converge(
    way: int, scale: float
) -> None:
    """The gradient of the documented loss is nearly zero at what the fit gives."""
    x, y = clusters(way, 2, 6, 1e-3)
    x *= scale
    for c in C_GRID:
        weight, bias = (torch.from_numpy(t).requires_grad_() for t in logistic._fit(x, y, c))
        scores = torch.from_numpy(x) @ weight.T + bias
        loss = nn.functional.cross_entropy(scores, torch.from_numpy(y), reduction="sum")
        torch.autograd.backward(loss + weight.square().sum() / (2 * c))
        assert weight.grad is not None
        assert bias.grad is not None
        assert weight.grad.abs().max() < 1e-7 * max(1.0, scale) * len(y)
        assert bias.grad.abs().max() < 1e-7 * len(y)


def test_a_fit_that_does_not_converge_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def give_up(*_: object) -> None:
        warnings.warn("no end in sight", ConvergenceWarning, stacklevel=1)

    monkeypatch.setattr(LogisticRegression, "fit", give_up)
    with pytest.raises(HeadError, match=r"c=1 does not converge: no end in sight\. Use normalize"):
        make("logistic", None, c=1.0)(clips(5, seed=1), clips(6, seed=0), LABELS)


@pytest.mark.parametrize("way", [2, 3])
def test_a_fit_that_stops_early_without_a_word_is_noticed(
    way: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a line search that fails far from the optimum."""
    x, y = clusters(way, 3, 4, 1.5)
    fit = LogisticRegression.fit

    def stop_early(model: LogisticRegression, *given: Array) -> None:
        fit(model, *given)
        model.coef_ *= 1.001

    monkeypatch.setattr(LogisticRegression, "fit", stop_early)
    with pytest.raises(HeadError, match=r"c=2 does not converge: the gradient is .*e-0\d, more"):
        logistic._fit(x, y, 2.0)


@pytest.mark.parametrize("c", [0.0, -1.0, float("inf"), "best", None])
def test_c_is_a_positive_number_or_loo(c: object) -> None:
    with pytest.raises(ValidationError, match="c"):
        LogisticOptions.model_validate({"c": c})
    assert LogisticOptions(c="loo") == LogisticOptions()


def test_centring_needs_ordered_frames_of_more_than_one() -> None:
    with pytest.raises(HeadError, match="use pooling=ordered"):
        LogisticOptions(center=True)
    with pytest.raises(HeadError, match="one frame"):
        LogisticHead(
            LogisticOptions(center=True, pooling="ordered"), width=4, way=2, frames=1, seeds=(0,)
        )
