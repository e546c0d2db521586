"""Loading frozen image encoders through open_clip, strictly.

The requested weights are used, with the constants that belong to them, or an error says what is
missing: nothing is ever random, renamed, partly loaded or normalised differently unless requested.
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

from fewshot_i2v.config.file_names import parse_pretrained
from fewshot_i2v.errors import EncoderError, UnknownNameError
from fewshot_i2v.models.encoders import architectures, catalog, weights
from fewshot_i2v.models.encoders.architectures import Architecture
from fewshot_i2v.models.encoders.opaque_tower import OpaqueTower
from fewshot_i2v.models.encoders.open_clip_conversion import tower_from_open_clip
from fewshot_i2v.models.encoders.pixel_tower import PixelTower, make_pixel_tower
from fewshot_i2v.models.encoders.plain_transformer import plain_vision_transformer
from fewshot_i2v.models.encoders.tower import Tower


def load_pretrained_clip(model: Architecture, tag: str) -> tuple[nn.Module, Mapping[str, Any]]:
    """Load both towers with the weights of a tag; open_clip downloads them once if they are absent.

    Args:
        model: one of open_clip's architectures.
        tag: of its weights.

    Returns:
        The model, on the CPU in float32, and open_clip's settings of the tag: `mean`, `std`,
        maybe `quick_gelu`.

    Raises:
        UnknownNameError: for a tag that open_clip does not have for this architecture.
        EncoderError: when the weights cannot be loaded.
    """
    import open_clip

    settings = tag_settings(model, tag)
    try:
        # open_clip only warns when the tag was trained with the other activation
        with torch.random.fork_rng(devices=[]):
            clip_model: nn.Module = open_clip.create_model(
                model.name,
                pretrained=tag,
                require_pretrained=True,
                weights_only=True,
                force_quick_gelu=bool(settings.get("quick_gelu", False)),
            )
    except Exception as error:  # downloads and text towers of other packages raise anything
        source = settings.get("hf_hub") or settings.get("url") or settings.get("file")
        raise EncoderError(
            f"the weights {tag!r} of {model.name} ({source}) cannot be had: "
            f"{str(error).rstrip('. ')}. Without a network, give a checkpoint on this machine "
            "instead: "
            f"pretrained={tag}@/path/to/weights{weights.SUFFIXES[0]} takes all settings of the "
            f"tag (mean={settings['mean']}, std={settings['std']})"
        ) from error
    return clip_model.eval(), settings


def tag_settings(model: Architecture, tag: str) -> Mapping[str, Any]:
    """Return open_clip's settings of a tag: `mean`, `std`, resizing, maybe `quick_gelu`.

    Raises:
        EncoderError: if the architecture is not one of open_clip's, which alone have tags.
        UnknownNameError: for a tag that open_clip does not have for this architecture.
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


def tag_weights_file(name: str, tag: str) -> Path:
    """Return the file that open_clip has of the weights of a tag, which it loaded before.

    Raises:
        UnknownNameError: for an unknown architecture or tag.
    """
    from open_clip.pretrained import download_pretrained

    settings = tag_settings(architectures.find_architecture(name, None), tag)
    return Path(download_pretrained(settings))


def resolve_file_settings(
    model: Architecture, tag: str | None, file: Path
) -> tuple[Architecture, str | None]:
    """Resolve the architecture that the weights of a file need, and the tag of these settings.

    Args:
        model: any architecture.
        tag: that the user named with the file; None: the one that has the file's digest, if any.
        file: the checkpoint.

    Returns:
        With a tag, the architecture with its activation and all of its settings; else unchanged.

    Raises:
        UnknownNameError: for a tag that open_clip does not have for this architecture.
        EncoderError: if the digest of the file is published for another architecture or tag; if
            there is no tag and those of the architecture differ in the activation.
    """
    settings = None if tag is None else tag_settings(model, tag)
    if model.origin != "open_clip":
        return model, None
    published = _published_as(file)
    matching_tags = [published_tag for name, published_tag in published if name == model.name]
    if published and (tag not in matching_tags if tag else not matching_tags):
        requested = f"{model.name} with {tag!r}" if tag else model.name
        pairs = " or ".join(
            f"encoder {name} with pretrained {published_tag}@FILE"
            for name, published_tag in published
        )
        raise EncoderError(f"{file}: not {requested}: by its sha256 it is that of {pairs}")
    if tag is None and matching_tags:
        tag, settings = matching_tags[0], tag_settings(model, matching_tags[0])
    if matching_tags:
        _check_no_torchscript(file, model.name, matching_tags[0])
    if settings is None:
        _check_activation(model, file)
        return model, None
    quick_gelu = bool(model.config.get("quick_gelu") or settings.get("quick_gelu"))
    return replace(
        model, config={**model.config, "quick_gelu": quick_gelu}, preprocess=settings
    ), tag


@dataclass(frozen=True)
class WeightsSource:
    """Where the weights of an encoder are.

    Attributes:
        model: the architecture, with the settings that these weights need.
        tag: of open_clip: its weights, or with `file` its settings alone.
        file: the checkpoint; None: open_clip has the weights of the tag.
    """

    model: Architecture
    tag: str | None
    file: Path | None


def find_weights(model: Architecture, pretrained: str | None) -> WeightsSource | None:
    """Find the weights that `pretrained` names, not random ones; None where there are none.

    Raises:
        UsageError: as `resolve_file_settings`.
    """
    if pretrained is None:
        is_demo = model.origin == str(catalog.DEMO_CONFIG)
        return WeightsSource(model, None, catalog.DEMO_WEIGHTS) if is_demo else None
    tag, file = parse_pretrained(pretrained)
    if file is not None:
        model, tag = resolve_file_settings(model, tag, Path(file))
        return WeightsSource(model, tag, Path(file))
    return WeightsSource(model, tag, None) if model.origin == "open_clip" else None


def _check_activation(model: Architecture, file: Path) -> None:
    """Refuse a file whose activation is ambiguous because tags of its architecture differ."""
    import open_clip

    default_is_quick = bool(model.config.get("quick_gelu"))
    tags_by_activation: dict[str, list[str]] = {"QuickGELU": [], "GELU": []}
    for tag in open_clip.list_pretrained_tags_by_model(model.name):
        is_quick = default_is_quick or bool(
            open_clip.get_pretrained_cfg(model.name, tag).get("quick_gelu")
        )
        tags_by_activation["QuickGELU" if is_quick else "GELU"].append(tag)
    if not tags_by_activation["GELU" if default_is_quick else "QuickGELU"]:
        return
    choices = "; ".join(
        f"{activation}: {', '.join(tags)}"
        for activation, tags in tags_by_activation.items()
        if tags
    )
    example = (tags_by_activation["QuickGELU"] or tags_by_activation["GELU"])[0]
    raise EncoderError(
        f"{file}: a file does not say whether its weights were trained with GELU or QuickGELU, and "
        f"weights of {model.name} with the wrong one give other features without any error. Name "
        f"the tag whose settings it takes, as in pretrained={example}@{file} ({choices}). For "
        "weights of your own: the tag they were tuned from, or an `architecture` file that says "
        '"quick_gelu": true or false, with mean and std'
    )


def _check_no_torchscript(file: Path, name: str, tag: str) -> None:
    """Refuse a TorchScript program, as OpenAI publishes its weights, and say what to do."""
    if not zipfile.is_zipfile(file):
        return
    with zipfile.ZipFile(file) as archive:
        if not any("/code/" in entry for entry in archive.namelist()):
            return
    data = file.with_suffix(weights.SUFFIXES[0])
    raise EncoderError(
        f"{file}: the weights {tag!r} of {name} as a TorchScript program, and only data is read. "
        f"Give pretrained={tag}, which open_clip fetches as data, or save them as data once, with "
        f"safetensors.torch.save_file(open_clip.load_openai_model({str(file)!r}, 'fp32')"
        f".state_dict(), {str(data)!r}), and give pretrained={tag}@{data}"
    )


def _published_as(file: Path) -> list[tuple[str, str]]:
    """Return architectures and tags of the weights with a file's digest; usually none."""
    import open_clip

    # what open_clip knows digests of are files of torch; what is absent is refused on reading
    if file.suffix == weights.SUFFIXES[0] or not file.is_file():
        return []
    with file.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
    urls = {
        (name, tag): str(open_clip.get_pretrained_cfg(name, tag).get("url", ""))
        for name, tag in open_clip.list_pretrained()
    }
    return [pair for pair, url in urls.items() if digest.startswith(digest_in_url(url) or "-")]


def digest_in_url(url: str) -> str | None:
    """Return the sha256, or its first 8 digits, in an address of open_clip's weights."""
    full_match = re.search(r"/([0-9a-f]{64})/", url)
    short_match = re.search(r"-([0-9a-f]{8})\.pth?$", url)
    match = full_match or short_match
    return match[1] if match else None


PixelConstant = float | Sequence[float]
"""A pixel constant: one number for all channels, or one each for red, green and blue."""

RANDOM_WEIGHTS: Final = "random"
_RANDOM_SEED = 0
# Random weights were trained on no pixels; this brings them to [-1, 1].
_NEUTRAL_PIXELS = {"mean": 0.5, "std": 0.5}


@dataclass(frozen=True, eq=False)
class Encoder:
    """A frozen image encoder with the source of its weights.

    Attributes:
        name: of the architecture; says so where the weights are random.
        tower: the frozen visual tower.
        digest: sha256 (hexadecimal) of the visual weights as float32, of what else decides the
            features (activation, heads, pooling, epsilons) and of the pixel constants; whatever the
            device, the precision and the requested input size.
        pretrained: what was loaded: a tag, a path, "TAG@PATH" where a tag gives the settings,
            "shipped", "random (seed 0)", or "none" for the raw pixels.
        has_text_tower: whether a text tower belongs to these weights.
        parameters: number of parameters of the visual tower.
    """

    name: str
    tower: Tower
    digest: str
    pretrained: str
    has_text_tower: bool
    parameters: int


@dataclass(frozen=True)
class _LoadedModel:
    """A visual model with weights, and the constants that come with them."""

    visual: nn.Module
    pretrained: str
    has_text_tower: bool
    constants: Mapping[str, Any]


def load_encoder(
    name: str = "demo",
    *,
    pretrained: str | Path | None = None,
    architecture: str | Path | None = None,
    image_size: int | None = None,
    mean: PixelConstant | None = None,
    std: PixelConstant | None = None,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> Encoder:
    """Load a frozen image encoder.

    A local file does not say whether it was trained with GELU or QuickGELU, nor with which pixels.
    "TAG@PATH" takes all settings of a tag of open_clip and only the bytes from the file; a file
    that open_clip publishes is recognised by its digest. Otherwise the name or the `architecture`
    must say it: a path alone is refused for a name whose tags differ in the activation.

    Args:
        name: "demo" (shipped), "pixels" (no network: the patch tokens are the normalised pixels),
            an architecture of open_clip, or your choice with `architecture`.
        pretrained: a tag of open_clip (downloaded once, by open_clip), the path of a checkpoint,
            "TAG@PATH", or the word "random" (from a fixed seed). None: the shipped weights of
            "demo", or none for "pixels".
        architecture: a model configuration of your own, in open_clip's JSON format.
        image_size: pixels on a side, a multiple of the patch size; None: the model's own.
        mean: of pixels in [0, 1]; None: what comes with the weights (0.5 for random ones and for
            "pixels").
        std: likewise.
        device: of the tower.
        dtype: of the tower.

    Raises:
        EncoderError: when weights or pixel constants cannot be loaded, do not fit or are not
            finite.
        UnknownNameError: for an unknown name or tag.
    """
    weights_spec = None if pretrained is None else str(pretrained)
    if name == catalog.PIXELS and (weights_spec, architecture) == (None, None):
        return _load_pixels(image_size, mean, std, device, dtype)
    model = architectures.find_architecture(name, architecture)
    loaded = _load_weights(model, weights_spec)
    tower = tower_from_open_clip(
        loaded.visual,
        mean=_pixel_constant("mean", mean, loaded.constants, model),
        std=_pixel_constant("std", std, loaded.constants, model),
    )
    digest = weights.tensor_digest(loaded.visual.state_dict(), _feature_settings(tower))
    if image_size is not None:
        tower = tower.resized(image_size)
    return Encoder(
        name=model.name + (" (random weights)" if weights_spec == RANDOM_WEIGHTS else ""),
        tower=tower.to(device, dtype),
        digest=digest,
        pretrained=loaded.pretrained,
        has_text_tower=loaded.has_text_tower,
        parameters=sum(parameter.numel() for parameter in loaded.visual.parameters()),
    )


def _load_pixels(
    image_size: int | None,
    mean: PixelConstant | None,
    std: PixelConstant | None,
    device: torch.device | str,
    dtype: torch.dtype,
) -> Encoder:
    """Make the encoder `pixels`; arguments and errors are those of `load_encoder`."""
    model = Architecture(catalog.PIXELS, {}, _NEUTRAL_PIXELS, catalog.PIXELS)
    tower: Tower = make_pixel_tower(
        mean=_pixel_constant("mean", mean, _NEUTRAL_PIXELS, model),
        std=_pixel_constant("std", std, _NEUTRAL_PIXELS, model),
        image_size=catalog.PIXELS_IMAGE_SIZE,
        patch=catalog.PIXELS_PATCH,
    )
    digest = weights.tensor_digest({}, _feature_settings(tower))
    if image_size is not None:
        tower = tower.resized(image_size)
    return Encoder(
        name=catalog.PIXELS,
        tower=tower.to(device, dtype),
        digest=digest,
        pretrained="none",
        has_text_tower=False,
        parameters=0,
    )


def meta_tower(
    name: str = "demo", *, image_size: int | None = None, architecture: str | Path | None = None
) -> Tower:
    """Build the tower of an architecture on PyTorch's meta device: shapes, and no values.

    No weights are read, downloaded or drawn, and none need memory; ViT-L/14 takes some 30 ms.

    Args:
        name: "demo", an architecture of open_clip, or your choice with `architecture`.
        image_size: pixels on a side, a multiple of the patch size; None: the model's own.
        architecture: a model configuration of your own, in open_clip's JSON format.

    Raises:
        UnknownNameError: for an unknown name.
        EncoderError: when the configuration cannot be read or built, when the image size does not
            fit, or when the model has no blocks to adapt.
    """
    if name == catalog.PIXELS and architecture is None:
        raise _no_blocks(name, catalog.PIXELS_REASON)
    model = architectures.find_architecture(name, architecture)
    if model.config["vision_cfg"].get("timm_model_name"):
        raise _no_blocks(model.name, catalog.TIMM_REASON)
    visual = architectures.build_visual_tower(model, in_memory=False)
    tower = tower_from_open_clip(visual, mean=torch.zeros(3), std=torch.ones(3))
    if isinstance(tower, OpaqueTower):
        raise _no_blocks(model.name, tower.reason)
    return tower if image_size is None else tower.resized(image_size)


def _no_blocks(name: str, reason: str) -> EncoderError:
    return EncoderError(
        f"encoder {name!r} has no blocks that can be adapted: {reason}. It works with the "
        "adapter 'frozen' alone; `fewshot-i2v list encoders` shows which ones have blocks"
    )


def _load_weights(model: Architecture, pretrained: str | None) -> _LoadedModel:
    if pretrained == RANDOM_WEIGHTS:
        plain = plain_vision_transformer(model.config, "cpu")  # starts without open_clip
        visual = plain or architectures.build_visual_tower(model, in_memory=True)
        weights.randomise_weights(visual, _RANDOM_SEED)
        description = f"{RANDOM_WEIGHTS} (seed {_RANDOM_SEED})"
        return _LoadedModel(visual, description, False, {**_NEUTRAL_PIXELS, **model.preprocess})
    source = find_weights(model, pretrained)
    if source is None:
        problem = "needs `pretrained`" if pretrained is None else f"has no tag {pretrained!r}"
        raise EncoderError(f"encoder {model.name!r} {problem}: {_weights_choices(model)}")
    model, tag, file = source.model, source.tag, source.file
    if file is not None:
        checkpoint = weights.read_checkpoint(file)
        visual = architectures.build_visual_tower(model, in_memory=False)
        weights.load_strictly(visual, checkpoint.tensors, str(file))
        local_name = f"{tag}@{file}" if tag else str(file)
        description = "shipped" if pretrained is None else local_name
        return _LoadedModel(visual, description, checkpoint.has_text_tower, model.preprocess)
    clip_model, settings = load_pretrained_clip(model, str(tag))
    visual = clip_model.get_submodule("visual")
    weights.check_finite(visual.state_dict(), f"{model.name} with {tag!r}")
    return _LoadedModel(visual, str(tag), True, settings)


def _weights_choices(model: Architecture) -> str:
    """Describe the possible values of `pretrained`."""
    tags: list[str] = []
    if model.origin == "open_clip":
        import open_clip

        tags = open_clip.list_pretrained_tags_by_model(model.name)
    tag_choices = f"a tag ({', '.join(tags)}), TAG@PATH for a local file with a tag's settings, "
    local = f"the path of a local checkpoint ({weights.SUFFIXES[0]}), or '{RANDOM_WEIGHTS}'"
    return f"give {tag_choices if tags else ''}{local}"


def _pixel_constant(
    kind: str, explicit: PixelConstant | None, constants: Mapping[str, Any], model: Architecture
) -> Tensor:
    """Return a pixel constant as (3,), from the argument or else from the weights' settings."""
    value = constants.get(kind) if explicit is None else explicit
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


def _feature_settings(tower: Tower) -> dict[str, object]:
    """Return the settings that decide the features besides the weights."""
    settings: dict[str, object] = {"mean": tower.mean.tolist(), "std": tower.std.tolist()}
    if isinstance(tower, OpaqueTower):
        modules = tower.visual.named_modules()
        return {**settings, "modules": [f"{name} {type(m).__name__}" for name, m in modules]}
    if isinstance(tower, PixelTower):
        return {**settings, "pixels of patches": tower.patch}
    norms = [tower.norm_post, *(n for b in tower.blocks for n in (b.norm_1, b.norm_2))]
    return {
        **settings,
        "image_size": tower.image_size,
        "pool": tower.pool,
        "heads": [block.heads for block in tower.blocks],
        "activation": [block.activation for block in tower.blocks],
        "eps": [norm.eps for norm in norms],
        "norm_pre": None if tower.norm_pre is None else tower.norm_pre.eps,
    }
