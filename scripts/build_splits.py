"""Writes the published splits that come with the package from the lists of their repositories.

    python scripts/build_splits.py --lists LISTS

LISTS is a folder of the original lists, in the folders that `scripts/build_splits.py` names; where
each is from stands in the files that are written. The same lists give the same bytes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
from _split_citations import CITATIONS
from _split_lists import SUBSETS, Rows, class_names, clip_fsar, labels, numbered, readable, slashed
from _split_texts import TEXTS
from _split_trials import write_trials

from fewshot_i2v.data.splits.split import Clip, Draw, Split
from fewshot_i2v.data.splits.split_file import load_split
from fewshot_i2v.data.splits.split_writer import write_split

OUT = Path(__file__).resolve().parents[1] / "episodes"
MADE = "Made by scripts/build_splits.py; the digest refuses a list that was changed."

_TWO_WORDS = (
    "brush_hair|climb_stairs|draw_sword|fall_floor|flic_flac|kick_ball|ride_bike|ride_horse"
    "|shake_hands|shoot_ball|shoot_bow|shoot_gun|swing_baseball|sword_exercise"
)
HMDB_GROUP = (
    rf"/(.+?)_(?:{_TWO_WORDS}|[a-z]+)"
    r"_[fuhl]_(?:cm|nm)_np\d+_(?:ba|fr|le|ri)_(?:bad|med|goo)_\d+$"
)
"""The title in a clip's name; the classes of two words, since a title can end with a word."""
UCF_GROUP = r"_(g\d\d)_c\d\d$"
VIFI_SHOTS = (2, 4, 8, 16)


@dataclass
class Draft:
    """A split in the making.

    Attributes:
        find: how its files are found.
        pattern: gives the groups, or None.
        subsets: subset -> class -> clip names.
        ids: class -> what the lists call it, where that is neither its name nor its folder.
        draws: name -> draws, each class -> clip names.
    """

    find: str
    pattern: str | None = None
    subsets: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    ids: dict[str, str] = field(default_factory=dict)
    draws: dict[str, list[dict[str, list[str]]]] = field(default_factory=dict)

    def split(self, name: str) -> Split:
        """The split under a name, with its texts."""
        about = TEXTS[name]
        subsets = {
            subset: {c: tuple(map(self._clip, names)) for c, names in classes.items()}
            for subset, classes in self.subsets.items()
        }
        draws = {
            key: tuple(
                Draw(len(next(iter(draw.values()))), {c: tuple(v) for c, v in draw.items()})
                for draw in several
            )
            for key, several in self.draws.items()
        }
        values: dict[str, Any] = {"find": self.find, "draws": draws, "class_ids": self.ids}
        return Split(
            name=name,
            subsets=subsets,
            source=about.source,
            licence=about.licence,
            description=about.description,
            citation=CITATIONS[name],
            defects=about.defects,
            group_pattern=self.pattern,
            **values,
        )

    def _clip(self, name: str) -> Clip:
        match = None if self.pattern is None else re.search(self.pattern, name)
        return Clip(name, None if match is None else match.group(1))


def by_class(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """Clip names by class, from pairs of them."""
    classes: dict[str, list[str]] = {}
    for name, clip in pairs:
        classes.setdefault(name, []).append(clip)
    return classes


def arn(lists: Path, data: str, pattern: str) -> Draft:
    """HMDB51 or UCF101, divided by classes."""
    draft = Draft("name", pattern)
    for subset, file in SUBSETS.items():
        rows = slashed(lists / f"{data}-arn/fsar-lib/{file}.txt")
        draft.subsets[subset] = by_class((readable(c), f"{c}/{stem}") for c, stem in rows)
    return draft


def kinetics_cmn(lists: Path) -> Draft:
    """Kinetics-100 as published first."""
    draft = Draft("youtube")
    for subset, file in SUBSETS.items():
        rows = slashed(lists / f"kinetics100-cmn/cmn/{file}.list")
        draft.subsets[subset] = by_class((c, f"{c}/{stem}") for c, stem in rows)
    return draft


def kinetics_clip_fsar(lists: Path) -> Draft:
    """Kinetics-100 with replaced clips."""
    draft = Draft("youtube")
    for subset, file in SUBSETS.items():
        rows = clip_fsar(lists / f"kinetics100-cmn/clip-fsar/{file}_few_shot.txt")
        named = [(readable(folder), number, stem) for number, folder, stem in rows]
        draft.subsets[subset] = by_class((c, f"{c}/{stem}") for c, _, stem in named)
        draft.ids |= {c: number for c, number, _ in named}
    return draft


def ssv2_small(lists: Path) -> Draft:
    """SSv2-Small."""
    draft = Draft("name")
    for subset, file in SUBSETS.items():
        draft.subsets[subset] = by_class(slashed(lists / f"ssv2-small-cmn/cmn/{file}.list"))
    return draft


def ssv2_full(lists: Path, base: str) -> Draft:
    """SSv2-Full; `base` is the file of its base classes."""
    draft = Draft("name")
    home = lists / "ssv2-full-otam"
    names = class_names(home / "classes.json")
    draft.ids = {name: number for number, name in names.items()}
    for subset, file in SUBSETS.items():
        rows = slashed(home / (base if subset == "base" else f"fsar-lib/{file}.txt"))
        draft.subsets[subset] = by_class((names[number], clip) for number, clip in rows)
    return draft


def vifi(lists: Path, data: str, test: str, names: Callable[[Rows], Rows]) -> Draft:
    """The draws and the test list of ViFi-CLIP.

    Args:
        lists: folder of the lists.
        data: "hmdb51", "ucf101" or "ssv2".
        test: file of the test clips.
        names: class names and clip names of rows that have class numbers and file stems.
    """
    draft = Draft("name")
    home = lists / f"{data}-kshot-vificlip"
    rows = numbered(home / test)
    draft.subsets = {"train": {}, "test": by_class(names(rows))}
    draft.ids = {c: number for (number, _), (c, _) in zip(rows, names(rows), strict=True)}
    draws = [numbered(home / f"train1_few_shot_{k}.txt") for k in VIFI_SHOTS]
    draft.draws["vificlip"] = [by_class(names(draw)) for draw in draws]
    return draft


def united(draft: Draft) -> dict[str, list[str]]:
    """The clips of all draws, by class."""
    classes: dict[str, dict[str, None]] = {}
    for draws in draft.draws.values():
        for draw in draws:
            for name, clips in draw.items():
                classes.setdefault(name, {}).update(dict.fromkeys(clips))
    return {name: list(clips) for name, clips in classes.items()}


def all_way(lists: Path, data: str, pattern: str) -> Draft:
    """HMDB51 or UCF101 with all classes in train and test."""
    known = {
        stem: folder
        for file in SUBSETS.values()
        for folder, stem in slashed(lists / f"{data}-arn/fsar-lib/{file}.txt")
    }

    def names(rows: Rows) -> Rows:
        # the folder says the class: the table of class names does not fit all numbers (HMDB51)
        return [(readable(known[stem]), f"{known[stem]}/{stem}") for _, stem in rows]

    draft = vifi(lists, data, "val1.txt", names)
    draft.pattern = pattern
    a5 = lists / f"{data}-5shot-cway-a5" / "train"
    draft.draws["a5"] = [by_class(names(slashed(a5 / f"split_{i}.list"))) for i in range(10)]
    if data == "ucf101":
        tested = {clip for clips in draft.subsets["test"].values() for clip in clips}
        everything = names([("", stem) for stem in known])
        draft.subsets["train"] = by_class(row for row in everything if row[1] not in tested)
    else:
        draft.subsets["train"] = united(draft)
    return draft


def ssv2_all_way(lists: Path) -> Draft:
    """SSv2 with all classes in train and test."""
    table = labels(lists / "ssv2-kshot-vificlip/ssv2_labels.csv")

    def names(rows: Rows) -> Rows:
        return [(table[number], clip) for number, clip in rows]

    draft = vifi(lists, "ssv2", "validation.txt", names)
    draft.subsets["train"] = united(draft)
    return draft


DRAFTS: Mapping[str, Callable[[Path], Draft]] = {
    "hmdb51-arn": lambda lists: arn(lists, "hmdb51", HMDB_GROUP),
    "ucf101-arn": lambda lists: arn(lists, "ucf101", UCF_GROUP),
    "kinetics100-cmn": kinetics_cmn,
    "kinetics100-clip-fsar": kinetics_clip_fsar,
    "ssv2-small-cmn": ssv2_small,
    "ssv2-full-otam": lambda lists: ssv2_full(lists, "fsar-lib/train.txt"),
    "ssv2-full-otam-77k": lambda lists: ssv2_full(lists, "ta2n/trainlist03.txt.gz"),
    "hmdb51-kshot": lambda lists: all_way(lists, "hmdb51", HMDB_GROUP),
    "ucf101-kshot": lambda lists: all_way(lists, "ucf101", UCF_GROUP),
    "ssv2-kshot": ssv2_all_way,
}
"""By the name of the split."""


@click.command(help=__doc__)
@click.option(
    "--lists",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    required=True,
    help="Folder of the raw lists.",
)
@click.option("--output", type=click.Path(path_type=Path), default=OUT, help="Where files go.")
def main(lists: Path, output: Path) -> None:
    """Writes each split, reads it again, and says its size."""
    splits = {}
    for name, draft in DRAFTS.items():
        path = output / f"{name}.yaml"
        comments = [MADE, *TEXTS[name].remarks]
        write_split(
            draft(lists).split(name), path, comments=comments, with_digest=True, overwrite=True
        )
        splits[name] = load_split(path)  # no clip in two subsets, and so on
        click.echo(f"{path.stat().st_size:9,d} bytes  {name}  {splits[name].digest[:16]}")
    for path in write_trials(lists, output, splits):
        click.echo(f"{path.stat().st_size:9,d} bytes  {path.relative_to(output)}")


if __name__ == "__main__":
    main()
