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

__all__ = [
    "Interval",
    "McNemar",
    "Outcomes",
    "Paired",
    "SeedSpread",
    "SignFlip",
    "align",
    "bootstrap_mean",
    "bounded_interval",
    "cluster_bootstrap",
    "compare_paired",
    "holm",
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
    "McNemar": "paired",
    "Outcomes": "outcomes",
    "Paired": "paired",
    "SeedSpread": "clusters",
    "SignFlip": "paired",
    "align": "paired",
    "cluster_bootstrap": "clusters",
    "compare_paired": "paired",
    "holm": "paired",
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
