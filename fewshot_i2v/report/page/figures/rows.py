"""Figures of the rows of a table: curves, forests of intervals, accuracy against cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from math import ceil, floor, log10
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

from fewshot_i2v.report.page.figures.style import (
    FIGURE_WIDTH,
    SMALL_FONT_SIZE,
    PlotPoint,
    colour,
    draw_chance_line,
    draw_left_text,
    draw_right_text,
    ends_text,
    marker_style,
    new_figure,
    to_figure,
)
from fewshot_i2v.report.page.labels import RowLabel
from fewshot_i2v.report.tables.accuracy_table import sort_shots
from fewshot_i2v.report.tables.interval_text import format_signed
from fewshot_i2v.report.tables.table_notes import shots_text
from fewshot_i2v.statistics import Interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_ROW_HEIGHT, _EDGE_HEIGHT = 20, 50
PlacedPoint = tuple[float, Interval, PlotPoint]


def draw_curves(
    points: Sequence[PlotPoint], *, key: str, chance: float | None = None
) -> str | None:
    """Draw accuracy over the number of shots: a line with a band for each adapter and start.

    The points are of one head, `chance` is 0..1. None with fewer than two numbers of shots.
    """
    with_mean = [(p, p.mean) for p in points if p.mean is not None]
    shots = sort_shots([p.shot for p, _ in with_mean])
    if len(shots) < 2:
        return None
    lines = _group_lines([(float(shots.index(p.shot)), mean, p) for p, mean in with_mean])
    with new_figure(FIGURE_WIDTH, 300) as figure:
        axes = figure.add_subplot()
        for line in lines:
            _draw_band(axes, line)
        for line in lines:
            x, y = [x for x, _, _ in line], [100 * mean.mean for _, mean, _ in line]
            label = line[0][2].label
            axes.plot(x, y, ls=label.dash, **marker_style(label))
        draw_chance_line(axes, chance)
        axes.set_xticks(range(len(shots)), [str(shot) for shot in shots])
        axes.set_xlabel("clips per class (shots)")
        axes.set_ylabel("accuracy in %")
        axes.grid(axis="y")
        axes.margins(x=0.06)
        line_texts = [
            f"{line[0][2].label.name} "
            + ", ".join(f"{100 * mean.mean:.1f} at {shots_text(p.shot)}" for _, mean, p in line)
            for line in lines
        ]
        alt = f"Line chart: accuracy in percent over clips per class. {'; '.join(line_texts)}."
        return to_figure(axes, key=key, alt=alt)


def _group_lines(placed: Sequence[PlacedPoint]) -> list[list[PlacedPoint]]:
    """Group points by adapter, start and head, each in the order of their shots."""
    lines: dict[str, list[PlacedPoint]] = {}
    for x, mean, point in placed:
        lines.setdefault(point.label.full, []).append((x, mean, point))
    shots = sort_shots([point.shot for _, _, point in placed])
    return [
        sorted(line, key=lambda placed_point: shots.index(placed_point[2].shot))
        for line in lines.values()
    ]


def _draw_band(axes: Axes, line: Sequence[PlacedPoint]) -> None:
    bounds = [
        (x, 100 * mean.low, 100 * mean.high)
        for x, mean, _ in line
        if mean.low is not None and mean.high is not None
    ]
    if bounds:
        x, low, high = ([bound[i] for bound in bounds] for i in range(3))
        tint = colour(line[0][2].label.colour)
        axes.fill_between(x, low, high, color=tint, alpha=0.12, lw=0)


def draw_forest(
    points: Sequence[PlotPoint],
    *,
    key: str,
    gains: bool = True,
    span: tuple[float, float] | None = None,
) -> str | None:
    """Draw intervals below each other: of the gain over the frozen encoder, or of the accuracy.

    Points of equal shots stand together. `span` are the ends of the axis, so that several figures
    have the same. None where no row has such an interval.
    """
    pairs = [(p, p.gain if gains else p.mean) for p in points]
    with_interval = [(p, value) for p, value in pairs if value is not None]
    if not with_interval:
        return None
    step = 1.0 if all(p.label.fits_one_line for p, _ in with_interval) else 1.7
    heights = _row_positions([p.shot for p, _ in with_interval], step)
    top, bottom = min(*heights, 0) - 0.7, max(heights) + 0.7
    with new_figure(FIGURE_WIDTH, _EDGE_HEIGHT + _ROW_HEIGHT * (bottom - top)) as figure:
        axes = figure.add_subplot()
        if gains:
            axes.axvline(0, color=colour("muted"), lw=0.9)
        if span is not None:
            axes.set_xlim(*(100 * end for end in span))
        for (point, value), height in zip(with_interval, heights, strict=True):
            _draw_interval(axes, height, value, point.label)
            _draw_row_name(axes, height, point.label, two_lines=step > 1)
            number = format_signed(value.mean) if gains else f"{100 * value.mean:.1f}"
            draw_right_text(axes, height, number)
        _draw_shot_titles(axes, [p.shot for p, _ in with_interval], heights)
        axes.set_ylim(bottom, top)
        axes.set_yticks([])
        axes.grid(axis="x")
        axes.set_xlabel("gain over frozen, in points" if gains else "accuracy in %")
        return to_figure(axes, key=key, alt=_forest_text(with_interval, gains=gains))


def _forest_text(with_interval: Sequence[tuple[PlotPoint, Interval]], *, gains: bool) -> str:
    form = "{:+z.1f}" if gains else "{:.1f}"
    row_texts = [
        f"{p.label.full}, {shots_text(p.shot)}: {form.format(100 * v.mean)}{ends_text(v, form)}"
        for p, v in with_interval
    ]
    quantity = "gain over the frozen encoder, in points" if gains else "accuracy in percent"
    return f"Forest plot of intervals: {quantity}. {'; '.join(row_texts)}."


def _row_positions(shots: Sequence[int | str], step: float) -> list[float]:
    """Height of each row, downwards, with space for the titles of several shots."""
    heights = [1.1 * step if len(set(shots)) > 1 else 0.0]
    for previous, shot in pairwise(shots):
        heights.append(heights[-1] + step + (1.4 if shot != previous else 0.0))
    return heights


def _draw_shot_titles(axes: Axes, shots: Sequence[int | str], heights: Sequence[float]) -> None:
    """Draw the number of shots above the rows that have it, where there are several."""
    if len(set(shots)) < 2:
        return
    for i, (shot, height) in enumerate(zip(shots, heights, strict=True)):
        if i == 0 or shots[i - 1] != shot:
            draw_left_text(axes, height - 1.1, shots_text(shot), color=colour("muted"))


def _draw_row_name(axes: Axes, height: float, label: RowLabel, *, two_lines: bool) -> None:
    if not two_lines:
        draw_left_text(axes, height, label.name)
        return
    first_line, second_line = label.two_lines
    draw_left_text(axes, height - 0.3, first_line)
    draw_left_text(axes, height + 0.4, second_line, color=colour("muted"), fontsize=SMALL_FONT_SIZE)


def _draw_interval(axes: Axes, height: float, value: Interval, label: RowLabel) -> None:
    if value.low is not None and value.high is not None:
        ends = [100 * value.low, 100 * value.high]
        axes.plot(ends, [height, height], color=colour(label.colour), lw=1.6)
    # small, so that a narrow interval is not hidden
    axes.plot([100 * value.mean], [height], ls="none", ms=4.2, **marker_style(label))


CostKind = Literal["parameters", "macs", "seconds"]
_COST_NAMES: Mapping[CostKind, str] = MappingProxyType(
    {
        "parameters": "trained parameters",
        "macs": "multiply-accumulates of a clip",
        "seconds": "seconds per episode",
    }
)


def draw_cost(points: Sequence[PlotPoint], *, key: str, kind: CostKind) -> str | None:
    """Draw accuracy against the cost of an episode; shots of a row are joined, more shots larger.

    None where all cost the same.
    """
    candidates = [(getattr(p, kind), p.mean, p) for p in points]
    complete = [(x, mean, p) for x, mean, p in candidates if x is not None and mean is not None]
    if len({x for x, _, _ in complete}) < 2:
        return None
    shots = sort_shots([p.shot for _, _, p in complete])
    with new_figure(FIGURE_WIDTH, 300) as figure:
        axes = figure.add_subplot()
        _set_cost_axis(axes, [x for x, _, _ in complete])
        for line in _group_lines(complete):
            label = line[0][2].label
            x, y = [x for x, _, _ in line], [100 * mean.mean for _, mean, _ in line]
            axes.plot(x, y, color=colour(label.colour), lw=0.8, alpha=0.6, ls=label.dash)
            for position, mean, point in line:
                size = 4.5 + 3 * shots.index(point.shot) / max(1, len(shots) - 1)
                axes.plot([position], [100 * mean.mean], ms=size, ls="none", **marker_style(label))
        axis_name = _COST_NAMES[kind]
        axes.set_xlabel(axis_name)
        axes.set_ylabel("accuracy in %")
        axes.grid(axis="y")
        point_texts = [
            f"{p.label.full}, {shots_text(p.shot)}: {_format_count(x)} {axis_name}, "
            f"{100 * mean.mean:.1f} %"
            for x, mean, p in complete
        ]
        alt = f"Scatter plot: accuracy against {axis_name}. {'; '.join(point_texts)}."
        return to_figure(axes, key=key, alt=alt)


def _set_cost_axis(axes: Axes, values: Sequence[float]) -> None:
    """Set a logarithmic axis on which zero has a position too; a linear one for near values."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

    positive = [value for value in values if value > 0]
    formatter = FuncFormatter(lambda value, _: _format_count(value))
    if len(positive) == len(values) and max(positive) < 3 * min(positive):
        axes.xaxis.set_major_locator(MaxNLocator(4))  # round powers would be one or none
        axes.xaxis.set_major_formatter(formatter)
        axes.margins(x=0.1)
        return
    if len(positive) < len(values):
        min_positive = min(positive)
        axes.set_xscale("symlog", linthresh=min_positive / 2, linscale=0.4)
        axes.set_xlim(-min_positive / 8, max(positive) * 2)
    else:
        axes.set_xscale("log")
        axes.margins(x=0.1)
    has_zero = len(positive) < len(values)
    if has_zero or max(positive) < 20 * min(positive):
        axes.set_xticks(_axis_ticks(min(positive), max(positive), has_zero=has_zero))
    axes.xaxis.set_major_formatter(formatter)
    axes.xaxis.set_minor_locator(NullLocator())


def _axis_ticks(low: float, high: float, *, has_zero: bool) -> list[float]:
    """Round numbers between two: powers of ten, and those between where these are few."""
    powers = range(floor(log10(low)), ceil(log10(high)) + 1)
    factors = (1,) if high >= 20 * low else (1, 2, 5)
    steps = [factor * 10.0**power for power in powers for factor in factors]
    ticks = [step for step in steps if 0.7 * low <= step <= 1.4 * high]
    return [*([0.0] if has_zero else []), *ticks]


def _format_count(value: float) -> str:
    """Format a number as short as it can be read: 1.2M, 99k, 0.25."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g}{letter}"
    return f"{value:.3g}"
