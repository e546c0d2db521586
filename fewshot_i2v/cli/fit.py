"""`fewshot-i2v fit`: fit a model to labelled clips."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fewshot_i2v.cli._common import EXIT_CODES, RunPath, echo_json
from fewshot_i2v.cli._dry_run import fit_lines
from fewshot_i2v.cli._flags import config_flags, read_overrides
from fewshot_i2v.cli._help import help_command
from fewshot_i2v.cli._model import check_output, source_of, source_options
from fewshot_i2v.cli._next import command_line, echo_next, same_command
from fewshot_i2v.utils.sizes import format_size

if TYPE_CHECKING:
    from fewshot_i2v.evaluation.fitting.forecast import FitForecast

_FILE = click.Path(path_type=Path)


@help_command(
    "Fit a model to your labelled clips.",
    (
        "fit CLIPS --out gestures.safetensors --encoder ViT-B-16 --pretrained openai",
        "readouts of the frozen encoder; the best is fitted",
    ),
    ("fit CLIPS --out gestures.safetensors --adapter auto", "also tunes adapters"),
    ("fit CLIPS --out gestures.safetensors --like runs/mine/ROW", "the method of a row"),
    ("predict gestures.safetensors new/*.mp4", "then use it"),
    epilog=EXIT_CODES,
)
@click.argument("clips")
@click.option("--out", "-o", type=_FILE, required=True, help="File of the model, .safetensors.")
@click.option(
    "--like", type=RunPath(), help="Run folder of a row: take its encoder, adapter, head, tuning."
)
@source_options
@click.option(
    "--folds",
    type=click.IntRange(min=2),
    help="Parts that the clips are held out in. [default: one clip at a time; 10 for more than 40 "
    "clips; 5 where something is tuned]",
)
@click.option(
    "--reject",
    type=click.FloatRange(0, 1, max_open=True),
    default=0.05,
    show_default=True,
    help='Share of clips of your classes that "none of these" may reject; 0: off.',
)
@click.option(
    "--processes",
    type=click.IntRange(1),
    metavar="N",
    help="Processes that fine-tune for held-out clips. [default: this one]",
)
@click.option(
    "--race/--no-race",
    default=True,
    show_default=True,
    help="Stop a fine-tuned method where it cannot be chosen any more; the choice is the same.",
)
@click.option("--skip-unreadable", is_flag=True, help="Leave out clips that cannot be read.")
@click.option("--force", is_flag=True, help="Replace OUT if it is there.")
@config_flags("fit")
@click.option(
    "--set", "settings", multiple=True, metavar="KEY=VALUE", help="Any configuration key."
)
@click.option(
    "--dry-run", is_flag=True, help="Show what would be tried and how long it would take."
)
@click.option("--json", "as_json", is_flag=True, help="Write JSON.")
@click.option("--quiet", "-q", is_flag=True, help="No progress and no notes.")
@click.pass_context
def command(
    ctx: click.Context,
    /,
    clips: str,
    out: Path,
    like: Path | None,
    folds: int | None,
    reject: float,
    processes: int | None,
    race: bool,
    skip_unreadable: bool,
    force: bool,
    settings: tuple[str, ...],
    dry_run: bool,
    as_json: bool,
    quiet: bool,
    **flags: Any,
) -> None:
    """Fit a model to CLIPS: one folder per class, a CSV (path, class), or a split.

    Several methods predict clips that were held out; the simplest of the best is fitted to all
    clips. What this says is printed and saved in the model: the accuracy to expect with its
    interval, how probable "none of these" is, which clips look mislabelled. Without --adapter only
    readouts of the frozen encoder are tried; --adapter auto tunes adapters too, which takes longer.
    """
    check_output(out, force=force)
    from fewshot_i2v.evaluation.fitting.candidates import check_fit_keys
    from fewshot_i2v.evaluation.fitting.fit import forecast, run_fit
    from fewshot_i2v.evaluation.fitting.text import render_fit

    overrides = read_overrides(ctx, settings)
    check_fit_keys(overrides)  # before they are merged with the options, whose names may be given
    options = {
        **{"like": like, "folds": folds, "reject": reject, "processes": processes},
        **{"race": race, "skip_unreadable": skip_unreadable},
    }
    values = {**options, "progress": not quiet, **overrides}
    if dry_run:
        _show_forecast(ctx, forecast(clips, values, **source_of(flags)), as_json, quiet)
        return
    result = run_fit(clips, values, **source_of(flags))
    result.classifier.save(out)
    if as_json:
        echo_json({"model": str(out), **result.description.model_dump(mode="json")})
    else:
        click.echo(render_fit(result))
        click.echo(f"\n{out}: {format_size(out.stat().st_size)}; the encoder is not in it")
    if not quiet:
        for note in result.tried.notes:
            click.echo(f"note: {note}", err=True)
        echo_next(command_line("predict", out, "NEW_CLIPS"))


def _show_forecast(
    ctx: click.Context, fit_forecast: FitForecast, as_json: bool, quiet: bool
) -> None:
    """Write what would be tried and how long it would take."""
    if as_json:
        echo_json(fit_forecast.to_dict())
        return
    click.echo("\n".join(fit_lines(fit_forecast.to_dict())))
    if not quiet:
        echo_next(same_command(ctx, without=["--dry-run"]))
