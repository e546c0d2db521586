"""Loading frozen image encoders through open_clip, strictly.

The weights asked for are used, with the constants that belong to them, or an error says what is
missing: nothing is ever random, renamed, partly loaded or normalised otherwise without being asked.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

from fewshot_i2v._config_merge import split_weights
from fewshot_i2v.encoders import _architecture, _tags, _weights, catalog
from fewshot_i2v.encoders._architecture import Architecture
from fewshot_i2v.encoders._walk import tower_from_visual
from fewshot_i2v.encoders.plain import PlainTower
from fewshot_i2v.encoders.tower import Tower
from fewshot_i2v.errors import EncoderError

__all__ = ["Constant", "Encoder", "load_encoder", "tower_from_visual"]

Constant = float | Sequence[float]
"""A pixel constant: one number for all channels, or one each for red, green and blue."""

RANDOM: Final = "random"
_RANDOM_SEED = 0
# Random weights were trained on no pixels; this brings them to [-1, 1].
_NEUTRAL = {"mean": 0.5, "std": 0.5}


@dataclass(frozen=True, eq=False)
class Encoder:
    """A frozen image encoder and where it came from.

    Attributes:
        name: of the architecture; says so where the weights are random.
        tower: the frozen visual tower.
        digest: sha256 (hexadecimal) of the visual weights as float32, of what else decides the
            features (activation, heads, pooling, epsilons) and of the pixel constants; whatever
            the device, the precision and the input size asked for.
        pretrained: what was loaded: a tag, a path, "TAG@PATH" where a tag gives the settings,
            "shipped", or "random (seed 0)".
        text: whether a text tower belongs to these weights.
        parameters: number of parameters of the visual tower.
    """

    name: str
    tower: Tower
    digest: str
    pretrained: str
    text: bool
    parameters: int


@dataclass(frozen=True)
class _Loaded:
    """A visual model with weights, and the constants that come with them."""

    visual: nn.Module
    pretrained: str
    text: bool
    constants: Mapping[str, Any]


def load_encoder(
    name: str = "demo",
    *,
    pretrained: str | Path | None = None,
    architecture: str | Path | None = None,
    image_size: int | None = None,
    mean: Constant | None = None,
    std: Constant | None = None,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> Encoder:
    """Loads a frozen image encoder.

    A local file does not say whether it was trained with GELU or QuickGELU, nor with which pixels.
    "TAG@PATH" takes all settings of a tag of open_clip and only the bytes from the file; a file
    that open_clip publishes is known by its digest. Otherwise the name or the `architecture` must
    say it: a path alone is refused for a name whose tags differ in the activation.

    Args:
        name: "demo" (shipped), an architecture of open_clip, or your choice with `architecture`.
        pretrained: a tag of open_clip (downloaded once, by open_clip), the path of a checkpoint,
            "TAG@PATH", or the word "random" (from a fixed seed). None: the shipped weights of
            "demo".
        architecture: a model configuration of your own, in open_clip's JSON format.
        image_size: pixels on a side, a multiple of the patch size; None: the model's own.
        mean: of pixels in [0, 1]; None: what comes with the weights (0.5 for random ones).
        std: likewise.
        device: of the tower.
        dtype: of the tower.

    Raises:
        EncoderError: when weights or pixel constants cannot be had, do not fit or are not finite.
        UnknownNameError: for an unknown name or tag.
    """
    asked = None if pretrained is None else str(pretrained)
    model = _architecture.find(name, architecture)
    loaded = _load(model, asked)
    tower = tower_from_visual(
        loaded.visual,
        mean=_constant("mean", mean, loaded.constants, model),
        std=_constant("std", std, loaded.constants, model),
    )
    digest = _weights.digest(loaded.visual.state_dict(), _facts(tower))
    if image_size is not None:
        tower = tower.resized(image_size)
    return Encoder(
        name=model.name + (" (random weights)" if asked == RANDOM else ""),
        tower=tower.to(device, dtype),
        digest=digest,
        pretrained=loaded.pretrained,
        text=loaded.text,
        parameters=sum(parameter.numel() for parameter in loaded.visual.parameters()),
    )


def _load(model: Architecture, pretrained: str | None) -> _Loaded:
    named = model.origin == "open_clip"
    if pretrained is None:
        if model.origin != str(catalog.DEMO_CONFIG):
            raise EncoderError(f"encoder {model.name!r} needs `pretrained`: {_choices(model)}")
        return _from_file(model, catalog.DEMO_WEIGHTS, "shipped")
    if pretrained == RANDOM:
        visual = _architecture.build_visual(model, in_memory=True)
        _weights.randomise(visual, _RANDOM_SEED)
        seed = f"{RANDOM} (seed {_RANDOM_SEED})"
        return _Loaded(visual, seed, False, {**_NEUTRAL, **model.preprocess})
    tag, file = split_weights(pretrained)
    if file is not None:
        model, tag = _tags.for_file(model, tag, Path(file))
        return _from_file(model, Path(file), f"{tag}@{file}" if tag else file)
    if not named:
        raise EncoderError(f"encoder {model.name!r} has no tag {pretrained!r}: {_choices(model)}")
    return _from_tag(model, pretrained)


def _choices(model: Architecture) -> str:
    """What can be given as `pretrained`, in words."""
    tags: list[str] = []
    if model.origin == "open_clip":
        import open_clip

        tags = open_clip.list_pretrained_tags_by_model(model.name)
    first = f"a tag ({', '.join(tags)}), TAG@PATH for a local file with a tag's settings, "
    local = f"the path of a local checkpoint ({_weights.SUFFIXES[0]}), or '{RANDOM}'"
    return f"give {first if tags else ''}{local}"


def _from_file(model: Architecture, path: Path, what: str) -> _Loaded:
    checkpoint = _weights.read_checkpoint(path)
    visual = _architecture.build_visual(model, in_memory=False)
    _weights.load_strictly(visual, checkpoint.tensors, str(path))
    return _Loaded(visual, what, checkpoint.text, model.preprocess)


def _from_tag(model: Architecture, tag: str) -> _Loaded:
    whole, settings = _tags.whole_model(model, tag)
    visual = whole.get_submodule("visual")
    _weights.check_finite(visual.state_dict(), f"{model.name} with {tag!r}")
    return _Loaded(visual, tag, True, settings)


def _constant(
    kind: str, given: Constant | None, constants: Mapping[str, Any], model: Architecture
) -> Tensor:
    """A pixel constant as (3,), from the argument or else from what came with the weights."""
    value = constants.get(kind) if given is None else given
    if value is None:
        raise EncoderError(
            f"encoder {model.name!r}: the {kind} of the pixels that these weights were trained "
            f"with is not known. Give `{kind}`, a 'preprocess_cfg' in the `architecture` file, or "
            "the tag of open_clip whose settings they take, as in pretrained=TAG@PATH; "
            "OpenAI's and most open_clip models have mean 0.48145466 0.4578275 0.40821073 "
            "and std 0.26862954 0.26130258 0.27577711"
        )
    values = [value] * 3 if isinstance(value, int | float) else list(value)
    numbers = [v for v in values if isinstance(v, int | float) and math.isfinite(v)]
    if len(values) != 3 or len(numbers) != 3 or (kind == "std" and min(numbers) <= 0):
        bound = " above 0" if kind == "std" else ""
        raise EncoderError(f"{kind} {value!r}: expected one number or three, finite{bound}")
    return torch.tensor([float(v) for v in numbers])


def _facts(tower: Tower) -> dict[str, object]:
    """What decides the features besides the weights."""
    facts: dict[str, object] = {"mean": tower.mean.tolist(), "std": tower.std.tolist()}
    if isinstance(tower, PlainTower):
        modules = tower.visual.named_modules()
        return {**facts, "modules": [f"{name} {type(m).__name__}" for name, m in modules]}
    norms = [tower.norm_post, *(n for b in tower.blocks for n in (b.norm_1, b.norm_2))]
    return {
        **facts,
        "image_size": tower.image_size,
        "pool": tower.pool,
        "heads": [block.heads for block in tower.blocks],
        "activation": [block.activation for block in tower.blocks],
        "eps": [norm.eps for norm in norms],
        "norm_pre": None if tower.norm_pre is None else tower.norm_pre.eps,
    }
