"""`fewshot-i2v plan`: episodes, query clips and clips for a precision."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from fewshot_i2v.cli._common import EXIT_CODES, RunPath, echo_json
from fewshot_i2v.cli._flags import completer
from fewshot_i2v.cli._help import help_command, rare_flag
from fewshot_i2v.cli._next import command_line, continuation, echo_next
from fewshot_i2v.cli._split_options import evaluate_options, root_options
from fewshot_i2v.utils import resources

_SHARE = click.FloatRange(0, 1)
_OPEN_SHARE = click.FloatRange(0, 1, min_open=True, max_open=True)


def _check_points(_ctx: click.Context, _param: click.Parameter, value: float) -> float:
    if not 0.05 <= value <= 50:
        raise click.BadParameter(f"got {value:g}; expected 0.05 to 50 points (2 points are 2 %)")
    return value


_POINTS_OPTION: dict[str, Any] = {"type": float, "callback": _check_points, "show_default": True}


@help_command(
    "Estimate how many episodes and clips are needed.",
    ("plan", "for a usual evaluation, before there is one"),
    ("plan runs/pilot --half-width 0.5", "from a small first run, for intervals of ± 0.5 points"),
    epilog=EXIT_CODES,
)
@click.argument("run", required=False, type=RunPath())
@click.option(
    "--half-width",
    default=1.0,
    help="Wanted half width of the interval of an accuracy, in points (1 is 1 %).",
    **_POINTS_OPTION,
)
@click.option(
    "--difference",
    default=2.0,
    help="Difference of two rows that is to be detected, in points.",
    **_POINTS_OPTION,
)
@click.option(
    "--power",
    type=_OPEN_SHARE,
    default=0.8,
    show_default=True,
    help="Share of runs in which it is detected, 0 to 1.",
)
@click.option(
    "--level",
    type=_OPEN_SHARE,
    default=0.95,
    show_default=True,
    help="Confidence level of intervals and tests, 0 to 1.",
)
@click.option(
    "--split",
    shell_complete=completer(lambda: resources.data_names("episodes")),
    help="Split whose clips are counted, a name or a path.  [default: that of RUN]",
)
@click.option(
    "--root",
    type=click.Path(path_type=Path),
    help="Folder of the split's clips.  [default: that of the split]",
)
@click.option("--subset", help="Subset of the split.  [default: that of RUN, or novel]")
@click.option(
    "--way", type=click.IntRange(min=2), help="Classes of an episode.  [default: as in RUN, or 5]"
)
@click.option(
    "--shot",
    type=click.IntRange(min=1),
    multiple=True,
    help="Support clips per class. Repeatable.  [default: as in RUN, or 1]",
)
@click.option(
    "--query", type=click.IntRange(min=1), help="Query clips per class.  [default: as in RUN, or 5]"
)
@rare_flag(
    "--accuracy", type=_OPEN_SHARE, help="Assumed accuracy without RUN, 0 to 1.  [default: 0.8]"
)
@rare_flag(
    "--common",
    type=_SHARE,
    help="Assumed correlation of the answers in an episode, without RUN.  [default: 0.05]",
)
@rare_flag(
    "--pairing",
    type=_SHARE,
    help="Assumed correlation of the accuracies of two rows, without RUN.  [default: 0.3]",
)
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
    """Estimate how many episodes, query clips and clips per class are needed.

    RUN is a first small run (about 30 episodes of each row): its run folder, or a folder of run
    folders. Without RUN, an accuracy and a spread are assumed. More episodes make the intervals
    shorter for the clips that you have. To say the same of other clips of these classes, more
    clips are needed; the answer gives that number too.
    """
    from fewshot_i2v.report.plan.sample_size_plan import plan
    from fewshot_i2v.report.plan.text import render_plan

    if power <= 1 - level:
        raise click.UsageError(f"--power {power:g}: expected more than 1 - --level, {1 - level:g}")
    sizes = plan(
        run, half_width=half_width, difference=difference, power=power, level=level, **options
    )
    if as_json:
        echo_json(sizes.to_dict())
    else:
        click.echo(render_plan(sizes))
        until = ["--until", f"{half_width:g}"]
        if run is None:
            echo_next(command_line("evaluate", *_episode_words(options), *until))
        else:
            echo_next(*continuation([run], *until))


def _episode_words(options: Mapping[str, Any]) -> list[str]:
    """The options of the plan that an evaluation has too, and others that fit the split."""
    from fewshot_i2v.data.splits.split_file import load_split

    words: dict[str, list[str]] = {}
    for key in ("split", "root", "subset", "way", "shot", "query"):
        value = options[key]
        for item in value if isinstance(value, tuple) else [value]:
            words.setdefault(f"--{key}", []).extend([] if item is None else [str(item)])
    if options["split"] is not None:
        split = load_split(options["split"], root=options["root"])
        words["--root"] = root_options(split, options["root"])[1:]
        fitting, _ = evaluate_options(split) if options["subset"] is None else ([], None)
        for flag, value in zip((fitting or [])[::2], (fitting or [])[1::2], strict=True):
            words[flag] = words.get(flag) or [value]
    return [word for flag, values in words.items() for value in values for word in (flag, value)]
