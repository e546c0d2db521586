"""Features and class names of three small episodes, for tests of heads that read names."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fewshot_i2v import registry
from fewshot_i2v.models.adapters.base.features import Features
from fewshot_i2v.models.heads.base.head import ClassTexts, Head

WIDTH, JOINT, WAY, FRAMES, EPISODES, SCALE = 10, 7, 3, 4, 3, 30.0
# episodes with different, unbalanced and unsorted numbers of support clips per class
LABELS = torch.tensor([[0, 0, 1, 1, 1, 2], [2, 1, 0, 1, 2, 2], [0, 1, 2, 0, 1, 2]])


def draw(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def clips(number: int, seed: int) -> Features:
    frames = draw(EPISODES, number, FRAMES, WIDTH, seed=seed) + 1
    return Features(frames, 2 * frames[..., 0, :] - frames[..., 1, :])


def texts(*, projected: bool = True) -> ClassTexts:
    """Unit embeddings (E, way, J), with a projection or in the space of the features itself."""
    embeddings = nn.functional.normalize(
        draw(EPISODES, WAY, JOINT if projected else WIDTH, seed=11), dim=-1
    )
    return ClassTexts(embeddings, draw(WIDTH, JOINT, seed=12) if projected else None, SCALE)


def make(name: str, given: ClassTexts | None = None, **options: object) -> Head:
    """A head by name."""
    cls = registry.load_method("heads", name)
    more = {"texts": given or texts()} if cls.uses_class_names else {}
    head: Head = cls(
        cls.Options.model_validate(options),
        width=WIDTH,
        way=WAY,
        frames=FRAMES,
        seeds=(0, 0, 0),
        **more,
    )
    return head


def cosine(a: Tensor, b: Tensor) -> float:
    """Of two vectors, in float64."""
    a, b = a.double(), b.double()
    return float(a @ b / (a.norm() * b.norm()))
