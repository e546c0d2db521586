"""What `fewshot-i2v plan` says of its figures: tables, and sentences in plain words."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from math import isinf

from fewshot_i2v.cli._clip_planning import ClipPlan
from fewshot_i2v.cli._plan_answer import answer, points
from fewshot_i2v.cli._plan_tables import clip_table, level_text, need_table, pair_table, row_table
from fewshot_i2v.cli._planning import Aims, PairPlan, RowPlan
from fewshot_i2v.report._columns import wrapped

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
    from fewshot_i2v.statistics.planning import episodes_for_half_width

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
