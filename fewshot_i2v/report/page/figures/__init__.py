"""The figures of a page, drawn by matplotlib as SVG that the page themes.

Each gives a `Drawn`, or None where there is nothing to draw. matplotlib is imported when the first
figure is drawn.
"""

from fewshot_i2v.report.page.figures.classes import classes, confusion, reliability, spread
from fewshot_i2v.report.page.figures.rows import Cost, cost, curves, forest
from fewshot_i2v.report.page.figures.style import WIDTH, Drawn, Point, swatch

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
