"""`fewshot-i2v plan`: episodes, query clips and clips for a precision."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from math import isfinite
from pathlib import Path
from statistics import harmonic_mean
from typing import TYPE_CHECKING, Any

import click

from fewshot_i2v.cli._common import EXIT_CODES, RunPath, echo_json
from fewshot_i2v.cli._flags import completer
from fewshot_i2v.utils import resources

if TYPE_CHECKING:
    from fewshot_i2v.report.plan.pilot import Pilot
    from fewshot_i2v.report.plan.sample_size_plan import (
        ClipVariances,
        ComparisonPlan,
        DisjointClipPlan,
        PlanTargets,
        RowPlan,
    )

_DEFAULT_WAY, _DEFAULT_SHOT, _DEFAULT_QUERY = 5, 1, 5
_DEFAULT_ACCURACY, _DEFAULT_COMMON, _DEFAULT_PAIRING = 0.8, 0.05, 0.3
_ASSUMED_OPTIONS = ("accuracy", "common", "pairing")
_SHARE = click.FloatRange(0, 1)
_OPEN_SHARE = click.FloatRange(0, 1, min_open=True, max_open=True)


def _check_points(_ctx: click.Context, _param: click.Parameter, value: float) -> float:
    if not 0.05 <= value <= 50:
        raise click.BadParameter(f"{value:g} is not from 0.05 to 50; in points: 2 is 2 %.")
    return value


_POINTS_OPTION: dict[str, Any] = {"type": float, "callback": _check_points, "show_default": True}


@dataclass(frozen=True)
class SampleSizePlan:
    """The plan of all rows.

    Attributes:
        title: what it is based on.
        way: classes of an episode.
        query: query clips per class; None where episodes of the pilot differ in it.
        rows: one for each row of the pilot, or for each shot.
        pairs: one for each comparison.
        remarks: further sentences.
    """

    title: str
    way: int | str
    query: int | None
    rows: tuple[RowPlan, ...]
    pairs: tuple[ComparisonPlan, ...]
    remarks: tuple[str, ...]


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
@click.option(
    "--accuracy", type=_OPEN_SHARE, help=f"Assumed without RUN, 0..1; {_DEFAULT_ACCURACY}."
)
@click.option(
    "--common",
    type=_SHARE,
    help=f"Assumed correlation of answers of an episode; {_DEFAULT_COMMON}.",
)
@click.option(
    "--pairing",
    type=_SHARE,
    help=f"Assumed correlation of two methods' accuracies; {_DEFAULT_PAIRING}.",
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
    """Say how many episodes, query clips and clips per class a question takes.

    RUN is a pilot: a run folder or a folder of run folders, 30 episodes or so of each row. Without
    one, accuracy and spread are assumed. Accuracies are wanted to ± --half-width, and a
    --difference between two rows is to be found in a share --power of runs. More episodes bring
    both for the clips there are; for other clips of the same classes it takes more clips, and how
    many is said, too, with a warning where the split has too few.
    """
    from fewshot_i2v.report.plan.sample_size_plan import PlanTargets

    if power <= 1 - level:
        raise click.UsageError(f"--power {power:g}: expected more than 1 - --level, {1 - level:g}")
    targets = PlanTargets(half_width / 100, difference / 100, power, level)
    if run is None:
        pilot, plan = None, _plan_from_assumptions(targets, options)
    else:
        pilot, plan = _plan_from_pilot(run, targets, options)
    clips, remarks = _plan_split_clips(plan, pilot, targets, options)
    remarks = [*plan.remarks, *remarks]
    if as_json:
        echo_json(_plan_to_dict(plan, clips, targets, remarks))
        return
    from fewshot_i2v.report.plan.text import render_plan

    setting: dict[str, Any] = {"way": plan.way, "query": plan.query, "remarks": remarks}
    click.echo(render_plan(plan.title, targets, plan.rows, plan.pairs, clips, **setting))


def _plan_from_pilot(
    run: Path, targets: PlanTargets, options: dict[str, Any]
) -> tuple[Pilot, SampleSizePlan]:
    """Plan the rows and comparisons of a pilot.

    Raises:
        UsageError: when it cannot be read, or does not match the options.
    """
    from fewshot_i2v.report.plan.sample_size_plan import plan_comparison, plan_row

    pilot = _read_matching_pilot(run, options)
    way, query, requested_query = pilot.config["way"], pilot.config["query"], options["query"]
    n_queries = None if requested_query is None else requested_query * way
    rows = [
        plan_row(
            row.name,
            row.shot,
            row.episode_components,
            n_queries or row.episode_components.queries,
            targets,
        )
        for row in pilot.rows
    ]
    pairs = [
        plan_comparison(
            pair.names,
            pair.shot,
            pair.episode_components,
            n_queries or pair.episode_components.queries,
            targets,
            comparisons=len(pilot.pairs),
            n_differing=pair.n_differing,
        )
        for pair in pilot.pairs
    ]
    failed = sum(row.failed for row in pilot.rows)
    remarks = [*pilot.remarks]
    if failed:
        remarks.append(f"Failed episodes of the pilot: {failed}; left out.")
    if pilot.config.get("sampling") == "disjoint":
        remarks.append(
            "The pilot's episodes share no clip, so there are only as many as its clips allow."
        )
    planned_query = requested_query or (
        query if isinstance(query, int) and isinstance(way, int) else None
    )
    title = f"From a pilot: {pilot.title}"
    return pilot, SampleSizePlan(
        title, way, planned_query, tuple(rows), tuple(pairs), tuple(remarks)
    )


def _read_matching_pilot(run: Path, options: dict[str, Any]) -> Pilot:
    """Read a pilot that matches the options.

    Raises:
        UsageError: when it does not, or cannot be read.
    """
    from fewshot_i2v.errors import UsageError
    from fewshot_i2v.report.plan.pilot import read_pilot

    for key in _ASSUMED_OPTIONS:
        if options[key] is not None:
            raise UsageError(f"--{key} is assumed where there is no pilot; {run} is one. Drop it")
    pilot = read_pilot(run, options["shot"])
    way, requested_query = pilot.config["way"], options["query"]
    if options["way"] not in (None, way):
        raise UsageError(
            f"--way {options['way']}: {run} is a pilot of way {way}; expected that. How episodes "
            "of another way spread takes a pilot of them"
        )
    if requested_query is not None and not isinstance(way, int):
        raise UsageError(f"--query {requested_query}: not with way {way} of {run}; drop it")
    return pilot


def _plan_from_assumptions(targets: PlanTargets, options: dict[str, Any]) -> SampleSizePlan:
    from fewshot_i2v.report.plan.sample_size_plan import plan_comparison, plan_row
    from fewshot_i2v.statistics.variance_components import (
        assumed_components,
        assumed_difference_components,
    )

    accuracy, common, pairing = (
        default if options[key] is None else options[key]
        for key, default in zip(
            _ASSUMED_OPTIONS, (_DEFAULT_ACCURACY, _DEFAULT_COMMON, _DEFAULT_PAIRING), strict=True
        )
    )
    way, query = options["way"] or _DEFAULT_WAY, options["query"] or _DEFAULT_QUERY
    row_components = assumed_components(accuracy, way * query, common)
    difference_components = assumed_difference_components(row_components, pairing)
    rows, pairs = [], []
    shots = tuple(dict.fromkeys(options["shot"])) or (_DEFAULT_SHOT,)
    for shot in shots:
        rows.append(plan_row("assumed", shot, row_components, row_components.queries, targets))
        names = ("one", "another")
        pairs.append(
            plan_comparison(
                names,
                shot,
                difference_components,
                row_components.queries,
                targets,
                comparisons=len(shots),
            )
        )
    title = (
        f"Assumed: accuracy {100 * accuracy:g} %, correlation {common:g} of the answers of an "
        f"episode and {pairing:g} of two methods' accuracies; {way}-way, {query} query clips per "
        "class"
    )
    remark = "Assumed spreads are a first guess: a pilot of 30 episodes replaces them (plan RUN)."
    return SampleSizePlan(title, way, query, tuple(rows), tuple(pairs), (remark,))


def _plan_split_clips(
    plan: SampleSizePlan, pilot: Pilot | None, targets: PlanTargets, options: dict[str, Any]
) -> tuple[list[DisjointClipPlan], list[str]]:
    """Plan the clips of the split, or say why that is not possible."""
    from fewshot_i2v.report.plan.sample_size_plan import plan_clips

    name = options["split"] or (pilot and pilot.config["split"])
    if name is None:
        return [], ["Whether a split has clips enough for that: give --split."]
    subset = options["subset"] or (pilot.config["subset"] if pilot else "novel")
    if plan.query is None or not isinstance(plan.way, int):
        return [], ["What the clips allow: not counted where way or query of episodes differ."]
    if subset == "test":
        return [], [
            "What the clips allow: not counted for the subset test, whose episodes share the "
            "support clips of train."
        ]
    sizes, variances, remarks = _read_class_sizes(str(name), subset, pilot, options)
    reuses_clips = pilot is not None and pilot.config.get("sampling") != "disjoint"
    pool = harmonic_mean(sizes) if reuses_clips and sizes and not remarks else None
    plans = []
    for shot in dict.fromkeys(row.shot for row in plan.rows):
        shot_rows = [row for row in plan.rows if row.shot == shot]
        if not sizes:
            break
        rows = [row for row in shot_rows if not row.shows_no_spread]
        remarks += [_unplanned_remark(row) for row in shot_rows if row.shows_no_spread]
        if isinstance(shot, int) and rows:
            pairs = [pair for pair in plan.pairs if pair.shot == shot]
            plans.append(
                plan_clips(sizes, plan.way, plan.query, rows, pairs, targets, variances, pool=pool)
            )
    return plans, remarks


def _unplanned_remark(row: RowPlan) -> str:
    return (
        f"Other clips are not planned for {row.name}, {row.shot}-shot: it did the same in every "
        "episode of the pilot, so nothing shows how much clips matter. A longer pilot may; what "
        "can be said of other clips by now says `show RUN --intervals`."
    )


def _read_class_sizes(
    name: str, subset: str, pilot: Pilot | None, options: dict[str, Any]
) -> tuple[list[int], ClipVariances, list[str]]:
    """Clips of each class, and their variances in the pilot if it was drawn from them.

    Empty where the split of a pilot cannot be read any more.

    Raises:
        UsageError: when the requested split cannot be read, or has too few classes.
    """
    from fewshot_i2v.data.splits.split_file import load_split
    from fewshot_i2v.data.splits.summary import class_sizes
    from fewshot_i2v.errors import FewshotError
    from fewshot_i2v.report.plan.pilot import pilot_clip_variances

    try:
        split = load_split(name, root=options["root"])
    except FewshotError as error:
        if options["split"] or options["root"]:
            raise
        return [], {}, [f"What the clips allow: the pilot's split cannot be read ({error})."]
    sizes = list(class_sizes(split, subset).values())
    if pilot is None:
        return sizes, {}, []
    if (split.digest, subset) != (pilot.split_digest, pilot.config["subset"]):
        return sizes, {}, [f"The clips counted are those of {name} ({subset}), not the pilot's."]
    return sizes, pilot_clip_variances(pilot, sizes), []


def _plan_to_dict(
    plan: SampleSizePlan, clips: list[DisjointClipPlan], targets: PlanTargets, remarks: list[str]
) -> dict[str, Any]:
    """Plain types, for JSON; infinity is null."""
    return {
        "title": plan.title,
        "way": plan.way,
        "query": plan.query,
        "aims": asdict(targets),
        "rows": [asdict(row) for row in plan.rows],
        "pairs": [asdict(pair) for pair in plan.pairs],
        "clips": [
            asdict(clip_plan) | {"star": _finite_or_none(clip_plan.star)} for clip_plan in clips
        ],
        "remarks": remarks,
    }


def _finite_or_none(value: float) -> float | None:
    return value if isfinite(value) else None
