"""Results of an evaluation and of its rows."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fewshot_i2v.report.tables.matrix import render_matrix
from fewshot_i2v.report.tables.result_text import render_table
from fewshot_i2v.runs.row_summary import RowSummary, merge_seeds
from fewshot_i2v.runs.stopping_record import StoppingRecord


@dataclass(frozen=True)
class EvaluationResult:
    """All rows of an evaluation.

    Attributes:
        rows: one per adapter, start, head and shot, in the order of the configuration.
        output: the folder that holds the run folders.
        way: classes of an episode; a range such as "5-10" where episodes differ.
        split: name of the split.
        encoder: name of the encoder.
        remarks: notes for the user about how the rows ran.
        stopped: the stopping record of a run with `until`, else None.
        setting: split, episodes and encoder in words; empty: from the attributes above.
    """

    rows: tuple[RowSummary, ...]
    output: Path
    way: int | str
    split: str
    encoder: str
    remarks: tuple[str, ...] = ()
    stopped: StoppingRecord | None = None
    setting: str = ""

    @property
    def failed(self) -> int:
        """Number of failed episodes over all rows."""
        return sum(row.failed for row in self.rows)

    @property
    def chance(self) -> float | None:
        """Accuracy of guessing, the mean over the episodes of the first row that has any."""
        return next((row.chance for row in self.rows if row.chance is not None), None)

    def table(
        self, *, columns: Collection[str] = (), wide: bool = False, notes: bool = False
    ) -> str:
        """The rows as text for a terminal of 80 columns, with what they decide and short notes.

        Args:
            columns: further columns: head, seeds, episodes, parameters, macs, seconds, memory.
            wide: show all columns.
            notes: show all notes in full.

        Raises:
            UnknownNameError: for a column that does not exist.
        """
        return render_table(
            merge_seeds(self.rows),
            way=self.way,
            chance=self.chance,
            setting=self.setting or f"split {self.split}, {self.way}-way, encoder {self.encoder}",
            stopping_note="" if self.stopped is None else self.stopped.sentence(),
            further=columns,
            wide=wide,
            all_notes=notes,
        )

    def recommendation(self) -> str:
        """Which row to use at each number of shots, and a list of what would change that, as text.

        What other clips would show takes the predictions: `fewshot-i2v recommend` reads them.
        """
        # numpy and scipy are loaded only where there is something to decide
        from fewshot_i2v.report.analysis.recommendation import recommend_rows
        from fewshot_i2v.report.analysis.report_data import LEVEL
        from fewshot_i2v.report.tables.decision_text import RowPhrases
        from fewshot_i2v.report.tables.recommendation_text import (
            paragraph_lines,
            recommendation_paragraphs,
        )

        rows = merge_seeds(self.rows)
        recommendations = recommend_rows(rows, LEVEL)
        paragraphs = recommendation_paragraphs(recommendations, RowPhrases.of(rows))
        return "\n".join(paragraph_lines(paragraphs))

    def matrix(self) -> str:
        """Adapters and starts against heads as Markdown, one table per number of shots."""
        return render_matrix(merge_seeds(self.rows), way=self.way, chance=self.chance)

    def to_dict(self) -> dict[str, Any]:
        """Returns plain types, for JSON."""
        return {
            "split": self.split,
            "encoder": self.encoder,
            "way": self.way,
            "output": str(self.output),
            "remarks": list(self.remarks),
            "until": None if self.stopped is None else asdict(self.stopped),
            "rows": [row.to_dict() for row in self.rows],
        }
