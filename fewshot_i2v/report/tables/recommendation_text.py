"""Which adapter to use, in a plain sentence, and what would change that."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence

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
from fewshot_i2v.utils.text_table import count_text, join_with_and


def section_recommendation(section: ReportSection) -> list[str]:
    """Say which row of a section to use, as `recommendation_sentences`."""
    rows = section.summaries
    sentences = recommendation_sentences(section.recommendations, RowPhrases.of(rows))
    n_excluded = sum(row.seen for row in rows)
    if n_excluded and section.recommendations:
        counted = count_text(n_excluded, "row")
        sentences.append(f"Not considered: {counted} whose start saw these classes or clips.")
    sentences += repeat_notes(rows)
    if any(row.toy_encoder for row in rows):
        sentences.insert(0, f"{TOY_ENCODER_NOTE} Add {TOY_ENCODER_ADVICE}.")
    return [*incomplete_notes(rows), *sentences]


def recommendation_sentences(
    recommendations: Sequence[Recommendation], phrases: RowPhrases
) -> list[str]:
    """Say which row to use, at which numbers of shots, and what would change that.

    It takes two sentences for each row that is recommended.
    """
    if not recommendations:
        return ["No row can be recommended: none has an episode, or all saw these classes before."]
    groups: dict[Hashable, list[Recommendation]] = defaultdict(list)
    for recommendation in recommendations:
        groups[phrases.key(recommendation.row)].append(recommendation)
    return [
        sentence
        for group in groups.values()
        for sentence in (_use_sentence(group, phrases), _change_sentence(group, phrases))
    ]


def _use_sentence(group: Sequence[Recommendation], phrases: RowPhrases) -> str:
    first = group[0]
    row, name = phrases.rows[first.row], phrases.join([first.row])
    shots = join_with_and([shots_text(r.decision.shot) for r in group])
    if first.decision.baseline is None:
        return (
            f"Use {name} at {shots}, the highest of the rows: whether it gains anything over the "
            "frozen encoder is not known (add --adapter frozen)."
        )
    if first.gain is None:
        return _without_training_sentence(group, phrases)
    gains = [_gain_text(r) for r in group]
    gains[0] = gains[0].replace(" at ", " points at ", 1)
    return (
        f"Use {name}{_choice_text(group)}: it beats {phrases.baseline(first.decision)} "
        f"{join_with_and(gains)}, {_cost_text(row)}."
    )


def _choice_text(group: Sequence[Recommendation]) -> str:
    """Why a row is recommended that is not the highest; empty for the highest."""
    if all(r.row == r.decision.best.row for r in group):
        return ""
    return ", the cheapest of the rows that cannot be told apart"


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


def _without_training_sentence(group: Sequence[Recommendation], phrases: RowPhrases) -> str:
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
            f"Use {name} at {shots}, for now: so few episodes allow no verdict on an adapter; it "
            f"takes at least {n_needed}."
        )
    nearest = max(gains, key=lambda gain: gain.difference.mean)
    ends = format_ends(nearest.difference)
    size = f"{format_signed(nearest.difference.mean)} points{f' {ends}' if ends else ''}"
    return (
        f"Use {name} at {shots}, without training: no adapter is shown to beat it; the nearest, "
        f"{phrases.join([nearest.row])}, is at {size}."
    )


def _change_sentence(group: Sequence[Recommendation], phrases: RowPhrases) -> str:
    """What would change a recommendation: more episodes, other clips."""
    other_clips = _other_clips_text([r for r in group if r.gain is not None])
    hardest = max(group, key=lambda r: (bool(r.rivals), r.episodes or 0))
    if not hardest.rivals:
        clauses = ["More episodes of these clips would not change that", other_clips]
        return f"{'; '.join(filter(None, clauses))}."
    rivals = list(dict.fromkeys(i for r in group for i in r.rivals[:NAMED_RIVALS]))
    names = _distinct_names([*rivals, *(r.row for r in group)], phrases)
    clauses = [
        f"{phrases.join(rivals)} {_rival_text(hardest)}{_costs_text(rivals, names, phrases)}"
    ]
    clauses += _episodes_texts(hardest, names, phrases)
    return f"What would change that: {'; '.join(filter(None, [*clauses, other_clips]))}."


def _distinct_names(positions: Sequence[int], phrases: RowPhrases) -> dict[int, str]:
    """Names of rows by position: without the kind of start where they differ without it."""
    short = {i: phrases.name(i) for i in positions}
    n_rows = len({phrases.key(i) for i in positions})
    if len(set(short.values())) == n_rows:
        return short
    return {i: phrases.join([i]) for i in positions}


def _costs_text(rivals: Sequence[int], names: Mapping[int, str], phrases: RowPhrases) -> str:
    """What each of the rows costs, behind their names; a row at several shots counts once."""
    costs: dict[str, str] = {}
    for i in rivals:
        costs.setdefault(names[i], _cost_text(phrases.rows[i]))
    if len(costs) == 1:
        return f", {next(iter(costs.values()))}"
    return f": {', '.join(f'{name} {cost}' for name, cost in costs.items())}"


def _rival_text(recommendation: Recommendation) -> str:
    """What is known of the first rival: how much higher it is than a row without training."""
    gains = {gain.row: gain for gain in recommendation.decision.gains}
    gain = gains.get(recommendation.rivals[0])
    if recommendation.gain is not None or gain is None or gain.difference.mean < NOTABLE_DIFFERENCE:
        return "may be as good"
    return f"may be better ({format_signed(gain.difference.mean)} points so far)"


def _episodes_texts(
    recommendation: Recommendation, names: Mapping[int, str], phrases: RowPhrases
) -> list[str]:
    """How many episodes would tell a row and its rivals apart, or why that is not known."""
    row, n_needed = names[recommendation.row], recommendation.episodes
    n_run = phrases.rows[recommendation.row].episodes
    untold = [
        (names[i], f" in {spread.n_differing} of {spread.episodes} episodes")
        for i, spread in recommendation.untold.items()
    ]
    texts = []
    if untold:
        (first, count), *others = untold
        parts = [f"{first} differs from {row}{count}", *map("".join, others)]
        texts.append(f"{join_with_and(parts)}: too few to say how many it takes")
    size = f"a difference of {100 * NOTABLE_DIFFERENCE:g} points"
    if recommendation.told is not None and len(recommendation.rivals) > 1:
        size += f" between {names[recommendation.told]} and {row}"
    usual = recommendation.next_episodes == USUAL_EPISODES != n_needed
    if n_needed is not None and n_needed <= n_run:
        texts.append(f"{size} would mostly have shown in these {n_run} episodes")
    elif n_needed is not None and not usual:
        texts.append(f"about {n_needed:,} episodes would show {size} (--episodes {n_needed})")
    if usual:
        texts.append(f"{USUAL_EPISODES} episodes tell more (--episodes {USUAL_EPISODES})")
    return texts


def _other_clips_text(group: Sequence[Recommendation]) -> str:
    """What the gains say of other clips of these classes."""
    gains = [r.gain for r in group if r.gain is not None]
    if not gains:
        return ""
    if all(gain.decision.holds_on_other_clips for gain in gains):
        return "the gain holds on other clips of these classes, too"
    if all(gain.other_clips is None for gain in gains):
        return ""
    ends = [format_ends(gain.other_clips) for gain in gains if gain.other_clips is not None]
    known = [text for text in ends if text]
    if len(known) < len(gains):
        return "other clips: what they would show is not known, 30 episodes or more tell"
    return f"other clips: the gain may be another, {join_with_and(known)}"
