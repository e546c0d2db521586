"""Training one adapter on base classes, watched on others: where a starting point comes from.

A training is a pure function of its configuration: batches, augmentation and initial values are
keyed by seed and step, and the state on disk holds all that changes. On the CPU a training that was
killed and continued therefore ends with the same bytes as one that was not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import torch

from fewshot_i2v.config.loading import load_train_config
from fewshot_i2v.config.training import META, TrainConfig
from fewshot_i2v.models.checkpoints.files import copy_of, digest_of
from fewshot_i2v.models.checkpoints.metadata import AdapterInfo
from fewshot_i2v.models.factory import Workshop
from fewshot_i2v.training.base_objectives import base_objective
from fewshot_i2v.training.batches import TrainBatches
from fewshot_i2v.training.class_split import Roster
from fewshot_i2v.training.loop import Loop, Tell
from fewshot_i2v.training.objective import Objective
from fewshot_i2v.training.output_folder import START, check_room, clear, finished, held, write
from fewshot_i2v.training.state import Progress
from fewshot_i2v.training.validation import Validation
from fewshot_i2v.tuning.run_context import Material
from fewshot_i2v.utils.environment import device_name, peak_memory_mb, reader_versions
from fewshot_i2v.utils.seeding import deterministic
from fewshot_i2v.version import __version__


@dataclass(frozen=True)
class TrainedStart:
    """What came of a training.

    Attributes:
        folder: the starting point.
        info: its `adapter.json`; `about["start"]` says how it was trained.
        seconds: of the steps of this run; 0 when it was trained before.
        clips_per_second: of these steps, validations left out; None without any.
        peak_memory_mb: of this run on a GPU, of the process on the CPU, in MiB.
    """

    folder: Path
    info: AdapterInfo
    seconds: float = 0.0
    clips_per_second: float | None = None
    peak_memory_mb: float = 0.0

    @property
    def start(self) -> dict[str, Any]:
        """How it was trained, in plain values."""
        facts: dict[str, Any] = self.info.about[START]
        return facts

    @property
    def digest(self) -> str:
        """SHA-256 of the adapter's tensors; equal trainings have equal digests."""
        return str(self.start["digest"])

    def to_dict(self) -> dict[str, Any]:
        """Everything in plain values."""
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
class _Setup:
    """A training that is set up: wrong options have shown by then, and nothing is decoded."""

    config: TrainConfig
    material: Material
    roster: Roster
    objective: Objective
    batches: TrainBatches
    validation: Validation | None

    @classmethod
    def of(cls, config: TrainConfig) -> _Setup:
        material = Material.open(config)
        roster = Roster.of(material.split, config)
        workshop = Workshop(config, material.encoder.tower, roster.classes)
        objective = _objective(workshop)
        batches = TrainBatches(material, config, roster, objective)
        validation = Validation.of(material, roster, workshop, objective)
        return cls(config, material, roster, objective, batches, validation)

    @property
    def device(self) -> torch.device:
        return self.material.encoder.tower.device

    def identity(self) -> dict[str, Any]:
        """What decides the result."""
        return {
            "config": self.config.identity(),
            "split": self.material.split.digest,
            "encoder": self.material.encoder.digest,
            "device": device_name(self.device),
            "versions": {
                "fewshot_i2v": __version__,
                "torch": str(torch.__version__),
                "readers": reader_versions(),
            },
        }

    def about(self, known: Progress, digest: str) -> dict[str, Any]:
        """What a starting point says of its training."""
        config, split, roster = self.config, self.material.split, self.roster
        return {
            "kind": self.objective.kind,
            "objective": config.objective,
            "name": config.name,
            "split": {"name": split.name, "version": split.version, "digest": split.digest},
            "subset": config.subset,
            "classes": list(roster.classes),
            "validation": {
                "subset": config.validation.subset,
                "classes": list(roster.watched),
                "clip_names": list(roster.watched_clips),
            },
            "clips": roster.clips_digest,
            "clip_names": list(roster.clips),
            "seed": config.seed,
            "steps": known.step,
            "best_step": known.best_step,
            "curve": known.curve,
            "digest": digest,
            "device": device_name(self.device),
            "config": config.identity(),
        }

    def write(self, output: Path, known: Progress) -> AdapterInfo:
        """Makes a starting point of the adapter as it stands."""
        adapter = self.objective.encoder.adapter
        about = self.about(known, digest_of(copy_of("adapter", adapter, 0)))
        info = write(output, self.material.encoder, self.config.adapter, adapter, about)
        clear(output)
        return info


def _objective(workshop: Workshop) -> Objective:
    encoder = workshop.encoder()
    if workshop.config.objective in META:
        from fewshot_i2v.training.meta_objectives import meta_objective

        return meta_objective(workshop, encoder)
    return base_objective(workshop, encoder)


def train(
    config: TrainConfig | str | Path | Mapping[str, Any] | None = None,
    *,
    progress: bool = False,
    tell: Tell | None = None,
    finish: bool = False,
    **overrides: Any,
) -> TrainedStart:
    """Trains an adapter on base classes, as `fewshot-i2v train` does.

    The folder then is a starting point. A training that was stopped goes on from its last saved
    state; one that is finished is not run again.

    Args:
        config: a `TrainConfig`, the name of a shipped configuration, a path to a YAML file, or a
            mapping of its keys; None is the shipped "train/motions".
        progress: whether to show bars on standard error.
        tell: takes notes to show, such as an estimate before the first step.
        finish: do no further step: make the starting point of the last saved state of a training
            that was stopped, or rather of the best one so far on the validation classes.
        overrides: keys that replace those of the configuration, such as `steps=50`.

    Returns:
        The starting point.

    Raises:
        FewshotError: see `fewshot_i2v.errors`.
    """
    if not isinstance(config, TrainConfig):
        config = load_train_config(config, overrides)
    elif overrides:
        config = load_train_config(config.model_dump(), overrides)
    output = config.output_folder
    setup = _Setup.of(config)
    identity = setup.identity()
    info = finished(output, identity)
    if info is not None:
        return TrainedStart(output, info)
    check_room(setup.about(Progress(), ""), output)
    with held(output):
        parts = (config, setup.objective, setup.batches, setup.validation)
        loop = Loop(*parts, output, identity, tell)
        if setup.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(setup.device)
        with deterministic(config.deterministic):
            known = loop.finish() if finish else loop.run(progress=progress)
        info = setup.write(output, known)
    speed = config.clips_per_step * loop.steps / loop.seconds if loop.steps else None
    memory = peak_memory_mb(setup.device, 1)
    return TrainedStart(output, info, loop.seconds, speed and round(speed, 1), memory)


def plan(config: TrainConfig) -> dict[str, Any]:
    """What `train` would do, without decoding a clip or writing a file.

    Returns:
        `config` (resolved), `classes` (trained on and watched), `first_batch` (the clips of the
        first step by name) and `cost`: clips to read, and seconds of the steps as measured on one
        short trial with empty clips; reading and augmenting clips, and validations, come on top.
    """
    setup = _Setup.of(config)
    watched = [] if setup.validation is None else setup.validation.clips
    part = setup.batches.empty_part()
    seconds = 0.0
    for _ in range(2):  # the first warms up
        start = perf_counter()
        setup.objective.backward(part).item()
        seconds = perf_counter() - start
    return {
        "config": config.model_dump(mode="json"),
        "classes": {"trained": list(setup.roster.classes), "watched": list(setup.roster.watched)},
        "first_batch": setup.batches.clip_names(0),
        "cost": {
            "device": str(setup.device),
            "clips": len(setup.roster.clips),
            "validation_clips": len(watched),
            "parameters": sum(p.numel() for p in setup.objective.encoder.adapter.parameters()),
            "clips_per_step": config.clips_per_step,
            "seconds_per_step": round(seconds * config.accumulate, 4),
            "seconds": round(seconds * config.accumulate * config.steps, 1),
        },
    }
