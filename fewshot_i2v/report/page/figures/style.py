"""SVG text of matplotlib figures for a page: themed by the page, without styles, scripts or ids.

matplotlib writes style attributes, a style sheet, metadata and ids that several figures on one
page would share. Here styles become attributes, so that a page may forbid inline styles; colours
become variables of the page, so that one figure serves light, dark and print.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as Tree

from fewshot_i2v.report.page.labels import RowLabel
from fewshot_i2v.report.tables.interval_text import format_ends
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
_COLOUR_CODES = {name: f"#0a0b{i:02x}" for i, name in enumerate(_THEME)}
_COLOUR_NAMES = {code: name for name, code in _COLOUR_CODES.items()}
_SVG = "http://www.w3.org/2000/svg"
_HREF = "{http://www.w3.org/1999/xlink}href"
_DROPPED_TAGS = {f"{{{_SVG}}}metadata", f"{{{_SVG}}}style"}
_STYLE_PATTERN = re.compile(r"\s*([a-z-]+)\s*:\s*([^;]+);?")
_LONG_DECIMAL = re.compile(r"(\d+\.\d{2})\d+")
_NULL_ROTATION = re.compile(r"rotate\(-?0(\.0*)? [^)]*\)")
FONT_SIZE = 8.3
"""Size of text, in points; 1 pt is 4/3 pixels of a page."""


def colour(name: str) -> str:
    """Placeholder colour that the page replaces: "s0" to "s7", or a name of `INKS`."""
    return _COLOUR_CODES[name]


@contextmanager
def new_figure(width: float, height: float) -> Iterator[Figure]:
    """Open an empty figure in the quiet style of a page.

    Width and height are in pixels of a page.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(_rc_settings()):
        yield Figure(figsize=(width / 96, height / 96), layout="constrained")


def _rc_settings() -> dict[Any, Any]:
    ink, muted, rule = (colour(name) for name in ("ink", "muted", "rule"))
    return {
        "svg.fonttype": "none",
        "svg.hashsalt": "fewshot-i2v",
        # a name with dollar signs is a name
        "text.parse_math": False,
        "axes.unicode_minus": True,
        "font.size": FONT_SIZE,
        "axes.labelsize": FONT_SIZE,
        "axes.titlesize": FONT_SIZE,
        "xtick.labelsize": FONT_SIZE,
        "ytick.labelsize": FONT_SIZE,
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


def to_svg(figure: Figure, *, key: str, alt: str) -> str:
    """Convert a figure to SVG text to be put into a page.

    `key` is of letters, digits and dashes, and no other figure of the page has it; `alt` is for
    screen readers.

    Returns:
        One element without style attributes, style sheet or ids of others; text from names is
        escaped. Colours are variables of the page, with those of `PALETTE` where it has none.
    """
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    canvas: Any = FigureCanvasSVG(figure)  # without types for what it writes
    out = io.BytesIO()
    with warnings.catch_warnings():
        # text stays text, which a page draws with the reader's fonts
        warnings.filterwarnings("ignore", r"Glyph \d+ .* missing from", UserWarning)
        # drawing lays the figure out; savefig would draw it once more for that
        canvas.print_svg(out, metadata={"Date": None})
    # matplotlib wrote it a moment ago
    root = Tree.fromstring(out.getvalue())  # noqa: S314
    referenced = {match for node in root.iter() for match in _referenced_ids(node.attrib)}
    for parent in root.iter():
        for child in [child for child in parent if child.tag in _DROPPED_TAGS]:
            parent.remove(child)
    for element in root.iter():
        element.tag = element.tag.removeprefix(f"{{{_SVG}}}")
        element.attrib = _clean_attributes(element.attrib, key, referenced)
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


def _referenced_ids(attributes: Mapping[str, str]) -> Iterator[str]:
    for name, value in attributes.items():
        if name == _HREF:
            yield value.removeprefix("#")
        yield from re.findall(r"url\(#([^)]+)\)", value)


def _clean_attributes(
    attributes: Mapping[str, str], key: str, referenced: set[str]
) -> dict[str, str]:
    cleaned = dict(attributes)
    cleaned |= dict(_STYLE_PATTERN.findall(cleaned.pop("style", "")))
    cleaned.pop("font-family", None)
    cleaned["href"] = cleaned.pop(_HREF, "")
    if cleaned.get("id") not in referenced:
        cleaned.pop("id", None)
    if _NULL_ROTATION.fullmatch(cleaned.get("transform", "")):
        del cleaned["transform"]
    return {name: _clean_value(name, value, key) for name, value in cleaned.items() if value}


def _clean_value(name: str, value: str, key: str) -> str:
    value = value.strip()
    if name == "id":
        return f"{key}-{value}"
    if name == "href":
        return f"#{key}-{value.removeprefix('#')}"
    if value.startswith("url(#"):
        return value.replace("url(#", f"url(#{key}-")
    if value in _COLOUR_NAMES:
        return f"var(--{_COLOUR_NAMES[value]},{_THEME[_COLOUR_NAMES[value]]})"
    if name in {"d", "x", "y", "transform", "fill-opacity"}:
        return _LONG_DECIMAL.sub(r"\1", " ".join(value.split()))
    return value


FIGURE_WIDTH = 400
"""Of a figure, in pixels of a page: readable on a phone, two beside each other on a desk."""
SMALL_FONT_SIZE = 7.4
"""Size of text beside the main one, in points."""


@dataclass(frozen=True)
class CaptionedFigure:
    """A figure with its caption.

    Attributes:
        title: what it is, in a few words.
        caption: what is drawn and what its intervals cover.
        svg: SVG text to be put into a page as it is; names in it are escaped.
    """

    title: str
    caption: str
    svg: str


@dataclass(frozen=True)
class PlotPoint:
    """A row of a table as a point of the figures.

    Attributes:
        label: its name and drawing style.
        shot: support clips per class, or a range of them.
        mean: accuracy with its interval; None where no episode succeeded.
        gain: paired difference to the frozen encoder; None where there is none.
        parameters: trained in one episode.
        seconds: of an episode, or None.
        macs: multiply-accumulates of a clip, or None.
    """

    label: RowLabel
    shot: int | str
    mean: Interval | None
    gain: Interval | None = None
    parameters: int = 0
    seconds: float | None = None
    macs: float | None = None


def ends_text(interval: Interval, form: str = "{:.1f}") -> str:
    """Ends of an interval in percent, in brackets with a space before; or nothing."""
    ends = format_ends(interval, form)
    return f" {ends}" if ends else ""


def marker_style(label: RowLabel) -> dict[str, Any]:
    """Colour and marker of a label, as arguments of matplotlib."""
    tint = colour(label.colour)
    return {
        "color": tint,
        "marker": label.marker,
        "fillstyle": "full" if label.tuned else "left",
        "markerfacecolor": tint if label.filled else colour("paper"),
        "markerfacecoloralt": colour("paper"),
        "markeredgecolor": tint,
        "markeredgewidth": 1.2,
    }


def draw_chance_line(axes: Axes, chance: float | None) -> None:
    """Draw a dotted line at the accuracy of guessing, with its name."""
    if chance is None:
        return
    style = {"color": colour("muted"), "fontsize": SMALL_FONT_SIZE}
    axes.axhline(100 * chance, color=colour("muted"), lw=0.9, ls=(0, (1, 2)))
    _draw_text(axes, 0, 100 * chance, "guessing", (2, 3), **style)


def draw_left_text(axes: Axes, y: float, text: str, **style: Any) -> None:
    """Draw text to the left of the axes at a height in the unit of the data."""
    _draw_text(axes, 0, y, text, (-6, 0), **{"va": "center", "ha": "right", **style})


def draw_right_text(axes: Axes, y: float, text: str) -> None:
    """Draw text to the right of the axes at a height in the unit of the data."""
    _draw_text(axes, 1, y, text, (6, 0), va="center")


def _draw_text(
    axes: Axes, x: float, y: float, text: str, offset: tuple[float, float], **style: Any
) -> None:
    """Draw text beside a point: x in widths of the axes, y in the unit of the data."""
    coordinates = "axes fraction", "data"
    axes.annotate(text, (x, y), offset, xycoords=coordinates, textcoords="offset points", **style)


def legend_marker(label: RowLabel, *, key: str) -> str:
    """Draw the line and marker of a label for a legend, silent to screen readers."""
    from matplotlib.lines import Line2D

    style = marker_style(label)
    with new_figure(34, 14) as figure:  # without axes, which take longer than all else here
        figure.add_artist(Line2D([0, 1], [0.5, 0.5], ls=label.dash, **{**style, "marker": None}))
        figure.add_artist(Line2D([0.5], [0.5], ls="none", **style))
        svg = to_svg(figure, key=key, alt="")
    return svg.replace('role="img"', 'aria-hidden="true"').replace(' aria-label=""', "")


def to_figure(axes: Axes, *, key: str, alt: str, framed: bool = False) -> str:
    """Finish the figure of some axes; unless framed, without a left side, since it has a grid."""
    if not framed:
        axes.spines["left"].set_visible(False)
        axes.tick_params(axis="y", length=0)
    figure = axes.get_figure(root=True)
    if figure is None:  # an axes without one cannot have been drawn into
        raise RuntimeError("the axes belong to no figure")
    return to_svg(figure, key=key, alt=alt)
