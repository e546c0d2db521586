"""What starting points bring on `egogestar`: read in several ways, tuned, with shuffled frames.

    python scripts/study_starts.py OPTIONS read [--against WORK]
    python scripts/study_starts.py OPTIONS tune --adapter aim --shot 1
    python scripts/study_starts.py OPTIONS shuffle

with the same OPTIONS: --root (the clips), --architecture and --pretrained (the encoder), --work,
and --start for each folder that holds a start for each adapter, one folder for each training seed.
See README.md here.

`read` evaluates every start without tuning in several readouts, beside the frozen encoder in the
same readout and in the best one that needs no training. `tune` fine-tunes in each episode with the
recipe `auto`, from the starts or, with `--fresh`, from untrained adapters, and compares with the
same rows untuned. `shuffle` shows what is left when the frames of every clip are shuffled. Each
adds its lines to `report.json` of --work. Gains have a 95 % half-width for these clips, and an
interval for other clips of these classes. What was finished is not done again.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import click
import torch
from _gains import compare_pair_of_rows, half_width_gain, other_clips_text
from _study_encoder import encoder_keys, encoder_options

from fewshot_i2v import evaluate
from fewshot_i2v.runs.prediction_reader import (
    PredictionReader,
    RecordedRow,
    average_recorded_rows,
)
from fewshot_i2v.runs.row_summary import RowSummary
from fewshot_i2v.runs.run_index import read_row
from fewshot_i2v.statistics import mean_interval
from fewshot_i2v.tuning.run_context import resolve_device
from fewshot_i2v.utils.environment import device_name, git_commit

ADAPTERS = ("adaptformer", "aim", "full", "m-adapter", "st-adapter", "zeroi2v")
READOUTS = (
    "summary",
    "grid4",
    "grid4+motion",
    "grid4+frozen-motion",
    "summary+grid4+motion",
    "summary+grid4+frozen-motion",
)
BEST_TRAINING_FREE = "grid4+motion"
"""Of the frozen encoder; chosen on the base classes, see `readouts-egogestar.json`."""
TUNED = "summary+grid4+motion"
"""The readout of the recipes' searches."""
FRESH = "fresh"


def head_of(readout: str) -> str:
    """Names the head that compares a readout in order."""
    return f"prototype:center=true,pooling=ordered,tokens={readout}"


@dataclass(frozen=True)
class Rows:
    """The rows of one adapter, head and shot, one for each training seed.

    Attributes:
        rows: in the order of the seeds.
        recorded: all of them as one row, with its predictions.
    """

    rows: Sequence[RowSummary]
    recorded: RecordedRow

    def episodes(self) -> list[int]:
        """Numbers of the episodes that all rows have, in order."""
        return sorted(set.intersection(*(set(row.accuracies) for row in self.rows)))

    def accuracies(self, episodes: Iterable[int]) -> list[float]:
        """Accuracy in percent of each of `episodes`, its mean over the seeds."""
        return [100 * mean(row.accuracies[i] for row in self.rows) for i in episodes]

    def gain_over(self, other: Rows) -> dict[str, Any]:
        """Compares the episodes that both have, in points."""
        # the order of frames differs where shuffled rows are compared with the same not shuffled
        return half_width_gain(
            compare_pair_of_rows(self.recorded, other.recorded, across=["frame_order"])
        )

    def line(self) -> dict[str, Any]:
        """What the record says of these rows alone."""
        episodes, first = self.episodes(), self.rows[0]
        accuracies = self.accuracies(episodes)
        by_seed = [100 * mean(row.accuracies[i] for i in episodes) for row in self.rows]
        half_width = mean_interval(accuracies).half_width
        return {
            "adapter": first.adapter,
            "head": first.head,
            "shot": first.shot,
            "seeds": len(self.rows),
            "episodes": len(episodes),
            "accuracy": round(mean(accuracies), 2),
            "half_width": None if half_width is None else round(half_width, 2),
            "by_seed": [round(accuracy, 2) for accuracy in by_seed],
            "between_seeds": round(stdev(by_seed), 2) if len(by_seed) > 1 else None,
            "seconds_per_episode": first.seconds_per_episode,
            "peak_memory_mb": first.peak_memory_mb,
        }


Table = dict[tuple[str, str, Any], Rows]


def by_setting(rows: Iterable[RowSummary], reader: PredictionReader) -> Table:
    """Groups rows of several seeds by adapter, head and shot, and reads their predictions."""
    groups: dict[tuple[str, str, Any], list[RowSummary]] = {}
    for row in rows:
        groups.setdefault((row.adapter, row.head, row.shot), []).append(row)
    return {
        setting: Rows(members, average_recorded_rows([reader.read(row.folder) for row in members]))
        for setting, members in groups.items()
    }


def text_of(line: Mapping[str, Any]) -> str:
    """Writes a line of the record for people."""
    row = f"{line['adapter']:12} {line['start']:12} {line['shot']}-shot {line['head']}"
    gains = [
        f"{gain['gain']:+.1f} ± {gain['half_width']}{other_clips_text(gain)} over {other}"
        for other, gain in line["over"].items()
    ]
    return f"{row}: {line['accuracy']:.1f} ± {line['half_width']}; {', '.join(gains)}"


@dataclass(frozen=True)
class Study:
    """Where the clips, the encoder and the starts are, and where results go.

    Attributes:
        common: keys that all evaluations share.
        work: a folder.
        starts: folders with a start for each adapter, one for each training seed.
        reader: of the predictions of all rows.
    """

    common: Mapping[str, Any]
    work: Path
    starts: Sequence[Path]
    reader: PredictionReader = field(default_factory=PredictionReader)

    def rows(self, name: str, adapter: str, readouts: Sequence[str], **keys: Any) -> Table:
        """Evaluates one adapter from all starts that have it; fresh where none has."""
        starts = [str(s) for s in self.starts if (s / adapter / "adapter.json").is_file()]
        result = evaluate(
            {
                "split": "egogestar",
                "subset": "novel",
                "way": 5,
                "shot": [1, 5],
                "query": 5,
                "video": {"frames": 8, "policy": "segment-center"},
                **self.common,
                "adapter": [adapter],
                "start": starts or [FRESH],
                "head": [head_of(readout) for readout in readouts],
                "output": str(self.work / f"{name}-{adapter}"),
                **keys,
            }
        )
        return by_setting(result.rows, self.reader)

    def untuned(self, adapter: str, episodes: int, name: str = "read", **keys: Any) -> Table:
        """Evaluates one adapter in all readouts without tuning."""
        still = {"tuning": {"steps": 0, "recipe": "none"}, "episodes": episodes}
        return self.rows(name, adapter, READOUTS, **still, **keys)

    def finished(self, work: Path) -> Table:
        """Reads the rows of these adapters that `read` with another --work wrote."""
        folders = [folder for a in self.trained() for folder in (work / f"read-{a}").glob("*/")]
        return by_setting([read_row(folder) for folder in sorted(folders)], self.reader)

    def trained(self) -> list[str]:
        """Adapters that a start is there for."""
        return [a for a in ADAPTERS if any((s / a / "adapter.json").is_file() for s in self.starts)]

    def record(self, part: str, lines: Sequence[Mapping[str, Any]]) -> None:
        """Adds lines to the report, in place of those of the same setting, and prints them."""
        file = self.work / "report.json"
        report = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
        encoder = self.common["encoder"]
        report["about"] = {
            "torch": str(torch.__version__),
            "device": device_name(resolve_device("auto")),
            "encoder": encoder["name"],
            "image_size": encoder["image_size"],
            "split": "egogestar, novel, 5-way, 5 queries a class",
        }
        new = [{"commit": git_commit(), **line} for line in lines]
        keys = ("adapter", "start", "head", "shot")
        replaced = {tuple(line[key] for key in keys) for line in new}
        old = [
            line for line in report.get(part, []) if tuple(line[k] for k in keys) not in replaced
        ]
        report[part] = old + new
        file.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
        for line in new:
            click.echo(text_of(line))


@click.group(help=__doc__)
@encoder_options
@click.option(
    "--start",
    "starts",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    multiple=True,
    required=True,
    help="Folder with a start for each adapter; one for each training seed.",
)
@click.option("--precision", default="auto", show_default=True)
@click.pass_context
def main(
    context: click.Context,
    /,
    root: Path,
    work: Path,
    cache: str | None,
    starts: tuple[Path, ...],
    precision: str,
    **encoder: Any,
) -> None:
    """Reads what the commands share."""
    common = {"root": str(root), "encoder": encoder_keys(**encoder), "cache": cache}
    context.obj = Study(common | {"precision": precision}, work, starts)


@main.command()
@click.option("--episodes", default=200, show_default=True)
@click.option(
    "--against",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="--work of another `read`, whose rows of the same adapters are compared with, too.",
)
@click.pass_obj
def read(study: Study, episodes: int, against: Path | None) -> None:
    """Reads all starts without tuning, in several readouts."""
    frozen = study.untuned("frozen", episodes)
    tables = {adapter: study.untuned(adapter, episodes) for adapter in study.trained()}
    others = {} if against is None else {against.name: study.finished(against)}
    lines = []
    for table in (frozen, *tables.values()):
        for (_, head, shot), rows in table.items():
            over = {
                "frozen in the same readout": frozen["frozen", head, shot],
                "best training-free": frozen["frozen", head_of(BEST_TRAINING_FREE), shot],
            }
            setting = rows.rows[0].adapter, head, shot
            over |= {name: other[setting] for name, other in others.items() if setting in other}
            gains = {name: rows.gain_over(other) for name, other in over.items()}
            lines.append({**rows.line(), "start": rows.rows[0].start, "over": gains})
    study.record("read", lines)


@main.command()
@click.option("--adapter", type=click.Choice(ADAPTERS), required=True)
@click.option("--shot", type=int, required=True)
@click.option("--readout", default=TUNED, show_default=True, help="Of the loss and of the answer.")
@click.option("--fresh", is_flag=True, help="Untrained adapters, whatever starts there are.")
@click.option("--episodes", default=40, show_default=True)
@click.pass_obj
def tune(study: Study, adapter: str, shot: int, readout: str, fresh: bool, episodes: int) -> None:
    """Fine-tunes one adapter in each episode."""
    keys: dict[str, Any] = {"shot": [shot], "episodes": episodes}
    if fresh:
        keys["start"] = [FRESH]
    still = {"tuning": {"steps": 0, "recipe": "none"}}
    kind = "fresh" if fresh else "trained"
    name = f"{kind}-{shot}-shot-{readout}"
    untuned = study.rows(f"untuned-{name}", adapter, [readout], **keys, **still)
    frozen = study.rows("frozen", "frozen", [BEST_TRAINING_FREE, readout], **keys, **still)
    tuned = study.rows(f"tuned-{name}", adapter, [readout], **keys)
    lines = []
    for setting, rows in tuned.items():
        over = {
            "the same untuned": untuned[setting],
            "frozen in the same readout": frozen["frozen", head_of(readout), shot],
            "best training-free": frozen["frozen", head_of(BEST_TRAINING_FREE), shot],
        }
        gains = {name: rows.gain_over(other) for name, other in over.items()}
        lines.append({**rows.line(), "start": rows.rows[0].start, "over": gains})
    study.record("tuned", lines)


@main.command()
@click.option("--episodes", default=200, show_default=True)
@click.pass_obj
def shuffle(study: Study, episodes: int) -> None:
    """Reads all starts without tuning where the frames of every clip are shuffled."""
    lines = []
    for adapter in ("frozen", *study.trained()):
        natural = study.untuned(adapter, episodes)
        shuffled = study.untuned(adapter, episodes, "shuffled", frame_order="shuffled")
        for setting, rows in shuffled.items():
            over = {"natural order": rows.gain_over(natural[setting])}
            lines.append({**rows.line(), "start": rows.rows[0].start, "over": over})
    study.record("shuffled", lines)


if __name__ == "__main__":
    main()
