"""Comparison of the rows of runs in one call, as `fewshot-i2v compare` makes it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fewshot_i2v.errors import UsageError
from fewshot_i2v.report.comparison import baselines
from fewshot_i2v.report.comparison.compare import RowComparison, compare_rows
from fewshot_i2v.report.comparison.text import render_comparisons, verdict_sentence
from fewshot_i2v.runs.prediction_reader import RecordedRow
from fewshot_i2v.runs.run_index import check_runs


@dataclass(frozen=True)
class ComparisonTable:
    """Comparisons of rows, as one family of tests.

    Attributes:
        comparisons: one for each row and its baseline.
        not_compared: rows that have no baseline.
        level: of the intervals, and of all verdicts together.
    """

    comparisons: tuple[RowComparison, ...]
    not_compared: tuple[RecordedRow, ...]
    level: float

    def table(self, *, wide: bool = False, notes: bool = False) -> str:
        """Formats the comparisons as text for a terminal of 80 columns.

        Args:
            wide: show all columns, with full names.
            notes: show all notes in full.
        """
        return render_comparisons(
            self.comparisons, self.not_compared, level=self.level, wide=wide, all_notes=notes
        )

    def to_dict(self) -> dict[str, Any]:
        """Returns plain types, for JSON."""
        return {
            "level": self.level,
            "comparisons": [
                c.to_dict() | {"sentence": verdict_sentence(c, self.level)}
                for c in self.comparisons
            ],
            "not_compared": [str(row.summary.folder) for row in self.not_compared],
        }


def compare(
    *runs: str | Path,
    baseline: str | Path | None = None,
    all_pairs: bool = False,
    common: bool = False,
    across: Sequence[str] = (),
    level: float = 0.95,
) -> ComparisonTable:
    """Compares the rows of runs episode by episode, as `fewshot-i2v compare` does.

    Args:
        runs: run folders, or folders of some.
        baseline: compare with this row: an adapter, a name from the table, or a folder; None: the
            adapter frozen with the same head and shot.
        all_pairs: compare every two rows of the same shot; not with a baseline.
        common: compare the episodes that both rows have.
        across: keys that may differ, such as "encoder" or "video.frames".
        level: of the intervals, and of all verdicts together, above 0 and below 1.

    Raises:
        UsageError: when rows were not asked the same episodes, or nothing can be compared.
        UnknownNameError: for a baseline that no row has.
        RecordError: when a run folder is damaged.
    """
    if all_pairs and baseline is not None:
        raise UsageError("all_pairs (--all-pairs) needs no baseline: give either it or a baseline")
    baseline_folder = find_baseline_folder(baseline)
    folders = [*check_runs(runs), *([] if baseline_folder is None else [baseline_folder])]
    rows = baselines.read_compared_rows(folders)
    if baseline_folder is None:
        rows = baselines.merge_repeated(rows)
    unpaired: list[RecordedRow] = []
    pairs: list[baselines.RowPair]
    if all_pairs:
        pairs = baselines.all_pairs(rows)
    elif baseline is None:
        pairs, unpaired = baselines.pairs_with_frozen(rows)
    else:
        pairs, unpaired = baselines.pairs_with_baseline(rows, str(baseline), baseline_folder)
    comparisons = compare_rows(
        pairs, baselines.names_by_row(rows), level=level, common=common, across=across
    )
    return ComparisonTable(tuple(comparisons), tuple(unpaired), level)


def find_baseline_folder(baseline: str | Path | None) -> Path | None:
    """Returns the folder of runs that a baseline names, or None."""
    if baseline is None:
        return None
    folder = Path(baseline)
    return folder if folder.is_dir() and next(folder.rglob("run.json"), None) else None
