"""What a start from generated scenes brings on real clips, and the share of their enrichments.

    python scripts/study_motion_world.py OPTIONS train [--variant NAME] [--adapter NAME]
    python scripts/study_motion_world.py OPTIONS report [--subset novel]

with the same OPTIONS: --root (the clips of `egogestar`), --architecture and --pretrained (the
encoder), --work. See README.md here.

`train` makes the clips of a variant of `motion-world` and trains a start on its base classes, as
`fewshot-i2v train motion-world` does; a state is chosen on its validation classes. A variant
leaves out one enrichment of the scenes. `report` reads the frozen encoder and every start without
tuning, in several readouts, and prints paired gains over the frozen encoder in the same readout,
with a 95 % half-width for these clips and an interval for other clips of these classes.
The variants are compared on the base classes; `--subset novel` reads the starts from `all` alone.
What was finished is not done again.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import click
import torch
import yaml
from _gains import compare_pair_of_rows, half_width_gain, other_clips_text
from _study_encoder import encoder_keys, encoder_options

from fewshot_i2v import evaluate
from fewshot_i2v.config.loading import load_train_config
from fewshot_i2v.data.splits.split import Generator
from fewshot_i2v.data.splits.split_file import load_split
from fewshot_i2v.data.synthetic.generate import clip_name, write_missing_clips
from fewshot_i2v.data.synthetic.world import backdrops, camera, scene
from fewshot_i2v.data.synthetic.world.figure_motions import REVERSIBLE, SYMMETRIC
from fewshot_i2v.runs.prediction_reader import PredictionReader, RecordedRow
from fewshot_i2v.training.train import train
from fewshot_i2v.tuning.run_context import resolve_device
from fewshot_i2v.utils.environment import device_name, git_commit

ALL = "all"
LEFT_OUT: dict[str, dict[Any, dict[str, Any]]] = {
    ALL: {},
    "still cameras": {camera: {"MOVING_SHARE": 0.0}},
    "even backdrops": {
        backdrops: {
            "PATTERNS": {"even": backdrops.PATTERNS["even"]},
            "_add_clutter": lambda rng, backdrop: None,
            "_octaves": lambda rng, centres, counts: 0.5,
        }
    },
    "no bystanders": {scene: {"_BODY_COUNTS": (1,)}},
    "no figures": {},
}
"""By variant the values of the modules that make the scenes. Without figures, their kinds of motion
are left out."""
FIGURES = {*SYMMETRIC, *(kind for pair in REVERSIBLE for kind in pair)}
READOUTS = (
    "summary",
    "grid4",
    "motion",
    "grid4+motion",
    "summary+grid4+motion",
    "grid4+frozen-motion",
    "summary+grid4+frozen-motion",
)
SUBSETS = ("base", "val")


@contextmanager
def changed(variant: str) -> Iterator[None]:
    """Makes the scenes of a variant while it lasts."""
    with ExitStack() as stack:
        for module, values in LEFT_OUT[variant].items():
            stack.enter_context(mock.patch.multiple(module, **values))
        yield


def variant_split(variant: str, folder: Path, clips: int) -> Path:
    """Writes the clips of a variant and a split file that lists them."""
    world = load_split("motion-world")
    generator = Generator(**vars(world.generator) | {"clips": clips})
    subsets = {
        subset: {
            kind: [clip_name(kind, number) for number in range(clips)]
            for kind in world.subsets[subset]
            if variant != "no figures" or kind not in FIGURES
        }
        for subset in SUBSETS
    }
    names = [name for kinds in subsets.values() for names in kinds.values() for name in names]
    with changed(variant), click.progressbar(length=len(names), label=variant) as bar:
        write_missing_clips(generator, names, folder, progress=bar.update)
    file = folder / "split.yaml"
    about = {"name": folder.name, "version": 1, "root": str(folder.resolve())}
    file.write_text(yaml.safe_dump(about | {"subsets": subsets}), encoding="utf-8")
    return file


@dataclass(frozen=True)
class Study:
    """Where the clips and the encoder are, and where results go.

    Attributes:
        root: the real clips.
        encoder: its keys.
        work: a folder.
        cache: the folder of decoded clips, or None for the usual one.
        steps: of a training.
        episodes: of a row.
        reader: of the predictions of all rows.
    """

    root: Path
    encoder: Mapping[str, Any]
    work: Path
    cache: str | None
    steps: int
    episodes: int
    reader: PredictionReader = field(default_factory=PredictionReader)

    def start(self, variant: str, adapter: str) -> Path:
        """The folder of a start."""
        return self.work / variant.replace(" ", "-") / adapter

    def train(self, variant: str, adapter: str, clips: int) -> None:
        """Trains a start on a variant."""
        split = variant_split(variant, self.start(variant, "clips"), clips)
        given = {"encoder": dict(self.encoder), "cache": self.cache, "steps": self.steps}
        output = str(self.start(variant, adapter))
        config = load_train_config(
            "train/motion-world",
            {**given, "split": str(split), "adapter": adapter, "output": output},
        )
        curve = train(config, progress=True, log=click.echo).info.about["start"]["curve"]
        click.echo(f"{variant}, {adapter}: {curve}")

    def rows(self, variant: str, adapter: str, subset: str) -> list[RecordedRow]:
        """Rows of an adapter without tuning, of the frozen encoder where it is `frozen`."""
        start = "fresh" if adapter == "frozen" else str(self.start(variant, adapter).parent)
        result = evaluate(
            {
                "split": "egogestar",
                "root": str(self.root),
                "subset": subset,
                "way": 5,
                "shot": [1, 5],
                "query": 5,
                "episodes": self.episodes,
                "encoder": dict(self.encoder),
                "cache": self.cache,
                "video": {"frames": 8, "policy": "segment-center"},
                "adapter": [adapter],
                "start": [start],
                "head": [f"prototype:center=true,pooling=ordered,tokens={r}" for r in READOUTS],
                "tuning": {"steps": 0, "recipe": "none"},
                "output": str(self.work / subset / f"{variant}-{adapter}".replace(" ", "-")),
            }
        )
        return [self.reader.read(row.folder) for row in result.rows]


def trained(work: Path) -> Iterator[tuple[str, str]]:
    """Yields variant and adapter of the starts that are there."""
    for variant in LEFT_OUT:
        for file in sorted((work / variant.replace(" ", "-")).glob("*/adapter.json")):
            yield variant, file.parent.name


def setting_of(row: RecordedRow) -> tuple[str, int | str]:
    """Returns head and shot of a row."""
    return row.summary.head, row.summary.shot


def gain_line(variant: str, row: RecordedRow, frozen: RecordedRow) -> dict[str, Any]:
    """Compares a row with the frozen encoder in the same readout, in percent."""
    comparison = compare_pair_of_rows(row, frozen)
    accuracy, frozen_accuracy = (round(100 * mean, 2) for mean in comparison.test.means)
    return {
        "variant": variant,
        "adapter": row.summary.adapter,
        "head": row.summary.head,
        "shot": row.summary.shot,
        "episodes": len(comparison.shared_episodes.indices),
        "frozen": frozen_accuracy,
        "accuracy": accuracy,
        **half_width_gain(comparison),
    }


@click.group(help=__doc__)
@encoder_options
@click.option("--steps", type=int, default=200, help="Of a training.")
@click.option("--episodes", type=int, default=200, help="Of a row.")
@click.pass_context
def main(
    context: click.Context,
    /,
    root: Path,
    work: Path,
    cache: str | None,
    steps: int,
    episodes: int,
    **encoder: Any,
) -> None:
    """Reads what the commands share."""
    context.obj = Study(root, encoder_keys(**encoder), work, cache, steps, episodes)


@main.command("train")
@click.option(
    "--variant", type=click.Choice(tuple(LEFT_OUT)), default=ALL, help="What is left out."
)
@click.option("--adapter", default="aim", help="What is trained.")
@click.option("--clips", type=int, default=60, help="Of each class.")
@click.pass_obj
def train_start(study: Study, variant: str, adapter: str, clips: int) -> None:
    """Trains one start."""
    study.train(variant, adapter, clips)


@main.command()
@click.option(
    "--subset", type=click.Choice(("base", "novel")), default="base", help="Of egogestar."
)
@click.pass_obj
def report(study: Study, subset: str) -> None:
    """Reads the starts on real clips."""
    frozen = {setting_of(row): row for row in study.rows("", "frozen", subset)}
    lines = [
        gain_line(variant, row, frozen[setting_of(row)])
        for variant, adapter in trained(study.work)
        if subset == "base" or variant == ALL
        for row in study.rows(variant, adapter, subset)
    ]
    about = {
        "commit": git_commit(),
        "torch": str(torch.__version__),
        "device": device_name(resolve_device("auto")),
        "subset": subset,
        "encoder": study.encoder["name"],
        "image_size": study.encoder["image_size"],
        "steps": study.steps,
        "lines": lines,
    }
    file = study.work / f"report-{subset}.json"
    file.write_text(json.dumps(about, indent=1), encoding="utf-8")
    for line in lines:
        row = f"{line['variant']:15} {line['adapter']:12} {line['shot']}-shot"
        half_width = "-" if line["half_width"] is None else f"{line['half_width']:.1f}"
        gain = f"{line['accuracy']:5.1f} ({line['gain']:+5.1f} ± {half_width})"
        gain += other_clips_text(line)
        click.echo(f"{row}  {gain}  {line['head']}")
    click.echo(f"\n{file}")


if __name__ == "__main__":
    main()
