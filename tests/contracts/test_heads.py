"""What every head promises; a new head is tested without a line being added here."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from fewshot_i2v import registry
from fewshot_i2v.errors import HeadError
from fewshot_i2v.models.adapters.base.features import Features
from fewshot_i2v.models.heads.base.head import ClassTexts, Head, HeadOptions
from tests.contracts._heads import (
    EPISODES,
    FRAMES,
    JOINT,
    NAMES,
    QUERIES,
    READERS,
    SCALE,
    SEEDS,
    WAY,
    WIDTH,
    build,
    class_texts,
    default_logits,
    episode,
    every_head,
    features,
    losses,
    pick,
    reorder,
    seeded_parameters,
)


def test_there_are_heads_with_a_summary_and_a_source() -> None:
    assert {"linear", "prototype"} <= set(NAMES)
    for row in registry.list_methods("heads"):
        assert 10 <= len(row.summary) <= 90, row.name
        cls = registry.load_method("heads", row.name)
        assert issubclass(cls.Options, HeadOptions)
        assert len(cls.source) > 20


@pytest.mark.parametrize("name", NAMES)
def test_unknown_options_are_refused(name: str) -> None:
    with pytest.raises(ValidationError, match="no_such_option"):
        registry.load_method("heads", name).Options(no_such_option=1)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("sizes", [{"width": 0}, {"way": 0}, {"frames": 0}, {"seeds": []}])
def test_impossible_sizes_are_refused(name: str, sizes: dict[str, Any]) -> None:
    cls = registry.load_method("heads", name)
    given = {"width": WIDTH, "way": WAY, "frames": FRAMES, "seeds": [1]} | sizes
    given |= {"texts": class_texts()} if cls.uses_class_names else {}
    with pytest.raises(HeadError, match=r"at least 1|one seed"):
        cls(cls.Options(), **given)


@every_head
@pytest.mark.parametrize("shot", [1, 2])
def test_scores_are_finite_float32_of_the_stated_shape(
    name: str, options: dict[str, Any], shot: int
) -> None:
    training, scores = default_logits(name, options, shot)
    assert training.shape == (EPISODES, WAY * shot, WAY)
    assert scores.shape == (EPISODES, QUERIES, WAY)
    for logits in (training, scores):
        assert logits.dtype == torch.float32
        assert logits.isfinite().all()


@every_head
def test_lower_precision_around_the_head_changes_nothing(
    name: str, options: dict[str, Any]
) -> None:
    head = build(name, options)
    support, query, labels, _ = episode(2)
    plain = default_logits(name, options, 2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = head.compute_support_logits(support, labels), head(query, support, labels)
    for one, other in zip(plain, cast, strict=True):
        assert torch.equal(one, other)


def total_loss(
    head: Head, support: Features, query: Features, labels: Tensor, truth: Tensor
) -> Tensor:
    """Backpropagates training and query loss; the scores of the query clips."""
    scores: Tensor = head(query, support, labels)
    training = losses(head.compute_support_logits(support, labels), labels)
    (training + losses(scores, truth)).backward()  # type: ignore[no-untyped-call]
    return scores.detach()


@every_head
def test_episodes_side_by_side_equal_episodes_alone(name: str, options: dict[str, Any]) -> None:
    support, query, labels, truth = episode(2)
    together, frames = build(name, options), support.frames.clone().requires_grad_()
    scores = total_loss(together, features(frames), query, labels, truth)
    for e, seed in enumerate(SEEDS):
        part = slice(e, e + 1)
        one, own = (
            build(name, options, [seed], class_texts(part)),
            support.frames[part].clone().requires_grad_(),
        )
        alone = total_loss(one, features(own), pick(query, part), labels[part], truth[part])
        torch.testing.assert_close(alone, scores[part], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(own.grad, frames.grad[part], atol=1e-5, rtol=1e-5)  # type: ignore[index]
        for mine, shared in zip(one.parameters(), together.parameters(), strict=True):
            assert mine.grad is not None
            assert shared.grad is not None
            assert shared.shape[0] == EPISODES
            assert torch.equal(mine.data, shared.data[part])
            torch.testing.assert_close(mine.grad, shared.grad[part], atol=1e-5, rtol=1e-5)


@every_head
def test_order_of_clips_does_not_matter(name: str, options: dict[str, Any]) -> None:
    head = build(name, options)
    support, query, labels, _ = episode(2)
    training, scores = default_logits(name, options, 2)
    generator = torch.Generator().manual_seed(0)
    of_query = torch.randperm(QUERIES, generator=generator)
    of_support = torch.randperm(labels.shape[1], generator=generator)
    mixed = reorder(support, of_support), labels[:, of_support]
    torch.testing.assert_close(head(reorder(query, of_query), *mixed), scores[:, of_query])
    torch.testing.assert_close(head.compute_support_logits(*mixed), training[:, of_support])


@every_head
def test_renaming_the_classes_renames_the_scores(name: str, options: dict[str, Any]) -> None:
    head = build(name, options)
    if seeded_parameters(head):
        pytest.skip("the classes of a head with weights of its own have these weights")
    support, query, labels, _ = episode(2)
    order = torch.tensor([2, 0, 3, 1])
    # class c is now called order[c], so that name k is of the class order.argsort()[k]
    other = build(name, options, texts=class_texts(order=order.argsort().tolist()))
    renamed = other(query, support, order[labels])
    torch.testing.assert_close(renamed[..., order], default_logits(name, options, 2)[1])


@every_head
def test_same_seed_same_start_and_no_global_randomness(name: str, options: dict[str, Any]) -> None:
    before = torch.get_rng_state()
    first, again, other = (build(name, options, seeds) for seeds in (SEEDS, SEEDS, (4, 5)))
    support, query, labels, _ = episode(1)
    first.compute_support_logits(support, labels)
    first(query, support, labels)
    assert torch.equal(torch.get_rng_state(), before)
    pairs = zip(*(seeded_parameters(h) for h in (first, again, other)), strict=True)
    for one, same, different in pairs:
        assert torch.equal(one, same)
        drawn = bool((one != one.flatten()[0]).any())  # and not ones or zeros throughout
        assert not drawn or not torch.equal(one, different)


@every_head
def test_inputs_are_not_modified(name: str, options: dict[str, Any]) -> None:
    head = build(name, options)
    support, query, labels, _ = episode(2)
    kept = [t.clone() for t in (support.frames, support.clip, query.frames, query.clip, labels)]
    head.compute_support_logits(support, labels)
    head(query, support, labels)
    now = (support.frames, support.clip, query.frames, query.clip, labels)
    assert all(torch.equal(a, b) for a, b in zip(kept, now, strict=True))


@every_head
@pytest.mark.parametrize("value", [0.0, 1.7])
def test_clips_without_motion_or_content_give_finite_scores_and_gradients(
    name: str, options: dict[str, Any], value: float
) -> None:
    head = build(name, options)
    support, query, labels, _ = episode(2)
    frames = support.frames.clone()
    frames[:, ::2] = value
    frames.requires_grad_()
    still = features(frames)
    logits = head.compute_support_logits(still, labels)
    scores = head(features(torch.full_like(query.frames, value)), still, labels)
    (losses(logits, labels) + scores.sum()).backward()
    assert logits.isfinite().all()
    assert scores.isfinite().all()
    assert frames.grad is not None
    assert frames.grad.isfinite().all()
    assert frames.grad.abs().max() < 1e4


@every_head
@pytest.mark.parametrize("shot", [1, 2])
def test_tuned_on_its_training_loss_it_tells_clear_classes_apart(
    name: str, options: dict[str, Any], shot: int
) -> None:
    head = build(name, options)
    support, query, labels, truth = episode(shot, noise=0.1)
    for _ in range(20 if seeded_parameters(head) else 0):
        head.zero_grad()
        losses(head.compute_support_logits(support, labels), labels).backward()  # type: ignore[no-untyped-call]
        with torch.no_grad():
            for p in head.parameters():
                p.add_(p.grad, alpha=-0.05)  # type: ignore[arg-type]
    assert torch.equal(head(query, support, labels).argmax(-1), truth)


@every_head
def test_the_training_loss_reaches_the_features_and_every_parameter(
    name: str, options: dict[str, Any]
) -> None:
    """After two steps: a layer that ends in zeros reaches what is before them only then."""
    head = build(name, options)
    support, _, labels, _ = episode(2)
    frames = support.frames.clone().requires_grad_()
    for _ in range(3 if seeded_parameters(head) else 1):
        with torch.no_grad():
            for p in head.parameters():
                p.sub_(torch.zeros_like(p) if p.grad is None else 0.05 * p.grad)
        head.zero_grad()
        losses(head.compute_support_logits(features(frames), labels), labels).backward()  # type: ignore[no-untyped-call]
    assert frames.grad is not None
    assert (frames.grad.abs().sum((-1, -2)) > 0).all()
    assert all(p.grad is not None and p.grad.any() for p in head.parameters())


def _kept(head: Head, support: Features, labels: Tensor) -> int:
    """Values that autograd keeps of the training scores, parameters and labels aside."""
    others = [*head.parameters(), labels, support.frames]
    storages = {t.untyped_storage().data_ptr() for t in others}
    kept = []

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in storages:
            storages.add(storage.data_ptr())
            kept.append(storage.nbytes() // support.frames.element_size())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        scores = head.compute_support_logits(support, labels)
    assert scores.requires_grad
    return sum(kept)


@every_head
def test_what_training_keeps_is_what_the_head_says(name: str, options: dict[str, Any]) -> None:
    """A head that says 0 keeps little beside the features; others say at most twice too much."""
    head = build(name, options)
    support, _, labels, _ = episode(8)
    frames = support.frames.requires_grad_()
    said = EPISODES * head.saved_activations(labels.shape[1])
    kept = _kept(head, features(frames), labels)
    assert kept <= said + 12 * frames.numel()
    assert said <= 2 * kept


@every_head
def test_features_of_other_sizes_are_refused_with_both_sizes(
    name: str, options: dict[str, Any]
) -> None:
    head = build(name, options)
    support, _, labels, _ = episode(2)
    wide = features(torch.zeros(EPISODES, QUERIES, FRAMES, WIDTH + 1))
    with pytest.raises(HeadError, match=rf"{WIDTH} channels.*{WIDTH + 1}"):
        head(wide, support, labels)


@every_head
def test_state_survives_saving_and_loading(name: str, options: dict[str, Any]) -> None:
    second = build(name, options, [7, 8])
    second.load_state_dict(build(name, options).state_dict())
    support, query, labels, _ = episode(2)
    assert torch.equal(second(query, support, labels), default_logits(name, options, 2)[1])


@pytest.mark.parametrize("name", READERS)
def test_the_names_matter_to_a_head_that_says_so(name: str) -> None:
    support, query, labels, _ = episode(2)
    scores = [
        build(name, {}, texts=class_texts(order=order))(query, support, labels)
        for order in (range(WAY), [1, 0, 2, 3])
    ]
    assert not torch.equal(*scores)


@pytest.mark.parametrize("name", NAMES)
def test_templates_are_asked_of_heads_that_read_names_only(name: str) -> None:
    assert ("templates" in registry.load_method("heads", name).Options.model_fields) == (
        name in READERS
    )


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize(
    "templates", ["no place for a name", "a {} and a {}", "a {name}", "a {0}", "{{}}", [], [5], 5]
)
def test_templates_without_exactly_one_place_are_refused(name: str, templates: object) -> None:
    with pytest.raises(ValidationError, match="templates"):
        registry.load_method("heads", name).Options(templates=templates)


@pytest.mark.parametrize("name", READERS)
def test_one_template_may_stand_alone_and_several_in_a_list(name: str) -> None:
    options = registry.load_method("heads", name).Options
    assert options(templates="a {}").templates == ("a {}",)
    assert options(templates=["a {}", "the {}"]).templates == ("a {}", "the {}")


@pytest.mark.parametrize("name", READERS)
def test_texts_of_other_sizes_are_refused_with_both_sizes(name: str) -> None:
    given = class_texts()
    few = given.embeddings[:, :-1]
    narrow = torch.zeros(WIDTH - 1, JOINT)
    for wrong in (
        ClassTexts(few, given.projection, SCALE),
        ClassTexts(given.embeddings[:1], given.projection, SCALE),
        ClassTexts(given.embeddings, narrow, SCALE),
        ClassTexts(given.embeddings, None, SCALE),
    ):
        with pytest.raises(HeadError, match=rf"{EPISODES} episodes of {WAY} classes .*{WIDTH}"):
            build(name, {}, texts=wrong)


@pytest.mark.parametrize("name", READERS)
def test_names_are_not_compared_with_a_grid(name: str) -> None:
    with pytest.raises(HeadError, match="use tokens=summary"):
        build(name, {"tokens": "grid2"})


@every_head
def test_comparing_a_lonely_clip_with_itself_is_declared(
    name: str, options: dict[str, Any]
) -> None:
    """Then clips of noise, one per class, are told apart before any step."""
    noise = torch.randn(EPISODES, WAY, FRAMES, WIDTH, generator=torch.Generator().manual_seed(1))
    labels, head = torch.arange(WAY).expand(EPISODES, -1), build(name, options)
    known = torch.equal(head.compute_support_logits(features(noise), labels).argmax(-1), labels)
    assert head.compares_with_itself == known
