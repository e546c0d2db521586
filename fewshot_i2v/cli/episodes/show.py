"""`fewshot-i2v episodes show`: what a split holds, and what episodes it can give."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from fewshot_i2v.cli._common import EXIT_CODES, echo_columns, echo_json
from fewshot_i2v.cli._flags import completer
from fewshot_i2v.utils import resources

_WAY, _QUERY = 5, 1
_LISTED = 24
_ENDS = 5
_NAMED = 6
_WIDTH = 100

Facts = dict[str, Any]


@click.command(epilog=EXIT_CODES, short_help="Show what a split holds and can give.")
@click.argument("split", shell_complete=completer(lambda: resources.data_names("episodes")))
@click.option("--root", type=click.Path(path_type=Path), help="Folder of the split's clips.")
@click.option("--way", type=click.IntRange(min=1), help="Classes of an episode; 5.")
@click.option("--shot", type=click.IntRange(min=1), multiple=True, help="Support clips; repeat.")
@click.option("--query", type=click.IntRange(min=1), multiple=True, help="Query clips; repeat.")
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
    from fewshot_i2v.data.splits.summary import SETTINGS, summary

    ways = _WAY if way is None else way
    pairs = [(k, q) for k in shot or (1, 5) for q in query or (_QUERY,)]
    settings = [(ways, k, q) for k, q in (pairs if shot or query else SETTINGS)]
    facts = summary(load_split(split, root=root), settings)
    if as_json:
        echo_json(facts)
        return
    for text in _parts(facts):
        click.echo(text)
    _show_subsets(facts["subsets"])
    for subset, held in facts["subsets"].items():
        _show_classes(subset, held, all_classes=all_classes)
    _show_episodes(facts["subsets"])


def _parts(facts: Facts) -> Iterator[str]:
    """What is said of the split as a whole."""
    yield f"{facts['name']}, version {facts['version']}"
    yield from _wrapped(facts["description"])
    yield ""
    rows = [("source", facts["source"]), ("licence", facts["licence"]), ("digest", facts["digest"])]
    if facts["generator"]:
        made = ", ".join(f"{key} {value}" for key, value in facts["generator"].items())
        rows.append(("generated", made))
    if facts["find"] != "path":
        rows.append(("find", f"{facts['find']}: names on disk may differ from those listed"))
    for name, shots in facts["draws"].items():
        rows.append(("draws", f"{name}: {_shots(shots)}"))
    for key, text in rows:
        yield from _wrapped(f"{key:<10}{text or 'not stated'}", " " * 10)
    if facts["group"]:
        yield f"{'group':<10}{facts['group']}"  # one that is wrapped cannot be copied
    for defect in facts["defects"]:
        yield from _wrapped(f"{'defect':<10}{defect}", " " * 10)


def _shots(shots: Sequence[int]) -> str:
    """Such as "1, 5 (10 draws) clips per class"."""
    counts = [(k, shots.count(k)) for k in sorted(set(shots))]
    shown = [str(k) if count == 1 else f"{k} ({count} draws)" for k, count in counts]
    return f"{', '.join(shown)} clips per class"


def _wrapped(text: str, indent: str = "") -> list[str]:
    return textwrap.wrap(
        text, _WIDTH, subsequent_indent=indent, break_on_hyphens=False, break_long_words=False
    )


def _show_subsets(subsets: Facts) -> None:
    click.echo()
    rows = [("subset", "classes", "clips", "clips of a class", "groups", "clips of a group")]
    for name, held in subsets.items():
        groups = held["groups"]
        count = "none" if groups is None else str(groups["count"])
        if groups and groups["clips_without"]:
            count += f", {groups['clips_without']} clips without"
        own = "" if groups is None else _spread(groups["clips_per_group"])
        sizes = _spread(held["clips_per_class"])
        rows.append((name, str(held["classes"]), str(held["clips"]), sizes, count, own))
    echo_columns(rows)


def _spread(numbers: Facts) -> str:
    low, middle, high = (f"{numbers[key]:g}" for key in ("min", "median", "max"))
    return low if low == high else f"{low} to {high}, median {middle}"


def _show_classes(subset: str, held: Facts, *, all_classes: bool) -> None:
    rows = held["class_sizes"]
    click.echo()
    if all_classes or len(rows) <= _LISTED:
        click.echo(f"{subset} classes, with their clips")
        _show_cells([_cell(row) for row in rows])
        return
    sizes = held["clips_per_class"]
    if sizes["min"] == sizes["max"]:
        click.echo(f"{subset} classes, all with {sizes['min']} clips (names: --all-classes)")
        return
    ordered = sorted(rows, key=lambda row: (row["clips"], row["name"]))
    click.echo(f"{subset} classes, the {_ENDS} smallest and largest (all: --all-classes)")
    _show_cells([_cell(row) for row in ordered[:_ENDS]])
    click.echo(f"  ... {len(rows) - 2 * _ENDS} more")
    _show_cells([_cell(row) for row in ordered[-_ENDS:]])


def _cell(row: Facts) -> str:
    own = f" [{row['id']}]" if row["id"] is not None else ""
    return f"{row['clips']:>5}  {row['name']}{own}"


def _show_cells(cells: Sequence[str]) -> None:
    """In as many columns as fit, read downwards."""
    width = shutil.get_terminal_size((_WIDTH, 24)).columns
    columns = max(1, min(4, (width + 2) // (max(map(len, cells)) + 2)))
    lines = -(-len(cells) // columns)
    for i in range(lines):
        row = cells[i::lines]
        click.echo("  ".join(f"{cell:<{max(map(len, cells))}}" for cell in row).rstrip())


def _show_episodes(subsets: Facts) -> None:
    first = next(iter(subsets.values()))["episodes"]
    click.echo(f"\n{first[0]['way']}-way episodes without a common clip")
    rows = [("", *subsets)]
    for i, setting in enumerate(first):
        label = f"  {setting['shot']}-shot, {setting['query']} query"
        rows.append((label, *(_count(held["episodes"][i]) for held in subsets.values())))
    echo_columns(rows)
    if "test" in subsets:
        click.echo("any: support from train and queries from test; clips recur in other episodes")
    for subset, held in subsets.items():
        for setting in held["episodes"]:
            for line in _lacking(subset, held["classes"], setting):
                click.echo(line)


def _count(setting: Facts) -> str:
    if not setting["drawn"]:
        return "impossible"
    return "any" if setting["disjoint"] is None else str(setting["disjoint"])


def _lacking(subset: str, classes: int, setting: Facts) -> list[str]:
    """Why a setting is impossible."""
    what = f"{subset}, {setting['shot']}-shot, {setting['query']} query: "
    if classes < setting["way"]:
        return [f"{what}{classes} classes, fewer than {setting['way']}"]
    small = setting["too_small"]
    if not small:
        return []
    named = ", ".join(f"{row['name']} ({row['clips']})" for row in small[:_NAMED])
    more = f" and {len(small) - _NAMED} more" if len(small) > _NAMED else ""
    return _wrapped(f"{what}too few clips in {named}{more}", "  ")
