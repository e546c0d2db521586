"""The configuration of a training, validated; flags override the file, the file the defaults."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    NonNegativeInt,
    PositiveFloat,
    field_validator,
    model_validator,
)

from fewshot_i2v.config.base import CommonConfig, ConfigSection, PositiveCount
from fewshot_i2v.config.file_names import file_name, map_weights_file
from fewshot_i2v.config.method import MethodSpec

ObjectiveName = Literal["episodic", "classify", "both", "maml", "meta-sgd", "anil", "reptile"]
_CONFIG_FOLDER = "train"
_EVALUATION_SUBSETS = {"novel": "classes", "test": "clips"}
"""Subsets that are never trained on, and what of them is asked about in evaluations."""
NO_AUGMENTATION = {"flip": "off", "crop_scale": None, "colour": 0.0, "temporal": False}

Fraction = Annotated[float, Field(ge=0, le=1)]
PositiveFinite = Annotated[float, Field(gt=0, allow_inf_nan=False)]


def _off_is_none(value: object) -> object:
    return None if value == "off" else value


def _check_area_range(value: tuple[float, float] | None) -> tuple[float, float] | None:
    if value is not None and not 0 < value[0] <= value[1] <= 1:
        raise ValueError("expected two fractions of the area, 0 < smallest <= largest <= 1")
    return value


class AugmentConfig(ConfigSection):
    """Random changes of training clips, drawn anew at every step; never of validation clips.

    The word "off" in place of the section switches all of them off.

    Attributes:
        flip: mirror half of the clips: "off", "on", or "auto" (not where a class name of the
            subset says left or right).
        crop_scale: smallest and largest area of a random resized crop, as fractions; None: none.
        colour: largest relative change of brightness, contrast and saturation of a clip, 0: none.
        temporal: frames are taken at random within their segments, not at the middle; needs the
            frame policy segment-center.
    """

    flip: Literal["off", "auto", "on"] = "auto"
    crop_scale: Annotated[
        tuple[float, float] | None, Field(strict=False), AfterValidator(_check_area_range)
    ] = (0.6, 1.0)
    colour: Fraction = 0.3
    temporal: bool = True

    @property
    def active(self) -> bool:
        """Whether clips are changed at all."""
        return self.model_dump() != NO_AUGMENTATION


class ValidationConfig(ConfigSection):
    """How a training is validated, and which state is selected.

    Attributes:
        subset: the split's validation subset; None (or "off") with `classes`, or to select the last
            state.
        classes: classes of the training subset held out for this, where the split has no validation
            subset.
        every: steps between two validations; there is one before the first step and one after the
            last.
        episodes: of each validation, the same every time and for every seed.
        way: classes of an episode; None: as in training, or all where there are fewer.
        shot: support clips per class.
        query: query clips per class.
        head: scores the queries; training-free.
    """

    subset: Annotated[str | None, BeforeValidator(_off_is_none)] = "val"
    classes: Annotated[tuple[str, ...], Field(strict=False)] = ()
    every: PositiveCount = 50
    episodes: PositiveCount = 100
    way: Annotated[int, Field(ge=2)] | None = None
    shot: PositiveCount = 1
    query: PositiveCount = 5
    head: MethodSpec = MethodSpec(name="prototype", options={"pooling": "ordered", "center": True})

    @model_validator(mode="before")
    @classmethod
    def _drop_default_subset(cls, data: object) -> object:
        """Drop the default subset when classes are set."""
        if isinstance(data, Mapping) and data.get("classes") and "subset" not in data:
            return {**data, "subset": None}
        return data

    @model_validator(mode="after")
    def _check_classes_or_subset(self) -> ValidationConfig:
        if self.classes and self.subset is not None:
            raise ValueError("give `classes` or `subset`, not both (subset: off with classes)")
        return self

    @property
    def enabled(self) -> bool:
        """Whether the training is validated."""
        return bool(self.classes) or self.subset is not None


class InnerLoopConfig(ConfigSection):
    """Fine-tuning inside a step of meta-training.

    Attributes:
        steps: inner steps on the support clips.
        lr: inner learning rate (of plain gradient descent).
        second_order: whether gradients go through the inner steps; False: first order.
        rate: of Reptile, step from the start towards the fine-tuned weights, 0 to 1.
    """

    steps: PositiveCount = 5
    lr: PositiveFinite = 0.01
    second_order: bool = False
    rate: Fraction = 0.5


class TrainingConfig(CommonConfig):
    """Training of one adapter on base classes.

    Attributes:
        adapter: what is trained.
        subset: the split's subset to train on.
        validation: how it is validated.
        objective: "episodic" (few-shot episodes, loss of `head` on the query clips), "classify"
            (all classes at once, a linear classifier that is thrown away), "both" summed, or
            meta-training: "maml", "meta-sgd", "anil" (these need learn2learn), "reptile".
        head: of the episodic loss and of meta-training.
        classifier: of "classify" and "both": linear, with its options.
        way: classes of a training episode.
        shot: support clips per class.
        query: query clips per class.
        batch: episodes of a step.
        clips: clips of a step, for classification.
        steps: optimizer steps.
        lr: learning rate of the adapter, AdamW.
        head_lr: learning rate of other parameters.
        weight_decay: on matrices; biases and norms have none.
        warmup: fraction of the steps with a linearly growing rate, 0 to 1.
        schedule: after that "cosine" down to zero, or "constant".
        clip_norm: largest gradient norm; None (or "off"): no limit.
        accumulate: equal micro-batches of a step, to save memory.
        checkpointing: compute blocks again in the backward pass, to save memory.
        augment: random changes of the clips.
        inner: of meta-training.
        save_every: steps between two saved states that a killed training continues from; 0: only at
            validations.
    """

    adapter: MethodSpec
    subset: str = Field(default="base", min_length=1)
    validation: ValidationConfig = ValidationConfig()
    objective: ObjectiveName = "episodic"
    head: MethodSpec = MethodSpec(name="prototype")
    classifier: MethodSpec = MethodSpec(name="linear")
    way: int = Field(default=5, ge=2)
    shot: PositiveCount = 1
    query: PositiveCount = 2
    batch: PositiveCount = 4
    clips: PositiveCount = 32
    steps: PositiveCount = 300
    lr: PositiveFinite = 1e-3
    head_lr: PositiveFinite = 1e-2
    weight_decay: float = Field(default=0.01, ge=0, allow_inf_nan=False)
    warmup: Fraction = 0.1
    schedule: Literal["cosine", "constant"] = "cosine"
    clip_norm: Annotated[
        PositiveFinite | None,
        BeforeValidator(_off_is_none, json_schema_input_type=PositiveFloat | Literal["off"] | None),
    ] = 1.0
    accumulate: PositiveCount = 1
    checkpointing: bool = False
    augment: AugmentConfig = AugmentConfig()
    inner: InnerLoopConfig = InnerLoopConfig()
    save_every: NonNegativeInt = 50

    @field_validator("subset")
    @classmethod
    def _check_training_subset(cls, subset: str) -> str:
        if subset in _EVALUATION_SUBSETS:
            raise ValueError(
                f"the {subset} {_EVALUATION_SUBSETS[subset]} are for evaluation; train on others"
            )
        return subset

    @field_validator("classifier")
    @classmethod
    def _check_linear_classifier(cls, classifier: MethodSpec) -> MethodSpec:
        if classifier.name != "linear":
            raise ValueError("expected linear, with options or without")
        return classifier

    @model_validator(mode="after")
    def _check_validation_subset(self) -> TrainingConfig:
        val_subset = self.validation.subset
        if val_subset in _EVALUATION_SUBSETS:
            raise ValueError(
                f"validation.subset is {val_subset!r}: choosing a state on the "
                f"{_EVALUATION_SUBSETS[val_subset]} of the evaluation would make its figures too "
                f"good; name another subset, or hold out `classes` of {self.subset!r}"
            )
        if val_subset == self.subset:
            raise ValueError(
                f"subset and validation.subset are both {val_subset!r}: what is trained on cannot "
                "tell which state is best; name another subset, or hold out `classes`"
            )
        return self

    @model_validator(mode="after")
    def _check_accumulate(self) -> TrainingConfig:
        used_by_key = {"batch": self.wants_episodes, "clips": self.wants_clips}
        for key in (key for key, used in used_by_key.items() if used):
            if getattr(self, key) % self.accumulate:
                raise ValueError(
                    f"accumulate {self.accumulate} does not divide {key} {getattr(self, key)}: "
                    "expected parts of equal size"
                )
        return self

    @model_validator(mode="after")
    def _check_second_order(self) -> TrainingConfig:
        if self.inner.second_order and self.objective not in ("maml", "meta-sgd", "anil"):
            raise ValueError(
                f"inner.second_order has no meaning for the objective {self.objective}: expected "
                "maml, meta-sgd or anil with it"
            )
        return self

    @model_validator(mode="after")
    def _check_temporal_jitter(self) -> TrainingConfig:
        if self.augment.temporal and self.video.policy != "segment-center":
            raise ValueError(
                "augment.temporal chooses frames within segments and needs video.policy "
                f"segment-center; with {self.video.policy} give augment.temporal: false"
            )
        return self

    @property
    def wants_episodes(self) -> bool:
        """Whether a step has episodes."""
        return self.objective != "classify"

    @property
    def wants_clips(self) -> bool:
        """Whether a step has clips labelled among all classes."""
        return self.objective in ("classify", "both")

    @property
    def clips_per_step(self) -> int:
        """Clips that one step sees."""
        episodes = self.batch * self.way * (self.shot + self.query) * self.wants_episodes
        return episodes + self.clips * self.wants_clips

    @property
    def output_folder(self) -> Path:
        """Where the starting point goes."""
        return self.output or Path("starts") / self.name

    def identity(self) -> dict[str, Any]:
        """What decides the result, in plain types.

        Folders, device and workers are left out; split and weights are named.
        """
        excluded = {"name", "source", "root", "output", "workers", "cache", "verify", "device"}
        config = self.model_dump(mode="json", exclude=excluded | {"save_every", "limits"})
        config["split"] = re.sub(r"\.ya?ml$", "", Path(self.split).name)
        encoder = config["encoder"]
        if encoder["architecture"] is not None:
            encoder["architecture"] = file_name(encoder["architecture"])
        if encoder["pretrained"] is not None:
            encoder["pretrained"] = map_weights_file(encoder["pretrained"], file_name)
        return config
