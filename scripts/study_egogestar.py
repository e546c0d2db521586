"""What base-class training brings on real clips: the study of `egogestar`, see README.md here.

    python scripts/study_egogestar.py OPTIONS choose
    python scripts/study_egogestar.py OPTIONS choose-tuning
    python scripts/study_egogestar.py OPTIONS train
    python scripts/study_egogestar.py OPTIONS report

with the same OPTIONS: --root (the clips), --architecture and --pretrained (the encoder), --work.

`choose` compares settings with ST-Adapter by cross-validation within the base classes: two of the
five are held out, three are trained on. It chooses the learning rate of M-adapter in the same way.
`choose-tuning` takes these trainings as starting points and chooses, for each head, the learning
rate of fine-tuning, by episodes of the two held-out classes. `train` trains every adapter from
three seeds on all five base classes with the setting that was best; it has no class left to choose
a state, so the last one is kept. `report` evaluates on the novel classes, writes `report.json` and
prints a table. What was finished is not done again.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import click
import torch
import yaml
from _study_encoder import encoder_keys, encoder_options

from fewshot_i2v import evaluate
from fewshot_i2v.config.loading import load_train_config
from fewshot_i2v.evaluation.results import EvaluationResult
from fewshot_i2v.runs.row_summary import RowSummary
from fewshot_i2v.statistics import paired_difference
from fewshot_i2v.training.train import train
from fewshot_i2v.tuning.run_context import resolve_device
from fewshot_i2v.utils.environment import device_name, git_commit

ADAPTERS = ("adaptformer", "aim", "m-adapter", "st-adapter", "zeroi2v")
ORDERED = "prototype:center=true,pooling=ordered"
HEADS = ("prototype", ORDERED)
GRID = f"{ORDERED},tokens=grid4"
"""The training-free baseline; starting points are read in this way, too, and not tuned."""
SEEDS = (0, 1, 2)
FOLDS = (("up", "square"), ("left", "tick"), ("star", "up"))
"""Classes held out; each of the five once or twice."""
STEPS = 100

SETTINGS: dict[str, dict[str, Any]] = {
    "classify": {"objective": "classify", "clips": 16, "lr": 0.003},
    "episodic": {"objective": "episodic", "shot": 1, "query": 2, "batch": 2, "lr": 0.001},
    "episodic, rate 0.003": {
        "objective": "episodic",
        "shot": 1,
        "query": 2,
        "batch": 2,
        "lr": 0.003,
    },
    "both": {"objective": "both", "shot": 1, "query": 2, "batch": 1, "clips": 9, "lr": 0.003},
}
RATES: dict[str, tuple[float, ...]] = {"m-adapter": (0.001, 0.005, 0.02)}
"""Rates to choose from where the validation classes of `motions` wanted a very different one."""
TUNING_STEPS = 10
TUNING_RATES = (0.0001, 0.0003, 0.001)
"""Learning rates of the adapter to choose from in fine-tuning, the default one the largest."""
SPLIT = Path(__file__).resolve().parents[1] / "episodes" / "egogestar.yaml"


def held_out_split(held: Sequence[str], folder: Path) -> Path:
    """Writes the base classes of `egogestar` as a split whose validation classes are `held`.

    Returns:
        The file; it is not written again when it is there.
    """
    file = folder / f"egogestar-{'-'.join(held)}.yaml"
    if not file.is_file():
        split = yaml.safe_load(SPLIT.read_text(encoding="utf-8"))
        base = split["subsets"]["base"]
        split["name"] = file.stem
        split["subsets"] = {
            "base": {name: clips for name, clips in base.items() if name not in held},
            "val": {name: base[name] for name in held},
        }
        folder.mkdir(parents=True, exist_ok=True)
        file.write_text(yaml.safe_dump(split, sort_keys=False), encoding="utf-8")
    return file


@dataclass(frozen=True)
class Study:
    """Where the clips and the encoder are, and where results go.

    Attributes:
        common: keys that all trainings and evaluations share.
        work: a folder.
        steps: of a training.
        episodes: of the rows without fine-tuning.
        tuned_episodes: of those with.
    """

    common: Mapping[str, Any]
    work: Path
    steps: int
    episodes: int
    tuned_episodes: int

    def fold(
        self, setting: str, held: tuple[str, ...], adapter: str = "st-adapter", **more: Any
    ) -> float:
        """Accuracy on two held-out classes after the last step of a training on the others."""
        watched = {
            "validation.subset": None,
            "validation.classes": list(held),
            "validation.every": max(1, self.steps // 2),
            "validation.episodes": 100,
            "validation.shot": 1,
            "validation.head": ORDERED,
        }
        way = {"way": 5 - len(held)}
        parts = [setting, *map(str, more.values()), *held]
        if adapter != "st-adapter":
            parts = [adapter, *parts]
        output = self._fold_folder(*parts)
        start = self._train(adapter, output, **SETTINGS[setting] | watched | way | more)
        accuracy: float = start["curve"][-1]["accuracy"]
        return accuracy

    def _fold_folder(self, *parts: str) -> Path:
        return self.work / "choose" / re.sub("[^a-z0-9]+", "-", "-".join(parts))

    def tuned_fold(self, setting: str, held: tuple[str, ...], rate: float) -> dict[str, float]:
        """Accuracy of ST-Adapter, tuned further, on two held-out classes by head, over 1, 5 shots.

        A rate of zero stands for no tuning.
        """
        folder = self.work / "choose-tuning"
        result = self.evaluate(
            f"../choose-tuning/{'-'.join(held)}-{rate:g}",
            split=str(held_out_split(held, folder)),
            subset="val",
            way=len(held),
            adapter=["st-adapter"],
            head=list(HEADS),
            start=[str(self._fold_folder(setting, *held))],
            # the fold's training was watched on these two: they are base classes, on which rates
            # are compared with each other, and say nothing of new classes
            allow_seen=True,
            episodes=self.tuned_episodes,
            tuning={"steps": TUNING_STEPS, "lr": rate} if rate else {"steps": 0},
        )
        found: dict[str, list[float]] = {}
        for row in result.rows:
            found.setdefault(row.head, []).append(mean(row.accuracies.values()))
        return {head: mean(accuracies) for head, accuracies in found.items()}

    def start(self, adapter: str, seed: int, chosen: Mapping[str, Any]) -> Path:
        """A training on all base classes."""
        output = self.work / f"seed-{seed}" / adapter
        given = dict(SETTINGS[chosen["setting"]])
        if adapter in RATES:
            given["lr"] = chosen["rates"][adapter]
        self._train(adapter, output, **given, seed=seed, way=5)
        return output

    def _train(self, adapter: str, output: Path, **given: Any) -> dict[str, Any]:
        head = {"head": ORDERED, "steps": self.steps, "adapter": adapter, "output": str(output)}
        config = load_train_config("train/egogestar", {**self.common, **head, **given})
        about: dict[str, Any] = train(config, progress=True, log=click.echo).info.about["start"]
        return about

    def evaluate(self, name: str, **given: Any) -> EvaluationResult:
        """Rows on the novel classes."""
        output = str(self.work / "novel" / name)
        fixed = {"split": "egogestar", "subset": "novel", "way": 5, "shot": [1, 5], "query": 5}
        video = {"video": {"frames": 8, "policy": "segment-center"}}
        return evaluate({**fixed, **self.common, **video, **given, "output": output})

    def results(self, rates: Mapping[str, float]) -> Iterator[tuple[str, EvaluationResult]]:
        """All evaluations, the cheap ones first; `rates` of tuning by head."""
        many = {"episodes": self.episodes, "tuning": {"steps": 0}}
        yield "frozen", self.evaluate("frozen", adapter=["frozen"], head=[*HEADS, GRID], **many)
        starts = [str(self.work / f"seed-{seed}") for seed in SEEDS]
        every = {"adapter": list(ADAPTERS), "start": starts}
        yield "started", self.evaluate("started", **every, head=[*HEADS, GRID], **many)
        # fine-tuning takes seconds per episode: fewer episodes
        for head in HEADS:
            few = {"steps": TUNING_STEPS, "lr": rates[head]}
            name = f"tuned-{HEADS.index(head)}"
            given = {"head": [head], "episodes": self.tuned_episodes, "tuning": few}
            yield "tuned", self.evaluate(name, **every, **given)


def _chosen(work: Path) -> dict[str, Any]:
    file = work / "choose" / "chosen.json"
    if not file.is_file():
        raise click.UsageError(f"{file}: not there; run `choose` first")
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return found


def _best(table: Mapping[Any, list[float]]) -> Any:  # noqa: ANN401 - one of the keys
    """The key with the best mean; of equals the first."""
    for key, accuracies in table.items():
        shown = ", ".join(f"{100 * accuracy:.1f}" for accuracy in accuracies)
        click.echo(f"{key}: {100 * mean(accuracies):.1f} % ({shown})")
    best = max(table, key=lambda key: mean(table[key]))
    click.echo(f"chosen: {best}")
    return best


def _lines(results: Iterable[tuple[str, EvaluationResult]]) -> list[dict[str, Any]]:
    """One line per evaluation, adapter, kind of start, head and shot, over the starts' seeds."""
    groups: dict[tuple[str, str, str, str, int | str], list[Any]] = {}
    for name, result in results:
        for row in result.rows:
            key = (name, row.adapter, row.start, row.head, row.shot)
            groups.setdefault(key, []).append(row)
    lines = []
    for (name, adapter, start, head, shot), rows in groups.items():
        intervals = [row.interval for row in rows]
        accuracies = [interval.mean for interval in intervals]
        lines.append(
            {
                "rows": name,
                "adapter": adapter,
                "start": start,
                "head": head,
                "shot": shot,
                "episodes": rows[0].episodes,
                "seeds": len(rows),
                "accuracy": mean(accuracies),
                "half_width": mean(interval.half_width for interval in intervals),
                "between_seeds": stdev(accuracies) if len(rows) > 1 else None,
            }
        )
    return lines


def gains(tuned: Iterable[RowSummary], started: Iterable[RowSummary]) -> list[dict[str, Any]]:
    """What tuning further changed, over the episodes that both have, by adapter, head and shot.

    The difference of an episode is the mean over the training seeds of the starting points; the
    interval is over episodes.
    """
    before = {(row.adapter, row.head, row.shot, row.start_name): row for row in started}
    groups: dict[tuple[str, str, Any], list[tuple[RowSummary, RowSummary]]] = {}
    for row in tuned:
        same = before[row.adapter, row.head, row.shot, row.start_name]
        groups.setdefault((row.adapter, row.head, row.shot), []).append((row, same))
    return [
        {"adapter": adapter, "head": head, "shot": shot} | _gain(pairs)
        for (adapter, head, shot), pairs in groups.items()
    ]


def _gain(pairs: Sequence[tuple[RowSummary, RowSummary]]) -> dict[str, Any]:
    common = set.intersection(*(set(row.accuracies) for pair in pairs for row in pair))
    order = sorted(common)
    after = [mean(row.accuracies[i] for row, _ in pairs) for i in order]
    before = [mean(same.accuracies[i] for _, same in pairs) for i in order]
    interval = paired_difference(after, before)
    by_seed = [mean(row.accuracies[i] - same.accuracies[i] for i in order) for row, same in pairs]
    return {
        "episodes": len(common),
        "seeds": len(pairs),
        "gain": interval.mean,
        "half_width": interval.half_width,
        "between_seeds": stdev(by_seed) if len(pairs) > 1 else None,
    }


def _markdown(lines: list[dict[str, Any]]) -> str:
    out = [
        "| rows | adapter | start | head | 1-shot | 5-shot |",
        "| --- | --- | --- | --- | --: | --: |",
    ]
    cells: dict[tuple[str, ...], dict[int, str]] = {}
    for line in lines:
        text = f"{100 * line['accuracy']:.1f} ± {100 * line['half_width']:.1f}"
        if line["between_seeds"] is not None:
            text += f" (seeds {100 * line['between_seeds']:.1f})"
        key = tuple(str(line[k]) for k in ("rows", "adapter", "start", "head"))
        cells.setdefault(key, {})[line["shot"]] = text
    out += [f"| {' | '.join(key)} | {by[1]} | {by[5]} |" for key, by in cells.items()]
    return "\n".join(out)


@click.group(help=__doc__)
@encoder_options
@click.option("--precision", default="bf16", help="Of the frozen encoder.")
@click.option("--steps", type=int, default=STEPS, help="Of a training.")
@click.option("--episodes", type=int, default=200, help="Of rows without fine-tuning.")
@click.option("--tuned-episodes", type=int, default=20, help="Of rows with fine-tuning.")
@click.pass_context
def main(
    context: click.Context,
    /,
    root: Path,
    work: Path,
    cache: str | None,
    precision: str,
    steps: int,
    episodes: int,
    tuned_episodes: int,
    **encoder: Any,
) -> None:
    """Reads what the commands share."""
    common = {"root": str(root), "encoder": encoder_keys(**encoder), "precision": precision}
    context.obj = Study(common | {"cache": cache}, work, steps, episodes, tuned_episodes)


@main.command()
@click.option("--setting", "settings", multiple=True, default=tuple(SETTINGS), help="One of them.")
@click.pass_obj
def choose(study: Study, settings: tuple[str, ...]) -> None:
    """Cross-validates settings within the base classes."""
    table = {name: [study.fold(name, held) for held in FOLDS] for name in settings}
    setting, rates, folds = _best(table), {}, {}
    for adapter, candidates in RATES.items():
        tried = {
            rate: [study.fold(setting, held, adapter, lr=rate) for held in FOLDS]
            for rate in candidates
        }
        click.echo(f"{adapter}:")
        rates[adapter] = _best(tried)
        folds[adapter] = {str(rate): accuracies for rate, accuracies in tried.items()}
    chosen = {"setting": setting, "rates": rates, "folds": {"st-adapter": table, **folds}}
    file = study.work / "choose" / "chosen.json"
    file.write_text(json.dumps(chosen, indent=1), encoding="utf-8")


@main.command()
@click.pass_obj
def choose_tuning(study: Study) -> None:
    """Cross-validates the learning rate of tuning within the base classes."""
    chosen = _chosen(study.work)
    tried = {
        rate: [study.tuned_fold(chosen["setting"], held, rate) for held in FOLDS]
        for rate in (0.0, *TUNING_RATES)
    }
    for head in HEADS:
        click.echo(f"{head}, untuned and tuned:")
        by_rate = {rate: [fold[head] for fold in folds] for rate, folds in tried.items()}
        untuned = by_rate.pop(0.0)
        click.echo(f"untuned: {100 * mean(untuned):.1f} %")
        found = {"rate": _best(by_rate), "untuned": untuned}
        found["folds"] = {str(rate): accuracies for rate, accuracies in by_rate.items()}
        chosen.setdefault("tuning", {})[head] = found
    file = study.work / "choose" / "chosen.json"
    file.write_text(json.dumps(chosen, indent=1), encoding="utf-8")


@main.command("train")
@click.option("--adapter", "adapters", multiple=True, default=ADAPTERS, help="One of them.")
@click.option("--seed", "seeds", multiple=True, type=int, default=SEEDS, help="One of them.")
@click.pass_obj
def train_all(study: Study, adapters: tuple[str, ...], seeds: tuple[int, ...]) -> None:
    """Trains on the five base classes."""
    chosen = _chosen(study.work)
    for seed in seeds:
        for adapter in adapters:
            click.echo(f"== {adapter}, seed {seed}: {study.start(adapter, seed, chosen)}")


@main.command()
@click.pass_obj
def report(study: Study) -> None:
    """Evaluates on the novel classes."""
    chosen = _chosen(study.work)
    if "tuning" not in chosen:
        raise click.UsageError("run `choose-tuning` first")
    results = list(study.results({head: t["rate"] for head, t in chosen["tuning"].items()}))
    lines = _lines(results)
    rows = [(name, row) for name, result in results for row in result.rows]
    tuned = gains([r for n, r in rows if n == "tuned"], [r for n, r in rows if n == "started"])
    about = {
        "commit": git_commit(),
        "torch": str(torch.__version__),
        "device": device_name(resolve_device("auto")),
        "precision": study.common["precision"],
        "image_size": study.common["encoder"]["image_size"],
        "chosen": chosen,
        "steps": study.steps,
        "tuning_steps": TUNING_STEPS,
        "lines": lines,
        "gains_of_tuning": tuned,
    }
    file = study.work / "report.json"
    file.write_text(json.dumps(about, indent=1), encoding="utf-8")
    click.echo(_markdown(lines))
    click.echo(f"\n{file}")


if __name__ == "__main__":
    main()
