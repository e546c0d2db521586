"""Loading frozen image encoders through open_clip, strictly.

The weights asked for are used, with the constants that belong to them, or an error says what is
missing: nothing is ever random, renamed, partly loaded or normalised otherwise without being asked.
"""

from __future__ import annotations

import hashlib
import math
import re
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

from fewshot_i2v.config.file_names import split_weights
from fewshot_i2v.errors import EncoderError, UnknownNameError
from fewshot_i2v.models.encoders import architectures, catalog, weights
from fewshot_i2v.models.encoders.architectures import Architecture
from fewshot_i2v.models.encoders.from_open_clip import tower_from_visual
from fewshot_i2v.models.encoders.opaque_tower import PlainTower
from fewshot_i2v.models.encoders.tower import Tower


def whole_model(model: Architecture, tag: str) -> tuple[nn.Module, Mapping[str, Any]]:
    """Both towers with the weights of a tag, downloaded once by open_clip where they are absent.

    Args:
        model: one of open_clip's own architectures.
        tag: of its weights.

    Returns:
        The model, on the CPU in float32, and open_clip's settings of the tag: `mean`, `std`,
        maybe `quick_gelu`.

    Raises:
        UnknownNameError: for a tag that open_clip does not know for this architecture.
        EncoderError: when the weights cannot be had.
    """
    import open_clip

    settings = settings_of(model, tag)
    try:
        # open_clip only warns when the tag was trained with the other activation
        with torch.random.fork_rng(devices=[]):
            whole: nn.Module = open_clip.create_model(
                model.name,
                pretrained=tag,
                require_pretrained=True,
                weights_only=True,
                force_quick_gelu=bool(settings.get("quick_gelu", False)),
            )
    except Exception as error:  # downloads and text towers of other packages raise anything
        where = settings.get("hf_hub") or settings.get("url") or settings.get("file")
        raise EncoderError(
            f"the weights {tag!r} of {model.name} ({where}) cannot be had: {error}. Without a "
            f"network, give a checkpoint on this machine instead: "
            f"pretrained={tag}@/path/to/weights{weights.SUFFIXES[0]} takes all settings of the "
            f"tag (mean={settings['mean']}, std={settings['std']})"
        ) from error
    return whole.eval(), settings


def settings_of(model: Architecture, tag: str) -> Mapping[str, Any]:
    """open_clip's settings of a tag: `mean`, `std`, how pictures are resized, maybe `quick_gelu`.

    Raises:
        EncoderError: where the architecture is not one of open_clip's own, which alone have tags.
        UnknownNameError: for a tag that open_clip does not know for this architecture.
    """
    import open_clip

    if model.origin != "open_clip":
        raise EncoderError(
            f"encoder {model.name!r} has no tag {tag!r}: its configuration is {model.origin}, and "
            "tags belong to open_clip's own architectures. Give the file alone as `pretrained`"
        )
    settings: dict[str, Any] = open_clip.get_pretrained_cfg(model.name, tag)
    if not settings:
        tags = open_clip.list_pretrained_tags_by_model(model.name)
        hint = "The path of a local checkpoint works too (TAG@PATH), and so does 'random'."
        raise UnknownNameError(f"pretrained tag for {model.name}", tag, tags, hint)
    return settings


def for_file(model: Architecture, tag: str | None, file: Path) -> tuple[Architecture, str | None]:
    """The architecture as the weights of a file need it, and the tag that says so.

    Args:
        model: any architecture.
        tag: that the file was given with; None: the one whose digest it has, if any.
        file: the checkpoint.

    Returns:
        With a tag, the architecture with its activation and all of its settings; else as it is.

    Raises:
        UnknownNameError: for a tag that open_clip does not know for this architecture.
        EncoderError: where the digest of the file is known and is not that of this architecture
            and tag; where there is no tag and those of the architecture differ in the activation.
    """
    settings = None if tag is None else settings_of(model, tag)
    if model.origin != "open_clip":
        return model, None
    known = _known_as(file)
    own = [each for name, each in known if name == model.name]
    if known and (tag not in own if tag else not own):
        asked = f"{model.name} with {tag!r}" if tag else model.name
        pairs = " or ".join(f"encoder {name} with pretrained {each}@FILE" for name, each in known)
        raise EncoderError(f"{file}: not {asked}: by its sha256 it is that of {pairs}")
    if tag is None and own:
        tag, settings = own[0], settings_of(model, own[0])
    if own:
        _check_is_data(file, model.name, own[0])
    if settings is None:
        _check_activation(model, file)
        return model, None
    quick = bool(model.config.get("quick_gelu") or settings.get("quick_gelu"))
    return replace(model, config={**model.config, "quick_gelu": quick}, preprocess=settings), tag


def _check_activation(model: Architecture, file: Path) -> None:
    """Refuses a file whose activation cannot be told, since tags of its architecture differ."""
    import open_clip

    own = bool(model.config.get("quick_gelu"))
    words: dict[str, list[str]] = {"QuickGELU": [], "GELU": []}
    for tag in open_clip.list_pretrained_tags_by_model(model.name):
        quick = own or bool(open_clip.get_pretrained_cfg(model.name, tag).get("quick_gelu"))
        words["QuickGELU" if quick else "GELU"].append(tag)
    if not words["GELU" if own else "QuickGELU"]:
        return
    choices = "; ".join(f"{kind}: {', '.join(tags)}" for kind, tags in words.items() if tags)
    example = (words["QuickGELU"] or words["GELU"])[0]
    raise EncoderError(
        f"{file}: a file does not say whether its weights were trained with GELU or QuickGELU, and "
        f"weights of {model.name} with the wrong one give other features without any error. Name "
        f"the tag whose settings it takes, as in pretrained={example}@{file} ({choices}). For "
        "weights of your own: the tag they were tuned from, or an `architecture` file that says "
        '"quick_gelu": true or false, with mean and std'
    )


def _check_is_data(file: Path, name: str, tag: str) -> None:
    """Refuses a program of TorchScript, as OpenAI publishes its weights, with what to do."""
    if not zipfile.is_zipfile(file):
        return
    with zipfile.ZipFile(file) as archive:
        if not any("/code/" in each for each in archive.namelist()):
            return
    data = file.with_suffix(weights.SUFFIXES[0])
    raise EncoderError(
        f"{file}: the weights {tag!r} of {name} as a TorchScript program, and only data is read. "
        f"Give pretrained={tag}, which open_clip fetches as data, or save them as data once, with "
        f"safetensors.torch.save_file(open_clip.load_openai_model({str(file)!r}, 'fp32')"
        f".state_dict(), {str(data)!r}), and give pretrained={tag}@{data}"
    )


def _known_as(file: Path) -> list[tuple[str, str]]:
    """Architectures and tags of the weights that a file holds, by its digest; mostly none."""
    import open_clip

    # what open_clip knows digests of are files of torch; what is absent is refused on reading
    if file.suffix == weights.SUFFIXES[0] or not file.is_file():
        return []
    with file.open("rb") as content:
        found = hashlib.file_digest(content, "sha256").hexdigest()
    urls = {
        (name, tag): str(open_clip.get_pretrained_cfg(name, tag).get("url", ""))
        for name, tag in open_clip.list_pretrained()
    }
    return [pair for pair, url in urls.items() if found.startswith(digest_in(url) or "-")]


def digest_in(url: str) -> str | None:
    """The sha256, or the first 8 digits of it, that an address of open_clip's weights holds."""
    whole = re.search(r"/([0-9a-f]{64})/", url)
    start = re.search(r"-([0-9a-f]{8})\.pth?$", url)
    match = whole or start
    return match[1] if match else None


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
    model = architectures.find(name, architecture)
    loaded = _load(model, asked)
    tower = tower_from_visual(
        loaded.visual,
        mean=_constant("mean", mean, loaded.constants, model),
        std=_constant("std", std, loaded.constants, model),
    )
    digest = weights.digest(loaded.visual.state_dict(), _facts(tower))
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
        visual = architectures.build_visual(model, in_memory=True)
        weights.randomise(visual, _RANDOM_SEED)
        seed = f"{RANDOM} (seed {_RANDOM_SEED})"
        return _Loaded(visual, seed, False, {**_NEUTRAL, **model.preprocess})
    tag, file = split_weights(pretrained)
    if file is not None:
        model, tag = for_file(model, tag, Path(file))
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
    local = f"the path of a local checkpoint ({weights.SUFFIXES[0]}), or '{RANDOM}'"
    return f"give {first if tags else ''}{local}"


def _from_file(model: Architecture, path: Path, what: str) -> _Loaded:
    checkpoint = weights.read_checkpoint(path)
    visual = architectures.build_visual(model, in_memory=False)
    weights.load_strictly(visual, checkpoint.tensors, str(path))
    return _Loaded(visual, what, checkpoint.text, model.preprocess)


def _from_tag(model: Architecture, tag: str) -> _Loaded:
    whole, settings = whole_model(model, tag)
    visual = whole.get_submodule("visual")
    weights.check_finite(visual.state_dict(), f"{model.name} with {tag!r}")
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
