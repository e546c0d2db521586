"""Made-up records for the tests of the intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from fewshot_i2v.runs.episode_record import EpisodeRecord
from fewshot_i2v.statistics.predictions import PredictionTable


def some_records(
    seed: int = 0,
    *,
    episodes: int = 12,
    classes: int = 4,
    way: int = 3,
    clips: int = 6,
    shot: int = 1,
    query: int | tuple[int, int] = 2,
    right: float = 0.6,
) -> list[EpisodeRecord]:
    """Records of episodes drawn with replacement; `query` may be a range over episodes."""
    generator = np.random.default_rng(seed)
    low, high = (query, query) if isinstance(query, int) else query
    found = []
    for index in range(episodes):
        names = [f"c{c}" for c in generator.permutation(classes)[:way]]
        asked = int(generator.integers(low, high + 1))
        drawn = [generator.permutation(clips)[: shot + asked] for _ in names]
        lists = [[f"{name}/{i}" for i in row] for name, row in zip(names, drawn, strict=True)]
        labels = [c for c in range(way) for _ in range(asked)]
        guesses = [label if generator.random() < right else (label + 1) % way for label in labels]
        rows = generator.dirichlet(np.ones(way), len(labels)).tolist()
        found.append(episode(index, names, lists, shot, guesses, rows))
    return found


def episode(
    index: int,
    classes: Sequence[str],
    clips: Sequence[Sequence[str]],
    shot: int,
    predictions: Sequence[int],
    probabilities: Sequence[Sequence[float]] | None = None,
) -> EpisodeRecord:
    """A record; the first `shot` clips of each class are its support, the others are asked."""
    query = [list(row[shot:]) for row in clips]
    labels = [c for c, row in enumerate(query) for _ in row]
    even = [[1 / len(classes)] * len(classes) for _ in labels]
    pairs = zip(labels, predictions, strict=True)
    return EpisodeRecord(
        index=index,
        status="ok",
        classes=list(classes),
        support=[list(row[:shot]) for row in clips],
        query=query,
        labels=labels,
        predictions=list(predictions),
        probabilities=[list(row) for row in probabilities or even],
        accuracy=sum(a == b for a, b in pairs) / len(labels),
    )


def apart(episodes: int, right: Mapping[int, int], way: int = 2) -> PredictionTable:
    """Episodes that share no clip, one query each class; `right` answers of some, else all."""
    records = []
    for t, names in enumerate([[f"c{c}" for c in range(way)]] * episodes):
        clips = [[f"{name}/{t}-{i}" for i in range(2)] for name in names]
        good = right.get(t, way)
        guesses = [c if c < good else (c + 1) % way for c in range(way)]
        records.append(episode(t, names, clips, 1, guesses))
    return PredictionTable.from_records(records)
