"""`fewshot-i2v recommend`: which adapter to use, and what would change that."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fewshot_i2v.cli._common import echo_json, runs_argument
from fewshot_i2v.cli._help import HelpCommand
from fewshot_i2v.cli._next import command_line, continuation, echo_next
from fewshot_i2v.cli.report import read_sections
from fewshot_i2v.utils.text_table import wrap_notes

if TYPE_CHECKING:
    from fewshot_i2v.report.analysis.report_data import ReportSection


@click.command(
    cls=HelpCommand,
    examples=(("recommend runs/quickstart", "which row of an evaluation to use"),),
    short_help="Say which adapter to use, and what would change that.",
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
    from fewshot_i2v.report.tables.recommendation_text import section_recommendation

    sections = read_sections(runs, None)
    if as_json:
        echo_json([_to_dict(section) for section in sections])
        return
    for i, section in enumerate(sections):
        texts = wrap_notes([section.setting]), wrap_notes(section_recommendation(section))
        click.echo(("\n" if i else "") + "\n\n".join(map("\n".join, texts)))
    further = [r.next_episodes or 0 for section in sections for r in section.recommendations]
    episodes = max(further, default=0)
    echo_next(
        *(continuation(runs, "--episodes", str(episodes)) if episodes else []),
        command_line("report", *runs, "--out", "report.html"),
        command_line("compare", *runs),
    )


def _to_dict(section: ReportSection) -> dict[str, Any]:
    """Recommendations of a table as plain types."""
    from fewshot_i2v.report.tables.recommendation_text import section_recommendation

    rows = section.summaries
    return {
        "title": section.title,
        "setting": section.setting,
        "sentences": section_recommendation(section),
        "recommendations": [
            {
                "shot": r.decision.shot,
                **{key: getattr(rows[r.row], key) for key in ("adapter", "start", "start_name")},
                "head": rows[r.row].head,
                "folder": str(rows[r.row].folder),
                "parameters": rows[r.row].parameters,
                "seconds_per_episode": rows[r.row].seconds_per_episode,
                "gain": None if r.gain is None else vars(r.gain.difference),
                "baseline_folder": None
                if r.decision.baseline is None
                else str(rows[r.decision.baseline].folder),
                "may_be_as_good": [str(rows[i].folder) for i in r.rivals],
                "episodes_to_tell_apart": r.episodes,
                "next_episodes": r.next_episodes,
            }
            for r in section.recommendations
        ],
    }
