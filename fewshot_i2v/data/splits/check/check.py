"""Checks every clip of a split before anything is computed from it.

A clip that is missing, cut off or there twice otherwise shows up in the middle of a run, or not at
all. Every problem is found in one go:

| problem | meaning |
|---|---|
| missing | there is no file for the clip |
| ambiguous | several files could be the clip's |
| empty | the file has 0 bytes |
| unreadable | a frame cannot be decoded, or reading takes more time or memory than the limits |
| short | the clip has fewer frames than are asked for: the last would be repeated |
| duplicate | another clip has the same bytes |

A clip is a video file or a folder of numbered pictures, whose bytes are those of the pictures.

Of duplicates in one class of one subset the first has no problem. Where classes or subsets differ,
all have: the label, or the division into subsets, is wrong for some of them.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from fewshot_i2v.data.splits.check.duplicates import Memory, copies
from fewshot_i2v.data.splits.check.locate import Places, places
from fewshot_i2v.data.splits.split import Split
from fewshot_i2v.data.video.frame_folder import is_folder
from fewshot_i2v.data.video.frame_sampling import FrameIndices, check_count
from fewshot_i2v.data.video.probe import probe
from fewshot_i2v.data.video.reader import READER_FAMILY, read_frames
from fewshot_i2v.data.video.worker_pool import Job, Limits, run_jobs
from fewshot_i2v.errors import VideoUnreadable
from fewshot_i2v.utils.limits import FRAMES, PIXELS, DefaultLimits, LimitValues
from fewshot_i2v.utils.progress import bar
from fewshot_i2v.utils.resources import default_cache


def count_frames(path: str, max_frames: int = FRAMES, max_pixels: int = PIXELS) -> tuple[int, str]:
    """Decode every frame of a clip, and keep none.

    Args:
        path: the clip.
        max_frames: clips with more frames are refused.
        max_pixels: clips with larger frames are refused.

    Returns:
        How many frames it shows, and what is odd about it, in words.

    Raises:
        VideoUnreadable: if they cannot all be had.
    """
    totals = [0]

    def _first(total: int) -> FrameIndices:
        totals.append(total)
        # of a folder only the pictures that are asked for are decoded whole
        return np.arange(total if is_folder(Path(path)) else 1)

    read_frames(
        Path(path),
        _first,
        shape=lambda image: image[:1, :1].copy(),
        max_frames=max_frames,
        max_pixels=max_pixels,
    )
    if is_folder(Path(path)):
        return totals[-1], ""
    notes = probe(Path(path), max_frames=max_frames, max_pixels=max_pixels).notes
    return totals[-1], "; ".join(notes)


__all__ = ["KINDS", "ClipCheck", "Kind", "Problem", "check_clips"]

Kind = Literal["missing", "ambiguous", "empty", "unreadable", "short", "duplicate"]
KINDS: tuple[Kind, ...] = get_args(Kind)

_SAVE_SECONDS = 60.0


@dataclass(frozen=True)
class Problem:
    """What is wrong with a clip.

    Attributes:
        subset: of the clip.
        class_name: of the clip.
        clip: its name.
        kind: which problem.
        reason: what was found, in words.
        others: the files that could be it, or the clips with the same bytes.
    """

    subset: str
    class_name: str
    clip: str
    kind: Kind
    reason: str
    others: tuple[str, ...] = ()


@dataclass(frozen=True)
class ClipCheck:
    """What a check found.

    Attributes:
        split: what was checked.
        places: where its clips are.
        frames: how many a clip should have.
        quick: whether no clip was read.
        problems: in the order of the split.
        notes: by clip, what is odd about it and no problem: gaps in time, where nothing tells how
            many frames there should be; several video streams; pictures that a cut left out.
        read: clips that were read to their end in this check.
        remembered: clips that an earlier check had read.
        seconds: what it took.
        unkept: why the next check will not know what this one found; "" where it will.
    """

    split: Split
    places: Places
    frames: int
    quick: bool
    problems: tuple[Problem, ...]
    notes: Mapping[str, str]
    read: int
    remembered: int
    seconds: float
    unkept: str = ""

    @cached_property
    def bad(self) -> Mapping[str, Problem]:
        """Clips with a problem -> the first one."""
        return {problem.clip: problem for problem in reversed(self.problems)}

    def classes(self) -> Iterator[dict[str, Any]]:
        """For each class of each subset: clips, those without a problem, and problems by kind."""
        counts = Counter((p.subset, p.class_name, p.kind) for p in self.problems)
        for subset, classes in self.split.subsets.items():
            for name, clips in classes.items():
                fine = sum(clip.name not in self.bad for clip in clips)
                kinds = {kind: counts[subset, name, kind] for kind in KINDS}
                row = {"subset": subset, "class": name, "clips": len(clips), "fine": fine}
                yield row | {"problems": {kind: n for kind, n in kinds.items() if n}}

    def facts(self) -> dict[str, Any]:
        """Everything as plain data."""
        total = len(self.split.names())
        return {
            "split": {"name": self.split.name, "digest": self.split.digest},
            "root": str(self.places.root),
            "frames": self.frames,
            "quick": self.quick,
            "clips": total,
            "fine": total - len(self.bad),
            "counts": dict(Counter(problem.kind for problem in self.problems)),
            "classes": list(self.classes()),
            "problems": [
                {"class" if k == "class_name" else k: v for k, v in vars(problem).items()}
                for problem in self.problems
            ],
            "notes": dict(self.notes),
            "extra": [str(path) for path in self.places.extra],
            "refused": {str(path): why for path, why in self.places.refused.items()},
            "hints": list(self.places.hints),
            "read": self.read,
            "remembered": self.remembered,
            "seconds": round(self.seconds, 3),
            "unkept": self.unkept,
        }


def check_clips(
    split: Split,
    *,
    frames: int = 8,
    quick: bool = False,
    cache: Path | None = None,
    verify: bool = False,
    workers: int | None = None,
    limits: LimitValues | None = None,
    progress: bool = False,
) -> ClipCheck:
    """Look for every clip of a split, and read each from its first to its last frame.

    Args:
        split: with a root.
        frames: how many a clip should have, 1 or more.
        quick: only look for files, empty ones and duplicates; read no clip.
        cache: the folder under which what was found is kept, in `checks`; the package's own if
            None. Clips that did not change since an earlier check are not read again.
        verify: read all clips, whatever earlier checks found.
        workers: decoding processes; None: one per processor, at most 8. 0: in this process, without
            any limit: for tests.
        limits: what a clip may take; the defaults if None.
        progress: whether to show a bar on standard error.

    Raises:
        SplitError: when the split has no root, or its clips are generated.
        FewshotError: when the decoding processes cannot be started.
    """
    check_count("frames", frames)
    start = time.perf_counter()
    found = places(split)
    folder = (default_cache() if cache is None else cache) / "checks"
    memory = Memory(folder, found.root, READER_FAMILY, trust=not verify)
    search = _Check(split, found, memory, frames)
    try:
        search.look()
        search.compare()
        if not quick:
            count = min(_processors(), 8) if workers is None else workers
            search.read_all(count, limits or DefaultLimits(), progress=progress)
    finally:
        unkept = search.memory.save()
    problems = search.sorted_problems()
    read = (search.read, 0 if quick else search.remembered)
    notes = {} if quick else search.notes()
    seconds = time.perf_counter() - start
    return ClipCheck(split, found, frames, quick, problems, notes, *read, seconds, unkept)


class _Check:
    """One check under way."""

    def __init__(self, split: Split, found: Places, memory: Memory, frames: int) -> None:
        self.places, self.memory, self.frames = found, memory, frames
        self.home = {
            clip.name: (subset, name)
            for subset, classes in split.subsets.items()
            for name, clips in classes.items()
            for clip in clips
        }
        self.problems: list[Problem] = []
        self.usable: dict[Path, str] = {}
        self.read = self.remembered = 0

    def _add(self, clip: str, kind: Kind, reason: str, others: Sequence[str] = ()) -> None:
        self.problems.append(Problem(*self.home[clip], clip, kind, reason, tuple(others)))

    def look(self) -> None:
        """Missing, ambiguous and empty clips, and files that may not be opened."""
        for clip, reason in self.places.missing.items():
            self._add(clip, "missing", reason)
        for clip, files in self.places.ambiguous.items():
            others = [str(file) for file in files]
            reason = f"{len(files)} files could be it: {', '.join(others)}"
            self._add(clip, "ambiguous", reason, others)
        for clip, file in self.places.files.items():
            try:
                size = self.memory.look_at(file).size
            except OSError as error:
                self._add(clip, "unreadable", f"{file} cannot be looked at: {error.strerror}")
                continue
            except VideoUnreadable as error:
                self._add(clip, "unreadable", f"{file} {error.reason}")
                continue
            if not (file.is_file() or file.is_dir()):
                self._add(clip, "unreadable", f"{file} is no regular file")
            elif not size:
                self._add(clip, "empty", f"{file} has 0 bytes")
            elif not os.access(file, os.R_OK):
                self._add(clip, "unreadable", f"{file} may not be read")
            else:
                self.usable[file] = clip

    def compare(self) -> None:
        """Clips with the same bytes."""
        for group in copies(list(self.usable), self.memory):
            clips = [self.usable[file] for file in group]
            one = len({self.home[clip] for clip in clips}) == 1
            for i, clip in enumerate(clips):
                if one and not i:
                    continue
                others = [other for other in clips if other != clip]
                subset, name = self.home[others[0]]
                more = f" and {len(others) - 1} more" if len(others) > 1 else ""
                where = "" if one else f" ({subset}, class {name!r})"
                reason = f"has the same bytes as {others[0]!r}{where}{more}"
                self._add(clip, "duplicate", reason, others)

    def read_all(self, workers: int, limits: LimitValues, *, progress: bool) -> None:
        """Clips that cannot be read to their end, or have too few frames."""
        function = f"{count_frames.__module__}:{count_frames.__name__}"
        todo = [file for file in self.usable if self.memory.known(file).frames is None]
        sizes = (limits.frames, limits.pixels)
        jobs = {Job(file, function, (str(file), *sizes)): file for file in todo}
        self.remembered = len(self.usable) - len(todo)
        saved = time.monotonic()
        with bar(
            total=len(jobs), desc="read", unit="clip", progress=bool(progress and jobs), leave=False
        ) as shown:
            for job, result in run_jobs(list(jobs), workers, Limits.of(limits)):
                shown.update()
                self.read += 1
                if isinstance(result, VideoUnreadable):
                    self._add(self.usable[jobs[job]], "unreadable", f"{job.path} {result.reason}")
                    continue
                frames, odd = result
                self.memory.note(jobs[job], frames=frames, note=odd)
                if time.monotonic() - saved > _SAVE_SECONDS:
                    self.memory.save()
                    saved = time.monotonic()
        for file, clip in self.usable.items():
            count = self.memory.known(file).frames
            if count is not None and count < self.frames:
                reason = f"{file} has {count} frames, fewer than {self.frames}"
                self._add(clip, "short", reason)

    def notes(self) -> dict[str, str]:
        """What is odd about clips that could be read."""
        found = ((clip, self.memory.known(file).note) for file, clip in self.usable.items())
        return {clip: note for clip, note in found if note}

    def sorted_problems(self) -> tuple[Problem, ...]:
        """In the order of the split; a file that is no video is nothing but unreadable."""
        place = {clip: i for i, clip in enumerate(self.home)}
        broken = {problem.clip for problem in self.problems if problem.kind == "unreadable"}
        kept = (p for p in self.problems if p.kind != "duplicate" or p.clip not in broken)
        return tuple(sorted(kept, key=lambda p: (place[p.clip], KINDS.index(p.kind))))


def _processors() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
