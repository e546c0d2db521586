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
    from fewshot_i2v.statistics.clusters import (
        SeedSpread,
        cluster_bootstrap,
        seed_spread,
        two_way_jackknife,
    )
    from fewshot_i2v.statistics.outcomes import Outcomes
    from fewshot_i2v.statistics.paired import (
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
    from fewshot_i2v.statistics.per_class import balanced_accuracy, class_recalls
    from fewshot_i2v.statistics.scores import brier_score, log_loss

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
    "McNemar": "paired",
    "Outcomes": "outcomes",
    "Paired": "paired",
    "Reliability": "calibration",
    "SeedSpread": "clusters",
    "SignFlip": "paired",
    "align": "paired",
    "balanced_accuracy": "per_class",
    "brier_score": "scores",
    "class_recalls": "per_class",
    "cluster_bootstrap": "clusters",
    "compare_paired": "paired",
    "expected_calibration_error": "calibration",
    "holm": "paired",
    "log_loss": "scores",
    "mcnemar": "paired",
    "seed_spread": "clusters",
    "sign_flip": "paired",
    "smallest_visible": "paired",
    "two_way_jackknife": "clusters",
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
