"""Starting points: adapters trained on other classes, from which every episode's tuning begins.

A starting point is a checkpoint folder as `save_adapter` writes it, of one copy, whose
`about["start"]` describes its training: `StartingPointFacts`. Where a head with parameters was
trained too, it is in the same folder: `StartHead`.
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
from fewshot_i2v.config.error_messages import translate_validation_error
from fewshot_i2v.config.start_names import start_name_of
from fewshot_i2v.data.splits.matching.name_normalization import normalized_class
from fewshot_i2v.data.splits.split import Split
from fewshot_i2v.errors import CheckpointError, ConfigError
from fewshot_i2v.models.adapters.base.adapter import Adapter
from fewshot_i2v.models.checkpoints.files import load_tensors, read_metadata, read_tensors
from fewshot_i2v.models.checkpoints.metadata import (
    CheckpointMetadata,
    encoder_metadata,
    head_offsets,
)
from fewshot_i2v.models.checkpoints.start_extras import ExtraFacts, HeadFacts, StartHead, StartRates
from fewshot_i2v.models.checkpoints.start_index import find_start
from fewshot_i2v.models.encoders.loading import Encoder
from fewshot_i2v.models.encoders.weights import tensor_digest
from fewshot_i2v.models.factory import resolve_options

_MAX_NAMES_SHOWN = 5


@dataclass(frozen=True)
class SeenOverlap:
    """Classes and clips of an evaluation that a starting point has seen; false when empty.

    Attributes:
        classes: names of training classes, as the evaluation spells them, sorted.
        clips: names of training clips, sorted.
        validation_classes: names of the classes that its state was selected on, likewise.
        validation_clips: names of the clips that its state was selected on, sorted.
    """

    classes: tuple[str, ...] = ()
    clips: tuple[str, ...] = ()
    validation_classes: tuple[str, ...] = ()
    validation_clips: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.classes or self.clips or self.validation_classes or self.validation_clips)

    def __str__(self) -> str:
        trained = _describe_names(self.classes, self.clips)
        validated = _describe_names(self.validation_classes, self.validation_clips)
        phrases = [f"{trained} that it was trained on"] if trained else []
        phrases += [f"{validated} that its state was chosen on"] if validated else []
        return ", and ".join(phrases)


def _matching_classes(
    classes: Iterable[str], of_trainings: Iterable[Iterable[str]]
) -> tuple[str, ...]:
    keys = {normalized_class(name) for names in of_trainings for name in names}
    return tuple(sorted(name for name in classes if normalized_class(name) in keys))


def _matching_clips(clips: set[str], of_trainings: Iterable[Iterable[str]]) -> tuple[str, ...]:
    return tuple(sorted(clips.intersection(name for names in of_trainings for name in names)))


def _describe_names(classes: Sequence[str], clips: Sequence[str]) -> str:
    """Describes how many there are of each, with the first names."""
    phrases = []
    for kind, plural, names in (("class", "classes", classes), ("clip", "clips", clips)):
        shown = [*names[:_MAX_NAMES_SHOWN], *["..."] * (len(names) > _MAX_NAMES_SHOWN)]
        if names:
            count = f"{len(names)} {plural if len(names) > 1 else kind}"
            phrases.append(f"{count} ({', '.join(shown)})")
    return " and ".join(phrases)


class _StartFactsModel(BaseModel):
    model_config = ConfigDict(extra="allow", frozen=True, strict=True)


class SplitFacts(_StartFactsModel):
    """The split that a starting point was trained on."""

    name: str
    version: int
    digest: str


class ValidationFacts(_StartFactsModel):
    """Validation classes and clips that the final state was selected on.

    Attributes:
        classes: of the split of the training; empty where the last state was used.
        clip_names: of these classes; empty in starting points that were written without them.
    """

    classes: list[str] = Field(default_factory=list)
    clip_names: list[str] = Field(default_factory=list)


class SeenFacts(_StartFactsModel):
    """What one training has seen.

    Attributes:
        kind: "base-trained" or "meta-trained".
        split: the split of the training classes.
        subset: of that split.
        classes: training classes.
        clip_names: training clips.
        validation: what its state was selected on.
        steps: of the training.
    """

    kind: Literal["base-trained", "meta-trained"]
    split: SplitFacts
    subset: str
    classes: list[str]
    clip_names: list[str]
    validation: ValidationFacts = ValidationFacts()
    steps: int


class EarlierTrainingFacts(SeenFacts):
    """What a starting point that another training began from had seen.

    Attributes:
        start_name: of that starting point, in tables.
        digest: sha256 of its tensors in float32.
    """

    start_name: str
    digest: str


class StartingPointFacts(SeenFacts):
    """What a starting point was trained on, and how; unlisted keys are retained.

    Attributes:
        objective: of the training.
        seed: of the training.
        stored: type of the tensors in the file; they are used in float32.
        head: of the head that was trained with the adapter; None where it had no parameters.
        rates: of the gradient descent of its inner loop; None where it had none.
        begun_from: the starting point that its training began from, then the one that this one's
            began from, and so on; empty where it began untrained.
    """

    objective: str
    seed: int
    stored: Literal["float32", "float16"] = "float32"
    head: HeadFacts | None = None
    rates: ExtraFacts | None = None
    begun_from: list[EarlierTrainingFacts] = Field(default_factory=list)

    @property
    def trainings(self) -> tuple[SeenFacts, ...]:
        """Facts of its training, and of those that it began from, the last one first."""
        return self, *self.begun_from

    def recorded_input(self) -> dict[str, Any]:
        """Returns the input settings of its training, by configuration key; empty if unknown."""
        config = (self.model_extra or {}).get("config")
        if not isinstance(config, Mapping):
            return {}
        video, precision = config.get("video"), config.get("precision")
        settings = _input_settings(video) if isinstance(video, Mapping) else {}
        return settings | ({} if precision is None else {"precision": precision})

    def overlap_with(self, split: Split, subset: str) -> SeenOverlap:
        """Finds classes and clips of a subset that the starting point was trained or selected on.

        Those of the starting points that its training began from count too. Whatever the split,
        clips count by name, and classes by name without case, spaces and punctuation: one data set
        can have several splits, and base classes of one are novel in another.

        Raises:
            UnknownNameError: for a subset that the split does not have.
        """
        classes = split.classes(subset)
        clips = {clip.name for name in classes for clip in split.clips(subset, name)}
        trainings = self.trainings
        validations = [training.validation for training in trainings]
        return SeenOverlap(
            classes=_matching_classes(classes, (t.classes for t in trainings)),
            clips=_matching_clips(clips, (t.clip_names for t in trainings)),
            validation_classes=_matching_classes(classes, (v.classes for v in validations)),
            validation_clips=_matching_clips(clips, (v.clip_names for v in validations)),
        )


def _input_settings(video: Mapping[str, Any]) -> dict[str, Any]:
    """How clips are read, by configuration key; the stride only where it has an effect."""
    return {
        f"video.{key}": value
        for key, value in video.items()
        if key != "stride" or video.get("policy") == "dense"
    }


class CurvePoint(_StartFactsModel):
    """Values that a training logged at one step; null where it was not measured."""

    step: int
    loss: float | None
    accuracy: float | None
    half_width: float | None


class _RequestedConfig(_StartFactsModel):
    steps: int


class _RequiredValidation(ValidationFacts):
    classes: list[str]


class TrainingFacts(StartingPointFacts):
    """Further facts of a starting point that this program trained.

    Attributes:
        digest: sha256 of the tensors.
        best_step: step whose state was selected.
        curve: values logged during the training.
        config: the requested configuration.
    """

    validation: _RequiredValidation
    digest: str
    best_step: int
    curve: list[CurvePoint]
    config: _RequestedConfig


@dataclass(frozen=True, eq=False)
class StartingPoint:
    """A starting point, read and checked.

    Attributes:
        name: in tables and file names.
        folder: where it lies.
        metadata: content of its `adapter.json`.
        facts: what it was trained on.
        tensors: of the adapter, float32 on the CPU, each with a leading axis of 1.
        head: where one with parameters was trained with the adapter.
        rates: where Meta-SGD learned them.
    """

    name: str
    folder: Path
    metadata: CheckpointMetadata
    facts: StartingPointFacts
    tensors: dict[str, Tensor]
    head: StartHead | None = None
    rates: StartRates | None = None

    @property
    def kind(self) -> str:
        """How it was trained: "base-trained" or "meta-trained"."""
        return self.facts.kind

    @cached_property
    def digest(self) -> str:
        """sha256 of the tensors in float32; of float32 files the one that training recorded."""
        return tensor_digest(self.tensors)

    def load_into(self, adapter: Adapter, encoder: Encoder) -> None:
        """Loads the values of the starting point into every copy of an adapter.

        Args:
            adapter: of E copies; changed.
            encoder: the encoder that the adapter was built for.

        Raises:
            CheckpointError: when method, options or encoder differ from those of the training, or
                the number of frames or the input size where parameters depend on them; naming both.
        """
        self._check_method(adapter)
        self._check_encoder(adapter, encoder)
        copies = {
            name: tensor.expand(adapter.episodes, *tensor.shape[1:])
            if tensor.shape[:1] == (1,)
            else tensor
            for name, tensor in self.tensors.items()
        }
        load_tensors(self.folder, self.metadata, {"adapter": adapter}, copies, adapter.frames)

    def input_mismatch(self, video: VideoConfig, precision: str, encoder: Encoder) -> str:
        """Describes how the run's input settings differ from training; empty if they agree.

        Args:
            video: of the run.
            precision: of the run; a difference in it alone does not count.
            encoder: of the run.
        """
        training_settings = self.facts.recorded_input() | {
            "video.frames": self.metadata.frames,
            "image size": self.metadata.encoder.image_size,
        }
        run_settings = _input_settings(video.model_dump()) | {
            "image size": encoder_metadata(encoder).image_size,
            "precision": precision,
        }
        different_keys = [
            key
            for key in training_settings
            if key in run_settings and training_settings[key] != run_settings[key]
        ]
        if not set(different_keys) - {"precision"}:  # which alone changes no more than rounding
            return ""
        run_values, training_values = (
            ", ".join(f"{k} {settings[k]}" for k in different_keys)
            for settings in (run_settings, training_settings)
        )
        return f"trained with {training_values}; the run has {run_values}"

    def check_unseen(self, split: Split, subset: str) -> None:
        """Refuses to evaluate classes or clips that the starting point was trained or chosen on.

        Raises:
            ConfigError: naming the classes and clips.
        """
        overlap_with = self.facts.overlap_with
        overlap = overlap_with(split, subset)
        if not overlap:
            return
        unseen_subsets = [name for name in split.subsets if not overlap_with(split, name)]
        alternative = (
            f"give --subset {' or '.join(unseen_subsets)}, or " if unseen_subsets else "give "
        )
        trained = ", after ".join(
            f"{training.subset!r} of split {training.split.name!r}"
            for training in self.facts.trainings
        )
        raise ConfigError(
            f"start {self.folder}: was trained on {trained}, and {subset!r} of split "
            f"{split.name!r} has {overlap}. The figures would not be of unseen classes: "
            f"{alternative}--allow-seen to have the rows marked"
        )

    def _check_method(self, adapter: Adapter) -> None:
        method, cls = self.metadata.adapter, type(adapter)
        if registry.load_method("adapters", method.name) is not cls:
            raise CheckpointError(
                f"{self.folder}: a starting point for {method.name!r}; got {cls.__name__}"
            )
        trained_options = resolve_options("adapters", method, self.folder)
        run_values = adapter.options.model_dump(mode="json") | {
            "head offsets": head_offsets(adapter)
        }
        trained_values = trained_options.model_dump(mode="json") | {
            "head offsets": self.metadata.head_offsets
        }
        different_keys = [key for key in run_values if run_values[key] != trained_values[key]]
        if different_keys:
            raise CheckpointError(
                f"{self.folder}: {method.name} was trained with "
                f"{_describe_options(trained_values, different_keys)}; the run asks for "
                f"{_describe_options(run_values, different_keys)}. Give --adapter with the options "
                "of the training"
            )

    def _check_encoder(self, adapter: Adapter, encoder: Encoder) -> None:
        actual, expected = encoder_metadata(encoder), self.metadata.encoder
        if actual.digest != expected.digest:
            raise CheckpointError(
                f"{self.folder}: {self.metadata.adapter.name} was trained on {expected.label}; the "
                f"run is of {actual.label}. Use the encoder that it was trained on"
            )
        if actual.image_size == expected.image_size:
            return
        # copies are stacked along the first axis; what is left depends on the size of the input
        shapes = {f"adapter.{n}": t.shape[1:] for n, t in adapter.state_dict().items()}
        different_names = [
            n for n, t in self.tensors.items() if n in shapes and t.shape[1:] != shapes[n]
        ]
        if different_names and adapter.frames == self.metadata.frames:
            raise CheckpointError(
                f"{self.folder}: trained on frames of {expected.image_size} px; the run has "
                f"{actual.image_size} px, and parameters depend on it "
                f"({', '.join(different_names[:_MAX_NAMES_SHOWN])})"
            )


def read_start(name_or_folder: str | Path, adapter: str) -> StartingPoint:
    """Reads a starting point.

    A head in the folder that no training made (see `HeadFacts`) is ignored: heads start anew.

    Args:
        name_or_folder: name of a shipped starting point, the folder of one, or a folder with
            several of them.
        adapter: the method that it must be for.

    Raises:
        UnknownNameError: for a name that is not shipped.
        CheckpointError: when there is none for this adapter, the folder is damaged, or it holds an
            adapter that does not say what it was trained on.
    """
    folder = find_start(str(name_or_folder), adapter).folder
    metadata = read_metadata(folder)
    facts = _read_facts(folder, metadata)
    tensors = read_tensors(folder, metadata)
    head = None
    if facts.head is not None:
        head = StartHead.read(folder, metadata, facts.head, tensors)
    rates = None
    if facts.rates is not None:
        rates = StartRates.read(folder, facts.rates, tensors)
    adapter_tensors = {n: t for n, t in tensors.items() if n.startswith("adapter.")}
    name = start_name_of(str(name_or_folder))
    return StartingPoint(name, folder, metadata, facts, adapter_tensors, head, rates)


def _read_facts(folder: Path, metadata: CheckpointMetadata) -> StartingPointFacts:
    about = metadata.about.get("start")
    if about is None or metadata.merged_from is not None:
        raise CheckpointError(
            f"{folder}: holds a saved {metadata.adapter.name}, and no starting point: it does not "
            "say which classes and clips it was trained on. Expected a folder that `fewshot-i2v "
            "train` wrote"
        )
    try:
        return StartingPointFacts.model_validate(about)
    except ValidationError as error:
        raise translate_validation_error(
            error, StartingPointFacts, origin=f"{folder}: about.start"
        ) from error


def _describe_options(options: dict[str, Any], keys: list[str]) -> str:
    return ", ".join(f"{key}={options[key]!r}" for key in keys)
