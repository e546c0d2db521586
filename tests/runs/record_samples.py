"""Records and run folders for the tests of the run folder."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from fewshot_i2v.runs.episode_record import EpisodeRecord
from fewshot_i2v.runs.run_folder import RunFolder

CONFIG: dict[str, Any] = {
    **{"split": "motions", "subset": "novel", "way": 2, "shot": 1, "query": 2, "seed": 0},
    "adapter": {"name": "frozen", "options": {}},
    "head": {"name": "nearest", "options": {}},
    "encoder": {"name": "demo", "pretrained": None, "architecture": None, "image_size": None},
    "video": {"frames": 8, "policy": "segment-center", "stride": 1, "crop": 1.0},
    "tuning": {},
}
IDENTITY: dict[str, Any] = {
    "config": CONFIG,
    **{"split": {"digest": "d"}, "encoder": {"digest": "e"}, "device": "cpu"},
    **{"tuning": {"lr": 0.001, "flip": "off"}, "way": 2, "shots": (1, 5)},
}
HEADER: dict[str, Any] = {"name": "sample", "versions": {"torch": "2"}}


def record(index: int, /, *, seconds: float = 0.25, **changes: Any) -> EpisodeRecord:
    """An episode that is ok; a function of its index but for the timings."""
    generator = random.Random(index)
    right = [generator.random() for _ in range(4)]
    labels = [0, 0, 1, 1]
    predictions = [label if p > 0.3 else 1 - label for label, p in zip(labels, right, strict=True)]
    accuracy = sum(a == b for a, b in zip(labels, predictions, strict=True)) / 4
    given: dict[str, Any] = {
        "index": index,
        "status": "ok",
        "classes": ["jump", "rün\n"],
        "support": [["jump/1.mp4"], ["rün/2.mp4"]],
        "query": [["jump/3.mp4", "jump/4.mp4"], ["rün/5.mp4", "rün/6.mp4"]],
        "labels": labels,
        "predictions": predictions,
        "probabilities": [[p, 1 - p] for p in right],
        "accuracy": accuracy,
        "losses": [generator.random() for _ in range(3)],
        "seconds": seconds,
        "peak_memory_mb": 812.5,
    }
    return EpisodeRecord(**{**given, **changes})


def failed(index: int, reason: str = "no frames") -> EpisodeRecord:
    """An episode that failed."""
    error = {"path": "rün/2.mp4", "reason": reason}
    empty: dict[str, Any] = {"predictions": [], "probabilities": [], "losses": []}
    return record(index, status="failed", accuracy=None, error=error, **empty)


def opened(folder: Path, **identity: Any) -> RunFolder:
    """The run folder, opened with the sample identity or a changed one."""
    return RunFolder.open(folder, HEADER, identity={**IDENTITY, **identity})


def filled(folder: Path, number: int) -> Path:
    """A run folder with that many records, closed; its journal."""
    with opened(folder) as run:
        run.append([record(i) for i in range(number)])
    return folder / "episodes.jsonl"
