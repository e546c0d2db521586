"""`fewshot-i2v export`: write the tuned adapter of one episode to files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from fewshot_i2v.cli._common import EXIT_CODES, RunPath, echo_json
from fewshot_i2v.cli._flags import CACHE_LIMIT, ConfigCommand, config_flags, read_overrides
from fewshot_i2v.cli._help import RareFlag
from fewshot_i2v.cli._next import command_line, echo_next

_FILE = click.Path(path_type=Path)


_EXAMPLES = (
    ("export runs/mine/aim-linear-1shot --episode 0 --out exported", "one row, its first episode"),
)


@click.command(
    cls=ConfigCommand,
    epilog=EXIT_CODES,
    examples=_EXAMPLES,
    short_help="Write the tuned adapter of one episode to files.",
)
@click.argument("run", type=RunPath())
@click.option("--episode", type=click.IntRange(min=0), required=True, help="Number of the episode.")
@click.option("--out", type=_FILE, required=True, help="A new folder.")
@click.option(
    "--merge/--no-merge",
    default=None,
    help="Fold the adapter into the encoder's weights, for open_clip; where the method can be "
    "merged, that is the default.",
)
@click.option("--split", help="The run's split by name or path, if it is not where it was.")
@click.option("--root", type=_FILE, help="Folder of the split's clips.")
@click.option("--pretrained", help="The encoder's checkpoint, if it is not where it was.")
@click.option(
    "--architecture", cls=RareFlag, type=_FILE, help="The encoder's configuration (JSON)."
)
@click.option("--start", help="The row's starting point, name or folder, if not where it was.")
@click.option(
    "--trials", cls=RareFlag, type=_FILE, help="The run's frozen episodes, if not where they were."
)
@click.option(
    "--cache",
    cls=RareFlag,
    type=_FILE,
    help="Folder of decoded clips.  [default: that of the user]",
)
@click.option("--cache-limit", cls=RareFlag, **CACHE_LIMIT)
@config_flags("limits")
@click.option("--json", "as_json", is_flag=True, help="Write JSON.")
@click.option("--quiet", "-q", is_flag=True, help="No progress.")
@click.pass_context
def command(
    ctx: click.Context,
    /,
    run: Path,
    episode: int,
    out: Path,
    merge: bool | None,
    split: str | None,
    root: Path | None,
    pretrained: str | None,
    architecture: Path | None,
    start: str | None,
    trials: Path | None,
    cache: Path | None,
    cache_limit: str | None,
    as_json: bool,
    quiet: bool,
    **_limits: Any,
) -> None:
    """Write the adapter and the head that RUN, the folder of one row, tuned for an episode.

    A run keeps predictions, not parameters. The episode is tuned again as it was, on the kind of
    device it was, and nothing is written unless its predictions are those recorded.

    Without merging the folder holds adapter.safetensors and adapter.json. Merged, it also holds
    open_clip_model.safetensors and open_clip_config.json, and open_clip.create_model loads it as
    local-dir:OUT where the encoder came with a text tower; adapter.json says what else it takes.
    """
    from fewshot_i2v.evaluation.export import export_episode

    exported = export_episode(
        run,
        episode,
        out,
        merge=merge,
        progress=not quiet,
        split=split,
        root=root,
        pretrained=pretrained,
        architecture=architecture,
        start=start,
        trials=trials,
        cache=cache,
        cache_limit=cache_limit,
        limits=read_overrides(ctx, ()),
    )
    if as_json:
        echo_json(exported.to_dict())
        return
    click.echo(
        f"{exported.adapter} with {exported.head}, episode {exported.episode}: tuned again, same "
        f"predictions (accuracy {100 * exported.accuracy:.1f} %, probabilities within "
        f"{exported.difference:.1g})"
    )
    for name in exported.files:
        click.echo(str(exported.folder / name))
    click.echo(exported.usage.replace("FOLDER", str(exported.folder)))
    if exported.merged and not quiet:  # else it takes the encoder, as `usage` says
        echo_next(command_line("predict", exported.folder, "CLIP.mp4"))
