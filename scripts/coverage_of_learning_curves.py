"""How often `fewshot_i2v.statistics.learning_curve` says what more labelled clips bring.

    python scripts/coverage_of_learning_curves.py RUN... --json FILE

RUN are folders of finished evaluations without fine-tuning, each row with many numbers of
labelled clips per class. Of each row the first three and more numbers of clips are taken as if
they were all, with the first 30 episodes and with all; then what is expected of larger ones, up
to four times as many, is held against what was measured there over all episodes. `error` is
expected less measured, in points; `within` is how often the measured accuracy is in the range,
`below` and `above` how often it is outside. Then the same for the numbers of clips: the accuracy
measured with each larger number is the target, and `enough` is how often that number is at least
the least one that was said.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np

from fewshot_i2v.report.comparison.baselines import names_by_row
from fewshot_i2v.report.plan.basis import read_one_evaluation
from fewshot_i2v.runs.prediction_reader import RecordedRow
from fewshot_i2v.statistics.learning_curve import MAX_FACTOR, WINDOW, fit_learning_curve
from fewshot_i2v.utils.environment import git_commit

PILOT = 30
"""Episodes of a short first run."""


@dataclass(frozen=True)
class Case:
    """One expectation beside what was measured.

    Attributes:
        factor: clips per class, times the most that were taken as measured.
        error: expected less measured accuracy, in points.
        side: of the range: -1 where the measured accuracy is below, 1 above, 0 within.
        is_enough: whether the clips are at least the least number said for their accuracy; None
            where fewer clips reach it already.
    """

    factor: float
    error: float
    side: int
    is_enough: bool | None


def cases_of(rows: Mapping[int, RecordedRow], n_episodes: int | None) -> Iterator[Case]:
    """Holds each expectation of a row against what was measured with more clips.

    Args:
        rows: by labelled clips per class.
        n_episodes: the first ones that the expectations come from; None: all.
    """
    shots = sorted(rows)
    for n_measured in range(WINDOW, len(shots)):
        accuracies, answers = {}, {}
        for shot in shots[:n_measured]:
            indices = sorted(rows[shot].summary.accuracies)[:n_episodes]
            accuracies[shot] = {i: rows[shot].summary.accuracies[i] for i in indices}
            answers[shot] = len(rows[shot].select(indices)[0].correct)
        curve = fit_learning_curve(accuracies, answers)
        best = max(np.mean([*values.values()]) for values in accuracies.values())
        for shot in shots[n_measured:]:
            if shot > curve.limit:
                break
            measured = float(np.mean([*rows[shot].summary.accuracies.values()]))
            expected, is_enough = curve.expect(shot), None
            if measured > best:
                least = curve.shots_for(measured).least
                is_enough = least is not None and least <= shot
            side = int(measured > expected.high) - int(measured < expected.low)
            error = 100 * (expected.mean - measured)
            yield Case(shot / curve.shots[-1], error, side, is_enough)


def summarize(cases: Sequence[Case]) -> dict[str, Any]:
    """Builds a line of the record."""
    errors = np.array([case.error for case in cases])
    enough = [case.is_enough for case in cases if case.is_enough is not None]
    return {
        "expectations": len(cases),
        "error, mean": round(float(errors.mean()), 2),
        "error, median of sizes": round(float(np.median(np.abs(errors))), 2),
        "error, 95 % of sizes within": round(float(np.quantile(np.abs(errors), 0.95)), 2),
        "within, %": round(100 * float(np.mean([case.side == 0 for case in cases])), 1),
        "below, %": round(100 * float(np.mean([case.side < 0 for case in cases])), 1),
        "above, %": round(100 * float(np.mean([case.side > 0 for case in cases])), 1),
        "enough, %": round(100 * float(np.mean(enough)), 1) if enough else None,
    }


@click.command()
@click.argument("runs", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--json", "out", type=click.Path(path_type=Path), required=True)
def main(runs: Sequence[Path], out: Path) -> None:
    """Measure how often learning curves of RUNS say what more clips bring."""
    groups: dict[tuple[str, str, str], list[Case]] = {}
    curves = []
    for run in runs:
        by_name: dict[str, dict[int, RecordedRow]] = {}
        for row, name in names_by_row(read_one_evaluation(run, ())).items():
            if isinstance(row.summary.shot, int):
                by_name.setdefault(name, {})[row.summary.shot] = row
        for name, rows in by_name.items():
            means = {
                shot: round(100 * float(np.mean([*row.summary.accuracies.values()])), 2)
                for shot, row in sorted(rows.items())
            }
            curves.append({"run": run.name, "row": name, "accuracy": means})
            for label, n_episodes in ((f"{PILOT} episodes", PILOT), ("all episodes", None)):
                for case in cases_of(rows, n_episodes):
                    reach = "up to 2 times" if case.factor <= 2 else f"2 to {MAX_FACTOR} times"
                    for key in (run.name, "all runs"):
                        groups.setdefault((key, label, reach), []).append(case)
    lines = [
        {"run": run, "from": label, "clips": reach, **summarize(cases)}
        for (run, label, reach), cases in groups.items()
    ]
    for line in lines:
        click.echo("  ".join(f"{key} {value}" for key, value in line.items()))
    record = {"about": {"commit": git_commit()}, "lines": lines, "curves": curves}
    out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
