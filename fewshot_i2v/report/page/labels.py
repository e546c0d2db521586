"""Short names of rows, and how their lines and markers are drawn."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from fewshot_i2v.runs.row_names import number_duplicates, row_notes
from fewshot_i2v.runs.row_summary import FRESH, RowSummary, has_starts
from fewshot_i2v.utils.text_table import escape_name

MARKERS = ("o", "s", "^", "D", "v", "P", "X", "p")
"""Of each series by the number of its colour."""
_N_SERIES = 8
_MAX_NAME_LENGTH, _MAX_SECOND_LENGTH = 30, 36
_DASHES: dict[str, str | tuple[float, tuple[float, ...]]] = {
    "fresh": (0, (2.5, 1.8)),
    "base-trained": "-",
    "meta-trained": (0, (6, 1.6, 1.2, 1.6)),
}
_UNTUNED_DASH = (0.0, (1.0, 1.4))


@dataclass(frozen=True)
class RowLabel:
    """Name and drawing style of a row.

    Attributes:
        adapter: its label, cut where long.
        start: "fresh", "base-trained" or "meta-trained" where any row of the table has a starting
            point and this one's adapter can have one; else empty.
        qualifiers: distinguish it from rows of the same adapter and start, such as the name of the
            start.
        head: its label, where the rows differ in it; else empty.
        series: number of its colour and marker, 0 for the frozen encoder.
        dash: of its line, as matplotlib takes it.
        filled: whether its marker is: hollow ones are of adapters that start fresh.
        tuned: whether an episode tunes it: the markers of trained starts without tuning are half
            filled and smaller.
    """

    adapter: str
    start: str
    qualifiers: tuple[str, ...]
    head: str
    series: int
    dash: str | tuple[float, tuple[float, ...]]
    filled: bool
    tuned: bool = True

    @property
    def name(self) -> str:
        """Adapter and start, such as "base-trained aim"."""
        qualifiers = f" ({', '.join(self.qualifiers)})" if self.qualifiers else ""
        return (
            f"{self.start} {self.adapter}{qualifiers}"
            if self.start
            else f"{self.adapter}{qualifiers}"
        )

    @property
    def full(self) -> str:
        """Adapter, start and head."""
        return f"{self.name} with {self.head}" if self.head else self.name

    @property
    def fits_one_line(self) -> bool:
        """Whether the full name fits beside a figure in one line."""
        return not self.head and len(self.name) <= _MAX_NAME_LENGTH

    @property
    def two_lines(self) -> tuple[str, str]:
        """Full name in two lines, the second of which may be empty."""
        if self.head and len(self.name) <= _MAX_NAME_LENGTH:
            return self.name, shorten(self.head, _MAX_SECOND_LENGTH)
        second_line = [f"{self.start} {', '.join(self.qualifiers)}".strip(), self.head]
        return shorten(self.adapter, _MAX_NAME_LENGTH), shorten(
            " · ".join(filter(None, second_line)), _MAX_SECOND_LENGTH
        )

    @property
    def colour(self) -> str:
        """Name of the page variable of its colour."""
        return f"s{self.series}"

    @property
    def marker(self) -> str:
        """Marker, as matplotlib names it."""
        return MARKERS[self.series % len(MARKERS)]


def make_labels(rows: Sequence[RowSummary]) -> list[RowLabel]:
    """Make the label of each row."""
    adapters = number_duplicates(
        (row.adapter, shorten(row.adapter, _MAX_NAME_LENGTH)) for row in rows
    )
    heads = number_duplicates((row.head, shorten(row.head, 2 * _MAX_NAME_LENGTH)) for row in rows)
    several_heads = len(set(heads)) > 1
    any_start = has_starts(rows)
    adapter_order = list(dict.fromkeys(row.adapter for row in rows if not row.is_frozen))
    return [
        RowLabel(
            adapter=adapter,
            start="" if not any_start or _is_plain_frozen(row) else escape_name(row.start),
            qualifiers=tuple(_qualifiers(row, rows)),
            head=head if several_heads else "",
            series=0 if row.is_frozen else 1 + adapter_order.index(row.adapter) % (_N_SERIES - 1),
            dash=_dash(row) if any_start else "-",
            filled=not any_start or row.start != FRESH or _is_plain_frozen(row),
            tuned=not row.is_untuned,
        )
        for row, adapter, head in zip(rows, adapters, heads, strict=True)
    ]


def _dash(row: RowSummary) -> str | tuple[float, tuple[float, ...]]:
    """Dash of a line in a table with trained starts."""
    if row.is_untuned:
        return _UNTUNED_DASH
    return "-" if _is_plain_frozen(row) else _DASHES.get(row.start, "-")


def _is_plain_frozen(row: RowSummary) -> bool:
    return row.is_frozen and row.start == FRESH


def _qualifiers(row: RowSummary, rows: Sequence[RowSummary]) -> Iterator[str]:
    """Notes and name of the start that rows of the same adapter do not share."""
    same_adapter = [other_row for other_row in rows if other_row.adapter == row.adapter]
    notes = [set(row_notes(other_row)) for other_row in same_adapter]
    yield from (
        note for note in row_notes(row) if not all(note in row_notes for row_notes in notes)
    )
    starts = {other_row.start_name for other_row in rows if other_row.start == row.start}
    if len(starts) > 1:
        yield escape_name(row.start_name)
    if row.seen:
        yield "seen"


def shorten(name: str, max_length: int) -> str:
    """Shorten a name to one printable line."""
    shown = escape_name(name)
    return shown if len(shown) <= max_length else shown[: max_length - 1] + "…"
