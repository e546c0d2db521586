"""Meta-training: initial values of an adapter from which fine-tuning gets far in few steps.

MAML, Meta-SGD and ANIL run through learn2learn's algorithms where it is installed; Reptile needs
nothing. In the inner loop plain gradient descent minimises the head's loss on the support clips;
the outer loss is that of the query clips, scored with the fine-tuned adapter and head.

What a starting point keeps of it is the adapter. A head's initial values are dropped with the other
extras: they belong to one head and number of classes, and an evaluation starts its own. So are the
rates of Meta-SGD: an evaluation tunes with AdamW, which has no use for rates of gradient descent.
A head without parameters, such as prototype, loses nothing this way.
"""

from __future__ import annotations

import contextlib
import copy
import io
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from fewshot_i2v.errors import ConfigError
from fewshot_i2v.models.adapters.base.adapted_encoder import AdaptedEncoder
from fewshot_i2v.models.adapters.base.features import Features
from fewshot_i2v.models.factory import Workshop
from fewshot_i2v.models.heads.base.head import Head
from fewshot_i2v.training.objective import (
    EpisodeBatch,
    Kind,
    NotFiniteError,
    Objective,
    Part,
    by_episode,
    clips_of,
)
from fewshot_i2v.utils.seeding import derive_seed

_Module = TypeVar("_Module", bound=nn.Module)


class Learner(nn.Module):
    """The adapter and the head that are fine-tuned together, B copies of each.

    Args:
        encoder: a frozen tower with an adapter.
        head: of as many copies.
    """

    def __init__(self, encoder: AdaptedEncoder, head: Head) -> None:
        super().__init__()
        self.encoder, self.head = encoder, head

    def forward(self, clips: Tensor) -> Features:
        """Features of clips from their prefix, (B, clips, ...)."""
        features: Features = self.encoder(clips, cells=self.head.cells)
        return features


def episode_losses(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy of each episode, (B,), of logits (B, clips, way)."""
    each = functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none")
    return each.view(labels.shape).mean(1)


def twice_differentiable(wanted: bool) -> contextlib.AbstractContextManager[None]:
    """Attention in plain products where gradients are differentiated; fused kernels refuse it."""
    return sdpa_kernel(SDPBackend.MATH) if wanted else contextlib.nullcontext()


def seen(count: int) -> Callable[[Tensor], Tensor]:
    """A parameter of one copy seen as `count`: gradients of all of them add up in it."""
    return lambda parameter: parameter.expand(count, *parameter.shape[1:])


def own(count: int) -> Callable[[Tensor], Tensor]:
    """`count` copies with memory and gradients of their own."""
    return lambda parameter: nn.Parameter(parameter.detach().repeat_interleave(count, 0))


def detached(encoder: AdaptedEncoder) -> AdaptedEncoder:
    """The same values without their history."""
    return with_parameters(encoder, encoder, lambda parameter: nn.Parameter(parameter.detach()))


def with_parameters(
    module: _Module, source: nn.Module, make: Callable[[Tensor], Tensor]
) -> _Module:
    """The module with other parameters; everything else is shared with it.

    Args:
        module: not changed.
        source: has the same names of parameters.
        make: from a parameter of `source` to what stands in its place, with or without a history.
    """
    new = copy.copy(module)
    parts = new.__dict__
    parts["_parameters"] = {
        key: None if value is None else make(value) for key, value in source._parameters.items()
    }
    parts["_modules"] = {
        key: None if part is None else with_parameters(part, source.get_submodule(key), make)
        for key, part in module._modules.items()
    }
    return new


INSTALL = "scripts/install_learn2learn.sh"
"""The script of the repository that installs learn2learn."""


def algorithms() -> Any:  # noqa: ANN401 - it ships no types
    """The module `learn2learn.algorithms`.

    Raises:
        ConfigError: when learn2learn cannot be imported, with the command that installs it.
    """
    try:
        # gym, which learn2learn imports, prints that it is no longer maintained
        with contextlib.redirect_stderr(io.StringIO()):
            from learn2learn import algorithms as found
    except ImportError as error:
        raise ConfigError(
            "objectives maml, meta-sgd and anil need learn2learn, which cannot be imported "
            f"({error}); install it with `{INSTALL} python` from a checkout of this project, or "
            "give the objective reptile, which needs nothing else"
        ) from error
    return found


class MetaObjective(Objective):
    """What the meta-objectives share: B episodes side by side from one start.

    The start, an adapter of one copy and a head of one copy, is seen as B copies; each episode
    fine-tunes its own.
    """

    kind: ClassVar[Kind] = "meta-trained"
    wants_episodes: ClassVar[bool] = True

    def __init__(self, workshop: Workshop, encoder: AdaptedEncoder) -> None:
        super().__init__(workshop, encoder)
        self.inner = workshop.config.inner
        self.head = self._new_head(1, workshop.config.way)
        self.extra = nn.ModuleDict({"head": self.head})
        self._built: dict[tuple[int, int], Learner] = {}

    @property
    def cells(self) -> int:
        """As the head asks for."""
        return self.head.cells

    def _new_head(self, copies: int, way: int) -> Head:
        config = self.config
        seed = derive_seed("head", config.head.name, config.seed, "train")
        return self.workshop.head(config.head, way=way, seeds=[seed] * copies)

    def _copies(self, count: int, way: int, make: Callable[[Tensor], Tensor]) -> Learner:
        """Adapter and head of `count` copies with parameters made from those of the start.

        Raises:
            ConfigError: when the head has parameters for another number of classes.
        """
        if way != self.head.way and any(True for _ in self.head.parameters()):
            raise ConfigError(
                f"head {self.config.head.label} has parameters for {self.head.way} classes and "
                f"validation.way is {way}; give the same way, or a head without parameters"
            )
        if (count, way) not in self._built:
            encoder = self.workshop.encoder(count)
            self._built[count, way] = Learner(encoder, self._new_head(count, way))
        start = Learner(self.encoder, self.head)
        learner = with_parameters(self._built[count, way], start, make)
        learner.encoder.checkpointing = self.encoder.checkpointing
        return learner

    def _check(self, part: Part, trace: list[Tensor]) -> None:
        """Refuses losses that are not finite: (B,) of each inner step, then of the outer loss.

        Raises:
            NotFiniteError: naming the step.
        """
        finite = torch.stack(trace).isfinite().all(1).tolist()
        if not all(finite):
            first = finite.index(False)
            which = "query clips" if first == self.inner.steps else f"inner step {first + 1}"
            raise NotFiniteError(f"the loss of step {part.step + 1} is not finite at the {which}")


class Maml(MetaObjective):
    """MAML: the query loss after some steps of gradient descent on the support clips.

    First order by default: the gradient at the fine-tuned values is taken for that at the start.

    Source: Finn, Abbeel, Levine: Model-Agnostic Meta-Learning for Fast Adaptation of Deep Networks,
    ICML 2017, https://arxiv.org/abs/1703.03400

    Raises:
        ConfigError: when learn2learn is not installed, or gradients of second order are asked for
            together with checkpointing.
    """

    def __init__(self, workshop: Workshop, encoder: AdaptedEncoder) -> None:
        super().__init__(workshop, encoder)
        self._algorithms = algorithms()
        if self.inner.second_order and workshop.config.checkpointing:
            # the backward pass would compute the blocks of early inner steps with late parameters
            raise ConfigError(
                "inner.second_order and checkpointing exclude each other; give accumulate to save "
                "memory, or first order"
            )

    def backward(self, part: Part) -> Tensor:
        """Fine-tunes a copy per episode, and sends the mean query loss back to the start."""
        batch = _episodes(part)
        shots = batch.support.shape[1]
        second = self.inner.second_order
        with twice_differentiable(second):
            learner = self._learner(len(batch.support), self.config.way, first_order=not second)
            trace = self._fine_tune(learner, batch.support, batch.support_labels)
            features = learner(torch.cat([batch.support, batch.query], 1))
        support, query = clips_of(features, slice(shots)), clips_of(features, slice(shots, None))
        scores = learner.head(query, support, batch.support_labels)
        return self._sent_back(part, trace, episode_losses(scores, batch.query_labels))

    def fine_tuned(self, support: Tensor, labels: Tensor) -> AdaptedEncoder:
        """The adapter after the inner loop on these support clips, a copy per episode."""
        with torch.enable_grad():
            learner = self._learner(len(labels), int(labels.max()) + 1, first_order=True)
            self._fine_tune(learner, support, labels)
        return detached(learner.module.encoder)

    def _learner(self, count: int, way: int, *, first_order: bool) -> Any:  # noqa: ANN401
        """A clone by learn2learn; its `adapt` is one inner step."""
        copies = self._copies(count, way, seen(count))
        return self._wrapped(copies, first_order).clone()

    def _wrapped(self, module: nn.Module, first_order: bool) -> Any:  # noqa: ANN401
        """The module as learn2learn wraps it."""
        return self._algorithms.MAML(module, self.inner.lr, first_order, allow_unused=True)

    def _fine_tune(self, learner: Any, support: Tensor, labels: Tensor) -> list[Tensor]:  # noqa: ANN401
        """The inner loop; the losses (B,) before each step."""
        trace = []
        for _ in range(self.inner.steps):
            losses = episode_losses(learner.head.training_logits(learner(support), labels), labels)
            trace.append(losses.detach())
            learner.adapt(losses.sum())
        return trace

    def _sent_back(self, part: Part, trace: list[Tensor], losses: Tensor) -> Tensor:
        self._check(part, [*trace, losses.detach()])
        loss = part.weight * losses.mean()
        torch.autograd.backward(loss)
        return loss.detach()


class MetaSgd(Maml):
    """Meta-SGD: MAML whose inner rates are trained too, one for each value of adapter and head.

    Rates are stored as factors of `inner.lr`, which start at one and may change sign, so that the
    outer optimizer changes them by the same share whatever their size; they are not decayed.

    Source: Li, Zhou, Chen, Li: Meta-SGD: Learning to Learn Quickly for Few-Shot Learning, 2017,
    https://arxiv.org/abs/1707.09835
    """

    def __init__(self, workshop: Workshop, encoder: AdaptedEncoder) -> None:
        super().__init__(workshop, encoder)
        tuned = Learner(encoder, self.head).parameters()
        self.factors = nn.ParameterList(nn.Parameter(torch.ones_like(p)) for p in tuned)
        self.extra = nn.ModuleDict({"head": self.head, "factors": self.factors})

    def optimizer(self) -> torch.optim.Optimizer:
        """AdamW as for the others, without weight decay on the factors of the rates."""
        known = {id(factor) for factor in self.factors}
        optimizer = super().optimizer()
        groups = []
        for group in optimizer.param_groups:
            for chosen, decay in ((False, group["weight_decay"]), (True, 0.0)):
                params = [p for p in group["params"] if (id(p) in known) == chosen]
                if params:
                    kept = {key: group[key] for key in ("lr", "base")}
                    groups.append({**kept, "params": params, "weight_decay": decay})
        return torch.optim.AdamW(groups)

    def _wrapped(self, module: nn.Module, first_order: bool) -> Any:  # noqa: ANN401
        pairs = zip(self.factors, module.parameters(), strict=True)
        rates = [self.inner.lr * factor.expand_as(parameter) for factor, parameter in pairs]
        return self._algorithms.MetaSGD(module, lrs=rates, first_order=first_order)


class Anil(Maml):
    """ANIL: only the head is fine-tuned in the inner loop; the adapter gives it features.

    Source: Raghu, Raghu, Bengio, Vinyals: Rapid Learning or Feature Reuse? Towards Understanding
    the Effectiveness of MAML, ICLR 2020, https://arxiv.org/abs/1909.09157

    Raises:
        ConfigError: when the head has no parameters.
    """

    def __init__(self, workshop: Workshop, encoder: AdaptedEncoder) -> None:
        super().__init__(workshop, encoder)
        if not any(True for _ in self.head.parameters()):
            raise ConfigError(
                f"objective anil fine-tunes the head alone, and head {self.config.head.label} has "
                "no parameters; give one that has, such as linear, or the objective maml"
            )

    def backward(self, part: Part) -> Tensor:
        """All clips go through the encoder once; each episode fine-tunes a head."""
        batch = _episodes(part)
        count, shots = batch.support.shape[:2]
        kept = torch.cat([batch.support, batch.query], 1)
        features = self.encoder(kept.flatten(0, 1).unsqueeze(0), cells=self.cells)
        features = by_episode(features, count)
        support, query = clips_of(features, slice(shots)), clips_of(features, slice(shots, None))
        copies = self._copies(count, self.config.way, seen(count)).head
        head = self._wrapped(copies, not self.inner.second_order).clone()
        trace = []
        for _ in range(self.inner.steps):
            logits = head.module.training_logits(support, batch.support_labels)
            losses = episode_losses(logits, batch.support_labels)
            trace.append(losses.detach())
            head.adapt(losses.sum())
        scores = head(query, support, batch.support_labels)
        return self._sent_back(part, trace, episode_losses(scores, batch.query_labels))

    # the adapter is not fine-tuned, so validation can do without copies of it
    fine_tuned = Objective.fine_tuned  # type: ignore[assignment]


class Reptile(MetaObjective):
    """Reptile: the start moves towards what fine-tuning on the clips of an episode leads to.

    All clips of an episode are fine-tuned on, its query clips too: `way * (shot + query)`. The
    start moves by `inner.rate` (times warm-up and schedule of the training) of the mean
    displacement over the episodes; `lr`, `head_lr`, `weight_decay` and `clip_norm` are not used.
    The loss that it reports is that before the last inner step.

    Source: Nichol, Achiam, Schulman: On First-Order Meta-Learning Algorithms, 2018,
    https://arxiv.org/abs/1803.02999
    """

    limits_gradient: ClassVar[bool] = False

    def backward(self, part: Part) -> Tensor:
        """The displacement, with its sign changed, in place of a gradient."""
        batch = _episodes(part)
        count = len(batch.support)
        clips = torch.cat([batch.support, batch.query], 1)
        labels = torch.cat([batch.support_labels, batch.query_labels], 1)
        learner = self._copies(count, self.config.way, own(count))
        trace = self._descend(learner, clips, labels)
        self._check(part, trace)
        for start, end in zip(self.trained(), learner.parameters(), strict=True):
            moved = part.weight * (start.detach() - end.detach().mean(0, keepdim=True))
            start.grad = moved if start.grad is None else start.grad + moved
        return part.weight * trace[-1].mean()

    def optimizer(self) -> torch.optim.Optimizer:
        """Plain steps of `inner.rate`."""
        rate = self.inner.rate
        return torch.optim.SGD([{"params": self.trained(), "lr": rate, "base": rate}])

    def fine_tuned(self, support: Tensor, labels: Tensor) -> AdaptedEncoder:
        """The adapter after the inner loop on these support clips, a copy per episode."""
        way = int(labels.max()) + 1
        learner = self._copies(len(labels), way, own(len(labels)))
        with torch.enable_grad():
            self._descend(learner, support, labels)
        return detached(learner.encoder)

    def _descend(self, learner: Learner, clips: Tensor, labels: Tensor) -> list[Tensor]:
        """The inner loop, in place; the losses (B,) before each step."""
        tuned, trace = list(learner.parameters()), []
        for _ in range(self.inner.steps):
            losses = episode_losses(learner.head.training_logits(learner(clips), labels), labels)
            trace.append(losses.detach())
            gradients = torch.autograd.grad(losses.sum(), tuned, allow_unused=True)
            with torch.no_grad():
                for value, gradient in zip(tuned, gradients, strict=True):
                    if gradient is not None:
                        value.sub_(gradient, alpha=self.inner.lr)
        return trace


def meta_objective(workshop: Workshop, encoder: AdaptedEncoder) -> MetaObjective:
    """The meta-objective that a configuration names.

    Raises:
        ConfigError: when it needs learn2learn, which is not installed, or another head.
    """
    return _META[workshop.config.objective](workshop, encoder)


_META: Mapping[str, type[MetaObjective]] = {
    "maml": Maml,
    "meta-sgd": MetaSgd,
    "anil": Anil,
    "reptile": Reptile,
}


def _episodes(part: Part) -> EpisodeBatch:
    if part.episodes is None:
        raise ValueError("a part for meta-training without episodes")
    return part.episodes
