"""The text output of `fewshot-i2v plan`: tables, and sentences that explain them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from math import isinf

from fewshot_i2v.report.plan.clip_plan import ClipRequirement, DisjointClipPlan
from fewshot_i2v.report.plan.episode_plan import ComparisonPlan, CountRange, RowPlan
from fewshot_i2v.report.plan.sample_size_plan import SampleSizePlan
from fewshot_i2v.report.tables.interval_text import EMPTY
from fewshot_i2v.report.tables.table import LEFT_COLUMNS
from fewshot_i2v.statistics.sample_size import DisjointPlan, episodes_for_half_width
from fewshot_i2v.utils.text_table import (
    WIDTH,
    align_columns,
    bullet_lines,
    count_text,
    wrap_notes,
)


def render_plan(plan: SampleSizePlan) -> str:
    """Format the plan as plain text: the answer, the tables, and how to read them."""
    tables = [_row_table(plan)]
    if plan.pairs:
        tables.append(_comparison_table(plan))
    if plan.clips:
        tables += [_requirement_table(plan.clips), _clip_table(plan)]
    notes = [
        *_row_notes(plan),
        *_comparison_notes(plan),
        *_clip_notes(plan),
        *_assumption_notes(plan),
        *plan.remarks,
    ]
    lines = [*wrap_notes([plan.title]), "", *bullet_lines(_answer_sentences(plan))]
    for heading, columns in tables:
        lines += ["", *wrap_notes([heading]), "", *align_columns(columns, LEFT_COLUMNS, WIDTH)]
    return "\n".join([*lines, "", "How to read it, and what is assumed", "", *bullet_lines(notes)])


def _answer_sentences(plan: SampleSizePlan) -> Iterator[str]:
    """Say how many episodes and clips, a sentence or two per question."""
    yield _accuracy_sentence(plan)
    planned_pairs = [pair for pair in plan.pairs if pair.episodes is not None]
    if planned_pairs:
        yield _difference_sentence(planned_pairs, plan)
    requirements = list(chain.from_iterable(clips.needs for clips in plan.clips))
    row_requirements = [need for need in requirements if need.against is None]
    if row_requirements:
        yield _other_clips_sentence(_largest_requirement(row_requirements), plan)
    pair_requirements = [need for need in requirements if need.against is not None]
    if pair_requirements:
        yield _clip_difference_sentence(_largest_requirement(pair_requirements), plan)


def _largest_requirement(requirements: Iterable[ClipRequirement]) -> ClipRequirement:
    """The requirement of most clips, among those from the pilot if there are any."""
    return max(requirements, key=lambda requirement: (not requirement.most, requirement.clips))


def _accuracy_sentence(plan: SampleSizePlan) -> str:
    n_episodes, half_width = max(row.episodes for row in plan.rows), plan.targets.half_width
    n_until = max(row.until for row in plan.rows)
    query_phrase = "" if plan.query is None else f" of {_query_phrase(plan.query)}"
    reason = "it stops by what it has seen so far, so it needs a margin for what it has not seen"
    if n_until < n_episodes:
        reason = "where all episodes are alike, its margin is for a single one that is not"
    sentence = (
        f"Accuracy to ± {_points(half_width)}: {count_text(n_episodes, 'episode')}{query_phrase}, "
        f"for {'every row' if len(plan.rows) > 1 else 'the row'} (--episodes {n_episodes}). "
        f"--until {_points_value(half_width)} draws about {n_until:,}: {reason}."
    )
    max_episodes = {
        row: row.between[1] for row in plan.rows if row.shows_no_spread and row.between is not None
    }
    if not max_episodes:
        return sentence
    widest = max(max_episodes, key=lambda row: row.between or (0, 0))
    more_note = f" and {len(max_episodes) - 1} more" if len(max_episodes) > 1 else ""
    return (
        f"{sentence} WARNING: {widest.name} ({widest.shot}-shot){more_note} did the same in every "
        "episode of the pilot, which does not say how they spread: it may take up to "
        f"{max_episodes[widest]:,} episodes."
    )


def _difference_sentence(planned: Sequence[ComparisonPlan], plan: SampleSizePlan) -> str:
    pair = max(planned, key=lambda pair: pair.episodes or 0)
    sentence = (
        f"A difference of {_points(plan.targets.difference)} on these clips: {pair.episodes:,} "
        f"episodes show it in {100 * plan.targets.power:g} % of runs if it is there"
    )
    if pair.comparisons > 1:
        n_together = max(p.together or 0 for p in planned)
        sentence += f", {n_together:,} where all comparisons are judged together, as `compare` does"
    if len(planned) > 1:
        sentence += (
            f". The one that varies most is {pair.name} against {pair.against}, {pair.shot}-shot"
        )
    elif len(plan.pairs) > 1:
        sentence += f". That is {pair.name} against {pair.against}, {pair.shot}-shot"
    return f"{sentence}."


def _other_clips_sentence(requirement: ClipRequirement, plan: SampleSizePlan) -> str:
    sizes = plan.clips[0].sizes
    half_width = (
        "± 50 points or more" if requirement.left >= 0.5 else f"± {_points(requirement.left)}"
    )
    half_width = f"at most {half_width}" if requirement.most else half_width
    return (
        "All of that holds for these clips only. Other clips of the same classes: however many "
        f"the episodes, the {_clip_range(sizes)} clips of each class leave {half_width} "
        f"({requirement.name}, {requirement.shot}-shot). To ± {_points(plan.targets.half_width)} "
        f"it takes {_requirement_phrase(requirement)}. {_clip_verdict(requirement, sizes)}"
    )


def _clip_difference_sentence(requirement: ClipRequirement, plan: SampleSizePlan) -> str:
    sizes = plan.clips[0].sizes
    visible_phrase = (
        "no difference can be counted on to show"
        if requirement.left >= 0.5
        else f"differences of {_points(requirement.left)} mostly show"
    )
    return (
        f"A difference of {_points(plan.targets.difference)} on other clips of these classes, all "
        f"comparisons judged together ({requirement.name} against {requirement.against}, "
        f"{requirement.shot}-shot): it takes {_requirement_phrase(requirement)}. With the "
        f"{_clip_range(sizes)} there are, {visible_phrase}. {_clip_verdict(requirement, sizes)}"
    )


def _requirement_phrase(requirement: ClipRequirement) -> str:
    range_note = ""
    if requirement.between is not None and len(set(requirement.between)) > 1:
        range_note = f" ({requirement.between[0]:,} to {requirement.between[1]:,})"
    return (
        f"{'at most' if requirement.most else 'about'} {requirement.clips:,} clips of each class"
        f"{range_note}, in {requirement.episodes:,} episodes"
    )


def _clip_verdict(requirement: ClipRequirement, sizes: CountRange) -> str:
    if requirement.clips <= sizes[0]:
        return "There are enough."
    if requirement.most:
        return (
            "WARNING: there are not that many. A pilot of some hundred episodes tells if fewer do."
        )
    if requirement.between is not None and requirement.between[0] <= sizes[0]:
        return "WARNING: there may be too few clips; a longer pilot tells more."
    return "WARNING: there are too few clips, and more episodes do not help."


def _points(share: float) -> str:
    """A share in points, such as "1 point" or "0.25 points"; three digits."""
    text = _points_value(share)
    return f"{text} point" if text == "1" else f"{text} points"


def _points_value(share: float) -> str:
    return f"{100 * share:.3g}"


def _clip_range(sizes: CountRange) -> str:
    low, high = sizes
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _query_phrase(count: int) -> str:
    return f"{count_text(count, 'query clip')} per class"


def _level(plan: SampleSizePlan) -> str:
    return f"{100 * plan.targets.level:g} %"


# the cells of the tables; a dash where there is no value


def _share_cell(share: float | None) -> str:
    return EMPTY if share is None else f"{100 * share:.2f}"


def _half_width_cell(half_width: float) -> str:
    return ">50" if half_width > 0.5 else _share_cell(half_width)


def _range_cell(between: CountRange | None) -> str:
    if between is None:
        return EMPTY
    low, high = between
    return f"{low:,}" if low == high else f"{low:,}-{high:,}"


def _count_cell(count: int | None) -> str:
    return EMPTY if count is None else f"{count:,}"


_HeadedColumns = tuple[str, dict[str, list[str]]]


def _row_table(plan: SampleSizePlan) -> _HeadedColumns:
    """The episodes of each row."""
    rows = plan.rows
    columns = {
        "row": [row.name for row in rows],
        "shot": [str(row.shot) for row in rows],
        "accuracy %": [_share_cell(row.found.mean) for row in rows],
        "s.d.": [_share_cell(row.deviation) for row in rows],
        "queries": [f"{100 * row.query_share:.0f} %" for row in rows],
        "± now": [_share_cell(row.now) for row in rows],
        "episodes": [_count_cell(row.episodes) for row in rows],
        "may be": [_range_cell(row.between) for row in rows],
    }
    if all(row.now is None for row in rows):
        del columns["± now"], columns["may be"]
    return f"Each row to ± {_points(plan.targets.half_width)} ({_level(plan)})", columns


def _comparison_table(plan: SampleSizePlan) -> _HeadedColumns:
    """The episodes of each comparison."""
    pairs = plan.pairs
    columns = {
        "row": [pair.name for pair in pairs],
        "against": [pair.against for pair in pairs],
        "shot": [str(pair.shot) for pair in pairs],
        "gain": [EMPTY if p.gain is None else f"{100 * p.gain:+z.2f}" for p in pairs],
        "differ": [f"{pair.differ}/{pair.common}" for pair in pairs],
        "s.d.": [_share_cell(pair.deviation) for pair in pairs],
        "visible": [_share_cell(pair.visible) for pair in pairs],
        "episodes": [_count_cell(pair.episodes) for pair in pairs],
        "may be": [_range_cell(pair.between) for pair in pairs],
    }
    if all(pair.gain is None for pair in pairs):
        for heading in ("gain", "differ", "visible", "may be"):
            del columns[heading]
    if len(pairs) > 1:
        columns[f"all {len(pairs)}"] = [_count_cell(pair.together) for pair in pairs]
    heading = (
        f"A difference of {_points(plan.targets.difference)} on these clips, shown in "
        f"{100 * plan.targets.power:g} % of runs ({_level(plan)})"
    )
    if len(set(columns["against"])) > 1:
        del columns["s.d."]  # two columns of names need its room; the episodes follow from it
    else:
        heading += f", against {columns.pop('against')[0]}"
    return heading, columns


def _clip_table(plan: SampleSizePlan) -> _HeadedColumns:
    """Disjoint episodes, a column for each shot: their precision, and the clips needed."""
    columns = {
        "": [
            *("query clips per class", "  episodes", "  ±"),
            *("best number of query clips", "  episodes", "  ±"),
            f"clips of each class for ± {_points_value(plan.targets.half_width)}",
            *("  in episodes", "  of query clips per class"),
        ]
    }
    for clips in plan.clips:
        columns[f"{clips.shot}-shot"] = [
            *_disjoint_cells(clips.asked),
            *_disjoint_cells(clips.best),
            f"{clips.needed:,}",
            f"{clips.use.episodes:,}",
            str(clips.use.query),
        ]
    first = plan.clips[0]
    heading = (
        "Other clips, by episodes that share none (--sampling disjoint): "
        f"{first.classes} classes with {_clip_range(first.sizes)} clips"
    )
    return heading, columns


def _disjoint_cells(plan: DisjointPlan | None) -> tuple[str, str, str]:
    if plan is None:
        return EMPTY, EMPTY, EMPTY
    return str(plan.query), f"{plan.episodes:,}", _half_width_cell(plan.half_width)


def _requirement_table(clips: Sequence[DisjointClipPlan]) -> _HeadedColumns:
    """The row and the comparison of each shot that need most clips."""
    needs = []
    for plan in clips:
        row_needs = [need for need in plan.needs if need.against is None]
        pair_needs = [need for need in plan.needs if need.against is not None]
        needs += [_largest_requirement(group) for group in (row_needs, pair_needs) if group]
    bounds = {need: "<= " if need.most else "" for need in needs}
    columns = {
        "row": [need.name for need in needs],
        "against": [need.against or EMPTY for need in needs],
        "shot": [str(need.shot) for need in needs],
        "left": [bounds[need] + _half_width_cell(need.left) for need in needs],
        "clips": [f"{bounds[need]}{need.clips:,}" for need in needs],
        "may be": [_range_cell(need.between) for need in needs],
        "in episodes": [f"{need.episodes:,}" for need in needs],
    }
    heading = (
        "Other clips, by episodes that share some: clips of each class that it takes; there are "
        f"{_clip_range(clips[0].sizes)}"
    )
    return heading, columns


def _row_notes(plan: SampleSizePlan) -> Iterator[str]:
    rows = plan.rows
    yield (
        "s.d.: standard deviation over episodes. queries: share of its square that is chance of "
        "the queries, and that more query clips take away."
    )
    pilot_episodes = min((row.found.episodes for row in rows if row.now is not None), default=0)
    if pilot_episodes:
        yield (
            f"may be: what {pilot_episodes} episodes can tell of the spread, {_level(plan)}; a "
            "longer pilot narrows it."
        )
    if any(row.shows_no_spread for row in rows):
        yield (
            "Where all episodes of the pilot are alike, ± now and the upper end of may be are "
            "the most that so many equal accuracies leave open."
        )
    if any(not row.found.per_class for row in rows):
        yield (
            "With one query clip per class, what classes and support clips add to the spread "
            "cannot be told from what queries add: its share is too large, and so is the best "
            "query count. A pilot of 2 or more query clips tells them apart."
        )
    widest = max(rows, key=lambda row: row.deviation)
    if plan.query is not None and isinstance(plan.way, int) and not widest.shows_no_spread:
        yield _twice_the_queries_note(widest, plan, plan.query, plan.way)


def _twice_the_queries_note(row: RowPlan, plan: SampleSizePlan, query: int, way: int) -> str:
    n_episodes = episodes_for_half_width(
        row.found.episode_deviation(2 * query * way), plan.targets.half_width, plan.targets.level
    )
    return (
        f"With {_query_phrase(2 * query)} instead of {query}, {row.name} ({row.shot}-shot) needs "
        f"{n_episodes:,} episodes instead of {row.episodes:,}."
    )


def _comparison_notes(plan: SampleSizePlan) -> Iterator[str]:
    pairs = plan.pairs
    if any(pair.visible is not None for pair in pairs):
        together = ", all comparisons judged together" if len(pairs) > 1 else ""
        yield (
            "visible: the smallest true difference that the pilot would mostly find, as `compare` "
            f"says{together}."
        )
    if len(pairs) > 1 and any(pair.episodes is not None for pair in pairs):
        yield (
            f"all {len(pairs)}: shown although {len(pairs)} comparisons are tested, each at "
            f"1/{len(pairs)} of {100 - 100 * plan.targets.level:g} %; Holm's correction in "
            "`compare` asks no more."
        )
    if any(pair.alike for pair in pairs):
        yield (
            "Where two rows hardly differ in the pilot, s.d. is the least of two that differ by "
            f"{_points(plan.targets.difference)}."
        )
    unplanned = [pair for pair in pairs if pair.found is None]
    if unplanned:
        names = ", ".join(
            f"{pair.name} ({pair.shot}-shot, {pair.differ} of {pair.common} episodes)"
            for pair in unplanned
        )
        yield (
            f"No plan for {names}: too few episodes in which they differ from "
            f"{unplanned[0].against}, so how much they do cannot be told yet. A longer pilot shows "
            "it."
        )


def _clip_notes(plan: SampleSizePlan) -> Iterator[str]:
    if not plan.clips:
        return
    yield (
        f"left: the half-width, or the difference shown in {100 * plan.targets.power:g} % of runs, "
        "that these clips leave however many the episodes. clips, in episodes: what it takes "
        "together."
    )
    yield (
        "Episodes that share no clip need no such estimate, but use each clip once, so they take "
        "more clips; query: with how many query clips."
    )
    for clip_plan in plan.clips:
        if clip_plan.best is None:
            yield (
                f"{clip_plan.shot}-shot: these clips do not allow two episodes that share none; "
                f"{clip_plan.needed:,} clips of each class would give ± "
                f"{_points(plan.targets.half_width)}."
            )
        elif clip_plan.pair is not None and clip_plan.visible is not None:
            visible_phrase = (
                "show no difference that there can be"
                if clip_plan.visible > 0.5
                else f"mostly show differences of {_points(clip_plan.visible)} or more"
            )
            yield (
                f"{clip_plan.shot}-shot: {clip_plan.best.episodes:,} episodes of "
                f"{_query_phrase(clip_plan.best.query)} that share no clip {visible_phrase} "
                f"({' against '.join(clip_plan.pair)})."
            )
    best_queries = ", ".join(
        f"{'as many as there are' if isinf(p.star) else f'{p.star:.1f}'} at {p.shot}-shot"
        for p in plan.clips
    )
    yield (
        f"Query clips per class that make the most of clips used once: {best_queries}; the square "
        "root of w · shot / (way · b), w the variance of a query and b what all queries of an "
        "episode have in common."
    )


def _assumption_notes(plan: SampleSizePlan) -> Iterator[str]:
    has_pilot = any(row.now is not None for row in plan.rows)
    spread_phrase = (
        "later episodes spread as those of the pilot do" if has_pilot else "the spread named above"
    )
    paired_note = "; rows are compared on the same episodes" if plan.pairs else ""
    yield f"Assumed: {spread_phrase}, and means over episodes are about normal{paired_note}."
    if plan.clips:
        yield (
            "Assumed: other clips of the same classes, drawn as these were; twice the clips leave "
            "half the variance. Clips cut from one recording count as less than one each. New "
            "classes and another training are covered by no number of clips."
        )
    if any(requirement.most for clip_plan in plan.clips for requirement in clip_plan.needs):
        yield (
            "<=, at most: rows and comparisons of which too few clips were in several episodes to "
            "tell how much clips matter; it is no more than (way · shot · b + w) / (classes · "
            "clips)."
        )
