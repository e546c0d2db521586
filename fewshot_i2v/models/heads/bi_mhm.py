"""Bi-MHM: each frame to its nearest frame, both ways (HyRSM); no parameters of its own."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field
from torch import Tensor

from fewshot_i2v.models.heads.base.frame_matching import MatchingHead, MatchingOptions, Shots

# Means of two directions lie between 0 and 4 and differ by little between classes: at a factor of 1
# the softmax over them would be nearly flat. Sums are T times as large.
_DEFAULT_TEMPERATURES = {"mean": 10.0, "sum": 1.0}


class BiMhmOptions(MatchingOptions):
    """Options of the bidirectional mean Hausdorff head; `shots` and `eps` as `MatchingOptions`.

    Attributes:
        shots: "prototype" (as published) or "mean".
        reduce: "mean" over the frames of a clip (as the papers write) or "sum" (as their code
            computes, T times as much).
        temperature: above 0, factor of minus the distance. None: 10 for means, 1 for sums (the
            published logits).
    """

    shots: Shots = "prototype"
    reduce: Literal["mean", "sum"] = "mean"
    temperature: float | None = Field(default=None, gt=0, allow_inf_nan=False)


class BiMhmHead(MatchingHead):
    """Scores by minus the bidirectional mean Hausdorff distance of the frames of two clips.

    The mean over the frames of the query clip of the distance to the nearest frame of the support
    clip, plus the converse; the frame distance is one minus the cosine. The order of the frames
    does not matter, apart from what the encoder puts into their features, and neither does the size
    of the features, unless `eps` says so. `temperature` changes
    probabilities and the training loss, never which class is predicted.
    """

    Options = BiMhmOptions
    options: BiMhmOptions
    source: ClassVar[str] = (
        "Wang, Zhang, Qing, Tang, Zuo, Gao, Jin, Sang: Hybrid Relation Guided Set Matching for "
        "Few-shot Action Recognition (HyRSM), CVPR 2022, https://arxiv.org/abs/2204.13423"
    )
    citation: ClassVar[str] = """
    @inproceedings{wang2022hyrsm,
      author = {Wang, Xiang and Zhang, Shiwei and Qing, Zhiwu and Tang, Mingqian and Zuo, Zhengrong
        and Gao, Changxin and Jin, Rong and Sang, Nong},
      title = {Hybrid Relation Guided Set Matching for Few-shot Action Recognition},
      booktitle = {IEEE/CVF Conference on Computer Vision and Pattern Recognition},
      pages = {19948--19957},
      year = {2022},
      url = {https://arxiv.org/abs/2204.13423},
    }
    """

    @property
    def temperature(self) -> float:
        """Factor of minus the distance."""
        return self.options.temperature or _DEFAULT_TEMPERATURES[self.options.reduce]

    def clip_distances(self, distances: Tensor) -> Tensor:
        """Distance of two clips from the distances of their frames, (..., T, U) to (...)."""
        # a hard minimum, as published; `amin` shares the gradient among equal distances
        nearest = distances.amin(-1), distances.amin(-2)
        if self.options.reduce == "sum":
            return nearest[0].sum(-1) + nearest[1].sum(-1)
        return nearest[0].mean(-1) + nearest[1].mean(-1)
