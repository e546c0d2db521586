"""Options that the studies on real clips share: the clips, the encoder, and where results go."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

_OPTIONS = (
    click.option(
        "--root", type=click.Path(path_type=Path), required=True, help="Folder of the clips."
    ),
    click.option("--architecture", required=True, help="open_clip configuration (JSON)."),
    click.option("--pretrained", required=True, help="Weights."),
    click.option(
        "--image-size", type=int, default=112, show_default=True, help="Pixels on a side."
    ),
    click.option(
        "--mean",
        "mean_colour",
        type=float,
        nargs=3,
        default=(0.5,) * 3,
        show_default=True,
        help="Of the colours that the encoder was trained with.",
    ),
    click.option(
        "--std", type=float, nargs=3, default=(0.5,) * 3, show_default=True, help="Likewise."
    ),
    click.option(
        "--work", type=click.Path(path_type=Path), required=True, help="Folder of all results."
    ),
    click.option("--cache", help="Folder of decoded clips."),
)


def encoder_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the shared options to a command, in the order of the list above."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def encoder_keys(
    architecture: str,
    pretrained: str,
    image_size: int,
    mean_colour: Sequence[float],
    std: Sequence[float],
) -> Mapping[str, Any]:
    """Builds the keys of `encoder`, named as the architecture file is."""
    return {
        "name": Path(architecture).stem,
        "architecture": architecture,
        "pretrained": pretrained,
        "image_size": image_size,
        "mean": list(mean_colour),
        "std": list(std),
    }
