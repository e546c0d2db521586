"""Searches recipes of per-episode fine-tuning on base or validation classes, see README.md here.

    python scripts/search_recipes.py CONFIG CANDIDATES --out FILE [KEY=VALUE ...]

CONFIG is an evaluation (a name, or a YAML file); its adapters, starts and shots are searched, on
the same episodes for all candidates. Novel classes are refused. Its heads are how the tuned model
is read: every candidate is tuned once and read by all of them, and so is the untuned model.
CANDIDATES is a YAML file: by name the keys of `tuning`, and `head`, the head whose loss is
minimised (the configuration's first head where it is left out). FILE gets one JSON line for each
adapter, start, shot and candidate, as soon as it is finished; what is in it is not done again.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import mean
from time import perf_counter
from typing import Any

import click
import torch
from torch import Tensor

from fewshot_i2v.config.evaluation import EvaluationConfig
from fewshot_i2v.config.method import MethodSpec, parse_value
from fewshot_i2v.data.episodes.episode import Episode
from fewshot_i2v.errors import FewshotError, UsageError
from fewshot_i2v.evaluation.context import EvaluationContext
from fewshot_i2v.evaluation.evaluate import build_row_runners
from fewshot_i2v.evaluation.inputs import support_labels
from fewshot_i2v.evaluation.row_expansion import load_config
from fewshot_i2v.evaluation.row_runner import RowRunner
from fewshot_i2v.models.adapters.base.adapted_encoder import AdaptedEncoder
from fewshot_i2v.statistics import mean_interval
from fewshot_i2v.tuning.finetune import encode_in_chunks
from fewshot_i2v.utils.environment import device_name, git_commit
from fewshot_i2v.utils.yaml import load_yaml

UNTUNED = "untuned"
MIXED = " + untuned logits"
Accuracies = dict[str, list[float]]
"""By head, the accuracy of each episode, in percent."""


def reading_runners(tuned: RowRunner, heads: Sequence[MethodSpec]) -> list[RowRunner]:
    """Makes a row for each head that reads what one row tuned; all without fine-tuning."""
    context = tuned.context
    config = context.config.model_copy(
        update={
            "head": tuple(heads),
            "adapter": (tuned.row.adapter,),
            "start": (tuned.row.start,),
            "shot": (tuned.row.shot,),
            "tuning": context.config.tuning.model_copy(update={"steps": 0, "recipe": "none"}),
        }
    )
    return build_row_runners(with_config(context, config))


def with_config(context: EvaluationContext, config: EvaluationConfig) -> EvaluationContext:
    """Returns a context with another configuration of the same clips, episodes and encoder."""
    other = EvaluationContext.of(config)
    _ = context.caches  # made at the first use, and both are to have the same
    for name in ("encoder", "store", "_decoded_clips", "_caches", "_segment_thirds", "_starts"):
        setattr(other, name, getattr(context, name))
    return other


@torch.inference_mode()
def query_logits(
    readers: Sequence[RowRunner], encoder: AdaptedEncoder, group: Sequence[Episode]
) -> list[Tensor]:
    """Computes the logits of the query clips of some episodes by several heads, (E, Q, way)."""
    heads = [reader.build_head([episode.index for episode in group]) for reader in readers]
    # the clips are encoded once, for what any of the heads reads
    grid_sizes = tuple(sorted({size for head in heads for size in head.grid_sizes}))
    encoder.reads_frozen = any(head.reads_frozen for head in heads)
    cache = readers[0].context.prefix_cache(encoder, grid_sizes=grid_sizes)
    support, query = (
        encode_in_chunks(encoder, cache.gather(names), grid_sizes=grid_sizes)
        for names in ([e.support_clips for e in group], [e.query_clips for e in group])
    )
    labels = support_labels(group, encoder.tower.device)
    return [head(query, support, labels).cpu() for head in heads]


def accuracies_of(logits: Tensor, group: Sequence[Episode]) -> list[float]:
    """Returns the accuracy of each episode, in percent."""
    labels = torch.tensor([[c for c, clips in enumerate(e.query) for _ in clips] for e in group])
    accuracies: list[float] = (100 * (logits.argmax(-1) == labels).float().mean(-1)).tolist()
    return accuracies


def tune_and_read(runner: RowRunner, heads: Sequence[MethodSpec]) -> tuple[Accuracies, float]:
    """Tunes the episodes of a row, and reads them by several heads.

    Returns:
        The accuracies, also of the sum of tuned and untuned logits, and the seconds of an episode
        until it is tuned and predicted once.
    """
    episodes, size = runner.episodes, runner.parallel_episodes
    readers = reading_runners(runner, heads)
    accuracies: Accuracies = defaultdict(list)
    seconds = 0.0
    for first in range(0, len(episodes), size):
        group = episodes[first : first + size]
        untuned = runner.build_encoder([episode.index for episode in group])
        start = perf_counter()
        # without steps one adapter serves the row; the readers want a copy for each episode
        encoder = runner.run_group(group).encoder if runner.row.tuning.steps else untuned
        seconds += perf_counter() - start
        logits = query_logits(readers, encoder, group)
        untuned_logits = query_logits(readers, untuned, group) if runner.row.tuning.steps else []
        for reader, values in zip(readers, logits, strict=True):
            accuracies[reader.row.head.label] += accuracies_of(values, group)
        for reader, values, before in zip(readers, logits, untuned_logits, strict=False):
            mixed = accuracies_of(values + before, group)
            accuracies[f"{reader.row.head.label}{MIXED}"] += mixed
    return accuracies, seconds / len(episodes)


def decode(runner: RowRunner) -> None:
    """Decodes the clips of a row, also as its augmentation reads them."""
    names = {name for episode in runner.episodes for name in episode.clip_names()}
    runner.context.decode_clips(names, progress=False)
    recipe = runner.row.tuning
    if recipe.temporal and recipe.steps:
        runner.context.augmentation_clips(recipe).decode_clips(names, progress=False)


def gain(accuracies: Sequence[float], baseline: Sequence[float]) -> str:
    """Writes the mean of paired differences with a 95 % interval over episodes."""
    differences = [a - b for a, b in zip(accuracies, baseline, strict=True)]
    half_width = mean_interval(differences).half_width or 0.0  # Student t: episodes are few
    return f"{mean(accuracies):5.1f} ({mean(differences):+5.1f} +- {half_width:4.1f})"


def candidates_of(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields name and keys of each candidate, the untuned model first."""
    yield UNTUNED, {"steps": 0}
    for name, keys in load_yaml(path).items():
        yield str(name), dict(keys)


def gain_lines(result: Accuracies, baseline: Accuracies) -> Iterator[str]:
    """Yields a line for each head with the gain over a baseline, which may have no mixed logits."""
    for label, accuracies in result.items():
        own = label if label in baseline else label.removesuffix(MIXED)
        yield f"    {gain(accuracies, baseline[own])}  {label}"


def search(config: EvaluationConfig, candidates: Path, out: Path, over: str) -> None:
    """Runs what is missing of a search, and prints a line for each result."""
    lines = out.read_text().splitlines() if out.exists() else []
    done = {(r["row"], r["candidate"]): r for r in map(json.loads, lines)}
    labels = {head.label for head in config.head}
    if any(labels - result["accuracies"].keys() for result in done.values()):
        raise UsageError(
            f"{out}: has results that were read by other heads than {', '.join(sorted(labels))}; "
            "give another file, or the configuration that it was begun with"
        )
    context: EvaluationContext | None = None
    for name, keys in candidates_of(candidates):
        head = keys.pop("head", None)
        tuning = {"recipe": "none", **keys}
        values = config.model_dump(exclude_unset=True) | {"tuning": tuning, "recipes": {}}
        tuned_config = load_config(values | ({"head": [head]} if head else {}))
        fresh = EvaluationContext.of(tuned_config)
        context = with_config(context, tuned_config) if context else fresh
        runners = build_row_runners(context)
        seen = set()
        for runner in runners:
            row = f"{runner.row.adapter.label} {runner.row.start} {runner.row.shot}-shot"
            if row in seen:  # of several heads the first is minimised
                continue
            seen.add(row)
            if (row, name) not in done:
                decode(runner)
                accuracies, seconds = tune_and_read(runner, config.head)
                done[row, name] = {
                    "row": row,
                    "candidate": name,
                    "tuning": runner.row.tuning.model_dump(mode="json"),
                    "head": runner.row.head.label,
                    "split": config.split,
                    "subset": config.subset,
                    "encoder": config.encoder.name,
                    "seconds": round(seconds, 3),
                    "device": device_name(context.encoder.tower.device),
                    "commit": git_commit(),
                    "accuracies": accuracies,
                }
                with out.open("a") as file:
                    file.write(json.dumps(done[row, name]) + "\n")
            result = done[row, name]
            click.echo(f"{row}  {name}  {result['seconds']:.1f} s an episode")
            if (row, over) not in done:  # of candidates before it
                click.echo(f"    {over}: not done yet")
                continue
            for line in gain_lines(result["accuracies"], done[row, over]["accuracies"]):
                click.echo(line)


@click.command(help=__doc__)
@click.argument("config")
@click.argument("candidates", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.argument("keys", nargs=-1)
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), required=True)
@click.option(
    "--over",
    default=UNTUNED,
    show_default=True,
    metavar="CANDIDATE",
    help="Which candidate gains are over, such as the one that others leave a part out of.",
)
def main(config: str, candidates: Path, keys: tuple[str, ...], out: Path, over: str) -> None:
    """Runs the search."""
    overrides = {
        key: parse_value(text, key) for key, _, text in (item.partition("=") for item in keys)
    }
    try:
        loaded = load_config(config, overrides)
        if loaded.subset in ("novel", "test"):
            raise click.UsageError(
                f"subset={loaded.subset}: recipes are chosen on other classes than those of the "
                "evaluation; give subset=val or subset=base"
            )
        if over not in dict(candidates_of(candidates)):
            raise click.BadParameter(f"{over}: {candidates} has no such name", param_hint="--over")
        search(loaded, candidates, out, over)
    except FewshotError as error:
        raise click.ClickException(str(error)) from error


if __name__ == "__main__":
    main()
