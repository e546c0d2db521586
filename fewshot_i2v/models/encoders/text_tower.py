"""Text towers of the encoders' weights, for heads that read class names."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from fewshot_i2v.errors import EncoderError, UnknownNameError
from fewshot_i2v.models.encoders import architectures, loading, weights
from fewshot_i2v.models.encoders.architectures import Architecture

if TYPE_CHECKING:
    from open_clip.tokenizer import SimpleTokenizer

NO_TEXT_TOWER_ADVICE = (
    "Heads that read class names, such as zero-shot, tip and text-prototype, need one: use a head "
    "that does not, such as prototype or linear, or weights with both towers, such as the shipped "
    "encoder 'demo' or a tag of open_clip"
)
"""What to say after "has no text tower"."""

# What a CLIP checkpoint holds beside its text tower; the last three are sizes, in OpenAI's files.
_NOT_TEXT_PREFIXES = ("visual.", "text_decoder.", "logit_scale", "logit_bias")
_SIZE_ENTRIES = {"input_resolution", "context_length", "vocab_size"}
# What decides the embeddings besides the names, shapes and values of the weights.
_EMBEDDING_SETTINGS = (
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
_FETCHED_KEYS = ("hf_model_name", "hf_tokenizer_name", "tokenizer_kwargs")


def _text_config(model: Architecture) -> Mapping[str, Any]:
    """Return the `text_cfg` of an architecture.

    Raises:
        EncoderError: when there is none, or its text model or tokenizer is not open_clip's and
            would have to be fetched from an address.
        UnknownNameError: for a key that open_clip does not have.
    """
    from open_clip.model import CLIPTextCfg

    config = model.config.get("text_cfg")
    if config is None:
        reason = f"no 'text_cfg' in {model.origin}"
        raise EncoderError(
            f"encoder {model.name!r} has no text tower ({reason}). {NO_TEXT_TOWER_ADVICE}"
        )
    if not isinstance(config, dict):
        raise EncoderError(f"{model.origin}: 'text_cfg' is not an object")
    allowed = {entry.name for entry in fields(CLIPTextCfg)}
    for key in config:
        if key not in allowed:
            raise UnknownNameError(f"key of 'text_cfg' in {model.origin}", key, allowed)
    foreign = [f"{key}={config[key]!r}" for key in _FETCHED_KEYS if config.get(key)]
    if foreign:
        raise EncoderError(
            f"the text tower of encoder {model.name!r} cannot be used ({', '.join(foreign)}): only "
            "open_clip's own text transformer with CLIP's byte-pair tokenizer can, since others "
            f"are fetched by address. {NO_TEXT_TOWER_ADVICE}"
        )
    return config


def _read_text_tensors(path: Path) -> dict[str, Tensor]:
    """Read all of a local CLIP checkpoint but its visual tower, by the full model's names."""
    checkpoint = weights.read_checkpoint(path, text=True)
    if not checkpoint.has_text_tower:
        raise EncoderError(
            f"{path} has no text tower: it holds no text weights. {NO_TEXT_TOWER_ADVICE}"
        )
    return checkpoint.tensors


def _load_text_weights(text_tower: nn.Module, tensors: Mapping[str, Tensor], origin: str) -> float:
    """Load the weights of a full CLIP model into its text tower, and return its temperature.

    Names of the text tower have `text.` in front or not; any precision becomes float32.
    """
    text_weights = {
        n: t
        for n, t in tensors.items()
        if not n.startswith(_NOT_TEXT_PREFIXES) and n not in _SIZE_ENTRIES
    }
    if all(name.startswith("text.") for name in text_weights):
        text_weights = {name.removeprefix("text."): tensor for name, tensor in text_weights.items()}
    not_floating = [name for name, tensor in text_weights.items() if not tensor.is_floating_point()]
    if not_floating:
        raise EncoderError(f"{origin}: {not_floating[0]!r} does not hold floating-point numbers")
    try:
        text_tower.load_state_dict(text_weights, strict=True)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:600]
        raise EncoderError(f"{origin} does not fit this text tower: {reason}") from error
    weights.check_finite(text_tower.state_dict(), origin)
    return _temperature(tensors.get("logit_scale"), origin)


def _temperature(logit_scale: Tensor | None, origin: str) -> float:
    if logit_scale is None:
        raise EncoderError(
            f"{origin} has no 'logit_scale', the logarithm of the temperature that both towers "
            "were trained with; save the state_dict() of the model with both"
        )
    if logit_scale.numel() != 1 or not logit_scale.double().exp().isfinite().all():
        raise EncoderError(f"{origin}: 'logit_scale' is {logit_scale}; expected one finite number")
    return float(logit_scale.double().exp())


_TOKENIZER = "CLIP byte pairs, lower case"
_BATCH = 256
"""Prompts of a class that are embedded at once; a language model may have written hundreds."""


@dataclass(frozen=True, eq=False)
class TextTower:
    """A frozen text tower, on the CPU in float32.

    Attributes:
        digest: sha256 (hexadecimal) of its weights as float32 and of what else decides the
            embeddings (activation, heads, context length, tokenizer) and their scale.
        scale: the temperature that both towers were trained with, such as 100.
        context_length: the maximum number of tokens of a prompt, start and end token included.
    """

    digest: str
    scale: float
    context_length: int
    _model: nn.Module = field(repr=False)
    _tokenize: Callable[[str], list[int]] = field(repr=False)
    _boundary_tokens: tuple[int, int] = field(repr=False)

    def embed_names(self, names: Sequence[str], templates: Sequence[str]) -> Tensor:
        """Embed class names as CLIP does with several prompts.

        Each name is put into every template; the embeddings of these prompts are scaled to length
        one, averaged, and scaled to length one again. The embedding of a name does not depend on
        the other names.

        Args:
            names: at least one; underscores become spaces.
            templates: at least one, each with exactly one {} where the name goes.

        Returns:
            (names, J), float32, on the CPU, of length one.

        Raises:
            EncoderError: when there is no name or template, a template has not exactly one {}, or a
                prompt is longer than the tower can read.
        """
        if not names or not templates:
            raise EncoderError("expected at least one class name and at least one template")
        for problem in filter(None, map(template_problem, templates)):
            raise EncoderError(problem)
        spoken = [name.replace("_", " ") for name in names]
        # one name at a time: rounding would depend on the size of the batch
        return torch.stack(
            [self.embed_prompts([t.replace("{}", words) for t in templates]) for words in spoken]
        )

    def embed_prompts(self, prompts: Sequence[str]) -> Tensor:
        """Embed a class by several prompts: their unit embeddings are averaged.

        Args:
            prompts: at least one, used as they are.

        Returns:
            (J,), float32, on the CPU, of length one.

        Raises:
            EncoderError: when a prompt is longer than the tower can read.
        """
        token_ids = torch.tensor([self._token_ids(prompt) for prompt in prompts])
        with torch.no_grad():
            parts = torch.split(token_ids, _BATCH)
            vectors = torch.cat([self._model(part).float() for part in parts])
        return functional.normalize(functional.normalize(vectors, dim=-1).mean(0), dim=-1)

    @property
    def max_tokens(self) -> int:
        """Most tokens of a prompt, without those of start and end."""
        return self.context_length - len(self._boundary_tokens)

    def count_tokens(self, prompt: str) -> int:
        """Number of tokens of a prompt, without those of start and end."""
        return len(self._tokenize(prompt))

    def _token_ids(self, prompt: str) -> list[int]:
        """Return the token ids of a prompt between start and end, padded with zeros."""
        tokens = self._tokenize(prompt)
        if len(tokens) > self.max_tokens:
            raise EncoderError(
                f"the text {prompt!r} has {len(tokens)} tokens; this text tower reads at most "
                f"{self.max_tokens}. Shorten the class name or the template: nothing is cut off"
            )
        start, end = self._boundary_tokens
        ids = [start, *tokens, end]
        return ids + [0] * (self.context_length - len(ids))


def template_problem(template: str) -> str | None:
    """Describe what is wrong with a template, or return None.

    Args:
        template: a text with exactly one {} where the class name goes, and no other brace.
    """
    before, placeholder, after = template.partition("{}")
    if placeholder and not any(brace in before + after for brace in "{}"):
        return None
    return f"template {template!r}: expected exactly one {{}}, as in 'a video of {{}}'"


def load_text_tower(
    name: str = "demo",
    *,
    pretrained: str | Path | None = None,
    architecture: str | Path | None = None,
) -> TextTower:
    """Load the text tower of the weights that `load_encoder` loads for the same arguments.

    Args:
        name: "demo" (shipped), an architecture of open_clip, or your choice with `architecture`.
        pretrained: a tag of open_clip, the path of a checkpoint with both towers, or "TAG@PATH";
            None: the shipped weights of "demo".
        architecture: a model configuration of your own, in open_clip's JSON format.

    Raises:
        EncoderError: when these weights have no text tower, it cannot be used without fetching
            something, or it cannot be loaded, does not fit or is not finite.
        UnknownNameError: for an unknown name or tag.
    """
    weights_spec = None if pretrained is None else str(pretrained)
    model = architectures.find_architecture(name, architecture)
    if weights_spec == loading.RANDOM_WEIGHTS:
        raise EncoderError(
            f"encoder {model.name!r} has no text tower: its weights are random and know no words. "
            f"{NO_TEXT_TOWER_ADVICE}"
        )
    _text_config(model)
    source = loading.find_weights(model, weights_spec)
    if source is None:
        raise EncoderError(
            f"encoder {model.name!r} has no weights {weights_spec!r}: give `pretrained`, the path "
            "of a checkpoint with both towers, or a tag where the architecture is one of "
            "open_clip's"
        )
    model, path, tag = source.model, source.file, str(source.tag)
    if path is not None:
        return _build_tower(model, _read_text_tensors(path), str(path), quick_gelu=False)
    clip_model, settings = loading.load_pretrained_clip(model, tag)
    quick_gelu = bool(settings.get("quick_gelu", False))
    return _build_tower(
        model, clip_model.state_dict(), f"{model.name} with {tag!r}", quick_gelu=quick_gelu
    )


@functools.cache  # reading its vocabulary takes as long as the rest of a small text tower
def _make_tokenizer() -> SimpleTokenizer:
    from open_clip.tokenizer import SimpleTokenizer

    return SimpleTokenizer()


def _build_tower(
    model: Architecture, tensors: Mapping[str, Tensor], origin: str, *, quick_gelu: bool
) -> TextTower:
    """Build the text tower of a model with the weights of a checkpoint."""
    from open_clip.model import CLIPTextCfg, _build_text_tower

    quick_gelu = quick_gelu or bool(model.config.get("quick_gelu", False))
    config = CLIPTextCfg(**(dict(_text_config(model)) | {"output_tokens": False}))
    try:
        # its constructor draws from the global generator
        with torch.random.fork_rng(devices=[]):
            text_tower: nn.Module = _build_text_tower(model.config["embed_dim"], config, quick_gelu)
    except Exception as error:  # the constructors check little, so a bad value raises anything
        raise EncoderError(
            f"{model.origin}: open_clip cannot build this text tower: {error or type(error)}"
        ) from error
    text_tower.eval().requires_grad_(False)
    scale = _load_text_weights(text_tower, tensors, origin)
    tokenizer = _make_tokenizer()
    n_tokens = int(text_tower.get_parameter("token_embedding.weight").shape[0])
    if n_tokens != tokenizer.vocab_size:
        raise EncoderError(
            f"the text tower of encoder {model.name!r} knows {n_tokens} tokens and CLIP's "
            f"tokenizer {tokenizer.vocab_size}: it was trained with another one, which is not "
            "known here"
        )
    settings = {key: getattr(config, key) for key in _EMBEDDING_SETTINGS}
    settings |= {"quick_gelu": quick_gelu, "scale": scale}
    return TextTower(
        digest=weights.tensor_digest(text_tower.state_dict(), settings | {"tokenizer": _TOKENIZER}),
        scale=scale,
        context_length=int(settings["context_length"]),
        _model=text_tower,
        _tokenize=tokenizer.encode,
        _boundary_tokens=(tokenizer.sot_token_id, tokenizer.eot_token_id),
    )
