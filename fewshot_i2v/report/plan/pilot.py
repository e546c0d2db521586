"""Read a pilot run: how the accuracies of its rows, and their differences, spread."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fewshot_i2v.errors import UsageError
from fewshot_i2v.report.plan.sample_size_plan import EQUAL_TOLERANCE, ComparisonKey
from fewshot_i2v.runs.fast_reader import build_prediction_table
from fewshot_i2v.statistics.clip_variance import ClipVariance, estimate_clip_variance
from fewshot_i2v.statistics.predictions import PredictionTable
from fewshot_i2v.statistics.variance_components import VarianceComponents, estimate_components

if TYPE_CHECKING:
    from fewshot_i2v.report.comparison.baselines import ComparedRow
    from fewshot_i2v.runs.fast_reader import EpisodeAnswer

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
    folder_by_table = {row.setting_key: row.folder for row in all_rows}
    if len(folder_by_table) > 1:
        raise UsageError(
            f"{run}: rows of {len(folder_by_table)} settings, such as "
            f"{_format_folders(folder_by_table.values())}; expected one evaluation. Give one of "
            "the folders"
        )
    selected = [row for row in all_rows if not shots or row.table_row.shot in shots]
    if not selected:
        available_shots = ", ".join(sorted({str(row.table_row.shot) for row in all_rows}))
        requested_shots = ", ".join(map(str, shots))
        raise UsageError(
            f"{run}: no row of shot {requested_shots}; there are rows of shot {available_shots}. "
            "Give --shot with one of these, or a pilot of it"
        )
    identity = selected[0].identity
    rows, row_remarks = _pilot_rows(selected)
    if not rows:
        raise UsageError(
            f"{run}: fewer than 2 episodes that succeeded in every row; expected a pilot of 30 or "
            "so. Evaluate more episodes into this folder, or plan without RUN"
        )
    pairs, pair_remarks = _pilot_pairs(selected)
    return Pilot(
        title=selected[0].title,
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


def _pilot_rows(contenders: Sequence[ComparedRow]) -> tuple[list[PilotRow], list[str]]:
    from fewshot_i2v.report.comparison.baselines import display_names

    names, rows, remarks = display_names(contenders), [], []
    for contender in contenders:
        succeeded = {
            index: episode_answer
            for index, episode_answer in contender.answers.items()
            if episode_answer.accuracy is not None
        }
        failed = len(contender.answers) - len(succeeded)
        if len(succeeded) < 2:
            remarks.append(
                f"{names[contender]}, {contender.table_row.shot}-shot: left out, "
                f"{len(succeeded)} episodes that succeeded."
            )
            continue
        row_components = estimate_components(
            [_correct_by_class(answer) for answer in succeeded.values()]
        )
        name, shot = names[contender], contender.table_row.shot
        rows.append(PilotRow(name, shot, row_components, failed, build_prediction_table(succeeded)))
    return rows, remarks


def _correct_by_class(answer: EpisodeAnswer) -> list[list[float]]:
    """Whether each query was right, by class."""
    values = iter(answer.query_results()[1])
    return [[next(values) for _ in clips] for clips in answer.parse_episode()["query"]]


def _pilot_pairs(contenders: Sequence[ComparedRow]) -> tuple[list[PilotPair], list[str]]:
    from fewshot_i2v.report.comparison.baselines import display_names, pairs_with_frozen

    if len(contenders) < 2:
        return [], ["Differences: not planned, there is one row."]
    names, remarks = display_names(contenders), []
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
    contenders: Sequence[ComparedRow],
) -> list[tuple[ComparedRow, ComparedRow]]:
    first_by_shot: dict[object, ComparedRow] = {}
    for contender in contenders:
        first_by_shot.setdefault(contender.table_row.shot, contender)
    return [
        (row, first_by_shot[row.table_row.shot])
        for row in contenders
        if row is not first_by_shot[row.table_row.shot]
    ]


def _pilot_pair(row_a: ComparedRow, row_b: ComparedRow, names: tuple[str, str]) -> PilotPair | None:
    common = {
        index: (row_a.answers[index], row_b.answers[index])
        for index in sorted(row_a.answers.keys() & row_b.answers.keys())
        if row_a.answers[index].accuracy is not None and row_b.answers[index].accuracy is not None
    }
    if len(common) < 2:
        return None
    if any(
        answer_a.episode_text != answer_b.episode_text for answer_a, answer_b in common.values()
    ):
        raise UsageError(
            f"{row_a.folder} and {row_b.folder}: an episode of the same number is not the same; "
            "expected rows of one evaluation. Give one of the folders"
        )
    values = [
        [
            [answer_a - answer_b for answer_a, answer_b in zip(*groups, strict=True)]
            for groups in zip(
                _correct_by_class(outcomes_a), _correct_by_class(outcomes_b), strict=True
            )
        ]
        for outcomes_a, outcomes_b in common.values()
    ]
    n_differing = sum(abs(sum(map(sum, episode))) > EQUAL_TOLERANCE for episode in values)
    outcomes_a, outcomes_b = (
        build_prediction_table({index: pair[k] for index, pair in common.items()}) for k in (0, 1)
    )
    return PilotPair(
        names,
        row_a.table_row.shot,
        estimate_components(values),
        n_differing,
        (outcomes_a, outcomes_b),
    )
