"""What comparisons of methods claim, and how often it is wrong, where the truth is known.

    python scripts/coverage_of_differences.py --output difference-coverage.json

Three parts. `tables`: tables of 2, 4 and 6 rows that are equal over other clips of their classes,
though not on the clips there are; how many have one or more verdicts "beats" or "is worse than" on
these clips, and on other clips, as `fewshot-i2v compare` decides (`statistics.verdicts`); and how
many find a difference that there is. `intervals`: how often the intervals of the paired difference
hold it. `rare`: the same for differences that are mostly 0, by the number of episodes in which two
methods differ: where `MIN_DIFFERING` is from.
"""

from __future__ import annotations

import json
import platform
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path
from time import perf_counter
from typing import Any

import click
import numpy as np
import scipy
from _comparators import wilson
from _simulated_benchmark import (
    Array,
    Classes,
    Clips,
    Design,
    answered,
    shared_episodes,
    some_classes,
    some_clips,
    truth_here,
    truth_of_clips,
)
from _simulated_means import Held, held
from scipy.special import stdtrit

from fewshot_i2v.report.analysis.generalization import jackknife_gain
from fewshot_i2v.statistics import Interval
from fewshot_i2v.statistics.paired_tests import PairedComparison, compare_paired
from fewshot_i2v.statistics.predictions import PredictionTable
from fewshot_i2v.statistics.verdicts import DifferenceTest, Verdict, decide_verdicts
from fewshot_i2v.utils.environment import git_commit

LEVEL = 0.95
ROWS = (2, 4, 6)
SHOTS, EPISODES, CLIPS = (1, 5), (12, 50, 200, 1000), (8, 14, 40)
COMMON = 0.8
"""Correlation of how hard a clip is for the first row and for each other one."""
LENGTHS, SKEWS = (20, 50, 100, 200), (1, 2, 3)
DIFFER = (*range(2, 21), 25, 30, 40, 50)


@dataclass(frozen=True)
class Setting:
    """Tables of one kind.

    Attributes:
        name: what it is called.
        design: of the first row.
        episodes: number of episodes.
        times: repetitions.
        better: how much higher the other rows' classes are, in logits; 0 where they are equal.
        alike: whether chance decides alike for all rows, so that they differ more seldom.
    """

    name: str
    design: Design
    episodes: int
    times: int
    better: float = 0.0
    alike: bool = False


def settings(times: int) -> list[Setting]:
    """All kinds of tables."""
    found = []
    for shot, clips, episodes in product(SHOTS, CLIPS, EPISODES):
        design = Design(clips=clips, shot=shot, query=min(5, clips - shot))
        found.append(Setting(f"{shot}-shot, {clips} clips", design, episodes, times))
    for clips, episodes in product(CLIPS, EPISODES[1:]):
        design = Design(clips=clips, query=5)
        few = max(times // 2, 2)
        found.append(Setting(f"alike, {clips} clips", design, episodes, few, alike=True))
        found.append(Setting(f"better, {clips} clips", design, episodes, few, better=1.0))
    return found


@dataclass(frozen=True)
class Row:
    """A row of a table: its outcomes, and the truths that its mean is an estimate of."""

    outcomes: PredictionTable
    here: float
    elsewhere: float


def some_rows(setting: Setting, generator: np.random.Generator) -> list[Row]:
    """As many rows as the largest table has, on the same episodes."""
    design, classes = setting.design, some_classes(setting.design, generator)
    common = some_clips(design, generator)
    drawn = shared_episodes(design, setting.episodes, generator)
    chance, rows = int(generator.integers(2**32)), []
    for number in range(max(ROWS)):
        clips, own = common, classes
        if number:
            clips = _mixed(common, some_clips(design, generator))
            own = replace(classes, effect=classes.effect + setting.better)
        luck = np.random.default_rng(chance) if setting.alike else generator
        rows.append(_row(design, own, clips, answered(design, own, clips, drawn, luck)))
    return rows


def _row(design: Design, classes: Classes, clips: Clips, outcomes: PredictionTable) -> Row:
    here = truth_here(design, classes, clips)
    return Row(outcomes, here, truth_of_clips(design, classes))


def _mixed(common: Clips, own: Clips) -> Clips:
    """Clips that are partly hard for the same reasons; their effects spread as `common` do."""
    rest = np.sqrt(1 - COMMON**2)
    query, support = (
        COMMON * getattr(common, name) + rest * getattr(own, name) for name in ("query", "support")
    )
    return Clips(query, support, common.draw)


def seen(row: Row, first: Row) -> tuple[PairedComparison, DifferenceTest]:
    """What `compare` has of two rows before it knows how many there are."""
    a, b = (one.outcomes.accuracies.tolist() for one in (row, first))
    paired = compare_paired(a, b, LEVEL)
    clips = jackknife_gain([row.outcomes], [first.outcomes])
    return paired, DifferenceTest(paired.difference.mean, paired.test.p, clips)


def repeated(setting: Setting, seed: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The lines of one setting: of its tables, and of its intervals."""
    generator = np.random.default_rng(seed)
    shown: Counter[tuple[int, str]] = Counter()
    intervals: dict[tuple[str, str, bool], Held] = defaultdict(list)
    without: Counter[str] = Counter()
    for _ in range(setting.times):
        rows = some_rows(setting, generator)
        found = [seen(row, rows[0]) for row in rows[1:]]
        for size in ROWS:
            made = decide_verdicts([one for _, one in found[: size - 1]], LEVEL)
            shown.update((size, where) for where in _shown(made))
        # those of the largest table; intervals are at the level itself in each of them
        for row, (paired, _), verdict in zip(rows[1:], found, made, strict=True):
            truths = {"here": row.here - rows[0].here, "clips": row.elsewhere - rows[0].elsewhere}
            _hold(paired.difference, "Student t", truths, intervals, without)
            if verdict.other_clips is not None:
                truth = {"clips": truths["clips"]}
                _hold(verdict.other_clips, "jackknife, clips", truth, intervals, without)
    about = {"setting": setting.name, "episodes": setting.episodes}
    tables = [
        about | {"rows": size, "tables": setting.times} | _rates(shown, size, setting.times)
        for size in ROWS
    ]
    number = setting.times * (max(ROWS) - 1)
    lines = [
        about
        | {"interval": name, "truth": truth, "claimed": claimed, "repetitions": len(of)}
        | {"coverage": round(float(np.mean([h for h, _ in of])), 4)}
        | {"refused": round(without[name] / number, 4)}
        for (name, truth, claimed), of in intervals.items()
    ]
    return tables, lines


def _shown(made: Sequence[Verdict]) -> Iterator[str]:
    if any(one.sign for one in made):
        yield "here"
    if any(one.holds_on_other_clips for one in made):
        yield "elsewhere"


def _hold(
    interval: Interval,
    name: str,
    truths: dict[str, float],
    intervals: dict[tuple[str, str, bool], Held],
    without: Counter[str],
) -> None:
    if interval.low is None:
        without[name] += 1
        return
    for of, truth in truths.items():
        claimed = (name, of) != ("Student t", "clips")
        intervals[name, of, claimed].append(held(interval, truth))


def _rates(shown: Counter[tuple[int, str]], size: int, times: int) -> dict[str, Any]:
    """Shares of the tables, with Wilson's interval of that on other clips."""
    here, elsewhere = shown[size, "here"], shown[size, "elsewhere"]
    ends = wilson(elsewhere, times, LEVEL)
    return {
        "on_these_clips": round(here / times, 4),
        "on_other_clips": round(elsewhere / times, 4),
        "on_other_clips_low": None if ends.low is None else round(ends.low, 4),
        "on_other_clips_high": None if ends.high is None else round(ends.high, 4),
    }


def some_differences(skew: float, shape: tuple[int, int], generator: np.random.Generator) -> Array:
    """Differences of mean 0, none of them 0: losses are larger than gains and as much rarer.

    Args:
        skew: how many times.
        shape: samples and episodes that differ, (N, K).
        generator: of the draws.
    """
    sizes = generator.uniform(0, 2, shape)
    gains = generator.random(shape) < skew / (1 + skew)
    return np.where(gains, sizes, -skew * sizes)


def rare(times: int, seed: int) -> Iterator[dict[str, Any]]:
    """How often Student's t holds 0, by the number of episodes that differ; in the others it is 0.

    How many differ says nothing of by how much, so this does not depend on how often they do.
    """
    generator = np.random.default_rng(seed)
    for skew, length in product(SKEWS, LENGTHS):
        held_by = {}
        for differ in [k for k in DIFFER if k <= length]:
            values = some_differences(skew, (times, differ), generator)
            mean = values.sum(1) / length
            variance = ((values**2).sum(1) - length * mean**2) / (length - 1)
            half = stdtrit(length - 1, (1 + LEVEL) / 2) * np.sqrt(variance / length)
            held_by[str(differ)] = round(float(np.mean(np.abs(mean) <= half)), 4)
        yield {"skew": skew, "episodes": length, "coverage": held_by}


def table(lines: Sequence[dict[str, Any]]) -> str:
    """Lines of one part as Markdown."""
    heads = list(lines[0])
    rows = [heads, ["---"] * len(heads), *([str(v) for v in line.values()] for line in lines)]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


@click.command(context_settings={"show_default": True})
@click.option("--times", type=click.IntRange(min=2), default=100, help="Tables of a setting.")
@click.option("--seed", type=click.IntRange(min=0), default=0, help="Of the simulation.")
@click.option("--quick", is_flag=True, help="4 tables of the settings up to 50 episodes.")
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="JSON to write.")
def main(*, times: int, seed: int, quick: bool, output: Path | None) -> None:
    """What comparisons of methods claim, and how often it is wrong."""
    start = perf_counter()
    times = 4 if quick else times
    tables, intervals = [], []
    for number, setting in enumerate(settings(times)):
        if not quick or setting.episodes <= 50:
            of_tables, of_intervals = repeated(setting, seed + number)
            tables += of_tables
            intervals += of_intervals
    few = list(rare(200 if quick else 100_000, seed))
    click.echo("\n\n".join(table(part) for part in (tables, intervals, few)))
    if output is not None:
        about = {
            "level": LEVEL,
            "times": times,
            "seed": seed,
            "seconds": round(perf_counter() - start, 1),
            "design": asdict(Design()),
            "commit": git_commit(),
            "numpy": np.__version__,
            "scipy": scipy.__version__,
            "python": platform.python_version(),
        }
        parts = {"tables": tables, "intervals": intervals, "rare": few}
        text = ",\n".join(
            f' "{name}": [\n  ' + ",\n  ".join(map(json.dumps, part)) + "\n ]"
            for name, part in parts.items()
        )
        output.write_text(f'{{\n "about": {json.dumps(about)},\n{text}\n}}\n', encoding="utf-8")


if __name__ == "__main__":
    main()
