"""The contract of a training objective, and its batch types.

The training loop uses `Objective` only. It makes one for a training, `Objective(config, encoder,
classes)`, gives it the batch of each step in one or several micro-batches, clips the gradients and
lets the objective's optimizer step:

```
optimizer = objective.optimizer()
for step in ...:
    optimizer.zero_grad()
    for micro_batch in micro_batches(step):
        losses.append(objective.backward(micro_batch))    # adds gradients
    ...clip...
    optimizer.step()
```

Nothing of a step is read from the device: the loop looks at losses of many steps at once. So
`backward` raises nothing for values that are not finite, and returns what would say where.

A step may depend only on the configuration, the step number and the saved state: adapter,
`objective.extra`, optimizer. Random draws come from generators keyed by `derive_seed("name",
config.seed, micro_batch.step)`. The starting point holds the adapter and `objective.start_extra`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn

from fewshot_i2v.config.method import MethodSpec
from fewshot_i2v.config.training import TrainingConfig
from fewshot_i2v.errors import ConfigError, TuningError
from fewshot_i2v.models.adapters.base.adapted_encoder import AdaptedEncoder
from fewshot_i2v.models.adapters.base.features import Features
from fewshot_i2v.models.adapters.base.frozen_prefix import GridSizes
from fewshot_i2v.models.encoders.tower import Tower
from fewshot_i2v.models.factory import (
    build_adapter,
    build_head,
    check_adapter_is_read,
    resolve_options,
)
from fewshot_i2v.models.heads.base.head import Head
from fewshot_i2v.models.heads.base.labels import derive_labels
from fewshot_i2v.tuning.finetune import parameter_groups
from fewshot_i2v.utils.seeding import derive_seed

TrainingKind = Literal["base-trained", "meta-trained"]


@dataclass(frozen=True)
class EpisodeBatch:
    """B episodes of one shape, clips sorted by class.

    Attributes:
        support: input of `AdaptedEncoder.forward`, augmented: (B, views * S, ...), S = way * shot,
            one view of all clips after the other.
        query: the same of the query clips, (B, Q, ...).
        support_labels: (B, views * S) int64 in 0..way-1.
        query_labels: (B, Q) int64.
        classes: class names of each episode.
        views: of each support clip; more than one for the inner loop of meta-training only.
    """

    support: Tensor
    query: Tensor
    support_labels: Tensor
    query_labels: Tensor
    classes: tuple[tuple[str, ...], ...]
    views: int = 1

    @property
    def n_support(self) -> int:
        """Support clips S of an episode, whatever the views; the first view comes first."""
        return self.support.shape[1] // self.views

    @property
    def first_view_labels(self) -> Tensor:
        """Labels of one view of the support clips, (B, S) int64."""
        n_support = self.n_support
        return derive_labels(lambda x: x[:, :n_support], self.support_labels)


class MicroBatchLoss(NamedTuple):
    """Losses of a micro-batch on the device; reading them waits for it.

    Attributes:
        value: `weight * loss`, detached, a float32 scalar.
        inner: losses before each inner step of meta-training, and then of the query clips where
            they have one, each (B,) float32; none in base training.
        places: of each of `inner`, as a message names it.
    """

    value: Tensor
    inner: Sequence[Tensor] = ()
    places: Sequence[str] = ()


class NotFiniteError(TuningError):
    """A value of a training is not finite; the caller adds the step and the saved state."""


@dataclass(frozen=True)
class ClipBatch:
    """Clips with their labels among all training classes.

    Attributes:
        clips: input of `AdaptedEncoder.forward`, augmented: (n, ...).
        labels: (n,) int64.
    """

    clips: Tensor
    labels: Tensor


@dataclass(frozen=True)
class MicroBatch:
    """A micro-batch of one step; without gradient accumulation the complete batch.

    Attributes:
        step: number of the step, 0 first.
        index: of the micro-batch within the step.
        weight: share of the step's loss; those of a step's micro-batches add up to one.
        episodes: for objectives with `wants_episodes`.
        clips: for objectives with `wants_clips`.
    """

    step: int
    index: int
    weight: float
    episodes: EpisodeBatch | None
    clips: ClipBatch | None

    def require_episodes(self) -> EpisodeBatch:
        """Returns the episodes, for objectives with `wants_episodes`."""
        if self.episodes is None:
            raise ValueError("a micro-batch without episodes")
        return self.episodes


class FineTuned(NamedTuple):
    """Adapter and head after an inner loop, B copies of each, without a graph."""

    encoder: AdaptedEncoder
    head: Head


class Objective(ABC):
    """What a training minimises.

    Args:
        config: of the training.
        encoder: the frozen tower with the trained adapter, of ONE copy (E = 1); the objective
            stores it and its optimizer changes it.
        classes: names of the training classes, in the order of their labels.
    """

    kind: ClassVar[TrainingKind] = "base-trained"
    wants_episodes: ClassVar[bool] = False
    wants_clips: ClassVar[bool] = False
    takes_any_way: ClassVar[bool] = False
    """Whether episodes may have fewer classes than the configuration says, as in a short trial."""
    clips_gradient: ClassVar[bool] = True
    """Whether `clip_norm` applies to what `backward` leaves in `.grad`."""

    def __init__(
        self, config: TrainingConfig, encoder: AdaptedEncoder, classes: Sequence[str]
    ) -> None:
        self.config, self.encoder, self.classes = config, encoder, tuple(classes)
        self.extra: nn.Module = nn.Module()
        """What else is trained (a classifier, a head, inner rates): saved with the state."""
        self.start_extra: nn.Module = nn.Module()
        """What of `extra` the starting point holds; the rest is dropped."""
        self.grid_sizes: GridSizes = ()
        """Grids of patch tokens that the loss reads, as `Head.grid_sizes`."""
        self.build()

    @abstractmethod
    def build(self) -> None:
        """Builds the heads of the loss; sets `extra` and `grid_sizes` where it has any."""

    @abstractmethod
    def backward(self, micro_batch: MicroBatch) -> MicroBatchLoss:
        """Adds the gradient of `micro_batch.weight * loss` to `.grad` of all trained parameters.

        It waits for nothing on the device.
        """

    def trained_head(self) -> Head | None:
        """Returns the head that the starting point holds; None: its head has no parameters."""
        return None

    def inner_rates(self) -> dict[str, Tensor]:
        """Returns the rates of an inner loop, named as `StartRates` reads them."""
        return {}

    def head_copies(self, count: int, way: int) -> Head | None:
        """Returns the head for `count` episodes of `way` classes, all with its present parameters.

        None: it is never scored without fine-tuning.
        """
        return None

    def trainable_parameters(self) -> list[nn.Parameter]:
        """Parameters of the adapter, then of `extra`; their gradients are clipped together."""
        return [*self.encoder.adapter.parameters(), *self.extra.parameters()]

    def optimizer(self) -> torch.optim.Optimizer:
        """The outer optimizer.

        Each group has a key `base`, its learning rate before warm-up and schedule.
        """
        config = self.config
        rates = ((self.encoder.adapter, config.lr), (self.extra, config.head_lr))
        return torch.optim.AdamW(parameter_groups(rates, config.weight_decay))

    def new_head(self, method: MethodSpec, *, way: int, seeds: Sequence[int] = (0,)) -> Head:
        """Builds a head of len(seeds) copies on the device; ConfigError where it reads names."""
        tower, frames = self.encoder.tower, self.config.video.frames
        head = build_head(method, tower, way=way, frames=frames, seeds=seeds)
        return head.to(tower.device)

    def check_way(self, way: int) -> None:  # noqa: B027 - most objectives refuse none
        """Refuses validation episodes of a number of classes that cannot be fine-tuned to.

        Raises:
            ConfigError: naming both numbers.
        """

    def fine_tuned(self, support: Tensor, labels: Tensor) -> FineTuned | None:
        """Returns adapter and head for validation episodes with these support clips.

        Args:
            support: un-augmented, (B, S, ...); in views, (B, views * S, ...), where the inner loop
                has some.
            labels: of `support`, int64.

        Returns:
            Both, fine-tuned, of B copies; None: the trained adapter without fine-tuning, which is
            cheaper, since every validation clip is then encoded once.
        """
        return None


def has_parameters(head: Head) -> bool:
    """Whether a head has parameters of its own."""
    return any(True for _ in head.parameters())


def require_parameter_free(head: Head, method: MethodSpec, key: str, advice: str) -> Head:
    """Returns the head if it has no parameters.

    Raises:
        ConfigError: when it has parameters, saying what to do.
    """
    count = sum(p.numel() for p in head.parameters())
    if count:
        raise ConfigError(
            f"{key}: {method.label} has {count} parameters of its own, and episodes are scored "
            f"without fine-tuning them; give one without, such as prototype, otam, bi-mhm or "
            f"nearest{advice}"
        )
    return head


def build_training_encoder(config: TrainingConfig, tower: Tower, copies: int = 1) -> AdaptedEncoder:
    """Builds the frozen tower with an adapter of some copies with equal initial values."""
    seed = derive_seed("adapter", config.adapter.name, config.seed, "train")
    frames = config.video.frames
    adapter = build_adapter(config.adapter, tower, frames=frames, seeds=[seed] * copies)
    check_adapter_is_read(config.adapter, config.head)
    heads = [resolve_options("heads", head) for head in (config.head, config.validation.head)]
    reads_frozen = any(head.reads_frozen for head in heads)
    encoder = AdaptedEncoder(tower, adapter.to(tower.device), reads_frozen=reads_frozen)
    encoder.checkpointing = config.checkpointing
    encoder.compiles = config.compile
    return encoder


def encode_episodes(
    encoder: AdaptedEncoder, batch: EpisodeBatch, grid_sizes: GridSizes
) -> tuple[Features, Features]:
    """Features of support and query clips by an adapter of one copy, all in one pass."""
    clips = torch.cat([batch.support, batch.query], 1)
    features = encoder(clips.flatten(0, 1).unsqueeze(0), grid_sizes=grid_sizes)
    by_episode = features.map(lambda x: x.reshape(len(clips), -1, *x.shape[2:]))
    return split_support(by_episode, batch.support.shape[1])


def split_support(features: Features, n_support: int) -> tuple[Features, Features]:
    """Splits the features of clips into those of the support clips and of the query clips."""
    return (
        features.map(lambda x: x[:, :n_support]),
        features.map(lambda x: x[:, n_support:]),
    )


def backpropagate(loss: Tensor) -> Tensor:
    """Adds the gradients of a loss to `.grad`, and returns its value."""
    torch.autograd.backward(loss)
    return loss.detach()
