"""Base of heads that read class names: their options, and the joint image-text space."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar

from pydantic import AfterValidator, BeforeValidator, Field
from torch import Tensor

from fewshot_i2v.errors import HeadError
from fewshot_i2v.models.adapters.base.features import Features
from fewshot_i2v.models.encoders.text_tower import template_problem
from fewshot_i2v.models.heads.base.features import l2_normalize
from fewshot_i2v.models.heads.base.head import ClassTexts, Head, HeadOptions


def _as_tuple(value: object) -> object:
    if isinstance(value, str):
        return (value,)
    return tuple(value) if isinstance(value, list) else value


def _check_template(value: str) -> str:
    problem = template_problem(value)
    if problem:
        raise ValueError(problem)
    return value


Templates = Annotated[
    tuple[Annotated[str, AfterValidator(_check_template)], ...],
    BeforeValidator(_as_tuple, json_schema_input_type=str | list[str]),
    Field(min_length=1),
]


class TextOptions(HeadOptions):
    """Options of a head that reads class names.

    Attributes:
        templates: one or several prompts with one {} each, where the class name goes, or its text
            of `class_texts`; the embeddings of a class are averaged over them. Words of the data's
            own, such as "a video of a person doing {}", can help or hurt: they are part of the
            result.
    """

    templates: Templates = ("a video of {}",)


class TextHead(Head):
    """Base of heads that compare clips with class names in the joint image-text space.

    A clip is its feature (as the adapter pools it) times the tower's projection, scaled to length
    one. A clip of zeros stays zero and has similarity 0 to everything.

    Raises:
        HeadError: as `Head`, and when the class-text embeddings have other sizes.
    """

    uses_class_names: ClassVar[bool] = True
    texts: ClassTexts

    def __init__(
        self,
        options: TextOptions,
        *,
        width: int,
        way: int,
        frames: int,
        seeds: Sequence[int],
        texts: ClassTexts,
    ) -> None:
        super().__init__(options, width=width, way=way, frames=frames, seeds=seeds, texts=texts)
        embeddings_shape = tuple(texts.embeddings.shape)
        projection_shape = (
            (width, width) if texts.projection is None else tuple(texts.projection.shape)
        )
        if (
            embeddings_shape != (self.episodes, way, projection_shape[1])
            or projection_shape[0] != width
        ):
            raise HeadError(
                f"{type(self).__name__} got text embeddings {embeddings_shape} and a "
                f"projection {projection_shape} for {self.episodes} episodes of {way} classes and "
                f"features with {width} channels; expected (episodes, classes, J) and (channels, J)"
            )

    def project_to_joint(self, features: Features) -> Tensor:
        """Projects clips to the joint image-text space, of any length, (E, clips, J)."""
        projection = self.texts.projection
        return features.clip if projection is None else features.clip @ projection

    def text_logits(self, x: Tensor) -> Tensor:
        """Scaled similarity of unit vectors (E, clips, J) to the class names, (E, clips, way)."""
        # the temperature that both towers were trained with, about 100 for CLIP
        return self.texts.scale * (x @ self.texts.embeddings.mT)

    def vectors(self, features: Features) -> Tensor:
        """Projects clips to the joint image-text space, of length one, (E, clips, J)."""
        return l2_normalize(self.project_to_joint(features))
