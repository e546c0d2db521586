"""Names of the available encoders, without importing torch or open_clip."""

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

RESNET_REASON = "it is a ResNet, which has no transformer blocks"
TIMM_REASON = "it is built by timm, whose blocks are not those of open_clip"
ATTENTION_POOL_REASON = "it pools by attention"
PIXELS_REASON = "it is the raw pixels, without any network"
"""Why encoders take no adapters inside their blocks."""

PIXELS = "pixels"
"""Name of the encoder that is no network: its patch tokens are the normalised pixels."""

PIXELS_IMAGE_SIZE = 112
PIXELS_PATCH = 16
"""Pixels on a side of its frames, unless another size is given, and of its patches."""

# open_clip's defaults for what a configuration leaves out.
_VISION_DEFAULTS = {"width": 768, "layers": 12, "image_size": 224, "patch_size": 16}
# Any of these makes a transformer whose blocks or pooling are not the standard ones.
_CUSTOM_BLOCK_KEYS = (
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
        name: value for the option `encoder`.
        kind: "vit" (open_clip's vision transformer), "pixels", "resnet" or "timm".
        width: channels of a token (vit, pixels), else None.
        layers: transformer blocks (vit, pixels), else None.
        image_size: pixels on a side (vit, pixels), else None.
        patch: pixels on a side of a patch (vit, pixels), else None.
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
    """List the shipped encoder, the raw pixels, then every architecture of the installed open_clip.

    Returns:
        One row each, in natural order; open_clip's architectures need `pretrained` weights.
    """
    rows = []
    if DEMO_CONFIG.is_file():
        rows.append(_encoder_info("demo", _read_config(DEMO_CONFIG)))
    rows.append(
        EncoderInfo(
            PIXELS,
            "pixels",
            3 * PIXELS_PATCH**2,
            0,
            PIXELS_IMAGE_SIZE,
            PIXELS_PATCH,
            lacks=PIXELS_REASON,
        )
    )
    configs = [(path.stem, _read_config(path)) for path in _config_paths()]
    # open_clip itself leaves out what has no text tower
    usable = [(name, config) for name, config in configs if "text_cfg" in config]
    rows += [_encoder_info(name, config) for name, config in sorted(usable, key=_natural_order)]
    return tuple(rows)


def _config_paths() -> list[Path]:
    """List open_clip's configuration files without importing it."""
    spec = importlib.util.find_spec("open_clip")
    if spec is None or spec.origin is None:
        return []
    return list((Path(spec.origin).parent / "model_configs").glob("*.json"))


def _read_config(path: Path) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    config: dict[str, Any] = data.get("model_cfg", data)
    return config


def _natural_order(row: tuple[str, Any]) -> list[tuple[bool, int, str]]:
    chunks = re.split(r"(\d+)", row[0].lower())
    return [(not chunk.isdigit(), int(chunk) if chunk.isdigit() else 0, chunk) for chunk in chunks]


def _encoder_info(name: str, config: dict[str, Any]) -> EncoderInfo:
    vision = config["vision_cfg"]
    if vision.get("timm_model_name"):
        return EncoderInfo(name, "timm", lacks=TIMM_REASON)
    values = _VISION_DEFAULTS | {key: vision[key] for key in _VISION_DEFAULTS if key in vision}
    if isinstance(values["layers"], list):
        return EncoderInfo(name, "resnet", lacks=RESNET_REASON)
    return EncoderInfo(
        name,
        "vit",
        values["width"],
        values["layers"],
        values["image_size"],
        values["patch_size"],
        lacks=_unadaptable_reason(vision),
    )


def _unadaptable_reason(vision: dict[str, Any]) -> str:
    """Return why the blocks of an open_clip ViT cannot be adapted; usually ""."""
    if vision.get("attentional_pool"):
        return ATTENTION_POOL_REASON
    if vision.get("block_type") == "custom" or any(vision.get(key) for key in _CUSTOM_BLOCK_KEYS):
        return "its blocks are not the standard ones"
    pools_before_norm = vision.get("pool_type", "tok") == "tok" or bool(
        vision.get("final_ln_after_pool")
    )
    return (
        ""
        if pools_before_norm
        else f"its pooling ({vision['pool_type']!r}, layer norm first) is not known"
    )
