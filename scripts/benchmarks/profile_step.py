"""Where the time of tuned episodes goes, and how far the plain loop could be beaten.

    python scripts/benchmarks/profile_step.py --json results.json
    python scripts/benchmarks/profile_step.py --device cuda --json results.json

Whole episodes as in `bench_tuning.py`, profiled: each operation's own time, by kind. Beside it the
bound: the seconds of the plain loop in float32, over those that the matrix products of the toolkit
alone would take at the rate of the MLP's first product, measured in the same run. No way of
computing the same products beats it, however cheap all else is. On a CPU times are processor
seconds, so a shared core only makes them rougher. On a GPU they are those of the kernels, seconds
are by the clock, and `busy_share` is the time of all kernels in that of the profiled episodes: what
is missing is waiting for the host. Operations of products are counted in bf16, where attention is
made of products on a CPU, too; they include whatever is computed that nobody reads. The file is
written after each adapter.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import median
from time import perf_counter, process_time
from typing import Any

import click
import torch
from _about import about, synchronize, write_report
from _clips import cache_option, work_folder
from bench_tuning import ENCODERS, TYPES, Workload, plain_settings
from torch._C._autograd import DeviceType
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from fewshot_i2v.evaluation.row_runner import RowRunner

_FUSED = ("flash", "efficient", "cudnn")
KINDS = {
    "matrix products": ("mm", "addmm", "bmm", "baddbmm"),
    "fused attention": (
        "_scaled_dot_product_flash_attention_for_cpu",
        "_scaled_dot_product_flash_attention_for_cpu_backward",
        *(f"_{kind}_attention_{way}" for kind in _FUSED for way in ("forward", "backward")),
        *(f"_scaled_dot_product_{kind}_attention" for kind in _FUSED),
        *(f"_scaled_dot_product_{kind}_attention_backward" for kind in _FUSED),
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
KERNELS = 15
"""So many of the kernels that took longest are recorded, with their names."""


def kind_of(name: str) -> str:
    """Name the kind of an operation, such as `aten::mm`."""
    operation = name.removeprefix("aten::")
    return next((kind for kind, names in KINDS.items() if operation in names), "all else")


def clock(device: torch.device) -> float:
    """Read processor seconds, or on a GPU the clock once it has done everything."""
    if device.type == "cpu":
        return process_time()
    synchronize(device)
    return perf_counter()


def shares_by_kind(runner: RowRunner, device: torch.device) -> dict[str, Any]:
    """Profile the episodes of a runner: share of each kind in the time of all operations.

    On a GPU also the share of time in which it was busy, and its longest kernels with their shares.
    """
    cuda = device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if cuda else [])]
    start = clock(device)
    with profile(activities=activities) as profiled:
        runner.run_group(runner.episodes)
        seconds = clock(device) - start
    events = profiled.key_averages()
    if not cuda:
        return {"shares": by_kind((event.key, event.self_cpu_time_total) for event in events)}
    return device_shares(events, seconds)


def by_kind(times: Iterable[tuple[str, float]]) -> dict[str, float]:
    """Add up times of operations by kind; return the share of each."""
    sums: Counter[str] = Counter()
    for name, time in times:
        sums[kind_of(name)] += time  # type: ignore[assignment]
    return {kind: round(time / sums.total(), 3) for kind, time in sums.most_common()}


def device_shares(events: Iterable[Any], seconds: float) -> dict[str, Any]:
    """Sum up profiled events of a GPU over so many seconds.

    A kernel is there twice: by its own name, and as time of the operation that started it.
    """
    events = list(events)
    operations = [event for event in events if event.device_type == DeviceType.CPU]
    kernels = Counter(
        {e.key: e.self_device_time_total for e in events if e.device_type == DeviceType.CUDA}
    )
    total = kernels.total()
    if not total:
        raise click.ClickException("the profiler saw no kernels; expected CUPTI to be installed")
    return {
        "shares": by_kind((event.key, event.self_device_time_total) for event in operations),
        "busy_share": round(total / 1e6 / seconds, 3),
        "kernels": {name: round(time / total, 3) for name, time in kernels.most_common(KERNELS)},
    }


def product_rate(workload: Workload, dtype: torch.dtype, repeats: int = 9) -> float:
    """Measure TFLOP per second of the MLP's first product over the support clips."""
    rows, device = workload.tokens(), workload.device
    width = int(ENCODERS[workload.encoder]["width"])
    x = torch.randn(rows, width, device=device).to(dtype)
    weight = torch.randn(width, 4 * width, device=device).to(dtype)
    seconds = []
    for _ in range(repeats):
        start = clock(device)
        for _ in range(5):
            x @ weight
        seconds.append((clock(device) - start) / 5)
    return 8 * rows * width * width / 1e12 / median(seconds)


def measure(
    workload: Workload, adapter: str, at_once: int, precisions: Sequence[str]
) -> list[dict[str, Any]]:
    """Measure an adapter in some precisions, against the plain loop in turn."""
    plain = plain_settings(workload, adapter, bf16=False)[0]
    runners = {name: workload.runner(adapter, name, at_once) for name in precisions}
    calls = {"plain": plain.run} | {
        name: lambda runner=runner: runner.run_group(runner.episodes)
        for name, runner in runners.items()
    }
    for call in calls.values():
        call()
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(ROUNDS):
        for name, call in calls.items():
            start = clock(workload.device)
            call()
            count = 1 if name == "plain" else at_once
            seconds[name].append((clock(workload.device) - start) / count)
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
                **shares_by_kind(runner, workload.device),
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
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda or cuda:N.")
@click.option(
    "--encoder",
    multiple=True,
    type=click.Choice(list(ENCODERS)),
    help="By default ViT-B-16 on a GPU, else demo.",
)
@click.option("--size", type=int, help="Pixels on a side; by default those of the encoder.")
@click.option("--adapter", multiple=True, default=("st-adapter", "aim", "zeroi2v", "adaptformer"))
@click.option("--at-once", multiple=True, type=int, default=(1, 4), show_default=True)
@click.option("--query", default=5, show_default=True, help="Query clips of a class.")
@click.option("--steps", default=5, show_default=True, help="Steps of an episode.")
@click.option("--bf16-only", is_flag=True, help="Without the toolkit in float32.")
@click.option("--quick", is_flag=True, help="ST-Adapter alone, one episode of 2 steps, in bf16.")
@cache_option
@click.option("--json", "file", type=click.Path(path_type=Path), help="Write the figures.")
def main(
    device: str,
    encoder: tuple[str, ...],
    size: int | None,
    adapter: tuple[str, ...],
    at_once: tuple[int, ...],
    query: int,
    steps: int,
    bf16_only: bool,
    quick: bool,
    cache: Path | None,
    file: Path | None,
) -> None:
    """Run the benchmark; the module's docstring is its help."""
    target, rows = torch.device(device), list[dict[str, Any]]()
    if quick:
        adapter, at_once, query, steps, bf16_only = ("st-adapter",), (1,), 1, 2, True
    precisions = ("bf16",) if bf16_only else tuple(TYPES)
    facts = about(target) | {"query": query, "steps": steps}
    with work_folder(quick=quick, cache=cache) as work:
        for name in encoder or (("ViT-B-16",) if target.type == "cuda" else ("demo",)):
            pixels = size or ENCODERS[name]["image_size"]
            workload = Workload(name, pixels, target, work, 1, query, steps)
            for method in adapter:
                for count in at_once:
                    rows += measure(workload, method, count, precisions)
                write_report(file, {"about": facts, "rows": rows})
    click.echo(table(rows))


if __name__ == "__main__":
    main()
