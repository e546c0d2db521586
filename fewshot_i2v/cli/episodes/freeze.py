"""`fewshot-i2v episodes freeze`: write episodes to a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from fewshot_i2v.cli._common import echo_json, root_option
from fewshot_i2v.cli._flags import COUNT, QUERY, SAMPLING, SHOT, SPLITS, WAY
from fewshot_i2v.cli._help import help_command, rare_flag
from fewshot_i2v.cli._next import command_line, echo_next
from fewshot_i2v.cli._split_options import root_options
from fewshot_i2v.errors import EpisodeError
from fewshot_i2v.utils.text_table import count_text


@help_command(
    "Write episodes to a file.",
    ("episodes freeze mine.yaml episodes.jsonl --shot 5", "200 episodes of 5 ways and 5 shots"),
    ("evaluate --split mine.yaml --trials episodes.jsonl", "then use them"),
)
@click.argument("split", **{k: v for k, v in SPLITS.items() if k == "shell_complete"})
@click.argument("out", type=click.Path(dir_okay=False, path_type=Path))
@root_option
@click.option(
    "--subset", default="novel", show_default=True, help="Subset that query clips come from."
)
@click.option("--way", default="5", show_default=True, help="Classes of an episode.", **WAY)
@click.option("--shot", default="1", show_default=True, help="Support clips per class.", **SHOT)
@click.option("--query", default="5", show_default=True, help="Query clips per class.", **QUERY)
@click.option("--episodes", default="200", show_default=True, help="Number of episodes.", **COUNT)
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the episodes.")
@rare_flag(
    "--sampling",
    default="independent",
    show_default=True,
    help="disjoint: no clip is in two episodes.",
    **SAMPLING,
)
@rare_flag(
    "--partitions",
    type=int,
    default=1,
    show_default=True,
    help="With disjoint sampling: partitions of the clips; 1: no clip is used twice.",
)
@rare_flag(
    "--disjoint-groups",
    is_flag=True,
    help="Support and query clips of an episode never share a group.",
)
@rare_flag(
    "--uneven-shots", is_flag=True, help="With a range of shots, each class has its own number."
)
@rare_flag("--draws", help="Published draws of support clips, by name.")
@click.option(
    "--names", is_flag=True, help="Write the names of clips in every line, for other programs."
)
@click.option("--force", is_flag=True, help="Replace OUT if it is there.")
@click.option("--json", "as_json", is_flag=True, help="Describe the written file as JSON.")
def command(
    split: str,
    out: Path,
    root: Path | None,
    subset: str,
    episodes: int | str,
    names: bool,
    force: bool,
    as_json: bool,
    **sampler_options: Any,
) -> None:
    """Write the episodes that `evaluate` draws with the same flags to OUT, as JSON Lines.

    `evaluate --trials OUT` uses them. The first line names all classes and clips, and has a digest
    of the file. Each further line is an episode, with numbers instead of names. With --names,
    each line has the names; such a file is longer, and `evaluate` does not read it. A name that
    ends in .gz is compressed.
    """
    from fewshot_i2v.data.episodes.episode_file import (
        MAX_EPISODES,
        make_episode_file,
        write_episode_file,
    )
    from fewshot_i2v.data.episodes.factory import make_sampler
    from fewshot_i2v.data.splits.split_file import load_split

    loaded_split = load_split(split, root=root)
    source = make_sampler(loaded_split, subset=subset, **sampler_options)
    count = source.count if episodes == "all" else episodes
    if not isinstance(count, int) or not 1 <= count <= MAX_EPISODES:
        raise EpisodeError(
            f"--episodes {episodes}: expected a number from 1, or all where their number is "
            f"limited; at most {MAX_EPISODES}"
        )
    episode_file = make_episode_file(
        loaded_split, subset, (source[i] for i in range(count)), sampler_options
    )
    write_episode_file(episode_file, out, overwrite=force, names=names)
    n_clips = len({name for episode in episode_file.episodes for name in episode.clip_names()})
    facts = {
        "file": str(out),
        "episodes": episode_file.count,
        "digest": episode_file.digest,
        "split": {"name": loaded_split.name, "digest": loaded_split.digest},
        "clips": n_clips,
    }
    if as_json:
        echo_json(facts)
        return
    click.echo(
        f"{out}: {count_text(episode_file.count, 'episode')} of "
        f"{count_text(n_clips, 'clip')}, sha256 "
        f"{episode_file.digest[:16]}..."
    )
    if not names:
        roots = root_options(loaded_split, root)
        echo_next(command_line("evaluate", "--split", split, "--trials", out, *roots))
