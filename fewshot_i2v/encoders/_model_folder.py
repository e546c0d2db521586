"""A folder that `open_clip.create_model("local-dir:FOLDER")` loads: other weights of a known model.

The visual tower is given, the text tower is copied from where the original's weights came from.
"""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from fewshot_i2v._config_merge import split_weights
from fewshot_i2v.encoders import _architecture, _tags, _text_model, _weights, catalog, clip
from fewshot_i2v.encoders._architecture import Architecture
from fewshot_i2v.encoders._unwalk import visual_state
from fewshot_i2v.encoders.tower import Tower

WEIGHTS = "open_clip_model.safetensors"
"""File of the tensors, as open_clip looks for it."""
CONFIG = "open_clip_config.json"
"""File of the model configuration, as open_clip looks for it."""

_VISUAL = "visual."
# What open_clip reads of `preprocess_cfg` besides size, mean and std.
_PREPROCESS = ("mode", "interpolation", "resize_mode", "fill_color")


def write_model(
    folder: Path,
    tower: Tower,
    *,
    name: str,
    pretrained: str | None = None,
    architecture: Path | None = None,
) -> bool:
    """Writes a model's configuration with its text tower and another visual tower.

    Args:
        folder: where to write; it exists.
        tower: the visual tower, of the model's shapes.
        name: of the model, as for `load_encoder`.
        pretrained: where its text tower is, as for `load_encoder`.
        architecture: the model's configuration, as for `load_encoder`.

    Returns:
        Whether the text tower is there too. Without one the file holds the visual tower alone, by
        its own names, and loads into `create_model(...).visual`.

    Raises:
        EncoderError: when the tower cannot be written or the text tower cannot be had.
    """
    model = _architecture.find(name, architecture)
    rest, settings = _besides_the_visual(model, pretrained)
    config = _configuration(model, tower)
    visual = visual_state(tower, layer_scale=config["vision_cfg"].get("ls_init_value") is not None)
    whole = bool(rest) and "text_cfg" in config
    if whole:
        visual = {f"{_VISUAL}{key}": tensor for key, tensor in visual.items()} | rest
    known = {key: settings[key] for key in _PREPROCESS if settings.get(key) is not None}
    pixels = {
        "size": [tower.image_size, tower.image_size],
        "mean": tower.mean.tolist(),
        "std": tower.std.tolist(),
    }
    written = {"model_cfg": config, "preprocess_cfg": known | pixels}
    (folder / CONFIG).write_text(json.dumps(written, indent=2) + "\n", encoding="utf-8")
    save_file(visual, folder / WEIGHTS, metadata={"format": "pt"})
    shutil.copymode(folder / CONFIG, folder / WEIGHTS)  # safetensors lets nobody else read
    return whole


def _configuration(model: Architecture, tower: Tower) -> dict[str, Any]:
    """The model's own configuration with what the weights were loaded with."""
    config: dict[str, Any] = copy.deepcopy(dict(model.config))
    config["vision_cfg"]["image_size"] = tower.image_size
    if tower.blocks and tower.blocks[0].gain != 1.0:  # a tag may ask for it where the name does not
        config["quick_gelu"] = True
    return config


def _besides_the_visual(
    model: Architecture, pretrained: str | None
) -> tuple[dict[str, Tensor], Mapping[str, Any]]:
    """The text tower and the temperature, or nothing, and what is known of the pixels."""
    settings: Mapping[str, Any] = model.preprocess
    if pretrained == clip.RANDOM:
        return {}, settings
    tag, file = (None, None) if pretrained is None else split_weights(pretrained)
    if tag is None or file is not None:
        path = Path(file or catalog.DEMO_WEIGHTS)
        settings = _tags.for_file(model, tag, path)[0].preprocess
        if not _weights.read_checkpoint(path).text:
            return {}, settings
        rest = _text_model.read_tensors(path)
    else:
        whole, settings = _tags.whole_model(model, tag)
        rest = {k: t for k, t in whole.state_dict().items() if not k.startswith(_VISUAL)}
    # copies: tied weights share memory, which a safetensors file cannot
    return {k: t.detach().to("cpu", copy=True).contiguous() for k, t in rest.items()}, settings
