"""Page of what happens when in videos: one HTML file that holds everything it shows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from fewshot_i2v.evaluation.prediction import NONE_OF_THESE
from fewshot_i2v.evaluation.segments import Segment, Timeline
from fewshot_i2v.report.exports import write_text_file
from fewshot_i2v.report.page.figures.timeline import draw_timeline
from fewshot_i2v.report.page.filmstrips import draw_strip
from fewshot_i2v.report.page.page import fill_template
from fewshot_i2v.utils.text_table import count_text
from fewshot_i2v.version import __version__

_MAX_PICTURES = 500
"""Pictures of a video; the page stays below some megabytes."""


def write_timeline_page(
    path: str | Path, timelines: Sequence[Timeline], classes: Sequence[str], title: str = ""
) -> None:
    """Writes a page of the timelines of videos; a file that is there is replaced.

    There is at least one, from `find_timeline`. Without a title it is the name of the video, or how
    many there are.

    Raises:
        UsageError: when it cannot be written.
    """
    names = [timeline.path.name for timeline in timelines]
    page = fill_template(
        "timeline.html",
        title=title or (names[0] if len(names) == 1 else f"{len(names)} videos"),
        version=__version__,
        videos=[
            _video_view(timeline, classes, number) for number, timeline in enumerate(timelines, 1)
        ],
    )
    write_text_file(Path(path), page)


def _video_view(timeline: Timeline, classes: Sequence[str], number: int) -> dict[str, Any]:
    """What the template shows of a video."""
    plan, segments = timeline.plan, timeline.segments
    hidden = max(0, len(segments) - _MAX_PICTURES)
    return {
        "name": str(timeline.path),
        "setting": f"{plan.duration:.1f} s in clips of {plan.window:g} s, one every "
        f"{plan.stride:g} s; {count_text(len(segments), 'segment')}",
        "svg": draw_timeline(segments, timeline.cells, classes, key=f"t{number}"),
        "totals": list(_totals(segments, classes, plan.duration)),
        "segments": [_segment_view(segment, i) for i, segment in enumerate(segments)],
        "note": f"Without pictures: the last {hidden} segments." if hidden else "",
    }


def _totals(
    segments: Sequence[Segment], classes: Sequence[str], duration: float
) -> Iterator[tuple[str, int, float, float]]:
    """Yields name, number of segments, seconds and share of the video of each class."""
    for name in (*classes, None):
        lengths = [s.end - s.start for s in segments if s.class_name == name]
        if lengths:
            seconds = sum(lengths)
            yield name or NONE_OF_THESE, len(lengths), seconds, seconds / duration


def _segment_view(segment: Segment, position: int) -> dict[str, Any]:
    shown = segment.picture is not None and position < _MAX_PICTURES
    return {
        "start": segment.start,
        "end": segment.end,
        "name": segment.class_name or f"{NONE_OF_THESE} (nearest: {segment.nearest})",
        "probability": segment.probability,
        "picture": draw_strip(segment.picture[None]) if shown else None,  # type: ignore[index]
    }
