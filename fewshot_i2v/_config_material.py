"""What evaluating and training have in common: clips, encoder, device and where things lie."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from fewshot_i2v._config_models import EncoderConfig, LimitsConfig, Number, Section, VideoConfig


def _device(value: str) -> str:
    if not re.fullmatch(r"auto|cpu|cuda(:\d{1,3})?", value):
        raise ValueError("expected auto, cpu, cuda or cuda:N")
    return value


class MaterialConfig(Section):
    """Clips, encoder, device and folders.

    Attributes:
        name: of the run; the stem of its YAML file when not given.
        source: where the recipe is from.
        split: name of a shipped split, or the path of a split's YAML file.
        root: folder of the clips, for splits that name files.
        seed: of everything that is drawn.
        encoder: the frozen image encoder.
        video: which frames are seen.
        limits: what a clip may take.
        precision: "fp32" or "bf16", of the frozen encoder.
        device: "auto", "cpu", "cuda" or "cuda:N".
        deterministic: refuse operations without a deterministic kernel.
        output: folder of the results.
        workers: decoding processes; None: chosen by the machine.
        cache: folder of decoded clips; None: the user's cache folder.
        verify: read every clip once more to know which it is, whatever the cache remembers.
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
    device: Annotated[str, AfterValidator(_device)] = "auto"
    deterministic: bool = False
    output: Annotated[Path | None, Field(strict=False)] = None
    workers: Number | None = None
    cache: Annotated[Path | None, Field(strict=False)] = None
    verify: bool = False
