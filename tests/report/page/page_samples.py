"""Rows and sections of a page, made without running anything."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from fewshot_i2v.report.analysis.report_data import ReportRow, ReportSection, ReproductionRecipe
from fewshot_i2v.report.analysis.run_analysis import RunAnalysis
from fewshot_i2v.runs.episode_record import EpisodeRecord
from fewshot_i2v.runs.row_summary import RowSummary

CLASSES = ("jump", "run", "spin", "wave")
HOSTILE = "<script>alert('x')</script> & \"q\" $a_b$ ]]>"
"""A name that must stay a name in text, attributes and drawings."""


def record(
    index: int,
    skill: float,
    classes: Sequence[str] = CLASSES,
    way: int = 3,
    query: int = 2,
    salt: str = "",
) -> EpisodeRecord:
    """An episode in which each query clip is right with the probability `skill`."""
    names = random.Random(index).sample(list(classes), way)
    draws = random.Random(f"{index} {salt}")
    labels = [place for place in range(way) for _ in range(query)]
    luck = [draws.random() for _ in labels]
    wrong = [draws.choice([other for other in range(way) if other != label]) for label in labels]
    guesses = [
        label if one < skill else other
        for label, one, other in zip(labels, luck, wrong, strict=True)
    ]
    return EpisodeRecord(
        index=index,
        status="ok",
        classes=names,
        support=[[f"{name}/s{index % 5}.mp4"] for name in names],
        query=[[f"{name}/q{index % 7}-{i}.mp4" for i in range(query)] for name in names],
        labels=labels,
        predictions=guesses,
        probabilities=[
            [0.7 if place == guess else 0.3 / (way - 1) for place in range(way)]
            for guess in guesses
        ],
        accuracy=sum(a == b for a, b in zip(labels, guesses, strict=True)) / len(labels),
        seconds=0.5,
        peak_memory_mb=100.0,
    )


def records(skill: float, count: int = 60, **given: Any) -> list[EpisodeRecord]:
    return [record(index, skill, **given) for index in range(count)]


def row(
    adapter: str = "frozen",
    skill: float = 0.5,
    *,
    count: int = 60,
    classes: Sequence[str] = CLASSES,
    way: int = 3,
    query: int = 2,
    **changes: Any,
) -> ReportRow:
    """A row of a table with what was found in its records."""
    found = records(skill, count, classes=classes, way=way, query=query, salt=adapter)
    given: dict[str, Any] = {"head": "linear", "shot": 1, "seconds_per_episode": 0.5, **changes}
    header = {
        "identity": {"config": {"split": "motions", "adapter": {"name": adapter}, "way": 3}},
        "marks": {},
    }
    summary = RowSummary(
        adapter=adapter,
        accuracies={r.index: r.accuracy for r in found if r.accuracy is not None},
        parameters=0 if adapter.startswith("frozen") else 1000,
        peak_memory_mb=100.0,
        folder=Path(f"runs/x/{adapter}-{given['head']}-{given['shot']}shot"),
        header=header,
        **given,
    )
    return ReportRow(summary, RunAnalysis.from_records(found))


def section(*rows: ReportRow, **changes: Any) -> ReportSection:
    """A section of some rows; by default of three adapters at 1 and 5 shots."""
    given = rows or tuple(
        row(adapter, skill + 0.1 * (shot > 1), shot=shot)
        for adapter, skill in (("frozen", 0.4), ("aim", 0.8), ("st-adapter", 0.42))
        for shot in (1, 5)
    )
    made = ReportSection(
        title="motions (novel), 3-way",
        setting="split motions (novel), 3-way, 2 query clips per class",
        way=3,
        chance=1 / 3,
        rows=tuple(given),
        recipes=(
            ReproductionRecipe(
                "runs/x", "split: motions\n", "fewshot-i2v evaluate run.yaml", ("Save it.",)
            ),
        ),
    )
    return replace(made, **changes)


def orders(skills: Mapping[str, float], **given: Any) -> list[ReportSection]:
    """A section for each order of frames, each with a row of the given skill and nothing else."""
    return [
        section(in_order_of(row("aim", skill, **given), order), title=f"of {order}")
        for order, skill in skills.items()
    ]


def in_order_of(given: ReportRow, order: str) -> ReportRow:
    """The row as if its frames had been in that order."""
    if order == "natural":
        return given
    return with_config(given, frame_order=order, note=f"frames {order}")


def with_config(given: ReportRow, note: str | None = None, **changes: Any) -> ReportRow:
    """The row with other values in its configuration, and with a note."""
    summary = given.summary
    identity = {**summary.identity, "config": {**summary.config, **changes}}
    note = summary.note if note is None else note
    header = {**summary.header, "identity": identity}
    return replace(given, summary=replace(summary, header=header, note=note))


def with_seed(given: ReportRow, seed: int) -> ReportRow:
    """The row of a training seed."""
    row = with_config(given, training_seed=seed)
    return replace(row, summary=replace(row.summary, training_seed=seed))
