"""Read a pilot run: how the accuracies of its rows, and their differences, spread."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from fewshot_i2v.errors import UsageError
from fewshot_i2v.report.plan.sample_size_plan import EQUAL_TOLERANCE, ComparisonKey
from fewshot_i2v.runs.prediction_reader import RecordedRow, parse_episode
from fewshot_i2v.runs.run_index import table_key, table_title
from fewshot_i2v.statistics.clip_variance import ClipVariance, estimate_clip_variance
from fewshot_i2v.statistics.predictions import PredictionTable
from fewshot_i2v.statistics.variance_components import VarianceComponents, estimate_components

_MAX_LISTED = 3


@dataclass(frozen=True)
class PilotRow:
    """A row of the pilot; with several training seeds, the outcomes are of the first."""

    name: str
    shot: int | str
    episode_components: VarianceComponents
    failed: int
    outcomes: PredictionTable = field(repr=False)


@dataclass(frozen=True)
class PilotPair:
    """Two rows of the pilot on the same episodes."""

    names: tuple[str, str]
    shot: int | str
    episode_components: VarianceComponents
    n_differing: int
    outcomes: tuple[PredictionTable, PredictionTable] = field(repr=False)


@dataclass(frozen=True)
class Pilot:
    """A pilot run.

    Attributes:
        title: its setting in words.
        config: what decides its results.
        split_digest: of the split.
        rows: with at least two episodes.
        pairs: each row with that of the frozen encoder, or with the first one of its shot.
        remarks: what was left out, and why.
    """

    title: str
    config: dict[str, Any] = field(repr=False)
    split_digest: str
    rows: tuple[PilotRow, ...]
    pairs: tuple[PilotPair, ...]
    remarks: tuple[str, ...]


def read_pilot(run: Path, shots: Sequence[int]) -> Pilot:
    """Read a run folder, or a folder of run folders.

    Args:
        run: the folder.
        shots: which rows, by their support clips per class; none: all.

    Raises:
        UsageError: when there is no run folder, the rows are of several settings, none has such a
            shot, or none has two episodes that succeeded.
        RecordError: when a run folder is damaged.
    """
    from fewshot_i2v.report.comparison.baselines import read_compared_rows

    all_rows = read_compared_rows([run])
    folder_by_table = {table_key(row.summary): row.summary.folder for row in all_rows}
    if len(folder_by_table) > 1:
        raise UsageError(
            f"{run}: rows of {len(folder_by_table)} settings, such as "
            f"{_format_folders(folder_by_table.values())}; expected one evaluation. Give one of "
            "the folders"
        )
    selected = [row for row in all_rows if not shots or row.summary.shot in shots]
    if not selected:
        available_shots = ", ".join(sorted({str(row.summary.shot) for row in all_rows}))
        requested_shots = ", ".join(map(str, shots))
        raise UsageError(
            f"{run}: no row of shot {requested_shots}; there are rows of shot {available_shots}. "
            "Give --shot with one of these, or a pilot of it"
        )
    summary = selected[0].summary
    identity = summary.identity
    rows, row_remarks = _pilot_rows(selected)
    if not rows:
        raise UsageError(
            f"{run}: fewer than 2 episodes that succeeded in every row; expected a pilot of 30 or "
            "so. Evaluate more episodes into this folder, or plan without RUN"
        )
    pairs, pair_remarks = _pilot_pairs(selected)
    return Pilot(
        title=table_title(summary, summary.config["way"]),
        config=dict(identity["config"]),
        split_digest=str(identity.get("split", {}).get("digest", "")),
        rows=tuple(rows),
        pairs=tuple(pairs),
        remarks=(*row_remarks, *pair_remarks),
    )


def pilot_clip_variances(pilot: Pilot, sizes: Sequence[int]) -> dict[ComparisonKey, ClipVariance]:
    """Estimate the variance over clips of each row and pair, where the pilot is long enough.

    Args:
        pilot: with episodes that share clips: disjoint episodes allow no estimate.
        sizes: clips of each class of its subset.
    """
    outcomes_by_key: dict[ComparisonKey, tuple[PredictionTable, PredictionTable | None]] = {
        (row.name, None, row.shot): (row.outcomes, None) for row in pilot.rows
    }
    outcomes_by_key |= {(*pair.names, pair.shot): pair.outcomes for pair in pilot.pairs}
    variances = {
        key: estimate_clip_variance(outcomes, sizes, baseline_outcomes)
        for key, (outcomes, baseline_outcomes) in outcomes_by_key.items()
    }
    return {key: variance for key, variance in variances.items() if variance is not None}


def _format_folders(folders: Iterable[Path]) -> str:
    return " and ".join(str(folder) for folder in sorted(folders)[:_MAX_LISTED])


def _pilot_rows(contenders: Sequence[RecordedRow]) -> tuple[list[PilotRow], list[str]]:
    from fewshot_i2v.report.comparison.baselines import names_by_row

    names, rows, remarks = names_by_row(contenders), [], []
    for contender in contenders:
        succeeded = [*contender.summary.accuracies]
        failed = len(contender.episodes) - len(succeeded)
        if len(succeeded) < 2:
            remarks.append(
                f"{names[contender]}, {contender.summary.shot}-shot: left out, "
                f"{len(succeeded)} episodes that succeeded."
            )
            continue
        row_components = estimate_components(_correct_by_class(contender, succeeded))
        name, shot = names[contender], contender.summary.shot
        outcomes = contender.select(succeeded)[0]
        rows.append(PilotRow(name, shot, row_components, failed, outcomes))
    return rows, remarks


def _correct_by_class(row: RecordedRow, indices: Sequence[int]) -> list[list[list[float]]]:
    """For each episode and class the share of training seeds that got each query right."""
    seeds = [table.correct for table in row.select(indices)]
    shares = iter(np.mean(seeds, axis=0).tolist())
    return [
        [[next(shares) for _ in clips] for clips in parse_episode(row.episodes[i])["query"]]
        for i in indices
    ]


def _pilot_pairs(contenders: Sequence[RecordedRow]) -> tuple[list[PilotPair], list[str]]:
    from fewshot_i2v.report.comparison.baselines import names_by_row, pairs_with_frozen

    if len(contenders) < 2:
        return [], ["Differences: not planned, there is one row."]
    names, remarks = names_by_row(contenders), []
    try:
        row_pairs, _unpaired = pairs_with_frozen(contenders)
    except UsageError:
        row_pairs = _pairs_with_first_row(contenders)
        remarks = [
            "Differences: planned against the first row of each shot, since no row of the adapter "
            "frozen is the baseline; `compare` asks for --baseline then."
        ]
    if not row_pairs:
        return [], ["Differences: not planned, there is one row of each shot."]
    pairs = [_pilot_pair(row_a, row_b, (names[row_a], names[row_b])) for row_a, row_b in row_pairs]
    return [pair for pair in pairs if pair is not None], remarks


def _pairs_with_first_row(
    contenders: Sequence[RecordedRow],
) -> list[tuple[RecordedRow, RecordedRow]]:
    first_by_shot: dict[object, RecordedRow] = {}
    for contender in contenders:
        first_by_shot.setdefault(contender.summary.shot, contender)
    return [
        (row, first_by_shot[row.summary.shot])
        for row in contenders
        if row is not first_by_shot[row.summary.shot]
    ]


def _pilot_pair(row_a: RecordedRow, row_b: RecordedRow, names: tuple[str, str]) -> PilotPair | None:
    common = sorted(row_a.summary.accuracies.keys() & row_b.summary.accuracies.keys())
    if len(common) < 2:
        return None
    if any(row_a.episodes[i] != row_b.episodes[i] for i in common):
        raise UsageError(
            f"{row_a.summary.folder} and {row_b.summary.folder}: an episode of the same number is "
            "not the same; expected rows of one evaluation. Give one of the folders"
        )
    values = [
        [
            [answer_a - answer_b for answer_a, answer_b in zip(*groups, strict=True)]
            for groups in zip(episode_a, episode_b, strict=True)
        ]
        for episode_a, episode_b in zip(
            _correct_by_class(row_a, common), _correct_by_class(row_b, common), strict=True
        )
    ]
    n_differing = sum(abs(sum(map(sum, episode))) > EQUAL_TOLERANCE for episode in values)
    return PilotPair(
        names,
        row_a.summary.shot,
        estimate_components(values),
        n_differing,
        (row_a.select(common)[0], row_b.select(common)[0]),
    )
