"""Weights of several readouts in a head that compares clips: fixed, or chosen by leave-one-out."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import combinations, pairwise
from typing import Annotated, Literal

import torch
from pydantic import BeforeValidator, Field
from torch import Tensor

from fewshot_i2v.errors import HeadError
from fewshot_i2v.models.heads.base.features import l2_normalize, one_hot

_WeightNumbers = Annotated[
    tuple[Annotated[float, Field(ge=0, allow_inf_nan=False)], ...],
    Field(strict=False, min_length=1),
]


def _check_form(value: object) -> object:
    """Checks the form of weights in one message, since those of a union name its parts."""
    numbers = list(value) if isinstance(value, list | tuple) else []
    is_list = bool(numbers) and all(
        isinstance(x, int | float) and not isinstance(x, bool) and 0 <= x < math.inf
        for x in numbers
    )
    if not is_list and value not in ("equal", "loo"):
        raise ValueError("expected equal, loo, or a list of numbers of at least 0, such as [1,0.5]")
    return value


ReadoutWeights = Annotated[
    Literal["equal", "loo"] | _WeightNumbers,
    BeforeValidator(_check_form, json_schema_input_type=Literal["equal", "loo"] | _WeightNumbers),
]
"""How a head weighs its readouts: all by one, chosen per episode, or one number for each."""
# steps between the weights 0 and 1 that leave-one-out tries
_WEIGHT_STEPS = 4


def check_weights(weights: ReadoutWeights, tokens: str) -> None:
    """Refuses weights that do not fit the readouts.

    Args:
        weights: of the head's options.
        tokens: its readouts, joined by "+".

    Raises:
        HeadError: when there are more or fewer numbers than readouts, or all are zero.
    """
    if isinstance(weights, str):
        return
    count = tokens.count("+") + 1
    if len(weights) != count or not any(weights):
        raise HeadError(
            f"weights={list(weights)}: expected one number for each of {tokens} ({count}), not all "
            "of them 0; or equal, or loo"
        )


def choose_weights(
    leave_one_out_logits: Callable[[Tensor], Tensor], labels: Tensor, *, way: int, count: int
) -> Tensor:
    """Chooses the weights of readouts by leave-one-out on the support clips, per episode.

    All weights in steps of a quarter that add up to one are tried, zeros included. The result is
    their mean, each weighted by the likelihood of the labels of the clips that were left out, as in
    averaging of models by leave-one-out (Geisser, Eddy: A Predictive Approach to Model Selection,
    Journal of the American Statistical Association 74, 1979,
    https://doi.org/10.1080/01621459.1979.10481632). With few clips this is more reliable than the
    best ones alone. With one clip of a class nothing can be left out, and all weights are equal.

    Args:
        leave_one_out_logits: from weights (E, count) to logits of the support clips, each left out
            of its own class, (E, S, way).
        labels: class of each support clip, (E, S) int64.
        way: classes of an episode.
        count: readouts.

    Returns:
        (E, count), float32, their sum is `count`: as large as equal weights of one.
    """
    episodes = labels.shape[0]
    has_lone_clip = (one_hot(labels, way).sum(1) < 2).any(-1)
    if count == 1 or bool(has_lone_clip.all()):
        return torch.ones(episodes, count, device=labels.device)
    candidates, log_likelihoods = torch.tensor(_simplex(count), device=labels.device) * count, []
    for candidate in candidates:
        logits = leave_one_out_logits(candidate.expand(episodes, -1))
        # not `cross_entropy`, which has no deterministic form on a GPU
        chosen = logits.log_softmax(-1).gather(-1, labels.unsqueeze(-1))
        log_likelihoods.append(chosen.sum((-2, -1)))
    weights = torch.stack(log_likelihoods, -1).softmax(-1) @ candidates
    # per episode: those beside it do not change the weights of an episode
    return weights.masked_fill(has_lone_clip.unsqueeze(-1), 1.0)


@lru_cache(maxsize=8)
def _simplex(count: int) -> list[list[float]]:
    """All weights in steps of a quarter that add up to one, ascending."""
    # bars between the steps of one readout and the next: none but these points is looked at
    ends = _WEIGHT_STEPS + count - 1
    all_bars = ((-1, *bars, ends) for bars in combinations(range(ends), count - 1))
    return [[(b - a - 1) / _WEIGHT_STEPS for a, b in pairwise(bars)] for bars in all_bars]


def scale_readouts(x: Tensor, sizes: Sequence[int], weights: Tensor | None = None) -> Tensor:
    """Scales each readout of vectors to length one, then by its weight.

    The product of such vectors, one with weights and one without, is the weighted sum of the
    cosines of the readouts.

    Args:
        x: readouts side by side, (E, ..., sum of sizes).
        sizes: values of each readout.
        weights: (E, readouts); None: no weights.

    Returns:
        The same shape; a readout of zeros stays zero.
    """
    if len(sizes) == 1 and weights is None:
        # a split of one would change the order in which gradients add up, and so their last bits
        return l2_normalize(x)
    parts = [l2_normalize(part) for part in torch.split(x, list(sizes), -1)]
    if weights is not None:
        shape = (-1, *[1] * (x.ndim - 1))
        parts = [part * weights[:, i].view(shape) for i, part in enumerate(parts)]
    return parts[0] if len(parts) == 1 else torch.cat(parts, -1)
