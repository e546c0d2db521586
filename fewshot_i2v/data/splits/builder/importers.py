"""Lists the clips of class folders."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from decimal import Decimal, InvalidOperation
from pathlib import Path, PurePosixPath
from typing import TextIO

from fewshot_i2v.data.splits.builder.clip_list import Listing, Rows
from fewshot_i2v.data.splits.folder_contents import (
    VIDEO_EXTENSIONS,
    ClassFolder,
    Contents,
    contents,
)
from fewshot_i2v.data.splits.problems import Problems
from fewshot_i2v.data.splits.split import Clip
from fewshot_i2v.data.splits.subsets import Classes, class_folders
from fewshot_i2v.errors import SplitError
from fewshot_i2v.utils.input_files import open_lines

_SHOWN = 3
_ELSEWHERE = "move them into class folders, or list them with --csv"

Folders = Mapping[str, ClassFolder]


def from_folders(root: Path, *, all_way: bool = False) -> Listing:
    """The clips of one folder per class.

    Args:
        root: the folder that holds the class folders; video files directly in them are the clips,
            or, where a class has none, folders of numbered pictures.
        all_way: the class folders are in `train` and in `test` (or `val`) below it instead.

    Returns:
        The listing; its notes count and name what could be meant as a clip and is none.

    Raises:
        SplitError: when there are no class folders with clips, or they cannot be listed.
    """
    if not root.is_dir():
        raise SplitError(f"--root: no folder {root}; expected one folder per class in it")
    listing = Listing(root)
    problems = Problems(root)
    try:
        if all_way:
            for part in ("train", _test_folder(root)):
                listing.parts[part] = _classes(root, part, listing, problems)
        else:
            listing.parts[""] = _classes(root, ".", listing, problems)
    except OSError as error:
        raise SplitError(f"{error.filename}: cannot be listed: {error.strerror}") from error
    problems.stop()
    return listing


def _test_folder(root: Path) -> str:
    """The name of the folder with the clips to test on."""
    for name in ("train", "test", "val"):
        if name != "train" and (root / name).is_dir():
            return name
        if name == "train" and not (root / name).is_dir():
            break
    found = ", ".join(sorted(path.name for path in root.iterdir() if path.is_dir())) or "none"
    raise SplitError(
        f"{root}: expected the folders train and test (or val) with one folder per class in each; "
        f"found {found}"
    )


def _classes(root: Path, folder: str, listing: Listing, problems: Problems) -> Classes:
    base = root if folder == "." else root / folder
    loose = contents(base)
    if loose.videos and not loose.folders:
        raise SplitError(f"{base}: no class folders, but {_loose(loose)}; {_ELSEWHERE}")
    prefix = "" if folder == "." else f"{folder}/"
    found = class_folders(root, folder, None, "class folders", problems, deep=True)
    if found and not any(held.clips for held in found.values()):
        raise SplitError(_no_clips(base, found, loose))
    listing.notes += _notes(found, loose)
    classes = {
        name: [Clip(f"{prefix}{name}/{clip}") for clip in held.clips]
        for name, held in found.items()
        if held.clips
    }
    outside = [clip for clips in classes.values() for clip in _leaving(root, clips)]
    if outside:
        listing.notes.append(
            f"links to files outside of {root}: {_some(outside)}; they are refused without "
            "`links: follow` in the split file"
        )
    return classes


def _loose(loose: Contents) -> str:
    return f"{_count(loose.videos, 'video')} in no folder: {_some(loose.videos)}"


def _notes(found: Folders, loose: Contents) -> Iterator[str]:
    """What could be meant as a clip and is none, and what kind clips are where they are no files.

    Each is counted, and the first few are named.
    """
    frames = [
        f"{name}/{clip}"
        for name, held in found.items()
        for clip in held.clips
        if not held.inside.videos
    ]
    if frames:
        yield f"{_count(frames, 'clip')} of numbered pictures in a folder each: {_some(frames)}"
    if loose.videos:
        yield f"left out: {_loose(loose)}; {_ELSEWHERE}"
    deeper = [
        f"{name}/{inner}/{video}"
        for name, held in found.items()
        for inner, below in held.below.items()
        for video in below.videos
    ]
    if deeper:
        count = _count(deeper, "video")
        yield f"left out: {count} in folders inside class folders: {_some(deeper)}; {_ELSEWHERE}"
    beside = [
        f"{name}/{inner}"
        for name, held in found.items()
        for inner, below in held.below.items()
        if below.is_clip and held.inside.videos
    ]
    if beside:
        count = _count(beside, "folder")
        yield f"left out: {count} of numbered pictures beside video files: {_some(beside)}"
    empty = [name for name, held in found.items() if not held.clips]
    if empty:
        shown = [f"{name}{_there(found[name])}" for name in empty]
        yield f"no clips in {_some(shown)}: no class of that name"
    unread = dict(_unread(found, loose))
    if unread:
        shown = [f"{name} {why}" for name, why in unread.items()]
        yield f"left out: {_count(shown, 'file')} that cannot be read as videos: {_some(shown)}"
    further = [f"{name}/{inner}/{deep}" for name, inner, deep in _further(found)]
    if further:
        yield f"not looked into {_count(further, 'folder')} deeper down: {_some(further)}"


def _further(found: Folders) -> Iterator[tuple[str, str, str]]:
    for name, held in found.items():
        for inner, below in held.below.items():
            yield from ((name, inner, deep) for deep in below.folders)


def _unread(found: Folders, loose: Contents) -> Iterator[tuple[str, str]]:
    yield from sorted(loose.unread.items())
    for name, held in found.items():
        places = {f"{name}/": held.inside}
        places |= {f"{name}/{inner}/": below for inner, below in held.below.items()}
        for place, inside in places.items():
            yield from ((place + file, why) for file, why in sorted(inside.unread.items()))


def _there(held: ClassFolder) -> str:
    """What is in a class folder without clips, in brackets."""
    if held.inside.frames:
        return " (it holds numbered pictures: it would be one clip itself)"
    others = sum((below.others for below in held.below.values()), held.inside.others.copy())
    words = [f"{n} {extension or 'without extension'}" for extension, n in others.most_common(2)]
    return f" ({', '.join(words)})" if words else ""


def _no_clips(base: Path, found: Folders, loose: Contents) -> str:
    """Why there are no clips: mostly the class folders are one level further up or down."""
    holding = [name for name in found if _holds_classes(base / name, found[name])]
    if holding:
        inner = Counter(tuple(found[name].inside.folders) for name in holding)
        same = len(holding) > 1 and len(inner) == 1
        pair = "; --all-way takes train and test, where both have the same classes" if same else ""
        return (
            f"{base}: its folders {_some(holding)} hold folders with videos; expected the class "
            f"folders themselves: give --root {base / holding[0]}{pair}"
        )
    if all(held.inside.is_clip for held in found.values()):
        return (
            f"{base}: its folders {_some(list(found))} hold numbered pictures, so each would be "
            "one clip; expected folders of such folders, one per class"
        )
    expected = "expected video files in class folders, or folders of numbered pictures"
    return f"{base}: {expected}; {'; '.join(_notes(found, loose))}"


def _holds_classes(folder: Path, held: ClassFolder) -> bool:
    """Whether the folders in a folder would do as class folders."""
    return any(
        below.videos or any(contents(folder / name / deep).is_clip for deep in below.folders[:1])
        for name, below in held.below.items()
    )


def _leaving(root: Path, clips: Sequence[Clip]) -> list[str]:
    """Names of clips whose files are elsewhere, by a link of their own or of the class folder."""
    home = root.resolve()
    folder, real = None, home
    names = []
    for clip in clips:
        path = root / clip.name
        if path.parent != folder:
            folder, real = path.parent, path.parent.resolve()
        inside = real.is_relative_to(home)
        if not inside or (path.is_symlink() and not path.resolve().is_relative_to(home)):
            names.append(clip.name)
    return names


def _count(names: Sequence[str], what: str) -> str:
    return f"{len(names)} {what}{'' if len(names) == 1 else 's'}"


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


COLUMNS = ("path", "class", "group", "split")
"""What a table can say of a clip; the first two are needed."""
KINETICS = ("label", "youtube_id", "time_start", "time_end")
_DELIMITERS = (",", ";", "\t")
_MOST_SECONDS = 1_000_000

Row = tuple[str, Mapping[str, str]]


def from_csv(
    path: Path,
    *,
    root: Path | None = None,
    columns: Mapping[str, str] | None = None,
    all_way: bool = False,
) -> Listing:
    """The clips of a CSV with a header.

    Args:
        path: the file, in UTF-8, with commas, semicolons or tabs; other columns are not looked at.
        root: the folder that absolute paths are made relative to.
        columns: of "path", "class", "group" and "split", those whose columns have other names,
            with these. Without a group column no clip has a group.
        all_way: take the split column, which says train, val or test.

    Raises:
        SplitError: with the file and the lines of all that is wrong in it.
    """
    given = dict(columns or {})
    names = {key: given.get(key, key) for key in COLUMNS}
    needed = [names["path"], names["class"], *(v for k, v in given.items() if k in COLUMNS)]
    needed += [names["split"]] if all_way else []
    listing, problems = Listing(path), Problems(path)
    rows = Rows(listing, root, problems)
    with opened(path) as file:
        for where, row in table_rows(file, path, needed, problems):
            part = rows.part(f"{where}: {names['split']}", row[names["split"]]) if all_way else ""
            group = row.get(names["group"]) or None
            rows.add(where, row[names["path"]], row[names["class"]], group, part)
    problems.stop()
    return filled(listing)


def from_kinetics(path: Path, *, all_way: bool = False) -> Listing:
    """The clips of a CSV of Kinetics: label, youtube_id, time_start, time_end and split.

    A clip's name is LABEL/ID_START_END, with six digits for a time of whole seconds, as the usual
    downloads call it; `find` is "youtube", so that other names of its file will do as well.

    Raises:
        SplitError: with the file and the lines of all that is wrong in it.
    """
    listing, problems = Listing(path, find="youtube"), Problems(path)
    rows = Rows(listing, None, problems)
    needed = [*KINETICS, "split"] if all_way else list(KINETICS)
    with opened(path) as file:
        for where, row in table_rows(file, path, needed, problems):
            label, clip = row["label"], row["youtube_id"]
            times = [_seconds(row[key], f"{where}: {key}", problems) for key in KINETICS[2:]]
            part = rows.part(f"{where}: split", row["split"]) if all_way else ""
            rows.add(where, f"{label}/{clip}_{times[0]}_{times[1]}", label, None, part)
    problems.stop()
    return filled(listing)


def is_kinetics(path: Path) -> bool:
    """Whether a file begins like a CSV of Kinetics.

    Raises:
        SplitError: when it cannot be read.
    """
    with opened(path) as file:
        first = file.readline()
    return set(KINETICS) <= {name.strip(' "\n\r') for name in first.split(_delimiter(first))}


def filled(listing: Listing) -> Listing:
    """The listing.

    Raises:
        SplitError: when it has no clips.
    """
    if not any(listing.parts.values()):
        raise SplitError(f"{listing.source}: no clips in it; expected a line for each")
    return listing


def _seconds(text: str, where: str, problems: Problems) -> str:
    """A time as a clip's name has it: six digits, or as many as it has where it is no whole one."""
    try:
        value = Decimal(text)
    except InvalidOperation:
        value = Decimal("NaN")
    if not (value.is_finite() and 0 <= value < _MOST_SECONDS):
        what = "" if value.is_nan() else f" from 0 to {_MOST_SECONDS - 1}"
        problems.add(where, f"got {text!r}; expected seconds{what}")
        return ""
    whole = value == value.to_integral_value()
    return f"{int(value):06d}" if whole else f"{value.normalize():f}"


def _delimiter(header: str) -> str:
    return max(_DELIMITERS, key=header.count)


@contextmanager
def opened(path: Path) -> Iterator[TextIO]:
    """A text file, opened for reading.

    Raises:
        SplitError: when it cannot be read, also while it is used.
    """
    try:
        with open_lines(path) as file:
            yield file
    except FileNotFoundError as error:
        raise SplitError(f"{path}: no such file") from error
    except UnicodeDecodeError as error:
        raise SplitError(f"{path}: not text in UTF-8; save it as UTF-8") from error
    except csv.Error as error:
        raise SplitError(f"{path}: cannot be read as a CSV: {error}") from error
    except OSError as error:
        raise SplitError(f"{path}: cannot be read: {error.strerror}") from error


def table_rows(
    file: TextIO, path: Path, needed: Sequence[str], problems: Problems
) -> Iterator[Row]:
    """Rows of a table with a header, each with its place.

    Args:
        file: the table.
        path: its file, for messages.
        needed: names of columns that must be there.
        problems: takes rows that have not as many fields as the header. Those without any text are
            passed over: programs for tables leave them at the end.

    Yields:
        Place and fields, without spaces around them.

    Raises:
        SplitError: when a column is missing.
    """
    delimiter = _delimiter(file.readline())
    file.seek(0)
    reader = csv.DictReader(file, delimiter=delimiter, skipinitialspace=True, strict=True)
    header = [name.strip() for name in reader.fieldnames or []]
    absent = [name for name in dict.fromkeys(needed) if header.count(name) != 1]
    if absent:
        raise SplitError(
            f"{path}: line 1: expected one column named {absent[0]!r}, found "
            f"{', '.join(header) or 'an empty file'}; --columns says which column is which, such "
            "as path=FILE,class=LABEL"
        )
    reader.fieldnames = header
    for row in reader:
        where = f"line {reader.line_num}"
        extra = row.pop(None, None) or []
        if not any(text and text.strip() for text in (*row.values(), *extra)):
            continue
        if extra or None in row.values():
            problems.add(where, f"not {len(header)} fields as in the header")
        else:
            yield where, {name: text.strip() for name, text in row.items()}


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
