"""Nearest support clip (1-NN): no parameters of its own."""

from __future__ import annotations

import math
from types import MappingProxyType
from typing import ClassVar

from pydantic import Field
from torch import Tensor

from fewshot_i2v.models.adapters.base.features import Features
from fewshot_i2v.models.heads.base.features import comparable_pairs, one_hot, score_in_chunks
from fewshot_i2v.models.heads.base.head import Scorer
from fewshot_i2v.models.heads.base.vector_head import VectorHead, VectorOptions


class NearestOptions(VectorOptions):
    """Options of the nearest-clip head; pooling, center, metric and temperature as `VectorOptions`.

    Attributes:
        softness: in units of similarity, at least 0. 0: the highest similarity to a support clip of
            the class. Above: the soft maximum `softness * log(mean(exp(s / softness)))` over the
            similarities s to the K clips of the class, which goes from the maximum (towards 0) to
            their mean (for large values), and through which every clip gets a gradient. With
            `softness = 1 / temperature` and K equal for all classes, the softmax over the classes
            is the class probability of neighbourhood components analysis.
    """

    softness: float = Field(default=0.0, ge=0, allow_inf_nan=False)


_COMPONENTS = """
@inproceedings{goldberger2004nca,
  author = {Goldberger, Jacob and Roweis, Sam and Hinton, Geoffrey E. and Salakhutdinov,
    Ruslan},
  title = {Neighbourhood Components Analysis},
  booktitle = {Advances in Neural Information Processing Systems},
  year = {2004},
}
"""


class NearestHead(VectorHead):
    """Scores each class by the highest similarity to one of its support clips.

    With one shot this is the prototype head. A vector of zeros (a clip without motion, when
    centred) has cosine 0 with everything. Classes may have different numbers of support clips.
    """

    Options = NearestOptions
    options: NearestOptions
    source: ClassVar[str] = (
        "Cover, Hart: Nearest Neighbor Pattern Classification, IEEE Transactions on Information "
        "Theory 13(1), 1967, https://doi.org/10.1109/TIT.1967.1053964; soft version: Goldberger, "
        "Roweis, Hinton, Salakhutdinov: Neighbourhood Components Analysis, NeurIPS 2004"
    )
    citation: ClassVar[str] = """
    @article{cover1967nearest,
      author = {Cover, T. and Hart, P.},
      title = {Nearest Neighbor Pattern Classification},
      journal = {IEEE Transactions on Information Theory},
      volume = {13},
      number = {1},
      year = {1967},
      url = {https://doi.org/10.1109/TIT.1967.1053964},
    }
    """
    option_citations = MappingProxyType({"softness": _COMPONENTS})

    def leave_one_out_logits(self, x: Tensor, labels: Tensor, weights: Tensor | None) -> Tensor:
        """Logits of the support clips without the clip itself among the neighbours, (E, S, way).

        The only clip of a class is compared with itself.
        """
        members = one_hot(labels, self.way)
        neighbours = comparable_pairs(members).unsqueeze(-1) & (members > 0).unsqueeze(1)
        return self._logits(self.similarities(x, x, weights), neighbours)

    def query_logits(self, query: Features, support: Features, labels: Tensor) -> Tensor:
        """Logits of the query clips by their nearest support clip of each class, (E, Q, way)."""
        return self.prepare(support, labels)(query)

    def prepare(self, support: Features, labels: Tensor) -> Scorer:
        """Computes the vectors of the support clips and the weights of the readouts."""
        x = self.comparable(support)
        weights = self.episode_weights(x, labels)
        members = (one_hot(labels, self.way) > 0).unsqueeze(1)
        return lambda query: score_in_chunks(
            lambda chunk: self._logits(self.similarities(chunk, x, weights), members),
            self.comparable(query),
            elements_per_query=members.numel(),
        )

    def _logits(self, similarities: Tensor, neighbours: Tensor) -> Tensor:
        """Logits (E, A, way) of similarities (E, A, S); `neighbours` is (E, A or 1, S, way)."""
        temperature, softness = self.options.temperature, self.options.softness
        # every class has a neighbour of each clip, so that no maximum is minus infinity
        class_similarities = similarities.unsqueeze(-1).masked_fill(~neighbours, -math.inf)
        if softness == 0:
            return temperature * class_similarities.amax(-2)
        # The mean of exponentials in the logarithm: exp(s / softness) itself would overflow. A sum
        # in place of the mean would favour classes with more clips.
        soft_maximum = (class_similarities / softness).logsumexp(-2) - neighbours.sum(-2).log()
        return temperature * softness * soft_maximum
