"""What is written down of a row: what decides its results, and what else a reader wants to know."""

from __future__ import annotations

import sys
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from fewshot_i2v.config.file_names import with_file
from fewshot_i2v.data.episodes.factory import find_trials
from fewshot_i2v.utils.environment import commit, device_name, reader_versions
from fewshot_i2v.version import __version__

if TYPE_CHECKING:
    from fewshot_i2v.evaluation.row_runner import RowRunner

LIBRARIES = ("open_clip_torch", "numpy", "scikit-learn")
"""What else takes part in the results."""


def identity_of(runner: RowRunner) -> dict[str, Any]:
    """What decides the results of a row."""
    work, row = runner.work, runner.row
    identity = {
        "config": row.identity(),
        "split": {"digest": work.split.digest},
        "encoder": {"digest": work.encoder.digest},
        "at_once": runner.at_once,
        "device": device_name(work.encoder.tower.device),
        "methods": {"adapter": runner.method("adapters"), "head": runner.method("heads")},
        "versions": {
            "fewshot_i2v": __version__,
            "torch": str(torch.__version__),
            **{name: version(name) for name in LIBRARIES},
            "readers": reader_versions(),
        },
    }
    if runner.marks["uses_names"]:
        identity["text"] = {"digest": work.text.digest}
    if work.trials is not None:
        identity["trials"] = {"digest": work.trials.digest}
    if runner.start is not None:
        identity["start"] = {"kind": runner.start.kind, "digest": runner.start.digest}
    return identity


def about_of(runner: RowRunner) -> dict[str, Any]:
    """What else is written down of a row."""
    encoder, split = runner.work.encoder, runner.work.split
    architecture, trials = runner.row.encoder.architecture, runner.row.trials
    return {
        "name": runner.row.name,
        "position": runner.position,
        "marks": runner.marks,
        "split": {"name": split.name, "version": split.version, "path": whole(split.path or "")},
        "encoder": {
            "name": encoder.name,
            "pretrained": with_file(encoder.pretrained, whole),
            "architecture": None if architecture is None else whole(architecture),
        },
        **({"start": {"path": whole(runner.start.folder)}} if runner.start else {}),
        **({"trials": {"path": whole(find_trials(trials))}} if trials else {}),
        **({"partitions": runner.row.partitions} if runner.row.sampling == "disjoint" else {}),
        "parameters": runner.parameters,
        "macs_per_clip": runner.work.macs(runner.row.adapter, runner.row.video.frames),
        "python": sys.version.split()[0],
        "commit": commit(),
        "threads": torch.get_num_threads(),
    }


def whole(path: str | Path) -> str:
    """A path that is the same from any other folder; its last part, which may be a link, stays."""
    path = Path(path)
    return str(path.parent.resolve() / path.name)
