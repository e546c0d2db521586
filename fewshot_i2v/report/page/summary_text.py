"""Summary of a table in plain words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from fewshot_i2v.report.analysis.decisions import BestRow, GainVerdict
from fewshot_i2v.report.analysis.report_data import ReportSection
from fewshot_i2v.report.comparison.pair_test import OTHER_CLIPS_OF_CLASSES, THESE_CLIPS
from fewshot_i2v.report.page.labels import RowLabel, make_labels
from fewshot_i2v.runs.row_summary import RowSummary
from fewshot_i2v.statistics import Interval
from fewshot_i2v.utils.text_table import count_text, join_with_and


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
    """Write a paragraph per number of shots: the best row, its gain, and the rows as good as it."""
    if not any(row.accuracies for row in rows):
        return ["No episode has succeeded so far."]
    paragraphs = [
        _ShotSummary(shot, best_of_shot, rows, labels, frozen).paragraph()
        for shot, best_of_shot in best.items()
    ]
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
        comparisons = _comparisons_text(frozen)
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
            "fewshot-i2v compare adjusts for all comparisons that it makes at once, so its "
            "verdicts can be others."
        )
    return notes


_SINGLE_EPISODE_NOTE = (
    "A single episode says nothing of others: compare its rows clip by clip with "
    "`fewshot-i2v compare`."
)


@dataclass(frozen=True, eq=False)
class _ShotSummary:
    """The paragraph on the rows of one number of shots.

    Attributes:
        shot: the number of shots.
        best: its best row, and the verdicts on the others.
        rows: of the table.
        labels: their names.
        frozen: rows against the frozen encoder.
    """

    shot: int | str
    best: BestRow
    rows: Sequence[RowSummary]
    labels: Sequence[RowLabel]
    frozen: Mapping[int, GainVerdict]

    def paragraph(self) -> str:
        """Say which row is best, by how much, and how the others stand to it."""
        sentences = [
            self._lead_sentence(),
            *self._other_rows_sentences(),
            *self._frozen_sentences(),
        ]
        gain = self.frozen.get(self.best.row)
        if any(map(_is_single_episode, (*self.best.verdicts, *([gain] if gain else [])))):
            sentences.append(_SINGLE_EPISODE_NOTE)
        sentences += self._exclusion_sentences()
        clips = (
            count_text(self.shot, "clip") if isinstance(self.shot, int) else f"{self.shot} clips"
        )
        return f"With {clips} per class: {' '.join(sentences)}"

    def _lead_sentence(self) -> str:
        best = self.best
        name, gain = self.labels[best.row].full, self.frozen.get(best.row)
        shown = f"{100 * best.mean.mean:.1f} %"
        accuracy = f"{shown}{_ends_text(best.mean)}"
        ties = [
            self.labels[verdict.row].full
            for verdict in best.verdicts
            if (mean := self.rows[verdict.row].interval) is not None
            and f"{100 * mean.mean:.1f} %" == shown
        ]
        highest = f"{name} has the highest accuracy, {accuracy}"
        if ties:
            highest += f", and {join_with_and(ties)} {'has' if len(ties) == 1 else 'have'} as much"
        if gain is None:
            if best.verdicts:
                return f"{highest}."
            if best.mean.n == 1:
                return f"{name} is right for {accuracy} of the query clips of one episode."
            return f"{name} has a mean accuracy of {accuracy} over episodes."
        if gain.verdict != "open":
            return _decided_gain_sentence(name, accuracy, gain)
        ends, points = _ends_text(gain.difference), f"{100 * gain.difference.mean:+z.1f} points"
        if _is_single_episode(gain):
            return f"{highest}, {points} over frozen."
        if gain.too_few:
            units, comparisons = f"{gain.difference.n} {gain.unit}s", _comparisons_text(self.frozen)
            return (
                f"{highest}, {points}{ends} over frozen; but {units} allow no verdict on "
                f"{comparisons}, however large the difference."
            )
        return f"{highest}, but no gain over frozen is shown: {points}{ends}."

    def _other_rows_sentences(self) -> list[str]:
        """Sentences on the rows as good as the best one or better, and on the lower ones."""
        undecided = [
            verdict
            for verdict in self.best.verdicts
            if verdict.verdict == "open" and not _is_single_episode(verdict)
        ]
        too_few = [verdict.row for verdict in undecided if verdict.too_few]
        equal = [verdict.row for verdict in undecided if not verdict.too_few]
        worse = [verdict for verdict in self.best.verdicts if verdict.verdict == "worse"]
        n_lower, lower_clause = len(worse), _lower_clause(worse)
        sentences = []
        if equal:
            names = join_with_and([self._name_beside_best(i) for i in equal])
            rows_are = "row is" if n_lower == 1 else f"{n_lower} rows are"
            remainder = f"; the other {rows_are} lower{lower_clause}" if n_lower else ""
            sentences.append(f"It cannot be told apart from {names}{remainder}.")
        elif n_lower and n_lower < len(self.best.verdicts):
            sentences.append(
                f"{'One row is' if n_lower == 1 else f'{n_lower} rows are'} lower{lower_clause}."
            )
        elif n_lower:
            subject = "The other row is" if n_lower == 1 else "All other rows are"
            sentences.append(f"{subject} lower{lower_clause}.")
        sentences += [
            self._better_sentence(verdict)
            for verdict in self.best.verdicts
            if verdict.verdict == "better"
        ]
        if too_few:
            subject = "one other row" if len(too_few) == 1 else f"{len(too_few)} other rows"
            sentences.append(
                f"Against {subject} there are too few episodes for any verdict on so many pairs of "
                "rows."
            )
        return sentences

    def _better_sentence(self, verdict: GainVerdict) -> str:
        """Sentence on a row that beats the best one on the episodes that both have."""
        name = self._name_beside_best(verdict.row)
        common_episodes = (
            f"the {verdict.difference.n} episodes"
            if verdict.unit == "episode"
            else "the one episode"
        )
        max_episodes = max(
            len(self.rows[i].accuracies)
            for i in (self.best.row, *(other_verdict.row for other_verdict in self.best.verdicts))
        )
        too_few = 2 * len(self.rows[verdict.row].accuracies) < max_episodes
        reason = (
            "it has too few to be named best"
            if too_few
            else "its mean is lower over its other ones"
        )
        return f"{name} is better on {common_episodes} that both have; {reason}."

    def _name_beside_best(self, position: int) -> str:
        """Name of a row beside the best one: without the head where that is the same."""
        label = self.labels[position]
        return label.name if label.head == self.labels[self.best.row].head else label.full

    def _frozen_sentences(self) -> list[str]:
        """Sentences on adapters without a shown gain over frozen, and on worse ones."""
        named_rows = {compared.row for compared in self.best.verdicts}
        verdicts = [
            gain
            for i, gain in self.frozen.items()
            if i in named_rows and self.rows[i].shot == self.shot and not gain.too_few
        ]
        templates = {
            "open": "No gain over frozen is shown for {}.",
            "worse": f"Worse than frozen on {THESE_CLIPS}: {{}}.",
        }
        sentences = []
        for verdict, template in templates.items():
            names = [self.labels[gain.row].full for gain in verdicts if gain.verdict == verdict]
            sentences += [template.format(join_with_and(names))] if names else []
        return sentences

    def _exclusion_sentences(self) -> list[str]:
        """Sentences that name the rows that are not ranked, or not compared with frozen."""
        ranked = {self.best.row, *(verdict.row for verdict in self.best.verdicts)}
        causes: dict[str, list[str]] = {}
        for i, row in enumerate(self.rows):
            if row.shot == self.shot and i not in ranked:
                causes.setdefault(self._exclusion_cause(row), []).append(self.labels[i].full)
        sentences = []
        if causes:
            clauses = [
                f"{join_with_and(names)}, {_cause_clause(cause, names)}"
                for cause, names in causes.items()
            ]
            sentences.append(f"Not ranked: {'; '.join(clauses)}.")
        unmatched = [self.labels[i].full for i in self._not_compared_with_frozen() if i in ranked]
        if unmatched:
            cause = _cause_clause("no episode in common with it", unmatched)
            sentences.append(f"Not compared with frozen: {join_with_and(unmatched)}, {cause}.")
        return sentences

    def _exclusion_cause(self, row: RowSummary) -> str:
        if not row.accuracies:
            return "of which no episode has succeeded"
        if row.seen:
            return "which saw what it is evaluated on"
        if row.uses_names and not self.rows[self.best.row].uses_names:
            return "which read the class names"
        return f"no episode in common with {self.labels[self.best.row].full}"

    def _not_compared_with_frozen(self) -> Iterator[int]:
        """Positions of rows whose head and shot frozen has, but none of their episodes."""
        shot_rows = [(i, row) for i, row in enumerate(self.rows) if row.shot == self.shot]
        heads = {row.head for _, row in shot_rows if row.is_frozen and row.accuracies}
        for i, row in shot_rows:
            comparable = row.head in heads and row.accuracies and not row.is_frozen
            if comparable and i not in self.frozen:
                yield i


def _decided_gain_sentence(name: str, accuracy: str, gain: GainVerdict) -> str:
    """Sentence on a best row that is better or worse than frozen."""
    sign, verb = (1, "beats") if gain.verdict == "better" else (-1, "is worse than")
    size = f"{100 * abs(gain.difference.mean):.1f}"
    other_ends = _ends_text(gain.other_clips, sign=sign).strip() if gain.other_clips else ""
    remainder = gain.other_clips_clause(other_ends)
    return (
        f"{name} {verb} frozen {gain.clips_clause} by {size} point{'' if size == '1.0' else 's'}"
        f"{_ends_text(gain.difference, sign=sign)}, at {accuracy}{remainder}."
    )


def _lower_clause(worse: Sequence[GainVerdict]) -> str:
    """Clause on the clips on which rows are lower than the best one."""
    n_other_clips = sum(verdict.decision.holds_on_other_clips for verdict in worse)
    if worse and n_other_clips == len(worse):
        return f" on {THESE_CLIPS} and on {OTHER_CLIPS_OF_CLASSES}"
    if n_other_clips:
        return f" on {THESE_CLIPS}, {n_other_clips} of them on {OTHER_CLIPS_OF_CLASSES}, too"
    return f" {worse[0].clips_clause}" if worse else ""


def _cause_clause(cause: str, names: Sequence[str]) -> str:
    """Turn the cause into a clause behind one name or several."""
    plural = len(names) > 1
    if cause.startswith("no episode"):
        return f"which {'have' if plural else 'has'} {cause}"
    return cause.replace("it is", "they are") if plural else cause


def _is_single_episode(verdict: GainVerdict) -> bool:
    """Whether it is of one episode whose clips are not known, which no test can judge."""
    return verdict.unit == "episode" and verdict.difference.n == 1


def _comparisons_text(frozen: Mapping[int, GainVerdict]) -> str:
    return count_text(len(frozen), "comparison")


def _ends_text(interval: Interval, *, sign: int = 1) -> str:
    if interval.low is None or interval.high is None:
        return ""
    low, high = sorted((sign * 100 * interval.low, sign * 100 * interval.high))
    return f" [{low:.1f}, {high:.1f}]"
