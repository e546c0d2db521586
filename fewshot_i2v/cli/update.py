"""`fewshot-i2v update`: add clips or classes to a fitted model, or remove classes."""

from __future__ import annotations

from glob import glob
from pathlib import Path
from typing import Any

import click

from fewshot_i2v.cli._common import EXIT_CODES
from fewshot_i2v.cli._flags import config_flags, read_overrides
from fewshot_i2v.cli._help import help_command
from fewshot_i2v.cli._model import check_output, load_classifier, model_options
from fewshot_i2v.cli._next import command_line, echo_next
from fewshot_i2v.errors import UsageError

_FILE = click.Path(path_type=Path)


@help_command(
    "Add clips or classes to a fitted model.",
    ("update gestures.safetensors --add wave='more/*.mp4' --out more.safetensors", "a new class"),
    ("update gestures.safetensors --remove star --out fewer.safetensors", "one class less"),
    epilog=EXIT_CODES,
)
@click.argument("model", type=_FILE)
@click.option(
    "--add",
    multiple=True,
    metavar="CLASS=FILES",
    help="Clips of a class, old or new: a file, a folder, or a pattern in quotes. Repeatable.",
)
@click.option("--remove", multiple=True, metavar="CLASS", help="Class to remove. Repeatable.")
@click.option("--out", "-o", type=_FILE, required=True, help="File of the new model.")
@click.option("--force", is_flag=True, help="Replace OUT if it is there.")
@model_options
@config_flags("limits")
@click.pass_context
def command(
    ctx: click.Context,
    /,
    model: Path,
    add: tuple[str, ...],
    remove: tuple[str, ...],
    out: Path,
    force: bool,
    **flags: Any,
) -> None:
    """Add clips or classes to MODEL, or remove classes from it, in seconds.

    Nothing is tuned. What to expect is computed anew where no adapter was tuned on the clips.
    """
    check_output(out, force=force)
    added: dict[str, list[str | Path]] = {}
    for text in add:
        name, equals, files = text.partition("=")
        if not (name and equals and files):
            raise UsageError(f"--add {text}: expected CLASS=FILES, such as wave='more/*.mp4'")
        added.setdefault(name, []).extend(_expand(files))
    from fewshot_i2v.evaluation.fitting.text import render_description
    from fewshot_i2v.evaluation.fitting.update import update_model

    classifier = load_classifier(model, read_overrides(ctx, ()), **flags)
    result = update_model(classifier, add=added, remove=remove)
    result.classifier.save(out)
    click.echo(render_description(result.classifier))
    for note in result.notes:
        click.echo(f"note: {note}", err=True)
    echo_next(command_line("predict", out, "NEW_CLIPS"))


def _expand(files: str) -> list[Path]:
    """Return the clips of a file, folder or pattern, sorted."""
    from fewshot_i2v.data.splits.folder_contents import find_clips

    if Path(files).is_dir():
        clips = find_clips(Path(files))
    else:
        matches = glob(files, recursive=True)  # noqa: PTH207 - patterns may be absolute
        clips = sorted(map(Path, matches)) or [Path(files)]
    if not clips:
        raise UsageError(f"--add: {files}: no clip there")
    return clips
