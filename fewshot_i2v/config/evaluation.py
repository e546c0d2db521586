"""The configuration of an evaluation: frozen, validated models.

Flags win over the file, the file over the defaults. Needs no torch. Every key has a type, a range
and a default or is required; unknown keys are errors naming the nearest.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    SerializerFunctionWrapHandler,
    field_serializer,
    model_serializer,
    model_validator,
)

from fewshot_i2v.config.base import EncoderConfig, FinetuneConfig, LimitsConfig, VideoConfig
from fewshot_i2v.config.episodes import (
    DEFAULTS_OF_LATER_KEYS,
    EpisodeConfig,
    Shot,
    Shots,
    TrainingSeeds,
    as_tuple,
    require_unique,
)
from fewshot_i2v.config.file_names import file_name, map_weights_file
from fewshot_i2v.config.method import MethodSpec, parse_value
from fewshot_i2v.config.start_names import FRESH, start_name_of

__all__ = [
    "EncoderConfig",
    "EvaluationConfig",
    "FinetuneConfig",
    "LimitsConfig",
    "MethodSpec",
    "RowConfig",
    "RowSettings",
    "VideoConfig",
    "parse_value",
]

# They change where, how fast and how many, not what an episode gives.
_NON_IDENTITY_KEYS = {
    "name", "source", "root", "episodes", "output", "max_failed", "workers", "cache",
    "verify", "device", "at_once", "slug", "start", "allow_seen", "trials", "partitions", "until",
    "max_episodes", "limits",
}  # fmt: skip


def _starts_as_text(value: object) -> object:
    values = value if isinstance(value, (list, tuple)) else (value,)
    return tuple(str(start) if isinstance(start, Path) else start for start in values)


def _check_at_once(value: object) -> object:
    is_count = isinstance(value, int) and not isinstance(value, bool) and value >= 1
    if not is_count and value != "auto":
        raise ValueError("expected a number of episodes from 1, or auto")
    return value


Starts = Annotated[
    tuple[Annotated[str, Field(min_length=1)], ...],
    BeforeValidator(_starts_as_text, json_schema_input_type=str | list[str]),
    AfterValidator(require_unique),
]
MethodSpecs = Annotated[
    tuple[MethodSpec, ...],
    BeforeValidator(as_tuple, json_schema_input_type=MethodSpec | list[MethodSpec]),
    AfterValidator(require_unique),
]


class RowSettings(EpisodeConfig):
    """Keys that an evaluation shares with its rows."""

    allow_seen: bool = False
    tuning: FinetuneConfig = FinetuneConfig()
    at_once: Annotated[int | Literal["auto"], BeforeValidator(_check_at_once)] = "auto"
    max_failed: int = Field(default=0, ge=0)


class RowConfig(RowSettings):
    """One adapter, start, head and shot of an evaluation; other keys as in `EvaluationConfig`.

    Attributes:
        adapter: the adapter with its options.
        start: "fresh", or the starting point's name or path.
        head: the head with its options.
        shot: support clips per class.
        tuning: the evaluation's `tuning` with the adapter's recipe on top.
        slug: name of the row's folder, unique in the run.
        training_seed: of initial parameters, batches and augmentation; None: `seed`.
    """

    adapter: MethodSpec
    start: str = FRESH
    head: MethodSpec
    shot: Shot
    slug: str
    training_seed: int | None = None

    @property
    def effective_training_seed(self) -> int:
        """The seed of all random training choices; episodes use `seed`."""
        return self.seed if self.training_seed is None else self.training_seed

    def identity(self) -> dict[str, Any]:
        """What decides the results, in plain types: rows with equal identities can be continued.

        Paths, device, workers and number of episodes are left out. Split, weights and start are
        named here; their digests are stored beside the identity. A fresh start is left out, and so
        are keys of later versions at their defaults: older rows can be continued.
        """
        config = self.model_dump(mode="json", exclude=_NON_IDENTITY_KEYS)
        config["split"] = re.sub(r"\.ya?ml$", "", Path(self.split).name)
        encoder = config["encoder"]
        if encoder["architecture"] is not None:
            encoder["architecture"] = file_name(encoder["architecture"])
        if encoder["pretrained"] is not None:
            encoder["pretrained"] = map_weights_file(encoder["pretrained"], file_name)
        if self.start != FRESH:
            config["start"] = start_name_of(self.start)
        for key, default in {**DEFAULTS_OF_LATER_KEYS, "frame_order": "natural"}.items():
            if config[key] == default:
                del config[key]
        if self.training_seed is None:
            del config["training_seed"]
        if self.tuning.batch is None:
            del config["tuning"]["batch"]
        return config


class EvaluationConfig(RowSettings):
    """An evaluation: adapters × starts × heads × shots on the same episodes.

    Attributes:
        name: of the run; by default the stem of its YAML file.
        source: where the recipe is from.
        split: name of a shipped split, or the path of a split's YAML file.
        root: folder of the clips, for splits that name files.
        subset: subset of the split's classes to draw from; "test": support clips come from train.
        way: classes of an episode, at least 2; a range such as "5-10"; "all".
        shot: support clips per class, one or several numbers, or ranges such as "1-5".
        query: query clips per class; "all": all clips that are not support clips.
        episodes: episodes of each row; "all": as many as exist, where their number is limited.
        until: instead of `episodes`: draw episodes until the mean accuracy of every row has this
            half-width (points of 100) at 95 %, see `fewshot_i2v.statistics.stopping`.
        max_episodes: with `until`, the maximum number of episodes of each row.
        sampling: "independent" or "disjoint": no clip is in two episodes.
        seed: of episodes, initial parameters and augmentation.
        disjoint_groups: whether support and query clips of an episode never share a group.
        uneven_shots: with a range of shots, whether each class has its own number.
        draws: published draws of support clips, by name.
        partitions: of the clips, with disjoint sampling; 1: no clip is used twice.
        trials: file of frozen episodes, or the name of shipped ones, instead of drawing any.
        frame_order: order of frames in support and query clips: "natural"; "shuffled" (random, but
            fixed per clip) or "reversed" to test what depends on frame order; "single" (every frame
            replaced by the middle one) to test what depends on having several frames.
        encoder: the frozen image encoder.
        video: which frames are sampled.
        limits: decoding limits of a clip.
        adapter: one or several adapters; the default is the frozen encoder alone, the baseline.
        start: initial weights of the adapters in each episode, one or several: "fresh", the name of
            a shipped starting point, or a folder with one or several.
        allow_seen: also evaluate what a starting point was trained or selected on.
        head: one or several heads.
        training_seeds: of initial parameters, batches and augmentation: every row is run once for
            each, on the same episodes; empty: once, with `seed`.
        tokens: the heads' input from each frame, unless their options set it: "summary" or "gridG"
            such as grid4; None: the heads' default.
        tuning: how adapter and head are fine-tuned.
        recipes: by adapter name, the tuning keys that differ for it.
        precision: "fp32" or "bf16", of the frozen encoder.
        device: "auto", "cpu", "cuda" or "cuda:N".
        at_once: episodes tuned in parallel, or "auto".
        deterministic: refuse operations without a deterministic kernel.
        output: folder of the results; None: `runs/<name>`.
        max_failed: failed episodes of a row after which the run stops.
        workers: decoding processes; None: chosen by the machine.
        cache: folder of decoded clips; None: the user's cache folder.
        verify: read every clip again to identify it, whatever the cache has.
    """

    shot: Shots = (1,)
    adapter: MethodSpecs = (MethodSpec(name="frozen"),)
    start: Starts = (FRESH,)
    head: MethodSpecs = (MethodSpec(name="linear"),)
    training_seeds: TrainingSeeds = ()
    tokens: str | None = Field(default=None, pattern=r"^(summary|grid[1-9]\d?)$")
    recipes: dict[str, FinetuneConfig] = Field(default_factory=dict)

    @field_serializer("recipes")
    def _serialize_recipes(self, recipes: dict[str, FinetuneConfig]) -> dict[str, Any]:
        """Serialize only the keys that differ, so that recipes read back equal."""
        return {name: recipe.model_dump(exclude_unset=True) for name, recipe in recipes.items()}

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
