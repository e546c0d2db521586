"""Batching of a row: episodes that run in parallel, chunks of clips, and mini-batches."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, TypeVar

import torch
from torch import Tensor

from fewshot_i2v.data.episodes.episode import Episode
from fewshot_i2v.models.adapters.base.frozen_prefix import ClipPrefixes, ClipTokens
from fewshot_i2v.utils.seeding import derive_seed

ClipRows = Sequence[Sequence[str]]

# Tokens times width of one step that keeps the device busy: more episodes side by side than that
# bring nothing (measured with scripts/benchmarks/bench_tuning.py).
_STEP_ELEMENT_BUDGET = {"cuda": 30_000 * 768, "cpu": 400_000}
# Values of support and query tokens gathered at once: bounds their memory.
_GATHER_ELEMENT_BUDGET = 1 << 27
# Trained values of one batch, each of which takes 16 bytes with its gradient and AdamW's two
# moments; and values that heads keep for the backward pass.
_TRAINED_ELEMENT_BUDGET = 1 << 28
_MAX_PARALLEL_EPISODES = 256


def group_by_shape(episodes: Sequence[Episode]) -> list[list[Episode]]:
    """Groups episodes with equal numbers of classes, support clips and query clips."""
    groups: dict[tuple[int, int, int], list[Episode]] = defaultdict(list)
    for episode in episodes:
        groups[episode.shape].append(episode)
    return list(groups.values())


def max_parallel_episodes(
    device_type: str, *, clip_elements: int, n_clips: int, step_clips: int, trained_elements: int
) -> int:
    """Returns how many parallel episodes keep the device busy, within limits of memory.

    It depends on the shapes and the kind of device only, never on free memory, so that the same
    command gives the same batches everywhere.

    Args:
        device_type: "cpu" or "cuda".
        clip_elements: values of a clip that are gathered.
        n_clips: support and query clips of the largest episode.
        step_clips: support clips of one step; 0: nothing is trained.
        trained_elements: values of an episode that are trained, or kept for the backward pass.
    """
    limits = [_MAX_PARALLEL_EPISODES, _GATHER_ELEMENT_BUDGET // (n_clips * clip_elements)]
    if step_clips:
        step_budget = _STEP_ELEMENT_BUDGET[device_type]
        limits.append(-(-step_budget // (step_clips * clip_elements)))
        limits.append(_TRAINED_ELEMENT_BUDGET // trained_elements)
    return max(1, min(limits))


_Tokens_co = TypeVar("_Tokens_co", bound=ClipTokens, covariant=True)


class ClipSource(Protocol[_Tokens_co]):
    """Gives what is cached of clips by name."""

    def gather(self, clips: ClipRows) -> _Tokens_co:
        """Returns what is cached of E rows of C clips, (E, C, ...)."""


def chunked_features(
    cache: ClipSource[_Tokens_co], names: ClipRows
) -> Callable[[], Iterator[_Tokens_co]]:
    """Iterates over cached features of E rows of C clips, (E, C, ...), in chunks along C."""

    def _chunks() -> Iterator[_Tokens_co]:
        # the first clip tells how large one is
        first = cache.gather([row[:1] for row in names[:1]])
        parts = first if isinstance(first, ClipPrefixes) else (first,)
        clip_elements = sum(part.numel() for part in parts)
        size = max(1, _GATHER_ELEMENT_BUDGET // (len(names) * clip_elements))
        for start in range(0, len(names[0]), size):
            yield cache.gather([row[start : start + size] for row in names])

    return _chunks


def mini_batch_indices(
    names: ClipRows, episodes: Sequence[Episode], batch_size: int, seed: int
) -> Callable[[int], Tensor]:
    """Selects the mini-batch of support clips of a step: all in turn, reshuffled each epoch.

    Of the S support clips of E episodes it gives the positions for a step number, (E, batch_size)
    int64.
    """
    count = len(names[0])

    def _order(episode: Episode, epoch: int) -> Tensor:
        generator = torch.Generator().manual_seed(derive_seed("batch", seed, episode.index, epoch))
        return torch.randperm(count, generator=generator)

    def _batch_indices(step: int) -> Tensor:
        positions = range(step * batch_size, (step + 1) * batch_size)
        epochs = sorted({position // count for position in positions})
        rows = []
        for episode in episodes:
            order = torch.cat([_order(episode, epoch) for epoch in epochs])
            offset = positions.start - epochs[0] * count
            rows.append(order[offset : offset + batch_size])
        return torch.stack(rows)

    return _batch_indices
