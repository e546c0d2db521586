"""A split: the classes and clips of each subset."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from operator import attrgetter
from pathlib import Path
from typing import Literal

from fewshot_i2v.data.splits.matching.file_matching import FileMatches, match_files
from fewshot_i2v.data.splits.problems import path_problem
from fewshot_i2v.data.video.frame_folder import list_links
from fewshot_i2v.errors import SplitError, UnknownNameError


@dataclass(frozen=True, slots=True, order=True)
class Clip:
    """One video of a class.

    Attributes:
        name: its path below the split's root, with `/` between folders.
        group: the recording it comes from, or None where unknown.
    """

    name: str
    group: str | None = None


@dataclass(frozen=True)
class Draw:
    """A published choice of support clips, the same number of every class.

    Attributes:
        shot: clips of each class.
        clips: class -> clip names.
    """

    shot: int
    clips: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class Generator:
    """The settings of a generator of clips, for splits whose clips are not files.

    Attributes:
        name: the generator, such as "motions".
        seed: 0 or more.
        size: height and width in pixels.
        frames: frames in a clip.
        fps: frames per second.
        clips: clips of each class.
    """

    name: str
    seed: int = 0
    size: int = 64
    frames: int = 16
    fps: int = 8
    clips: int = 60


GroupScope = Literal["class", "global"]
FindMode = Literal["path", "name", "youtube"]
LinkPolicy = Literal["inside", "follow"]


@dataclass(frozen=True)
class Split:
    """Classes and clips by subset; their order does not depend on the file.

    Attributes:
        name: the split's name.
        subsets: some of "base", "val" and "novel", whose classes differ, or "train" and "test",
            whose classes are the same -> class -> clips; classes and clips are sorted by name.
        version: 1 or more.
        source: where the list is from.
        licence: on what terms it may be used.
        description: what it is.
        citation: BibTeX entries of the data set and of the list.
        defects: known errors of the list.
        class_ids: class -> its name in the source, where that differs.
        group_pattern: the regular expression of the groups, or None.
        group_scope: "class" or "global": whether equal group names of two classes are one group.
        find: how a clip's name leads to its file: "path" (below the root), "name" (folders,
            extension, case and underscores may differ) or "youtube" (so may the times).
        links: "inside": links that lead out of the root are refused; "follow": they are not.
        draws: by name, published choices of support clips of "train".
        generator: generates the clips, if they are not files.
        root: the folder that clip names are relative to, or None.
        path: the split file.
    """

    name: str
    subsets: Mapping[str, Mapping[str, tuple[Clip, ...]]]
    version: int = 1
    source: str = ""
    licence: str = ""
    description: str = ""
    citation: str = ""
    defects: tuple[str, ...] = ()
    class_ids: Mapping[str, str] = field(default_factory=dict)
    group_pattern: str | None = None
    group_scope: GroupScope = "class"
    find: FindMode = "path"
    links: LinkPolicy = "inside"
    draws: Mapping[str, tuple[Draw, ...]] = field(default_factory=dict)
    generator: Generator | None = None
    root: Path | None = None
    path: Path | None = None

    def __post_init__(self) -> None:
        ordered = {
            subset: {
                c: tuple(sorted(clips, key=attrgetter("name")))
                for c, clips in sorted(classes.items())
            }
            for subset, classes in self.subsets.items()
        }
        object.__setattr__(self, "subsets", ordered)

    @cached_property
    def digest(self) -> str:
        """SHA-256 (hex) of all that an episode can depend on.

        That is subsets, classes, clip names, groups, their scope, draws and the generator. Name,
        texts, version, root and the order of the file do not change it.
        """
        content: dict[str, object] = {
            "subsets": {
                subset: {c: [[clip.name, clip.group] for clip in v] for c, v in classes.items()}
                for subset, classes in self.subsets.items()
            },
            "group_scope": self.group_scope,
            "generator": None if self.generator is None else dataclasses.asdict(self.generator),
        }
        if self.draws:
            content["draws"] = {
                name: [{c: sorted(clips) for c, clips in draw.clips.items()} for draw in draws]
                for name, draws in self.draws.items()
            }
        text = json.dumps(content, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def classes(self, subset: str) -> tuple[str, ...]:
        """Return the class names of a subset, sorted.

        Raises:
            UnknownNameError: naming the subsets that exist.
        """
        return tuple(self._subset_classes(subset))

    def clips(self, subset: str, name: str) -> tuple[Clip, ...]:
        """Return the clips of a class, sorted by name.

        Raises:
            UnknownNameError: naming the subsets, or the classes, that exist.
        """
        classes = self._subset_classes(subset)
        if name not in classes:
            raise UnknownNameError("class", name, classes, f"In {subset!r} of split {self.name!r}.")
        return classes[name]

    def class_sizes(self, subset: str) -> dict[str, int]:
        """Return the number of clips of each class of a subset.

        Raises:
            UnknownNameError: naming the subsets that exist.
        """
        return {name: len(clips) for name, clips in self._subset_classes(subset).items()}

    def group_key(self, class_name: str, clip: Clip) -> tuple[str, ...] | None:
        """Return what identifies the group of a clip; None for a clip without one.

        Equal names in two classes are one group only where the scope is global.
        """
        if clip.group is None:
            return None
        return (clip.group,) if self.group_scope == "global" else (class_name, clip.group)

    def clip_path(self, clip_name: str) -> Path:
        """Return the path of a clip below the root.

        Returns:
            The file; if the split searches for files and none is this clip's, a path that does not
            exist.

        Raises:
            SplitError: when the split has no root, the name or a link would lead out of it, or
                several files could be the clip's.
        """
        if self.root is None:
            advice = "its clips are generated" if self.generator else "give one with --root FOLDER"
            raise SplitError(f"split {self.name!r} has no root for clip {clip_name!r}; {advice}")
        problem = path_problem(clip_name)
        if problem:
            raise SplitError(f"split {self.name!r}: {problem}")
        if self.find == "path":
            path = self.root / clip_name
            self._refuse_links_out(clip_name, path)
            return path
        candidates = self.file_matches.ambiguous.get(clip_name)
        if candidates:
            raise SplitError(
                f"split {self.name!r}: clip {clip_name!r} could be "
                f"{' or '.join(map(str, candidates))}; give a --root with only one of them"
            )
        file = self.file_matches.files.get(clip_name)
        if file is None:
            file = self.root / clip_name
            self._refuse_links_out(clip_name, file)
        return file

    def _refuse_links_out(self, clip_name: str, path: Path) -> None:
        """Refuse a clip that is a link out of the root, or a folder with such links in it."""
        if self.links == "follow":
            return
        for link in (path, *list_links(path)):
            real_path = Path(os.path.realpath(link))
            if not real_path.is_relative_to(self._real_root):
                verb = "is" if link is path else f"has with {link.name}"
                raise SplitError(
                    f"split {self.name!r}: clip {clip_name!r} {verb} a link out of {self.root}, to "
                    f"{real_path}. {self._links_advice}"
                )

    @property
    def _links_advice(self) -> str:
        if self.path is None:
            return (
                "Name the folder that holds the clips, or make a split with `fewshot-i2v episodes "
                "new`, write `links: follow` into it, and use it instead of the folder"
            )
        return (
            "Give --root the folder that holds the clips, or write `links: follow` into the split "
            "file to have such links read"
        )

    @cached_property
    def _real_root(self) -> Path:
        return Path(os.path.realpath(self.root or ""))

    @cached_property
    def file_matches(self) -> FileMatches:
        """Files below the root matched to clips; searched on first access.

        Raises:
            SplitError: when the split has no root, or needs no search: its names are paths.
        """
        if self.root is None or self.find == "path":
            reason = "has no root" if self.root is None else "names the paths of its files"
            raise SplitError(f"split {self.name!r} {reason}: there is nothing to look for")
        follow_links = self.links == "follow"
        return match_files(self.clip_names(), self.root, self.find, follow_links=follow_links)

    def clip_names(self) -> list[str]:
        """Return the names of all clips, subset by subset and class by class."""
        return [
            clip.name
            for classes in self.subsets.values()
            for clips in classes.values()
            for clip in clips
        ]

    def _subset_classes(self, subset: str) -> Mapping[str, tuple[Clip, ...]]:
        if subset not in self.subsets:
            raise UnknownNameError("subset", subset, self.subsets, f"In split {self.name!r}.")
        return self.subsets[subset]
