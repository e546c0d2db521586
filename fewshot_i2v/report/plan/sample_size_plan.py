"""The plan of `fewshot-i2v plan`: episodes and clips, from a pilot run or from assumed values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from math import isfinite
from pathlib import Path
from statistics import harmonic_mean
from typing import Any

from fewshot_i2v.data.splits.split_file import load_split
from fewshot_i2v.errors import FewshotError, UnknownNameError, UsageError
from fewshot_i2v.report.plan.basis import (
    PlanBasis,
    PlanRequest,
    SpreadKey,
    assume_spreads,
    read_pilot,
)
from fewshot_i2v.report.plan.clip_plan import ClipDesign, DisjointClipPlan
from fewshot_i2v.report.plan.episode_plan import (
    ComparisonPlan,
    PlanTargets,
    RowPlan,
    plan_comparison,
    plan_row,
)
from fewshot_i2v.statistics.clip_variance import ClipVariance
from fewshot_i2v.statistics.intervals import check_level

MIN_POINTS, MAX_POINTS = 0.05, 50
"""Range of half-widths and differences, in points."""


@dataclass(frozen=True)
class SampleSizePlan:
    """The plan of all rows.

    Attributes:
        title: what it is based on.
        way: classes of an episode.
        query: query clips per class; None where episodes of the pilot differ in it.
        targets: the precision to reach.
        rows: one for each row of the pilot, or for each shot; at least one.
        pairs: one for each comparison; may be empty.
        clips: one for each shot, or none.
        remarks: further sentences.
    """

    title: str
    way: int | str
    query: int | None
    targets: PlanTargets
    rows: tuple[RowPlan, ...]
    pairs: tuple[ComparisonPlan, ...]
    clips: tuple[DisjointClipPlan, ...]
    remarks: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Returns plain types, for JSON; infinity is null."""
        clips = [
            asdict(plan) | {"star": plan.star if isfinite(plan.star) else None}
            for plan in self.clips
        ]
        return {
            "title": self.title,
            "way": self.way,
            "query": self.query,
            "aims": asdict(self.targets),
            "rows": [asdict(row) for row in self.rows],
            "pairs": [asdict(pair) for pair in self.pairs],
            "clips": clips,
            "remarks": list(self.remarks),
        }


def plan(
    run: str | Path | None = None,
    *,
    half_width: float = 1.0,
    difference: float = 2.0,
    power: float = 0.8,
    level: float = 0.95,
    split: str | Path | None = None,
    root: str | Path | None = None,
    shot: int | Sequence[int] = (),
    **assumed: Any,
) -> SampleSizePlan:
    """Plans how many episodes and clips are needed, as `fewshot-i2v plan` does.

    Args:
        run: a pilot of about 30 episodes, a run folder or a folder of run folders; None: an
            accuracy and a spread are assumed.
        half_width: of the interval of an accuracy, in points (1 is 1 %), 0.05 to 50.
        difference: of two rows that is to be detected, in points, 0.05 to 50.
        power: share of runs in which it is detected, above 1 - level and below 1.
        level: of intervals and tests, above 0 and below 1.
        split: whose clips are counted; None: that of the pilot.
        root: folder of its clips; None: that of the split.
        shot: support clips per class, one number or several; empty: those of the pilot, or 1.
        assumed: `subset`, `way`, `query`, `accuracy`, `common` and `pairing` of `PlanRequest`.

    Raises:
        UsageError: for values out of range, and a pilot or split that cannot be read or match.
        RecordError: when a run folder is damaged.
    """
    targets = _check_targets(half_width, difference, power, level)
    unknown = sorted(assumed.keys() - {field.name for field in fields(PlanRequest)})
    if unknown:
        raise UnknownNameError("key of a plan", unknown[0], [f.name for f in fields(PlanRequest)])
    request = PlanRequest(
        None if split is None else str(split),
        None if root is None else Path(root),
        shot=(shot,) if isinstance(shot, int) else tuple(shot),
        **assumed,
    )
    basis = assume_spreads(request) if run is None else read_pilot(Path(run), request)
    queries = None
    if request.query is not None and isinstance(basis.way, int):
        queries = float(request.query * basis.way)
    rows = [plan_row(spread, queries, targets) for spread in basis.rows]
    pairs = [
        plan_comparison(spread, queries, targets, comparisons=len(basis.pairs))
        for spread in basis.pairs
    ]
    clips, remarks = _plan_clips(basis, rows, pairs, targets, request)
    return SampleSizePlan(
        basis.title,
        basis.way,
        basis.query,
        targets,
        tuple(rows),
        tuple(pairs),
        tuple(clips),
        (*basis.remarks, *remarks),
    )


def _check_targets(half_width: float, difference: float, power: float, level: float) -> PlanTargets:
    """Returns the precision to reach, from points; UsageError for a value out of range."""
    for key, points in (("half_width", half_width), ("difference", difference)):
        if not MIN_POINTS <= points <= MAX_POINTS:
            raise UsageError(
                f"{key}: got {points:g}; expected {MIN_POINTS} to {MAX_POINTS} points (2 points "
                "are 2 %)"
            )
    check_level(level)
    if not 1 - level < power < 1:
        raise UsageError(f"power: got {power:g}; expected more than {1 - level:g}, and below 1")
    return PlanTargets(half_width / 100, difference / 100, power, level)


def _plan_clips(
    basis: PlanBasis,
    rows: list[RowPlan],
    pairs: list[ComparisonPlan],
    targets: PlanTargets,
    request: PlanRequest,
) -> tuple[list[DisjointClipPlan], list[str]]:
    """Plan the clips of the split, or say why that is not possible."""
    name, subset = request.split or basis.split, request.subset or basis.subset
    if name is None:
        return [], ["Whether a split has clips enough for that: give --split."]
    if basis.query is None or not isinstance(basis.way, int):
        return [], ["What the clips allow: not counted where way or query of episodes differ."]
    if subset == "test":
        return [], [
            "What the clips allow: not counted for the subset test, whose episodes share the "
            "support clips of train."
        ]
    sizes, variances, remarks = _read_class_sizes(name, subset, basis, request)
    if not sizes:
        return [], remarks
    pool = harmonic_mean(sizes) if basis.reuses_clips and not remarks else None
    design = ClipDesign(sizes, basis.way, basis.query, targets, variances, pool)
    plans = []
    for shot in dict.fromkeys(row.shot for row in rows):
        shot_rows = [row for row in rows if row.shot == shot]
        planned_rows = [row for row in shot_rows if not row.shows_no_spread]
        remarks += [
            f"Other clips are not planned for {row.name}, {row.shot}-shot: it did the same in "
            "every episode of the pilot, so nothing shows how much clips matter. A longer pilot "
            "may; what can be said of other clips by now says `show RUN --intervals`."
            for row in shot_rows
            if row.shows_no_spread
        ]
        if isinstance(shot, int) and planned_rows:
            plans.append(design.plan(planned_rows, [pair for pair in pairs if pair.shot == shot]))
    return plans, remarks


def _read_class_sizes(
    name: str, subset: str, basis: PlanBasis, request: PlanRequest
) -> tuple[list[int], Mapping[SpreadKey, ClipVariance], list[str]]:
    """Clips of each class, and their variances in the pilot if it was drawn from them.

    Empty where the split of a pilot cannot be read any more.
    """
    try:
        split = load_split(name, root=request.root)
    except FewshotError as error:
        if request.split or request.root:
            raise
        return [], {}, [f"What the clips allow: the pilot's split cannot be read ({error})."]
    sizes = list(split.class_sizes(subset).values())
    if basis.split is None:
        return sizes, {}, []
    if (split.digest, subset) != (basis.split_digest, basis.subset):
        return sizes, {}, [f"The clips counted are those of {name} ({subset}), not the pilot's."]
    return sizes, basis.clip_variances(sizes), []
