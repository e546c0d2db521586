"""Export of the tables of a report as Markdown, LaTeX, CSV or JSON."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from fewshot_i2v.errors import DiskError, UsageError
from fewshot_i2v.report.analysis.frame_order import (
    CHANGED_ORDERS,
    FrameOrderLoss,
    frame_order_losses,
    frame_order_of,
)
from fewshot_i2v.report.analysis.generalization import (
    OTHER_CLASSES,
    OTHER_CLIPS,
    OTHER_SEEDS,
    GeneralizationIntervals,
)
from fewshot_i2v.report.analysis.report_data import LEVEL, ReportRow, ReportSection
from fewshot_i2v.report.analysis.run_analysis import CalibrationMetrics
from fewshot_i2v.report.analysis.significance import GainVerdict
from fewshot_i2v.report.comparison.compare import clips_clause
from fewshot_i2v.report.page.summary_text import section_summary
from fewshot_i2v.report.tables.extra_tables import (
    ExtraTable,
    ReliabilityBin,
    calibration_table,
    frame_order_table,
    generalization_table,
    reliability_bins,
)
from fewshot_i2v.report.tables.table import LEFT_COLUMNS, AccuracyTable, accuracy_table
from fewshot_i2v.statistics import Interval
from fewshot_i2v.utils.files import replace_file, sync_folder
from fewshot_i2v.utils.text_table import escape_name


def row_to_dict(
    section: ReportSection,
    row: ReportRow,
    mean: Interval | None,
    gain: Interval | None,
    verdict: GainVerdict | None,
    loss: FrameOrderLoss | None,
) -> dict[str, Any]:
    """All values of a row as a dictionary; shares are 0..1, and every row has the same keys.

    Args:
        section: that it is in.
        row: the row.
        mean: its accuracy.
        gain: over the frozen encoder.
        verdict: on that gain.
        loss: with its frames in other orders.
    """
    return (
        _summary_values(section, row, mean, gain)
        | _verdict_values(verdict)
        | _metric_values(row.metrics)
        | _generalization_values(row.generalization)
        | {
            "reliability": [
                _bin_values(reliability_bin) for reliability_bin in reliability_bins([row])
            ]
        }
        | _frame_order_values(row, loss)
        | {"folder": row.folder}
    )


def _summary_values(
    section: ReportSection, row: ReportRow, mean: Interval | None, gain: Interval | None
) -> dict[str, Any]:
    t = row.table
    return {
        "table": section.title,
        "setting": section.setting,
        "adapter": escape_name(t.adapter),
        "note": t.note,
        "start": t.start,
        "start_name": t.start_name,
        "seen": t.seen,
        "head": t.head,
        "uses_names": t.uses_names,
        "way": section.way,
        "shot": t.shot,
        "accuracy": None if mean is None else mean.mean,
        "accuracy_low": None if mean is None else mean.low,
        "accuracy_high": None if mean is None else mean.high,
        "over_frozen": None if gain is None else gain.mean,
        "over_frozen_low": None if gain is None else gain.low,
        "over_frozen_high": None if gain is None else gain.high,
        "level": LEVEL,
        "method": None if mean is None else mean.method,
        "interval_covers": None if mean is None else mean.covers,
        "training_seeds": len(t.seed_means) or 1,
        "seed_deviation": t.seed_deviation,
        "episodes": len(t.accuracies),
        "failed": t.failed,
        "parameters": t.parameters,
        "macs_per_clip": t.macs_per_clip,
        "seconds_per_episode": t.seconds_per_episode if t.accuracies else None,
        "peak_memory_mb": t.peak_memory_mb if t.accuracies else None,
    }


def _verdict_values(verdict: GainVerdict | None) -> dict[str, Any]:
    interval = None if verdict is None else verdict.other_clips
    decided = verdict is not None and verdict.verdict != "open"
    return {
        "over_frozen_other_clips_low": None if interval is None else interval.low,
        "over_frozen_other_clips_high": None if interval is None else interval.high,
        "over_frozen_verdict": None if verdict is None else verdict.verdict,
        "over_frozen_verdict_on": clips_clause(
            verdict.unit, on_other_clips=verdict.holds_on_other_clips
        )
        if verdict is not None and decided
        else None,
    }


def _metric_values(metrics: CalibrationMetrics | None) -> dict[str, Any]:
    return {
        "balanced_accuracy": None if metrics is None else metrics.balanced,
        "ece": None if metrics is None else metrics.ece.mean,
        "ece_low": None if metrics is None else metrics.ece.low,
        "ece_high": None if metrics is None else metrics.ece.high,
        "ece_by_chance": None if metrics is None else metrics.by_chance,
        "ece_covers": None if metrics is None else metrics.ece.covers,
        "over_confident": None if metrics is None else metrics.over_confident,
        "log_loss": None if metrics is None else metrics.log_loss,
        "log_loss_is_a_bound": None if metrics is None else bool(metrics.unresolved),
        "brier": None if metrics is None else metrics.brier,
        "predictions": None if metrics is None else metrics.predictions,
    }


def _generalization_values(intervals: GeneralizationIntervals | None) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for question in (OTHER_CLIPS, OTHER_CLASSES, OTHER_SEEDS):
        interval = None if intervals is None else intervals.intervals.get(question)
        name = question.replace(" ", "_")
        values[f"{name}_low"] = None if interval is None else interval.low
        values[f"{name}_high"] = None if interval is None else interval.high
    return values


def _bin_values(reliability_bin: ReliabilityBin) -> dict[str, Any]:
    return {key: value for key, value in vars(reliability_bin).items() if key != "row"}


def _frame_order_values(row: ReportRow, loss: FrameOrderLoss | None) -> dict[str, Any]:
    values: dict[str, Any] = {"frame_order": frame_order_of(row)}
    for order in CHANGED_ORDERS:
        interval = None if loss is None else loss.intervals.get(order)
        values |= {
            f"lost_{order}": None if interval is None else interval.mean,
            f"lost_{order}_low": None if interval is None else interval.low,
            f"lost_{order}_high": None if interval is None else interval.high,
        }
    return values


_TEX_ESCAPES = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#",
    "^": r"\textasciicircum{}", "_": r"\_", "~": r"\textasciitilde{}", "%": r"\%",
    "±": r"$\pm$", "−": "$-$", "…": r"\ldots{}", "†": r"\dag{}", "<": r"\textless{}",
    ">": r"\textgreater{}", "|": r"\textbar{}",
}  # fmt: skip
_FORMULA_START = re.compile(r"^[=+\-@\t\r]")
_JSON_ONLY_KEYS = frozenset({"interval_covers", "ece_covers", "reliability"})
"""Keys of a row that JSON has and CSV has not."""
LossesByRow = Mapping[ReportRow, FrameOrderLoss]


def render_tables(sections: Sequence[ReportSection], kind: str, *, title: str = "") -> str:
    """Render the tables of a report.

    Args:
        sections: one for each table.
        kind: a file ending of `RENDERERS`, such as ".md".
        title: written above them; by default each has only that of its section.

    Raises:
        UsageError: for another kind.
    """
    if kind not in RENDERERS:
        raise UsageError(f"{kind}: expected one of {', '.join(RENDERERS)}")
    return RENDERERS[kind](sections, title)


def _markdown(sections: Sequence[ReportSection], title: str) -> str:
    blocks = [f"# {_escape_markdown(title)}"] if title else []
    losses = frame_order_losses(sections, LEVEL)
    for section in sections:
        table = accuracy_table(section)
        blocks += [
            f"## {_escape_markdown(section.title)}",
            _escape_markdown(section.setting),
            *map(_escape_markdown, _summary_lines(section)),
        ]
        blocks += _markdown_table(table)
        for extra_table in _extra_tables(section, table, losses):
            blocks += [f"### {_escape_markdown(extra_table.title)}", *_markdown_table(extra_table)]
    return "\n\n".join(blocks) + "\n"


def _markdown_table(table: AccuracyTable | ExtraTable) -> list[str]:
    """Format a table and its notes as Markdown."""
    rules = ["---" if heading in LEFT_COLUMNS else "--:" for heading in table.columns]
    lines = [list(table.columns), rules, *_cell_rows(table)]
    cells = [lines[0], lines[1], *([_escape_markdown(cell) for cell in line] for line in lines[2:])]
    notes = "\n".join(f"- {_escape_markdown(note)}" for note in table.notes)
    return ["\n".join("| " + " | ".join(line) + " |" for line in cells), notes]


def _escape_markdown(text: str) -> str:
    """Escape text so that Markdown shows it as it is, on one line."""
    return re.sub(r"([\\`*_\[\]<>|#])", r"\\\1", " ".join(text.split()))


def _latex(sections: Sequence[ReportSection], title: str) -> str:
    blocks = ["% needs \\usepackage{booktabs}; the file is UTF-8"]
    blocks += [f"% {' '.join(title.split())}"] if title else []
    losses = frame_order_losses(sections, LEVEL)
    for section in sections:
        table, caption = accuracy_table(section), f"{section.title}: {section.setting}"
        blocks.append(_latex_table(table, f"{caption}."))
        for extra_table in _extra_tables(section, table, losses):
            blocks.append(_latex_table(extra_table, f"{extra_table.caption}: {caption}."))
    return "\n\n".join(blocks) + "\n"


def _latex_table(table: AccuracyTable | ExtraTable, caption: str) -> str:
    alignments = "".join("l" if heading in LEFT_COLUMNS else "r" for heading in table.columns)
    head = " & ".join(map(_escape_tex, table.columns))
    body = [" & ".join(map(_escape_tex_cell, line)) + r" \\" for line in _cell_rows(table)]
    notes = " ".join(map(_escape_tex, table.notes))
    return "\n".join(
        [
            r"\begin{table}",
            r"  \centering",
            rf"  \caption{{{_escape_tex(caption)} {notes}}}",
            rf"  \begin{{tabular}}{{{alignments}}}",
            r"    \toprule",
            rf"    {head} \\",
            r"    \midrule",
            *(f"    {line}" for line in body),
            r"    \bottomrule",
            r"  \end{tabular}",
            r"\end{table}",
        ]
    )


def _escape_tex_cell(text: str) -> str:
    """Escape a cell; the hyphen before a number is a minus sign, that in a name is none."""
    return _escape_tex(re.sub(r"(?<![\w.-])-(?=\d)", "−", text))


def _escape_tex(text: str) -> str:
    return "".join(_TEX_ESCAPES.get(c, c) for c in " ".join(text.split()))


def _csv(sections: Sequence[ReportSection], title: str) -> str:
    losses = frame_order_losses(sections, LEVEL)
    rows = [row for section in sections for row in _row_dicts(section, losses)]
    flat = [
        {key: _escape_formula(value) for key, value in row.items() if key not in _JSON_ONLY_KEYS}
        for row in rows
    ]
    out = io.StringIO()
    writer = csv.DictWriter(out, list(flat[0]) if flat else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(flat)
    return out.getvalue()


def _escape_formula(value: object) -> object:
    """Escape a cell so that no spreadsheet takes it for a formula."""
    return f"'{value}" if isinstance(value, str) and _FORMULA_START.match(value) else value


def _json(sections: Sequence[ReportSection], title: str) -> str:
    losses = frame_order_losses(sections, LEVEL)
    document = {
        "title": title,
        "tables": [
            {
                "title": section.title,
                "setting": section.setting,
                "way": section.way,
                "chance": section.chance,
                "summary": _summary_lines(section),
                "notes": _all_notes(section, losses),
                "rows": _row_dicts(section, losses),
            }
            for section in sections
        ],
    }
    return json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _extra_tables(
    section: ReportSection, table: AccuracyTable, losses: LossesByRow
) -> list[ExtraTable]:
    """Tables that follow the one of accuracies."""
    candidates = (
        calibration_table(section, table),
        generalization_table(section, table),
        frame_order_table(section, table, losses),
    )
    return [extra_table for extra_table in candidates if extra_table is not None]


def _all_notes(section: ReportSection, losses: LossesByRow) -> list[str]:
    table = accuracy_table(section)
    notes = [
        *table.notes,
        *(
            note
            for extra_table in _extra_tables(section, table, losses)
            for note in extra_table.notes
        ),
    ]
    return list(dict.fromkeys(notes))


def _cell_rows(table: AccuracyTable | ExtraTable) -> list[list[str]]:
    """Cells of a table row by row."""
    columns = [[cell.text for cell in cells] for cells in table.columns.values()]
    return [list(line) for line in zip(*columns, strict=True)]


def _summary_lines(section: ReportSection) -> list[str]:
    return section_summary(section)


def _row_dicts(section: ReportSection, losses: LossesByRow) -> list[dict[str, Any]]:
    """Rows as plain values, shares from 0 to 1; every row has the same keys."""
    table = accuracy_table(section)
    row_intervals = zip(section.rows, table.means, table.gains, strict=True)
    frozen = section.verdicts[0]
    return [
        row_to_dict(section, row, mean, gain, frozen.get(i), losses.get(row))
        for i, (row, mean, gain) in enumerate(row_intervals)
    ]


RENDERERS: Mapping[str, Callable[[Sequence[ReportSection], str], str]] = MappingProxyType(
    {".md": _markdown, ".tex": _latex, ".csv": _csv, ".json": _json}
)
"""What a table can be written as, by the ending of the file."""


def write_report(path: Path, text: str) -> None:
    """Write a file, in UTF-8, that is complete or absent; its folder is made when absent.

    Raises:
        DiskError: when the disk does not take it.
        UsageError: when it cannot be written for another reason.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, text.encode(errors="backslashreplace"))
        sync_folder(path.parent)
    except OSError as error:
        reason = error.strerror or error
        kind = DiskError if DiskError.is_cause_of(error) else UsageError
        raise kind(f"{path}: cannot be written: {reason}; choose another --out") from error
