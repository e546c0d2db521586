"""What a training minimises: the protocol; see `_base_objectives.py` and `meta.py` for the rest.

The loop in `training.py` knows an objective by `Objective` alone. It makes one for a training,
`Objective(workshop, encoder)`, gives it the batch of each step in one or several parts, clips the
gradients and lets the objective's optimizer step:

    optimizer = objective.optimizer()
    for step in ...:
        optimizer.zero_grad()
        for part in batches(step):
            loss = loss + objective.backward(part)    # adds gradients, returns weight * loss
        ...clip, check that all is finite...
        optimizer.step()

Nothing of a step may depend on anything but the configuration, the step's number and the state
that is saved: adapter, `objective.extra`, optimizer. Draws come from generators keyed by
`derive_seed("what", config.seed, part.step)`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from fewshot_i2v.config.method import Choice
from fewshot_i2v.errors import ConfigError, TuningError
from fewshot_i2v.models.adapters.base.adapted_encoder import AdaptedEncoder
from fewshot_i2v.models.adapters.base.features import Features
from fewshot_i2v.models.factory import Workshop
from fewshot_i2v.models.heads.base.head import Head
from fewshot_i2v.tuning.finetune import by_decay

Kind = Literal["base-trained", "meta-trained"]


@dataclass(frozen=True)
class EpisodeBatch:
    """B episodes of one shape, clips class by class.

    Attributes:
        support: what `AdaptedEncoder.forward` takes, augmented: (B, S, ...), S = way * shot.
        query: the same of the query clips, (B, Q, ...).
        support_labels: (B, S) int64 in 0..way-1.
        query_labels: (B, Q) int64.
        classes: names of the classes of each episode.
    """

    support: Tensor
    query: Tensor
    support_labels: Tensor
    query_labels: Tensor
    classes: tuple[tuple[str, ...], ...]


class NotFiniteError(TuningError):
    """A number of a training broke; whoever knows the step and the saved state adds them."""


@dataclass(frozen=True)
class ClipBatch:
    """Clips with their classes among all that are trained on.

    Attributes:
        clips: what `AdaptedEncoder.forward` takes, augmented: (n, ...).
        labels: (n,) int64.
    """

    clips: Tensor
    labels: Tensor


@dataclass(frozen=True)
class Part:
    """A part of the batch of one step; the whole batch unless gradients are accumulated.

    Attributes:
        step: number of the step, 0 first.
        index: of the part within the step.
        weight: share of the step's loss; those of a step's parts add up to one.
        episodes: for objectives with `wants_episodes`.
        clips: for objectives with `wants_clips`.
    """

    step: int
    index: int
    weight: float
    episodes: EpisodeBatch | None
    clips: ClipBatch | None


class Objective(ABC):
    """What a training minimises.

    Args:
        workshop: builds adapters and heads.
        encoder: the frozen tower with the adapter that is trained, of ONE copy (E = 1); the
            objective keeps it and its optimizer changes it.
    """

    kind: ClassVar[Kind] = "base-trained"
    wants_episodes: ClassVar[bool] = False
    wants_clips: ClassVar[bool] = False
    limits_gradient: ClassVar[bool] = True
    """Whether `clip_norm` applies to what `backward` leaves in `.grad`."""

    def __init__(self, workshop: Workshop, encoder: AdaptedEncoder) -> None:
        self.workshop, self.config, self.encoder = workshop, workshop.config, encoder
        self.extra: nn.Module = nn.Module()
        """What else is trained (a classifier, inner rates): saved with the state, then dropped."""

    @property
    def cells(self) -> int:
        """Cells on a side of the grid that the loss reads, as `Head.cells`; 0: none."""
        return 0

    @abstractmethod
    def backward(self, part: Part) -> Tensor:
        """Adds the gradient of `part.weight * loss` to `.grad` of all that is trained.

        Returns:
            `part.weight * loss`, detached, a float32 scalar on the device.
        """

    def trained(self) -> list[nn.Parameter]:
        """Parameters of the adapter, then of `extra`; their gradients are clipped together."""
        return [*self.encoder.adapter.parameters(), *self.extra.parameters()]

    def optimizer(self) -> torch.optim.Optimizer:
        """The outer optimizer.

        Each group has a key `base`, its learning rate before warm-up and schedule.
        """
        config = self.config
        groups: list[dict[str, Any]] = []
        for module, rate in ((self.encoder.adapter, config.lr), (self.extra, config.head_lr)):
            for chosen, decay in zip(by_decay(module), (config.weight_decay, 0.0), strict=True):
                if chosen:
                    group = {"params": chosen, "lr": rate, "base": rate, "weight_decay": decay}
                    groups.append(group)
        return torch.optim.AdamW(groups)

    def fine_tuned(self, support: Tensor, labels: Tensor) -> AdaptedEncoder | None:
        """The encoder that scores validation episodes with these support clips.

        Args:
            support: un-augmented, (B, S, ...).
            labels: (B, S) int64.

        Returns:
            An adapter of B copies, fine-tuned; None: the trained one as it stands, which is
            cheaper, since every validation clip is then encoded once.
        """
        return None


def training_free(head: Head, choice: Choice, key: str, advice: str) -> Head:
    """The head itself, where it has no parameters.

    Raises:
        ConfigError: when it has some, saying what to do.
    """
    count = sum(p.numel() for p in head.parameters())
    if count:
        raise ConfigError(
            f"{key}: {choice.label} has {count} parameters of its own, and episodes are scored "
            f"without fine-tuning them; give one without, such as prototype, otam, bi-mhm or "
            f"nearest{advice}"
        )
    return head


def by_episode(features: Features, episodes: int) -> Features:
    """Features of one copy, (1, B * C, ...), as those of B episodes, (B, C, ...)."""
    grid = features.grid
    return Features(
        features.frames.reshape(episodes, -1, *features.frames.shape[2:]),
        features.clip.reshape(episodes, -1, *features.clip.shape[2:]),
        None if grid is None else grid.reshape(episodes, -1, *grid.shape[2:]),
    )


def clips_of(features: Features, chosen: slice) -> Features:
    """Some of the clips, (E, C, ...) to (E, c, ...)."""
    grid = features.grid
    return Features(
        features.frames[:, chosen],
        features.clip[:, chosen],
        None if grid is None else grid[:, chosen],
    )
