"""Imports clip lists from class folders."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from decimal import Decimal, InvalidOperation
from pathlib import Path, PurePosixPath
from typing import TextIO

from fewshot_i2v.data.splits.builder.clip_list import ClipList, ClipListBuilder
from fewshot_i2v.data.splits.folder_contents import (
    VIDEO_EXTENSIONS,
    ClassFolder,
    FolderContents,
    list_folder,
)
from fewshot_i2v.data.splits.problems import ProblemList
from fewshot_i2v.data.splits.split import Clip
from fewshot_i2v.data.splits.subsets import ClipsByClass, scan_class_folders
from fewshot_i2v.errors import SplitError
from fewshot_i2v.utils.input_files import open_lines

_MAX_SHOWN = 3
_MOVE_HINT = "move them into class folders, or list them with --csv"

ScannedFolders = Mapping[str, ClassFolder]


def import_folders(root: Path, *, all_way: bool = False) -> ClipList:
    """Import the clips of one folder per class.

    Args:
        root: the folder that holds the class folders; video files directly in them are the clips,
            or, where a class has none, folders of numbered pictures.
        all_way: the class folders are in `train` and in `test` (or `val`) below it instead.

    Returns:
        The clip list; its notes count and name files that look like clips but are not imported.

    Raises:
        SplitError: when there are no class folders with clips, or they cannot be listed.
    """
    if not root.is_dir():
        raise SplitError(f"--root: no folder {root}; expected one folder per class in it")
    clip_list = ClipList(root)
    problems = ProblemList(root)
    try:
        if all_way:
            for role in ("train", _find_test_folder(root)):
                clip_list.classes_by_role[role] = _import_classes(root, role, clip_list, problems)
        else:
            clip_list.classes_by_role[""] = _import_classes(root, ".", clip_list, problems)
    except OSError as error:
        raise SplitError(f"{error.filename}: cannot be listed: {error.strerror}") from error
    problems.raise_if_any()
    return clip_list


def _find_test_folder(root: Path) -> str:
    """Return the name of the folder with the test clips."""
    for name in ("train", "test", "val"):
        if name != "train" and (root / name).is_dir():
            return name
        if name == "train" and not (root / name).is_dir():
            break
    folder_names = (
        ", ".join(sorted(path.name for path in root.iterdir() if path.is_dir())) or "none"
    )
    raise SplitError(
        f"{root}: expected the folders train and test (or val) with one folder per class in each; "
        f"found {folder_names}"
    )


def _import_classes(
    root: Path, folder: str, clip_list: ClipList, problems: ProblemList
) -> ClipsByClass:
    base = root if folder == "." else root / folder
    base_contents = list_folder(base)
    if base_contents.videos and not base_contents.folders:
        raise SplitError(
            f"{base}: no class folders, but {_describe_loose_videos(base_contents)}; {_MOVE_HINT}"
        )
    prefix = "" if folder == "." else f"{folder}/"
    scanned = scan_class_folders(
        root, folder, None, "class folders", problems, scan_subfolders=True
    )
    if scanned and not any(class_folder.clips for class_folder in scanned.values()):
        raise SplitError(_no_clips_message(base, scanned, base_contents))
    clip_list.notes += _import_notes(scanned, base_contents)
    classes = {
        name: [Clip(f"{prefix}{name}/{clip}") for clip in class_folder.clips]
        for name, class_folder in scanned.items()
        if class_folder.clips
    }
    outside_clips = [
        clip for clips in classes.values() for clip in _clips_outside_root(root, clips)
    ]
    if outside_clips:
        clip_list.notes.append(
            f"links to files outside of {root}: {_abbreviate(outside_clips)}; they are refused "
            "without `links: follow` in the split file"
        )
    return classes


def _describe_loose_videos(base_contents: FolderContents) -> str:
    return (
        f"{_pluralize(base_contents.videos, 'video')} in no folder: "
        f"{_abbreviate(base_contents.videos)}"
    )


def _import_notes(scanned: ScannedFolders, base_contents: FolderContents) -> Iterator[str]:
    """Yield notes on skipped files and folders, and on clips that are folders of pictures.

    Each note has a count and names the first few.
    """
    frame_folders = [
        f"{name}/{clip}"
        for name, class_folder in scanned.items()
        for clip in class_folder.clips
        if not class_folder.contents.videos
    ]
    if frame_folders:
        yield (
            f"{_pluralize(frame_folders, 'clip')} of numbered pictures in a folder each: "
            f"{_abbreviate(frame_folders)}"
        )
    if base_contents.videos:
        yield f"left out: {_describe_loose_videos(base_contents)}; {_MOVE_HINT}"
    nested_videos = [
        f"{name}/{subfolder}/{video}"
        for name, class_folder in scanned.items()
        for subfolder, subcontents in class_folder.subfolder_contents.items()
        for video in subcontents.videos
    ]
    if nested_videos:
        count = _pluralize(nested_videos, "video")
        yield (
            f"left out: {count} in folders inside class folders: {_abbreviate(nested_videos)}; "
            f"{_MOVE_HINT}"
        )
    frames_beside_videos = [
        f"{name}/{subfolder}"
        for name, class_folder in scanned.items()
        for subfolder, subcontents in class_folder.subfolder_contents.items()
        if subcontents.is_clip and class_folder.contents.videos
    ]
    if frames_beside_videos:
        count = _pluralize(frames_beside_videos, "folder")
        yield (
            f"left out: {count} of numbered pictures beside video files: "
            f"{_abbreviate(frames_beside_videos)}"
        )
    empty = [name for name, class_folder in scanned.items() if not class_folder.clips]
    if empty:
        descriptions = [f"{name}{_contents_hint(scanned[name])}" for name in empty]
        yield f"no clips in {_abbreviate(descriptions)}: no class of that name"
    unreadable = dict(_unreadable_files(scanned, base_contents))
    if unreadable:
        descriptions = [f"{name} {reason}" for name, reason in unreadable.items()]
        yield (
            f"left out: {_pluralize(descriptions, 'file')} that cannot be read as videos: "
            f"{_abbreviate(descriptions)}"
        )
    unvisited = [
        f"{name}/{subfolder}/{deep_folder}"
        for name, subfolder, deep_folder in _unvisited_folders(scanned)
    ]
    if unvisited:
        yield (
            f"not looked into {_pluralize(unvisited, 'folder')} deeper down: "
            f"{_abbreviate(unvisited)}"
        )


def _unvisited_folders(scanned: ScannedFolders) -> Iterator[tuple[str, str, str]]:
    for name, class_folder in scanned.items():
        for subfolder, subcontents in class_folder.subfolder_contents.items():
            yield from ((name, subfolder, deep_folder) for deep_folder in subcontents.folders)


def _unreadable_files(
    scanned: ScannedFolders, base_contents: FolderContents
) -> Iterator[tuple[str, str]]:
    yield from sorted(base_contents.unreadable.items())
    for name, class_folder in scanned.items():
        contents_by_prefix = {f"{name}/": class_folder.contents}
        contents_by_prefix |= {
            f"{name}/{subfolder}/": subcontents
            for subfolder, subcontents in class_folder.subfolder_contents.items()
        }
        for prefix, folder_contents in contents_by_prefix.items():
            yield from (
                (prefix + file, reason)
                for file, reason in sorted(folder_contents.unreadable.items())
            )


def _contents_hint(class_folder: ClassFolder) -> str:
    """Describe the contents of a class folder without clips, in brackets."""
    if class_folder.contents.n_frames:
        return " (it holds numbered pictures: it would be one clip itself)"
    other_extensions = sum(
        (subcontents.other_extensions for subcontents in class_folder.subfolder_contents.values()),
        class_folder.contents.other_extensions.copy(),
    )
    counted = [
        f"{n} {extension or 'without extension'}"
        for extension, n in other_extensions.most_common(2)
    ]
    return f" ({', '.join(counted)})" if counted else ""


def _no_clips_message(base: Path, scanned: ScannedFolders, base_contents: FolderContents) -> str:
    """Explain why there are no clips: often the class folders are one level up or down."""
    outer_names = [name for name in scanned if _contains_class_folders(base / name, scanned[name])]
    if outer_names:
        subfolder_sets = Counter(tuple(scanned[name].contents.folders) for name in outer_names)
        same_subfolders = len(outer_names) > 1 and len(subfolder_sets) == 1
        all_way_hint = (
            "; --all-way takes train and test, where both have the same classes"
            if same_subfolders
            else ""
        )
        return (
            f"{base}: its folders {_abbreviate(outer_names)} hold folders with videos; expected "
            f"the class folders themselves: give --root {base / outer_names[0]}{all_way_hint}"
        )
    if all(class_folder.contents.is_clip for class_folder in scanned.values()):
        return (
            f"{base}: its folders {_abbreviate(list(scanned))} hold numbered pictures, so each "
            "would be one clip; expected folders of such folders, one per class"
        )
    expected = "expected video files in class folders, or folders of numbered pictures"
    return f"{base}: {expected}; {'; '.join(_import_notes(scanned, base_contents))}"


def _contains_class_folders(folder: Path, class_folder: ClassFolder) -> bool:
    """Whether the subfolders of a folder could be class folders."""
    return any(
        subcontents.videos
        or any(
            list_folder(folder / name / deep_folder).is_clip
            for deep_folder in subcontents.folders[:1]
        )
        for name, subcontents in class_folder.subfolder_contents.items()
    )


def _clips_outside_root(root: Path, clips: Sequence[Clip]) -> list[str]:
    """Names of clips whose files are outside the root, by a link to the clip or its folder."""
    real_root = root.resolve()
    folder, real_folder = None, real_root
    names = []
    for clip in clips:
        path = root / clip.name
        if path.parent != folder:
            folder, real_folder = path.parent, path.parent.resolve()
        is_inside = real_folder.is_relative_to(real_root)
        if not is_inside or (path.is_symlink() and not path.resolve().is_relative_to(real_root)):
            names.append(clip.name)
    return names


def _pluralize(names: Sequence[str], noun: str) -> str:
    return f"{len(names)} {noun}{'' if len(names) == 1 else 's'}"


def _abbreviate(names: Sequence[str]) -> str:
    more_note = f" and {len(names) - _MAX_SHOWN} more" if len(names) > _MAX_SHOWN else ""
    return ", ".join(names[:_MAX_SHOWN]) + more_note


CSV_COLUMNS = ("path", "class", "group", "split")
"""What a table can say of a clip; the first two are needed."""
KINETICS_COLUMNS = ("label", "youtube_id", "time_start", "time_end")
_DELIMITERS = (",", ";", "\t")
_MAX_SECONDS = 1_000_000

CsvRow = tuple[str, Mapping[str, str]]


def import_csv(
    path: Path,
    *,
    root: Path | None = None,
    columns: Mapping[str, str] | None = None,
    all_way: bool = False,
) -> ClipList:
    """Import the clips of a CSV with a header.

    Args:
        path: the file, in UTF-8, with commas, semicolons or tabs; further columns are ignored.
        root: the folder that absolute paths are made relative to.
        columns: maps "path", "class", "group" or "split" to the file's column name, where they
            differ. Without a group column no clip has a group.
        all_way: use the split column, which says train, val or test.

    Raises:
        SplitError: with the file and the lines of all that is wrong in it.
    """
    renamed_columns = dict(columns or {})
    column_of = {key: renamed_columns.get(key, key) for key in CSV_COLUMNS}
    required = [
        column_of["path"],
        column_of["class"],
        *(v for k, v in renamed_columns.items() if k in CSV_COLUMNS),
    ]
    required += [column_of["split"]] if all_way else []
    clip_list, problems = ClipList(path), ProblemList(path)
    builder = ClipListBuilder(clip_list, root, problems)
    with open_text(path) as file:
        for location, row in read_csv_rows(file, path, required, problems):
            role = (
                builder.parse_role(f"{location}: {column_of['split']}", row[column_of["split"]])
                if all_way
                else ""
            )
            group = row.get(column_of["group"]) or None
            builder.add(location, row[column_of["path"]], row[column_of["class"]], group, role)
    problems.raise_if_any()
    return require_clips(clip_list)


def import_kinetics(path: Path, *, all_way: bool = False) -> ClipList:
    """Import the clips of a CSV of Kinetics: label, youtube_id, time_start, time_end, split.

    A clip's name is LABEL/ID_START_END, with six digits for a time of whole seconds, as the usual
    downloads name it; `find` is "youtube", so that other names of its file match as well.

    Raises:
        SplitError: with the file and the lines of all that is wrong in it.
    """
    clip_list, problems = ClipList(path, find="youtube"), ProblemList(path)
    builder = ClipListBuilder(clip_list, None, problems)
    required = [*KINETICS_COLUMNS, "split"] if all_way else list(KINETICS_COLUMNS)
    with open_text(path) as file:
        for location, row in read_csv_rows(file, path, required, problems):
            label, clip = row["label"], row["youtube_id"]
            times = [
                _format_seconds(row[key], f"{location}: {key}", problems)
                for key in KINETICS_COLUMNS[2:]
            ]
            role = builder.parse_role(f"{location}: split", row["split"]) if all_way else ""
            builder.add(location, f"{label}/{clip}_{times[0]}_{times[1]}", label, None, role)
    problems.raise_if_any()
    return require_clips(clip_list)


def is_kinetics_csv(path: Path) -> bool:
    """Whether a file starts with the header of a CSV of Kinetics.

    Raises:
        SplitError: when it cannot be read.
    """
    with open_text(path) as file:
        header = file.readline()
    return set(KINETICS_COLUMNS) <= {
        name.strip(' "\n\r') for name in header.split(_guess_delimiter(header))
    }


def require_clips(clip_list: ClipList) -> ClipList:
    """Return the clip list if it has clips.

    Raises:
        SplitError: when it has no clips.
    """
    if not any(clip_list.classes_by_role.values()):
        raise SplitError(f"{clip_list.source}: no clips in it; expected a line for each")
    return clip_list


def _format_seconds(text: str, location: str, problems: ProblemList) -> str:
    """Format a time for a clip name: six digits if whole, else all its decimals."""
    try:
        value = Decimal(text)
    except InvalidOperation:
        value = Decimal("NaN")
    if not (value.is_finite() and 0 <= value < _MAX_SECONDS):
        range_note = "" if value.is_nan() else f" from 0 to {_MAX_SECONDS - 1}"
        problems.add(location, f"got {text!r}; expected seconds{range_note}")
        return ""
    is_integer = value == value.to_integral_value()
    return f"{int(value):06d}" if is_integer else f"{value.normalize():f}"


def _guess_delimiter(header: str) -> str:
    return max(_DELIMITERS, key=header.count)


@contextmanager
def open_text(path: Path) -> Iterator[TextIO]:
    """Open a text file for reading.

    Raises:
        SplitError: when it cannot be read, also while it is in use.
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


def read_csv_rows(
    file: TextIO, path: Path, required: Sequence[str], problems: ProblemList
) -> Iterator[CsvRow]:
    """Yield the rows of a table with a header, each with its location.

    Args:
        file: the table.
        path: its file, for messages.
        required: names of columns that must be there.
        problems: collects rows whose number of fields differs from the header's. Rows without any
            text are skipped: spreadsheet programs leave them at the end.

    Yields:
        Location and fields, without spaces around them.

    Raises:
        SplitError: when a column is missing.
    """
    delimiter = _guess_delimiter(file.readline())
    file.seek(0)
    reader = csv.DictReader(file, delimiter=delimiter, skipinitialspace=True, strict=True)
    header = [name.strip() for name in reader.fieldnames or []]
    missing = [name for name in dict.fromkeys(required) if header.count(name) != 1]
    if missing:
        raise SplitError(
            f"{path}: line 1: expected one column named {missing[0]!r}, found "
            f"{', '.join(header) or 'an empty file'}; --columns says which column is which, such "
            "as path=FILE,class=LABEL"
        )
    reader.fieldnames = header
    for row in reader:
        location = f"line {reader.line_num}"
        extra_fields = row.pop(None, None) or []
        if not any(text and text.strip() for text in (*row.values(), *extra_fields)):
            continue
        if extra_fields or None in row.values():
            problems.add(location, f"not {len(header)} fields as in the header")
        else:
            yield location, {name: text.strip() for name, text in row.items()}


_ID_NAME_LINE = re.compile(r"(\d+)(?:\s*[,;\t]\s*|\s+)(\S.*)")
_LABEL_HEADERS = ("id,name", "id;name", "id\tname")


def import_annotations(
    path: Path,
    *,
    test_path: Path | None = None,
    labels_path: Path | None = None,
    root: Path | None = None,
    all_way: bool = False,
) -> ClipList:
    """Import the clips of an annotation file.

    Args:
        path: lines `PATH LABEL` or `PATH FRAMES LABEL` as in mmaction2, or a CSV of Kinetics.
        test_path: a second such file with the test clips; `path` then has the train clips.
        labels_path: names of the labels: one per line, for the labels 0, 1, ...; or lines
            `ID,NAME`. Without it a label is the name of its class.
        root: the folder that absolute paths are made relative to.
        all_way: use the split column of a CSV of Kinetics.

    Returns:
        The clip list. Where paths have no extension of a video, as those of folders of frames, its
        `find` is "name".

    Raises:
        SplitError: with the file and the lines of all that is wrong in it.
    """
    if is_kinetics_csv(path):
        if labels_path is not None or test_path is not None:
            raise SplitError(
                f"{path}: a CSV of Kinetics has names of classes, and its split column says "
                "train, val or test; expected no labels and no second file"
            )
        return import_kinetics(path, all_way=all_way)
    if all_way and test_path is None:
        raise SplitError(f"{path}: says of no clip what it is for; give --test-annotations too")
    label_names = None if labels_path is None else read_labels(labels_path)
    clip_list = ClipList(path)
    role_files = [
        ("train" if test_path else "", path),
        *([("test", test_path)] if test_path else []),
    ]
    builder = ClipListBuilder(clip_list, root, ProblemList(path))
    for role, annotation_file in role_files:
        builder.problems, builder.location_suffix = (
            ProblemList(annotation_file),
            f" of {annotation_file}" if test_path else "",
        )
        _read_annotations(annotation_file, role, label_names, labels_path, builder)
        builder.problems.raise_if_any()
    if label_names is not None:
        used_classes = clip_list.classes()
        clip_list.class_ids = {
            name: label for label, name in label_names.items() if name in used_classes
        }
    if not all(
        PurePosixPath(clip_name).suffix.lower() in VIDEO_EXTENSIONS
        for clip_name in clip_list.clip_names()
    ):
        clip_list.find = "name"
        clip_list.notes.append("names without the extension of a video: `find: name` was written")
    return require_clips(clip_list)


def _read_annotations(
    path: Path,
    role: str,
    label_names: Mapping[str, str] | None,
    labels_path: Path | None,
    builder: ClipListBuilder,
) -> None:
    with open_text(path) as file:
        lines = [(f"line {i}", line.strip()) for i, line in enumerate(file, 1)]
    filled_lines = [(location, line) for location, line in lines if line]
    for location, clip, label in _parse_lines(filled_lines, builder.problems):
        if label_names is not None and label not in label_names:
            label_range = (
                f"{labels_path} has {len(label_names)}, from {min(label_names, key=int)} on"
            )
            builder.problems.add(location, f"label {label!r} has no name; {label_range}")
            continue
        builder.add(
            location, clip, label if label_names is None else label_names[label], None, role
        )


def _parse_lines(
    lines: Sequence[tuple[str, str]], problems: ProblemList
) -> Iterator[tuple[str, str, str]]:
    """Yield location, path and label per line; paths may have spaces or be in quotes."""
    cuts = [(location, *_split_last_word(line, line)) for location, line in lines]
    frame_cuts = [
        _split_last_word(path, line) for (_, path, _), (_, line) in zip(cuts, lines, strict=True)
    ]
    has_frame_counts = all(path and frames.isdecimal() for path, frames in frame_cuts)
    for i, (location, path, label) in enumerate(cuts):
        if not path:
            expected = "expected PATH LABEL, PATH FRAMES LABEL, or the header of a Kinetics CSV"
            hint = "; a CSV of your own goes with --csv" if "," in label else ""
            problems.add(location, f"got {lines[i][1]!r}; {expected}{hint}")
            continue
        path = frame_cuts[i][0] if has_frame_counts else path
        yield location, path[1:-1] if _is_quoted(path) else path, label


def _split_last_word(text: str, full_line: str) -> tuple[str, str]:
    """Split off the last word: a quoted one, or the text after a tab if the line has tabs."""
    if text.endswith('"') and text.count('"') > 1:
        path, _, word = text[:-1].rpartition('"')
    else:
        path, word = ("", "", *text.rsplit("\t" if "\t" in full_line else None, 1))[-2:]
    return path.strip(), word.strip()


def _is_quoted(text: str) -> bool:
    return len(text) > 1 and text[0] == text[-1] and text[0] in "\"'"


def read_labels(path: Path) -> dict[str, str]:
    """Read class names by label.

    Args:
        path: one name per line, for the labels 0, 1, ...; or lines `ID,NAME` (also with a space or
            a tab between), with or without the header `id,name`.

    Raises:
        SplitError: when a name or an id is repeated, or there are no names.
    """
    with open_text(path) as file:
        lines = [line.strip() for line in file]
    while lines and not lines[-1]:
        lines.pop()
    if lines and lines[0].casefold().replace(" ", "") in _LABEL_HEADERS:
        lines = lines[1:]
    matches = [_ID_NAME_LINE.fullmatch(line) for line in lines]
    pairs = [(m.group(1), m.group(2).strip("\"'")) for m in matches if m is not None]
    if len(pairs) < len(lines):
        pairs = [(str(i), line) for i, line in enumerate(lines)]
    names = dict(pairs)
    _check_label_names(path, pairs)
    return names


def _check_label_names(path: Path, pairs: Sequence[tuple[str, str]]) -> None:
    if not pairs:
        raise SplitError(f"{path}: no names in it; expected one per line, or lines ID,NAME")
    for kind, values in (("id", [a for a, _ in pairs]), ("name", [b for _, b in pairs])):
        repeated = next(
            (value for value, count in Counter(values).items() if count > 1 or not value), None
        )
        if repeated is not None:
            message = f"{kind} {repeated!r} is there twice" if repeated else "a line without a name"
            raise SplitError(f"{path}: {message}; expected each class once")
