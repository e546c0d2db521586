"""Checks every clip of a split before anything is computed from it.

A clip that is missing, truncated or duplicated would otherwise show up in the middle of a run, or
not at all. One check reports all problems:

| problem | meaning |
|---|---|
| missing | there is no file for the clip |
| ambiguous | several files could be the clip's |
| empty | the file has 0 bytes |
| unreadable | a frame cannot be decoded, or reading takes more time or memory than the limits |
| short | the clip has fewer frames than required: the last would be repeated |
| duplicate | another clip has the same bytes |

A clip is a video file or a folder of numbered pictures, whose bytes are those of the pictures.

Of duplicates in one class of one subset the first has no problem. If classes or subsets differ,
all have one: the label, or the division into subsets, is wrong for some of them.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any, Literal, get_args

from fewshot_i2v.data.splits.check.duplicates import DigestCache, find_duplicates
from fewshot_i2v.data.splits.matching.file_matching import FileMatches, match_files
from fewshot_i2v.data.splits.matching.file_tree import walk_videos
from fewshot_i2v.data.splits.split import Split
from fewshot_i2v.data.splits.split_file import load_split
from fewshot_i2v.data.video.frame_sampling import check_count
from fewshot_i2v.data.video.reader import READER_FAMILY, count_frames
from fewshot_i2v.data.video.worker_pool import Job, run_jobs
from fewshot_i2v.errors import SplitError, VideoUnreadable
from fewshot_i2v.utils.limits import DEFAULT_LIMITS, ClipLimits
from fewshot_i2v.utils.progress import bar
from fewshot_i2v.utils.resources import CHECKS_FOLDER, default_cache_folder
from fewshot_i2v.utils.text_table import join_names

ProblemKind = Literal["missing", "ambiguous", "empty", "unreadable", "short", "duplicate"]
PROBLEM_KINDS: tuple[ProblemKind, ...] = get_args(ProblemKind)

_SAVE_SECONDS = 60.0
_MAX_VISIBLE = 8


@dataclass(frozen=True)
class ClipProblem:
    """A problem of a clip.

    Attributes:
        subset: of the clip.
        class_name: of the clip.
        clip: its name.
        kind: the kind of problem.
        reason: a description.
        others: the files that could be it, or the clips with the same bytes.
    """

    subset: str
    class_name: str
    clip: str
    kind: ProblemKind
    reason: str
    others: tuple[str, ...] = ()


@dataclass(frozen=True)
class ClipCheck:
    """The result of a check.

    Attributes:
        split: the checked split.
        matches: where its clips are.
        hint: advice on missing clips, or "".
        frames: how many a clip should have.
        quick: whether no clip was read.
        problems: in the order of the split.
        notes: by clip, oddities that are no problem: gaps in time, if nothing tells how many frames
            there should be; several video streams; pictures that a cut left out.
        n_read: clips that were read to their end in this check.
        n_cached: clips that an earlier check had read.
        seconds: duration of the check.
        cache_error: why the results could not be cached for the next check; "" if they were.
    """

    split: Split
    matches: FileMatches
    hint: str
    frames: int
    quick: bool
    problems: tuple[ClipProblem, ...]
    notes: Mapping[str, str]
    n_read: int
    n_cached: int
    seconds: float
    cache_error: str

    @cached_property
    def problem_by_clip(self) -> Mapping[str, ClipProblem]:
        """Clips with a problem -> the first one."""
        return {problem.clip: problem for problem in reversed(self.problems)}

    def class_rows(self) -> Iterator[dict[str, Any]]:
        """Yield for each class of each subset: clips, clips without a problem, problem counts."""
        counts = Counter((p.subset, p.class_name, p.kind) for p in self.problems)
        for subset, classes in self.split.subsets.items():
            for name, clips in classes.items():
                n_fine = sum(clip.name not in self.problem_by_clip for clip in clips)
                kinds = {kind: counts[subset, name, kind] for kind in PROBLEM_KINDS}
                row = {"subset": subset, "class": name, "clips": len(clips), "fine": n_fine}
                yield row | {"problems": {kind: n for kind, n in kinds.items() if n}}

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain data."""
        total = len(self.split.clip_names())
        return {
            "split": {"name": self.split.name, "digest": self.split.digest},
            "root": str(self.matches.root),
            "frames": self.frames,
            "quick": self.quick,
            "clips": total,
            "fine": total - len(self.problem_by_clip),
            "counts": dict(Counter(problem.kind for problem in self.problems)),
            "classes": list(self.class_rows()),
            "problems": [
                {"class" if k == "class_name" else k: v for k, v in vars(problem).items()}
                for problem in self.problems
            ],
            "notes": dict(self.notes),
            "extra": [str(path) for path in self.matches.extra],
            "refused": {str(path): reason for path, reason in self.matches.refused.items()},
            "hints": [self.hint] if self.hint else [],
            "read": self.n_read,
            "remembered": self.n_cached,
            "seconds": round(self.seconds, 3),
            "unkept": self.cache_error,
        }


def check(
    split: Split | str | Path,
    *,
    root: str | Path | None = None,
    frames: int = 8,
    quick: bool = False,
    cache: str | Path | None = None,
    verify: bool = False,
    workers: int | None = None,
    limits: ClipLimits = DEFAULT_LIMITS,
    progress: bool = False,
) -> ClipCheck:
    """Find every clip of a split and read it to its end, as `fewshot-i2v episodes check` does.

    Args:
        split: its name or path, or a split.
        root: folder of the clips of a split that is read; None: that of the split.
        frames: how many a clip should have, 1 or more.
        quick: only search for files, empty ones and duplicates; read no clip.
        cache: the folder whose subfolder `checks` caches the results; the package's own if None.
            Clips that did not change since an earlier check are not read again.
        verify: read all clips, whatever earlier checks found.
        workers: decoding processes, as for `run_jobs`.
        limits: what a clip may take.
        progress: whether to show a bar on standard error.

    Raises:
        SplitError: when the split cannot be read or has no root, or its clips are generated.
        FewshotError: when the decoding processes cannot be started.
    """
    check_count("frames", frames)
    split = split if isinstance(split, Split) else load_split(split, root=root)
    start_time = time.perf_counter()
    matches = _locate_clips(split)
    hint = _location_hint(split, matches)
    folder = (default_cache_folder() if cache is None else Path(cache)) / CHECKS_FOLDER
    digest_cache = DigestCache(folder, matches.root, READER_FAMILY, trust=not verify)
    checker = _ClipChecker(split, matches, digest_cache, frames)
    try:
        checker.check_files()
        checker.check_duplicates()
        if not quick:
            checker.check_frames(workers, limits, progress=progress)
    finally:
        cache_error = digest_cache.save()
    return ClipCheck(
        split,
        matches,
        hint,
        frames,
        quick,
        problems=checker.sorted_problems(),
        notes={} if quick else checker.notes(),
        n_read=checker.n_read,
        n_cached=checker.n_cached,
        seconds=time.perf_counter() - start_time,
        cache_error=cache_error,
    )


def _locate_clips(split: Split) -> FileMatches:
    """Locate the clips of a split, which needs a root and no generator."""
    if split.generator is not None:
        raise SplitError(f"split {split.name!r}: its clips are generated: there are none to check")
    if split.root is None:
        raise SplitError(
            f"split {split.name!r} names no folder of its clips: give one with --root FOLDER"
        )
    if split.find != "path":
        return split.file_matches
    root = split.root
    tree = walk_videos(root, follow_links=split.links == "follow")
    files: dict[str, Path] = {}
    missing: dict[str, str] = {}
    for name in split.clip_names():
        try:
            path = split.clip_path(name)
        except SplitError as error:  # a link out of the root
            missing[name] = str(error)
            continue
        if path.exists():
            files[name] = path
        else:
            missing[name] = f"no file {path}"
    # a folder is used as well if a clip's own path leads through it
    used = {path for name in files for path in accumulate(name.split("/"), "{}/{}".format)}
    return FileMatches(
        root,
        files,
        missing,
        ambiguous={},
        extra=tuple(
            root / file.path
            for file in tree.files
            if file.path not in files and not (file.linked or file.refusal)
        ),
        refused={root / path: why for path, why in tree.refused.items() if path not in used},
    )


def _location_hint(split: Split, matches: FileMatches) -> str:
    """Return advice on clips that are missing; "" without any."""
    root = matches.root
    if split.find == "path" and matches.missing:
        by_name = match_files(list(matches.missing), root, "name").files
        if by_name:
            name, file = next(iter(by_name.items()))
            return (
                f"{len(by_name)} of the missing clips would be there with `find: name` in the "
                f"split file, such as {name!r}: {file}"
            )
    if matches.files:
        return ""
    visible = sorted(path.name for path in root.iterdir() if not path.name.startswith("."))
    return (
        f"no clip of the list is below {root}; there is "
        f"{join_names(visible, _MAX_VISIBLE) or 'nothing'}: is it the right folder?"
    )


class _ClipChecker:
    """Runs one check."""

    def __init__(
        self, split: Split, matches: FileMatches, digest_cache: DigestCache, frames: int
    ) -> None:
        self.matches, self.digest_cache, self.frames = matches, digest_cache, frames
        self.subset_and_class = {
            clip.name: (subset, name)
            for subset, classes in split.subsets.items()
            for name, clips in classes.items()
            for clip in clips
        }
        self.problems: list[ClipProblem] = []
        self.clip_of_file: dict[Path, str] = {}
        self.n_read = self.n_cached = 0

    def _add_problem(
        self, clip: str, kind: ProblemKind, reason: str, related: Sequence[str] = ()
    ) -> None:
        self.problems.append(
            ClipProblem(*self.subset_and_class[clip], clip, kind, reason, tuple(related))
        )

    def check_files(self) -> None:
        """Find missing, ambiguous and empty clips, and files that may not be opened."""
        for clip, reason in self.matches.missing.items():
            self._add_problem(clip, "missing", reason)
        for clip, files in self.matches.ambiguous.items():
            candidates = [str(file) for file in files]
            reason = f"{len(files)} files could be it: {', '.join(candidates)}"
            self._add_problem(clip, "ambiguous", reason, candidates)
        for clip, file in self.matches.files.items():
            try:
                size = self.digest_cache.refresh(file).size
            except OSError as error:
                reason = f"cannot be looked at: {error.strerror}"
            except VideoUnreadable as error:
                reason = error.reason
            else:
                if not (file.is_file() or file.is_dir()):
                    reason = "is no regular file"
                elif not size:
                    self._add_problem(clip, "empty", f"{file} has 0 bytes")
                    continue
                elif not os.access(file, os.R_OK):
                    reason = "may not be read"
                else:
                    self.clip_of_file[file] = clip
                    continue
            self._add_problem(clip, "unreadable", f"{file} {reason}")

    def check_duplicates(self) -> None:
        """Find clips with the same bytes."""
        for group in find_duplicates(list(self.clip_of_file), self.digest_cache):
            clips = [self.clip_of_file[file] for file in group]
            same_class = len({self.subset_and_class[clip] for clip in clips}) == 1
            for i, clip in enumerate(clips):
                if same_class and not i:
                    continue
                duplicates = [duplicate for duplicate in clips if duplicate != clip]
                subset, name = self.subset_and_class[duplicates[0]]
                more_note = f" and {len(duplicates) - 1} more" if len(duplicates) > 1 else ""
                class_note = "" if same_class else f" ({subset}, class {name!r})"
                reason = f"has the same bytes as {duplicates[0]!r}{class_note}{more_note}"
                self._add_problem(clip, "duplicate", reason, duplicates)

    def check_frames(self, workers: int | None, limits: ClipLimits, *, progress: bool) -> None:
        """Find clips that cannot be read to their end, or have too few frames."""
        function_path = f"{count_frames.__module__}:{count_frames.__name__}"
        unread_files = [
            file for file in self.clip_of_file if self.digest_cache.entry(file).frames is None
        ]
        jobs = [Job(file, function_path, (str(file), asdict(limits))) for file in unread_files]
        self.n_cached = len(self.clip_of_file) - len(unread_files)
        last_save = time.monotonic()
        with bar(
            total=len(jobs), desc="read", unit="clips", progress=progress, leave=False
        ) as progress_bar:
            for job, result in run_jobs(list(jobs), workers, limits):
                progress_bar.update()
                self.n_read += 1
                if isinstance(result, VideoUnreadable):
                    clip = self.clip_of_file[job.path]
                    self._add_problem(clip, "unreadable", f"{job.path} {result.reason}")
                    continue
                frames, note = result
                self.digest_cache.update(job.path, frames=frames, note=note)
                if time.monotonic() - last_save > _SAVE_SECONDS:
                    self.digest_cache.save()
                    last_save = time.monotonic()
        for file, clip in self.clip_of_file.items():
            count = self.digest_cache.entry(file).frames
            if count is not None and count < self.frames:
                reason = f"{file} has {count} frames, fewer than {self.frames}"
                self._add_problem(clip, "short", reason)

    def notes(self) -> dict[str, str]:
        """Return notes on oddities of the clips that could be read."""
        clip_notes = (
            (clip, self.digest_cache.entry(file).note) for file, clip in self.clip_of_file.items()
        )
        return {clip: note for clip, note in clip_notes if note}

    def sorted_problems(self) -> tuple[ClipProblem, ...]:
        """Sort problems as the split; an unreadable file is not reported as a duplicate too."""
        position = {clip: i for i, clip in enumerate(self.subset_and_class)}
        unreadable = {problem.clip for problem in self.problems if problem.kind == "unreadable"}
        retained = (p for p in self.problems if p.kind != "duplicate" or p.clip not in unreadable)
        return tuple(
            sorted(retained, key=lambda p: (position[p.clip], PROBLEM_KINDS.index(p.kind)))
        )
