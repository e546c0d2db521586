"""The answer of a table in plain words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from fewshot_i2v.report.analysis.report_data import Section
from fewshot_i2v.report.analysis.significance import Against, Best
from fewshot_i2v.report.comparison.compare import ALSO, HERE, elsewhere, where
from fewshot_i2v.report.page.labels import Label, labels_of
from fewshot_i2v.runs.row_summary import TableRow, is_frozen
from fewshot_i2v.statistics import Interval

_NAMED = 3


def listed(names: Sequence[str]) -> str:
    """Names in a sentence; many are cut short."""
    shown = list(names[:_NAMED])
    if len(names) > _NAMED + 1:
        return f"{', '.join(shown)} and {len(names) - _NAMED} more rows"
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def left_out(
    shot: int | str,
    best: Best,
    rows: Sequence[TableRow],
    labels: Sequence[Label],
    frozen: Mapping[int, Against],
) -> list[str]:
    """Sentences that name the rows of a shot that are not ranked or not compared with frozen.

    Args:
        shot: the number of shots.
        best: its best row.
        rows: of the table.
        labels: their names.
        frozen: rows against the frozen encoder.
    """
    ranked = {best.row, *(against.row for against in best.others)}
    causes: dict[str, list[str]] = {}
    for i, row in enumerate(rows):
        if row.shot == shot and i not in ranked:
            cause = _cause(row, names_apart=not rows[best.row].uses_names)
            cause = cause or f"no episode in common with {labels[best.row].full}"
            causes.setdefault(cause, []).append(labels[i].full)
    parts = []
    if causes:
        told = [f"{listed(names)}, {_which(cause, names)}" for cause, names in causes.items()]
        parts.append(f"Not ranked: {'; '.join(told)}.")
    alone = [labels[i].full for i in _without_frozen(shot, rows, frozen) if i in ranked]
    if alone:
        cause = _which("no episode in common with it", alone)
        parts.append(f"Not compared with frozen: {listed(alone)}, {cause}.")
    return parts


def _cause(row: TableRow, *, names_apart: bool) -> str:
    if not row.accuracies:
        return "of which no episode has succeeded"
    if row.seen:
        return "which saw what it is evaluated on"
    return "which read the class names" if row.uses_names and names_apart else ""


def _which(cause: str, names: Sequence[str]) -> str:
    """The cause as a clause behind one name or several."""
    several = len(names) > 1
    if cause.startswith("no episode"):
        return f"which {'have' if several else 'has'} {cause}"
    return cause.replace("it is", "they are") if several else cause


def _without_frozen(
    shot: int | str, rows: Sequence[TableRow], frozen: Mapping[int, Against]
) -> Iterator[int]:
    """Places of rows whose head and shot a frozen encoder has, but none of their episodes."""
    heads = {r.head for r in rows if is_frozen(r) and r.shot == shot and r.accuracies}
    for i, row in enumerate(rows):
        known = row.shot == shot and row.head in heads and row.accuracies
        if known and not is_frozen(row) and i not in frozen:
            yield i


_ONE = (
    "A single episode says nothing of others: compare its rows clip by clip with "
    "`fewshot-i2v compare`."
)


def summary_of(section: Section) -> list[str]:
    """The answer of a section's table, as `summary` gives it, with the answers to single clips."""
    rows = section.table_rows
    return summary(rows, labels_of(rows), *section.verdicts)


def summary(
    rows: Sequence[TableRow],
    labels: Sequence[Label],
    frozen: Mapping[int, Against],
    best: Mapping[int | str, Best],
) -> list[str]:
    """One paragraph for each number of shots: the best row, what it gains, and who is as good.

    Args:
        rows: of one table.
        labels: their names.
        frozen: rows against the frozen encoder.
        best: the best row of each number of shots.
    """
    if not any(row.accuracies for row in rows):
        return ["No episode has succeeded so far."]
    told = []
    for shot, of_shot in best.items():
        parts = [_lead(of_shot, labels, frozen), *_others(of_shot, rows, labels)]
        parts += _below(shot, of_shot, rows, labels, frozen)
        gain = frozen.get(of_shot.row)
        if any(_single(a) for a in (*of_shot.others, *([gain] if gain else []))):
            parts.append(_ONE)
        parts += left_out(shot, of_shot, rows, labels, frozen)
        told.append(f"{_with(shot)}: {' '.join(parts)}")
    return told or [
        "Every row saw the classes or clips that it is evaluated on: none says how well new ones "
        "are learnt."
    ]


def families(frozen: Mapping[int, Against], best: Mapping[int | str, Best]) -> list[str]:
    """What the verdicts of a table are adjusted for, a sentence each; none without verdicts."""
    parts = []
    if frozen:
        which = _number(len(frozen))
        parts.append(
            f"Verdicts against frozen are adjusted for the {which} with it of this table (Holm)."
        )
    pairs = [one.pairs for one in best.values() if one.others]
    if pairs:
        least, most = min(pairs), max(pairs)
        number = f"{most}" if least == most else f"{least} to {most}"
        which = "1 pair" if most == 1 else f"{number} pairs"
        parts.append(
            f"Those against the best row are adjusted for the {which} of rows with as many shots "
            "(Bonferroni)."
        )
    if parts:
        parts.append(
            f"A verdict says {ALSO} only where, besides, a jackknife interval of the difference "
            "excludes 0, at the level that so many comparisons leave to each (Bonferroni)."
        )
        parts.append(
            "fewshot-i2v compare adjusts for all comparisons that it is given at once, so its "
            "verdicts can be others."
        )
    return parts


def _with(shot: int | str) -> str:
    return "With 1 clip per class" if shot == 1 else f"With {shot} clips per class"


def _lead(best: Best, labels: Sequence[Label], frozen: Mapping[int, Against]) -> str:
    name, gain = labels[best.row].full, frozen.get(best.row)
    accuracy = f"{100 * best.mean.mean:.1f} %{_ends(best.mean)}"
    if gain is None:
        if best.others:
            return f"{name} has the highest accuracy, {accuracy}."
        if best.mean.n == 1:
            return f"{name} is right for {accuracy} of the query clips of one episode."
        return f"{name} has a mean accuracy of {accuracy} over episodes."
    ends, points = _ends(gain.difference), f"{100 * gain.difference.mean:+z.1f} points"
    if _single(gain):
        return f"{name} has the highest accuracy, {accuracy}, {points} over frozen."
    if gain.verdict == "open" and gain.few:
        units = f"{gain.difference.n} {gain.unit}s"
        return (
            f"{name} has the highest accuracy, {accuracy}, {points}{ends} over frozen; but {units} "
            f"allow no verdict on {_number(len(frozen))}, however large the difference."
        )
    if gain.verdict == "open":
        return (
            f"{name} has the highest accuracy, {accuracy}, but no gain over frozen is shown: "
            f"{points}{ends}."
        )
    sign, verb = (1, "beats") if gain.verdict == "better" else (-1, "is worse than")
    ends = _ends(gain.difference, sign=sign)
    others = "" if gain.other_clips is None else _ends(gain.other_clips, sign=sign).strip()
    more = elsewhere(gain.unit, also=gain.also, ends=others)
    return (
        f"{name} {verb} frozen {where(gain.unit, also=gain.also)} by "
        f"{_points(gain.difference)}{ends}, at {accuracy}{more}."
    )


def _others(best: Best, rows: Sequence[TableRow], labels: Sequence[Label]) -> list[str]:
    """Which rows are as good as the best one or better, and that the others are lower."""
    still = [a for a in best.others if a.verdict == "open" and not _single(a)]
    few = [a.row for a in still if a.few]
    alike = [a.row for a in still if not a.few]
    worse = [a for a in best.others if a.verdict == "worse"]
    lower, on = len(worse), _lower_on(worse)
    parts = []
    if alike:
        names = listed([_beside(labels[i], labels[best.row]) for i in alike])
        rest = f"; the other {_rows(lower)} lower{on}" if lower else ""
        parts.append(f"It cannot be told apart from {names}{rest}.")
    elif lower and lower < len(best.others):
        parts.append(f"{'One row is' if lower == 1 else f'{lower} rows are'} lower{on}.")
    elif lower:
        which = "The other row is" if lower == 1 else "All other rows are"
        parts.append(f"{which} lower{on}.")
    parts += [_better(a, best, rows, labels) for a in best.others if a.verdict == "better"]
    if few:
        which = "one other row" if len(few) == 1 else f"{len(few)} other rows"
        parts.append(
            f"Against {which} there are too few episodes for any verdict on so many pairs of rows."
        )
    return parts


def _lower_on(worse: Sequence[Against]) -> str:
    """On which clips rows are lower than the best one."""
    also = sum(a.also for a in worse)
    if worse and also == len(worse):
        return f" on {HERE} and on {ALSO}"
    if also:
        return f" on {HERE}, {also} of them on {ALSO}, too"
    return f" {where(worse[0].unit, also=False)}" if worse else ""


def _better(a: Against, best: Best, rows: Sequence[TableRow], labels: Sequence[Label]) -> str:
    """A row that is not the best one by name, though it is better where both can be compared."""
    name = _beside(labels[a.row], labels[best.row])
    both = f"the {a.difference.n} episodes" if a.unit == "episode" else "the one episode"
    most = max(len(rows[i].accuracies) for i in (best.row, *(b.row for b in best.others)))
    few = 2 * len(rows[a.row].accuracies) < most
    why = "it has too few to be named best" if few else "its mean is lower over its other ones"
    return f"{name} is better on {both} that both have; {why}."


def _single(against: Against) -> bool:
    """Whether it is of one episode whose clips are not known, which no test can judge."""
    return against.unit == "episode" and against.difference.n == 1


def _number(comparisons: int) -> str:
    return "1 comparison" if comparisons == 1 else f"{comparisons} comparisons"


def _rows(number: int) -> str:
    return "row is" if number == 1 else f"{number} rows are"


def _beside(label: Label, other: Label) -> str:
    """The name of a row beside another one: without the head where that is the same."""
    return label.name if label.head == other.head else label.full


def _below(
    shot: int | str,
    best: Best,
    rows: Sequence[TableRow],
    labels: Sequence[Label],
    frozen: Mapping[int, Against],
) -> list[str]:
    """Which adapters show no gain over the frozen encoder, and which are worse."""
    told = {against.row for against in best.others}
    of_shot = [a for i, a in frozen.items() if i in told and rows[i].shot == shot and not a.few]
    said = {
        "open": "No gain over frozen is shown for {}.",
        "worse": f"Worse than frozen on {HERE}: {{}}.",
    }
    found = []
    for verdict, text in said.items():
        names = [labels[a.row].full for a in of_shot if a.verdict == verdict]
        found += [text.format(listed(names))] if names else []
    return found


def _points(difference: Interval) -> str:
    size = f"{100 * abs(difference.mean):.1f}"
    return f"{size} point{'' if size == '1.0' else 's'}"


def _ends(interval: Interval, *, sign: int = 1) -> str:
    if interval.low is None or interval.high is None:
        return ""
    low, high = sorted((sign * 100 * interval.low, sign * 100 * interval.high))
    return f" [{low:.1f}, {high:.1f}]"
