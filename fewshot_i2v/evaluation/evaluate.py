"""The evaluation job: find the missing episodes, load clips, fine-tune, predict, record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing, nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from fewshot_i2v import registry
from fewshot_i2v.config.evaluation import EvaluationConfig
from fewshot_i2v.errors import ConfigError, UsageError
from fewshot_i2v.evaluation.context import EvaluationContext
from fewshot_i2v.evaluation.engines.driver import EngineRun
from fewshot_i2v.evaluation.engines.jobs import WorkerPool
from fewshot_i2v.evaluation.engines.process_estimate import estimate_processes
from fewshot_i2v.evaluation.identity import absolute_path
from fewshot_i2v.evaluation.precision_notes import precision_notes
from fewshot_i2v.evaluation.results import EvaluationResult
from fewshot_i2v.evaluation.row_execution import (
    ALL_EPISODES,
    EpisodeSelection,
    RowExecution,
    clip_names,
)
from fewshot_i2v.evaluation.row_expansion import expand_rows, load_config
from fewshot_i2v.evaluation.row_runner import RowRunner
from fewshot_i2v.evaluation.row_work import count_work
from fewshot_i2v.evaluation.time_estimate import TimeEstimator
from fewshot_i2v.models.factory import check_adapter_is_read
from fewshot_i2v.runs.row_names import start_names
from fewshot_i2v.runs.row_summary import UNTUNED_NOTE, RowSummary, merge_seeds
from fewshot_i2v.runs.run_folder import RunFolder, check_run, wait_for_run
from fewshot_i2v.runs.run_index import setting_text
from fewshot_i2v.runs.stopping_record import StoppingRecord
from fewshot_i2v.statistics.sequential_stopping import decide_stopping
from fewshot_i2v.tuning.generation_cost import generation_cost
from fewshot_i2v.utils.environment import count_cores, reset_peak_memory
from fewshot_i2v.utils.patience import WAIT_SECONDS, Patience
from fewshot_i2v.utils.progress import OverallProgress, Task, overall_progress, show_notes, stage


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
    config: EvaluationConfig,
    *,
    progress: bool = False,
    retry_failed: bool = False,
    selection: EpisodeSelection = ALL_EPISODES,
    pool: WorkerPool | None = None,
) -> EvaluationResult:
    """Runs the missing episodes of an evaluation, and returns all results.

    Episodes recorded as failed run again with `retry_failed`. The results are of all that are
    recorded, whatever the selection. The workers of `pool` run the episodes, of this very
    configuration, and end with the run; without a pool this process runs them. With a pool or a
    shard, a disk of clips that is away is waited for, see `ClipDisk`.

    Raises:
        UsageError: for a selection of a run with `until`, which looks at all episodes.
        FewshotError: see `fewshot_i2v.errors`; finished episodes are on disk by then.
    """
    with nullcontext() if pool is None else closing(pool):
        return _run(config, pool, selection, progress=progress, retry_failed=retry_failed)


def _run(
    config: EvaluationConfig,
    pool: WorkerPool | None,
    selection: EpisodeSelection,
    *,
    progress: bool,
    retry_failed: bool,
) -> EvaluationResult:
    if config.until is not None and selection != ALL_EPISODES:
        raise UsageError(
            "until: looks at the episodes of all shards; expected `episodes` with a shard or a "
            "range of episodes"
        )
    _check_output(config)
    context = EvaluationContext.of(config)
    if pool is not None or selection.shard is not None:
        context.disk.wait_when_away()
    runners = build_row_runners(context)
    for runner in runners:  # all of them, before any row is written
        check_run(config.output_folder / runner.row.slug, runner.identity())
    shown_notes = precision_notes(runners) if progress else []
    show_notes(progress, [f"note: {note}" for note in shown_notes])
    engine_run = None if pool is None else EngineRun(context, runners, pool)

    def _run_rows() -> list[RowSummary]:
        with overall_progress(_tasks(runners, progress), "row", progress=progress) as overall:
            if engine_run is not None:
                return engine_run.run_rows(overall, retry_failed=retry_failed)
            return _run_in_turn(runners, overall, selection, retry_failed=retry_failed)

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
        remarks=tuple(note for note in _notes_of(runners) if note not in shown_notes),
        stopped=stopped,
        setting=setting_text(runners[0].row.identity(), context.way),
    )


def _notes_of(runners: Sequence[RowRunner]) -> list[str]:
    return list(dict.fromkeys(note for runner in runners for note in runner.notes))


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


def _check_output(config: EvaluationConfig) -> None:
    """Raises UsageError when no folder can be made where the results go, since a file is there."""
    folder = config.output_folder
    for path in (folder, *folder.parents):
        if path.is_file():
            raise UsageError(
                f"output {folder}: {path} is a file; expected a folder, which may be new"
            )


def build_row_runners(context: EvaluationContext) -> list[RowRunner]:
    """Builds the row runners, so that wrong adapters and heads raise before any decoding.

    Raises:
        ConfigError: for a head with parameters that no step would train, which would score like
            guessing, or that cannot train on mini-batches of support clips; and for rates
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
        if sizes.adapter_parameters:
            check_adapter_is_read(row.adapter, row.head)
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
    """Raises ConfigError when a row is to be tuned with the rates of a start that has none."""
    row, start = runner.row, runner.start
    if row.tuning.optimizer == "adamw" or not runner.parameters:
        return
    if start is None or start.rates is None:
        raise ConfigError(
            f"tuning.optimizer: start-rates needs a start of meta-training, which holds the rates "
            f"of its inner loop; {row.adapter.label} begins {row.start}, which has none. Give "
            "adamw, or such a start"
        )
    if runner.sizes.head_parameters and runner.head_start.head is None:
        raise ConfigError(
            f"tuning.optimizer: start-rates: head {row.head.label} begins fresh, and the start "
            f"{row.start} has no rates for it; give the head of the start, one without parameters, "
            "or adamw"
        )


def _run_in_turn(
    runners: Sequence[RowRunner],
    overall: OverallProgress,
    selection: EpisodeSelection,
    *,
    retry_failed: bool,
) -> list[RowSummary]:
    """Runs the rows in this process, one after the other."""
    results: list[RowSummary] = []
    patience = Patience() if selection.shard is None else Patience(WAIT_SECONDS)
    for runner in runners:
        overall.begin(runner.position)
        if results:  # else the next row would be written where their disk belongs
            wait_for_run(results[-1].folder, patience)
        context = runner.context
        later = runners[runner.position :]
        context.caches.release(retain=[key for row in later for key in row.cache_keys])
        reset_peak_memory(context.encoder.tower.device)
        folder = context.config.output_folder / runner.row.slug
        results.append(_run_row(runner, folder, overall, selection, retry_failed=retry_failed))
    return results


def _run_row(
    runner: RowRunner,
    path: Path,
    progress: OverallProgress,
    selection: EpisodeSelection,
    *,
    retry_failed: bool,
) -> RowSummary:
    facts, identity = runner.header()
    with RunFolder.open(path, facts, identity=identity, shard=selection.shard) as folder:
        execution = RowExecution.plan(runner, folder, selection, retry_failed=retry_failed)
        execution.prepare(progress)
        execution.run_all(progress)
        if selection.shard is not None:
            folder.read_again()
        return execution.summarise()


def dry_run(
    config: EvaluationConfig, *, progress: bool = False, one_thread: bool = False
) -> dict[str, Any]:
    """Reports what `run` would do, without decoding a clip or writing a file.

    Args:
        config: what to evaluate.
        progress: whether to show a progress bar on standard error while the rows are measured.
        one_thread: measure small encoders with one thread, see `TimeEstimator`.

    Returns:
        `config` (resolved), `first_episode` (the clips by name), `class_texts` (how many there are,
        see `TextsByClass.counts`; None: none), `notes` (on how the rows would run), and `cost`:
        clips to read, those whose files are missing, those to generate and the seconds of that, and
        for each row its clips, seconds and memory, reckoned from short trials on clips of noise,
        see `time_estimate`; likewise for one process per core, where that is known. Reading the
        clips comes on top. With `until` it is that of the episodes before the first look.

    Raises:
        FewshotError: as `run`, also where the output folder holds another run.
    """
    _check_output(config)
    context = EvaluationContext.of(config)
    config = context.config
    clips = set().union(*(clip_names(episodes) for episodes in context.episodes.values()))
    has_root = context.split.root is not None
    missing = []
    if context.split.generator is None:
        missing = sorted(n for n in clips if not (has_root and context.clip_path(n).exists()))
    runners = build_row_runners(context)
    for runner in runners:
        check_run(config.output_folder / runner.row.slug, runner.identity())
    estimator = TimeEstimator(one_thread=one_thread)
    rows = []
    with stage(progress, "estimate", len(runners), "rows") as advance:
        for runner, work in zip(runners, count_work(runners), strict=True):
            rows.append(estimator.estimate(runner, work))
            advance(1)
    first_episode = context.episodes[config.shot[0]][0]
    cost = {
        "clips": len(clips),
        "missing_clips": missing,
        **generation_cost(context, clips),
        "device": str(context.encoder.tower.device),
        "rows": rows,
        "seconds": round(sum(row["seconds"] for row in rows), 1),
        "memory_mb": max((row["memory_mb"] for row in rows), default=0),
        "processes": estimate_processes(rows, count_cores()),
        "trials": estimator.trials(),
    }
    return {
        "config": config.model_dump(mode="json"),
        "first_episode": first_episode.to_dict(),
        "class_texts": None if config.class_texts is None else config.class_texts.counts(),
        "notes": _notes_of(runners),
        "cost": cost,
    }
