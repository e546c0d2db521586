"""Lists the clips of annotation files as other toolboxes have them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

from fewshot_i2v.episodes._from_tables import filled, from_kinetics, is_kinetics, opened
from fewshot_i2v.episodes._listing import Listing, Rows
from fewshot_i2v.episodes._on_disk import VIDEO_EXTENSIONS
from fewshot_i2v.episodes._problems import Problems
from fewshot_i2v.errors import SplitError

_NUMBERED = re.compile(r"(\d+)(?:\s*[,;\t]\s*|\s+)(\S.*)")
_HEADERS = ("id,name", "id;name", "id\tname")


def from_annotations(
    path: Path,
    *,
    test: Path | None = None,
    labels: Path | None = None,
    root: Path | None = None,
    all_way: bool = False,
) -> Listing:
    """The clips of an annotation file.

    Args:
        path: lines `PATH LABEL` or `PATH FRAMES LABEL` as in mmaction2, or a CSV of Kinetics.
        test: a second such file, whose clips are to be tested on; `path` is then to learn from.
        labels: names of the labels: one per line, for the labels 0, 1, ...; or lines `ID,NAME`.
            Without it a label is the name of its class.
        root: the folder that absolute paths are made relative to.
        all_way: take the split column of a CSV of Kinetics.

    Returns:
        The listing. Where paths have no extension of a video, as those of folders of frames, its
        `find` is "name".

    Raises:
        SplitError: with the file and the lines of all that is wrong in it.
    """
    if is_kinetics(path):
        if labels is not None or test is not None:
            raise SplitError(
                f"{path}: a CSV of Kinetics has names of classes, and its split column says "
                "train, val or test; expected no labels and no second file"
            )
        return from_kinetics(path, all_way=all_way)
    if all_way and test is None:
        raise SplitError(f"{path}: says of no clip what it is for; give --test-annotations too")
    names = None if labels is None else read_labels(labels)
    listing = Listing(path)
    homes = [("train" if test else "", path), *([("test", test)] if test else [])]
    seen = Rows(listing, root, Problems(path))
    for part, file in homes:
        seen.problems, seen.within = Problems(file), f" of {file}" if test else ""
        _read(file, part, names, labels, seen)
        seen.problems.stop()
    if names is not None:
        used = listing.classes()
        listing.class_ids = {name: label for label, name in names.items() if name in used}
    if not all(PurePosixPath(n).suffix.lower() in VIDEO_EXTENSIONS for n in listing.names()):
        listing.find = "name"
        listing.notes.append("names without the extension of a video: `find: name` was written")
    return filled(listing)


def _read(
    path: Path, part: str, names: Mapping[str, str] | None, labels: Path | None, rows: Rows
) -> None:
    with opened(path) as file:
        lines = [(f"line {i}", line.strip()) for i, line in enumerate(file, 1)]
    filled_lines = [(where, line) for where, line in lines if line]
    for where, clip, label in _fields(filled_lines, rows.problems):
        if names is not None and label not in names:
            many = f"{labels} has {len(names)}, from {min(names, key=int)} on"
            rows.problems.add(where, f"label {label!r} has no name; {many}")
            continue
        rows.add(where, clip, label if names is None else names[label], None, part)


def _fields(lines: Sequence[tuple[str, str]], problems: Problems) -> Iterator[tuple[str, str, str]]:
    """Place, path and label of each line; a path may have spaces in it, or quotes around it."""
    cut = [(where, *_cut(line, line)) for where, line in lines]
    shorter = [_cut(path, line) for (_, path, _), (_, line) in zip(cut, lines, strict=True)]
    with_frames = all(path and frames.isdecimal() for path, frames in shorter)
    for i, (where, path, label) in enumerate(cut):
        if not path:
            expected = "expected PATH LABEL, PATH FRAMES LABEL, or the header of a Kinetics CSV"
            hint = "; a CSV of your own goes with --csv" if "," in label else ""
            problems.add(where, f"got {lines[i][1]!r}; {expected}{hint}")
            continue
        path = shorter[i][0] if with_frames else path
        yield where, path[1:-1] if _quoted(path) else path, label


def _cut(text: str, line: str) -> tuple[str, str]:
    """What is before the last word, and that word: one in quotes, or behind a tab of the line."""
    if text.endswith('"') and text.count('"') > 1:
        path, _, word = text[:-1].rpartition('"')
    else:
        path, word = ("", "", *text.rsplit("\t" if "\t" in line else None, 1))[-2:]
    return path.strip(), word.strip()


def _quoted(text: str) -> bool:
    return len(text) > 1 and text[0] == text[-1] and text[0] in "\"'"


def read_labels(path: Path) -> dict[str, str]:
    """Names of classes by label.

    Args:
        path: one name per line, for the labels 0, 1, ...; or lines `ID,NAME` (also with a space or
            a tab between), with or without the header `id,name`.

    Raises:
        SplitError: when a name or an id is there twice, or there are no names.
    """
    with opened(path) as file:
        lines = [line.strip() for line in file]
    while lines and not lines[-1]:
        lines.pop()
    if lines and lines[0].casefold().replace(" ", "") in _HEADERS:
        lines = lines[1:]
    matches = [_NUMBERED.fullmatch(line) for line in lines]
    pairs = [(m.group(1), m.group(2).strip("\"'")) for m in matches if m is not None]
    if len(pairs) < len(lines):
        pairs = [(str(i), line) for i, line in enumerate(lines)]
    names = dict(pairs)
    _check_labels(path, pairs)
    return names


def _check_labels(path: Path, pairs: Sequence[tuple[str, str]]) -> None:
    if not pairs:
        raise SplitError(f"{path}: no names in it; expected one per line, or lines ID,NAME")
    for kind, texts in (("id", [a for a, _ in pairs]), ("name", [b for _, b in pairs])):
        twice = next(
            (text for text, count in Counter(texts).items() if count > 1 or not text), None
        )
        if twice is not None:
            what = f"{kind} {twice!r} is there twice" if twice else "a line without a name"
            raise SplitError(f"{path}: {what}; expected each class once")
