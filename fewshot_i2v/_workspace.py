"""What all rows of an evaluation share: split, encoder, clips and the episodes that are drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fewshot_i2v._material import Material
from fewshot_i2v.config import RunConfig
from fewshot_i2v.episodes.sampler import EpisodeSampler, EpisodeSpec
from fewshot_i2v.episodes.split import Split
from fewshot_i2v.heads._contract import ClassTexts
from fewshot_i2v.starts import Start, read_start
from fewshot_i2v.tuning import derive_seed


@dataclass
class Workspace(Material):
    """Split, encoder, clips and episodes of an evaluation, each had once.

    Attributes:
        config: the run.
        specs: episodes by shot.
    """

    config: RunConfig
    specs: dict[int, list[EpisodeSpec]] = field(default_factory=dict)
    _starts: dict[tuple[str, str], Start] = field(default_factory=dict)
    _embedded: dict[tuple[str, ...], dict[str, Tensor]] = field(default_factory=dict)

    @classmethod
    def of(cls, config: RunConfig) -> Workspace:
        """Loads split and encoder and draws the episodes; decodes nothing yet."""
        work = cls.open(config)
        work.specs = {shot: draw(work.split, config, shot) for shot in config.shot}
        return work

    def frames(self, clip: str) -> NDArray[np.uint8]:
        """Decoded frames of a clip in the run's order, (T, H, W, 3) uint8."""
        frames = super().frames(clip)
        order = self.config.frame_order
        if order == "natural":
            return frames
        return frames[::-1].copy() if order == "reversed" else frames[shuffled(clip, len(frames))]

    def start(self, place: str, adapter: str) -> Start:
        """A starting point, read when first asked for; see `read_start`."""
        if (place, adapter) not in self._starts:
            self._starts[place, adapter] = read_start(place, adapter)
        return self._starts[place, adapter]

    def texts(self, classes: Sequence[Sequence[str]], templates: Sequence[str]) -> ClassTexts:
        """What the text tower says of the classes of some episodes.

        Args:
            classes: names of the classes of each of E episodes, (E, way).
            templates: prompts with one {} each.
        """
        key = tuple(templates)
        if key not in self._embedded:
            # all at once: a name that cannot be embedded shows before anything is decoded
            drawn = sorted({n for specs in self.specs.values() for s in specs for n in s.classes})
            vectors = self.text.embed(drawn, templates)
            self._embedded[key] = dict(zip(drawn, vectors, strict=True))
        known = self._embedded[key]
        tower = self.encoder.tower
        stacked = torch.stack([torch.stack([known[name] for name in row]) for row in classes])
        projection = None if tower.projection is None else tower.projection.float()
        return ClassTexts(stacked.to(tower.device), projection, self.text.scale)


def shuffled(clip: str, count: int) -> NDArray[np.int64]:
    """An order of `count` frames that depends on the clip's name alone, never the natural one."""
    draws = np.random.default_rng(derive_seed("frame order", clip))
    natural = np.arange(count)
    order = draws.permutation(natural)
    while count > 1 and (order == natural).all():
        order = draws.permutation(natural)
    return order


def draw(split: Split, config: RunConfig, shot: int) -> list[EpisodeSpec]:
    """The episodes of a run at one shot, in order."""
    sampler = EpisodeSampler(
        split,
        subset=config.subset,
        seed=config.seed,
        way=config.way,
        shot=shot,
        query=config.query,
        disjoint_groups=config.disjoint_groups,
    )
    return [sampler[i] for i in range(config.episodes)]
