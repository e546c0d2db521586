"""Lists the clips of a table: a CSV of one's own, or that of Kinetics."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
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
            group = row.get(names["group"], "").strip() or None
            rows.add(where, row[names["path"]], row[names["class"]].strip(), group, part)
    problems.stop()
    return filled(listing)


def from_kinetics(path: Path, *, all_way: bool = False) -> Listing:
    """The clips of a CSV of Kinetics: label, youtube_id, time_start, time_end and split.

    A clip's name is LABEL/ID_START_END, with six digits for each time, as the usual downloads
    call it; `find` is "youtube", so that other names of its file will do as well.

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
            rows.add(where, f"{label}/{clip}_{times[0]:06d}_{times[1]:06d}", label, None, part)
    problems.stop()
    return filled(listing)


def is_kinetics(path: Path) -> bool:
    """Whether a file begins like a CSV of Kinetics.

    Raises:
        SplitError: when it cannot be read.
    """
    with opened(path) as file:
        return set(KINETICS) <= {name.strip(' "\n\r') for name in file.readline().split(",")}


def filled(listing: Listing) -> Listing:
    """The listing.

    Raises:
        SplitError: when it has no clips.
    """
    if not any(listing.parts.values()):
        raise SplitError(f"{listing.source}: no clips in it; expected a line for each")
    return listing


def _seconds(text: str, where: str, problems: Problems) -> int:
    try:
        value = int(float(text))
    except (ValueError, OverflowError):
        problems.add(where, f"got {text!r}; expected seconds")
        return 0
    if value < 0:
        problems.add(where, f"got {text!r}; expected seconds from 0")
    return max(value, 0)


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
        problems: takes rows that have not as many fields as the header.

    Raises:
        SplitError: when a column is missing.
    """
    first = file.readline()
    file.seek(0)
    delimiter = max(_DELIMITERS, key=first.count)
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
        if None in row or None in row.values():
            problems.add(where, f"not {len(header)} fields as in the header")
        else:
            yield where, row
