"""Class means mixed with the text of the class names: no parameters of its own."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field
from torch import Tensor

from fewshot_i2v.models.adapters.base.features import Features
from fewshot_i2v.models.heads.base.features import (
    class_means,
    l2_normalize,
    leave_one_out_means,
    one_hot,
)
from fewshot_i2v.models.heads.base.text_head import TextHead, TextOptions


class TextPrototypeOptions(TextOptions):
    """Options of the text-prototype head.

    Attributes:
        weight: share of the text in a prototype, 0 (support clips alone) to 1 (text alone).
        temperature: above 0, factor of the cosine similarities; None: the scale that both towers
            were trained with. It changes probabilities and the training loss, never which class is
            predicted.
    """

    weight: float = Field(default=0.5, ge=0, le=1)
    temperature: float | None = Field(default=None, gt=0, allow_inf_nan=False)


class TextPrototypeHead(TextHead):
    """Scores by cosine similarity to a mix of the class mean and the text of the class.

    In the joint image-text space: the mean of the class's support clips, scaled to length one,
    times `1 - weight`, plus the unit text embedding times `weight`. Images and texts lie in
    different regions of that space, so that a weight of 0.5 does not mean equal influence. AM3
    learns the mix for each class on base classes; here it is one number, since there are none.
    """

    Options = TextPrototypeOptions
    options: TextPrototypeOptions
    source: ClassVar[str] = (
        "after Xing et al.: Adaptive Cross-Modal Few-Shot Learning (AM3), NeurIPS 2019, "
        "https://arxiv.org/abs/1902.07104, with a fixed weight"
    )
    citation: ClassVar[str] = """
    @inproceedings{xing2019am3,
      author = {Xing, Chen and Rostamzadeh, Negar and Oreshkin, Boris N. and Pinheiro, Pedro O.},
      title = {Adaptive Cross-Modal Few-Shot Learning},
      booktitle = {Advances in Neural Information Processing Systems},
      year = {2019},
      url = {https://arxiv.org/abs/1902.07104},
    }
    """

    def support_logits(self, support: Features, labels: Tensor) -> Tensor:
        """Logits of the support clips against prototypes that do not contain them, (E, S, way).

        For its own class a clip is compared with the text and the mean of the remaining clips of
        the class. If the class has one clip (1 shot), the clip itself is the mean.
        """
        x, text_embeddings = self.project_to_joint(support), self.texts.embeddings
        members = one_hot(labels, self.way)
        prototypes = self._mix_with_text(class_means(x, members), text_embeddings)
        leave_one_out = self._mix_with_text(
            leave_one_out_means(x, members), members @ text_embeddings
        )
        x = l2_normalize(x)
        own_class_cosines = (x * leave_one_out).sum(-1, keepdim=True)
        return self._temperature * own_class_cosines.where(members > 0, x @ prototypes.mT)

    def query_logits(self, query: Features, support: Features, labels: Tensor) -> Tensor:
        """Logits of the query clips by similarity to the mixed prototypes, (E, Q, way)."""
        means = class_means(self.project_to_joint(support), one_hot(labels, self.way))
        prototypes = self._mix_with_text(means, self.texts.embeddings)
        return self._temperature * (self.vectors(query) @ prototypes.mT)

    def _mix_with_text(self, means: Tensor, text_embeddings: Tensor) -> Tensor:
        """Mixes class means with the class text into prototypes of length one, (..., J)."""
        weight = self.options.weight
        # means of several clips are shorter than one; at length one `weight` mixes directions alone
        return l2_normalize((1 - weight) * l2_normalize(means) + weight * text_embeddings)

    @property
    def _temperature(self) -> float:
        temperature = self.options.temperature
        return self.texts.scale if temperature is None else temperature
