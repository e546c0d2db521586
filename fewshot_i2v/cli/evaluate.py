"""`fewshot-i2v evaluate`: measure adapters on few-shot episodes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from fewshot_i2v.cli._common import (
    EXIT_CODES,
    echo_json,
    parse_columns,
    resumable,
    table_flags,
)
from fewshot_i2v.cli._dry_run import evaluation_lines
from fewshot_i2v.cli._engine import (
    FAILED_EPISODES_STATUS,
    EngineFlags,
    engine_flags,
    take_episode_range,
)
from fewshot_i2v.cli._flags import (
    completer,
    config_flags,
    read_overrides,
)
from fewshot_i2v.cli._help import help_command, rare_flag
from fewshot_i2v.cli._next import command_line, echo_next, same_command
from fewshot_i2v.cli._settings import echo_settings
from fewshot_i2v.utils import resources

if TYPE_CHECKING:
    from fewshot_i2v.config.evaluation import EvaluationConfig
    from fewshot_i2v.evaluation.results import EvaluationResult


@help_command(
    "Measure adapters on few-shot episodes.",
    ("evaluate", "the shipped example, in about two minutes"),
    (
        "evaluate --split mine.yaml --root CLIPS --encoder ViT-B-16 --pretrained openai "
        "--adapter frozen --adapter aim",
        "your own clips, with a split from `fewshot-i2v episodes new`",
    ),
    ("evaluate sweep.yaml --dry-run", "what a file would do, and how long it would take"),
    epilog=EXIT_CODES,
)
@click.argument(
    "config", required=False, shell_complete=completer(lambda: resources.data_names("configs"))
)
@config_flags("evaluate")
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    help="Set any key of configs/README.md, such as tuning.batch=64. Repeatable.",
)
@rare_flag("--retry-failed", is_flag=True, help="Run episodes again that are recorded as failed.")
@engine_flags
@table_flags
@click.option("--dry-run", is_flag=True, help="Show what would be done and what it would cost.")
@click.option("--json", "as_json", is_flag=True, help="Write JSON.")
@click.option("--quiet", "-q", is_flag=True, help="No progress and no notes.")
@click.pass_context
def command(
    ctx: click.Context,
    /,
    config: str | None,
    settings: tuple[str, ...],
    retry_failed: bool,
    engine: str | None,
    processes: int | None,
    gpus: str | None,
    ray_address: str | None,
    shard: str | None,
    submit: bool,
    wait: bool,
    job: tuple[str, ...],
    columns: str,
    wide: bool,
    notes: bool,
    dry_run: bool,
    as_json: bool,
    quiet: bool,
    **_flags: Any,
) -> None:
    """Measure adapters on few-shot episodes, and show a table of their accuracies.

    CONFIG is a YAML file, or a name from `fewshot-i2v list configs`. Without it, `quickstart` is
    run; with --split of other clips, the defaults below. A flag overrides CONFIG, and CONFIG
    overrides the defaults. Each finished episode is saved: after a stop, the same command
    continues.
    """
    from fewshot_i2v.evaluation.row_expansion import load_config

    further_columns = parse_columns(columns)
    explicit = read_overrides(ctx, settings)
    first = take_episode_range(explicit)
    run = load_config(config, explicit)
    division = EngineFlags(engine, processes, gpus, ray_address, shard, submit, wait, job)
    division.check(first)
    if submit and not dry_run:
        ctx.exit(division.submit_shards(run, retry_failed=retry_failed, quiet=quiet))
    if engine == "slurm" and not submit:
        click.echo(division.slurm_script(ctx, run.output_folder.name), nl=False)
        return
    progress = not quiet
    if not quiet:
        echo_settings(run, config or "quickstart", explicit)
    if dry_run:
        _show_plan(ctx, run, as_json=as_json, quiet=quiet)
        return
    with resumable(run.output_folder):
        result = division.run(run, first, progress=progress, retry_failed=retry_failed)
    if as_json:
        echo_json(result.to_dict())
    else:
        click.echo(result.table(columns=further_columns, wide=wide, notes=notes))
    if not quiet:
        _echo_end(result)
    if result.failed:
        ctx.exit(FAILED_EPISODES_STATUS)


def _show_plan(ctx: click.Context, run: EvaluationConfig, *, as_json: bool, quiet: bool) -> None:
    """Write what the command would do and what it would cost."""
    from fewshot_i2v.evaluation import evaluate

    plan = evaluate.dry_run(run, progress=not quiet, one_thread=True)
    if as_json:
        echo_json(plan)
        return
    click.echo("\n".join(evaluation_lines(plan)))
    if not quiet:
        echo_next(same_command(ctx, without=["--dry-run"]))


def _echo_end(result: EvaluationResult) -> None:
    for remark in result.remarks:
        click.echo(f"\n{remark}", err=True)
    click.echo(f"\nrecords are in {result.output}", err=True)
    echo_next(command_line("recommend", result.output))
