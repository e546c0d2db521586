"""The main job: which episodes remain, load, tune, predict, record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from fewshot_i2v.config.evaluation import RunConfig
from fewshot_i2v.data.episodes.episode import EpisodeSpec
from fewshot_i2v.errors import ConfigError, TooManyFailuresError
from fewshot_i2v.evaluation.context import Workspace
from fewshot_i2v.evaluation.episode_results import failed_record
from fewshot_i2v.evaluation.identity import whole
from fewshot_i2v.evaluation.results import EvaluationResult
from fewshot_i2v.evaluation.row_expansion import expand_rows, load_config
from fewshot_i2v.evaluation.row_runner import RowRunner
from fewshot_i2v.evaluation.time_estimate import row_cost
from fewshot_i2v.evaluation.until import note_end, run_until
from fewshot_i2v.runs.row_summary import RowResult
from fewshot_i2v.runs.run_folder import RunFolder
from fewshot_i2v.runs.run_index import start_names
from fewshot_i2v.statistics import mean_interval
from fewshot_i2v.utils.progress import bar


def evaluate(
    config: RunConfig | str | Path | Mapping[str, Any] | None = None, **overrides: Any
) -> EvaluationResult:
    """Evaluates adapters on few-shot episodes, as `fewshot-i2v evaluate` does.

    Args:
        config: a `RunConfig`, the name of a shipped configuration, a path to a YAML file, or a
            mapping of its keys; None is the shipped `quickstart`.
        overrides: keys that replace those of the configuration, such as `episodes=50`.

    Returns:
        One row per adapter, start, head and shot.

    Raises:
        FewshotError: as the command does, see `fewshot_i2v.errors`.
    """
    if isinstance(config, RunConfig):
        config = config.model_dump(exclude_unset=True)
    return run(load_config(config, overrides))


def run(
    config: RunConfig, *, progress: bool = False, retry_failed: bool = False
) -> EvaluationResult:
    """Runs what is missing of an evaluation, and returns all of it.

    Args:
        config: what to evaluate.
        progress: whether to show bars on standard error.
        retry_failed: whether episodes recorded as failed run again.

    Raises:
        FewshotError: see `fewshot_i2v.errors`; finished episodes are on disk by then.
    """
    output = config.output_folder
    work = Workspace.of(config)
    runners = _runners(work)

    def _rows() -> list[RowResult]:
        results = []
        for runner in runners:
            work.forget(keep=[later.bank_key for later in runners[runner.position :]])
            place = output / runner.row.slug
            results.append(_run_row(runner, place, progress=progress, retry_failed=retry_failed))
        return results

    stopped = None
    if config.until is None:
        rows = _rows()
    else:
        rows, stopped = run_until(config.until, work, _rows)
        note_end(runners, rows, stopped)
    rows = _with_start_names(rows, runners)
    remarks = tuple(dict.fromkeys(remark for runner in runners for remark in runner.remarks))
    name, encoder = work.split.name, config.encoder.name
    return EvaluationResult(tuple(rows), output, work.way, name, encoder, remarks, stopped)


def _with_start_names(rows: Sequence[RowResult], runners: Sequence[RowRunner]) -> list[RowResult]:
    """The rows; starts of one adapter and one name are called by what tells their paths apart."""
    starts = [
        (runner.row.adapter.label, *((start.name, whole(start.folder)) if start else ("", "")))
        for runner, start in ((runner, runner.start) for runner in runners)
    ]
    return [
        replace(row, start_name=name) for row, name in zip(rows, start_names(starts), strict=True)
    ]


def _runners(work: Workspace) -> list[RowRunner]:
    """The rows, tried out: what is wrong with an adapter or head shows before any decoding.

    Raises:
        ConfigError: for a head whose parameters no step would train, which would score like
            guessing, or that cannot be trained on some support clips at a time.
        UsageError: when an adapter or head cannot be built.
    """
    runners = [
        RowRunner(row, work, position) for position, row in enumerate(expand_rows(work.config))
    ]
    for runner in runners:
        parameters, row = runner.parameters, runner.row  # builds both
        if row.tuning.batch and parameters and not runner.head([0]).by_clip:
            raise ConfigError(
                f"tuning.batch: head {row.head.label} compares support clips with each other and "
                "needs all of them in every step; leave tuning.batch out, or give a head that does "
                "not, such as linear"
            )
        if row.tuning.steps or not parameters:
            continue
        count = sum(p.numel() for p in runner.head([0]).parameters())
        if count:
            raise ConfigError(
                f"head: {row.head.label} has {count} parameters of its own, which no step trains "
                f"(tuning.steps is 0 for {row.adapter.label}); give --steps of 1 or more, or a "
                "head without parameters, such as prototype, otam, bi-mhm or nearest"
            )
    return runners


def _run_row(runner: RowRunner, path: Path, *, progress: bool, retry_failed: bool) -> RowResult:
    about, identity = runner.header()
    with RunFolder.open(path, about, identity=identity) as folder:
        specs = runner.specs
        todo = _missing(specs, folder, retry_failed=retry_failed)
        runner.work.prepare(_clips_of(_batches_of(specs, todo, runner.at_once)), progress=progress)
        folder.keep_clips(runner.work.contents(_clips_of(_answered(specs, folder, todo))))
        _record_failures(runner, folder, specs, todo)
        _run_batches(runner, folder, specs, todo, progress=progress)
        result = _result(runner, folder, len(specs))
        folder.write_summary(result.to_dict())
        return result


def _missing(
    specs: Sequence[EpisodeSpec], folder: RunFolder, *, retry_failed: bool
) -> list[EpisodeSpec]:
    again = folder.records.failed if retry_failed else ()
    return [s for s in specs if s.index not in folder.records or s.index in again]


def _batches_of(
    specs: Sequence[EpisodeSpec], todo: Sequence[EpisodeSpec], size: int
) -> list[EpisodeSpec]:
    """All episodes of the batches that have something to do; they are computed as a whole."""
    wanted = {spec.index // size for spec in todo}
    return [spec for spec in specs if spec.index // size in wanted]


def _answered(
    specs: Sequence[EpisodeSpec], folder: RunFolder, todo: Sequence[EpisodeSpec]
) -> list[EpisodeSpec]:
    """Episodes that are done or will be: a clip of one that failed may still be mended."""
    new = {spec.index for spec in todo}
    return [s for s in specs if s.index in new or folder.records[s.index].status == "ok"]


def _clips_of(specs: Sequence[EpisodeSpec]) -> set[str]:
    return {name for spec in specs for name in spec.clips()}


def _record_failures(
    runner: RowRunner,
    folder: RunFolder,
    specs: Sequence[EpisodeSpec],
    todo: Sequence[EpisodeSpec],
) -> None:
    """Records the episodes that cannot run, and stops when they are too many."""
    errors = [(spec, runner.failure(spec)) for spec in todo]
    folder.append([failed_record(s, error) for s, error in errors if error is not None])
    mended = {spec.index for spec, error in errors if error is None}
    failed = len({spec.index for spec in specs} & folder.records.failed - mended)
    if failed > runner.row.max_failed:
        bad = runner.work.unreadable.values()
        shown = "\n".join(f"  {error}" for error in list(bad)[:20])
        more = f"\n  ... and {len(bad) - 20} more" if len(bad) > 20 else ""
        raise TooManyFailuresError(
            f"{failed} episodes of {folder.path} cannot run, more than --max-failed "
            f"{runner.row.max_failed} allows; clips that cannot be read in this run:\n"
            f"{shown or '  none (recorded earlier)'}{more}\n"
            "`fewshot-i2v episodes check` looks at every clip of a split. Mend or replace them "
            "and run the same command with --retry-failed, or raise --max-failed"
        )


def _run_batches(
    runner: RowRunner,
    folder: RunFolder,
    specs: Sequence[EpisodeSpec],
    todo: Sequence[EpisodeSpec],
    *,
    progress: bool,
) -> None:
    """Runs batches of episodes whose limits do not depend on what is done already.

    An interrupted batch is computed again as a whole and only its missing records are written, so
    that a resumed run gives the same numbers as an uninterrupted one. (One that is extended may
    differ in rounding: its last batch was shorter the first time.)
    """
    size = runner.at_once
    wanted = {spec.index for spec in todo if runner.failure(spec) is None}
    done = [i for i in folder.records if i < len(specs) and i not in wanted]
    accuracies = [r.accuracy for r in folder.records.read(done) if r.accuracy is not None]
    label = f"{runner.row.adapter.label} {runner.row.head.label} {runner.row.shot}-shot"
    if runner.start is not None:
        label += f" from {runner.start.name}"
    with bar(total=len(specs), desc=label, unit="episode", progress=progress) as shown:
        shown.update(len(done))
        for start in range(0, len(specs), size):
            batch = [s for s in specs[start : start + size] if runner.failure(s) is None]
            if not any(s.index in wanted for s in batch):
                continue
            records = [r for r in runner.run(batch) if r.index in wanted]
            folder.append(records)
            accuracies += [r.accuracy for r in records if r.accuracy is not None]
            shown.update(len(records))
            if progress:
                shown.set_postfix_str(_running(accuracies), refresh=False)


def _running(accuracies: Sequence[float]) -> str:
    interval = mean_interval(accuracies)
    width = interval.half_width
    spread = "" if width is None else f" ± {100 * width:.1f}"
    return f"{100 * interval.mean:.1f}{spread} %"


def _result(runner: RowRunner, folder: RunFolder, episodes: int) -> RowResult:
    """The row over the episodes asked for; the folder may hold more."""
    return RowResult.from_records(
        folder.records.read(index for index in sorted(folder.records) if index < episodes),
        adapter=runner.row.adapter.label,
        head=runner.row.head.label,
        shot=runner.row.shot,
        parameters=runner.parameters,
        marks=runner.marks,
        training_seed=runner.row.training_seed,
        folder=folder.path,
    )


def plan(config: RunConfig, *, progress: bool = False) -> dict[str, Any]:
    """What `run` would do, without decoding a clip or writing a file.

    Args:
        config: what to evaluate.
        progress: whether to show a bar on standard error while the rows are tried.

    Returns:
        `config` (resolved), `first_episode` (the clips by name), and `cost`: clips to read, and
        for each row the seconds of an episode as measured on one short trial with empty clips;
        reading the clips and their first pass through the encoder come on top. With `until` it is
        that of the episodes before the first look.
    """
    work = Workspace.of(config)
    config = work.config
    runners = _runners(work)
    tried = bar(runners, desc="estimate", unit="row", progress=progress, leave=False)
    rows = [row_cost(runner, runner.row) for runner in tried]
    clips = set().union(*(_clips_of(specs) for specs in work.specs.values()))
    first = work.specs[config.shot[0]][0]
    cost = {
        "clips": len(clips),
        "device": str(work.encoder.tower.device),
        "rows": rows,
        "seconds": round(sum(row["seconds"] for row in rows), 1),
    }
    resolved = config.model_dump(mode="json")
    return {"config": resolved, "first_episode": first.to_dict(), "cost": cost}
