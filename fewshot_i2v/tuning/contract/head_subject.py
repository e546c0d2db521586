"""A head that is checked, and the small episodes that it scores."""

from __future__ import annotations

import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor, nn

from fewshot_i2v import registry
from fewshot_i2v.errors import HeadError
from fewshot_i2v.models.adapters.base.features import Features
from fewshot_i2v.models.heads.base.head import ClassTexts, Head

WIDTH, WAY, FRAMES, QUERIES = 12, 4, 3, 6
SEEDS = (1, 2)
EPISODES = len(SEEDS)
_JOINT_WIDTH, _SCALE = 9, 20.0


@dataclass(frozen=True)
class HeadSubject:
    """A head with some options.

    Attributes:
        name: on the command line.
        head_class: its class.
        options: those that differ from the defaults.
        summary: the first line of its file, as `list heads` shows it.
    """

    name: str
    head_class: type[Head]
    options: Mapping[str, Any] = field(default_factory=dict)
    summary: str = ""

    @property
    def label(self) -> str:
        """Name and options, such as `prototype:center=True`."""
        options = ",".join(f"{key}={value}" for key, value in self.options.items())
        return f"{self.name}:{options}" if options else self.name

    def build(self, seeds: Sequence[int] = SEEDS, texts: ClassTexts | None = None) -> Head:
        """Build the head for the sizes of `make_episode`; with `texts` if it reads class names."""
        more = {"texts": texts or make_class_texts()} if self.head_class.uses_class_names else {}
        parsed_options = self.head_class.Options.model_validate(dict(self.options))
        return self.head_class(
            parsed_options, width=WIDTH, way=WAY, frames=FRAMES, seeds=list(seeds), **more
        )

    def logits(self, shot: int) -> tuple[Tensor, Tensor]:
        """Compute the logits of the support and query clips of `make_episode(shot)`."""
        head, (support, query, labels, _) = self.build(), make_episode(shot)
        with torch.no_grad():
            return head.compute_support_logits(support, labels), head(query, support, labels)


def load_head_subject(name: str) -> HeadSubject:
    """Load the head of a name, with its default options.

    Raises:
        UsageError: as `registry.load_method`.
    """
    summaries = {info.name: info.summary for info in registry.list_methods("heads")}
    return HeadSubject(name, registry.load_method("heads", name), summary=summaries[name])


def option_variants(
    subject: HeadSubject, fixed: Mapping[str, Any] | None = None
) -> Iterator[HeadSubject]:
    """Yield a head with its default options, then with each choice and switch changed alone.

    Args:
        subject: the head.
        fixed: options of all but the first.
    """
    yield subject
    options_model = subject.head_class.Options
    for key, info in options_model.model_fields.items():
        is_switch = info.annotation is bool
        if not is_switch and typing.get_origin(info.annotation) is not typing.Literal:
            continue
        for value in (False, True) if is_switch else typing.get_args(info.annotation):
            if value == info.default:
                continue
            try:
                options_model.model_validate({key: value})
            except (HeadError, ValidationError):
                continue
            options = {key: value, **(fixed or {})}
            yield HeadSubject(subject.name, subject.head_class, options, subject.summary)


def draw_centers(generator: torch.Generator) -> Tensor:
    """Draw frame features of each class, (E, way, T, D)."""
    return torch.randn(EPISODES, WAY, FRAMES, WIDTH, generator=generator)


def make_class_texts(
    episodes: slice = slice(None), order: Sequence[int] = range(WAY)
) -> ClassTexts:
    """Make texts that lie where the clips of their classes do, in a space of another width.

    Args:
        episodes: those that the texts are of.
        order: which class each of the names is of.
    """
    generator = torch.Generator().manual_seed(7)
    centers = draw_centers(generator)[episodes].mean(-2)[:, list(order)]
    projection = torch.randn(WIDTH, _JOINT_WIDTH, generator=torch.Generator().manual_seed(8))
    return ClassTexts(nn.functional.normalize(centers @ projection, dim=-1), projection, _SCALE)


def make_features(frames: Tensor) -> Features:
    """Make features of frame features (E, clips, T, D): their means, and a grid of equal cells."""
    return Features(frames, frames.mean(-2), {2: frames.unsqueeze(-2).repeat(1, 1, 1, 4, 1)})


def select_episodes(features: Features, episodes: slice) -> Features:
    """Select the features of some episodes."""
    return features.map(lambda part: part[episodes])


def select_clips(features: Features, order: Tensor) -> Features:
    """Select the features of some clips, or put them into another order."""
    return features.map(lambda part: part[:, order])


def make_episode(shot: int, noise: float = 1.0) -> tuple[Features, Features, Tensor, Tensor]:
    """Make support, query and their labels; each class has its own frame features."""
    generator = torch.Generator().manual_seed(7)
    centers = draw_centers(generator)
    labels = torch.arange(WAY).repeat_interleave(shot).expand(EPISODES, -1)
    truth = torch.arange(QUERIES).remainder(WAY).expand(EPISODES, -1)

    def _draw(classes: Tensor) -> Features:
        clean = torch.stack([centers[e, classes[e]] for e in range(EPISODES)])
        return make_features(clean + noise * torch.randn(clean.shape, generator=generator))

    return _draw(labels), _draw(truth), labels, truth


def summed_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Compute the cross-entropy of all clips, summed."""
    return nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="sum")


def copy_parameters(head: Head) -> list[Tensor]:
    """Copy the parameters of a head."""
    return [p.detach().clone() for p in head.parameters()]
