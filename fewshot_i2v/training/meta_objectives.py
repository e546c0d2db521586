"""Meta-training: initial values of an adapter that fine-tune well in few steps.

MAML, Meta-SGD and ANIL run through learn2learn's algorithms where it is installed; Reptile needs no
extra package. In the inner loop plain gradient descent minimises the loss of an evaluation's
fine-tuning: that of the head on its readouts of the support clips, in several augmented views and
with smoothed labels where the keys of `inner` say so. The views are drawn once for all inner steps,
where an evaluation draws new ones in each. The outer loss is that of the query clips, scored with
the fine-tuned adapter and head.

A starting point holds the adapter, the head with its learned initial values where it has
parameters, and the rates of the inner loop: those that Meta-SGD learned, else `inner.lr`. With
`tuning.optimizer: start-rates` an evaluation descends with them, as the inner loop did.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from fewshot_i2v.errors import ConfigError
from fewshot_i2v.models.adapters.base.adapted_encoder import AdaptedEncoder
from fewshot_i2v.models.adapters.base.features import Features
from fewshot_i2v.models.checkpoints.start_extras import RATES_PREFIX
from fewshot_i2v.models.factory import depends_on_way
from fewshot_i2v.models.heads.base.head import Head
from fewshot_i2v.models.heads.base.labels import derive_labels
from fewshot_i2v.training.objective import (
    FineTuned,
    MicroBatch,
    MicroBatchLoss,
    Objective,
    TrainingKind,
    backpropagate,
    build_training_encoder,
    encode_episodes,
    has_parameters,
    split_support,
)
from fewshot_i2v.training.parameter_copies import independent_copies, shared_view, with_parameters
from fewshot_i2v.tuning.support_loss import episode_losses
from fewshot_i2v.utils.seeding import derive_seed


class AdaptedLearner(nn.Module):
    """Adapter and head that are fine-tuned together, B copies of each.

    Args:
        encoder: a frozen tower with an adapter.
        head: of as many copies.
    """

    def __init__(self, encoder: AdaptedEncoder, head: Head) -> None:
        super().__init__()
        self.encoder, self.head = encoder, head

    def forward(self, clips: Tensor) -> Features:
        """Features of clips from their prefix tokens, (B, clips, ...)."""
        features: Features = self.encoder(clips, grid_sizes=self.head.grid_sizes)
        return features

    def support_losses(self, clips: Tensor, labels: Tensor, label_smoothing: float) -> Tensor:
        """Loss of the head on the support clips of each episode, (B,), as fine-tuning has it."""
        logits = self.head.compute_support_logits(self(clips), labels)
        return episode_losses(logits, labels, label_smoothing)


INSTALL_SCRIPT = "scripts/install_learn2learn.sh"
"""The script of the repository that installs learn2learn."""


def import_algorithms() -> Any:  # noqa: ANN401 - it ships no types
    """Imports the module `learn2learn.algorithms`.

    Raises:
        ConfigError: when learn2learn cannot be imported, with the command that installs it.
    """
    try:
        # gym, which learn2learn imports, prints that it is no longer maintained
        with contextlib.redirect_stderr(io.StringIO()):
            from learn2learn import algorithms as module
    except ImportError as error:
        raise ConfigError(
            "objectives maml, meta-sgd and anil need learn2learn, which cannot be imported "
            f"({error}); install it with `{INSTALL_SCRIPT} python` from a checkout of this "
            "project, or give the objective reptile, which needs nothing else"
        ) from error
    return module


class MetaObjective(Objective):
    """Base class of the meta-objectives: B episodes fine-tune in parallel from the same start.

    The start, an adapter of one copy and a head of one copy, is expanded to B copies; each episode
    fine-tunes its copy.
    """

    kind: ClassVar[TrainingKind] = "meta-trained"
    wants_episodes: ClassVar[bool] = True

    def build(self) -> None:
        """Builds the head."""
        self.inner = self.config.inner
        self.head = self._new_head(1, self.config.way)
        self.extra = self.start_extra = nn.ModuleDict({"head": self.head})
        self.grid_sizes = self.head.grid_sizes
        self._learners: dict[tuple[int, int], AdaptedLearner] = {}

    def trained_head(self) -> Head | None:
        """Returns the head with its learned initial values; None where it has no parameters."""
        return self.head if has_parameters(self.head) else None

    def inner_rates(self) -> dict[str, Tensor]:
        """Returns the rate of every value of adapter and head, each with a leading axis of 1."""
        names = [name for name, _ in AdaptedLearner(self.encoder, self.head).named_parameters()]
        return {
            RATES_PREFIX + name.removeprefix("encoder."): rate.detach().cpu()
            for name, rate in zip(names, self._rates_by_parameter(), strict=True)
        }

    def _rates_by_parameter(self) -> list[Tensor]:
        """Rates of the inner loop, of the parameters of adapter and then head."""
        parameters = AdaptedLearner(self.encoder, self.head).parameters()
        return [torch.full_like(parameter, self.inner.lr) for parameter in parameters]

    def _new_head(self, copies: int, way: int) -> Head:
        head = self.config.head
        seed = derive_seed("head", head.name, self.config.seed, "train")
        return self.new_head(head, way=way, seeds=[seed] * copies)

    def _make_copies(
        self, count: int, way: int, make: Callable[[Tensor], Tensor]
    ) -> AdaptedLearner:
        """Returns adapter and head of `count` copies; `make` makes a parameter from the start's."""
        if (count, way) not in self._learners:
            self.check_way(way)
            encoder = build_training_encoder(self.config, self.encoder.tower, count)
            self._learners[count, way] = AdaptedLearner(encoder, self._new_head(count, way))
        initial = AdaptedLearner(self.encoder, self.head)
        learner = with_parameters(self._learners[count, way], initial, make)
        learner.encoder.checkpointing = self.encoder.checkpointing
        learner.encoder.all_tokens = self.encoder.all_tokens
        return learner

    def check_way(self, way: int) -> None:
        """Refuses another number of classes than the parameters of the head are for."""
        tower, frames = self.encoder.tower, self.config.video.frames
        if way != self.head.way and depends_on_way(self.config.head, tower, frames=frames):
            raise ConfigError(
                f"head {self.config.head.label} has parameters for {self.head.way} classes and "
                f"validation.way is {way}; give the same way, or a head without parameters"
            )

    @staticmethod
    def _detach(learner: AdaptedLearner) -> FineTuned:
        """Returns copies of adapter and head that are detached from the autograd graph."""

        def _leaf(parameter: Tensor) -> Tensor:
            return nn.Parameter(parameter.detach())

        encoder, head = learner.encoder, learner.head
        return FineTuned(
            with_parameters(encoder, encoder, _leaf), with_parameters(head, head, _leaf)
        )

    def _inner_loop(
        self, losses_now: Callable[[], Tensor], update: Callable[[Tensor], object]
    ) -> list[Tensor]:
        """Steps down the sum of the support losses (B,); returns the losses before each step."""
        trace = []
        for _ in range(self.inner.steps):
            losses = losses_now()
            trace.append(losses.detach())
            update(losses.sum())
        return trace

    def _losses(self, value: Tensor, trace: list[Tensor]) -> MicroBatchLoss:
        """Makes the losses of a micro-batch; those of `trace` are (B,) of each place."""
        places = [f"inner step {step + 1}" for step in range(self.inner.steps)]
        return MicroBatchLoss(value, trace, [*places, "query clips"][: len(trace)])


class MAML(MetaObjective):
    """MAML: the query loss after some steps of gradient descent on the support clips.

    First order by default: the gradient at the fine-tuned values is used as that at the start.

    Source: Finn, Abbeel, Levine: Model-Agnostic Meta-Learning for Fast Adaptation of Deep Networks,
    ICML 2017, https://arxiv.org/abs/1703.03400

    Raises:
        ConfigError: when learn2learn is not installed, or second-order gradients are configured
            together with checkpointing or compile.
    """

    def build(self) -> None:
        """Builds the head, and imports learn2learn."""
        super().build()
        self._algorithms = import_algorithms()
        if self.inner.second_order and self.config.checkpointing:
            # the backward pass would compute the blocks of early inner steps with late parameters
            raise ConfigError(
                "inner.second_order and checkpointing exclude each other; give accumulate to save "
                "memory, or first order"
            )
        if self.inner.second_order and self.config.compile:
            raise ConfigError(
                "inner.second_order and compile exclude each other: compiled blocks have no "
                "second-order gradients; give --no-compile, or first order"
            )

    def backward(self, micro_batch: MicroBatch) -> MicroBatchLoss:
        """Fine-tunes a copy per episode, and backpropagates the mean query loss to the start."""
        batch = micro_batch.require_episodes()
        second_order = self.inner.second_order
        # fused kernels of attention have no second-order gradients
        with sdpa_kernel(SDPBackend.MATH) if second_order else contextlib.nullcontext():
            learner = self._clone_learner(
                len(batch.support), self.config.way, first_order=not second_order
            )
            trace = self._fine_tune(learner, batch.support, batch.support_labels)
            # an evaluation predicts from one view of the support clips
            n_support = batch.n_support
            features = learner(torch.cat([batch.support[:, :n_support], batch.query], 1))
        support, query = split_support(features, n_support)
        scores = learner.head(query, support, batch.first_view_labels)
        return self._backpropagate(micro_batch, trace, episode_losses(scores, batch.query_labels))

    def fine_tuned(self, support: Tensor, labels: Tensor) -> FineTuned:
        """Returns adapter and head after the inner loop on these clips, a copy per episode."""
        with torch.enable_grad():
            learner = self._clone_learner(len(labels), int(labels.max()) + 1, first_order=True)
            self._fine_tune(learner, support, labels)
        return self._detach(learner.module)

    def _clone_learner(self, count: int, way: int, *, first_order: bool) -> Any:  # noqa: ANN401
        """Returns a learn2learn clone; its `adapt` is one inner step."""
        copies = self._make_copies(count, way, shared_view(count))
        return self._wrap_learner(copies, first_order).clone()

    def _wrap_learner(self, module: nn.Module, first_order: bool) -> Any:  # noqa: ANN401
        """Wraps the module in the learn2learn algorithm."""
        return self._algorithms.MAML(module, self.inner.lr, first_order, allow_unused=True)

    def _fine_tune(self, learner: Any, support: Tensor, labels: Tensor) -> list[Tensor]:  # noqa: ANN401
        """Runs the inner loop; returns the losses (B,) before each step."""
        # `adapt` replaces the module of the clone
        return self._inner_loop(
            lambda: learner.module.support_losses(support, labels, self.inner.label_smoothing),
            learner.adapt,
        )

    def _backpropagate(
        self, micro_batch: MicroBatch, trace: list[Tensor], losses: Tensor
    ) -> MicroBatchLoss:
        value = backpropagate(micro_batch.weight * losses.mean())
        return self._losses(value, [*trace, losses.detach()])


class MetaSGD(MAML):
    """Meta-SGD: MAML with trained inner rates, one for each value of adapter and head.

    While the rates are learned, they are factors of `inner.lr`, which start at one and may change
    sign, so that the outer optimizer changes them by the same share at any size; they have no
    weight decay.

    Source: Li, Zhou, Chen, Li: Meta-SGD: Learning to Learn Quickly for Few-Shot Learning, 2017,
    https://arxiv.org/abs/1707.09835
    """

    def build(self) -> None:
        """Builds the head and the rates."""
        super().build()
        # learn2learn asks for a gradient of every parameter, and without patch tokens of the last
        # block some have none
        self.encoder.all_tokens = True
        parameters = AdaptedLearner(self.encoder, self.head).parameters()
        # around one, so that a step of AdamW changes large and small rates by the same share
        self.factors = nn.ParameterList(nn.Parameter(torch.ones_like(p)) for p in parameters)
        self.extra = nn.ModuleDict({"head": self.head, "factors": self.factors})
        self.start_extra = self.extra

    def _rates_by_parameter(self) -> list[Tensor]:
        return [self.inner.lr * factor for factor in self.factors]

    def optimizer(self) -> torch.optim.Optimizer:
        """AdamW as in the base class, without weight decay on the factors of the rates."""
        factor_ids = {id(factor) for factor in self.factors}
        optimizer = super().optimizer()
        groups = []
        for group in optimizer.param_groups:
            for is_factor, decay in ((False, group["weight_decay"]), (True, 0.0)):
                params = [p for p in group["params"] if (id(p) in factor_ids) == is_factor]
                if params:
                    rates = {key: group[key] for key in ("lr", "base")}
                    groups.append({**rates, "params": params, "weight_decay": decay})
        return torch.optim.AdamW(groups)

    def _wrap_learner(self, module: nn.Module, first_order: bool) -> Any:  # noqa: ANN401
        pairs = zip(self._rates_by_parameter(), module.parameters(), strict=True)
        rates = [rate.expand_as(parameter) for rate, parameter in pairs]
        return self._algorithms.MetaSGD(module, lrs=rates, first_order=first_order)


class ANIL(MAML):
    """ANIL: the inner loop fine-tunes the head only, on features of the adapter.

    Source: Raghu, Raghu, Bengio, Vinyals: Rapid Learning or Feature Reuse? Towards Understanding
    the Effectiveness of MAML, ICLR 2020, https://arxiv.org/abs/1909.09157

    Raises:
        ConfigError: when the head has no parameters.
    """

    def build(self) -> None:
        """Builds the head, which must have parameters."""
        super().build()
        if not has_parameters(self.head):
            raise ConfigError(
                f"objective anil fine-tunes the head alone, and head {self.config.head.label} has "
                "no parameters; give one that has, such as linear, or the objective maml"
            )

    def backward(self, micro_batch: MicroBatch) -> MicroBatchLoss:
        """Encodes all clips once; each episode fine-tunes a head."""
        batch = micro_batch.require_episodes()
        support, query = encode_episodes(self.encoder, batch, self.grid_sizes)
        count = len(batch.support)
        head_copies = self._make_copies(count, self.config.way, shared_view(count)).head
        head = self._wrap_learner(head_copies, not self.inner.second_order).clone()
        labels = batch.support_labels

        def _losses() -> Tensor:
            logits = head.module.compute_support_logits(support, labels)
            return episode_losses(logits, labels, self.inner.label_smoothing)

        trace = self._inner_loop(_losses, head.adapt)
        n_support = batch.n_support
        first_view = support.map(lambda x: x[:, :n_support])
        scores = head(query, first_view, batch.first_view_labels)
        return self._backpropagate(micro_batch, trace, episode_losses(scores, batch.query_labels))

    def _rates_by_parameter(self) -> list[Tensor]:
        adapter = [torch.zeros_like(p) for p in self.encoder.adapter.parameters()]
        return [*adapter, *(torch.full_like(p, self.inner.lr) for p in self.head.parameters())]

    # the adapter is not fine-tuned, so validation can do without copies of it
    fine_tuned = Objective.fine_tuned  # type: ignore[assignment]


class Reptile(MetaObjective):
    """Reptile: moves the start towards the result of fine-tuning on the clips of an episode.

    The inner loop uses all clips of an episode, query clips too: `way * (shot + query)`, and the
    support clips in as many views as there are. The start
    moves by `inner.rate` (times warm-up and schedule of the training) of the mean displacement over
    the episodes; `lr`, `head_lr`, `weight_decay` and `clip_norm` are not used. The reported loss is
    that before the last inner step.

    Source: Nichol, Achiam, Schulman: On First-Order Meta-Learning Algorithms, 2018,
    https://arxiv.org/abs/1803.02999
    """

    clips_gradient: ClassVar[bool] = False

    def backward(self, micro_batch: MicroBatch) -> MicroBatchLoss:
        """Adds the negative displacement as the gradient."""
        batch = micro_batch.require_episodes()
        count = len(batch.support)
        clips = torch.cat([batch.support, batch.query], 1)
        labels = derive_labels(
            lambda *parts: torch.cat(parts, 1), batch.support_labels, batch.query_labels
        )
        learner = self._make_copies(count, self.config.way, independent_copies(count))
        trace = self._descend(learner, clips, labels)
        for start, end in zip(self.trainable_parameters(), learner.parameters(), strict=True):
            # minus the way to the tuned values: SGD subtracts it, and so moves towards them
            displacement = micro_batch.weight * (
                start.detach() - end.detach().mean(0, keepdim=True)
            )
            start.grad = displacement if start.grad is None else start.grad + displacement
        return self._losses(micro_batch.weight * trace[-1].mean(), trace)

    def optimizer(self) -> torch.optim.Optimizer:
        """Plain SGD with the rate `inner.rate`."""
        rate = self.inner.rate
        return torch.optim.SGD([{"params": self.trainable_parameters(), "lr": rate, "base": rate}])

    def fine_tuned(self, support: Tensor, labels: Tensor) -> FineTuned:
        """Returns adapter and head after the inner loop on these clips, a copy per episode."""
        way = int(labels.max()) + 1
        learner = self._make_copies(len(labels), way, independent_copies(len(labels)))
        with torch.enable_grad():
            self._descend(learner, support, labels)
        return self._detach(learner)

    def _descend(self, learner: AdaptedLearner, clips: Tensor, labels: Tensor) -> list[Tensor]:
        """Runs the inner loop in place; returns the losses (B,) before each step."""
        tuned = list(learner.parameters())

        def _update(loss: Tensor) -> None:
            # some may be unused: nothing reads what changes patch tokens after the last attention
            gradients = torch.autograd.grad(loss, tuned, allow_unused=True)
            with torch.no_grad():
                for value, gradient in zip(tuned, gradients, strict=True):
                    if gradient is not None:
                        value.sub_(gradient, alpha=self.inner.lr)

        smoothing = self.inner.label_smoothing
        return self._inner_loop(lambda: learner.support_losses(clips, labels, smoothing), _update)
