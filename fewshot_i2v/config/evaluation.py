"""What a run is: one frozen, validated model, from flags over a YAML file over defaults.

Nothing here needs torch. Every key has a type, a range and a default or is required; an unknown
key is an error that names the nearest known one.
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

from fewshot_i2v.config.base import EncoderConfig, LimitsConfig, TuningConfig, VideoConfig
from fewshot_i2v.config.episodes import (
    NEW_KEYS,
    EpisodeConfig,
    Shot,
    Shots,
    TrainingSeeds,
    listed,
    once,
)
from fewshot_i2v.config.file_names import file_name, with_file
from fewshot_i2v.config.method import Choice, parse_value
from fewshot_i2v.config.start_names import FRESH, name_of_start

__all__ = [
    "Choice",
    "EncoderConfig",
    "LimitsConfig",
    "RowConfig",
    "RowSettings",
    "RunConfig",
    "TuningConfig",
    "VideoConfig",
    "parse_value",
]

# They change where, how fast and how many, not what an episode gives.
_NOT_IDENTITY = {
    "name", "source", "root", "episodes", "output", "max_failed", "workers", "cache",
    "verify", "device", "at_once", "slug", "start", "allow_seen", "trials", "partitions", "until",
    "max_episodes", "limits",
}  # fmt: skip


def _start_texts(value: object) -> object:
    values = value if isinstance(value, (list, tuple)) else (value,)
    return tuple(str(v) if isinstance(v, Path) else v for v in values)


def _at_once(value: object) -> object:
    number = isinstance(value, int) and not isinstance(value, bool) and value >= 1
    if not number and value != "auto":
        raise ValueError("expected a number of episodes from 1, or auto")
    return value


Starts = Annotated[
    tuple[Annotated[str, Field(min_length=1)], ...],
    BeforeValidator(_start_texts, json_schema_input_type=str | list[str]),
    AfterValidator(once),
]
Choices = Annotated[
    tuple[Choice, ...],
    BeforeValidator(listed, json_schema_input_type=Choice | list[Choice]),
    AfterValidator(once),
]


class RowSettings(EpisodeConfig):
    """What a run and each of its rows have in common."""

    allow_seen: bool = False
    tuning: TuningConfig = TuningConfig()
    at_once: Annotated[int | Literal["auto"], BeforeValidator(_at_once)] = "auto"
    max_failed: int = Field(default=0, ge=0)


class RowConfig(RowSettings):
    """One adapter, start, head and shot of a run; the other keys are those of `RunConfig`.

    Attributes:
        adapter: the adapter with its options.
        start: "fresh", or the starting point's name or path.
        head: the head with its options.
        shot: support clips per class.
        tuning: the run's tuning with the adapter's recipe on top.
        slug: name of the row's folder, unique within the run.
        training_seed: of initial parameters, batches and augmentation; None: the run's seed.
    """

    adapter: Choice
    start: str = FRESH
    head: Choice
    shot: Shot
    slug: str
    training_seed: int | None = None

    @property
    def drawn_from(self) -> int:
        """The seed of all that is drawn in training; that of the episodes is `seed`."""
        return self.seed if self.training_seed is None else self.training_seed

    def identity(self) -> dict[str, Any]:
        """What decides the results, in plain types: rows with equal identities can be continued.

        Where things lie and how they are computed (folders, device, workers, number of episodes)
        is left out; split, weights and starting point stand in it by name, and their digests
        beside it. Without a starting point there is no word of one, nor of the keys that came
        later where they are at their defaults: older rows can be continued.
        """
        plain = self.model_dump(mode="json", exclude=_NOT_IDENTITY)
        plain["split"] = re.sub(r"\.ya?ml$", "", Path(self.split).name)
        encoder = plain["encoder"]
        if encoder["architecture"] is not None:
            encoder["architecture"] = file_name(encoder["architecture"])
        if encoder["pretrained"] is not None:
            encoder["pretrained"] = with_file(encoder["pretrained"], file_name)
        if self.start != FRESH:
            plain["start"] = name_of_start(self.start)
        for key, usual in {**NEW_KEYS, "frame_order": "natural"}.items():
            if plain[key] == usual:
                del plain[key]
        if self.training_seed is None:
            del plain["training_seed"]
        if self.tuning.batch is None:
            del plain["tuning"]["batch"]
        return plain


class RunConfig(RowSettings):
    """A run: adapters × starts × heads × shots on the same episodes.

    Attributes:
        name: of the run; the stem of its YAML file when not given.
        source: where the recipe is from.
        split: name of a shipped split, or the path of a split's YAML file.
        root: folder of the clips, for splits that name files.
        subset: subset of the split's classes to draw from; "test": support clips come from train.
        way: classes of an episode, at least 2; a range such as "5-10"; "all".
        shot: support clips per class, one or several numbers, or ranges such as "1-5".
        query: query clips per class; "all": all that are not support clips.
        episodes: episodes of each row; "all": as many as there are, where they are limited.
        until: in place of `episodes`: as many as it takes for the mean accuracy of every row to be
            known to plus or minus so many points (of 100) at 95 %, see
            `fewshot_i2v.statistics.sequential_stopping`.
        max_episodes: with `until`, most episodes of each row.
        sampling: "independent" or "disjoint": no clip is in two episodes.
        seed: of episodes, initial parameters and augmentation.
        disjoint_groups: whether support and query clips of an episode never share a group.
        uneven_shots: with a range of shots, whether each class has its own number.
        draws: published draws of support clips, by name.
        partitions: of the clips, with disjoint sampling; 1: no clip is used twice.
        trials: file of frozen episodes, or the name of shipped ones, in place of drawing any.
        frame_order: "natural"; to see what rests on the order of frames, "shuffled" (at random, but
            for a clip always the same) or "reversed"; to see what rests on there being several,
            "single" (each is replaced by the middle one); of support and query clips alike.
        encoder: the frozen image encoder.
        video: which frames are seen.
        limits: what a clip may take.
        adapter: one or several adapters; the frozen encoder alone, which others are compared with.
        start: what the adapters of each episode begin as, one or several: "fresh", the name of a
            shipped starting point, or the folder of one or of several.
        allow_seen: also evaluate what a starting point was trained on, or its state chosen on.
        head: one or several heads.
        training_seeds: of initial parameters, batches and augmentation: every row is run once for
            each, on the same episodes; empty: once, with `seed`.
        tokens: what heads see of a frame, where their own options do not say: "summary" or "gridG"
            such as grid4; None: the heads' default.
        tuning: how adapter and head are fine-tuned.
        recipes: by adapter name, the tuning keys that differ for it.
        precision: "fp32" or "bf16", of the frozen encoder.
        device: "auto", "cpu", "cuda" or "cuda:N".
        at_once: episodes tuned side by side, or "auto".
        deterministic: refuse operations without a deterministic kernel.
        output: folder of the results; None: `runs/<name>`.
        max_failed: failed episodes of a row after which the run stops.
        workers: decoding processes; None: chosen by the machine.
        cache: folder of decoded clips; None: the user's cache folder.
        verify: read every clip once more to know which it is, whatever the cache remembers.
    """

    shot: Shots = (1,)
    adapter: Choices = (Choice(name="frozen"),)
    start: Starts = (FRESH,)
    head: Choices = (Choice(name="linear"),)
    training_seeds: TrainingSeeds = ()
    tokens: str | None = Field(default=None, pattern=r"^(summary|grid[1-9]\d?)$")
    recipes: dict[str, TuningConfig] = Field(default_factory=dict)

    @field_serializer("recipes")
    def _recipe_keys(self, recipes: dict[str, TuningConfig]) -> dict[str, Any]:
        """Only the keys that differ, so that what is written reads back as the same."""
        return {name: recipe.model_dump(exclude_unset=True) for name, recipe in recipes.items()}

    @model_validator(mode="after")
    def _one_number_of_episodes(self) -> RunConfig:
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
    def _what_reads_back(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without the number of episodes that does not count, which would be refused."""
        unused = ("until", "max_episodes") if self.until is None else ("episodes",)
        return {key: value for key, value in plain(self).items() if key not in unused}

    @property
    def output_folder(self) -> Path:
        """Where the results go."""
        return self.output or Path("runs") / self.name
