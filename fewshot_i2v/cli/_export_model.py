"""The part of `export` that writes a fitted model."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import click

from fewshot_i2v.cli._common import echo_json
from fewshot_i2v.cli._help import flag, join_options
from fewshot_i2v.errors import UsageError
from fewshot_i2v.utils.sizes import format_size

_FILE = click.Path(path_type=Path)
_flag = partial(flag, heading="Of a MODEL")
model_flags = join_options(
    _flag(
        "--onnx",
        type=_FILE,
        help="A new ONNX file (.onnx): from pixels to probabilities, compared with PyTorch.",
    ),
    _flag(
        "--open-clip",
        type=_FILE,
        help="A new folder: the encoder with the adapter merged in, for open_clip.",
    ),
    _flag(
        "--hub",
        metavar="USER/NAME",
        help="Upload the model and its card to this repository of the Hugging Face Hub.",
    ),
    _flag("--public", is_flag=True, help="A new repository is public."),
    _flag("--yes", is_flag=True, help="Upload without asking."),
    _flag("--force", is_flag=True, help="Replace FILE if it is there."),
)
"""The options of `export` for a fitted model."""


def export_model(
    model: Path,
    places: Mapping[str, Any],
    *,
    onnx: Path | None,
    open_clip: Path | None,
    hub: str | None,
    public: bool,
    yes: bool,
    force: bool,
    as_json: bool,
) -> None:
    """Write a fitted model in the forms that were named."""
    if onnx is None and open_clip is None and hub is None:
        raise UsageError(f"{model}: nothing to write; give --onnx, --open-clip or --hub")
    results: dict[str, Any] = {}
    lines: list[str] = []
    if onnx is not None:
        from fewshot_i2v.evaluation.deployment.onnx_export import BATCHES, export_onnx

        exported = export_onnx(model, onnx, force=force, **places)
        results["onnx"] = exported.to_dict()
        batches = ", ".join(map(str, BATCHES))
        lines.append(
            f"{exported.path}: {format_size(exported.bytes)}, opset {exported.opset}"
            f"{', adapter merged' if exported.merged else ''}; with {batches} clips probabilities "
            f"are within {exported.difference:.1g} of PyTorch"
        )
    if open_clip is not None:
        from fewshot_i2v.evaluation.deployment.open_clip_folder import export_open_clip

        folder = export_open_clip(model, open_clip, **places)
        results["open_clip"] = folder.to_dict()
        lines += [str(folder.folder / name) for name in folder.files]
        lines.append(folder.usage.replace("FOLDER", str(folder.folder)))
    for line in lines if not as_json else ():
        click.echo(line)
    if hub is not None:
        results["hub"] = _upload(model, hub, onnx, public=public, yes=yes)
        if not as_json:
            click.echo(results["hub"])
    if as_json:
        echo_json(results)


def _upload(model: Path, hub: str, onnx: Path | None, *, public: bool, yes: bool) -> str:
    """Upload the model, its card and the ONNX file that was written; return the address."""
    from fewshot_i2v.evaluation.deployment.hub import HubPlan, upload_model

    def _confirm(plan: HubPlan) -> bool:
        if yes:
            click.echo(f"upload {plan.text}", err=True)
            return True
        try:
            return click.confirm(f"Upload {plan.text}. Go on?", err=True)
        except click.Abort as error:
            if not isinstance(error.__context__, EOFError):
                raise
            raise UsageError(
                "--hub asks first, and nobody is there to answer; give --yes"
            ) from None

    # large weights are a file beside the one of ONNX
    candidates = [] if onnx is None else [onnx, onnx.with_name(f"{onnx.name}.data")]
    more = [file for file in candidates if file.is_file()]
    address = upload_model(model, hub, confirm=_confirm, more=more, public=public)
    if address is None:
        click.echo("nothing was uploaded", err=True)
        raise click.exceptions.Exit(1)
    return address
