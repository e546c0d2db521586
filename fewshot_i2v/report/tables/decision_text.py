"""What a table decides, in one or two sentences below it."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass

from fewshot_i2v.report.analysis.decisions import ShotDecision
from fewshot_i2v.report.tables.interval_text import EMPTY
from fewshot_i2v.report.tables.short_names import short_head_names
from fewshot_i2v.report.tables.table_notes import shots_text
from fewshot_i2v.runs.row_names import adapter_name
from fewshot_i2v.runs.row_summary import FRESH, RowSummary, has_starts
from fewshot_i2v.statistics.sample_size import fewest_decisive_episodes
from fewshot_i2v.utils.text_table import count_text, join_with_and

_START_TEXTS = {
    FRESH: "fresh {}",
    "base-trained": "{} from base training",
    "meta-trained": "{} from meta-training",
}


@dataclass(frozen=True, eq=False)
class RowPhrases:
    """Names of rows for sentences, as they stand in the cells of their table.

    Attributes:
        rows: of the table.
        adapters: name of the adapter of each row.
        heads: name of its head; empty where all have the same.
    """

    rows: Sequence[RowSummary]
    adapters: Sequence[str]
    heads: Sequence[str]

    @classmethod
    def of(cls, rows: Sequence[RowSummary]) -> RowPhrases:
        """Names of the rows of a table: of heads what not all have."""
        labels = [row.head for row in rows]
        several = len(set(labels)) > 1
        heads = next(short_head_names(labels)).cells if several else [""] * len(rows)
        return cls(rows, [adapter_name(row) for row in rows], heads)

    def key(self, position: int) -> Hashable:
        """Equal for rows that differ only in the number of shots."""
        row = self.rows[position]
        return row.adapter, row.note, row.start, row.start_name, row.head

    def name(self, position: int) -> str:
        """Name of a row without the kind of its start."""
        row = self.rows[position]
        several_starts = len({other.start_name for other in self.rows if other.start == row.start})
        start = row.start_name if several_starts > 1 else ""
        qualifiers = ", ".join(filter(None, (start, self.head(position))))
        return self.adapters[position] + (f" ({qualifiers})" if qualifiers else "")

    def head(self, position: int) -> str:
        """Name of a head as in the table; in words where it has no option that others have not."""
        name = self.heads[position]
        return "plain head" if name == EMPTY else name

    def join(self, positions: Iterable[int]) -> str:
        """Names of some rows, those of one kind of start together: "aim from base training"."""
        with_starts, names = has_starts(self.rows), defaultdict[str, list[str]](list)
        for i in positions:
            row = self.rows[i]
            plain = not with_starts or (row.is_frozen and row.start == FRESH)
            names["{}" if plain else _START_TEXTS.get(row.start, "{}")].append(self.name(i))
        return " and ".join(
            text.format(join_with_and(list(dict.fromkeys(group)))) for text, group in names.items()
        )

    def baseline(self, decision: ShotDecision) -> str:
        """The row that others are compared with: frozen, and which of its readouts is the best."""
        position = decision.baseline
        if position is None:
            return "frozen"
        if decision.n_baselines == 1:
            return self.name(position)
        head = self.head(position)
        return f"the best of {decision.n_baselines} frozen rows" + (f" ({head})" if head else "")


def decision_sentences(decisions: Sequence[ShotDecision], phrases: RowPhrases) -> list[str]:
    """Say which rows beat the best one without training, by how much, and which are alike.

    It takes a sentence or two; none for a single row.
    """
    if not any(row.accuracies for row in phrases.rows):
        return ["No episode has succeeded so far."]
    compared = [decision for decision in decisions if decision.gains]
    if not compared:
        return _highest_sentences(decisions, phrases)
    too_few = [d for d in compared if all(gain.too_few for gain in d.gains)]
    if too_few == compared:
        return [_too_few_sentence(compared)]
    winners = _winner_sentences(compared, phrases)
    return [*winners, *_no_gain_sentences(compared, phrases, with_baseline=not winners)]


def _too_few_sentence(compared: Sequence[ShotDecision]) -> str:
    n_episodes = max(gain.difference.n for d in compared for gain in d.gains)
    gains = [gain for d in compared for gain in d.gains]
    n_comparisons = sum(len(d.gains) * d.n_baselines for d in compared)
    n_needed = fewest_decisive_episodes(comparisons=n_comparisons)
    allow = "allows" if n_episodes == 1 else "allow"
    return (
        f"{count_text(n_episodes, 'episode')} {allow} no verdict on "
        f"{count_text(len(gains), 'comparison')}, however large the difference: "
        f"it takes at least {n_needed}."
        + " `fewshot-i2v compare` tests the clips of a single one."
        * (n_episodes == 1)
    )


def _winner_sentences(compared: Sequence[ShotDecision], phrases: RowPhrases) -> list[str]:
    """A sentence for each set of rows that beat the baseline, with the shots where they do."""
    groups: dict[tuple[frozenset[Hashable], str, str], list[ShotDecision]] = defaultdict(list)
    for decision in compared:
        keys = frozenset(phrases.key(gain.row) for gain in decision.winners)
        if keys:
            clause = _tie_clause(decision, phrases)
            groups[keys, clause, phrases.baseline(decision)].append(decision)
    sentences = []
    for (_, clause, baseline), members in groups.items():
        winners = [gain.row for gain in members[0].winners]
        sizes = [f"by {_size_range(d)} at {shots_text(d.shot)}" for d in members]
        sizes[0] = sizes[0].replace(" at ", " points at ", 1)
        verb = "beats" if len(winners) == 1 else "beat"
        gains = join_with_and(sizes)
        sentences.append(f"{phrases.join(winners)} {verb} {baseline} {gains}{clause}.")
    return sentences


def _size_range(decision: ShotDecision) -> str:
    """Smallest and largest gain of the winners in points: "28 to 30"."""
    sizes = [100 * gain.difference.mean for gain in decision.winners]
    form = "{:.0f}" if min(sizes) >= 10 else "{:.1f}"
    low, high = form.format(min(sizes)), form.format(max(sizes))
    return low if low == high else f"{low} to {high}"


def _tie_clause(decision: ShotDecision, phrases: RowPhrases) -> str:
    """Clause on which of the winners is the best one; empty for a single winner."""
    winners = {gain.row for gain in decision.winners}
    best = decision.best.row
    if len(winners) < 2 or best not in winners:
        return ""
    equal = [i for i in decision.equals_of_best() if i in winners and i != best]
    if len(equal) == len(winners) - 1:
        return "; they cannot be told apart"
    if not equal:
        return f"; {phrases.name(best)} is the best of them"
    return f"; {phrases.name(best)} leads, and cannot be told apart from {phrases.join(equal)}"


def _no_gain_sentences(
    compared: Sequence[ShotDecision], phrases: RowPhrases, *, with_baseline: bool
) -> list[str]:
    """A sentence on the rows without a shown gain, and on those that are worse."""
    clauses = []
    baselines = {phrases.baseline(decision) for decision in compared}
    baseline = baselines.pop() if len(baselines) == 1 else "the best frozen row"
    no_gain, worse = "no gain is shown for {}", "{} did worse"
    if with_baseline:
        no_gain, worse = (
            f"no gain over {baseline} is shown for {{}}",
            f"{{}} did worse than {baseline}",
        )
    for word, text in (("open", no_gain), ("worse", worse)):
        shots: dict[Hashable, list[int | str]] = defaultdict(list)
        positions: dict[Hashable, int] = {}
        for decision in compared:
            for gain in decision.gains:
                if gain.verdict == word:
                    shots[phrases.key(gain.row)].append(decision.shot)
                    positions.setdefault(phrases.key(gain.row), gain.row)
        by_shots: dict[tuple[int | str, ...], list[int]] = defaultdict(list)
        for key, position in positions.items():
            by_shots[tuple(shots[key])].append(position)
        for at_shots, rows in by_shots.items():
            everywhere = len(at_shots) == len(compared)
            where = "" if everywhere else f" at {' and '.join(map(shots_text, at_shots))}"
            clauses.append(f"{text.format(phrases.join(rows))}{where}")
    if not clauses:
        return []
    sentence = "; ".join(clauses)
    return [re.sub("^no gain", "No gain", sentence) + "."]


def _highest_sentences(decisions: Sequence[ShotDecision], phrases: RowPhrases) -> list[str]:
    """A sentence for each number of shots whose rows have no baseline: the highest row."""
    sentences = []
    for decision in decisions:
        if not decision.best.verdicts:
            continue
        best, equal = decision.best.row, decision.equals_of_best()[1:]
        relation = "beats the others"
        if equal:
            relation = f"cannot be told apart from {phrases.join(equal)}"
        sentences.append(
            f"{phrases.join([best])} is the highest at {shots_text(decision.shot)} and {relation}."
        )
    return sentences
