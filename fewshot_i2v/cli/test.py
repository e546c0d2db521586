"""`fewshot-i2v test`: test a fitted model on labelled clips."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from fewshot_i2v.cli._common import EXIT_CODES, echo_json
from fewshot_i2v.cli._flags import config_flags, read_overrides
from fewshot_i2v.cli._help import help_command
from fewshot_i2v.cli._model import load_classifier, model_options, source_of, source_options
from fewshot_i2v.cli._next import command_line, echo_next

_FILE = click.Path(path_type=Path)


@help_command(
    "Test a fitted model on labelled clips.",
    ("test gestures.safetensors HELD_OUT", "clips that the model has not seen"),
    epilog=EXIT_CODES,
)
@click.argument("model", type=_FILE)
@click.argument("clips")
@source_options
@click.option("--allow-fitted", is_flag=True, help="Count clips that the model was fitted on, too.")
@model_options
@config_flags("limits")
@click.option("--json", "as_json", is_flag=True, help="Write JSON.")
@click.pass_context
def command(
    ctx: click.Context,
    /,
    model: Path,
    clips: str,
    allow_fitted: bool,
    as_json: bool,
    **flags: Any,
) -> None:
    """Test MODEL on CLIPS: one folder per class, a CSV (path, class), or a split.

    Clips that the model was fitted on are known by their content and left out. Classes that the
    model does not have say how often "none of these" is right.
    """
    from fewshot_i2v.evaluation.fitting.test import run_test
    from fewshot_i2v.evaluation.fitting.text import render_test

    classifier = load_classifier(model, read_overrides(ctx, ()), **flags)
    result = run_test(classifier, clips, allow_fitted=allow_fitted, **source_of(flags))
    if as_json:
        echo_json(result.to_dict())
    else:
        click.echo(render_test(result))
        echo_next(command_line("predict", model, "NEW_CLIPS"))
    if result.unreadable:
        ctx.exit(3)
