"""Rows for the tests of comparisons."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fewshot_i2v.runs.episode_record import EpisodeRecord
from fewshot_i2v.runs.prediction_reader import RecordedRow
from fewshot_i2v.runs.row_summary import RowSummary
from fewshot_i2v.statistics import PredictionTable

Accuracies = Mapping[int, float | None]

OVER: dict[int, float | None] = {i: 0.25 + 0.25 * (i % 3) for i in range(12)}

UNDER: dict[int, float | None] = {i: 0.25 * (i % 3) for i in range(12)}


def answer(index: int, accuracy: float | None, clips: str = "") -> EpisodeRecord:
    """Two classes with two query clips each, of which the first ones are right."""
    clips = clips or f"v{index}"
    right = round(4 * (accuracy or 0))
    labels = [0, 0, 1, 1]
    predictions = [x if i < right else 1 - x for i, x in enumerate(labels)]
    episode: dict[str, Any] = {
        "index": index,
        "classes": ["a", "b"],
        "support": [["a/1"], ["b/1"]],
        "query": [[f"a/{clips}", f"a/{clips}+"], [f"b/{clips}", f"b/{clips}+"]],
        "labels": labels,
    }
    if accuracy is None:
        return EpisodeRecord(status="failed", error={"path": "a/1", "reason": "empty"}, **episode)
    return EpisodeRecord(
        status="ok",
        predictions=predictions,
        probabilities=[[1.0 - p, float(p)] for p in predictions],
        accuracy=right / 4,
        **episode,
    )


def text_of(record: EpisodeRecord) -> bytes:
    """Classes, support and query of an episode, as a line of records has them."""
    episode = {"classes": record.classes, "support": record.support, "query": record.query}
    return json.dumps(episode).encode()[1:-1]


def contender(
    adapter: str = "frozen",
    accuracies: Accuracies | None = None,
    *,
    folder: str = "",
    head: str = "linear",
    shot: int = 1,
    digest: str = "d",
    encoder: str = "e",
    answers: Mapping[int, EpisodeRecord] | None = None,
    row: Mapping[str, Any] | None = None,
    apart: bool = False,
    **config: object,
) -> RecordedRow:
    """A row with these accuracies, or with those of its answers."""
    if answers is None:
        accuracies = UNDER if accuracies is None else accuracies
        answers = {i: answer(i, x) for i, x in accuracies.items()}
    elif accuracies is None:
        accuracies = {i: record.accuracy for i, record in answers.items()}
    identity = {
        "config": {
            "split": "motions",
            "subset": "novel",
            "seed": 0,
            "way": 2,
            "query": 2,
            "encoder": {"name": encoder, "image_size": None},
            "video": {"frames": 8, "policy": "uniform"},
            "adapter": {"name": adapter, "options": {}},
            "tuning": {"lr": len(adapter)},
            **config,
        },
        "split": {"digest": digest},
        "encoder": {"digest": encoder},
    }
    summary = RowSummary(
        adapter,
        head,
        shot,
        {i: x for i, x in accuracies.items() if x is not None},
        folder=Path(folder or f"runs/{adapter}-{head}-{shot}shot"),
        header={"identity": identity, "marks": {"disjoint": apart}},
        **(row or {}),
    )
    episodes = {i: text_of(record) for i, record in answers.items()}
    return RecordedRow(summary, episodes, (PredictionTable.from_records(answers.values()),))
