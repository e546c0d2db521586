"""Options and checks of commands that read or write the file of a fitted model."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fewshot_i2v.cli._flags import CACHE_LIMIT, FEATURE_CACHE
from fewshot_i2v.cli._help import join_options, rare_flag
from fewshot_i2v.errors import UsageError

if TYPE_CHECKING:
    from fewshot_i2v.evaluation.classifier import FewShotClassifier

_FILE = click.Path(path_type=Path)
model_options = join_options(
    click.option("--pretrained", help="Weights of the encoder. [default: where they were]"),
    click.option(
        "--architecture",
        type=_FILE,
        help="Configuration of the encoder (JSON). [default: where it was]",
    ),
    click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N."),
    click.option(
        "--cache",
        type=_FILE,
        help="Folder of decoded clips and features. [default: the user's cache]",
    ),
    rare_flag("--cache-limit", **CACHE_LIMIT),
    rare_flag("--feature-cache/--no-feature-cache", **FEATURE_CACHE),
    click.option(
        "--workers",
        type=click.IntRange(min=1),
        help="Decoding processes. [default: one per core, at most 8]",
    ),
)
"""Options that say where a model's encoder is and how clips are decoded."""


source_options = join_options(
    click.option(
        "--root",
        type=_FILE,
        help="Folder of the clips of a CSV or a split. [default: that of the file, or split]",
    ),
    click.option("--subset", help="Subset of a split. [default: novel, or train]"),
    click.option(
        "--group", metavar="REGEX", help="Its ( ) in a clip's name: who or what it is from."
    ),
    click.option(
        "--group-scope",
        type=click.Choice(["class", "global"]),
        default="global",
        show_default=True,
        help="Whether equal groups of two classes are two, or one, as persons are.",
    ),
)
"""Options that say where labelled clips are, and which of them are of one group."""


def source_of(flags: Mapping[str, Any]) -> dict[str, Any]:
    """Take the values of `source_options` from all flags of a command."""
    return {key: flags[key] for key in ("root", "subset", "group", "group_scope")}


def check_output(out: Path, *, force: bool) -> None:
    """Check that the file of a model can be written, before hours of work.

    Raises:
        UsageError: when something is there, and `force` is not set or it is no regular file; when
            its name is not that of a model, or its folder cannot be written to.
    """
    if out.suffix != ".safetensors":
        raise UsageError(f"--out: got {out}; expected a name that ends in .safetensors")
    if out.is_symlink() or (out.exists() and not out.is_file()):
        raise UsageError(f"--out: {out} is no regular file; give another name")
    if out.exists() and not force:
        raise UsageError(f"{out}: is already there; give another name, or --force to replace it")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(prefix=f".{out.name}.", dir=out.parent):
            pass
    except OSError as error:
        raise UsageError(f"--out: {out} cannot be written: {error.strerror}") from error


def load_classifier(model: Path, limits: dict[str, Any], **flags: Any) -> FewShotClassifier:
    """Load a fitted model as the flags of `model_options` and of limits say."""
    from fewshot_i2v.config.base import LimitsConfig
    from fewshot_i2v.evaluation.classifier import FewShotClassifier
    from fewshot_i2v.tuning.run_context import resolve_device

    values = {key.removeprefix("limits."): value for key, value in limits.items()}
    classifier = FewShotClassifier.load(
        model,
        pretrained=flags["pretrained"],
        architecture=flags["architecture"],
        device=resolve_device(flags["device"]),
        cache=flags["cache"],
        cache_limit=flags["cache_limit"],
        feature_cache=flags["feature_cache"],
        workers=flags["workers"],
        limits=LimitsConfig.model_validate(values),
    )
    for note in classifier.scorer.notes:
        click.echo(f"note: {note}", err=True)
    classifier.scorer.on_note = lambda note: click.echo(note, err=True)
    return classifier
