"""Classes and clips of a training and of its validation."""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass
from functools import cached_property

from fewshot_i2v.config.training import TrainingConfig
from fewshot_i2v.data.episodes.episode import Episode
from fewshot_i2v.data.episodes.sampler import EpisodeSampler, SettingNames
from fewshot_i2v.data.splits.split import Split
from fewshot_i2v.errors import ConfigError, UnknownNameError
from fewshot_i2v.utils.seeding import derive_seed
from fewshot_i2v.utils.text_table import count_text

TRAIN_SUBSET, VALIDATION_SUBSET = "base", "val"
"""Names of the one subset of each of a roster's splits."""


@dataclass(frozen=True)
class TrainValSplit:
    """Classes and clips of a training and of its validation.

    Attributes:
        train: a split with the training classes only, as its subset "base".
        validation: a split with the validation classes only, as its subset "val"; None without
            validation.
    """

    train: Split
    validation: Split | None

    @classmethod
    def of(cls, split: Split, config: TrainingConfig) -> TrainValSplit:
        """Divides the classes of a split into training and validation.

        Raises:
            UnknownNameError: for a subset or a class that the split does not have.
            ConfigError: when the held-out classes leave fewer than two, or are a single one, or
                when a training class would be a validation class.
        """
        clips = {name: split.clips(config.subset, name) for name in split.classes(config.subset)}
        settings = config.validation
        for name in settings.classes:
            if name not in clips:
                hint = f"validation.classes are held out of {config.subset!r}."
                raise UnknownNameError("class", name, clips, hint)
        if settings.subset is not None and settings.subset not in split.subsets:
            raise ConfigError(
                f"validation.subset {settings.subset!r}: split {split.name!r} has "
                f"{', '.join(split.subsets)}; hold out classes of {config.subset!r} with "
                "validation.classes (--val-class), or give validation.subset: off to keep the "
                "last state"
            )
        held_out = {name: clips.pop(name) for name in settings.classes}
        if len(clips) < 2:
            raise ConfigError(
                f"validation.classes leave {count_text(len(clips), 'class')} of {config.subset!r} "
                "to train on; expected at least 2"
            )
        if len(held_out) == 1:
            raise ConfigError(
                f"validation.classes holds out {settings.classes[0]!r} alone; expected at least 2, "
                "to tell them apart"
            )
        if settings.subset is not None:
            _check_disjoint(split, config.subset, settings.subset)
            held_out = {n: split.clips(settings.subset, n) for n in split.classes(settings.subset)}
        splits = [
            dataclasses.replace(split, subsets={subset: classes}) if classes else None
            for subset, classes in ((TRAIN_SUBSET, clips), (VALIDATION_SUBSET, held_out))
        ]
        if splits[0] is None:
            raise ConfigError(f"subset {config.subset!r} has no classes")
        return cls(splits[0], splits[1])

    @property
    def classes(self) -> tuple[str, ...]:
        """Training classes, sorted; their positions are their labels."""
        return self.train.classes(TRAIN_SUBSET)

    @property
    def validation_classes(self) -> tuple[str, ...]:
        """Validation classes, sorted."""
        return () if self.validation is None else self.validation.classes(VALIDATION_SUBSET)

    @property
    def validation_clips(self) -> tuple[str, ...]:
        """Names of the clips of the validation classes, sorted."""
        return () if self.validation is None else tuple(sorted(self.validation.clip_names()))

    @cached_property
    def clips(self) -> tuple[str, ...]:
        """Names of the training clips, sorted."""
        return tuple(sorted(self.labels))

    @cached_property
    def labels(self) -> dict[str, int]:
        """Label of each training clip."""
        return {
            clip.name: label
            for label, name in enumerate(self.classes)
            for clip in self.train.clips(TRAIN_SUBSET, name)
        }

    @property
    def clips_digest(self) -> str:
        """sha256 (hexadecimal) of the names of the training clips, one per line."""
        return hashlib.sha256("\n".join(self.clips).encode()).hexdigest()

    def validation_episodes(self, config: TrainingConfig) -> list[Episode]:
        """Episodes of each validation; they do not depend on the training seed."""
        if self.validation is None:
            return []
        settings = config.validation
        classes = "validation.classes" if settings.classes else repr(settings.subset)
        sampler = EpisodeSampler(
            self.validation,
            subset=VALIDATION_SUBSET,
            seed=derive_seed("validation"),
            way=settings.way or min(config.way, len(self.validation_classes)),
            shot=settings.shot,
            query=settings.query,
            messages=SettingNames("validation", classes),
        )
        return [sampler[i] for i in range(settings.episodes)]


def _check_disjoint(split: Split, training: str, checked: str) -> None:
    """Raises when a validation class is also a training class."""
    both = sorted(set(split.classes(training)) & set(split.classes(checked)))
    if both:
        raise ConfigError(
            f"validation.subset {checked!r}: {len(both)} of its classes are in {training!r} too, "
            f"such as {both[0]!r}, and cannot tell how well new classes are learnt; hold out some "
            f"of {training!r} with validation.classes (--val-class), or give validation.subset: off"
        )
