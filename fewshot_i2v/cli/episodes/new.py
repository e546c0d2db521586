"""`fewshot-i2v episodes new`: make a split of own clips."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fewshot_i2v.cli._common import EXIT_CODES, echo_columns, echo_json
from fewshot_i2v.cli._help import help_command, rare_flag
from fewshot_i2v.cli._next import echo_next
from fewshot_i2v.cli._split_options import evaluate_options
from fewshot_i2v.errors import SplitError, UnknownNameError, UsageError
from fewshot_i2v.utils.input_files import read_text
from fewshot_i2v.utils.text_table import count_text

if TYPE_CHECKING:
    from fewshot_i2v.data.splits.builder.class_selection import ClassShare
    from fewshot_i2v.data.splits.builder.clip_list import ClipList
    from fewshot_i2v.data.splits.split import Split

_SUBSETS = ("base", "val", "novel")
_MAX_NAMES_BYTES = 4 << 20
_FILE_OPTION: dict[str, Any] = {"type": click.Path(path_type=Path)}
_SHARE_OPTION: dict[str, Any] = {"metavar": "N|FRACTION"}
_NAMES_OPTION: dict[str, Any] = {"metavar": "A,B,C|FILE"}


@help_command(
    "Make a split of your own clips.",
    ("episodes new mine.yaml --root CLIPS", "from folders, one per class"),
    ("episodes new mine.yaml --root CLIPS --base 0.6 --val 2", "with classes to train on"),
    ("episodes new mine.yaml --csv clips.csv --columns path=file,class=label", "from a table"),
    ("episodes new mine.yaml --annotations train.txt --labels names.txt", "from lists of clips"),
    epilog=EXIT_CODES,
)
@click.argument("out", **_FILE_OPTION)
@click.option(
    "--root",
    **_FILE_OPTION,
    help="Folder of the clips. Without --csv and --annotations, it has one folder per class.",
)
@click.option(
    "--csv", "table", **_FILE_OPTION, help="Read a CSV file with the columns path, class and group."
)
@click.option(
    "--columns",
    metavar="KEY=NAME,...",
    help="Other names of the columns of the CSV file, such as path=file.",
)
@click.option(
    "--annotations",
    **_FILE_OPTION,
    help="Read a file of lines PATH [FRAMES] LABEL, or a CSV file of Kinetics.",
)
@rare_flag(
    "--test-annotations",
    **_FILE_OPTION,
    help="A second such file, with the test clips of an all-way split.",
)
@click.option(
    "--labels",
    **_FILE_OPTION,
    help="File with the names of the labels: one per line, or lines ID,NAME.",
)
@click.option(
    "--base",
    **_SHARE_OPTION,
    help="Classes to train on: a number such as 5, or a fraction such as 0.5.  [default: none]",
)
@click.option("--val", **_SHARE_OPTION, help="Classes to choose settings on.  [default: none]")
@click.option("--novel", **_SHARE_OPTION, help="Classes to evaluate on.  [default: all others]")
@rare_flag("--base-classes", **_NAMES_OPTION, help="The base classes, by name.")
@rare_flag("--val-classes", **_NAMES_OPTION, help="The val classes, by name.")
@rare_flag("--novel-classes", **_NAMES_OPTION, help="The novel classes, by name.")
@click.option(
    "--seed", type=int, default=0, show_default=True, help="Seed of the random choice of classes."
)
@click.option(
    "--all-way", is_flag=True, help="Put all classes in both subsets, train and test; see above."
)
@click.option(
    "--group",
    metavar="REGEX",
    help="Pattern for the names of clips; its ( ) is the group, such as a person or a recording.",
)
@rare_flag(
    "--group-scope",
    type=click.Choice(["class", "global"]),
    default="class",
    show_default=True,
    help="class: the same name in two classes means two groups; global: one.",
)
@click.option("--name", help="Name of the split.  [default: that of OUT]")
@rare_flag("--source", help="Where the clips are from.")
@rare_flag("--licence", help="Licence of the clips.")
@rare_flag("--description", help="What the clips show, in a sentence.")
@click.option("--force", is_flag=True, help="Replace OUT if it exists.")
@click.option("--json", "as_json", is_flag=True, help="Write JSON.")
def command(out: Path, force: bool, as_json: bool, **flags: Any) -> None:
    """Write the split file OUT for clips in class folders, or listed in a file.

    Without --base, --val and --novel, every class is novel: to be evaluated on. With them, classes
    are drawn by their names and the seed, the same on every machine.

    With --all-way, the subsets train and test have the same classes. They come from the folders
    train and test in --root, from the column split of the CSV file, or from --test-annotations.

    A clip is a video file or a folder of numbered pictures. Where the name of a file does not say
    what it is, its first bytes decide. Clips are named by their paths below --root.
    """
    from fewshot_i2v.data.splits.builder.build import make_split, write_new_split
    from fewshot_i2v.data.splits.builder.class_selection import select_classes
    from fewshot_i2v.data.splits.split_file import load_split

    if out.exists() and not force:
        raise UsageError(f"{out}: is already there; give another name, or --force to replace it")
    flags["all_way"] |= flags["test_annotations"] is not None
    clip_list = _list_clips(flags)
    classes_by_subset = None
    if not flags["all_way"]:
        shares = {subset: _read_share(subset, flags) for subset in _SUBSETS}
        classes_by_subset = select_classes(list(clip_list.classes()), **shares, seed=flags["seed"])
    split = make_split(
        clip_list,
        classes_by_subset,
        name=flags["name"] or out.stem,
        group=flags["group"],
        group_scope=flags["group_scope"],
        **{key: flags[key] or "" for key in ("source", "licence", "description")},
    )
    files = write_new_split(split, out, _describe_origin(flags, split), overwrite=force)
    split = load_split(out, root=flags["root"])
    for note in [*clip_list.notes, *_split_notes(clip_list, split)]:
        click.echo(f"note: {note}", err=True)
    _show_result(split, files, as_json=as_json)


def _list_clips(flags: Mapping[str, Any]) -> ClipList:
    """List the source's clips."""
    from fewshot_i2v.data.splits.builder.folder_importer import import_folders
    from fewshot_i2v.data.splits.builder.list_importer import import_annotations, import_csv

    root, table, annotations = flags["root"], flags["table"], flags["annotations"]
    if table is not None and annotations is not None:
        raise UsageError("--csv and --annotations: expected one of them")
    if table is None and annotations is None and root is None:
        raise UsageError(
            "the source of the clips is missing; expected --root FOLDER with one folder per class, "
            "--csv FILE or --annotations FILE"
        )
    if root is not None and not root.is_dir():
        raise UsageError(f"--root {root}: no such folder; expected the folder of the clips")
    columns, labels, test_path = flags["columns"], flags["labels"], flags["test_annotations"]
    for option, value, source, source_file in (
        ("--columns", columns, "--csv", table),
        ("--labels", labels, "--annotations", annotations),
        ("--test-annotations", test_path, "--annotations", annotations),
    ):
        if value is not None and source_file is None:
            raise UsageError(f"{option}: goes with {source}")
    all_way = flags["all_way"]
    if table is not None:
        return import_csv(table, root=root, columns=_parse_columns(columns), all_way=all_way)
    if annotations is None:
        return import_folders(root, all_way=all_way)
    return import_annotations(
        annotations, test_path=test_path, labels_path=labels, root=root, all_way=all_way
    )


def _parse_columns(text: str | None) -> dict[str, str]:
    from fewshot_i2v.data.splits.builder.list_importer import CSV_COLUMNS

    columns = {}
    for item in (text or "").split(",") if text else []:
        key, equals, name = (piece.strip() for piece in item.partition("="))
        if not equals or not name:
            raise UsageError(f"--columns: got {item!r}; expected KEY=NAME, such as path=file")
        if key not in CSV_COLUMNS:
            raise UnknownNameError("key of --columns", key, CSV_COLUMNS)
        if key in columns:
            raise UsageError(f"--columns: {key} is set twice; give it once")
        columns[key] = name
    return columns


def _read_share(subset: str, flags: Mapping[str, Any]) -> ClassShare:
    text, names = flags[subset], flags[f"{subset}_classes"]
    if text is not None and names is not None:
        raise UsageError(f"--{subset} and --{subset}-classes: expected one of them")
    if names is not None:
        return _read_class_names(f"--{subset}-classes", names)
    if text is None:
        return None
    number = re.fullmatch(r"\d{1,9}|\d*\.\d{1,9}", text)
    if number is None:
        raise UsageError(f"--{subset}: got {text!r}; expected a count such as 5, or 0.6 of all")
    return float(text) if "." in text else int(text)


def _read_class_names(option: str, text: str) -> list[str]:
    """Read comma-separated names, or those in a file, one per line."""
    path = Path(text)
    if "," in text or not path.is_file():
        names = [name.strip() for name in text.split(",")]
    else:
        try:
            names = read_text(path, _MAX_NAMES_BYTES).splitlines()
        except OSError as error:
            raise SplitError(f"{option}: {path}: {error.strerror}") from error
    names = [name.strip() for name in names if name.strip()]
    if not names:
        raise UsageError(f"{option}: got {text!r}; expected names of classes")
    return names


def _describe_origin(flags: Mapping[str, Any], split: Split) -> str:
    """Describe for the file's comments the source, and how classes were chosen."""
    source = flags["table"] or flags["annotations"]
    description = "class folders" if source is None else Path(source).name
    if set(split.subsets) <= {"novel"} or flags["all_way"]:
        return description
    options = [
        f"--{key.replace('_', '-')} {_portable_value(flags[key])}"
        for subset in _SUBSETS
        for key in (subset, f"{subset}_classes")
        if flags[key] is not None
    ]
    return f"{description} with {' '.join(options)} --seed {flags['seed']}"


def _portable_value(value: str) -> str:
    """Quote an option's value; of a file only its name, as folders differ by machine."""
    path = Path(value)
    return shlex.quote(path.name if path.is_file() else value)


def _split_notes(clip_list: ClipList, split: Split) -> Iterator[str]:
    """Yield notes on classes that are in no subset, and on clips that are not on disk."""
    from fewshot_i2v.data.splits.builder.build import find_missing_clips
    from fewshot_i2v.utils.text_table import join_names

    assigned = {name for classes in split.subsets.values() for name in classes}
    unassigned = sorted(clip_list.classes().keys() - assigned)
    if unassigned:
        yield f"{len(unassigned)} classes are in no subset: {join_names(unassigned)}"
    missing = [] if split.root is None else find_missing_clips(split)
    if missing:
        yield (
            f"{len(missing)} of {len(split.clip_names())} clips are no files in {split.root}: "
            f"{join_names(missing)}. `fewshot-i2v episodes check` looks closer"
        )


def _yaml_root(root: Path, out: Path) -> str:
    """The folder of the clips as the split file may have it: relative to the file."""
    from fewshot_i2v.utils.yaml import dump_yaml

    try:
        relative = os.path.relpath(root.resolve(), out.resolve().parent)
    except ValueError:  # on another drive
        relative = str(root.resolve())
    return dump_yaml({"root": Path(relative).as_posix()}).removeprefix("root: ").strip()


def _show_result(split: Split, files: list[Path], *, as_json: bool) -> None:
    """Show the split and the next commands."""
    from fewshot_i2v.data.splits.summary import summarize_split

    out = files[-1]
    facts_by_subset = summarize_split(split)["subsets"]
    commands, problem = _next_commands(split, out)
    if as_json:
        echo_json(
            {
                "files": list(map(str, files)),
                "subsets": facts_by_subset,
                "digest": split.digest,
                "next": commands,
                "problem": problem,
            }
        )
        return
    click.echo(f"{', '.join(map(str, files))}: split {split.name!r}")
    rows = []
    for subset, facts in facts_by_subset.items():
        smallest = min(facts["class_sizes"], key=lambda row: row["clips"])
        groups = facts["groups"]
        rows.append(
            (
                subset,
                count_text(facts["classes"], "class"),
                count_text(facts["clips"], "clip"),
                count_text(groups["count"], "group") if groups else "no groups",
                f"smallest class: {smallest['name']}, {count_text(smallest['clips'], 'clip')}",
            )
        )
    echo_columns(rows, "  ")
    if problem:
        click.echo(f"note: {problem}", err=True)
    echo_next(*commands)
    if split.root is not None:
        click.echo(f"and to leave out --root on this machine, add to {out}", err=True)
        click.echo(f"  root: {_yaml_root(split.root, out)}", err=True)
    if len(commands) > 1:
        click.echo("and with an encoder for real videos, add to the last two", err=True)
        click.echo("  --encoder ViT-B-16 --pretrained openai", err=True)
        click.echo("and to compare adapters with the frozen encoder, to the last one", err=True)
        click.echo("  --adapter frozen --adapter st-adapter --adapter aim", err=True)
        grouped = all(
            f["groups"] and not f["groups"]["clips_without"] for f in facts_by_subset.values()
        )
        if grouped and "test" not in facts_by_subset:
            click.echo("and so that support and query clips share no group", err=True)
            click.echo("  --disjoint-groups", err=True)


def _next_commands(split: Split, out: Path) -> tuple[list[str], str | None]:
    """Commands that work with this split; if it cannot be evaluated, also why."""
    root_options = ["--root", "CLIPS" if split.root is None else str(split.root)]
    check = shlex.join(["fewshot-i2v", "episodes", "check", str(out), *root_options])
    options, problem = evaluate_options(split)
    if options is None:
        return [check], problem
    clips = ["--split", str(out), *root_options, *options]
    # first the readout that shows most of the classes, then adapters
    readouts, evaluate = (
        shlex.join(["fewshot-i2v", "evaluate", *config, *clips]) for config in (["readouts"], [])
    )
    return [check, readouts, evaluate], problem
