"""`fewshot-i2v recommend`: which adapter to use, and what would change that."""

from __future__ import annotations

from pathlib import Path

import click

from fewshot_i2v.cli._common import echo_json, runs_argument
from fewshot_i2v.cli._help import help_command
from fewshot_i2v.cli._next import command_line, continuation, echo_next
from fewshot_i2v.utils.text_table import wrap_notes


@help_command(
    "Say which adapter to use, and what would change that.",
    ("recommend runs/quickstart", "which row of an evaluation to use"),
)
@runs_argument
@click.option("--json", "as_json", is_flag=True, help="Write JSON: one object per table.")
def command(runs: tuple[Path, ...], as_json: bool) -> None:
    """Recommend a row of RUN..., run folders or folders of run folders.

    An adapter is recommended where it beats the best row of the frozen encoder, episode by episode,
    adjusted for all comparisons of the table; else that row, which takes no training. Of rows that
    cannot be told apart and are at most 2 points apart it is the one with the fewest trained
    parameters.
    """
    from fewshot_i2v.evaluation.run_report import recommend

    tables = recommend(*runs)
    if as_json:
        echo_json([table.to_dict() for table in tables])
        return
    for i, table in enumerate(tables):
        setting = "\n".join(wrap_notes([table.section.setting]))
        click.echo(("\n" if i else "") + f"{setting}\n\n{table.text()}")
    further = [r.next_episodes or 0 for table in tables for r in table.recommendations]
    episodes = max(further, default=0)
    echo_next(
        *(continuation(runs, "--episodes", str(episodes)) if episodes else []),
        command_line("report", *runs, "--out", "report.html"),
        command_line("compare", *runs),
    )
