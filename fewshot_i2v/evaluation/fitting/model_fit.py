"""Fits a model to labelled clips: what is tried, and the choice among it.

The methods to try predict held-out clips by models that have not seen them; one of them is chosen,
and fine-tuned on all clips. What these predictions say is in the model: the accuracy to expect, the
temperature of its probabilities, and the threshold below which a clip is of none of the classes.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple

from fewshot_i2v.config.evaluation import RowConfig
from fewshot_i2v.data.splits.builder.labelled_clips import LabelledClips
from fewshot_i2v.errors import UsageError
from fewshot_i2v.evaluation.engines.jobs import WorkerPool
from fewshot_i2v.evaluation.engines.pools import spread_over_gpus
from fewshot_i2v.evaluation.engines.processes import ProcessPool
from fewshot_i2v.evaluation.fitting.candidates import Candidate, choose_candidate
from fewshot_i2v.evaluation.fitting.description import make_card
from fewshot_i2v.evaluation.fitting.job import FitJob
from fewshot_i2v.evaluation.fitting.preparation import prepare_fit
from fewshot_i2v.evaluation.fitting.race import Race
from fewshot_i2v.evaluation.fitting.rejection import choose_rejection
from fewshot_i2v.evaluation.fitting.workers import FitWorkers
from fewshot_i2v.evaluation.precision_notes import precision_notes
from fewshot_i2v.evaluation.row_runner import RowRunner
from fewshot_i2v.evaluation.support_features import encode_support, support_tensors
from fewshot_i2v.models.checkpoints.adapter_checkpoint import checkpoint_content
from fewshot_i2v.models.checkpoints.metadata import CheckpointMetadata
from fewshot_i2v.models.checkpoints.model_file import (
    SCHEMA_VERSION,
    ModelDescription,
    ModelFile,
    ShareFacts,
    tensor_facts,
)
from fewshot_i2v.statistics.shares import Share
from fewshot_i2v.statistics.temperature import fit_temperature
from fewshot_i2v.utils.progress import show_notes


@dataclass(frozen=True, eq=False)
class TriedMethods:
    """Methods that predicted the held-out clips of a fit.

    Attributes:
        job: clips, folds and encoder.
        candidates: what was tried, in this order.
        chosen: the simplest of the best.
        accuracy: to expect of it on new clips; None where no clip could be held out.
    """

    job: FitJob
    candidates: tuple[Candidate, ...]
    chosen: Candidate
    accuracy: Share | None

    @property
    def notes(self) -> tuple[str, ...]:
        """Messages for the user, a sentence each."""
        return tuple(self.job.all_notes)


class FittedModel(NamedTuple):
    """Content of the file of a fitted model, and what was tried."""

    model: ModelFile
    tried: TriedMethods


def fit_model(
    labelled: LabelledClips, *, reject: float = 0.05, race: bool = True, **settings: Any
) -> FittedModel:
    """Fits a model; the settings are those of `FewShotClassifier`."""
    if not 0 <= reject < 1:
        raise UsageError(f"reject: got {reject}; expected a share from 0 (off) to below 1")
    with _start_workers(labelled, settings) as pool:
        tried = try_methods(labelled, pool=pool, race=race, rejects=reject > 0, **settings)
        return FittedModel(_fit_chosen(tried, reject), tried)


def _start_workers(
    labelled: LabelledClips, settings: dict[str, Any]
) -> AbstractContextManager[WorkerPool | None]:
    """Takes the number of processes from the settings of a fit, and starts them."""
    processes = settings.pop("processes", None)
    if processes is None:
        return nullcontext()
    if not isinstance(processes, int) or processes < 1:
        raise UsageError(f"processes: got {processes!r}; expected a number of 1 or more")
    spec = FitWorkers(labelled, {**settings, "progress": False, "workers": 1})
    gpus = spread_over_gpus(settings.get("device", "auto"), processes)
    return closing(ProcessPool(spec, processes, gpus=gpus))


def try_methods(
    labelled: LabelledClips,
    *,
    pool: WorkerPool | None = None,
    race: bool = True,
    rejects: bool = False,
    **settings: Any,
) -> TriedMethods:
    """Predicts held-out clips by every method, as the first half of a fit."""
    job, rows = prepare_fit(labelled, is_shared=pool is not None, **settings)
    job.pool = pool
    candidates, (chosen, accuracy) = _try_rows(job, rows, race=race, rejects=rejects)
    return TriedMethods(job, tuple(candidates), chosen, accuracy)


def _try_rows(
    job: FitJob, rows: Sequence[RowConfig], *, race: bool, rejects: bool
) -> tuple[list[Candidate], tuple[Candidate, Share | None]]:
    """Predicts the held-out clips by every method, and chooses one of them."""
    shot = job.fold_shot if job.folds else job.shot
    runners = [job.runner(row, shot, position) for position, row in enumerate(rows)]
    for runner in runners:
        _ = runner.sizes  # raises before anything is computed
    _say_precision(job, runners)
    if not job.folds:
        candidates = [
            Candidate(runner.row, runner.parameters, None, None, 0.0, runner.position)
            for runner in runners
        ]
        return candidates, choose_candidate(candidates, job.clips.groups)
    _note_seen_starts(job, runners)
    static_keys = _encode_for_static_rows(job, runners)
    return Race(job, runners, stops=race, rejects=rejects).run(static_keys)


def _say_precision(job: FitJob, runners: Sequence[RowRunner]) -> None:
    """Shows that the device emulates the precision, or notes it where nothing is shown."""
    notes = precision_notes(runners)
    show_notes(job.progress, [f"note: {note}" for note in notes])
    job.notes += [] if job.progress else notes


def _note_seen_starts(job: FitJob, runners: Sequence[RowRunner]) -> None:
    """Notes starts that were trained on these classes or clips, which `allow_seen` lets pass."""
    for runner in runners:
        start = runner.start
        if start is not None and start.facts.overlap_with(job.clips.split, job.clips.subset):
            job.notes.append(
                f"the start {runner.row.start} of {runner.row.adapter.name} was trained on these "
                "classes or clips: with it, the accuracy to expect is promised too high"
            )
            job.has_seen_start = True


def _encode_for_static_rows(job: FitJob, runners: Sequence[RowRunner]) -> list[Hashable]:
    """Encodes the clips once for rows of one untuned adapter; returns keys of their caches."""
    groups: dict[tuple[str, str, str], list[RowRunner]] = {}
    for runner in runners:
        row = runner.row
        if runner.is_static:
            groups.setdefault((row.adapter.label, row.start, repr(row.video)), []).append(runner)
    for group in groups.values():
        encoder = group[0].build_encoder([0])
        heads = {runner.cache_key: runner.build_head([0]) for runner in group}
        with job.bar(len(job.clips.names), "encode", "clip") as progress_bar:
            job.context.fill_feature_caches(encoder, heads, job.clips.names, progress_bar.update)
    return [runner.cache_key for group in groups.values() for runner in group]


def _fit_chosen(tried: TriedMethods, reject: float) -> ModelFile:
    """Fine-tunes the chosen method on all clips, and describes the model."""
    job, chosen, accuracy = tried.job, tried.chosen, tried.accuracy
    context, held_out = job.context, chosen.held_out
    episode = context.episodes[job.shot][len(job.folds)]
    runner = job.runner(chosen.row, job.shot, chosen.position)
    job.decode(runner)
    tuned = runner.run_group([episode])
    encoder, head = tuned.encoder, tuned.head
    if runner.is_static:
        cache = context.feature_cache(encoder, runner.cache_key, head)
        support = cache.gather([episode.support_clips])
    else:
        support = encode_support(runner, encoder, head, [episode])
    about: dict[str, Any] = {"source": job.clips.split.name}
    if runner.row.class_texts is not None:
        about["class_texts"] = runner.row.class_texts.to_plain()
    metadata, tensors = checkpoint_content(
        context.encoder,
        runner.row.adapter.name,
        encoder.adapter,
        runner.row.head.name,
        head,
        classes=episode.classes,
        about=about,
    )
    tensors |= support_tensors(support[0], episode)
    temperature = 1.0
    if held_out is not None:
        temperature = fit_temperature(held_out.logits, held_out.labels)
    description = ModelDescription(
        schema_version=SCHEMA_VERSION,
        checkpoint=CheckpointMetadata.model_validate(
            {**metadata, "tensors": tensor_facts(tensors).model_dump()}
        ),
        encoder_source=job.config.encoder,
        precision=runner.precision,
        video=job.config.video,
        tuning=runner.row.tuning.model_dump(mode="json") if chosen.is_tuned else {},
        start=runner.row.start,
        clips={name: [clip.name for clip in clips] for name, clips in job.clips.by_class.items()},
        digests=context.content_digests(job.clips.names),
        accuracy=None if accuracy is None else ShareFacts(**vars(accuracy)),
        folds=len(job.folds),
        temperature=temperature,
        rejection=choose_rejection(job, runner, held_out, temperature, reject),
        card=make_card(
            chosen, tried.candidates, temperature, job.classes, has_seen_start=job.has_seen_start
        ),
    )
    return ModelFile(description, tensors)
