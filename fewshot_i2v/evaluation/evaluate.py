"""The evaluation job: find the missing episodes, load clips, fine-tune, predict, record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from time import perf_counter
from typing import Any

from fewshot_i2v import registry
from fewshot_i2v.config.evaluation import EvaluationConfig
from fewshot_i2v.data.episodes.episode import Episode
from fewshot_i2v.errors import ConfigError, TooManyFailuresError
from fewshot_i2v.evaluation.context import EvaluationContext
from fewshot_i2v.evaluation.identity import absolute_path
from fewshot_i2v.evaluation.results import EvaluationResult
from fewshot_i2v.evaluation.row_expansion import expand_rows, load_config
from fewshot_i2v.evaluation.row_runner import RowRunner, episode_fields
from fewshot_i2v.evaluation.row_work import count_work
from fewshot_i2v.evaluation.time_estimate import TimeEstimator
from fewshot_i2v.runs.episode_record import EpisodeRecord
from fewshot_i2v.runs.row_names import start_names
from fewshot_i2v.runs.row_summary import UNTUNED_NOTE, RowSummary, merge_seeds
from fewshot_i2v.runs.run_folder import RunFolder
from fewshot_i2v.runs.run_index import setting_text
from fewshot_i2v.runs.stopping_record import StoppingRecord
from fewshot_i2v.statistics import mean_interval
from fewshot_i2v.statistics.sequential_stopping import decide_stopping
from fewshot_i2v.utils.progress import OverallProgress, Task, overall_progress, stage
from fewshot_i2v.utils.text_table import count_text


def evaluate(
    config: EvaluationConfig | str | Path | Mapping[str, Any] | None = None, **overrides: Any
) -> EvaluationResult:
    """Evaluates adapters on few-shot episodes, as `fewshot-i2v evaluate` does.

    Args:
        config: an `EvaluationConfig`, the name of a shipped configuration, a path to a YAML file,
            or a mapping of its keys; None is the shipped `quickstart`.
        overrides: keys that replace those of the configuration, such as `episodes=50`.

    Returns:
        One row per adapter, start, head and shot.

    Raises:
        FewshotError: as the command does, see `fewshot_i2v.errors`.
    """
    if isinstance(config, EvaluationConfig):
        config = config.model_dump(exclude_unset=True)
    return run(load_config(config, overrides))


def run(
    config: EvaluationConfig, *, progress: bool = False, retry_failed: bool = False
) -> EvaluationResult:
    """Runs the missing episodes of an evaluation, and returns all results.

    Args:
        config: what to evaluate.
        progress: whether to show progress bars on standard error.
        retry_failed: whether episodes recorded as failed run again.

    Raises:
        FewshotError: see `fewshot_i2v.errors`; finished episodes are on disk by then.
    """
    context = EvaluationContext.of(config)
    runners = build_row_runners(context)

    def _run_rows() -> list[RowSummary]:
        results = []
        with overall_progress(_tasks(runners, progress), "row", progress=progress) as overall:
            for runner in runners:
                overall.begin(runner.position)
                retained = [later.cache_key for later in runners[runner.position :]]
                context.release_caches(retain=retained)
                folder = config.output_folder / runner.row.slug
                results.append(_run_row(runner, folder, overall, retry_failed=retry_failed))
        return results

    rows, stopped = _run_rows(), None
    if config.until is not None:
        while not (stopped := _check_until(config.until, context, rows)):
            rows = _run_rows()
        for runner, row in zip(runners, rows, strict=True):
            facts, identity = runner.header()
            with RunFolder.open(row.folder, facts, identity=identity) as folder:
                folder.write_summary(row.to_dict() | {"until": asdict(stopped)})
    return EvaluationResult(
        rows=_named_rows(runners, rows),
        output=config.output_folder,
        way=context.way,
        split=context.split.name,
        encoder=config.encoder.name,
        remarks=tuple(dict.fromkeys(note for runner in runners for note in runner.notes)),
        stopped=stopped,
        setting=setting_text(runners[0].row.identity(), context.way),
    )


def _named_rows(runners: Sequence[RowRunner], rows: Sequence[RowSummary]) -> tuple[RowSummary, ...]:
    """Names the starts of rows, and notes which of them are not tuned beside their tuned rows."""
    starts = []
    for runner in runners:
        start = runner.start
        name, path = (start.name, absolute_path(start.folder)) if start else ("", "")
        starts.append((runner.row.adapter.label, name, path))
    names = start_names(starts)  # starts of one name and adapter are told apart by their paths
    named = []
    for runner, row, name in zip(runners, rows, names, strict=True):
        is_untuned = runner.context.config.untuned and runner.start and not runner.row.tuning.steps
        note = ", ".join(filter(None, [row.note, UNTUNED_NOTE if is_untuned else ""]))
        named.append(replace(row, start_name=name, note=note))
    return tuple(named)


def _tasks(runners: Sequence[RowRunner], progress: bool) -> list[Task]:
    """Returns the rows as tasks of a progress bar, weighted by counted multiply-accumulates."""
    works = count_work(runners) if progress else [None] * len(runners)
    tasks = []
    for runner, work in zip(runners, works, strict=True):
        row, passes = runner.row, 1.0
        if work is not None:
            macs = runner.context.macs(row.adapter, row.video.frames) or 1.0
            passes = macs * (work.first_clips + work.episodes * work.passes_per_episode)
        kind = row.adapter.label, runner.is_static
        tasks.append(Task(f"{row.adapter.label} {row.shot}-shot", kind, max(1.0, passes)))
    return tasks


def _check_until(
    points: float, context: EvaluationContext, rows: Sequence[RowSummary]
) -> StoppingRecord | None:
    """Returns how a run with `until` ended; samples more episodes and returns None if it did not.

    It ends when the intervals of all rows are short enough, or no episodes remain.
    """
    count = min(map(len, context.episodes.values()))
    accuracies = [[row.accuracies.get(i) for i in range(count)] for row in merge_seeds(rows)]
    decision = decide_stopping(accuracies, points / 100, cap=context.max_episodes)
    if not decision.stop:
        context.draw(decision.episodes)
        return None
    return StoppingRecord(
        points, decision.episodes, decision.target_met, decision.half_widths, decision.looks
    )


def build_row_runners(context: EvaluationContext) -> list[RowRunner]:
    """Builds the row runners, so that wrong adapters and heads raise before any decoding.

    Raises:
        ConfigError: for a head with parameters that no step would train, which would score like
            guessing, or that cannot train on mini-batches of support clips; and for learned rates
            that the start does not have.
        UsageError: when an adapter or head cannot be built.
    """
    runners = [
        RowRunner(row, context, position)
        for position, row in enumerate(expand_rows(context.config))
    ]
    for runner in runners:
        row, sizes = runner.row, runner.sizes  # builds both
        head_class = registry.load_method("heads", row.head.name)
        if row.tuning.batch and runner.parameters and not head_class.supports_mini_batches:
            raise ConfigError(
                f"tuning.batch: head {row.head.label} compares support clips with each other and "
                "needs all of them in every step; leave tuning.batch out, or give a head that does "
                "not, such as linear"
            )
        _check_rates(runner)
        begins_fresh = runner.head_start.head is None
        if sizes.head_parameters and not row.tuning.steps and begins_fresh:
            raise ConfigError(
                f"head: {row.head.label} has {sizes.head_parameters} parameters of its own, which "
                f"no step trains (tuning.steps is 0 for {row.adapter.label}); give --steps of 1 or "
                "more, or a head without parameters, such as prototype, otam, bi-mhm or nearest, "
                "or a start that was trained with this head"
            )
    return runners


def _check_rates(runner: RowRunner) -> None:
    """Raises ConfigError when a row is to be tuned with learned rates and lacks some."""
    row, start = runner.row, runner.start
    if row.tuning.optimizer == "adamw" or not runner.parameters:
        return
    if start is None or start.rates is None:
        raise ConfigError(
            f"tuning.optimizer: start-rates needs a start that learned rates (objective meta-sgd); "
            f"{row.adapter.label} begins {row.start}, which has none. Give adamw, or such a start"
        )
    if runner.sizes.head_parameters and runner.head_start.head is None:
        raise ConfigError(
            f"tuning.optimizer: start-rates: head {row.head.label} begins fresh, and the start "
            f"{row.start} has no rates for it; give the head of the start, one without parameters, "
            "or adamw"
        )


def _run_row(
    runner: RowRunner, path: Path, progress: OverallProgress, *, retry_failed: bool
) -> RowSummary:
    episodes, context = runner.episodes, runner.context
    facts, identity = runner.header()
    with RunFolder.open(path, facts, identity=identity) as folder:
        retried = folder.records.failed if retry_failed else ()
        todo = [e for e in episodes if e.index not in folder.records or e.index in retried]
        pending = {episode.index for episode in todo}
        # a batch is always computed completely
        batch_numbers = {index // runner.parallel_episodes for index in pending}
        computed = [e for e in episodes if e.index // runner.parallel_episodes in batch_numbers]
        context.decode_episodes(computed, runner.row.tuning, progress=progress)
        # without episodes that failed for good: a clip of theirs may still be repaired
        ok = [e for e in episodes if e.index in pending or folder.records[e.index].status == "ok"]
        folder.record_clips(context.content_digests(_clip_names(ok)))
        _record_failures(runner, folder, episodes, todo)
        _run_batches(runner, folder, episodes, todo, progress)
        result = RowSummary.from_records(
            # of the configured episodes; the folder may hold more
            folder.records.read(i for i in sorted(folder.records) if i < len(episodes)),
            adapter=runner.row.adapter.label,
            head=runner.row.head.label,
            shot=runner.row.shot,
            parameters=runner.parameters,
            display_flags=runner.display_flags,
            training_seed=runner.row.training_seed,
            folder=folder.path,
        )
        folder.write_summary(result.to_dict())
        return result


def _clip_names(episodes: Sequence[Episode]) -> set[str]:
    return {name for episode in episodes for name in episode.clip_names()}


def _record_failures(
    runner: RowRunner,
    folder: RunFolder,
    episodes: Sequence[Episode],
    todo: Sequence[Episode],
) -> None:
    """Records the episodes that cannot run, and raises when they are too many."""
    errors = [(episode, runner.failure(episode)) for episode in todo]
    folder.append(
        [
            EpisodeRecord(
                **episode_fields(episode),
                status="failed",
                error={"path": error.path, "reason": error.reason},
            )
            for episode, error in errors
            if error is not None
        ]
    )
    runnable = {episode.index for episode, error in errors if error is None}
    failed = len({episode.index for episode in episodes} & folder.records.failed - runnable)
    if failed > runner.row.max_failed:
        raise TooManyFailuresError(
            f"{count_text(failed, 'episode')} of {folder.path} cannot run, more than --max-failed "
            f"{runner.row.max_failed} allows; clips that cannot be read in this run:\n"
            f"{runner.context.unreadable_lines() or '  none (recorded earlier)'}\n"
            "`fewshot-i2v episodes check` looks at every clip of a split, and with --allow-missing "
            "OUT.yaml writes the split without those. Mend or replace them and run the same "
            "command with --retry-failed, or raise --max-failed"
        )


def _run_batches(
    runner: RowRunner,
    folder: RunFolder,
    episodes: Sequence[Episode],
    todo: Sequence[Episode],
    progress: OverallProgress,
) -> None:
    """Runs batches of episodes; their borders do not depend on what is recorded already.

    An interrupted batch is computed again completely and only its missing records are written, so
    that a resumed run gives the same numbers as an uninterrupted one. (One that is extended may
    differ in rounding: its last batch was shorter the first time.)
    """
    size = runner.parallel_episodes
    pending = {episode.index for episode in todo if runner.failure(episode) is None}
    done = [i for i in folder.records if i < len(episodes) and i not in pending]
    accuracies = [r.accuracy for r in folder.records.read(done) if r.accuracy is not None]
    progress.advance(len(done) / len(episodes), None)
    clips = _clip_names([episode for episode in episodes if episode.index in pending])
    with progress.stage("encode", len(clips), "clips") as count_encoded:
        # elsewhere tuning is the work, and takes turns with encoding
        runner.context.on_encoded = count_encoded if runner.is_static else None
        for start in range(0, len(episodes), size):
            batch = [s for s in episodes[start : start + size] if runner.failure(s) is None]
            if not any(s.index in pending for s in batch):
                continue
            start_time = perf_counter()
            records = [r for r in runner.run(batch) if r.index in pending]
            folder.append(records)
            accuracies += [r.accuracy for r in records if r.accuracy is not None]
            seconds = perf_counter() - start_time
            progress.advance(len(records) / len(episodes), seconds, _accuracy_note(accuracies))
    runner.context.on_encoded = None


def _accuracy_note(accuracies: Sequence[float]) -> str:
    """Returns the mean accuracy so far with its interval, for a progress bar."""
    interval = mean_interval(accuracies)
    width = interval.half_width
    spread = "" if width is None else f" ± {100 * width:.1f}"
    return f"{100 * interval.mean:.1f}{spread} %"


def dry_run(config: EvaluationConfig, *, progress: bool = False) -> dict[str, Any]:
    """Reports what `run` would do, without decoding a clip or writing a file.

    Args:
        config: what to evaluate.
        progress: whether to show a progress bar on standard error while the rows are measured.

    Returns:
        `config` (resolved), `first_episode` (the clips by name), and `cost`: clips to read, those
        whose files are missing, and for each row its clips, seconds and memory, reckoned from short
        trials on clips of noise, see `time_estimate`. Reading the clips comes on top. With `until`
        it is that of the episodes before the first look.
    """
    context = EvaluationContext.of(config)
    config = context.config
    clips = set().union(*(_clip_names(episodes) for episodes in context.episodes.values()))
    has_root = context.split.root is not None
    missing = []
    if context.split.generator is None:
        missing = sorted(n for n in clips if not (has_root and context.clip_path(n).exists()))
    runners = build_row_runners(context)
    estimator = TimeEstimator()
    rows = []
    with stage(progress, "estimate", len(runners), "rows") as advance:
        for runner, work in zip(runners, count_work(runners), strict=True):
            rows.append(estimator.estimate(runner, work))
            advance(1)
    first_episode = context.episodes[config.shot[0]][0]
    cost = {
        "clips": len(clips),
        "missing_clips": missing,
        "device": str(context.encoder.tower.device),
        "rows": rows,
        "seconds": round(sum(row["seconds"] for row in rows), 1),
        "memory_mb": max((row["memory_mb"] for row in rows), default=0),
        "trials": estimator.trials(),
    }
    resolved = config.model_dump(mode="json")
    return {"config": resolved, "first_episode": first_episode.to_dict(), "cost": cost}
