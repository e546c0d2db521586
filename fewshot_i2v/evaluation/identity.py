"""What a row says of itself: its identity, the other facts of its header, and notes to show."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from fewshot_i2v import registry
from fewshot_i2v.config.evaluation import RowConfig
from fewshot_i2v.config.file_names import map_weights_file
from fewshot_i2v.config.method import MethodSpec
from fewshot_i2v.data.episodes.factory import find_episode_file
from fewshot_i2v.evaluation.context import EvaluationContext
from fewshot_i2v.models.checkpoints.starting_point import StartingPoint
from fewshot_i2v.models.factory import resolve_options
from fewshot_i2v.runs.row_summary import (
    CLASS_TEXTS,
    INPUT_MISMATCH,
    TOY_ENCODER,
    TOY_ENCODER_ADVICE,
)
from fewshot_i2v.utils.environment import device_name, git_commit, reader_versions
from fewshot_i2v.version import __version__

LIBRARIES = ("open_clip_torch", "numpy", "scikit-learn")
"""What else takes part in the results."""
_DEFAULTS_OF_LATER_OPTIONS = {"weights": "equal"}
"""Options that rows of earlier versions do not have, with the values that change nothing."""


def run_identity(
    row: RowConfig, context: EvaluationContext, start: StartingPoint | None, parallel_episodes: int
) -> dict[str, Any]:
    """Returns the values that decide the results of a row."""
    identity = {
        "config": row.identity(),
        "split": {"digest": context.split.digest},
        "encoder": {"digest": context.encoder.digest},
        "at_once": parallel_episodes,
        "device": device_name(context.encoder.tower.device),
        "methods": {
            "adapter": _resolved_method("adapters", row.adapter),
            "head": _resolved_method("heads", row.head),
        },
        "versions": {**package_versions(), "readers": reader_versions()},
    }
    if registry.load_method("heads", row.head.name).uses_class_names:
        identity["text"] = {"digest": context.text_tower.digest}
    if context.trials is not None:
        identity["trials"] = {"digest": context.trials.digest}
    if start is not None:
        identity["start"] = {"kind": start.kind, "digest": start.digest}
    return identity


def package_versions() -> dict[str, str]:
    """Versions of this package and of those that decide results."""
    libraries = {name: version(name) for name in LIBRARIES}
    return {"fewshot_i2v": __version__, "torch": str(torch.__version__), **libraries}


def _resolved_method(kind: registry.MethodKind, method: MethodSpec) -> dict[str, Any]:
    """Returns the resolved options, and a digest of the code of a plug-in."""
    options = resolve_options(kind, method).model_dump(mode="json")
    for key, default in _DEFAULTS_OF_LATER_OPTIONS.items():
        if options.get(key) == default:
            del options[key]
    return {"options": options, "code": registry.code_digest(kind, method.name)}


def run_facts(
    row: RowConfig,
    context: EvaluationContext,
    start: StartingPoint | None,
    *,
    position: int,
    parameters: int,
    flags: Mapping[str, Any],
) -> dict[str, Any]:
    """Returns the facts beside the identity."""
    encoder, split = context.encoder, context.split
    architecture, trials, root = row.encoder.architecture, row.trials, context.config.root
    return {
        "name": row.name,
        **({"citation": row.citation} if row.citation else {}),
        "position": position,
        "marks": flags,
        "settings": row.settings_beside_identity(),
        "split": {
            "name": split.name,
            "version": split.version,
            "path": absolute_path(split.path or ""),
            **({} if root is None else {"root": absolute_path(root)}),
        },
        "encoder": {
            "name": encoder.name,
            "pretrained": map_weights_file(encoder.pretrained, absolute_path),
            "architecture": None if architecture is None else absolute_path(architecture),
        },
        **({"start": {"path": absolute_path(start.folder)}} if start else {}),
        **({"trials": {"path": absolute_path(find_episode_file(trials))}} if trials else {}),
        **({"partitions": row.partitions} if row.sampling == "disjoint" else {}),
        "parameters": parameters,
        "macs_per_clip": context.macs(row.adapter, row.video.frames),
        "python": sys.version.split()[0],
        "commit": git_commit(),
        "threads": torch.get_num_threads(),
    }


def display_flags(
    row: RowConfig, context: EvaluationContext, start: StartingPoint | None, parameters: int
) -> dict[str, Any]:
    """Returns the facts to show beside the results: note, use of class names, and any start."""
    head = registry.load_method("heads", row.head.name)
    order = row.frame_order
    notes = [
        registry.load_method("adapters", row.adapter.name).display_note,
        "" if order == "natural" else f"frames {order}",
        "" if row.class_texts is None else CLASS_TEXTS,
        INPUT_MISMATCH if _input_mismatch(row, context, start) else "",
    ]
    flags: dict[str, Any] = {
        "note": ", ".join(filter(None, notes)),
        "uses_names": head.uses_class_names,
    }
    trials = context.trials
    if (row.sampling if trials is None else trials.settings.get("sampling")) == "disjoint":
        flags["disjoint"] = True
    one_shot = str(row.shot).split("-")[0] == "1"  # a range such as 1-5 has such classes
    no_pair = head.compares_with_itself and one_shot and row.tuning.views == 1
    if no_pair and row.tuning.steps and parameters:
        flags["learns_nothing"] = True
    if row.encoder.name == TOY_ENCODER and not context.split.generator:
        flags["toy_encoder"] = True
    if start is None:
        return flags
    overlap = start.facts.overlap_with(context.split, row.subset)
    seen = {
        "classes": list(overlap.classes),
        "watched": list(overlap.validation_classes),
        "clips": len(overlap.clips),
        "watched_clips": len(overlap.validation_clips),
    }
    facts = {key: getattr(start, key) for key in ("kind", "name", "digest")}
    return flags | {"start": facts | {"seen": seen if overlap else None}}


def toy_encoder_warning() -> str:
    """Returns the warning that real clips need another encoder, with the flags that name one."""
    return (
        f"warning: encoder {TOY_ENCODER} is a toy that was trained on generated pictures of 64 "
        f"pixels. For these clips add {TOY_ENCODER_ADVICE}, or another one of `fewshot-i2v list "
        "encoders`"
    )


def row_notes(row: RowConfig, context: EvaluationContext, start: StartingPoint | None) -> list[str]:
    """Returns notes for the user about how the row runs."""
    name, notes = row.adapter.name, []
    mismatch = _input_mismatch(row, context, start)
    if start is not None and mismatch:
        notes.append(
            f"{name}: clips are read with other settings than for the training of its start, "
            f"{start.folder}: {mismatch}"
        )
    if start is not None and (start.facts.model_extra or {}).get("best_step") == 0:
        begun_from = start.facts.begun_from
        first = "the untrained adapter"
        if begun_from:
            first = f"the start {begun_from[0].start_name} that it began from"
        notes.append(
            f"{name}: its start, {start.folder}, is {first}, since no later state of its training "
            "was better on validation"
        )
    notes += _notes_on_rates(row, start)
    shares_adapter = start is not None and not row.tuning.steps
    one_at_a_time = registry.load_method("adapters", name).one_episode_at_a_time
    if row.at_once == "auto" and one_at_a_time and not shares_adapter:
        notes.append(f"{name}: episodes run one at a time, each copy is large; see --at-once")
    return notes


def _notes_on_rates(row: RowConfig, start: StartingPoint | None) -> list[str]:
    """Says where a start's rates are used for another number of steps than its inner loop had."""
    if row.tuning.optimizer == "adamw" or start is None or start.rates is None:
        return []
    config = (start.facts.model_extra or {}).get("config")
    inner = config.get("inner") if isinstance(config, dict) else None
    steps = inner.get("steps") if isinstance(inner, dict) else None
    if steps in (None, row.tuning.steps):
        return []
    return [
        f"{row.adapter.name}: the rates of its start are those of {steps} inner steps, and "
        f"tuning.steps is {row.tuning.steps}"
    ]


def _input_mismatch(row: RowConfig, context: EvaluationContext, start: StartingPoint | None) -> str:
    """Describes how clip input differs from the start's training; empty when it does not."""
    return start.input_mismatch(row.video, row.precision, context.encoder) if start else ""


def absolute_path(path: str | Path) -> str:
    """Makes a path absolute without resolving its last component, which may be a link."""
    path = Path(path)
    return str(path.parent.resolve() / path.name)
