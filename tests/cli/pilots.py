"""Pilot runs for the tests of `plan`: run folders with made-up answers."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fewshot_i2v.data.splits.split_file import load_split
from fewshot_i2v.evaluation.row_expansion import expand_rows, load_config
from fewshot_i2v.runs.episode_record import EpisodeRecord
from fewshot_i2v.runs.run_folder import RunFolder
from tests.cli.conftest import Invoke


def record(index: int, right: list[list[bool]]) -> EpisodeRecord:
    """An episode with these answers, by class."""
    way = len(right)
    labels = [c for c, row in enumerate(right) for _ in row]
    predictions = [c if ok else (c + 1) % way for c, row in enumerate(right) for ok in row]
    return EpisodeRecord(
        index=index,
        status="ok",
        classes=[f"c{c}" for c in range(way)],
        support=[[f"c{c}/s{index}"] for c in range(way)],
        query=[[f"c{c}/q{index}-{i}" for i in range(len(row))] for c, row in enumerate(right)],
        labels=labels,
        predictions=predictions,
        probabilities=[[float(p == c) for c in range(way)] for p in predictions],
        accuracy=sum(map(sum, right)) / len(labels),
    )


def broken(index: int) -> EpisodeRecord:
    return EpisodeRecord(
        index=index,
        status="failed",
        classes=["c0"],
        support=[["c0/s"]],
        query=[["c0/q"]],
        error={"path": "c0/q.mp4", "reason": "empty"},
    )


def write(
    output: Path,
    adapter: str,
    answers: np.ndarray[Any, Any],
    failed: int = 0,
    records: Sequence[EpisodeRecord] = (),
    **keys: object,
) -> None:
    """A run folder with answers (episodes, way, query), or with records."""
    _, way, query = answers.shape
    config = load_config(
        {"split": "motions", "adapter": adapter, "way": way, "query": query, **keys}
    )
    row = expand_rows(config)[0]
    digest = load_split("motions").digest
    identity = {
        "config": row.identity(),
        "split": {"digest": digest},
        "encoder": {"digest": "e"},
        "device": "cpu",
    }
    with RunFolder.open(output / row.slug, {"marks": {}}, identity=identity) as folder:
        folder.append([*records, *(record(i, x.tolist()) for i, x in enumerate(answers))])
        folder.append([broken(len(answers) + i) for i in range(failed)])


def some(seed: int, mean: float, episodes: int = 40, query: int = 5) -> np.ndarray[Any, Any]:
    generator = np.random.default_rng(seed)
    chance = generator.beta(9 * mean, 9 * (1 - mean), (episodes, 1, 1))
    return np.asarray(generator.random((episodes, 5, query)) < chance)


def reused(seed: int, mean: float, episodes: int = 300) -> list[EpisodeRecord]:
    """Episodes over 12 clips of each of 10 classes, some of which are hard."""
    world, generator = np.random.default_rng(0), np.random.default_rng(1)
    hard, luck = world.normal(size=(10, 12)), np.random.default_rng(seed)
    records = []
    for index in range(episodes):
        classes = generator.permutation(10)[:5]
        drawn = [generator.permutation(12)[:4] for _ in classes]
        right = [
            [bool(luck.random() < mean + 0.15 * hard[c, i]) for i in clips[1:]]
            for c, clips in zip(classes, drawn, strict=True)
        ]
        named = [[f"c{c}/{i}" for i in clips] for c, clips in zip(classes, drawn, strict=True)]
        records.append(
            dataclasses.replace(
                record(index, right),
                classes=[f"c{c}" for c in classes],
                support=[names[:1] for names in named],
                query=[names[1:] for names in named],
            )
        )
    return records


def plain(invoke: Invoke, *args: str) -> Any:  # noqa: ANN401 - JSON
    result = invoke("plan", *args, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)
