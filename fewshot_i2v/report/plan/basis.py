"""What a plan of sample sizes rests on: the spreads in a pilot run, or assumed ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from fewshot_i2v.errors import UsageError
from fewshot_i2v.report.comparison.baselines import (
    names_by_row,
    pairs_with_frozen,
    read_compared_rows,
)
from fewshot_i2v.runs.prediction_reader import RecordedRow, parse_episode
from fewshot_i2v.runs.run_index import setting_text, table_key
from fewshot_i2v.statistics.clip_variance import ClipVariance, estimate_clip_variance
from fewshot_i2v.statistics.predictions import PredictionTable
from fewshot_i2v.statistics.variance_components import (
    VarianceComponents,
    assumed_components,
    assumed_difference_components,
    estimate_components,
)
from fewshot_i2v.utils.resources import data_names

_DEFAULT_ACCURACY, _DEFAULT_COMMON, _DEFAULT_PAIRING = 0.8, 0.05, 0.3
_DEFAULT_WAY, _DEFAULT_SHOT, _DEFAULT_QUERY = 5, 1, 5
_EQUAL_TOLERANCE = 1e-9
"""Accuracies that differ by less are the same."""
_MAX_LISTED = 3
SpreadKey = tuple[str, str | None, int | str]


@dataclass(frozen=True)
class PlanRequest:
    """What the user asks of a plan; None: as in the pilot, or the default without one.

    Attributes:
        split: name or path of the split whose clips are counted.
        root: folder of its clips.
        subset: of its classes.
        way: classes of an episode.
        shot: support clips per class; empty: all of the pilot.
        query: query clips per class.
        accuracy: assumed mean accuracy, 0..1; this and the next two only without a pilot.
        common: assumed correlation of the answers of an episode.
        pairing: assumed correlation of the accuracies of two methods.
    """

    split: str | None = None
    root: Path | None = None
    subset: str | None = None
    way: int | None = None
    shot: tuple[int, ...] = ()
    query: int | None = None
    accuracy: float | None = None
    common: float | None = None
    pairing: float | None = None


@dataclass(frozen=True)
class EpisodeSpread:
    """How the accuracy of a row, or its difference to another row, spreads over episodes.

    Attributes:
        name: display name of the row.
        against: the row that it is compared with; None for its own accuracy.
        shot: support clips per class.
        components: of the variance.
        n_differing: episodes of the pilot whose value is not 0; None without a pilot.
        outcomes: predictions in the pilot of the row and of `against`, each of the first training
            seed; empty without a pilot.
    """

    name: str
    against: str | None
    shot: int | str
    components: VarianceComponents
    n_differing: int | None = None
    outcomes: tuple[PredictionTable, ...] = field(default=(), repr=False)


@dataclass(frozen=True)
class PlanBasis:
    """Rows and comparisons to plan, from a pilot or assumed.

    Attributes:
        title: where they are from, in words.
        way: classes of an episode.
        query: planned query clips per class; None where episodes of the pilot differ in it.
        rows: with at least two episodes.
        pairs: each row with that of the frozen encoder, or with the first one of its shot.
        remarks: what was left out, and why.
        split: of the pilot; None without one.
        subset: of its classes.
        split_digest: digest of the pilot's split.
        reuses_clips: whether episodes of the pilot share clips.
    """

    title: str
    way: int | str
    query: int | None
    rows: tuple[EpisodeSpread, ...]
    pairs: tuple[EpisodeSpread, ...]
    remarks: tuple[str, ...]
    split: str | None = None
    subset: str = "novel"
    split_digest: str = ""
    reuses_clips: bool = False

    def clip_variances(self, sizes: Sequence[int]) -> dict[SpreadKey, ClipVariance]:
        """Estimates the variance over clips of rows and pairs, where the pilot is long enough."""
        variances = {
            (spread.name, spread.against, spread.shot): estimate_clip_variance(
                spread.outcomes[0], sizes, *spread.outcomes[1:]
            )
            for spread in (*self.rows, *self.pairs)
        }
        return {key: variance for key, variance in variances.items() if variance is not None}


def assume_spreads(request: PlanRequest) -> PlanBasis:
    """Assume the spread of a row and of a comparison for each number of shots."""
    accuracy, common, pairing = (
        default if value is None else value
        for value, default in (
            (request.accuracy, _DEFAULT_ACCURACY),
            (request.common, _DEFAULT_COMMON),
            (request.pairing, _DEFAULT_PAIRING),
        )
    )
    way, query = request.way or _DEFAULT_WAY, request.query or _DEFAULT_QUERY
    components = assumed_components(accuracy, way * query, common)
    difference = assumed_difference_components(components, pairing)
    shots = tuple(dict.fromkeys(request.shot)) or (_DEFAULT_SHOT,)
    return PlanBasis(
        f"Assumed: accuracy {100 * accuracy:g} %, correlation {common:g} of the answers of an "
        f"episode and {pairing:g} of two methods' accuracies; {way}-way, {query} query clips per "
        "class",
        way,
        query,
        tuple(EpisodeSpread("assumed", None, shot, components) for shot in shots),
        tuple(EpisodeSpread("one", "another", shot, difference) for shot in shots),
        ("Assumed spreads are a first guess: a pilot of 30 episodes replaces them (plan RUN).",),
    )


def read_pilot(run: Path, request: PlanRequest) -> PlanBasis:
    """Read a pilot: a run folder, or a folder of run folders.

    Raises:
        UsageError: when there is no run folder, the rows are of several settings, none has such a
            shot, none has two episodes that succeeded, or the request does not fit the pilot.
        RecordError: when a run folder is damaged.
    """
    for key in ("accuracy", "common", "pairing"):
        if getattr(request, key) is not None:
            raise UsageError(f"--{key} is assumed where there is no pilot; {run} is one. Drop it")
    selected = read_one_evaluation(run, request.shot)
    summary = selected[0].summary
    rows, row_remarks = _row_spreads(selected)
    if not rows:
        raise UsageError(
            f"{run}: fewer than 2 episodes that succeeded in every row; expected a pilot of 30 or "
            "so. Evaluate more episodes into this folder, or plan without RUN"
        )
    pairs, pair_remarks = _pair_spreads(selected)
    config = summary.config
    way, query = config["way"], config["query"]
    if request.way not in (None, way):
        raise UsageError(
            f"--way {request.way}: {run} is a pilot of way {way}; expected that. How episodes "
            "of another way spread takes a pilot of them"
        )
    if request.query is not None and not isinstance(way, int):
        raise UsageError(f"--query {request.query}: not with way {way} of {run}; drop it")
    remarks = [*row_remarks, *pair_remarks]
    failed = sum(
        len(row.episodes) - len(row.summary.accuracies)
        for row in selected
        if len(row.summary.accuracies) > 1
    )
    if failed:
        remarks.append(f"Failed episodes of the pilot: {failed}; left out.")
    is_disjoint = config.get("sampling") == "disjoint"
    if is_disjoint:
        remarks.append(
            "The pilot's episodes share no clip, so there are only as many as its clips allow."
        )
    return PlanBasis(
        title=f"From a pilot: {setting_text(config, way)}",
        way=way,
        query=request.query or (query if isinstance(query, int) and isinstance(way, int) else None),
        rows=tuple(rows),
        pairs=tuple(pairs),
        remarks=tuple(remarks),
        split=split_source(config["split"], summary.header),
        subset=config["subset"],
        split_digest=str(summary.identity.get("split", {}).get("digest", "")),
        reuses_clips=not is_disjoint,
    )


def split_source(name: str, header: Mapping[str, Any]) -> str:
    """Returns the name of a shipped split, else the path that the pilot read, if it is there."""
    path = str(header.get("split", {}).get("path", ""))
    is_shipped = name in data_names("episodes")
    return path if path and not is_shipped and Path(path).is_file() else name


def read_one_evaluation(run: Path, shots: Sequence[int]) -> list[RecordedRow]:
    """Reads the rows of one evaluation with some numbers of shots; without any, all.

    Raises:
        UsageError: when there is no run folder, the rows are of several settings, or none has such
            a shot.
        RecordError: when a run folder is damaged.
    """
    all_rows = read_compared_rows([run])
    folder_by_table = {table_key(row.summary): row.summary.folder for row in all_rows}
    if len(folder_by_table) > 1:
        folders = sorted(folder_by_table.values())[:_MAX_LISTED]
        raise UsageError(
            f"{run}: rows of {len(folder_by_table)} settings, such as "
            f"{' and '.join(map(str, folders))}; expected one evaluation. Give one of the folders"
        )
    selected = [row for row in all_rows if not shots or row.summary.shot in shots]
    if not selected:
        available_shots = ", ".join(sorted({str(row.summary.shot) for row in all_rows}))
        requested_shots = ", ".join(map(str, shots))
        raise UsageError(
            f"{run}: no row of shot {requested_shots}; there are rows of shot {available_shots}. "
            "Give --shot with one of these, or a pilot of it"
        )
    return selected


def _row_spreads(rows: Sequence[RecordedRow]) -> tuple[list[EpisodeSpread], list[str]]:
    names, spreads, remarks = names_by_row(rows), [], []
    for row in rows:
        succeeded = [*row.summary.accuracies]
        if len(succeeded) > 1:
            spreads.append(_estimate_spread(names, row, None, succeeded))
        else:
            remarks.append(
                f"{names[row]}, {row.summary.shot}-shot: left out, {len(succeeded)} episodes that "
                "succeeded."
            )
    return spreads, remarks


def _pair_spreads(rows: Sequence[RecordedRow]) -> tuple[list[EpisodeSpread], list[str]]:
    if len(rows) < 2:
        return [], ["Differences: not planned, there is one row."]
    names, remarks = names_by_row(rows), []
    try:
        row_pairs, _unpaired = pairs_with_frozen(rows)
    except UsageError:
        first_by_shot = {row.summary.shot: row for row in reversed(rows)}
        row_pairs = [(row, first_by_shot[row.summary.shot]) for row in rows]
        row_pairs = [(row, first_row) for row, first_row in row_pairs if row is not first_row]
        remarks = [
            "Differences: planned against the first row of each shot, since no row of the adapter "
            "frozen is the baseline; `compare` asks for --baseline then."
        ]
    if not row_pairs:
        return [], ["Differences: not planned, there is one row of each shot."]
    spreads = []
    for row, baseline in row_pairs:
        common = sorted(row.summary.accuracies.keys() & baseline.summary.accuracies.keys())
        if len(common) < 2:
            continue
        if any(row.episodes[i] != baseline.episodes[i] for i in common):
            raise UsageError(
                f"{row.summary.folder} and {baseline.summary.folder}: an episode of the same "
                "number is not the same; expected rows of one evaluation. Give one of the folders"
            )
        spreads.append(_estimate_spread(names, row, baseline, common))
    return spreads, remarks


def _estimate_spread(
    names: Mapping[RecordedRow, str],
    row: RecordedRow,
    baseline: RecordedRow | None,
    indices: Sequence[int],
) -> EpisodeSpread:
    tables = [member.select(indices) for member in (row, baseline) if member is not None]
    # of each query the share of training seeds that got it right, less that of the baseline
    shares = [np.mean([table.correct for table in seeds], axis=0) for seeds in tables]
    answers = iter((shares[0] - shares[1] if baseline is not None else shares[0]).tolist())
    values = [
        [[next(answers) for _ in clips] for clips in parse_episode(row.episodes[i])["query"]]
        for i in indices
    ]
    n_differing = sum(abs(sum(map(sum, episode))) > _EQUAL_TOLERANCE for episode in values)
    return EpisodeSpread(
        names[row],
        None if baseline is None else names[baseline],
        row.summary.shot,
        estimate_components(values),
        n_differing,
        tuple(seeds[0] for seeds in tables),
    )
