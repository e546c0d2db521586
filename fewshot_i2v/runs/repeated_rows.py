"""Rows of the frozen encoder that several evaluations recorded alike: they are one baseline."""

from __future__ import annotations

import json
from collections.abc import Hashable, Sequence
from dataclasses import replace

import numpy as np

from fewshot_i2v.runs.row_summary import FRESH, RowSummary
from fewshot_i2v.runs.run_index import table_key
from fewshot_i2v.statistics.predictions import PredictionTable


def merge_repeated_frozen(
    rows: Sequence[RowSummary], predictions: Sequence[Sequence[PredictionTable]]
) -> dict[int, RowSummary]:
    """Merge rows of the frozen encoder that have the same setting and equal records.

    Rows that train a head are left as they are.

    Args:
        rows: of any evaluations.
        predictions: of each row, a table for each training seed.

    Returns:
        The rows that remain, by their position in `rows`; each names the run folders that repeat it
        in `repeat_folders`.
    """
    first_rows: dict[Hashable, list[int]] = {}
    merged = dict(enumerate(rows))
    for i, row in enumerate(rows):
        if not row.is_frozen or row.parameters or row.start != FRESH:
            continue
        same_setting = first_rows.setdefault(_setting_key(row), [])
        first = next((j for j in same_setting if _are_equal(predictions[i], predictions[j])), None)
        if first is None:
            same_setting.append(i)
            continue
        repeats = (*merged[first].repeat_folders, row.folder)
        merged[first] = replace(merged[first], repeat_folders=repeats)
        del merged[i]
    return merged


def _setting_key(row: RowSummary) -> Hashable:
    methods = json.dumps(row.identity.get("methods"), sort_keys=True)
    episodes = tuple(sorted(row.accuracies.items()))
    head = row.head, row.class_texts
    return table_key(row), head, row.shot, row.training_seed, methods, row.failed, episodes


def _are_equal(tables: Sequence[PredictionTable], other_tables: Sequence[PredictionTable]) -> bool:
    """Whether episodes, query clips and predictions are the same."""
    return len(tables) == len(other_tables) and all(
        (a.classes, a.clips) == (b.classes, b.clips)
        and np.array_equal(a.index, b.index)
        and np.array_equal(a.query, b.query)
        and np.array_equal(a.predicted, b.predicted)
        for a, b in zip(tables, other_tables, strict=True)
    )
