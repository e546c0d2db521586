"""What fine-tuning brings in a run with `untuned: true`: over frozen and over the same untuned.

    python scripts/tuning_gains.py RUN [RUN ...] --json FILE

Gains are paired over the episodes that both rows have, in points, with 95 % intervals for these
clips and for other clips of these classes. A fresh adapter is compared with the frozen encoder,
whose features it gives before its first step, unless the run has its row of no steps.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
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


def baselines_of(row: RecordedRow, rows: Sequence[RecordedRow]) -> Iterator[NamedPair]:
    """Yields the rows that a row is compared with, each with what it is."""
    summary = row.summary
    if summary.is_frozen:
        return
    same = [r for r in rows if (r.summary.head, r.summary.shot) == (summary.head, summary.shot)]
    frozen = next(r for r in same if r.summary.is_frozen)
    yield FROZEN, row, frozen
    if steps_of(summary):
        setting = (summary.adapter, summary.start, summary.start_name)
        untuned = [
            r
            for r in same
            if (r.summary.adapter, r.summary.start, r.summary.start_name) == setting
            and not steps_of(r.summary)
        ]
        yield UNTUNED, row, next(iter(untuned), frozen)


def row_line(row: RowSummary) -> dict[str, Any]:
    """Returns what the record says of a row alone."""
    cost, accuracy = read_row(row.folder), points(row.interval) or {}
    return {
        "commit": row.header.get("commit"),
        "adapter": row.adapter,
        "start": row.start_name or row.start,
        "steps": steps_of(row),
        "untuned_weight": row.config["tuning"].get("untuned_weight", 0.0),
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
def main(runs: tuple[Path, ...], file: Path) -> None:
    """Writes the record and prints a line per row."""
    rows = read_compared_rows(runs)
    pairs = [pair for row in rows for pair in baselines_of(row, rows)]
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
        setting = f"{line['adapter']:12} {line['start']:13} {line['steps']:2} steps"
        over = "; ".join(gain_text(name, gain) for name, gain in line["over"].items())
        accuracy = f"{line['shot']}-shot {line['accuracy']:5.1f} of {line['episodes']}"
        click.echo(f"{setting} {accuracy}  {over}")


if __name__ == "__main__":
    main()
