"""The tables of a plan, and how its numbers are written."""

from __future__ import annotations

from collections.abc import Sequence

from fewshot_i2v.cli._clip_planning import ClipNeed, ClipPlan
from fewshot_i2v.cli._plan_answer import hardest, in_clips, number, points
from fewshot_i2v.cli._planning import Aims, PairPlan, Range, RowPlan
from fewshot_i2v.report._columns import aligned

_NONE = "-"


def level_text(aims: Aims) -> str:
    """The level of the intervals in percent."""
    return f"{100 * aims.level:g} %"


def half_text(value: float | None) -> str:
    """A share in points; a dash where there is none."""
    return _NONE if value is None else f"{100 * value:.2f}"


def wide_text(value: float) -> str:
    """A half-width; one that leaves no accuracy out is no figure."""
    return ">50" if value > 0.5 else half_text(value)


def range_text(between: Range | None) -> str:
    """From and to; a dash where there is neither."""
    return _NONE if between is None else f"{between[0]:,}-{between[1]:,}"


def count_text(value: int | None) -> str:
    """A number; a dash where there is none."""
    return _NONE if value is None else f"{value:,}"


def row_table(rows: Sequence[RowPlan], aims: Aims) -> list[str]:
    """How many episodes each row takes."""
    columns = {
        "row": [row.name for row in rows],
        "shot": [str(row.shot) for row in rows],
        "accuracy %": [half_text(row.found.mean) for row in rows],
        "s.d.": [half_text(row.deviation) for row in rows],
        "by queries": [f"{100 * row.query_share:.0f} %" for row in rows],
        "± so far": [half_text(row.now) for row in rows],
        "episodes": [count_text(row.episodes) for row in rows],
        "may be": [range_text(row.between) for row in rows],
    }
    if all(row.now is None for row in rows):
        del columns["± so far"], columns["may be"]
    heading = f"Each row to ± {points(aims.half_width)} ({level_text(aims)})"
    return [heading, "", *aligned(columns, {"row"})]


def pair_table(pairs: Sequence[PairPlan], aims: Aims) -> list[str]:
    """How many episodes a difference between two rows takes."""
    pilot = any(pair.gain is not None for pair in pairs)
    columns = {
        "row": [pair.name for pair in pairs],
        "against": [pair.against for pair in pairs],
        "shot": [str(pair.shot) for pair in pairs],
    }
    if pilot:
        columns["gain"] = [_NONE if p.gain is None else f"{100 * p.gain:+z.2f}" for p in pairs]
        columns["differ"] = [f"{p.differ}/{p.common}" for p in pairs]
    columns["s.d."] = [half_text(pair.deviation) for pair in pairs]
    if pilot:
        columns["seen so far"] = [half_text(pair.visible) for pair in pairs]
    columns["episodes"] = [count_text(pair.episodes) for pair in pairs]
    if pilot:
        columns["may be"] = [range_text(pair.between) for pair in pairs]
    if len(pairs) > 1:
        columns[f"all {len(pairs)} judged"] = [count_text(pair.together) for pair in pairs]
    heading = (
        f"A difference of {points(aims.difference)} on these clips, found in "
        f"{100 * aims.power:g} % of runs ({level_text(aims)})"
    )
    return [heading, "", *aligned(columns, {"row", "against"})]


def clip_table(clips: Sequence[ClipPlan], aims: Aims) -> list[str]:
    """What the clips of the split leave, and how many it takes."""

    def _part(name: str) -> dict[str, list[str]]:
        found = [getattr(plan, name) for plan in clips]
        return {
            "query": [_NONE if f is None else str(f.query) for f in found],
            "episodes": [_NONE if f is None else count_text(f.episodes) for f in found],
            "±": [_NONE if f is None else wide_text(f.half_width) for f in found],
        }

    best, asked = _part("best"), _part("asked")
    columns = {
        "shot": [str(plan.shot) for plan in clips],
        "query": asked["query"],
        "episodes": asked["episodes"],
        "±": asked["±"],
        "best query": best["query"],
        "its episodes": best["episodes"],
        "its ±": best["±"],
        f"clips for ± {number(aims.half_width)}": [count_text(plan.needed) for plan in clips],
        "in episodes": [count_text(plan.use.episodes) for plan in clips],
        "of query": [str(plan.use.query) for plan in clips],
    }
    first = clips[0]
    low, high = first.sizes
    heading = (
        f"Other clips, by episodes that share none (--sampling disjoint): {first.classes} classes "
        f"with {in_clips(low, high)} clips"
    )
    return [heading, "", *aligned(columns, set())]


def need_table(clips: Sequence[ClipPlan]) -> list[str]:
    """The row and the comparison of each shot that need most clips."""
    needs: list[ClipNeed] = []
    for plan in clips:
        for compared in (False, True):
            of = [need for need in plan.needs if (need.against is not None) is compared]
            needs += [hardest(of)] if of else []
    marks = ["<= " if need.most else "" for need in needs]
    columns = {
        "row": [need.name for need in needs],
        "against": [need.against or _NONE for need in needs],
        "shot": [str(need.shot) for need in needs],
        "left": [m + wide_text(need.left) for m, need in zip(marks, needs, strict=True)],
        "clips": [m + count_text(need.clips) for m, need in zip(marks, needs, strict=True)],
        "may be": [range_text(need.between) for need in needs],
        "in episodes": [count_text(need.episodes) for need in needs],
    }
    low, high = clips[0].sizes
    heading = (
        f"Other clips, by episodes that share some: clips of each class that it takes; there are "
        f"{in_clips(low, high)}"
    )
    return [heading, "", *aligned(columns, {"row", "against"})]
