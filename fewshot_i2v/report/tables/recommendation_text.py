"""Which adapter to use, in a sentence or two, and a list of what would change that."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from fewshot_i2v.report.analysis.recommendation import (
    NAMED_RIVALS,
    NOTABLE_DIFFERENCE,
    USUAL_EPISODES,
    Recommendation,
)
from fewshot_i2v.report.analysis.report_data import ReportSection
from fewshot_i2v.report.tables.decision_text import RowPhrases
from fewshot_i2v.report.tables.interval_text import format_ends, format_signed
from fewshot_i2v.report.tables.table_notes import (
    TOY_ENCODER_NOTE,
    incomplete_notes,
    repeat_notes,
    shots_text,
)
from fewshot_i2v.runs.row_summary import TOY_ENCODER_ADVICE, RowSummary
from fewshot_i2v.statistics.sample_size import fewest_decisive_episodes
from fewshot_i2v.utils.text_table import bullet_lines, count_text, join_with_and, wrap_notes

_CHANGE_HEADING = "What would change that:"


@dataclass(frozen=True)
class Paragraph:
    """A paragraph of a recommendation.

    Attributes:
        text: one or several sentences, or the heading of the points.
        points: a sentence each, shown as a list below the text; mostly none.
    """

    text: str
    points: tuple[str, ...] = ()


def paragraph_lines(paragraphs: Iterable[Paragraph]) -> list[str]:
    """Format paragraphs as lines of a terminal, their points as "- " lists."""
    return [
        line
        for paragraph in paragraphs
        for line in [*wrap_notes([paragraph.text]), *bullet_lines(paragraph.points)]
    ]


def paragraph_sentences(paragraphs: Iterable[Paragraph]) -> list[str]:
    """List the texts of paragraphs and their points, for JSON."""
    return [text for paragraph in paragraphs for text in (paragraph.text, *paragraph.points)]


def section_recommendation(section: ReportSection) -> list[Paragraph]:
    """Say which row of a section to use, as `recommendation_paragraphs`, between its warnings."""
    rows = section.summaries
    notes = incomplete_notes(rows)
    if any(row.toy_encoder for row in rows):
        notes.append(f"{TOY_ENCODER_NOTE} Add {TOY_ENCODER_ADVICE}.")
    further = repeat_notes(rows)
    n_excluded = sum(row.seen for row in rows)
    if n_excluded and section.recommendations:
        counted = count_text(n_excluded, "row")
        further.insert(0, f"Not considered: {counted} whose start saw these classes or clips.")
    paragraphs = recommendation_paragraphs(section.recommendations, RowPhrases.of(rows))
    return [*map(Paragraph, notes), *paragraphs, *map(Paragraph, further)]


def recommendation_paragraphs(
    recommendations: Sequence[Recommendation], phrases: RowPhrases
) -> list[Paragraph]:
    """Say which row to use, at which numbers of shots, and what would change that.

    It takes two paragraphs for each row that is recommended; the second one is a list.
    """
    if not recommendations:
        text = "No row can be recommended: none has an episode, or all saw these classes before."
        return [Paragraph(text)]
    groups: dict[Hashable, list[Recommendation]] = defaultdict(list)
    for recommendation in recommendations:
        groups[phrases.key(recommendation.row)].append(recommendation)
    return [
        paragraph
        for group in groups.values()
        for paragraph in (
            Paragraph(_use_text(group, phrases)),
            Paragraph(_CHANGE_HEADING, tuple(_change_points(group, phrases))),
        )
    ]


def _use_text(group: Sequence[Recommendation], phrases: RowPhrases) -> str:
    first = group[0]
    row, name = phrases.rows[first.row], phrases.join([first.row])
    shots = join_with_and([shots_text(r.decision.shot) for r in group])
    if first.decision.baseline is None:
        return (
            f"Use {name} at {shots}, the highest of the rows: whether it gains anything over the "
            "frozen encoder is not known (add --adapter frozen)."
        )
    if first.gain is None:
        return _without_training_text(group, phrases)
    gains = [_gain_text(r) for r in group]
    gains[0] = gains[0].replace(" at ", " points at ", 1)
    return (
        f"Use {name}: it beats {phrases.baseline(first.decision)} {join_with_and(gains)}, "
        f"{_cost_text(row)}.{_choice_text(group)}"
    )


def _choice_text(group: Sequence[Recommendation]) -> str:
    """Why a row is recommended that is not the highest; empty for the highest."""
    if all(r.row == r.decision.best.row for r in group):
        return ""
    return " It is the cheapest of the rows that cannot be told apart."


def _gain_text(recommendation: Recommendation) -> str:
    if recommendation.gain is None:
        raise ValueError("a row that gains nothing; expected one with a verdict")
    gain, shots = recommendation.gain, shots_text(recommendation.decision.shot)
    ends = format_ends(gain.difference)
    return f"by {100 * gain.difference.mean:.1f}{f' {ends}' if ends else ''} at {shots}"


def _cost_text(row: RowSummary) -> str:
    """Trained parameters and time of an episode."""
    cost = f"with {count_text(row.tuned_parameters, 'trained parameter')}"
    if row.is_untuned:
        cost = "without fine-tuning"
    if not row.seconds_per_episode:
        return cost
    return f"{cost} and {'with ' * row.is_untuned}{row.seconds_per_episode:.2g} s an episode"


def _without_training_text(group: Sequence[Recommendation], phrases: RowPhrases) -> str:
    first = group[0]
    shots = join_with_and([shots_text(r.decision.shot) for r in group])
    name = phrases.join([first.row])
    if not any(r.decision.gains for r in group):
        return f"Use {name} at {shots}: no adapter was run beside it (add --adapter aim)."
    gains = [gain for r in group for gain in r.decision.gains]
    if all(gain.too_few for gain in gains):
        n_needed = fewest_decisive_episodes(
            comparisons=sum(len(r.decision.gains) * r.decision.n_baselines for r in group)
        )
        return (
            f"Use {name} at {shots}, for now: so few episodes allow no verdict on an adapter. It "
            f"takes at least {n_needed}."
        )
    nearest = max(gains, key=lambda gain: gain.difference.mean)
    ends = format_ends(nearest.difference)
    size = f"{format_signed(nearest.difference.mean)} points{f' {ends}' if ends else ''}"
    return (
        f"Use {name} at {shots}, without training: no adapter is shown to beat it. The nearest, "
        f"{phrases.join([nearest.row])}, is at {size}."
    )


def _change_points(group: Sequence[Recommendation], phrases: RowPhrases) -> list[str]:
    """What would change a recommendation, a sentence each: other rows, more episodes, clips."""
    other_clips = _other_clips_points([r for r in group if r.gain is not None])
    hardest = max(group, key=lambda r: (bool(r.rivals), r.episodes or 0))
    if not hardest.rivals:
        return ["More episodes of these clips would not change that.", *other_clips]
    named = [(i, r) for r in group for i in r.rivals[:NAMED_RIVALS]]
    # a row at several numbers of shots is one rival
    rivals: dict[Hashable, str] = {}
    for i, recommendation in named:
        rivals.setdefault(phrases.key(i), _rival_point(i, recommendation, phrases))
    names = _distinct_names([*(i for i, _ in named), *(r.row for r in group)], phrases)
    return [*rivals.values(), *_episodes_points(hardest, names, phrases), *other_clips]


def _distinct_names(positions: Sequence[int], phrases: RowPhrases) -> dict[int, str]:
    """Names of rows by position: without the kind of start where they differ without it."""
    short = {i: phrases.name(i) for i in positions}
    n_rows = len({phrases.key(i) for i in positions})
    if len(set(short.values())) == n_rows:
        return short
    return {i: phrases.join([i]) for i in positions}


def _rival_point(rival: int, recommendation: Recommendation, phrases: RowPhrases) -> str:
    """What is known of a row that may be as good, and what it costs."""
    gains = {gain.row: gain for gain in recommendation.decision.gains}
    gain, known = gains.get(rival), "may be as good"
    if recommendation.gain is None and gain and gain.difference.mean >= NOTABLE_DIFFERENCE:
        known = f"may be better ({format_signed(gain.difference.mean)} points so far)"
    return f"{phrases.join([rival])} {known}, {_cost_text(phrases.rows[rival])}."


def _episodes_points(
    recommendation: Recommendation, names: Mapping[int, str], phrases: RowPhrases
) -> list[str]:
    """How many episodes would tell a row and its rivals apart, or why that is not known."""
    row, n_needed = names[recommendation.row], recommendation.episodes
    n_run = phrases.rows[recommendation.row].episodes
    points = [
        f"{names[i]} differs from {row} in {spread.n_differing} of {spread.episodes} episodes: "
        "too few to say how many would tell them apart."
        for i, spread in recommendation.untold.items()
    ]
    size = f"difference of {100 * NOTABLE_DIFFERENCE:g} points"
    if recommendation.told is not None and len(recommendation.rivals) > 1:
        size += f" between {names[recommendation.told]} and {row}"
    usual = recommendation.next_episodes == USUAL_EPISODES != n_needed
    if n_needed is not None and n_needed <= n_run:
        points.append(f"A {size} would mostly have shown in these {n_run} episodes.")
    elif n_needed is not None and not usual:
        points.append(f"About {n_needed:,} episodes would show a {size} (--episodes {n_needed}).")
    if usual:
        points.append(f"{USUAL_EPISODES} episodes tell more (--episodes {USUAL_EPISODES}).")
    return points


def _other_clips_points(group: Sequence[Recommendation]) -> list[str]:
    """What the gains say of other clips of these classes, in a sentence; none where nothing."""
    gains = [r.gain for r in group if r.gain is not None]
    if not gains:
        return []
    if all(gain.decision.holds_on_other_clips for gain in gains):
        return ["The gain holds on other clips of these classes, too."]
    if all(gain.other_clips is None for gain in gains):
        return []
    ends = [format_ends(gain.other_clips) for gain in gains if gain.other_clips is not None]
    known = [text for text in ends if text]
    if len(known) < len(gains):
        return ["What other clips would show is not known: that takes 30 episodes or more."]
    return [f"On other clips the gain may be another: {join_with_and(known)} points."]
