"""Which classes and clips a training sees, and which it is watched on."""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass
from functools import cached_property

from fewshot_i2v.config.training import TrainConfig
from fewshot_i2v.data.episodes.episode import EpisodeSpec
from fewshot_i2v.data.episodes.sampler import EpisodeSampler
from fewshot_i2v.data.splits.split import Split
from fewshot_i2v.errors import ConfigError, UnknownNameError
from fewshot_i2v.utils.seeding import derive_seed

TRAIN, WATCH = "base", "val"
"""Names of the one subset of each of a roster's splits."""


@dataclass(frozen=True)
class Roster:
    """Which classes and clips a training sees, and which it is watched on.

    Attributes:
        train: a split with the training classes alone, as its subset "base".
        watch: a split with the validation classes alone, as its subset "val"; None without
            validation.
    """

    train: Split
    watch: Split | None

    @classmethod
    def of(cls, split: Split, config: TrainConfig) -> Roster:
        """Who is who in a split.

        Raises:
            UnknownNameError: for a subset or a class that the split does not have.
            ConfigError: when holding out classes leaves fewer than two, or is one alone, or when
                classes that are trained on would be watched.
        """
        rows = {name: split.clips(config.subset, name) for name in split.classes(config.subset)}
        watched = config.validation
        for name in watched.classes:
            if name not in rows:
                where = f"validation.classes are held out of {config.subset!r}."
                raise UnknownNameError("class", name, rows, where)
        if watched.subset is not None and watched.subset not in split.subsets:
            raise ConfigError(
                f"validation.subset {watched.subset!r}: split {split.name!r} has "
                f"{', '.join(split.subsets)}; hold out classes of {config.subset!r} with "
                "validation.classes (--val-class), or give validation.subset: off to keep the "
                "last state"
            )
        held = {name: rows.pop(name) for name in watched.classes}
        if len(rows) < 2:
            raise ConfigError(
                f"validation.classes leave {len(rows)} classes of {config.subset!r} to train on; "
                "expected at least 2"
            )
        if len(held) == 1:
            raise ConfigError(
                f"validation.classes holds out {watched.classes[0]!r} alone; expected at least 2, "
                "to tell them apart"
            )
        if watched.subset is not None:
            _check_apart(split, config.subset, watched.subset)
            held = {n: split.clips(watched.subset, n) for n in split.classes(watched.subset)}
        made = [
            dataclasses.replace(split, subsets={subset: classes}) if classes else None
            for subset, classes in ((TRAIN, rows), (WATCH, held))
        ]
        if made[0] is None:
            raise ConfigError(f"subset {config.subset!r} has no classes")
        return cls(made[0], made[1])

    @property
    def classes(self) -> tuple[str, ...]:
        """Classes that are trained on, sorted; their positions are their labels."""
        return self.train.classes(TRAIN)

    @property
    def watched(self) -> tuple[str, ...]:
        """Classes of the validation, sorted."""
        return () if self.watch is None else self.watch.classes(WATCH)

    @property
    def watched_clips(self) -> tuple[str, ...]:
        """Names of the clips of the validation classes, sorted."""
        if self.watch is None:
            return ()
        found = (clip for name in self.watched for clip in self.watch.clips(WATCH, name))
        return tuple(sorted(clip.name for clip in found))

    @cached_property
    def clips(self) -> tuple[str, ...]:
        """Names of the clips that are trained on, sorted."""
        return tuple(sorted(self.labels))

    @cached_property
    def labels(self) -> dict[str, int]:
        """Label of each training clip."""
        return {
            clip.name: label
            for label, name in enumerate(self.classes)
            for clip in self.train.clips(TRAIN, name)
        }

    @property
    def clips_digest(self) -> str:
        """sha256 (hexadecimal) of the names of the training clips, one per line."""
        return hashlib.sha256("\n".join(self.clips).encode()).hexdigest()

    def validation_episodes(self, config: TrainConfig) -> list[EpisodeSpec]:
        """The episodes of every validation; they do not depend on the training's seed."""
        if self.watch is None:
            return []
        asked = config.validation
        sampler = EpisodeSampler(
            self.watch,
            subset=WATCH,
            seed=derive_seed("validation"),
            way=asked.way or min(config.way, len(self.watched)),
            shot=asked.shot,
            query=asked.query,
        )
        return [sampler[i] for i in range(asked.episodes)]


def _check_apart(split: Split, trained: str, watched: str) -> None:
    """Refuses a validation on classes that are trained on."""
    both = sorted(set(split.classes(trained)) & set(split.classes(watched)))
    if both:
        raise ConfigError(
            f"validation.subset {watched!r}: {len(both)} of its classes are in {trained!r} too, "
            f"such as {both[0]!r}, and cannot tell how well new classes are learnt; hold out some "
            f"of {trained!r} with validation.classes (--val-class), or give validation.subset: off"
        )
