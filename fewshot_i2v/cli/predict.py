"""`fewshot-i2v predict`: classify clips with a fitted model."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from fewshot_i2v.cli._common import EXIT_CODES
from fewshot_i2v.cli._flags import config_flags, read_overrides
from fewshot_i2v.cli._help import help_command
from fewshot_i2v.cli._model import load_classifier, model_options
from fewshot_i2v.cli._segments import (
    PredictionWriter,
    SegmentWriter,
    follow_source,
    write_segments,
)
from fewshot_i2v.errors import UsageError
from fewshot_i2v.utils.text_table import count_text

_FILE = click.Path(path_type=Path)
_FAILED_STATUS = 3
_STDIN = "-"


@help_command(
    "Classify clips with a fitted model.",
    ("predict gestures.safetensors new/*.mp4", "a line of JSON for each clip"),
    ("predict gestures.safetensors NEW_CLIPS --format table --top 3", "to read at a glance"),
    ("predict gestures.safetensors - < names.txt", "names of files from another program"),
    ("predict gestures.safetensors day.mp4 --window 2 --report day.html", "what happens when"),
    ("predict gestures.safetensors --camera 0 --window 2 --format table", "while it happens"),
    epilog=EXIT_CODES,
)
@click.argument("model", type=_FILE)
@click.argument("clips", nargs=-1)
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
@click.option(
    "--stream",
    metavar="ADDRESS",
    help="Classify a stream while it runs, with --window: rtsp://..., http://..., udp://..., a "
    "named pipe, a file that grows, or - for standard input.",
)
@click.option("--camera", metavar="NUMBER", help="Likewise, a camera of this machine, such as 0.")
@click.option(
    "--report",
    type=_FILE,
    metavar="FILE.html",
    help="Write a page of what happens when, with --window.",
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
    stream: str | None,
    camera: str | None,
    report: Path | None,
    **flags: Any,
) -> None:
    """Classify CLIPS with MODEL: files, folders (searched for videos), or - for names on stdin.

    MODEL is the file that `fit` wrote, or the folder that `export` wrote of an episode.

    A clip of none of the classes has the class null and the nearest one. One that cannot be read
    has an error, and the exit status is 3. With --window a video is cut into overlapping clips, and
    there is a line for each segment: start and end in seconds, class, probability. --stream and
    --camera do the same while it runs, until it ends or Ctrl-C.
    """
    _check_sources(clips, window, stride=stride, stream=stream, camera=camera, report=report)
    if top is not None and (form == "csv" or window is not None):
        lists = "a CSV has all classes" if form == "csv" else "a segment has one class"
        raise UsageError(f"--top {top}: {lists}; leave it out, or use --format jsonl or table")
    paths = list(_clip_paths(clips))
    classifier = load_classifier(model, read_overrides(ctx, ()), **flags)
    if window is not None:
        sources = [s for s in (stream, camera) if s is not None] or [str(p) for p in paths]
        writer = SegmentWriter(form, sources, classifier.classes)
        stride = stride or window / 4
        if stream is not None or camera is not None:
            status = follow_source(classifier, stream, camera, (window, stride), writer)
        else:
            status = write_segments(classifier, paths, (window, stride), writer, report)
        ctx.exit(status)
    failed = 0
    prediction_writer = PredictionWriter(form, paths, classifier.classes, top)
    for prediction in classifier.iterate(paths):
        failed += prediction.error is not None
        prediction_writer.write(prediction)
    if failed:
        click.echo(f"{failed} of {count_text(len(paths), 'clip')} cannot be read", err=True)
        ctx.exit(_FAILED_STATUS)


def _check_sources(
    clips: Sequence[str], window: float | None, *, report: Path | None, **options: object
) -> None:
    """Check that the options go together."""
    live_sources = [key for key in ("stream", "camera") if options[key] is not None]
    for key, value in {**options, "report": report}.items():
        if value is not None and window is None:
            raise UsageError(f"--{key} {value}: goes with --window")
    if bool(clips) + len(live_sources) != 1:
        raise UsageError("expected one of CLIPS, --stream and --camera")
    if live_sources and report is not None:
        raise UsageError("--report: is of videos that have an end; not with --stream or --camera")
    if report is not None and report.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"--report {report}: expected a file that ends in .html")


def _clip_paths(clips: Sequence[str]) -> Iterator[Path]:
    """Yield the clips: files as they are, the videos below folders, names from standard input."""
    from fewshot_i2v.data.splits.folder_contents import find_clips

    for clip in clips:
        if clip == _STDIN:
            lines = (line.removeprefix("\ufeff").rstrip("\r\n") for line in sys.stdin)
            yield from (Path(line) for line in lines if line.strip())
        elif Path(clip).is_dir():
            found = find_clips(Path(clip))
            if not found:
                raise UsageError(f"{clip}: no video in this folder; expected clips below it")
            yield from found
        else:
            yield Path(clip)
