"""The configuration of a training: frozen, validated models. Needs no torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    BeforeValidator,
    Field,
    NonNegativeInt,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

from fewshot_i2v.config.base import (
    AreaRange,
    CommonConfig,
    ConfigSection,
    FlipMode,
    Fraction,
    OptimizerConfig,
    PositiveCount,
    PositiveFinite,
    SupportLossConfig,
    ValueForm,
    off_is_none,
)
from fewshot_i2v.config.method import MethodSpec
from fewshot_i2v.config.start_names import FRESH, START

ObjectiveName = Literal["episodic", "classify", "both", "maml", "meta-sgd", "anil", "reptile"]
TrainingRecipeName = Literal["auto", "none"]
_EVALUATION_SUBSETS = {"novel": "classes", "test": "clips"}
"""Subsets that are never trained on, and what of them is asked about in evaluations."""
NO_AUGMENTATION = {"flip": "off", "crop_scale": None, "colour": 0.0, "temporal": False}


class AugmentConfig(ConfigSection):
    """Random changes of training clips, drawn anew at every step; never of validation clips.

    The word "off" in place of the section switches all of them off.
    """

    flip: FlipMode = Field(
        default="auto",
        description="Mirror half of the clips; auto: not where a class name of the subset says "
        "left or right.",
    )
    crop_scale: AreaRange = Field(
        default=(0.6, 1.0),
        description="Smallest and largest area of a random resized crop, as fractions.",
    )
    colour: Fraction = Field(
        default=0.3,
        description="Largest relative change of brightness, contrast and saturation of a clip.",
    )
    temporal: bool = Field(
        default=True,
        description="Take frames at random within their segments, not at the middle; needs the "
        "frame policy segment-center.",
    )

    @property
    def active(self) -> bool:
        """Whether clips are changed at all."""
        return self.model_dump() != NO_AUGMENTATION


class ValidationConfig(ConfigSection):
    """How a training is validated, and which state is selected."""

    subset: Annotated[str | None, BeforeValidator(off_is_none), ValueForm("NAME|off")] = Field(
        default="val",
        description="Subset whose classes select the state, never novel; off with `classes`, or to "
        "select the last state.",
    )
    classes: Annotated[tuple[str, ...], Field(strict=False)] = Field(
        default=(),
        description="Class of the training subset to hold out for this, where the split has no "
        "validation subset.",
    )
    every: PositiveCount = Field(
        default=50,
        description="Steps between two validations; there is one before the first step and one "
        "after the last.",
    )
    episodes: PositiveCount = Field(
        default=100,
        description="Episodes of each validation, the same every time and for every seed.",
    )
    way: Annotated[int, Field(ge=2)] | None = Field(
        default=None,
        description="Classes of an episode; by default as in training, or all where there are "
        "fewer.",
    )
    shot: PositiveCount = Field(default=1, description="Support clips per class.")
    query: PositiveCount = Field(default=5, description="Query clips per class.")
    head: MethodSpec = Field(
        default=MethodSpec(name="prototype", options={"pooling": "ordered", "center": True}),
        description="Head that scores the queries: without parameters, or the `head` of the "
        "training (not with classify and anil).",
    )

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


class _InnerSteps(ConfigSection):
    """The first keys of `InnerLoopConfig`: the order of keys in files is part of their format."""

    steps: PositiveCount = Field(default=5, description="Inner steps on the support clips.")
    lr: PositiveFinite = Field(
        default=0.01, description="Inner learning rate, of plain gradient descent."
    )
    second_order: bool = Field(
        default=False,
        description="Whether gradients go through the inner steps; without: first order.",
    )
    rate: Fraction = Field(
        default=0.5,
        description="Reptile: step from the start towards the fine-tuned weights, 0 to 1.",
    )


class InnerLoopConfig(SupportLossConfig, _InnerSteps):
    """Fine-tuning inside a step of meta-training; views are of the training's `augment`."""


class _TrainingTask(CommonConfig):
    """The first keys of `TrainingConfig`: the order of keys in files is part of their format."""

    adapter: MethodSpec = Field(description="Adapter to train, with its options.")
    subset: str = Field(
        default="base",
        min_length=1,
        description="Subset whose classes are trained on; never novel.",
    )
    validation: ValidationConfig = Field(
        default=ValidationConfig(),
        description="Validation episodes, by which the best state is selected.",
    )
    objective: ObjectiveName = Field(
        default="episodic",
        description="What is minimised: the loss of few-shot episodes, of classification among all "
        "classes, of both, or a meta-training (all but reptile need learn2learn).",
    )
    head: MethodSpec = Field(
        default=MethodSpec(name="prototype"),
        description="Head of the episodes and of meta-training, with its options. Parameters of "
        "its own are trained at head_lr, and the starting point holds them.",
    )
    classifier: MethodSpec = Field(
        default=MethodSpec(name="linear"),
        description="Classifier of classify and both: linear, with its options. It is thrown away.",
    )
    way: int = Field(default=5, ge=2, description="Classes of a training episode.")
    shot: PositiveCount = Field(default=1, description="Support clips per class.")
    query: PositiveCount = Field(default=2, description="Query clips per class.")
    batch: PositiveCount = Field(default=4, description="Episodes of a step.")
    clips: PositiveCount = Field(default=32, description="Clips of a step, for classification.")
    steps: PositiveCount = Field(default=300, description="Optimizer steps.")


class TrainingConfig(OptimizerConfig, _TrainingTask):
    """Training of one adapter on base classes."""

    # of a recipe the values that it sets are compared, as of rates by width
    NON_IDENTITY_KEYS: ClassVar[frozenset[str]] = CommonConfig.NON_IDENTITY_KEYS | {
        "save_every",
        "recipe",
        "start",  # its digest stands beside the identity
    }

    recipe: TrainingRecipeName = Field(
        default="auto",
        description="Settings for steps, learning rates, heads and validation.every that are not "
        "set. auto: those that were best for the adapter with the objective, where they were "
        "searched; none: the defaults of this list. See configs/recipes/.",
    )
    lr_by_width: dict[Annotated[int, Field(ge=1, strict=False)], PositiveFinite] = Field(
        default_factory=dict,
        description="Learning rate by the width of the encoder's tokens, where `lr` is not set: "
        "that of the smallest width which is not below the encoder's, or of the largest.",
    )
    accumulate: PositiveCount = Field(
        default=1, description="Equal micro-batches of a step, one after the other; saves memory."
    )
    checkpointing: bool = Field(
        default=False, description="Compute blocks again in the backward pass; saves memory."
    )
    augment: AugmentConfig = Field(
        default=AugmentConfig(), description="Random changes of the clips; off: none."
    )
    inner: InnerLoopConfig = Field(
        default=InnerLoopConfig(),
        description="Inner loop of meta-training: fine-tuning inside a step.",
    )
    save_every: NonNegativeInt = Field(
        default=50,
        description="Steps between two saved states that a killed training continues from; 0: only "
        "at validations.",
    )
    start: Annotated[str, START, ValueForm("fresh|NAME|FOLDER")] = Field(
        default=FRESH,
        min_length=1,
        description="Starting point that the training begins from, with its head where the method "
        "is the same: a name from `fewshot-i2v list starts`, or a folder; fresh: untrained.",
    )

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
    def _check_inner_loss(self) -> TrainingConfig:
        inner = self.inner
        is_set = inner.views > 1 or inner.label_smoothing > 0
        if is_set and self.objective in ("episodic", "classify", "both"):
            raise ValueError(
                f"inner.views and inner.label_smoothing have no meaning for the objective "
                f"{self.objective}: expected a meta-training with them, such as maml or reptile"
            )
        if inner.views > 1 and not self.augment.active:
            raise ValueError(
                f"inner.views: got {inner.views} with augment off, which makes equal views; give "
                "augment, or inner.views 1"
            )
        return self

    @model_validator(mode="after")
    def _check_temporal_jitter(self) -> TrainingConfig:
        self.video.check_jitter("augment", self.augment.temporal)
        return self

    @model_serializer(mode="wrap")
    def _serialize_used_rate(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Serialize without an `lr` that is not set, which would be used on reading."""
        unused_keys = ("lr",) if self.takes_lr_by_width else ()
        return {key: value for key, value in serialize(self).items() if key not in unused_keys}

    @property
    def takes_lr_by_width(self) -> bool:
        """Whether the learning rate is that of the encoder's width."""
        return bool(self.lr_by_width) and "lr" not in self.model_fields_set

    def at_width(self, width: int) -> TrainingConfig:
        """Returns the configuration with the learning rate for an encoder.

        Args:
            width: of the encoder's tokens, D.
        """
        if not self.takes_lr_by_width:
            return self.model_copy(update={"lr_by_width": {}})
        widths = sorted(self.lr_by_width)
        fitting = next((w for w in widths if w >= width), widths[-1])
        return self.model_copy(update={"lr": self.lr_by_width[fitting], "lr_by_width": {}})

    def identity(self) -> dict[str, Any]:
        """What decides the results; keys of later versions only where they are set.

        Trainings of earlier versions can so be continued.
        """
        config = super().identity()
        if not config["lr_by_width"]:
            del config["lr_by_width"]
        for key, field in SupportLossConfig.model_fields.items():
            if config["inner"][key] == field.default:
                del config["inner"][key]
        return config

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
        """Clips that one step sees, each view of a support clip counted."""
        clips_per_class = self.shot * self.inner.views + self.query
        episodes = self.batch * self.way * clips_per_class * self.wants_episodes
        return episodes + self.clips * self.wants_clips

    @property
    def output_folder(self) -> Path:
        """Where the starting point goes."""
        return self.output or Path("starts") / self.name
