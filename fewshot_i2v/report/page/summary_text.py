"""Summary of a table in plain words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from fewshot_i2v.report.analysis.report_data import ReportSection
from fewshot_i2v.report.analysis.significance import BestRow, GainVerdict
from fewshot_i2v.report.comparison.compare import (
    OTHER_CLIPS_OF_CLASSES,
    THESE_CLIPS,
    clips_clause,
    other_clips_clause,
)
from fewshot_i2v.report.page.labels import RowLabel, make_labels
from fewshot_i2v.runs.row_summary import RowSummary
from fewshot_i2v.statistics import Interval

_MAX_NAMED = 3


def join_names(names: Sequence[str]) -> str:
    """Join names for a sentence; many are cut short."""
    shown = list(names[:_MAX_NAMED])
    if len(names) > _MAX_NAMED + 1:
        return f"{', '.join(shown)} and {len(names) - _MAX_NAMED} more rows"
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def exclusion_sentences(
    shot: int | str,
    best: BestRow,
    rows: Sequence[RowSummary],
    labels: Sequence[RowLabel],
    frozen: Mapping[int, GainVerdict],
) -> list[str]:
    """Sentences that name the rows of a shot that are not ranked or not compared with frozen.

    Args:
        shot: the number of shots.
        best: its best row.
        rows: of the table.
        labels: their names.
        frozen: rows against the frozen encoder.
    """
    ranked = {best.row, *(verdict.row for verdict in best.verdicts)}
    causes: dict[str, list[str]] = {}
    for i, row in enumerate(rows):
        if row.shot == shot and i not in ranked:
            cause = _exclusion_cause(row, rank_names_separately=not rows[best.row].uses_names)
            cause = cause or f"no episode in common with {labels[best.row].full}"
            causes.setdefault(cause, []).append(labels[i].full)
    sentences = []
    if causes:
        clauses = [
            f"{join_names(names)}, {_cause_clause(cause, names)}" for cause, names in causes.items()
        ]
        sentences.append(f"Not ranked: {'; '.join(clauses)}.")
    unmatched = [
        labels[i].full for i in _not_compared_with_frozen(shot, rows, frozen) if i in ranked
    ]
    if unmatched:
        cause = _cause_clause("no episode in common with it", unmatched)
        sentences.append(f"Not compared with frozen: {join_names(unmatched)}, {cause}.")
    return sentences


def _exclusion_cause(row: RowSummary, *, rank_names_separately: bool) -> str:
    if not row.accuracies:
        return "of which no episode has succeeded"
    if row.seen:
        return "which saw what it is evaluated on"
    return "which read the class names" if row.uses_names and rank_names_separately else ""


def _cause_clause(cause: str, names: Sequence[str]) -> str:
    """Turn the cause into a clause behind one name or several."""
    plural = len(names) > 1
    if cause.startswith("no episode"):
        return f"which {'have' if plural else 'has'} {cause}"
    return cause.replace("it is", "they are") if plural else cause


def _not_compared_with_frozen(
    shot: int | str, rows: Sequence[RowSummary], frozen: Mapping[int, GainVerdict]
) -> Iterator[int]:
    """Positions of rows whose head and shot frozen has, but none of their episodes."""
    heads = {r.head for r in rows if r.is_frozen and r.shot == shot and r.accuracies}
    for i, row in enumerate(rows):
        comparable = row.shot == shot and row.head in heads and row.accuracies
        if comparable and not row.is_frozen and i not in frozen:
            yield i


_SINGLE_EPISODE_NOTE = (
    "A single episode says nothing of others: compare its rows clip by clip with "
    "`fewshot-i2v compare`."
)


def section_summary(section: ReportSection) -> list[str]:
    """Summarize a section's table as `summarize` does, using the answers to single clips."""
    rows = section.summaries
    return summarize(rows, make_labels(rows), *section.verdicts)


def summarize(
    rows: Sequence[RowSummary],
    labels: Sequence[RowLabel],
    frozen: Mapping[int, GainVerdict],
    best: Mapping[int | str, BestRow],
) -> list[str]:
    """Write one paragraph per number of shots: the best row, its gain, and the rows as good as it.

    Args:
        rows: of one table.
        labels: their names.
        frozen: rows against the frozen encoder.
        best: the best row of each number of shots.
    """
    if not any(row.accuracies for row in rows):
        return ["No episode has succeeded so far."]
    paragraphs = []
    for shot, best_of_shot in best.items():
        sentences = [
            _lead_sentence(best_of_shot, labels, frozen),
            *_other_rows_sentences(best_of_shot, rows, labels),
        ]
        sentences += _frozen_sentences(shot, best_of_shot, rows, labels, frozen)
        gain = frozen.get(best_of_shot.row)
        if any(
            _is_single_episode(verdict)
            for verdict in (*best_of_shot.verdicts, *([gain] if gain else []))
        ):
            sentences.append(_SINGLE_EPISODE_NOTE)
        sentences += exclusion_sentences(shot, best_of_shot, rows, labels, frozen)
        clips = "1 clip" if shot == 1 else f"{shot} clips"
        paragraphs.append(f"With {clips} per class: {' '.join(sentences)}")
    return paragraphs or [
        "Every row saw the classes or clips that it is evaluated on: none says how well new ones "
        "are learnt."
    ]


def adjustment_notes(
    frozen: Mapping[int, GainVerdict], best: Mapping[int | str, BestRow]
) -> list[str]:
    """Notes on what the verdicts of a table are adjusted for; none without verdicts."""
    notes = []
    if frozen:
        comparisons = _comparisons_text(len(frozen))
        notes.append(
            f"Verdicts against frozen are adjusted for the {comparisons} with it of this table "
            "(Holm)."
        )
    pairs = [best_row.n_pairs for best_row in best.values() if best_row.verdicts]
    if pairs:
        min_pairs, max_pairs = min(pairs), max(pairs)
        number = f"{max_pairs}" if min_pairs == max_pairs else f"{min_pairs} to {max_pairs}"
        comparisons = "1 pair" if max_pairs == 1 else f"{number} pairs"
        notes.append(
            f"Those against the best row are adjusted for the {comparisons} of rows with as many "
            "shots (Bonferroni)."
        )
    if notes:
        notes.append(
            f"A verdict says {OTHER_CLIPS_OF_CLASSES} only where, besides, a jackknife interval of "
            "the difference excludes 0, at the level that so many comparisons leave to each "
            "(Bonferroni)."
        )
        notes.append(
            "fewshot-i2v compare adjusts for all comparisons that it is given at once, so its "
            "verdicts can be others."
        )
    return notes


def _lead_sentence(
    best: BestRow, labels: Sequence[RowLabel], frozen: Mapping[int, GainVerdict]
) -> str:
    name, gain = labels[best.row].full, frozen.get(best.row)
    accuracy = f"{100 * best.mean.mean:.1f} %{_ends_text(best.mean)}"
    if gain is None:
        if best.verdicts:
            return f"{name} has the highest accuracy, {accuracy}."
        if best.mean.n == 1:
            return f"{name} is right for {accuracy} of the query clips of one episode."
        return f"{name} has a mean accuracy of {accuracy} over episodes."
    ends, points = _ends_text(gain.difference), f"{100 * gain.difference.mean:+z.1f} points"
    if _is_single_episode(gain):
        return f"{name} has the highest accuracy, {accuracy}, {points} over frozen."
    if gain.verdict == "open" and gain.too_few:
        units = f"{gain.difference.n} {gain.unit}s"
        return (
            f"{name} has the highest accuracy, {accuracy}, {points}{ends} over frozen; but {units} "
            f"allow no verdict on {_comparisons_text(len(frozen))}, however large the difference."
        )
    if gain.verdict == "open":
        return (
            f"{name} has the highest accuracy, {accuracy}, but no gain over frozen is shown: "
            f"{points}{ends}."
        )
    sign, verb = (1, "beats") if gain.verdict == "better" else (-1, "is worse than")
    ends, size = _ends_text(gain.difference, sign=sign), f"{100 * abs(gain.difference.mean):.1f}"
    other_clips_ends = (
        "" if gain.other_clips is None else _ends_text(gain.other_clips, sign=sign).strip()
    )
    clause = other_clips_clause(
        gain.unit, on_other_clips=gain.holds_on_other_clips, ends=other_clips_ends
    )
    return (
        f"{name} {verb} frozen {clips_clause(gain.unit, on_other_clips=gain.holds_on_other_clips)} "
        f"by {size} point{'' if size == '1.0' else 's'}{ends}, at {accuracy}{clause}."
    )


def _other_rows_sentences(
    best: BestRow, rows: Sequence[RowSummary], labels: Sequence[RowLabel]
) -> list[str]:
    """Sentences on the rows as good as the best one or better, and on the lower ones."""
    undecided = [
        verdict
        for verdict in best.verdicts
        if verdict.verdict == "open" and not _is_single_episode(verdict)
    ]
    too_few = [verdict.row for verdict in undecided if verdict.too_few]
    equal = [verdict.row for verdict in undecided if not verdict.too_few]
    worse = [verdict for verdict in best.verdicts if verdict.verdict == "worse"]
    n_lower, lower_clause = len(worse), _lower_clause(worse)
    sentences = []
    if equal:
        names = join_names([_name_beside(labels[i], labels[best.row]) for i in equal])
        rows_are = "row is" if n_lower == 1 else f"{n_lower} rows are"
        remainder = f"; the other {rows_are} lower{lower_clause}" if n_lower else ""
        sentences.append(f"It cannot be told apart from {names}{remainder}.")
    elif n_lower and n_lower < len(best.verdicts):
        sentences.append(
            f"{'One row is' if n_lower == 1 else f'{n_lower} rows are'} lower{lower_clause}."
        )
    elif n_lower:
        subject = "The other row is" if n_lower == 1 else "All other rows are"
        sentences.append(f"{subject} lower{lower_clause}.")
    sentences += [
        _better_sentence(verdict, best, rows, labels)
        for verdict in best.verdicts
        if verdict.verdict == "better"
    ]
    if too_few:
        subject = "one other row" if len(too_few) == 1 else f"{len(too_few)} other rows"
        sentences.append(
            f"Against {subject} there are too few episodes for any verdict on so many pairs of "
            "rows."
        )
    return sentences


def _lower_clause(worse: Sequence[GainVerdict]) -> str:
    """Clause on the clips on which rows are lower than the best one."""
    n_other_clips = sum(verdict.holds_on_other_clips for verdict in worse)
    if worse and n_other_clips == len(worse):
        return f" on {THESE_CLIPS} and on {OTHER_CLIPS_OF_CLASSES}"
    if n_other_clips:
        return f" on {THESE_CLIPS}, {n_other_clips} of them on {OTHER_CLIPS_OF_CLASSES}, too"
    return f" {clips_clause(worse[0].unit, on_other_clips=False)}" if worse else ""


def _better_sentence(
    verdict: GainVerdict, best: BestRow, rows: Sequence[RowSummary], labels: Sequence[RowLabel]
) -> str:
    """Sentence on a row that beats the best one on the episodes that both have."""
    name = _name_beside(labels[verdict.row], labels[best.row])
    common_episodes = (
        f"the {verdict.difference.n} episodes" if verdict.unit == "episode" else "the one episode"
    )
    max_episodes = max(
        len(rows[i].accuracies)
        for i in (best.row, *(other_verdict.row for other_verdict in best.verdicts))
    )
    too_few = 2 * len(rows[verdict.row].accuracies) < max_episodes
    reason = (
        "it has too few to be named best" if too_few else "its mean is lower over its other ones"
    )
    return f"{name} is better on {common_episodes} that both have; {reason}."


def _is_single_episode(verdict: GainVerdict) -> bool:
    """Whether it is of one episode whose clips are not known, which no test can judge."""
    return verdict.unit == "episode" and verdict.difference.n == 1


def _comparisons_text(comparisons: int) -> str:
    return "1 comparison" if comparisons == 1 else f"{comparisons} comparisons"


def _name_beside(label: RowLabel, best_label: RowLabel) -> str:
    """Name of a row beside the best one: without the head where that is the same."""
    return label.name if label.head == best_label.head else label.full


def _frozen_sentences(
    shot: int | str,
    best: BestRow,
    rows: Sequence[RowSummary],
    labels: Sequence[RowLabel],
    frozen: Mapping[int, GainVerdict],
) -> list[str]:
    """Sentences on adapters without a shown gain over frozen, and on worse ones."""
    named_rows = {compared.row for compared in best.verdicts}
    verdicts = [
        gain
        for i, gain in frozen.items()
        if i in named_rows and rows[i].shot == shot and not gain.too_few
    ]
    templates = {
        "open": "No gain over frozen is shown for {}.",
        "worse": f"Worse than frozen on {THESE_CLIPS}: {{}}.",
    }
    sentences = []
    for verdict, template in templates.items():
        names = [labels[gain.row].full for gain in verdicts if gain.verdict == verdict]
        sentences += [template.format(join_names(names))] if names else []
    return sentences


def _ends_text(interval: Interval, *, sign: int = 1) -> str:
    if interval.low is None or interval.high is None:
        return ""
    low, high = sorted((sign * 100 * interval.low, sign * 100 * interval.high))
    return f" [{low:.1f}, {high:.1f}]"
