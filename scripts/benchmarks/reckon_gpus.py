"""Reckons how long 10,000 episodes take on 1 and on 8 GPUs; nothing has run on CUDA.

    python scripts/benchmarks/reckon_gpus.py
    python scripts/benchmarks/reckon_gpus.py --gpu h200

From the bytes and operations of a step with four episodes (`results/step-counts-vit-b16.json`) and
the data sheet of a GPU. At best products and memory traffic run at these rates and beside each
other; at worst at 60 % of them and one after the other. An episode is 30 steps, and the prediction
of 25 query clips, each of half the work of a support clip in a step: it has no backward pass. Work
is divided evenly; start-up, reading of clips and what the host does between batches are not in it.
`reckon_levers.py` reckons kernel by kernel.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

_COUNTS = Path(__file__).parent / "results" / "step-counts-vit-b16.json"
_WORST_SHARE = 0.6
_EPISODES, _STEPS, _SUPPORT, _QUERY = 10_000, 30, 5, 25
_STEPS_OF_AN_EPISODE = _STEPS + _QUERY / _SUPPORT / 2


@dataclass(frozen=True)
class Gpu:
    """Peak rates of a GPU.

    Attributes:
        flop: operations a second in bfloat16, without sparsity.
        bytes: of its memory, a second.
        source: data sheet.
    """

    flop: float
    bytes: float
    source: str


GPUS = {
    "h100": Gpu(989e12, 3.35e12, "NVIDIA H100 SXM, https://www.nvidia.com/en-us/data-center/h100/"),
    "h200": Gpu(989e12, 4.8e12, "NVIDIA H200 SXM, https://www.nvidia.com/en-us/data-center/h200/"),
}


def seconds_of_step(row: Mapping[str, Any], gpu: Gpu) -> tuple[float, float]:
    """Return the seconds of a step at best and at worst."""
    times = row["flop"] / gpu.flop, row["bytes"] / gpu.bytes
    return max(times), sum(times) / _WORST_SHARE


def lines(counts: Mapping[str, Any], gpu: Gpu) -> Iterator[str]:
    """Yield the rows of the table: minutes of each adapter on one GPU and on eight."""
    for row in counts["rows"]:
        if row["episodes"] != 4:
            continue
        steps = _EPISODES / row["episodes"] * _STEPS_OF_AN_EPISODE
        minutes = [steps * seconds / 60 for seconds in seconds_of_step(row, gpu)]
        one, eight = (f"{minutes[0] / n:.1f} to {minutes[1] / n:.1f}" for n in (1, 8))
        yield f"| {row['adapter']} | {one} | {eight} |"


@click.command(help=__doc__)
@click.option("--gpu", type=click.Choice(list(GPUS)), default="h100", show_default=True)
def main(gpu: str) -> None:
    """Print the rows of the table; see the top of this file."""
    for line in lines(json.loads(_COUNTS.read_text(encoding="utf-8")), GPUS[gpu]):
        click.echo(line)


if __name__ == "__main__":
    main()
