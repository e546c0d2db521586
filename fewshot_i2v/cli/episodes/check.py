"""`fewshot-i2v episodes check`: check that all clips of a split exist and can be read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fewshot_i2v.cli._common import echo_columns, echo_json, resumable, root_option
from fewshot_i2v.cli._flags import completer, config_flags, read_overrides
from fewshot_i2v.cli._help import help_command, rare_flag
from fewshot_i2v.cli._next import command_line, echo_next
from fewshot_i2v.cli._split_options import evaluate_options
from fewshot_i2v.errors import UsageError
from fewshot_i2v.utils import resources
from fewshot_i2v.utils.text_table import count_text

if TYPE_CHECKING:
    from fewshot_i2v.data.splits.check.check import ClipCheck
    from fewshot_i2v.data.splits.check.reduced_split import ReducedSplit
    from fewshot_i2v.data.splits.split import Split
    from fewshot_i2v.evaluation.fitting.label_check import LabelCheck

_MAX_SHOWN = 20
_MAX_EXTRA_SHOWN = 5
_FOLDER_PATH = click.Path(path_type=Path)
_EXIT_CODES = """\b
Exit status:
  0         no clip has a problem, or --allow-missing wrote a split
  1         some clips have problems
  2         wrong use, configuration or data: nothing was checked
  130, 143  interrupted by Ctrl-C, terminated
"""


@help_command(
    "Check that the clips of a split are there and can be read.",
    ("episodes check mine.yaml --root CLIPS", "read every clip"),
    ("episodes check mine.yaml --root CLIPS --quick", "only look for the files"),
    (
        "episodes check mine.yaml --root CLIPS --allow-missing smaller.yaml",
        "and write a split without the bad clips",
    ),
    (
        "episodes check mine.yaml --root CLIPS --labels --encoder ViT-B-16 --pretrained openai",
        "and name clips that look mislabelled",
    ),
    epilog=_EXIT_CODES,
)
@click.argument("split", shell_complete=completer(lambda: resources.data_names("episodes")))
@root_option
@click.option(
    "--frames",
    type=click.IntRange(min=1),
    default=8,
    show_default=True,
    help="Frames that a clip should have.",
)
@click.option("--quick", is_flag=True, help="Only look for the files, and read no clip.")
@click.option(
    "--allow-missing",
    type=_FOLDER_PATH,
    metavar="OUT.yaml",
    help="Write a split without the clips that have problems.",
)
@click.option(
    "--drop-classes",
    is_flag=True,
    help="With --allow-missing: leave out classes with too few clips, too.",
)
@rare_flag(
    "--workers",
    type=click.IntRange(min=1),
    help="Decoding processes.  [default: chosen by the machine]",
)
@rare_flag(
    "--cache",
    type=_FOLDER_PATH,
    help="Folder where a check saves its results for the next one.  [default: that of the user]",
)
@rare_flag("--verify", is_flag=True, help="Read clips again that an earlier check has read.")
@click.option(
    "--labels",
    is_flag=True,
    help="Also name clips that look mislabelled, by models of an encoder that have not seen them.",
)
@rare_flag(
    "--device",
    default="auto",
    show_default=True,
    help="Of the encoder: auto, cpu, cuda or cuda:N.",
)
@config_flags("labels")
@click.option("--all", "everything", is_flag=True, help="Name every problem and extra file.")
@click.option("--json", "as_json", is_flag=True, help="Write JSON, with everything.")
@click.option("--quiet", "-q", is_flag=True, help="No progress.")
@click.pass_context
def command(
    ctx: click.Context,
    /,
    split: str,
    allow_missing: Path | None,
    drop_classes: bool,
    everything: bool,
    as_json: bool,
    quiet: bool,
    cache: Path | None,
    labels: bool,
    **flags: Any,
) -> None:
    """Check that every clip of SPLIT (a name or a path) is there and can be read to its end.

    It finds clips that are missing, ambiguous (several files could be the clip), empty, unreadable,
    short (fewer than --frames) or duplicate (the bytes of another clip). It counts the files that
    are in no class. It notes gaps in time where the file does not say how many frames it has. A
    second check reads only what has changed.

    --allow-missing writes a smaller split, with another name and digest, and lists in it which
    clips are left out. --labels has every clip predicted by a model that has not seen it; what it
    names is no problem for the exit status.
    """
    from fewshot_i2v.data.splits.check.reduced_split import write_reduced_split

    overrides = read_overrides(ctx, ())
    _check_flags(allow_missing, drop_classes, overrides, labels=labels)
    folder, progress = cache or resources.default_cache_folder(), not (quiet or as_json)
    check = _check_clips(split, folder, overrides, flags, progress=progress)
    if not as_json:
        _show_check(check, everything=everything)
    label_checks = []
    if labels:
        running = {"workers": flags["workers"], "cache": str(folder), "device": flags["device"]}
        running |= {"video.frames": flags["frames"]}
        label_checks = _check_labels(check, running | overrides, progress=progress)
    removal = None
    if not as_json:
        _show_labels(label_checks)
    if allow_missing is not None and check.problem_by_clip:
        removal = write_reduced_split(check, allow_missing, drop_classes=drop_classes)
    if as_json:
        label_facts = {"labels": [c.to_dict() for c in label_checks]} if labels else {}
        written = {"written": _written_to_dict(removal, allow_missing)}
        echo_json(check.to_dict() | written | label_facts)
    elif allow_missing is not None:
        _show_written(removal, allow_missing)
    is_broken = bool(check.problem_by_clip) and removal is None
    if progress:
        name = split if removal is None else str(allow_missing)
        readable = check.split if removal is None else removal.split
        _echo_next(name, readable, flags["root"], is_broken=is_broken)
    if is_broken:
        raise click.exceptions.Exit(1)


def _check_clips(
    split: str,
    cache: Path,
    overrides: Mapping[str, Any],
    flags: Mapping[str, Any],
    *,
    progress: bool,
) -> ClipCheck:
    from fewshot_i2v.config.loading import parse_limits
    from fewshot_i2v.data.splits.check.check import check as check_split

    limits = parse_limits(overrides).for_clips()
    options = {key: flags[key] for key in ("root", "frames", "quick", "verify", "workers")}
    with resumable(cache / resources.CHECKS_FOLDER, "clips checked so far are"):
        return check_split(split, cache=cache, limits=limits, progress=progress, **options)


def _check_labels(
    check: ClipCheck, overrides: dict[str, Any], *, progress: bool
) -> list[LabelCheck]:
    """Check the labels of the clips without a problem, subset by subset."""
    from fewshot_i2v.data.splits.builder.labelled_clips import LabelledClips
    from fewshot_i2v.evaluation.fitting.label_check import check_labels

    label_checks = []
    for subset, classes in check.split.subsets.items():
        labelled = LabelledClips(check.split, subset).without(set(check.problem_by_clip))
        if len(labelled.classes) < 2 or max(map(len, labelled.by_class.values())) < 2:
            reason = f"{len(classes)} classes, of one readable clip or none"
            click.echo(f"note: labels of {subset} cannot be checked: {reason}", err=True)
        else:
            label_checks.append(check_labels(labelled, progress=progress, **overrides))
    return label_checks


def _show_labels(label_checks: list[LabelCheck]) -> None:
    from fewshot_i2v.evaluation.fitting.text import render_label_check

    for check in label_checks:
        click.echo("\n" + render_label_check(check))
        for note in check.notes:
            click.echo(f"note: {note}", err=True)


def _echo_next(name: str, split: Split, root: Path | None, *, is_broken: bool) -> None:
    """Write the next command: a smaller split where clips cannot be read, else an evaluation."""
    roots = [] if root is None else ["--root", str(root)]
    if is_broken:
        smaller = Path(name).with_suffix("").name + "-readable.yaml"
        echo_next(command_line("episodes", "check", name, *roots, "--allow-missing", smaller))
        return
    options, problem = evaluate_options(split)
    if options is None:
        click.echo(f"note: {problem}", err=True)
        return
    echo_next(command_line("evaluate", "--split", name, *roots, *options))


def _check_flags(
    allow_missing: Path | None, drop_classes: bool, overrides: Mapping[str, Any], *, labels: bool
) -> None:
    """Refuse flags that do not go together, and a file that cannot be written."""
    from fewshot_i2v.data.splits.check.reduced_split import check_output_path

    if allow_missing is not None:
        check_output_path(allow_missing)
    elif drop_classes:
        raise UsageError("--drop-classes: goes with --allow-missing OUT.yaml")
    if not labels and any(key.startswith("encoder.") for key in overrides):
        raise UsageError("--encoder and its flags: go with --labels")


def _written_to_dict(removal: ReducedSplit | None, path: Path | None) -> dict[str, Any] | None:
    if removal is None:
        return None
    return {
        "file": str(path),
        "split": {"name": removal.split.name, "digest": removal.split.digest},
        "left_out": dict(removal.removed_clips),
        "classes_left_out": list(removal.removed_classes),
        "draws_left_out": list(removal.removed_draws),
    }


def _show_check(check: ClipCheck, *, everything: bool) -> None:
    for line in _summary_lines(check):
        click.echo(line)
    if check.problems:
        click.echo()
        _show_classes(check)
        click.echo()
        _show_problems(check, everything=everything)
    notes = [f"{clip}: {note}" for clip, note in check.notes.items()]
    refused = [f"{path} {reason}" for path, reason in check.matches.refused.items()]
    for label, lines, max_lines, more, err in (
        ("note", notes, _MAX_SHOWN, "more clips with notes", False),
        ("not used", refused, _MAX_EXTRA_SHOWN, "more", True),
    ):
        shown = lines if everything else lines[:max_lines]
        for line in shown:
            click.echo(f"{label}: {line}", err=err)
        if len(lines) > len(shown):
            n_hidden = len(lines) - len(shown)
            click.echo(f"{label}: {n_hidden} {more} (--all names them)", err=err)
    if check.hint:
        click.echo(f"hint: {check.hint}", err=True)
    if check.cache_error:
        click.echo(f"note: the next check reads all again (--cache): {check.cache_error}", err=True)


def _summary_lines(check: ClipCheck) -> Iterator[str]:
    """Yield what was checked, and the results."""
    from fewshot_i2v.data.video.frame_folder import is_frame_folder

    total = len(check.split.clip_names())
    classes = {class_name for names in check.split.subsets.values() for class_name in names}
    root, extra = check.matches.root, check.matches.extra
    counts = f"{count_text(total, 'clip')} of {count_text(len(classes), 'class')}"
    yield f"{check.split.name} in {root}: {counts}"
    if check.quick:
        yield "looked for files, empty ones and duplicates; no clip was read (--quick)"
    else:
        earlier_note = f", {check.n_cached} of them in an earlier check" if check.n_cached else ""
        files = count_text(check.n_read + check.n_cached, "file")
        yield f"tried to read every frame of {files}{earlier_note} ({check.seconds:.1f} s)"
    if extra:
        names = ", ".join(path.relative_to(root).as_posix() for path in extra[:_MAX_EXTRA_SHOWN])
        ellipsis = ", ..." if len(extra) > _MAX_EXTRA_SHOWN else ""
        extra_kind = (
            "videos and folders of frames" if any(map(is_frame_folder, extra)) else "video files"
        )
        yield f"{len(extra)} {extra_kind} are no clip of the split: {names}{ellipsis}"
    n_bad = len(check.problem_by_clip)
    if n_bad:
        yield (
            f"{count_text(n_bad, 'clip')} {'has' if n_bad == 1 else 'have'} problems, "
            f"{total - n_bad} {'is' if total - n_bad == 1 else 'are'} fine"
        )
    elif check.quick:
        yield f"all {total} clips are there and differ"
    else:
        yield f"all {total} clips are there, differ, can be read and have {check.frames}+ frames"


def _show_classes(check: ClipCheck) -> None:
    """Show a row for each class with problems, a column for each kind of problem."""
    from fewshot_i2v.data.splits.check.check import PROBLEM_KINDS

    rows = [row for row in check.class_rows() if row["fine"] < row["clips"]]
    totals = Counter(problem.kind for problem in check.problems)
    kinds = [kind for kind in PROBLEM_KINDS if totals[kind]]
    table = [("subset", "class", "clips", "fine", *kinds)]
    for row in rows:
        counts = (str(row["problems"].get(kind, "")) for kind in kinds)
        table.append((row["subset"], row["class"], str(row["clips"]), str(row["fine"]), *counts))
    sums = [sum(row[key] for row in rows) for key in ("clips", "fine")]
    table.append(("", "together", *map(str, sums), *(str(totals[kind]) for kind in kinds)))
    echo_columns(table)


def _show_problems(check: ClipCheck, *, everything: bool) -> None:
    from fewshot_i2v.data.splits.check.check import PROBLEM_KINDS

    for kind in PROBLEM_KINDS:
        problems = [problem for problem in check.problems if problem.kind == kind]
        shown = problems if everything else problems[:_MAX_SHOWN]
        if not problems:
            continue
        click.echo(f"{kind}:")
        echo_columns([(p.clip, p.reason) for p in shown], "  ")
        if len(problems) > len(shown):
            click.echo(f"  ... and {len(problems) - len(shown)} more (--all names them)")


def _show_written(removal: ReducedSplit | None, path: Path) -> None:
    if removal is None:
        click.echo(f"no clip has a problem: {path} was not written, use the split itself", err=True)
        return
    n_clips = count_text(len(removal.split.clip_names()), "clip")
    click.echo(f"\n{path}: {removal.split.name}, {n_clips}, digest {removal.split.digest}")
    if removal.removed_classes:
        click.echo(f"classes left out: {', '.join(removal.removed_classes)}")
    if removal.removed_draws:
        click.echo(f"draws left out: {', '.join(removal.removed_draws)}")
