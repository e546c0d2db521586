"""The text output of `fewshot-i2v plan`: tables, and sentences that explain them."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Sequence
from math import isinf

from fewshot_i2v.report.plan.sample_size_plan import (
    ClipRequirement,
    ComparisonPlan,
    CountRange,
    DisjointClipPlan,
    PlanTargets,
    RowPlan,
)
from fewshot_i2v.utils.text_table import align_columns, wrap_notes


def answer_sentences(
    rows: Sequence[RowPlan],
    pairs: Sequence[ComparisonPlan],
    clips: Sequence[DisjointClipPlan],
    targets: PlanTargets,
    query: int | None,
) -> Iterator[str]:
    """Say how many episodes and clips, a sentence or two per question.

    Args:
        rows: at least one.
        pairs: may be empty.
        clips: one for each shot, or none.
        targets: the precision to reach.
        query: planned query clips per class; None where the pilot's differ.
    """
    yield _accuracy_sentence(rows, targets, query)
    planned_pairs = [pair for pair in pairs if pair.episodes is not None]
    if planned_pairs:
        yield _difference_sentence(planned_pairs, targets)
    if not clips:
        return
    requirements = [need for plan in clips for need in plan.needs]
    yield _other_clips_sentence(
        clips[0], largest_requirement(n for n in requirements if n.against is None), targets
    )
    pair_requirements = [n for n in requirements if n.against is not None]
    if pair_requirements:
        yield _clip_difference_sentence(clips[0], largest_requirement(pair_requirements), targets)


def largest_requirement(requirements: Iterable[ClipRequirement]) -> ClipRequirement:
    """The requirement of most clips, among those from the pilot if there are any."""
    return max(requirements, key=lambda requirement: (not requirement.most, requirement.clips))


def format_points(value: float) -> str:
    """A share in points, such as "1 point" or "0.25 points"; three digits."""
    text = format_points_value(value)
    return f"{text} point" if text == "1" else f"{text} points"


def format_points_value(value: float) -> str:
    """A share in points, three digits."""
    return f"{100 * value:.3g}"


def format_clip_range(low: int, high: int) -> str:
    """Clips of each class in words."""
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _accuracy_sentence(rows: Sequence[RowPlan], targets: PlanTargets, query: int | None) -> str:
    n_episodes = max(row.episodes for row in rows)
    row_phrase = "every row" if len(rows) > 1 else "the row"
    query_phrase = (
        "" if query is None else f" of {query} query clip{'s' if query > 1 else ''} per class"
    )
    return (
        f"Accuracy to ± {format_points(targets.half_width)}: {n_episodes:,} "
        f"episodes{query_phrase}, for {row_phrase} (--episodes {n_episodes}; or --until "
        f"{format_points_value(targets.half_width)}, which draws until it is so)."
        f"{_no_spread_warning(rows)}"
    )


def _no_spread_warning(rows: Sequence[RowPlan]) -> str:
    """Warn of rows whose accuracy never varies; empty if all vary."""
    rows_without_spread = [row for row in rows if row.shows_no_spread and row.between is not None]
    if not rows_without_spread:
        return ""
    widest_row = max(rows_without_spread, key=lambda row: row.between or (0, 0))
    max_episodes = widest_row.between[1] if widest_row.between else 0
    more_note = f" and {len(rows_without_spread) - 1} more" if len(rows_without_spread) > 1 else ""
    return (
        f" WARNING: {widest_row.name} ({widest_row.shot}-shot){more_note} did the same in every "
        "episode of the pilot, which does not say how they spread: it may take up to "
        f"{max_episodes:,} episodes."
    )


def _difference_sentence(planned: Sequence[ComparisonPlan], targets: PlanTargets) -> str:
    def _episodes(pair: ComparisonPlan) -> int:
        return pair.episodes or 0

    pair = max(planned, key=_episodes)
    sentence = (
        f"A difference of {format_points(targets.difference)} on these clips: {_episodes(pair):,} "
        f"episodes show it in {100 * targets.power:g} % of runs if it is there"
    )
    if len(planned) > 1:
        n_together = max(p.together or 0 for p in planned)
        sentence += (
            f", {n_together:,} where all comparisons are judged together, as `compare` does. The "
            f"one that varies most is {_pair_phrase(pair.name, pair.against, pair.shot)}"
        )
    return f"{sentence}."


def _other_clips_sentence(
    plan: DisjointClipPlan, requirement: ClipRequirement, targets: PlanTargets
) -> str:
    low, high = plan.sizes
    half_width = (
        "± 50 points or more" if requirement.left >= 0.5 else f"± {format_points(requirement.left)}"
    )
    half_width = f"at most {half_width}" if requirement.most else half_width
    return (
        "All of that holds for these clips only. Other clips of the same classes: however many "
        f"the episodes, the {format_clip_range(low, high)} clips of each class leave {half_width} "
        f"({requirement.name}, {requirement.shot}-shot). To ± {format_points(targets.half_width)} "
        f"it takes {_requirement_phrase(requirement)}. {_clip_verdict(requirement, plan)}"
    )


def _clip_difference_sentence(
    plan: DisjointClipPlan, requirement: ClipRequirement, targets: PlanTargets
) -> str:
    low, high = plan.sizes
    visible_phrase = (
        "no difference can be counted on to show"
        if requirement.left >= 0.5
        else f"differences of {format_points(requirement.left)} mostly show"
    )
    return (
        f"A difference of {format_points(targets.difference)} on other clips of these classes, all "
        "comparisons judged together "
        f"({_pair_phrase(requirement.name, requirement.against or '', requirement.shot)}): it "
        f"takes {_requirement_phrase(requirement)}. With the {format_clip_range(low, high)} there "
        f"are, {visible_phrase}. {_clip_verdict(requirement, plan)}"
    )


def _requirement_phrase(requirement: ClipRequirement) -> str:
    bound_word = "at most" if requirement.most else "about"
    range_note = (
        ""
        if requirement.between is None
        else f" ({requirement.between[0]:,} to {requirement.between[1]:,})"
    )
    return (
        f"{bound_word} {requirement.clips:,} clips of each class{range_note}, in "
        f"{requirement.episodes:,} episodes"
    )


def _clip_verdict(requirement: ClipRequirement, plan: DisjointClipPlan) -> str:
    low, _ = plan.sizes
    if requirement.clips <= low:
        return "There are enough."
    if requirement.most:
        return (
            "WARNING: there are not that many. A pilot of some hundred episodes tells if fewer do."
        )
    if requirement.between is not None and requirement.between[0] <= low:
        return "WARNING: there may be too few clips; a longer pilot tells more."
    return "WARNING: there are too few clips, and more episodes do not help."


def _pair_phrase(name: str, against: str, shot: int | str) -> str:
    return f"{name} against {against}, {shot}-shot"


_NONE = "-"


def format_level(targets: PlanTargets) -> str:
    """The level of the intervals in percent."""
    return f"{100 * targets.level:g} %"


def format_share(value: float | None) -> str:
    """Format a share in points; a dash for None."""
    return _NONE if value is None else f"{100 * value:.2f}"


def format_half_width(value: float) -> str:
    """Format a half-width; above 50 points as ">50"."""
    return ">50" if value > 0.5 else format_share(value)


def format_range(between: CountRange | None) -> str:
    """Format a range; a dash for None."""
    return _NONE if between is None else f"{between[0]:,}-{between[1]:,}"


def format_count(value: int | None) -> str:
    """Format a count; a dash for None."""
    return _NONE if value is None else f"{value:,}"


def row_table(rows: Sequence[RowPlan], targets: PlanTargets) -> list[str]:
    """The episodes of each row."""
    columns = {
        "row": [row.name for row in rows],
        "shot": [str(row.shot) for row in rows],
        "accuracy %": [format_share(row.found.mean) for row in rows],
        "s.d.": [format_share(row.deviation) for row in rows],
        "by queries": [f"{100 * row.query_share:.0f} %" for row in rows],
        "± so far": [format_share(row.now) for row in rows],
        "episodes": [format_count(row.episodes) for row in rows],
        "may be": [format_range(row.between) for row in rows],
    }
    if all(row.now is None for row in rows):
        del columns["± so far"], columns["may be"]
    heading = f"Each row to ± {format_points(targets.half_width)} ({format_level(targets)})"
    return [heading, "", *align_columns(columns, {"row"})]


def comparison_table(pairs: Sequence[ComparisonPlan], targets: PlanTargets) -> list[str]:
    """Table of the episodes that each comparison needs."""
    has_pilot = any(pair.gain is not None for pair in pairs)
    columns = {
        "row": [pair.name for pair in pairs],
        "against": [pair.against for pair in pairs],
        "shot": [str(pair.shot) for pair in pairs],
    }
    if has_pilot:
        columns["gain"] = [_NONE if p.gain is None else f"{100 * p.gain:+z.2f}" for p in pairs]
        columns["differ"] = [f"{p.differ}/{p.common}" for p in pairs]
    columns["s.d."] = [format_share(pair.deviation) for pair in pairs]
    if has_pilot:
        columns["seen so far"] = [format_share(pair.visible) for pair in pairs]
    columns["episodes"] = [format_count(pair.episodes) for pair in pairs]
    if has_pilot:
        columns["may be"] = [format_range(pair.between) for pair in pairs]
    if len(pairs) > 1:
        columns[f"all {len(pairs)} judged"] = [format_count(pair.together) for pair in pairs]
    heading = (
        f"A difference of {format_points(targets.difference)} on these clips, found in "
        f"{100 * targets.power:g} % of runs ({format_level(targets)})"
    )
    return [heading, "", *align_columns(columns, {"row", "against"})]


def clip_table(clips: Sequence[DisjointClipPlan], targets: PlanTargets) -> list[str]:
    """Table of disjoint episodes: precision, and clips needed."""

    def _plan_columns(name: str) -> dict[str, list[str]]:
        episode_plans = [getattr(plan, name) for plan in clips]
        return {
            "query": [
                _NONE if episode_plan is None else str(episode_plan.query)
                for episode_plan in episode_plans
            ],
            "episodes": [
                _NONE if episode_plan is None else format_count(episode_plan.episodes)
                for episode_plan in episode_plans
            ],
            "±": [
                _NONE if episode_plan is None else format_half_width(episode_plan.half_width)
                for episode_plan in episode_plans
            ],
        }

    best, planned = _plan_columns("best"), _plan_columns("asked")
    columns = {
        "shot": [str(plan.shot) for plan in clips],
        "query": planned["query"],
        "episodes": planned["episodes"],
        "±": planned["±"],
        "best query": best["query"],
        "its episodes": best["episodes"],
        "its ±": best["±"],
        f"clips for ± {format_points_value(targets.half_width)}": [
            format_count(plan.needed) for plan in clips
        ],
        "in episodes": [format_count(plan.use.episodes) for plan in clips],
        "of query": [str(plan.use.query) for plan in clips],
    }
    first_plan = clips[0]
    low, high = first_plan.sizes
    heading = (
        f"Other clips, by episodes that share none (--sampling disjoint): {first_plan.classes} "
        f"classes with {format_clip_range(low, high)} clips"
    )
    return [heading, "", *align_columns(columns, set())]


def requirement_table(clips: Sequence[DisjointClipPlan]) -> list[str]:
    """The row and the comparison of each shot that need most clips."""
    requirements: list[ClipRequirement] = []
    for plan in clips:
        for is_comparison in (False, True):
            candidates = [
                requirement
                for requirement in plan.needs
                if (requirement.against is not None) is is_comparison
            ]
            requirements += [largest_requirement(candidates)] if candidates else []
    bound_signs = ["<= " if requirement.most else "" for requirement in requirements]
    columns = {
        "row": [requirement.name for requirement in requirements],
        "against": [requirement.against or _NONE for requirement in requirements],
        "shot": [str(requirement.shot) for requirement in requirements],
        "left": [
            bound_sign + format_half_width(requirement.left)
            for bound_sign, requirement in zip(bound_signs, requirements, strict=True)
        ],
        "clips": [
            bound_sign + format_count(requirement.clips)
            for bound_sign, requirement in zip(bound_signs, requirements, strict=True)
        ],
        "may be": [format_range(requirement.between) for requirement in requirements],
        "in episodes": [format_count(requirement.episodes) for requirement in requirements],
    }
    low, high = clips[0].sizes
    heading = (
        f"Other clips, by episodes that share some: clips of each class that it takes; there are "
        f"{format_clip_range(low, high)}"
    )
    return [heading, "", *align_columns(columns, {"row", "against"})]


_WIDTH = 100


def render_plan(
    title: str,
    targets: PlanTargets,
    rows: Sequence[RowPlan],
    pairs: Sequence[ComparisonPlan],
    clips: Sequence[DisjointClipPlan],
    *,
    way: int | str,
    query: int | None,
    remarks: Sequence[str],
) -> str:
    """Format the plan as plain text.

    Args:
        title: what the plan is based on.
        targets: the precision to reach.
        rows: at least one.
        pairs: may be empty.
        clips: one for each shot, or none.
        way: classes of an episode.
        query: planned query clips per class; None where the pilot's differ.
        remarks: further sentences.
    """
    answer_lines = [
        bullet_line
        for sentence in answer_sentences(rows, pairs, clips, targets, query)
        for bullet_line in _bullet(sentence)
    ]
    lines = [*wrap_notes([title]), "", *answer_lines, "", *row_table(rows, targets)]
    if pairs:
        lines += ["", *comparison_table(pairs, targets)]
    if clips:
        lines += ["", *requirement_table(clips), "", *clip_table(clips, targets)]
    note_sentences = [
        *_row_notes(rows, targets, way, query),
        *_comparison_notes(pairs, targets),
        *_clip_notes(clips, targets),
        *_assumption_notes(rows, pairs, clips),
        *remarks,
    ]
    note_lines = [bullet_line for sentence in note_sentences for bullet_line in _bullet(sentence)]
    return "\n".join([*lines, "", "How to read it, and what is assumed", "", *note_lines])


def _bullet(text: str) -> list[str]:
    return textwrap.wrap(
        text, _WIDTH, initial_indent="- ", subsequent_indent="  ", break_on_hyphens=False
    )


def _query_phrase(count: int) -> str:
    return f"{count} query clip{'' if count == 1 else 's'} per class"


def _row_notes(
    rows: Sequence[RowPlan], targets: PlanTargets, way: int | str, query: int | None
) -> Iterator[str]:
    from fewshot_i2v.statistics.sample_size import episodes_for_half_width

    yield (
        "s.d.: standard deviation over episodes. by queries: share of its square that is chance of "
        "the queries, and that more query clips take away."
    )
    pilot_episodes = min((row.found.episodes for row in rows if row.now is not None), default=0)
    if pilot_episodes:
        yield (
            f"may be: what {pilot_episodes} episodes can tell of the spread, "
            f"{format_level(targets)}; a longer pilot narrows it."
        )
    if any(row.shows_no_spread for row in rows):
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
    row = max(rows, key=lambda candidate: candidate.deviation)
    if row.shows_no_spread:
        return
    bound_distance = max(row.found.mean, 1 - row.found.mean)
    n_episodes = episodes_for_half_width(
        row.found.deviation(2 * query * way),
        targets.half_width,
        targets.level,
        max_distance=bound_distance,
    )
    yield (
        f"With {_query_phrase(2 * query)} instead of {query}, {row.name} ({row.shot}-shot) needs "
        f"{n_episodes:,} episodes in place of {row.episodes:,}."
    )


def _comparison_notes(pairs: Sequence[ComparisonPlan], targets: PlanTargets) -> Iterator[str]:
    if any(pair.visible is not None for pair in pairs):
        yield "seen so far: the smallest true difference that the pilot would mostly find."
    if sum(pair.episodes is not None for pair in pairs) > 1:
        yield (
            f"all {len(pairs)} judged: found although {len(pairs)} comparisons are tested, each at "
            f"1/{len(pairs)} of {100 - 100 * targets.level:g} %; Holm's correction in `compare` "
            "asks no more."
        )
    if any(pair.alike for pair in pairs):
        yield (
            f"Where two rows hardly differ in the pilot, s.d. is the least of two that differ by "
            f"{format_points(targets.difference)}."
        )
    unplanned = [pair for pair in pairs if pair.found is None]
    if unplanned:
        names = ", ".join(f"{pair.name} ({pair.shot}-shot)" for pair in unplanned)
        yield (
            f"No plan for {names}: too few episodes in which they differ from "
            f"{unplanned[0].against}, so how much they do cannot be told yet. A longer pilot shows "
            "it."
        )


def _clip_notes(clips: Sequence[DisjointClipPlan], targets: PlanTargets) -> Iterator[str]:
    if not clips:
        return
    yield (
        f"left: the half-width, or the difference found in {100 * targets.power:g} % of runs, that "
        "these clips leave however many the episodes. clips, in episodes: what it takes together."
    )
    yield (
        "Episodes that share no clip need no such estimate, but use each clip once, so they take "
        "more clips; query: with how many query clips."
    )
    yield from filter(None, (_disjoint_note(plan, targets) for plan in clips))
    best_queries = [f"{_format_best_query(plan.star)} at {plan.shot}-shot" for plan in clips]
    yield (
        f"Query clips per class that make the most of clips used once: {', '.join(best_queries)}; "
        "the square root of w · shot / (way · b), w the variance of a query and b what all queries "
        "of an episode have in common."
    )


def _assumption_notes(
    rows: Sequence[RowPlan], pairs: Sequence[ComparisonPlan], clips: Sequence[DisjointClipPlan]
) -> Iterator[str]:
    has_pilot = any(row.now is not None for row in rows)
    spread_phrase = (
        "later episodes spread as those of the pilot do" if has_pilot else "the spread named above"
    )
    paired_note = "; rows are compared on the same episodes" if pairs else ""
    yield f"Assumed: {spread_phrase}, and means over episodes are about normal{paired_note}."
    if clips:
        yield (
            "Assumed: other clips of the same classes, drawn as these were; twice the clips leave "
            "half the variance. Clips cut from one recording count as less than one each. New "
            "classes and another training are covered by no number of clips."
        )
    if any(requirement.most for plan in clips for requirement in plan.needs):
        yield (
            "<=, at most: rows and comparisons of which too few clips were in several episodes to "
            "tell how much clips matter; it is no more than (way · shot · b + w) / (classes · "
            "clips)."
        )


def _format_best_query(value: float) -> str:
    return "as many as there are" if isinf(value) else f"{value:.1f}"


def _disjoint_note(plan: DisjointClipPlan, targets: PlanTargets) -> str | None:
    if plan.best is None:
        return (
            f"{plan.shot}-shot: these clips do not allow two episodes that share none; "
            f"{plan.needed:,} clips of each class would give ± {format_points(targets.half_width)}."
        )
    if plan.pair is None or plan.visible is None:
        return None
    episodes = (
        f"{plan.best.episodes:,} episodes of {_query_phrase(plan.best.query)} that share no clip"
    )
    visible_phrase = (
        "show no difference that there can be"
        if plan.visible > 0.5
        else f"mostly show differences of {format_points(plan.visible)} or more"
    )
    return f"{plan.shot}-shot: {episodes} {visible_phrase} ({' against '.join(plan.pair)})."
