"""Where the processor time of tuned episodes goes, and how far the plain loop could be beaten.

    python scripts/benchmarks/profile_step.py --json results.json

Whole episodes as in `bench_tuning.py`, profiled: each operation's own time, by kind. Beside it the
bound: the seconds of the plain loop in float32, over those that the matrix products of the toolkit
alone would take at the rate of the MLP's first product, measured in the same run. No way of
computing the same products beats it, however cheap all else is. Times are processor seconds, so a
shared core only makes them rougher. Operations of products are counted in bf16, where attention is
made of products, too; they include whatever is computed that nobody reads.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from statistics import median
from time import process_time
from typing import Any

import click
import torch
from _about import about, write_report
from _clips import cache_option, work_folder
from bench_tuning import ENCODERS, TYPES, Workload, plain_settings
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from fewshot_i2v.evaluation.row_runner import RowRunner

KINDS = {
    "matrix products": ("mm", "addmm", "bmm", "baddbmm"),
    "fused attention": (
        "_scaled_dot_product_flash_attention_for_cpu",
        "_scaled_dot_product_flash_attention_for_cpu_backward",
    ),
    "softmax": ("_softmax", "softmax", "_softmax_backward_data", "_log_softmax"),
    "activation": ("gelu", "gelu_backward", "silu", "silu_backward", "threshold_backward", "relu"),
    "layer norm": ("native_layer_norm", "native_layer_norm_backward"),
    "copies and casts": ("copy_", "_to_copy", "cat", "clone", "fill_", "contiguous", "stack"),
    "element-wise": ("add", "add_", "mul", "mul_", "sub", "addcmul", "addcmul_", "div", "sum"),
    "optimiser": ("_fused_adamw_", "Optimizer.step#AdamW.step"),
}
"""Operations of PyTorch by kind; what is in none is views, autograd, and Python between them."""
ROUNDS = 3


def kind_of(name: str) -> str:
    """Name the kind of an operation, such as `aten::mm`."""
    operation = name.removeprefix("aten::")
    return next((kind for kind, names in KINDS.items() if operation in names), "all else")


def shares_by_kind(runner: RowRunner) -> dict[str, float]:
    """Profile the episodes of a runner: share of each kind in the time of all operations."""
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        runner.run_group(runner.episodes)
    times: Counter[str] = Counter()
    for event in profiled.key_averages():
        times[kind_of(event.key)] += event.self_cpu_time_total
    return {kind: round(time / times.total(), 3) for kind, time in times.most_common()}


def product_rate(workload: Workload, dtype: torch.dtype, repeats: int = 9) -> float:
    """Measure TFLOP per processor second of the MLP's first product over the support clips."""
    rows, width = workload.tokens(), int(ENCODERS[workload.encoder]["width"])
    x, weight = torch.randn(rows, width).to(dtype), torch.randn(width, 4 * width).to(dtype)
    seconds = []
    for _ in range(repeats):
        start = process_time()
        for _ in range(5):
            x @ weight
        seconds.append((process_time() - start) / 5)
    return 8 * rows * width * width / 1e12 / median(seconds)


def measure(workload: Workload, adapter: str, at_once: int) -> list[dict[str, Any]]:
    """Measure an adapter in both precisions, against the plain loop in turn."""
    plain = plain_settings(workload, adapter, bf16=False)[0]
    runners = {name: workload.runner(adapter, name, at_once) for name in TYPES}
    calls = {"plain": plain.run} | {
        name: lambda runner=runner: runner.run_group(runner.episodes)
        for name, runner in runners.items()
    }
    for call in calls.values():
        call()
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(ROUNDS):
        for name, call in calls.items():
            start = process_time()
            call()
            count = 1 if name == "plain" else at_once
            seconds[name].append((process_time() - start) / count)
    flop = {}
    for name in ("plain", "bf16"):
        with FlopCounterMode(display=False) as counter:
            calls[name]()
        flop[name] = counter.get_total_flops() / 1e12 / (1 if name == "plain" else at_once)
    rows = []
    for name, runner in runners.items():
        rate = product_rate(workload, TYPES[name])
        pairs = zip(seconds["plain"], seconds[name], strict=True)
        rows.append(
            {
                "adapter": adapter,
                "encoder": workload.encoder,
                "precision": name,
                "at_once": at_once,
                "plain_seconds": median(seconds["plain"]),
                "plain_tflop": flop["plain"],
                "seconds": median(seconds[name]),
                "tflop": flop["bf16"],
                "product_tflop_per_second": rate,
                "ratio_to_plain_loop": median(a / b for a, b in pairs),
                "bound": median(seconds["plain"]) * rate / flop["bf16"],
                "shares": shares_by_kind(runner),
            }
        )
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """Write the rows as text."""
    lines = [f"{'encoder':<11}{'adapter':<13}{'precision':<10}{'E':>3}{'x plain':>9}{'bound':>7}"]
    for row in rows:
        shares = ", ".join(f"{kind} {share:.0%}" for kind, share in row["shares"].items())
        lines.append(
            f"{row['encoder']:<11}{row['adapter']:<13}{row['precision']:<10}{row['at_once']:>3}"
            f"{row['ratio_to_plain_loop']:>9.2f}{row['bound']:>7.2f}  {shares}"
        )
    return "\n".join(lines)


@click.command(help=__doc__)
@click.option("--encoder", multiple=True, type=click.Choice(list(ENCODERS)), default=("demo",))
@click.option("--size", type=int, help="Pixels on a side; by default those of the encoder.")
@click.option("--adapter", multiple=True, default=("st-adapter", "aim", "zeroi2v", "adaptformer"))
@click.option("--at-once", multiple=True, type=int, default=(1, 4), show_default=True)
@click.option("--query", default=5, show_default=True, help="Query clips of a class.")
@click.option("--steps", default=5, show_default=True, help="Steps of an episode.")
@cache_option
@click.option("--json", "file", type=click.Path(path_type=Path), help="Write the figures.")
def main(
    encoder: tuple[str, ...],
    size: int | None,
    adapter: tuple[str, ...],
    at_once: tuple[int, ...],
    query: int,
    steps: int,
    cache: Path | None,
    file: Path | None,
) -> None:
    """Run the benchmark; the module's docstring is its help."""
    rows: list[dict[str, Any]] = []
    with work_folder(quick=False, cache=cache) as work:
        for name in encoder:
            pixels = size or ENCODERS[name]["image_size"]
            workload = Workload(name, pixels, torch.device("cpu"), work, 1, query, steps)
            for method in adapter:
                for count in at_once:
                    rows += measure(workload, method, count)
    click.echo(table(rows))
    write_report(file, {"about": about() | {"query": query, "steps": steps}, "rows": rows})


if __name__ == "__main__":
    main()
