"""How the template of a page writes values."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from markupsafe import Markup

from fewshot_i2v.report.terminal import escaped
from fewshot_i2v.statistics import Interval


def percent(value: float, digits: int = 1) -> str:
    """A share in percent, without the sign."""
    return f"{100 * value:.{digits}f}"


def ends(interval: Interval, digits: int = 1) -> str:
    """The ends of an interval in percent, or a dash."""
    if interval.low is None or interval.high is None:
        return "-"
    return f"[{percent(interval.low, digits)}, {percent(interval.high, digits)}]"


def drawing(svg: str) -> Markup:
    """A figure of this package, which escaped every name in it."""
    return Markup(svg)  # noqa: S704


def breakable(text: str) -> Markup:
    """A label with options, escaped, that may be broken after a colon or a comma."""
    parts = re.split(r"(?<=[:,])", text)
    return Markup("<wbr>").join(parts)  # escapes what it joins


def kept(text: str) -> str:
    """Text in which no line ends between a number and what it is a number of."""
    return re.sub(r"(?<=\d) (?=%|points?\b|clips?\b)", "\u00a0", text)


def visible(text: str) -> str:
    """Text of any length with control and direction marks shown as escapes; lines are kept."""
    return "".join(
        c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode("ascii")
        for c in text
    )


FILTERS: Mapping[str, Callable[..., Any]] = MappingProxyType(
    {
        "breakable": breakable,
        "kept": kept,
        "percent": percent,
        "ends": ends,
        "drawing": drawing,
        "visible": visible,
        "name": escaped,
    }
)
"""By the name that templates call them."""
