"""What the template of a page shows of each section, in plain values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from fewshot_i2v.report import figures
from fewshot_i2v.report._columns import sentences
from fewshot_i2v.report._episodes import Episode, episodes_of
from fewshot_i2v.report._labels import Label, labels_of
from fewshot_i2v.report._plots import shots_text
from fewshot_i2v.report._settings import compared
from fewshot_i2v.report._summary import summary
from fewshot_i2v.report._table import Cell, Table, table_of
from fewshot_i2v.report._verdicts import against_frozen, best_rows, frozen_of
from fewshot_i2v.report.figures import Drawn, Point
from fewshot_i2v.report.sections import LEVEL, Row, Section
from fewshot_i2v.report.terminal import escaped, guessing
from fewshot_i2v.statistics import Interval

_MOST_CURVES = 6
_MOST_IN_FOREST = 40
_AS_BEFORE = f"{100 * LEVEL:g} % intervals; they cover the same as in the figure before."


@dataclass(frozen=True)
class Plate:
    """A figure with its caption.

    Attributes:
        title: what it is, in a few words.
        caption: what is drawn and what its intervals cover.
        drawn: the figure.
    """

    title: str
    caption: str
    drawn: Drawn


@dataclass(frozen=True)
class ClassRow:
    """A class in the table of classes."""

    name: str
    episodes: int
    value: Interval
    frozen: Interval | None


@dataclass(frozen=True, eq=False)
class View:
    """A section as the template shows it.

    Attributes:
        section: the section.
        number: its place in the page, from 1; part of the key of each of its figures.
    """

    section: Section
    number: int
    _keys: list[str] = field(default_factory=list, repr=False)

    @cached_property
    def labels(self) -> list[Label]:
        """Name and marks of each row."""
        return labels_of(self.section.table_rows)

    @cached_property
    def table(self) -> Table:
        """The table of the rows."""
        section = self.section
        return table_of(section.table_rows, way=section.way, chance=section.chance, level=LEVEL)

    @cached_property
    def summary(self) -> list[str]:
        """The answer in plain words, a paragraph for each number of shots."""
        rows = self.section.table_rows
        return summary(rows, self.labels, against_frozen(rows, LEVEL), best_rows(rows, LEVEL))

    @property
    def chance(self) -> float | None:
        """Accuracy of guessing, 0..1; None where it is not known."""
        return self.section.chance or guessing(self.section.way) or None

    @cached_property
    def points(self) -> list[Point]:
        """The rows as figures show them."""
        triples = zip(self.section.rows, self.labels, strict=True)
        ends = zip(self.table.means, self.table.gains, strict=True)
        return [
            Point(label, row.table.shot, mean, gain, row.table.parameters,
                  row.table.seconds_per_episode)
            for (row, label), (mean, gain) in zip(triples, ends, strict=True)
        ]  # fmt: skip

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
        """What the brackets of the summary are."""
        found = [value for value in self.table.means if value is not None]
        if not found:
            return ""
        covers = " ".join(sentences(v.covers for v in found))
        return (
            f"In brackets: {100 * LEVEL:g} % intervals, {found[0].method} over episodes. {covers}"
        )

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
        text, left = self._interval_text(self.table.means), len(heads) - _MOST_CURVES
        text += f" {left} more heads are in the table." if left > 0 else ""
        for head in heads[:_MOST_CURVES]:
            own = [point for point in self.points if point.label.head == head]
            drawn = figures.curves(own, key=self._key(), chance=self.chance)
            if drawn is None:
                continue
            title = "Accuracy over shots" + (f", head {head}" if head else "")
            yield Plate(title, f"Bands: {text}", drawn)
            text = _AS_BEFORE

    def _forests(self) -> Iterator[Plate]:
        gains = any(self.table.gains)
        values = self.table.gains if gains else self.table.means
        what = "Gain over frozen, episode by episode" if gains else "Accuracy of each row"
        text, parts = f"Lines: {self._interval_text(values)}", _parts(self.points)
        span = _span(values) if len(parts) > 1 else None
        for title, part in parts:
            drawn = figures.forest(part, key=self._key(), gains=gains, span=span)
            if drawn is not None:
                yield Plate(f"{what}{title}", text, drawn)
                text = f"Lines: {_AS_BEFORE}"

    def _costs(self) -> Iterator[Plate]:
        several = len({point.shot for point in self.points}) > 1
        more = " The shots of a row are joined; the larger the mark, the more." if several else ""
        for seconds, title in ((False, "Accuracy and parameters"), (True, "Accuracy and time")):
            drawn = figures.cost(self.points, key=self._key(), seconds=seconds)
            if drawn is not None:
                what = (
                    "median time of tuning and prediction, on the machine of the run"
                    if seconds
                    else "trained in each episode, adapter and head"
                )
                text = f"Across: {what}. Means over episodes; their intervals are in the table."
                yield Plate(title, text + more, drawn)

    def _interval_text(self, values: Sequence[Interval | None]) -> str:
        found = [value for value in values if value is not None]
        if not found:
            return ""
        covers = " ".join(sentences(value.covers for value in found))
        return f"{100 * LEVEL:g} % intervals, {found[0].method} over episodes. {covers}"

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
        covers = " ".join(sentences(value.covers for value in values))
        return (
            f"{100 * LEVEL:g} % intervals, Student t over the episodes that have the class. "
            f"{covers} They are not adjusted for the number of classes."
        )

    def plates(self) -> Iterator[Plate]:
        """The figures of the row."""
        own, frozen = self._by_class
        findings, number = self.row.findings, len(own)
        drawn = figures.classes(own, frozen, self.label, key=self.view._key())
        if drawn is not None:
            ring = " Rings: the frozen encoder in the same episodes." if frozen else ""
            most = "" if number <= 40 else f" The 20 highest and the 20 lowest of {number}."
            yield Plate("Classes", f"Lines: {self.class_notes}{ring}{most}", drawn)
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
