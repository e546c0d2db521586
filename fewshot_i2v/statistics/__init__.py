"""Intervals of means, paired tests of differences, and calibration of predictions.

Names of modules that need numpy are imported on first use, so that a table that needs none of
them is shown without delay.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from fewshot_i2v.statistics.intervals import (
    Interval,
    bounded_interval,
    mean_interval,
    paired_difference,
    seed_interval,
    without_too_few_episodes,
)

if TYPE_CHECKING:
    from fewshot_i2v.statistics.calibration import Calibration, ReliabilityCurve
    from fewshot_i2v.statistics.jackknife import JackknifeEstimate
    from fewshot_i2v.statistics.metrics import brier_score, log_loss
    from fewshot_i2v.statistics.paired_tests import (
        McNemar,
        PairedComparison,
        SignFlip,
        compare_paired,
        holm,
        mcnemar,
        minimum_detectable_difference,
        sign_flip,
    )
    from fewshot_i2v.statistics.predictions import PredictionTable

__all__ = [
    "Calibration",
    "Interval",
    "JackknifeEstimate",
    "McNemar",
    "PairedComparison",
    "PredictionTable",
    "ReliabilityCurve",
    "SignFlip",
    "bounded_interval",
    "brier_score",
    "compare_paired",
    "holm",
    "log_loss",
    "mcnemar",
    "mean_interval",
    "minimum_detectable_difference",
    "paired_difference",
    "seed_interval",
    "sign_flip",
    "without_too_few_episodes",
]

_LAZY_MODULES = ("calibration", "jackknife", "metrics", "paired_tests", "predictions")


def __getattr__(name: str) -> object:
    """Import a public name on first use, from the one module that defines it."""
    if name in __all__:
        for module in map(import_module, (f"{__name__}.{m}" for m in _LAZY_MODULES)):
            value: object = getattr(module, name, None)
            if value is not None and getattr(value, "__module__", "") == module.__name__:
                return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
