"""What `fewshot-i2v plan` says of its figures: tables, and sentences in plain words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import isinf

from fewshot_i2v.cli._planning import Aims, ClipPlan, PairPlan, Range, RowPlan
from fewshot_i2v.report._columns import aligned, wrapped

_NONE = "-"


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
    parts = [*wrapped([title]), "", *_row_table(rows, aims)]
    if pairs:
        parts += ["", *_pair_table(pairs, aims)]
    if clips:
        parts += ["", *_clip_table(clips, aims)]
    said = [
        *_about_rows(rows, aims, query),
        *_about_pairs(pairs, aims),
        *_about_queries(rows, aims, way, query),
        *_about_clips(clips, aims),
        *remarks,
    ]
    return "\n".join([*parts, "", *wrapped(said)])


def points(value: float) -> str:
    """A share in points, such as "1 point" or "0.25 points"; three digits."""
    number = _number(value)
    return f"{number} point" if number == "1" else f"{number} points"


def _number(value: float) -> str:
    return f"{100 * value:.3g}"


def _queries(count: int) -> str:
    return f"{count} query clip{'' if count == 1 else 's'} per class"


def _level(aims: Aims) -> str:
    return f"{100 * aims.level:g} %"


def _half(value: float | None) -> str:
    return _NONE if value is None else f"{100 * value:.2f}"


def _wide(value: float) -> str:
    """A half-width; one that leaves no accuracy out is no figure."""
    return ">50" if value > 0.5 else _half(value)


def _range(between: Range | None) -> str:
    return _NONE if between is None else f"{between[0]:,}-{between[1]:,}"


def _count(value: int | None) -> str:
    return _NONE if value is None else f"{value:,}"


def _row_table(rows: Sequence[RowPlan], aims: Aims) -> list[str]:
    columns = {
        "row": [row.name for row in rows],
        "shot": [str(row.shot) for row in rows],
        "accuracy %": [_half(row.found.mean) for row in rows],
        "s.d.": [_half(row.deviation) for row in rows],
        "by queries": [f"{100 * row.query_share:.0f} %" for row in rows],
        "± so far": [_half(row.now) for row in rows],
        "episodes": [_count(row.episodes) for row in rows],
        "may be": [_range(row.between) for row in rows],
    }
    if all(row.now is None for row in rows):
        del columns["± so far"], columns["may be"]
    heading = f"Each row to ± {points(aims.half_width)} ({_level(aims)})"
    return [heading, "", *aligned(columns, {"row"})]


def _pair_table(pairs: Sequence[PairPlan], aims: Aims) -> list[str]:
    pilot = any(pair.gain is not None for pair in pairs)
    columns = {
        "row": [pair.name for pair in pairs],
        "against": [pair.against for pair in pairs],
        "shot": [str(pair.shot) for pair in pairs],
    }
    if pilot:
        columns["gain"] = [_NONE if p.gain is None else f"{100 * p.gain:+.2f}" for p in pairs]
        columns["differ"] = [f"{p.differ}/{p.common}" for p in pairs]
    columns["s.d."] = [_half(pair.deviation) for pair in pairs]
    if pilot:
        columns["seen so far"] = [_half(pair.visible) for pair in pairs]
    columns["episodes"] = [_count(pair.episodes) for pair in pairs]
    if pilot:
        columns["may be"] = [_range(pair.between) for pair in pairs]
    if len(pairs) > 1:
        columns[f"all {len(pairs)} judged"] = [_count(pair.together) for pair in pairs]
    heading = (
        f"A difference of {points(aims.difference)}, found in {100 * aims.power:g} % of runs "
        f"({_level(aims)})"
    )
    return [heading, "", *aligned(columns, {"row", "against"})]


def _clip_table(clips: Sequence[ClipPlan], aims: Aims) -> list[str]:
    def _part(name: str) -> dict[str, list[str]]:
        found = [getattr(plan, name) for plan in clips]
        return {
            "query": [_NONE if f is None else str(f.query) for f in found],
            "episodes": [_NONE if f is None else _count(f.episodes) for f in found],
            "±": [_NONE if f is None else _wide(f.half_width) for f in found],
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
        f"clips for ± {_number(aims.half_width)}": [_count(plan.needed) for plan in clips],
        "in episodes": [_count(plan.use.episodes) for plan in clips],
        "of query": [str(plan.use.query) for plan in clips],
    }
    first = clips[0]
    low, high = first.sizes
    sizes = f"{low} clips each" if low == high else f"{low} to {high} clips"
    heading = (
        f"For other clips: episodes that share no clip, of {first.classes} classes with {sizes}"
    )
    return [heading, "", *aligned(columns, set())]


def _about_rows(rows: Sequence[RowPlan], aims: Aims, query: int | None) -> Iterator[str]:
    most = max(rows, key=lambda row: row.episodes)
    each = "every row" if len(rows) > 1 else "the row"
    queries = "" if query is None else f" of {_queries(query)}"
    yield (
        f"{most.episodes:,} episodes{queries} give the mean of {each} to "
        f"± {points(aims.half_width)} (--episodes {most.episodes}); "
        f"--until {_number(aims.half_width)} draws until that is so."
    )
    pilot = min((row.found.episodes for row in rows if row.now is not None), default=0)
    if pilot:
        yield (
            f"may be: what {pilot} episodes can tell of the spread, {_level(aims)}; a longer pilot "
            "narrows it."
        )


def _about_pairs(pairs: Sequence[PairPlan], aims: Aims) -> Iterator[str]:
    planned = [(p, p.episodes) for p in pairs if p.episodes is not None]
    if planned:
        pair, most = max(planned, key=lambda each: each[1])
        yield (
            f"A true difference of {points(aims.difference)} between {pair.name} and "
            f"{pair.against} ({pair.shot}-shot) is found in {100 * aims.power:g} % of runs of "
            f"{most:,} episodes; a smaller one mostly stays unseen."
        )
    if len(planned) > 1:
        yield "all judged: where all comparisons are judged together, as `compare` does."
    if any(p.visible is not None for p in pairs):
        yield "seen so far: the smallest true difference that the pilot would mostly find."
    few = [p for p in pairs if p.found is None]
    if few:
        names = ", ".join(f"{p.name} ({p.shot}-shot)" for p in few)
        yield (
            f"No plan for {names}: too few episodes in which they differ from {few[0].against}, so "
            "how much they do cannot be told yet. A longer pilot shows it."
        )


def _about_queries(
    rows: Sequence[RowPlan], aims: Aims, way: int | str, query: int | None
) -> Iterator[str]:
    from fewshot_i2v.statistics.planning import episodes_for_half_width

    yield "by queries: share of the variance of an episode that is chance of its queries."
    if any(not row.found.per_class for row in rows):
        yield (
            "With one query clip per class, what classes and support clips add to the spread "
            "cannot be told from what queries add: by queries is too large, and so is the best "
            "query count. A pilot of 2 or more query clips tells them apart."
        )
    if query is None or not isinstance(way, int):
        return
    row = max(rows, key=lambda r: r.deviation)
    away = max(row.found.mean, 1 - row.found.mean)
    fewer = episodes_for_half_width(
        row.found.deviation(2 * query * way), aims.half_width, aims.level, away=away
    )
    yield (
        f"With {_queries(2 * query)} instead of {query}, {row.name} ({row.shot}-shot) needs "
        f"{fewer:,} episodes in place of {row.episodes:,}."
    )


def _about_clips(clips: Sequence[ClipPlan], aims: Aims) -> Iterator[str]:
    if not clips:
        return
    yield (
        "Episodes that share clips say how well the mean over these clips is known, however many "
        "they are; what to expect of other clips, only those say that share none (--sampling "
        "disjoint)."
    )
    for plan in clips:
        yield _allowed(plan, aims)
        if plan.pair is not None and plan.visible is not None:
            yield (
                f"Of differences between {' and '.join(plan.pair)} they mostly "
                f"({100 * aims.power:g} %) show those of {points(plan.visible)} or more; smaller "
                "ones cannot be seen with these clips."
            )
    star = [f"{_star(plan.star)} at {plan.shot}-shot" for plan in clips]
    yield (
        f"Query clips per class that make the most of clips: {', '.join(star)} for clips without "
        "end, the square root of w · shot / (way · b)."
    )


def _star(value: float) -> str:
    return "as many as there are" if isinf(value) else f"{value:.1f}"


def _allowed(plan: ClipPlan, aims: Aims) -> str:
    wanted = f"± {points(aims.half_width)}"
    if plan.best is None:
        return (
            f"{plan.shot}-shot: these clips do not allow two such episodes; {plan.needed:,} clips "
            f"of each class would give {wanted}."
        )
    best = plan.best
    enough = best.half_width <= aims.half_width
    rest = "which is enough" if enough else f"{wanted} takes {plan.needed:,} clips of each class"
    return (
        f"{plan.shot}-shot: best are {_queries(best.query)}; there are {best.episodes:,} such "
        f"episodes, which give {plan.row} to ± {points(best.half_width)}; {rest}."
    )
