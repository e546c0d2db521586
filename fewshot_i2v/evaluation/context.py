"""What all rows of an evaluation share: split, encoder, clips and the episodes that are drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fewshot_i2v.config.episodes import NEW_KEYS
from fewshot_i2v.config.evaluation import RunConfig
from fewshot_i2v.config.method import Choice
from fewshot_i2v.data.episodes.episode import EpisodeSpec
from fewshot_i2v.data.episodes.episode_file import FrozenEpisodes, read_frozen
from fewshot_i2v.data.episodes.factory import Episodes, episodes_of, find_trials
from fewshot_i2v.data.splits.split import Split
from fewshot_i2v.errors import ConfigError, EpisodeError
from fewshot_i2v.models.checkpoints.starting_point import Start, read_start
from fewshot_i2v.models.cost import macs_per_clip
from fewshot_i2v.models.heads.base.head import ClassTexts
from fewshot_i2v.statistics.sequential_stopping import PILOT
from fewshot_i2v.tuning.run_context import Material
from fewshot_i2v.utils.seeding import derive_seed


@dataclass
class Workspace(Material):
    """Split, encoder, clips and episodes of an evaluation, each had once.

    Attributes:
        config: the run.
        sources: what there is to draw episodes from, by shot.
        specs: the episodes drawn, by shot.
        trials: the frozen episodes that the run asks, if it does.
    """

    config: RunConfig
    sources: dict[int | str, Episodes] = field(default_factory=dict)
    specs: dict[int | str, list[EpisodeSpec]] = field(default_factory=dict)
    trials: FrozenEpisodes | None = None
    _starts: dict[tuple[str, str], Start] = field(default_factory=dict)
    _macs: dict[tuple[str, int], float | None] = field(default_factory=dict)
    _embedded: dict[tuple[str, ...], dict[str, Tensor]] = field(default_factory=dict)

    @classmethod
    def of(cls, config: RunConfig) -> Workspace:
        """Loads split and encoder and draws the episodes; decodes nothing yet."""
        if config.trials is not None:
            return cls._of_trials(config, read_frozen(find_trials(config.trials)))
        work = cls.open(config)
        work.sources = {shot: source_of(work.split, config, shot) for shot in config.shot}
        work._draw_first()
        return work

    @classmethod
    def _of_trials(cls, config: RunConfig, trials: FrozenEpisodes) -> Workspace:
        work = cls.open(with_trials(config, trials))
        trials.check_fits(work.split)
        (shot,) = work.config.shot
        work.sources = {shot: trials}
        work.trials = trials
        work._draw_first()
        return work

    def _draw_first(self) -> None:
        looking = self.config.until is not None
        self.draw(min(PILOT, self.most) if looking else self.config.episodes)

    def draw(self, count: int | str) -> None:
        """Has the first `count` episodes of each shot; "all": as many as there are."""
        self.specs = {shot: _taken(source, count) for shot, source in self.sources.items()}

    @property
    def most(self) -> int:
        """Most episodes that a run until an interval is short enough may ask."""
        counts = [source.count for source in self.sources.values() if source.count is not None]
        return min([self.config.max_episodes, *counts])

    @property
    def way(self) -> int | str:
        """Classes of an episode: a number, or a text such as "5-10" where episodes differ."""
        return _spread({len(spec.classes) for specs in self.specs.values() for spec in specs})

    def frames(self, clip: str) -> NDArray[np.uint8]:
        """Decoded frames of a clip in the run's order, (T, H, W, 3) uint8."""
        frames = super().frames(clip)
        order = self.config.frame_order
        return frames if order == "natural" else frames[positions(order, clip, len(frames))]

    def start(self, place: str, adapter: str) -> Start:
        """A starting point, read when first asked for; see `read_start`."""
        if (place, adapter) not in self._starts:
            self._starts[place, adapter] = read_start(place, adapter)
        return self._starts[place, adapter]

    def macs(self, adapter: Choice, frames: int) -> float | None:
        """Multiply-accumulates of a clip of so many frames, counted once for each adapter."""
        key = adapter.label, frames
        if key not in self._macs:
            tower = self.encoder.tower
            self._macs[key] = macs_per_clip(tower, adapter.name, adapter.options, frames=frames)
        return self._macs[key]

    def texts(self, classes: Sequence[Sequence[str]], templates: Sequence[str]) -> ClassTexts:
        """What the text tower says of the classes of some episodes.

        Args:
            classes: names of the classes of each of E episodes, (E, way).
            templates: prompts with one {} each.
        """
        known = self._embedded.setdefault(tuple(templates), {})
        if any(name not in known for row in classes for name in row):
            # all at once: a name that cannot be embedded shows before anything is decoded
            drawn = {n for specs in self.specs.values() for s in specs for n in s.classes}
            new = sorted(drawn - known.keys())
            known.update(zip(new, self.text.embed(new, templates), strict=True))
        tower = self.encoder.tower
        stacked = torch.stack([torch.stack([known[name] for name in row]) for row in classes])
        projection = None if tower.projection is None else tower.projection.float()
        return ClassTexts(stacked.to(tower.device), projection, self.text.scale)


def positions(order: str, clip: str, count: int) -> NDArray[np.int64]:
    """Which of a clip's `count` frames stands where, in another order than the natural one.

    Args:
        order: "reversed", "shuffled" or "single": the middle frame, of an even number the later
            one of the two, in every place.
        clip: name of the clip.
        count: number of its frames.
    """
    if order == "single":
        return np.full(count, count // 2)
    return np.arange(count)[::-1] if order == "reversed" else shuffled(clip, count)


def shuffled(clip: str, count: int) -> NDArray[np.int64]:
    """An order of `count` frames that depends on the clip's name alone, never the natural one."""
    draws = np.random.default_rng(derive_seed("frame order", clip))
    natural = np.arange(count)
    order = draws.permutation(natural)
    while count > 1 and (order == natural).all():
        order = draws.permutation(natural)
    return order


def draw(split: Split, config: RunConfig, shot: int | str) -> list[EpisodeSpec]:
    """The episodes of a run at one shot, in order.

    Raises:
        EpisodeError: when there are fewer than asked for.
    """
    return _taken(source_of(split, config, shot), config.episodes)


def source_of(split: Split, config: RunConfig, shot: int | str) -> Episodes:
    """The episodes of a run at one shot, by number."""
    return episodes_of(
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


def _taken(episodes: Episodes, asked: int | str) -> list[EpisodeSpec]:
    return [episodes[i] for i in range(_count(asked, episodes))]


def _count(asked: int | str, episodes: Episodes) -> int:
    if isinstance(asked, int):
        if episodes.count is not None and asked > episodes.count:
            raise EpisodeError(
                f"episodes: {asked} are asked for, and there are {episodes.count}; give at most "
                "that many, or all"
            )
        return asked
    if episodes.count is None:
        raise EpisodeError(
            "episodes: all is for episodes whose number is limited (sampling disjoint, draws, "
            "trials); give a number"
        )
    return episodes.count


def with_trials(config: RunConfig, trials: FrozenEpisodes) -> RunConfig:
    """The configuration with the numbers of classes and clips that frozen episodes have.

    Raises:
        ConfigError: when the configuration says something else, or how to draw episodes.
    """
    found: dict[str, Any] = {"subset": trials.subset, **_numbers(trials)}
    for key in config.model_fields_set & {*found, *NEW_KEYS, "partitions", "disjoint_groups"}:
        said = getattr(config, key)
        if said != found.get(key, RunConfig.model_fields[key].default):
            shown = f"{found[key]!r} in the file" if key in found else "nothing is drawn"
            raise ConfigError(
                f"{key}: got {said!r} beside trials {config.trials!r}: {shown}; leave it out"
            )
    if "episodes" not in config.model_fields_set:
        found["episodes"] = "all"
    return config.model_copy(update=found)


def _numbers(trials: FrozenEpisodes) -> dict[str, Any]:
    """Way, shot and query of frozen episodes as a configuration has them."""
    specs = trials.episodes
    ways = {len(spec.classes) for spec in specs}
    shots = {len(clips) for spec in specs for clips in spec.support}
    queries = {len(clips) for spec in specs for clips in spec.query}
    return {
        "way": _spread(ways),
        "shot": (_spread(shots),),
        "query": queries.pop() if len(queries) == 1 else "all",
    }


def _spread(numbers: set[int]) -> int | str:
    return f"{min(numbers)}-{max(numbers)}" if len(numbers) > 1 else min(numbers)
