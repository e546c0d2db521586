"""The part of `export` that writes a fitted model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click

from fewshot_i2v.cli._common import echo_json
from fewshot_i2v.cli._help import Flag
from fewshot_i2v.errors import UsageError

_FILE = click.Path(path_type=Path)
_HEADING = "Of a MODEL"
_FLAGS = (
    click.option(
        "--onnx",
        cls=Flag,
        heading=_HEADING,
        type=_FILE,
        help="A new ONNX file (.onnx): from pixels to probabilities, compared with PyTorch.",
    ),
    click.option(
        "--open-clip",
        cls=Flag,
        heading=_HEADING,
        type=_FILE,
        help="A new folder: the encoder with the adapter merged in, for open_clip.",
    ),
    click.option(
        "--hub",
        cls=Flag,
        heading=_HEADING,
        metavar="USER/NAME",
        help="Upload the model and its card to this repository of the Hugging Face Hub.",
    ),
    click.option(
        "--public", cls=Flag, heading=_HEADING, is_flag=True, help="A new repository is public."
    ),
    click.option("--yes", cls=Flag, heading=_HEADING, is_flag=True, help="Upload without asking."),
    click.option(
        "--force", cls=Flag, heading=_HEADING, is_flag=True, help="Replace FILE if it is there."
    ),
)


def model_flags(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give `export` the options of a fitted model."""
    for option in reversed(_FLAGS):
        function = option(function)
    return function


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
    quiet: bool,
) -> None:
    """Write a fitted model in the forms that were named."""
    if onnx is None:
        raise UsageError(f"{model}: nothing to write; give --onnx FILE")
    results: dict[str, Any] = {}
    lines = []
    if onnx is not None:
        from fewshot_i2v.evaluation.deployment.onnx_export import BATCHES, export_onnx

        exported = export_onnx(model, onnx, force=force, **places)
        results["onnx"] = exported.to_dict()
        lines.append(
            f"{exported.path}: {exported.bytes / 1e6:.1f} MB, opset {exported.opset}, adapter "
            f"{'merged' if exported.merged else 'not merged'}; with {BATCHES[0]}, {BATCHES[1]} and "
            f"{BATCHES[2]} clips within {exported.difference:.1g} of PyTorch (probabilities)"
        )
    if as_json:
        echo_json(results)
    for line in lines if not as_json else ():
        click.echo(line)
