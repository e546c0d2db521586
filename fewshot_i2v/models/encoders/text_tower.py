"""The text tower that belongs to an encoder's weights, for heads that read class names."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from fewshot_i2v.config.file_names import split_weights
from fewshot_i2v.errors import EncoderError, UnknownNameError
from fewshot_i2v.models.encoders import architectures, catalog, loading, weights
from fewshot_i2v.models.encoders.architectures import Architecture

ADVICE = (
    "Heads that read class names, such as zero-shot, tip and text-prototype, need one: use a head "
    "that does not, such as prototype or linear, or weights with both towers, such as the shipped "
    "encoder 'demo' or a tag of open_clip"
)
"""What to say after "has no text tower"."""

# What a CLIP checkpoint holds beside its text tower; the last three are sizes, in OpenAI's files.
_BESIDE = ("visual.", "text_decoder.", "logit_scale", "logit_bias")
_SIZES = {"input_resolution", "context_length", "vocab_size"}
# What decides the embeddings besides the names, shapes and values of the weights.
_DECIDING = (
    "context_length",
    "heads",
    "no_causal_mask",
    "pool_type",
    "embed_cls",
    "pad_id",
    "eos_id",
    "act_kwargs",
    "norm_kwargs",
)
_FOREIGN = ("hf_model_name", "hf_tokenizer_name", "tokenizer_kwargs")


def text_config(model: Architecture) -> Mapping[str, Any]:
    """The `text_cfg` of an architecture.

    Raises:
        EncoderError: when there is none, or its text model or tokenizer is not open_clip's own and
            would have to be fetched from somewhere.
        UnknownNameError: for a key that open_clip does not have.
    """
    from open_clip.model import CLIPTextCfg

    config = model.config.get("text_cfg")
    if config is None:
        where = f"no 'text_cfg' in {model.origin}"
        raise EncoderError(f"encoder {model.name!r} has no text tower ({where}). {ADVICE}")
    if not isinstance(config, dict):
        raise EncoderError(f"{model.origin}: 'text_cfg' is not an object")
    known = {entry.name for entry in fields(CLIPTextCfg)}
    for key in config:
        if key not in known:
            raise UnknownNameError(f"key of 'text_cfg' in {model.origin}", key, known)
    foreign = [f"{key}={config[key]!r}" for key in _FOREIGN if config.get(key)]
    if foreign:
        raise EncoderError(
            f"the text tower of encoder {model.name!r} cannot be used ({', '.join(foreign)}): only "
            "open_clip's own text transformer with CLIP's byte-pair tokenizer can, since others "
            f"are fetched by address. {ADVICE}"
        )
    return config


def text_settings(model: Architecture) -> dict[str, Any]:
    """What of a `text_cfg`, defaults included, decides the embeddings besides the weights."""
    from open_clip.model import CLIPTextCfg

    config = CLIPTextCfg(**text_config(model))
    return {key: getattr(config, key) for key in _DECIDING}


def build_text(model: Architecture, *, quick_gelu: bool) -> nn.Module:
    """The text tower of an architecture with meaningless weights, in memory.

    Args:
        model: with a `text_cfg` that `text_config` accepts.
        quick_gelu: whether the weights were trained with QuickGELU.

    Raises:
        EncoderError: when the configuration cannot be built.
    """
    from open_clip.model import CLIPTextCfg, _build_text_tower

    config = CLIPTextCfg(**(dict(text_config(model)) | {"output_tokens": False}))
    try:
        # its constructor draws from the global generator
        with torch.random.fork_rng(devices=[]):
            text: nn.Module = _build_text_tower(model.config["embed_dim"], config, quick_gelu)
    except Exception as error:  # the constructors check little, so a bad value raises anything
        raise EncoderError(
            f"{model.origin}: open_clip cannot build this text tower: {error or type(error)}"
        ) from error
    return text.eval().requires_grad_(False)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Everything but the visual tower of a local CLIP checkpoint, by its name in the whole model.

    Raises:
        EncoderError: when it cannot be read, or has no text weights.
    """
    from safetensors import safe_open

    # refuses what is absent, damaged or more than data
    if not weights.read_checkpoint(path).text:
        raise EncoderError(f"{path} has no text tower: it holds no text weights. {ADVICE}")
    if path.suffix == ".safetensors":
        with safe_open(path, framework="pt") as file:
            kept = [name for name in file.keys() if not _is_visual(name)]  # noqa: SIM118
            tensors = {name: file.get_tensor(name) for name in kept}
    else:
        loaded = weights.load_pickle(path)
        loaded = loaded.get("state_dict", loaded)
        tensors = {name: value for name, value in loaded.items() if not _is_visual(name)}
    return {name.removeprefix("module."): value.detach() for name, value in tensors.items()}


def _is_visual(name: str) -> bool:
    return name.removeprefix("module.").startswith("visual.")


def fill_text(text: nn.Module, tensors: Mapping[str, Tensor], origin: str) -> float:
    """Puts the weights of a whole CLIP model into its text tower.

    Args:
        text: as `build_text` gives it.
        tensors: by their name in the whole model, those of the text tower with or without `text.`
            in front; floating ones of any precision become float32.
        origin: where they are from, for messages.

    Returns:
        The temperature that both towers were trained with, e to the power of `logit_scale`.

    Raises:
        EncoderError: listing names and shapes that do not fit, or tensors that are not finite, or
            because there is no `logit_scale`.
    """
    own = {n: t for n, t in tensors.items() if not n.startswith(_BESIDE) and n not in _SIZES}
    if all(name.startswith("text.") for name in own):
        own = {name.removeprefix("text."): tensor for name, tensor in own.items()}
    whole_numbers = [name for name, tensor in own.items() if not tensor.is_floating_point()]
    if whole_numbers:
        raise EncoderError(f"{origin}: {whole_numbers[0]!r} does not hold floating-point numbers")
    try:
        text.load_state_dict(own, strict=True)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:600]
        raise EncoderError(f"{origin} does not fit this text tower: {reason}") from error
    weights.check_finite(text.state_dict(), origin)
    return _scale(tensors.get("logit_scale"), origin)


def _scale(logit_scale: Tensor | None, origin: str) -> float:
    if logit_scale is None:
        raise EncoderError(
            f"{origin} has no 'logit_scale', the logarithm of the temperature that both towers "
            "were trained with; save the state_dict() of the whole model"
        )
    if logit_scale.numel() != 1 or not logit_scale.double().exp().isfinite().all():
        raise EncoderError(f"{origin}: 'logit_scale' is {logit_scale}; expected one finite number")
    return float(logit_scale.double().exp())


_TOKENIZER = "CLIP byte pairs, lower case"


@dataclass(frozen=True, eq=False)
class TextTower:
    """A frozen text tower, on the CPU in float32.

    Attributes:
        digest: sha256 (hexadecimal) of its weights as float32 and of what else decides the
            embeddings (activation, heads, context length, tokenizer) and their scale.
        scale: the temperature that both towers were trained with, such as 100.
        context: the most tokens of a text, its start and end included.
    """

    digest: str
    scale: float
    context: int
    _model: nn.Module = field(repr=False)
    _encode: Callable[[str], list[int]] = field(repr=False)
    _ends: tuple[int, int] = field(repr=False)

    def embed(self, names: Sequence[str], templates: Sequence[str]) -> Tensor:
        """Embeddings of class names, as CLIP makes them from several prompts.

        Each name is put into every template; the embeddings of these texts are scaled to length
        one, averaged, and scaled to length one again. The embedding of a name does not depend on
        which others it is asked for with.

        Args:
            names: at least one; underscores become spaces.
            templates: at least one, each with exactly one {} where the name goes.

        Returns:
            (names, J), float32, on the CPU, of length one.

        Raises:
            EncoderError: when there is no name or template, a template has not exactly one {}, or
                a text is longer than the tower can read.
        """
        if not names or not templates:
            raise EncoderError("expected at least one class name and at least one template")
        for problem in filter(None, map(template_problem, templates)):
            raise EncoderError(problem)
        rows = []
        for name in names:
            spoken = name.replace("_", " ")
            ids = [self._ids(template.replace("{}", spoken)) for template in templates]
            # one name at a time: rounding would depend on the size of the batch
            with torch.no_grad():
                vectors = functional.normalize(self._model(torch.tensor(ids)).float(), dim=-1)
            rows.append(functional.normalize(vectors.mean(0), dim=-1))
        return torch.stack(rows)

    def _ids(self, text: str) -> list[int]:
        """Token ids of a text between start and end, filled up with zeros."""
        inner = self._encode(text)
        if len(inner) + 2 > self.context:
            raise EncoderError(
                f"the text {text!r} has {len(inner)} tokens; this text tower reads at most "
                f"{self.context - 2}. Shorten the class name or the template: nothing is cut off"
            )
        start, end = self._ends
        ids = [start, *inner, end]
        return ids + [0] * (self.context - len(ids))


def template_problem(template: str) -> str | None:
    """What is wrong with a template, or None.

    Args:
        template: a text with exactly one {} where the class name goes, and no other brace.
    """
    before, hole, after = template.partition("{}")
    if hole and not any(brace in before + after for brace in "{}"):
        return None
    return f"template {template!r}: expected exactly one {{}}, as in 'a video of {{}}'"


def load_text(
    name: str = "demo",
    *,
    pretrained: str | Path | None = None,
    architecture: str | Path | None = None,
) -> TextTower:
    """Loads the text tower of the weights that `load_encoder` loads for the same arguments.

    Args:
        name: "demo" (shipped), an architecture of open_clip, or your choice with `architecture`.
        pretrained: a tag of open_clip, the path of a checkpoint with both towers, or "TAG@PATH";
            None: the shipped weights of "demo".
        architecture: a model configuration of your own, in open_clip's JSON format.

    Raises:
        EncoderError: when these weights have no text tower, it cannot be used without fetching
            something, or it cannot be had, does not fit or is not finite.
        UnknownNameError: for an unknown name or tag.
    """
    asked = None if pretrained is None else str(pretrained)
    model = architectures.find(name, architecture)
    if asked == loading.RANDOM:
        raise EncoderError(
            f"encoder {model.name!r} has no text tower: its weights are random and know no words. "
            f"{ADVICE}"
        )
    text_config(model)
    model, path = _file(model, asked)
    if path is not None:
        return _tower(model, read_tensors(path), str(path), quick_gelu=False)
    tag = str(asked)
    whole, settings = loading.whole_model(model, tag)
    quick_gelu = bool(settings.get("quick_gelu", False))
    return _tower(model, whole.state_dict(), f"{model.name} with {tag!r}", quick_gelu=quick_gelu)


def _file(model: Architecture, pretrained: str | None) -> tuple[Architecture, Path | None]:
    """The architecture as the weights need it; the checkpoint, or None for a tag of open_clip."""
    if pretrained is None and model.origin == str(catalog.DEMO_CONFIG):
        return model, catalog.DEMO_WEIGHTS
    tag, file = (None, None) if pretrained is None else split_weights(pretrained)
    if file is not None:
        return loading.for_file(model, tag, Path(file))[0], Path(file)
    if pretrained is not None and model.origin == "open_clip":
        return model, None
    raise EncoderError(
        f"encoder {model.name!r} has no weights {pretrained!r}: give `pretrained`, the path of a "
        "checkpoint with both towers, or a tag where the architecture is one of open_clip's"
    )


def _tower(
    model: Architecture, tensors: Mapping[str, Tensor], origin: str, *, quick_gelu: bool
) -> TextTower:
    """The text tower of a model filled from what a checkpoint holds."""
    from open_clip.tokenizer import SimpleTokenizer

    quick_gelu = quick_gelu or bool(model.config.get("quick_gelu", False))
    text = build_text(model, quick_gelu=quick_gelu)
    scale = fill_text(text, tensors, origin)
    tokenizer = SimpleTokenizer()
    words = int(text.get_parameter("token_embedding.weight").shape[0])
    if words != tokenizer.vocab_size:
        raise EncoderError(
            f"the text tower of encoder {model.name!r} knows {words} tokens and CLIP's tokenizer "
            f"{tokenizer.vocab_size}: it was trained with another one, which is not known here"
        )
    facts = text_settings(model) | {"quick_gelu": quick_gelu, "scale": scale}
    return TextTower(
        digest=weights.digest(text.state_dict(), facts | {"tokenizer": _TOKENIZER}),
        scale=scale,
        context=int(facts["context_length"]),
        _model=text,
        _encode=tokenizer.encode,
        _ends=(tokenizer.sot_token_id, tokenizer.eot_token_id),
    )
