"""Which encoders can be asked for by name; needs neither torch nor open_clip to be imported."""

from __future__ import annotations

import importlib.util
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DEMO_CONFIG = Path(__file__).parent / "demo" / "demo.json"
"""Model configuration of the shipped encoder."""

DEMO_WEIGHTS = DEMO_CONFIG.with_suffix(".safetensors")
"""Weights of the shipped encoder."""

RESNET = "it is a ResNet, which has no transformer blocks"
TIMM = "it is built by timm, whose blocks are not those of open_clip"
ATTENTION_POOL = "it pools by attention"
"""Why encoders take no adapters inside their blocks."""

# open_clip's defaults for what a configuration leaves out.
_DEFAULTS = {"width": 768, "layers": 12, "image_size": 224, "patch_size": 16}
# Any of these makes a transformer whose blocks or pooling are not the standard ones.
_CUSTOM = (
    "qk_norm",
    "scaled_cosine_attn",
    "scale_heads",
    "scale_attn_inner",
    "scale_attn",
    "scale_fc",
)


@dataclass(frozen=True)
class EncoderInfo:
    """One encoder that has a name.

    Attributes:
        name: what to give as `encoder`.
        kind: "vit" (open_clip's vision transformer), "resnet" or "timm".
        width: channels of a token (vit), else None.
        layers: transformer blocks (vit), else None.
        image_size: pixels on a side (vit), else None.
        patch: pixels on a side of a patch (vit), else None.
        lacks: why its blocks cannot be adapted, in words; "" where they can. Every encoder can be
            used frozen.
    """

    name: str
    kind: str
    width: int | None = None
    layers: int | None = None
    image_size: int | None = None
    patch: int | None = None
    lacks: str = ""

    @property
    def adaptable(self) -> bool:
        """Whether its blocks can be adapted."""
        return not self.lacks


def list_encoders() -> tuple[EncoderInfo, ...]:
    """The shipped encoder, then every architecture of the installed open_clip.

    Returns:
        One row each, in natural order; open_clip's architectures need `pretrained` weights.
    """
    rows = []
    if DEMO_CONFIG.is_file():
        rows.append(_describe("demo", _read(DEMO_CONFIG)))
    found = [(path.stem, _read(path)) for path in _configurations()]
    # open_clip itself leaves out what has no text tower
    usable = [(name, config) for name, config in found if "text_cfg" in config]
    rows += [_describe(name, config) for name, config in sorted(usable, key=_natural)]
    return tuple(rows)


def _configurations() -> list[Path]:
    """open_clip's configuration files, found without importing it."""
    spec = importlib.util.find_spec("open_clip")
    if spec is None or spec.origin is None:
        return []
    return list((Path(spec.origin).parent / "model_configs").glob("*.json"))


def _read(path: Path) -> dict[str, Any]:
    whole: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    inner: dict[str, Any] = whole.get("model_cfg", whole)
    return inner


def _natural(row: tuple[str, Any]) -> list[tuple[bool, int, str]]:
    parts = re.split(r"(\d+)", row[0].lower())
    return [(not p.isdigit(), int(p) if p.isdigit() else 0, p) for p in parts]


def _describe(name: str, config: dict[str, Any]) -> EncoderInfo:
    vision = config["vision_cfg"]
    if vision.get("timm_model_name"):
        return EncoderInfo(name, "timm", lacks=TIMM)
    values = _DEFAULTS | {key: vision[key] for key in _DEFAULTS if key in vision}
    if isinstance(values["layers"], list):
        return EncoderInfo(name, "resnet", lacks=RESNET)
    return EncoderInfo(
        name,
        "vit",
        values["width"],
        values["layers"],
        values["image_size"],
        values["patch_size"],
        lacks=_lacks(vision),
    )


def _lacks(vision: dict[str, Any]) -> str:
    """Why the blocks of a vision transformer of open_clip cannot be adapted; mostly ""."""
    if vision.get("attentional_pool"):
        return ATTENTION_POOL
    if vision.get("block_type") == "custom" or any(vision.get(key) for key in _CUSTOM):
        return "its blocks are not the standard ones"
    pooled = vision.get("pool_type", "tok") == "tok" or bool(vision.get("final_ln_after_pool"))
    return "" if pooled else f"its pooling ({vision['pool_type']!r}, layer norm first) is not known"
