r"""Predictions in several precisions: for how many queries are they those of float32?

    python scripts/benchmarks/compare_precisions.py --root CLIPS --starts FOLDER \
        --encoder NAME --architecture FILE --pretrained FILE --json results.json

Untuned rows are the frozen encoder, and AIM and ST-Adapter from their starting points; tuned rows
are the last two by their recipes. Each row runs on the same episodes in fp32 and in each of
--against. `mixed` is the default of devices with products in bf16. `noise floor` is fp32 with the
hidden channels of every MLP in another order: the same function, whose sums are rounded in another
order. Two fp32 computations agree no better than this.

`same` counts queries with the same prediction. `largest_probability_change` is of any query and
class. `margin_of_changed` is the largest difference of the two highest probabilities, in fp32, of a
query whose prediction changed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from time import process_time
from typing import Any

import click
import numpy as np
import torch
from _about import about, write_report
from _clips import cache_option, work_folder
from numpy.typing import NDArray

from fewshot_i2v.evaluation.context import EvaluationContext
from fewshot_i2v.evaluation.evaluate import build_row_runners
from fewshot_i2v.evaluation.row_expansion import load_config
from fewshot_i2v.models.encoders.tower import Tower
from fewshot_i2v.runs.episode_record import EpisodeRecord

ORDERED = "prototype:center=true,pooling=ordered"
HEADS = (ORDERED, f"{ORDERED},tokens=grid4+motion")
ADAPTERS = ("st-adapter", "aim")
COMPARED = {"mixed": "mixed", "bf16": "bf16", "noise floor": "fp32"}
"""What is compared with fp32, and its precision."""


def reordered(tower: Tower) -> Tower:
    """Return the same function with the hidden channels of every MLP in another order."""
    generator = torch.Generator().manual_seed(0)
    blocks = []
    for block in tower.blocks:
        order = torch.randperm(len(block.fc_bias), generator=generator).to(tower.device)
        blocks.append(
            replace(
                block,
                fc_weight=block.fc_weight[order],
                fc_bias=block.fc_bias[order],
                proj_weight=block.proj_weight[:, order],
            )
        )
    return tower.with_blocks(blocks)


def run_rows(
    settings: dict[str, Any], precision: str, *, reorder: bool
) -> dict[str, tuple[list[EpisodeRecord], float]]:
    """Run the rows of an evaluation; records and processor seconds by row."""
    # features on disk would be those of the encoder in its own order
    keys = {**settings, "precision": precision, "feature_cache": False}
    context = EvaluationContext.of(load_config(keys, {}))
    if reorder:
        context.encoder = replace(context.encoder, tower=reordered(context.encoder.tower))
    rows = {}
    for runner in build_row_runners(context):
        context.decode_episodes(runner.episodes, runner.row.tuning, progress=False)
        start, records = process_time(), []
        for at in range(0, len(runner.episodes), runner.parallel_episodes):
            records += runner.run(runner.episodes[at : at + runner.parallel_episodes])
        rows[f"{runner.row.adapter.name} {runner.row.head.label}"] = (
            records,
            process_time() - start,
        )
    return rows


def probabilities(records: Sequence[EpisodeRecord]) -> NDArray[np.float64]:
    """Stack the probabilities of all queries, (queries, way).

    Raises:
        click.ClickException: when an episode failed.
    """
    failed = [record.index for record in records if record.status != "ok"]
    if failed:
        raise click.ClickException(f"episodes {failed} failed; give clips that can be read")
    return np.concatenate([np.asarray(record.probabilities) for record in records])


def agreement(first: NDArray[np.float64], second: NDArray[np.float64]) -> dict[str, Any]:
    """Compare the probabilities of the same queries, (queries, way), with those of fp32."""
    is_same = first.argmax(-1) == second.argmax(-1)
    top = np.sort(first, -1)
    margins = (top[:, -1] - top[:, -2])[~is_same]
    return {
        "queries": len(first),
        "same": int(is_same.sum()),
        "share": float(is_same.mean()),
        "largest_probability_change": float(np.abs(first - second).max()),
        "margin_of_changed": float(margins.max(initial=0.0)),
    }


def compare(settings: dict[str, Any], kind: str, against: Sequence[str]) -> list[dict[str, Any]]:
    """Run the rows of an evaluation in fp32 and in each of `against`, and compare them."""
    exact = run_rows(settings, "fp32", reorder=False)
    rows = []
    for name in against:
        precision = COMPARED[name]
        other = run_rows(settings, precision, reorder=precision == "fp32")
        for label, (records, seconds) in exact.items():
            other_records, other_seconds = other[label]
            accuracies = (
                float(np.mean([record.accuracy for record in run]))
                for run in (records, other_records)
            )
            rows.append(
                {"row": label, "kind": kind, "against": name, "episodes": len(records)}
                | agreement(probabilities(records), probabilities(other_records))
                | dict(zip(("accuracy_fp32", "accuracy"), accuracies, strict=True))
                | {"cpu_seconds_fp32": round(seconds, 1), "cpu_seconds": round(other_seconds, 1)}
            )
    return rows


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Write the rows as text."""
    lines = [f"{'row':<62}{'kind':<9}{'against':<13}{'same':>11}{'share':>8}"]
    lines += [
        f"{row['row']:<62}{row['kind']:<9}{row['against']:<13}"
        f"{row['same']:>6}/{row['queries']}{row['share']:>8.2%}"
        for row in rows
    ]
    return "\n".join(lines)


@click.command(help=__doc__)
@click.option("--root", type=click.Path(exists=True, path_type=Path), help="Folder of the clips.")
@click.option("--split", default="egogestar", show_default=True)
@click.option("--encoder", required=True, help="Name of the encoder.")
@click.option("--architecture", help="File of its configuration.")
@click.option("--pretrained", help="File or tag of its weights.")
@click.option("--mean", type=float, help="Of pixels, every channel.")
@click.option("--std", type=float, help="Of pixels, every channel.")
@click.option("--image-size", type=int, help="Pixels on a side.")
@click.option("--starts", required=True, help="Set of starting points, by name or folder.")
@click.option("--episodes", default=200, show_default=True, help="Of untuned rows; 0: none.")
@click.option("--tuned-episodes", default=24, show_default=True, help="0: no tuned row.")
@click.option("--tuned", multiple=True, type=click.Choice(ADAPTERS), default=ADAPTERS)
@click.option(
    "--against", multiple=True, type=click.Choice(list(COMPARED)), default=tuple(COMPARED)
)
@click.option("--steps", type=int, help="Of a tuned row; by default those of its recipe.")
@cache_option
@click.option("--json", "file", type=click.Path(path_type=Path), help="Write the figures.")
def main(
    root: Path | None,
    split: str,
    encoder: str,
    architecture: str | None,
    pretrained: str | None,
    mean: float | None,
    std: float | None,
    image_size: int | None,
    starts: str,
    episodes: int,
    tuned_episodes: int,
    tuned: tuple[str, ...],
    against: tuple[str, ...],
    steps: int | None,
    cache: Path | None,
    file: Path | None,
) -> None:
    """Run the comparison; the module's docstring is its help."""
    weights = {"architecture": architecture, "pretrained": pretrained, "image_size": image_size}
    constants = {"mean": mean, "std": std}
    named = {key: value for key, value in (weights | constants).items() if value is not None}
    with work_folder(quick=False, cache=cache) as work:
        shared: dict[str, Any] = {
            "split": split,
            "subset": "novel",
            **({} if root is None else {"root": str(root)}),
            "encoder": {"name": encoder, **named},
            "video": {"frames": 8, "policy": "segment-center"},
            "way": 5,
            "shot": [1],
            "query": 5,
            "cache": str(work / "cache"),
            "output": str(work / "run"),
        }
        untuned = shared | {"head": list(HEADS), "episodes": episodes, "tuning": {"steps": 0}}
        rows = []
        if episodes:
            adapted = {"adapter": list(ADAPTERS), "start": [starts]}
            rows += compare(untuned | {"adapter": ["frozen"]}, "untuned", against)
            rows += compare(untuned | adapted, "untuned", against)
        if tuned_episodes:
            adapted = {"adapter": list(tuned), "start": [starts]}
            recipe = {} if steps is None else {"steps": steps}
            more = {"head": [ORDERED], "episodes": tuned_episodes, "tuning": recipe}
            rows += compare(shared | adapted | more, "tuned", against)
    click.echo(table(rows))
    setting = {"split": split, "encoder": encoder, "image_size": image_size}
    write_report(file, {"about": about(), "setting": setting, "rows": rows})


if __name__ == "__main__":
    main()
