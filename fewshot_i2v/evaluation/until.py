"""Running on more and more episodes, until the means are known well enough."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict

from fewshot_i2v.evaluation.context import Workspace
from fewshot_i2v.evaluation.row_runner import RowRunner
from fewshot_i2v.runs.row_summary import RowResult, table_rows
from fewshot_i2v.runs.run_folder import RunFolder
from fewshot_i2v.runs.stopping_record import Stopped
from fewshot_i2v.statistics.sequential_stopping import decide


def run_until(
    points: float, work: Workspace, run_rows: Callable[[], list[RowResult]]
) -> tuple[list[RowResult], Stopped]:
    """Runs all rows on more episodes until every mean of the table is known well enough."""
    while True:
        rows = run_rows()
        count = min(map(len, work.specs.values()))
        values = [[row.accuracies.get(i) for i in range(count)] for row in table_rows(rows)]
        decision = decide(values, points / 100, cap=work.most)
        if decision.stop:
            widths, looks = decision.half_widths, decision.looks
            return rows, Stopped(points, decision.episodes, decision.met, widths, looks)
        work.draw(decision.episodes)


def note_end(runners: Sequence[RowRunner], rows: Sequence[RowResult], stopped: Stopped) -> None:
    """Writes down how it ended beside the figures of each row."""
    for runner, row in zip(runners, rows, strict=True):
        about, identity = runner.header()
        with RunFolder.open(row.folder, about, identity=identity) as folder:
            folder.write_summary(row.to_dict() | {"until": asdict(stopped)})
