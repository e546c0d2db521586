"""Inputs of the episodes of a batch: prefix tokens of support and query clips, and labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fewshot_i2v.config.base import FinetuneConfig
from fewshot_i2v.config.evaluation import RowConfig
from fewshot_i2v.data.episodes.episode import Episode
from fewshot_i2v.evaluation.batching import ClipRows, chunked_features, mini_batch_indices
from fewshot_i2v.evaluation.context import EvaluationContext
from fewshot_i2v.models.adapters.base.adapted_encoder import AdaptedEncoder
from fewshot_i2v.models.adapters.base.frozen_prefix import ClipPrefixes, ClipTokens, GridSizes
from fewshot_i2v.models.device_memory import PartSize
from fewshot_i2v.models.encoders.transfer import send
from fewshot_i2v.models.feature_cache import FeatureCache
from fewshot_i2v.models.heads.base.labels import send_labels
from fewshot_i2v.tuning.augmentation import SupportAugmenter
from fewshot_i2v.tuning.finetune import EpisodeInputs
from fewshot_i2v.utils.seeding import derive_seed

_Loaded = TypeVar("_Loaded")
StepIndices = Callable[[int], Tensor]
"""From the number of a step to the positions of its support clips, (E, B) int64."""


@dataclass(frozen=True)
class CachedPrefixes:
    """The cached prefixes of clips, and those of the frozen encoder where a head reads it.

    Attributes:
        adapted: of the adapter.
        frozen: of the frozen encoder; None where no head reads it, or `adapted` holds it.
    """

    adapted: FeatureCache
    frozen: FeatureCache | None

    def gather(self, clips: ClipRows) -> ClipTokens:
        """Returns the prefixes of E rows of C clips, (E, C, ...)."""
        adapted = self.adapted.gather(clips)
        return adapted if self.frozen is None else ClipPrefixes(adapted, self.frozen.gather(clips))


def cached_prefixes(
    context: EvaluationContext, encoder: AdaptedEncoder, grid_sizes: GridSizes
) -> CachedPrefixes:
    """Returns the caches of what a tuned row reads of clips as they are."""
    return CachedPrefixes(
        context.prefix_cache(encoder, grid_sizes=grid_sizes),
        context.frozen_cache(encoder, grid_sizes=grid_sizes),
    )


def support_labels(episodes: Sequence[Episode], device: torch.device) -> Tensor:
    """Class of each support clip of E episodes of one shape, (E, S) int64."""
    labels = [[c for c, clips in enumerate(e.support) for _ in clips] for e in episodes]
    return send_labels(torch.tensor(labels), device)


def load_inputs(
    row: RowConfig,
    context: EvaluationContext,
    episodes: Sequence[Episode],
    encoder: AdaptedEncoder,
    *,
    grid_sizes: GridSizes,
    part_size: PartSize,
) -> EpisodeInputs:
    """Loads what fine-tuning and prediction read of E episodes of one shape.

    Args:
        row: with the recipe: augmentation and mini-batches.
        context: with the clips.
        episodes: of one shape.
        encoder: with an adapter of E copies.
        grid_sizes: cells on a side of each grid of patch tokens that the head reads.
        part_size: clips of the prediction that fit into memory at once.
    """
    prefixes = cached_prefixes(context, encoder, grid_sizes)
    support = [episode.support_clips for episode in episodes]
    query = [episode.query_clips for episode in episodes]
    batch_size, batch_indices = row.tuning.batch, None
    if batch_size is not None and is_mini_batched(row.tuning, episodes):
        seed = row.effective_training_seed
        batch_indices = mini_batch_indices(support, episodes, batch_size, seed)
    support_at: Callable[[int], ClipTokens]
    if row.tuning.augments:
        support_at = _augmented_prefixes(row, context, episodes, encoder, grid_sizes, batch_indices)
    else:
        support_at = _load_by_step(support, batch_indices, prefixes.gather)
    return EpisodeInputs(
        support_at,
        support_labels(episodes, encoder.tower.device),
        chunked_features(prefixes, query),
        all_support=chunked_features(prefixes, support),
        batch_indices=batch_indices,
        views=row.tuning.views,
        part_size=part_size,
    )


def is_mini_batched(recipe: FinetuneConfig, episodes: Sequence[Episode]) -> bool:
    """Whether a step reads a part of the support clips of episodes of one shape."""
    return recipe.batch is not None and recipe.batch < len(episodes[0].support_clips)


def stack_support_frames(
    read_frames: Callable[[str], NDArray[np.uint8]], names: ClipRows
) -> Tensor:
    """Reads the frames of E rows of S clips, (E, S, frames, H, W, 3) uint8, on the CPU."""
    stacked = np.stack([np.stack([read_frames(name) for name in row]) for row in names])
    return torch.from_numpy(stacked)


def _load_by_step(
    names: ClipRows, batch_indices: StepIndices | None, load: Callable[[ClipRows], _Loaded]
) -> Callable[[int], _Loaded]:
    """Loads the clips of a step: its mini-batch, or all of them, once for all steps."""
    if batch_indices is None:
        load_all = cache(lambda: load(names))
        return lambda _step: load_all()

    def _load(step: int) -> _Loaded:
        index_rows = batch_indices(step).tolist()
        return load(
            [[row[i] for i in indices] for row, indices in zip(names, index_rows, strict=True)]
        )

    return _load


def _augmented_prefixes(
    row: RowConfig,
    context: EvaluationContext,
    episodes: Sequence[Episode],
    encoder: AdaptedEncoder,
    grid_sizes: GridSizes,
    batch_indices: StepIndices | None,
) -> Callable[[int], Tensor]:
    """Computes the prefix of newly augmented support clips at every step."""
    clips = context.augmentation_clips(row.tuning)

    def _frames(names: ClipRows) -> Tensor:
        read, frames = context.support_frames_ahead, None
        if read is not None and batch_indices is None:
            frames = read(episodes)
        if frames is None:
            frames = stack_support_frames(clips.frames, names)
        # once for all steps: each of them selects frames and changes them on the device
        return send(frames, encoder.tower.device)

    frames_at = _load_by_step([e.support_clips for e in episodes], batch_indices, _frames)
    seed = row.effective_training_seed
    augment = SupportAugmenter(
        row.tuning,
        [episode.classes for episode in episodes],
        [derive_seed("augment", seed, episode.index) for episode in episodes],
        encoder.prefix_tower(grid_sizes),
    )

    def _prefixes(step: int) -> Tensor:
        frames = frames_at(step)
        pixels = torch.cat([augment(frames) for _ in range(row.tuning.views)], 1)
        with torch.no_grad():
            return encoder.compute_prefix(pixels, grid_sizes=grid_sizes)

    return _prefixes
