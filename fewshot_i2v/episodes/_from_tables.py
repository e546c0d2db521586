"""Lists the clips of a table: a CSV of one's own, or that of Kinetics."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TextIO

from fewshot_i2v._files import open_lines
from fewshot_i2v.episodes._listing import Listing, Rows
from fewshot_i2v.episodes._problems import Problems
from fewshot_i2v.errors import SplitError

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
