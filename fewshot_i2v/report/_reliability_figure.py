"""The figure of reliability: how often predictions are right that are so and so sure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fewshot_i2v.report._labels import Label
from fewshot_i2v.report._plots import SMALL, WIDTH, Drawn, finished, marks
from fewshot_i2v.report._svg import colour, drawing
from fewshot_i2v.statistics.calibration import Reliability

_LEAST, _LARGEST = 2.6, 10.0


def reliability(curves: Sequence[tuple[Label, Reliability]], *, key: str) -> Drawn | None:
    """Share of right predictions over their confidence, one line for each row, and the diagonal.

    Args:
        curves: label and reliability curve of each row. The area of a mark is the share of the
            row's predictions that are in the bin.
        key: of the figure in its page.

    Returns:
        The figure; None where there is no curve.
    """
    if not curves:
        return None
    with drawing(WIDTH, WIDTH) as figure:
        axes = figure.add_subplot()
        axes.plot([0, 100], [0, 100], color=colour("muted"), lw=0.9, ls=(0, (1, 2)))
        axes.annotate("as often right as sure", (4, 4), **_BESIDE)
        for label, curve in curves:
            some = curve.count > 0
            x, y = 100 * curve.confidence[some], 100 * curve.accuracy[some]
            axes.plot(x, y, color=colour(label.colour), ls=label.dash, lw=1.0, alpha=0.6)
            shares = curve.count[some] / curve.count.sum()
            for at, right, share in zip(x, y, shares, strict=True):
                size = max(_LEAST, _LARGEST * float(np.sqrt(share)))
                axes.plot([at], [right], ms=size, ls="none", **marks(label))
        axes.set(xlim=(-2, 102), ylim=(-2, 102), aspect="equal")
        axes.set_xlabel("confidence in %")
        axes.set_ylabel("right predictions in %")
        axes.grid(axis="both")
        said = "; ".join(_said(label, curve) for label, curve in curves)
        alt = (
            "Reliability diagram: right predictions in percent over mean confidence in percent; on "
            f"the diagonal both are equal. {said}."
        )
        return finished(axes, key=key, alt=alt)


_BESIDE: dict[str, Any] = {
    "xytext": (3, 3),
    "textcoords": "offset points",
    "rotation": 45,
    "rotation_mode": "anchor",
    "color": colour("muted"),
    "fontsize": SMALL,
}


def _said(label: Label, curve: Reliability) -> str:
    some = curve.count > 0
    pairs = zip(curve.confidence[some], curve.accuracy[some], strict=True)
    points = ", ".join(f"{100 * right:.0f} at {100 * sure:.0f}" for sure, right in pairs)
    return f"{label.full}: {points}"
