"""What fine-tuning and starting points bring, over frozen and over the same untuned.

    python scripts/tuning_gains.py RUN [RUN ...] --json FILE [--over START]

Gains are paired over the episodes that both rows have, in points, with 95 % intervals for these
clips and for other clips of these classes. A fresh adapter is compared with the frozen encoder,
whose features it gives before its first step, unless the run has its row of no steps. A head that
the frozen encoder has no row of is not compared with it.

With --over the rows of other starts are also compared with the untuned rows of this start: with
that of the same head, or where it has none with that of each of its heads.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePath
from typing import Any

import click
from _gains import points

from fewshot_i2v.report.comparison.baselines import names_by_row, read_compared_rows
from fewshot_i2v.report.comparison.compare import RowComparison, compare_rows
from fewshot_i2v.runs.prediction_reader import RecordedRow
from fewshot_i2v.runs.row_summary import RowSummary
from fewshot_i2v.runs.run_index import read_row

FROZEN, UNTUNED = "frozen", "the same untuned"
NamedPair = tuple[str, RecordedRow, RecordedRow]


def steps_of(row: RowSummary) -> int:
    """Returns the steps of an episode's fine-tuning."""
    return 0 if row.is_frozen else int(row.config["tuning"]["steps"])


def start_of(row: RowSummary) -> str:
    """Returns the name of a row's start, without the folders above it."""
    return PurePath(row.start_name or row.start).name


def rows_of_start(row: RecordedRow, rows: Sequence[RecordedRow], start: str) -> Iterator[NamedPair]:
    """Yields the untuned rows of a start that a row of another start is compared with."""
    summary = row.summary
    untuned = [
        r
        for r in rows
        if start_of(r.summary) == start
        and not steps_of(r.summary)
        and (r.summary.adapter, r.summary.shot) == (summary.adapter, summary.shot)
    ]
    same_head = [r for r in untuned if r.summary.head == summary.head]
    for baseline in (same_head or untuned) if start_of(summary) != start else ():
        yield (start if same_head else f"{start}, {baseline.summary.head}"), row, baseline


def baselines_of(row: RecordedRow, rows: Sequence[RecordedRow]) -> Iterator[NamedPair]:
    """Yields the rows that a row is compared with, each with what it is."""
    summary = row.summary
    if summary.is_frozen:
        return
    same = [r for r in rows if (r.summary.head, r.summary.shot) == (summary.head, summary.shot)]
    frozen = next((r for r in same if r.summary.is_frozen), None)
    if frozen is not None:
        yield FROZEN, row, frozen
    if steps_of(summary):
        setting = (summary.adapter, summary.start, summary.start_name)
        untuned = [
            r
            for r in same
            if (r.summary.adapter, r.summary.start, r.summary.start_name) == setting
            and not steps_of(r.summary)
        ]
        baseline = next(iter(untuned), frozen)
        if baseline is not None:
            yield UNTUNED, row, baseline


def row_line(row: RowSummary) -> dict[str, Any]:
    """Returns what the record says of a row alone."""
    cost, accuracy = read_row(row.folder), points(row.interval) or {}
    return {
        "commit": row.header.get("commit"),
        "adapter": row.adapter,
        "start": start_of(row),
        "steps": steps_of(row),
        "untuned_weight": row.config["tuning"].get("untuned_weight", 0.0),
        "min_loss": row.config["tuning"].get("min_loss", 0.0),
        "head": row.head,
        "shot": row.shot,
        "episodes": row.episodes,
        "accuracy": accuracy.get("mean"),
        "low": accuracy.get("low"),
        "high": accuracy.get("high"),
        "seconds_per_episode": cost.seconds_per_episode,
        "peak_memory_mb": cost.peak_memory_mb,
    }


def gain_of(comparison: RowComparison) -> dict[str, Any]:
    """Returns what the record says of a comparison."""
    return {
        "episodes": len(comparison.shared_episodes.indices),
        "these clips": points(comparison.difference),
        "other clips": points(comparison.other_clips),
    }


def gain_text(baseline: str, gain: dict[str, Any]) -> str:
    """Writes a gain for people."""
    texts = [
        f"[{interval['low']:+.1f}, {interval['high']:+.1f}]"
        for interval in (gain["these clips"], gain["other clips"])
        if interval is not None and interval["low"] is not None
    ]
    return f"{gain['these clips']['mean']:+5.1f} {' '.join(texts)} over {baseline}"


@click.command(help=__doc__)
@click.argument(
    "runs", type=click.Path(exists=True, file_okay=False, path_type=Path), nargs=-1, required=True
)
@click.option("--json", "file", type=click.Path(dir_okay=False, path_type=Path), required=True)
@click.option("--over", metavar="START", help="Also compare with the untuned rows of this start.")
def main(runs: tuple[Path, ...], file: Path, over: str | None) -> None:
    """Writes the record and prints a line per row."""
    rows = read_compared_rows(runs)
    if over is not None and over not in {start_of(row.summary) for row in rows}:
        raise click.BadParameter(f"{over}: no row has this start", param_hint="--over")
    pairs = [pair for row in rows for pair in baselines_of(row, rows)]
    if over is not None:
        pairs += [pair for row in rows for pair in rows_of_start(row, rows, over)]
    comparisons = compare_rows(
        [(row, baseline) for _, row, baseline in pairs], names_by_row(rows), common=True
    )
    gains: dict[RecordedRow, dict[str, Any]] = {}
    for (name, row, _), comparison in zip(pairs, comparisons, strict=True):
        gains.setdefault(row, {})[name] = gain_of(comparison)
    lines = [row_line(row.summary) | {"over": gains.get(row, {})} for row in rows]
    lines.sort(key=lambda line: (line["shot"], line["adapter"], line["start"], line["steps"]))
    file.write_text(json.dumps({"rows": lines}, indent=1) + "\n", encoding="utf-8")
    for line in lines:
        setting = f"{line['adapter']:12} {line['start']:13} {line['steps']:2} steps {line['head']}"
        gain_texts = "; ".join(gain_text(name, gain) for name, gain in line["over"].items())
        accuracy = f"{line['shot']}-shot {line['accuracy']:5.1f} of {line['episodes']}"
        click.echo(f"{setting} {accuracy}  {gain_texts}")


if __name__ == "__main__":
    main()
