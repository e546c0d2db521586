"""Figures of one row in detail: its classes, confusions and episode accuracies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fewshot_i2v.report.page.figures.style import (
    FIGURE_WIDTH,
    FONT_SIZE,
    SMALL_FONT_SIZE,
    colour,
    draw_left_text,
    draw_right_text,
    ends_text,
    marker_style,
    new_figure,
    to_figure,
)
from fewshot_i2v.report.page.labels import RowLabel, shorten
from fewshot_i2v.statistics import Interval
from fewshot_i2v.statistics.calibration import ReliabilityCurve

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MAX_CLASSES = 40
"""Of which the figures show bars; with more, the lowest and the highest."""
_ROW_HEIGHT, _EDGE_HEIGHT = 17, 50
_MAX_NAME_LENGTH, _CHARACTER_WIDTH = 30, 6.2
_MAX_CELLS = 3000


def draw_classes(
    by_class: Mapping[str, Interval],
    frozen: Mapping[str, Interval],
    label: RowLabel,
    *,
    key: str,
) -> str | None:
    """Draw the accuracy of each class as a bar with its interval, the frozen encoder's as a ring.

    Of more than `MAX_CLASSES` half are the highest and half the lowest; None without classes.
    """
    if not by_class:
        return None
    names = sorted(by_class, key=lambda name: (-by_class[name].mean, name))
    half = MAX_CLASSES // 2
    shown = names if len(names) <= MAX_CLASSES else [*names[:half], *names[-half:]]
    short_names = {name: shorten(name, _MAX_NAME_LENGTH) for name in shown}
    with new_figure(FIGURE_WIDTH, _EDGE_HEIGHT + _ROW_HEIGHT * len(shown)) as figure:
        axes = figure.add_subplot()
        tint = colour(label.colour)
        for y, name in enumerate(shown):
            value = by_class[name]
            axes.barh(y, 100 * value.mean, height=0.62, color=tint, alpha=0.35, lw=0)
            if value.low is not None and value.high is not None:
                ends = [100 * max(0.0, value.low), 100 * min(1.0, value.high)]
                axes.plot(ends, [y, y], color=colour("ink"), lw=1.1)
            if name in frozen:
                ink, paper, mean = colour("ink"), colour("paper"), 100 * frozen[name].mean
                axes.plot([mean], [y], "o", ms=4.5, mew=1.2, mec=ink, mfc=paper)
            draw_left_text(axes, y, short_names[name])
            draw_right_text(axes, y, f"{100 * value.mean:.0f}")
        axes.set(xlim=(0, 100), ylim=(len(shown) - 0.4, -0.6), yticks=[])
        axes.set_xlabel("right query clips in %")
        axes.grid(axis="x")
        values_text = "; ".join(
            f"{short_names[n]} {100 * by_class[n].mean:.0f}{ends_text(by_class[n], '{:.0f}')}"
            + (f", frozen {100 * frozen[n].mean:.0f}" if n in frozen else "")
            for n in shown
        )
        alt = f"Bar chart: right query clips of each class in percent. {values_text}."
        return to_figure(axes, key=key, alt=alt)


def draw_confusion(names: Sequence[str], rates: NDArray[np.float64], *, key: str) -> str | None:
    """Draw how often a class (row) was taken for another (column); darker is more often.

    The rates of C classes are (C, C), 0..1, and NaN where two were never in one episode. None
    without classes.
    """
    count = len(names)
    if not count:
        return None
    show_names = count <= MAX_CLASSES
    longest = max(len(shorten(name, _MAX_NAME_LENGTH)) for name in names) if show_names else 0
    # the names to the left take room from the square of cells
    with new_figure(FIGURE_WIDTH, FIGURE_WIDTH + 50 - round(_CHARACTER_WIDTH * longest)) as figure:
        axes = figure.add_subplot()
        _draw_cells(axes, np.nan_to_num(rates), colour("s1"))
        axes.set(xlim=(0, count), ylim=(count, 0), aspect="equal")
        axes.set_xlabel("taken for, by the numbers of the rows" if show_names else "taken for")
        numbers = [*range(1, count + 1)] if show_names else []
        size = min(FONT_SIZE, max(4.5, FONT_SIZE * 22 / count))
        positions = [number - 0.5 for number in numbers]
        shown = [f"{shorten(names[n - 1], _MAX_NAME_LENGTH)}  {n}" for n in numbers]
        axes.set_yticks(positions, shown, fontsize=size)
        axes.set_xticks(positions, [*map(str, numbers)], fontsize=size)
        axes.tick_params(length=0)
        for spine in axes.spines.values():
            spine.set(visible=True, color=colour("rule"))
        alt = (
            f"Confusion matrix of {count} classes: how often a class, in rows, was taken for "
            "another, in columns. The most frequent confusions are in the table that follows."
        )
        return to_figure(axes, key=key, alt=alt, framed=True)


def _draw_cells(axes: Axes, rates: NDArray[np.float64], tint: str) -> None:
    """Draw a square for each cell that is not nearly empty, the darker the higher."""
    from matplotlib.collections import PolyCollection
    from matplotlib.colors import to_rgb

    min_rate = max(0.01, float(np.sort(rates, axis=None)[-_MAX_CELLS:][0]))
    rows, columns = np.nonzero(rates >= min_rate)
    corners = np.array([(0, 0), (1, 0), (1, 1), (0, 1)]) * 0.94 + 0.03
    squares = np.stack([columns, rows], axis=-1)[:, None] + corners
    shares = np.clip(rates[rows, columns], 0, 1)
    faces = [(*to_rgb(tint), float(share)) for share in shares]
    axes.add_collection(PolyCollection(list(squares), facecolors=faces, linewidths=0))


def draw_spread(
    rows: Sequence[tuple[RowLabel, Sequence[float]]], *, key: str, chance: float | None = None
) -> str | None:
    """Draw the accuracies of single episodes: a histogram for each of one or two rows.

    The first row is filled; accuracies and `chance` are 0..1. None where a row has fewer than two
    episodes.
    """
    if not rows or any(len(values) < 2 for _, values in rows):
        return None
    edges = _histogram_edges([value for _, values in rows for value in values])
    with new_figure(FIGURE_WIDTH, 240) as figure:
        axes = figure.add_subplot()
        for i, (label, values) in enumerate(rows):
            shares = 100 * np.histogram(values, edges)[0] / len(values)
            tint = colour(label.colour)
            if i == 0:
                axes.stairs(shares, 100 * edges, fill=True, alpha=0.22, color=tint, lw=0)
            dash = "-" if i == 0 else (0, (2.5, 1.8))
            axes.stairs(shares, 100 * edges, ls=dash, color=tint, lw=1.4)
            axes.axvline(100 * float(np.mean(values)), color=tint, lw=0.9)
        if chance is not None:
            axes.axvline(100 * chance, color=colour("muted"), lw=0.9, ls=(0, (1, 2)))
        axes.set_xlabel("accuracy of an episode in %")
        axes.set_ylabel("episodes in %")
        axes.set_xlim(*(100 * edges[[0, -1]]))
        axes.grid(axis="y")
        alt = f"Histogram: accuracy of single episodes. {'; '.join(map(_spread_text, rows))}."
        return to_figure(axes, key=key, alt=alt)


def _histogram_edges(values: Sequence[float]) -> NDArray[np.float64]:
    """Bin edges around the possible accuracies, so that each bin holds equally many of them."""
    distinct = np.unique(np.round(values, 6))
    step = float(np.diff(distinct).min()) if len(distinct) > 1 else 0.1
    step *= max(1, int(np.ceil(1 / (step * 26))))
    start = np.floor(distinct[0] / step + 1e-6) * step
    count = int(np.ceil((distinct[-1] - start) / step + 0.5 + 1e-6))
    return np.asarray(start - step / 2 + step * np.arange(count + 1), dtype=np.float64)


def _spread_text(row: tuple[RowLabel, Sequence[float]]) -> str:
    label, values = row
    low, middle, high = (100 * float(q) for q in np.quantile(values, (0.05, 0.5, 0.95)))
    return f"{label.full}: median {middle:.0f} %, nine of ten between {low:.0f} and {high:.0f} %"


_MIN_MARKER, _MAX_MARKER = 2.6, 10.0


def draw_reliability(
    curves: Sequence[tuple[RowLabel, ReliabilityCurve]], *, key: str
) -> str | None:
    """Draw the share of right predictions over confidence, one line for each row, and the diagonal.

    The area of a marker is the share of the row's predictions that are in the bin. None without a
    curve.
    """
    if not curves:
        return None
    with new_figure(FIGURE_WIDTH, FIGURE_WIDTH) as figure:
        axes = figure.add_subplot()
        axes.plot([0, 100], [0, 100], color=colour("muted"), lw=0.9, ls=(0, (1, 2)))
        axes.annotate("as often right as sure", (4, 4), **_DIAGONAL_STYLE)
        for label, curve in curves:
            filled = curve.count > 0
            x, y = 100 * curve.confidence[filled], 100 * curve.accuracy[filled]
            axes.plot(x, y, color=colour(label.colour), ls=label.dash, lw=1.0, alpha=0.6)
            shares = curve.count[filled] / curve.count.sum()
            for confidence, accuracy, share in zip(x, y, shares, strict=True):
                size = max(_MIN_MARKER, _MAX_MARKER * float(np.sqrt(share)))
                axes.plot([confidence], [accuracy], ms=size, ls="none", **marker_style(label))
        axes.set(xlim=(-2, 102), ylim=(-2, 102), aspect="equal")
        axes.set_xlabel("confidence in %")
        axes.set_ylabel("right predictions in %")
        axes.grid(axis="both")
        curve_texts = "; ".join(_curve_text(label, curve) for label, curve in curves)
        alt = (
            "Reliability diagram: right predictions in percent over mean confidence in percent; on "
            f"the diagonal both are equal. {curve_texts}."
        )
        return to_figure(axes, key=key, alt=alt)


_DIAGONAL_STYLE: dict[str, Any] = {
    "xytext": (3, 3),
    "textcoords": "offset points",
    "rotation": 45,
    "rotation_mode": "anchor",
    "color": colour("muted"),
    "fontsize": SMALL_FONT_SIZE,
}


def _curve_text(label: RowLabel, curve: ReliabilityCurve) -> str:
    filled = curve.count > 0
    pairs = zip(curve.confidence[filled], curve.accuracy[filled], strict=True)
    points = ", ".join(
        f"{100 * accuracy:.0f} at {100 * confidence:.0f}" for confidence, accuracy in pairs
    )
    return f"{label.full}: {points}"
