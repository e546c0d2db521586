"""Configuration keys of both commands, and the sections encoder, video, limits and tuning.

The field of a key holds its type, range, default and text. The JSON schema, the flags with their
help and the guide's list of keys are made from it.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PositiveFloat,
    field_validator,
)

from fewshot_i2v.config.file_names import FILE, NAME_OR_FILE, WEIGHTS, file_name, map_weights_file
from fewshot_i2v.utils.limits import (
    DEFAULT_MAX_FRAMES,
    DEFAULT_MAX_MEMORY_GIB,
    DEFAULT_MAX_PIXELS,
    DEFAULT_MAX_SECONDS,
    ClipLimits,
)
from fewshot_i2v.utils.sizes import parse_size

MAX_COUNT = 1_000_000
"""The largest number of episodes, steps or clips: far more than anybody waits for."""
_MIN_MEMORY_GIB = 0.5


@dataclass(frozen=True)
class ValueForm:
    """How the value of a key is written, where its type alone does not say.

    Attributes:
        text: such as "N|all", for `--help` and the guide.
    """

    text: str


PositiveCount = Annotated[int, Field(gt=0, le=MAX_COUNT)]
PositiveFinite = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, le=1)]
OptionalPath = Annotated[Path | None, Field(strict=False), FILE]
FlipMode = Literal["off", "auto", "on"]
RecipeName = Literal["auto", "published", "fast", "none"]
OptimizerName = Literal["adamw", "start-rates"]


class ConfigSection(BaseModel):
    """Base of all configuration models: frozen, strictly typed, unknown keys refused."""

    # Validators are built on first use, since help and key tables read the fields alone.
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, defer_build=True)

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
    ValueForm("NUMBER[,NUMBER,NUMBER]"),
]


class EncoderConfig(ConfigSection):
    """The frozen image encoder."""

    name: str = Field(
        default="demo",
        min_length=1,
        description="Image encoder, a name from `fewshot-i2v list encoders` or of an open_clip "
        "model. A flag with another name drops the file's other encoder keys and its starts.",
    )
    pretrained: Annotated[str | None, WEIGHTS] = Field(
        default=None,
        min_length=1,
        description="Weights: an open_clip tag, the path of a checkpoint, TAG@PATH (the settings "
        "of a tag, the bytes of a file), or random; by default those of the encoder's name.",
    )
    architecture: OptionalPath = Field(
        default=None, description="Your own open_clip model configuration, a JSON file."
    )
    image_size: Annotated[int, Field(gt=0, le=4096)] | None = Field(
        default=None, description="Side of a frame in pixels; by default the model's own."
    )
    mean: PerChannel = Field(
        default=None,
        description="Mean of pixels in [0, 1], of all channels or of each; by default that of the "
        "weights.",
    )
    std: Annotated[PerChannel, AfterValidator(_check_positive)] = Field(
        default=None,
        description="Standard deviation of pixels in [0, 1], of all channels or of each; by "
        "default that of the weights.",
    )


class VideoConfig(ConfigSection):
    """Which frames of a clip are sampled."""

    frames: int = Field(default=8, gt=0, le=4096, description="Frames T of a clip.")
    policy: Literal["segment-center", "uniform", "dense"] = Field(
        default="segment-center",
        description="Which frames are taken: the middle of each of T equal segments, T from first "
        "to last (uniform), or T around the middle (dense).",
    )
    stride: PositiveCount = Field(
        default=1, description="Frames from one taken frame to the next, for dense."
    )
    crop: float = Field(
        default=0.875,
        gt=0,
        le=1,
        description="Side of the central square crop, as a fraction of the shorter side.",
    )
    backend: Literal["pyav", "decord"] = Field(
        default="pyav",
        description="Reader of video files; decord for comparisons with programs that use it.",
    )

    def check_jitter(self, section: str, temporal: bool) -> None:
        """Refuse `temporal` of a section where frames are not those of segments; ValueError."""
        if temporal and self.policy != "segment-center":
            raise ValueError(
                f"{section}.temporal chooses frames within segments and needs video.policy "
                f"segment-center; with {self.policy} give {section}.temporal: false"
            )


def _check_memory(memory: float) -> float:
    if 0 < memory < _MIN_MEMORY_GIB:
        raise ValueError(
            f"expected 0 for no limit, or at least {_MIN_MEMORY_GIB} GiB: decoders alone need that"
        )
    return memory


class LimitsConfig(ConfigSection):
    """Decoding limits of one clip: for safety, not to exclude long clips.

    They decide whether a clip is read, never what is read: runs that differ in them are the same.
    A decoder that hangs without computing is stopped after four times `seconds` by the clock, which
    is also what counts on Windows.
    """

    frames: Annotated[int, Field(gt=0)] = Field(
        default=DEFAULT_MAX_FRAMES, description="Maximum frames of a clip's file."
    )
    pixels: Annotated[int, Field(gt=0)] = Field(
        default=DEFAULT_MAX_PIXELS, description="Maximum pixels of a frame."
    )
    seconds: float = Field(
        default=DEFAULT_MAX_SECONDS,
        gt=0,
        allow_inf_nan=False,
        description="Maximum processor time for reading a clip, in seconds.",
    )
    memory: Annotated[float, Field(ge=0, allow_inf_nan=False), AfterValidator(_check_memory)] = (
        Field(
            default=DEFAULT_MAX_MEMORY_GIB,
            description=f"Maximum memory for reading a clip, in GiB, from {_MIN_MEMORY_GIB}; 0: no "
            "limit. Not on Windows and macOS.",
        )
    )

    def for_clips(self) -> ClipLimits:
        """Return the limits as the reader of clips takes them."""
        return ClipLimits(self.frames, self.pixels, self.seconds, self.memory)


def off_is_none(value: object) -> object:
    """Take the word off for None."""
    return None if value == "off" else value


def _number_or_off(value: object) -> object:
    if isinstance(value, str) and value != "off":
        raise ValueError("expected a number or off")
    return off_is_none(value)


def _check_area_range(value: object) -> object:
    if value is None:
        return None
    numbers = list(value) if isinstance(value, (list, tuple)) else []
    if not (
        len(numbers) == 2
        and all(isinstance(x, (int, float)) and not isinstance(x, bool) for x in numbers)
        and 0 < numbers[0] <= numbers[1] <= 1
    ):
        raise ValueError("expected two fractions of the area, 0 < smallest <= largest <= 1")
    return value


AreaRange = Annotated[
    tuple[float, float] | None,
    Field(strict=False),
    BeforeValidator(
        _check_area_range, json_schema_input_type=Annotated[tuple[float, float], None] | None
    ),
    ValueForm("[LOW, HIGH]"),
]


class OptimizerConfig(ConfigSection):
    """AdamW and its learning rate over the steps, in fine-tuning and in training."""

    lr: PositiveFinite = Field(default=1e-3, description="Learning rate of the adapter.")
    head_lr: PositiveFinite = Field(
        default=1e-2, description="Learning rate of the head and of what else is trained."
    )
    weight_decay: float = Field(
        default=0.01,
        ge=0,
        allow_inf_nan=False,
        description="Weight decay of matrices; biases and norms have none.",
    )
    warmup: Fraction = Field(
        default=0.1, description="Fraction of the steps with a linearly growing rate."
    )
    schedule: Literal["cosine", "constant"] = Field(
        default="cosine", description="Learning rate after that: down to zero, or constant."
    )
    clip_norm: Annotated[
        PositiveFinite | None,
        BeforeValidator(
            _number_or_off, json_schema_input_type=PositiveFloat | Literal["off"] | None
        ),
        ValueForm("NUMBER|off"),
    ] = Field(
        default=1.0,
        description="Largest norm of the gradient (of each episode in fine-tuning); off: no limit.",
    )


class _FinetuneSteps(ConfigSection):
    """The first keys of `FinetuneConfig`: the order of keys in files is part of their format."""

    steps: int = Field(
        default=30,
        ge=0,
        le=MAX_COUNT,
        description="Optimizer steps; 0 trains nothing, which needs a head without parameters.",
    )
    batch: PositiveCount | None = Field(
        default=None,
        description="Support clips of a mini-batch, all in turn; by default all of them, which "
        "some heads need.",
    )


class SupportLossConfig(ConfigSection):
    """What a step's loss on support clips is of: in fine-tuning, and inside of meta-training."""

    views: Annotated[int, Field(ge=1, le=64)] = Field(
        default=1,
        description="Differently augmented views of each support clip in a step. With 2 and more, "
        "heads that compare clips can learn from one clip a class: views are compared with the "
        "other views.",
    )
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = Field(
        default=0.0, description="Share of the target that is spread over all classes."
    )


class FinetuneConfig(SupportLossConfig, OptimizerConfig, _FinetuneSteps):
    """How adapter and head are fine-tuned on the support clips."""

    recipe: RecipeName = Field(
        default="auto",
        description="Settings for the tuning keys that are not set. auto: those that were best for "
        "the adapter, its start and the shots; published: those of the paper; fast: few cheap "
        "steps; none: the defaults of this list. See configs/recipes/.",
    )

    optimizer: OptimizerName = Field(
        default="adamw",
        description="adamw; or start-rates: plain gradient descent with the rates of the inner "
        "loop of the start's meta-training (meta-sgd learns one for every value), without lr, "
        "head_lr, weight_decay, warmup, schedule and clip_norm, and without a recipe unless one is "
        "set.",
    )
    flip: FlipMode = Field(
        default="off",
        description="Mirror half of the support clips; auto: not in episodes with a class name "
        "that says left or right.",
    )
    crop_scale: AreaRange = Field(
        default=None,
        description="Smallest and largest area of a random resized crop, as fractions.",
    )
    colour: Fraction = Field(
        default=0.0,
        description="Largest relative change of brightness, contrast and saturation of a clip.",
    )
    temporal: bool = Field(
        default=False,
        description="Take frames at random within their segments, not at the middle; needs the "
        "frame policy segment-center.",
    )
    untuned_weight: Annotated[float, Field(ge=0, lt=1)] = Field(
        default=0.0,
        description="Weight of the logits of the same adapter before tuning in those of the query "
        "clips; the tuned ones have the rest. For heads without weights of their own, or with "
        "those of the start.",
    )
    min_loss: Annotated[float, Field(ge=0, allow_inf_nan=False)] = Field(
        default=0.0,
        description="An episode whose support loss before the first step is smaller is left "
        "untuned: there is nothing to learn, and steps would only add noise.",
    )

    @property
    def augments(self) -> bool:
        """Whether the support clips are changed at all."""
        return self.flip != "off" or self.crop_scale is not None or self.colour > 0 or self.temporal


def _check_device(value: str) -> str:
    if not re.fullmatch(r"auto|cpu|cuda(:\d{1,3})?", value):
        raise ValueError("expected auto, cpu, cuda or cuda:N")
    return value


def _check_size(value: str | None) -> str | None:
    if value is not None:
        parse_size(value)
    return value


class CommonConfig(ConfigSection):
    """Keys of evaluations and trainings: clips, encoder, device and folders."""

    NON_IDENTITY_KEYS: ClassVar[frozenset[str]] = frozenset(
        {"name", "source", "root", "output", "workers", "cache", "cache_limit", "verify"}
        | {"feature_cache", "device", "limits"}
    )
    """They change where, how fast and how many, not what comes out."""

    name: str = Field(
        default="run",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$",
        description="Name of the run; by default that of its YAML file.",
    )
    source: str = Field(default="", description="Where the recipe is from.")
    split: Annotated[str, NAME_OR_FILE] = Field(
        min_length=1, description="Split by name, or the path of its YAML file."
    )
    root: OptionalPath = Field(
        default=None,
        description="Folder of the clips; by default the one that the split file names.",
    )
    seed: int = Field(
        default=0,
        ge=0,
        lt=2**63,
        description="Seed of episodes, initial parameters and augmentation.",
    )
    encoder: EncoderConfig = Field(
        default=EncoderConfig(), description="The frozen image encoder: model, weights, pixels."
    )
    video: VideoConfig = Field(default=VideoConfig(), description="Which frames are sampled.")
    limits: LimitsConfig = Field(default=LimitsConfig(), description="Decoding limits of one clip.")
    precision: Literal["auto", "mixed", "fp32", "bf16"] = Field(
        default="auto",
        description="Precision of the frozen encoder. mixed: its own features in fp32, blocks that "
        "an adapter changes in bf16. auto: mixed on devices that multiply bf16 directly, else "
        "fp32; the run records which.",
    )
    device: Annotated[str, AfterValidator(_check_device)] = Field(
        default="auto", description="Device: auto, cpu, cuda or cuda:N."
    )
    deterministic: bool = Field(
        default=False, description="Refuse operations without a deterministic kernel."
    )
    compile: bool = Field(
        default=False,
        description="Compile the blocks of the encoder in steps of fine-tuning and training, with "
        "torch.compile: about a minute for each shape, and then steps that may be faster (on a CPU "
        "0.94 to 1.16 times as fast). Results are the same up to rounding.",
    )
    output: OptionalPath = Field(
        default=None,
        description="Folder of the results; by default runs/NAME (evaluate) or starts/NAME "
        "(train).",
    )
    workers: PositiveCount | None = Field(
        default=None, description="Decoding processes; by default chosen by the machine."
    )
    cache: OptionalPath = Field(
        default=None,
        description="Folder of decoded clips and features; by default the user's cache folder.",
    )
    cache_limit: Annotated[str | None, AfterValidator(_check_size), ValueForm("SIZE")] = Field(
        default=None,
        description="Largest size of decoded clips and features in the cache, with a unit, such as "
        "20GB. "
        "Those that were not used for longest are removed first, and none that a running command "
        "uses.",
    )
    feature_cache: bool = Field(
        default=True,
        description="Read what no training changes from the cache where an earlier run computed it "
        "for the same clip, encoder, precision and device, and write what is new. Results are the "
        "same without.",
    )
    verify: bool = Field(
        default=False,
        description="Read every clip again to identify it, even if the cache has its digest.",
    )

    def identity(self) -> dict[str, Any]:
        """What decides the results, in plain types: equal ones can be continued.

        Folders, device and workers are left out. Split and weights are named here; their digests
        are stored beside the identity.
        """
        config = self.model_dump(mode="json", exclude=set(self.NON_IDENTITY_KEYS))
        if not self.compile:  # earlier versions have no word of it
            del config["compile"]
        config["split"] = re.sub(r"\.ya?ml$", "", Path(self.split).name)
        encoder = config["encoder"]
        if encoder["architecture"] is not None:
            encoder["architecture"] = file_name(encoder["architecture"])
        if encoder["pretrained"] is not None:
            encoder["pretrained"] = map_weights_file(encoder["pretrained"], file_name)
        return config
