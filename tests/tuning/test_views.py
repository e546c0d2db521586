"""Several views of each support clip in a step, and label smoothing."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from fewshot_i2v import registry
from fewshot_i2v.config.base import FinetuneConfig
from fewshot_i2v.models.adapters.base.adapted_encoder import AdaptedEncoder
from fewshot_i2v.models.encoders.tower import Tower
from fewshot_i2v.models.heads.base.head import Head
from fewshot_i2v.tuning.augmentation import SupportAugmenter
from fewshot_i2v.tuning.finetune import EpisodeInputs, finetune
from fewshot_i2v.tuning.support_loss import episode_losses
from tests.tiny import tiny_tower

WAY, FRAMES, EPISODES = 3, 4, 2
LABELS = torch.tensor([[0, 1, 2], [2, 0, 1]])
RECIPE = FinetuneConfig(steps=1, crop_scale=(0.3, 0.8), colour=0.4, flip="on", views=2)


def _build(head: str) -> tuple[AdaptedEncoder, Head]:
    tower, seeds = tiny_tower(), [1, 2]
    adapter_class = registry.load_method("adapters", "st-adapter")
    head_class = registry.load_method("heads", head)
    adapter = adapter_class(tower, adapter_class.Options(), frames=FRAMES, seeds=seeds)
    # an adapter starts as the identity: moved away, so that every parameter has a gradient
    with torch.no_grad():
        generator = torch.Generator().manual_seed(1)
        for parameter in adapter.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    built: Head = head_class(
        head_class.Options(), width=tower.width, way=WAY, frames=FRAMES, seeds=seeds
    )
    return AdaptedEncoder(tower, adapter), built


def _clips(tower: Tower) -> Tensor:
    """One clip a class of two episodes, which look alike but for a faint picture of the class."""
    generator = torch.Generator().manual_seed(3)
    size = (tower.image_size, tower.image_size, 3)
    scene = torch.randint(60, 180, (1, 1, 1, *size), generator=generator)
    pictures = torch.randint(0, 40, (EPISODES, WAY, 1, *size), generator=generator)
    return (scene + pictures).expand(-1, -1, FRAMES, -1, -1, -1).to(torch.uint8)


def _inputs(encoder: AdaptedEncoder, views: int, recipe: FinetuneConfig = RECIPE) -> EpisodeInputs:
    augment = SupportAugmenter(recipe, [["a"]] * EPISODES, [1, 2], encoder.tower)
    clips = _clips(encoder.tower)

    def _support_at(_step: int) -> Tensor:
        pixels = torch.cat([augment(clips) for _ in range(views)], 1)
        return encoder.compute_prefix(pixels)

    query = encoder.compute_prefix(augment(clips))
    return EpisodeInputs(_support_at, LABELS, query, views=views)


def _gradients(head: str, views: int) -> Tensor:
    encoder, built = _build(head)
    inputs = _inputs(encoder, views)
    logits = built.compute_support_logits(encoder(inputs.support_at(0)), inputs.labels_at(0))
    episode_losses(logits, inputs.labels_at(0)).sum().backward()  # type: ignore[no-untyped-call]
    gradients = [p.grad for p in encoder.parameters() if p.grad is not None]
    return torch.cat([gradient.flatten(1) for gradient in gradients], 1)


def test_labels_follow_one_view_of_all_clips_after_the_other() -> None:
    encoder, _ = _build("prototype")
    inputs = _inputs(encoder, 3)
    assert inputs.labels_at(0).tolist() == [[0, 1, 2] * 3, [2, 0, 1] * 3]
    assert inputs.support_at(0).shape[:2] == (EPISODES, 3 * WAY)
    batch = torch.tensor([[2, 0], [1, 2]])
    batched = EpisodeInputs(
        inputs.support_at, LABELS, inputs.query, batch_indices=lambda _step: batch, views=2
    )
    assert batched.labels_at(0).tolist() == [[2, 0] * 2, [0, 1] * 2]


def test_views_of_a_clip_differ_and_are_of_that_clip() -> None:
    encoder, _ = _build("prototype")
    recipe = FinetuneConfig(flip="on", views=2)
    views = _inputs(encoder, 2, recipe).support_at(0)
    views = views.reshape(EPISODES, 2, WAY, *views.shape[2:])
    assert not torch.equal(views[:, 0], views[:, 1])
    distance = (views[:, 0, :, None] - views[:, 1, None]).flatten(3).norm(dim=-1)
    still = (distance.diagonal(dim1=1, dim2=2) == 0).sum()  # mirrored alike in both views
    assert 0 < still < EPISODES * WAY


@pytest.mark.parametrize("head", ["prototype", "nearest", "otam", "bi-mhm"])
def test_one_clip_a_class_teaches_when_its_views_are_compared(head: str) -> None:
    """With one view a clip is compared with itself: its own logit is the highest possible."""
    encoder, built = _build(head)
    for views in (1, 2):
        inputs = _inputs(encoder, views)
        labels = inputs.labels_at(0)
        with torch.no_grad():
            logits = built.compute_support_logits(encoder(inputs.support_at(0)), labels)
        own_class = logits.gather(-1, labels[..., None])
        if views == 1:
            assert (own_class >= logits - 1e-5).all()
        else:
            assert (own_class < logits - 1e-5).any()


@pytest.mark.parametrize("head", ["prototype", "otam"])
def test_gradients_are_others_than_those_of_one_view(head: str) -> None:
    one, two = _gradients(head, 1), _gradients(head, 2)
    assert one.isfinite().all()
    assert two.isfinite().all()
    for episode in range(EPISODES):
        assert two[episode].any()
        cosine = functional.cosine_similarity(one[episode], two[episode], dim=0)
        assert cosine < 0.95


def test_the_loss_of_two_views_falls_with_one_clip_a_class() -> None:
    encoder, built = _build("prototype")
    recipe = RECIPE.model_copy(update={"steps": 40, "lr": 1e-2})
    losses = finetune(encoder, built, _inputs(encoder, 2), recipe)
    first, last = losses[:, :5].mean(1), losses[:, -5:].mean(1)
    assert (first > 0.5).all()
    assert (last < 0.8 * first).all()


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_smoothed_targets_are_spread_over_all_classes(smoothing: float) -> None:
    logits = torch.randn(2, 4, WAY, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([[0, 1, 2, 0], [2, 2, 1, 0]])
    targets = (1 - smoothing) * functional.one_hot(labels, WAY) + smoothing / WAY
    expected = -(targets * logits.log_softmax(-1)).sum(-1).mean(-1)
    torch.testing.assert_close(episode_losses(logits, labels, smoothing), expected)


def test_tuning_takes_the_smoothing_of_the_recipe() -> None:
    first_losses = []
    for smoothing in (0.0, 0.5):
        encoder, built = _build("linear")
        recipe = FinetuneConfig(steps=1, flip="on", label_smoothing=smoothing)
        inputs = _inputs(encoder, 1, recipe)
        first_losses.append(finetune(encoder, built, inputs, recipe)[:, 0])
        logits = built.compute_support_logits(
            encoder(_inputs(encoder, 1, recipe).support_at(0)), LABELS
        )
        assert logits.isfinite().all()
    assert not torch.allclose(first_losses[0], first_losses[1])
