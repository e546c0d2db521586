"""Intervals of means, paired tests of differences, and calibration of predictions.

Names of modules that need numpy are imported on first use, so that a table that needs none of
them is shown without delay.
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
        ReliabilityCurve,
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
        PairedComparison,
        SignFlip,
        common_episodes,
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
    "McNemar",
    "PairedComparison",
    "PredictionTable",
    "ReliabilityCurve",
    "SeedSpread",
    "SignFlip",
    "balanced_accuracy",
    "bootstrap_mean",
    "bounded_interval",
    "brier_score",
    "class_recalls",
    "cluster_bootstrap",
    "common_episodes",
    "compare_paired",
    "expected_calibration_error",
    "holm",
    "log_loss",
    "mcnemar",
    "mean_interval",
    "minimum_detectable_difference",
    "paired_difference",
    "seed_spread",
    "sign_flip",
    "two_way_jackknife",
    "wilson",
]

_HOMES = {
    "Calibration": "calibration",
    "McNemar": "paired_tests",
    "PredictionTable": "predictions",
    "PairedComparison": "paired_tests",
    "ReliabilityCurve": "calibration",
    "SeedSpread": "cluster_intervals",
    "SignFlip": "paired_tests",
    "common_episodes": "paired_tests",
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
    "minimum_detectable_difference": "paired_tests",
    "two_way_jackknife": "cluster_intervals",
}


def __getattr__(name: str) -> object:
    """Import a public name on first use."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
