"""What `fewshot-i2v plan` says of its figures: tables, and sentences in plain words."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Sequence
from math import isinf

from fewshot_i2v.report.plan.sample_size_plan import (
    Aims,
    ClipNeed,
    ClipPlan,
    PairPlan,
    Range,
    RowPlan,
)
from fewshot_i2v.utils.text_table import aligned, wrapped


def answer(
    rows: Sequence[RowPlan],
    pairs: Sequence[PairPlan],
    clips: Sequence[ClipPlan],
    aims: Aims,
    query: int | None,
) -> Iterator[str]:
    """How many episodes and clips, a sentence or two for each question.

    Args:
        rows: at least one.
        pairs: may be empty.
        clips: one for each shot, or none.
        aims: what is asked for.
        query: query clips per class that are planned for; None where the pilot's differ.
    """
    yield _accuracies(rows, aims, query)
    planned = [p for p in pairs if p.episodes is not None]
    if planned:
        yield _differences(planned, aims)
    if not clips:
        return
    needs = [need for plan in clips for need in plan.needs]
    yield _other_clips(clips[0], hardest(n for n in needs if n.against is None), aims)
    compared = [n for n in needs if n.against is not None]
    if compared:
        yield _other_differences(clips[0], hardest(compared), aims)


def hardest(needs: Iterable[ClipNeed]) -> ClipNeed:
    """The one that needs most clips, of those of which the pilot tells if there are any."""
    return max(needs, key=lambda need: (not need.most, need.clips))


def points(value: float) -> str:
    """A share in points, such as "1 point" or "0.25 points"; three digits."""
    text = number(value)
    return f"{text} point" if text == "1" else f"{text} points"


def number(value: float) -> str:
    """A share in points, three digits."""
    return f"{100 * value:.3g}"


def in_clips(low: int, high: int) -> str:
    """Clips of each class in words."""
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _accuracies(rows: Sequence[RowPlan], aims: Aims, query: int | None) -> str:
    most = max(row.episodes for row in rows)
    each = "every row" if len(rows) > 1 else "the row"
    queries = "" if query is None else f" of {query} query clip{'s' if query > 1 else ''} per class"
    return (
        f"Accuracy to ± {points(aims.half_width)}: {most:,} episodes{queries}, for {each} "
        f"(--episodes {most}; or --until {number(aims.half_width)}, which draws until it is so)."
        f"{_evenly(rows)}"
    )


def _evenly(rows: Sequence[RowPlan]) -> str:
    """What no spread at all leaves open; empty where every row shows some."""
    even = [row for row in rows if row.even and row.between is not None]
    if not even:
        return ""
    most = max(even, key=lambda row: row.between or (0, 0))
    high = most.between[1] if most.between else 0
    several = f" and {len(even) - 1} more" if len(even) > 1 else ""
    return (
        f" WARNING: {most.name} ({most.shot}-shot){several} did the same in every episode of the "
        f"pilot, which does not say how they spread: it may take up to {high:,} episodes."
    )


def _differences(planned: Sequence[PairPlan], aims: Aims) -> str:
    def _episodes(pair: PairPlan) -> int:
        return pair.episodes or 0

    pair = max(planned, key=_episodes)
    text = (
        f"A difference of {points(aims.difference)} on these clips: {_episodes(pair):,} episodes "
        "show it in "
        f"{100 * aims.power:g} % of runs if it is there"
    )
    if len(planned) > 1:
        together = max(p.together or 0 for p in planned)
        text += (
            f", {together:,} where all comparisons are judged together, as `compare` does. The one "
            f"that varies most is {_pair(pair.name, pair.against, pair.shot)}"
        )
    return f"{text}."


def _other_clips(plan: ClipPlan, need: ClipNeed, aims: Aims) -> str:
    low, high = plan.sizes
    left = "± 50 points or more" if need.left >= 0.5 else f"± {points(need.left)}"
    left = f"at most {left}" if need.most else left
    return (
        "All of that holds for these clips only. Other clips of the same classes: however many "
        f"the episodes, the {in_clips(low, high)} clips of each class leave {left} "
        f"({need.name}, {need.shot}-shot). To ± {points(aims.half_width)} it takes "
        f"{_takes(need)}. {_verdict(need, plan)}"
    )


def _other_differences(plan: ClipPlan, need: ClipNeed, aims: Aims) -> str:
    low, high = plan.sizes
    shown = (
        "no difference can be counted on to show"
        if need.left >= 0.5
        else f"differences of {points(need.left)} mostly show"
    )
    return (
        f"A difference of {points(aims.difference)} on other clips of these classes, all "
        "comparisons judged together "
        f"({_pair(need.name, need.against or '', need.shot)}): it takes {_takes(need)}. With the "
        f"{in_clips(low, high)} there are, {shown}. {_verdict(need, plan)}"
    )


def _takes(need: ClipNeed) -> str:
    about = "at most" if need.most else "about"
    between = "" if need.between is None else f" ({need.between[0]:,} to {need.between[1]:,})"
    return f"{about} {need.clips:,} clips of each class{between}, in {need.episodes:,} episodes"


def _verdict(need: ClipNeed, plan: ClipPlan) -> str:
    low, _ = plan.sizes
    if need.clips <= low:
        return "There are enough."
    if need.most:
        return (
            "WARNING: there are not that many. A pilot of some hundred episodes tells if fewer do."
        )
    if need.between is not None and need.between[0] <= low:
        return "WARNING: there may be too few clips; a longer pilot tells more."
    return "WARNING: there are too few clips, and more episodes do not help."


def _pair(name: str, against: str, shot: int | str) -> str:
    return f"{name} against {against}, {shot}-shot"


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


_WIDTH = 100


def render(
    title: str,
    aims: Aims,
    rows: Sequence[RowPlan],
    pairs: Sequence[PairPlan],
    clips: Sequence[ClipPlan],
    *,
    way: int | str,
    query: int | None,
    remarks: Sequence[str],
) -> str:
    """The plan as plain text.

    Args:
        title: what it is made from.
        aims: what is asked for.
        rows: at least one.
        pairs: may be empty.
        clips: one for each shot, or none.
        way: classes of an episode.
        query: query clips per class that are planned for; None where the pilot's differ.
        remarks: what is to be said besides.
    """
    told = [line for each in answer(rows, pairs, clips, aims, query) for line in _item(each)]
    parts = [*wrapped([title]), "", *told, "", *row_table(rows, aims)]
    if pairs:
        parts += ["", *pair_table(pairs, aims)]
    if clips:
        parts += ["", *need_table(clips), "", *clip_table(clips, aims)]
    said = [
        *_about_rows(rows, aims, way, query),
        *_about_pairs(pairs, aims),
        *_about_clips(clips, aims),
        *_assumed(rows, pairs, clips),
        *remarks,
    ]
    notes = [line for each in said for line in _item(each)]
    return "\n".join([*parts, "", "How to read it, and what is assumed", "", *notes])


def _item(text: str) -> list[str]:
    return textwrap.wrap(
        text, _WIDTH, initial_indent="- ", subsequent_indent="  ", break_on_hyphens=False
    )


def _queries(count: int) -> str:
    return f"{count} query clip{'' if count == 1 else 's'} per class"


def _about_rows(
    rows: Sequence[RowPlan], aims: Aims, way: int | str, query: int | None
) -> Iterator[str]:
    from fewshot_i2v.statistics.sample_size import episodes_for_half_width

    yield (
        "s.d.: standard deviation over episodes. by queries: share of its square that is chance of "
        "the queries, and that more query clips take away."
    )
    pilot = min((row.found.episodes for row in rows if row.now is not None), default=0)
    if pilot:
        yield (
            f"may be: what {pilot} episodes can tell of the spread, {level_text(aims)}; a longer "
            "pilot narrows it."
        )
    if any(row.even for row in rows):
        yield (
            "Where all episodes of the pilot are alike, ± so far and the upper end of may be are "
            "the most that so many equal accuracies leave open."
        )
    if any(not row.found.per_class for row in rows):
        yield (
            "With one query clip per class, what classes and support clips add to the spread "
            "cannot be told from what queries add: by queries is too large, and so is the best "
            "query count. A pilot of 2 or more query clips tells them apart."
        )
    if query is None or not isinstance(way, int):
        return
    row = max(rows, key=lambda r: r.deviation)
    if row.even:
        return
    away = max(row.found.mean, 1 - row.found.mean)
    fewer = episodes_for_half_width(
        row.found.deviation(2 * query * way), aims.half_width, aims.level, away=away
    )
    yield (
        f"With {_queries(2 * query)} instead of {query}, {row.name} ({row.shot}-shot) needs "
        f"{fewer:,} episodes in place of {row.episodes:,}."
    )


def _about_pairs(pairs: Sequence[PairPlan], aims: Aims) -> Iterator[str]:
    if any(p.visible is not None for p in pairs):
        yield "seen so far: the smallest true difference that the pilot would mostly find."
    if sum(p.episodes is not None for p in pairs) > 1:
        yield (
            f"all {len(pairs)} judged: found although {len(pairs)} comparisons are tested, each at "
            f"1/{len(pairs)} of {100 - 100 * aims.level:g} %; Holm's correction in `compare` asks "
            "no more."
        )
    if any(p.alike for p in pairs):
        yield (
            f"Where two rows hardly differ in the pilot, s.d. is the least of two that differ by "
            f"{points(aims.difference)}."
        )
    few = [p for p in pairs if p.found is None]
    if few:
        names = ", ".join(f"{p.name} ({p.shot}-shot)" for p in few)
        yield (
            f"No plan for {names}: too few episodes in which they differ from {few[0].against}, so "
            "how much they do cannot be told yet. A longer pilot shows it."
        )


def _about_clips(clips: Sequence[ClipPlan], aims: Aims) -> Iterator[str]:
    if not clips:
        return
    yield (
        f"left: the half-width, or the difference found in {100 * aims.power:g} % of runs, that "
        "these clips leave however many the episodes. clips, in episodes: what it takes together."
    )
    yield (
        "Episodes that share no clip need no such estimate, but use each clip once, so they take "
        "more clips; query: with how many query clips."
    )
    yield from filter(None, (_allowed(plan, aims) for plan in clips))
    star = [f"{_star(plan.star)} at {plan.shot}-shot" for plan in clips]
    yield (
        f"Query clips per class that make the most of clips used once: {', '.join(star)}; the "
        "square root of w · shot / (way · b), w the variance of a query and b what all queries of "
        "an episode have in common."
    )


def _assumed(
    rows: Sequence[RowPlan], pairs: Sequence[PairPlan], clips: Sequence[ClipPlan]
) -> Iterator[str]:
    pilot = any(row.now is not None for row in rows)
    like = "later episodes spread as those of the pilot do" if pilot else "the spread named above"
    paired = "; rows are compared on the same episodes" if pairs else ""
    yield f"Assumed: {like}, and means over episodes are about normal{paired}."
    if clips:
        yield (
            "Assumed: other clips of the same classes, drawn as these were; twice the clips leave "
            "half the variance. Clips cut from one recording count as less than one each. New "
            "classes and another training are covered by no number of clips."
        )
    if any(need.most for plan in clips for need in plan.needs):
        yield (
            "<=, at most: rows and comparisons of which too few clips were in several episodes to "
            "tell how much clips matter; it is no more than (way · shot · b + w) / (classes · "
            "clips)."
        )


def _star(value: float) -> str:
    return "as many as there are" if isinf(value) else f"{value:.1f}"


def _allowed(plan: ClipPlan, aims: Aims) -> str | None:
    if plan.best is None:
        return (
            f"{plan.shot}-shot: these clips do not allow two episodes that share none; "
            f"{plan.needed:,} clips of each class would give ± {points(aims.half_width)}."
        )
    if plan.pair is None or plan.visible is None:
        return None
    episodes = f"{plan.best.episodes:,} episodes of {_queries(plan.best.query)} that share no clip"
    seen = (
        "show no difference that there can be"
        if plan.visible > 0.5
        else f"mostly show differences of {points(plan.visible)} or more"
    )
    return f"{plan.shot}-shot: {episodes} {seen} ({' against '.join(plan.pair)})."
