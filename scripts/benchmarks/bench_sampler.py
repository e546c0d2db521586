"""Time to enumerate the episodes of a split, on one core.

    python scripts/benchmarks/bench_sampler.py --episodes 100000

The split is made up: equal classes with equal numbers of clips. Prints one JSON object with the
setting, the seconds, and a digest over all episodes, which depends on the setting alone.
"""

from __future__ import annotations

import hashlib
import json
import platform
from time import perf_counter

import click
import numpy as np

from fewshot_i2v.data.episodes.sampler import EpisodeSampler
from fewshot_i2v.data.splits.split import Clip, Split


def made_up_split(classes: int, clips: int, per_group: int) -> Split:
    """A split of `classes` novel classes with `clips` clips each, `per_group` to a group."""
    novel = {
        f"class-{c:03d}": tuple(
            Clip(f"class-{c:03d}/{i:05d}.mp4", str(i // per_group)) for i in range(clips)
        )
        for c in range(classes)
    }
    return Split(name="made-up", subsets={"novel": novel})


@click.command(context_settings={"show_default": True})
@click.option("--episodes", type=click.IntRange(min=1), default=100_000, help="How many.")
@click.option("--classes", type=click.IntRange(min=1), default=24, help="Classes of the split.")
@click.option("--clips", type=click.IntRange(min=2), default=100, help="Clips of each class.")
@click.option("--per-group", type=click.IntRange(min=1), default=4, help="Clips of each group.")
@click.option("--way", type=click.IntRange(min=1), default=5, help="Classes of an episode.")
@click.option("--shot", type=click.IntRange(min=1), default=5, help="Support clips of a class.")
@click.option("--query", type=click.IntRange(min=1), default=5, help="Query clips of a class.")
@click.option("--seed", type=click.IntRange(min=0), default=0, help="Seed of the episodes.")
@click.option("--disjoint-groups", is_flag=True, help="Keep support and query groups apart.")
def main(
    *,
    episodes: int,
    classes: int,
    clips: int,
    per_group: int,
    way: int,
    shot: int,
    query: int,
    seed: int,
    disjoint_groups: bool,
) -> None:
    """Time to enumerate the episodes of a split, on one core."""
    start = perf_counter()
    sampler = EpisodeSampler(
        made_up_split(classes, clips, per_group),
        seed=seed,
        way=way,
        shot=shot,
        query=query,
        disjoint_groups=disjoint_groups,
    )
    ready = perf_counter()
    specs = [sampler[i] for i in range(episodes)]
    done = perf_counter()
    everything = hashlib.sha256()
    for spec in specs:
        everything.update(spec.digest.encode())
    result = {
        "setting": {
            "episodes": episodes,
            "classes": classes,
            "clips": clips,
            "per_group": per_group,
            "way": way,
            "shot": shot,
            "query": query,
            "seed": seed,
            "disjoint_groups": disjoint_groups,
        },
        "prepare_seconds": round(ready - start, 4),
        "enumerate_seconds": round(done - ready, 3),
        "microseconds_per_episode": round((done - ready) / episodes * 1e6, 1),
        "episodes_digest": everything.hexdigest()[:16],
        "python": platform.python_version(),
        "numpy": np.__version__,
        "machine": platform.machine(),
    }
    click.echo(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
