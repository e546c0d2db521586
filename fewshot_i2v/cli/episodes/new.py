"""`fewshot-i2v episodes new`: a split of one's own clips."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fewshot_i2v.cli._common import EXIT_CODES, echo_columns, echo_json
from fewshot_i2v.errors import SplitError, UnknownNameError, UsageError
from fewshot_i2v.utils.input_files import read_text

if TYPE_CHECKING:
    from fewshot_i2v.data.splits.builder.class_selection import Share
    from fewshot_i2v.data.splits.builder.clip_list import Listing
    from fewshot_i2v.data.splits.split import Split

_SUBSETS = ("base", "val", "novel")
_QUERY, _WAY = 5, 5  # defaults of an evaluation, with one shot
_SHOWN = 3
_NAMES_LIMIT = 4 << 20
_ALL_WAY_SHOTS = (1, 2, 4, 8, 16)
_FILE: dict[str, Any] = {"type": click.Path(path_type=Path)}
_SHARE: dict[str, Any] = {"metavar": "N|FRACTION"}
_NAMES: dict[str, Any] = {"metavar": "A,B,C|FILE"}


@click.command(epilog=EXIT_CODES, short_help="Make a split of your own clips.")
@click.argument("out", **_FILE)
@click.option("--root", **_FILE, help="Folder of the clips; alone: one folder per class in it.")
@click.option("--csv", "table", **_FILE, help="Source: a CSV with columns path, class, group.")
@click.option("--columns", metavar="KEY=NAME,...", help="Of the CSV, where named otherwise.")
@click.option("--annotations", **_FILE, help="Source: lines PATH [FRAMES] LABEL; Kinetics CSV.")
@click.option("--test-annotations", **_FILE, help="Second such file: for an all-way split.")
@click.option("--labels", **_FILE, help="Names of the labels: one per line, or lines ID,NAME.")
@click.option("--base", **_SHARE, help="How many classes to train on; of 10: 5 or 0.5.")
@click.option("--val", **_SHARE, help="How many classes to choose settings on.")
@click.option("--novel", **_SHARE, help="How many classes to evaluate on; else all others.")
@click.option("--base-classes", **_NAMES, help="The base classes, by name.")
@click.option("--val-classes", **_NAMES, help="The val classes, by name.")
@click.option("--novel-classes", **_NAMES, help="The novel classes, by name.")
@click.option("--seed", type=int, default=0, show_default=True, help="Which classes are drawn.")
@click.option("--all-way", is_flag=True, help="All classes for learning and testing; see above.")
@click.option("--group", metavar="REGEX", help="Its ( ) in a clip's name: who or what it is from.")
@click.option(
    "--group-scope",
    type=click.Choice(["class", "global"]),
    default="class",
    show_default=True,
    help="Whether equal groups of two classes are two or one.",
)
@click.option("--name", help="Of the split; that of OUT if not given.")
@click.option("--source", help="Where the clips are from.")
@click.option("--licence", help="On what terms they may be used.")
@click.option("--description", help="What they are.")
@click.option("--force", is_flag=True, help="Replace OUT if it is there.")
@click.option("--json", "as_json", is_flag=True, help="Write JSON.")
def command(out: Path, force: bool, as_json: bool, **given: Any) -> None:
    """Write the split file OUT.yaml for clips in class folders, or listed in a file.

    \b
      fewshot-i2v episodes new mine.yaml --root CLIPS
      fewshot-i2v episodes new mine.yaml --root CLIPS --base 0.6 --val 2
      fewshot-i2v episodes new mine.yaml --csv clips.csv --columns path=file,class=label
      fewshot-i2v episodes new mine.yaml --annotations train.txt --labels names.txt

    Without more, every class is novel: that is for evaluating on your classes, which needs no
    training on others. To train on some, give --base (and --val, to choose settings on): those
    classes are drawn by their names and the seed, the same on every machine.

    With --all-way there are the subsets train and test with the same classes: from folders train
    and test in --root, the column split of the CSV, or --test-annotations.

    A clip is a video file or a folder of numbered pictures. Files whose names do not say what they
    are have their first bytes read. Clips are named by their paths below --root; absolute ones in a
    list are shortened to that.
    """  # noqa: D301 - click wants the sign itself
    from fewshot_i2v.data.splits.builder.build import make_split, missing_files, write_new
    from fewshot_i2v.data.splits.split_file import load_split

    if out.exists() and not force:
        raise UsageError(f"{out}: is already there; give another name, or --force to replace it")
    listing = _listing(given)
    chosen = None if _is_all_way(given) else _chosen(given, listing)
    split = make_split(
        listing,
        chosen,
        name=given["name"] or out.stem,
        group=given["group"],
        group_scope=given["group_scope"],
        **{key: given[key] or "" for key in ("source", "licence", "description")},
    )
    files = write_new(split, out, _made_from(given, split), overwrite=force)
    root: Path | None = given["root"]
    split = load_split(out, root=root)
    notes = [*listing.notes, *_left_out(listing, split)]
    if root is not None:
        notes += _missing(missing_files(split), split, root)
    for note in notes:
        click.echo(f"note: {note}", err=True)
    _report(split, files, root, as_json=as_json)


def _is_all_way(given: Mapping[str, Any]) -> bool:
    return bool(given["all_way"] or given["test_annotations"])


def _listing(given: Mapping[str, Any]) -> Listing:
    """What the source lists.

    Raises:
        UsageError: when not one source is given, or options that do not belong to it.
    """
    from fewshot_i2v.data.splits.builder.importers import from_annotations, from_csv, from_folders

    root, table, file = given["root"], given["table"], given["annotations"]
    if table is not None and file is not None:
        raise UsageError("--csv and --annotations: expected one of them")
    if table is None and file is None and root is None:
        raise UsageError(
            "nothing says where the clips are: give --root FOLDER with one folder per class, "
            "--csv FILE or --annotations FILE"
        )
    if root is not None and not root.is_dir():
        raise UsageError(f"--root: no folder {root}; expected the folder of the clips")
    for option, owner in (("columns", table), ("labels", file), ("test_annotations", file)):
        if given[option] is not None and owner is None:
            source = "--csv" if option == "columns" else "--annotations"
            raise UsageError(f"--{option.replace('_', '-')}: goes with {source}")
    all_way = _is_all_way(given)
    if table is not None:
        return from_csv(table, root=root, columns=_columns(given["columns"]), all_way=all_way)
    if file is None:
        return from_folders(root, all_way=all_way)
    test, labels = given["test_annotations"], given["labels"]
    return from_annotations(file, test=test, labels=labels, root=root, all_way=all_way)


def _columns(text: str | None) -> dict[str, str]:
    from fewshot_i2v.data.splits.builder.importers import COLUMNS

    columns = {}
    for item in (text or "").split(",") if text else []:
        key, equals, name = (part.strip() for part in item.partition("="))
        if not equals or not name:
            raise UsageError(f"--columns: got {item!r}; expected KEY=NAME, such as path=file")
        if key not in COLUMNS:
            raise UnknownNameError("key of --columns", key, COLUMNS)
        if key in columns:
            raise UsageError(f"--columns: {key} is there twice")
        columns[key] = name
    return columns


def _chosen(given: Mapping[str, Any], listing: Listing) -> dict[str, tuple[str, ...]]:
    from fewshot_i2v.data.splits.builder.class_selection import choose_classes

    shares = {subset: _share(subset, given) for subset in _SUBSETS}
    return choose_classes(list(listing.classes()), **shares, seed=given["seed"])


def _share(subset: str, given: Mapping[str, Any]) -> Share:
    text, names = given[subset], given[f"{subset}_classes"]
    if text is not None and names is not None:
        raise UsageError(f"--{subset} and --{subset}-classes: expected one of them")
    if names is not None:
        return _names(f"--{subset}-classes", names)
    if text is None:
        return None
    number = re.fullmatch(r"\d{1,9}|\d*\.\d{1,9}", text)
    if number is None:
        raise UsageError(f"--{subset}: got {text!r}; expected a count such as 5, or 0.6 of all")
    return float(text) if "." in text else int(text)


def _names(option: str, text: str) -> list[str]:
    """Names with commas between, or those in a file, one per line."""
    path = Path(text)
    if "," in text or not path.is_file():
        names = [name.strip() for name in text.split(",")]
    else:
        try:
            names = read_text(path, _NAMES_LIMIT).splitlines()
        except OSError as error:
            raise SplitError(f"{option}: {path}: {error.strerror}") from error
    names = [name.strip() for name in names if name.strip()]
    if not names:
        raise UsageError(f"{option}: got {text!r}; expected names of classes")
    return names


def _made_from(given: Mapping[str, Any], split: Split) -> str:
    """Words for the comments of the file: the source, and how classes were chosen."""
    source = given["table"] or given["annotations"]
    text = "class folders" if source is None else Path(source).name
    if set(split.subsets) <= {"novel"} or _is_all_way(given):
        return text
    options = [
        f"--{key.replace('_', '-')} {_without_place(given[key])}"
        for subset in _SUBSETS
        for key in (subset, f"{subset}_classes")
        if given[key] is not None
    ]
    return f"{text} with {' '.join(options)} --seed {given['seed']}"


def _without_place(value: str) -> str:
    """A value of an option; of a file its name, since folders are those of one machine."""
    path = Path(value)
    return shlex.quote(path.name if path.is_file() else value)


def _left_out(listing: Listing, split: Split) -> list[str]:
    kept = {name for classes in split.subsets.values() for name in classes}
    left = sorted(set(listing.classes()) - kept)
    return [f"{len(left)} classes are in no subset: {_some(left)}"] if left else []


def _missing(names: list[str], split: Split, root: Path) -> list[str]:
    if not names:
        return []
    return [
        f"{len(names)} of {len(split.names())} clips are no files in {root}: {_some(names)}. "
        "`fewshot-i2v episodes check` looks closer"
    ]


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _report(split: Split, files: list[Path], root: Path | None, *, as_json: bool) -> None:
    """What was made, and the command to go on with."""
    from fewshot_i2v.data.splits.summary import summary

    out = files[-1]
    held = summary(split)["subsets"]
    commands, problem = _next_commands(split, out, root)
    if as_json:
        plain = {"files": list(map(str, files)), "subsets": held, "digest": split.digest}
        echo_json({**plain, "next": commands, "problem": problem})
        return
    click.echo(f"{', '.join(map(str, files))}: split {split.name!r}")
    rows = []
    for subset, facts in held.items():
        small = min(facts["class_sizes"], key=lambda row: row["clips"])
        groups = facts["groups"]
        rows.append(
            (
                subset,
                f"{facts['classes']} classes",
                f"{facts['clips']} clips",
                f"{groups['count']} groups" if groups else "no groups",
                f"smallest class: {small['name']}, {small['clips']} clips",
            )
        )
    echo_columns(rows, "  ")
    if problem:
        click.echo(f"note: {problem}", err=True)
    click.echo("next:")
    for line in commands:
        click.echo(f"  {line}")
    if len(commands) > 1:
        click.echo("and with an encoder for real videos, add to the last one")
        click.echo("  --encoder ViT-B-16 --pretrained openai")
        click.echo("and to compare adapters with the frozen encoder")
        click.echo("  --adapter frozen --adapter st-adapter --adapter aim")
        grouped = all(f["groups"] and not f["groups"]["clips_without"] for f in held.values())
        if grouped and "test" not in held:
            click.echo("and so that support and query clips share no group")
            click.echo("  --disjoint-groups")


def _next_commands(split: Split, out: Path, root: Path | None) -> tuple[list[str], str | None]:
    """Commands that work with this split, and why there is no evaluation if there is none."""
    where = ["--root", str(root) if root is not None else "CLIPS"]
    check = shlex.join(["fewshot-i2v", "episodes", "check", str(out), *where])
    fitting, problem = _fitting(split)
    if fitting is None:
        return [check], problem
    evaluate = ["fewshot-i2v", "evaluate", "--split", str(out), *where, *fitting]
    return [check, shlex.join(evaluate)], problem


def _fitting(split: Split) -> tuple[list[str] | None, str | None]:
    """Options with which the split can be evaluated as it is, or why it cannot."""
    if "test" in split.subsets:
        support = min(len(split.clips("train", name)) for name in split.classes("train"))
        shot = str(max(k for k in _ALL_WAY_SHOTS if k <= support))
        ways = ["--subset", "test", "--way", "all", "--query", "all"]
        return [*ways, "--shot", shot, "--episodes", "5"], None
    subset = next(s for s in ("novel", "val", "base") if s in split.subsets)
    sizes = {name: len(split.clips(subset, name)) for name in split.classes(subset)}
    small = min(sizes, key=lambda name: sizes[name])
    if len(sizes) < 2:
        return None, f"{subset} has one class; episodes need two or more"
    if sizes[small] < 2:
        return None, f"class {small!r} has one clip; episodes need one for support, one for query"
    options = [] if subset == "novel" else ["--subset", subset]
    options += ["--way", str(len(sizes))] if len(sizes) < _WAY else []
    options += ["--query", str(sizes[small] - 1)] if sizes[small] <= _QUERY else []
    return options, None
