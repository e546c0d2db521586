"""The figures of a page, drawn by matplotlib as SVG that the page themes.

Each gives a `Drawn`, or None where there is nothing to draw. matplotlib is imported when the first
figure is drawn.
"""

from fewshot_i2v.report._class_figures import classes, confusion, spread
from fewshot_i2v.report._plots import WIDTH, Drawn, Point, swatch
from fewshot_i2v.report._reliability_figure import reliability
from fewshot_i2v.report._row_figures import Cost, cost, curves, forest

__all__ = [
    "WIDTH",
    "Cost",
    "Drawn",
    "Point",
    "classes",
    "confusion",
    "cost",
    "curves",
    "forest",
    "reliability",
    "spread",
    "swatch",
]
