"""Context of an evaluation, shared by all rows: split, encoder, clips and episodes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fewshot_i2v.config.base import FinetuneConfig
from fewshot_i2v.config.episodes import DEFAULTS_OF_LATER_KEYS
from fewshot_i2v.config.evaluation import EvaluationConfig
from fewshot_i2v.config.method import MethodSpec
from fewshot_i2v.data.episodes.episode import Episode
from fewshot_i2v.data.episodes.episode_file import EpisodeFile, read_episode_file
from fewshot_i2v.data.episodes.factory import EpisodeSource, find_episode_file, make_sampler
from fewshot_i2v.data.splits.split import Split
from fewshot_i2v.data.splits.split_file import load_split
from fewshot_i2v.errors import ConfigError, EpisodeError
from fewshot_i2v.evaluation.class_texts import embed_class_texts, take_texts_of_subset
from fewshot_i2v.models.checkpoints.starting_point import StartingPoint, read_start
from fewshot_i2v.models.cost import macs_per_clip
from fewshot_i2v.models.heads.base.head import ClassTexts
from fewshot_i2v.statistics.sequential_stopping import PILOT_EPISODES
from fewshot_i2v.tuning.run_context import RunContext
from fewshot_i2v.utils.progress import OverallProgress
from fewshot_i2v.utils.seeding import derive_seed

_FROZEN = "frozen"


@dataclass
class EvaluationContext(RunContext):
    """Split, encoder, clips and episodes of an evaluation, each loaded once.

    Attributes:
        config: the run.
        sources: sources of episodes, by shot.
        episodes: the sampled episodes, by shot.
        trials: the episode file of the run; None when episodes are sampled.
        support_frames_ahead: returns the frames of the support clips of episodes that were read
            ahead to be augmented, (E, S, ...) uint8, None where they were not; None: nothing is
            read ahead.
    """

    config: EvaluationConfig
    sources: dict[int | str, EpisodeSource] = field(default_factory=dict)
    episodes: dict[int | str, list[Episode]] = field(default_factory=dict)
    trials: EpisodeFile | None = None
    support_frames_ahead: Callable[[Sequence[Episode]], Tensor | None] | None = None
    _starts: dict[tuple[str, str], StartingPoint] = field(default_factory=dict)
    _macs: dict[tuple[str, int], float | None] = field(default_factory=dict)
    _segment_thirds: RunContext | None = None
    _text_embeddings: dict[tuple[str, ...], dict[str, Tensor]] = field(default_factory=dict)

    def augmentation_clips(self, recipe: FinetuneConfig) -> RunContext:
        """Returns the clips as augmentation reads them: with temporal jitter, of more frames."""
        if not recipe.temporal:
            return self
        if self._segment_thirds is None:
            self._segment_thirds = self.with_segment_thirds()
        return self._segment_thirds

    def decode_episodes(
        self,
        episodes: Sequence[Episode],
        recipe: FinetuneConfig,
        *,
        progress: bool | OverallProgress,
        cached: Collection[str] = (),
    ) -> None:
        """Decodes the clips of episodes, and their support clips as augmentation reads them.

        Args:
            episodes: any; clips that cannot be read are recorded in `unreadable`.
            recipe: of their tuning.
            progress: as for `decode_clips`.
            cached: clips whose frozen prefix is on disk, see `find_prefixes`: they are decoded only
                where augmentation reads their frames.
        """
        names = {name for episode in episodes for name in episode.clip_names()}
        support = {name for episode in episodes for name in episode.support_clips}
        augments_frames = recipe.steps and recipe.augments and not recipe.temporal
        needed = names - set(cached) | (support if augments_frames else set())
        self.decode_clips(needed, progress=progress)
        if recipe.temporal and recipe.steps:
            self.augmentation_clips(recipe).decode_clips(support, progress=progress)

    @classmethod
    def of(cls, config: EvaluationConfig) -> EvaluationContext:
        """Loads split and encoder and samples the episodes; decodes nothing yet."""
        trials = None
        if config.trials is not None:
            trials = read_episode_file(find_episode_file(config.trials))
            config = apply_trials(config, trials)
        split = None
        if config.class_texts is not None:  # checked before the encoder is read
            split = load_split(config.split, root=config.root)
            config = take_texts_of_subset(config, split)
        context = cls.open(config, split)
        if trials is not None:
            trials.check_split(context.split)
        context.trials = trials
        context.sources = {
            shot: trials or make_episode_source(context.split, config, shot) for shot in config.shot
        }
        sequential = config.until is not None
        context.draw(min(PILOT_EPISODES, context.max_episodes) if sequential else config.episodes)
        return context

    @classmethod
    def reads_prefixes_alone(cls, config: EvaluationConfig) -> bool:
        """Whether all rows are of the frozen encoder."""
        return all(adapter.name == _FROZEN for adapter in config.adapter)

    def draw(self, count: int | str) -> None:
        """Takes the first `count` episodes of each shot; "all": as many as there are."""
        self.episodes = {
            shot: take_episodes(source, count) for shot, source in self.sources.items()
        }

    @property
    def max_episodes(self) -> int:
        """Largest number of episodes of a run with `until`."""
        counts = [source.count for source in self.sources.values() if source.count is not None]
        return min([self.config.max_episodes, *counts])

    @property
    def way(self) -> int | str:
        """Classes of an episode: a number, or a range such as "5-10" where episodes differ."""
        return _number_or_range(
            {len(episode.classes) for episodes in self.episodes.values() for episode in episodes}
        )

    def read_frames(self, clip: str) -> NDArray[np.uint8]:
        """Reads the frames of a clip in the run's order, (T, H, W, 3) uint8."""
        frames = super().read_frames(clip)
        order = self.config.frame_order
        return frames if order == "natural" else frames[frame_permutation(order, clip, len(frames))]

    def frame_order_key(self, clip: str) -> str:
        """Returns the permutation of a clip's frames in words; "" for the natural order."""
        order = self.config.frame_order
        if order == "natural":
            return ""
        return str(frame_permutation(order, clip, self.config.video.frames).tolist())

    def start(self, location: str, adapter: str) -> StartingPoint:
        """Returns a starting point, read at its first use; see `read_start`."""
        if (location, adapter) not in self._starts:
            self._starts[location, adapter] = read_start(location, adapter)
        return self._starts[location, adapter]

    def macs(self, adapter: MethodSpec, frames: int) -> float | None:
        """Multiply-accumulates of a clip of `frames` frames, counted once for each adapter."""
        key = adapter.label, frames
        if key not in self._macs:
            tower = self.encoder.tower
            self._macs[key] = macs_per_clip(tower, adapter.name, adapter.options, frames=frames)
        return self._macs[key]

    def class_text_embeddings(
        self, classes: Sequence[Sequence[str]], templates: Sequence[str]
    ) -> ClassTexts:
        """Text embeddings of the classes of some episodes, by their names or texts of their own.

        Args:
            classes: names of the classes of each of E episodes, (E, way).
            templates: prompts with one {} each.
        """
        embeddings = self._text_embeddings.setdefault(tuple(templates), {})
        if any(name not in embeddings for row in classes for name in row):
            # all at once: a name that cannot be embedded shows before anything is decoded
            class_names = {
                n
                for episodes in self.episodes.values()
                for episode in episodes
                for n in episode.classes
            }
            missing = sorted(class_names - embeddings.keys())
            texts = self.config.class_texts
            embeddings |= embed_class_texts(missing, templates, self.text_tower, texts)
        tower = self.encoder.tower
        stacked = torch.stack([torch.stack([embeddings[name] for name in row]) for row in classes])
        projection = None if tower.projection is None else tower.projection.float()
        return ClassTexts(stacked.to(tower.device), projection, self.text_tower.scale)


def frame_permutation(order: str, clip: str, count: int) -> NDArray[np.int64]:
    """Returns the permutation of a clip's `count` frames for an order other than the natural one.

    Args:
        order: "reversed", "shuffled" or "single": the middle frame at every position, of an even
            number the later one of the two.
        clip: name of the clip.
        count: number of its frames.
    """
    if order == "single":
        return np.full(count, count // 2)
    return np.arange(count)[::-1] if order == "reversed" else shuffle_by_name(clip, count)


def shuffle_by_name(clip: str, count: int) -> NDArray[np.int64]:
    """Returns an order of `count` frames keyed by the clip's name only, never the natural one."""
    generator = np.random.default_rng(derive_seed("frame order", clip))
    natural = np.arange(count)
    order = generator.permutation(natural)
    while count > 1 and (order == natural).all():
        order = generator.permutation(natural)
    return order


def make_episode_source(split: Split, config: EvaluationConfig, shot: int | str) -> EpisodeSource:
    """Makes the source of a run's episodes at one shot, indexed by number."""
    return make_sampler(
        split,
        subset=config.subset,
        seed=config.seed,
        way=config.way,
        shot=shot,
        query=config.query,
        sampling=config.sampling,
        disjoint_groups=config.disjoint_groups,
        uneven_shots=config.uneven_shots,
        draws=config.draws,
        partitions=config.partitions,
    )


def take_episodes(source: EpisodeSource, count: int | str) -> list[Episode]:
    """Returns the first `count` episodes of a source; "all": as many as there are.

    Raises:
        EpisodeError: when there are fewer, or their number is not limited.
    """
    if count == "all" and source.count is None:
        raise EpisodeError(
            "episodes: all is for episodes whose number is limited (sampling disjoint, draws, "
            "trials); give a number"
        )
    if isinstance(count, int) and source.count is not None and count > source.count:
        raise EpisodeError(
            f"episodes: got {count}, and there are {source.count}; expected at most that many, "
            "or all"
        )
    n_episodes = count if isinstance(count, int) else source.count or 0
    return [source[i] for i in range(n_episodes)]


def apply_trials(config: EvaluationConfig, trials: EpisodeFile) -> EvaluationConfig:
    """Returns the configuration with the numbers of classes and clips of an episode file.

    Raises:
        ConfigError: when the configuration contradicts the file, or says how to sample episodes.
    """
    ways = {len(episode.classes) for episode in trials.episodes}
    shots = {len(clips) for episode in trials.episodes for clips in episode.support}
    queries = {len(clips) for episode in trials.episodes for clips in episode.query}
    overrides: dict[str, Any] = {
        "subset": trials.subset,
        "way": _number_or_range(ways),
        "shot": (_number_or_range(shots),),
        "query": queries.pop() if len(queries) == 1 else "all",
    }
    for key in config.model_fields_set & {
        *overrides,
        *DEFAULTS_OF_LATER_KEYS,
        "partitions",
        "disjoint_groups",
    }:
        value = getattr(config, key)
        if value != overrides.get(key, EvaluationConfig.model_fields[key].default):
            expected = f"{overrides[key]!r} in the file" if key in overrides else "nothing is drawn"
            raise ConfigError(
                f"{key}: got {value!r} beside trials {config.trials!r}: {expected}; leave it out"
            )
    if "episodes" not in config.model_fields_set:
        overrides["episodes"] = "all"
    return config.model_copy(update=overrides)


def _number_or_range(numbers: set[int]) -> int | str:
    return f"{min(numbers)}-{max(numbers)}" if len(numbers) > 1 else min(numbers)
