"""The heads that the contract is checked for, and the small episodes that they score."""

from __future__ import annotations

import functools
import typing
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
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
JOINT, SCALE = 9, 20.0
NAMES = [row.name for row in registry.list_methods("heads")]
# Leaving clips out fits a classifier for every clip and every C. The default options do so; the
# choice of C takes vectors as they come, so a fixed C says the same about what changes the vectors.
QUICK: dict[str, dict[str, Any]] = {"logistic": {"c": 1.0}}
READERS = [name for name in NAMES if registry.load_method("heads", name).uses_class_names]


def variants(name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The default options, and every choice and switch changed alone, where that is allowed."""
    cls = registry.load_method("heads", name)
    yield name, {}
    for key, info in cls.Options.model_fields.items():
        choices = typing.get_args(info.annotation) if info.annotation is not bool else (False, True)
        if info.annotation is not bool and typing.get_origin(info.annotation) is not typing.Literal:
            continue
        for value in choices:
            if value == info.default:
                continue
            try:
                cls.Options(**{key: value})
            except (HeadError, ValidationError):
                continue
            yield f"{name}:{key}={value}", {key: value} | QUICK.get(name, {})


CASES = [case for name in NAMES for case in variants(name)]
IDS = [case for case, _ in CASES]
PARAMETERS = [(case.partition(":")[0], options) for case, options in CASES]
every_head = pytest.mark.parametrize(("name", "options"), PARAMETERS, ids=IDS)


def draw_centers(generator: torch.Generator) -> Tensor:
    """Frame features of each class, (E, way, T, D)."""
    return torch.randn(EPISODES, WAY, FRAMES, WIDTH, generator=generator)


def class_texts(part: slice = slice(None), order: Sequence[int] = range(WAY)) -> ClassTexts:
    """Texts that lie where the clips of their classes do, in a space of another width.

    `part` says of which episodes, `order` which class each of the names is of.
    """
    generator = torch.Generator().manual_seed(7)
    centers = draw_centers(generator)[part].mean(-2)[:, list(order)]
    projection = torch.randn(WIDTH, JOINT, generator=torch.Generator().manual_seed(8))
    return ClassTexts(nn.functional.normalize(centers @ projection, dim=-1), projection, SCALE)


def build(
    name: str,
    options: dict[str, Any],
    seeds: Sequence[int] = SEEDS,
    texts: ClassTexts | None = None,
) -> Head:
    """A head of the sizes of `episode`; one that reads names gets those of its classes."""
    cls = registry.load_method("heads", name)
    more = {"texts": texts or class_texts()} if cls.uses_class_names else {}
    head: Head = cls(
        cls.Options(**options), width=WIDTH, way=WAY, frames=FRAMES, seeds=seeds, **more
    )
    return head


def features(frames: Tensor) -> Features:
    return Features(frames, frames.mean(-2), {2: frames.unsqueeze(-2).repeat(1, 1, 1, 4, 1)})


def pick(given: Features, episodes: slice) -> Features:
    return given.map(lambda x: x[episodes])


def reorder(given: Features, order: Tensor) -> Features:
    return given.map(lambda x: x[:, order])


def episode(shot: int, noise: float = 1.0) -> tuple[Features, Features, Tensor, Tensor]:
    """Support, query and their labels; each class has its own frame features."""
    generator = torch.Generator().manual_seed(7)
    centers = draw_centers(generator)
    labels = torch.arange(WAY).repeat_interleave(shot).expand(EPISODES, -1)
    truth = torch.arange(QUERIES).remainder(WAY).expand(EPISODES, -1)

    def draw(of: Tensor) -> Features:
        clean = torch.stack([centers[e, of[e]] for e in range(EPISODES)])
        return features(clean + noise * torch.randn(clean.shape, generator=generator))

    return draw(labels), draw(truth), labels, truth


def seeded_parameters(head: Head) -> list[Tensor]:
    return [p.detach().clone() for p in head.parameters()]


@functools.cache
def _default_logits(case: str, shot: int) -> tuple[Tensor, Tensor]:
    name, options = dict(zip(IDS, PARAMETERS, strict=True))[case]
    head, (support, query, labels, _) = build(name, options), episode(shot)
    with torch.no_grad():
        return head.compute_support_logits(support, labels), head(query, support, labels)


def default_logits(name: str, options: dict[str, Any], shot: int) -> tuple[Tensor, Tensor]:
    """Logits of the support and query clips of `episode(shot)`, computed once for all tests."""
    training, scores = _default_logits(IDS[PARAMETERS.index((name, options))], shot)
    return training.clone(), scores.clone()


def losses(logits: Tensor, labels: Tensor) -> Tensor:
    return nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="sum")
