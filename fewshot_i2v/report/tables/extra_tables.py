"""The tables that follow that of the accuracies: calibration, and the order of frames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from math import log

from fewshot_i2v.report.analysis.frame_order import ORDERS, Reliance
from fewshot_i2v.report.analysis.generalization import QUESTIONS, covered
from fewshot_i2v.report.analysis.report_data import LEVEL, Row, Section
from fewshot_i2v.report.analysis.run_analysis import Measures
from fewshot_i2v.report.tables.table import Cell, Table
from fewshot_i2v.report.tables.terminal import signed, with_spread
from fewshot_i2v.statistics import Interval
from fewshot_i2v.statistics.calibration import BINS
from fewshot_i2v.utils.text_table import sentences

_NAMES = ("adapter", "start", "head", "shot")
_NONE = Cell("-")
_GAIN = "over frozen, other clips"
_BALANCED = (
    "balanced %: mean over the classes of the share of their query clips that were right; every "
    "class counts the same, however often it was drawn."
)
_ECE = (
    f"ECE %: expected calibration error, which says whether a row is as often right as it is sure. "
    f"Predictions are sorted by their confidence into {BINS} bins from 0 to 100 %; in each bin the "
    "mean confidence is compared with the share that was right, and these gaps are averaged over "
    "all predictions. 0 means that 8 of 10 predictions made with 80 % confidence are right."
)
_CHANCE = (
    "by chance %: about what ECE would be for a perfectly calibrated row with these confidences. "
    "Chance alone opens gaps, the larger the fewer predictions there are, so ECE is too high with "
    "few of them; near this value it says nothing against a row, and rows with different numbers "
    "of predictions cannot be compared by it."
)
_OVER = (
    "over-confident: mean confidence less the share of right predictions, in points; above 0 a row "
    "is surer than it is right, below 0 less sure."
)
_SEEDS = (
    "Rows of several training seeds: ECE, its interval and by chance are means over the seeds, so "
    "more seeds do not lower them as more episodes do; predictions, and what is said of confidence "
    "and truth below, are of all seeds together."
)
_HEADINGS = {
    "shuffled": "lost when shuffled",
    "reversed": "lost when reversed",
    "single": "lost with one frame",
}
_ORDER = (
    "lost: accuracy with the frames in their natural order less that of the same row with its "
    "frames in another order, in points, over the episodes that both have; above 0 the row rests "
    "on what was taken from it. Support and query clips are changed alike and rows are tuned on "
    "what they are shown."
)
_WHAT = {
    "shuffled": "shuffled: each clip's frames in a random order of its own.",
    "reversed": (
        "reversed: all clips backwards, which a head that compares frames in order need not notice."
    ),
    "single": (
        "one frame: each frame replaced by the middle one of its clip; a head that compares frames "
        "with their mean has nothing left then."
    ),
}


@dataclass(frozen=True)
class Extra:
    """A further table.

    Attributes:
        title: its name.
        caption: what it is of, in a few words.
        columns: cells by heading, top to bottom.
        notes: what headings mean and intervals cover.
    """

    title: str
    caption: str
    columns: dict[str, list[Cell]]
    notes: list[str]


@dataclass(frozen=True)
class Bin:
    """A bin of a row's reliability curve that is not empty.

    Attributes:
        row: place of the row in its section.
        lower: end of the bin, 0..1.
        upper: end of the bin, 0..1.
        count: predictions in it.
        confidence: their mean confidence, 0..1.
        accuracy: share of them that is right, 0..1.
    """

    row: int
    lower: float
    upper: float
    count: int
    confidence: float
    accuracy: float


def beyond_accuracy(section: Section, table: Table) -> Extra | None:
    """Balanced accuracy and calibration of each row; None where no episode succeeded.

    Args:
        section: of the rows.
        table: that of their accuracies, which has their names.
    """
    measures = [row.measures for row in section.rows]
    known = [m for m in measures if m is not None]
    if not known:
        return None
    percent = f"{100 * LEVEL:g} % interval"
    columns = {
        **_names(table, range(len(measures))),
        "balanced %": _numbers(measures, "balanced", 100, "{:.2f}"),
        "ECE %": [_NONE if m is None else _cell(100 * m.ece.mean, "{:.2f}") for m in measures],
        percent: [_NONE if m is None else _ends(m.ece) for m in measures],
        "by chance %": _numbers(measures, "by_chance", 100, "{:.2f}"),
        "over-confident": [
            _NONE if m is None else Cell(signed(m.over_confident), f"{m.over_confident:.9g}")
            for m in measures
        ],
        "log loss": _numbers(measures, "log_loss", 1, "{:.3f}"),
        "Brier": _numbers(measures, "brier", 1, "{:.3f}"),
        "predictions": _numbers(measures, "predictions", 1, "{:,.0f}"),
    }
    caption = "Balanced accuracy and calibration of every row"
    return Extra("Beyond accuracy", caption, columns, _notes(section, known, percent))


def _notes(section: Section, known: Sequence[Measures], percent: str) -> list[str]:
    covers = " ".join(sentences(m.ece.covers for m in known))
    notes = [_BALANCED, _ECE, _CHANCE, f"{percent}: of ECE, {known[0].ece.method}. {covers}", _OVER]
    text = "log loss and Brier score judge confidence and truth together; lower is better."
    if isinstance(section.way, int):
        guess = log(section.way), 1 - 1 / section.way
        text += " Guessing gives {:.3f} and {:.3f}.".format(*guess)
    notes.append(text)
    if any(m.unresolved for m in known):
        most = max(m.unresolved for m in known)
        notes.append(
            f"Records have probabilities to 6 decimals, and up to {most} labels of a row have one "
            "of 0: they count as 0.0000005, so its log loss is at least what the table says."
        )
    if any(row.table.seed_means for row in section.rows):
        notes.append(_SEEDS)
    return notes


def bins_of(rows: Sequence[Row]) -> list[Bin]:
    """The bins that are not empty of every row's reliability curve."""
    found = []
    for place, row in enumerate(rows):
        if row.measures is None:
            continue
        curve = row.measures.curve
        columns = (curve.lower, curve.upper, curve.count, curve.confidence, curve.accuracy)
        lines = zip(*(column.tolist() for column in columns), strict=True)
        found += [Bin(place, *line) for line in lines if line[2]]
    return found


def order_of_frames(
    section: Section, table: Table, reliances: Mapping[Row, Reliance]
) -> Extra | None:
    """What each row loses in other orders of frames; None where no row was run in another one.

    Args:
        section: of the rows in natural order.
        table: that of their accuracies.
        reliances: of the rows of all sections.
    """
    places = [i for i, row in enumerate(section.rows) if row in reliances]
    if not places:
        return None
    found = [reliances[section.rows[i]] for i in places]
    orders = [order for order in ORDERS if any(order in r.lost for r in found)]
    columns = {
        **_names(table, places),
        "accuracy %": [table.columns["accuracy %"][i] for i in places],
        **{_HEADINGS[order]: [_lost(r.lost.get(order)) for r in found] for order in orders},
    }
    every = list(chain.from_iterable(r.lost.values() for r in found))
    covers = " ".join(sentences(value.covers for value in every))
    notes = [_ORDER, *(_WHAT[order] for order in orders)]
    notes.append(
        f"±: {100 * LEVEL:g} %, {every[0].method} over episodes. {covers} The intervals are not "
        "adjusted for the number of rows."
    )
    caption = "What rows lose with their frames in another order, in points"
    return Extra("Order of frames", caption, columns, notes)


def other_questions(section: Section, table: Table) -> Extra | None:
    """What the accuracies say of other clips, classes and seeds; None where there are none.

    Args:
        section: of the rows.
        table: that of their accuracies.
    """
    found = [row.reach for row in section.rows]
    known = [reach for reach in found if reach is not None]
    asked = [q for q in QUESTIONS if any(q in reach.intervals for reach in known)]
    if not known:
        return None
    columns = {**_names(table, range(len(found))), "accuracy %": table.columns["accuracy %"]}
    for question in asked:
        columns[question] = [
            _NONE if r is None or question not in r.intervals else _ends(r.intervals[question])
            for r in found
        ]
    notes = [f"Intervals of the accuracy in percent, {100 * LEVEL:g} %; each has its own question."]
    notes += [covered(question, known) for question in asked]
    gains = [section.verdicts[0].get(i) for i in range(len(found))]
    others = [None if gain is None else gain.other_clips for gain in gains]
    if any(others):
        columns[_GAIN] = [_NONE if one is None else _ends(one, "{:+z.2f}") for one in others]
        notes.append(_gain_note([one for one in others if one is not None]))
    return Extra("How far it reaches", "Accuracy for other clips and classes", columns, notes)


def _gain_note(gains: Sequence[Interval]) -> str:
    methods = " or ".join(sorted({gain.method for gain in gains}))
    covers = " ".join(sentences(gain.covers for gain in gains))
    return f"{_GAIN}: of the gain over frozen, in points; {methods}. {covers}"


def _names(table: Table, places: Sequence[int]) -> dict[str, list[Cell]]:
    named = [heading for heading in _NAMES if heading in table.columns]
    return {heading: [table.columns[heading][i] for i in places] for heading in named}


def _numbers(
    measures: Sequence[Measures | None], name: str, factor: float, form: str
) -> list[Cell]:
    return [_NONE if m is None else _cell(factor * getattr(m, name), form) for m in measures]


def _cell(value: float, form: str) -> Cell:
    return Cell(form.format(value), f"{value:.9g}")


def _ends(interval: Interval, form: str = "{:.2f}") -> Cell:
    if interval.low is None or interval.high is None:
        return _NONE
    low, high = (form.format(100 * end) for end in (interval.low, interval.high))
    return Cell(f"[{low}, {high}]", f"{interval.low:.9g}")


def _lost(interval: Interval | None) -> Cell:
    if interval is None:
        return _NONE
    return Cell(with_spread(interval, "{:+z.2f}"), f"{interval.mean:.9g}")
