"""Figures of a page, drawn by matplotlib as SVG in the colours of the page.

Each function returns SVG text, or None where there is nothing to draw. matplotlib is imported when
the first figure is drawn.
"""

from fewshot_i2v.report.page.figures.classes import (
    draw_classes,
    draw_confusion,
    draw_reliability,
    draw_spread,
)
from fewshot_i2v.report.page.figures.rows import CostKind, draw_cost, draw_curves, draw_forest
from fewshot_i2v.report.page.figures.style import FIGURE_WIDTH, PlotPoint, legend_marker

__all__ = [
    "FIGURE_WIDTH",
    "CostKind",
    "PlotPoint",
    "draw_classes",
    "draw_confusion",
    "draw_cost",
    "draw_curves",
    "draw_forest",
    "draw_reliability",
    "draw_spread",
    "legend_marker",
]
