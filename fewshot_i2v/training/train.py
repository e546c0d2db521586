"""Base training of one adapter: makes a starting point from base classes.

A training is a pure function of its configuration: batches, augmentation and initial values depend
on seed and step alone, and the state on disk holds everything that changes. On the CPU a training
that was killed and resumed therefore ends with the same bytes as one that ran without a stop.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from fewshot_i2v.config.loading import load_train_config
from fewshot_i2v.config.training import TrainingConfig
from fewshot_i2v.config.training_recipes import RecipeUse, take_recipe
from fewshot_i2v.errors import CheckpointError
from fewshot_i2v.models.checkpoints.adapter_checkpoint import write_adapter
from fewshot_i2v.models.checkpoints.files import episode_tensors
from fewshot_i2v.models.checkpoints.metadata import CheckpointMetadata
from fewshot_i2v.models.checkpoints.start_extras import head_facts, rates_facts
from fewshot_i2v.models.checkpoints.starting_point import StartingPoint
from fewshot_i2v.models.encoders.weights import tensor_digest
from fewshot_i2v.training.base_objectives import (
    Classification,
    Episodic,
    EpisodicPlusClassification,
)
from fewshot_i2v.training.batches import LARGE_TRIAL, SMALL_TRIAL, TrainBatches
from fewshot_i2v.training.class_split import TrainValSplit
from fewshot_i2v.training.earlier_start import (
    earlier_trainings,
    history_digest,
    load_start,
    read_earlier_start,
    start_notes,
)
from fewshot_i2v.training.loop import Log, TrainingLoop
from fewshot_i2v.training.meta_objectives import ANIL, MAML, MetaSGD, Reptile
from fewshot_i2v.training.objective import MicroBatch, Objective, build_training_encoder
from fewshot_i2v.training.output_folder import (
    START_KEY,
    check_metadata_size,
    check_output,
    clear_state_folder,
    load_finished,
    lock_output,
    read_finished,
    start_draft,
)
from fewshot_i2v.training.state import AnotherTrainingError, TrainingProgress
from fewshot_i2v.training.validation import EpisodicValidation
from fewshot_i2v.tuning.emulation import emulation_note
from fewshot_i2v.tuning.generation_cost import generation_cost
from fewshot_i2v.tuning.run_context import RunContext, resolve_device, resolve_precision
from fewshot_i2v.utils.environment import device_name, peak_memory_mb, reader_versions
from fewshot_i2v.utils.seeding import deterministic
from fewshot_i2v.utils.timing import LONG_SECONDS, best_seconds
from fewshot_i2v.version import __version__

OBJECTIVES: dict[str, type[Objective]] = {
    "episodic": Episodic,
    "classify": Classification,
    "both": EpisodicPlusClassification,
    "maml": MAML,
    "meta-sgd": MetaSGD,
    "anil": ANIL,
    "reptile": Reptile,
}
"""Objectives by their name in a configuration."""


@dataclass(frozen=True)
class TrainedStart:
    """The result of a training.

    Attributes:
        folder: folder of the starting point.
        info: its `adapter.json`; `about["start"]` says how it was trained.
        seconds: time of the steps of this run; 0 when it was trained before.
        clips_per_second: throughput of these steps without validations; None without any step.
        peak_memory_mb: of this run on a GPU, of the process on the CPU, in MiB.
    """

    folder: Path
    info: CheckpointMetadata
    seconds: float = 0.0
    clips_per_second: float | None = None
    peak_memory_mb: float = 0.0

    @property
    def start(self) -> dict[str, Any]:
        """Facts about the training, in plain values."""
        facts: dict[str, Any] = self.info.about[START_KEY]
        return facts

    @property
    def digest(self) -> str:
        """SHA-256 of the adapter's tensors; equal trainings have equal digests."""
        return str(self.start["digest"])

    def to_dict(self) -> dict[str, Any]:
        """Returns all values in plain types, for JSON."""
        return {
            "folder": str(self.folder),
            "adapter": self.info.adapter.model_dump(),
            "encoder": self.info.encoder.model_dump(),
            "seconds": round(self.seconds, 3),
            "clips_per_second": self.clips_per_second,
            "peak_memory_mb": round(self.peak_memory_mb, 1),
            **self.start,
        }


@dataclass(frozen=True)
class _TrainingSetup:
    """Everything a training needs: options are validated, and no clip is decoded yet."""

    config: TrainingConfig
    recipe: RecipeUse
    context: RunContext
    class_split: TrainValSplit
    start: StartingPoint | None
    objective: Objective
    batches: TrainBatches
    validation: EpisodicValidation | None

    @classmethod
    def of(cls, config: TrainingConfig) -> _TrainingSetup:
        recipe = take_recipe(config)
        config = resolve_precision(recipe.config, resolve_device(config.device))
        context = RunContext.open(config)
        config = config.at_width(context.encoder.tower.width)
        class_split = TrainValSplit.of(context.split, config)
        start = read_earlier_start(config, class_split)
        encoder = build_training_encoder(config, context.encoder.tower)
        objective = OBJECTIVES[config.objective](config, encoder, class_split.classes)
        if start is not None:
            load_start(start, objective, context.encoder)
        batches = TrainBatches(context, config, class_split, objective)
        validation = EpisodicValidation.of(context, class_split, objective)
        return cls(config, recipe, context, class_split, start, objective, batches, validation)

    @property
    def device(self) -> torch.device:
        return self.context.encoder.tower.device

    @property
    def begun_from(self) -> list[dict[str, Any]]:
        """The trainings that led to the start of this one; empty where it begins untrained."""
        return [] if self.start is None else earlier_trainings(self.start)

    def identity(self) -> dict[str, Any]:
        """Returns the values that decide the result."""
        return {
            "config": self.config.identity(),
            "split": self.context.split.digest,
            "encoder": self.context.encoder.digest,
            "device": device_name(self.device),
            **({"start": history_digest(self.begun_from)} if self.begun_from else {}),
            "versions": {
                "fewshot_i2v": __version__,
                "torch": str(torch.__version__),
                "readers": reader_versions(),
            },
        }

    def notes(self, requested: TrainingConfig) -> list[str]:
        """Returns notes for the user: on start and precision, and where rates come from."""
        notes = self.start_notes() + self.precision_notes()
        if requested.recipe != "none":
            notes.append(self.recipe.remark)
        if requested.takes_lr_by_width:
            width = self.context.encoder.tower.width
            notes.append(f"lr {self.config.lr:g}, for an encoder of width {width}")
        return notes

    def start_notes(self) -> list[str]:
        """Returns notes on the starting point that the training begins from."""
        if self.start is None:
            return []
        return start_notes(self.start, self.objective, self.context.encoder)

    def precision_notes(self) -> list[str]:
        """Returns the note that the device emulates the precision, if it does."""
        objective = self.objective
        note = emulation_note(objective.encoder.prefix_tower(objective.grid_sizes))
        return [note] if note else []

    def training_facts(self, status: TrainingProgress, digest: str) -> dict[str, Any]:
        """Returns what a starting point records about its training."""
        config, split, class_split = self.config, self.context.split, self.class_split
        recipe = {"recipe": self.recipe.to_dict()} if self.recipe.taken else {}
        begun_from = {"begun_from": self.begun_from} if self.begun_from else {}
        return {
            "kind": self.objective.kind,
            "objective": config.objective,
            "name": config.name,
            "split": {"name": split.name, "version": split.version, "digest": split.digest},
            "subset": config.subset,
            "classes": list(class_split.classes),
            "validation": {
                "subset": config.validation.subset,
                "classes": list(class_split.validation_classes),
                "clip_names": list(class_split.validation_clips),
            },
            "clips": class_split.clips_digest,
            "clip_names": list(class_split.clips),
            "seed": config.seed,
            "steps": status.step,
            "best_step": status.best_step,
            "curve": [entry.model_dump() for entry in status.curve],
            "digest": digest,
            "device": device_name(self.device),
            "config": config.identity(),
            **recipe,
            **begun_from,
        }

    def write_start(
        self, output: Path, status: TrainingProgress, *, with_extra: bool
    ) -> CheckpointMetadata:
        """Writes the current adapter as a starting point, with head and rates where it has them.

        They are left out where what was trained beside the adapter is of another state.
        """
        adapter = self.objective.encoder.adapter
        facts = self.training_facts(status, tensor_digest(episode_tensors("adapter", adapter, 0)))
        head = self.objective.trained_head() if with_extra else None
        if head is not None:
            facts["head"] = head_facts(head)
        rates = self.objective.inner_rates() if with_extra else {}
        if rates:
            facts["rates"] = rates_facts(rates)
        method = self.config.adapter
        preset = method.options.get("preset")
        with start_draft(output) as draft:
            info = write_adapter(
                draft,
                self.context.encoder,
                method.name,
                adapter,
                None if head is None else self.config.head.name,
                head,
                preset=None if preset is None else str(preset),
                rates=rates,
                about={START_KEY: json.loads(json.dumps(facts))},
            )
        clear_state_folder(output)
        return info


def train(
    config: TrainingConfig | str | Path | Mapping[str, Any] | None = None,
    *,
    progress: bool = False,
    log: Log | None = None,
    finish: bool = False,
    **overrides: Any,
) -> TrainedStart:
    """Trains an adapter on base classes, as `fewshot-i2v train` does.

    The folder then is a starting point. A training that was stopped resumes from its last saved
    state; one that is finished is not run again.

    Args:
        config: a `TrainingConfig`, the name of a shipped configuration, a path to a YAML file, or a
            mapping of its keys; None is the shipped "train/motions", or the defaults where
            `overrides` name a split of other clips. Keys that it does not set come from the recipe
            of the adapter, unless `recipe` is none.
        progress: whether to show progress bars on standard error.
        log: called with notes to show, such as a time estimate before the first step.
        finish: run no further step: make the starting point of the best state so far on the
            validation classes of a training that was stopped, or of its last saved state without
            validation.
        overrides: keys that replace those of the configuration, such as `steps=50`.

    Returns:
        The starting point.

    Raises:
        FewshotError: see `fewshot_i2v.errors`.
    """
    if not isinstance(config, TrainingConfig):
        config = load_train_config(config, overrides)
    elif overrides:
        # with the keys that are not set left to the recipe
        config = load_train_config(config.model_dump(exclude_unset=True), overrides)
    output = config.output_folder
    setup = _TrainingSetup.of(config)
    identity = setup.identity()
    with _explaining_recipe(setup.recipe):
        info = load_finished(output, identity)
    if info is not None:
        return TrainedStart(output, info)
    check_metadata_size(setup.training_facts(TrainingProgress.before_first_step(), ""), output)
    for note in setup.notes(config):
        if log is not None:
            log(note)
    with _explaining_recipe(setup.recipe), lock_output(output):
        steps = (setup.objective, setup.batches, setup.validation)
        loop = TrainingLoop(*steps, output, identity, log)
        if setup.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(setup.device)
        with deterministic(config.deterministic):
            status = loop.finish() if finish else loop.run(show_bar=progress)
        info = setup.write_start(output, status, with_extra=loop.has_start_extra)
    speed = setup.config.clips_per_step * loop.steps / loop.seconds if loop.steps else None
    memory = peak_memory_mb(setup.device, 1)
    return TrainedStart(output, info, loop.seconds, speed and round(speed, 1), memory)


@contextmanager
def _explaining_recipe(recipe: RecipeUse) -> Iterator[None]:
    """Says of a folder with another training where the recipe makes the difference."""
    try:
        yield
    except AnotherTrainingError as error:
        differing = [f"{key}." for key in error.keys]
        keys = [
            key for key in recipe.taken if any(k.startswith(f"config.{key}.") for k in differing)
        ]
        if not keys:
            raise
        raise CheckpointError(
            f"{error}; the recipe of {recipe.config.adapter.name} sets {', '.join(keys)}: to go on "
            "without it, --recipe none"
        ) from error


def dry_run(config: TrainingConfig) -> dict[str, Any]:
    """Reports what `train` would do, without decoding a clip or writing a file.

    Returns:
        `config` (resolved), `recipe` (what is taken from it, and what is not), `notes` (on the
        starting point that it begins from, the precision, and the output folder), `classes`
        (training and validation), `first_batch` (the clips of the first step by name) and `cost`:
        clips to read and to generate, seconds of the steps and memory, reckoned from short trials
        with a few clips of noise; generating, reading and augmenting clips, and validations, come
        on top.

    Raises:
        FewshotError: as `train`, also where the output folder holds another training.
    """
    check_output(config.output_folder)
    setup = _TrainingSetup.of(config)
    notes = [*setup.start_notes(), *setup.precision_notes(), *_notes_on_output(setup)]
    validation_clips = [] if setup.validation is None else setup.validation.clips
    seconds, memory = _measure_micro_batch(setup)
    config = setup.config
    return {
        "config": config.model_dump(mode="json"),
        "recipe": setup.recipe.to_dict(),
        "notes": notes,
        "classes": {
            "trained": list(setup.class_split.classes),
            "watched": list(setup.class_split.validation_classes),
        },
        "first_batch": setup.batches.clip_names(0),
        "cost": {
            "device": str(setup.device),
            "clips": len(setup.class_split.clips),
            "validation_clips": len(validation_clips),
            **generation_cost(setup.context, setup.batches.drawn_clips.union(validation_clips)),
            "parameters": sum(p.numel() for p in setup.objective.encoder.adapter.parameters()),
            "clips_per_step": config.clips_per_step,
            "seconds_per_step": round(seconds * config.accumulate, 4),
            "seconds": round(seconds * config.accumulate * config.steps, 1),
            "memory_mb": round(memory),
        },
    }


def _notes_on_output(setup: _TrainingSetup) -> list[str]:
    """Says what of the training is in its folder; CheckpointError where it is another one."""
    output, identity = setup.config.output_folder, setup.identity()
    with _explaining_recipe(setup.recipe):
        if read_finished(output, identity) is not None:
            return [f"{output} holds this training, finished: nothing would be done"]
        steps = (setup.objective, setup.batches, setup.validation)
        step = TrainingLoop(*steps, output, identity, None).load_state().step
    return (
        [f"{output} holds a state of this training: it goes on after step {step}"] if step else []
    )


def _measure_micro_batch(setup: _TrainingSetup) -> tuple[float, float]:
    """Reckons seconds and peak memory, in MiB, of a micro-batch from a few clips of noise.

    Where a trial of the smallest size takes long, it is all that is measured, and a part of it that
    does not grow with the clips is counted as if it did.
    """
    n_full = setup.config.clips_per_step / setup.config.accumulate
    memory_before = peak_memory_mb(setup.device, 1)
    n_small, seconds, per_clip = 0, 0.0, 0.0
    for size in (SMALL_TRIAL, LARGE_TRIAL):
        micro_batch, n_clips = setup.batches.trial_micro_batch(size)
        if n_clips > n_small:
            previous = n_small, seconds
            seconds = best_seconds(partial(_backward, setup.objective, micro_batch))
            per_clip = max(0.0, seconds - previous[1]) / (n_clips - previous[0])
            n_small = n_clips
        if seconds > LONG_SECONDS:
            break
    trial_memory = peak_memory_mb(setup.device, 1) - memory_before
    return seconds + per_clip * (n_full - n_small), memory_before + trial_memory * n_full / n_small


def _backward(objective: Objective, micro_batch: MicroBatch) -> None:
    """Runs a micro-batch, and waits for the device."""
    objective.backward(micro_batch).value.item()
