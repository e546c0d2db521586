"""Short names of rows, and the marks they are drawn with."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from fewshot_i2v.runs.row_summary import FRESH, TableRow, has_starts, is_frozen
from fewshot_i2v.utils.text_table import escaped

MARKERS = ("o", "s", "^", "D", "v", "P", "X", "p")
"""Of each series by the number of its colour."""
_SERIES = 8
_LINE, _SECOND = 30, 36
_DASHES: dict[str, str | tuple[float, tuple[float, ...]]] = {
    "fresh": (0, (2.5, 1.8)),
    "base-trained": "-",
    "meta-trained": (0, (6, 1.6, 1.2, 1.6)),
}


@dataclass(frozen=True)
class Label:
    """What a row is called and how it is drawn.

    Attributes:
        adapter: its label, cut where long.
        start: "fresh", "base-trained" or "meta-trained" where any row of the table has a starting
            point and this one's adapter can have one; else empty.
        marks: what tells it from rows of the same adapter and start, such as the name of the start.
        head: its label, where the rows differ in it; else empty.
        series: number of its colour and marker, 0 for the frozen encoder.
        dash: of its line, as matplotlib takes it.
        filled: whether its marker is: hollow ones are of adapters that start fresh.
    """

    adapter: str
    start: str
    marks: tuple[str, ...]
    head: str
    series: int
    dash: str | tuple[float, tuple[float, ...]]
    filled: bool

    @property
    def name(self) -> str:
        """Adapter and start, such as "base-trained aim"."""
        marks = f" ({', '.join(self.marks)})" if self.marks else ""
        return f"{self.start} {self.adapter}{marks}" if self.start else f"{self.adapter}{marks}"

    @property
    def full(self) -> str:
        """Adapter, start and head."""
        return f"{self.name} with {self.head}" if self.head else self.name

    @property
    def short(self) -> bool:
        """Whether all of it fits beside a figure in one line."""
        return not self.head and len(self.name) <= _LINE

    @property
    def lines(self) -> tuple[str, str]:
        """All of it in two lines, the second of which may be empty."""
        if self.head and len(self.name) <= _LINE:
            return self.name, _cut_one(self.head, _SECOND)
        rest = [f"{self.start} {', '.join(self.marks)}".strip(), self.head]
        return _cut_one(self.adapter, _LINE), _cut_one(" · ".join(filter(None, rest)), _SECOND)

    @property
    def colour(self) -> str:
        """Name of the variable of its colour."""
        return f"s{self.series}"

    @property
    def marker(self) -> str:
        """As matplotlib names it."""
        return MARKERS[self.series % len(MARKERS)]


def labels_of(rows: Sequence[TableRow]) -> list[Label]:
    """The label of each row.

    Args:
        rows: those of one table.
    """
    adapters = _cut([row.adapter for row in rows], _LINE)
    heads = _cut([row.head for row in rows], 2 * _LINE)
    several = len(set(heads)) > 1
    started = has_starts(rows)
    order = list(dict.fromkeys(row.adapter for row in rows if not is_frozen(row)))
    return [
        Label(
            adapter=adapter,
            start="" if not started or _startless(row) else escaped(row.start),
            marks=tuple(_marks(row, rows)),
            head=head if several else "",
            series=0 if is_frozen(row) else 1 + order.index(row.adapter) % (_SERIES - 1),
            dash=_DASHES.get(row.start, "-") if started and not _startless(row) else "-",
            filled=not started or row.start != FRESH or _startless(row),
        )
        for row, adapter, head in zip(rows, adapters, heads, strict=True)
    ]


def _startless(row: TableRow) -> bool:
    return is_frozen(row) and row.start == FRESH


def _marks(row: TableRow, rows: Sequence[TableRow]) -> Iterator[str]:
    """What is said beside the name: the notes and the start's name that others have not."""
    own = [other for other in rows if other.adapter == row.adapter]
    notes = [set(_notes(other)) for other in own]
    yield from (note for note in _notes(row) if not all(note in others for others in notes))
    starts = {other.start_name for other in rows if other.start == row.start}
    if len(starts) > 1:
        yield escaped(row.start_name)
    if row.seen:
        yield "seen"


def _notes(row: TableRow) -> list[str]:
    return [escaped(note) for note in row.note.split(", ") if note]


def _cut(names: Sequence[str], longest: int) -> list[str]:
    """Names as printable lines, cut where long; those that would become equal are numbered."""
    shown = {name: _cut_one(escaped(name), longest) for name in names}
    twice = Counter(shown.values())
    numbers: Counter[str] = Counter()
    for name, cut in list(shown.items()):
        if twice[cut] > 1:
            numbers[cut] += 1
            shown[name] = f"{cut} ({numbers[cut]})"
    return [shown[name] for name in names]


def _cut_one(name: str, longest: int) -> str:
    return name if len(name) <= longest else name[: longest - 1] + "…"
