"""`fewshot-i2v learning-curve`: accuracy by labelled clips per class, and how many are needed."""

from __future__ import annotations

from pathlib import Path

import click

from fewshot_i2v.cli._common import EXIT_CODES, RunPath, echo_json
from fewshot_i2v.cli._help import help_command
from fewshot_i2v.cli._next import continuation, echo_next


@help_command(
    "Estimate how many labelled clips per class an accuracy takes.",
    ("learning-curve runs/sweep", "how accuracy grows with clips, and what more would bring"),
    ("learning-curve runs/sweep --accuracy 95", "how many clips of each class reach 95 %"),
    epilog=EXIT_CODES,
)
@click.argument("run", type=RunPath())
@click.option("--accuracy", type=float, help="Accuracy to reach, in percent, 1 to 100.")
@click.option(
    "--level",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.95,
    show_default=True,
    help="Confidence level of intervals and ranges, 0 to 1.",
)
@click.option("--json", "as_json", is_flag=True, help="Write JSON; accuracies are shares of 1.")
def command(run: Path, accuracy: float | None, level: float, as_json: bool) -> None:
    """Estimate how many labelled clips per class an accuracy takes.

    RUN is an evaluation with at least three numbers of labelled clips per class, such as --shot 1
    --shot 2 --shot 5. Its growth is carried on to at most four times as many clips as were
    measured, with a range. For numbers of episodes see `plan`.
    """
    from fewshot_i2v.report.plan.learning_curve_text import render_learning_curves
    from fewshot_i2v.report.plan.learning_curves import learning_curve

    curves = learning_curve(run, accuracy=accuracy, level=level)
    if as_json:
        echo_json(curves.to_dict())
        return
    click.echo(render_learning_curves(curves))
    further = min(2 * curves.measured_shots, curves.most_shots or 2 * curves.measured_shots)
    if further > curves.measured_shots:
        echo_next(*continuation([run], "--shot", str(further)))
