"""The configuration of an evaluation, and of each of its rows: frozen, validated models.

Needs no torch. Every key has a type, a range and a default or is required; unknown keys are errors
that name the nearest.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    SerializerFunctionWrapHandler,
    field_serializer,
    model_serializer,
    model_validator,
)

from fewshot_i2v.config.base import CommonConfig, FinetuneConfig, ValueForm
from fewshot_i2v.config.class_texts import ClassTextsKey
from fewshot_i2v.config.episodes import (
    DEFAULTS_OF_LATER_KEYS,
    EpisodeConfig,
    Shot,
    Shots,
    TrainingSeeds,
    as_tuple,
    require_unique,
)
from fewshot_i2v.config.method import MethodSpec
from fewshot_i2v.config.readouts import Readouts
from fewshot_i2v.config.start_names import FRESH, START, start_name_of
from fewshot_i2v.utils.bibtex import parse_entries


def _starts_as_text(value: object) -> object:
    values = value if isinstance(value, (list, tuple)) else (value,)
    return tuple(str(start) if isinstance(start, Path) else start for start in values)


def _check_citation(text: str) -> str:
    try:
        parse_entries(text)
    except ValueError as error:
        raise ValueError(f"expected BibTeX entries: {error}") from error
    return text


def _check_at_once(value: object) -> object:
    is_count = isinstance(value, int) and not isinstance(value, bool) and value >= 1
    if not is_count and value != "auto":
        raise ValueError("expected a number of episodes from 1, or auto")
    return value


Starts = Annotated[
    tuple[Annotated[str, Field(min_length=1)], ...],
    BeforeValidator(_starts_as_text, json_schema_input_type=str | list[str]),
    AfterValidator(require_unique),
    START,
    ValueForm("fresh|NAME|FOLDER"),
]
MethodSpecs = Annotated[
    tuple[MethodSpec, ...],
    BeforeValidator(as_tuple, json_schema_input_type=MethodSpec | list[MethodSpec]),
    AfterValidator(require_unique),
]


DEFAULTS_OF_LATER_TUNING_KEYS: dict[str, Any] = {
    "batch": None,
    "recipe": "none",
    "optimizer": "adamw",
    "label_smoothing": 0.0,
    "untuned_weight": 0.0,
    "min_loss": 0.0,
}
"""Keys that rows of earlier versions do not have, with the values that change nothing."""


KEPT_SETTINGS = ("device", "at_once", "max_failed", "limits")
"""Keys that decide no result, and without which a command may not go on with a run."""


class RowSettings(EpisodeConfig):
    """Keys that an evaluation shares with its rows."""

    citation: Annotated[str, AfterValidator(_check_citation)] = Field(
        default="",
        description="BibTeX entries of the protocol that it follows, for `report --out NAME.bib`.",
    )
    class_texts: ClassTextsKey = Field(
        default=None,
        description="Texts that heads read in place of class names: a YAML or JSON file (or a "
        "mapping) with a text or a list of texts for each class; by default the class names of the "
        "split.",
    )
    allow_seen: bool = Field(
        default=False,
        description="Also evaluate what a starting point was trained or selected on.",
    )
    tuning: FinetuneConfig = Field(
        default=FinetuneConfig(),
        description="Fine-tuning of adapter and head on the support clips of each episode.",
    )
    at_once: Annotated[
        int | Literal["auto"], BeforeValidator(_check_at_once), ValueForm("INTEGER|auto")
    ] = Field(default="auto", description="Episodes tuned side by side.")
    max_failed: int = Field(
        default=0, ge=0, description="Failed episodes of a row after which the run stops."
    )

    @model_validator(mode="after")
    def _check_tuning(self) -> RowSettings:
        self.video.check_jitter("tuning", self.tuning.temporal)
        return self


class RowConfig(RowSettings):
    """One adapter, start, head and shot of an evaluation."""

    NON_IDENTITY_KEYS: ClassVar[frozenset[str]] = CommonConfig.NON_IDENTITY_KEYS | {
        *("episodes", "max_failed", "at_once", "slug", "start", "allow_seen"),
        *("trials", "partitions", "until", "max_episodes", "citation"),
    }

    adapter: MethodSpec = Field(description="The adapter with its options.")
    start: str = Field(
        default=FRESH, description="fresh, or the name or path of the starting point."
    )
    head: MethodSpec = Field(description="The head with its options.")
    shot: Shot = Field(description="Support clips per class.")
    slug: str = Field(description="Name of the row's folder, unique in the run.")
    training_seed: int | None = Field(
        default=None,
        description="Seed of initial parameters, batches and augmentation; by default `seed`.",
    )

    def settings_beside_identity(self) -> dict[str, Any]:
        """What going on with the row needs beside its identity, in plain types: no defaults."""
        section = self.model_dump(mode="json", include=set(KEPT_SETTINGS), exclude_defaults=True)
        return {key: section[key] for key in KEPT_SETTINGS if section.get(key)}

    @property
    def effective_training_seed(self) -> int:
        """The seed of all random training choices; episodes use `seed`."""
        return self.seed if self.training_seed is None else self.training_seed

    def identity(self) -> dict[str, Any]:
        """What decides the results, in plain types: rows with equal identities can be continued.

        A fresh start is left out, and so are keys of later versions at their defaults: older rows
        can be continued. Of another start the name is here, and its digest beside the identity.
        Texts of classes are here themselves, whatever file they are from.
        """
        config = super().identity()
        del config["class_texts"]
        if self.class_texts is not None:
            config["class_texts"] = self.class_texts.to_plain()
        if self.start != FRESH:
            config["start"] = start_name_of(self.start)
        for key, default in {**DEFAULTS_OF_LATER_KEYS, "frame_order": "natural"}.items():
            if config[key] == default:
                del config[key]
        if self.training_seed is None:
            del config["training_seed"]
        if not self.tuning.augments:
            # with augmentation they stay: an earlier version drew its random values otherwise
            for key in ("colour", "temporal", "views"):
                del config["tuning"][key]
        for key, default in DEFAULTS_OF_LATER_TUNING_KEYS.items():
            if config["tuning"][key] == default:
                del config["tuning"][key]
        return config


class EvaluationConfig(RowSettings):
    """An evaluation: adapters × starts × heads × shots on the same episodes."""

    shot: Shots = Field(default=(1,), description="Support clips per class.")
    adapter: MethodSpecs = Field(
        default=(MethodSpec(name="frozen"),),
        description="Adapter with its options, a name from `fewshot-i2v list adapters`. As a flag, "
        "it drops the file's starts of other adapters.",
    )
    start: Starts = Field(
        default=(FRESH,),
        description="Starting point of the adapters: fresh (untrained), a name from `fewshot-i2v "
        "list starts`, or a folder with one or several.",
    )
    head: MethodSpecs = Field(
        default=(MethodSpec(name="linear"),),
        description="Head with its options, a name from `fewshot-i2v list heads`.",
    )
    training_seeds: TrainingSeeds = Field(
        default=(),
        description="Seed of initial parameters, batches and augmentation: each row is run once "
        "for each, on the same episodes; by default once, with `seed`.",
    )
    untuned: bool = Field(
        default=False,
        description="Also evaluate adapters of trained starts as they start, without fine-tuning: "
        "what the tuning itself brings.",
    )
    tokens: Readouts | None = Field(
        default=None,
        description="What heads see of each frame, unless their options say it: summary, "
        "projected, gridN such as grid4, motion, or several joined by +; with frozen- before a "
        "name it is read of the frozen encoder; by default summary.",
    )
    recipes: dict[str, FinetuneConfig] = Field(
        default_factory=dict,
        description="By adapter name, the tuning keys that differ for it.",
    )

    @field_serializer("recipes")
    def _serialize_recipes(self, recipes: dict[str, FinetuneConfig]) -> dict[str, Any]:
        """Serialize only the keys that differ, so that recipes read back equal."""
        return {name: recipe.model_dump(exclude_unset=True) for name, recipe in recipes.items()}

    @model_validator(mode="after")
    def _check_recipes(self) -> EvaluationConfig:
        for name, recipe in self.recipes.items():
            self.video.check_jitter(f"recipes.{name}", recipe.temporal)
        return self

    @model_validator(mode="after")
    def _check_episode_count(self) -> EvaluationConfig:
        if self.until is not None and "episodes" in self.model_fields_set:
            raise ValueError(
                f"episodes: got {self.episodes!r} beside until {self.until:g}; expected one of "
                "them (max_episodes limits what until may take)"
            )
        if self.until is None and "max_episodes" in self.model_fields_set:
            raise ValueError(
                f"max_episodes: got {self.max_episodes} without until; give until, or episodes"
            )
        return self

    @model_serializer(mode="wrap")
    def _serialize_used_keys(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Serialize without the unused episode keys, which would be refused on reading."""
        unused_keys = ("until", "max_episodes") if self.until is None else ("episodes",)
        return {key: value for key, value in serialize(self).items() if key not in unused_keys}

    @property
    def output_folder(self) -> Path:
        """Where the results go."""
        return self.output or Path("runs") / self.name
