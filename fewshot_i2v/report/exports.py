"""Export of the tables of a report as Markdown, LaTeX, CSV or JSON."""

from __future__ import annotations

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from fewshot_i2v.errors import DiskError, UsageError
from fewshot_i2v.report.analysis.decisions import GainVerdict
from fewshot_i2v.report.analysis.frame_order import (
    CHANGED_ORDERS,
    LossesByRow,
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
from fewshot_i2v.report.page.summary_text import section_summary
from fewshot_i2v.report.tables.interval_text import EMPTY
from fewshot_i2v.report.tables.latex import (
    PACKAGES,
    constant_columns,
    label_slug,
    latex_paper_table,
    latex_table,
)
from fewshot_i2v.report.tables.paper_table import paper_table
from fewshot_i2v.report.tables.recommendation_text import (
    Paragraph,
    paragraph_sentences,
    section_recommendation,
)
from fewshot_i2v.report.tables.section_tables import reliability_bins, section_tables
from fewshot_i2v.report.tables.short_names import head_words
from fewshot_i2v.report.tables.table import Table, escape_markdown
from fewshot_i2v.runs.row_summary import RowSummary
from fewshot_i2v.statistics import Interval
from fewshot_i2v.utils.files import replace_file, sync_folder
from fewshot_i2v.utils.text_table import count_text, escape_name


def _summary_values(
    section: ReportSection, row: RowSummary, gain: Interval | None
) -> dict[str, Any]:
    mean = row.interval
    return {
        "table": section.title,
        "setting": section.setting,
        "adapter": escape_name(row.adapter),
        "note": row.note,
        "start": row.start,
        "start_name": row.start_name,
        "seen": row.seen,
        "head": row.head,
        "uses_names": row.uses_names,
        "way": section.way,
        "shot": row.shot,
        **_mean_and_ends("accuracy", mean),
        **_mean_and_ends("over_frozen", gain),
        "level": LEVEL,
        "method": None if mean is None else mean.method,
        "interval_covers": None if mean is None else mean.covers,
        "training_seeds": len(row.seed_means) or 1,
        "seed_deviation": row.seed_deviation,
        "episodes": row.episodes,
        "failed": row.failed,
        "parameters": row.parameters,
        "macs_per_clip": row.macs_per_clip,
        "seconds_per_episode": row.seconds_per_episode if row.accuracies else None,
        "peak_memory_mb": row.peak_memory_mb if row.accuracies else None,
    }


def _mean_and_ends(name: str, interval: Interval | None) -> dict[str, float | None]:
    mean = {name: None if interval is None else interval.mean}
    return mean | _ends(name, interval)


def _ends(name: str, interval: Interval | None) -> dict[str, float | None]:
    return {
        f"{name}_low": None if interval is None else interval.low,
        f"{name}_high": None if interval is None else interval.high,
    }


def _verdict_values(verdict: GainVerdict | None) -> dict[str, Any]:
    decided = verdict if verdict is not None and verdict.verdict != "open" else None
    return {
        **_ends("over_frozen_other_clips", None if verdict is None else verdict.other_clips),
        "over_frozen_verdict": None if verdict is None else verdict.verdict,
        "over_frozen_verdict_on": None if decided is None else decided.clips_clause,
    }


def _metric_values(metrics: CalibrationMetrics | None) -> dict[str, Any]:
    if metrics is None:
        return dict.fromkeys(_METRIC_KEYS)
    values = (
        metrics.balanced, metrics.ece.mean, metrics.ece.low, metrics.ece.high, metrics.by_chance,
        metrics.ece.covers, metrics.over_confident, metrics.log_loss, bool(metrics.unresolved),
        metrics.brier, metrics.predictions,
    )  # fmt: skip
    return dict(zip(_METRIC_KEYS, values, strict=True))


_METRIC_KEYS = (
    "balanced_accuracy", "ece", "ece_low", "ece_high", "ece_by_chance", "ece_covers",
    "over_confident", "log_loss", "log_loss_is_a_bound", "brier", "predictions",
)  # fmt: skip


def _generalization_values(intervals: GeneralizationIntervals | None) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for question in (OTHER_CLIPS, OTHER_CLASSES, OTHER_SEEDS):
        interval = None if intervals is None else intervals.intervals.get(question)
        values |= _ends(question.replace(" ", "_"), interval)
    return values


def _frame_order_values(row: ReportRow, losses: Mapping[str, Interval]) -> dict[str, Any]:
    values: dict[str, Any] = {"frame_order": frame_order_of(row)}
    for order in CHANGED_ORDERS:
        values |= _mean_and_ends(f"lost_{order}", losses.get(order))
    return values


_FORMULA_START = re.compile(r"^[=+\-@\t\r]")
_JSON_ONLY_KEYS = frozenset({"interval_covers", "ece_covers", "reliability"})
"""Keys of a row that JSON has and CSV has not."""


def render_tables(sections: Sequence[ReportSection], kind: str, *, title: str = "") -> str:
    """Render the tables of a report.

    `kind` is a file ending of `RENDERERS`, such as ".md".

    Raises:
        UsageError: for another kind.
    """
    if kind not in RENDERERS:
        raise UsageError(f"{kind}: expected one of {', '.join(RENDERERS)}")
    return RENDERERS[kind](sections, title, frame_order_losses(sections, LEVEL))


def _markdown(sections: Sequence[ReportSection], title: str, losses: LossesByRow) -> str:
    blocks = [f"# {escape_markdown(title)}"] if title else []
    for section in sections:
        blocks += [
            f"## {escape_markdown(section.title)}",
            escape_markdown(section.setting),
            *_markdown_paragraphs(section_recommendation(section)),
            *map(escape_markdown, section_summary(section)),
        ]
        first, *further = section_tables(section, losses)
        blocks += first.to_markdown()
        if len({row.shot for row in section.summaries}) > 1:
            blocks += ["### Shots side by side", *paper_table(section).to_markdown()]
        for table in further:
            blocks += [f"### {escape_markdown(table.title)}", *table.to_markdown()]
    return "\n\n".join(blocks) + "\n"


def _markdown_paragraphs(paragraphs: Sequence[Paragraph]) -> Iterator[str]:
    for paragraph in paragraphs:
        yield escape_markdown(paragraph.text)
        if paragraph.points:
            yield "\n".join(f"- {escape_markdown(point)}" for point in paragraph.points)


def _latex(sections: Sequence[ReportSection], title: str, losses: LossesByRow) -> str:
    blocks = [f"% needs \\usepackage{{{','.join(PACKAGES)}}}; the file is UTF-8"]
    blocks += [f"% {' '.join(title.split())}"] if title else []
    labels: Counter[str] = Counter()
    for section in sections:
        main, *further = section_tables(section, losses)
        paper = paper_table(section)
        caption = "Accuracy in percent with 95 % intervals"
        blocks.append(
            latex_paper_table(
                paper,
                caption=f"{caption}: {', '.join([section.setting, *paper.facts])}.",
                label=_unique_label(section.title, labels),
                comments=main.notes,
            )
        )
        for table in further:
            facts = ", ".join([section.setting, *_shared_facts(section, table)])
            label = _unique_label(f"{section.title} {table.title}", labels)
            blocks.append(latex_table(table, caption=f"{table.caption}: {facts}.", label=label))
    return "\n\n".join(blocks) + "\n"


def _unique_label(text: str, labels: Counter[str]) -> str:
    """Label of a table, with a number where an earlier one has the same."""
    label = label_slug(text)
    labels[label] += 1
    return label + (f"-{labels[label]}" if labels[label] > 1 else "")


def _shared_facts(section: ReportSection, table: Table) -> list[str]:
    """What a caption says that is the same in all rows: columns, and the number of episodes."""
    shared = constant_columns(table)
    facts = [
        f"{text} {heading}"
        if heading == "shot"
        else f"{heading} {head_words(text) if heading == 'head' else text}"
        for heading, text in shared.items()
        if heading in ("start", "head", "shot") and text != EMPTY
    ]
    counts = {row.episodes for row in section.summaries}
    return [*facts, count_text(counts.pop(), "episode")] if len(counts) == 1 else facts


def _csv(sections: Sequence[ReportSection], title: str, losses: LossesByRow) -> str:
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


def _json(sections: Sequence[ReportSection], title: str, losses: LossesByRow) -> str:
    document = {
        "title": title,
        "tables": [
            {
                "title": section.title,
                "setting": section.setting,
                "way": section.way,
                "chance": section.chance,
                "recommendation": paragraph_sentences(section_recommendation(section)),
                "summary": section_summary(section),
                "notes": list(
                    dict.fromkeys(
                        note for table in section_tables(section, losses) for note in table.notes
                    )
                ),
                "rows": _row_dicts(section, losses),
            }
            for section in sections
        ],
    }
    return json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _row_dicts(section: ReportSection, losses: LossesByRow) -> list[dict[str, Any]]:
    """Rows as plain values, shares from 0 to 1; every row has the same keys."""
    frozen, rows = section.verdicts[0], []
    for i, (row, gain) in enumerate(zip(section.rows, section.gains, strict=True)):
        reliability = [
            {key: value for key, value in vars(bin_of_row).items() if key != "row"}
            for bin_of_row in reliability_bins([row])
        ]
        rows.append(
            _summary_values(section, row.summary, gain)
            | _verdict_values(frozen.get(i))
            | _metric_values(row.metrics)
            | _generalization_values(row.generalization)
            | {"reliability": reliability}
            | _frame_order_values(row, losses.get(row, {}))
            | {"folder": str(row.summary.folder)}
        )
    return rows


_Renderer = Callable[[Sequence[ReportSection], str, LossesByRow], str]
RENDERERS: Mapping[str, _Renderer] = MappingProxyType(
    {".md": _markdown, ".tex": _latex, ".csv": _csv, ".json": _json}
)
"""What a table can be written as, by the ending of the file."""


def write_text_file(path: Path, text: str) -> None:
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
