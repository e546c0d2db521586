"""`fewshot-i2v train`: train a starting point on base classes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fewshot_i2v.cli._common import EXIT_CODES, echo_columns, echo_json, resumable
from fewshot_i2v.cli._dry_run import training_lines
from fewshot_i2v.cli._flags import (
    completer,
    config_flags,
    config_words,
    read_overrides,
)
from fewshot_i2v.cli._help import help_command, rare_flag
from fewshot_i2v.cli._next import command_line, echo_next, same_command
from fewshot_i2v.cli._settings import echo_settings
from fewshot_i2v.cli._split_options import evaluate_options
from fewshot_i2v.utils import resources

if TYPE_CHECKING:
    from fewshot_i2v.config.training import TrainingConfig
    from fewshot_i2v.training.train import TrainedStart

_CONFIG_PREFIX = "train/"


def _training_configs() -> list[str]:
    names = resources.data_names("configs")
    return [name.removeprefix(_CONFIG_PREFIX) for name in names if name.startswith(_CONFIG_PREFIX)]


@help_command(
    "Train an adapter on base classes.",
    ("train --adapter aim -o starts/aim", "a start for one adapter on generated clips"),
    ("evaluate --start starts/aim --adapter aim", "then use it"),
    ("train my-train.yaml --start starts/aim", "a training that begins from it"),
    ("train my-train.yaml --dry-run", "what a file would do, and how long it would take"),
    epilog=EXIT_CODES,
)
@click.argument("config", required=False, shell_complete=completer(_training_configs))
@config_flags("train")
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    help="Set any key of configs/README.md, such as augment.flip=off. Repeatable.",
)
@rare_flag(
    "--finish",
    is_flag=True,
    help="Train no further: the best state of a stopped training becomes the start.",
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
    """Train an adapter on base classes, as a start for the fine-tuning in `evaluate`.

    CONFIG is a YAML file, or a name such as `motions`, which is run without CONFIG; with --split of
    other clips, the defaults below. A flag overrides CONFIG, and CONFIG overrides the recipe of the
    adapter and the defaults; with another adapter than a shipped CONFIG names, its recipe overrides
    CONFIG. The state that is best on the validation classes becomes the start, for
    `evaluate --start FOLDER`. After a stop, the same command continues.
    """
    from fewshot_i2v.config.loading import load_train_config

    explicit = read_overrides(ctx, settings)
    run = load_train_config(config, explicit)
    if not quiet:
        echo_settings(run, config or "motions", explicit)
    if dry_run:
        from fewshot_i2v.training import train

        plan = train.dry_run(run)
        if as_json:
            echo_json(plan)
            return
        click.echo("\n".join(training_lines(plan)))
        if not quiet:
            echo_next(same_command(ctx, without=["--dry-run"]))
        return

    def _log(note: str) -> None:
        click.echo(note, err=True)

    with resumable(run.output_folder, "the last saved state is"):
        from fewshot_i2v.training import train

        progress = not quiet
        log = None if quiet else _log
        trained = train.train(run, progress=progress, log=log, finish=finish)
    if as_json:
        echo_json(trained.to_dict())
    else:
        _show_result(trained)
    if not quiet:
        for note in _notes(trained):
            click.echo(f"\n{note}", err=True)
        if not as_json:
            _echo_evaluation(run, trained)


def _show_result(trained: TrainedStart) -> None:
    """Show the curve and selected state."""
    start = trained.start
    rows = [("step", "loss", "validation", "")]
    for entry in start["curve"]:
        accuracy, width = entry["accuracy"], entry["half_width"]
        accuracy_text = "-" if accuracy is None else f"{100 * accuracy:.1f} %"
        accuracy_text += "" if accuracy is None or width is None else f" ± {100 * width:.1f}"
        loss = "-" if entry["loss"] is None else f"{entry['loss']:.4f}"
        selected = "selected" if entry["step"] == start["best_step"] else ""
        rows.append((str(entry["step"]), loss, accuracy_text, selected))
    echo_columns(rows)
    click.echo(
        f"\n{trained.info.adapter.name}, {start['kind']} ({start['objective']}): {trained.folder}"
    )
    click.echo(f"sha256 of its tensors: {start['digest']}")


def _echo_evaluation(run: TrainingConfig, trained: TrainedStart) -> None:
    """Write the command that evaluates from the start on classes that it has not seen."""
    from fewshot_i2v.data.splits.split_file import load_split

    split = load_split(run.split, root=run.root)
    options, problem = evaluate_options(split, without={run.subset, run.validation.subset})
    clips: list[str | Path] = ["--split", run.split]
    clips += [] if run.root is None else ["--root", run.root]
    if options is None:
        click.echo(f"\nnote: {problem}; put another split in the place of SPLIT", err=True)
        clips, options = ["--split", "SPLIT"], []
    reading = config_words("evaluate", _reading_keys(run))
    methods = ["--adapter", "frozen", "--adapter", run.adapter.label]
    words = ["evaluate", *clips, *options, *reading, *methods, "--start", trained.folder]
    echo_next(command_line(*words))


def _reading_keys(run: TrainingConfig) -> dict[str, Any]:
    """The keys with which an evaluation reads clips as the training did, where it would not."""
    from fewshot_i2v.config.loading import load_run_config

    # that of its own clips takes the settings of quickstart
    usual = load_run_config(None, {"split": run.split}).model_dump(mode="json")
    values = run.model_dump(mode="json")
    keys = {
        f"{section}.{key}": value
        for section in ("encoder", "video")
        for key, value in values[section].items()
        if value != usual[section][key]
    }
    precision = values["precision"]
    return keys | ({"precision": precision} if precision != usual["precision"] else {})


def _notes(trained: TrainedStart) -> list[str]:
    notes = []
    if trained.clips_per_second is None:
        notes.append("it was trained before; nothing was done now")
    else:
        speed, memory = trained.clips_per_second, trained.peak_memory_mb
        notes.append(
            f"{trained.seconds:.1f} s of training steps, {speed} clips/s, peak memory {memory:.0f} "
            "MiB"
        )
    start = trained.start
    if start["steps"] < start["config"]["steps"]:
        notes.append(f"it was ended after {start['steps']} of {start['config']['steps']} steps")
    if start["best_step"] == 0:
        first_state = "one that it began from" if "begun_from" in start else "untrained adapter"
        notes.append(f"no later state was better on validation: the start is the {first_state}")
    elif not start["validation"]["classes"]:
        notes.append("there was no validation: the start is the last state")
    return notes
