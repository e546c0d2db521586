"""Batches of a training step: a pure function of the configuration and the step number.

Frames of training clips are decoded once and cached as bytes; without augmentation the prefix
tokens of the frozen tower are cached instead.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fewshot_i2v.config.training import TrainingConfig
from fewshot_i2v.data.episodes.episode import Episode
from fewshot_i2v.data.episodes.sampler import EpisodeSampler, SettingNames
from fewshot_i2v.errors import TuningError
from fewshot_i2v.models.encoders.transfer import send
from fewshot_i2v.models.heads.base.labels import derive_labels, send_labels
from fewshot_i2v.training.class_split import TRAIN_SUBSET, TrainValSplit
from fewshot_i2v.training.objective import ClipBatch, EpisodeBatch, MicroBatch, Objective
from fewshot_i2v.tuning.augmentation import TrainingAugmenter
from fewshot_i2v.tuning.run_context import RunContext
from fewshot_i2v.utils.seeding import derive_seed
from fewshot_i2v.utils.text_table import count_text

# Bytes of decoded frames kept in memory; beyond that they are read from the store every time.
_FRAME_CACHE_BYTES = 2 << 30
SMALL_TRIAL, LARGE_TRIAL = 2, 8
"""Sizes of the trials of a dry run: classes of the episode, and clips to classify, at most."""


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
        tower = objective.encoder.prefix_tower(objective.grid_sizes)
        self._augment = TrainingAugmenter(config.augment, class_split.classes, tower)
        self.context = context.with_segment_thirds() if config.augment.temporal else context
        self._frames = _FrameCache(self.context)
        self._views, self._sampler = config.inner.views, None
        if objective.wants_episodes:
            self._sampler = EpisodeSampler(
                class_split.train,
                subset=TRAIN_SUBSET,
                seed=derive_seed("episodes", config.seed),
                way=config.way,
                shot=config.shot,
                query=config.query,
                messages=SettingNames(classes=repr(config.subset)),
            )
        self._epoch_order: tuple[int, list[str]] = (-1, [])
        self.n_micro_batches = config.accumulate

    def split_further(self) -> bool:
        """Makes the micro-batches smaller, where that is possible.

        Returns:
            Whether it was possible: a micro-batch has at least one episode or clip.
        """
        counts = [len(self._episodes(0)), len(self._next_clips(0))]
        sizes = [count for count in counts if count]
        larger = range(self.n_micro_batches + 1, min(sizes) + 1)
        divisors = [n for n in larger if all(size % n == 0 for size in sizes)]
        self.n_micro_batches = divisors[0] if divisors else self.n_micro_batches
        return bool(divisors)

    @cached_property
    def drawn_clips(self) -> frozenset[str]:
        """Names of the training clips that the steps see: a short training sees a part of them."""
        drawn: set[str] = set()
        for step in range(self.config.steps):
            drawn.update(self.clip_names(step))
            if len(drawn) == len(self.class_split.clips):
                break
        return frozenset(drawn)

    def prepare(self, *, progress: bool) -> None:
        """Decodes the training clips whose frames are read.

        Raises:
            TuningError: naming the clips that cannot be read.
        """
        objective, clips = self.objective, set(self.drawn_clips)
        if not self.config.augment.active:
            spec = objective.encoder.adapter.prefix_spec(objective.grid_sizes)
            clips -= self.context.find_prefixes(clips, spec)
        self.context.decode_clips(clips, progress=progress)
        refuse_unreadable(self.context)

    def micro_batches(self, step: int) -> Iterator[MicroBatch]:
        """Yields the micro-batches of a step, over which gradients are accumulated."""
        episodes, clip_names = self._episodes(step), self._next_clips(step)
        episode_names = _clips_in_order(episodes, self._views)
        episode_pixels = self._augmented_pixels(episode_names, "episodes", step)
        clip_pixels = self._augmented_pixels(clip_names, "clips", step)
        count = self.n_micro_batches
        for i in range(count):
            episode_batch = clip_batch = None
            if episodes:
                classes = tuple(e.classes for e in episodes[_equal_slice(len(episodes), count, i)])
                tokens = self._prefix_tokens(episode_names, episode_pixels, i)
                episode_batch = self._episode_batch(classes, tokens)
            if clip_names:
                tokens = self._prefix_tokens(clip_names, clip_pixels, i)
                names = clip_names[_equal_slice(len(clip_names), count, i)]
                labels = torch.tensor([self.class_split.labels[name] for name in names])
                clip_batch = ClipBatch(tokens, send(labels, tokens.device))
            yield MicroBatch(step, i, 1 / count, episode_batch, clip_batch)

    def clip_names(self, step: int) -> list[str]:
        """Clips of a step's batch: those of each episode, then those for classification.

        A support clip is there once for each of its views.
        """
        return _clips_in_order(self._episodes(step), self._views) + self._next_clips(step)

    def trial_micro_batch(self, size: int) -> tuple[MicroBatch, int]:
        """Returns a micro-batch of noise and its number of clips, to measure a step without a clip.

        It has one episode, with a support and a query clip of each class, and clips to classify.

        Args:
            size: most classes of the episode, unless the objective needs all, and most clips to
                classify.
        """
        config, objective = self.config, self.objective
        tower = objective.encoder.prefix_tower(objective.grid_sizes)
        generator = torch.Generator().manual_seed(0)

        def _noise_tokens(count: int) -> Tensor:
            size = (count, config.video.frames, tower.image_size, tower.image_size, 3)
            frames = torch.randint(256, size, dtype=torch.uint8, generator=generator)
            with torch.no_grad():
                pixels = tower.normalize(frames)
                return objective.encoder.compute_prefix(pixels, grid_sizes=objective.grid_sizes)

        episode_batch = clip_batch = None
        n_clips = 0
        if objective.wants_episodes:
            way = min(config.way, size) if objective.takes_any_way else config.way
            n_clips = way * (1 + self._views)
            classes = (self.class_split.classes[:way],)
            episode_batch = self._episode_batch(classes, _noise_tokens(n_clips), shot=1, query=1)
        if objective.wants_clips:
            n_labelled = min(config.clips // self.n_micro_batches, size)
            tokens = _noise_tokens(n_labelled)
            labels = torch.zeros(n_labelled, dtype=torch.long, device=tokens.device)
            clip_batch = ClipBatch(tokens, labels)
            n_clips += n_labelled
        return MicroBatch(0, 0, 1.0, episode_batch, clip_batch), n_clips

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

    def _prefix_tokens(self, names: Sequence[str], pixels: Tensor | None, index: int) -> Tensor:
        """Prefix tokens of the clips of micro-batch `index`, the input of the encoder, (n, ...).

        `names` and `pixels` are those of the complete step.
        """
        encoder, grid_sizes = self.objective.encoder, self.objective.grid_sizes
        span = _equal_slice(len(names), self.n_micro_batches, index)
        if pixels is None:
            cache = self.context.prefix_cache(encoder, grid_sizes=grid_sizes)
            return cache.gather([names[span]]).squeeze(0)
        with torch.no_grad():
            return encoder.compute_prefix(pixels[span], grid_sizes=grid_sizes)

    def _episode_batch(
        self,
        classes: tuple[tuple[str, ...], ...],
        tokens: Tensor,
        *,
        shot: int | None = None,
        query: int | None = None,
    ) -> EpisodeBatch:
        """Makes the batch of episodes with these classes, from the tokens of all their clips.

        The tokens of an episode's support clips come before those of its query clips.
        """
        config, count, device = self.config, len(classes), tokens.device
        shot, query, way = shot or config.shot, query or config.query, len(classes[0])
        tokens = tokens.reshape(count, -1, *tokens.shape[1:])
        n_support = way * shot * self._views
        support_labels = labels_by_class(way, shot, count, device)
        return EpisodeBatch(
            support=tokens[:, :n_support],
            query=tokens[:, n_support:],
            support_labels=derive_labels(lambda x: x.repeat(1, self._views), support_labels),
            query_labels=labels_by_class(way, query, count, device),
            classes=classes,
            views=self._views,
        )


def labels_by_class(way: int, per_class: int, episodes: int, device: torch.device) -> Tensor:
    """Labels of clips sorted by class, (episodes, way * per_class) int64."""
    row = torch.arange(way).repeat_interleave(per_class)
    return send_labels(row.expand(episodes, -1).contiguous(), device)


def refuse_unreadable(context: RunContext) -> None:
    """Raises when a clip that the split names cannot be read.

    Raises:
        TuningError: naming the clips that cannot be read.
    """
    if context.unreadable:
        raise TuningError(
            f"{count_text(len(context.unreadable), 'clip')} of the training cannot be read:\n"
            f"{context.unreadable_lines()}\nmend them, or take them out of the split"
        )


def _equal_slice(count: int, n_slices: int, index: int) -> slice:
    """Returns slice `index` of `count` items in `n_slices` equal slices."""
    return slice(index * count // n_slices, (index + 1) * count // n_slices)


def _clips_in_order(episodes: Sequence[Episode], views: int) -> list[str]:
    """Clips episode by episode: support class by class, once a view, then query class by class."""
    return [name for e in episodes for name in views * e.support_clips + e.query_clips]


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
