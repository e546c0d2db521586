"""`fewshot-i2v predict`: classify clips with a fitted model."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fewshot_i2v.cli._common import EXIT_CODES
from fewshot_i2v.cli._flags import ConfigCommand, config_flags, read_overrides
from fewshot_i2v.cli._model import load_classifier, model_options
from fewshot_i2v.errors import UsageError, VideoUnreadable
from fewshot_i2v.utils.text_table import count_text, display_width, escape_name

if TYPE_CHECKING:
    from fewshot_i2v.evaluation.classifier import FewShotClassifier
    from fewshot_i2v.evaluation.prediction import Prediction

_FILE = click.Path(path_type=Path)
_FAILED_STATUS = 3
_STDIN = "-"
NONE_OF_THESE = "none of these"
_EXAMPLES = (
    ("predict gestures.safetensors new/*.mp4", "a line of JSON for each clip"),
    ("predict gestures.safetensors NEW_CLIPS --format table --top 3", "to read at a glance"),
    ("predict gestures.safetensors - < names.txt", "names of files from another program"),
    ("predict gestures.safetensors day.mp4 --window 2 --stride 0.5", "what happens when"),
)


@click.command(
    cls=ConfigCommand,
    epilog=EXIT_CODES,
    examples=_EXAMPLES,
    short_help="Classify clips with a fitted model.",
)
@click.argument("model", type=_FILE)
@click.argument("clips", nargs=-1, required=True)
@click.option(
    "--format",
    "form",
    type=click.Choice(["jsonl", "csv", "table"]),
    default="jsonl",
    show_default=True,
    help="One JSON object per clip, a CSV, or a table.",
)
@click.option(
    "--top",
    type=click.IntRange(min=1),
    help="Classes to list, the most probable. [default: all, in a table 1]",
)
@click.option(
    "--window",
    type=click.FloatRange(0, min_open=True),
    help="For long videos: seconds of the clips that they are cut into. [default: a video "
    "is one clip]",
)
@click.option(
    "--stride",
    type=click.FloatRange(0, min_open=True),
    help="Seconds from one such clip to the next. [default: a quarter of the window]",
)
@model_options
@config_flags("limits")
@click.pass_context
def command(
    ctx: click.Context,
    /,
    model: Path,
    clips: tuple[str, ...],
    form: str,
    top: int | None,
    window: float | None,
    stride: float | None,
    **flags: Any,
) -> None:
    """Classify CLIPS with MODEL: files, folders (searched for videos), or - for names on stdin.

    A clip of none of the classes has the class null and the nearest one. One that cannot be read
    has an error, and the exit status is 3. With --window a video is cut into overlapping clips, and
    there is a line for each segment: start and end in seconds, class, probability.
    """
    if stride is not None and window is None:
        raise UsageError(f"--stride {stride:g}: goes with --window")
    if top is not None and (form == "csv" or window is not None):
        lists = "a CSV has all classes" if form == "csv" else "a segment has one class"
        raise UsageError(f"--top {top}: {lists}; leave it out, or use --format jsonl or table")
    paths = list(_clip_paths(clips))
    classifier = load_classifier(model, read_overrides(ctx, ()), **flags)
    if window is not None:
        if _write_segments(classifier, paths, form, window, stride or window / 4):
            ctx.exit(_FAILED_STATUS)
        return
    failed = 0
    writer = _WRITERS[form](classifier.classes, top, paths)
    for prediction in classifier.iterate(paths):
        failed += prediction.error is not None
        writer.write(prediction)
    if failed:
        click.echo(f"{failed} of {count_text(len(paths), 'clip')} cannot be read", err=True)
        ctx.exit(_FAILED_STATUS)


def _write_segments(
    classifier: FewShotClassifier, paths: Sequence[Path], form: str, window: float, stride: float
) -> int:
    """Write the segments of long videos, and return how many videos cannot be read."""
    from fewshot_i2v.evaluation.segments import find_segments

    failed, width = 0, _path_width(paths)
    class_width = _class_width(classifier.classes)
    rows = csv.writer(sys.stdout, lineterminator="\n")
    if form == "csv":
        rows.writerow(["path", "start", "end", "class", "probability", "error"])
    for path in paths:
        fields: list[dict[str, Any]]
        try:
            fields = [s.to_dict() for s in find_segments(classifier, path, window, stride)]
        except VideoUnreadable as error:
            failed += 1
            fields = [{"error": error.reason}]
        for field in fields:
            if form == "jsonl":
                click.echo(json.dumps({"path": str(path), **field}, ensure_ascii=False))
            elif form == "csv":
                keys = ("start", "end", "class", "probability", "error")
                values = ["" if (value := field.get(key)) is None else value for key in keys]
                rows.writerow([_one_line(path), *values])
            elif "error" in field:
                click.echo(f"{_padded(_one_line(path), width)}  error: {field['error']}")
            else:
                name = _padded(field["class"] or NONE_OF_THESE, class_width)
                share = 100 * field["probability"]
                span = f"{field['start']:8.2f} to {field['end']:8.2f} s"
                click.echo(f"{_padded(_one_line(path), width)}  {span}  {name}  {share:5.1f} %")
    return failed


def _one_line(path: Path) -> str:
    """A path as one line: newlines and other control signs are escapes."""
    return escape_name(str(path), len(str(path)) + 1)


def _padded(text: str, width: int) -> str:
    return text + " " * (width - display_width(text))


def _path_width(paths: Sequence[Path]) -> int:
    return max((display_width(_one_line(path)) for path in paths), default=0)


def _class_width(classes: Sequence[str]) -> int:
    return max(map(display_width, (NONE_OF_THESE, *classes)))


def _clip_paths(clips: Sequence[str]) -> Iterator[Path]:
    """Yield the clips: files as they are, the videos below folders, names from standard input."""
    from fewshot_i2v.data.splits.folder_contents import find_clips

    for clip in clips:
        if clip == _STDIN:
            yield from (Path(line.rstrip("\n")) for line in sys.stdin if line.strip())
        elif Path(clip).is_dir():
            found = find_clips(Path(clip))
            if not found:
                raise UsageError(f"{clip}: no video in this folder; expected clips below it")
            yield from found
        else:
            yield Path(clip)


class _JsonLines:
    """Writes predictions, one JSON object per clip."""

    def __init__(self, classes: Sequence[str], top: int | None, paths: Sequence[Path]) -> None:
        self.top = top

    def write(self, prediction: Prediction) -> None:
        """Write a prediction."""
        click.echo(json.dumps(prediction.to_dict(self.top), ensure_ascii=False))


class _Csv:
    """Writes predictions, a row per clip."""

    def __init__(self, classes: Sequence[str], top: int | None, paths: Sequence[Path]) -> None:
        self.classes = classes
        self.rows = csv.writer(sys.stdout, lineterminator="\n")
        self.rows.writerow(["path", "class", "probability", "nearest", "error", *classes])

    def write(self, prediction: Prediction) -> None:
        """Write a prediction."""
        values = [prediction.probabilities.get(name, "") for name in self.classes]
        fields = (prediction.class_name, prediction.probability, prediction.nearest)
        self.rows.writerow(
            [
                _one_line(prediction.path),
                *("" if v is None else v for v in (*fields, prediction.error)),
                *values,
            ]
        )


class _Table:
    """Writes predictions, a line per clip with columns below each other."""

    def __init__(self, classes: Sequence[str], top: int | None, paths: Sequence[Path]) -> None:
        self.top = top or 1
        self.width, self.class_width = _path_width(paths), _class_width(classes)

    def write(self, prediction: Prediction) -> None:
        """Write a prediction."""
        path = _padded(_one_line(prediction.path), self.width)
        if prediction.error is not None:
            click.echo(f"{path}  error: {prediction.error}")
            return
        ranked = sorted(prediction.probabilities.items(), key=lambda item: -item[1])
        cells = [
            f"{_padded(name, self.class_width)}  {100 * probability:5.1f} %"
            for name, probability in ranked[: self.top]
        ]
        if prediction.class_name is None:
            cells[0] = f"{_padded(NONE_OF_THESE, self.class_width)}  nearest {cells[0]}"
        click.echo(f"{path}  {'  '.join(cells)}")


_WRITERS: dict[str, type[_JsonLines | _Csv | _Table]] = {
    "jsonl": _JsonLines, "csv": _Csv, "table": _Table,
}  # fmt: skip
