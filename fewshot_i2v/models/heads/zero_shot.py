"""Similarity to the class names alone (zero-shot CLIP): reads no support clip."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from fewshot_i2v.models.adapters.base.features import Features
from fewshot_i2v.models.encoders.publications import CLIP
from fewshot_i2v.models.heads.base.text_head import TextHead, TextOptions


class ZeroShotOptions(TextOptions):
    """Options of the zero-shot head: `templates` alone."""


class ZeroShotHead(TextHead):
    """Scores by cosine similarity of a clip to the text of each class, times the trained scale.

    Frames are averaged before the projection, as in all heads that read class names. With the
    adapter `frozen`, or without tuning steps, the support clips have no influence: this row shows
    how far the class names carry by themselves. With another adapter the support clips tune the
    features towards the texts of their classes.
    """

    Options = ZeroShotOptions
    source: ClassVar[str] = (
        "Radford et al.: Learning Transferable Visual Models From Natural Language Supervision, "
        "ICML 2021, https://arxiv.org/abs/2103.00020"
    )
    citation: ClassVar[str] = CLIP

    def support_logits(self, support: Features, labels: Tensor) -> Tensor:
        """Logits of the support clips, (E, S, way); `labels` are not read."""
        return self.text_logits(self.vectors(support))

    def query_logits(self, query: Features, support: Features, labels: Tensor) -> Tensor:
        """Logits of the query clips, (E, Q, way); `support` and `labels` are not read."""
        return self.text_logits(self.vectors(query))
