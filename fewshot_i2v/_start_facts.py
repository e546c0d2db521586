"""What a starting point says of its training, and whether a run reads its clips likewise."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from fewshot_i2v._config_models import VideoConfig


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
