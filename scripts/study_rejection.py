"""How often the promise of "none of these" about other classes holds, over many draws.

    python scripts/study_rejection.py CLIPS --encoder demo --known 5 --out FILE

CLIPS is a folder with a folder per class, or a split (--subset). Every clip is encoded once, and
read as the head `prototype:pooling=ordered,center=true,tokens=grid4+motion` reads it. A draw
chooses some of the classes and some of their clips, holds clips out and leaves classes out as `fit`
does, and chooses score and threshold by the functions of `fit`. The remaining clips of these
classes, and as many of the other classes, are then rejected or not. This is what `study_fit.py`
does by `fit` and `test` themselves, for one method and hundreds of draws. FILE gets the figures of
each set of scores: the shares of all draws, and how many draws were within what was promised.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from numpy.typing import NDArray

from fewshot_i2v.data.episodes.folds import plan_folds
from fewshot_i2v.data.splits.builder.labelled_clips import LabelledClips, read_labelled_clips
from fewshot_i2v.data.splits.split import Clip
from fewshot_i2v.evaluation.context import EvaluationContext
from fewshot_i2v.evaluation.fitting.candidates import load_fit_config, rows_to_try
from fewshot_i2v.evaluation.fitting.job import FitJob, plan_episodes, read_clips
from fewshot_i2v.models.adapters.base.features import unpack_features
from fewshot_i2v.models.heads.base.vector_head import VectorHead
from fewshot_i2v.statistics.rejection import Rejection, choose_threshold
from fewshot_i2v.statistics.temperature import fit_temperature, softmax
from fewshot_i2v.tuning.run_context import resolve_device, resolve_precision
from fewshot_i2v.utils.environment import git_commit

HEAD = "prototype:pooling=ordered,center=true,tokens=grid4+motion"
TEMPERATURE, FOLDS, REJECT = 10.0, 10, 0.05
SETS = {"class means": ("probability", "logit"), "nearest": ("probability", "logit", "nearest")}
"""Scores that are chosen among."""
Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Clips:
    """What is computed of all clips.

    Attributes:
        by_class: clips of each class.
        number: position of each clip by its name.
        products: inner products of the vectors of all clips, (clips, clips), of each readout.
    """

    by_class: Mapping[str, Sequence[Clip]]
    number: Mapping[str, int]
    products: Sequence[Array]

    @cached_property
    def cosines(self) -> Array:
        """Cosines of all clips, (clips, clips), added up over the readouts."""
        cosines = [p / np.sqrt(np.outer(p.diagonal(), p.diagonal())) for p in self.products]
        total: Array = np.sum(cosines, axis=0)
        return total

    def indices(self, clips: Sequence[Clip]) -> NDArray[np.int64]:
        """Positions of clips."""
        return np.array([self.number[clip.name] for clip in clips], dtype=np.int64)

    def logits(self, query: Sequence[Clip], classes: Sequence[Sequence[Clip]]) -> dict[str, Array]:
        """Logits of clips by class means, and similarities to the nearest clips, (Q, classes)."""
        q = self.indices(query)
        members = [self.indices(clips) for clips in classes]
        means, nearest = np.zeros((len(q), len(members))), np.zeros((len(q), len(members)))
        for c, m in enumerate(members):
            nearest[:, c] = TEMPERATURE * self.cosines[np.ix_(q, m)].max(1)
            for p in self.products:
                length = np.sqrt(p[np.ix_(m, m)].mean() * p.diagonal()[q])
                means[:, c] += TEMPERATURE * p[np.ix_(q, m)].mean(1) / length
        return {"logit": means, "nearest": nearest}


def encode(clips: LabelledClips, keys: Mapping[str, Any]) -> Clips:
    """Encodes clips by the frozen encoder; the inner products of what the head reads."""
    config, _ = load_fit_config(clips.split.name, {**keys, "head": [HEAD]})
    config = resolve_precision(config, resolve_device(config.device))
    rows = rows_to_try(config, has_auto_heads=False)
    config = config.model_copy(update={"subset": clips.subset})
    job = FitJob(clips, config, EvaluationContext.open(config, clips.split), False)
    read_clips(job, skip_unreadable=False)
    plan_episodes(job, rows, None)
    runner, names = job.runner(rows[0], job.shot), job.clips.names
    encoder, head = runner.build_encoder([0]), runner.build_head([0])
    job.context.fill_feature_caches(encoder, {runner.cache_key: head}, names, lambda _: None)
    cache = job.context.feature_cache(encoder, runner.cache_key, head)
    if not isinstance(head, VectorHead):
        raise click.ClickException(f"{HEAD}: compares no vectors")
    vectors = head.comparable(unpack_features(cache.gather([names]), config.video.frames))[0]
    parts = torch.split(vectors.double(), head.vector_sizes, -1)
    products = [(part @ part.T).numpy() for part in parts]
    return Clips(job.clips.by_class, {name: i for i, name in enumerate(names)}, products)


def few(clips: LabelledClips, classes: int | None, per_class: int | None) -> LabelledClips:
    """Leaves out all but some classes, evenly spaced, and some clips of each."""
    chosen = clips.classes[:: max(1, len(clips.classes) // (classes or len(clips.classes)))]
    dropped = {
        clip.name
        for name, members in clips.by_class.items()
        for clip in (members[per_class:] if name in chosen and per_class else members)
        if name not in chosen or per_class
    }
    return clips.without(dropped)


@dataclass(frozen=True, eq=False)
class Scored:
    """Scores of one draw by one kind: held-out clips, left-out classes, one more, and new clips."""

    known: Array
    unknown: Sequence[Array]
    fewer: Array
    new_known: Array
    new_unknown: Array


def score_draw(
    clips: Clips,
    fitted: Mapping[str, Sequence[Clip]],
    known: Sequence[Clip],
    unknown: Sequence[Clip],
) -> tuple[dict[str, Scored], list[str]]:
    """Scores what a fit looks at, and new clips; also the groups of the held-out clips."""
    count = sum(map(len, fitted.values()))
    plan = plan_folds(fitted, folds=FOLDS if count > 40 else None, seed=0, across_classes=True)
    held_out: list[dict[str, Array]] = []
    labels: list[int] = []
    groups: list[str] = []
    for fold in plan.folds:
        stay = [[c for c in members if c.name not in fold] for members in fitted.values()]
        held = [[c for c in members if c.name in fold] for members in fitted.values()]
        held_out.append(clips.logits([c for part in held for c in part], stay))
        labels += [number for number, part in enumerate(held) for _ in part]
        groups += [c.group or c.name for part in held for c in part]
    members = list(fitted.values())

    def without(*left_out: int) -> list[dict[str, Array]]:
        others = [part for i, part in enumerate(members) if i not in left_out]
        return [clips.logits(members[i], others) for i in left_out]

    single = [part for i in range(len(members)) for part in without(i)]
    pairs = [part for pair in combinations(range(len(members)), 2) for part in without(*pair)]
    new = [clips.logits(known, members), clips.logits(unknown, members)]
    logits = np.concatenate([part["logit"] for part in held_out])
    temperature = fit_temperature(logits, labels)

    def score(kind: str, part: Mapping[str, Array]) -> Array:
        values = softmax(part["logit"], temperature) if kind == "probability" else part[kind]
        largest: Array = values.max(1)
        return largest

    return {
        kind: Scored(
            np.concatenate([score(kind, part) for part in held_out]),
            [score(kind, part) for part in single],
            np.concatenate([score(kind, part) for part in pairs]),
            *(score(kind, part) for part in new),
        )
        for kind in SETS["nearest"]
    }, groups


def run_draw(
    clips: Clips, seed: int, n_known: int, per_class: int
) -> dict[str, dict[str, float | str]]:
    """Fits to a draw, and rejects the other clips."""
    generator = random.Random(seed)
    classes = sorted(clips.by_class)
    chosen = sorted(generator.sample(classes, n_known))
    drawn = {c: generator.sample(list(clips.by_class[c]), per_class) for c in classes}
    rest = {c: [clip for clip in clips.by_class[c] if clip not in drawn[c]] for c in classes}
    known = [clip for c in chosen for clip in rest[c]]
    unknown = [clip for c in classes if c not in chosen for clip in rest[c]]
    fitted = {c: sorted(drawn[c], key=lambda clip: clip.name) for c in chosen}
    scored, groups = score_draw(clips, fitted, known, unknown)
    choices = {
        kind: choose_threshold(
            s.known,
            np.concatenate(s.unknown),
            unknown_classes=[c for c in chosen for _ in fitted[c]],
            reject_known=REJECT,
            known_groups=groups,
            unknown_scores_of_fewer=s.fewer,
        )
        for kind, s in scored.items()
    }
    n_unknown = len(classes) - n_known
    return {
        name: _judge(kinds, choices, scored, n_unknown=n_unknown) for name, kinds in SETS.items()
    }


def _judge(
    kinds: Sequence[str],
    choices: Mapping[str, Rejection],
    scored: Mapping[str, Scored],
    *,
    n_unknown: int,
) -> dict[str, float | str]:
    kind = max(kinds, key=lambda kind: choices[kind].auroc)
    choice, scores = choices[kind], scored[kind]
    promised = choice.rejected_unknown
    rejected = scores.new_unknown < choice.threshold
    least, most = promised.expected_count(len(rejected), n_unknown)
    return {
        "score": kind,
        "known": float((scores.new_known < choice.threshold).mean()),
        "unknown": float(rejected.mean()),
        "promised": promised.mean,
        "not_corrected": promised.count / promised.clips,
        "in_interval": float(promised.low <= rejected.mean() <= promised.high),
        "as_promised": float(least <= rejected.sum() <= most),
        "width": promised.high - promised.low,
    }


def summarise(draws: Sequence[Mapping[str, float | str]]) -> dict[str, Any]:
    """Means over draws, and the standard error of what was promised too much."""
    values = {
        key: np.array([draw[key] for draw in draws], dtype=np.float64)
        for key in draws[0]
        if key != "score"
    }
    excess = values["promised"] - values["unknown"]
    return {
        "scores": dict(Counter(draw["score"] for draw in draws)),
        **{key: round(float(value.mean()), 4) for key, value in values.items()},
        "promised_too_much": round(float(excess.mean()), 4),
        "standard_error": round(float(excess.std(ddof=1) / len(draws) ** 0.5), 4),
    }


@click.command(help=__doc__)
@click.argument("source")
@click.option("--subset", help="Of a split.")
@click.option("--encoder", default="demo", show_default=True)
@click.option("--pretrained")
@click.option("--architecture")
@click.option("--image-size", type=int)
@click.option("--mean", help="One number, or three with commas.")
@click.option("--std", help="Likewise.")
@click.option("--known", "n_known", default=5, show_default=True, help="Classes to fit to.")
@click.option("--per-class", default=10, show_default=True, help="Clips of a class to fit to.")
@click.option("--draws", default=100, show_default=True)
@click.option("--classes", type=int, help="At most about so many; default: all.")
@click.option("--clips", type=int, help="Of each class; default: all.")
@click.option("--group", help="As for `fit`.")
@click.option("--cache", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), required=True)
def main(
    source: str,
    subset: str | None,
    n_known: int,
    per_class: int,
    draws: int,
    classes: int | None,
    clips: int | None,
    group: str | None,
    out: Path,
    **flags: Any,
) -> None:
    """Runs the study, and adds its figures to the file."""
    constants = {
        key: [float(x) for x in flags[key].split(",")] for key in ("mean", "std") if flags[key]
    }
    encoder = {"name": flags["encoder"]}
    encoder |= {k: flags[k] for k in ("pretrained", "architecture", "image_size") if flags[k]}
    encoder |= {key: v[0] if len(v) == 1 else v for key, v in constants.items()}
    keys = {"encoder": encoder, **({"cache": str(flags["cache"])} if flags["cache"] else {})}
    labelled = few(read_labelled_clips(source, subset=subset, group=group), classes, clips)
    encoded = encode(labelled, keys)
    results = [run_draw(encoded, seed, n_known, per_class) for seed in range(draws)]
    name = "-".join(part for part in (Path(source).name, subset, flags["encoder"]) if part)
    record: dict[str, Any] = json.loads(out.read_text()) if out.exists() else {}
    record[f"{name}-{n_known}-classes"] = {
        "commit": git_commit(),
        "draws": draws,
        "all_classes": len(encoded.by_class),
        "per_class": per_class,
        **{key: summarise([result[key] for result in results]) for key in SETS},
    }
    out.write_text(json.dumps(record, indent=1) + "\n")
    click.echo(json.dumps(record[f"{name}-{n_known}-classes"]))


if __name__ == "__main__":
    main()
