"""Writes the fixed 5-way 5-shot trials of A5 as frozen episodes."""

from __future__ import annotations

import tarfile
from pathlib import Path

import click
from _split_citations import A5
from _split_lists import Rows, pairs, readable, unique
from _split_texts import A5_LICENCE, A5_SOURCE

from fewshot_i2v.data.episodes.episode import Episode
from fewshot_i2v.data.episodes.episode_file import make_episode_file, write_episode_file
from fewshot_i2v.data.splits.split import Split

COUNT = 200
DATA = {"hmdb51": "HMDB-51", "ucf101": "UCF-101"}
"""Data sets, and their folders in the archives."""
QUERIES = {
    "hmdb51": "the other 95 of the 100 clips of each class in official split 1",
    "ucf101": "all other clips of the class",
}


def read_trials(path: Path, folder: str) -> list[tuple[Rows, Rows]]:
    """Support and query clips of each trial, which the archive calls train and test.

    Args:
        path: the archive.
        folder: the data set's folder in it.

    Raises:
        click.ClickException: when it cannot be read, or a list is not there.
    """
    try:
        with tarfile.open(path, "r:gz") as archive:
            # in the order of the archive: going back in a compressed file reads it anew
            lists = {member.name: _list(archive, member) for member in archive if member.isfile()}
        sides = [
            [
                pairs(unique(lists[name].decode(), path / name))
                for name in (f"{folder}/{side}/split_{i}.list" for i in range(COUNT))
            ]
            for side in ("train", "test")
        ]
    except (OSError, tarfile.TarError, KeyError, UnicodeDecodeError) as error:
        raise click.ClickException(f"{path}: cannot be read: {error}") from error
    return list(zip(*sides, strict=True))


def _list(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = archive.extractfile(member)
    return b"" if file is None else file.read()


def episode_of(
    index: int, support: Rows, query: Rows, clips: dict[str, tuple[str, str]]
) -> Episode:
    """A trial by the names of a split.

    Args:
        index: its number.
        support: support clips, of which the order is kept.
        query: query clips, whose order means nothing and is not kept.
        clips: file stem -> class and clip name.

    Raises:
        click.ClickException: for a clip that the trial gives another class.
    """
    sides = []
    for rows in (support, query):
        by_class: dict[str, list[str]] = {}
        for label, stem in rows:
            name, clip = clips[stem]
            if readable(label) != name:
                raise click.ClickException(f"trial {index}: {stem} is called {label}, not {name}")
            by_class.setdefault(name, []).append(clip)
        sides.append(by_class)
    classes = tuple(sides[0])
    return Episode(
        index,
        classes,
        tuple(tuple(sides[0][name]) for name in classes),
        tuple(tuple(sorted(sides[1][name])) for name in classes),
    )


def write_trials(lists: Path, output: Path, splits: dict[str, Split]) -> list[Path]:
    """Writes the trials of both data sets.

    Args:
        lists: folder of the raw lists.
        output: folder of the split files.
        splits: the ARN splits by name.

    Returns:
        The files.
    """
    files = []
    for data, folder in DATA.items():
        split = splits[f"{data}-arn"]
        clips = {
            clip.name.rpartition("/")[2]: (name, clip.name)
            for name in split.classes("novel")
            for clip in split.clips("novel", name)
        }
        trials = read_trials(lists / f"{data}-5shot-5way-a5" / "trials.tar.gz", folder)
        specs = [episode_of(i, *sides, clips) for i, sides in enumerate(trials)]
        settings = {
            "source": A5_SOURCE,
            "licence": A5_LICENCE,
            "citation": A5,
            "way": 5,
            "shot": 5,
            "query": QUERIES[data],
        }
        path = output / "trials" / f"{data}-a5.jsonl.gz"
        write_episode_file(make_episode_file(split, "novel", specs, settings), path, overwrite=True)
        files.append(path)
    return files
