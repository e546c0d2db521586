"""How long a fit would take, from short trials of its methods."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from fewshot_i2v.data.splits.builder.labelled_clips import LabelledClips
from fewshot_i2v.evaluation.fitting.job import MIN_CLASSES_TO_REJECT, FitJob
from fewshot_i2v.evaluation.fitting.preparation import prepare_fit
from fewshot_i2v.evaluation.precision_notes import precision_notes
from fewshot_i2v.evaluation.row_runner import RowRunner
from fewshot_i2v.evaluation.row_work import count_work
from fewshot_i2v.evaluation.time_estimate import TimeEstimator
from fewshot_i2v.utils.text_table import count_text
from fewshot_i2v.utils.timing import format_seconds

_OPTIONS = ("race", "processes")
"""Settings of a fit that `prepare_fit` does not take."""


@dataclass(frozen=True)
class MethodForecast:
    """Estimated cost of a method in a fit, in one process.

    Attributes:
        adapter: with its options.
        start: of the adapter.
        head: with its options.
        is_tuned: whether anything is fine-tuned; if not, it takes seconds.
        folds: parts of the clips that are held out in turn.
        seconds: to predict them all.
        seconds_if_fitted: further ones, if it is the method that is fitted: on all clips, and
            without each of the classes for "none of these".
        memory_mb: peak, in MiB.
    """

    adapter: str
    start: str
    head: str
    is_tuned: bool
    folds: int
    seconds: float
    seconds_if_fitted: float
    memory_mb: int


@dataclass(frozen=True)
class FitForecast:
    """Estimated cost of a fit.

    Attributes:
        clips: labelled clips that can be read.
        classes: number of classes.
        methods: that would be tried, in order.
        device: for which it was estimated.
        notes: messages for the user, a sentence each.
    """

    clips: int
    classes: int
    methods: tuple[MethodForecast, ...]
    device: str
    notes: tuple[str, ...]

    @property
    def seconds(self) -> float:
        """Of all methods on all held-out clips, and of the dearest fit: the longest it takes."""
        further = max(method.seconds_if_fitted for method in self.methods)
        return sum(method.seconds for method in self.methods) + further

    def to_dict(self) -> dict[str, Any]:
        """Returns plain types, for JSON."""
        return {**asdict(self), "seconds": round(self.seconds, 1)}


def forecast_fit(labelled: LabelledClips, *, reject: float = 0.05, **settings: Any) -> FitForecast:
    """Estimates how long a fit would take; the settings are those of `FewShotClassifier`.

    The clips are decoded, and stay in the cache. A few clips of noise are then passed through each
    method (`evaluation/time_estimate.py`).
    """
    prepared = {key: value for key, value in settings.items() if key not in _OPTIONS}
    job, rows = prepare_fit(labelled, **prepared)
    shot = job.fold_shot if job.folds else job.shot
    runners = [job.runner(row, shot, position) for position, row in enumerate(rows)]
    methods = estimate_methods(job, runners, rejects=reject > 0)
    device = str(job.context.encoder.tower.device)
    clips, classes = len(job.clips.names), len(job.classes)
    notes = (*job.notes, *precision_notes(runners))
    return FitForecast(clips, classes, tuple(methods), device, notes)


def estimate_methods(
    job: FitJob, runners: Sequence[RowRunner], *, rejects: bool
) -> list[MethodForecast]:
    """Estimates what methods cost in a fit.

    Args:
        job: clips and folds.
        runners: of the methods, for folds.
        rejects: whether "none of these" is measured, without each class in turn.
    """
    # without folds only the memory is read of it
    episodes = job.folds or job.context.episodes[job.shot][:1]
    estimator, works = TimeEstimator(), count_work(runners, episodes)
    return [
        _forecast(job, runner, estimator.estimate(runner, work), estimator, rejects=rejects)
        for runner, work in zip(runners, works, strict=True)
    ]


def _forecast(
    job: FitJob,
    runner: RowRunner,
    cost: Mapping[str, Any],
    estimator: TimeEstimator,
    *,
    rejects: bool,
) -> MethodForecast:
    is_tuned = runner.is_tuned
    further = 0.0
    if is_tuned:
        with_classes = rejects and bool(job.folds) and len(job.classes) >= MIN_CLASSES_TO_REJECT
        first, count = len(job.folds), 1 + len(job.classes) * with_classes
        episodes = job.context.episodes[job.shot][first : first + count]
        runner_of_all = job.runner(runner.row, job.shot, runner.position)
        (work,) = count_work([runner_of_all], episodes)
        further = estimator.estimate(runner_of_all, work)["seconds"]
    row = runner.row
    return MethodForecast(
        adapter=row.adapter.label,
        start=row.start,
        head=row.head.label,
        is_tuned=is_tuned,
        folds=len(job.folds),
        seconds=cost["seconds"] if job.folds else 0.0,
        seconds_if_fitted=further,
        memory_mb=cost["memory_mb"],
    )


def forecast_line(methods: Sequence[MethodForecast], *, stops: bool) -> str:
    """Writes how long the fine-tuning of a fit takes, before it starts."""
    tuned = [method for method in methods if method.is_tuned]
    parts = count_text(tuned[0].folds, "part")
    each = ", ".join(f"{m.adapter} {format_seconds(m.seconds)}" for m in tuned)
    most = "at most about" if stops else "about"
    further = max(method.seconds_if_fitted for method in tuned)
    return (
        f"fine-tuning for {parts} of held-out clips takes {most} "
        f"{format_seconds(sum(m.seconds for m in tuned))} in one process of a machine as busy as "
        f"now ({each}); a fine-tuned method that is then fitted takes about "
        f"{format_seconds(further)} more"
    )
