"""The sections of a run configuration: encoder, video, tuning, and the choice of a plug-in."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    model_validator,
)
from pydantic.config import JsonDict

from fewshot_i2v.errors import ConfigError, UsageError
from fewshot_i2v.yaml_loader import parse_yaml

# What a YAML reader would take for the same string without quotes.
_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_./+-]*")
_NOT_STRINGS = {"true", "false", "null"}


class Section(BaseModel):
    """Base of all configuration models: frozen, typed strictly, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


def _per_channel(value: object) -> object:
    """One number, or one number per colour channel."""
    items = list(value) if isinstance(value, (list, tuple)) else [value]
    numbers = [i for i in items if isinstance(i, (int, float)) and not isinstance(i, bool)]
    if value is None:
        return None
    if len(numbers) != len(items) or len(items) not in (1, 3):
        raise ValueError("expected one number, or three (red, green, blue)")
    if not all(math.isfinite(n) for n in numbers):
        raise ValueError("expected finite numbers")
    return float(numbers[0]) if len(numbers) == 1 else tuple(float(n) for n in numbers)


def _above_zero(value: object) -> object:
    numbers = value if isinstance(value, tuple) else (value,)
    if any(number is not None and number <= 0 for number in numbers):
        raise ValueError("expected numbers greater than 0")
    return value


PerChannel = Annotated[
    float | tuple[float, float, float] | None,
    BeforeValidator(_per_channel, json_schema_input_type=float | list[float] | None),
]


class EncoderConfig(Section):
    """The frozen image encoder.

    Attributes:
        name: an encoder as `fewshot-i2v list encoders` shows it, or an open_clip model name.
        pretrained: an open_clip tag, the path of a checkpoint, or the word "random"; None: the
            weights that belong to the encoder's name.
        architecture: an open_clip model configuration (JSON) of the user's own.
        image_size: side of a frame in pixels; None: the model's own.
        mean: subtracted from pixels in [0, 1], one number or one per channel; None: the constants
            that come with the weights.
        std: divides them after that; None as for `mean`.
    """

    name: str = Field(default="demo", min_length=1)
    pretrained: str | None = Field(default=None, min_length=1)
    architecture: Annotated[Path | None, Field(strict=False)] = None
    image_size: Annotated[int, Field(gt=0, le=4096)] | None = None
    mean: PerChannel = None
    std: Annotated[PerChannel, AfterValidator(_above_zero)] = None


class VideoConfig(Section):
    """Which frames of a clip are seen.

    Attributes:
        frames: frames T of a clip.
        policy: "segment-center" (the middle of each of T equal parts), "uniform" (first to last
            frame, evenly) or "dense" (T frames, `stride` apart, around the middle).
        stride: frames between two sampled ones, for "dense".
        crop: side of the central square that is kept, as a fraction of the shorter side, in (0, 1].
    """

    frames: PositiveInt = 8
    policy: Literal["segment-center", "uniform", "dense"] = "segment-center"
    stride: PositiveInt = 1
    crop: float = Field(default=0.875, gt=0, le=1)


def _off_is_none(value: object) -> object:
    return None if value == "off" else value


def _area_range(value: tuple[float, float] | None) -> tuple[float, float] | None:
    if value is not None and not 0 < value[0] <= value[1] <= 1:
        raise ValueError("expected two fractions of the area, 0 < smallest <= largest <= 1")
    return value


class TuningConfig(Section):
    """How adapter and head are fine-tuned on the support clips, with AdamW.

    Attributes:
        steps: optimizer steps, each over all support clips; 0 leaves adapter and head untrained.
        lr: learning rate of the adapter.
        head_lr: learning rate of the head.
        weight_decay: on matrices; biases and norms have none.
        warmup: fraction of the steps with a linearly growing rate, 0 to 1.
        schedule: after that "cosine" down to zero, or "constant".
        clip_norm: largest gradient norm of an episode; None (or "off"): no limit.
        flip: mirror half of the support clips: "off", "on", or "auto" (not in episodes with a
            class name that says left or right).
        crop_scale: smallest and largest area of a random resized crop, as fractions; None: none.
    """

    steps: int = Field(default=30, ge=0)
    lr: float = Field(default=1e-3, gt=0, allow_inf_nan=False)
    head_lr: float = Field(default=1e-2, gt=0, allow_inf_nan=False)
    weight_decay: float = Field(default=0.01, ge=0, allow_inf_nan=False)
    warmup: float = Field(default=0.1, ge=0, le=1)
    schedule: Literal["cosine", "constant"] = "cosine"
    clip_norm: Annotated[
        Annotated[float, Field(gt=0, allow_inf_nan=False)] | None,
        BeforeValidator(_off_is_none, json_schema_input_type=PositiveFloat | Literal["off"] | None),
    ] = 1.0
    flip: Literal["off", "auto", "on"] = "off"
    crop_scale: Annotated[
        tuple[float, float] | None, Field(strict=False), AfterValidator(_area_range)
    ] = None


def parse_value(text: str, origin: str) -> object:
    """The value of a YAML 1.2 scalar or flow list, as in `key=TEXT` on the command line.

    Args:
        text: "1e-3", "both", "[1, 2]", ...
        origin: where it was given, for messages.

    Raises:
        UsageError: when it is not YAML.
    """
    if "\n" in text:
        raise ConfigError(f"{origin}: {text!r} has a line break; expected one value")
    value: object = parse_yaml(f"value: {text}", origin)["value"]
    return value


def _split_options(text: str) -> Iterator[str]:
    """Parts between commas that stand outside quotes and brackets.

    As in YAML, a quotation mark counts where a value begins, and not inside a word.
    """
    depth, quote, start, before = 0, "", 0, "="
    for i, char in enumerate(text):
        if quote:
            escaped = quote == '"' and before == "\\"
            quote = "" if char == quote and not escaped else quote
            char = " " if escaped else char
        elif char in "\"'" and before in "=[{,: ":
            quote = char
        elif char == "," and depth == 0:
            yield text[start:i]
            start = i + 1
        else:
            depth += (char in "[{") - (char in "]}")
        before = char
    yield text[start:]


def _choice_from_text(text: str) -> dict[str, Any]:
    name, colon, rest = text.partition(":")
    options: dict[str, Any] = {}
    for part in _split_options(rest) if colon else ():
        key, equals, value = part.partition("=")
        key = key.strip()
        if not (equals and key and value.strip()):
            raise ValueError("expected NAME or NAME:key=value,key=value, as in st-adapter:width=64")
        if key in options:
            raise ValueError(f"the option {key!r} is given twice")
        try:
            options[key] = parse_value(value.strip(), f"{name}: {key}")
        except UsageError as error:
            raise ValueError(_unreadable(key, value.strip(), error)) from error
    return {"name": name.strip(), "options": options}


def _unreadable(key: str, value: str, error: UsageError) -> str:
    """Why an option's value is not YAML; braces outside quotes are most likely templates."""
    if not (value.startswith("[") and "{" in value):
        return str(error)
    example = '["a video of {}", "a clip of {}"]'
    return f"{key}={value} cannot be read as a list; quote each: {key}={example}"


def _choice_from_mapping(data: Mapping[str, Any]) -> dict[str, Any]:
    if data.keys() <= {"name", "options"} and isinstance(data.get("options", {}), Mapping):
        return dict(data)
    options = {key: value for key, value in data.items() if key != "name"}
    return {"options": options} | ({"name": data["name"]} if "name" in data else {})


def _choice_schema(schema: JsonDict) -> None:
    """A choice is also a string, or a mapping with its options beside the name."""
    whole = dict(schema)
    schema.clear()
    free: JsonDict = {
        "type": "object",
        "properties": {"name": {"type": "string"}},
        "required": ["name"],
    }
    schema["title"] = whole.pop("title", "Choice")
    schema["anyOf"] = [{"type": "string"}, free, whole]


class Choice(Section):
    """An adapter or a head with its options.

    Written as text, `st-adapter` or `st-adapter:sites=both,width=64`, or as a mapping with the
    options beside the name, `{name: st-adapter, sites: both}`.

    Attributes:
        name: as `fewshot-i2v list adapters` or `list heads` shows it.
        options: by name; checked when the adapter or head is built.
    """

    model_config = ConfigDict(json_schema_extra=_choice_schema)

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    options: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _from_short_forms(cls, data: object) -> object:
        if isinstance(data, str):
            return _choice_from_text(data)
        return _choice_from_mapping(data) if isinstance(data, Mapping) else data

    @classmethod
    def parse(cls, text: str) -> Choice:
        """Reads the text form.

        Raises:
            ConfigError: when the text is not NAME or NAME:key=value,key=value.
        """
        try:
            return cls.model_validate(text)
        except ValidationError as error:
            reason = error.errors()[0]["msg"].removeprefix("Value error, ")
            raise ConfigError(f"{text!r}: {reason}") from error

    @property
    def label(self) -> str:
        """The text form with sorted options; equal choices have equal labels."""
        parts = [f"{key}={value_text(value)}" for key, value in sorted(self.options.items())]
        return self.name + (":" + ",".join(parts) if parts else "")

    def __hash__(self) -> int:
        return hash(self.label)


def value_text(value: object) -> str:
    """A value as YAML text that reads back as the same value."""
    if isinstance(value, str):
        plain = _PLAIN.fullmatch(value) and value.lower() not in _NOT_STRINGS
        return value if plain else json.dumps(value, ensure_ascii=False)
    return json.dumps(value, ensure_ascii=False, sort_keys=True, default=str)
