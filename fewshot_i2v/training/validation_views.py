"""Augmented views of the support clips of validation episodes, for the inner loop."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fewshot_i2v.config.training import TrainingConfig
from fewshot_i2v.data.episodes.episode import Episode
from fewshot_i2v.models.adapters.base.adapted_encoder import AdaptedEncoder
from fewshot_i2v.models.adapters.base.frozen_prefix import GridSizes
from fewshot_i2v.training.batches import refuse_unreadable
from fewshot_i2v.tuning.augmentation import SupportAugmenter
from fewshot_i2v.tuning.run_context import RunContext
from fewshot_i2v.utils.seeding import derive_seed


@dataclass(frozen=True)
class SupportViews:
    """Views of support clips as an inner loop with `inner.views` reads them.

    They are the same at every validation and for every seed of the training, as the episodes are.

    Attributes:
        context: with the clips as the augmentation reads them.
        config: of the training.
    """

    context: RunContext
    config: TrainingConfig

    @classmethod
    def of(cls, context: RunContext, config: TrainingConfig) -> SupportViews | None:
        """Makes them for a training; None where its inner loop reads each clip once, as it is."""
        if config.inner.views == 1:
            return None
        return cls(context.with_segment_thirds() if config.augment.temporal else context, config)

    def prepare(self, clips: Iterable[str], *, progress: bool) -> None:
        """Decodes support clips.

        Raises:
            TuningError: naming the clips that cannot be read.
        """
        self.context.decode_clips(clips, progress=progress)
        refuse_unreadable(self.context)

    @torch.no_grad()
    def prefixes(
        self, episodes: Sequence[Episode], encoder: AdaptedEncoder, grid_sizes: GridSizes
    ) -> Tensor:
        """Computes the prefix tokens of all views, (episodes, views * S, ...), view by view."""
        rows = []
        for episode in episodes:  # one at a time: pixels are larger than tokens
            seed = derive_seed("validation views", episode.index)
            augment = SupportAugmenter(
                self.config.augment, [episode.classes], [seed], encoder.tower
            )
            names = episode.support_clips
            clips = torch.stack([torch.from_numpy(self.context.frames(n).copy()) for n in names])
            views = [augment(clips[None]) for _ in range(self.config.inner.views)]
            rows.append(encoder.compute_prefix(torch.cat(views, 1)[0], grid_sizes=grid_sizes))
        return torch.stack(rows)
