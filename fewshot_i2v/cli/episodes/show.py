"""`fewshot-i2v episodes show`: show what a split holds, and its possible episodes."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import click

from fewshot_i2v.cli._common import EXIT_CODES, echo_columns, echo_json, root_option
from fewshot_i2v.cli._flags import completer
from fewshot_i2v.cli._help import help_command
from fewshot_i2v.cli._next import command_line, echo_next
from fewshot_i2v.cli._split_options import evaluate_options, root_options
from fewshot_i2v.utils import resources
from fewshot_i2v.utils.text_table import count_text, wrap_text

_MAX_LISTED = 24
_EXTREMES_SHOWN = 5
_MAX_NAMED = 6
_WIDTH = 100

Facts = dict[str, Any]


@help_command(
    "Show the classes, clips and possible episodes of a split.",
    ("episodes show motions", "a shipped split"),
    ("episodes show mine.yaml --shot 1 --shot 5", "your own, for episodes of 1 and of 5 shots"),
    epilog=EXIT_CODES,
)
@click.argument("split", shell_complete=completer(lambda: resources.data_names("episodes")))
@root_option
@click.option("--way", type=click.IntRange(min=1), help="Classes of an episode.  [default: 5]")
@click.option(
    "--shot", type=click.IntRange(min=1), multiple=True, help="Support clips per class. Repeatable."
)
@click.option(
    "--query", type=click.IntRange(min=1), multiple=True, help="Query clips per class. Repeatable."
)
@click.option("--all-classes", is_flag=True, help="Name every class, however many there are.")
@click.option("--json", "as_json", is_flag=True, help="Write JSON.")
def command(
    split: str,
    root: Path | None,
    way: int | None,
    shot: tuple[int, ...],
    query: tuple[int, ...],
    all_classes: bool,
    as_json: bool,
) -> None:
    """Show classes, clips and groups of SPLIT (a name or a path), and what episodes it can give.

    The table of episodes says how many can be drawn so that no clip is in two of them, and names
    classes with too few clips. Without --shot and --query it is for the usual settings. --root is
    needed only where the clips are those that lie in folders.
    """
    from fewshot_i2v.data.splits.split_file import load_split
    from fewshot_i2v.data.splits.summary import COMMON_SETTINGS, summarize_split

    counts: Iterable[tuple[int, int]] = COMMON_SETTINGS
    if shot or query:
        counts = product(shot or (1, 5), query or (1,))
    settings = [(way or 5, *shot_and_query) for shot_and_query in counts]
    loaded = load_split(split, root=root)
    facts = summarize_split(loaded, settings)
    if as_json:
        echo_json(facts)
        return
    click.echo("\n".join(_description_lines(facts)))
    _show_subsets(facts["subsets"])
    for subset, subset_facts in facts["subsets"].items():
        _show_classes(subset, subset_facts, all_classes=all_classes)
    _show_episodes(facts["subsets"])
    if loaded.generator is None:
        echo_next(command_line("episodes", "check", split, *root_options(loaded, root)))
        return
    options, problem = evaluate_options(loaded)
    if options is None:
        click.echo(f"note: {problem}", err=True)
    else:
        echo_next(command_line("evaluate", "--split", split, *options))


def _description_lines(facts: Facts) -> Iterator[str]:
    """Yield lines that describe the split."""
    yield f"{facts['name']}, version {facts['version']}"
    yield from _wrap(facts["description"])
    yield ""
    rows = [("source", facts["source"]), ("licence", facts["licence"]), ("digest", facts["digest"])]
    if facts["generator"]:
        generator_settings = ", ".join(
            f"{key} {value}" for key, value in facts["generator"].items()
        )
        rows.append(("generated", generator_settings))
    if facts["find"] != "path":
        rows.append(("find", f"{facts['find']}: names on disk may differ from those listed"))
    for name, shots in facts["draws"].items():
        rows.append(("draws", f"{name}: {_format_shots(shots)}"))
    for key, text in rows:
        yield from _wrap(f"{key:<10}{text or 'not stated'}", " " * 10)
    if facts["group"]:
        yield f"{'group':<10}{facts['group']}"  # one that is wrapped cannot be copied
    for defect in facts["defects"]:
        yield from _wrap(f"{'defect':<10}{defect}", " " * 10)


def _format_shots(shots: Sequence[int]) -> str:
    """Format as "1, 5 (10 draws) clips per class"."""
    counts = [(shot_count, shots.count(shot_count)) for shot_count in sorted(set(shots))]
    shown = [
        str(shot_count) if count == 1 else f"{shot_count} ({count} draws)"
        for shot_count, count in counts
    ]
    return f"{', '.join(shown)} clips per class"


def _wrap(text: str, indent: str = "") -> list[str]:
    return wrap_text(text, _WIDTH, hanging=indent)


def _show_subsets(subsets: Facts) -> None:
    click.echo()
    rows = [("subset", "classes", "clips", "clips of a class", "groups", "clips of a group")]
    for name, subset_facts in subsets.items():
        groups = subset_facts["groups"]
        count = "none" if groups is None else str(groups["count"])
        if groups and groups["clips_without"]:
            count += f", {count_text(groups['clips_without'], 'clip')} without"
        group_sizes = "" if groups is None else _format_range(groups["clips_per_group"])
        sizes = _format_range(subset_facts["clips_per_class"])
        n_classes, n_clips = str(subset_facts["classes"]), str(subset_facts["clips"])
        rows.append((name, n_classes, n_clips, sizes, count, group_sizes))
    echo_columns(rows)


def _format_range(numbers: Facts) -> str:
    low, middle, high = (f"{numbers[key]:g}" for key in ("min", "median", "max"))
    return low if low == high else f"{low} to {high}, median {middle}"


def _show_classes(subset: str, subset_facts: Facts, *, all_classes: bool) -> None:
    rows = subset_facts["class_sizes"]
    click.echo()
    if all_classes or len(rows) <= _MAX_LISTED:
        click.echo(f"{subset} classes, with their clips")
        _show_cells([_class_cell(row) for row in rows])
        return
    sizes = subset_facts["clips_per_class"]
    if sizes["min"] == sizes["max"]:
        click.echo(f"{subset} classes, all with {sizes['min']} clips (names: --all-classes)")
        return
    ordered = sorted(rows, key=lambda row: (row["clips"], row["name"]))
    click.echo(f"{subset} classes, the {_EXTREMES_SHOWN} smallest and largest (all: --all-classes)")
    _show_cells([_class_cell(row) for row in ordered[:_EXTREMES_SHOWN]])
    click.echo(f"  ... {len(rows) - 2 * _EXTREMES_SHOWN} more")
    _show_cells([_class_cell(row) for row in ordered[-_EXTREMES_SHOWN:]])


def _class_cell(row: Facts) -> str:
    identifier = f" [{row['id']}]" if row["id"] is not None else ""
    return f"{row['clips']:>5}  {row['name']}{identifier}"


def _show_cells(cells: Sequence[str]) -> None:
    """Show as many columns as fit, read downwards."""
    width = shutil.get_terminal_size((_WIDTH, 24)).columns
    columns = max(1, min(4, (width + 2) // (max(map(len, cells)) + 2)))
    lines = -(-len(cells) // columns)
    for i in range(lines):
        row = cells[i::lines]
        click.echo("  ".join(f"{cell:<{max(map(len, cells))}}" for cell in row).rstrip())


def _show_episodes(subsets: Facts) -> None:
    first_settings = next(iter(subsets.values()))["episodes"]
    click.echo(f"\n{first_settings[0]['way']}-way episodes without a common clip")
    rows = [("", *subsets)]
    for i, setting in enumerate(first_settings):
        label = f"  {setting['shot']}-shot, {setting['query']} query"
        cells = (_format_episode_count(facts["episodes"][i]) for facts in subsets.values())
        rows.append((label, *cells))
    echo_columns(rows)
    if "test" in subsets:
        click.echo("any: support from train and queries from test; clips recur in other episodes")
    for subset, subset_facts in subsets.items():
        for setting in subset_facts["episodes"]:
            for line in _impossible_reasons(subset, subset_facts["classes"], setting):
                click.echo(line)


def _format_episode_count(setting: Facts) -> str:
    if not setting["drawn"]:
        return "impossible"
    return "any" if setting["disjoint"] is None else str(setting["disjoint"])


def _impossible_reasons(subset: str, classes: int, setting: Facts) -> list[str]:
    """Why a setting is impossible."""
    prefix = f"{subset}, {setting['shot']}-shot, {setting['query']} query: "
    if classes < setting["way"]:
        return [f"{prefix}{count_text(classes, 'class')}, fewer than {setting['way']}"]
    small_classes = setting["too_small"]
    if not small_classes:
        return []
    class_list = ", ".join(f"{row['name']} ({row['clips']})" for row in small_classes[:_MAX_NAMED])
    more = f" and {len(small_classes) - _MAX_NAMED} more" if len(small_classes) > _MAX_NAMED else ""
    return _wrap(f"{prefix}too few clips in {class_list}{more}", "  ")
