"""What the template of a page shows of each section, in plain values."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from fewshot_i2v.report.analysis.frame_order import Reliance
from fewshot_i2v.report.analysis.report_data import LEVEL, Row, Section
from fewshot_i2v.report.analysis.run_analysis import Findings
from fewshot_i2v.report.analysis.significance import frozen_of
from fewshot_i2v.report.page import figures
from fewshot_i2v.report.page.figures.style import Plate, Point, shots_text
from fewshot_i2v.report.page.labels import Label, labels_of
from fewshot_i2v.report.page.summary_text import families, summary
from fewshot_i2v.report.tables.extra_tables import (
    Bin,
    Extra,
    beyond_accuracy,
    bins_of,
    order_of_frames,
    other_questions,
)
from fewshot_i2v.report.tables.table import Cell, Table, table_of
from fewshot_i2v.report.tables.terminal import guessing
from fewshot_i2v.runs.episode_record import EpisodeRecord
from fewshot_i2v.statistics import Interval
from fewshot_i2v.statistics.calibration import Reliability
from fewshot_i2v.utils.text_table import escaped, sentences

if TYPE_CHECKING:
    pass

_CLASSES, _QUERIES, _RIGHT = 10, 8, 3


@dataclass(frozen=True)
class Support:
    """A class of an episode: its name, the clip that is shown, and how many more there are."""

    name: str
    clip: str
    more: int


@dataclass(frozen=True)
class Query:
    """A query clip of an episode.

    Attributes:
        clip: its name.
        label: its class.
        predicted: the class it was taken for.
        sure: probability of that, 0..1.
        true: probability of its class, 0..1.
    """

    clip: str
    label: str
    predicted: str
    sure: float
    true: float

    @property
    def right(self) -> bool:
        """Whether it was taken for what it is."""
        return self.label == self.predicted


@dataclass(frozen=True)
class Episode:
    """An episode as it is shown.

    Attributes:
        index: its number.
        hard: whether it is one of the hardest; else of the easiest.
        right: query clips that were right.
        asked: query clips.
        frozen: accuracy of the frozen encoder in the same episode, or None.
        support: of the first ten classes.
        classes: number of classes.
        queries: those shown: wrong ones first, the surest first.
    """

    index: int
    hard: bool
    right: int
    asked: int
    frozen: float | None
    support: tuple[Support, ...]
    classes: int
    queries: tuple[Query, ...]


def episodes_of(findings: Findings, frozen: Mapping[int, float]) -> list[Episode]:
    """The extreme episodes of a run, the hardest first.

    Args:
        findings: of the run.
        frozen: accuracies of the frozen encoder, by episode number; may be empty.
    """
    return [
        _episode(record, frozen.get(record.index), hard=hard)
        for records, hard in ((findings.hardest, True), (findings.easiest, False))
        for record in records
    ]


def clips_of(episodes: Iterable[Episode]) -> list[str]:
    """Names of all clips that the episodes show, each once."""
    names: dict[str, None] = {}
    for episode in episodes:
        names |= dict.fromkeys(support.clip for support in episode.support)
        names |= dict.fromkeys(query.clip for query in episode.queries)
    return list(names)


def _episode(record: EpisodeRecord, frozen: float | None, *, hard: bool) -> Episode:
    queries = list(_queries(record))
    return Episode(
        index=record.index,
        hard=hard,
        right=sum(query.right for query in queries),
        asked=len(queries),
        frozen=frozen,
        support=tuple(
            Support(name, clips[0], len(clips) - 1)
            for name, clips in zip(record.classes, record.support, strict=True)
            if clips
        )[:_CLASSES],
        classes=len(record.classes),
        queries=tuple(_shown(queries)),
    )


def _queries(record: EpisodeRecord) -> Iterator[Query]:
    clips = [name for row in record.query for name in row]
    answers = zip(clips, record.labels, record.predictions, record.probabilities, strict=True)
    for clip, label, guess, row in answers:
        yield Query(clip, record.classes[label], record.classes[guess], row[guess], row[label])


def _shown(queries: Sequence[Query]) -> list[Query]:
    """Wrong ones first, the surest first; then the right ones that were least sure."""
    wrong = sorted((q for q in queries if not q.right), key=lambda q: -q.sure)
    right = sorted((q for q in queries if q.right), key=lambda q: q.sure)
    room = _RIGHT if wrong else _RIGHT + 1
    return [*wrong[: _QUERIES - min(room, len(right))], *right[:room]]


_SCHEMA = "schema"
_CLIPS = "clips"
_ABSENT = "-"


def flat(value: object, key: str = "") -> Iterator[tuple[str, str]]:
    """Every leaf of nested mappings, its key with dots, its value as text."""
    if isinstance(value, Mapping) and value:
        for name, inner in value.items():
            yield from flat(inner, f"{key}.{name}" if key else str(name))
    elif key != _SCHEMA:
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        yield key.removeprefix("identity.config.").removeprefix("identity."), text


def compared(
    headers: Sequence[Mapping[str, Any]],
) -> tuple[list[tuple[str, str]], list[list[tuple[str, str]]]]:
    """Keys and values that all headers share, and for each header the others.

    Args:
        headers: contents of `run.json`.
    """
    # the digests of clips are many, and no setting
    flats = [dict(flat({k: v for k, v in each.items() if k != _CLIPS})) for each in headers]
    keys = list(dict.fromkeys(key for facts in flats for key in facts))
    same = [key for key in keys if len({facts.get(key) for facts in flats}) == 1]
    shared = [(key, flats[0][key]) for key in same]
    others = [key for key in keys if key not in set(same)]
    return shared, [[(key, f.get(key, _ABSENT)) for key in others] for f in flats]


_MOST_CURVES = 6
_MOST_IN_FOREST = 40
_MOST_RELIABLE = 6
_RELIABILITY = (
    "Each mark is a bin of predictions: across, how sure the row was of them; up, how many of them "
    "were right; the larger, the more predictions. Above the dotted line a row is right more often "
    "than it is sure, below it less often. Small marks are mostly chance. Shares, without "
    "intervals; marks as in the legend of the figures."
)
_COSTS: dict[figures.Cost, tuple[str, str]] = {
    "parameters": (
        "Accuracy and parameters",
        "trained in each episode, adapter and head",
    ),
    "macs": (
        "Accuracy and computation",
        "multiply-accumulates of the adapted encoder for one clip",
    ),
    "seconds": (
        "Accuracy and time",
        "median time of tuning and prediction, on the machine of the run",
    ),
}
_UNITS = "episodes or, where two rows have one episode in common, its query clips"
_MEANS = "Means over episodes; their intervals are in the table."
_NO_LINES = "One episode: no interval."
_AS_BEFORE = f"{100 * LEVEL:g} % intervals; they cover the same as in the figure before."


@dataclass(frozen=True, eq=False)
class View:
    """A section as the template shows it.

    Attributes:
        section: the section.
        number: its place in the page, from 1; part of the key of each of its figures.
        reliances: what rows lose in other orders of frames, of all sections.
    """

    section: Section
    number: int
    reliances: Mapping[Row, Reliance] = field(default_factory=dict, repr=False)
    _keys: list[str] = field(default_factory=list, repr=False)

    @cached_property
    def labels(self) -> list[Label]:
        """Name and marks of each row."""
        return labels_of(self.section.table_rows)

    @cached_property
    def table(self) -> Table:
        """The table of the rows."""
        return table_of(self.section)

    @cached_property
    def summary(self) -> list[str]:
        """The answer in plain words, a paragraph for each number of shots."""
        return summary(self.section.table_rows, self.labels, *self.section.verdicts)

    @cached_property
    def _gains(self) -> list[Interval | None]:
        """Gains over frozen as figures show them: over clips where there is one episode."""
        frozen = self.section.verdicts[0]
        return [
            frozen[i].difference if i in frozen and frozen[i].unit == "clip" else gain
            for i, gain in enumerate(self.table.gains)
        ]

    @property
    def chance(self) -> float | None:
        """Accuracy of guessing, 0..1; None where it is not known."""
        return self.section.chance or guessing(self.section.way) or None

    @cached_property
    def points(self) -> list[Point]:
        """The rows as figures show them."""
        triples = zip(self.section.rows, self.labels, strict=True)
        ends = zip(self.table.means, self._gains, strict=True)
        return [
            Point(label, row.table.shot, mean, gain, row.table.parameters,
                  row.table.seconds_per_episode, row.table.macs_per_clip)
            for (row, label), (mean, gain) in zip(triples, ends, strict=True)
        ]  # fmt: skip

    @cached_property
    def extras(self) -> list[Extra]:
        """The tables that follow that of the accuracies."""
        shown = replace(self.table, columns=self.columns)
        found = (
            beyond_accuracy(self.section, shown),
            other_questions(self.section, shown),
            order_of_frames(self.section, shown, self.reliances),
        )
        return [extra for extra in found if extra is not None]

    @cached_property
    def bins(self) -> list[Bin]:
        """The reliability curves in numbers."""
        return bins_of(self.section.rows)

    @property
    def common_head(self) -> str:
        """The head of all rows, where they have the same; else empty."""
        heads = {row.head for row in self.section.table_rows}
        return escaped(heads.pop()) if len(heads) == 1 else ""

    @cached_property
    def columns(self) -> dict[str, list[Cell]]:
        """The columns of the table but for that of a common head, which the caption names."""
        hidden = {"head"} if self.common_head else set()
        return {name: cells for name, cells in self.table.columns.items() if name not in hidden}

    @property
    def intervals(self) -> str:
        """What the brackets of the summary are, and what its verdicts are adjusted for."""
        means = [value for value in self.table.means if value is not None]
        if not means:
            return ""
        frozen, best = self.section.verdicts
        clips = [a.difference for a in frozen.values() if a.unit == "clip"]
        parts = []
        if any(value.low is not None for value in means) or not clips:
            parts.append(_covered("In brackets: ", means, "episodes"))
        if clips:
            parts.append(_covered("Over frozen, in brackets: ", clips, "query clips"))
        return " ".join([*parts, *families(frozen, best)])

    @cached_property
    def legend(self) -> list[tuple[str, str]]:
        """Drawing and name of every adapter and start."""
        each = {label.name: label for label in self.labels}
        return [(figures.swatch(label, key=self._key()), name) for name, label in each.items()]

    def plates(self) -> Iterator[Plate]:
        """The figures of the rows."""
        yield from self._curves()
        yield from self._forests()
        yield from self._costs()

    def _curves(self) -> Iterator[Plate]:
        heads = list(dict.fromkeys(point.label.head for point in self.points))
        text = _covered("Bands: ", self.table.means, "episodes")
        left = len(heads) - _MOST_CURVES
        text += f" {left} more heads are in the table." if left > 0 else ""
        for head in heads[:_MOST_CURVES]:
            own = [point for point in self.points if point.label.head == head]
            drawn = figures.curves(own, key=self._key(), chance=self.chance)
            if drawn is None:
                continue
            title = "Accuracy over shots" + (f", head {head}" if head else "")
            yield Plate(title, text, drawn)
            text = f"Bands: {_AS_BEFORE}" if _has_ends(self.table.means) else _NO_LINES

    def _forests(self) -> Iterator[Plate]:
        gains = any(self._gains)
        values = self._gains if gains else self.table.means
        clips = {a.unit for a in self.section.verdicts[0].values()} if gains else set()
        units = _UNITS if len(clips) > 1 else "query clips" if "clip" in clips else "episodes"
        by = "clip by clip" if units == "query clips" else "episode by episode"
        what = f"Gain over frozen, {by}" if gains else "Accuracy of each row"
        text, parts = _covered("Lines: ", values, units), _parts(self.points)
        span = _span(values) if len(parts) > 1 else None
        for title, part in parts:
            drawn = figures.forest(part, key=self._key(), gains=gains, span=span)
            if drawn is not None:
                yield Plate(f"{what}{title}", text, drawn)
                text = f"Lines: {_AS_BEFORE}" if _has_ends(values) else _NO_LINES

    def _costs(self) -> Iterator[Plate]:
        several = len({point.shot for point in self.points}) > 1
        more = " The shots of a row are joined; the larger the mark, the more." if several else ""
        for of, (title, what) in _COSTS.items():
            drawn = figures.cost(self.points, key=self._key(), of=of)
            if drawn is not None:
                means = _MEANS if _has_ends(self.table.means) else _NO_LINES
                text = f"Across: {what}. {means}"
                yield Plate(title, text + more, drawn)

    def reliability(self) -> Iterator[Plate]:
        """The figures of calibration, one for each number of shots and head."""
        groups: dict[tuple[int | str, str], list[tuple[Label, Reliability]]] = {}
        for row, label in zip(self.section.rows, self.labels, strict=True):
            if row.measures is not None:
                group = groups.setdefault((row.table.shot, label.head), [])
                group.append((label, row.measures.curve))
        text, left = _RELIABILITY, len(groups) - _MOST_RELIABLE
        text += f" {left} more are in the table." if left > 0 else ""
        for (shot, head), curves in list(groups.items())[:_MOST_RELIABLE]:
            drawn = figures.reliability(curves, key=self._key())
            if drawn is not None:
                named = f", head {head}" if head else ""
                yield Plate(f"Confidence and truth, {shots_text(shot)}{named}", text, drawn)
                text = "As the figure before; shares, without intervals."

    def _key(self) -> str:
        self._keys.append(f"s{self.number}f{len(self._keys) + 1}")
        return self._keys[-1]

    @cached_property
    def detail(self) -> Detail | None:
        """One row in detail; None where no episode succeeded."""
        place = self.section.detailed()
        return None if place is None else Detail(self, place)

    @cached_property
    def settings(self) -> tuple[list[tuple[str, str]], list[list[tuple[str, str]]]]:
        """What the headers of the rows share, and in what each differs."""
        return compared([row.header for row in self.section.rows])


def _has_ends(values: Sequence[Interval | None]) -> bool:
    return any(value is not None and value.low is not None for value in values)


def _covered(lead: str, values: Sequence[Interval | None], units: str) -> str:
    """What intervals are and cover, or that there are none."""
    known = [value for value in values if value is not None and value.low is not None]
    if not known:
        return _NO_LINES
    covers = " ".join(sentences(value.covers for value in values if value is not None))
    methods = " or ".join(sorted({value.method for value in known}))
    return f"{lead}{100 * LEVEL:g} % intervals, {methods} over {units}. {covers}"


def _span(values: Sequence[Interval | None]) -> tuple[float, float]:
    """An axis on which all intervals and zero have room."""
    ends = [end for v in values if v is not None for end in (v.mean, v.low, v.high)]
    known = [0.0, *(end for end in ends if end is not None)]
    margin = 0.04 * (max(known) - min(known)) or 0.01
    return min(known) - margin, max(known) + margin


def _parts(points: Sequence[Point]) -> list[tuple[str, list[Point]]]:
    """Rows of a forest with what its title says: many are split by shots, then by heads."""
    shots = list(dict.fromkeys(point.shot for point in points))
    if len(points) <= _MOST_IN_FOREST:
        return [("", sorted(points, key=lambda point: shots.index(point.shot)))]
    parts = []
    for shot in shots:
        own = [point for point in points if point.shot == shot]
        if len(own) <= _MOST_IN_FOREST:
            parts.append((f", {shots_text(shot)}", own))
            continue
        for head in dict.fromkeys(point.label.head for point in own):
            same = [
                replace(point, label=replace(point.label, head=""))
                for point in own
                if point.label.head == head
            ]
            named = f", head {head}" if head else ""
            parts.append((f", {shots_text(shot)}{named}", same))
    return parts


@dataclass(frozen=True)
class ClassRow:
    """A class in the table of classes."""

    name: str
    episodes: int
    value: Interval
    frozen: Interval | None


@dataclass(frozen=True, eq=False)
class Detail:
    """One row in detail: its classes, confusions and episodes.

    Attributes:
        view: of its section.
        place: of the row in its section.
    """

    view: View
    place: int

    @property
    def row(self) -> Row:
        """The row."""
        return self.view.section.rows[self.place]

    @property
    def label(self) -> Label:
        """Its name and marks."""
        return self.view.labels[self.place]

    @cached_property
    def frozen(self) -> Row | None:
        """The frozen encoder with the same head and shot, where it is another row."""
        other = frozen_of(self.place, self.view.section.table_rows)
        if other is None or other == self.place:
            return None
        return self.view.section.rows[other]

    @property
    def name(self) -> str:
        """The row in words."""
        return f"{self.label.full}, {shots_text(self.row.table.shot)}"

    @property
    def why(self) -> str:
        """Why this row is shown, and what follows."""
        if self.view.section.detail is not None:
            return "The row that was asked for."
        return (
            "The row with the highest accuracy at the fewest shots. It was picked on these same "
            "episodes, which flatters it a little."
        )

    @cached_property
    def _by_class(self) -> tuple[dict[str, Interval], dict[str, Interval]]:
        row, frozen = self.row, self.frozen
        own = row.findings.by_class(LEVEL, shared=row.table.shared)
        if frozen is None:
            return own, {}
        return own, frozen.findings.by_class(LEVEL, shared=frozen.table.shared)

    @cached_property
    def classes(self) -> list[ClassRow]:
        """The classes, the highest accuracy first."""
        own, frozen = self._by_class
        names = sorted(own, key=lambda name: (-own[name].mean, name))
        return [ClassRow(name, own[name].n, own[name], frozen.get(name)) for name in names]

    @cached_property
    def confusions(self) -> list[tuple[str, str, float, int]]:
        """The most frequent confusions."""
        return self.row.findings.confusions()

    @cached_property
    def class_notes(self) -> str:
        """What the intervals of classes cover."""
        values = self._by_class[0].values()
        if all(value.low is None for value in values):
            return "Each class is in one episode: no interval."
        covers = " ".join(sentences(value.covers for value in values))
        return (
            f"{100 * LEVEL:g} % intervals over the episodes that have the class. "
            f"{covers} They are not adjusted for the number of classes."
        )

    def plates(self) -> Iterator[Plate]:
        """The figures of the row."""
        own, frozen = self._by_class
        findings, number = self.row.findings, len(own)
        drawn = figures.classes(own, frozen, self.label, key=self.view._key())
        if drawn is not None:
            lines = "Lines: " if any(value.low is not None for value in own.values()) else ""
            ring = " Rings: the frozen encoder in the same episodes." if frozen else ""
            most = "" if number <= 40 else f" The 20 highest and the 20 lowest of {number}."
            yield Plate("Classes", f"{lines}{self.class_notes}{ring}{most}", drawn)
        drawn = figures.confusion(findings.classes, findings.rates(), key=self.view._key())
        if drawn is not None:
            text = (
                "How often a query clip of a class (row) was taken for another (column), among the "
                "episodes that have both; the darker, the more often. Shares, without intervals."
            )
            yield Plate("Confusions", text, drawn)
        yield from self._spread()

    def _spread(self) -> Iterator[Plate]:
        rows = [(self.label, list(self.row.table.accuracies.values()))]
        if self.frozen is not None:
            place = self.view.section.rows.index(self.frozen)
            rows.append((self.view.labels[place], list(self.frozen.table.accuracies.values())))
        drawn = figures.spread(rows, key=self.view._key(), chance=self.view.chance)
        if drawn is not None:
            text = "Filled: the row; dashed: frozen. " if len(rows) > 1 else ""
            text += (
                "Upright lines: means. It shows how much single episodes differ, which is no "
                "interval of the mean."
            )
            yield Plate("Episodes", text, drawn)

    @cached_property
    def episodes(self) -> list[Episode]:
        """The hardest and the easiest episodes."""
        frozen: Mapping[int, float] = {} if self.frozen is None else self.frozen.table.accuracies
        return episodes_of(self.row.findings, frozen)
