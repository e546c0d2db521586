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

from fewshot_i2v._journal import RecordWriteError, write_atomically
from fewshot_i2v.errors import DiskError, UsageError
from fewshot_i2v.report._beyond import (
    Extra,
    beyond_accuracy,
    order_of_frames,
    other_questions,
)
from fewshot_i2v.report._facts import facts_of
from fewshot_i2v.report._order import Reliance, reliances
from fewshot_i2v.report._summary import summary_of
from fewshot_i2v.report._table import LEFT, Table, table_of
from fewshot_i2v.report.sections import LEVEL, Row, Section

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
