"""Compares a split with a second one, or with the classes that an encoder was trained on."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from fewshot_i2v.data.splits.audit import AuditFinding
from fewshot_i2v.data.splits.matching.name_normalization import (
    group_by_folder,
    index_by_name,
    is_same_clip,
    normalized_class,
    stem_key,
)
from fewshot_i2v.data.splits.split import Split
from fewshot_i2v.errors import UnknownNameError

_TEST_SUBSETS = frozenset(("novel", "test"))


def compare_splits(split_a: Split, split_b: Split) -> list[AuditFinding]:
    """Find the classes and clips that two splits have in common, by subset.

    Spelling is ignored.

    Returns:
        One finding for each pair of subsets with common classes or clips. It is grave if a novel or
        test subset of one split overlaps with a training or validation subset of the other.
    """
    n_common = _count_common_clips(split_a, split_b)
    findings = []
    for subset_a in split_a.subsets:
        class_keys = {normalized_class(name) for name in split_a.classes(subset_a)}
        for subset_b in split_b.subsets:
            classes = [
                name for name in split_b.classes(subset_b) if normalized_class(name) in class_keys
            ]
            clips = n_common.get((subset_a, subset_b), 0)
            if classes or clips:
                findings.append(
                    _overlap_finding(split_a, subset_a, split_b, subset_b, classes, clips)
                )
    return sorted(findings, key=lambda finding: not finding.grave)


def _count_common_clips(split_a: Split, split_b: Split) -> Mapping[tuple[str, str], int]:
    """Count, by pair of subsets, the clips of the first split that are in the second."""
    if not _are_comparable(split_a, split_b):
        return {}
    youtube = "youtube" in (split_a.find, split_b.find)
    index_a, index_b = (index_by_name(split, youtube=youtube) for split in (split_a, split_b))
    n_common: dict[tuple[str, str], int] = defaultdict(int)
    for key in index_a.keys() & index_b.keys():
        unique = len(index_a[key]) == len(index_b[key]) == 1
        folders_b = group_by_folder(index_b[key])
        for clip_a in index_a[key]:
            candidates = (
                index_b[key]
                if clip_a.is_youtube or unique
                else folders_b.get(clip_a.folder_keys[-1:], ())
            )
            for subset in {
                clip_b.subset
                for clip_b in candidates
                if is_same_clip(clip_a, clip_b, unique=unique)
            }:
                n_common[clip_a.subset, subset] += 1
    return n_common


def _are_comparable(split_a: Split, split_b: Split) -> bool:
    """Whether equal names mean equal clips: if generated, both need the same generator."""
    if split_a.generator is None or split_b.generator is None:
        return split_a.generator is split_b.generator
    return replace(split_a.generator, clips=0) == replace(split_b.generator, clips=0)


def _overlap_finding(
    split_a: Split, subset_a: str, split_b: Split, subset_b: str, classes: list[str], n_clips: int
) -> AuditFinding:
    grave = (subset_a in _TEST_SUBSETS) != (subset_b in _TEST_SUBSETS)
    sizes = [
        sum(map(len, split.subsets[subset].values()))
        for split, subset in ((split_a, subset_a), (split_b, subset_b))
    ]
    text = (
        f"{split_a.name} {subset_a} and {split_b.name} {subset_b}: {len(classes)} common "
        f"{'class' if len(classes) == 1 else 'classes'}, {n_clips:,} common "
        f"{'clip' if n_clips == 1 else 'clips'} (of {sizes[0]:,} and {sizes[1]:,})"
    )
    if grave:
        test_split, training_split = (
            (split_a, split_b) if subset_a in _TEST_SUBSETS else (split_b, split_a)
        )
        text += (
            f"; a choice or checkpoint made on {training_split.name} is not clean on "
            f"{test_split.name}"
        )
    facts = {"a": subset_a, "b": subset_b, "classes": classes, "clips": n_clips}
    return AuditFinding("same class", grave, text, facts)


def pretraining_classes() -> dict[str, Path]:
    """Return the labelled pre-training data sets, with the files of their class names."""
    folder = Path(__file__).with_name("pretraining_classes")
    return {path.stem: path for path in sorted(folder.glob("*.txt"))}


def pretraining_overlap(split: Split, dataset: str) -> list[AuditFinding]:
    """Find the classes of a split that are also in a labelled pre-training data set.

    Args:
        split: the split.
        dataset: a name of `pretraining_classes`. Classes are the same if their names are, ignoring
            spelling; names that differ in articles and word endings are in the fact "alike". A
            class may be in the data under a quite different name, so no finding does not mean no
            overlap.

    Raises:
        UnknownNameError: for an unknown data set.
    """
    files = pretraining_classes()
    if dataset not in files:
        raise UnknownNameError("data set", dataset, files)
    dataset_classes = files[dataset].read_text(encoding="utf-8").splitlines()
    class_keys = set(map(normalized_class, dataset_classes))
    name_of_stem = {stem_key(name): name for name in dataset_classes}
    findings = []
    for subset in split.subsets:
        names = split.classes(subset)
        seen_names = [name for name in names if normalized_class(name) in class_keys]
        similar = {
            name: name_of_stem[stem_key(name)]
            for name in names
            if name not in seen_names and stem_key(name) in name_of_stem
        }
        if seen_names or similar:
            facts = {"subset": subset, "seen": seen_names, "alike": similar, "classes": len(names)}
            text = _overlap_sentence(subset, len(names), len(seen_names), len(similar), dataset)
            findings.append(AuditFinding("seen", subset in {"novel", "test", "val"}, text, facts))
    return findings


def _overlap_sentence(
    subset: str, n_classes: int, n_seen: int, n_similar: int, dataset: str
) -> str:
    verb = "class has" if n_classes == 1 and n_seen else "classes have"
    text = f"{n_seen or n_similar} of {n_classes} {subset} {verb} the name of a class of {dataset}"
    if n_similar:
        text += f", {n_similar} more" if n_seen else ""
        text += " but for endings of words"
    text += ": an encoder that was trained on it has seen them with labels"
    if n_seen + n_similar < n_classes:
        text += ", and may have seen others under another name"
    return text
