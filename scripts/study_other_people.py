"""Whether base training on real clips brings as much on other people: `egogestar` in two halves.

    python scripts/study_other_people.py OPTIONS split
    python scripts/study_other_people.py OPTIONS train --adapter aim
    python scripts/study_other_people.py OPTIONS report --adapter aim

with the same OPTIONS: --root (the clips), --architecture and --pretrained (the encoder), --work.
See README.md here.

Almost every novel clip of `egogestar` shows a person and a place that base clips show, too. Here
its groups, the serial numbers of its files, are cut in two: serials 1 to 11 and 12 to 22, so that
neighbours, which often share person and place, stay together. `split` writes a split for each
half, with the same number of clips in every class. `train` trains on the base classes of each half.
`report` reads every start on the novel classes of both halves: of its own half and of the other. A
difference on the same half is one of the same episodes, and in its mean over both halves neither
the better training half nor the easier test half counts. What was finished is not done again.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import hypot
from pathlib import Path
from typing import Any

import click
import torch
import yaml
from _gains import compare_pair_of_rows, half_width_gain
from _study_encoder import encoder_keys, encoder_options
from study_starts import ADAPTERS, BEST_TRAINING_FREE, Rows, Table, by_setting, head_of

from fewshot_i2v import evaluate
from fewshot_i2v.config.loading import load_train_config
from fewshot_i2v.runs.prediction_reader import PredictionReader
from fewshot_i2v.training.train import train as train_start
from fewshot_i2v.tuning.run_context import resolve_device
from fewshot_i2v.utils.environment import device_name, git_commit

SPLIT = Path(__file__).resolve().parents[1] / "episodes" / "egogestar.yaml"
HALVES: Mapping[str, range] = {"serials-1-11": range(1, 12), "serials-12-22": range(12, 23)}
SEEDS = (0, 1, 2)
READOUTS = ("summary", BEST_TRAINING_FREE, "summary+grid4+motion")
CLIPS_PER_CLASS = 6
"""Of a half; the smaller one has no more."""
SHOTS: Mapping[int, int] = {1: 5, 5: 1}
"""Query clips of a class by number of shots."""


def serial_of(clip: str) -> int:
    """Reads the serial number from the name of a clip."""
    found = re.search(r"_(\d+)\.mp4$", clip)
    if found is None:
        raise ValueError(f"{clip}: its name has no serial number")
    return int(found[1])


def split_half(split: Mapping[str, Any], name: str, clips_per_class: int) -> dict[str, Any]:
    """Cuts a half out of a split, with so many clips of each class.

    Args:
        split: what the file of `egogestar` has.
        name: a half.
        clips_per_class: those nearest to the other half are left out.

    Raises:
        ValueError: a class has fewer.
    """
    serials = HALVES[name]
    # the serials farthest from the other half come first
    order = sorted(serials, reverse=serials.start > 1)
    half = {**split, "name": f"{split['name']}-{name}", "subsets": {}}
    for subset, classes in split["subsets"].items():
        half["subsets"][subset] = {}
        for label, clips in classes.items():
            own = sorted(
                (c for c in clips if serial_of(c) in serials),
                key=lambda c: order.index(serial_of(c)),
            )
            if len(own) < clips_per_class:
                raise ValueError(f"class {label}: {len(own)} clips, {clips_per_class} are needed")
            half["subsets"][subset][label] = own[:clips_per_class]
    return half


@dataclass(frozen=True)
class Study:
    """Where the clips and the encoder are, and where results go.

    Attributes:
        common: keys that all trainings and evaluations share.
        work: a folder.
        episodes: of each evaluation.
        steps: of a training.
        reader: of the predictions of all rows.
    """

    common: Mapping[str, Any]
    work: Path
    episodes: int
    steps: int
    reader: PredictionReader = field(default_factory=PredictionReader)

    def split_file(self, half: str) -> Path:
        """Names the split of a half."""
        return self.work / f"egogestar-{half}.yaml"

    def start(self, half: str, seed: int, adapter: str) -> Path:
        """Names the folder of a start."""
        return self.work / half / f"seed-{seed}" / adapter

    def rows(self, tested: str, name: str, adapter: str, shot: int, start: Sequence[str]) -> Table:
        """Evaluates one adapter without tuning on the novel classes of a half."""
        result = evaluate(
            {
                "split": str(self.split_file(tested)),
                "subset": "novel",
                "way": 5,
                "query": SHOTS[shot],
                "video": {"frames": 8, "policy": "segment-center"},
                **self.common,
                "adapter": [adapter],
                "start": list(start),
                "shot": [shot],
                "head": [head_of(readout) for readout in READOUTS],
                "tuning": {"steps": 0, "recipe": "none"},
                "episodes": self.episodes,
                "output": str(self.work / f"on-{tested}-{shot}-shot-{name}"),
            }
        )
        return by_setting(result.rows, self.reader)

    def trained_on(self, half: str, tested: str, adapter: str, shot: int) -> Table:
        """Evaluates the starts of one half, all seeds, on the novel classes of a half."""
        starts = [str(self.start(half, seed, adapter)) for seed in SEEDS]
        return self.rows(tested, f"from-{half}-{adapter}", adapter, shot, starts)


def mean_of_halves(gains: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    """Averages gains in points over the halves, whose clips and episodes are not the same.

    Returns:
        The mean, and its half-width for these clips; None where a gain has none.
    """
    half_widths = [gain["half_width"] for gain in gains]
    unknown = None in half_widths
    return {
        "gain": round(sum(gain["gain"] for gain in gains) / len(gains), 2),
        "half_width": None if unknown else round(hypot(*half_widths) / len(gains), 2),
    }


def compare_people(study: Study, adapter: str, shot: int) -> list[dict[str, Any]]:
    """Compares starts on their own half and on the other, one line for each readout."""
    tables: dict[tuple[str, str], Table] = {}
    for tested in HALVES:
        tables["frozen", tested] = study.rows(tested, "frozen", "frozen", shot, ["fresh"])
        for half in HALVES:
            tables[half, tested] = study.trained_on(half, tested, adapter, shot)
    return [line_of(tables, adapter, head_of(readout), shot) for readout in READOUTS]


def line_of(
    tables: Mapping[tuple[str, str], Table], adapter: str, head: str, shot: int
) -> dict[str, Any]:
    """Builds the line of a head and a number of shots."""
    line: dict[str, Any] = {"adapter": adapter, "head": head, "shot": shot, "tested on": {}}
    for tested in HALVES:
        (other,) = (half for half in HALVES if half != tested)
        own_rows = tables[tested, tested][adapter, head, shot]
        other_rows = tables[other, tested][adapter, head, shot]
        frozen = tables["frozen", tested]["frozen", head, shot]
        line["tested on"][tested] = {
            "frozen": frozen.line()["accuracy"],
            "start of the same people": own_rows.line(),
            "start of other people": other_rows.line(),
            "same people over frozen": gain_over(own_rows, frozen),
            "other people over frozen": gain_over(other_rows, frozen),
            "same people over other people": gain_over(own_rows, other_rows),
        }
    for key in (
        "same people over frozen",
        "other people over frozen",
        "same people over other people",
    ):
        line[key] = mean_of_halves([half[key] for half in line["tested on"].values()])
    return line


def gain_over(rows: Rows, other: Rows) -> dict[str, Any]:
    """Compares rows of two starts, or of a start and the frozen encoder, in points."""
    return half_width_gain(compare_pair_of_rows(rows.recorded, other.recorded))


@click.group(help=__doc__)
@encoder_options
@click.option("--precision", default="auto", show_default=True)
@click.option("--episodes", default=200, show_default=True, help="Of each evaluation.")
@click.option("--steps", default=100, show_default=True, help="Of a training.")
@click.pass_context
def main(
    context: click.Context,
    /,
    root: Path,
    work: Path,
    cache: str | None,
    precision: str,
    episodes: int,
    steps: int,
    **encoder: Any,
) -> None:
    """Reads what the commands share."""
    common = {"root": str(root), "encoder": encoder_keys(**encoder), "cache": cache}
    context.obj = Study(common | {"precision": precision}, work, episodes, steps)


@main.command()
@click.pass_obj
def split(study: Study) -> None:
    """Writes a split for each half."""
    whole = yaml.safe_load(SPLIT.read_text(encoding="utf-8"))
    study.work.mkdir(parents=True, exist_ok=True)
    for half in HALVES:
        text = yaml.safe_dump(split_half(whole, half, CLIPS_PER_CLASS), sort_keys=False)
        study.split_file(half).write_text(text, encoding="utf-8")
        click.echo(str(study.split_file(half)))


@main.command()
@click.option("--adapter", type=click.Choice(ADAPTERS), required=True)
@click.pass_obj
def train(study: Study, adapter: str) -> None:
    """Trains an adapter on the base classes of each half, from three seeds."""
    for seed in SEEDS:
        for half in HALVES:
            given = {
                "adapter": adapter,
                "split": str(study.split_file(half)),
                "steps": study.steps,
                "seed": seed,
                "output": str(study.start(half, seed, adapter)),
            }
            config = load_train_config("train/egogestar", {**study.common, **given})
            train_start(config, progress=True, log=click.echo)


@main.command()
@click.option("--adapter", type=click.Choice(ADAPTERS), required=True)
@click.pass_obj
def report(study: Study, adapter: str) -> None:
    """Reads all starts on the novel classes of both halves and writes `report.json`."""
    file = study.work / "report.json"
    about = {
        "commit": git_commit(),
        "torch": str(torch.__version__),
        "device": device_name(resolve_device("auto")),
        "encoder": study.common["encoder"]["name"],
        "image_size": study.common["encoder"]["image_size"],
        "seeds": len(SEEDS),
        "episodes": study.episodes,
    }
    written = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    lines = [line for line in written.get("lines", []) if line["adapter"] != adapter]
    for shot in SHOTS:
        for line in compare_people(study, adapter, shot):
            lines.append(line)
            gains = (
                f"{key} {line[key]['gain']:+.1f} ± {line[key]['half_width']}"
                for key in line
                if "over" in key
            )
            click.echo(f"{adapter} {shot}-shot {line['head']}: {', '.join(gains)}")
    file.write_text(json.dumps({"about": about, "lines": lines}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
