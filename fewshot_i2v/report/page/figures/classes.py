"""Figures of one row in detail: its classes, its confusions and its episodes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fewshot_i2v.report.page.figures.style import (
    POINT,
    SMALL,
    WIDTH,
    Drawn,
    colour,
    drawing,
    end_text,
    ends_text,
    finished,
    marks,
    side_text,
)
from fewshot_i2v.report.page.labels import Label
from fewshot_i2v.statistics import Interval
from fewshot_i2v.statistics.calibration import Reliability
from fewshot_i2v.utils.text_table import escaped

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_CLASSES = 40
"""Of which the figures show bars; with more, the lowest and the highest."""
_ROW, _EDGES = 17, 50
_LONGEST = 26
_MOST_CELLS = 3000


def short(name: str, longest: int = _LONGEST) -> str:
    """A class name as one printable line that fits beside a figure."""
    shown = escaped(name)
    return shown if len(shown) <= longest else shown[: longest - 1] + "…"


def classes(
    by_class: Mapping[str, Interval],
    frozen: Mapping[str, Interval],
    label: Label,
    *,
    key: str,
) -> Drawn | None:
    """Accuracy of each class as a bar with its interval, the frozen encoder's as a ring.

    Args:
        by_class: of the row.
        frozen: of the frozen encoder with the same head and shot; may be empty.
        label: of the row.
        key: of the figure in its page.

    Returns:
        The figure; None where there are no classes. With more than `MOST_CLASSES` half of them are
        the highest and half the lowest.
    """
    if not by_class:
        return None
    names = sorted(by_class, key=lambda name: (-by_class[name].mean, name))
    half = MOST_CLASSES // 2
    shown = names if len(names) <= MOST_CLASSES else [*names[:half], *names[-half:]]
    with drawing(WIDTH, _EDGES + _ROW * len(shown)) as figure:
        axes = figure.add_subplot()
        shade = colour(label.colour)
        for place, name in enumerate(shown):
            value = by_class[name]
            axes.barh(place, 100 * value.mean, height=0.62, color=shade, alpha=0.35, lw=0)
            if value.low is not None and value.high is not None:
                ends = [100 * max(0.0, value.low), 100 * min(1.0, value.high)]
                axes.plot(ends, [place, place], color=colour("ink"), lw=1.1)
            if name in frozen:
                _ring(axes, 100 * frozen[name].mean, place)
            side_text(axes, place, short(name))
            end_text(axes, place, f"{100 * value.mean:.0f}")
        axes.set(xlim=(0, 100), ylim=(len(shown) - 0.4, -0.6), yticks=[])
        axes.set_xlabel("right query clips in %")
        axes.grid(axis="x")
        said = "; ".join(
            f"{short(n)} {100 * by_class[n].mean:.0f}{ends_text(by_class[n], '{:.0f}')}"
            + (f", frozen {100 * frozen[n].mean:.0f}" if n in frozen else "")
            for n in shown
        )
        alt = f"Bar chart: right query clips of each class in percent. {said}."
        return finished(axes, key=key, alt=alt)


def _ring(axes: Axes, x: float, y: float) -> None:
    axes.plot([x], [y], "o", ms=4.5, mew=1.2, mec=colour("ink"), mfc=colour("paper"))


def confusion(names: Sequence[str], rates: NDArray[np.float64], *, key: str) -> Drawn | None:
    """How often a class (row) was taken for another (column); darker is more often.

    Args:
        names: of the C classes.
        rates: (C, C), 0..1; NaN where two classes never met.
        key: of the figure in its page.

    Returns:
        The figure; None where there are no classes.
    """
    count = len(names)
    if not count:
        return None
    named = count <= MOST_CLASSES
    with drawing(WIDTH, WIDTH) as figure:
        axes = figure.add_subplot()
        _cells(axes, np.nan_to_num(rates), colour("s1"))
        axes.set(xlim=(0, count), ylim=(count, 0), aspect="equal")
        axes.set_xlabel("taken for")
        axes.set_ylabel("class")
        shown = [short(name, 20) for name in names] if named else []
        size = min(POINT, max(4.5, POINT * 22 / count))
        places = [i + 0.5 for i in range(count)] if named else []
        axes.set_yticks(places, shown, fontsize=size)
        axes.set_xticks(places, shown, rotation=90, fontsize=size)
        axes.tick_params(length=0)
        for spine in axes.spines.values():
            spine.set(visible=True, color=colour("rule"))
        alt = (
            f"Confusion matrix of {count} classes: how often a class, in rows, was taken for "
            "another, in columns. The most frequent confusions are in the table that follows."
        )
        return finished(axes, key=key, alt=alt, framed=True)


def _cells(axes: Axes, rates: NDArray[np.float64], shade: str) -> None:
    """A square for each cell that is not nearly empty, the darker the higher."""
    from matplotlib.collections import PolyCollection
    from matplotlib.colors import to_rgb

    least = max(0.01, float(np.sort(rates, axis=None)[-_MOST_CELLS:][0]))
    rows, columns = np.nonzero(rates >= least)
    corners = np.array([(0, 0), (1, 0), (1, 1), (0, 1)]) * 0.94 + 0.03
    squares = np.stack([columns, rows], axis=-1)[:, None] + corners
    shares = np.clip(rates[rows, columns], 0, 1)
    faces = [(*to_rgb(shade), float(share)) for share in shares]
    axes.add_collection(PolyCollection(list(squares), facecolors=faces, linewidths=0))


def spread(
    rows: Sequence[tuple[Label, Sequence[float]]], *, key: str, chance: float | None = None
) -> Drawn | None:
    """How the accuracies of single episodes are spread: a histogram for each of one or two rows.

    Args:
        rows: label and accuracies, 0..1, of each row; the first is filled.
        key: of the figure in its page.
        chance: accuracy of guessing, 0..1; None: not drawn.

    Returns:
        The figure; None where a row has fewer than two episodes.
    """
    if not rows or any(len(values) < 2 for _, values in rows):
        return None
    edges = _bins([value for _, values in rows for value in values])
    with drawing(WIDTH, 240) as figure:
        axes = figure.add_subplot()
        for i, (label, values) in enumerate(rows):
            shares = 100 * np.histogram(values, edges)[0] / len(values)
            shade = colour(label.colour)
            if i == 0:
                axes.stairs(shares, 100 * edges, fill=True, alpha=0.22, color=shade, lw=0)
            dash = "-" if i == 0 else (0, (2.5, 1.8))
            axes.stairs(shares, 100 * edges, ls=dash, color=shade, lw=1.4)
            axes.axvline(100 * float(np.mean(values)), color=shade, lw=0.9)
        if chance is not None:
            axes.axvline(100 * chance, color=colour("muted"), lw=0.9, ls=(0, (1, 2)))
        axes.set_xlabel("accuracy of an episode in %")
        axes.set_ylabel("episodes in %")
        axes.set_xlim(*(100 * edges[[0, -1]]))
        axes.grid(axis="y")
        alt = f"Histogram: accuracy of single episodes. {'; '.join(map(_spread_text, rows))}."
        return finished(axes, key=key, alt=alt)


def _bins(values: Sequence[float]) -> NDArray[np.float64]:
    """Edges around the accuracies that there are, so that each bin holds equally many of them."""
    known = np.unique(np.round(values, 6))
    step = float(np.diff(known).min()) if len(known) > 1 else 0.1
    step *= max(1, int(np.ceil(1 / (step * 26))))
    first = np.floor(known[0] / step + 1e-6) * step
    count = int(np.ceil((known[-1] - first) / step + 0.5 + 1e-6))
    return np.asarray(first - step / 2 + step * np.arange(count + 1), dtype=np.float64)


def _spread_text(row: tuple[Label, Sequence[float]]) -> str:
    label, values = row
    low, middle, high = (100 * float(q) for q in np.quantile(values, (0.05, 0.5, 0.95)))
    return f"{label.full}: median {middle:.0f} %, nine of ten between {low:.0f} and {high:.0f} %"


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
