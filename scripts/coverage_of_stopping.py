"""How often a mean is as near as asked for when `fewshot_i2v.statistics.sequential_stopping` stops.

    python scripts/coverage_of_stopping.py --times 2000 --most 2000 --output stopping-coverage.json

made the record; `--times 100 --most 50` takes seconds.

Accuracies of episodes with known mean are made up, and a run with `--until` is played through,
again and again. `fixed` is the number of episodes that would do if their spread were known, and how
often the mean is within the half-width asked for then, in percent; `plain` stops as soon as the
interval of Student's t is short enough; `rule` is ours, and `t holds` says how often the interval
of Student's t, shorter than the half-width asked for, holds the mean where the rule stops. An
episode has 5 or 25 queries; `common` is the correlation of two answers of one episode. Numbers of
episodes are means.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from math import ceil, sqrt
from pathlib import Path
from statistics import fmean
from time import perf_counter

import click
import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri, stdtrit

from fewshot_i2v.statistics import mean_interval
from fewshot_i2v.statistics.sequential_stopping import decide_stopping

Array = NDArray[np.float64]
_EDGE = 1e-9
HEADINGS = (
    "mean  queries  common  ± points | fixed  within | plain  within | "
    " rule  within  t holds  looks"
)


@dataclass(frozen=True)
class Setting:
    """Episodes of one kind.

    Attributes:
        mean: true accuracy.
        queries: of an episode.
        common: correlation of two answers of one episode, 0..1.
        target: half-width asked for.
        level: of the interval.
        rows: how many stop together; they share what is common to an episode's queries.
    """

    mean: float
    queries: int
    common: float
    target: float
    level: float = 0.95
    rows: int = 1

    @property
    def variance(self) -> float:
        """Of an episode's accuracy."""
        share = self.common + (1 - self.common) / self.queries
        return self.mean * (1 - self.mean) * share

    @property
    def fixed(self) -> int:
        """Episodes that would do if the variance were known."""
        quantile = float(ndtri((1 + self.level) / 2))
        return max(2, ceil(quantile**2 * self.variance / self.target**2))

    def draw(self, generator: np.random.Generator, count: int) -> Array:
        """Accuracies of `count` episodes of each row, (rows, count)."""
        chance = np.full(count, self.mean)
        if self.common:
            size = 1 / self.common - 1
            chance = generator.beta(self.mean * size, (1 - self.mean) * size, size=count)
        shape = (self.rows, count)
        return np.asarray(generator.binomial(self.queries, chance, size=shape) / self.queries)

    def held(self, values: Array) -> bool:
        """Whether the interval of Student's t holds the truth."""
        shown = mean_interval(values.tolist(), self.level)
        half = shown.half_width
        return half is not None and abs(shown.mean - self.mean) <= half + _EDGE

    def within(self, values: Sequence[float] | Array) -> bool:
        """Whether the mean of some values is as near to the truth as asked for."""
        return abs(fmean(values) - self.mean) <= self.target + _EDGE


@dataclass(frozen=True)
class Found:
    """What a setting gave: shares within the half-width, and mean numbers of episodes."""

    setting: Setting
    times: int
    fixed_within: float
    plain: float
    plain_within: float
    rule: float
    rule_within: float
    t_holds: float
    looks: float

    def line(self) -> str:
        """As in the table."""
        s = self.setting
        return (
            f"{s.mean:.2f}  {s.queries:7}  {s.common:6.2f}  {100 * s.target:8.1f} | "
            f"{s.fixed:5}  {100 * self.fixed_within:6.1f} | "
            f"{self.plain:5.0f}  {100 * self.plain_within:6.1f} | "
            f"{self.rule:5.0f}  {100 * self.rule_within:6.1f}  {100 * self.t_holds:7.1f}  "
            f"{self.looks:5.1f}"
        )


def settings(most: int) -> Iterator[Setting]:
    """All that are tried; those that need more episodes than `most` are left out."""
    grid = product((0.2, 0.5, 0.9, 0.98), (5, 25), (0.0, 0.05, 0.3), (0.005, 0.01, 0.02, 0.05))
    for setting in (Setting(*values) for values in grid):
        if setting.fixed <= most:
            yield setting


def plain_stop(setting: Setting, values: Array) -> int:
    """Where the plain interval is first short enough; all values where it never is."""
    n = np.arange(2, len(values) + 1)
    sums, squares = values.cumsum()[1:], (values**2).cumsum()[1:]
    variance = np.maximum(squares - sums**2 / n, 0) / (n - 1)
    enough = stdtrit(n - 1, (1 + setting.level) / 2) * np.sqrt(variance / n) <= setting.target
    return int(n[enough.argmax()]) if enough.any() else len(values)


def rule_stop(setting: Setting, generator: np.random.Generator) -> tuple[Array, int]:
    """Plays a run through: the values it ends with, (rows, n), and the number of looks."""
    values = np.empty((setting.rows, 0))
    while True:
        decision = decide_stopping(values.tolist(), setting.target, level=setting.level)
        if decision.stop:
            return values[:, : decision.episodes], decision.looks
        more = setting.draw(generator, decision.episodes - values.shape[1])
        values = np.concatenate([values, more], axis=1)


def played(setting: Setting, times: int, generator: np.random.Generator) -> Found:
    """Plays a setting through, again and again."""
    fixed, plain, rule, looks = [], [], [], []
    for _ in range(times):
        values = setting.draw(generator, 2 * setting.fixed + 50)[0]
        fixed.append(setting.within(values[: setting.fixed]))
        stop = plain_stop(setting, values)
        plain.append((stop, setting.within(values[:stop])))
        ended, looked = rule_stop(setting, generator)
        rule += [(ended.shape[1], setting.within(row), setting.held(row)) for row in ended]
        looks.append(looked)
    stops, withins = zip(*plain, strict=True)
    ends, rule_withins, held = zip(*rule, strict=True)
    return Found(
        setting=setting,
        times=times,
        fixed_within=fmean(fixed),
        plain=fmean(stops),
        plain_within=fmean(withins),
        rule=fmean(ends),
        rule_within=fmean(rule_withins),
        t_holds=fmean(held),
        looks=fmean(looks),
    )


@click.command(help=__doc__, context_settings={"show_default": True})
@click.option("--times", type=click.IntRange(min=10), default=1000, help="Runs of each setting.")
@click.option("--most", type=int, default=1000, help="Leave out what needs more episodes.")
@click.option("--level", type=float, default=0.95)
@click.option("--rows", type=click.IntRange(min=1), default=1, help="Rows that stop together.")
@click.option("--seed", type=int, default=0)
@click.option("--output", type=click.Path(path_type=Path), help="Write the figures as JSON.")
def main(times: int, most: int, level: float, rows: int, seed: int, output: Path | None) -> None:
    """Prints a line per setting."""
    begun = perf_counter()
    click.echo(f"level {100 * level:g} %, {times} runs of each, {rows} rows\n\n{HEADINGS}")
    found = []
    for i, setting in enumerate(settings(most)):
        setting = replace(setting, level=level, rows=rows)
        found.append(played(setting, times, np.random.default_rng([seed, i])))
        click.echo(found[-1].line())
    worst = min(f.rule_within for f in found)
    noise = 2 * sqrt(level * (1 - level) / times)
    click.echo(
        f"\nrule: within in {100 * worst:.1f} % or more (figures are good to about "
        f"± {100 * noise:.1f}); plain: in {100 * min(f.plain_within for f in found):.1f} % or more"
    )
    large = [f.rule / f.setting.fixed for f in found if f.setting.fixed >= 200]
    if large:
        click.echo(f"rule: {fmean(large):.2f} times as many episodes where fixed is 200 or more")
    if output is not None:
        about = {
            "level": level,
            "times": times,
            "rows": rows,
            "seed": seed,
            "seconds": round(perf_counter() - begun, 1),
            "python": platform.python_version(),
            "numpy": np.__version__,
        }
        rows_out = [asdict(f) | {"fixed": f.setting.fixed} for f in found]
        output.write_text(json.dumps(about | {"settings": rows_out}, indent=1) + "\n")


if __name__ == "__main__":
    main()
