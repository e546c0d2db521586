"""Means with intervals, differences between methods, and what their uncertainty covers.

The names of modules that need numpy are imported when they are first used, so that a table that
needs none of them is shown at once.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from fewshot_i2v.statistics.intervals import (
    Interval,
    bootstrap_mean,
    bounded_interval,
    mean_interval,
    paired_difference,
    wilson,
)

if TYPE_CHECKING:
    from fewshot_i2v.statistics.calibration import (
        Calibration,
        Reliability,
        expected_calibration_error,
    )
    from fewshot_i2v.statistics.cluster_intervals import (
        SeedSpread,
        cluster_bootstrap,
        seed_spread,
        two_way_jackknife,
    )
    from fewshot_i2v.statistics.metrics import (
        balanced_accuracy,
        brier_score,
        class_recalls,
        log_loss,
    )
    from fewshot_i2v.statistics.paired_tests import (
        McNemar,
        Paired,
        SignFlip,
        align,
        compare_paired,
        holm,
        mcnemar,
        sign_flip,
        smallest_visible,
    )
    from fewshot_i2v.statistics.predictions import Outcomes

__all__ = [
    "Calibration",
    "Interval",
    "McNemar",
    "Outcomes",
    "Paired",
    "Reliability",
    "SeedSpread",
    "SignFlip",
    "align",
    "balanced_accuracy",
    "bootstrap_mean",
    "bounded_interval",
    "brier_score",
    "class_recalls",
    "cluster_bootstrap",
    "compare_paired",
    "expected_calibration_error",
    "holm",
    "log_loss",
    "mcnemar",
    "mean_interval",
    "paired_difference",
    "seed_spread",
    "sign_flip",
    "smallest_visible",
    "two_way_jackknife",
    "wilson",
]

_HOMES = {
    "Calibration": "calibration",
    "McNemar": "paired_tests",
    "Outcomes": "predictions",
    "Paired": "paired_tests",
    "Reliability": "calibration",
    "SeedSpread": "cluster_intervals",
    "SignFlip": "paired_tests",
    "align": "paired_tests",
    "balanced_accuracy": "metrics",
    "brier_score": "metrics",
    "class_recalls": "metrics",
    "cluster_bootstrap": "cluster_intervals",
    "compare_paired": "paired_tests",
    "expected_calibration_error": "calibration",
    "holm": "paired_tests",
    "log_loss": "metrics",
    "mcnemar": "paired_tests",
    "seed_spread": "cluster_intervals",
    "sign_flip": "paired_tests",
    "smallest_visible": "paired_tests",
    "two_way_jackknife": "cluster_intervals",
}


def __getattr__(name: str) -> object:
    """Imports a public name when it is first used."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
