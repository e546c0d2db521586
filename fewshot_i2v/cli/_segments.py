"""Predictions of clips, and segments of videos and streams, as lines, for `predict`."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

import click

from fewshot_i2v.cli._common import INTERRUPTED_STATUS
from fewshot_i2v.cli._start import Terminated
from fewshot_i2v.errors import VideoUnreadable
from fewshot_i2v.utils.sizes import format_size
from fewshot_i2v.utils.text_table import display_width, escape_name

if TYPE_CHECKING:
    from fewshot_i2v.evaluation.classifier import FewShotClassifier
    from fewshot_i2v.evaluation.live_segments import LiveSegments, LiveStatus
    from fewshot_i2v.evaluation.prediction import Prediction
    from fewshot_i2v.evaluation.segments import Timeline

NONE_OF_THESE = "none of these"
_FAILED_STATUS = 3
_STATUS_SECONDS = 5.0
_KEYS = ("start", "end", "class", "probability", "nearest", "error")


def one_line(path: str | Path) -> str:
    """A path as one line: newlines and other control signs are escapes."""
    return escape_name(str(path), len(str(path)) + 1)


def _padded(text: str, width: int) -> str:
    return text + " " * (width - display_width(text))


class LineWriter:
    """Writes lines, each at once, so that a program behind a pipe sees it.

    Args:
        form: "jsonl", "csv" or "table".
        sources: clips, videos or streams, for the width of a table.
        classes: of the model, likewise.
        headings: of a CSV.
    """

    def __init__(
        self, form: str, sources: Sequence[str | Path], classes: Sequence[str], *headings: str
    ) -> None:
        self.form = form
        self._path_width = max((display_width(one_line(path)) for path in sources), default=0)
        self._class_width = max(map(display_width, (NONE_OF_THESE, *classes)))
        if form == "csv":
            self._write_row(headings)

    def _write_row(self, values: Sequence[object]) -> None:
        """Write a row of a CSV, with nothing for None."""
        rows = csv.writer(sys.stdout, lineterminator="\n")
        rows.writerow("" if value is None else value for value in values)
        sys.stdout.flush()

    def _padded_path(self, path: str | Path) -> str:
        return _padded(one_line(path), self._path_width)

    def _class_cell(self, name: str, probability: float) -> str:
        return f"{_padded(name, self._class_width)}  {100 * probability:5.1f} %"

    def _first_cell(self, name: str | None, nearest: str | None, probability: float) -> str:
        """Write the class; of none of them the nearest, whose probability it is."""
        if name is not None:
            return self._class_cell(name, probability)
        return f"{NONE_OF_THESE} (nearest: {nearest} {100 * probability:.1f} %)"


class SegmentWriter(LineWriter):
    """Writes segments."""

    def __init__(self, form: str, sources: Sequence[str | Path], classes: Sequence[str]) -> None:
        super().__init__(form, sources, classes, "path", *_KEYS)

    def write(self, path: str | Path, fields: dict[str, Any]) -> None:
        """Write a segment, or the error of a video, in plain values."""
        if self.form == "jsonl":
            click.echo(json.dumps({"path": str(path), **fields}, ensure_ascii=False))
        elif self.form == "csv":
            nearest = {"nearest": fields.get("class")}
            self._write_row([one_line(path), *map((nearest | fields).get, _KEYS)])
        elif "error" in fields:
            click.echo(f"{self._padded_path(path)}  error: {fields['error']}")
        else:
            cell = self._first_cell(fields["class"], fields.get("nearest"), fields["probability"])
            span = f"{fields['start']:8.2f} to {fields['end']:8.2f} s"
            click.echo(f"{self._padded_path(path)}  {span}  {cell}")


class PredictionWriter(LineWriter):
    """Writes predictions of clips, the `top` most probable classes of each; None: all."""

    def __init__(
        self, form: str, sources: Sequence[Path], classes: Sequence[str], top: int | None
    ) -> None:
        keys = "path", "class", "probability", "nearest", "error"
        super().__init__(form, sources, classes, *keys, *classes)
        self._classes, self._top = classes, top

    def write(self, prediction: Prediction) -> None:
        """Write a prediction, or why a clip cannot be read."""
        p = prediction
        if self.form == "jsonl":
            click.echo(json.dumps(p.to_dict(self._top), ensure_ascii=False))
        elif self.form == "csv":
            facts = one_line(p.path), p.class_name, p.probability, p.nearest, p.error
            self._write_row([*facts, *map(p.probabilities.get, self._classes)])
        elif p.error is not None:
            click.echo(f"{self._padded_path(p.path)}  error: {p.error}")
        else:
            ranked = sorted(p.probabilities.items(), key=lambda item: -item[1])
            cells = [self._first_cell(p.class_name, p.nearest, ranked[0][1])]
            cells += [self._class_cell(*pair) for pair in ranked[1 : self._top or 1]]
            click.echo(f"{self._padded_path(p.path)}  {'  '.join(cells)}")


def write_segments(
    classifier: FewShotClassifier,
    paths: Sequence[Path],
    lengths: tuple[float, float],
    writer: SegmentWriter,
    report: Path | None,
) -> int:
    """Write the segments of videos, and a page of them if one is wanted.

    The lengths are those of window and stride, in seconds; returned is the exit status.
    """
    from fewshot_i2v.evaluation.segments import find_segments, find_timeline

    failed = 0
    timelines: list[Timeline] = []
    for path in paths:
        try:
            if report is None:
                segments = find_segments(classifier, path, *lengths)
            else:
                timelines.append(find_timeline(classifier, path, *lengths))
                segments = list(timelines[-1].segments)
        except VideoUnreadable as error:
            failed += 1
            writer.write(path, {"error": error.reason})
        else:
            for segment in segments:
                writer.write(path, segment.to_dict())
    if report is not None and timelines:
        from fewshot_i2v.evaluation.timeline_page import write_timeline_page

        write_timeline_page(report, timelines, classifier.classes)
        click.echo(f"{report}: {format_size(report.stat().st_size)}", err=True)
    return _FAILED_STATUS if failed else 0


def follow_source(
    classifier: FewShotClassifier,
    stream: str | None,
    camera: str | None,
    lengths: tuple[float, float],
    writer: SegmentWriter,
) -> int:
    """Write the segments of a stream or a camera while it runs, and return the exit status."""
    from fewshot_i2v.data.video.live import LiveSource
    from fewshot_i2v.evaluation.live_segments import LiveSegments

    source = LiveSource.camera(camera or "") if stream is None else LiveSource.stream(stream)
    live = LiveSegments(classifier.scorer, source, *lengths, on_window=_StatusLine().show)
    status = 0
    try:
        for segment in live:
            writer.write(source.name, segment.to_dict())
    except (KeyboardInterrupt, Terminated) as error:
        status = 128 + error.number if isinstance(error, Terminated) else INTERRUPTED_STATUS
        for segment in live.finish():
            writer.write(source.name, segment.to_dict())
        if not live.windows:
            click.echo(f"note: no window of {lengths[0]:g} s was complete yet", err=True)
    except VideoUnreadable as error:
        status = _FAILED_STATUS
        writer.write(source.name, {"error": error.reason})
    _echo_summary(live)
    return status


class _StatusLine:
    """Says every few seconds what is seen, how late, and how many pictures a second are read."""

    def __init__(self) -> None:
        self.last = monotonic()

    def show(self, status: LiveStatus) -> None:
        """Write the line if it is time."""
        if monotonic() - self.last < _STATUS_SECONDS:
            return
        self.last = monotonic()
        name = status.prediction.class_name or NONE_OF_THESE
        click.echo(
            f"{status.end:.1f} s: {name}; latency {status.latency:.2f} s, "
            f"{status.counts.rate:.1f} frames a second",
            err=True,
        )


def _echo_summary(live: LiveSegments) -> None:
    counts = live.counts
    click.echo(
        f"{counts.seconds:.1f} s, {counts.pictures} frames, {counts.rate:.1f} frames a second; "
        f"{live.windows} windows, latency {live.mean_latency:.2f} s, at most "
        f"{live.max_latency:.2f} s",
        err=True,
    )
    if counts.dropped:
        click.echo(
            f"note: {counts.dropped} windows were left out, since the encoder is slower than the "
            "stream; a longer --stride helps",
            err=True,
        )
    if counts.damaged:
        click.echo(f"note: {counts.damaged} damaged pictures were left out", err=True)
