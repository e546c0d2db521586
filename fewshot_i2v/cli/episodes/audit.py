"""`fewshot-i2v episodes audit`: find defects and overlap of splits."""

from __future__ import annotations

from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING

import click

from fewshot_i2v.cli._common import echo_json, root_option
from fewshot_i2v.cli._flags import SPLITS
from fewshot_i2v.cli._help import help_command
from fewshot_i2v.cli._next import command_line, echo_next

if TYPE_CHECKING:
    from fewshot_i2v.data.splits.audit import AuditFinding


@help_command(
    "Find classes, clips and recordings that make results wrong.",
    ("episodes audit mine.yaml", "one split"),
    ("episodes audit mine.yaml motions", "each, and what both have in common"),
)
@click.argument(
    "splits", nargs=-1, required=True, shell_complete=SPLITS["shell_complete"], metavar="SPLIT..."
)
@root_option
@click.option(
    "--seen-by",
    help="Also name the classes that are in this data set, on which an encoder was trained: "
    "kinetics400.",
)
@click.option(
    "--classes", "named", is_flag=True, help="Name all classes that two splits share, however many."
)
@click.option(
    "--strict", is_flag=True, help="End with status 1 if there is a finding marked with !."
)
@click.option("--json", "as_json", is_flag=True, help="Write JSON, with all numbers and names.")
def command(
    splits: tuple[str, ...],
    root: Path | None,
    seen_by: str | None,
    named: bool,
    strict: bool,
    as_json: bool,
) -> None:
    """Audit SPLITs, names or paths: each of them, and each pair.

    In one split it looks for clips that are listed twice, query and support clips from one
    recording, recordings in two subsets, small classes, and draws that are not nested. In two
    splits it looks for classes and clips of both, whatever their spelling. A finding that can make
    a result wrong is marked with !. No video is opened.
    """
    from fewshot_i2v.data.splits.audit.audit import audit

    result = audit(*splits, root=root, seen_by=seen_by)
    if as_json:
        echo_json(result.to_dict())
    else:
        defects = {split.name: split.defects for split in result.splits}
        for i, (name, findings) in enumerate(result.findings.items()):
            click.echo(("\n" if i else "") + name)
            click.echo(_format_findings(findings, named=named))
            if defects.get(name):
                count = len(defects[name])
                click.echo(f"  known defects of the list: {count}; see `episodes show {name}`")
    if not as_json:
        roots = [] if root is None else ["--root", str(root)]
        echo_next(command_line("episodes", "show", splits[0], *roots))
    if strict and result.is_grave:
        raise click.exceptions.Exit(1)


def _format_findings(findings: list[AuditFinding], *, named: bool) -> str:
    if not findings:
        return "  nothing to report"
    lines = []
    for finding in findings:
        bullet = "! " if finding.grave else "- "
        lines.append(fill(finding.text, 98, initial_indent=f"  {bullet}", subsequent_indent="    "))
        names = _class_names(finding, named=named)
        if names:
            text = "; ".join(names)
            lines.append(fill(text, 98, initial_indent="      ", subsequent_indent="      "))
    return "\n".join(lines)


def _class_names(finding: AuditFinding, *, named: bool) -> list[str]:
    """Classes to name below a finding; seen classes always, unless all are seen."""
    facts = finding.facts
    if finding.kind == "seen":
        names = [
            *facts["seen"],
            *(f"{name} ({seen_name})" for name, seen_name in facts["alike"].items()),
        ]
        return names if named or len(names) < facts["classes"] else []
    return list(facts["classes"]) if named and finding.kind == "same class" else []
