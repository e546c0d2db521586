"""What two splits have in common: classes and clips, whatever their spelling."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace

from fewshot_i2v.episodes._finding import Finding
from fewshot_i2v.episodes._likeness_of_names import by_folder, class_key, listing, same_clip
from fewshot_i2v.episodes.split import Split

_TESTED = frozenset(("novel", "test"))


def compare_splits(a: Split, b: Split) -> list[Finding]:
    """What two splits have in common: classes and clips by subset, whatever their spelling.

    Returns:
        One finding for each pair of subsets that share classes or clips. It is grave where what is
        novel or tested in one is there to learn from or to choose with in the other.
    """
    common = _common_clips(a, b)
    found = []
    for one in a.subsets:
        keys = {class_key(name) for name in a.classes(one)}
        for other in b.subsets:
            classes = [name for name in b.classes(other) if class_key(name) in keys]
            clips = common.get((one, other), 0)
            if classes or clips:
                found.append(_overlap(a, one, b, other, classes, clips))
    return sorted(found, key=lambda finding: not finding.grave)


def _common_clips(a: Split, b: Split) -> Mapping[tuple[str, str], int]:
    """By subset of each, how many clips of the first are in the second too."""
    if not _comparable(a, b):
        return {}
    youtube = "youtube" in (a.find, b.find)
    mine, yours = (listing(split, youtube=youtube) for split in (a, b))
    common: dict[tuple[str, str], int] = defaultdict(int)
    for key in mine.keys() & yours.keys():
        alone = len(mine[key]) == len(yours[key]) == 1
        near = by_folder(yours[key])
        for clip in mine[key]:
            others = yours[key] if clip.video or alone else near.get(clip.place[-1:], ())
            for subset in {y.subset for y in others if same_clip(clip, y, alone=alone)}:
                common[clip.subset, subset] += 1
    return common


def _comparable(a: Split, b: Split) -> bool:
    """Whether equal names mean equal clips: of generated ones only where they are made alike."""
    if a.generator is None or b.generator is None:
        return a.generator is b.generator
    return replace(a.generator, clips=0) == replace(b.generator, clips=0)


def _overlap(a: Split, one: str, b: Split, other: str, classes: list[str], clips: int) -> Finding:
    grave = (one in _TESTED) != (other in _TESTED)
    sizes = [sum(map(len, split.subsets[s].values())) for split, s in ((a, one), (b, other))]
    text = (
        f"{a.name} {one} and {b.name} {other}: {len(classes)} common "
        f"{'class' if len(classes) == 1 else 'classes'}, {clips:,} common "
        f"{'clip' if clips == 1 else 'clips'} (of {sizes[0]:,} and {sizes[1]:,})"
    )
    if grave:
        judge, learn = (a, b) if one in _TESTED else (b, a)
        text += f"; a choice or checkpoint made on {learn.name} is not clean on {judge.name}"
    facts = {"a": one, "b": other, "classes": classes, "clips": clips}
    return Finding("same class", grave, text, facts)
