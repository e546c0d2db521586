"""Drawings of matplotlib as SVG for a page: themed by the page, without styles, scripts or ids.

matplotlib writes style attributes, a style sheet, metadata and ids that several drawings on one
page would share. Here styles become attributes, so that a page may forbid inline styles; colours
become variables of the page, so that one drawing serves light, dark and print.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as Tree

from fewshot_i2v.report.page.labels import Label
from fewshot_i2v.statistics import Interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colours, told apart in every common form of colour-blindness. The first is for the
# baseline; the pale ones come last.
PALETTE = {
    "s0": "#6b6b6b",
    "s1": "#0072b2",
    "s2": "#d55e00",
    "s3": "#009e73",
    "s4": "#cc79a7",
    "s5": "#e69f00",
    "s6": "#56b4e9",
    "s7": "#8a7a00",
}
"""Colour of each series by the name of its variable, as on white paper."""
INKS = {"ink": "#222222", "muted": "#5f6368", "rule": "#d9dbdf", "paper": "#ffffff"}
_THEME = {**PALETTE, **INKS}
# Colours that stand for variables while matplotlib draws; it knows no variables.
_CODES = {name: f"#0a0b{i:02x}" for i, name in enumerate(_THEME)}
_NAMES = {code: name for name, code in _CODES.items()}
_SVG = "http://www.w3.org/2000/svg"
_LINK = "{http://www.w3.org/1999/xlink}href"
_DROPPED = {f"{{{_SVG}}}metadata", f"{{{_SVG}}}style"}
_STYLES = re.compile(r"\s*([a-z-]+)\s*:\s*([^;]+);?")
_LONG = re.compile(r"(\d+\.\d{2})\d+")
_TURN = re.compile(r"rotate\(-?0(\.0*)? [^)]*\)")
POINT = 8.3
"""Size of text, in points; 1 pt is 4/3 pixels of a page."""


def colour(name: str) -> str:
    """The colour to draw with so that the page decides: "s0" to "s7", or a name of `INKS`."""
    return _CODES[name]


@contextmanager
def drawing(width: float, height: float) -> Iterator[Figure]:
    """A figure to draw into, quiet in style.

    Args:
        width: in pixels of a page.
        height: in pixels of a page.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(_settings()):
        yield Figure(figsize=(width / 96, height / 96), layout="constrained")


def _settings() -> dict[Any, Any]:
    ink, muted, rule = (colour(name) for name in ("ink", "muted", "rule"))
    return {
        "svg.fonttype": "none",
        "svg.hashsalt": "fewshot-i2v",
        # a name with dollar signs is a name
        "text.parse_math": False,
        "axes.unicode_minus": True,
        "font.size": POINT,
        "axes.labelsize": POINT,
        "axes.titlesize": POINT,
        "xtick.labelsize": POINT,
        "ytick.labelsize": POINT,
        "text.color": ink,
        "axes.labelcolor": ink,
        "axes.edgecolor": muted,
        "axes.linewidth": 0.6,
        "axes.facecolor": "none",
        "figure.facecolor": "none",
        "savefig.facecolor": "none",
        "xtick.color": muted,
        "ytick.color": muted,
        "xtick.major.width": 0.6,
        "ytick.major.width": 0.6,
        "xtick.major.size": 2.5,
        "ytick.major.size": 2.5,
        "grid.color": rule,
        "grid.linewidth": 0.6,
        "lines.linewidth": 1.3,
        "lines.markersize": 5,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.axisbelow": True,
        "figure.constrained_layout.h_pad": 0.03,
        "figure.constrained_layout.w_pad": 0.03,
    }


def bare(axes: Axes) -> None:
    """Takes the left side of the frame and the marks of the axes away; the grid is enough."""
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)


def to_svg(figure: Figure, *, key: str, alt: str) -> str:
    """A figure as SVG text to be put into a page.

    Args:
        figure: from `drawing`, within its context.
        key: letters, digits and dashes; no other drawing of the page has it.
        alt: what a screen reader says.

    Returns:
        One element without style attributes, style sheet or ids of others; what comes from names is
        escaped. Colours are variables of the page, with those of `PALETTE` where it has none.
    """
    out = io.BytesIO()
    with warnings.catch_warnings():
        # text stays text, which a page draws with the reader's fonts
        warnings.filterwarnings("ignore", r"Glyph \d+ .* missing from", UserWarning)
        figure.savefig(out, format="svg", metadata={"Date": None})
    # matplotlib wrote it a moment ago
    root = Tree.fromstring(out.getvalue())  # noqa: S314
    wanted = {match for e in root.iter() for match in _references(e.attrib)}
    for parent in root.iter():
        for child in [child for child in parent if child.tag in _DROPPED]:
            parent.remove(child)
    for element in root.iter():
        element.tag = element.tag.removeprefix(f"{{{_SVG}}}")
        element.attrib = _cleaned(element.attrib, key, wanted)
        element.tail = None
        if element.tag != "text":
            element.text = None
    _, _, width, height = root.attrib["viewBox"].split()
    root.attrib = {
        "class": "drawing",
        "viewBox": root.attrib["viewBox"],
        "width": f"{float(width) * 4 / 3:.0f}",
        "height": f"{float(height) * 4 / 3:.0f}",
        "role": "img",
        "aria-label": alt,
        "focusable": "false",
    }
    return Tree.tostring(root, encoding="unicode")


def _references(attributes: Mapping[str, str]) -> Iterator[str]:
    for name, value in attributes.items():
        if name == _LINK:
            yield value.removeprefix("#")
        yield from re.findall(r"url\(#([^)]+)\)", value)


def _cleaned(attributes: Mapping[str, str], key: str, wanted: set[str]) -> dict[str, str]:
    given = dict(attributes)
    given |= dict(_STYLES.findall(given.pop("style", "")))
    given.pop("font-family", None)
    given["href"] = given.pop(_LINK, "")
    if given.get("id") not in wanted:
        given.pop("id", None)
    if _TURN.fullmatch(given.get("transform", "")):
        del given["transform"]
    return {name: _value(name, value, key) for name, value in given.items() if value}


def _value(name: str, value: str, key: str) -> str:
    value = value.strip()
    if name == "id":
        return f"{key}-{value}"
    if name == "href":
        return f"#{key}-{value.removeprefix('#')}"
    if value.startswith("url(#"):
        return value.replace("url(#", f"url(#{key}-")
    if value in _NAMES:
        return f"var(--{_NAMES[value]},{_THEME[_NAMES[value]]})"
    if name in {"d", "x", "y", "transform", "fill-opacity"}:
        return _LONG.sub(r"\1", " ".join(value.split()))
    return value


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
