"""Page of a report: one HTML file that holds everything it shows.

It loads nothing from elsewhere: styles, script, figures and film strips are inside, and a content
security policy forbids the rest. Names of classes, clips, folders and adapters are escaped
everywhere.
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

from fewshot_i2v.report.analysis.frame_order import frame_order_losses
from fewshot_i2v.report.analysis.report_data import LEVEL, ReportSection
from fewshot_i2v.report.page.shown_episodes import shown_clip_names
from fewshot_i2v.report.page.views import SectionView
from fewshot_i2v.report.tables.interval_text import EMPTY, format_ends
from fewshot_i2v.report.tables.table import LEFT_COLUMNS
from fewshot_i2v.statistics import Interval
from fewshot_i2v.utils.text_table import escape_name

if TYPE_CHECKING:
    from jinja2 import Environment

_FOLDER = Path(__file__).parent / "html"


def render_page(sections: Sequence[ReportSection], *, title: str = "", version: str = "") -> str:
    """Render a report as one HTML page.

    Equal sections give equal pages. Without a title it is that of the first section.
    """
    losses = frame_order_losses(sections, LEVEL)
    views = [SectionView(section, number, losses) for number, section in enumerate(sections, 1)]
    return fill_template(
        "page.html",
        views=views,
        title=title
        or (sections[0].title if len(sections) == 1 else f"{len(sections)} evaluations"),
        version=version,
        left=LEFT_COLUMNS,
    )


def fill_template(name: str, **values: Any) -> str:
    """Fill a template of a page, which holds its style and script.

    Texts among the values are escaped.
    """
    style, script = _read("style.css"), _read("script.js")
    # exactly this style, this script and images inside
    policy = (
        "default-src 'none'; img-src data:; base-uri 'none'; form-action 'none'; "
        f"style-src {_csp_hash(style)}; script-src {_csp_hash(script)}"
    )
    return (
        _environment()
        .get_template(name)
        .render(
            policy=policy,
            # files of this package
            style=Markup(style),  # noqa: S704
            script=Markup(script),  # noqa: S704
            **values,
        )
    )


def shown_clips(section: ReportSection) -> list[str]:
    """Names of the clips whose frames the section shows, each once."""
    detail = SectionView(section, 1).detail
    return [] if detail is None else shown_clip_names(detail.episodes)


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


def _csp_hash(text: str) -> str:
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")
    return f"'sha256-{digest}'"


def format_percent(value: float, digits: int = 1) -> str:
    """Format a share in percent, without the sign."""
    return f"{100 * value:.{digits}f}"


def ends_or_dash(interval: Interval, digits: int = 1) -> str:
    """Format the ends of an interval in percent, or a dash."""
    return format_ends(interval, f"{{:.{digits}f}}") or EMPTY


def svg_markup(svg: str) -> Markup:
    """Mark the SVG of a figure of this package as safe; it has every name escaped."""
    return Markup(svg)  # noqa: S704


def allow_breaks(text: str) -> Markup:
    """Escape a label with options, and allow line breaks after a colon or a comma."""
    pieces = re.split(r"(?<=[:,])", text)
    return Markup("<wbr>").join(pieces)  # escapes what it joins


def bind_words(text: str) -> Markup:
    """Escape a text in which no line breaks between a number and its unit, nor within a flag."""
    bound = re.sub(r"(?<=\d) (?=%|points?\b|clips?\b)", "\u00a0", text)
    pieces = re.split(r"(--[a-z][a-z-]*)", bound)
    return Markup("").join(
        Markup('<span class="flag">{}</span>').format(piece) if i % 2 else piece
        for i, piece in enumerate(pieces)
    )


def escape_controls(text: str) -> str:
    """Show control and direction marks as escapes, at any length; lines stay."""
    return "".join(
        c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode("ascii")
        for c in text
    )


FILTERS: Mapping[str, Callable[..., Any]] = MappingProxyType(
    {
        "breakable": allow_breaks,
        "bound": bind_words,
        "percent": format_percent,
        "ends": ends_or_dash,
        "drawing": svg_markup,
        "visible": escape_controls,
        "name": escape_name,
    }
)
"""By the name that templates call them."""
