"""`fewshot-i2v compare`: compare rows over the same episodes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fewshot_i2v.cli._common import echo_json, runs_argument
from fewshot_i2v.cli._help import HelpCommand
from fewshot_i2v.cli._next import command_line, echo_next

if TYPE_CHECKING:
    from fewshot_i2v.report.comparison.baselines import RowPair
    from fewshot_i2v.report.comparison.compare import RowComparison
    from fewshot_i2v.runs.prediction_reader import RecordedRow


_EXAMPLES = (
    ("compare runs/mine", "every adapter with frozen"),
    ("compare runs/mine --all-pairs", "every two adapters"),
)


@click.command(
    cls=HelpCommand,
    examples=_EXAMPLES,
    short_help="Test which rows differ, and whether by chance.",
)
@runs_argument
@click.option(
    "--baseline",
    metavar="NAME|FOLDER",
    help="Compare with this row: an adapter, a name from the table, or a folder. [default: the "
    "adapter frozen with the same head and shot]",
)
@click.option("--all-pairs", is_flag=True, help="Compare every two rows of the same shot.")
@click.option("--common", is_flag=True, help="Compare the episodes that both rows have.")
@click.option(
    "--across",
    multiple=True,
    metavar="KEY",
    help="Compare although this key differs, such as encoder or video.frames.",
)
@click.option(
    "--level",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.95,
    show_default=True,
    help="Of the intervals, and of all verdicts together.",
)
@click.option("--wide", is_flag=True, help="Show all columns, with full names.")
@click.option("--notes", is_flag=True, help="Show all notes on the table in full.")
@click.option("--json", "as_json", is_flag=True, help="Write JSON.")
def command(
    runs: tuple[Path, ...],
    baseline: str | None,
    all_pairs: bool,
    common: bool,
    across: tuple[str, ...],
    level: float,
    wide: bool,
    notes: bool,
    as_json: bool,
) -> None:
    """Compare the rows of RUN..., run folders or folders of run folders, episode by episode.

    Each row is compared with its baseline over the same episodes: difference with interval, p of a
    sign-flip test, and p adjusted for the number of comparisons (Holm). Rows that were not asked
    the same episodes are refused.
    """
    if all_pairs and baseline is not None:
        raise click.UsageError("--all-pairs needs no baseline: give either it or --baseline")
    from fewshot_i2v.report.comparison import baselines
    from fewshot_i2v.report.comparison.compare import compare_rows
    from fewshot_i2v.report.comparison.text import render_comparisons

    baseline_folder = _baseline_folder(baseline)
    rows = baselines.read_compared_rows([*runs, *([baseline_folder] if baseline_folder else [])])
    unpaired: list[RecordedRow] = []
    pairs: list[RowPair]
    if all_pairs:
        pairs = baselines.all_pairs(rows)
    elif baseline is None:
        pairs, unpaired = baselines.pairs_with_frozen(rows)
    else:
        pairs, unpaired = baselines.pairs_with_baseline(rows, baseline, baseline_folder)
    names = baselines.names_by_row(rows)
    comparisons = compare_rows(pairs, names, level=level, common=common, across=across)
    if as_json:
        _echo_comparisons(comparisons, unpaired, level)
        return
    click.echo(render_comparisons(comparisons, unpaired, level=level, wide=wide, all_notes=notes))
    folders = dict.fromkeys([*runs, *([baseline_folder] if baseline_folder else [])])
    echo_next(
        command_line("recommend", *folders),
        command_line("report", *folders, "--out", "report.html"),
    )


def _echo_comparisons(
    comparisons: Sequence[RowComparison], unpaired: Sequence[RecordedRow], level: float
) -> None:
    """Write the comparisons as JSON."""
    from fewshot_i2v.report.comparison.text import verdict_sentence

    echo_json(
        {
            "level": level,
            "comparisons": [
                c.to_dict() | {"sentence": verdict_sentence(c, level)} for c in comparisons
            ],
            "not_compared": [str(row.summary.folder) for row in unpaired],
        }
    )


def _baseline_folder(baseline: str | None) -> Path | None:
    """The folder of runs that a baseline names, or None."""
    if baseline is None:
        return None
    folder = Path(baseline)
    return folder if folder.is_dir() and next(folder.rglob("run.json"), None) else None
