"""Rows for the tests of comparisons."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fewshot_i2v.report.comparison.baselines import ComparedRow
from fewshot_i2v.runs.fast_reader import EpisodeAnswer
from fewshot_i2v.runs.row_summary import TableRow

Accuracies = Mapping[int, float | None]

OVER: dict[int, float | None] = {i: 0.25 + 0.25 * (i % 3) for i in range(12)}

UNDER: dict[int, float | None] = {i: 0.25 * (i % 3) for i in range(12)}


def answer(index: int, accuracy: float | None, clips: str = "") -> EpisodeAnswer:
    """Two classes with two query clips each, of which the first ones are right."""
    clips = clips or f"v{index}"
    episode = {
        "classes": ["a", "b"],
        "support": [["a/1"], ["b/1"]],
        "query": [[f"a/{clips}", f"a/{clips}+"], [f"b/{clips}", f"b/{clips}+"]],
    }
    right = round(4 * (accuracy or 0))
    labels = [0, 0, 1, 1]
    guesses = {
        "labels": labels,
        "predictions": [x if i < right else 1 - x for i, x in enumerate(labels)],
    }
    return EpisodeAnswer(plain(episode), (plain(guesses),), accuracy)


def plain(content: dict[str, Any]) -> bytes:
    return json.dumps(content).encode()[1:-1]


def contender(
    adapter: str = "frozen",
    accuracies: Accuracies = UNDER,
    *,
    folder: str = "",
    head: str = "linear",
    shot: int = 1,
    digest: str = "d",
    encoder: str = "e",
    answers: Mapping[int, EpisodeAnswer] | None = None,
    row: Mapping[str, Any] | None = None,
    apart: bool = False,
    **config: object,
) -> ComparedRow:
    found = {i: answer(i, x) for i, x in accuracies.items()} if answers is None else answers
    values = {i: a.accuracy for i, a in found.items() if a.accuracy is not None}
    given = {
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
    }
    return ComparedRow(
        table_row=TableRow(adapter, head, shot, values, **(row or {})),
        folder=Path(folder or f"runs/{adapter}-{head}-{shot}shot"),
        identity={"config": given, "split": {"digest": digest}, "encoder": {"digest": encoder}},
        answers=found,
        title="the setting",
        setting_key=json.dumps([encoder, given["video"]]),
        disjoint=apart,
    )
