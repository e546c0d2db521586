"""What the steps of a fit share: labelled clips, the episodes made of them, and the encoder."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import numpy as np

from fewshot_i2v.config.evaluation import EvaluationConfig, RowConfig
from fewshot_i2v.data.episodes.episode import Episode
from fewshot_i2v.data.episodes.episode_file import EpisodeFile
from fewshot_i2v.data.episodes.folds import fold_episodes, plan_folds
from fewshot_i2v.data.splits.builder.labelled_clips import LabelledClips
from fewshot_i2v.errors import UsageError
from fewshot_i2v.evaluation.context import EvaluationContext
from fewshot_i2v.evaluation.engines.jobs import WorkerPool
from fewshot_i2v.evaluation.memory_notes import part_notes
from fewshot_i2v.evaluation.row_expansion import resolve_tuning
from fewshot_i2v.evaluation.row_runner import RowRunner
from fewshot_i2v.utils.progress import bar
from fewshot_i2v.utils.text_table import count_text, join_names

_TUNED_FOLDS, _FOLDS = 5, 10
"""Folds where something is fine-tuned in each, and where nothing is."""
_MAX_CLIPS_LEFT_OUT_ALONE = 40
MIN_CLASSES_TO_REJECT = 4
"""Fewer classes say nothing about clips of others."""
_MAX_LEFT_OUT_SETS = 60


@dataclass(eq=False)
class FitJob:
    """What all steps of a fit share."""

    clips: LabelledClips
    config: EvaluationConfig
    context: EvaluationContext
    progress: bool
    notes: list[str] = field(default_factory=list)
    folds: list[Episode] = field(default_factory=list)
    has_seen_start: bool = False
    pool: WorkerPool | None = None
    """Worker processes that fine-tune for folds; None: this process does."""
    runners: list[RowRunner] = field(default_factory=list)
    """All that were made."""

    @property
    def all_notes(self) -> list[str]:
        """The notes, and those about memory."""
        about_parts = [note for runner in self.runners for note in part_notes(runner)]
        return list(dict.fromkeys([*self.notes, *about_parts, *self.context.caches.notes()]))

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes."""
        return self.clips.classes

    @property
    def shot(self) -> int:
        """Clips of the smallest class."""
        return min(map(len, self.clips.by_class.values()))

    @property
    def fold_shot(self) -> int:
        """Clips of the smallest class in the folds."""
        return min(len(clips) for episode in self.folds for clips in episode.support)

    def all_clips_episode(self, index: int) -> Episode:
        """An episode whose support clips are all labelled clips."""
        support = tuple(
            tuple(clip.name for clip in clips) for clips in self.clips.by_class.values()
        )
        return Episode(index, self.classes, support, tuple(names[:1] for names in support))

    def left_out_episodes(self, first_index: int, count: int) -> list[Episode]:
        """Episodes without `count` of the classes, whose query clips are those of these classes.

        Args:
            first_index: number of the first episode.
            count: of the classes that are left out; every such set has an episode, up to
                `_MAX_LEFT_OUT_SETS` of them, which are then drawn at random.
        """
        by_class = {n: tuple(c.name for c in clips) for n, clips in self.clips.by_class.items()}
        sets = list(combinations(by_class, count))
        if len(sets) > max(len(by_class), _MAX_LEFT_OUT_SETS):
            rng = np.random.default_rng(self.config.seed)
            chosen = rng.choice(len(sets), _MAX_LEFT_OUT_SETS, replace=False)
            sets = [sets[i] for i in sorted(chosen)]
        episodes = []
        for offset, left_out in enumerate(sets):
            others = {name: names for name, names in by_class.items() if name not in left_out}
            unknown = tuple(name for c in left_out for name in by_class[c])
            query = [unknown, *[()] * (len(others) - 1)]
            episodes.append(
                Episode(first_index + offset, tuple(others), tuple(others.values()), tuple(query))
            )
        return episodes

    def set_episodes(self, episodes: Sequence[Episode]) -> None:
        """Makes these the episodes of the context, by their numbers."""
        split, subset = self.clips.split, self.clips.subset
        source = EpisodeFile(split.name, split.digest, subset, list(episodes))
        self.context.sources = {self.shot: source}
        self.context.episodes = {self.shot: list(episodes)}

    def runner(self, row: RowConfig, shot: int, position: int = 0) -> RowRunner:
        """A runner of a method for episodes with `shot` clips of the smallest class.

        `position` is that of the method among those to try.
        """
        tuning = row.tuning
        if tuning.steps:
            tuning = resolve_tuning(self.config, row.adapter.name, row.start, shot)
            # a fitted model holds one encoder: the tuned one
            tuning = tuning.model_copy(update={"untuned_weight": 0.0})
        row = row.model_copy(update={"shot": self.shot, "tuning": tuning})
        runner = RowRunner(row, self.context, position)
        self.runners.append(runner)
        return runner

    def decode(self, runner: RowRunner) -> None:
        """Decodes the clips as the augmentation of a method reads them."""
        recipe = runner.row.tuning
        if recipe.temporal and recipe.steps and runner.parameters:
            clips = self.context.augmentation_clips(recipe)
            clips.decode_clips(self.clips.names, progress=self.progress)

    def bar(self, total: int, text: str, unit: str) -> AbstractContextManager[Any]:
        """A progress bar, if there is to be one."""
        return bar(total=total, desc=text, unit=unit, progress=self.progress, leave=False)


def read_clips(job: FitJob, *, skip_unreadable: bool) -> None:
    """Decodes the clips, and checks that they can be learned from.

    Raises:
        UsageError: for clips that cannot be read, the same clip in two classes, or fewer than two
            classes.
    """
    context = job.context
    context.decode_clips(job.clips.names, progress=job.progress)
    if context.unreadable:
        n_clips = count_text(len(context.unreadable), "clip")
        if not skip_unreadable:
            raise UsageError(
                f"{n_clips} cannot be read:\n{context.unreadable_lines()}\n"
                "Mend or remove them, or leave them out with skip_unreadable (--skip-unreadable)"
            )
        job.notes.append(
            f"left out, because they cannot be read: {n_clips}\n" + context.unreadable_lines()
        )
        job.clips = job.clips.without(set(context.unreadable))
    _check_duplicates(job)
    if len(job.classes) < 2:
        raise UsageError(
            f"{job.clips.split.name}: got clips of {len(job.classes)} class; expected two classes "
            "or more, each in a folder of its own"
        )


def _check_duplicates(job: FitJob) -> None:
    class_of = {c.name: name for name, clips in job.clips.by_class.items() for c in clips}
    by_content: dict[str, list[str]] = {}
    for name, digest in job.context.content_digests(job.clips.names).items():
        by_content.setdefault(digest, []).append(name)
    repeated = [names for names in by_content.values() if len(names) > 1]
    for names in repeated:
        if len({class_of[name] for name in names}) > 1:
            raise UsageError(
                f"{names[0]} and {names[1]} are the same clip with two labels; remove one of them"
            )
    if repeated:
        again = {name for names in repeated for name in names[1:]}
        job.notes.append(
            f"left out, because the same clip is there already: {join_names(sorted(again), 5)}"
        )
        job.clips = job.clips.without(again)


def plan_episodes(job: FitJob, rows: Sequence[RowConfig], folds: int | None) -> None:
    """Divides the clips into folds, and makes them the episodes of the context."""
    job.set_episodes([job.all_clips_episode(0)])
    by_class = job.clips.by_class
    tunes = any(
        row.tuning.steps and job.runner(row, job.shot).parameters
        for row in rows
        if row.adapter.name != "frozen"
    )
    if folds is None and tunes:
        folds = _TUNED_FOLDS
    elif folds is None and len(job.clips.names) > _MAX_CLIPS_LEFT_OUT_ALONE:
        folds = _FOLDS
    across = job.clips.split.group_scope == "global"
    plan = plan_folds(by_class, folds=folds, seed=job.config.seed, across_classes=across)
    job.folds = fold_episodes(by_class, plan)
    last = len(job.folds)
    episodes = [*job.folds, job.all_clips_episode(last)]
    if len(job.classes) > MIN_CLASSES_TO_REJECT - 1:
        for count in (1, 2):
            episodes += job.left_out_episodes(len(episodes), count)
    job.set_episodes(episodes)
    if plan.divided:
        job.notes.append(
            f"all clips of a class are of one group: {', '.join(plan.divided)}; there, clips of "
            "the same group are held out and stay, which promises too much"
        )
