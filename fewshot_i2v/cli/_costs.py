"""The table of `fewshot-i2v list adapters --encoder NAME`: what each adapter costs there."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fewshot_i2v.cli._common import echo_json

if TYPE_CHECKING:
    from fewshot_i2v.cost import Cost, Row

_FRAMES = 8
_GIGA = 1e9
_NONE = "-"
_HEADINGS = (
    "adapter", "parameters", "GMACs/frame", "merged parameters", "merged GMACs", "order",
    "neighbours", "note",
)  # fmt: skip
_NUMBERS = range(1, 5)
# "zeroi2v offsets=[-1, 1]: " before the fact, and what follows it
_OPTION = re.compile(r"^\S+ (\w+)=(?:\[[^\]]*\]|\S+): ")
_REST = re.compile(r"\. |, and |; (?=use |give )|\n")
_LEGEND = """
parameters: trained in each episode, without the head. GMACs/frame: 10^9 multiply-accumulates
of the whole encoder (products, convolutions, attention). merged: the same after folding into the
frozen weights. order: whether the order of frames can matter. neighbours: other frames that one
block or level sees."""


def show_costs(
    *,
    encoder: str | None,
    architecture: str | None,
    image_size: int | None,
    frames: int | None,
    presets: bool,
    as_json: bool,
) -> None:
    """Writes what each adapter costs on an encoder; no weights are read.

    Args:
        encoder: by name; None: "demo", or what `architecture` describes.
        architecture: path of a model configuration.
        image_size: pixels on a side; None: the encoder's own.
        frames: frames of a clip; None: 8.
        presets: whether presets get rows of their own.
        as_json: whether to write JSON.

    Raises:
        UsageError: when there is no such encoder, or it has no blocks.
    """
    from fewshot_i2v.cost import compare
    from fewshot_i2v.encoders.shapes import shapes_of

    path = None if architecture is None else Path(architecture)
    tower = shapes_of(encoder or "demo", image_size=image_size, architecture=path)
    frames = _FRAMES if frames is None else frames
    rows = compare(tower, frames=frames, presets=presets)
    if as_json:
        echo_json([_plain(row) for row in rows])
        return
    name = encoder or (path.stem if path else "demo")
    click.echo(f"encoder {name}, {tower.image_size} pixels, clips of {frames} frames\n")
    _echo_table([_HEADINGS, *(_cells(row) for row in rows)])
    click.echo(_LEGEND)


def _plain(row: Row) -> dict[str, Any]:
    """A row as plain data; what does not fit or cannot be used has nulls and a `reason`."""
    whole = {
        "name": row.adapter,
        "preset": row.preset or None,
        "reason": row.reason or None,
        "source": row.source or None,
    }
    if row.cost is None:
        return whole | dict.fromkeys(_COUNTED)
    counted = asdict(row.cost)
    return whole | {key: counted[key] for key in _COUNTED}


_COUNTED = (
    "options", "parameters", "macs_per_frame", "parameters_merged", "macs_per_frame_merged",
    "order", "reach", "frames", "note",
)  # fmt: skip


def _cells(row: Row) -> tuple[str, ...]:
    if row.cost is None:
        said = "does not fit: " + _clause(row.reason) if row.usable else _unusable(row.reason)
        return (row.label, *[_NONE] * 6, said)
    cost: Cost = row.cost
    return (
        row.label,
        _count(cost.parameters),
        giga(cost.macs_per_frame),
        _count(cost.parameters_merged),
        giga(cost.macs_per_frame_merged),
        cost.order_in_words,
        cost.neighbours,
        cost.note,
    )


def _clause(reason: str) -> str:
    """The fact in a reason: no values and nothing of what to do; JSON has the whole."""
    fact = _OPTION.sub(r"\1: ", reason)
    return _REST.split(fact, maxsplit=1)[0]


def _unusable(reason: str) -> str:
    return "cannot be used: " + " ".join(reason.split())


def _count(value: int | None) -> str:
    return _NONE if value is None else f"{value:,}"


def giga(value: float | None) -> str:
    """A number in units of 10^9, or "-"."""
    if value is None:
        return _NONE
    scaled = value / _GIGA
    return f"{scaled:.2f}" if scaled >= 1 else f"{scaled:.4f}"


def _echo_table(rows: Sequence[Sequence[str]]) -> None:
    """Writes aligned columns, numbers to the right; the last one may be long."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(_HEADINGS) - 1)]
    for i, row in enumerate([rows[0], ["-" * width for width in widths] + ["----"], *rows[1:]]):
        cells = [
            cell.rjust(width) if column in _NUMBERS and i != 1 else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row[:-1], widths, strict=True))
        ]
        click.echo("  ".join([*cells, row[-1]]).rstrip())
