"""Clips a second of base training, against the plain loop that one would write oneself.

    python scripts/benchmarks/bench_train.py --json results.json
    python scripts/benchmarks/bench_train.py --quick

The toolkit trains with the objective `classify` on the base classes of `motions`: decoded clips are
read, augmented, and go through the adapter, and the time of the steps counts. The plain loop
(`_plain_loop.py`) trains the same adapter on open_clip's tower, in float32, with clips in memory
and without augmentation. Both take turns; a ratio is the median of its ratios within a round.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import click
import torch
from _about import about, default_device, synchronize, write_report
from _clips import cache_option, split_of, work_folder
from _plain_loop import BLOCKS, PlainVideoEncoder
from bench_tuning import ENCODERS, FRAMES, TYPES, Workload
from torch import nn
from torch.nn import functional

from fewshot_i2v import train

CLASSES = 26


def toolkit_speed(
    workload: Workload, adapter: str, clips: int, precision: str, number: int
) -> float:
    """Measure clips a second of a training of the toolkit."""
    result = train(
        {
            "split": split_of(workload.work),
            "encoder": workload.encoder_keys(),
            "precision": precision,
            "video": {"frames": FRAMES},
            "adapter": adapter,
            "objective": "classify",
            "clips": clips,
            "steps": workload.steps,
            "validation": {"subset": "off"},
            "device": str(workload.device),
            "cache": str(workload.work / "cache"),
            "output": str(workload.work / f"{adapter}-{precision}-{number}"),
        }
    )
    return result.clips_per_second or 0.0


def plain_speed(workload: Workload, adapter: str, clips: int) -> float:
    """Measure clips a second of the plain loop, after one untimed step."""
    device, size = workload.device, workload.image_size
    half = torch.full((3,), 0.5, device=device)
    encoder = PlainVideoEncoder(workload.plain_tower(), adapter, FRAMES, half, half).to(device)
    head = nn.Linear(ENCODERS[workload.encoder]["width"], CLASSES).to(device)
    optimizer = torch.optim.AdamW([*encoder.parameters(), *head.parameters()], lr=0.001)
    batch = torch.randint(0, 256, (clips, FRAMES, size, size, 3), dtype=torch.uint8).to(device)
    labels = torch.arange(clips, device=device) % CLASSES

    def _step() -> None:
        loss = functional.cross_entropy(head(encoder(batch)), labels)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()

    _step()
    synchronize(device)
    start = perf_counter()
    for _ in range(workload.steps):
        _step()
    synchronize(device)
    return clips * workload.steps / (perf_counter() - start)


def measure(
    workload: Workload, adapter: str, clips: int, precisions: Sequence[str], rounds: int
) -> list[dict[str, Any]]:
    """Measure an adapter: the plain loop and all precisions in turn, `rounds` times."""
    toolkit_speed(workload, adapter, clips, precisions[0], -1)  # decodes the clips
    settings: dict[str, Callable[[int], float]] = {
        "plain, fp32": lambda _number: plain_speed(workload, adapter, clips),
        **{name: partial(toolkit_speed, workload, adapter, clips, name) for name in precisions},
    }
    speeds = [{name: run(n) for name, run in settings.items()} for n in range(rounds)]
    return [
        {
            "adapter": adapter,
            "encoder": workload.encoder,
            "setting": name,
            "clips_per_second": round(median(turn[name] for turn in speeds), 2),
            "of_rounds": [round(turn[name], 2) for turn in speeds],
            "ratio_to_plain_loop": median(turn[name] / turn["plain, fp32"] for turn in speeds),
        }
        for name in settings
    ]


@click.command(help=__doc__)
@click.option("--encoder", type=click.Choice(list(ENCODERS)), help="ViT-B-16 on a GPU, else demo.")
@click.option("--device", help="cpu, cuda or cuda:N; the GPU where there is one.")
@click.option("--precision", multiple=True, type=click.Choice(list(TYPES)), default=tuple(TYPES))
@click.option(
    "--adapter",
    multiple=True,
    type=click.Choice([name for name in BLOCKS if name != "frozen"]),
    default=("st-adapter", "aim"),
    show_default=True,
)
@click.option("--clips", default=16, show_default=True, help="Clips of a step.")
@click.option("--steps", default=20, show_default=True)
@click.option("--rounds", default=5, show_default=True)
@click.option("--quick", is_flag=True, help="ST-Adapter alone in fp32, 3 steps, 2 rounds.")
@cache_option
@click.option("--json", "file", type=click.Path(path_type=Path), help="Write the figures.")
def main(
    encoder: str | None,
    device: str | None,
    precision: tuple[str, ...],
    adapter: tuple[str, ...],
    clips: int,
    steps: int,
    rounds: int,
    quick: bool,
    cache: Path | None,
    file: Path | None,
) -> None:
    """Run the benchmark; the module's docstring is its help."""
    target = torch.device(device) if device else default_device()
    encoder = encoder or ("ViT-B-16" if target.type == "cuda" else "demo")
    if quick:
        adapter, precision, steps, rounds = ("st-adapter",), ("fp32",), 3, 2
    rows: list[dict[str, Any]] = []
    with work_folder(quick=quick, cache=cache) as work:
        pixels = ENCODERS[encoder]["image_size"]
        workload = Workload(encoder, pixels, target, work, shot=1, query=1, steps=steps)
        for name in adapter:
            rows += measure(workload, name, clips, precision, rounds)
    for row in rows:
        click.echo(
            f"{row['adapter']:<13}{row['setting']:<14}{row['clips_per_second']:>9.2f} clips/s"
            f"{row['ratio_to_plain_loop']:>7.2f} x plain"
        )
    facts = about(target) | {"image_size": pixels, "clips_of_a_step": clips, "steps": steps}
    write_report(file, {"about": facts | {"rounds": rounds}, "rows": rows})


if __name__ == "__main__":
    main()
