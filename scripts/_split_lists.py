"""Reads the published lists of clips, in the forms that their repositories use."""

from __future__ import annotations

import csv
import gzip
import json
import re
from pathlib import Path

import click

Rows = list[tuple[str, str]]
"""What a list calls a clip's class, and the stem of the clip's file; in the order of the list."""

SUBSETS = {"base": "train", "val": "val", "novel": "test"}
"""Subsets of a split of classes, and what the lists call them."""


def lines(path: Path) -> list[str]:
    """The lines of a text file, which may be compressed (.gz).

    Raises:
        click.ClickException: when it cannot be read; see also `unique`.
    """
    try:
        data = path.read_bytes()
        text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode("utf-8")
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise click.ClickException(f"{path}: cannot be read: {error}") from error
    return unique(text, path)


def unique(text: str, path: Path) -> list[str]:
    """The lines of a text.

    Raises:
        click.ClickException: when there are none, or one is empty or there twice.
    """
    found = text.splitlines()
    if not found or "" in found or len(set(found)) < len(found):
        raise click.ClickException(f"{path}: is empty, or has a line that is empty or there twice")
    return found


def pairs(texts: list[str]) -> Rows:
    """Texts `CLASS/STEM`, in whose class there may be spaces."""
    return [(name, stem) for name, _, stem in (text.rpartition("/") for text in texts)]


def slashed(path: Path) -> Rows:
    """Lines `CLASS/STEM`."""
    return pairs(lines(path))


def clip_fsar(path: Path) -> list[tuple[str, str, str]]:
    """Lines `CLASS ID//PATH`: class id, class folder and file stem of each clip."""
    rows = []
    for line in lines(path):
        number, _, place = line.partition("//")
        *_, folder, file = place.split("/")
        rows.append((number, folder, file.rpartition(".")[0]))
    return rows


def numbered(path: Path) -> Rows:
    """Lines `STATE_FILE ID`, without the file's extension."""
    pairs = (line.rpartition(" ") for line in lines(path))
    return [(number, file.rpartition(".")[0]) for file, _, number in pairs]


def labels(path: Path) -> dict[str, str]:
    """Class names by row number, from a table with the columns id and name."""
    return {row["id"]: row["name"] for row in csv.DictReader(lines(path))}


def class_names(path: Path) -> dict[str, str]:
    """Readable class names by what the lists call the classes, from a `classes.json`."""
    subsets = json.loads(path.read_text(encoding="utf-8"))
    return {entry["key"]: entry["name"] for entries in subsets.values() for entry in entries}


def readable(folder: str) -> str:
    """`brush hair` of `brush_hair`, and `Apply Eye Makeup` of `ApplyEyeMakeup`."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", folder.replace("_", " "))
