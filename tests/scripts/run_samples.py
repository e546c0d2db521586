"""Run folders for the scripts that study rows: written without an evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fewshot_i2v.evaluation.row_expansion import expand_rows, load_config
from fewshot_i2v.runs.episode_record import EpisodeRecord
from fewshot_i2v.runs.row_summary import RowSummary
from fewshot_i2v.runs.run_folder import RunFolder
from fewshot_i2v.runs.run_index import read_row

_POOL, _QUERIES = 60, 50
"""Clips of each of the two classes, and query clips of each in an episode."""


def sample_record(index: int, accuracy: float) -> EpisodeRecord:
    """An episode of two classes with clips that depend on its number; the same ones are hard.

    Args:
        index: its number.
        accuracy: in steps of 0.01.
    """
    numbers = [(7 * index + i) % _POOL for i in range(_QUERIES + 1)]
    names = [[f"{label}/{number}" for number in numbers] for label in "ab"]
    labels = [0] * _QUERIES + [1] * _QUERIES
    n_wrong = round(len(labels) * (1 - accuracy))
    ease = [37 * number % _POOL for number in [*numbers[1:], *numbers[1:]]]
    wrong = set(sorted(range(len(labels)), key=ease.__getitem__)[:n_wrong])
    predictions = [1 - label if i in wrong else label for i, label in enumerate(labels)]
    return EpisodeRecord(
        index=index,
        status="ok",
        classes=["a", "b"],
        support=[clips[:1] for clips in names],
        query=[clips[1:] for clips in names],
        labels=labels,
        predictions=predictions,
        probabilities=[[1.0 - p, float(p)] for p in predictions],
        accuracy=1 - n_wrong / len(labels),
        losses=[],
        seconds=1.0,
        peak_memory_mb=100.0,
    )


def write_sample_row(
    folder: Path, settings: Mapping[str, Any], accuracies: Mapping[int, float], **marks: Any
) -> RowSummary:
    """Writes the run folder of a row, anew where it is there, and reads its summary.

    Args:
        folder: of the row.
        settings: of its configuration: one adapter, head and shot.
        accuracies: of its episodes, by number, in steps of 0.01.
        marks: shown beside its results, such as `start`.
    """
    (row,) = expand_rows(load_config({"split": "motions", **settings}))
    identity = {
        "config": row.identity(),
        "split": {"digest": "d"},
        "encoder": {"digest": "e"},
        "device": "cpu",
    }
    about = {"parameters": 1, "marks": marks, "planned": len(accuracies)}
    with RunFolder.open(folder, about, identity=identity) as run:
        missing = {i: x for i, x in accuracies.items() if i not in run.records}
        run.append([sample_record(i, accuracy) for i, accuracy in missing.items()])
    return read_row(folder)
