"""`fewshot-i2v config show`: a configuration with all its values, as YAML."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fewshot_i2v.cli._common import echo_json
from fewshot_i2v.cli._flags import completer, parse_settings
from fewshot_i2v.cli._help import help_command
from fewshot_i2v.cli._next import command_line, echo_next
from fewshot_i2v.errors import UsageError
from fewshot_i2v.utils import resources
from fewshot_i2v.utils.text_table import join_names

if TYPE_CHECKING:
    from fewshot_i2v.config.base import CommonConfig


@help_command(
    "Show a configuration with all its values.",
    ("config show quickstart", "a shipped one, with all its values"),
)
@click.argument(
    "config",
    required=False,
    metavar="[NAME|FILE|RUN]",
    shell_complete=completer(lambda: resources.data_names("configs")),
)
@click.option(
    "--set", "settings", multiple=True, metavar="KEY=VALUE", help="Any configuration key."
)
@click.option("--json", "as_json", is_flag=True, help="Write JSON.")
def command(config: str | None, settings: tuple[str, ...], as_json: bool) -> None:
    """Show all values of a configuration as YAML: those that it sets, and the defaults.

    NAME is a shipped configuration (`fewshot-i2v list configs`), FILE a YAML file of your own, of
    an evaluation or of a training; of a run folder it is the configuration that gives its rows.
    Without either it is `quickstart`. The output is a configuration
    that `evaluate` or `train` reads; comments on top say which values are no defaults, and where
    they come from.
    """
    from fewshot_i2v.config.loading import command_of
    from fewshot_i2v.utils.yaml import dump_yaml

    source, explicit = config or "quickstart", parse_settings(settings)
    if Path(source).is_dir():
        _show_run(Path(source), as_json=as_json)
        return
    used_by = command_of(source)
    run, recipe_keys = _load(used_by, source, explicit)
    values = run.model_dump(mode="json")
    remark = _leave_to_recipes(run, values)
    if as_json:
        echo_json(values)
        return
    for line in [*_origin_lines(run, source, explicit, recipe_keys), *remark]:
        click.echo(f"# {line}")
    click.echo(dump_yaml(values), nl=False)
    changes = [word for setting in settings for word in ("--set", setting)]
    echo_next(command_line(used_by, source, *changes, "--dry-run"))


def _show_run(folder: Path, *, as_json: bool) -> None:
    """Write the configuration that gives the rows of an evaluation."""
    from fewshot_i2v.evaluation.reproduce import reproduction_recipes
    from fewshot_i2v.runs.run_index import find_run_folders, read_row, row_order
    from fewshot_i2v.utils.yaml import parse_yaml

    rows = sorted(map(read_row, find_run_folders(folder)), key=row_order)
    parents = sorted({str(row.folder.parent) for row in rows})
    if len(parents) > 1:
        raise UsageError(
            f"{folder}: {len(parents)} evaluations; expected one. Give one of their folders: "
            + join_names(parents)
        )
    episodes = 1 + max(row.last_episode for row in rows)
    recipe, *_ = reproduction_recipes(
        str(folder), [dict(row.header) for row in rows], episodes=episodes
    )
    if as_json:
        echo_json(parse_yaml(recipe.config, "recipe"))
        return
    for line in recipe.remarks:
        click.echo(f"# {line}")
    click.echo(recipe.config, nl=False)


def _load(
    used_by: str, source: str, explicit: Mapping[str, Any]
) -> tuple[CommonConfig, Collection[str]]:
    """Return the configuration and those of its keys whose values are of a recipe."""
    if used_by == "train":
        from fewshot_i2v.config.loading import load_train_config
        from fewshot_i2v.config.training_recipes import take_recipe

        # all keys are written, and those of a file win over a recipe
        use = take_recipe(load_train_config(source, explicit))
        return use.config, use.taken
    from fewshot_i2v.evaluation.row_expansion import load_config

    return load_config(source, explicit), ()


def _leave_to_recipes(run: CommonConfig, values: dict[str, Any]) -> list[str]:
    """Remove the keys of `tuning` that each row of an evaluation has from its recipe.

    Written, they would win over it when the output is read again.
    """
    tuning = getattr(run, "tuning", None)
    if tuning is None or tuning.recipe == "none":
        return []
    keys = tuning.model_fields_set | {"recipe"}
    values["tuning"] = {key: value for key, value in values["tuning"].items() if key in keys}
    return [f"keys of tuning that are not here: those of each row's recipe, {tuning.recipe}"]


def _origin_lines(
    run: CommonConfig, source: str, explicit: Mapping[str, Any], recipe_keys: Collection[str]
) -> Iterator[str]:
    """Yield a line for each value that is no default, by where it comes from."""
    from fewshot_i2v.config.origins import find_setting_origins

    for origin, settings in find_setting_origins(run, source, explicit, recipe_keys).items():
        origin_name = {"flags": "--set", "recipe": "the recipe"}.get(origin, origin)
        for key, value in settings.items():
            yield f"{key} {value}: from {origin_name}"
