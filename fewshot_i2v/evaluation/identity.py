"""Identity of a row, which decides its results, and the other facts of its header."""

from __future__ import annotations

import sys
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from fewshot_i2v.config.file_names import map_weights_file
from fewshot_i2v.data.episodes.factory import find_episode_file
from fewshot_i2v.utils.environment import device_name, git_commit, reader_versions
from fewshot_i2v.version import __version__

if TYPE_CHECKING:
    from fewshot_i2v.evaluation.row_runner import RowRunner

LIBRARIES = ("open_clip_torch", "numpy", "scikit-learn")
"""What else takes part in the results."""


def run_identity(runner: RowRunner) -> dict[str, Any]:
    """Returns the values that decide the results of a row."""
    context, row = runner.context, runner.row
    identity = {
        "config": row.identity(),
        "split": {"digest": context.split.digest},
        "encoder": {"digest": context.encoder.digest},
        "at_once": runner.parallel_episodes,
        "device": device_name(context.encoder.tower.device),
        "methods": {
            "adapter": runner.resolved_method("adapters"),
            "head": runner.resolved_method("heads"),
        },
        "versions": {
            "fewshot_i2v": __version__,
            "torch": str(torch.__version__),
            **{name: version(name) for name in LIBRARIES},
            "readers": reader_versions(),
        },
    }
    if runner.display_flags["uses_names"]:
        identity["text"] = {"digest": context.text_tower.digest}
    if context.trials is not None:
        identity["trials"] = {"digest": context.trials.digest}
    if runner.start is not None:
        identity["start"] = {"kind": runner.start.kind, "digest": runner.start.digest}
    return identity


def run_facts(runner: RowRunner) -> dict[str, Any]:
    """Returns the facts beside the identity."""
    encoder, split = runner.context.encoder, runner.context.split
    architecture, trials = runner.row.encoder.architecture, runner.row.trials
    return {
        "name": runner.row.name,
        "position": runner.position,
        "marks": runner.display_flags,
        "split": {
            "name": split.name,
            "version": split.version,
            "path": absolute_path(split.path or ""),
        },
        "encoder": {
            "name": encoder.name,
            "pretrained": map_weights_file(encoder.pretrained, absolute_path),
            "architecture": None if architecture is None else absolute_path(architecture),
        },
        **({"start": {"path": absolute_path(runner.start.folder)}} if runner.start else {}),
        **({"trials": {"path": absolute_path(find_episode_file(trials))}} if trials else {}),
        **({"partitions": runner.row.partitions} if runner.row.sampling == "disjoint" else {}),
        "parameters": runner.parameters,
        "macs_per_clip": runner.context.macs(runner.row.adapter, runner.row.video.frames),
        "python": sys.version.split()[0],
        "commit": git_commit(),
        "threads": torch.get_num_threads(),
    }


def absolute_path(path: str | Path) -> str:
    """Makes a path absolute without resolving its last component, which may be a link."""
    path = Path(path)
    return str(path.parent.resolve() / path.name)
