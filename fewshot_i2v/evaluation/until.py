"""Runs with `until`: more and more episodes, until the intervals are short enough."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict

from fewshot_i2v.evaluation.context import EvaluationContext
from fewshot_i2v.evaluation.row_runner import RowRunner
from fewshot_i2v.runs.row_summary import RowResult, table_rows
from fewshot_i2v.runs.run_folder import RunFolder
from fewshot_i2v.runs.stopping_record import StoppingRecord
from fewshot_i2v.statistics.sequential_stopping import decide_stopping


def run_until(
    points: float, context: EvaluationContext, run_rows: Callable[[], list[RowResult]]
) -> tuple[list[RowResult], StoppingRecord]:
    """Runs all rows on more episodes until all intervals are short enough, or none remain."""
    while True:
        rows = run_rows()
        count = min(map(len, context.episodes.values()))
        values = [[row.accuracies.get(i) for i in range(count)] for row in table_rows(rows)]
        decision = decide_stopping(values, points / 100, cap=context.max_episodes)
        if decision.stop:
            half_widths, looks = decision.half_widths, decision.looks
            return rows, StoppingRecord(
                points, decision.episodes, decision.target_met, half_widths, looks
            )
        context.draw(decision.episodes)


def record_stopping(
    runners: Sequence[RowRunner], rows: Sequence[RowResult], stopped: StoppingRecord
) -> None:
    """Writes the stopping record into the summary of each row."""
    for runner, row in zip(runners, rows, strict=True):
        facts, identity = runner.header()
        with RunFolder.open(row.folder, facts, identity=identity) as folder:
            folder.write_summary(row.to_dict() | {"until": asdict(stopped)})
