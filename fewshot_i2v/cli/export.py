"""`fewshot-i2v export`: write a tuned episode, or a fitted model, for use elsewhere."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from fewshot_i2v.cli._common import EXIT_CODES, RunPath, echo_json
from fewshot_i2v.cli._export_model import export_model, model_flags
from fewshot_i2v.cli._flags import CACHE_LIMIT, config_flags, read_overrides
from fewshot_i2v.cli._help import flag, help_command, rare_flag
from fewshot_i2v.cli._next import command_line, echo_next
from fewshot_i2v.errors import UsageError

_FILE = click.Path(path_type=Path)
_HEADING = "Of a RUN"
_RUN_FLAGS = frozenset(
    {"episode", "out", "merge", "split", "root", "start", "trials", "cache", "cache_limit"}
)
_MODEL_FLAGS = frozenset({"onnx", "open_clip", "hub", "public", "yes", "force"})


class _Source(RunPath):
    """The folder of a row of a run, or the file of a fitted model."""

    def convert(
        self,
        value: str | os.PathLike[str],
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> Path:
        """Check a folder; a file is checked where it is read."""
        return Path(value) if _is_model(Path(value)) else super().convert(value, param, ctx)


def _is_model(path: Path) -> bool:
    return path.is_file() or (path.suffix == ".safetensors" and not path.is_dir())


@help_command(
    "Write a tuned episode or a fitted model for use elsewhere.",
    ("export runs/mine/aim-linear-1shot --episode 0 --out exported", "one row, its first episode"),
    ("export gestures.safetensors --onnx gestures.onnx", "a fitted model, for onnxruntime"),
    ("export gestures.safetensors --hub me/gestures", "a fitted model, with its card"),
    epilog=EXIT_CODES,
)
@click.argument("source", metavar="RUN|MODEL", type=_Source())
@flag(
    "--episode",
    heading=_HEADING,
    type=click.IntRange(min=0),
    help="Number of the episode; required.",
)
@flag("--out", heading=_HEADING, type=_FILE, help="A new folder; required.")
@flag(
    "--merge/--no-merge",
    heading=_HEADING,
    default=None,
    help="Fold the adapter into the encoder's weights, for open_clip; where the method can be "
    "merged, that is the default.",
)
@flag(
    "--split", heading=_HEADING, help="The run's split by name or path, if it is not where it was."
)
@flag("--root", heading=_HEADING, type=_FILE, help="Folder of the split's clips.")
@flag(
    "--start",
    heading=_HEADING,
    help="The row's starting point, name or folder, if not where it was.",
)
@rare_flag(
    "--trials",
    heading=_HEADING,
    type=_FILE,
    help="The run's frozen episodes, if not where they were.",
)
@rare_flag(
    "--cache",
    heading=_HEADING,
    type=_FILE,
    help="Folder of decoded clips.  [default: that of the user]",
)
@rare_flag("--cache-limit", **CACHE_LIMIT)
@model_flags
@click.option("--pretrained", help="The encoder's checkpoint, if it is not where it was.")
@rare_flag("--architecture", type=_FILE, help="The encoder's configuration (JSON).")
@config_flags("limits")
@click.option("--json", "as_json", is_flag=True, help="Write JSON.")
@click.option("--quiet", "-q", is_flag=True, help="No progress.")
@click.pass_context
def command(
    ctx: click.Context,
    /,
    source: Path,
    pretrained: str | None,
    architecture: Path | None,
    as_json: bool,
    quiet: bool,
    **flags: Any,
) -> None:
    """Write what was tuned or fitted in a form that other programs can use.

    Of a RUN, the folder of one row: the adapter and the head of an episode. A run has
    predictions, not parameters. The episode is tuned again as it was, on the kind of device it
    was, and nothing is written unless its predictions are those recorded. Without merging the
    folder holds adapter.safetensors and adapter.json. Merged, it also holds
    open_clip_model.safetensors and open_clip_config.json, and open_clip.create_model loads it as
    local-dir:OUT where the encoder came with a text tower; adapter.json says what else it takes.

    Of a MODEL, the file that fit wrote: from pixels to probabilities as ONNX (--onnx), the merged
    encoder (--open-clip), or the file with its card on the Hugging Face Hub (--hub).
    """
    limits = read_overrides(ctx, ())
    places: dict[str, Any] = {"pretrained": pretrained, "architecture": architecture}
    if _is_model(source):
        _refuse(ctx, _RUN_FLAGS, limits, f"{source} is a fitted model")
        options = {name: flags[name] for name in _MODEL_FLAGS}
        export_model(source, places, as_json=as_json, **options)
        return
    _refuse(ctx, _MODEL_FLAGS, {}, f"{source} is a run")
    for param in ctx.command.params:
        if param.name in ("episode", "out") and flags[param.name] is None:
            raise click.MissingParameter(ctx=ctx, param=param)
    from fewshot_i2v.evaluation.export import export_episode

    options = {name: flags[name] for name in _RUN_FLAGS}
    exported = export_episode(source, **options, **places, limits=limits, progress=not quiet)
    if as_json:
        echo_json(exported.to_dict())
        return
    click.echo(
        f"{exported.adapter} with {exported.head}, episode {exported.episode}: tuned again, same "
        f"predictions (accuracy {100 * exported.accuracy:.1f} %, probabilities within "
        f"{exported.difference:.1g})"
    )
    if exported.untuned_weight:
        click.echo(
            "The run also counts the logits of the untuned adapter (tuning.untuned_weight "
            f"{exported.untuned_weight:g}), which the folder does not hold: what is exported has "
            f"an accuracy of {100 * exported.exported_accuracy:.1f} %"
        )
    for name in exported.files:
        click.echo(str(exported.folder / name))
    click.echo(exported.usage.replace("FOLDER", str(exported.folder)))
    if not quiet:
        files = [w for key, file in exported.encoder_files.items() for w in (f"--{key}", file)]
        echo_next(command_line("predict", exported.folder, "CLIP.mp4", *files))


def _refuse(ctx: click.Context, names: frozenset[str], limits: dict[str, Any], reason: str) -> None:
    """Refuse flags that have no meaning for this source."""
    used = [
        max((*param.opts, *param.secondary_opts), key=len)
        for param in ctx.command.params
        if param.name in names
        and ctx.get_parameter_source(param.name) is click.core.ParameterSource.COMMANDLINE
    ]
    used += [f"--{key.removeprefix('limits.')}" for key in limits]
    if used:
        raise UsageError(f"{used[0]}: {reason}, for which it has no meaning; leave it out")
