"""Audits splits: clips of one recording in support and query, and overlap between splits.

Every line of a split file can be right and a result on it still mean less than it seems: a query
clip may be the next second of a support clip, a validation class of one benchmark may be a
training class of another, draws of K clips may not be nested. An audit counts all that from the
names only.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, combinations, count
from pathlib import Path
from typing import Any

from fewshot_i2v.data.splits.audit import AuditFinding
from fewshot_i2v.data.splits.audit.group_leakage import (
    groups_across_classes,
    groups_across_subsets,
    groups_within_episodes,
)
from fewshot_i2v.data.splits.audit.overlap import compare_splits, pretraining_overlap
from fewshot_i2v.data.splits.matching.name_normalization import (
    NamedClip,
    group_by_folder,
    have_same_folders,
    index_by_name,
    normalized_class,
)
from fewshot_i2v.data.splits.split import Draw, Split
from fewshot_i2v.data.splits.split_file import load_split
from fewshot_i2v.errors import UsageError

_MAX_SIZE_RATIO = 3
_MAX_REPEATED_SHARE = 0.1
_SHOTS, _QUERIES = 5, 5
"""Clips of a class in an episode: the larger usual number of shots, and `evaluate`'s queries."""


@dataclass(frozen=True)
class SplitAudit:
    """Findings about splits.

    Attributes:
        splits: that were audited, with names that are unique.
        findings: by split name, or by "A and B" for a pair.
    """

    splits: tuple[Split, ...]
    findings: Mapping[str, list[AuditFinding]]

    @property
    def is_grave(self) -> bool:
        """Whether a finding can make a result wrong."""
        return any(finding.grave for findings in self.findings.values() for finding in findings)

    def to_dict(self) -> dict[str, Any]:
        """Return the findings as plain types, for JSON."""
        return {
            name: [finding.to_dict() for finding in findings]
            for name, findings in self.findings.items()
        }


def audit(
    *splits: Split | str | Path, root: str | Path | None = None, seen_by: str | None = None
) -> SplitAudit:
    """Audit splits, each of them and each pair, as `fewshot-i2v episodes audit` does.

    Args:
        splits: their names or paths, or splits; at least one.
        root: folder of the clips of those that are read; None: that of the split.
        seen_by: also name the classes that are in this data set, see `pretraining_overlap`.

    Raises:
        UsageError: when there is no split.
        SplitError: when one cannot be read.
        UnknownNameError: for an unknown data set.
    """
    if not splits:
        raise UsageError("splits: got none; expected names or paths of splits")
    loaded = [s if isinstance(s, Split) else load_split(s, root=root) for s in splits]
    loaded = _unique_names(loaded)
    findings = {
        split.name: audit_split(split) + (pretraining_overlap(split, seen_by) if seen_by else [])
        for split in loaded
    }
    for split_a, split_b in combinations(loaded, 2):
        findings[f"{split_a.name} and {split_b.name}"] = compare_splits(split_a, split_b)
    return SplitAudit(tuple(loaded), findings)


def audit_split(split: Split) -> list[AuditFinding]:
    """Audit one split; grave findings come first."""
    findings = [
        *_repeated_classes(split),
        *_repeated_clips(split),
        *(finding for subset in split.subsets for finding in groups_within_episodes(split, subset)),
        *groups_across_subsets(split),
        *(finding for subset in split.subsets for finding in groups_across_classes(split, subset)),
        *_unnested_draws(split),
        *(finding for subset in split.subsets for finding in _class_size_findings(split, subset)),
    ]
    return sorted(findings, key=lambda finding: not finding.grave)


def _unique_names(splits: Sequence[Split]) -> list[Split]:
    """Make the names of splits unique: equal names become file paths, or get numbers."""
    name_counts = Counter(split.name for split in splits)
    path_counts = Counter(str(split.path) for split in splits)
    used_names: set[str] = set()
    result = []
    for split in splits:
        name = split.name
        if name_counts[name] > 1 and split.path is not None and path_counts[str(split.path)] == 1:
            name = str(split.path)
        numbered = (f"{name} #{number}" for number in count(2))
        unique = next(c for c in chain([name], numbered) if c not in used_names)
        used_names.add(unique)
        result.append(split if unique == split.name else replace(split, name=unique))
    return result


def _repeated_classes(split: Split) -> Iterator[AuditFinding]:
    """Report classes that are listed twice under different spellings."""
    locations_of: dict[str, dict[str, str]] = {}
    for subset, classes in split.subsets.items():
        for name in classes:
            locations_of.setdefault(normalized_class(name), {}).setdefault(name, f"{subset}/{name}")
    repeated = [
        list(locations.values()) for locations in locations_of.values() if len(locations) > 1
    ]
    if repeated:
        subject = "classes are" if len(repeated) > 1 else "class is"
        text = f"{len(repeated)} {subject} there more than once, if spelling does not count: "
        yield AuditFinding(
            "class twice", True, text + " and ".join(repeated[0]), {"classes": repeated}
        )


def _repeated_clips(split: Split) -> Iterator[AuditFinding]:
    """Report clips listed twice under different spellings, and videos with several clips."""
    if split.generator is not None:
        return
    groups_by_kind: dict[str, list[list[str]]] = {"clip": [], "video": [], "name": [], "number": []}
    for key, same_key_clips in index_by_name(split, youtube=split.find == "youtube").items():
        if len(same_key_clips) > 1:
            locations = [f"{clip.subset}/{clip.class_name}: {clip.name}" for clip in same_key_clips]
            groups_by_kind[_similarity_kind(key, same_key_clips)].append(locations)
    clip_groups, video_groups, name_groups, _ = groups_by_kind.values()
    # names that recur in other folders all the time are numbers there and not recordings
    if sum(map(len, name_groups)) > _MAX_REPEATED_SHARE * len(split.clip_names()):
        name_groups = []
    if split.find != "path":
        clip_groups, name_groups = clip_groups + name_groups, []
    for kind, grave, repeated, singular, plural in (
        ("same clip", True, clip_groups, "clip is there more than once, if spelling does not count",
         "clips are there more than once, if spelling does not count"),
        ("same video", True, video_groups, "video has clips of several times",
         "videos have clips of several times"),
        ("same clip", False, name_groups, "name is in several folders, and may be one recording",
         "names are in several folders, and may be one recording each"),
    ):  # fmt: skip
        if repeated:
            text = (
                f"{len(repeated)} {singular if len(repeated) == 1 else plural}: "
                f"{' and '.join(repeated[0])}"
            )
            yield AuditFinding(kind, grave, text, {"clips": repeated})


def _similarity_kind(key: str, clips: Sequence[NamedClip]) -> str:
    """Say what clips of one key have in common: "clip", "video", "name" or only a "number"."""
    if clips[0].is_youtube:
        # a clip without times may be any part of the video
        same_times = any(
            clip_a.times == clip_b.times or not clip_a.times or not clip_b.times
            for clip_a, clip_b in combinations(clips, 2)
        )
        return "clip" if same_times else "video"
    groups = group_by_folder(clips).values()
    if any(have_same_folders(*pair) for group in groups for pair in combinations(group, 2)):
        return "clip"
    return "name" if any(character.isalpha() for character in key) else "number"


def _unnested_draws(split: Split) -> Iterator[AuditFinding]:
    """Report published draws whose smaller shots are not subsets of the larger ones."""
    for name, draws in split.draws.items():
        by_shot: dict[int, list[Draw]] = {}
        for draw in draws:
            by_shot.setdefault(draw.shot, []).append(draw)
        pairs = [
            {
                "from": small_shot,
                "to": large_shot,
                "clips": sum(
                    max(
                        _n_common_clips(small_draw, large_draw)
                        for large_draw in by_shot[large_shot]
                    )
                    for small_draw in by_shot[small_shot]
                ),
                "of": sum(small_shot * len(small_draw.clips) for small_draw in by_shot[small_shot]),
            }
            for small_shot, large_shot in combinations(sorted(by_shot), 2)
        ]
        if any(pair["clips"] < pair["of"] for pair in pairs):
            first_pair = pairs[0]
            text = (
                f"draws {name!r} are not nested: {first_pair['clips']} of the {first_pair['of']} "
                f"clips of K = {first_pair['from']} are among those of K = {first_pair['to']}; a "
                "curve over K mixes the number of clips with their choice"
            )
            yield AuditFinding("draws", False, text, {"draws": name, "pairs": pairs})


def _n_common_clips(small_draw: Draw, large_draw: Draw) -> int:
    """Count the clips of one draw that are also in another."""
    return sum(
        len(set(clips) & set(large_draw.clips[name])) for name, clips in small_draw.clips.items()
    )


def _class_size_findings(split: Split, subset: str) -> Iterator[AuditFinding]:
    """Report classes that are too small for usual episodes, and uneven class sizes."""
    sizes = split.class_sizes(subset)
    small = {name: n for name, n in sizes.items() if n < _SHOTS + _QUERIES}
    if small and subset not in {"train", "test"}:
        small_classes = ", ".join(
            f"{name} ({n})" for name, n in sorted(small.items(), key=lambda p: p[1])
        )
        text = (
            f"{subset}: too few clips for {_SHOTS} shots and {_QUERIES} queries in {small_classes}"
        )
        yield AuditFinding("small class", False, text, {"subset": subset, "classes": small})
    min_size, max_size = min(sizes.values()), max(sizes.values())
    if max_size > _MAX_SIZE_RATIO * min_size:
        text = (
            f"{subset}: classes have {min_size} to {max_size} clips; episodes draw all classes "
            "equally often, so clips of small classes count for more"
        )
        yield AuditFinding(
            "uneven", False, text, {"subset": subset, "least": min_size, "most": max_size}
        )
