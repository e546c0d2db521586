"""Labelled clips from class folders, a CSV or a split: what a model is fitted to or tested on."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fewshot_i2v.data.splits.builder.build import make_split
from fewshot_i2v.data.splits.builder.clip_list import ClipListBuilder
from fewshot_i2v.data.splits.builder.folder_importer import import_folders
from fewshot_i2v.data.splits.builder.list_importer import import_csv
from fewshot_i2v.data.splits.split import Clip, GroupScope, Split
from fewshot_i2v.data.splits.split_file import load_split
from fewshot_i2v.errors import UsageError
from fewshot_i2v.utils.resources import data_names

_CSV_SUFFIXES = (".csv", ".tsv")
_SUBSET = "novel"


@dataclass(frozen=True)
class LabelledClips:
    """Classes with their clips.

    Attributes:
        split: a split that has them, with a root or a generator.
        subset: the subset of it that they are.
        notes: messages for the user about how they were read, a sentence each.
    """

    split: Split
    subset: str
    notes: tuple[str, ...] = ()

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, sorted."""
        return self.split.classes(self.subset)

    @property
    def by_class(self) -> Mapping[str, tuple[Clip, ...]]:
        """Clips of each class, sorted by name."""
        return {name: self.split.clips(self.subset, name) for name in self.classes}

    @property
    def names(self) -> list[str]:
        """Names of all clips, class by class."""
        return [clip.name for clips in self.by_class.values() for clip in clips]

    @property
    def groups(self) -> dict[str, str]:
        """Group of each clip by name; its name where it has none."""
        return {
            clip.name: "/".join(self.split.group_key(name, clip) or (clip.name,))
            for name, clips in self.by_class.items()
            for clip in clips
        }

    def without(self, names: set[str]) -> LabelledClips:
        """Returns the same without some clips; a class without any is left out."""
        remaining = {
            name: tuple(clip for clip in clips if clip.name not in names)
            for name, clips in self.by_class.items()
        }
        subsets = {self.subset: {name: clips for name, clips in remaining.items() if clips}}
        return replace(self, split=replace(self.split, subsets=subsets))


def read_labelled_clips(
    source: str | Path,
    *,
    root: str | Path | None = None,
    subset: str | None = None,
    group: str | None = None,
    group_scope: GroupScope = "global",
) -> LabelledClips:
    """Reads labelled clips.

    Args:
        source: a folder with one folder per class, a CSV with the columns path and class (and
            group), or the name or file of a split.
        root: folder that the clips of a CSV or a split lie in; None: that of the CSV, or of the
            split.
        subset: of a split; None: novel, or train of a split that has none.
        group: regular expression whose first capture group in a clip's name says who or what it is
            from; clips of one group are held out together. Not for splits, which have their own.
        group_scope: whether equal groups of two classes are two ("class") or one ("global").

    Raises:
        UsageError: when options do not belong to the source.
        SplitError: when it cannot be read.
    """
    path = Path(source)
    is_table = path.suffix.lower() in _CSV_SUFFIXES
    if not path.is_dir() and not is_table:
        return _read_split(source, root, subset, group)
    if subset is not None:
        raise UsageError(f"subset: got {subset!r} for {path}; only a split has subsets")
    if is_table:
        folder = path.parent if root is None else Path(root)
        clip_list = import_csv(path, root=folder)
        if group is not None and any(
            c.group for clips in clip_list.classes().values() for c in clips
        ):
            raise UsageError(
                f"group: got {group!r}, and {path} has a column group; expected one of them. Leave "
                "out --group, or rename the column"
            )
    else:
        folder = path
        clip_list = import_folders(path)
    split = make_split(
        clip_list,
        {_SUBSET: list(clip_list.classes())},
        name=path.resolve().stem if is_table else path.resolve().name,
        group=group,
        group_scope=group_scope,
    )
    notes = (*clip_list.notes, *_spelling_notes(clip_list.classes()))
    return LabelledClips(replace(split, root=folder), _SUBSET, notes)


def _spelling_notes(classes: Iterable[str]) -> Iterator[str]:
    """Yields a sentence for classes whose names differ in upper and lower case alone."""
    by_letters: dict[str, list[str]] = {}
    for name in classes:
        by_letters.setdefault(name.casefold(), []).append(name)
    for names in by_letters.values():
        if len(names) > 1:
            yield (
                f"the classes {' and '.join(map(repr, names))} differ in upper and lower case "
                "alone; they are separate classes: if they are one, rename them"
            )


def label_clips(
    paths: Sequence[Path], labels: Sequence[str], groups: Sequence[str] | None = None
) -> LabelledClips:
    """Returns clips and their classes as labelled clips.

    Args:
        paths: of R clips, from anywhere.
        labels: class of each, (R,).
        groups: group of each, (R,), equal for all classes; None: each clip is its own.

    Raises:
        UsageError: when the numbers differ, there is no clip, or a class is no text.
        SplitError: when a clip is there twice, or a name cannot be used.
    """
    counts = {len(paths), len(labels), len(paths if groups is None else groups)}
    if len(counts) > 1 or not paths:
        raise UsageError(
            f"labelled clips: got {len(paths)} paths and {len(labels)} classes"
            + ("" if groups is None else f" and {len(groups)} groups")
            + "; expected one class for each clip"
        )
    wrong = next((label for label in labels if not isinstance(label, str)), None)
    if wrong is not None:
        raise UsageError(f"class: got {wrong!r}; expected the name of a class, a text")
    absolute = [Path(os.path.abspath(path)) for path in paths]  # noqa: PTH100 - links are kept
    root = Path(os.path.commonpath([path.parent for path in absolute]))
    builder = ClipListBuilder(root, root)
    for number, (path, label) in enumerate(zip(absolute, labels, strict=True), 1):
        group = None if groups is None else str(groups[number - 1])
        builder.add(f"clip {number}", str(path), str(label), group, "")
    clip_list = builder.build()
    subsets = {_SUBSET: list(clip_list.classes())}
    split = make_split(clip_list, subsets, name="clips", group_scope="global")
    return LabelledClips(replace(split, root=root), _SUBSET)


def _read_split(
    source: str | Path, root: str | Path | None, subset: str | None, group: str | None
) -> LabelledClips:
    text = str(source)
    # without an ending or a folder it would be taken for the name of a split
    is_split_file = Path(text).is_file() and any(sign in text for sign in "/.")
    if text not in data_names("episodes") and not is_split_file:
        raise UsageError(
            f"{text}: no such folder, CSV or split; expected a folder with one folder per class, a "
            "CSV with the columns path and class, or a split from `fewshot-i2v list splits`"
        )
    if group is not None:
        raise UsageError(f"group: got {group!r} for the split {source}; its file has the groups")
    split = load_split(source, root=root)
    subset = subset or (_SUBSET if _SUBSET in split.subsets else "train")
    split.classes(subset)  # names those that there are
    return LabelledClips(split, subset)
