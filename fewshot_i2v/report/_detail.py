"""One row of a table in detail, as the template of a page shows it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from fewshot_i2v.report import figures
from fewshot_i2v.report._columns import sentences
from fewshot_i2v.report._episodes import Episode, episodes_of
from fewshot_i2v.report._labels import Label
from fewshot_i2v.report._plots import Plate, shots_text
from fewshot_i2v.report._verdicts import frozen_of
from fewshot_i2v.report.sections import LEVEL, Row
from fewshot_i2v.statistics import Interval

if TYPE_CHECKING:
    from fewshot_i2v.report._views import View


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
