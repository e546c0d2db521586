"""How often `fit` keeps its promises on clips that it has not seen, see README.md here.

    python scripts/study_fit.py CLIPS --out FILE --encoder NAME [--pretrained FILE ...]

CLIPS has a folder per class. In each draw some clips of each class are fitted to and the others
tested. Three questions are answered. How often is the number of right clips in the range that the
fit promised? Fitted to half of the classes and tested on all: does "none of these" reject as many
clips of the classes, and of other classes, as the fit said? And how many labels look wrong, as they
are and with some clips moved to another class? FILE gets the figures as JSON; a draw that is in it
is not done again.
"""

from __future__ import annotations

import csv
import json
import random
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from fewshot_i2v.data.splits.builder.labelled_clips import read_labelled_clips
from fewshot_i2v.evaluation.fitting.fit import run_fit
from fewshot_i2v.evaluation.fitting.label_check import check_labels
from fewshot_i2v.evaluation.fitting.test import run_test
from fewshot_i2v.statistics.shares import Share
from fewshot_i2v.utils.environment import device_name, git_commit

Clips = Mapping[str, Sequence[str]]
_ALL, _HALF, _LABELS = "all_classes", "half_of_the_classes", "labels"
_KINDS = (_ALL, _HALF, _LABELS)


def write_table(path: Path, clips: Clips) -> Path:
    """Writes a CSV of labelled clips."""
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["path", "class"])
        rows.writerows((clip, name) for name, names in clips.items() for clip in names)
    return path


def draw_clips(clips: Clips, seed: int, per_class: int) -> tuple[Clips, Clips]:
    """Draws the clips to fit to, and returns the others."""
    generator = random.Random(seed)
    fitted = {name: sorted(generator.sample(names, per_class)) for name, names in clips.items()}
    others = {name: [n for n in names if n not in fitted[name]] for name, names in clips.items()}
    return fitted, others


def run_draw(
    root: Path, fitted: Clips, tested: Clips, keys: Mapping[str, Any], group: str | None
) -> dict[str, Any]:
    """Fits and tests once."""
    with tempfile.TemporaryDirectory() as folder:
        source: dict[str, Any] = {"root": root, "group": group, "group_scope": "global"}
        fit_table = write_table(Path(folder) / "fit.csv", fitted)
        test_table = write_table(Path(folder) / "test.csv", tested)
        result = run_fit(fit_table, keys, **source)
        test = run_test(result.classifier, test_table, root=root)
    description = result.description
    return {
        "chosen": result.tried.chosen.label,
        "device": device_name(result.classifier.scorer.device),
        "accuracy": vars(test.accuracy),
        "promised_accuracy": description.accuracy and description.accuracy.model_dump(),
        "promised": test.promised,
        "as_promised": test.is_as_promised,
        "rejection": description.rejection and description.rejection.model_dump(),
        "rejected_known": test.rejected_known and vars(test.rejected_known),
        "rejected_unknown": test.rejected_unknown and vars(test.rejected_unknown),
        "promised_unknown": test.promised_unknown,
    }


def mislabel(clips: Clips, seed: int, share: float) -> tuple[Clips, list[str]]:
    """Moves a share of the clips to another class each, and returns their names."""
    generator = random.Random(seed)
    class_of = {name: label for label, names in clips.items() for name in names}
    moved = sorted(generator.sample(sorted(class_of), round(share * len(class_of))))
    for name in moved:
        class_of[name] = generator.choice([c for c in clips if c != class_of[name]])
    labelled = {c: [name for name, label in class_of.items() if label == c] for c in clips}
    return labelled, moved


def check_draw(
    root: Path, clips: Clips, moved: Sequence[str], keys: Mapping[str, Any], group: str | None
) -> dict[str, Any]:
    """Checks the labels of clips, some of them moved to another class."""
    with tempfile.TemporaryDirectory() as folder:
        table = write_table(Path(folder) / "labels.csv", clips)
        check = check_labels(table, root=root, group=group, **keys)
    named = {suspect.clip for suspect in check.suspects}
    return {
        "clips": sum(map(len, clips.values())),
        "moved": len(moved),
        "moved_named": len(named & set(moved)),
        "others_named": len(named - set(moved)),
        "accuracy": vars(check.accuracy),
        "method": check.method,
    }


def run_kind(
    kind: str,
    seed: int,
    root: Path,
    drawn: tuple[Clips, Clips],
    keys: Mapping[str, Any],
    group: str | None,
    moved: float,
) -> dict[str, Any]:
    """Answers one question on the clips of one draw."""
    fitted, others = drawn
    if kind == _LABELS:
        shares = {"clean": 0.0, "mislabelled": moved}
        return {
            name: check_draw(root, *mislabel(fitted, seed, share), keys, group)
            for name, share in shares.items()
        }
    if kind == _HALF:
        half = set(random.Random(seed).sample(sorted(fitted), len(fitted) // 2))
        fitted = {name: names for name, names in fitted.items() if name in half}
    return run_draw(root, fitted, others, keys, group)


def summarise_labels(draws: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Adds up how many labels look wrong, as they are and where some were moved."""
    summary: dict[str, Any] = {"draws": len(draws)}
    for kind in ("clean", "mislabelled"):
        checks = [draw[kind] for draw in draws]
        summary[kind] = {
            key: sum(check[key] for check in checks)
            for key in ("clips", "moved", "moved_named", "others_named")
        }
    return summary


def summarise(draws: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Counts the promises that were kept, and adds up the rates of "none of these"."""
    summary: dict[str, Any] = {
        "draws": len(draws),
        "as_promised": sum(draw["as_promised"] for draw in draws),
        "mean_accuracy": _rate(draws, "accuracy"),
        "mean_promised_accuracy": _rate(draws, "promised_accuracy"),
    }
    for kind in ("rejected_known", "rejected_unknown"):
        promised = [draw["rejection"] for draw in draws if draw["rejection"]]
        if promised and all(draw[kind] for draw in draws):
            summary[kind] = _rate(draws, kind)
            summary[f"promised_{kind}"] = _rate(promised, kind)
    if all(draw.get("promised_unknown") for draw in draws):
        promised = [draw["rejection"]["rejected_unknown"] for draw in draws]
        summary["rejected_unknown_in_interval"] = sum(
            share["low"] <= _mean(draw["rejected_unknown"]) <= share["high"]
            for share, draw in zip(promised, draws, strict=True)
        )
        summary["rejected_unknown_as_promised"] = sum(
            draw["promised_unknown"][0]
            <= draw["rejected_unknown"]["count"]
            <= draw["promised_unknown"][1]
            for draw in draws
        )
    return summary


_SUMMARIES = {_ALL: summarise, _HALF: summarise, _LABELS: summarise_labels}


def _mean(share: Mapping[str, Any]) -> float:
    return Share(**share).mean


def _rate(draws: Sequence[Mapping[str, Any]], key: str) -> float:
    """Share over the clips of all draws."""
    shares = [draw[key] for draw in draws]
    clips = sum(share["clips"] for share in shares)
    return float(sum(_mean(share) * share["clips"] for share in shares) / clips)


@click.command(help=__doc__)
@click.argument("clips", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), required=True)
@click.option("--encoder", default="demo", show_default=True)
@click.option("--pretrained")
@click.option("--architecture")
@click.option("--image-size", type=int)
@click.option("--mean", help="One number, or three with commas.")
@click.option("--std", help="Likewise.")
@click.option("--draws", default=20, show_default=True)
@click.option("--kind", "kinds", type=click.Choice(_KINDS), multiple=True, default=_KINDS)
@click.option("--moved", default=0.05, show_default=True, help="Share of clips moved to a class.")
@click.option("--per-class", default=10, show_default=True, help="Clips of a class to fit to.")
@click.option("--group", help="As for `fit`.")
@click.option("--head", help="One head to fit with; default: those of `fit`.")
@click.option("--cache", type=click.Path(path_type=Path))
def main(
    clips: Path,
    out: Path,
    draws: int,
    kinds: Sequence[str],
    moved: float,
    per_class: int,
    group: str | None,
    **flags: Any,
) -> None:
    """Runs the study."""
    constants = {
        key: [float(x) for x in flags[key].split(",")] for key in ("mean", "std") if flags[key]
    }
    encoder = {
        "name": flags["encoder"],
        **{k: flags[k] for k in ("pretrained", "architecture", "image_size") if flags[k]},
        **{key: v[0] if len(v) == 1 else v for key, v in constants.items()},
    }
    keys: dict[str, Any] = {"encoder": encoder}
    keys |= {key: str(flags[key]) for key in ("cache", "head") if flags[key]}
    by_class = {
        name: [clip.name for clip in members]
        for name, members in read_labelled_clips(clips).by_class.items()
    }
    record: dict[str, Any] = {kind: [] for kind in _KINDS}
    if out.exists():
        record |= json.loads(out.read_text())
    record |= {"clips": clips.name, "encoder": flags["encoder"], "commit": git_commit()}
    record |= {"image_size": flags["image_size"], "per_class": per_class, "group": group}
    record["moved"] = moved
    for kind in kinds:
        for seed in range(len(record[kind]), draws):
            done = run_kind(
                kind, seed, clips, draw_clips(by_class, seed, per_class), keys, group, moved
            )
            record[kind].append({"seed": seed, **done})
            record["summary"] = {k: _SUMMARIES[k](record[k]) for k in _KINDS if record[k]}
            out.write_text(json.dumps(record, indent=1) + "\n")
            click.echo(f"{kind} draw {seed}: {json.dumps(record['summary'][kind])}")


if __name__ == "__main__":
    main()
