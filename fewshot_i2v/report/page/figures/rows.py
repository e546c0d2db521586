"""Figures of the rows of a table: curves, forests of intervals, accuracy against cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from math import ceil, floor, log10
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

from fewshot_i2v.report.page.figures.style import (
    SMALL,
    WIDTH,
    Drawn,
    Point,
    chance_line,
    colour,
    drawing,
    end_text,
    ends_text,
    finished,
    marks,
    ordered,
    shots_text,
    side_text,
)
from fewshot_i2v.report.page.labels import Label
from fewshot_i2v.report.tables.terminal import signed
from fewshot_i2v.statistics import Interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_ROW, _EDGES = 20, 50
Placed = tuple[float, Interval, Point]


def curves(points: Sequence[Point], *, key: str, chance: float | None = None) -> Drawn | None:
    """Accuracy over the number of shots: a line with a band for each adapter and start.

    Args:
        points: of one head.
        key: of the figure in its page.
        chance: accuracy of guessing, 0..1; None: not drawn.

    Returns:
        The figure; None with fewer than two numbers of shots.
    """
    drawn = [(p, p.mean) for p in points if p.mean is not None]
    shots = ordered([p.shot for p, _ in drawn])
    if len(shots) < 2:
        return None
    lines = _lines([(float(shots.index(p.shot)), mean, p) for p, mean in drawn])
    with drawing(WIDTH, 300) as figure:
        axes = figure.add_subplot()
        for line in lines:
            _band(axes, line)
        for line in lines:
            x, y = [x for x, _, _ in line], [100 * mean.mean for _, mean, _ in line]
            label = line[0][2].label
            axes.plot(x, y, ls=label.dash, **marks(label))
        chance_line(axes, chance)
        axes.set_xticks(range(len(shots)), [str(shot) for shot in shots])
        axes.set_xlabel("clips per class (shots)")
        axes.set_ylabel("accuracy in %")
        axes.grid(axis="y")
        axes.margins(x=0.06)
        said = [
            f"{line[0][2].label.name} "
            + ", ".join(f"{100 * mean.mean:.1f} at {shots_text(p.shot)}" for _, mean, p in line)
            for line in lines
        ]
        alt = f"Line chart: accuracy in percent over clips per class. {'; '.join(said)}."
        return finished(axes, key=key, alt=alt)


def _lines(placed: Sequence[Placed]) -> list[list[Placed]]:
    """Points by adapter, start and head, each in the order of their shots."""
    lines: dict[str, list[Placed]] = {}
    for x, mean, point in placed:
        lines.setdefault(point.label.full, []).append((x, mean, point))
    shots = ordered([point.shot for _, _, point in placed])
    return [sorted(line, key=lambda part: shots.index(part[2].shot)) for line in lines.values()]


def _band(axes: Axes, line: Sequence[Placed]) -> None:
    bounds = [
        (x, 100 * mean.low, 100 * mean.high)
        for x, mean, _ in line
        if mean.low is not None and mean.high is not None
    ]
    if bounds:
        x, low, high = ([part[i] for part in bounds] for i in range(3))
        shade = colour(line[0][2].label.colour)
        axes.fill_between(x, low, high, color=shade, alpha=0.12, lw=0)


def forest(
    points: Sequence[Point],
    *,
    key: str,
    gains: bool = True,
    span: tuple[float, float] | None = None,
) -> Drawn | None:
    """Intervals one below the other: of the gain over the frozen encoder, or of the accuracy.

    Args:
        points: in the order to show them, those of equal shots together.
        key: of the figure in its page.
        gains: whether gains are shown; else accuracies.
        span: least and most of the axis, so that several figures have the same; None: what it
            takes.

    Returns:
        The figure; None where no row has such an interval.
    """
    pairs = [(p, p.gain if gains else p.mean) for p in points]
    drawn = [(p, value) for p, value in pairs if value is not None]
    if not drawn:
        return None
    step = 1.0 if all(p.label.short for p, _ in drawn) else 1.7
    places = _heights([p.shot for p, _ in drawn], step)
    top, bottom = min(*places, 0) - 0.7, max(places) + 0.7
    with drawing(WIDTH, _EDGES + _ROW * (bottom - top)) as figure:
        axes = figure.add_subplot()
        if gains:
            axes.axvline(0, color=colour("muted"), lw=0.9)
        if span is not None:
            axes.set_xlim(*(100 * end for end in span))
        for (point, value), place in zip(drawn, places, strict=True):
            _whisker(axes, place, value, point.label)
            _row_names(axes, place, point.label, two=step > 1)
            number = signed(value.mean) if gains else f"{100 * value.mean:.1f}"
            end_text(axes, place, number)
        _titles(axes, [p.shot for p, _ in drawn], places)
        axes.set_ylim(bottom, top)
        axes.set_yticks([])
        axes.grid(axis="x")
        axes.set_xlabel("gain over frozen, in points" if gains else "accuracy in %")
        return finished(axes, key=key, alt=_forest_text(drawn, gains=gains))


def _forest_text(drawn: Sequence[tuple[Point, Interval]], *, gains: bool) -> str:
    form = "{:+z.1f}" if gains else "{:.1f}"
    said = [
        f"{p.label.full}, {shots_text(p.shot)}: {form.format(100 * v.mean)}{ends_text(v, form)}"
        for p, v in drawn
    ]
    what = "gain over the frozen encoder, in points" if gains else "accuracy in percent"
    return f"Forest plot of intervals: {what}. {'; '.join(said)}."


def _heights(shots: Sequence[int | str], step: float) -> list[float]:
    """Height of each row, downwards, with room for the titles of several shots."""
    places = [1.1 * step if len(set(shots)) > 1 else 0.0]
    for before, shot in pairwise(shots):
        places.append(places[-1] + step + (1.4 if shot != before else 0.0))
    return places


def _titles(axes: Axes, shots: Sequence[int | str], places: Sequence[float]) -> None:
    """The number of shots above the rows that have it, where there are several."""
    if len(set(shots)) < 2:
        return
    for i, (shot, place) in enumerate(zip(shots, places, strict=True)):
        if i == 0 or shots[i - 1] != shot:
            side_text(axes, place - 1.1, shots_text(shot), color=colour("muted"))


def _row_names(axes: Axes, place: float, label: Label, *, two: bool) -> None:
    if not two:
        side_text(axes, place, label.name)
        return
    first, second = label.lines
    side_text(axes, place - 0.3, first)
    side_text(axes, place + 0.4, second, color=colour("muted"), fontsize=SMALL)


def _whisker(axes: Axes, place: float, value: Interval, label: Label) -> None:
    if value.low is not None and value.high is not None:
        ends = [100 * value.low, 100 * value.high]
        axes.plot(ends, [place, place], color=colour(label.colour), lw=1.6)
    # small, so that a narrow interval is not hidden
    axes.plot([100 * value.mean], [place], ls="none", ms=4.2, **marks(label))


Cost = Literal["parameters", "macs", "seconds"]
_COSTS: Mapping[Cost, str] = MappingProxyType(
    {
        "parameters": "trained parameters",
        "macs": "multiply-accumulates of a clip",
        "seconds": "seconds per episode",
    }
)


def cost(points: Sequence[Point], *, key: str, of: Cost) -> Drawn | None:
    """Accuracy against the cost of an episode; the shots of a row are joined, more shots larger.

    Args:
        points: in the order to show them.
        key: of the figure in its page.
        of: which cost.

    Returns:
        The figure; None where all cost the same.
    """
    known = [(getattr(p, of), p.mean, p) for p in points]
    drawn = [(x, mean, p) for x, mean, p in known if x is not None and mean is not None]
    if len({x for x, _, _ in drawn}) < 2:
        return None
    shots = ordered([p.shot for _, _, p in drawn])
    with drawing(WIDTH, 300) as figure:
        axes = figure.add_subplot()
        _cost_axis(axes, [x for x, _, _ in drawn])
        for line in _lines(drawn):
            label = line[0][2].label
            x, y = [x for x, _, _ in line], [100 * mean.mean for _, mean, _ in line]
            axes.plot(x, y, color=colour(label.colour), lw=0.8, alpha=0.6, ls=label.dash)
            for at, mean, point in line:
                size = 4.5 + 3 * shots.index(point.shot) / max(1, len(shots) - 1)
                axes.plot([at], [100 * mean.mean], ms=size, ls="none", **marks(label))
        what = _COSTS[of]
        axes.set_xlabel(what)
        axes.set_ylabel("accuracy in %")
        axes.grid(axis="y")
        said = [
            f"{p.label.full}, {shots_text(p.shot)}: {_count(x)} {what}, {100 * mean.mean:.1f} %"
            for x, mean, p in drawn
        ]
        alt = f"Scatter plot: accuracy against {what}. {'; '.join(said)}."
        return finished(axes, key=key, alt=alt)


def _cost_axis(axes: Axes, values: Sequence[float]) -> None:
    """A logarithmic axis on which zero has a place of its own."""
    from matplotlib.ticker import FuncFormatter, NullLocator

    positive = [value for value in values if value > 0]
    if len(positive) < len(values):
        least = min(positive)
        axes.set_xscale("symlog", linthresh=least / 2, linscale=0.4)
        axes.set_xlim(-least / 8, max(positive) * 2)
    else:
        axes.set_xscale("log")
        axes.margins(x=0.1)
    zero = len(positive) < len(values)
    if zero or max(positive) < 20 * min(positive):
        axes.set_xticks(_steps(min(positive), max(positive), zero=zero))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _count(value)))
    axes.xaxis.set_minor_locator(NullLocator())


def _steps(least: float, most: float, *, zero: bool) -> list[float]:
    """Round numbers between two: powers of ten, and those between where these are few."""
    powers = range(floor(log10(least)), ceil(log10(most)) + 1)
    factors = (1,) if most >= 20 * least else (1, 2, 5)
    steps = [factor * 10.0**power for power in powers for factor in factors]
    inside = [step for step in steps if 0.7 * least <= step <= 1.4 * most]
    return [*([0.0] if zero else []), *inside]


def _count(value: float) -> str:
    """A number as short as it can be read: 1.2M, 99k, 0.25."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g}{letter}"
    return f"{value:.3g}"
