"""Fine-tuning of an adapter and a head on the support clips of several episodes at once.

Every trained parameter carries the episode axis, the loss is the sum of per-episode losses, and
clipping is per episode: gradients, AdamW and schedule of one episode do not depend on the others.
The frozen tower may be held in bfloat16; adapters, head, loss and optimiser stay in float32.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import cos, pi
from typing import Literal, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from fewshot_i2v.config.base import TuningConfig
from fewshot_i2v.errors import TuningError
from fewshot_i2v.models.adapters.base.adapted_encoder import AdaptedEncoder
from fewshot_i2v.models.adapters.base.adapter import Adapter
from fewshot_i2v.models.adapters.base.features import Features
from fewshot_i2v.models.heads.base.head import Head

_ADVICE = (
    "a smaller tuning.lr or tuning.head_lr, a longer tuning.warmup or precision fp32 may help; "
    "if it happens without any training step, look at the encoder's mean and std"
)
# Tokens times width of one forward pass without gradients, so that memory stays bounded.
_QUERY_WORK = 30_000 * 768


Parts = Callable[[], Iterable[Tensor]]


@dataclass(frozen=True)
class Episodes:
    """What E episodes of one shape are tuned on and asked about.

    Attributes:
        support: gives what is kept of the support clips that a step sees, (E, B, ...) as
            `AdaptedEncoder.prefix` gives it.
        labels: class of each support clip, (E, S) int64.
        query: what is kept of the query clips, (E, Q, ...), or gives it in parts along Q.
        given: the same of all S support clips, for the prediction; None: `support(-1)`.
        picked: gives the positions of the support clips that a step sees, (E, B) int64; None: all.
    """

    support: Callable[[int], Tensor]
    labels: Tensor
    query: Tensor | Parts
    given: Parts | None = None
    picked: Callable[[int], Tensor] | None = None

    def labels_at(self, step: int) -> Tensor:
        """Class of each support clip that a step sees, (E, B) int64."""
        if self.picked is None:
            return self.labels
        return self.labels.gather(1, self.picked(step).to(self.labels.device))


@dataclass(frozen=True)
class Tuned:
    """What came of E episodes.

    Attributes:
        logits: scores of the query clips, (E, Q, way), float32.
        losses: support loss before each step, (E, steps), float32.
    """

    logits: Tensor
    losses: Tensor


class Schedule(Protocol):
    """What of a recipe, or of a training, decides the learning rate of a step."""

    @property
    def steps(self) -> int: ...  # noqa: D102 - keys of the configuration
    @property
    def warmup(self) -> float: ...  # noqa: D102
    @property
    def schedule(self) -> Literal["cosine", "constant"]: ...  # noqa: D102


def rate_factor(step: int, recipe: Schedule) -> float:
    """What the learning rates are multiplied with at a step (0 first).

    Linear warm-up over the first `warmup` fraction of the steps, then constant or half a cosine
    down to zero.
    """
    warm = round(recipe.warmup * recipe.steps)
    if step < warm:
        return (step + 1) / warm
    if recipe.schedule == "constant":
        return 1.0
    return 0.5 * (1 + cos(pi * (step - warm) / max(1, recipe.steps - warm)))


def clip_per_episode(parameters: list[nn.Parameter], limit: float) -> None:
    """Scales the gradients of each episode so that their norm is at most `limit`.

    Args:
        parameters: each (E, ...), with or without a gradient.
        limit: largest Euclidean norm over all gradients of one episode.
    """
    grads = [p.grad for p in parameters if p.grad is not None]
    if not grads:
        return
    squares = torch.stack([g.flatten(1).square().sum(1) for g in grads])
    scale = (limit / (squares.sum(0).sqrt() + 1e-6)).clamp(max=1.0)
    for grad in grads:
        grad.mul_(scale.view(-1, *[1] * (grad.ndim - 1)))


def by_decay(module: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Trained parameters with weight decay, and those without.

    Biases, norms and other vectors, (E, D), have none, and neither has what an adapter names in
    `undecayed`. That is one rule for all adapters, and ST-Adapter's; AIM and ZeroI2V let the biases
    of their adapters decay as published (0.05 times the rate).
    """
    free = module.undecayed if isinstance(module, Adapter) else ()
    decayed: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, parameter in module.named_parameters():
        matrix = parameter.ndim > 2 and not name.startswith(free)
        (decayed if matrix else others).append(parameter)
    return decayed, others


def _optimizer(encoder: AdaptedEncoder, head: Head, recipe: TuningConfig) -> torch.optim.AdamW:
    """AdamW over stacked parameters, with weight decay as `by_decay` says."""
    groups: list[dict[str, object]] = []
    for module, rate in ((encoder.adapter, recipe.lr), (head, recipe.head_lr)):
        for chosen, decay in zip(by_decay(module), (recipe.weight_decay, 0.0), strict=True):
            if chosen:
                groups.append({"params": chosen, "lr": rate, "base": rate, "weight_decay": decay})
    return torch.optim.AdamW(groups, fused=True)


def tune(encoder: AdaptedEncoder, head: Head, episodes: Episodes, recipe: TuningConfig) -> Tensor:
    """Fine-tunes the adapter and the head of E episodes on their support clips.

    Args:
        encoder: frozen tower with an adapter of E copies; the adapter is changed.
        head: of E copies; changed.
        episodes: the support clips and their labels.
        recipe: steps, rates, schedule.

    Returns:
        Support loss before each step, (E, steps); (E, 0) when there is nothing to train.

    Raises:
        TuningError: when a loss is no longer finite, naming the step.
    """
    trained = [*encoder.adapter.parameters(), *head.parameters()]
    if not trained or recipe.steps == 0:
        return torch.zeros(episodes.labels.shape[0], 0)
    optimizer = _optimizer(encoder, head, recipe)
    losses = []
    for step in range(recipe.steps):
        for group in optimizer.param_groups:
            group["lr"] = group["base"] * rate_factor(step, recipe)
        labels = episodes.labels_at(step)
        features = encoder(episodes.support(step), cells=head.cells)
        logits = head.training_logits(features, labels)
        loss = functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none")
        loss = loss.view(labels.shape).mean(1)
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss.sum())
        if recipe.clip_norm is not None:
            clip_per_episode(trained, recipe.clip_norm)
        optimizer.step()
        losses.append(loss.detach())
    trace = torch.stack(losses, 1).cpu()
    _check_finite(trace)
    return trace


def _check_finite(trace: Tensor) -> None:
    bad = (~trace.isfinite()).nonzero()
    if len(bad):
        step = int(bad[:, 1].min())
        where = "not finite from the start" if step == 0 else f"no longer finite at step {step}"
        raise TuningError(f"the support loss is {where}; {_ADVICE}")


@torch.inference_mode()
def embed(encoder: AdaptedEncoder, tokens: Tensor, *, cells: int = 0) -> Features:
    """Features without gradients, in chunks of clips so that memory stays bounded.

    Args:
        encoder: frozen tower with an adapter of E copies.
        tokens: what is kept of C clips, (E, C, ...).
        cells: cells on a side of the grid of patch tokens wanted; 0: none.

    Returns:
        Features of all C clips.
    """
    per_clip = tokens.shape[0] * tokens[0, 0].numel()
    chunks = torch.split(tokens, max(1, _QUERY_WORK // per_clip), dim=1)
    return _joined([encoder(chunk, cells=cells) for chunk in chunks])


def _joined(parts: Sequence[Features]) -> Features:
    if len(parts) == 1:
        return parts[0]
    grids = [p.grid for p in parts if p.grid is not None]
    return Features(
        torch.cat([p.frames for p in parts], 1),
        torch.cat([p.clip for p in parts], 1),
        torch.cat(grids, 1) if grids else None,
    )


def predict(encoder: AdaptedEncoder, head: Head, episodes: Episodes) -> Tensor:
    """Scores of the query clips, (E, Q, way) float32, from un-augmented support clips."""
    kept = [episodes.support(-1)] if episodes.given is None else episodes.given()
    support = _joined([embed(encoder, part, cells=head.cells) for part in kept])
    asked = [episodes.query] if isinstance(episodes.query, Tensor) else episodes.query()
    query = (embed(encoder, part, cells=head.cells) for part in asked)
    return _scores(head, support, query, episodes.labels)


def _scores(head: Head, support: Features, query: Iterable[Features], labels: Tensor) -> Tensor:
    """Scores of the query clips, which come in parts, (E, Q, way), float32.

    Raises:
        TuningError: when one of them is not finite.
    """
    rows = []
    for part in query:  # what is kept of the clips must not come from inside of inference mode
        with torch.inference_mode():
            rows.append(head(part, support, labels))
    scores = rows[0] if len(rows) == 1 else torch.cat(rows, 1)
    if not scores.isfinite().all():
        raise TuningError(f"the scores of the query clips are not finite; {_ADVICE}")
    return scores.float()


def compare(head: Head, support: Features, query: Iterable[Features], labels: Tensor) -> Tuned:
    """Scores of query clips whose features, and those of the support clips, are known.

    Args:
        head: of E copies.
        support: of S clips.
        query: of Q clips, in parts.
        labels: class of each support clip, (E, S) int64.

    Raises:
        TuningError: when a score is not finite.
    """
    return Tuned(_scores(head, support, query, labels), torch.zeros(labels.shape[0], 0))


def tune_and_predict(
    encoder: AdaptedEncoder, head: Head, episodes: Episodes, recipe: TuningConfig
) -> Tuned:
    """Fine-tunes on the support clips, then scores the query clips.

    Args:
        encoder: frozen tower with a fresh adapter of E copies.
        head: fresh, of E copies.
        episodes: support and query clips.
        recipe: how to tune.

    Raises:
        TuningError: when a loss is no longer finite, or the device is out of memory.
    """
    try:
        losses = tune(encoder, head, episodes, recipe)
        return Tuned(predict(encoder, head, episodes), losses)
    except torch.OutOfMemoryError as error:
        count = episodes.labels.shape[0]
        raise TuningError(
            f"the device is out of memory with {count} episodes side by side; give a smaller "
            f"--at-once, fewer frames or --precision bf16 ({str(error).splitlines()[0]})"
        ) from error
