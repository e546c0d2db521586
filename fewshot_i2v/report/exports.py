"""The tables of a report as Markdown, LaTeX, CSV or JSON."""

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
from fewshot_i2v.report.analysis.frame_order import ORDERS, Reliance, order_of, reliances
from fewshot_i2v.report.analysis.generalization import CLASSES, CLIPS, SEEDS, Reach
from fewshot_i2v.report.analysis.report_data import LEVEL, Row, Section
from fewshot_i2v.report.analysis.run_analysis import Measures
from fewshot_i2v.report.analysis.significance import Against
from fewshot_i2v.report.comparison.compare import where
from fewshot_i2v.report.page.summary_text import summary_of
from fewshot_i2v.report.tables.extra_tables import (
    Bin,
    Extra,
    beyond_accuracy,
    bins_of,
    order_of_frames,
    other_questions,
)
from fewshot_i2v.report.tables.table import LEFT, Table, table_of
from fewshot_i2v.statistics import Interval
from fewshot_i2v.utils.files import RecordWriteError, write_atomically
from fewshot_i2v.utils.text_table import escaped


def facts_of(
    section: Section,
    row: Row,
    mean: Interval | None,
    gain: Interval | None,
    against: Against | None,
    order: Reliance | None,
) -> dict[str, Any]:
    """All that is known of a row; shares are from 0 to 1, and every row has the same keys.

    Args:
        section: that it is in.
        row: the row.
        mean: its accuracy.
        gain: over the frozen encoder.
        against: what may be said of that gain.
        order: what it loses with its frames in other orders.
    """
    return (
        _row_facts(section, row, mean, gain)
        | _judged(against)
        | _measured(row.measures)
        | _reached(row.reach)
        | {"reliability": [_bin(one) for one in bins_of([row])]}
        | _lost(row, order)
        | {"folder": row.folder}
    )


def _row_facts(
    section: Section, row: Row, mean: Interval | None, gain: Interval | None
) -> dict[str, Any]:
    t = row.table
    return {
        "table": section.title,
        "setting": section.setting,
        "adapter": escaped(t.adapter),
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


def _judged(against: Against | None) -> dict[str, Any]:
    others = None if against is None else against.other_clips
    shown = against is not None and against.verdict != "open"
    return {
        "over_frozen_other_clips_low": None if others is None else others.low,
        "over_frozen_other_clips_high": None if others is None else others.high,
        "over_frozen_verdict": None if against is None else against.verdict,
        "over_frozen_verdict_on": where(against.unit, also=against.also)
        if against is not None and shown
        else None,
    }


def _measured(m: Measures | None) -> dict[str, Any]:
    return {
        "balanced_accuracy": None if m is None else m.balanced,
        "ece": None if m is None else m.ece.mean,
        "ece_low": None if m is None else m.ece.low,
        "ece_high": None if m is None else m.ece.high,
        "ece_by_chance": None if m is None else m.by_chance,
        "ece_covers": None if m is None else m.ece.covers,
        "over_confident": None if m is None else m.over_confident,
        "log_loss": None if m is None else m.log_loss,
        "log_loss_is_a_bound": None if m is None else bool(m.unresolved),
        "brier": None if m is None else m.brier,
        "predictions": None if m is None else m.predictions,
    }


def _reached(found: Reach | None) -> dict[str, Any]:
    facts: dict[str, Any] = {}
    for question in (CLIPS, CLASSES, SEEDS):
        interval = None if found is None else found.intervals.get(question)
        name = question.replace(" ", "_")
        facts[f"{name}_low"] = None if interval is None else interval.low
        facts[f"{name}_high"] = None if interval is None else interval.high
    return facts


def _bin(one: Bin) -> dict[str, Any]:
    return {key: value for key, value in vars(one).items() if key != "row"}


def _lost(row: Row, reliance: Reliance | None) -> dict[str, Any]:
    facts: dict[str, Any] = {"frame_order": order_of(row)}
    for order in ORDERS:
        lost = None if reliance is None else reliance.lost.get(order)
        facts |= {
            f"lost_{order}": None if lost is None else lost.mean,
            f"lost_{order}_low": None if lost is None else lost.low,
            f"lost_{order}_high": None if lost is None else lost.high,
        }
    return facts


_TEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#",
    "^": r"\textasciicircum{}", "_": r"\_", "~": r"\textasciitilde{}", "%": r"\%",
    "±": r"$\pm$", "−": "$-$", "…": r"\ldots{}", "†": r"\dag{}", "<": r"\textless{}",
    ">": r"\textgreater{}", "|": r"\textbar{}",
}  # fmt: skip
_FORMULA = re.compile(r"^[=+\-@\t\r]")
_NESTED = frozenset({"interval_covers", "ece_covers", "reliability"})
"""Keys of a row that JSON has and CSV has not."""
Reliances = Mapping[Row, Reliance]


def render(sections: Sequence[Section], kind: str, *, title: str = "") -> str:
    """The tables of a report.

    Args:
        sections: one for each table.
        kind: an ending of `KINDS`, such as ".md".
        title: said above them; by default each has that of its section alone.

    Raises:
        UsageError: for another kind.
    """
    if kind not in KINDS:
        raise UsageError(f"{kind}: expected one of {', '.join(KINDS)}")
    return KINDS[kind](sections, title)


def _markdown(sections: Sequence[Section], title: str) -> str:
    parts = [f"# {_marked(title)}"] if title else []
    found = reliances(sections, LEVEL)
    for section in sections:
        table = table_of(section)
        parts += [
            f"## {_marked(section.title)}",
            _marked(section.setting),
            *map(_marked, _told(section)),
        ]
        parts += _markdown_table(table)
        for extra in _extras(section, table, found):
            parts += [f"### {_marked(extra.title)}", *_markdown_table(extra)]
    return "\n\n".join(parts) + "\n"


def _markdown_table(table: Table | Extra) -> list[str]:
    """A table and its notes."""
    rules = ["---" if heading in LEFT else "--:" for heading in table.columns]
    lines = [list(table.columns), rules, *_lines(table)]
    cells = [lines[0], lines[1], *([_marked(cell) for cell in line] for line in lines[2:])]
    notes = "\n".join(f"- {_marked(note)}" for note in table.notes)
    return ["\n".join("| " + " | ".join(line) + " |" for line in cells), notes]


def _marked(text: str) -> str:
    """Text that Markdown shows as it is, on one line."""
    return re.sub(r"([\\`*_\[\]<>|#])", r"\\\1", " ".join(text.split()))


def _latex(sections: Sequence[Section], title: str) -> str:
    parts = ["% needs \\usepackage{booktabs}; the file is UTF-8"]
    parts += [f"% {' '.join(title.split())}"] if title else []
    found = reliances(sections, LEVEL)
    for section in sections:
        table, named = table_of(section), f"{section.title}: {section.setting}"
        parts.append(_latex_table(table, f"{named}."))
        for extra in _extras(section, table, found):
            parts.append(_latex_table(extra, f"{extra.caption}: {named}."))
    return "\n\n".join(parts) + "\n"


def _latex_table(table: Table | Extra, caption: str) -> str:
    sides = "".join("l" if heading in LEFT else "r" for heading in table.columns)
    head = " & ".join(map(_tex, table.columns))
    body = [" & ".join(map(_tex_cell, line)) + r" \\" for line in _lines(table)]
    notes = " ".join(map(_tex, table.notes))
    return "\n".join(
        [
            r"\begin{table}",
            r"  \centering",
            rf"  \caption{{{_tex(caption)} {notes}}}",
            rf"  \begin{{tabular}}{{{sides}}}",
            r"    \toprule",
            rf"    {head} \\",
            r"    \midrule",
            *(f"    {line}" for line in body),
            r"    \bottomrule",
            r"  \end{tabular}",
            r"\end{table}",
        ]
    )


def _tex_cell(text: str) -> str:
    """A cell; the hyphen before a number is a minus sign, that in a name is none."""
    return _tex(re.sub(r"(?<![\w.-])-(?=\d)", "−", text))


def _tex(text: str) -> str:
    return "".join(_TEX.get(c, c) for c in " ".join(text.split()))


def _csv(sections: Sequence[Section], title: str) -> str:
    found = reliances(sections, LEVEL)
    rows = [row for section in sections for row in _facts(section, found)]
    flat = [{key: _safe(value) for key, value in row.items() if key not in _NESTED} for row in rows]
    out = io.StringIO()
    writer = csv.DictWriter(out, list(flat[0]) if flat else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(flat)
    return out.getvalue()


def _safe(value: object) -> object:
    """A cell that no spreadsheet takes for a formula."""
    return f"'{value}" if isinstance(value, str) and _FORMULA.match(value) else value


def _json(sections: Sequence[Section], title: str) -> str:
    found = reliances(sections, LEVEL)
    plain = {
        "title": title,
        "tables": [
            {
                "title": section.title,
                "setting": section.setting,
                "way": section.way,
                "chance": section.chance,
                "summary": _told(section),
                "notes": _notes(section, found),
                "rows": _facts(section, found),
            }
            for section in sections
        ],
    }
    return json.dumps(plain, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _extras(section: Section, table: Table, found: Reliances) -> list[Extra]:
    """The tables that follow that of the accuracies."""
    extras = (
        beyond_accuracy(section, table),
        other_questions(section, table),
        order_of_frames(section, table, found),
    )
    return [extra for extra in extras if extra is not None]


def _notes(section: Section, found: Reliances) -> list[str]:
    table = table_of(section)
    every = [*table.notes, *(n for e in _extras(section, table, found) for n in e.notes)]
    return list(dict.fromkeys(every))


def _lines(table: Table | Extra) -> list[list[str]]:
    """The cells row by row."""
    columns = [[cell.text for cell in cells] for cells in table.columns.values()]
    return [list(line) for line in zip(*columns, strict=True)]


def _told(section: Section) -> list[str]:
    return summary_of(section)


def _facts(section: Section, found: Reliances) -> list[dict[str, Any]]:
    """The rows as plain values, shares from 0 to 1; every row has the same keys."""
    table = table_of(section)
    triples = zip(section.rows, table.means, table.gains, strict=True)
    frozen = section.verdicts[0]
    return [
        facts_of(section, row, mean, gain, frozen.get(i), found.get(row))
        for i, (row, mean, gain) in enumerate(triples)
    ]


KINDS: Mapping[str, Callable[[Sequence[Section], str], str]] = MappingProxyType(
    {".md": _markdown, ".tex": _latex, ".csv": _csv, ".json": _json}
)
"""What a table can be written as, by the ending of the file."""


def write_whole(path: Path, text: str) -> None:
    """Writes a file, in UTF-8, that is there whole or not at all; its folder is made when absent.

    Raises:
        DiskError: when the disk does not take it.
        UsageError: when it cannot be written for another reason.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, text.encode(errors="backslashreplace"))
    except (OSError, RecordWriteError) as refusal:
        cause = refusal if isinstance(refusal, OSError) else refusal.__cause__
        reason = getattr(cause, "strerror", None) or cause
        kind = DiskError if DiskError.is_behind(cause) else UsageError
        raise kind(f"{path}: cannot be written: {reason}; choose another --out") from refusal
