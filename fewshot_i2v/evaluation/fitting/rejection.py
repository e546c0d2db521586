"""Chooses how a fitted model tells clips of none of its classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fewshot_i2v.config.evaluation import RowConfig
from fewshot_i2v.evaluation.fitting.held_out import HeldOutLogits, batches_of, join_batches
from fewshot_i2v.evaluation.fitting.job import MIN_CLASSES_TO_REJECT, FitJob
from fewshot_i2v.evaluation.fitting.workers import predict_batches
from fewshot_i2v.evaluation.nearest_clip import NEAREST, nearest_clip_head
from fewshot_i2v.evaluation.prediction import rejection_scores
from fewshot_i2v.evaluation.row_runner import RowRunner
from fewshot_i2v.models.checkpoints.model_file import RejectionFacts
from fewshot_i2v.statistics.rejection import Rejection, choose_threshold
from fewshot_i2v.statistics.temperature import softmax


@dataclass(frozen=True, eq=False)
class _LeftOut:
    """Logits of clips by models that have not seen them, or not their class.

    Attributes:
        known: held-out clips of the classes.
        unknown: clips of each class, without it.
        fewer: the same without one more class.
    """

    known: HeldOutLogits
    unknown: Sequence[HeldOutLogits]
    fewer: Sequence[HeldOutLogits]


def choose_rejection(
    job: FitJob,
    runner: RowRunner,
    held_out: HeldOutLogits | None,
    temperature: float,
    reject: float,
) -> RejectionFacts | None:
    """Chooses how clips of none of the classes are told, by leaving each class out in turn.

    Of the scores the one is taken that separates these clips best from held-out ones, by the area
    under the curve; of equal ones the first.

    Args:
        job: clips, folds and encoder.
        runner: of the chosen method.
        held_out: its predictions of held-out clips; None: there are none.
        temperature: of its probabilities.
        reject: share of the clips of the classes that may be rejected; 0: off.
    """
    if not reject:
        return None
    needed = int(np.ceil(1 / reject)) - 1
    if held_out is None or len(job.classes) < MIN_CLASSES_TO_REJECT or len(held_out.names) < needed:
        n_clips = 0 if held_out is None else len(held_out.names)
        job.notes.append(
            f'"none of these" is off: got {len(job.classes)} classes and {n_clips} held-out clips; '
            f"expected {MIN_CLASSES_TO_REJECT} and {needed}"
        )
        return None
    own = _LeftOut(held_out, *_predict_left_out_classes(job, runner))
    clips = {"probability": own, "logit": own}
    nearest = _nearest_clip_row(runner)
    if nearest is not None:
        other = job.runner(nearest, job.shot)
        batches = batches_of(other, job.folds)
        (predicted,) = predict_batches(job, [(other, batches)], lambda _: None)
        known = join_batches(batches, predicted.logits)
        clips[NEAREST] = _LeftOut(known, *_predict_left_out_classes(job, other))
    choices = {
        score: _choose_threshold(job, score, parts, temperature, reject)
        for score, parts in clips.items()
    }
    score = max(choices, key=lambda score: choices[score].auroc)
    return RejectionFacts.model_validate({"score": score, **asdict(choices[score])})


def _choose_threshold(
    job: FitJob, score: str, clips: _LeftOut, temperature: float, reject: float
) -> Rejection:
    groups = job.clips.groups
    return choose_threshold(
        _scores(score, clips.known, temperature),
        np.concatenate([_scores(score, part, temperature) for part in clips.unknown]),
        unknown_classes=[
            name for name, part in zip(job.classes, clips.unknown, strict=True) for _ in part.names
        ],
        reject_known=reject,
        known_groups=[groups[name] for name in clips.known.names],
        unknown_scores_of_fewer=np.concatenate(
            [_scores(score, part, temperature) for part in clips.fewer]
        ),
    )


def _scores(score: str, held_out: HeldOutLogits, temperature: float) -> NDArray[np.float64]:
    return rejection_scores(
        score, held_out.logits, softmax(held_out.logits, temperature), held_out.logits
    )


def _nearest_clip_row(runner: RowRunner) -> RowConfig | None:
    """The row whose logits are the similarity to the nearest labelled clip; None: there is none.

    Where something is tuned, another head would be tuned otherwise.
    """
    head = nearest_clip_head(runner.row.head.name, runner.row.head.options)
    if head is None or not runner.is_static:
        return None
    return runner.row.model_copy(update={"head": head})


def _predict_left_out_classes(
    job: FitJob, runner: RowRunner
) -> tuple[list[HeldOutLogits], list[HeldOutLogits]]:
    """Predicts the clips of each class without it, and without one more class.

    Where something is tuned, a model without two classes is that without one, less its logit: to
    tune a model for every pair would take too long.
    """
    episodes = job.context.episodes[job.shot][len(job.folds) + 1 :]
    single = episodes[: len(job.classes)]
    chosen = episodes if runner.is_static else single
    batches = [[episode] for episode in chosen]
    with job.bar(len(chosen), "left-out classes", "class") as progress_bar:
        (predicted,) = predict_batches(job, [(runner, batches)], progress_bar.update)
    parts = [
        join_batches([batch], [values], known=False)
        for batch, values in zip(batches, predicted.logits, strict=True)
    ]
    unknown = parts[: len(single)]
    if runner.is_static:
        return unknown, parts[len(single) :]
    fewer = [
        replace(part, logits=np.delete(part.logits, column, axis=1))
        for part in unknown
        for column in range(part.logits.shape[1])
    ]
    return unknown, fewer
