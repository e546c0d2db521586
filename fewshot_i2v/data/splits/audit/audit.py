"""What a list hides: clips of one recording on both sides, and what lists have in common.

A split's file can be right in every line and a result on it still mean less than it seems: a query
clip may be the next second of a support clip, a validation class of one benchmark may be a training
class of another, draws of K clips may not be nested. An audit counts all that from the names alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import combinations

from fewshot_i2v.data.splits.audit.finding import Finding
from fewshot_i2v.data.splits.audit.group_leakage import (
    SHOTS,
    crossing,
    same_group_chance,
    same_groups,
    scenes,
)
from fewshot_i2v.data.splits.audit.overlap import SEEN_BY, compare_splits, seen_by
from fewshot_i2v.data.splits.matching.name_normalization import (
    Listed,
    by_folder,
    class_key,
    listing,
    same_place,
)
from fewshot_i2v.data.splits.split import Draw, Split

__all__ = [
    "SEEN_BY",
    "SHOTS",
    "Finding",
    "all_findings",
    "audit",
    "compare_splits",
    "same_group_chance",
    "seen_by",
    "told_apart",
]

_UNEVEN = 3
_NUMBERED = 0.1


def audit(split: Split) -> list[Finding]:
    """What one split hides, the grave findings first."""
    found = [
        *_same_classes(split),
        *_same_clips(split),
        *(finding for subset in split.subsets for finding in same_groups(split, subset)),
        *crossing(split),
        *(finding for subset in split.subsets for finding in scenes(split, subset)),
        *_draws(split),
        *(finding for subset in split.subsets for finding in _sizes(split, subset)),
    ]
    return sorted(found, key=lambda finding: not finding.grave)


def all_findings(splits: Iterable[Split], seen: str | None) -> dict[str, list[Finding]]:
    """Findings by the name of a split, or of two with "and" between.

    Args:
        splits: the splits; those with equal names are told apart, see `told_apart`.
        seen: a name of `SEEN_BY`, or None.

    Raises:
        UnknownNameError: for a data set that is not known.
    """
    listed = told_apart(splits)
    found = {split.name: audit(split) + (seen_by(split, seen) if seen else []) for split in listed}
    for a, b in combinations(listed, 2):
        found[f"{a.name} and {b.name}"] = compare_splits(a, b)
    return found


def told_apart(splits: Iterable[Split]) -> list[Split]:
    """The splits, those with equal names called by their files, or else numbered."""
    listed = list(splits)
    names = Counter(split.name for split in listed)
    files = Counter(str(split.path) for split in listed)
    taken: set[str] = set()
    result = []
    for split in listed:
        name = split.name
        if names[name] > 1 and split.path is not None and files[str(split.path)] == 1:
            name = str(split.path)
        unique = next(n for n in _numbered(name) if n not in taken)
        taken.add(unique)
        result.append(split if unique == split.name else replace(split, name=unique))
    return result


def _numbered(name: str) -> Iterator[str]:
    yield name
    number = 2
    while True:
        yield f"{name} #{number}"
        number += 1


def _same_classes(split: Split) -> Iterator[Finding]:
    """Classes that are there twice under other spellings."""
    places: dict[str, dict[str, str]] = {}
    for subset in split.subsets:
        for name in split.classes(subset):
            places.setdefault(class_key(name), {}).setdefault(name, f"{subset}/{name}")
    twice = [list(where.values()) for where in places.values() if len(where) > 1]
    if twice:
        what = "classes are" if len(twice) > 1 else "class is"
        text = f"{len(twice)} {what} there more than once, if spelling does not count: "
        yield Finding("class twice", True, text + " and ".join(twice[0]), {"classes": twice})


def _same_clips(split: Split) -> Iterator[Finding]:
    """Clips that are listed twice under other spellings, and videos with several clips."""
    if split.generator is not None:
        return
    rows_of: dict[str, list[list[str]]] = {"clip": [], "video": [], "name": [], "number": []}
    for key, rows in listing(split, youtube=split.find == "youtube").items():
        if len(rows) > 1:
            where = [f"{row.subset}/{row.of}: {row.name}" for row in rows]
            rows_of[_alike(key, rows)].append(where)
    clips, videos, elsewhere, _ = rows_of.values()
    # names that recur in other folders all the time are numbers there and not recordings
    if sum(map(len, elsewhere)) > _NUMBERED * len(split.names()):
        elsewhere = []
    if split.find != "path":
        clips, elsewhere = clips + elsewhere, []
    for kind, grave, found, one, several in (
        ("same clip", True, clips, "clip is there more than once, if spelling does not count",
         "clips are there more than once, if spelling does not count"),
        ("same video", True, videos, "video has clips of several times",
         "videos have clips of several times"),
        ("same clip", False, elsewhere, "name is in several folders, and may be one recording",
         "names are in several folders, and may be one recording each"),
    ):  # fmt: skip
        if found:
            text = f"{len(found)} {one if len(found) == 1 else several}: {' and '.join(found[0])}"
            yield Finding(kind, grave, text, {"clips": found})


def _alike(key: str, rows: Sequence[Listed]) -> str:
    """What clips of one key have in common: one "clip", "video", "name", or only a "number"."""
    if rows[0].video:
        return "clip" if _times_agree(rows) else "video"
    if _places_agree(rows):
        return "clip"
    return "name" if any(letter.isalpha() for letter in key) else "number"


def _places_agree(rows: Sequence[Listed]) -> bool:
    """Whether some two clips are in one place."""
    near = by_folder(rows).values()
    return any(same_place(*pair) for row in near for pair in combinations(row, 2))


def _times_agree(rows: Sequence[Listed]) -> bool:
    """Whether some two clips of a video could be one: equal times, or none on one side."""
    return any(
        one.times == other.times or not one.times or not other.times
        for one, other in combinations(rows, 2)
    )


def _draws(split: Split) -> Iterator[Finding]:
    """Whether published draws of fewer clips are part of those of more."""
    for name, draws in split.draws.items():
        by_shot: dict[int, list[Draw]] = {}
        for draw in draws:
            by_shot.setdefault(draw.shot, []).append(draw)
        rows = [
            {
                "from": small,
                "to": large,
                "clips": sum(max(_kept(few, d) for d in by_shot[large]) for few in by_shot[small]),
                "of": sum(small * len(few.clips) for few in by_shot[small]),
            }
            for small, large in combinations(sorted(by_shot), 2)
        ]
        if any(row["clips"] < row["of"] for row in rows):
            first = rows[0]
            text = (
                f"draws {name!r} are not nested: {first['clips']} of the {first['of']} clips of "
                f"K = {first['from']} are among those of K = {first['to']}; a curve over K mixes "
                "the number of clips with their choice"
            )
            yield Finding("draws", False, text, {"draws": name, "pairs": rows})


def _kept(few: Draw, many: Draw) -> int:
    """Clips of one draw that are in another, too."""
    return sum(len(set(clips) & set(many.clips[name])) for name, clips in few.clips.items())


def _sizes(split: Split, subset: str) -> Iterator[Finding]:
    """Classes that are too small for usual episodes, and uneven ones."""
    sizes = {name: len(split.clips(subset, name)) for name in split.classes(subset)}
    small = {name: n for name, n in sizes.items() if n < 20}
    if small and subset not in {"train", "test"}:
        named = ", ".join(f"{name} ({n})" for name, n in sorted(small.items(), key=lambda p: p[1]))
        text = f"{subset}: too few clips for 5 shots and 15 queries in {named}"
        yield Finding("small class", False, text, {"subset": subset, "classes": small})
    least, most = min(sizes.values()), max(sizes.values())
    if most > _UNEVEN * least:
        text = (
            f"{subset}: classes have {least} to {most} clips; episodes draw all classes equally "
            "often, so clips of small classes count for more"
        )
        yield Finding("uneven", False, text, {"subset": subset, "least": least, "most": most})
