"""`fewshot-i2v evaluate`: how well adapters do on few-shot episodes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from fewshot_i2v import plugins
from fewshot_i2v.cli._common import EXIT_CODES, echo_json, resumable
from fewshot_i2v.cli._flags import SectionedCommand, completer, key_flags, overrides

if TYPE_CHECKING:
    from fewshot_i2v.config import RunConfig

FAILED_EPISODES = 3


@click.command(
    cls=SectionedCommand, epilog=EXIT_CODES, short_help="Measure adapters on few-shot episodes."
)
@click.argument(
    "config", required=False, shell_complete=completer(lambda: plugins.data_names("configs"))
)
@key_flags
@click.option(
    "--set", "settings", multiple=True, metavar="KEY=VALUE", help="Any configuration key."
)
@click.option(
    "--retry-failed", is_flag=True, help="Run episodes again that are recorded as failed."
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
    retry_failed: bool,
    dry_run: bool,
    as_json: bool,
    quiet: bool,
    **_flags: Any,
) -> None:
    """Evaluate adapters as CONFIG says: a YAML file or the name of a shipped configuration.

    Without CONFIG it is `quickstart`. Flags win over CONFIG, CONFIG over the defaults. Records are
    kept episode by episode: the same command again goes on where it was stopped.
    """
    from fewshot_i2v.config import load_config

    run = load_config(config, overrides(ctx, settings))
    progress = not quiet
    if dry_run:
        _show_plan(run, as_json=as_json, progress=progress)
        return
    with resumable(run.output_folder):
        from fewshot_i2v import evaluation

        result = evaluation.run(run, progress=progress, retry_failed=retry_failed)
    if as_json:
        echo_json(result.to_dict())
    else:
        click.echo(result.table())
    if not quiet:
        for remark in result.remarks:
            click.echo(f"\n{remark}", err=True)
        click.echo(f"\nrecords are in {result.output}", err=True)
    if result.failed:
        ctx.exit(FAILED_EPISODES)


def _show_plan(run: RunConfig, *, as_json: bool, progress: bool) -> None:
    from fewshot_i2v import evaluation
    from fewshot_i2v.yaml_loader import dump_yaml

    plan = evaluation.plan(run, progress=progress)
    if as_json:
        echo_json(plan)
    else:
        click.echo(dump_yaml(plan), nl=False)
