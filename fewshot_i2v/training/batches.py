"""What a training sees at each step: a pure function of the configuration and the step's number.

Frames of training clips are decoded once and kept as bytes; without augmentation the
prefixes of the frozen tower are kept in their place.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fewshot_i2v.config.training import TrainConfig
from fewshot_i2v.data.episodes.episode import EpisodeSpec
from fewshot_i2v.data.episodes.sampler import EpisodeSampler
from fewshot_i2v.data.video.frame_sampling import SEGMENT_THIRDS
from fewshot_i2v.errors import TuningError
from fewshot_i2v.training.class_split import TRAIN, Roster
from fewshot_i2v.training.objective import ClipBatch, EpisodeBatch, Objective, Part
from fewshot_i2v.tuning.augmentation import ClipAugmenter
from fewshot_i2v.tuning.run_context import Material
from fewshot_i2v.utils.seeding import derive_seed

# Bytes of decoded frames kept in memory; beyond that they are read from the store every time.
_KEPT_BYTES = 2 << 30


class TrainBatches:
    """The batches of a training.

    Args:
        material: split, encoder and clips.
        config: of the training.
        roster: classes and clips.
        objective: says what it wants, and of which encoder.

    Raises:
        EpisodeError: when the training classes cannot give such episodes.
    """

    def __init__(
        self, material: Material, config: TrainConfig, roster: Roster, objective: Objective
    ) -> None:
        self.config, self.roster, self.objective = config, roster, objective
        tower = material.encoder.tower
        self._augment = ClipAugmenter(
            config.augment,
            roster.classes,
            mean=tower.mean,
            std=tower.std,
            pixels=tower.pixels,
        )
        self.material = _with_more_frames(material, self._augment.frames_factor)
        self._frames = _Frames(self.material)
        self._sampler = None
        if objective.wants_episodes:
            self._sampler = EpisodeSampler(
                roster.train,
                subset=TRAIN,
                seed=derive_seed("episodes", config.seed),
                way=config.way,
                shot=config.shot,
                query=config.query,
            )
        self._order: tuple[int, list[str]] = (-1, [])

    def prepare(self, *, progress: bool) -> None:
        """Decodes all training clips.

        Raises:
            TuningError: naming those that cannot be read.
        """
        self.material.prepare(self.roster.clips, progress=progress)
        refuse_unreadable(self.material)

    def parts(self, step: int) -> Iterator[Part]:
        """The batch of a step, in the parts that gradients are accumulated over."""
        specs = self._episodes(step)
        names = self._clips(step)
        pixels = self._pixels([n for spec in specs for n in _ordered(spec)], "episodes", step)
        alone = self._pixels(names, "clips", step)
        count = self.config.accumulate
        for i in range(count):
            chosen, own = _share(len(specs), count, i), _share(len(names), count, i)
            yield Part(
                step=step,
                index=i,
                weight=1 / count,
                episodes=self._episode_batch(specs, chosen, pixels) if specs else None,
                clips=self._clip_batch(names, own, alone) if names else None,
            )

    def clip_names(self, step: int) -> list[str]:
        """The clips of a step's batch: those of each episode, then those for classification."""
        episodes = [name for spec in self._episodes(step) for name in _ordered(spec)]
        return episodes + self._clips(step)

    def empty_part(self) -> Part:
        """A first part of zeros, to measure what a step takes without any clip."""
        config, tower = self.config, self.material.encoder.tower
        size = (config.video.frames, 3, tower.image_size, tower.image_size)
        pixels = torch.zeros(size, dtype=tower.dtype, device=tower.device)
        with torch.no_grad():
            kept = self.objective.encoder.prefix(pixels, cells=self.objective.cells)

        def _clips(*lead: int) -> Tensor:
            return kept.expand(*lead, *kept.shape).contiguous()

        count, way = config.batch // config.accumulate, config.way
        episodes = EpisodeBatch(
            support=_clips(count, way * config.shot),
            query=_clips(count, way * config.query),
            support_labels=class_by_class(way, config.shot, count, kept.device),
            query_labels=class_by_class(way, config.query, count, kept.device),
            classes=(self.roster.classes[:way],) * count,
        )
        each = config.clips // config.accumulate
        alone = ClipBatch(_clips(each), torch.zeros(each, dtype=torch.long, device=kept.device))
        wants = self.objective
        return Part(
            step=0,
            index=0,
            weight=1.0,
            episodes=episodes if wants.wants_episodes else None,
            clips=alone if wants.wants_clips else None,
        )

    def _episodes(self, step: int) -> list[EpisodeSpec]:
        if self._sampler is None:
            return []
        first = step * self.config.batch
        return [self._sampler[first + i] for i in range(self.config.batch)]

    def _clips(self, step: int) -> list[str]:
        """The next clips of an endless row of permutations of all of them."""
        if not self.objective.wants_clips:
            return []
        out: list[str] = []
        for position in range(step * self.config.clips, (step + 1) * self.config.clips):
            epoch, place = divmod(position, len(self.roster.clips))
            if self._order[0] != epoch:
                generator = torch.Generator().manual_seed(
                    derive_seed("clips", self.config.seed, epoch)
                )
                order = torch.randperm(len(self.roster.clips), generator=generator)
                self._order = (epoch, [self.roster.clips[i] for i in order.tolist()])
            out.append(self._order[1][place])
        return out

    def _pixels(self, names: Sequence[str], what: str, step: int) -> Tensor | None:
        """Augmented pixels of clips, (n, T, 3, H, W); None without augmentation.

        Drawn for the whole step, so that accumulating gradients changes no draw.
        """
        if not self.config.augment.active or not names:
            return None
        seed = derive_seed("augment", what, self.config.seed, step)
        generator = torch.Generator().manual_seed(seed)
        return self._augment(self._frames.stacked(names), generator)

    def _kept(self, names: Sequence[str], pixels: Tensor | None) -> Tensor:
        """What the encoder takes of clips, (n, ...)."""
        encoder, cells = self.objective.encoder, self.objective.cells
        if pixels is None:
            return self.material.bank(encoder, cells=cells).tokens([names]).squeeze(0)
        with torch.no_grad():
            return encoder.prefix(pixels, cells=cells)

    def _episode_batch(
        self, specs: Sequence[EpisodeSpec], chosen: slice, pixels: Tensor | None
    ) -> EpisodeBatch:
        config, specs = self.config, specs[chosen]
        names = [name for spec in specs for name in _ordered(spec)]
        each = len(names) // len(specs)
        part = None if pixels is None else pixels[chosen.start * each : chosen.stop * each]
        kept = self._kept(names, part)
        kept = kept.reshape(len(specs), each, *kept.shape[1:])
        shots = config.way * config.shot
        return EpisodeBatch(
            support=kept[:, :shots],
            query=kept[:, shots:],
            support_labels=class_by_class(config.way, config.shot, len(specs), kept.device),
            query_labels=class_by_class(config.way, config.query, len(specs), kept.device),
            classes=tuple(spec.classes for spec in specs),
        )

    def _clip_batch(self, names: Sequence[str], chosen: slice, pixels: Tensor | None) -> ClipBatch:
        names = names[chosen]
        kept = self._kept(names, None if pixels is None else pixels[chosen])
        labels = torch.tensor([self.roster.labels[name] for name in names])
        return ClipBatch(kept, labels.to(kept.device))


def class_by_class(way: int, each: int, episodes: int, device: torch.device) -> Tensor:
    """Labels of clips that are ordered class by class, (episodes, way * each) int64."""
    row = torch.arange(way, device=device).repeat_interleave(each)
    return row.expand(episodes, -1).contiguous()


def refuse_unreadable(material: Material) -> None:
    """Refuses to go on with fewer clips than the split names.

    Raises:
        TuningError: naming the clips that cannot be read.
    """
    bad = list(material.unreadable.values())
    if bad:
        shown = "\n".join(f"  {error}" for error in bad[:20])
        more = f"\n  ... and {len(bad) - 20} more" if len(bad) > 20 else ""
        raise TuningError(
            f"{len(bad)} clips of the training cannot be read:\n{shown}{more}\n"
            "mend them, or take them out of the split"
        )


def _share(whole: int, parts: int, index: int) -> slice:
    """Part `index` of `whole` things in `parts` equal parts."""
    return slice(index * whole // parts, (index + 1) * whole // parts)


def _ordered(spec: EpisodeSpec) -> list[str]:
    """Clips of an episode: support class by class, then query class by class."""
    return [name for side in (spec.support, spec.query) for row in side for name in row]


def _with_more_frames(material: Material, factor: int) -> Material:
    """The same material whose clips are decoded with `factor` frames per segment."""
    if factor == 1:
        return material
    store = material.store
    options = dataclasses.replace(
        store.options, frames=factor * store.options.frames, policy=SEGMENT_THIRDS
    )
    return dataclasses.replace(
        material,
        store=store.with_options(options),
        unreadable={},
        _ready=set(),
        _banks={},
    )


class _Frames:
    """Decoded frames in memory, as bytes."""

    def __init__(self, material: Material) -> None:
        self._material, self._kept, self._bytes = material, dict[str, NDArray[np.uint8]](), 0

    def stacked(self, names: Sequence[str]) -> Tensor:
        """Frames of clips, (n, T, H, W, 3) uint8."""
        return torch.from_numpy(np.stack([self._of(name) for name in names]))

    def _of(self, name: str) -> NDArray[np.uint8]:
        if name in self._kept:
            return self._kept[name]
        frames = np.array(self._material.frames(name))
        if self._bytes + frames.nbytes <= _KEPT_BYTES:
            self._kept[name] = frames
            self._bytes += frames.nbytes
        return frames
