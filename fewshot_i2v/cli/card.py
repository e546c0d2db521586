"""`fewshot-i2v card`: write the model card of a fitted model."""

from __future__ import annotations

from pathlib import Path

import click

from fewshot_i2v.cli._common import EXIT_CODES
from fewshot_i2v.cli._help import help_command
from fewshot_i2v.errors import CheckpointError, UsageError

_FILE = click.Path(path_type=Path)


@help_command(
    "Write the model card of a fitted model.",
    ("card gestures.safetensors", "to read"),
    ("card gestures.safetensors --out README.md", "to publish with the model"),
    epilog=EXIT_CODES,
)
@click.argument("model", type=_FILE)
@click.option("--out", "-o", type=_FILE, help="File of the card. [default: standard output]")
@click.option("--force", is_flag=True, help="Replace OUT if it is there.")
def command(model: Path, out: Path | None, force: bool) -> None:
    """Write what MODEL is of, what to expect of it, its limits and how to use it, as Markdown.

    The card has the front matter of the Hugging Face Hub. It names the classes and no clip. The
    encoder is not needed.
    """
    if out is not None and out.exists() and not force:
        raise UsageError(f"{out}: is already there; give another name, or --force to replace it")
    from fewshot_i2v.evaluation.deployment.card import model_card
    from fewshot_i2v.utils.files import write_atomic

    text = model_card(model)
    if out is None:
        click.echo(text, nl=False)
    else:
        write_atomic(out, text, CheckpointError)
        click.echo(str(out))
