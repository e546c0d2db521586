"""Nearest class mean (ProtoNet): no parameters of its own."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from fewshot_i2v.models.adapters.base.features import Features
from fewshot_i2v.models.heads.base.features import class_means, means_of_others, one_hot
from fewshot_i2v.models.heads.base.vector_head import VectorHead, VectorOptions


class PrototypeOptions(VectorOptions):
    """Options of the prototype head; see `VectorOptions`."""


class PrototypeHead(VectorHead):
    """Scores by similarity to the mean of each class's support clips.

    A prototype is the mean of the un-normalised vectors of the class; with the cosine metric query
    and prototype are normalised after that. A vector of zeros (a clip without motion, when centred)
    has similarity 0 to everything. Classes may have different numbers of support clips.

    Args:
        options: `PrototypeOptions`.
        width: channels D of the features.
        way: classes of an episode.
        frames: frames T of a clip.
        seeds: one seed per episode; E = len(seeds). Nothing is drawn.

    Raises:
        HeadError: when a size is below one, there is no seed, or frames of clips of a single frame
            are to be centred.
    """

    Options = PrototypeOptions
    options: PrototypeOptions
    compares_with_itself = True
    source: ClassVar[str] = (
        "Snell, Swersky, Zemel: Prototypical Networks for Few-shot Learning, NeurIPS 2017, "
        "https://arxiv.org/abs/1703.05175"
    )

    def training_scores(self, support: Features, labels: Tensor) -> Tensor:
        """Scores of the support clips against prototypes that do not contain them, (E, S, way).

        For its own class a clip is compared with the mean of the other clips of the class. A class
        of one clip (1 shot) has no others: there the prototype is the clip itself, its own score is
        the highest possible, and the loss only spreads the classes.
        """
        x, members = self.vectors(support), one_hot(labels, self.way)
        scores = self._scores(x, class_means(x, members))
        others = means_of_others(x, members)
        own = self._scores(x.unsqueeze(-2), others.unsqueeze(-2)).squeeze(-1)
        return own.where(members > 0, scores)

    def scores(self, query: Features, support: Features, labels: Tensor) -> Tensor:
        """Scores of the query clips by similarity to the class means, (E, Q, way)."""
        prototypes = class_means(self.vectors(support), one_hot(labels, self.way))
        return self._scores(self.vectors(query), prototypes)

    def _scores(self, x: Tensor, prototypes: Tensor) -> Tensor:
        return self.options.temperature * self.similarities(x, prototypes)
