"""The choice of one of several methods by their right answers on the same held-out clips."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fewshot_i2v.errors import UsageError

_RESAMPLES = 1000


def choose_method(correct: ArrayLike, groups: Sequence[Hashable] | None = None) -> int:
    """Chooses the first method whose share of right clips is within one standard error of the best.

    The standard error is that of the difference between the two on the same clips (the
    one-standard-error rule of Breiman et al., "Classification and Regression Trees", 1984), with
    groups of clips instead of clips as the independent units.

    Args:
        correct: whether each clip is right by each method, (R, M), the simplest method first; NaN
            where a method was stopped (`cannot_be_best`), which counts as its share so far.
        groups: group of each clip, (R,); None, or all equal: each clip is one.

    Returns:
        Index of the method, 0..M-1.

    Raises:
        UsageError: when there is no clip or no method.
    """
    hits, sizes = _sums_of_groups(correct, groups)
    return _choose(hits, sizes)


def cannot_be_best(right: int, remaining: int, right_of_simpler: int) -> bool:
    """Says whether a method cannot get ahead of a simpler one any more.

    That is so when it would not be ahead even if all remaining clips were right. Then
    `choose_method` does not choose it, unless it chooses a method that comes after it: the best
    method is another one, and the simpler ones are as near to it as before. So a comparison may
    stop it without a change of the choice (a race of methods as of Maron and Moore, "Hoeffding
    Races", NIPS 1993, but with a bound that always holds).

    Args:
        right: clips that it has right so far.
        remaining: clips that it has not predicted yet.
        right_of_simpler: clips that the simpler method has right, of all.
    """
    return right + remaining <= right_of_simpler


def accuracy_of_choice(
    correct: ArrayLike, groups: Sequence[Hashable] | None = None, *, seed: int = 0
) -> float:
    """Estimates the accuracy on new clips of the method that `choose_method` chooses.

    The best of several methods was partly lucky on the clips that it was chosen by. Here the choice
    is made again on resampled groups, and judged on the groups that the resample left out; the mean
    over the resamples is returned (Tsamardinos, Greasidou, Borboudakis, "Bootstrapping the
    out-of-sample predictions for efficient and accurate cross-validation", Machine Learning 2018).
    A single method has its share of right clips.

    Args:
        correct: whether each clip is right by each method, (R, M), the simplest method first; NaN
            as for `choose_method`.
        groups: group of each clip, (R,); None, or all equal: each clip is one.
        seed: of the resamples.

    Returns:
        Accuracy, 0..1; never above that of the chosen method on all clips.

    Raises:
        UsageError: when there is no clip or no method.
    """
    hits, sizes = _sums_of_groups(correct, groups)
    raw = float((hits.sum(0) / sizes.sum())[_choose(hits, sizes)])
    if hits.shape[1] == 1 or len(sizes) == 1:
        return raw
    rng = np.random.default_rng(seed)
    right = clips = 0.0
    for _ in range(_RESAMPLES):
        resample = rng.integers(len(sizes), size=len(sizes))
        left_out = np.ones(len(sizes), dtype=bool)
        left_out[resample] = False
        method = _choose(hits[resample], sizes[resample])
        right += hits[left_out, method].sum()
        clips += sizes[left_out].sum()
    return raw if not clips else min(raw, float(right / clips))


def _sums_of_groups(
    correct: ArrayLike, groups: Sequence[Hashable] | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Returns right clips by group and method (G, M), and clips by group (G,)."""
    values = np.asarray(correct, dtype=np.float64)
    if values.ndim != 2 or not values.size:
        raise UsageError(f"choice of a method: got {values.shape} answers; expected clips, methods")
    if np.isnan(values).any():
        values = np.where(np.isnan(values), np.nanmean(values, axis=0), values)
    numbers: dict[Hashable, int] = {}
    codes = np.array([numbers.setdefault(group, len(numbers)) for group in groups or ()])
    if len(numbers) < 2:
        codes = np.arange(len(values))
    sizes = np.bincount(codes).astype(np.float64)
    hits = np.zeros((len(sizes), values.shape[1]))
    np.add.at(hits, codes, values)
    return hits, sizes


def _choose(hits: NDArray[np.float64], sizes: NDArray[np.float64]) -> int:
    clips, n_groups = sizes.sum(), len(sizes)
    accuracy = hits.sum(0) / clips
    differences = hits[:, [int(accuracy.argmax())]] - hits  # summed over the clips of each group
    means = differences.sum(0) / clips
    if n_groups < 2:
        return int((means <= 0).argmax())
    residuals = differences - means * sizes[:, None]
    errors = np.sqrt(n_groups / (n_groups - 1) * (residuals**2).sum(0)) / clips
    return int((means <= errors).argmax())
