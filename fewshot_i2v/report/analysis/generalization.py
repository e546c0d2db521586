"""What a row's accuracy is an estimate of: an interval for each question that may be asked of it.

The interval of a table says how well the mean over episodes of these clips is known. How a method
would do with other clips, other classes or another training seed are other questions, and intervals
for them are wider: with 10,000 episodes of few clips by far.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from fewshot_i2v.statistics import (
    Interval,
    Outcomes,
    bounded_interval,
    paired_difference,
    seed_spread,
)
from fewshot_i2v.statistics.cluster_intervals import jackknife_of
from fewshot_i2v.statistics.jackknife import Found, Scope
from fewshot_i2v.utils.text_table import aligned, sentences, wrapped

HERE, CLIPS, GROUPS = "these clips", "other clips", "other groups"
CLASSES, SEEDS = "other classes", "other seeds"
QUESTIONS = (HERE, CLIPS, GROUPS, CLASSES, SEEDS)
_NONE = "-"
_NOTHING_DRAWN = (
    "All training seeds gave the same answers: nothing that they draw takes part in such a row, so "
    "there is no interval over them."
)


@dataclass(frozen=True)
class Groups:
    """Which clips are of one group, such as the scenes of one video.

    Attributes:
        of: the group of every clip.
        scope: "class" where groups of one name in two classes are two groups, else "global".
    """

    of: Mapping[str, str] = field(repr=False)
    scope: Scope = "class"


@dataclass(frozen=True)
class Reach:
    """The intervals of one row, or of its gain over another.

    Attributes:
        name: of the row.
        shot: support clips per class.
        mean: 0..1; of a gain -1..1.
        intervals: by question; only those that can be answered.
    """

    name: str
    shot: int | str
    mean: float
    intervals: Mapping[str, Interval]

    def to_dict(self) -> dict[str, Any]:
        """Plain types, for JSON."""
        intervals = {question: asdict(one) for question, one in self.intervals.items()}
        return {"row": self.name, "shot": self.shot, "mean": self.mean, "intervals": intervals}


def reach(
    name: str,
    shot: int | str,
    seeds: Sequence[Outcomes],
    *,
    against: Sequence[Outcomes] = (),
    groups: Groups | None = None,
    shared: bool = True,
    level: float = 0.95,
) -> Reach:
    """The intervals of a row.

    Args:
        name: of the row.
        shot: support clips per class.
        seeds: its outcomes, one for each training seed, of the same episodes.
        against: those of another row with the same episodes; then all is about the gain over it.
        groups: of the clips, where they have any.
        shared: whether episodes have clips in common; see `mean_interval`.
        level: above 0 and below 1.

    Raises:
        UsageError: when no episode succeeded, or episodes differ.
    """
    outcomes, other = _pooled(seeds, against)
    values = outcomes.accuracies.tolist()
    if other is None:
        found = {HERE: bounded_interval(values, level, shared=shared)}
    else:
        found = {HERE: paired_difference(values, other.accuracies.tolist(), level, shared=shared)}
    clips = Found.of(outcomes, "clips", against=other)
    found[CLIPS] = jackknife_of(clips, level)
    if groups is not None:
        grouped = Found.of(outcomes, "groups", groups.of, groups.scope, other, clips)
        found[GROUPS] = jackknife_of(grouped, level)
    classes = Found.of(outcomes, "classes", against=other, clips=clips)
    found[CLASSES] = jackknife_of(classes, level)
    if len(seeds) > 1 and other is None:
        found[SEEDS] = _over_seeds(seeds, level)
    return Reach(name, shot, found[HERE].mean, found)


def gain_over_clips(seeds: Sequence[Outcomes], against: Sequence[Outcomes]) -> Found:
    """What leaving clips out does to the gain of one row over another.

    Args:
        seeds: outcomes of the one, one for each training seed, of the same episodes.
        against: those of the other.

    Raises:
        UsageError: when no episode succeeded, or episodes differ.
    """
    outcomes, other = _pooled(seeds, against)
    return Found.of(outcomes, "clips", against=other)


def _over_seeds(seeds: Sequence[Outcomes], level: float) -> Interval:
    """The interval over training seeds; none where they cannot have changed anything."""
    spread = seed_spread([one.mean for one in seeds], level).interval
    first = seeds[0].predicted.tolist()
    if any(one.predicted.tolist() != first for one in seeds[1:]):
        return spread
    return replace(spread, low=None, high=None, covers=_NOTHING_DRAWN)


def _pooled(
    seeds: Sequence[Outcomes], against: Sequence[Outcomes]
) -> tuple[Outcomes, Outcomes | None]:
    """All seeds together, and those of the other row, a prediction of it for each."""
    if not against:
        return Outcomes.pooled(seeds), None
    if len(seeds) == len(against):
        return Outcomes.pooled(seeds), Outcomes.pooled(against)
    every = [(one, other) for one in seeds for other in against]
    return Outcomes.pooled([one for one, _ in every]), Outcomes.pooled([one for _, one in every])


def reach_text(rows: Sequence[Reach], gains: Sequence[Reach], level: float = 0.95) -> str:
    """Intervals of accuracies and of gains as aligned plain text, with what each covers.

    Args:
        rows: in the order to show them.
        gains: over the frozen encoder, where there are any.
        level: of the intervals.

    Returns:
        The text, without a newline at the end.
    """
    parts = _table(rows, "accuracy %", "{:.2f}")
    if gains:
        parts += ["", *_table(gains, "over frozen", "{:+z.2f}")]
    everything = [*rows, *gains]
    notes = [f"Intervals are {100 * level:g} %, in percent; each answers its own question."]
    asked = [q for q in QUESTIONS if any(q in one.intervals for one in everything)]
    notes += [covered(question, everything) for question in asked]
    return "\n".join([*parts, "", *wrapped(notes)])


def covered(question: str, rows: Sequence[Reach]) -> str:
    """How the intervals for a question were computed, and what they cover."""
    found = [row.intervals[question] for row in rows if question in row.intervals]
    methods = " or ".join(sorted({interval.method for interval in found}))
    return f"{question}: {methods}. " + " ".join(sentences(one.covers for one in found))


def _table(rows: Sequence[Reach], heading: str, form: str) -> list[str]:
    columns = {
        "row": [row.name for row in rows],
        "shot": [str(row.shot) for row in rows],
        heading: [_percent(row.mean, form) for row in rows],
    }
    for question in QUESTIONS:
        if any(question in row.intervals for row in rows):
            columns[question] = [_ends(row.intervals.get(question), form) for row in rows]
    return aligned(columns, {"row"})


def _ends(interval: Interval | None, form: str) -> str:
    if interval is None or interval.low is None or interval.high is None:
        return _NONE
    return f"[{_percent(interval.low, form)}, {_percent(interval.high, form)}]"


def _percent(share: float, form: str) -> str:
    return form.format(100 * share)
