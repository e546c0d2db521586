"""Time of per-episode fine-tuning: every adapter, 1 to 8 episodes side by side, against a loop.

Random weights and generated clips; nothing is downloaded. Each figure is a median over the timed
steps after a warm-up. The matrix product rate is measured in the same run, so the share of it can
be compared between machines; on a shared machine compare ratios, not seconds.

    python scripts/benchmarks/bench_tuning.py --out results.json
"""

from __future__ import annotations

import json
import multiprocessing
import os
import platform
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import click
import numpy as np
import torch
from open_clip.transformer import VisionTransformer
from torch.utils.flop_counter import FlopCounterMode

from fewshot_i2v import registry
from fewshot_i2v.config.base import FinetuneConfig
from fewshot_i2v.data.synthetic import generate
from fewshot_i2v.models.adapters.base.adapted_encoder import AdaptedEncoder
from fewshot_i2v.models.encoders.open_clip_conversion import tower_from_open_clip
from fewshot_i2v.models.encoders.tower import Tower
from fewshot_i2v.models.heads.base.head import Head
from fewshot_i2v.tuning.finetune import EpisodeInputs, encode_in_chunks, finetune
from fewshot_i2v.utils.environment import git_commit, peak_memory_mb

SHAPES = {"ViT-B-16": (768, 12, 12), "ViT-Ti-16": (192, 12, 3)}
TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
FRAMES = 8


@dataclass(frozen=True)
class Setting:
    """One cell of the benchmark."""

    adapter: str
    episodes: int
    precision: str
    way: int
    shot: int
    query: int


def build_tower(name: str, size: int) -> Tower:
    """A tower of a published shape with random weights."""
    width, layers, heads = SHAPES[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        visual = VisionTransformer(size, 16, width, layers, heads, 4.0, output_dim=width)
    half = torch.full((3,), 0.5)
    return tower_from_open_clip(visual, mean=half, std=half)


def clips(count: int, size: int) -> torch.Tensor:
    """Generated clips, enlarged to the tower's input, (count, T, size, size, 3) uint8."""
    names = generate.class_names("motions")
    small = np.stack(
        [
            generate.render_clip("motions", names[i % len(names)], i, frames=FRAMES)
            for i in range(count)
        ]
    )
    factor = -(-size // small.shape[2])
    large = small.repeat(factor, axis=2).repeat(factor, axis=3)
    return torch.from_numpy(large[:, :, :size, :size].copy())


def synchronize(device: torch.device) -> None:
    """Waits for the device, where it runs behind the program."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def matmul_rate(device: torch.device, dtype: torch.dtype, seconds: float = 3.0) -> float:
    """TFLOP/s of square matrix products, warm, median."""
    n = 8192 if device.type == "cuda" else 2048
    a = torch.randn(n, n, device=device).to(dtype)
    times: list[float] = []
    end = perf_counter() + seconds
    while perf_counter() < end or len(times) < 5:
        synchronize(device)
        start = perf_counter()
        a @ a
        synchronize(device)
        times.append(perf_counter() - start)
    return 2 * n**3 / median(times) / 1e12


def prepare(
    tower: Tower, pool: torch.Tensor, setting: Setting
) -> tuple[AdaptedEncoder, Head, EpisodeInputs, torch.Tensor]:
    """A fresh adapter and head, their episodes and query clips, prefixes computed."""
    seeds = list(range(setting.episodes))
    cls = registry.load_method("adapters", setting.adapter)
    adapter = cls(tower, cls.Options(), frames=FRAMES, seeds=seeds).to(tower.device)
    encoder = AdaptedEncoder(tower, adapter)
    linear = registry.load_method("heads", "linear")
    head: Head = linear(
        linear.Options(), width=tower.width, way=setting.way, frames=FRAMES, seeds=seeds
    ).to(tower.device)
    with torch.no_grad():
        parts = torch.split(pool, 5)
        prefix = torch.cat([encoder.compute_prefix(tower.normalize(part)) for part in parts])
    total = setting.way * (setting.shot + setting.query)
    picked = torch.arange(setting.episodes * total) % len(prefix)
    tokens = prefix[picked.view(setting.episodes, total).to(prefix.device)]
    sizes = [setting.way * setting.shot, setting.way * setting.query]
    support, query = torch.split(tokens, sizes, dim=1)
    support = support.contiguous()
    labels = torch.arange(setting.way).repeat_interleave(setting.shot)
    labels = labels.expand(setting.episodes, -1).contiguous().to(tower.device)
    query = query.contiguous()
    return encoder, head, EpisodeInputs(lambda _step: support, labels, query), query


def measure(tower: Tower, pool: torch.Tensor, setting: Setting, repeats: int) -> dict[str, Any]:
    """Step and query time of one cell."""
    device = tower.device
    encoder, head, episodes, query = prepare(tower, pool, setting)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    one = FinetuneConfig(steps=1, warmup=0.0)
    with FlopCounterMode(display=False) as counter:  # the warm-up step, counted
        finetune(encoder, head, episodes, one)
    steps = timed(lambda: finetune(encoder, head, episodes, one), device, repeats)
    asked = timed(lambda: encode_in_chunks(encoder, query), device, 1)
    return {
        **vars(setting),
        "step_s": steps,
        "query_s": asked,
        "tflop_step": counter.get_total_flops() / 1e12,
        "peak_mb": round(peak_memory_mb(device, 1), 1),
    }


def timed(work: Callable[[], object], device: torch.device, repeats: int) -> float:
    """Median seconds of a call."""
    times = []
    for _ in range(repeats):
        synchronize(device)
        start = perf_counter()
        work()
        synchronize(device)
        times.append(perf_counter() - start)
    return median(times)


def finish(row: dict[str, Any], steps: int, rates: dict[str, float]) -> dict[str, Any]:
    """Adds what follows from the times: episodes/s and the share of the matrix product rate."""
    seconds = row["step_s"] * steps + row["query_s"]
    return row | {
        "episodes_per_s": row["episodes"] / seconds,
        "matmul_share": row["tflop_step"] / row["step_s"] / rates[row["precision"]],
    }


def render(rows: Sequence[dict[str, Any]]) -> str:
    """The rows as text, each against the loop of its adapter."""
    loops = {row["adapter"]: row["episodes_per_s"] for row in rows if row["loop"]}
    lines = [
        f"{'adapter':<14}{'precision':<11}{'episodes':>8}{'step s':>10}{'ep/s':>10}"
        f"{'x loop':>8}{'matmul':>8}{'peak MB':>9}"
    ]
    for row in rows:
        gain = row["episodes_per_s"] / loops[row["adapter"]]
        name = row["precision"] + (" loop" if row["loop"] else "")
        lines.append(
            f"{row['adapter']:<14}{name:<11}{row['episodes']:>8}{row['step_s']:>10.4f}"
            f"{row['episodes_per_s']:>10.3f}{gain:>8.2f}{row['matmul_share']:>8.0%}"
            f"{row['peak_mb']:>9.0f}"
        )
    return "\n".join(lines)


def about(device: torch.device) -> dict[str, Any]:
    """Where and with what the figures were taken."""
    cuda = device.type == "cuda"
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": " ".join(["python", sys.argv[0], *(Path(a).name for a in sys.argv[1:])]),
        "commit": git_commit(),
        "device": torch.cuda.get_device_name(device) if cuda else platform.machine(),
        "threads": torch.get_num_threads(),
        "torch": str(torch.__version__),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "tf32": torch.backends.cuda.matmul.allow_tf32,
    }


def cell(device: str, encoder: str, size: int, setting: Setting, repeats: int) -> dict[str, Any]:
    """One cell, from nothing: weights, clips, prefixes, steps."""
    tower = _tower(encoder, size, setting.precision, device)
    return measure(tower, _pool(5 * (setting.shot + setting.query), size), setting, repeats)


@cache
def _tower(encoder: str, size: int, precision: str, device: str) -> Tower:
    return build_tower(encoder, size).to(device, TYPES[precision])


_pool = cache(clips)


def run_cell(device: torch.device, work: tuple[str, int, Setting, int]) -> dict[str, Any]:
    """A cell, on the CPU in a process of its own so that its peak memory is its own."""
    if device.type == "cuda":
        return cell(str(device), *work)
    # as the command line does: threads that wait sleep soon
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    os.environ["PYTHONSAFEPATH"] = "1"  # the process never imports from the current folder
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(cell, str(device), *work).result()


@click.command(help=__doc__)
@click.option(
    "--encoder", type=click.Choice(list(SHAPES)), help="ViT-B-16 on a GPU, else ViT-Ti-16."
)
@click.option("--device", default="auto", show_default=True)
@click.option("--size", default=224, show_default=True, help="Pixels on a side.")
@click.option("--episodes", multiple=True, type=int, default=(1, 2, 4, 8), show_default=True)
@click.option("--adapter", multiple=True, help="Default: all that exist.")
@click.option("--shot", default=1, show_default=True)
@click.option("--query", default=5, show_default=True)
@click.option("--steps", default=30, show_default=True, help="Steps of an episode.")
@click.option("--repeats", default=3, show_default=True, help="Timed steps of a cell.")
@click.option("--out", type=click.Path(path_type=Path), help="Write the figures as JSON.")
def main(
    encoder: str | None,
    device: str,
    size: int,
    episodes: tuple[int, ...],
    adapter: tuple[str, ...],
    shot: int,
    query: int,
    steps: int,
    repeats: int,
    out: Path | None,
) -> None:
    """Runs the benchmark; the module's docstring is its help."""
    place = torch.device(
        ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    )
    encoder = encoder or ("ViT-B-16" if place.type == "cuda" else "ViT-Ti-16")
    rates = {name: matmul_rate(place, dtype) for name, dtype in TYPES.items()}
    names = adapter or tuple(f.name for f in registry.list_methods("adapters"))
    rows: list[dict[str, Any]] = []
    for name in names:
        for count, precision, loop in [(1, "fp32", True), *((e, "bf16", False) for e in episodes)]:
            setting = Setting(name, count, precision, 5, shot, query)
            row = run_cell(place, (encoder, size, setting, repeats)) | {"loop": loop}
            rows.append(finish(row, steps, rates))
            click.echo(f"{name} {precision} x {count}: {row['step_s']:.3f} s a step", err=True)
    report = {
        "about": about(place) | {"encoder": encoder, "size": size, "steps": steps},
        "matmul_tflops": rates,
        "rows": rows,
    }
    click.echo(render(rows))
    if out is not None:
        out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
