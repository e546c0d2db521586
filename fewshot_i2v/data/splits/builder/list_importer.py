"""Imports clip lists from CSV tables, and from the annotation files of other toolboxes."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from decimal import Decimal, InvalidOperation
from pathlib import Path, PurePosixPath
from typing import TextIO

from fewshot_i2v.data.splits.builder.clip_list import ClipList, ClipListBuilder
from fewshot_i2v.data.splits.folder_contents import VIDEO_EXTENSIONS
from fewshot_i2v.data.splits.problems import ProblemList
from fewshot_i2v.errors import SplitError
from fewshot_i2v.utils.input_files import open_lines

CSV_COLUMNS = ("path", "class", "group", "split")
"""What a table can say of a clip; the first two are needed."""
_KINETICS_COLUMNS = ("label", "youtube_id", "time_start", "time_end")
_DELIMITERS = (",", ";", "\t")
_MAX_SECONDS = 1_000_000
_ID_NAME_LINE = re.compile(r"(\d+)(?:\s*[,;\t]\s*|\s+)(\S.*)")
_LABEL_HEADERS = ("id,name", "id;name", "id\tname")

CsvRow = Mapping[str, str]


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
    renamed = columns or {}
    path_column, class_column, group_column, split_column = (
        renamed.get(key, key) for key in CSV_COLUMNS
    )

    def _clip_of_row(_location: str, row: CsvRow) -> tuple[str, str, str | None]:
        return row[path_column], row[class_column], row.get(group_column) or None

    required = [path_column, class_column, *renamed.values()]
    role_column = split_column if all_way else None
    return _import_table(ClipListBuilder(path, root), required, role_column, _clip_of_row)


def _import_kinetics(path: Path, *, all_way: bool) -> ClipList:
    """Import the clips of a CSV of Kinetics: label, youtube_id, time_start, time_end, split.

    A clip's name is LABEL/ID_START_END, with six digits for a time of whole seconds, as the usual
    downloads name it; `find` is "youtube", so that other names of its file match as well.
    """
    builder = ClipListBuilder(path, find="youtube")

    def _clip_of_row(location: str, row: CsvRow) -> tuple[str, str, None]:
        start, end = (
            _format_seconds(row[key], f"{location}: {key}", builder.problems)
            for key in ("time_start", "time_end")
        )
        return f"{row['label']}/{row['youtube_id']}_{start}_{end}", row["label"], None

    return _import_table(builder, _KINETICS_COLUMNS, "split" if all_way else None, _clip_of_row)


def _import_table(
    builder: ClipListBuilder,
    required: Sequence[str],
    role_column: str | None,
    clip_of_row: Callable[[str, CsvRow], tuple[str, str, str | None]],
) -> ClipList:
    """Import a table with a header; `clip_of_row` makes path, class and group of a row."""
    path = builder.clip_list.source
    if role_column is not None:
        required = [*required, role_column]
    with _open_text(path) as file:
        for location, row in _read_rows(file, path, required, builder.problems):
            clip, label, group = clip_of_row(location, row)
            role = ""
            if role_column is not None:
                role = builder.parse_role(f"{location}: {role_column}", row[role_column])
            builder.add(location, clip, label, group, role)
    return builder.build()


def _read_rows(
    file: TextIO, path: Path, required: Sequence[str], problems: ProblemList
) -> Iterator[tuple[str, CsvRow]]:
    """Yield the rows of a table, each with its location and without spaces around its fields.

    Rows without any text are skipped: spreadsheet programs leave them at the end.
    """
    delimiter = _guess_delimiter(file.readline())
    file.seek(0)
    reader = csv.DictReader(file, delimiter=delimiter, skipinitialspace=True, strict=True)
    header = [name.strip() for name in reader.fieldnames or []]
    missing = next((name for name in required if header.count(name) != 1), None)
    if missing is not None:
        raise SplitError(
            f"{path}: line 1: expected one column named {missing!r}, found "
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


def _guess_delimiter(header: str) -> str:
    return max(_DELIMITERS, key=header.count)


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


@contextmanager
def _open_text(path: Path) -> Iterator[TextIO]:
    """Open a text file; what goes wrong, also while it is read, becomes a `SplitError`."""
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
    if _is_kinetics_csv(path):
        if labels_path is not None or test_path is not None:
            raise SplitError(
                f"{path}: a CSV of Kinetics has names of classes, and its split column says "
                "train, val or test; expected no labels and no second file"
            )
        return _import_kinetics(path, all_way=all_way)
    if all_way and test_path is None:
        raise SplitError(f"{path}: says of no clip what it is for; give --test-annotations too")
    label_names = None if labels_path is None else read_labels(labels_path)
    builder = ClipListBuilder(path, root)
    if test_path is None:
        _add_annotations(builder, path, "", label_names, labels_path)
    else:
        for role, file in (("train", path), ("test", test_path)):
            builder.problems, builder.location_suffix = ProblemList(file), f" of {file}"
            _add_annotations(builder, file, role, label_names, labels_path)
    clip_list = builder.build()
    classes = clip_list.classes()
    if label_names is not None:
        clip_list.class_ids = {
            name: label for label, name in label_names.items() if name in classes
        }
    extensions = {
        PurePosixPath(clip.name).suffix.lower() for clips in classes.values() for clip in clips
    }
    if not extensions <= VIDEO_EXTENSIONS:
        clip_list.find = "name"
        clip_list.notes.append("names without the extension of a video: `find: name` was written")
    return clip_list


def _is_kinetics_csv(path: Path) -> bool:
    with _open_text(path) as file:
        header = file.readline()
    names = {name.strip(' "\n\r') for name in header.split(_guess_delimiter(header))}
    return names.issuperset(_KINETICS_COLUMNS)


def _add_annotations(
    builder: ClipListBuilder,
    path: Path,
    role: str,
    label_names: Mapping[str, str] | None,
    labels_path: Path | None,
) -> None:
    """Add the clips of one annotation file; SplitError with all that is wrong in it."""
    with _open_text(path) as file:
        lines = [(f"line {i}", line.strip()) for i, line in enumerate(file, 1)]
    filled_lines = [(location, line) for location, line in lines if line]
    for location, clip, label in _parse_lines(filled_lines, builder.problems):
        if label_names is None:
            builder.add(location, clip, label, None, role)
        elif label in label_names:
            builder.add(location, clip, label_names[label], None, role)
        else:
            label_range = f"has {len(label_names)}, from {min(label_names, key=int)} on"
            builder.problems.add(
                location, f"label {label!r} has no name; {labels_path} {label_range}"
            )
    builder.problems.raise_if_any()


def _parse_lines(
    lines: Sequence[tuple[str, str]], problems: ProblemList
) -> Iterator[tuple[str, str, str]]:
    """Yield location, path and label per line; paths may have spaces or be in quotes."""
    cuts = [(location, line, *_split_last_word(line, line)) for location, line in lines]
    frame_cuts = [_split_last_word(path, line) for _, line, path, _ in cuts]
    has_frame_counts = all(path and frames.isdecimal() for path, frames in frame_cuts)
    for (location, line, path, label), (path_before_frames, _) in zip(
        cuts, frame_cuts, strict=True
    ):
        if not path:
            expected = "expected PATH LABEL, PATH FRAMES LABEL, or the header of a Kinetics CSV"
            hint = "; a CSV of your own goes with --csv" if "," in label else ""
            problems.add(location, f"got {line!r}; {expected}{hint}")
            continue
        path = path_before_frames if has_frame_counts else path
        is_quoted = len(path) > 1 and path[0] == path[-1] and path[0] in "\"'"
        yield location, path[1:-1] if is_quoted else path, label


def _split_last_word(text: str, full_line: str) -> tuple[str, str]:
    """Split off the last word: a quoted one, or the text after a tab if the line has tabs."""
    if text.endswith('"') and text.count('"') > 1:
        path, _, word = text[:-1].rpartition('"')
    else:
        path, word = ("", "", *text.rsplit("\t" if "\t" in full_line else None, 1))[-2:]
    return path.strip(), word.strip()


def read_labels(path: Path) -> dict[str, str]:
    """Read class names by label.

    Args:
        path: one name per line, for the labels 0, 1, ...; or lines `ID,NAME` (also with a space or
            a tab between), with or without the header `id,name`.

    Raises:
        SplitError: when a name or an id is repeated, or there are no names.
    """
    with _open_text(path) as file:
        lines = [line.strip() for line in file]
    while lines and not lines[-1]:
        lines.pop()
    if lines and lines[0].casefold().replace(" ", "") in _LABEL_HEADERS:
        lines = lines[1:]
    if not lines:
        raise SplitError(f"{path}: no names in it; expected one per line, or lines ID,NAME")
    matches = [_ID_NAME_LINE.fullmatch(line) for line in lines]
    pairs = [(m.group(1), m.group(2).strip("\"'")) for m in matches if m is not None]
    if len(pairs) < len(lines):
        pairs = [(str(i), line) for i, line in enumerate(lines)]
    for kind, values in zip(("id", "name"), zip(*pairs, strict=True), strict=True):
        for value, count in Counter(values).items():
            if count > 1 or not value:
                message = f"{kind} {value!r} is there twice" if value else "a line without a name"
                raise SplitError(f"{path}: {message}; expected each class once")
    return dict(pairs)
