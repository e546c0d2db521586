"""`fewshot-i2v plan`: episodes, query clips and clips for a precision."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from fewshot_i2v.cli._common import EXIT_CODES, RunPath, echo_json
from fewshot_i2v.cli._flags import completer
from fewshot_i2v.cli._next import command_line, echo_next
from fewshot_i2v.utils import resources

_SHARE = click.FloatRange(0, 1)
_OPEN_SHARE = click.FloatRange(0, 1, min_open=True, max_open=True)


def _check_points(_ctx: click.Context, _param: click.Parameter, value: float) -> float:
    if not 0.05 <= value <= 50:
        raise click.BadParameter(f"{value:g} is not from 0.05 to 50; in points: 2 is 2 %.")
    return value


_POINTS_OPTION: dict[str, Any] = {"type": float, "callback": _check_points, "show_default": True}


@click.command(epilog=EXIT_CODES, short_help="Say how many episodes and clips a question takes.")
@click.argument("run", required=False, type=RunPath())
@click.option("--half-width", default=1.0, help="Of accuracies, in points.", **_POINTS_OPTION)
@click.option(
    "--difference", default=2.0, help="Between two rows, to be found; in points.", **_POINTS_OPTION
)
@click.option(
    "--power", type=_OPEN_SHARE, default=0.8, show_default=True, help="In what share of runs."
)
@click.option(
    "--level", type=_OPEN_SHARE, default=0.95, show_default=True, help="Of intervals and tests."
)
@click.option(
    "--split",
    shell_complete=completer(lambda: resources.data_names("episodes")),
    help="Whose clips are counted; that of RUN if not given.",
)
@click.option("--root", type=click.Path(path_type=Path), help="Folder of the split's clips.")
@click.option("--subset", help="Of its classes; that of RUN, or novel.")
@click.option("--way", type=click.IntRange(min=2), help="Classes of an episode; RUN's, or 5.")
@click.option(
    "--shot", type=click.IntRange(min=1), multiple=True, help="Support clips; repeat. RUN's, or 1."
)
@click.option("--query", type=click.IntRange(min=1), help="Query clips per class; RUN's, or 5.")
@click.option("--accuracy", type=_OPEN_SHARE, help="Assumed without RUN, 0..1; 0.8.")
@click.option("--common", type=_SHARE, help="Assumed correlation of answers of an episode; 0.05.")
@click.option("--pairing", type=_SHARE, help="Assumed correlation of two methods' accuracies; 0.3.")
@click.option("--json", "as_json", is_flag=True, help="Write JSON.")
def command(
    run: Path | None,
    half_width: float,
    difference: float,
    power: float,
    level: float,
    as_json: bool,
    **options: Any,
) -> None:
    """Say how many episodes, query clips and clips per class a question takes.

    RUN is a pilot: a run folder or a folder of run folders, 30 episodes or so of each row. Without
    one, accuracy and spread are assumed. Accuracies are wanted to ± --half-width, and a
    --difference between two rows is to be found in a share --power of runs. More episodes bring
    both for the clips there are; for other clips of the same classes it takes more clips, and how
    many is said, too, with a warning where the split has too few.
    """
    from fewshot_i2v.report.plan.basis import PlanRequest
    from fewshot_i2v.report.plan.episode_plan import PlanTargets
    from fewshot_i2v.report.plan.sample_size_plan import plan_sample_sizes
    from fewshot_i2v.report.plan.text import render_plan

    if power <= 1 - level:
        raise click.UsageError(f"--power {power:g}: expected more than 1 - --level, {1 - level:g}")
    targets = PlanTargets(half_width / 100, difference / 100, power, level)
    plan = plan_sample_sizes(run, targets, PlanRequest(**options))
    if as_json:
        echo_json(plan.to_dict())
    else:
        click.echo(render_plan(plan))
        until = ["--until", f"{half_width:g}"]
        if run is None:
            split = [] if options["split"] is None else ["--split", options["split"]]
            echo_next(command_line("evaluate", *split, *until))
        else:
            echo_next(f"the command that made {run} once more, with {' '.join(until)}")
