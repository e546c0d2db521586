"""Fine-tunes an adapter and a head on the support clips of several episodes at once.

Every trained parameter has the episode axis, the loss is the sum of per-episode losses, and
gradient clipping is per episode: gradients, AdamW and schedule of one episode do not depend on
the other episodes. The frozen tower may be in bfloat16; adapters, head, loss and optimiser stay
in float32.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from math import cos, pi
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn

from fewshot_i2v.config.base import FinetuneConfig
from fewshot_i2v.errors import TuningError
from fewshot_i2v.models.adapters.base.adapted_encoder import AdaptedEncoder
from fewshot_i2v.models.adapters.base.adapter import Adapter
from fewshot_i2v.models.adapters.base.features import Features, concat_features
from fewshot_i2v.models.adapters.base.frozen_prefix import (
    ClipPrefixes,
    ClipTokens,
    GridSizes,
    select_clips,
)
from fewshot_i2v.models.device_memory import PartSize
from fewshot_i2v.models.heads.base.head import Head
from fewshot_i2v.models.heads.base.labels import derive_labels, labels_on_host, send_labels
from fewshot_i2v.tuning.episodes_without_loss import EpisodesWithoutLoss
from fewshot_i2v.tuning.optimizers import AdamW, RateDescent, TuningOptimizer
from fewshot_i2v.tuning.support_loss import support_losses

_ADVICE = (
    "a smaller tuning.lr, tuning.head_lr or tuning.weight_decay, a longer tuning.warmup or "
    "precision fp32 may help; "
    "if it happens without any training step, look at the encoder's mean and std"
)
# Tokens times width of one forward pass without gradients, so that memory stays bounded.
_QUERY_ELEMENT_BUDGET = 30_000 * 768


ChunkLoader = Callable[[], Iterable[ClipTokens]]


@dataclass(frozen=True)
class EpisodeInputs:
    """Inputs of E episodes of one shape: support clips with labels, and query clips.

    Attributes:
        support_at: returns the frozen prefix of the support clips of a step, (E, views * B, ...),
            as from `AdaptedEncoder.compute_prefix`: one view of all clips after the other. Here and
            below it may come with what the frozen tower gives, see `ClipPrefixes`.
        labels: class of each support clip, (E, S) int64.
        query: the frozen prefix of the query clips, (E, Q, ...), or a loader of chunks along Q.
        all_support: a loader of chunks of all S support clips, for the prediction; None:
            `support_at(-1)`.
        batch_indices: returns the positions of the support clips of a step, (E, B) int64; None:
            all.
        views: of each support clip in a step.
        part_size: clips that fit into memory at once without gradients.
    """

    support_at: Callable[[int], ClipTokens]
    labels: Tensor
    query: ClipTokens | ChunkLoader
    all_support: ChunkLoader | None = None
    batch_indices: Callable[[int], Tensor] | None = None
    views: int = 1
    part_size: PartSize = field(default_factory=PartSize)

    def labels_at(self, step: int) -> Tensor:
        """Returns the class of each view of the support clips of a step, (E, views * B) int64."""
        labels = self.labels
        if self.batch_indices is not None:
            of_step = labels_on_host(labels).gather(1, self.batch_indices(step))
            labels = send_labels(of_step, labels.device)
        return derive_labels(lambda x: x.repeat(1, self.views), labels)


@dataclass(frozen=True)
class FinetuneResult:
    """Result of fine-tuning E episodes.

    Attributes:
        logits: of the query clips, (E, Q, way), float32.
        losses: support loss before each step, (E, steps), float32; nan for the steps that an
            episode did not make, see `FinetuneConfig.min_loss`.
        tuned_logits: those of the tuned adapter alone, where `logits` are a mean with the untuned
            ones; else None.
    """

    logits: Tensor
    losses: Tensor
    tuned_logits: Tensor | None = None

    def losses_of(self, episode: int) -> list[float]:
        """Returns the support loss before each step that an episode made, and before the first."""
        losses = self.losses[episode]
        made: list[float] = losses[~losses.isnan()].tolist()
        return made


class LrSchedule(Protocol):
    """Keys of a recipe, or of a training, that decide the learning rate of a step."""

    @property
    def steps(self) -> int: ...  # noqa: D102 - keys of the configuration
    @property
    def warmup(self) -> float: ...  # noqa: D102
    @property
    def schedule(self) -> Literal["cosine", "constant"]: ...  # noqa: D102


def lr_factor(step: int, recipe: LrSchedule) -> float:
    """Factor of the learning rates at a step (0 first).

    Linear warm-up over the first `warmup` fraction of the steps, then constant or half a cosine
    down to zero.
    """
    warmup_steps = round(recipe.warmup * recipe.steps)
    if step < warmup_steps:  # step + 1: at a factor of zero the first step would be lost
        return (step + 1) / warmup_steps
    if recipe.schedule == "constant":
        return 1.0
    return 0.5 * (1 + cos(pi * (step - warmup_steps) / max(1, recipe.steps - warmup_steps)))


def clip_episode_gradients(parameters: list[nn.Parameter], max_norm: float) -> None:
    """Scales the gradients of each episode so that their norm is at most `max_norm`.

    Args:
        parameters: each (E, ...), with or without a gradient.
        max_norm: largest Euclidean norm over all gradients of one episode.
    """
    grads = [p.grad for p in parameters if p.grad is not None]
    if not grads:
        return
    squares = torch.stack([g.flatten(1).square().sum(1) for g in grads])
    # as in torch's `clip_grad_norm_`: 1e-6 keeps gradients of zero from 0 / 0
    scale = (max_norm / (squares.sum(0).sqrt() + 1e-6)).clamp(max=1.0)
    for grad in grads:
        grad.mul_(scale.view(-1, *[1] * (grad.ndim - 1)))


def split_weight_decay(module: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Splits the trained parameters into those with weight decay and those without.

    Biases, norms and other vectors, (E, D), have none, nor have the parameters that an adapter
    names in `no_weight_decay`. This is one rule for all adapters, and ST-Adapter's; AIM and ZeroI2V
    as published let the biases of their adapters decay (0.05 times the rate).
    """
    excluded = module.no_weight_decay if isinstance(module, Adapter) else ()
    decayed: list[nn.Parameter] = []
    undecayed: list[nn.Parameter] = []
    for name, parameter in module.named_parameters():
        has_decay = parameter.ndim > 2 and not name.startswith(excluded)
        (decayed if has_decay else undecayed).append(parameter)
    return decayed, undecayed


def parameter_groups(
    rates: Iterable[tuple[nn.Module, float]], weight_decay: float
) -> list[dict[str, Any]]:
    """Makes the parameter groups of an optimizer, with weight decay as in `split_weight_decay`.

    Args:
        rates: modules, each with its learning rate, which is also stored under the key `base`.
        weight_decay: of the parameters that have any.
    """
    groups = []
    for module, lr in rates:
        for parameters, decay in zip(split_weight_decay(module), (weight_decay, 0.0), strict=True):
            if parameters:
                groups.append({"params": parameters, "lr": lr, "base": lr, "weight_decay": decay})
    return groups


def make_optimizer(
    encoder: AdaptedEncoder, head: Head, recipe: FinetuneConfig, rates: Sequence[Tensor] | None
) -> TuningOptimizer:
    """Makes the optimizer that a recipe names.

    Raises:
        ValueError: when it needs rates and there are none, or the other way round.
    """
    if (recipe.optimizer == "start-rates") != (rates is not None):
        raise ValueError(f"optimizer {recipe.optimizer} with{'' if rates else 'out'} rates")
    if rates is not None:
        return RateDescent([*encoder.adapter.parameters(), *head.parameters()], rates)
    lr_by_module = ((encoder.adapter, recipe.lr), (head, recipe.head_lr))
    return AdamW(parameter_groups(lr_by_module, recipe.weight_decay))


def finetune(
    encoder: AdaptedEncoder,
    head: Head,
    episodes: EpisodeInputs,
    recipe: FinetuneConfig,
    rates: Sequence[Tensor] | None = None,
) -> Tensor:
    """Fine-tunes the adapter and the head of E episodes on their support clips.

    Args:
        encoder: frozen tower with an adapter of E copies; the adapter is changed.
        head: of E copies; changed.
        episodes: the support clips and their labels.
        recipe: steps, rates, schedule.
        rates: of every value of adapter and head, in the order of their parameters, for the
            optimizer start-rates; None for others.

    Returns:
        Support loss before each step, (E, steps); (E, 0) when there is nothing to train. Of an
        episode that `recipe.min_loss` leaves untuned the first alone, and nan for the others.

    Raises:
        TuningError: when a loss is no longer finite, naming the step.
    """
    parameters = [*encoder.adapter.parameters(), *head.parameters()]
    if not parameters or recipe.steps == 0:
        return torch.zeros(episodes.labels.shape[0], 0)
    ahead = [episodes.support_at(0)]
    untuned = EpisodesWithoutLoss.find(encoder, head, ahead[0], episodes.labels_at(0), recipe)
    if untuned is not None and untuned.are_all:
        return untuned.with_first_losses(torch.zeros(len(untuned.losses), recipe.steps))
    optimizer = make_optimizer(encoder, head, recipe, rates)
    clip_norm = recipe.clip_norm if rates is None else None
    initial = None if untuned is None else [p.detach().clone() for p in parameters]
    losses = []
    for step in range(recipe.steps):
        for group in optimizer.param_groups:
            group["lr"] = group["base"] * lr_factor(step, recipe)
        labels = episodes.labels_at(step)
        tokens = ahead.pop() if ahead else episodes.support_at(step)
        loss = support_losses(encoder, head, tokens, labels, recipe.label_smoothing)
        del tokens  # those of the next step must not be beside them in memory
        if untuned is not None:
            loss = untuned.without_their_losses(loss)
        optimizer.zero_grad()
        # a mean would divide each episode's gradient by E, and clipping would depend on E
        torch.autograd.backward(loss.sum())
        if clip_norm is not None:
            clip_episode_gradients(parameters, clip_norm)
        optimizer.step()
        losses.append(loss.detach())
    step_losses = torch.stack(losses, 1).cpu()
    _check_finite(step_losses)
    if untuned is None or initial is None:
        return step_losses
    untuned.restore(parameters, initial)
    return untuned.with_first_losses(step_losses)


def _check_finite(step_losses: Tensor) -> None:
    non_finite = (~step_losses.isfinite()).nonzero()
    if len(non_finite):
        step = int(non_finite[:, 1].min())
        problem = "not finite from the start" if step == 0 else f"no longer finite at step {step}"
        raise TuningError(f"the support loss is {problem}; {_ADVICE}")


@torch.inference_mode()
def encode_in_chunks(
    encoder: AdaptedEncoder,
    tokens: ClipTokens,
    *,
    grid_sizes: GridSizes = (),
    part_size: PartSize | None = None,
) -> Features:
    """Computes features without gradients, in chunks of clips so that memory stays bounded.

    Args:
        encoder: frozen tower with an adapter of E copies.
        tokens: the frozen prefix of C clips, (E, C, ...).
        grid_sizes: cells on a side of each requested grid of patch tokens.
        part_size: clips that fit into memory, those of all E copies counted; it is smaller after
            the call where the device was out of memory. None: nothing is known of it.

    Returns:
        Features of all C clips.
    """
    prefix = tokens.adapted if isinstance(tokens, ClipPrefixes) else tokens
    per_clip = prefix.shape[0] * prefix[0, 0].numel()
    chunks = (part_size or PartSize()).run(
        prefix.shape[1],
        lambda part: encoder(select_clips(tokens, part), grid_sizes=grid_sizes),
        units=prefix.shape[0],
        at_most=max(1, _QUERY_ELEMENT_BUDGET // per_clip),
    )
    return concat_features(chunks)


def predict(encoder: AdaptedEncoder, head: Head, episodes: EpisodeInputs) -> Tensor:
    """Computes logits of the query clips, (E, Q, way) float32, from un-augmented support clips."""
    support_chunks = (
        [episodes.support_at(-1)] if episodes.all_support is None else episodes.all_support()
    )
    part_size = episodes.part_size
    encode = partial(encode_in_chunks, encoder, grid_sizes=head.grid_sizes, part_size=part_size)
    support = concat_features([encode(chunk) for chunk in support_chunks])
    query_chunks = episodes.query() if callable(episodes.query) else [episodes.query]
    query = (encode(chunk) for chunk in query_chunks)
    return _query_logits(
        lambda chunk, labels: head(chunk, support, labels), query, episodes.labels, part_size
    )


def _query_logits(
    score: Callable[[Features, Tensor], Tensor],
    query: Iterable[Features],
    labels: Tensor,
    part_size: PartSize,
) -> Tensor:
    """Computes logits of the query clips, which come in chunks, (E, Q, way), float32.

    Raises:
        TuningError: when one of them is not finite.
    """
    chunk_logits: list[Tensor] = []

    def _score(chunk: Features, part: slice) -> Tensor:
        return score(chunk.map(lambda x: x[:, part]), labels)

    for chunk in query:  # what is kept of the clips must not come from inside of inference mode
        n_episodes, n_clips = chunk.clip.shape[:2]
        with torch.inference_mode():
            chunk_logits += part_size.run(n_clips, partial(_score, chunk), units=n_episodes)
    logits = chunk_logits[0] if len(chunk_logits) == 1 else torch.cat(chunk_logits, 1)
    if not logits.isfinite().all():
        raise TuningError(f"the scores of the query clips are not finite; {_ADVICE}")
    return logits.float()


def predict_from_features(
    head: Head,
    support: Features,
    query: Iterable[Features],
    labels: Tensor,
    *,
    part_size: PartSize | None = None,
) -> FinetuneResult:
    """Computes logits of query clips from features, without fine-tuning.

    Args:
        head: of E copies.
        support: of S clips, from `Head.select_tokens`.
        query: of Q clips, likewise, in chunks.
        labels: class of each support clip, (E, S) int64.
        part_size: as for `encode_in_chunks`.

    Raises:
        TuningError: when a logit is not finite.
    """
    logits = _query_logits(
        lambda chunk, labels: head.selected_logits(chunk, support, labels),
        query,
        labels,
        part_size or PartSize(),
    )
    return FinetuneResult(logits, torch.zeros(labels.shape[0], 0))


def finetune_and_predict(
    encoder: AdaptedEncoder,
    head: Head,
    episodes: EpisodeInputs,
    recipe: FinetuneConfig,
    rates: Sequence[Tensor] | None = None,
) -> FinetuneResult:
    """Fine-tunes on the support clips, then computes logits of the query clips.

    With `recipe.untuned_weight` they are a weighted mean with those of the same adapter and head
    before the first step: an ensemble in the space of outputs, which Wortsman et al., "Robust
    fine-tuning of zero-shot models" (CVPR 2022, https://arxiv.org/abs/2109.01903) compare with one
    in the space of weights.

    Args:
        encoder: frozen tower with a fresh adapter of E copies.
        head: fresh, of E copies.
        episodes: support and query clips.
        recipe: how to fine-tune.
        rates: as for `finetune`.

    Raises:
        TuningError: when a loss is no longer finite.
    """
    weight = recipe.untuned_weight
    untuned_logits = predict(encoder, head, episodes) if weight else None
    losses = finetune(encoder, head, episodes, recipe, rates)
    tuned_logits = predict(encoder, head, episodes)
    if untuned_logits is None:
        return FinetuneResult(tuned_logits, losses)
    mean_logits = tuned_logits.lerp(untuned_logits, weight)
    return FinetuneResult(mean_logits, losses, tuned_logits)
