"""Time to draw episodes of a published split, beside learn2learn's Taskset, in one run.

    python scripts/benchmarks/bench_tasksets.py --split ssv2-full-otam --subset base

Both draw episodes of names alone: no video is decoded. learn2learn's task is a way, shots plus
queries per class, `NWays`, `KShots`, `LoadData` and `RemapLabels`, as its own examples put them
together; its data set returns a clip's name. Set-up and episodes are timed alternately, `--repeats`
times each; the medians and their ratio are printed as one JSON object.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import click
from _about import about
from torch.utils.data import Dataset

from fewshot_i2v.data.episodes.sampler import EpisodeSampler
from fewshot_i2v.data.splits.split import Split
from fewshot_i2v.data.splits.split_file import load_split

Draw = Callable[[int], object]


class Names(Dataset[tuple[str, int]]):
    """A data set whose items are names of clips and numbers of classes."""

    def __init__(self, split: Split, subset: str) -> None:
        self.items = [
            (clip.name, label)
            for label, name in enumerate(split.classes(subset))
            for clip in split.clips(subset, name)
        ]

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> tuple[str, int]:
        return self.items[index]


def ours(split: Split, subset: str, way: int, shot: int, query: int) -> Draw:
    """Draws episode i with this package."""
    sampler = EpisodeSampler(split, subset=subset, seed=0, way=way, shot=shot, query=query)
    return lambda i: sampler[i]


def theirs(split: Split, subset: str, way: int, shot: int, query: int) -> Draw:
    """Draws the next task with learn2learn."""
    try:
        import learn2learn as l2l
    except ImportError as error:
        raise click.ClickException(
            "learn2learn is not installed: bash scripts/install_learn2learn.sh python"
        ) from error
    dataset = l2l.data.MetaDataset(Names(split, subset))
    transforms = [
        l2l.data.transforms.NWays(dataset, way),
        l2l.data.transforms.KShots(dataset, shot + query),
        l2l.data.transforms.LoadData(dataset),
        l2l.data.transforms.RemapLabels(dataset),
    ]
    tasks = l2l.data.Taskset(
        dataset, task_transforms=transforms, num_tasks=-1, task_collate=lambda items: items
    )
    return lambda _: tasks.sample()


def timed(make: Callable[[], Draw], episodes: int) -> tuple[float, float]:
    """Seconds to set up, and for one episode."""
    start = perf_counter()
    draw = make()
    ready = perf_counter()
    for i in range(episodes):
        draw(i)
    return ready - start, (perf_counter() - ready) / episodes


def alternately(
    makers: dict[str, Callable[[], Draw]], episodes: dict[str, int], repeats: int
) -> Iterator[tuple[str, float, float]]:
    """Times each maker in turn, several times over."""
    for _ in range(repeats):
        for name, make in makers.items():
            yield name, *timed(make, episodes[name])


@click.command(context_settings={"show_default": True})
@click.option("--split", default="ssv2-full-otam", help="Name or path.")
@click.option("--subset", default="base", help="Subset of its classes.")
@click.option("--way", type=click.IntRange(min=1), default=5, help="Classes of an episode.")
@click.option("--shot", type=click.IntRange(min=1), default=5, help="Support clips of a class.")
@click.option("--query", type=click.IntRange(min=1), default=1, help="Query clips of a class.")
@click.option("--episodes", type=click.IntRange(min=1), default=2000, help="Ours in each repeat.")
@click.option("--their-episodes", type=click.IntRange(min=1), default=100, help="Theirs.")
@click.option("--repeats", type=click.IntRange(min=1), default=5, help="Of everything.")
@click.option("--out", type=click.Path(path_type=Path), help="Also write the JSON to this file.")
def main(out: Path | None, **setting: Any) -> None:
    """Time episodes of a published split beside learn2learn's Taskset."""
    split, subset = load_split(setting["split"]), setting["subset"]
    numbers = [setting[key] for key in ("way", "shot", "query")]
    random.seed(0)  # learn2learn draws with it
    makers: dict[str, Callable[[], Draw]] = {
        "ours": lambda: ours(split, subset, *numbers),
        "learn2learn": lambda: theirs(split, subset, *numbers),
    }
    count = {"ours": setting["episodes"], "learn2learn": setting["their_episodes"]}
    setup: dict[str, list[float]] = {name: [] for name in makers}
    each: dict[str, list[float]] = {name: [] for name in makers}
    for name, ready, episode in alternately(makers, count, setting["repeats"]):
        setup[name].append(ready)
        each[name].append(episode)
    rows = {
        name: {
            "set_up_seconds": round(median(setup[name]), 4),
            "microseconds_per_episode": round(1e6 * median(each[name]), 1),
            "least": round(1e6 * min(each[name]), 1),
            "most": round(1e6 * max(each[name]), 1),
        }
        for name in makers
    }
    ratios = [b / a for a, b in zip(each["ours"], each["learn2learn"], strict=True)]
    result = {
        "about": about(libraries=("learn2learn", "numpy")),
        "setting": setting | {"clips": len(Names(split, subset))},
        **rows,
        "times_as_fast": round(median(ratios), 2),
        "set_up_times_as_fast": round(median(setup["learn2learn"]) / median(setup["ours"]), 2),
    }
    text = json.dumps(result, indent=2)
    click.echo(text)
    if out is not None:
        out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
