"""OTAM: soft-min alignment of the frames in order (Cao et al.); no parameters of its own."""

from __future__ import annotations

import math
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from fewshot_i2v.models.heads.base.frame_matching import MatchingHead, MatchingOptions

_LOG_2 = math.log(2)


class OtamOptions(MatchingOptions):
    """Options of the alignment head; `shots` and `eps` as `MatchingOptions`.

    The defaults are those of OTAM; CLIP-FSAR has `lam=0.5` and `shots=prototype`.

    Attributes:
        lam: softness of the minimum, above 0, in units of the frame distance (0 to 2).
        directions: "query": rows of the table are the frames of the query clip, and the path may
            start and end at any frame of the support clip; "support": the converse; "both": the sum
            of the two, as the published implementations do.
        temperature: above 0, factor of minus the distance. The default takes the distance as it is,
            as published; it is about a sum over the T frames, twice that with both directions.
    """

    lam: float = Field(default=0.1, gt=0, allow_inf_nan=False)
    directions: Literal["both", "query", "support"] = "both"
    temperature: float = Field(default=1.0, gt=0, allow_inf_nan=False)


def alignment_cost(costs: Tensor, lam: float) -> Tensor:
    """Cost of the best path through a table of distances, softly.

    A column of zeros is put on either side of the table. With `softmin(a, b, ...) = -lam
    log(exp(-a / lam) + exp(-b / lam) + ...)` and rows from the top: the first row is a plain
    cumulative sum; elsewhere a cell adds its distance to the soft-min of the cells at its upper
    left and its left. The first real column and the last column of zeros take the cell above as
    well. In the first real column both neighbours on the left are zeros, and both count. The result
    is the cell at the lower right.

    Everything stays in the logarithm of the sum of path weights, so that values and gradients are
    finite whatever `costs / lam`. All rows of a column are computed together: only in the first
    column do they depend on each other, and the last column has a closed form.

    Args:
        costs: distances, rows by columns, (..., T, U), T and U at least 1.
        lam: above 0.

    Returns:
        (...).
    """
    # columns and rows first, so that one column of all pairs of clips lies together in memory
    first_column, *later_columns = (-costs / lam).movedim((-1, -2), (0, 1)).contiguous().unbind(0)
    cells = [first_column[0]]
    for log_weight in first_column[1:]:
        # log(2 + e^above): the two zeros on the left, and the cell above
        cells.append(log_weight + _LOG_2 + functional.softplus(cells[-1] - _LOG_2))
    column = torch.stack(cells)
    for log_weights in later_columns:
        # a soft-min of two cells; it takes the larger term out before `exp`, so that distances of
        # many times lam neither overflow nor underflow
        inner = log_weights[1:] + torch.logaddexp(column[:-1], column[1:])
        column = torch.cat([log_weights[:1] + column[:1], inner])
    # down the last column, whose distances are zero, each row but the last is taken in twice: from
    # its left and, one row further down, from its upper left
    total = torch.cat([column[:-1] + _LOG_2, column[-1:]]).logsumexp(0)
    # The soft-min of n equal paths lies lam log n below their cost, so that the result can be
    # negative. n is the same for every pair of clips: the softmax over the classes cancels it.
    return -lam * total


class OtamHead(MatchingHead):
    """Scores by minus the alignment cost of the frames of two clips, which keeps their order.

    The frame distance is one minus the cosine. `temperature` changes probabilities and the training
    loss, never which class is predicted.
    """

    Options = OtamOptions
    options: OtamOptions
    source: ClassVar[str] = (
        "Cao, Ji, Cao, Chang, Niebles: Few-Shot Video Classification via Temporal Alignment, CVPR "
        "2020, https://arxiv.org/abs/1906.11415"
    )
    citation: ClassVar[str] = """
    @inproceedings{cao2020otam,
      author = {Cao, Kaidi and Ji, Jingwei and Cao, Zhangjie and Chang, Chien-Yi and Niebles, Juan
        Carlos},
      title = {Few-Shot Video Classification via Temporal Alignment},
      booktitle = {IEEE/CVF Conference on Computer Vision and Pattern Recognition},
      year = {2020},
      url = {https://arxiv.org/abs/1906.11415},
    }
    """

    @property
    def temperature(self) -> float:
        """Factor of minus the distance."""
        return self.options.temperature

    def clip_distances(self, distances: Tensor) -> Tensor:
        """Alignment cost of two clips from the distances of their frames, (..., T, U) to (...)."""
        lam = self.options.lam
        if self.options.directions == "query":
            return alignment_cost(distances, lam)
        if self.options.directions == "support":
            return alignment_cost(distances.mT, lam)
        return alignment_cost(distances, lam) + alignment_cost(distances.mT, lam)
