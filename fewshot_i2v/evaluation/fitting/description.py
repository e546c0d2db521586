"""What a fitted model says of itself: its threshold for none of the classes, and its card."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewshot_i2v.evaluation.fitting.candidates import Candidate
from fewshot_i2v.evaluation.fitting.held_out import HeldOutLogits, predict_held_out
from fewshot_i2v.evaluation.fitting.job import MIN_CLASSES_TO_REJECT, FitJob
from fewshot_i2v.evaluation.fitting.labels import describe_labels
from fewshot_i2v.evaluation.identity import package_versions
from fewshot_i2v.evaluation.prediction import rejection_scores
from fewshot_i2v.evaluation.row_runner import RowRunner
from fewshot_i2v.models.checkpoints.model_file import RejectionFacts
from fewshot_i2v.statistics.rejection import Rejection, auroc, choose_threshold
from fewshot_i2v.statistics.temperature import softmax

_SCORES = ("probability", "logit")


def choose_rejection(
    job: FitJob,
    runner: RowRunner,
    held_out: HeldOutLogits | None,
    temperature: float,
    reject: float,
) -> RejectionFacts | None:
    """Chooses how clips of none of the classes are told, by leaving each class out in turn."""
    if not reject:
        return None
    needed = int(np.ceil(1 / reject)) - 1
    if held_out is None or len(job.classes) < MIN_CLASSES_TO_REJECT or len(held_out.names) < needed:
        clips = 0 if held_out is None else len(held_out.names)
        job.notes.append(
            f'"none of these" is off: got {len(job.classes)} classes and {clips} held-out clips; '
            f"expected {MIN_CLASSES_TO_REJECT} and {needed}"
        )
        return None
    unknown, fewer = _predict_left_out_classes(job, runner)
    groups = job.clips.groups
    choices: list[tuple[float, str, Rejection]] = []
    for score in _SCORES:
        known_scores = _scores(score, held_out, temperature)
        unknown_scores = np.concatenate([_scores(score, part, temperature) for part in unknown])
        chosen = choose_threshold(
            known_scores,
            unknown_scores,
            unknown_classes=[
                name for name, part in zip(job.classes, unknown, strict=True) for _ in part.names
            ],
            reject_known=reject,
            known_groups=[groups[name] for name in held_out.names],
            unknown_scores_of_fewer=np.concatenate(
                [_scores(score, part, temperature) for part in fewer]
            ),
        )
        choices.append((auroc(known_scores, unknown_scores), score, chosen))
    _, score, rejection = max(choices, key=lambda choice: choice[0])
    return RejectionFacts.model_validate({"score": score, **asdict(rejection)})


def _scores(score: str, held_out: HeldOutLogits, temperature: float) -> NDArray[np.float64]:
    return rejection_scores(score, held_out.logits, softmax(held_out.logits, temperature))


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
    with job.bar(len(chosen), "left-out classes", "class") as progress_bar:
        parts = [
            predict_held_out(runner, [episode], progress_bar.update, known=False)
            for episode in chosen
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


def make_card(
    chosen: Candidate,
    candidates: Sequence[Candidate],
    temperature: float,
    classes: Sequence[str],
    *,
    has_seen_start: bool,
) -> dict[str, Any]:
    """What else the model says of itself, in plain values."""
    tried = [
        {
            "method": candidate.label,
            "parameters": candidate.parameters,
            "accuracy": None if candidate.accuracy is None else vars(candidate.accuracy),
            "chosen": candidate is chosen,
        }
        for candidate in candidates
    ]
    labels = {}
    if chosen.held_out is not None:
        labels = describe_labels(chosen.held_out, temperature, classes)
    versions = package_versions()
    return {"tried": tried, "seen_start": has_seen_start, "versions": versions, **labels}
