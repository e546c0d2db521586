"""`fewshot-i2v init`: write a commented file to edit."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fewshot_i2v.cli._help import help_command
from fewshot_i2v.errors import ConfigError, UsageError

if TYPE_CHECKING:
    from fewshot_i2v.data.splits.split import Split

_KINDS = ("evaluate", "sweep", "train", "split")
_EXAMPLE_CLASSES = ("clapping", "jumping", "pointing", "running", "waving")
_EXAMPLE_CLIPS = 6


@help_command(
    "Write a commented configuration or split to edit.",
    ("init sweep.yaml", "adapters, starts, heads and shots to compare"),
    ("init my-train.yaml", "a training"),
    ("init first.yaml --kind split", "a split that lists its clips"),
)
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option(
    "--kind",
    type=click.Choice(_KINDS),
    help="What the file is for.  [default: the kind that the name of FILE contains, else evaluate]",
)
@click.option("--force", is_flag=True, help="Replace FILE if it exists.")
def command(file: Path, kind: str | None, force: bool) -> None:
    """Write FILE, a YAML file with comments, to be edited. It is valid as it is.

    Kinds are evaluate (an evaluation), sweep (an evaluation of many rows), train (a training) and
    split (classes and their clips). For clips in one folder per class, `episodes new` writes the
    split.
    """
    if file.suffix not in (".yaml", ".yml"):
        raise UsageError(
            f"{file}: got the ending {file.suffix!r}; expected .yaml, as in {file.stem}.yaml"
        )
    if file.exists() and not force:
        raise UsageError(f"{file}: is already there; give another name, or --force to replace it")
    chosen = kind or next((kind for kind in _KINDS if kind in file.stem.lower()), _KINDS[0])
    next_command = _write_split(file) if chosen == "split" else _write_config(file, chosen)
    choice = "" if kind else f" (by its name; --kind {'|'.join(_KINDS)} chooses)"
    click.echo(f"{file}: a file for {chosen}{choice}")
    click.echo(f"edit it, then:\n  {next_command}")


def _write_config(file: Path, kind: str) -> str:
    """Write a configuration; return the next command."""
    from fewshot_i2v.config.templates import format_template, template_command
    from fewshot_i2v.utils.files import write_atomic

    name = shlex.quote(str(file))
    write_atomic(file, format_template(kind, shlex.quote(file.name)), ConfigError)
    return f"fewshot-i2v {template_command(kind)} {name} --dry-run"


def _write_split(file: Path) -> str:
    """Write a split of example classes; return the next command."""
    from fewshot_i2v.data.splits.split_writer import split_comments, write_split

    split = _example_split(file.stem)
    comments = split_comments(split, "`fewshot-i2v init`", in_csv_files=False)
    write_split(split, file, comments=comments, overwrite=True)
    return f"fewshot-i2v episodes show {shlex.quote(str(file))}"


def _example_split(name: str) -> Split:
    from fewshot_i2v.data.splits.split import Clip, Split

    classes = {
        label: tuple(Clip(f"{label}/{number}.mp4") for number in range(1, _EXAMPLE_CLIPS + 1))
        for label in _EXAMPLE_CLASSES
    }
    return Split(
        name=name,
        subsets={"novel": classes},
        source="where the clips are from",
        licence="their licence",
        description="what the clips show, in a sentence",
    )
