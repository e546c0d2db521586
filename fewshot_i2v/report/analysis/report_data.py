"""What a page is made from: the rows of each table with what was found in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import PurePath
from typing import Any

from fewshot_i2v.report.analysis.generalization import Reach, reach
from fewshot_i2v.report.analysis.run_analysis import Findings, Measures, measures_of
from fewshot_i2v.report.analysis.significance import Against, Best, against_frozen, best_rows
from fewshot_i2v.runs.row_summary import FRESH, TableRow, is_frozen, over_seeds

LEVEL = 0.95
"""Of all intervals of a page."""
_STARTS = (FRESH, "base-trained", "meta-trained")


@dataclass(frozen=True, eq=False)
class Row:
    """One row of a table with what was found in its records.

    Attributes:
        table: as the table shows it.
        findings: classes, confusions, calibration and extreme episodes.
        header: content of its `run.json`.
        folder: the run folder as the user gave it.
        others: those of its other training seeds.
    """

    table: TableRow
    findings: Findings = field(repr=False)
    header: Mapping[str, Any] = field(repr=False)
    folder: str
    others: tuple[str, ...] = ()

    @cached_property
    def measures(self) -> Measures | None:
        """What it is judged by beyond its accuracy; None where no episode succeeded."""
        return measures_of(self.findings, LEVEL)

    @cached_property
    def reach(self) -> Reach | None:
        """What its accuracy says of other clips, classes and seeds; None where there is none."""
        seeds, table = self.findings.outcomes, self.table
        if not seeds:
            return None
        return reach(table.adapter, table.shot, seeds, shared=table.shared, level=LEVEL)


@dataclass(frozen=True)
class Recipe:
    """How to run an evaluation again.

    Attributes:
        folder: the evaluation, as the user gave it.
        config: a configuration as YAML text.
        command: what to type once that is saved as run.yaml.
        remarks: what must be known about it, a sentence each.
    """

    folder: str
    config: str
    command: str
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Section:
    """One table: rows that were asked the same episodes of the same encoder.

    Attributes:
        title: what it is of, in a few words.
        setting: the setting in words.
        way: classes of an episode, or a text such as "5-10".
        chance: accuracy of guessing, 0..1; None: 1 / way.
        rows: in the order to show them; those of several training seeds are one already.
        recipes: how to run it again, one for each evaluation that rows are of.
        clips: film strips as `data:` addresses, by clip name.
        clips_note: why clips are not shown, or what is shown of them; or empty.
        detail: name of the run folder whose row is shown in detail; None: the best one of the
            fewest shots.
        stopped: how evaluations ended that drew episodes until means were known well enough.
    """

    title: str
    setting: str
    way: int | str
    chance: float | None
    rows: tuple[Row, ...]
    recipes: tuple[Recipe, ...] = ()
    clips: Mapping[str, str] = field(default_factory=dict, repr=False)
    clips_note: str = ""
    detail: str | None = None
    stopped: tuple[str, ...] = ()

    @property
    def table_rows(self) -> list[TableRow]:
        """The rows as tables have them."""
        return [row.table for row in self.rows]

    @cached_property
    def verdicts(self) -> tuple[dict[int, Against], dict[int | str, Best]]:
        """Each row against frozen, by place, and the best row of each number of shots."""
        rows, findings = self.table_rows, [row.findings for row in self.rows]
        return against_frozen(rows, LEVEL, findings), best_rows(rows, LEVEL, findings)

    def detailed(self) -> int | None:
        """Place of the row that is shown in detail; None where no episode succeeded."""
        for i, row in enumerate(self.rows):
            if self.detail in {PurePath(folder).name for folder in (row.folder, *row.others)}:
                return i
        best = best_rows(self.table_rows, LEVEL)
        if best:
            return next(iter(best.values())).row
        return next((i for i, row in enumerate(self.rows) if row.table.accuracies), None)


def in_order(rows: Sequence[Row]) -> list[Row]:
    """Rows of an adapter together, the frozen encoder first; then by start, head and shots.

    Args:
        rows: in the order of their runs, which is kept where nothing else decides.
    """
    tables = sorted((row.table for row in rows), key=lambda table: not is_frozen(table))
    adapters = list(dict.fromkeys(table.adapter for table in tables))
    heads = list(dict.fromkeys(row.table.head for row in rows))
    shots = sorted({t.shot for t in tables}, key=lambda shot: (isinstance(shot, str), shot))

    def _key(row: Row) -> tuple[object, ...]:
        t = row.table
        start = _STARTS.index(t.start) if t.start in _STARTS else len(_STARTS)
        places = adapters.index(t.adapter), start, t.start_name, heads.index(t.head)
        return *places, shots.index(t.shot), t.training_seed or 0

    return sorted(rows, key=_key)


def merged(rows: Sequence[Row]) -> tuple[Row, ...]:
    """Rows that differ in the training seed alone become one, in the place of the first."""
    groups: dict[tuple[object, ...], list[Row]] = {}
    for i, row in enumerate(rows):
        key = (i,) if row.table.training_seed is None else row.table.alike
        groups.setdefault(key, []).append(row)
    return tuple(
        Row(
            over_seeds([row.table for row in group])[0],
            Findings.merged([row.findings for row in group]),
            _header(group),
            group[0].folder,
            tuple(row.folder for row in group[1:]),
        )
        for group in groups.values()
    )


def _header(group: Sequence[Row]) -> Mapping[str, Any]:
    """The header of the first row, with the training seeds of all."""
    first = group[0].header
    if len(group) == 1:
        return first
    seeds = ", ".join(str(row.table.training_seed) for row in group)
    config = {**first["identity"]["config"], "training_seed": seeds}
    return {**first, "identity": {**first["identity"], "config": config}}
