"""Starting points: adapters trained on other classes, from which every episode's tuning begins.

A starting point is a folder as `save_adapter` writes it, of one copy, whose `about["start"]` says
what it was trained on: `StartFacts`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor

from fewshot_i2v import registry
from fewshot_i2v.config.base import VideoConfig
from fewshot_i2v.config.error_messages import config_error
from fewshot_i2v.config.start_names import name_of_start, names_of_starts
from fewshot_i2v.data.splits.matching.name_normalization import class_key
from fewshot_i2v.data.splits.split import Split
from fewshot_i2v.errors import CheckpointError, ConfigError
from fewshot_i2v.models.adapters.base.adapter import Adapter
from fewshot_i2v.models.checkpoints.files import digest_of, fill, read_info, read_values
from fewshot_i2v.models.checkpoints.metadata import AdapterInfo, facts_of
from fewshot_i2v.models.checkpoints.start_index import place_for
from fewshot_i2v.models.encoders.loading import Encoder


class _Facts(BaseModel):
    model_config = ConfigDict(extra="allow", frozen=True, strict=True)


class SplitFacts(_Facts):
    """The split that a starting point was trained on."""

    name: str
    version: int
    digest: str


class ValidationFacts(_Facts):
    """What the state that was kept was chosen on.

    Attributes:
        classes: of the split that was trained on; none where the last state was kept.
        clip_names: of these classes; none in starting points that were written without them.
    """

    classes: list[str] = Field(default_factory=list)
    clip_names: list[str] = Field(default_factory=list)


class StartFacts(_Facts):
    """What a starting point was trained on, and how; further keys are kept.

    Attributes:
        kind: "base-trained" or "meta-trained".
        objective: of the training.
        split: whose classes.
        subset: of that split.
        classes: trained on.
        clip_names: trained on.
        validation: what its state was chosen on.
        seed: of the training.
        steps: of the training.
        stored: type of the tensors in the file; they are used in float32.
    """

    kind: Literal["base-trained", "meta-trained"]
    objective: str
    split: SplitFacts
    subset: str
    classes: list[str]
    clip_names: list[str]
    validation: ValidationFacts = ValidationFacts()
    seed: int
    steps: int
    stored: Literal["float32", "float16"] = "float32"

    def reading(self) -> dict[str, Any]:
        """How its clips were read, by key of a configuration; empty where it does not say."""
        config = (self.model_extra or {}).get("config")
        if not isinstance(config, Mapping):
            return {}
        video, precision = config.get("video"), config.get("precision")
        found = reading_of(video) if isinstance(video, Mapping) else {}
        return found | ({} if precision is None else {"precision": precision})


class CurvePoint(_Facts):
    """What a training noted at one step; null where it was not measured."""

    step: int
    loss: float | None
    accuracy: float | None
    half_width: float | None


class _Asked(_Facts):
    steps: int


class _Chosen(ValidationFacts):
    classes: list[str]


class TrainingFacts(StartFacts):
    """What else stands in a starting point that a training of this program wrote.

    Attributes:
        digest: sha256 of the tensors.
        best_step: whose state was kept.
        curve: what was noted while it ran.
        config: what was asked for.
    """

    validation: _Chosen
    digest: str
    best_step: int
    curve: list[CurvePoint]
    config: _Asked


def reading_of(video: VideoConfig | Mapping[str, Any]) -> dict[str, Any]:
    """How clips are read, by key of a configuration; the stride only where it counts."""
    plain = video.model_dump() if isinstance(video, VideoConfig) else dict(video)
    if plain.get("policy") != "dense":
        plain.pop("stride", None)
    return {f"video.{key}": value for key, value in plain.items()}


def unlike(trained: Mapping[str, Any], asked: Mapping[str, Any]) -> str:
    """Which values differ, those of the training and those of the run; empty where none does.

    The precision is named beside others only: alone it changes no more than rounding.

    Args:
        trained: by key; what is not known is not compared.
        asked: by key.
    """
    odd = [key for key in trained if key in asked and trained[key] != asked[key]]
    if not set(odd) - {"precision"}:
        return ""
    mine, theirs = (", ".join(f"{k} {of[k]}" for k in odd) for of in (asked, trained))
    return f"trained with {theirs}; the run has {mine}"


_SHOWN_CLASSES = 5


@dataclass(frozen=True)
class Seen:
    """What of an evaluation a starting point was trained or chosen on; false when nothing.

    Attributes:
        classes: names of those trained on, as the evaluation spells them, sorted.
        clips: names of those trained on, sorted.
        watched: names of the classes that its state was chosen on, likewise.
        watched_clips: names of the clips that its state was chosen on, sorted.
    """

    classes: tuple[str, ...] = ()
    clips: tuple[str, ...] = ()
    watched: tuple[str, ...] = ()
    watched_clips: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.classes or self.clips or self.watched or self.watched_clips)

    def __str__(self) -> str:
        trained = _both(self.classes, self.clips)
        chosen = _both(self.watched, self.watched_clips)
        parts = [f"{trained} that it was trained on"] if trained else []
        parts += [f"{chosen} that its state was chosen on"] if chosen else []
        return ", and ".join(parts)


def seen_of(facts: StartFacts, split: Split, subset: str) -> Seen:
    """Classes and clips of a subset that a starting point was trained or chosen on.

    Whatever the split, clips count by name, and classes by name without case, spaces and
    punctuation: of one data set there are several splits, whose base classes are novel in others.

    Raises:
        UnknownNameError: for a subset that the split does not have.
    """
    classes, chosen = split.classes(subset), facts.validation
    clips = {clip.name for name in classes for clip in split.clips(subset, name)}
    return Seen(
        classes=_known(classes, facts.classes),
        clips=tuple(sorted(clips.intersection(facts.clip_names))),
        watched=_known(classes, chosen.classes),
        watched_clips=tuple(sorted(clips.intersection(chosen.clip_names))),
    )


def _known(classes: Iterable[str], others: Iterable[str]) -> tuple[str, ...]:
    keys = {class_key(name) for name in others}
    return tuple(sorted(name for name in classes if class_key(name) in keys))


def _both(classes: Sequence[str], clips: Sequence[str]) -> str:
    given = (("class", "es", classes), ("clip", "s", clips))
    return " and ".join(_counted(*each) for each in given if each[-1])


def _counted(kind: str, plural: str, names: Sequence[str]) -> str:
    """How many there are, and the first of their names."""
    shown = ", ".join([*names[:_SHOWN_CLASSES], *(["..."] if len(names) > _SHOWN_CLASSES else [])])
    return f"{len(names)} {kind}{plural if len(names) > 1 else ''} ({shown})"


__all__ = [
    "Seen",
    "SplitFacts",
    "Start",
    "StartFacts",
    "ValidationFacts",
    "names_of_starts",
    "read_start",
]

_SHOWN = 5


@dataclass(frozen=True, eq=False)
class Start:
    """A starting point, read and checked.

    Attributes:
        name: in tables and file names.
        folder: where it lies.
        info: what the folder says of the adapter.
        facts: what it was trained on.
        tensors: of the adapter, float32 on the CPU, each with a leading axis of 1.
    """

    name: str
    folder: Path
    info: AdapterInfo
    facts: StartFacts
    tensors: dict[str, Tensor]

    @property
    def kind(self) -> str:
        """How it was trained: "base-trained" or "meta-trained"."""
        return self.facts.kind

    @cached_property
    def digest(self) -> str:
        """sha256 of the tensors as they are used; in float32 files the one that training names."""
        return digest_of(self.tensors)

    def fill(self, adapter: Adapter, encoder: Encoder) -> None:
        """Gives every copy of an adapter the values of the starting point.

        Args:
            adapter: of E copies, on the CPU; changed.
            encoder: that it was built for.

        Raises:
            CheckpointError: when method, options or encoder are others than in training, or the
                number of frames or the input size where parameters depend on them; naming both.
        """
        self._check_method(adapter)
        self._check_encoder(adapter, encoder)
        copies = {
            name: t.expand(adapter.episodes, *t.shape[1:]) if t.shape[:1] == (1,) else t
            for name, t in self.tensors.items()
        }
        fill(self.folder, self.info, {"adapter": adapter}, copies, adapter.frames)

    def seen(self, split: Split, subset: str) -> Seen:
        """Classes and clips of a subset that the starting point was trained or chosen on.

        Both count by name, whatever the split; see `seen_of`.

        Raises:
            UnknownNameError: for a subset that the split does not have.
        """
        return seen_of(self.facts, split, subset)

    def read_otherwise(self, video: VideoConfig, precision: str, encoder: Encoder) -> str:
        """How the clips of a run are read otherwise than in training; empty when they are not.

        Args:
            video: of the run.
            precision: of the run; alone it counts for nothing.
            encoder: of the run.
        """
        known = {"video.frames": self.info.frames, "image size": self.info.encoder.image_size}
        size = facts_of(encoder).image_size
        asked = reading_of(video) | {"image size": size, "precision": precision}
        return unlike(self.facts.reading() | known, asked)

    def check_unseen(self, split: Split, subset: str) -> None:
        """Refuses an evaluation on what the starting point was trained or chosen on.

        Raises:
            ConfigError: naming the classes and clips.
        """
        seen = self.seen(split, subset)
        if not seen:
            return
        others = [s for s in split.subsets if not self.seen(split, s)]
        other = f"give --subset {' or '.join(others)}, or " if others else "give "
        raise ConfigError(
            f"start {self.folder}: was trained on {self.facts.subset!r} of split "
            f"{self.facts.split.name!r}, and {subset!r} of split {split.name!r} has {seen}. The "
            f"figures would not be of unseen classes: {other}--allow-seen to have the rows marked"
        )

    def _check_method(self, adapter: Adapter) -> None:
        facts, cls = self.info.adapter, type(adapter)
        if registry.load("adapters", facts.name) is not cls:
            raise CheckpointError(
                f"{self.folder}: a starting point for {facts.name!r}; got {cls.__name__}"
            )
        try:
            trained = cls.parse(facts.options)
        except ValidationError as error:
            origin = f"{self.folder}: adapter {facts.name!r}"
            raise config_error(error, cls.Options, origin=origin) from error
        offsets: Sequence[int] | None = getattr(adapter, "offsets", None)
        mine = adapter.options.model_dump(mode="json") | {"head offsets": offsets and list(offsets)}
        theirs = trained.model_dump(mode="json") | {"head offsets": self.info.head_offsets}
        odd = [key for key in mine if mine[key] != theirs[key]]
        if odd:
            raise CheckpointError(
                f"{self.folder}: {facts.name} was trained with {_values(theirs, odd)}; the run "
                f"asks for {_values(mine, odd)}. Give --adapter with the options of the training"
            )

    def _check_encoder(self, adapter: Adapter, encoder: Encoder) -> None:
        given, wanted = facts_of(encoder), self.info.encoder
        if given.digest != wanted.digest:
            raise CheckpointError(
                f"{self.folder}: {self.info.adapter.name} was trained on {wanted.label}; the run "
                f"is of {given.label}. Evaluate with the encoder that it was trained on"
            )
        if given.image_size == wanted.image_size:
            return
        # copies are stacked along the first axis; what is left depends on the size of the input
        shapes = {f"adapter.{n}": t.shape[1:] for n, t in adapter.state_dict().items()}
        odd = [n for n, t in self.tensors.items() if n in shapes and t.shape[1:] != shapes[n]]
        if odd and adapter.frames == self.info.frames:
            raise CheckpointError(
                f"{self.folder}: trained on frames of {wanted.image_size} px; the run has "
                f"{given.image_size} px, and parameters depend on it ({', '.join(odd[:_SHOWN])})"
            )


def read_start(place: str | Path, adapter: str) -> Start:
    """Reads a starting point.

    A head that was saved with it is left out: heads start anew in every episode.

    Args:
        place: name of a shipped one, the folder of one, or a folder with those of several.
        adapter: the method that it must be for.

    Raises:
        UnknownNameError: for a name that is not shipped.
        CheckpointError: when there is none for this adapter, the folder is damaged, or it holds an
            adapter that does not say what it was trained on.
    """
    folder = place_for(str(place), adapter).folder
    info = read_info(folder)
    facts = _facts(folder, info)
    tensors = {n: t for n, t in read_values(folder, info).items() if n.startswith("adapter.")}
    return Start(name_of_start(str(place)), folder, info, facts, tensors)


def _facts(folder: Path, info: AdapterInfo) -> StartFacts:
    about = info.about.get("start")
    if about is None or info.merged_from is not None:
        raise CheckpointError(
            f"{folder}: holds a saved {info.adapter.name}, and no starting point: it does not say "
            "which classes and clips it was trained on. Expected a folder that `fewshot-i2v "
            "train` wrote"
        )
    try:
        return StartFacts.model_validate(about)
    except ValidationError as error:
        raise config_error(error, StartFacts, origin=f"{folder}: about.start") from error


def _values(options: dict[str, Any], keys: list[str]) -> str:
    return ", ".join(f"{key}={options[key]!r}" for key in keys)
