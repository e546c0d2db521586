"""Runs the missing episodes of a row in batches, and records them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from itertools import chain
from time import perf_counter

from fewshot_i2v.data.episodes.episode import Episode
from fewshot_i2v.errors import TooManyFailuresError, VideoChangedError, VideoUnreadable
from fewshot_i2v.evaluation.adapters_ahead import AdapterBuilder, AdaptersAhead
from fewshot_i2v.evaluation.batching import group_by_shape
from fewshot_i2v.evaluation.episode_result import episode_fields
from fewshot_i2v.evaluation.inputs_ahead import InputsAhead
from fewshot_i2v.evaluation.record_writer import RecordWriter
from fewshot_i2v.evaluation.row_runner import RowRunner
from fewshot_i2v.runs.episode_record import EpisodeRecord
from fewshot_i2v.runs.row_summary import RowSummary
from fewshot_i2v.runs.run_folder import RunFolder
from fewshot_i2v.runs.shards import Shard
from fewshot_i2v.statistics import mean_interval, without_too_few_episodes
from fewshot_i2v.utils.progress import OverallProgress
from fewshot_i2v.utils.text_table import count_text


@dataclass(frozen=True)
class EpisodeSelection:
    """Episodes that one process is to run; by default all.

    Attributes:
        shard: runs every batch that is its own; None: there are no shards.
        first: number of the first episode.
    """

    shard: Shard | None = None
    first: int = 0

    def has(self, index: int, runner: RowRunner) -> bool:
        """Whether the process runs an episode of a row."""
        if self.shard is None:
            return index >= self.first
        size = runner.parallel_episodes
        n_batches = -(-len(runner.episodes) // size)
        return index >= self.first and self.shard.has_batch(
            index // size, n_batches=n_batches, row=runner.position
        )


ALL_EPISODES = EpisodeSelection()


@dataclass(eq=False)
class RowExecution:
    """The missing episodes of a row, run in batches whose borders depend on nothing else.

    An interrupted batch is computed again completely and only its missing records are written, so
    that a resumed run gives the same numbers as an uninterrupted one. (One that is extended may
    differ in rounding: its last batch was shorter the first time.)

    Attributes:
        runner: of the row.
        folder: open for appending.
        selected: episodes that this process is to run, those that are recorded included.
        pending: numbers of those that are missing.
    """

    runner: RowRunner
    folder: RunFolder
    selected: Sequence[Episode]
    pending: set[int] = field(default_factory=set)
    _writer: RecordWriter | None = None

    @classmethod
    def plan(
        cls,
        runner: RowRunner,
        folder: RunFolder,
        selection: EpisodeSelection,
        *,
        retry_failed: bool,
    ) -> RowExecution:
        """Says what is missing; with `retry_failed` also the episodes recorded as failed."""
        retried = folder.records.failed if retry_failed else ()
        selected = [e for e in runner.episodes if selection.has(e.index, runner)]
        indices = {e.index for e in selected}
        pending = {i for i in indices if i not in folder.records or i in retried}
        return cls(runner, folder, selected, pending)

    @property
    def batches(self) -> list[int]:
        """Numbers of the batches with missing episodes, in ascending order."""
        return sorted({index // self.runner.parallel_episodes for index in self.pending})

    def episodes_of(self, batches: Collection[int]) -> list[Episode]:
        """Returns the episodes of batches, in order."""
        size, episodes = self.runner.parallel_episodes, self.runner.episodes
        slices = (episodes[batch * size : (batch + 1) * size] for batch in sorted(batches))
        return list(chain.from_iterable(slices))

    def prepare(self, progress: bool | OverallProgress) -> None:
        """Decodes the clips, verifies them, and records the episodes that cannot run.

        Raises:
            RecordError: when clips changed since the run began.
            TooManyFailuresError: when more episodes fail than the row allows.
        """
        runner, folder = self.runner, self.folder
        computed = self.episodes_of(set(self.batches))
        cached = runner.context.find_prefixes(clip_names(computed), runner.sizes.prefix_spec)
        runner.context.decode_episodes(
            computed, runner.row.tuning, progress=progress, cached=cached
        )
        # without episodes that failed for good: a clip of theirs may still be repaired
        records = folder.records
        readable = [
            e
            for e in {e.index: e for e in [*self.selected, *computed]}.values()
            if e.index in self.pending or (e.index in records and e.index not in records.failed)
        ]
        digests = runner.context.content_digests(clip_names(readable))
        folder.record_clips(digests, n_cached=len(cached))
        self._record_failures()

    def _record_failures(self) -> None:
        runner = self.runner
        pending = [episode for episode in runner.episodes if episode.index in self.pending]
        errors = [(episode, runner.failure(episode)) for episode in pending]
        self.record_failed(
            [(e, error.path, error.reason) for e, error in errors if error is not None]
        )
        self.check_failures()

    def record_failed(self, failures: Sequence[tuple[Episode, str, str]]) -> None:
        """Records episodes that cannot run, with the file that is to blame and the reason."""
        self._append(
            [
                EpisodeRecord(
                    **episode_fields(episode),
                    status="failed",
                    error={"path": path, "reason": reason},
                )
                for episode, path, reason in failures
            ]
        )
        self.pending -= {episode.index for episode, _, _ in failures}

    def _append(self, records: Sequence[EpisodeRecord]) -> None:
        (self.folder.append if self._writer is None else self._writer.add)(records)

    @contextmanager
    def _writing_aside(self) -> Iterator[None]:
        """Writes the records of the block by a thread; after it they are on the disk."""
        with RecordWriter(self.folder.append) as writer:
            self._writer = writer
            try:
                yield
            finally:
                self._writer = None

    def check_failures(self) -> None:
        """Raises TooManyFailuresError when more episodes are recorded as failed than allowed."""
        runner, folder = self.runner, self.folder
        if self._writer is not None:
            self._writer.wait()
        indices = {episode.index for episode in runner.episodes}
        failed = len(indices & folder.records.failed - self.pending)
        if failed > runner.row.max_failed:
            raise TooManyFailuresError(
                f"{count_text(failed, 'episode')} of {folder.path} cannot run, more than "
                f"--max-failed {runner.row.max_failed} allows; clips that cannot be read in this "
                "run:\n"
                f"{runner.context.unreadable_lines() or '  none (recorded earlier)'}\n"
                "`fewshot-i2v episodes check` looks at every clip of a split, and with "
                "--allow-missing OUT.yaml writes the split without those. Mend or replace them and "
                "run the same command with --retry-failed, or raise --max-failed"
            )

    def _run_readable(
        self, episodes: Sequence[Episode], build: AdapterBuilder | None
    ) -> list[EpisodeRecord] | None:
        """Runs episodes; None where a clip of theirs turned out to be unreadable."""
        try:
            return self.runner.run(episodes, build)
        except VideoChangedError:
            raise
        except VideoUnreadable:
            if all(self.runner.failure(episode) is None for episode in episodes):
                raise
            return None

    def _readable_episodes(self, batches: Collection[int]) -> list[Episode]:
        return [e for e in self.episodes_of(batches) if self.runner.failure(e) is None]

    def run_episodes(
        self, episodes: Sequence[Episode], build: AdapterBuilder | None = None
    ) -> list[EpisodeRecord]:
        """Runs episodes side by side, and records those that are missing.

        Those with a clip that cannot be read are recorded as failed. Where this shows only now, the
        others run again: what runs side by side decides the rounding.

        Args:
            episodes: of one batch.
            build: builds their adapter; None: the runner does.

        Returns:
            The new records of those that ran.

        Raises:
            VideoChangedError: when a clip is not the one that the run recorded.
            TooManyFailuresError: when more episodes fail than the row allows.
        """
        computed: list[EpisodeRecord] | None = None
        while computed is None:
            failures = [self.runner.failure(episode) for episode in episodes]
            if any(e.index in self.pending and f for e, f in zip(episodes, failures, strict=True)):
                self._record_failures()
            readable = [e for e, f in zip(episodes, failures, strict=True) if f is None]
            computed = self._run_readable(readable, build)
        records = [record for record in computed if record.index in self.pending]
        self._append(records)
        self.pending -= {record.index for record in records}
        return records

    def run_all(self, progress: OverallProgress) -> None:
        """Runs all batches with missing episodes."""
        total = len(self.selected)
        recorded = [e.index for e in self.selected if e.index not in self.pending]
        records = self.folder.records.read(i for i in recorded if i in self.folder.records)
        accuracies = [r.accuracy for r in records if r.accuracy is not None]
        progress.advance(len(recorded) / total if total else 1.0, None)
        pending = [episode for episode in self.selected if episode.index in self.pending]
        context = self.runner.context
        with progress.stage("encode", len(clip_names(pending)), "clips") as count_encoded:
            # elsewhere tuning is the work, and takes turns with encoding
            context.on_encoded = count_encoded if self.runner.is_static else None
            batches = self.batches
            with (
                closing(AdaptersAhead(self.runner)) as adapters,
                InputsAhead(self.runner) as inputs,
                self._writing_aside(),
            ):
                for i, batch in enumerate(batches):
                    start, n_pending = perf_counter(), len(self.pending)
                    episodes = self._readable_episodes([batch])
                    later = self._readable_episodes(batches[i + 1 : i + 2])
                    groups = [*group_by_shape(episodes), *group_by_shape(later)]
                    adapters.start(groups)
                    inputs.start(groups)
                    new_records = self.run_episodes(episodes, adapters.take)
                    accuracies += [r.accuracy for r in new_records if r.accuracy is not None]
                    share = (n_pending - len(self.pending)) / total
                    progress.advance(share, perf_counter() - start, accuracy_note(accuracies))
        context.on_encoded = None

    def summarise(self) -> RowSummary:
        """Summarises the records of the configured episodes, and writes the summary."""
        runner, folder = self.runner, self.folder
        n_episodes = len(runner.episodes)  # the folder may hold more
        result = folder.read(
            lambda: RowSummary.from_records(
                folder.records,
                [i for i in sorted(folder.records) if i < n_episodes],
                adapter=runner.row.adapter.label,
                head=runner.row.head.label,
                shot=runner.row.shot,
                parameters=runner.parameters,
                display_flags=runner.display_flags,
                training_seed=runner.row.training_seed,
                folder=folder.path,
                planned=n_episodes,
            )
        )
        folder.write_summary(result.to_dict())
        return result


def clip_names(episodes: Sequence[Episode]) -> set[str]:
    """Returns the names of all clips of episodes."""
    return {name for episode in episodes for name in episode.clip_names()}


def accuracy_note(accuracies: Sequence[float]) -> str:
    """Returns the mean accuracy so far with its interval, for a progress bar.

    Too few episodes have no interval, as in tables.
    """
    if not accuracies:
        return ""
    interval = without_too_few_episodes(mean_interval(accuracies))
    width = interval.half_width
    spread = "" if width is None else f" ± {100 * width:.1f}"
    return f"{100 * interval.mean:.1f}{spread} %"
