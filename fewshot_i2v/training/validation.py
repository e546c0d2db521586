"""Validation of a training: accuracy on the same episodes each time, with queries as they are."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from fewshot_i2v.config.training import TrainingConfig
from fewshot_i2v.data.episodes.episode import Episode
from fewshot_i2v.models.adapters.base.adapted_encoder import AdaptedEncoder
from fewshot_i2v.models.adapters.base.features import Features, concat_features
from fewshot_i2v.models.adapters.base.frozen_prefix import GridSizes
from fewshot_i2v.models.device_memory import PartSize
from fewshot_i2v.models.factory import is_same_method
from fewshot_i2v.models.heads.base.head import Head
from fewshot_i2v.statistics import Interval, mean_interval, without_too_few_episodes
from fewshot_i2v.training.batches import labels_by_class, refuse_unreadable
from fewshot_i2v.training.class_split import TrainValSplit
from fewshot_i2v.training.objective import (
    FineTuned,
    NotFiniteError,
    Objective,
    has_parameters,
    require_parameter_free,
)
from fewshot_i2v.tuning.augmentation import SupportAugmenter
from fewshot_i2v.tuning.finetune import encode_in_chunks
from fewshot_i2v.tuning.run_context import RunContext
from fewshot_i2v.utils.seeding import derive_seed

ClipRows = Sequence[Sequence[str]]

# Clips whose prefixes are gathered, and episodes that are scored, at once: bounds the memory.
_MAX_CLIPS_PER_PASS = 64
_MAX_EPISODES_PER_PASS = 25


@dataclass(frozen=True)
class EpisodicValidation:
    """Scores few-shot episodes of validation classes.

    Attributes:
        episodes: the validation episodes, all of one shape.
        head: scores the queries; without parameters, or of the shape of the one that is trained.
        uses_trained_head: whether its parameters are the present ones of the training, fine-tuned
            where the objective does so.
        context: split, encoder and clips.
        objective: may fine-tune on the support clips first.
        views: of the support clips, for that; None: they are read as they are.
        part_size: clips that fit into memory at once without gradients.
    """

    episodes: Sequence[Episode]
    head: Head
    uses_trained_head: bool
    context: RunContext
    objective: Objective
    views: SupportViews | None = None
    part_size: PartSize = field(default_factory=PartSize)

    @classmethod
    def of(
        cls, context: RunContext, class_split: TrainValSplit, objective: Objective
    ) -> EpisodicValidation | None:
        """Builds the configured validation; None where the configuration has none.

        Raises:
            ConfigError: when its head has parameters and is not the one that is trained, or the
                trained one is for another number of classes.
            EpisodeError: when the classes cannot give such episodes.
        """
        episodes = class_split.validation_episodes(objective.config)
        if not episodes:
            return None
        method, way = objective.config.validation.head, len(episodes[0].classes)
        objective.check_way(way)  # now, not once all clips are decoded
        head = objective.new_head(method, way=way)
        fine_tunes = type(objective).fine_tuned is not Objective.fine_tuned
        uses_trained_head = (
            has_parameters(head)
            and is_same_method("heads", method, objective.config.head)
            and (fine_tunes or objective.head_copies(1, way) is not None)
        )
        if not uses_trained_head:
            advice = ", or the head that the training trains, with the same options"
            require_parameter_free(head, method, "validation.head", advice)
        views = SupportViews.of(context, objective.config) if fine_tunes else None
        return cls(episodes, head, uses_trained_head, context, objective, views)

    def _scoring_head(self, count: int, fine_tuned: FineTuned | None) -> Head:
        """Returns the head that scores `count` episodes."""
        if not self.uses_trained_head:
            return self.head
        if fine_tuned is not None:
            return fine_tuned.head
        head = self.objective.head_copies(count, self.head.way)
        if head is None:
            raise ValueError("a training without a head")
        return head

    @property
    def clips(self) -> list[str]:
        """Names of the clips of all episodes, sorted."""
        return sorted({name for episode in self.episodes for name in episode.clip_names()})

    def prepare(self, *, progress: bool) -> None:
        """Decodes the clips whose frames are read.

        Raises:
            TuningError: naming the clips that cannot be read.
        """
        spec = self.objective.encoder.adapter.prefix_spec(self.head.grid_sizes)
        cached = self.context.find_prefixes(self.clips, spec)
        self.context.decode_clips(set(self.clips) - cached, progress=progress)
        refuse_unreadable(self.context)
        if self.views is not None:
            support = {name for episode in self.episodes for name in episode.support_clips}
            self.views.prepare(support, progress=progress)

    def accuracy(self) -> Interval:
        """Mean accuracy over the episodes, with its interval where they are enough for one.

        Raises:
            NotFiniteError: when a score is not finite.
        """
        names = self.clips
        encoder, all_features = self.objective.encoder, None
        accuracies: list[float] = []
        for start in range(0, len(self.episodes), _MAX_EPISODES_PER_PASS):
            episodes = self.episodes[start : start + _MAX_EPISODES_PER_PASS]
            clip_rows = [[e.support_clips for e in episodes], [e.query_clips for e in episodes]]
            support_labels = self._labels(episodes, len(episodes[0].support[0]))
            fine_tuned = self._fine_tuned(episodes, support_labels)
            if fine_tuned is not None:
                features = [self._features(fine_tuned.encoder, clips) for clips in clip_rows]
            else:
                all_features = all_features or self._all_features(encoder, names)
                features = [_gather_features(all_features, names, clips) for clips in clip_rows]
            query_labels = self._labels(episodes, len(episodes[0].query[0]))
            head = self._scoring_head(len(episodes), fine_tuned)
            with torch.inference_mode():
                scores = self._scores(head, features, support_labels)
                if not bool(scores.isfinite().all()):
                    raise NotFiniteError("a score of the validation is not finite")
                correct = scores.argmax(-1) == query_labels
            accuracies += correct.double().mean(-1).tolist()
        return without_too_few_episodes(mean_interval(accuracies))

    def _scores(self, head: Head, features: Sequence[Features], labels: Tensor) -> Tensor:
        """Scores of the query clips, from features of support and query clips, (E, Q, way)."""
        support, query = features
        n_episodes, n_clips = query.clip.shape[:2]

        def _score(part: slice) -> Tensor:
            scores: Tensor = head(query.map(lambda x: x[:, part]), support, labels)
            return scores

        return torch.cat(self.part_size.run(n_clips, _score, units=n_episodes), 1)

    def _labels(self, episodes: Sequence[Episode], per_class: int) -> Tensor:
        device = self.context.encoder.tower.device
        return labels_by_class(len(episodes[0].classes), per_class, len(episodes), device)

    def _fine_tuned(self, episodes: Sequence[Episode], labels: Tensor) -> FineTuned | None:
        objective = self.objective
        if type(objective).fine_tuned is Objective.fine_tuned:
            return None
        encoder, grid_sizes = objective.encoder, objective.grid_sizes
        if self.views is not None:
            tokens = self.views.prefixes(episodes, encoder, grid_sizes)
            return objective.fine_tuned(tokens, labels.repeat(1, objective.config.inner.views))
        cache = self.context.prefix_cache(encoder, grid_sizes=grid_sizes)
        return objective.fine_tuned(cache.gather([e.support_clips for e in episodes]), labels)

    def _features(self, encoder: AdaptedEncoder, rows: ClipRows) -> Features:
        """Features of the clips of E episodes, by an adapter of E copies."""
        grid_sizes = self.head.grid_sizes
        cache = self.context.prefix_cache(encoder, grid_sizes=grid_sizes)
        tokens = cache.gather(rows)
        return encode_in_chunks(encoder, tokens, grid_sizes=grid_sizes, part_size=self.part_size)

    def _all_features(self, encoder: AdaptedEncoder, names: list[str]) -> Features:
        """Features of clips by the current adapter, each computed once, (1, clips, ...)."""
        starts = range(0, len(names), _MAX_CLIPS_PER_PASS)
        chunks = [self._features(encoder, [names[i : i + _MAX_CLIPS_PER_PASS]]) for i in starts]
        with torch.inference_mode():
            return concat_features(chunks)


def _gather_features(features: Features, names: list[str], rows: ClipRows) -> Features:
    """Selects the features of some episodes from those of all clips, (episodes, clips, ...)."""
    positions = {name: i for i, name in enumerate(names)}
    index = torch.tensor([[positions[name] for name in row] for row in rows])
    index = index.to(features.clip.device)
    with torch.inference_mode():
        return features.map(lambda x: x[0][index])


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
            tower = encoder.prefix_tower(grid_sizes)
            augment = SupportAugmenter(self.config.augment, [episode.classes], [seed], tower)
            names = episode.support_clips
            clips = torch.stack([torch.from_numpy(self.context.frames(n).copy()) for n in names])
            views = [augment(clips[None]) for _ in range(self.config.inner.views)]
            rows.append(encoder.compute_prefix(torch.cat(views, 1)[0], grid_sizes=grid_sizes))
        return torch.stack(rows)
