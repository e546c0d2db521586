"""Drawings of matplotlib as SVG for a page: themed by the page, without styles, scripts or ids.

matplotlib writes style attributes, a style sheet, metadata and ids that several drawings on one
page would share. Here styles become attributes, so that a page may forbid inline styles; colours
become variables of the page, so that one drawing serves light, dark and print.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as Tree

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
