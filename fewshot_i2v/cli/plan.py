"""`fewshot-i2v plan`: how many episodes, query clips and clips a question takes."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from math import isfinite
from pathlib import Path
from statistics import harmonic_mean
from typing import TYPE_CHECKING, Any

import click

from fewshot_i2v.cli._common import EXIT_CODES, echo_json
from fewshot_i2v.cli._flags import completer
from fewshot_i2v.runs.run_index import RunPath
from fewshot_i2v.utils import resources

if TYPE_CHECKING:
    from fewshot_i2v.report.plan.pilot import Pilot
    from fewshot_i2v.report.plan.sample_size_plan import Aims, ClipPlan, PairPlan, RowPlan, Spreads

_WAY, _SHOT, _QUERY = 5, 1, 5
_ACCURACY, _COMMON, _PAIRING = 0.8, 0.05, 0.3
_ASSUMED = ("accuracy", "common", "pairing")
_SHARE = click.FloatRange(0, 1)
_INSIDE = click.FloatRange(0, 1, min_open=True, max_open=True)


def _points(_ctx: click.Context, _param: click.Parameter, value: float) -> float:
    if not 0.05 <= value <= 50:
        raise click.BadParameter(f"{value:g} is not from 0.05 to 50; in points: 2 is 2 %.")
    return value


_POINTS: dict[str, Any] = {"type": float, "callback": _points, "show_default": True}


@dataclass(frozen=True)
class Plan:
    """All that is planned.

    Attributes:
        title: what it is made from.
        way: classes of an episode.
        query: query clips per class; None where episodes of the pilot differ in it.
        rows: one for each row of the pilot, or for each shot.
        pairs: one for each comparison.
        remarks: what is to be said besides.
    """

    title: str
    way: int | str
    query: int | None
    rows: tuple[RowPlan, ...]
    pairs: tuple[PairPlan, ...]
    remarks: tuple[str, ...]


@click.command(epilog=EXIT_CODES, short_help="Say how many episodes and clips a question takes.")
@click.argument("run", required=False, type=RunPath())
@click.option("--half-width", default=1.0, help="Of accuracies, in points.", **_POINTS)
@click.option(
    "--difference", default=2.0, help="Between two rows, to be found; in points.", **_POINTS
)
@click.option(
    "--power", type=_INSIDE, default=0.8, show_default=True, help="In what share of runs."
)
@click.option(
    "--level", type=_INSIDE, default=0.95, show_default=True, help="Of intervals and tests."
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
@click.option("--accuracy", type=_INSIDE, help=f"Assumed without RUN, 0..1; {_ACCURACY}.")
@click.option(
    "--common", type=_SHARE, help=f"Assumed correlation of answers of an episode; {_COMMON}."
)
@click.option(
    "--pairing", type=_SHARE, help=f"Assumed correlation of two methods' accuracies; {_PAIRING}."
)
@click.option("--json", "as_json", is_flag=True, help="Write JSON.")
def command(
    run: Path | None,
    half_width: float,
    difference: float,
    power: float,
    level: float,
    as_json: bool,
    **given: Any,
) -> None:
    """Say how many episodes, query clips and clips per class a question takes.

    RUN is a pilot: a run folder or a folder of run folders, 30 episodes or so of each row. Without
    one, accuracy and spread are assumed. Accuracies are wanted to ± --half-width, and a
    --difference between two rows is to be found in a share --power of runs. More episodes bring
    both for the clips there are; for other clips of the same classes it takes more clips, and how
    many is said, too, with a warning where the split has too few.
    """
    from fewshot_i2v.report.plan.sample_size_plan import Aims

    if power <= 1 - level:
        raise click.UsageError(f"--power {power:g}: expected more than 1 - --level, {1 - level:g}")
    aims = Aims(half_width / 100, difference / 100, power, level)
    if run is None:
        pilot, plan = None, _assumed(aims, given)
    else:
        pilot, plan = _from_pilot(run, aims, given)
    clips, remarks = _clips(plan, pilot, aims, given)
    remarks = [*plan.remarks, *remarks]
    if as_json:
        echo_json(_plain(plan, clips, aims, remarks))
        return
    from fewshot_i2v.report.plan.text import render

    said: dict[str, Any] = {"way": plan.way, "query": plan.query, "remarks": remarks}
    click.echo(render(plan.title, aims, plan.rows, plan.pairs, clips, **said))


def _from_pilot(run: Path, aims: Aims, given: dict[str, Any]) -> tuple[Pilot, Plan]:
    """The rows and comparisons of a pilot.

    Raises:
        UsageError: when the pilot cannot be read, or is not of what was given.
    """
    from fewshot_i2v.report.plan.sample_size_plan import pair_plan, row_plan

    pilot = _checked(run, given)
    way, query, asked = pilot.config["way"], pilot.config["query"], given["query"]
    queries = None if asked is None else asked * way
    rows = [
        row_plan(row.name, row.shot, row.found, queries or row.found.queries, aims)
        for row in pilot.rows
    ]
    pairs = [
        pair_plan(
            pair.names,
            pair.shot,
            pair.found,
            queries or pair.found.queries,
            aims,
            comparisons=len(pilot.pairs),
            differ=pair.differ,
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
    counted = asked or (query if isinstance(query, int) and isinstance(way, int) else None)
    title = f"From a pilot: {pilot.title}"
    return pilot, Plan(title, way, counted, tuple(rows), tuple(pairs), tuple(remarks))


def _checked(run: Path, given: dict[str, Any]) -> Pilot:
    """The pilot, if it is of what was given.

    Raises:
        UsageError: when it is not, or cannot be read.
    """
    from fewshot_i2v.errors import UsageError
    from fewshot_i2v.report.plan.pilot import read_pilot

    for key in _ASSUMED:
        if given[key] is not None:
            raise UsageError(f"--{key} is assumed where there is no pilot; {run} is one. Drop it")
    pilot = read_pilot(run, given["shot"])
    way, asked = pilot.config["way"], given["query"]
    if given["way"] not in (None, way):
        raise UsageError(
            f"--way {given['way']}: {run} is a pilot of way {way}; expected that. How episodes of "
            "another way spread takes a pilot of them"
        )
    if asked is not None and not isinstance(way, int):
        raise UsageError(f"--query {asked}: not with way {way} of {run}; drop it")
    return pilot


def _assumed(aims: Aims, given: dict[str, Any]) -> Plan:
    from fewshot_i2v.report.plan.sample_size_plan import pair_plan, row_plan
    from fewshot_i2v.statistics.variance_components import assumed, assumed_difference

    accuracy, common, pairing = (
        default if given[key] is None else given[key]
        for key, default in zip(_ASSUMED, (_ACCURACY, _COMMON, _PAIRING), strict=True)
    )
    way, query = given["way"] or _WAY, given["query"] or _QUERY
    found = assumed(accuracy, way * query, common)
    apart = assumed_difference(found, pairing)
    rows, pairs = [], []
    shots = tuple(dict.fromkeys(given["shot"])) or (_SHOT,)
    for shot in shots:
        rows.append(row_plan("assumed", shot, found, found.queries, aims))
        names = ("one", "another")
        pairs.append(pair_plan(names, shot, apart, found.queries, aims, comparisons=len(shots)))
    title = (
        f"Assumed: accuracy {100 * accuracy:g} %, correlation {common:g} of the answers of an "
        f"episode and {pairing:g} of two methods' accuracies; {way}-way, {query} query clips per "
        "class"
    )
    remark = "Assumed spreads are a first guess: a pilot of 30 episodes replaces them (plan RUN)."
    return Plan(title, way, query, tuple(rows), tuple(pairs), (remark,))


def _clips(
    plan: Plan, pilot: Pilot | None, aims: Aims, given: dict[str, Any]
) -> tuple[list[ClipPlan], list[str]]:
    """What the clips of the split allow, or why that cannot be said."""
    from fewshot_i2v.report.plan.sample_size_plan import clip_plan

    name = given["split"] or (pilot and pilot.config["split"])
    if name is None:
        return [], ["Whether a split has clips enough for that: give --split."]
    subset = given["subset"] or (pilot.config["subset"] if pilot else "novel")
    if plan.query is None or not isinstance(plan.way, int):
        return [], ["What the clips allow: not counted where way or query of episodes differ."]
    if subset == "test":
        return [], [
            "What the clips allow: not counted for the subset test, whose episodes share the "
            "support clips of train."
        ]
    sizes, spreads, remarks = _sizes(str(name), subset, pilot, given)
    again = pilot is not None and pilot.config.get("sampling") != "disjoint"
    pool = harmonic_mean(sizes) if again and sizes and not remarks else None
    plans = []
    for shot in dict.fromkeys(row.shot for row in plan.rows):
        every = [row for row in plan.rows if row.shot == shot]
        if not sizes:
            break
        rows = [row for row in every if not row.even]
        remarks += [_unplanned(row) for row in every if row.even]
        if isinstance(shot, int) and rows:
            pairs = [pair for pair in plan.pairs if pair.shot == shot]
            plans.append(
                clip_plan(sizes, plan.way, plan.query, rows, pairs, aims, spreads, pool=pool)
            )
    return plans, remarks


def _unplanned(row: RowPlan) -> str:
    return (
        f"Other clips are not planned for {row.name}, {row.shot}-shot: it did the same in every "
        "episode of the pilot, so nothing shows how much clips matter. A longer pilot may; what "
        "can be said of other clips by now says `show RUN --intervals`."
    )


def _sizes(
    name: str, subset: str, pilot: Pilot | None, given: dict[str, Any]
) -> tuple[list[int], Spreads, list[str]]:
    """Clips of each class, and how much they matter in the pilot where it was drawn from them.

    None where the split of a pilot is not there any more.

    Raises:
        UsageError: when the split asked for cannot be read, or has too few classes.
    """
    from fewshot_i2v.data.splits.split_file import load_split
    from fewshot_i2v.data.splits.summary import class_sizes
    from fewshot_i2v.errors import FewshotError
    from fewshot_i2v.report.plan.pilot import spreads_over_clips

    try:
        split = load_split(name, root=given["root"])
    except FewshotError as error:
        if given["split"] or given["root"]:
            raise
        return [], {}, [f"What the clips allow: the pilot's split cannot be read ({error})."]
    sizes = list(class_sizes(split, subset).values())
    if pilot is None:
        return sizes, {}, []
    if (split.digest, subset) != (pilot.digest, pilot.config["subset"]):
        return sizes, {}, [f"The clips counted are those of {name} ({subset}), not the pilot's."]
    return sizes, spreads_over_clips(pilot, sizes), []


def _plain(plan: Plan, clips: list[ClipPlan], aims: Aims, remarks: list[str]) -> dict[str, Any]:
    """Plain types, for JSON; what has no end is null."""
    return {
        "title": plan.title,
        "way": plan.way,
        "query": plan.query,
        "aims": asdict(aims),
        "rows": [asdict(row) for row in plan.rows],
        "pairs": [asdict(pair) for pair in plan.pairs],
        "clips": [asdict(each) | {"star": _finite(each.star)} for each in clips],
        "remarks": remarks,
    }


def _finite(value: float) -> float | None:
    return value if isfinite(value) else None
