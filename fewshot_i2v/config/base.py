"""Configuration sections: encoder, video, limits, fine-tuning."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PositiveFloat,
    field_validator,
)

from fewshot_i2v.utils.limits import (
    DEFAULT_MAX_FRAMES,
    DEFAULT_MAX_MEMORY_GIB,
    DEFAULT_MAX_PIXELS,
    DEFAULT_MAX_SECONDS,
)

MAX_COUNT = 1_000_000
"""The largest number of episodes, steps or clips: far more than anybody waits for."""
PositiveCount = Annotated[int, Field(gt=0, le=MAX_COUNT)]
_MIN_MEMORY_GIB = 0.5


class ConfigSection(BaseModel):
    """Base of all configuration models: frozen, strictly typed, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    @field_validator("*", mode="before")
    @classmethod
    def _reject_nul(cls, value: object) -> object:
        """Refuse NUL characters in text and paths: for the system they end a name."""
        values = value if isinstance(value, (list, tuple)) else (value,)
        if any(isinstance(item, (str, Path)) and "\0" in str(item) for item in values):
            raise ValueError("expected text without a NUL character")
        return value


def _per_channel(value: object) -> object:
    """Check one number or one per colour channel."""
    items = list(value) if isinstance(value, (list, tuple)) else [value]
    numbers = [
        item for item in items if isinstance(item, (int, float)) and not isinstance(item, bool)
    ]
    if value is None:
        return None
    if len(numbers) != len(items) or len(items) not in (1, 3):
        raise ValueError("expected one number, or three (red, green, blue)")
    if not all(math.isfinite(number) for number in numbers):
        raise ValueError("expected finite numbers")
    return float(numbers[0]) if len(numbers) == 1 else tuple(float(number) for number in numbers)


def _check_positive(value: object) -> object:
    numbers = value if isinstance(value, tuple) else (value,)
    if any(number is not None and number <= 0 for number in numbers):
        raise ValueError("expected numbers greater than 0")
    return value


PerChannel = Annotated[
    float | tuple[float, float, float] | None,
    BeforeValidator(_per_channel, json_schema_input_type=float | list[float] | None),
]


class EncoderConfig(ConfigSection):
    """The frozen image encoder.

    Attributes:
        name: an encoder as listed by `fewshot-i2v list encoders`, or an open_clip model name.
        pretrained: an open_clip tag, the path of a checkpoint, "TAG@PATH" (all settings of a tag,
            the bytes of a file), or the word "random"; None: the weights that belong to the
            encoder's name.
        architecture: the user's open_clip model configuration (JSON).
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
    std: Annotated[PerChannel, AfterValidator(_check_positive)] = None


class VideoConfig(ConfigSection):
    """Which frames of a clip are sampled.

    Attributes:
        frames: frames T of a clip, 1 to 4096.
        policy: "segment-center" (the middle of each of T equal segments), "uniform" (first to last
            frame, evenly) or "dense" (T frames, `stride` apart, around the middle).
        stride: frames between two sampled ones, for "dense".
        crop: side of the central square crop, as a fraction of the shorter side, in (0, 1].
        backend: "pyav"; or "decord", for comparisons with programs that use it.
    """

    frames: int = Field(default=8, gt=0, le=4096)
    policy: Literal["segment-center", "uniform", "dense"] = "segment-center"
    stride: PositiveCount = 1
    crop: float = Field(default=0.875, gt=0, le=1)
    backend: Literal["pyav", "decord"] = "pyav"


def _check_memory(memory: float) -> float:
    if 0 < memory < _MIN_MEMORY_GIB:
        raise ValueError(
            f"expected 0 for no limit, or at least {_MIN_MEMORY_GIB} GiB: decoders alone need that"
        )
    return memory


class LimitsConfig(ConfigSection):
    """Decoding limits of one clip: for safety, not to exclude long clips.

    They decide whether a clip is read, never what is read: runs that differ in them are the same.

    Attributes:
        frames: maximum frames of its file.
        pixels: maximum pixels of a frame.
        seconds: maximum processor time for reading it, in seconds. A decoder that hangs without
            computing is stopped after four times as long by the clock; this also counts on Windows.
        memory: maximum memory of a decoding process, in GiB, from 0.5; 0: no limit. Not on Windows
            and macOS.
    """

    frames: Annotated[int, Field(gt=0)] = DEFAULT_MAX_FRAMES
    pixels: Annotated[int, Field(gt=0)] = DEFAULT_MAX_PIXELS
    seconds: float = Field(default=DEFAULT_MAX_SECONDS, gt=0, allow_inf_nan=False)
    memory: Annotated[float, Field(ge=0, allow_inf_nan=False), AfterValidator(_check_memory)] = (
        DEFAULT_MAX_MEMORY_GIB
    )


def _off_is_none(value: object) -> object:
    return None if value == "off" else value


def _check_area_range(value: tuple[float, float] | None) -> tuple[float, float] | None:
    if value is not None and not 0 < value[0] <= value[1] <= 1:
        raise ValueError("expected two fractions of the area, 0 < smallest <= largest <= 1")
    return value


class FinetuneConfig(ConfigSection):
    """How adapter and head are fine-tuned on the support clips, with AdamW.

    Attributes:
        steps: optimizer steps; 0 trains nothing, which needs a head without parameters.
        batch: support clips of a mini-batch, all in turn; None: all of them, which some heads need.
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

    steps: int = Field(default=30, ge=0, le=MAX_COUNT)
    batch: PositiveCount | None = None
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
        tuple[float, float] | None, Field(strict=False), AfterValidator(_check_area_range)
    ] = None


def _check_device(value: str) -> str:
    if not re.fullmatch(r"auto|cpu|cuda(:\d{1,3})?", value):
        raise ValueError("expected auto, cpu, cuda or cuda:N")
    return value


class CommonConfig(ConfigSection):
    """Clips, encoder, device and folders.

    Attributes:
        name: of the run; by default the stem of its YAML file.
        source: where the recipe is from.
        split: name of a shipped split, or the path of a split's YAML file.
        root: folder of the clips, for splits that name files.
        seed: of all random choices.
        encoder: the frozen image encoder.
        video: which frames are sampled.
        limits: decoding limits of a clip.
        precision: "fp32" or "bf16", of the frozen encoder.
        device: "auto", "cpu", "cuda" or "cuda:N".
        deterministic: refuse operations without a deterministic kernel.
        output: folder of the results.
        workers: decoding processes; None: chosen by the machine.
        cache: folder of decoded clips; None: the user's cache folder.
        verify: read every clip again to identify it, even if the cache has its digest.
    """

    name: str = Field(default="run", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    source: str = ""
    split: str = Field(min_length=1)
    root: Annotated[Path | None, Field(strict=False)] = None
    seed: int = Field(default=0, ge=0, lt=2**63)
    encoder: EncoderConfig = EncoderConfig()
    video: VideoConfig = VideoConfig()
    limits: LimitsConfig = LimitsConfig()
    precision: Literal["fp32", "bf16"] = "fp32"
    device: Annotated[str, AfterValidator(_check_device)] = "auto"
    deterministic: bool = False
    output: Annotated[Path | None, Field(strict=False)] = None
    workers: PositiveCount | None = None
    cache: Annotated[Path | None, Field(strict=False)] = None
    verify: bool = False
