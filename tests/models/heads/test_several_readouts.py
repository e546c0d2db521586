"""Heads that read several readouts at once, against heads that read one of them each."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from fewshot_i2v import registry
from fewshot_i2v.errors import HeadError
from fewshot_i2v.models.adapters.base.features import Features
from fewshot_i2v.models.heads.base import features as head_features
from fewshot_i2v.models.heads.base.comparison_head import ComparisonHead
from fewshot_i2v.models.heads.base.head import Head
from fewshot_i2v.models.heads.base.readout_weights import scale_readouts
from tests.models.heads.samples import EPISODES, FRAMES, LABELS, ONE_SHOT, WAY, WIDTH
from tests.models.heads.samples import clips as summaries

READOUTS = ("summary", "grid2", "motion3")
TOKENS = "+".join(READOUTS)
COMPARING = ("prototype", "nearest", "otam", "bi-mhm", "logistic")
ORDERED: dict[str, Any] = {"pooling": "ordered", "center": True}
CASES: list[tuple[str, dict[str, Any]]] = [
    ("prototype", {}),
    ("prototype", {"pooling": "mean"}),
    ("prototype", ORDERED),
    ("nearest", {"softness": 0.2}),
    ("nearest", ORDERED),
    ("otam", {}),
    ("otam", {"shots": "prototype"}),
    ("bi-mhm", {}),
    ("bi-mhm", {"shots": "mean"}),
    ("logistic", {"c": 1.0}),
]
every_case = pytest.mark.parametrize(("name", "options"), CASES, ids=str)


def clips(number: int, seed: int) -> Features:
    """Clips of summary tokens and two grids, which say different things."""
    generator = torch.Generator().manual_seed(100 + seed)
    grids = {
        size: torch.randn(EPISODES, number, FRAMES, size**2, WIDTH, generator=generator)
        for size in (2, 3)
    }
    plain = summaries(number, seed)
    return Features(plain.frames, plain.clip, grids)


def build(name: str, tokens: str, seeds: int = EPISODES, **options: Any) -> Any:  # noqa: ANN401 - of any head
    """A head of the sizes of `clips`."""
    cls = registry.load_method("heads", name)
    return cls(
        cls.Options.model_validate({"tokens": tokens, **options}).for_encoder(3),
        width=WIDTH,
        way=WAY,
        frames=FRAMES,
        seeds=[0] * seeds,
    )


SUPPORT, QUERY = clips(6, 0), clips(5, 1)
LONE = SUPPORT.map(lambda x: x[:, :WAY])


def _logits(head: Head, support: Features, labels: Tensor) -> tuple[Tensor, Tensor]:
    return head.compute_support_logits(support, labels), head(QUERY, support, labels)


def test_readouts_stand_side_by_side() -> None:
    head = build("prototype", "motion3+summary+grid2")
    assert head.readout_widths == [9, WIDTH, 4 * WIDTH]
    assert head.width == 9 + 5 * WIDTH
    assert head.grid_sizes == (2, 3)
    both = head.select_tokens(SUPPORT)
    singles = [build("prototype", r).select_tokens(SUPPORT) for r in ("motion3", *READOUTS[:2])]
    assert torch.equal(both.frames, torch.cat([x.frames for x in singles], -1))
    assert torch.equal(both.clip, torch.cat([x.clip for x in singles], -1))


def test_one_grid_serves_a_grid_and_a_map() -> None:
    head = build("prototype", "grid3+motion3")
    assert head.grid_sizes == (3,)
    assert head.readout_widths == [9 * WIDTH, 9]


def test_a_grid_that_the_features_lack_is_named() -> None:
    with pytest.raises(HeadError, match=r"reads a grid of patch tokens, 1 cells on a side; got"):
        build("prototype", "grid1+motion3").compute_support_logits(SUPPORT, LABELS)


@pytest.mark.parametrize("options", [{}, {"pooling": "mean", "temperature": 3.0}, ORDERED], ids=str)
def test_logits_to_class_means_are_the_sum_of_those_of_each_readout(
    options: dict[str, Any],
) -> None:
    both = _logits(build("prototype", TOKENS, **options), SUPPORT, LABELS)
    singles = [_logits(build("prototype", r, **options), SUPPORT, LABELS) for r in READOUTS]
    for got, *parts in zip(both, *singles, strict=True):
        torch.testing.assert_close(got, torch.stack(parts).sum(0), atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("options", [{}, {"softness": 0.2}, ORDERED], ids=str)
def test_clips_are_as_near_as_all_readouts_together_say(options: dict[str, Any]) -> None:
    """With one clip a class, its logits are sums; with more, the similarities are."""
    both = _logits(build("nearest", TOKENS, **options), LONE, ONE_SHOT)
    singles = [_logits(build("nearest", r, **options), LONE, ONE_SHOT) for r in READOUTS]
    for got, *parts in zip(both, *singles, strict=True):
        torch.testing.assert_close(got, torch.stack(parts).sum(0), atol=2e-5, rtol=1e-5)

    def _similarities(tokens: str) -> Tensor:
        head = build("nearest", tokens, **options)
        x, y = (head.comparable(head.select_tokens(f)) for f in (QUERY, SUPPORT))
        similarities: Tensor = head.similarities(x, y)
        return similarities

    expected = torch.stack([_similarities(r) for r in READOUTS]).sum(0)
    torch.testing.assert_close(_similarities(TOKENS), expected, atol=2e-6, rtol=1e-5)


@pytest.mark.parametrize("name", ["otam", "bi-mhm"])
@pytest.mark.parametrize("weights", [None, (0.5, 2.0, 0.25)])
def test_distances_of_frames_are_the_weighted_sum_of_those_of_each_readout(
    name: str, weights: tuple[float, ...] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def _frame_distances(tokens: str, weights: Tensor | None) -> Tensor:
        head = build(name, tokens)
        monkeypatch.setattr(head, "clip_distances", lambda distances: distances)
        x, y = (head.comparable(head.select_tokens(f)) for f in (QUERY, SUPPORT))
        distances: Tensor = head.pairwise_distances(x, y, weights)
        return distances

    rows = None if weights is None else torch.tensor([weights]).expand(EPISODES, -1)
    got = _frame_distances(TOKENS, rows)
    assert got.shape == (EPISODES, 5, 6, FRAMES, FRAMES)
    parts = [_frame_distances(readout, None) for readout in READOUTS]
    expected = sum(w * part for w, part in zip(weights or (1, 1, 1), parts, strict=True))
    torch.testing.assert_close(got, expected, atol=5e-6, rtol=1e-5)


@pytest.mark.parametrize("weights", ["equal", [1, 4, 0.25]])
def test_the_fitted_classifier_sees_the_scaled_readouts_as_one_vector(
    weights: str | list[float],
) -> None:
    got = build("logistic", TOKENS, c=1.0, weights=weights, **ORDERED)(QUERY, SUPPORT, LABELS)
    roots = torch.tensor([1.0, 1.0, 1.0] if isinstance(weights, str) else weights).sqrt()
    head = build("logistic", TOKENS, **ORDERED)

    def _vectors(given: Features) -> Features:
        x = head.comparable(head.select_tokens(given))
        x = scale_readouts(x, head.vector_sizes, roots.expand(EPISODES, -1))
        return Features(x[:, :, None], x)

    cls = registry.load_method("heads", "logistic")
    plain = cls(
        cls.Options(c=1.0, normalize=False),
        width=sum(head.vector_sizes),
        way=WAY,
        frames=1,
        seeds=[0] * EPISODES,
    )
    expected = plain(_vectors(QUERY), _vectors(SUPPORT), LABELS)
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-5)


@every_case
def test_a_weight_of_zero_leaves_the_other_readout_alone(
    name: str, options: dict[str, Any]
) -> None:
    both = _logits(build(name, "summary+grid2", weights=[2, 0], **options), SUPPORT, LABELS)
    alone = _logits(build(name, "summary", **options), SUPPORT, LABELS)
    one = _logits(build(name, "summary+grid2", weights=[1, 0], **options), SUPPORT, LABELS)
    for got, expected in zip(one, alone, strict=True):
        torch.testing.assert_close(got, expected, atol=2e-5, rtol=1e-5)
    if name == "prototype" or (name, options.get("softness", 0)) == ("nearest", 0):
        for got, expected in zip(both, alone, strict=True):
            torch.testing.assert_close(got, 2 * expected, atol=4e-5, rtol=1e-5)
    elif name == "bi-mhm":  # sums and minima double with the distances
        for got, expected in zip(both, alone, strict=True):
            torch.testing.assert_close(got, 2 * expected, atol=1e-4, rtol=1e-5)


@every_case
def test_the_order_of_readouts_does_not_matter(name: str, options: dict[str, Any]) -> None:
    first = _logits(
        build(name, "summary+grid2+motion3", weights=[3, 1, 2], **options), SUPPORT, LABELS
    )
    second = _logits(
        build(name, "motion3+summary+grid2", weights=[2, 3, 1], **options), SUPPORT, LABELS
    )
    for one, other in zip(first, second, strict=True):
        torch.testing.assert_close(one, other, atol=2e-4, rtol=1e-5)


@every_case
@pytest.mark.parametrize("weights", ["equal", "loo", [1, 2, 0]])
def test_episodes_together_equal_each_alone(
    name: str, options: dict[str, Any], weights: object
) -> None:
    together = _logits(build(name, TOKENS, weights=weights, **options), SUPPORT, LABELS)
    for e in range(EPISODES):
        part = slice(e, e + 1)
        head = build(name, TOKENS, 1, weights=weights, **options)
        support, labels = SUPPORT.map(lambda x, part=part: x[part]), LABELS[part]  # type: ignore[misc]
        query = QUERY.map(lambda x, part=part: x[part])  # type: ignore[misc]
        alone = head.compute_support_logits(support, labels), head(query, support, labels)
        for got, expected in zip(together, alone, strict=True):
            torch.testing.assert_close(got[part], expected, atol=2e-5, rtol=1e-5)


@every_case
@pytest.mark.parametrize("weights", ["equal", "loo"])
def test_queries_in_chunks_have_the_same_logits(
    name: str, options: dict[str, Any], weights: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    head = build(name, TOKENS, weights=weights, **options)
    expected = head(QUERY, SUPPORT, LABELS)
    monkeypatch.setattr(head_features, "_CHUNK_ELEMENT_BUDGET", 1)
    torch.testing.assert_close(head(QUERY, SUPPORT, LABELS), expected, atol=1e-5, rtol=1e-5)


@every_case
def test_the_training_loss_reaches_every_readout(name: str, options: dict[str, Any]) -> None:
    parts = [SUPPORT.frames, SUPPORT.clip, *SUPPORT.grids.values()]
    frames, clip, *grids = (part.clone().requires_grad_() for part in parts)
    support = Features(frames, clip, dict(zip((2, 3), grids, strict=True)))
    head = build(name, TOKENS, weights="loo", **options)
    head.compute_support_logits(support, LABELS).logsumexp(-1).sum().backward()
    readers = [*grids, clip if name in COMPARING and _reads_clip(head) else frames]
    for tensor in readers:
        assert tensor.grad is not None
        assert tensor.grad.isfinite().all()
        assert (tensor.grad.flatten(2).abs().sum(-1) > 0).all()


def _reads_clip(head: ComparisonHead) -> bool:
    return getattr(head.options, "pooling", "frames") == "clip"


@pytest.mark.parametrize(
    ("name", "options", "ordered"),
    [
        ("prototype", {}, False),
        ("prototype", ORDERED, True),
        ("nearest", ORDERED, True),
        ("otam", {}, True),
        ("bi-mhm", {}, False),
    ],
    ids=str,
)
def test_frames_in_another_order_matter_to_ordered_heads_alone(
    name: str, options: dict[str, Any], ordered: bool
) -> None:
    def _reversed(x: Tensor) -> Tensor:
        return x if x.ndim == 3 else x.flip(2)  # pooled features have no frames

    head = build(name, TOKENS, **options)
    expected = head(QUERY, SUPPORT, LABELS)
    backwards = head(QUERY.map(_reversed), SUPPORT, LABELS)
    both = head(QUERY.map(_reversed), SUPPORT.map(_reversed), LABELS)
    assert ((backwards - expected).abs().max() > 1e-2) == ordered
    if name != "otam":  # its paths start at the first frames
        torch.testing.assert_close(both, expected, atol=5e-5, rtol=1e-4)


@every_case
def test_static_clips_give_finite_logits_and_gradients(name: str, options: dict[str, Any]) -> None:
    still = SUPPORT.map(lambda x: x if x.ndim == 3 else x[:, :, :1].repeat_interleave(FRAMES, 2))
    grids = {size: grid.clone().requires_grad_() for size, grid in still.grids.items()}
    support = Features(still.frames, still.clip, grids)
    head = build(name, TOKENS, weights="loo", **options)
    training, scores = _logits(head, support, LABELS)
    training.square().sum().backward()  # type: ignore[no-untyped-call]
    assert training.isfinite().all()
    assert scores.isfinite().all()
    assert all(g.grad is not None and g.grad.isfinite().all() for g in grids.values())


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("prototype", {"metric": "euclidean"}, "metric=euclidean with tokens=summary.grid2"),
        ("nearest", {"metric": "euclidean"}, "have no common size; use metric=cosine"),
        ("otam", {"eps": 0.01}, "eps=0.01 with tokens=summary.grid2.*use eps=0"),
        ("bi-mhm", {"eps": 0.01}, "eps=0.01 with tokens=summary.grid2.*use eps=0"),
        ("prototype", {"weights": [1]}, r"weights=\[1.0\]: expected one number for each of"),
        ("otam", {"weights": [1, 2, 3]}, "expected one number for each of"),
        ("nearest", {"weights": [0, 0]}, "not all of them 0; or equal, or loo"),
    ],
)
def test_what_does_not_go_together_is_refused(
    name: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(HeadError, match=message):
        build(name, "summary+grid2", **options)


@pytest.mark.parametrize("name", COMPARING)
@pytest.mark.parametrize("weights", [[1, -1], "best", [float("nan"), 1], [float("inf"), 1], []])
def test_impossible_weights_are_refused(name: str, weights: object) -> None:
    with pytest.raises((ValidationError, HeadError), match="weights"):
        build(name, "summary+grid2", weights=weights)


@pytest.mark.parametrize("name", ["linear", "trx", "zero-shot", "tip", "text-prototype"])
def test_heads_that_do_not_compare_have_no_weights(name: str) -> None:
    with pytest.raises(ValidationError, match="weights"):
        registry.load_method("heads", name).Options.model_validate({"weights": "loo"})


@pytest.mark.parametrize("name", COMPARING)
def test_only_one_weight_fits_one_readout(name: str) -> None:
    quick: dict[str, Any] = {"c": 1.0} if name == "logistic" else {}
    expected = build(name, "motion3", **quick)(QUERY, SUPPORT, LABELS)
    for weights in ("equal", "loo", [1]):
        got = build(name, "motion3", weights=weights, **quick)(QUERY, SUPPORT, LABELS)
        torch.testing.assert_close(got, expected)
    with pytest.raises(HeadError, match="expected one number"):
        build(name, "motion3", weights=[1, 1])


@pytest.mark.parametrize("name", ["linear", "trx"])
def test_heads_with_parameters_read_several_too(name: str) -> None:
    head = build(name, TOKENS)
    scores = head(QUERY, SUPPORT, LABELS)
    assert scores.shape == (EPISODES, 5, WAY)
    other = Features(QUERY.frames, QUERY.clip, {**QUERY.grids, 3: QUERY.grids[3].flip(3)})
    assert not torch.allclose(head(other, SUPPORT, LABELS), scores)


def test_tokens_and_readouts_name_the_same_option() -> None:
    options = registry.load_method("heads", "prototype").Options
    assert options.model_validate({"readouts": "grid4+motion"}).tokens == "grid4+motion"
    assert options.model_validate({"readouts": "grid4+motion"}) == options.model_validate(
        {"tokens": "grid4+motion"}
    )
    with pytest.raises(ValidationError, match="readouts"):
        options.model_validate({"readouts": "grid4", "tokens": "grid4"})


@pytest.mark.parametrize("name", COMPARING)
def test_one_readout_is_not_split_on_the_way_of_its_gradients(name: str) -> None:
    """It would add gradients up in another order, and trainings begun before would go elsewhere."""
    frames = SUPPORT.frames.clone().requires_grad_()
    head = build(name, "summary", **(ORDERED if name in ("prototype", "nearest") else {}))
    logits = head.compute_support_logits(Features(frames, frames.mean(-2)), LABELS)
    visited, waiting = set(), [logits.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is not None and node not in visited:
            visited.add(node)
            assert "Split" not in node.name()
            waiting += [following for following, _ in node.next_functions]
