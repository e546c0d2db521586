"""Intervals of means, paired tests of differences, and calibration of predictions.

The names below need no numpy, so that a table is shown without delay; what needs it is imported
from its module (README.md beside this file lists them).
"""

from __future__ import annotations

from fewshot_i2v.statistics.intervals import (
    Interval,
    bounded_interval,
    mean_interval,
    paired_difference,
    seed_interval,
)

__all__ = ["Interval", "bounded_interval", "mean_interval", "paired_difference", "seed_interval"]
