"""The starting point that a training begins from, in place of untrained values."""

from __future__ import annotations

from typing import Any

from fewshot_i2v.config.start_names import FRESH
from fewshot_i2v.config.training import TrainingConfig
from fewshot_i2v.errors import ConfigError
from fewshot_i2v.models.checkpoints.starting_point import StartingPoint, read_start
from fewshot_i2v.models.encoders.loading import Encoder
from fewshot_i2v.training.class_split import VALIDATION_SUBSET, TrainValSplit
from fewshot_i2v.training.objective import Objective


def read_first_start(config: TrainingConfig, class_split: TrainValSplit) -> StartingPoint | None:
    """Reads the starting point that a training begins from; None where it begins untrained.

    Raises:
        UnknownNameError, CheckpointError: as `read_start`.
        ConfigError: when it was trained on validation classes or clips of this training.
    """
    if config.start == FRESH:
        return None
    start = read_start(config.start, config.adapter.name)
    if class_split.validation is None:
        return start
    overlap = start.facts.overlap_with(class_split.validation, VALIDATION_SUBSET)
    if overlap.classes or overlap.clips:
        raise ConfigError(
            f"start {start.folder}: of the validation classes of this training it was trained on "
            f"{overlap}; they cannot tell which state is best. Give another validation.subset, "
            "other validation.classes (--val-class), or validation.subset: off to keep the last "
            "state"
        )
    return start


def load_start(start: StartingPoint, objective: Objective, encoder: Encoder) -> None:
    """Loads the adapter of a starting point into that of a training, and its head where it fits.

    Raises:
        CheckpointError: when method, options or encoder differ from those of its training, or the
            number of frames or the input size where parameters depend on them; naming both.
    """
    start.load_into(objective.encoder.adapter, encoder)
    head = objective.trained_head()
    if start.head is not None and head is not None and not _why_head_is_fresh(start, objective):
        start.head.load_into(head)


def _why_head_is_fresh(start: StartingPoint, objective: Objective) -> str:
    """Says why a head with parameters does not begin as that of the start; empty where it does."""
    head, config = objective.trained_head(), objective.config
    if start.head is None or head is None:
        return ""
    tower = objective.encoder.tower
    return start.head.why_fresh(config.head, tower, frames=config.video.frames, way=head.way)


def start_notes(start: StartingPoint, objective: Objective, encoder: Encoder) -> list[str]:
    """Returns notes for the user: what the training begins from, and what of it is not used."""
    config, facts = objective.config, start.facts
    notes = [
        f"{config.adapter.name} begins from {start.folder}: {facts.kind} with {facts.steps} steps "
        f"on {facts.subset!r} of split {facts.split.name!r}"
    ]
    mismatch = start.input_mismatch(config.video, config.precision, encoder)
    if mismatch:
        notes.append(f"clips are read with other settings than for its start: {mismatch}")
    reason = _why_head_is_fresh(start, objective)
    if reason:
        notes.append(f"the head begins fresh, and not as that of the start: {reason}")
    if start.rates is not None and objective.inner_rates():
        notes.append("the inner rates begin as inner.lr, and not as those of the start")
    return notes


def earlier_start_facts(start: StartingPoint) -> dict[str, Any]:
    """Returns what the start of a training records about the one that it began from.

    All of its facts but the curve, so that evaluations know every class and clip that it has seen.
    """
    facts = start.facts.model_dump(mode="json", exclude_none=True)
    facts.pop("curve", None)
    return {**facts, "name": start.name, "digest": start.digest}
