"""Figure of a timeline: which class a video shows when, and how sure that is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fewshot_i2v.report.page.figures.style import colour, draw_left_text, new_figure, to_figure
from fewshot_i2v.report.page.labels import shorten

_WIDTH, _ROW_HEIGHT, _EDGE_HEIGHT, _CURVE_HEIGHT = 920, 19, 60, 70
_MAX_NAME_LENGTH = 26
_N_COLOURS = 7


@dataclass(frozen=True)
class Span:
    """Some seconds of a video with one class.

    Attributes:
        start: seconds from the first frame.
        end: likewise.
        class_name: the class; None: none of them.
        probability: 0..1.
    """

    start: float
    end: float
    class_name: str | None
    probability: float


def draw_timeline(
    segments: Sequence[Span], cells: Sequence[Span], classes: Sequence[str], *, key: str
) -> str:
    """Draw a bar for each segment in the row of its class, and the probability below.

    The probabilities of the cells, one for each stride of the video, are the curve. Classes that do
    not occur have no row.
    """
    names = {segment.class_name for segment in segments}
    rows = [name for name in classes if name in names]
    colours = {name: f"s{1 + i % _N_COLOURS}" for i, name in enumerate(rows)}
    height = _ROW_HEIGHT * max(1, len(rows)) + _CURVE_HEIGHT + _EDGE_HEIGHT
    ratios = (_ROW_HEIGHT * max(1, len(rows)), _CURVE_HEIGHT)
    with new_figure(_WIDTH, height) as figure:
        bars, curve = figure.subplots(2, 1, sharex=True, height_ratios=ratios)
        for y, name in enumerate(rows):
            spans = [(s.start, s.end - s.start) for s in segments if s.class_name == name]
            bars.broken_barh(spans, (y - 0.36, 0.72), facecolor=colour(colours[name]), lw=0)
            draw_left_text(bars, y, shorten(name, _MAX_NAME_LENGTH))
        bars.set(ylim=(max(1, len(rows)) - 0.4, -0.6), yticks=[])
        bars.grid(axis="x")
        bars.spines["left"].set_visible(False)
        bars.tick_params(axis="x", length=0)
        edges = [cell.start for cell in cells] + [cells[-1].end]
        curve.stairs([100 * cell.probability for cell in cells], edges, color=colour("ink"), lw=0.9)
        curve.set(xlim=(segments[0].start, segments[-1].end), ylim=(0, 104), yticks=[0, 50, 100])
        curve.set(xlabel="seconds", ylabel="probability, %")
        curve.grid(axis="y")
        texts = [
            f"{s.start:.1f} to {s.end:.1f} s {s.class_name}"
            for s in segments
            if s.class_name is not None
        ]
        alt = f"Timeline. {'; '.join(texts) or 'none of the classes'}."
        return to_figure(curve, key=key, alt=alt)
