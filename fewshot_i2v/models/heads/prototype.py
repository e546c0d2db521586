"""Nearest class mean (ProtoNet): no parameters of its own."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from fewshot_i2v.models.adapters.base.features import Features
from fewshot_i2v.models.heads.base.features import class_means, leave_one_out_means, one_hot
from fewshot_i2v.models.heads.base.head import Scorer
from fewshot_i2v.models.heads.base.vector_head import VectorHead, VectorOptions


class PrototypeOptions(VectorOptions):
    """Options of the prototype head; see `VectorOptions`."""


class PrototypeHead(VectorHead):
    """Scores by similarity to the mean of each class's support clips.

    A prototype is the mean of the un-normalised vectors of the class; with the cosine metric query
    and prototype are normalised after that. A vector of zeros (a clip without motion, when centred)
    has similarity 0 to everything. Classes may have different numbers of support clips.
    """

    Options = PrototypeOptions
    options: PrototypeOptions
    source: ClassVar[str] = (
        "Snell, Swersky, Zemel: Prototypical Networks for Few-shot Learning, NeurIPS 2017, "
        "https://arxiv.org/abs/1703.05175"
    )
    citation: ClassVar[str] = """
    @inproceedings{snell2017prototypical,
      author = {Snell, Jake and Swersky, Kevin and Zemel, Richard},
      title = {Prototypical Networks for Few-shot Learning},
      booktitle = {Advances in Neural Information Processing Systems},
      year = {2017},
      url = {https://arxiv.org/abs/1703.05175},
    }
    """

    def leave_one_out_logits(self, x: Tensor, labels: Tensor, weights: Tensor | None) -> Tensor:
        """Logits of the support clips against prototypes that do not contain them, (E, S, way).

        For its own class a clip is compared with the mean of the remaining clips of the class, or
        with itself where it is the only one.
        """
        members = one_hot(labels, self.way)
        logits = self._logits(x, class_means(x, members), weights)
        leave_one_out = leave_one_out_means(x, members)
        own_class_logits = self._logits(x.unsqueeze(-2), leave_one_out.unsqueeze(-2), weights)
        return own_class_logits.squeeze(-1).where(members > 0, logits)

    def query_logits(self, query: Features, support: Features, labels: Tensor) -> Tensor:
        """Logits of the query clips by similarity to the class means, (E, Q, way)."""
        return self.prepare(support, labels)(query)

    def prepare(self, support: Features, labels: Tensor) -> Scorer:
        """Computes the class means and the weights of the readouts."""
        x = self.comparable(support)
        prototypes = class_means(x, one_hot(labels, self.way))
        weights = self.episode_weights(x, labels)
        return lambda query: self._logits(self.comparable(query), prototypes, weights)

    def _logits(self, x: Tensor, prototypes: Tensor, weights: Tensor | None) -> Tensor:
        return self.options.temperature * self.similarities(x, prototypes, weights)
