"""Three tasks that the frozen encoder cannot solve by class means, each for a kind of method.

Pictures are random, so that nothing about them suits one tower or another, and small, so that an
adapter learns from them in a fraction of a second.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from fewshot_i2v.config.base import FinetuneConfig
from fewshot_i2v.models.adapters.base.adapted_encoder import AdaptedEncoder
from fewshot_i2v.models.encoders.tower import Tower
from fewshot_i2v.models.heads.prototype import PrototypeHead, PrototypeOptions
from fewshot_i2v.tuning.contract.adapter_subject import AdapterSubject, load_adapter_subject
from fewshot_i2v.tuning.contract.tiny_encoder import perturb, tiny_tower
from fewshot_i2v.tuning.finetune import EpisodeInputs, finetune_and_predict
from fewshot_i2v.utils.seeding import derive_seed

# seeds; with other pictures the frozen encoder may tell more of the faint ones
_DATA, _PICTURES = 0, 23
EPISODES, FRAMES, SHOT, QUERY = 2, 4, 8, 30
_RECIPE = FinetuneConfig(steps=40, lr=2e-2, weight_decay=0.0)

Task = tuple[Tensor, Tensor]
"""Clips (E, C, T, 3, H, W) and their classes (E, C)."""


@functools.cache
def _tower() -> Tower:
    return tiny_tower(size=16)


def _draw_pictures(generator: torch.Generator, *shape: int) -> Tensor:
    """Random pictures (E, *shape, 3, H, W)."""
    side = _tower().image_size
    return torch.randn(EPISODES, *shape, 3, side, side, generator=generator)


def _of_two_classes(first: Tensor, second: Tensor) -> Task:
    labels = torch.arange(2).repeat_interleave(first.shape[1])
    return torch.cat([first, second], 1), labels.expand(EPISODES, -1).contiguous()


def order_task(generator: torch.Generator, per_class: int) -> Task:
    """Draw clips of a picture that appears, or the same frames backwards: it disappears.

    Every clip of one class is a clip of the second played backwards. What does not see the order of
    frames gives both the same scores, and is right exactly half of the time.
    """
    picture = _draw_pictures(torch.Generator().manual_seed(_PICTURES), 1, 1)
    amount = torch.linspace(-2, 2, FRAMES).view(1, 1, FRAMES, 1, 1, 1)
    noise = 0.1 * _draw_pictures(generator, per_class, 1)
    noise = noise + 0.03 * _draw_pictures(generator, per_class, FRAMES)
    appears = noise + amount * picture
    return _of_two_classes(appears, appears.flip(2))


def shuffle_task(generator: torch.Generator, per_class: int) -> Task:
    """Draw clips of a picture that appears, or the same frames in an order that is no reversal.

    For methods to which a clip and its reverse are the same.
    """
    appears, _ = order_task(generator, per_class)[0].chunk(2, 1)
    order = [*range(0, FRAMES, 2), *range(1, FRAMES, 2)]
    return _of_two_classes(appears, appears[:, :, order])


def look_task(generator: torch.Generator, per_class: int) -> Task:
    """Draw a faint picture or its negative, below a strong one that is like it and says nothing."""
    fixed = torch.Generator().manual_seed(_PICTURES)
    picture, distractor = _draw_pictures(fixed, 1, 1), _draw_pictures(fixed, 1, 1)

    def _draw(sign: float) -> Tensor:
        half = torch.rand(EPISODES, per_class // 2, 1, 1, 1, 1, generator=generator) * 2 - 1
        strength = torch.cat([half, -half], 1)
        noise = 0.05 * _draw_pictures(generator, per_class, FRAMES)
        return sign * 0.25 * picture + strength * (picture + 2 * distractor) + noise

    return _of_two_classes(_draw(1.0), _draw(-1.0))


TASKS = {"order": order_task, "shuffle": shuffle_task, "look": look_task}


def choose_task(subject: AdapterSubject) -> str:
    """Choose the task for what an adapter may use: the order of frames, if not its direction."""
    if subject.adapter_class.frame_order == "no":
        return "look"
    adapter = perturb(subject.create(_tower(), frames=FRAMES, seeds=(0,)), (0,))
    encoder = AdaptedEncoder(_tower(), adapter)
    clips = order_task(torch.Generator().manual_seed(_DATA), 1)[0][:1]
    with torch.no_grad():
        played, reversed_ = encoder(encoder.compute_prefix(clips)).clip[0]
    return "shuffle" if torch.allclose(played, reversed_, atol=1e-5) else "order"


def task_accuracies(subject: AdapterSubject, task: str) -> Tensor:
    """Compute the share of right answers of each episode, (E,), after tuning the adapter alone.

    The head, nearest class mean of the clip features, has no parameters: it is the adapter that
    solves the task, or nothing does.
    """
    make = TASKS[task]
    generator = torch.Generator().manual_seed(_DATA)
    (support, labels), (query, truth) = make(generator, SHOT), make(generator, QUERY)
    # one clip without its counterpart: the class means of the frozen encoder differ by more than
    # rounding, so that it has an opinion
    support, labels = support[:, :-1], labels[:, :-1].contiguous()
    seeds = [derive_seed("adapter", subject.name, 0, index) for index in range(EPISODES)]
    encoder = AdaptedEncoder(_tower(), subject.create(_tower(), frames=FRAMES, seeds=seeds))
    head = PrototypeHead(
        PrototypeOptions(), width=_tower().width, way=2, frames=FRAMES, seeds=seeds
    )
    prefix = encoder.compute_prefix(support)
    episodes = EpisodeInputs(lambda _step: prefix, labels, encoder.compute_prefix(query))
    logits = finetune_and_predict(encoder, head, episodes, _RECIPE).logits
    return (logits.argmax(-1) == truth).float().mean(-1)


@functools.cache
def frozen_accuracies(task: str) -> Tensor:
    """Compute `task_accuracies` of the frozen encoder."""
    return task_accuracies(load_adapter_subject("frozen"), task)


def learning_gain(subject: AdapterSubject) -> tuple[str, Tensor]:
    """Compute the gain of an adapter over the frozen encoder in its task, (E,), with its name."""
    task = choose_task(subject)
    return task, task_accuracies(subject, task) - frozen_accuracies(task)
