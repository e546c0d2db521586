"""How often the intervals of `fewshot_i2v.statistics` hold what they claim to hold.

    python scripts/coverage_of_intervals.py --output interval-coverage.json

A benchmark is made up again and again: other clips, other episodes, answers by chance, all with
known truth (`_simulated_benchmark.py`). Each line of the table counts how often one interval held
one truth: `here` is the mean over all episodes on these clips, `clips` that over all clips of these
classes, `classes` that over all classes. An interval should hold what it claims in 95 % of the
repetitions that have one (`refused` is the share of those that have none); where it does not claim
a truth, the line says what taking it for that would cost.

    python scripts/coverage_of_intervals.py --recorded interval-coverage.json

prints the short table of the docs from such a file, without simulating anything.
"""

from __future__ import annotations

import json
import platform
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from itertools import product
from pathlib import Path
from time import perf_counter
from typing import Any

import click
import numpy as np
from _comparators import bootstrap_mean, cluster_bootstrap, wilson
from _coverage_table import short, table
from _simulated_benchmark import (
    Classes,
    Design,
    answered,
    disjoint_episodes,
    groups_of,
    near_one,
    shared_episodes,
    some_classes,
    some_clips,
    truth_here,
    truth_of_classes,
    truth_of_clips,
)
from _simulated_means import Ends, Held, held, means

from fewshot_i2v.statistics import Interval, bounded_interval, mean_interval, seed_interval
from fewshot_i2v.statistics.jackknife import ClusterKind, JackknifeEstimate
from fewshot_i2v.statistics.predictions import PredictionTable

LEVEL = 0.95
REPEATS = 500


@dataclass(frozen=True)
class Setting:
    """One benchmark, and the intervals that are tried on it.

    Attributes:
        name: what the table calls it.
        design: what is simulated.
        episodes: number of episodes; 0 for as many as share no clip.
        times: repetitions.
        claims: intervals by name, with the truths that each claims.
        also: intervals by name, with truths that each does not claim.
        new_classes: draw the classes anew in each repetition, too.
        other: a second method on the same episodes; then everything is about its gain.
    """

    name: str
    design: Design
    episodes: int
    times: int
    claims: Mapping[str, str]
    also: Mapping[str, str] = field(default_factory=dict)
    new_classes: bool = False
    other: Design | None = None


Make = Callable[[Setting, PredictionTable, int], Interval | Ends]


def _accuracies(outcomes: PredictionTable) -> list[float]:
    values: list[float] = outcomes.accuracies.tolist()
    return values


def _jackknife(by: ClusterKind) -> Make:
    return lambda setting, outcomes, _: JackknifeEstimate.from_outcomes(
        outcomes, by, groups_of(setting.design) if by == "groups" else None
    ).interval(LEVEL)


def _bootstrap(by: ClusterKind) -> Make:
    return lambda setting, outcomes, seed: cluster_bootstrap(
        outcomes,
        by,
        groups=groups_of(setting.design) if by == "groups" else None,
        level=LEVEL,
        seed=seed,
        repeats=REPEATS,
    )


KINDS: tuple[ClusterKind, ...] = ("clips", "groups", "classes")
MAKERS: dict[str, Make] = {
    "Student t": lambda _, o, __: mean_interval(_accuracies(o), LEVEL),
    "bounded": lambda _, o, __: bounded_interval(_accuracies(o), LEVEL),
    "percentile-t": lambda _, o, seed: bootstrap_mean(
        _accuracies(o), LEVEL, seed=seed, repeats=REPEATS
    ),
    **{f"jackknife, {by}": _jackknife(by) for by in KINDS},
    **{f"bootstrap, {by}": _bootstrap(by) for by in KINDS},
    "weights of the query only": lambda s, o, seed: drawn_again(s.design, o, seed, False),
    "products of weights": lambda s, o, seed: drawn_again(s.design, o, seed, True),
}


def drawn_again(design: Design, outcomes: PredictionTable, seed: int, product: bool) -> Ends:
    """Two ways to bootstrap clips that the library does not have, to see why.

    A prediction counts as often as its query clip is drawn, or with the product of that number and
    those of all support clips of its episode.
    """
    generator = np.random.default_rng(seed)
    even = np.full(design.clips, 1 / design.clips)
    drawn = np.empty(200)
    for i in range(len(drawn)):
        times = generator.multinomial(design.clips, even, size=design.classes).ravel()
        weights = times[outcomes.query].astype(float)
        if product:
            clips = times[outcomes.support_clip].reshape(len(outcomes), -1)
            weights *= clips.astype(float).prod(1)[outcomes.episode]
        total = weights.sum()
        drawn[i] = weights @ outcomes.correct / total if total else np.nan
    # no prediction is left in most draws: as wide as can be
    drawn = np.where(np.isnan(drawn), np.arange(len(drawn)) % 2, drawn)
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


OPEN = {"jackknife, clips": "clips", "bootstrap, clips": "clips"}
GAIN = {"jackknife, clips": "clips"}
PLAIN = {"Student t": "clips", "bounded": "clips", "percentile-t": "clips"}
NEAR = {"bounded": "clips", "percentile-t": "clips"}
GROUPS = {"jackknife, groups": "clips", "bootstrap, groups": "clips"}
CLASSES = {"jackknife, classes": "classes", "bootstrap, classes": "classes"}
WEIGHTS = {"weights of the query only": "clips", "products of weights": "clips"}


def settings(times: int) -> list[Setting]:
    """What the table holds."""
    one, five = Design(), Design(clips=60, shot=5)
    grouped, few = Design(group=4, group_share=0.6), max(times * 2 // 5, 4)
    taken: dict[str, Any] = {"also": {"Student t": "clips"}}
    closed = {"claims": {"Student t": "here"} | OPEN} | taken
    tried: dict[str, Any] = {"claims": {}, "also": WEIGHTS}
    fresh: dict[str, Any] = {"claims": CLASSES, "also": {"Student t": "classes"}}
    in_groups: dict[str, Any] = {"claims": GROUPS, "also": {"jackknife, clips": "clips"}}
    high = near_one(one)
    return [
        Setting("1-shot", one, 200, times, **closed),
        Setting("1-shot", one, 1000, few, **closed),
        Setting("1-shot", one, 1000, few // 4, **tried),
        Setting("1-shot", one, 10000, few, **closed),
        Setting("5-shot", five, 200, times, **closed),
        Setting("5-shot", five, 1000, few, **closed),
        Setting("5-shot", five, 1000, few // 4, **tried),
        Setting("5-shot", five, 10000, few, **closed),
        Setting("5-shot, 5 queries", replace(five, query=5), 1000, few, **closed),
        Setting("1-shot, 20 clips", replace(one, clips=20), 1000, few, **closed),
        Setting("1-shot near 1", high, 1000, few, **closed),
        Setting("gain, 1-shot", one, 1000, few, GAIN, other=replace(one, level=1.3)),
        Setting("1-shot, disjoint", one, 0, times, PLAIN | OPEN),
        Setting("5-shot, 5 queries, disjoint", replace(five, query=5), 0, times, PLAIN | OPEN),
        Setting("1-shot near 1, disjoint", high, 0, times, NEAR | OPEN, {"Student t": "clips"}),
        Setting("1-shot, groups of 4", grouped, 1000, few, **in_groups),
        Setting("1-shot, groups of 4", grouped, 10000, few, **in_groups),
        Setting("1-shot, 12 new classes", one, 1000, few, new_classes=True, **fresh),
        Setting("1-shot, 12 new classes", one, 10000, few, new_classes=True, **fresh),
        Setting(
            "1-shot, 24 new classes", replace(one, classes=24), 1000, few, new_classes=True, **fresh
        ),
        *_few_clips_or_relatives(one, few),
    ]


def _few_clips_or_relatives(one: Design, few: int) -> Iterator[Setting]:
    """New classes with few clips, where more runs have no interval; and near relatives."""
    for classes, clips in product((12, 24), (8, 14)):
        name = f"1-shot, {classes} new classes of {clips} clips"
        design = replace(one, classes=classes, clips=clips)
        yield Setting(name, design, 1000, few, {"jackknife, classes": "classes"}, {}, True)
    for classes in (12, 24):
        name = f"1-shot, {classes} new classes, near relatives"
        design = replace(one, classes=classes, family=3, family_share=0.5)
        yield Setting(name, design, 1000, few, {}, {"jackknife, classes": "classes"}, True)


def repeated(setting: Setting, seed: int) -> Iterator[dict[str, Any]]:
    """The lines of one setting."""
    counts: dict[tuple[str, str, bool], Held] = defaultdict(list)
    asked = [
        (name, truth, claimed)
        for claimed, names in ((True, setting.claims), (False, setting.also))
        for name, truth in names.items()
    ]
    generator, accuracies = np.random.default_rng(seed), []
    classes = some_classes(setting.design, generator)
    for number in range(setting.times):
        if setting.new_classes:
            classes = some_classes(setting.design, generator)
        if setting.other is not None:
            found, gain = _gain(setting, setting.other, classes, generator)
            counts["jackknife, clips", "clips", True].append(held(found, gain))
            accuracies.append(found.mean)
            continue
        outcomes, truths = _run(setting, classes, generator)
        accuracies.append(outcomes.mean)
        for name, truth, claimed in asked:
            made = MAKERS[name](setting, outcomes, number)
            if not isinstance(made, Interval) or made.low is not None:
                counts[name, truth, claimed].append(held(made, truths[truth]))
    for (name, truth, claimed), times in counts.items():
        episodes, mean = setting.episodes or len(outcomes), round(float(np.mean(accuracies)), 4)
        line = _line(setting.name, episodes, mean, name, claimed, times, truth)
        yield line | _refused(setting, times)


def _refused(setting: Setting, times: Held) -> dict[str, float]:
    """The share of repetitions without an interval, where there are any."""
    share = round(1 - len(times) / setting.times, 4)
    return {"refused": share} if share else {}


def _run(
    setting: Setting, classes: Classes, generator: np.random.Generator
) -> tuple[PredictionTable, dict[str, float]]:
    design = setting.design
    clips = some_clips(design, generator)
    drawn = (
        shared_episodes(design, setting.episodes, generator)
        if setting.episodes
        else disjoint_episodes(design, generator)
    )
    truths = {
        "here": truth_here(design, classes, clips),
        "clips": truth_of_clips(design, classes),
        "classes": truth_of_classes(design),
    }
    return answered(design, classes, clips, drawn, generator), truths


def _gain(
    setting: Setting, other: Design, classes: Classes, generator: np.random.Generator
) -> tuple[Interval, float]:
    """Two methods on the same episodes: clips are hard for both, but not equally."""
    design = setting.design
    clips, own = some_clips(design, generator), some_clips(design, generator)
    theirs = replace(clips, query=0.8 * clips.query + 0.6 * own.query)
    better = replace(classes, effect=classes.effect + other.level - design.level)
    drawn = shared_episodes(design, setting.episodes, generator)
    a = answered(other, better, theirs, drawn, generator)
    b = answered(design, classes, clips, drawn, generator)
    gain = truth_of_clips(other, better) - truth_of_clips(design, classes)
    return JackknifeEstimate.from_outcomes(a, "clips", baseline=b).interval(LEVEL), gain


def plain_lines(times: int, seed: int, *, quick: bool) -> Iterator[dict[str, Any]]:
    """Intervals that need no benchmark: of shares, over training seeds, of a few accuracies."""
    generator = np.random.default_rng(seed)
    for n, share in ((50, 0.7), (500, 0.95), (5000, 0.99)):
        found = [held(wilson(int(k), n), share) for k in generator.binomial(n, share, times)]
        yield _line(f"{n} independent answers", None, share, "Wilson", True, found)
    for seeds in (3, 5):
        drawn = generator.normal(0.7, 0.015, size=(times, seeds))
        found = [held(seed_interval(row), 0.7) for row in drawn.tolist()]
        yield _line(f"{seeds} training seeds", None, 0.7, "over seeds", True, found)
    for line in means(times, seed, LEVEL, quick=quick):
        yield _line(*line)


def _line(
    setting: str,
    episodes: int | None,
    mean: float,
    name: str,
    claimed: bool,
    found: Held,
    truth: str = "mean",
) -> dict[str, Any]:
    return {
        "setting": setting,
        "episodes": episodes,
        "mean": mean,
        "interval": name,
        "truth": truth,
        "claimed": claimed,
        "repetitions": len(found),
        "coverage": round(float(np.mean([h for h, _ in found])), 4),
        "half_width": round(float(np.median([width for _, width in found])), 5),
    }


@click.command(context_settings={"show_default": True})
@click.option("--times", type=click.IntRange(min=2), default=1000, help="Repetitions.")
@click.option("--seed", type=click.IntRange(min=0), default=0, help="Of the simulation.")
@click.option("--quick", is_flag=True, help="40 repetitions of the settings up to 200 episodes.")
@click.option(
    "--recorded",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Print the short table of this file.",
)
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="JSON to write.")
def main(*, times: int, seed: int, quick: bool, recorded: Path | None, output: Path | None) -> None:
    """How often the intervals hold what they claim to hold."""
    if recorded is not None:
        lines = json.loads(recorded.read_text(encoding="utf-8"))["lines"]
        click.echo(short(lines, f"python scripts/{Path(__file__).name}"))
        return
    start = perf_counter()
    times = 40 if quick else times
    chosen = [s for s in settings(times) if not quick or s.episodes <= 200]
    lines = [line for i, setting in enumerate(chosen) for line in repeated(setting, seed + i)]
    lines += plain_lines(times, seed, quick=quick)
    click.echo(table(lines))
    if output is not None:
        about = {
            "level": LEVEL,
            "bootstrap_repeats": REPEATS,
            "times": times,
            "seed": seed,
            "seconds": round(perf_counter() - start, 1),
            "numpy": np.__version__,
            "python": platform.python_version(),
        }
        designs = {setting.name: asdict(setting.design) for setting in chosen}
        rows = ",\n  ".join(json.dumps(line) for line in lines)
        head = json.dumps({"about": about, "designs": designs}, indent=1)[:-2]
        output.write_text(f'{head},\n "lines": [\n  {rows}\n ]\n}}\n', encoding="utf-8")


if __name__ == "__main__":
    main()
