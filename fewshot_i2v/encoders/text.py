"""The text tower that belongs to an encoder's weights, for heads that read class names."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from fewshot_i2v._config_merge import split_weights
from fewshot_i2v.encoders import _architecture, _tags, _text_model, _weights, catalog, clip
from fewshot_i2v.encoders._architecture import Architecture
from fewshot_i2v.errors import EncoderError

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
    model = _architecture.find(name, architecture)
    if asked == clip.RANDOM:
        raise EncoderError(
            f"encoder {model.name!r} has no text tower: its weights are random and know no words. "
            f"{_text_model.ADVICE}"
        )
    _text_model.text_config(model)
    model, path = _file(model, asked)
    if path is not None:
        return _tower(model, _text_model.read_tensors(path), str(path), quick_gelu=False)
    tag = str(asked)
    whole, settings = _tags.whole_model(model, tag)
    quick_gelu = bool(settings.get("quick_gelu", False))
    return _tower(model, whole.state_dict(), f"{model.name} with {tag!r}", quick_gelu=quick_gelu)


def _file(model: Architecture, pretrained: str | None) -> tuple[Architecture, Path | None]:
    """The architecture as the weights need it; the checkpoint, or None for a tag of open_clip."""
    if pretrained is None and model.origin == str(catalog.DEMO_CONFIG):
        return model, catalog.DEMO_WEIGHTS
    tag, file = (None, None) if pretrained is None else split_weights(pretrained)
    if file is not None:
        return _tags.for_file(model, tag, Path(file))[0], Path(file)
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
    text = _text_model.build_text(model, quick_gelu=quick_gelu)
    scale = _text_model.fill_text(text, tensors, origin)
    tokenizer = SimpleTokenizer()
    words = int(text.get_parameter("token_embedding.weight").shape[0])
    if words != tokenizer.vocab_size:
        raise EncoderError(
            f"the text tower of encoder {model.name!r} knows {words} tokens and CLIP's tokenizer "
            f"{tokenizer.vocab_size}: it was trained with another one, which is not known here"
        )
    facts = _text_model.facts(model) | {"quick_gelu": quick_gelu, "scale": scale}
    return TextTower(
        digest=_weights.digest(text.state_dict(), facts | {"tokenizer": _TOKENIZER}),
        scale=scale,
        context=int(facts["context_length"]),
        _model=text,
        _encode=tokenizer.encode,
        _ends=(tokenizer.sot_token_id, tokenizer.eot_token_id),
    )
