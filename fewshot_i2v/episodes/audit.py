"""What a list hides: clips of one recording on both sides, and what lists have in common.

A split's file can be right in every line and a result on it still mean less than it seems: a query
clip may be the next second of a support clip, a validation class of one benchmark may be a training
class of another, draws of K clips may not be nested. An audit counts all that from the names alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations, permutations
from math import comb
from statistics import fmean
from typing import Any

from fewshot_i2v.episodes._kinetics400 import NAMES as KINETICS_400
from fewshot_i2v.episodes._likeness_of_names import class_key, clip_key
from fewshot_i2v.episodes.split import Split
from fewshot_i2v.errors import UnknownNameError

SHOTS = (1, 5)
"""Numbers of support clips that chances are given for."""
SEEN_BY = {"kinetics400": KINETICS_400}
"""Class names that encoders were trained on with labels."""
_UNEVEN = 3


@dataclass(frozen=True)
class Finding:
    """One thing that an audit found.

    Attributes:
        kind: "same clip", "same group", "group crosses", "same scene", "small class", "uneven",
            "draws", "same class", "shared clips" or "seen".
        grave: whether a result can be wrong because of it, where nobody minds it.
        text: what it is, in a sentence or two.
        facts: the numbers, in plain types.
    """

    kind: str
    grave: bool
    text: str
    facts: Mapping[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """Plain types, for JSON."""
        return asdict(self)


def same_group_chance(groups: Sequence[str | None], shot: int) -> float:
    """How likely a query clip has the group of one of the support clips of its class.

    Query and `shot` support clips are drawn from the n clips of a class without replacement. A
    query of a group of m clips has none of the others beside it with C(n - m, shot) /
    C(n - 1, shot), and it is of that group with m / n.

    Args:
        groups: of each clip of the class; None is a group of its own.
        shot: support clips, at least 1 and fewer than the clips.
    """
    sizes = [m for group, m in Counter(groups).items() if group is not None]
    n = len(groups)
    return sum(m / n * (1 - comb(n - m, shot) / comb(n - 1, shot)) for m in sizes)


def audit(split: Split) -> list[Finding]:
    """What one split hides, the grave findings first."""
    found = [
        *_same_clips(split),
        *(finding for subset in split.subsets for finding in _groups(split, subset)),
        *_crossing(split),
        *(finding for subset in split.subsets for finding in _scenes(split, subset)),
        *_draws(split),
        *(finding for subset in split.subsets for finding in _sizes(split, subset)),
    ]
    return sorted(found, key=lambda finding: not finding.grave)


def compare_splits(a: Split, b: Split) -> list[Finding]:
    """What two splits have in common: classes and clips by subset, whatever their spelling.

    Returns:
        One finding for each pair of subsets that share classes or clips. It is grave where what is
        novel or tested in one is anything else in the other.
    """
    found = []
    for one in a.subsets:
        for other in b.subsets:
            classes, clips = _common(a, one, b, other)
            if classes or clips[0]:
                found.append(_overlap(a, one, b, other, classes, clips))
    return sorted(found, key=lambda finding: not finding.grave)


def seen_by(split: Split, what: str) -> list[Finding]:
    """Which classes an encoder has seen that was trained with labels on a data set.

    Args:
        split: the split.
        what: a name of `SEEN_BY`. Classes are the same where their names are, apart from spelling;
            a class may have been seen under another name.

    Raises:
        UnknownNameError: for a data set that is not known.
    """
    if what not in SEEN_BY:
        raise UnknownNameError("data set", what, SEEN_BY)
    known = {class_key(name) for name in SEEN_BY[what]}
    found = []
    for subset in split.subsets:
        names = split.classes(subset)
        seen = [name for name in names if class_key(name) in known]
        if not seen:
            continue
        text = (
            f"{len(seen)} of {len(names)} {subset} classes have the name of a class of {what}: an "
            "encoder that was trained on it has seen them with labels"
        )
        facts = {"subset": subset, "seen": seen, "classes": len(names)}
        found.append(Finding("seen", subset in {"novel", "test", "val"}, text, facts))
    return found


def _members(split: Split, subset: str) -> Iterator[tuple[str, str, str | None]]:
    for name in split.classes(subset):
        for clip in split.clips(subset, name):
            yield name, clip.name, clip.group


def _same_clips(split: Split) -> Iterator[Finding]:
    """Clips that are listed twice under other spellings."""
    places: dict[str, list[str]] = {}
    for subset in split.subsets:
        for name, clip, _ in _members(split, subset):
            # names without any word, such as "001", mean another clip in every folder
            key = clip_key(clip) if split.find != "path" else clip.casefold()
            places.setdefault(key, []).append(f"{subset}/{name}: {clip}")
    twice = [where for where in places.values() if len(where) > 1]
    if split.generator is None and twice:
        text = (
            f"{len(twice)} clips are there more than once, if spelling does not count: "
            f"{' and '.join(twice[0])}"
        )
        yield Finding("same clip", True, text, {"clips": twice})


def _groups(split: Split, subset: str) -> Iterator[Finding]:
    """Chances that query and support clips of one class are from one group."""
    classes = {
        name: [clip.group for clip in split.clips(subset, name)] for name in split.classes(subset)
    }
    if subset == "test" or not any(group for row in classes.values() for group in row):
        return
    chances: dict[int, dict[str, float]] = {}
    for shot in SHOTS:
        usable = {name: row for name, row in classes.items() if len(row) > shot}
        if usable:
            chances[shot] = {n: same_group_chance(row, shot) for n, row in usable.items()}
    if not chances or not max(max(of.values()) for of in chances.values()):
        return
    said = [f"{_percent(fmean(of.values()))} ({shot}-shot)" for shot, of in chances.items()]
    worst, chance = max(chances[min(chances)].items(), key=lambda pair: pair[1])
    text = (
        f"{subset}: a query clip is from the same group as a support clip of its class with a "
        f"probability of {' and '.join(said)}, up to {_percent(chance)} in {worst}; "
        "--disjoint-groups prevents it"
    )
    facts = {
        "subset": subset,
        "mean": {shot: fmean(of.values()) for shot, of in chances.items()},
        "worst": {"class": worst, "chance": chance},
    }
    yield Finding("same group", True, text, facts)


def _crossing(split: Split) -> Iterator[Finding]:
    """Groups whose name is in two subsets."""
    for one, other in combinations(split.subsets, 2):
        mine, yours = (
            Counter(group for _, _, group in _members(split, s) if group) for s in (other, one)
        )
        common = mine.keys() & yours.keys()
        if not common or _names_say_little(split, one, other):
            continue
        clips = sum(mine[group] for group in common)
        text = (
            f"{clips:,} of {mine.total():,} {other} clips are from a group that {one} clips are "
            f"from too ({len(common)} of {len(mine)} groups): other labels, the same people and "
            "places"
        )
        facts = {"from": one, "to": other, "clips": clips, "of_clips": mine.total(),
                 "groups": len(common), "of_groups": len(mine)}  # fmt: skip
        yield Finding("group crosses", one == "train", text, facts)


def _names_say_little(split: Split, one: str, other: str) -> bool:
    """Whether classes number their groups alike (g01, g02, ...): equal names then say nothing."""
    if split.group_scope == "global":
        return False
    rows = [
        {clip.group for clip in split.clips(subset, name)}
        for subset in (one, other)
        for name in split.classes(subset)
    ]
    if one == "train":  # the same classes: equal names are equal groups only within a class
        return not any(
            {c.group for c in split.clips(one, name)} & {c.group for c in split.clips(other, name)}
            for name in split.classes(one)
        )
    return len({frozenset(row) for row in rows}) < len(rows) / 2


def _scenes(split: Split, subset: str) -> Iterator[Finding]:
    """Clips of other classes from one group, where groups reach across classes."""
    if split.group_scope != "global":
        return
    counts = [
        Counter(clip.group for clip in split.clips(subset, name) if clip.group)
        for name in split.classes(subset)
    ]
    pairs = [(a, b) for a, b in permutations(counts, 2) if a and b]
    if not pairs:
        return
    chances = [
        sum(a[group] * b[group] for group in a.keys() & b.keys()) / (a.total() * b.total())
        for a, b in pairs
    ]
    alike = sum(sum((a & b).values()) for a, b in combinations(counts, 2))
    if not alike:
        return
    text = (
        f"{subset}: {alike:,} pairs of clips of different classes are from the same group. A query "
        f"clip shares its group with a clip of a given other class with a probability of "
        f"{_percent(fmean(chances))}: what looks most alike is then another class"
    )
    yield Finding(
        "same scene", False, text, {"subset": subset, "pairs": alike, "chance": fmean(chances)}
    )


def _draws(split: Split) -> Iterator[Finding]:
    """Whether published draws of fewer clips are part of those of more."""
    for name, draws in split.draws.items():
        by_shot = {draw.shot: draw for draw in draws}
        rows = []
        for small, large in combinations(sorted(by_shot), 2):
            few, many = by_shot[small].clips, by_shot[large].clips
            kept = sum(len(set(few[c]) & set(many[c])) for c in few)
            rows.append({"from": small, "to": large, "clips": kept, "of": small * len(few)})
        if any(row["clips"] < row["of"] for row in rows):
            first = rows[0]
            text = (
                f"draws {name!r} are not nested: {first['clips']} of the {first['of']} clips of "
                f"K = {first['from']} are among those of K = {first['to']}; a curve over K mixes "
                "the number of clips with their choice"
            )
            yield Finding("draws", False, text, {"draws": name, "pairs": rows})


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


def _common(a: Split, one: str, b: Split, other: str) -> tuple[list[str], tuple[int, int, int]]:
    """Class names of the second that the first has too; numbers of common clips, and of all."""
    keys = {class_key(name) for name in a.classes(one)}
    classes = [name for name in b.classes(other) if class_key(name) in keys]
    mine, yours = (
        {clip_key(clip) for _, clip, _ in _members(split, subset)}
        for split, subset in ((a, one), (b, other))
    )
    return classes, (len(mine & yours), len(mine), len(yours))


def _overlap(
    a: Split, one: str, b: Split, other: str, classes: Sequence[str], clips: tuple[int, int, int]
) -> Finding:
    tested = {"novel", "test"}
    grave = one != other and bool({one, other} & tested)
    common, mine, yours = clips
    text = (
        f"{a.name} {one} and {b.name} {other}: {len(classes)} common "
        f"{'class' if len(classes) == 1 else 'classes'}, {common:,} common clips (of {mine:,} and "
        f"{yours:,})"
    )
    if grave:
        judge, learn = (a, b) if one in tested else (b, a)
        text += f"; a choice or checkpoint made on {learn.name} is not clean on {judge.name}"
    facts = {"a": one, "b": other, "classes": list(classes), "clips": common}
    return Finding("same class", grave, text, facts)


def _percent(chance: float) -> str:
    return f"{100 * chance:.1f} %"


def all_findings(splits: Iterable[Split], seen: str | None) -> dict[str, list[Finding]]:
    """Findings by the name of a split, or of two with "and" between."""
    listed = list(splits)
    found = {split.name: audit(split) + (seen_by(split, seen) if seen else []) for split in listed}
    for a, b in combinations(listed, 2):
        found[f"{a.name} and {b.name}"] = compare_splits(a, b)
    return found
