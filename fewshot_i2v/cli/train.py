"""`fewshot-i2v train`: a starting point for adapters, from base classes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from fewshot_i2v.cli._common import EXIT_CODES, echo_columns, echo_json, resumable
from fewshot_i2v.cli._flags import SectionedCommand, completer, overrides, train_flags
from fewshot_i2v.utils import resources

if TYPE_CHECKING:
    from fewshot_i2v.config.training import TrainConfig
    from fewshot_i2v.training.train import TrainedStart

_FOLDER = "train/"


def _configs() -> list[str]:
    names = resources.data_names("configs")
    return [name.removeprefix(_FOLDER) for name in names if name.startswith(_FOLDER)]


@click.command(
    cls=SectionedCommand, epilog=EXIT_CODES, short_help="Train an adapter on base classes."
)
@click.argument("config", required=False, shell_complete=completer(_configs))
@train_flags
@click.option(
    "--set", "settings", multiple=True, metavar="KEY=VALUE", help="Any configuration key."
)
@click.option(
    "--finish",
    is_flag=True,
    help="Train no further: make a start of what a stopped training has best.",
)
@click.option("--dry-run", is_flag=True, help="Show what would be done and what it would cost.")
@click.option("--json", "as_json", is_flag=True, help="Write JSON.")
@click.option("--quiet", "-q", is_flag=True, help="No progress and no notes.")
@click.pass_context
def command(
    ctx: click.Context,
    /,
    config: str | None,
    settings: tuple[str, ...],
    finish: bool,
    dry_run: bool,
    as_json: bool,
    quiet: bool,
    **_flags: Any,
) -> None:
    """Train an adapter as CONFIG says: a YAML file or the name of a shipped configuration.

    Without CONFIG it is `motions`. Flags win over CONFIG, CONFIG over the defaults. The state that
    is best on the validation classes becomes a starting point, for `evaluate --start FOLDER`. The
    same command again goes on where it was stopped.
    """
    from fewshot_i2v.config.loading import load_train_config

    run = load_train_config(config, overrides(ctx, settings))
    if dry_run:
        _show_plan(run, as_json=as_json)
        return

    def _tell(note: str) -> None:
        click.echo(note, err=True)

    with resumable(run.output_folder, "the last saved state is"):
        from fewshot_i2v.training import train

        progress = not quiet
        tell = None if quiet else _tell
        done = train.train(run, progress=progress, tell=tell, finish=finish)
    if as_json:
        echo_json(done.to_dict())
    else:
        _show(done)
    if not quiet:
        for note in _notes(done):
            click.echo(f"\n{note}", err=True)


def _show(done: TrainedStart) -> None:
    """The curve, and what was kept of it."""
    start = done.start
    rows = [("step", "loss", "validation", "")]
    for entry in start["curve"]:
        accuracy, width = entry["accuracy"], entry["half_width"]
        shown = "-" if accuracy is None else f"{100 * accuracy:.1f} %"
        shown += "" if accuracy is None or width is None else f" ± {100 * width:.1f}"
        loss = "-" if entry["loss"] is None else f"{entry['loss']:.4f}"
        kept = "kept" if entry["step"] == start["best_step"] else ""
        rows.append((str(entry["step"]), loss, shown, kept))
    echo_columns(rows)
    click.echo(f"\n{done.info.adapter.name}, {start['kind']} ({start['objective']}): {done.folder}")
    click.echo(f"sha256 of its tensors: {start['digest']}")


def _notes(done: TrainedStart) -> list[str]:
    notes = []
    if done.clips_per_second is None:
        notes.append("it was trained before; nothing was done now")
    else:
        speed, memory = done.clips_per_second, done.peak_memory_mb
        notes.append(
            f"{done.seconds:.1f} s of training steps, {speed} clips/s, peak memory {memory:.0f} MiB"
        )
    start = done.start
    if start["steps"] < start["config"]["steps"]:
        notes.append(f"it was ended after {start['steps']} of {start['config']['steps']} steps")
    if start["best_step"] == 0:
        notes.append("no later state was better on validation: the start is the untrained adapter")
    elif not start["validation"]["classes"]:
        notes.append("there was no validation: the last state is kept")
    return notes


def _show_plan(run: TrainConfig, *, as_json: bool) -> None:
    from fewshot_i2v.training import train
    from fewshot_i2v.utils.yaml import dump_yaml

    plan = train.plan(run)
    if as_json:
        echo_json(plan)
    else:
        click.echo(dump_yaml(plan), nl=False)
