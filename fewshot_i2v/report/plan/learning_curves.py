"""The learning curves of `fewshot-i2v learning-curve`: accuracy by labelled clips per class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from fewshot_i2v.data.splits.split_file import load_split
from fewshot_i2v.errors import FewshotError, UsageError
from fewshot_i2v.report.comparison.baselines import names_by_row
from fewshot_i2v.report.plan.basis import read_one_evaluation, split_source
from fewshot_i2v.report.tables.short_names import ShortNames, short_head_names
from fewshot_i2v.runs.prediction_reader import RecordedRow
from fewshot_i2v.runs.row_names import shorten_head
from fewshot_i2v.runs.row_summary import RowSummary
from fewshot_i2v.runs.run_index import setting_text, way_of
from fewshot_i2v.statistics.intervals import (
    MIN_EPISODES,
    Interval,
    bounded_interval,
    check_level,
)
from fewshot_i2v.statistics.learning_curve import (
    MAX_FACTOR,
    WINDOW,
    ExpectedAccuracy,
    LearningCurve,
    NeededShots,
    fit_learning_curve,
)
from fewshot_i2v.utils.text_table import join_names


@dataclass(frozen=True)
class MeasuredPoint:
    """Accuracy of a row with one number of labelled clips.

    Attributes:
        shot: labelled clips per class.
        accuracy: mean over episodes with its interval, 0..1.
    """

    shot: int
    accuracy: Interval


@dataclass(frozen=True)
class RowCurve:
    """The learning curve of one row.

    Attributes:
        name: display name of the row.
        adapter: `name` without the head.
        head: short name of the head, as in a table; empty where all rows have the same.
        points: what was measured, by ascending number of clips.
        expected: of twice and `MAX_FACTOR` times the largest number of clips; empty without growth.
        reached: the smallest number of clips from which on every measured accuracy is at least the
            target; None where there is none, or no target.
        is_shown: whether the interval at `reached` is at or above the target, too.
        needed: clips for the target where no measured number reaches it; else None.
        curve: what the expectations come from.
    """

    name: str
    adapter: str
    head: str
    points: tuple[MeasuredPoint, ...]
    expected: tuple[ExpectedAccuracy, ...]
    reached: int | None = None
    is_shown: bool = False
    needed: NeededShots | None = None
    curve: LearningCurve | None = field(default=None, repr=False, compare=False)

    @property
    def last(self) -> MeasuredPoint:
        """Accuracy with the most clips."""
        return self.points[-1]

    def to_dict(self) -> dict[str, Any]:
        """Returns plain types, for JSON; accuracies are shares of 1."""
        return {
            "name": self.name,
            "measured": [
                {
                    "shot": point.shot,
                    "accuracy": point.accuracy.mean,
                    "low": point.accuracy.low,
                    "high": point.accuracy.high,
                    "episodes": point.accuracy.n,
                }
                for point in self.points
            ],
            "expected": [asdict(values) for values in self.expected],
            "reached": self.reached,
            "shown": self.is_shown,
            "needed": None if self.needed is None else asdict(self.needed),
        }


@dataclass(frozen=True)
class LearningCurves:
    """Learning curves of the rows of an evaluation.

    Attributes:
        title: the setting.
        target: accuracy to reach, 0..1; None where none was asked for.
        level: of intervals and ranges.
        rows: at least one.
        remarks: what was left out, and why.
        legend: what the heads have in common, where their names are short.
        most_shots: labelled clips that the smallest class of the split has beside the query clips;
            None where that is not known.
    """

    title: str
    target: float | None
    level: float
    rows: tuple[RowCurve, ...]
    remarks: tuple[str, ...]
    legend: tuple[str, ...] = ()
    most_shots: int | None = None

    @property
    def measured_shots(self) -> int:
        """The largest number of labelled clips that a row was measured with."""
        return max(row.last.shot for row in self.rows)

    def to_dict(self) -> dict[str, Any]:
        """Returns plain types, for JSON; accuracies are shares of 1."""
        return {
            "title": self.title,
            "target": self.target,
            "level": self.level,
            "rows": [row.to_dict() for row in self.rows],
            "remarks": list(self.remarks),
            "most_shots": self.most_shots,
        }


def learning_curve(
    run: str | Path, *, accuracy: float | None = None, level: float = 0.95
) -> LearningCurves:
    """Shows how accuracy grows with labelled clips per class, as `fewshot-i2v learning-curve` does.

    Args:
        run: the run folder of an evaluation with several shots, at least three a row.
        accuracy: to reach, in percent, above 0 and at most 100; None: nothing is said of that.
        level: of intervals and ranges, above 0 and below 1.

    Raises:
        UsageError: for values out of range, a run that cannot be read, rows of several settings,
            and where no row has three numbers of shots.
        RecordError: when a run folder is damaged.
    """
    check_level(level)
    if accuracy is not None and not 1 <= accuracy <= 100:
        raise UsageError(
            f"accuracy: got {accuracy:g}; expected percent from 1 to 100, such as 90 for 90 %"
        )
    target = None if accuracy is None else accuracy / 100
    rows = read_one_evaluation(Path(run), ())
    curves, remarks = [], []
    short_names = _short_names(rows)
    heads = {row.summary.head: cell for row, cell in zip(rows, short_names.cells, strict=True)}
    for name, members in _rows_by_name(rows).items():
        usable, left_out = _usable_rows(members)
        remarks += [f"{name}: {text}" for text in left_out]
        if usable:
            label = next(iter(members.values())).summary.head
            names = (name, shorten_head(name, label, ""), heads[label])
            curves.append(_row_curve(names, usable, target, level))
    if not any(curve.expected for curve in curves):
        raise UsageError(_too_few_text(Path(run), rows))
    short = [curve.name for curve in curves if not curve.expected]
    if short:
        remarks.append(
            f"Nothing is expected of {join_names(short)}: fewer than {WINDOW} numbers of clips "
            "were measured."
        )
    summary = rows[0].summary
    title = setting_text(summary.config, way_of(summary))
    return LearningCurves(
        title,
        target,
        level,
        tuple(curves),
        tuple(remarks),
        tuple(short_names.legend),
        _most_shots(summary),
    )


def _short_names(rows: Sequence[RecordedRow]) -> ShortNames:
    """Short names of the heads as in the table of results; empty where all have the same."""
    labels = [row.summary.head for row in rows]
    several = len(set(labels)) > 1
    return next(short_head_names(labels)) if several else ShortNames([""] * len(rows))


def _most_shots(summary: RowSummary) -> int | None:
    """Clips of the smallest class beside the query clips; None where the split cannot tell."""
    config = summary.config
    query, name = config["query"], split_source(config["split"], summary.header)
    try:
        split = load_split(name)
        sizes = split.class_sizes(config["subset"]).values()
    except FewshotError:  # the split was moved or changed since; the curve is as true without it
        return None
    is_same = split.digest == summary.identity.get("split", {}).get("digest")
    return min(sizes) - query if isinstance(query, int) and is_same else None


def _rows_by_name(rows: Sequence[RecordedRow]) -> dict[str, dict[int | str, RecordedRow]]:
    """Rows by their display name and their number of clips."""
    groups: dict[str, dict[int | str, RecordedRow]] = {}
    for row, name in names_by_row(rows).items():
        groups.setdefault(name, {})[row.summary.shot] = row
    return groups


def _usable_rows(
    members: Mapping[int | str, RecordedRow],
) -> tuple[dict[int, RecordedRow], list[str]]:
    """Rows with a fixed number of clips and enough episodes, ascending, and why others are not."""
    usable, left_out = {}, []
    for shot, row in members.items():
        n_episodes = len(row.summary.accuracies)
        if not isinstance(shot, int):
            left_out.append(f"{shot} shots left out; a curve needs one number for all episodes.")
        elif n_episodes < MIN_EPISODES:
            left_out.append(
                f"{shot}-shot left out, {n_episodes} episodes that succeeded; expected at least "
                f"{MIN_EPISODES}."
            )
        else:
            usable[shot] = row
    return dict(sorted(usable.items())), left_out


def _row_curve(
    names: tuple[str, str, str],
    rows: Mapping[int, RecordedRow],
    target: float | None,
    level: float,
) -> RowCurve:
    """Fit the curve of a row; `names` are its name, adapter and head."""
    accuracies = {shot: row.summary.accuracies for shot, row in rows.items()}
    points = tuple(
        MeasuredPoint(
            shot,
            bounded_interval([*values.values()], level, clips_shared=rows[shot].summary.shared),
        )
        for shot, values in accuracies.items()
    )
    reached = None if target is None else _reached(points, target)
    is_shown = any(
        point.shot == reached and point.accuracy.low is not None and point.accuracy.low >= target
        for point in points
        if target is not None
    )
    if len(points) < WINDOW:
        return RowCurve(*names, points, (), reached, is_shown)
    answers = {shot: len(row.predictions[0].correct) for shot, row in rows.items()}
    curve = fit_learning_curve(accuracies, answers, level)
    last = points[-1].shot
    expected = tuple(curve.expect(factor * last) for factor in (2, MAX_FACTOR))
    needed = None
    if target is not None and reached is None:
        needed = curve.shots_for(target)
    return RowCurve(*names, points, expected, reached, is_shown, needed, curve)


def _reached(points: Sequence[MeasuredPoint], target: float) -> int | None:
    """The smallest number of clips from which on every accuracy is at least the target."""
    reached = None
    for point in reversed(points):
        if point.accuracy.mean < target:
            break
        reached = point.shot
    return reached


def _too_few_text(run: Path, rows: Sequence[RecordedRow]) -> str:
    shots = sorted({str(row.summary.shot) for row in rows}, key=lambda shot: (len(shot), shot))
    return (
        f"{run}: shots {', '.join(shots)}; expected a row with at least {WINDOW} numbers of "
        f"labelled clips per class, of {MIN_EPISODES} episodes each or more. Evaluate more of them "
        "into this folder, such as --shot 1 --shot 2 --shot 5"
    )
