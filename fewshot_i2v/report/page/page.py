"""The page of a report: one HTML file that holds everything it shows.

It asks for nothing from anywhere: styles, script, figures and film strips are inside, and a content
security policy forbids the rest. Names of classes, clips, folders and adapters are escaped wherever
they stand.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from fewshot_i2v.report.analysis.frame_order import reliances
from fewshot_i2v.report.analysis.report_data import LEVEL, Section
from fewshot_i2v.report.page.views import View, clips_of
from fewshot_i2v.report.tables.table import LEFT
from fewshot_i2v.statistics import Interval
from fewshot_i2v.utils.text_table import escaped

if TYPE_CHECKING:
    from jinja2 import Environment

_FOLDER = Path(__file__).parent / "html"


def render_page(sections: Sequence[Section], *, title: str = "", version: str = "") -> str:
    """A report as one HTML page.

    Args:
        sections: one for each table; at least one.
        title: of the page; by default that of the first section.
        version: of the program, said at the end of the page.

    Returns:
        The page. Equal sections give equal pages.
    """
    from markupsafe import Markup

    environment = _environment()
    style, script = _read("style.css"), _read("script.js")
    found = reliances(sections, LEVEL)
    views = [View(section, number, found) for number, section in enumerate(sections, 1)]
    return environment.get_template("page.html").render(
        views=views,
        title=title or _title(sections),
        version=version,
        left=LEFT,
        policy=_policy(style, script),
        # files of this package
        style=Markup(style),  # noqa: S704
        script=Markup(script),  # noqa: S704
    )


def shown_clips(section: Section) -> list[str]:
    """Names of the clips whose frames the section would show, each once."""
    detail = View(section, 1).detail
    return [] if detail is None else clips_of(detail.episodes)


def _title(sections: Sequence[Section]) -> str:
    if len(sections) == 1:
        return sections[0].title
    return f"{len(sections)} evaluations"


def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(FILTERS)
    return environment


def _read(name: str) -> str:
    return (_FOLDER / name).read_text(encoding="utf-8")


def _policy(style: str, script: str) -> str:
    """A content security policy that allows exactly this style, this script and images inside."""
    return (
        "default-src 'none'; img-src data:; base-uri 'none'; form-action 'none'; "
        f"style-src {_source(style)}; script-src {_source(script)}"
    )


def _source(text: str) -> str:
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")
    return f"'sha256-{digest}'"


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
