"""The answer of `fewshot-i2v plan` in plain sentences, before any table."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from fewshot_i2v.cli._clip_planning import ClipNeed, ClipPlan
from fewshot_i2v.cli._planning import Aims, PairPlan, RowPlan


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
