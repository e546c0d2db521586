"""The starting point that a training begins from, in place of untrained values."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from fewshot_i2v.config.start_names import FRESH, start_folder
from fewshot_i2v.config.training import TrainingConfig
from fewshot_i2v.errors import ConfigError
from fewshot_i2v.models.checkpoints.starting_point import (
    SeenOverlap,
    StartingPoint,
    read_start,
)
from fewshot_i2v.models.encoders.loading import Encoder
from fewshot_i2v.training.class_split import VALIDATION_SUBSET, TrainValSplit
from fewshot_i2v.training.objective import Objective


def read_earlier_start(config: TrainingConfig, class_split: TrainValSplit) -> StartingPoint | None:
    """Reads the starting point that a training begins from; None where it begins untrained.

    Raises:
        UnknownNameError, CheckpointError: as `read_start`.
        ConfigError: when the output folder is its own, or one beside it where another start for the
            same adapter must not be; when it was trained on validation classes or clips of this
            training.
    """
    if config.start == FRESH:
        return None
    start = read_start(config.start, config.adapter.name)
    _check_output(config, start)
    if class_split.validation is None:
        return start
    overlap = start.facts.overlap_with(class_split.validation, VALIDATION_SUBSET)
    if overlap.classes or overlap.clips:
        trained = SeenOverlap(overlap.classes, overlap.clips)
        raise ConfigError(
            f"start {start.folder}: the validation classes of this training have {trained}, and so "
            "cannot tell which state is best. Give another validation.subset, other "
            "validation.classes (--val-class), or validation.subset: off to keep the last state"
        )
    return start


def _check_output(config: TrainingConfig, start: StartingPoint) -> None:
    """Raises where the output folder would take the place of the start, or stand beside it."""
    output, folder = config.output_folder.resolve(), start.folder.resolve()
    if output == folder:
        raise ConfigError(
            f"start and output are both {config.output_folder}: give another --output"
        )
    of_several = start_folder(config.start).resolve()
    if of_several != folder and output.parent == of_several:
        raise ConfigError(
            f"--output {config.output_folder}: would be a second starting point for "
            f"{config.adapter.name!r} in {config.start}, of which only one can be used; give a "
            "folder elsewhere"
        )


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
    """Says why the head of a training does not begin as that of the start.

    Empty where it does, and where training or start has no head with parameters.
    """
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
    if start.head is not None and objective.trained_head() is None:
        notes.append(f"the head of the start, {start.head.method.name}, is not trained further")
    if start.rates is not None and objective.inner_rates():
        notes.append("the inner rates begin as inner.lr, and not as those of the start")
    return notes


def earlier_trainings(start: StartingPoint) -> list[dict[str, Any]]:
    """Returns what the start of a training records about the one that it began from.

    All that this one says about itself but its curve, and then what it records about those before,
    so that evaluations know every class and clip that was seen.
    """
    facts = dict(start.metadata.about["start"])
    before: list[dict[str, Any]] = facts.pop("begun_from", [])
    facts.pop("curve", None)
    return [{**facts, "start_name": start.name, "digest": start.digest}, *before]


def history_digest(earlier: Sequence[Mapping[str, Any]]) -> str:
    """Returns a sha256 of earlier trainings: of the values that one begins from, and what they saw.

    Args:
        earlier: as from `earlier_trainings`; names of folders do not count.
    """
    nameless = [{key: facts[key] for key in facts if key != "start_name"} for facts in earlier]
    return hashlib.sha256(json.dumps(nameless, sort_keys=True).encode()).hexdigest()
