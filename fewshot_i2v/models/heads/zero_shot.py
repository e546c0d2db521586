"""Similarity to the class names alone (zero-shot CLIP): reads no support clip."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from fewshot_i2v.models.adapters.base.features import Features
from fewshot_i2v.models.heads.base.text_head import TextHead, TextOptions


class ZeroShotOptions(TextOptions):
    """Options of the zero-shot head: `templates` alone."""


class ZeroShotHead(TextHead):
    """Scores by cosine similarity of a clip to the text of each class, times the trained scale.

    Frames are averaged before the projection, as everywhere here. With the adapter `frozen`, or
    without tuning steps, the support clips have no influence: this is the row that says how far the
    class names carry alone. With another adapter the support clips tune the features towards the
    texts of their classes.

    Args:
        options: `ZeroShotOptions`.
        width: channels D of the features.
        way: classes of an episode.
        frames: frames T of a clip.
        seeds: one seed per episode; E = len(seeds). Nothing is drawn.
        texts: what the text tower says of the classes of these episodes.

    Raises:
        HeadError: when a size is below one, there is no seed, a grid is asked for, or the texts
            are of other sizes.
    """

    Options = ZeroShotOptions
    source: ClassVar[str] = (
        "Radford et al.: Learning Transferable Visual Models From Natural Language Supervision, "
        "ICML 2021, https://arxiv.org/abs/2103.00020"
    )

    def training_scores(self, support: Features, labels: Tensor) -> Tensor:
        """Scores of the support clips, (E, S, way); `labels` are not read."""
        return self.text_scores(self.vectors(support))

    def scores(self, query: Features, support: Features, labels: Tensor) -> Tensor:
        """Scores of the query clips, (E, Q, way); `support` and `labels` are not read."""
        return self.text_scores(self.vectors(query))
