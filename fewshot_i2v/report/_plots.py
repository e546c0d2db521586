"""What the figures share: what they return, what they draw, and how a mark looks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fewshot_i2v.report._labels import Label
from fewshot_i2v.report._svg import bare, colour, drawing, to_svg
from fewshot_i2v.statistics import Interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDTH = 400
"""Of a figure, in pixels of a page: readable on a phone, two beside each other on a desk."""
SMALL = 7.4
"""Size of text beside the main one, in points."""


@dataclass(frozen=True)
class Drawn:
    """A figure.

    Attributes:
        svg: SVG text to be put into a page as it is; names in it are escaped.
        alt: what it shows, in words.
    """

    svg: str
    alt: str


@dataclass(frozen=True)
class Plate:
    """A figure with its caption.

    Attributes:
        title: what it is, in a few words.
        caption: what is drawn and what its intervals cover.
        drawn: the figure.
    """

    title: str
    caption: str
    drawn: Drawn


@dataclass(frozen=True)
class Point:
    """A row of a table as it is drawn.

    Attributes:
        label: its name and marks.
        shot: support clips per class, or a range of them.
        mean: accuracy with its interval; None where no episode succeeded.
        gain: paired difference to the frozen encoder; None where there is none.
        parameters: trained in one episode.
        seconds: of an episode, or None.
        macs: multiply-accumulates of a clip, or None.
    """

    label: Label
    shot: int | str
    mean: Interval | None
    gain: Interval | None = None
    parameters: int = 0
    seconds: float | None = None
    macs: float | None = None


def ordered(shots: Sequence[int | str]) -> list[int | str]:
    """Each number of shots once, numbers ascending, then ranges."""
    return sorted(set(shots), key=lambda shot: (isinstance(shot, str), shot))


def shots_text(shot: int | str) -> str:
    """A number of shots in words."""
    return "1 shot" if shot == 1 else f"{shot} shots"


def ends_text(interval: Interval, form: str = "{:.1f}") -> str:
    """The ends of an interval in percent, in brackets with a space before; or nothing."""
    if interval.low is None or interval.high is None:
        return ""
    return f" [{form.format(100 * interval.low)}, {form.format(100 * interval.high)}]"


def signed(share: float) -> str:
    """A difference of shares in points with its sign; what rounds to nothing has none."""
    text = f"{100 * share:+z.1f}"
    return "0.0" if text in ("+0.0", "-0.0") else text


def marks(label: Label) -> dict[str, Any]:
    """Colour and marker of a label, as matplotlib takes them."""
    shade = colour(label.colour)
    return {
        "color": shade,
        "marker": label.marker,
        "markerfacecolor": shade if label.filled else colour("paper"),
        "markeredgecolor": shade,
        "markeredgewidth": 1.2,
    }


def chance_line(axes: Axes, chance: float | None) -> None:
    """A dotted line at the accuracy of guessing, which it names."""
    if chance is None:
        return
    axes.axhline(100 * chance, color=colour("muted"), lw=0.9, ls=(0, (1, 2)))
    axes.annotate(
        "guessing",
        (0, 100 * chance),
        xycoords=("axes fraction", "data"),
        xytext=(2, 3),
        textcoords="offset points",
        color=colour("muted"),
        fontsize=SMALL,
    )


def side_text(axes: Axes, place: float, text: str, **given: Any) -> None:
    """Text to the left of the axes at a height in the unit of the data."""
    axes.annotate(
        text,
        (0, place),
        xycoords=("axes fraction", "data"),
        xytext=(-6, 0),
        textcoords="offset points",
        va="center",
        **{"ha": "right", **given},
    )


def end_text(axes: Axes, place: float, text: str) -> None:
    """Text to the right of the axes at a height in the unit of the data."""
    axes.annotate(
        text,
        (1, place),
        xycoords=("axes fraction", "data"),
        xytext=(6, 0),
        textcoords="offset points",
        va="center",
    )


def swatch(label: Label, *, key: str) -> str:
    """The line and marker of a label as a small drawing for a legend, silent to screen readers."""
    with drawing(34, 14) as figure:
        figure.set_layout_engine("none")
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set_axis_off()
        axes.plot([0, 2], [0, 0], ls=label.dash, **{**marks(label), "marker": None})
        axes.plot([1], [0], ls="none", **marks(label))
        axes.set(xlim=(0, 2), ylim=(-1, 1))
        svg = to_svg(figure, key=key, alt="")
    return svg.replace('role="img"', 'aria-hidden="true"').replace(' aria-label=""', "")


def finished(axes: Axes, *, key: str, alt: str, framed: bool = False) -> Drawn:
    """The figure of some axes; unless framed, without a left side, where a grid does its work."""
    if not framed:
        bare(axes)
    figure = axes.get_figure(root=True)
    if figure is None:  # an axes without one cannot have been drawn into
        raise RuntimeError("the axes belong to no figure")
    return Drawn(to_svg(figure, key=key, alt=alt), alt)
