"""Views of the sections of a page: plain values for its template."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from fewshot_i2v.report.analysis.frame_order import LossesByRow
from fewshot_i2v.report.analysis.report_data import LEVEL, ReportRow, ReportSection
from fewshot_i2v.report.page import figures
from fewshot_i2v.report.page.figures.style import CaptionedFigure, PlotPoint
from fewshot_i2v.report.page.labels import RowLabel, make_labels
from fewshot_i2v.report.page.row_settings import common_and_differing
from fewshot_i2v.report.page.shown_episodes import ShownEpisode, extreme_episodes
from fewshot_i2v.report.page.summary_text import adjustment_notes, summarize
from fewshot_i2v.report.tables.accuracy_table import chance_accuracy, sort_shots
from fewshot_i2v.report.tables.interval_text import join_covers, join_methods
from fewshot_i2v.report.tables.recommendation_text import Paragraph, section_recommendation
from fewshot_i2v.report.tables.section_tables import (
    ReliabilityBin,
    reliability_bins,
    section_tables,
)
from fewshot_i2v.report.tables.table import Table
from fewshot_i2v.report.tables.table_notes import shots_text
from fewshot_i2v.runs.row_summary import UNTUNED_NOTE, baseline_of
from fewshot_i2v.statistics import Interval
from fewshot_i2v.statistics.calibration import ReliabilityCurve
from fewshot_i2v.utils.text_table import escape_name

_MAX_CURVES = 6
_MAX_LEAD_ROWS = 10
_MIN_CALIBRATION_EPISODES = 30
"""Below it the lines of calibration are mostly chance."""
_MAX_FOREST_ROWS = 40
_MAX_RELIABILITY_FIGURES = 6
_RELIABILITY_CAPTION = (
    "Each mark is a bin of predictions: across, how sure the row was of them; up, how many of them "
    "were right; the larger, the more predictions. Above the dotted line a row is right more often "
    "than it is sure, below it less often. Small marks are mostly chance. Shares, without "
    "intervals; marks as in the legend of the figures."
)
_COST_CAPTIONS: dict[figures.CostKind, tuple[str, str]] = {
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
_MIXED_UNITS = "episodes or, where two rows have one episode in common, its query clips"
_MEANS_NOTE = "Means over episodes; their intervals are in the table."
_NO_INTERVAL_NOTE = "Too few episodes: no interval."
_SAME_INTERVALS_NOTE = f"{100 * LEVEL:g} % intervals; they cover the same as in the figure before."


@dataclass(frozen=True, eq=False)
class SectionView:
    """A section as the template shows it.

    Attributes:
        section: the section.
        number: its position in the page, from 1; part of the key of each of its figures.
        frame_order_losses: losses of rows in other frame orders, of all sections.
    """

    section: ReportSection
    number: int
    frame_order_losses: LossesByRow = field(default_factory=dict, repr=False)
    _keys: list[str] = field(default_factory=list, repr=False)

    @cached_property
    def labels(self) -> list[RowLabel]:
        """Name and drawing style of each row."""
        return make_labels(self.section.summaries)

    @cached_property
    def tables(self) -> list[Table]:
        """The tables, that of accuracies first; a common head is in the captions instead."""
        hidden = {"head"} if self.common_head else set()
        return section_tables(self.section, self.frame_order_losses, hidden=hidden)

    @cached_property
    def means(self) -> list[Interval | None]:
        """Mean accuracy of each row."""
        return [row.interval for row in self.section.summaries]

    @cached_property
    def answer(self) -> list[Paragraph]:
        """The answer in plain words: the row to use, and a list of what would change that."""
        if self.section.recommendations:
            return section_recommendation(self.section)
        return [*map(Paragraph, self._paragraphs[:1])]

    @property
    def summary(self) -> list[str]:
        """A paragraph for each number of shots, but for those that are the answer."""
        return self._paragraphs if self.section.recommendations else self._paragraphs[1:]

    @cached_property
    def _paragraphs(self) -> list[str]:
        return summarize(self.section.summaries, self.labels, *self.section.verdicts)

    @cached_property
    def _gains(self) -> list[Interval | None]:
        """Gains over frozen for figures: over clips where there is one episode."""
        frozen = self.section.verdicts[0]
        return [
            frozen[i].difference if i in frozen and frozen[i].unit == "clip" else gain
            for i, gain in enumerate(self.section.gains)
        ]

    @property
    def chance(self) -> float | None:
        """Accuracy of guessing, 0..1; None where it is not known."""
        return self.section.chance or chance_accuracy(self.section.way) or None

    @cached_property
    def points(self) -> list[PlotPoint]:
        """The rows as points of figures."""
        labelled_rows = zip(self.section.rows, self.labels, strict=True)
        interval_pairs = zip(self.means, self._gains, strict=True)
        return [
            PlotPoint(label, row.summary.shot, mean, gain, row.summary.tuned_parameters,
                  row.summary.seconds_per_episode, row.summary.macs_per_clip)
            for (row, label), (mean, gain) in zip(labelled_rows, interval_pairs, strict=True)
        ]  # fmt: skip

    @cached_property
    def bins(self) -> list[ReliabilityBin]:
        """The reliability curves in numbers."""
        return reliability_bins(self.section.rows)

    @property
    def common_head(self) -> str:
        """The head of all rows, where they have the same; else empty."""
        heads = {row.head for row in self.section.summaries}
        return escape_name(heads.pop()) if len(heads) == 1 else ""

    @property
    def intervals(self) -> str:
        """Notes on the brackets of the summary, and on what its verdicts are adjusted for."""
        means = [value for value in self.means if value is not None]
        if not means:
            return ""
        frozen, best = self.section.verdicts
        clip_intervals = [
            verdict.difference for verdict in frozen.values() if verdict.unit == "clip"
        ]
        captions = []
        if any(value.low is not None for value in means) or not clip_intervals:
            captions.append(_intervals_caption("In brackets: ", means, "episodes"))
        if clip_intervals:
            captions.append(
                _intervals_caption("Over frozen, in brackets: ", clip_intervals, "query clips")
            )
        return " ".join([*captions, *adjustment_notes(frozen, best)])

    @cached_property
    def legend(self) -> list[tuple[str, str]]:
        """Drawing and name of every adapter and start."""
        labels_by_name = {label.name: label for label in self.labels}
        return [
            (
                figures.legend_marker(label, key=self.next_key()),
                name if label.tuned or UNTUNED_NOTE in label.qualifiers else f"{name} (untuned)",
            )
            for name, label in labels_by_name.items()
        ]

    @cached_property
    def lead(self) -> CaptionedFigure | None:
        """The figure beside the answer: gains at the fewest shots, or accuracies without gains."""
        fewest = self._lead_points
        if len(fewest) == len(self.points) <= _MAX_LEAD_ROWS:
            return next(self._forest_figures(), None)
        gains = any(self._gains)
        shown = sorted(fewest, key=lambda p: -_lead_value(p, gains=gains))[:_MAX_LEAD_ROWS]
        in_order = [point for point in fewest if point in shown]
        svg = figures.draw_forest(in_order, key=self.next_key(), gains=gains)
        if svg is None:
            return None
        title = f"{'Gain over frozen' if gains else 'Accuracy'}, {shots_text(fewest[0].shot)}"
        title += f": the {len(shown)} highest of {len(fewest)}" if len(shown) < len(fewest) else ""
        note = f"Lines: {100 * LEVEL:g} % intervals; what they cover stands with the figures below."
        any_interval = _any_interval([p.gain if gains else p.mean for p in in_order])
        return CaptionedFigure(title, note if any_interval else _NO_INTERVAL_NOTE, svg)

    @property
    def _lead_points(self) -> list[PlotPoint]:
        """The rows at the fewest shots."""
        shots = sort_shots(point.shot for point in self.points)
        return [point for point in self.points if point.shot == shots[0]]

    def plates(self) -> Iterator[CaptionedFigure]:
        """The figures of the rows."""
        yield from self._curve_figures()
        if not len(self._lead_points) == len(self.points) <= _MAX_LEAD_ROWS:
            yield from self._forest_figures()
        yield from self._cost_figures()

    def _curve_figures(self) -> Iterator[CaptionedFigure]:
        heads = list(dict.fromkeys(point.label.head for point in self.points))
        text = _intervals_caption("Bands: ", self.means, "episodes")
        n_remaining = len(heads) - _MAX_CURVES
        text += f" {n_remaining} more heads are in the table." if n_remaining > 0 else ""
        for head in heads[:_MAX_CURVES]:
            head_points = [point for point in self.points if point.label.head == head]
            svg = figures.draw_curves(head_points, key=self.next_key(), chance=self.chance)
            if svg is None:
                continue
            title = "Accuracy over shots" + (f", head {head}" if head else "")
            yield CaptionedFigure(title, text, svg)
            text = (
                f"Bands: {_SAME_INTERVALS_NOTE}" if _any_interval(self.means) else _NO_INTERVAL_NOTE
            )

    def _forest_figures(self) -> Iterator[CaptionedFigure]:
        gains = any(self._gains)
        values = self._gains if gains else self.means
        kinds = {verdict.unit for verdict in self.section.verdicts[0].values()} if gains else set()
        units = _MIXED_UNITS if len(kinds) > 1 else "query clips" if "clip" in kinds else "episodes"
        pairing = "clip by clip" if units == "query clips" else "episode by episode"
        quantity = f"Gain over frozen, {pairing}" if gains else "Accuracy of each row"
        text, groups = _intervals_caption("Lines: ", values, units), _split_forest(self.points)
        span = _common_span(values) if len(groups) > 1 else None
        for title, group in groups:
            svg = figures.draw_forest(group, key=self.next_key(), gains=gains, span=span)
            if svg is not None:
                yield CaptionedFigure(f"{quantity}{title}", text, svg)
                text = (
                    f"Lines: {_SAME_INTERVALS_NOTE}" if _any_interval(values) else _NO_INTERVAL_NOTE
                )

    def _cost_figures(self) -> Iterator[CaptionedFigure]:
        several_shots = len({point.shot for point in self.points}) > 1
        shots_note = (
            " The shots of a row are joined; the larger the mark, the more."
            if several_shots
            else ""
        )
        for kind, (title, explanation) in _COST_CAPTIONS.items():
            svg = figures.draw_cost(self.points, key=self.next_key(), kind=kind)
            if svg is not None:
                means = _MEANS_NOTE if _any_interval(self.means) else _NO_INTERVAL_NOTE
                text = f"Across: {explanation}. {means}"
                yield CaptionedFigure(title, text + shots_note, svg)

    def reliability(self) -> Iterator[CaptionedFigure]:
        """The figures of calibration, one for each number of shots and head, of enough episodes."""
        groups: dict[tuple[int | str, str], list[tuple[RowLabel, ReliabilityCurve]]] = {}
        for row, label in zip(self.section.rows, self.labels, strict=True):
            if row.metrics is not None and row.summary.episodes >= _MIN_CALIBRATION_EPISODES:
                group = groups.setdefault((row.summary.shot, label.head), [])
                group.append((label, row.metrics.curve))
        text, n_remaining = _RELIABILITY_CAPTION, len(groups) - _MAX_RELIABILITY_FIGURES
        text += f" {n_remaining} more are in the table." if n_remaining > 0 else ""
        for (shot, head), curves in list(groups.items())[:_MAX_RELIABILITY_FIGURES]:
            svg = figures.draw_reliability(curves, key=self.next_key())
            if svg is not None:
                head_clause = f", head {head}" if head else ""
                yield CaptionedFigure(
                    f"Confidence and truth, {shots_text(shot)}{head_clause}", text, svg
                )
                text = "As the figure before; shares, without intervals."

    def next_key(self) -> str:
        """Makes a key for a figure, unique on the page."""
        self._keys.append(f"s{self.number}f{len(self._keys) + 1}")
        return self._keys[-1]

    @cached_property
    def detail(self) -> RowDetailView | None:
        """One row in detail; None where no episode succeeded."""
        position = self.section.detail_position()
        return None if position is None else RowDetailView(self, position)

    @cached_property
    def settings(self) -> tuple[list[tuple[str, str]], list[list[tuple[str, str]]]]:
        """Settings that the headers of the rows share, and those in which each differs."""
        return common_and_differing([row.header for row in self.section.summaries])


def _lead_value(point: PlotPoint, *, gains: bool) -> float:
    value = point.gain if gains else point.mean
    return -1.0 if value is None else value.mean


def _any_interval(values: Sequence[Interval | None]) -> bool:
    return any(value is not None and value.low is not None for value in values)


def _intervals_caption(lead: str, values: Sequence[Interval | None], units: str) -> str:
    """Caption on the kind and coverage of intervals, or that there are none."""
    with_ends = [value for value in values if value is not None and value.low is not None]
    if not with_ends:
        return _NO_INTERVAL_NOTE
    covers = join_covers(value for value in values if value is not None)
    methods = f"{join_methods(with_ends)} over {units}"
    return f"{lead}{100 * LEVEL:g} % intervals, {methods}. {covers}"


def _common_span(values: Sequence[Interval | None]) -> tuple[float, float]:
    """Range of an axis that shows all intervals and zero."""
    ends = [end for v in values if v is not None for end in (v.mean, v.low, v.high)]
    ends_and_zero = [0.0, *(end for end in ends if end is not None)]
    margin = 0.04 * (max(ends_and_zero) - min(ends_and_zero)) or 0.01
    return min(ends_and_zero) - margin, max(ends_and_zero) + margin


def _split_forest(points: Sequence[PlotPoint]) -> list[tuple[str, list[PlotPoint]]]:
    """Split the rows of a forest, with titles: many are split by shots, then by heads."""
    shots = list(dict.fromkeys(point.shot for point in points))
    if len(points) <= _MAX_FOREST_ROWS:
        return [("", sorted(points, key=lambda point: shots.index(point.shot)))]
    groups = []
    for shot in shots:
        shot_points = [point for point in points if point.shot == shot]
        if len(shot_points) <= _MAX_FOREST_ROWS:
            groups.append((f", {shots_text(shot)}", shot_points))
            continue
        for head in dict.fromkeys(point.label.head for point in shot_points):
            head_points = [
                replace(point, label=replace(point.label, head=""))
                for point in shot_points
                if point.label.head == head
            ]
            head_clause = f", head {head}" if head else ""
            groups.append((f", {shots_text(shot)}{head_clause}", head_points))
    return groups


@dataclass(frozen=True)
class ClassRow:
    """A class in the table of classes."""

    name: str
    episodes: int
    value: Interval
    frozen: Interval | None


@dataclass(frozen=True, eq=False)
class RowDetailView:
    """One row in detail: its classes, confusions and episodes.

    Attributes:
        view: of its section.
        position: of the row in its section.
    """

    view: SectionView
    position: int

    @property
    def row(self) -> ReportRow:
        """The row."""
        return self.view.section.rows[self.position]

    @property
    def label(self) -> RowLabel:
        """Its name and drawing style."""
        return self.view.labels[self.position]

    @cached_property
    def frozen(self) -> ReportRow | None:
        """The frozen encoder with the same head and shot, where it is another row."""
        summary = self.row.summary
        frozen = baseline_of(summary, self.view.section.summaries)
        if frozen is None or frozen is summary:
            return None
        return next(row for row in self.view.section.rows if row.summary is frozen)

    @property
    def name(self) -> str:
        """Display name of the row with its number of shots."""
        return f"{self.label.full}, {shots_text(self.row.summary.shot)}"

    @property
    def why(self) -> str:
        """Why this row is shown, as a sentence or two."""
        if self.view.section.detail is not None:
            return "The row of --detail."
        return (
            "The row with the highest accuracy at the fewest shots. It was picked on these same "
            "episodes, which flatters it a little."
        )

    @cached_property
    def _class_intervals(self) -> tuple[dict[str, Interval], dict[str, Interval]]:
        row, frozen = self.row, self.frozen
        class_intervals = row.analysis.class_intervals(LEVEL, clips_shared=row.summary.shared)
        if frozen is None:
            return class_intervals, {}
        return class_intervals, frozen.analysis.class_intervals(
            LEVEL, clips_shared=frozen.summary.shared
        )

    @cached_property
    def classes(self) -> list[ClassRow]:
        """The classes, the highest accuracy first."""
        class_intervals, frozen = self._class_intervals
        names = sorted(class_intervals, key=lambda name: (-class_intervals[name].mean, name))
        return [
            ClassRow(name, class_intervals[name].n, class_intervals[name], frozen.get(name))
            for name in names
        ]

    @cached_property
    def confusions(self) -> list[tuple[str, str, float, int]]:
        """The most frequent confusions."""
        return self.row.analysis.top_confusions()

    @cached_property
    def class_notes(self) -> str:
        """Note on the intervals of classes."""
        values = self._class_intervals[0].values()
        if all(value.low is None for value in values):
            return "Each class is in one episode: no interval."
        return (
            f"{100 * LEVEL:g} % intervals over the episodes that have the class. "
            f"{join_covers(values)} They are not adjusted for the number of classes."
        )

    def plates(self) -> Iterator[CaptionedFigure]:
        """The figures of the row."""
        class_intervals, frozen = self._class_intervals
        analysis, n_classes = self.row.analysis, len(class_intervals)
        svg = figures.draw_classes(class_intervals, frozen, self.label, key=self.view.next_key())
        if svg is not None:
            lines = (
                "Lines: "
                if any(value.low is not None for value in class_intervals.values())
                else ""
            )
            ring = " Rings: the frozen encoder in the same episodes." if frozen else ""
            selection = (
                "" if n_classes <= 40 else f" The 20 highest and the 20 lowest of {n_classes}."
            )
            yield CaptionedFigure("Classes", f"{lines}{self.class_notes}{ring}{selection}", svg)
        svg = figures.draw_confusion(
            analysis.classes, analysis.confusion_rates(), key=self.view.next_key()
        )
        if svg is not None:
            text = (
                "How often a query clip of a class (row) was taken for another (column), among the "
                "episodes that have both; the darker, the more often. Shares, without intervals."
            )
            yield CaptionedFigure("Confusions", text, svg)
        yield from self._spread_figures()

    def _spread_figures(self) -> Iterator[CaptionedFigure]:
        rows = [(self.label, list(self.row.summary.accuracies.values()))]
        if self.frozen is not None:
            frozen_position = self.view.section.rows.index(self.frozen)
            rows.append(
                (self.view.labels[frozen_position], list(self.frozen.summary.accuracies.values()))
            )
        svg = figures.draw_spread(rows, key=self.view.next_key(), chance=self.view.chance)
        if svg is not None:
            text = "Filled: the row; dashed: frozen. " if len(rows) > 1 else ""
            text += (
                "Upright lines: means. It shows how much single episodes differ, which is no "
                "interval of the mean."
            )
            yield CaptionedFigure("Episodes", text, svg)

    @cached_property
    def episodes(self) -> list[ShownEpisode]:
        """The hardest and the easiest episodes."""
        frozen: Mapping[int, float] = {} if self.frozen is None else self.frozen.summary.accuracies
        return extreme_episodes(self.row.analysis, frozen)
