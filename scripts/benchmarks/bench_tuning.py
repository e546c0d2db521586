"""Seconds of tuned episodes, whole, against the plain loop that one would write oneself.

    python scripts/benchmarks/bench_tuning.py --json results.json
    python scripts/benchmarks/bench_tuning.py --quick

An episode of the toolkit is everything from its numbers to its line on disk: adapter and head are
built, frames read from the cache of decoded clips, the adapter is tuned, the queries are
predicted, the record is written. An episode of the plain loop (`_plain_loop.py`) is built, tuned
and predicted in float32 without autocast from frames in memory; beside it the loop with autocast
to bfloat16, where bf16 or mixed precision is measured, and on CUDA with TF32. Both run 5-way
episodes with the head `linear`, AdamW and no augmentation, with random weights (but `demo`) on
generated clips. Before the first timed round each runs once; so clips are decoded and what no
training changes is cached, as in a run of many episodes.

All settings take turns within a round; a ratio is the median of its ratios within a round. On a
shared machine compare ratios, not seconds. `matmul_share` is the share of the matrix product rate
of that precision, measured in the same run at the shape of the MLP's first layer, with the FLOP of
the plain loop's episode, in which nothing is left out. The file is written after each adapter.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import click
import numpy as np
import torch
from _about import about, default_device, synchronize, write_report
from _clips import cache_option, split_of, work_folder
from _plain_loop import BLOCKS, PlainVideoEncoder, tune_and_predict
from open_clip.transformer import VisionTransformer
from torch.utils.flop_counter import FlopCounterMode

from fewshot_i2v.evaluation.context import EvaluationContext
from fewshot_i2v.evaluation.evaluate import build_row_runners
from fewshot_i2v.evaluation.row_expansion import load_config
from fewshot_i2v.evaluation.row_runner import RowRunner
from fewshot_i2v.models.encoders.catalog import DEMO_CONFIG
from fewshot_i2v.runs.episode_record import to_line
from fewshot_i2v.runs.journal import Journal

FRAMES, WAY = 8, 5
TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
PRODUCTS = {**TYPES, "mixed": torch.bfloat16}
"""Precisions of the toolkit, with the type of the products that fine-tuning repeats."""
ENCODERS: dict[str, dict[str, Any]] = {
    "demo": json.loads(DEMO_CONFIG.read_text(encoding="utf-8"))["model_cfg"]["vision_cfg"],
    **{
        name: {"image_size": 224, "patch_size": 16, "width": w, "layers": 12, "head_width": 64}
        for name, w in (("ViT-Ti-16", 192), ("ViT-B-16", 768))
    },
}
"""Image towers in the words of open_clip; `demo` has its weights, the others random ones."""


@dataclass(frozen=True)
class Workload:
    """What all settings run.

    Attributes:
        encoder: a name of `ENCODERS`.
        image_size: pixels on a side.
        device: where.
        work: folder for architecture, decoded clips and records.
        shot: support clips per class.
        query: query clips per class.
        steps: of an episode.
    """

    encoder: str
    image_size: int
    device: torch.device
    work: Path
    shot: int
    query: int
    steps: int

    def encoder_keys(self) -> dict[str, Any]:
        """Make the keys of the encoder in a configuration."""
        keys: dict[str, Any] = {"name": self.encoder, "image_size": self.image_size}
        if self.encoder == "demo":
            return keys
        vision = ENCODERS[self.encoder]
        file = self.work / f"{self.encoder}.json"
        content = {"embed_dim": vision["width"], "vision_cfg": vision}
        file.write_text(json.dumps(content), encoding="utf-8")
        random = {"pretrained": "random", "mean": 0.5, "std": 0.5}
        return keys | random | {"architecture": str(file)}

    def runner(
        self, adapter: str, precision: str, episodes: int, *, compiled: bool = False
    ) -> RowRunner:
        """Make the toolkit's runner of a row, its clips decoded."""
        settings: dict[str, Any] = {
            "split": split_of(self.work),
            "encoder": self.encoder_keys(),
            "precision": precision,
            "compile": compiled,
            "video": {"frames": FRAMES},
            "adapter": [adapter],
            "head": ["linear"],
            "way": WAY,
            "shot": [self.shot],
            "query": self.query,
            "episodes": episodes,
            "tuning": {"recipe": "none", "steps": self.steps},
            "device": str(self.device),
            "cache": str(self.work / "cache"),
            "output": str(self.work / "run"),
        }
        context = EvaluationContext.of(load_config(settings, {}))
        runner = build_row_runners(context)[0]
        context.decode_episodes(runner.episodes, runner.row.tuning, progress=False)
        return runner

    def plain_tower(self) -> VisionTransformer:
        """Make open_clip's own tower of the encoder's shape, with random weights."""
        vision = ENCODERS[self.encoder]
        torch.manual_seed(0)
        return VisionTransformer(
            self.image_size,
            vision["patch_size"],
            vision["width"],
            vision["layers"],
            vision["width"] // vision.get("head_width", 64),
            vision.get("mlp_ratio", 4.0),
            output_dim=vision["width"],
        ).to(self.device)

    def tokens(self) -> int:
        """Count the tokens of the support clips of an episode."""
        grid = self.image_size // int(ENCODERS[self.encoder]["patch_size"])
        return WAY * self.shot * FRAMES * (grid * grid + 1)


@dataclass(frozen=True)
class Setting:
    """What takes turns: the toolkit in a precision with E episodes side by side, or the loop.

    Attributes:
        name: of the precision.
        at_once: episodes side by side; 0: the plain loop.
        run: computes `episodes` episodes.
        compiled: whether the toolkit's blocks are compiled, in the untimed call.
    """

    name: str
    at_once: int
    run: Callable[[], object]
    compiled: bool = False

    @property
    def episodes(self) -> int:
        """Episodes of a call of `run`."""
        return max(1, self.at_once)


def toolkit_setting(
    workload: Workload, adapter: str, precision: str, at_once: int, compiled: bool
) -> Setting:
    """Make the toolkit's side: whole episodes, to their lines on disk."""
    runner = workload.runner(adapter, precision, at_once, compiled=compiled)
    journal = Journal(workload.work / f"{adapter}-{precision}-{at_once}-{compiled}.jsonl")

    def _run() -> None:
        records = runner.run_group(runner.episodes).records
        journal.append([to_line(record, 0) for record in records])

    return Setting(precision, at_once, _run, compiled)


def plain_settings(workload: Workload, adapter: str, *, bf16: bool) -> list[Setting]:
    """Make the loops: in float32, with autocast, and on CUDA with TF32."""
    device = workload.device
    context = workload.runner("frozen", "fp32", 1).context
    episode = context.episodes[workload.shot][0]
    support, query = (
        torch.from_numpy(np.stack([context.frames(clip) for clip in clips])).to(device)
        for clips in (episode.support_clips, episode.query_clips)
    )
    labels = torch.arange(WAY, device=device).repeat_interleave(workload.shot)
    visual, half = workload.plain_tower(), torch.full((3,), 0.5, device=device)

    def _run(autocast: bool, tf32: bool) -> None:
        before = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("high" if tf32 else "highest")
        torch.backends.cudnn.allow_tf32 = tf32
        encoder = PlainVideoEncoder(visual, adapter, FRAMES, half, half).to(device)
        tune_and_predict(
            encoder,
            support=support,
            labels=labels,
            query=query,
            steps=workload.steps,
            autocast=autocast,
        )
        torch.set_float32_matmul_precision(before)

    settings = [Setting("fp32", 0, lambda: _run(False, False))]
    if bf16:
        settings.append(Setting("bf16 autocast", 0, lambda: _run(True, False)))
    if device.type == "cuda":
        settings.append(Setting("tf32", 0, lambda: _run(False, True)))
    return settings


def seconds_of(setting: Setting, device: torch.device) -> float:
    """Measure seconds of an episode."""
    synchronize(device)
    start = perf_counter()
    setting.run()
    synchronize(device)
    return (perf_counter() - start) / setting.episodes


def matmul_rate(workload: Workload, dtype: torch.dtype, repeats: int = 7) -> float:
    """Measure TFLOP/s of the product of the MLP's first layer over an episode's support clips."""
    rows, width = workload.tokens(), int(ENCODERS[workload.encoder]["width"])
    x = torch.randn(rows, width, device=workload.device).to(dtype)
    weight = torch.randn(width, 4 * width, device=workload.device).to(dtype)
    # several between two waits on a GPU, where waiting takes as long as a product
    count = 20 if workload.device.type == "cuda" else 1
    times = []
    for _ in range(repeats):
        synchronize(workload.device)
        start = perf_counter()
        for _ in range(count):
            x @ weight
        synchronize(workload.device)
        times.append((perf_counter() - start) / count)
    return 2 * rows * width * 4 * width / 1e12 / median(times)


def measure(
    workload: Workload, adapter: str, sides: Sequence[tuple[str, int, bool]], rounds: int
) -> list[dict[str, Any]]:
    """Measure an adapter: all settings in turn, `rounds` times, after one untimed call of each."""
    plain = plain_settings(workload, adapter, bf16=any(name != "fp32" for name, _, _ in sides))
    settings = [*plain, *(toolkit_setting(workload, adapter, *side) for side in sides)]
    with FlopCounterMode(display=False) as counter:
        plain[0].run()
    untimed = [0.0, *(seconds_of(setting, workload.device) for setting in settings[1:])]
    times = [[seconds_of(setting, workload.device) for setting in settings] for _ in range(rounds)]
    by_type = {dtype: matmul_rate(workload, dtype) for dtype in TYPES.values()}
    rows = []
    for i, setting in enumerate(settings):
        seconds = median(turn[i] for turn in times)
        row: dict[str, Any] = {
            "adapter": adapter,
            "encoder": workload.encoder,
            "precision": setting.name,
            "at_once": setting.at_once,
            "seconds_per_episode": seconds,
            "seconds_of_rounds": [round(turn[i], 4) for turn in times],
            "ratio_to_plain_loop": median(turn[0] / turn[i] for turn in times),
        }
        if setting.at_once:
            share = counter.get_total_flops() / 1e12 / seconds / by_type[PRODUCTS[setting.name]]
            row |= {"compiled": setting.compiled}
            if setting.compiled:
                row["seconds_of_compiling"] = (untimed[i] - seconds) * setting.episodes
                # the same without it is the setting before
                row["ratio_to_uncompiled"] = median(turn[i - 1] / turn[i] for turn in times)
            row |= {"tflop_per_episode": counter.get_total_flops() / 1e12, "matmul_share": share}
            for j, other in enumerate(plain[1:], 1):
                row[f"ratio_to_{other.name}"] = median(turn[j] / turn[i] for turn in times)
        rows.append(row)
    return rows


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Write the rows as text."""
    lines = [f"{'adapter':<13}{'setting':<27}{'s/episode':>10}{'x plain':>9}{'matmul':>8}"]
    for row in rows:
        count = row["at_once"]
        setting = f"{row['precision']}, {count} at once" if count else f"plain, {row['precision']}"
        setting += ", compiled" if row.get("compiled") else ""
        share = f"{row['matmul_share']:.0%}" if count else ""
        lines.append(
            f"{row['adapter']:<13}{setting:<27}{row['seconds_per_episode']:>10.3f}"
            f"{row['ratio_to_plain_loop']:>9.2f}{share:>8}"
        )
    return "\n".join(lines)


@click.command(help=__doc__)
@click.option("--encoder", type=click.Choice(list(ENCODERS)), help="ViT-B-16 on a GPU, else demo.")
@click.option("--device", help="cpu, cuda or cuda:N; the GPU where there is one.")
@click.option("--size", type=int, help="Pixels on a side; by default those of the encoder.")
@click.option("--at-once", multiple=True, type=int, default=(1, 4, 16), show_default=True)
@click.option("--precision", multiple=True, type=click.Choice(list(PRODUCTS)), default=tuple(TYPES))
@click.option("--adapter", multiple=True, type=click.Choice(list(BLOCKS)), default=tuple(BLOCKS))
@click.option("--shot", default=1, show_default=True)
@click.option("--query", default=5, show_default=True)
@click.option("--steps", default=30, show_default=True, help="Steps of an episode.")
@click.option("--rounds", default=5, show_default=True)
@click.option("--compiled", is_flag=True, help="Each setting of the toolkit also compiled.")
@click.option("--quick", is_flag=True, help="ST-Adapter alone, 3 steps, 1 query, 1 and 4 at once.")
@cache_option
@click.option("--json", "file", type=click.Path(path_type=Path), help="Write the figures.")
def main(
    encoder: str | None,
    device: str | None,
    size: int | None,
    at_once: tuple[int, ...],
    precision: tuple[str, ...],
    adapter: tuple[str, ...],
    shot: int,
    query: int,
    steps: int,
    rounds: int,
    compiled: bool,
    quick: bool,
    cache: Path | None,
    file: Path | None,
) -> None:
    """Run the benchmark; the module's docstring is its help."""
    target = torch.device(device) if device else default_device()
    encoder = encoder or ("ViT-B-16" if target.type == "cuda" else "demo")
    if quick:
        adapter, at_once, steps, query, rounds = ("st-adapter",), (1, 4), 3, 1, 2
        precision = tuple(TYPES) if target.type == "cuda" else ("fp32",)
    ways = (False, True) if compiled else (False,)
    sides = [(name, count, way) for name in precision for count in at_once for way in ways]
    rows: list[dict[str, Any]] = []
    pixels = size or ENCODERS[encoder]["image_size"]
    facts = about(target) | {"image_size": pixels, "way": WAY, "shot": shot, "query": query}
    facts |= {"steps": steps, "rounds": rounds}
    with work_folder(quick=quick, cache=cache) as work:
        workload = Workload(encoder, pixels, target, work, shot, query, steps)
        for name in adapter:
            new_rows = measure(workload, name, sides, rounds)
            click.echo(table(new_rows), err=True)
            rows += new_rows
            write_report(file, {"about": facts, "rows": rows})
    click.echo(table(rows))


if __name__ == "__main__":
    main()
