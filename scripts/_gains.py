"""Gains of rows over others, as records hold them: for these clips and for other clips.

Those for other clips are for other clips of the same classes (two-way jackknife over clips).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fewshot_i2v.report.comparison.compare import RowComparison, compare_rows
from fewshot_i2v.runs.prediction_reader import RecordedRow


def points(interval: Any) -> dict[str, Any] | None:  # noqa: ANN401 - an interval of either kind
    """Returns an interval of shares in points."""
    if interval is None:
        return None
    values = {"mean": interval.mean, "low": interval.low, "high": interval.high}
    return {name: None if v is None else round(100 * v, 2) for name, v in values.items()}


def compare_pair_of_rows(
    row: RecordedRow, baseline: RecordedRow, across: Sequence[str] = ()
) -> RowComparison:
    """Compares two rows over the episodes that both have.

    Args:
        row: a row.
        baseline: what it is compared with.
        across: keys of the configuration that may differ, besides those of the adapter.
    """
    names = {row: row.summary.adapter, baseline: baseline.summary.adapter}
    (comparison,) = compare_rows([(row, baseline)], names, common=True, across=across)
    return comparison


def half_width_gain(comparison: RowComparison) -> dict[str, Any]:
    """Returns gain and 95 % half-width for these clips, and the interval for other clips."""
    difference = comparison.difference
    half_width = difference.half_width
    return {
        "gain": round(100 * difference.mean, 2),
        "half_width": None if half_width is None else round(100 * half_width, 2),
        "other clips": points(comparison.other_clips),
    }


def other_clips_text(gain: Mapping[str, Any]) -> str:
    """Writes the interval for other clips for people; empty where there is none."""
    interval = gain["other clips"]
    if interval is None or interval["low"] is None:
        return ""
    return f" [{interval['low']:+.1f}, {interval['high']:+.1f}]"
