"""Batches of a training step: a pure function of the configuration and the step number.

Frames of training clips are decoded once and cached as bytes; without augmentation the prefix
tokens of the frozen tower are cached instead.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fewshot_i2v.config.training import TrainingConfig
from fewshot_i2v.data.episodes.episode import Episode
from fewshot_i2v.data.episodes.sampler import EpisodeSampler
from fewshot_i2v.data.video.frame_sampling import SEGMENT_THIRDS
from fewshot_i2v.errors import TuningError
from fewshot_i2v.training.class_split import TRAIN_SUBSET, TrainValSplit
from fewshot_i2v.training.objective import ClipBatch, EpisodeBatch, MicroBatch, Objective
from fewshot_i2v.tuning.augmentation import TrainingAugmenter
from fewshot_i2v.tuning.run_context import RunContext
from fewshot_i2v.utils.seeding import derive_seed

# Bytes of decoded frames kept in memory; beyond that they are read from the store every time.
_FRAME_CACHE_BYTES = 2 << 30


class TrainBatches:
    """The batches of a training.

    Args:
        context: split, encoder and clips.
        config: of the training.
        class_split: classes and clips for training and validation.
        objective: decides between episodes and clips, and holds the encoder.

    Raises:
        EpisodeError: when the training classes cannot give such episodes.
    """

    def __init__(
        self,
        context: RunContext,
        config: TrainingConfig,
        class_split: TrainValSplit,
        objective: Objective,
    ) -> None:
        self.config, self.class_split, self.objective = config, class_split, objective
        tower = context.encoder.tower
        self._augment = TrainingAugmenter(
            config.augment,
            class_split.classes,
            mean=tower.mean,
            std=tower.std,
            normalize=tower.normalize,
        )
        self.context = _with_more_frames(context, self._augment.frames_per_segment)
        self._frames = _FrameCache(self.context)
        self._sampler = None
        if objective.wants_episodes:
            self._sampler = EpisodeSampler(
                class_split.train,
                subset=TRAIN_SUBSET,
                seed=derive_seed("episodes", config.seed),
                way=config.way,
                shot=config.shot,
                query=config.query,
            )
        self._epoch_order: tuple[int, list[str]] = (-1, [])

    def prepare(self, *, progress: bool) -> None:
        """Decodes all training clips.

        Raises:
            TuningError: naming the clips that cannot be read.
        """
        self.context.decode_clips(self.class_split.clips, progress=progress)
        refuse_unreadable(self.context)

    def micro_batches(self, step: int) -> Iterator[MicroBatch]:
        """Yields the micro-batches of a step, over which gradients are accumulated."""
        episodes = self._episodes(step)
        names = self._next_clips(step)
        episode_pixels = self._augmented_pixels(
            [n for episode in episodes for n in _clips_in_order(episode)], "episodes", step
        )
        clip_pixels = self._augmented_pixels(names, "clips", step)
        count = self.config.accumulate
        for i in range(count):
            episode_slice, clip_slice = (
                _equal_slice(len(episodes), count, i),
                _equal_slice(len(names), count, i),
            )
            yield MicroBatch(
                step=step,
                index=i,
                weight=1 / count,
                episodes=self._episode_batch(episodes, episode_slice, episode_pixels)
                if episodes
                else None,
                clips=self._clip_batch(names, clip_slice, clip_pixels) if names else None,
            )

    def clip_names(self, step: int) -> list[str]:
        """Clips of a step's batch: those of each episode, then those for classification."""
        episodes = [name for episode in self._episodes(step) for name in _clips_in_order(episode)]
        return episodes + self._next_clips(step)

    def empty_micro_batch(self) -> MicroBatch:
        """Returns a micro-batch of zeros, to measure the time of a step without any clip."""
        config, tower = self.config, self.context.encoder.tower
        size = (config.video.frames, 3, tower.image_size, tower.image_size)
        pixels = torch.zeros(size, dtype=tower.dtype, device=tower.device)
        with torch.no_grad():
            prefix = self.objective.encoder.compute_prefix(
                pixels, grid_size=self.objective.grid_size
            )

        def _repeat_prefix(*leading: int) -> Tensor:
            return prefix.expand(*leading, *prefix.shape).contiguous()

        count, way = config.batch // config.accumulate, config.way
        episodes = EpisodeBatch(
            support=_repeat_prefix(count, way * config.shot),
            query=_repeat_prefix(count, way * config.query),
            support_labels=labels_by_class(way, config.shot, count, prefix.device),
            query_labels=labels_by_class(way, config.query, count, prefix.device),
            classes=(self.class_split.classes[:way],) * count,
        )
        n_clips = config.clips // config.accumulate
        clip_batch = ClipBatch(
            _repeat_prefix(n_clips), torch.zeros(n_clips, dtype=torch.long, device=prefix.device)
        )
        objective = self.objective
        return MicroBatch(
            step=0,
            index=0,
            weight=1.0,
            episodes=episodes if objective.wants_episodes else None,
            clips=clip_batch if objective.wants_clips else None,
        )

    def _episodes(self, step: int) -> list[Episode]:
        if self._sampler is None:
            return []
        first_index = step * self.config.batch
        return [self._sampler[first_index + i] for i in range(self.config.batch)]

    def _next_clips(self, step: int) -> list[str]:
        """Next clips of an endless sequence of permutations of all training clips."""
        if not self.objective.wants_clips:
            return []
        out: list[str] = []
        for position in range(step * self.config.clips, (step + 1) * self.config.clips):
            epoch, offset = divmod(position, len(self.class_split.clips))
            if self._epoch_order[0] != epoch:
                generator = torch.Generator().manual_seed(
                    derive_seed("clips", self.config.seed, epoch)
                )
                order = torch.randperm(len(self.class_split.clips), generator=generator)
                self._epoch_order = (epoch, [self.class_split.clips[i] for i in order.tolist()])
            out.append(self._epoch_order[1][offset])
        return out

    def _augmented_pixels(self, names: Sequence[str], purpose: str, step: int) -> Tensor | None:
        """Augmented pixels of clips, (n, T, 3, H, W); None without augmentation.

        Random values are drawn for the complete step, so that gradient accumulation does not change
        them.
        """
        if not self.config.augment.active or not names:
            return None
        seed = derive_seed("augment", purpose, self.config.seed, step)
        generator = torch.Generator().manual_seed(seed)
        return self._augment(self._frames.stacked(names), generator)

    def _prefix_tokens(self, names: Sequence[str], pixels: Tensor | None) -> Tensor:
        """Prefix tokens of clips, the input of the encoder, (n, ...)."""
        encoder, grid_size = self.objective.encoder, self.objective.grid_size
        if pixels is None:
            return (
                self.context.prefix_cache(encoder, grid_size=grid_size).gather([names]).squeeze(0)
            )
        with torch.no_grad():
            return encoder.compute_prefix(pixels, grid_size=grid_size)

    def _episode_batch(
        self, episodes: Sequence[Episode], episode_slice: slice, pixels: Tensor | None
    ) -> EpisodeBatch:
        config, episodes = self.config, episodes[episode_slice]
        names = [name for episode in episodes for name in _clips_in_order(episode)]
        per_episode = len(names) // len(episodes)
        chosen_pixels = (
            None
            if pixels is None
            else pixels[episode_slice.start * per_episode : episode_slice.stop * per_episode]
        )
        prefix = self._prefix_tokens(names, chosen_pixels)
        prefix = prefix.reshape(len(episodes), per_episode, *prefix.shape[1:])
        n_support = config.way * config.shot
        return EpisodeBatch(
            support=prefix[:, :n_support],
            query=prefix[:, n_support:],
            support_labels=labels_by_class(config.way, config.shot, len(episodes), prefix.device),
            query_labels=labels_by_class(config.way, config.query, len(episodes), prefix.device),
            classes=tuple(episode.classes for episode in episodes),
        )

    def _clip_batch(
        self, names: Sequence[str], clip_slice: slice, pixels: Tensor | None
    ) -> ClipBatch:
        names = names[clip_slice]
        prefix = self._prefix_tokens(names, None if pixels is None else pixels[clip_slice])
        labels = torch.tensor([self.class_split.labels[name] for name in names])
        return ClipBatch(prefix, labels.to(prefix.device))


def labels_by_class(way: int, per_class: int, episodes: int, device: torch.device) -> Tensor:
    """Labels of clips sorted by class, (episodes, way * per_class) int64."""
    row = torch.arange(way, device=device).repeat_interleave(per_class)
    return row.expand(episodes, -1).contiguous()


def refuse_unreadable(context: RunContext) -> None:
    """Raises when a clip that the split names cannot be read.

    Raises:
        TuningError: naming the clips that cannot be read.
    """
    bad = list(context.unreadable.values())
    if bad:
        shown = "\n".join(f"  {error}" for error in bad[:20])
        more = f"\n  ... and {len(bad) - 20} more" if len(bad) > 20 else ""
        raise TuningError(
            f"{len(bad)} clips of the training cannot be read:\n{shown}{more}\n"
            "mend them, or take them out of the split"
        )


def _equal_slice(count: int, n_slices: int, index: int) -> slice:
    """Returns slice `index` of `count` items in `n_slices` equal slices."""
    return slice(index * count // n_slices, (index + 1) * count // n_slices)


def _clips_in_order(episode: Episode) -> list[str]:
    """Clips of an episode: support class by class, then query class by class."""
    return [name for side in (episode.support, episode.query) for row in side for name in row]


def _with_more_frames(context: RunContext, factor: int) -> RunContext:
    """The same context, with clips decoded at `factor` frames per segment."""
    if factor == 1:
        return context
    store = context.store
    options = dataclasses.replace(
        store.options, frames=factor * store.options.frames, policy=SEGMENT_THIRDS
    )
    return dataclasses.replace(
        context,
        store=store.with_options(options),
        unreadable={},
        _decoded_clips=set(),
        _caches={},
    )


class _FrameCache:
    """Memory cache of decoded frames, as bytes."""

    def __init__(self, context: RunContext) -> None:
        self._context, self._cached, self._used_bytes = context, dict[str, NDArray[np.uint8]](), 0

    def stacked(self, names: Sequence[str]) -> Tensor:
        """Frames of clips, (n, T, H, W, 3) uint8."""
        return torch.from_numpy(np.stack([self._frames_of(name) for name in names]))

    def _frames_of(self, name: str) -> NDArray[np.uint8]:
        if name in self._cached:
            return self._cached[name]
        frames = np.array(self._context.frames(name))
        if self._used_bytes + frames.nbytes <= _FRAME_CACHE_BYTES:
            self._cached[name] = frames
            self._used_bytes += frames.nbytes
        return frames
