"""A small training that tests build on: a tiny random encoder, generated clips of six motions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fewshot_i2v.config.loading import load_train_config
from fewshot_i2v.config.training import TrainingConfig
from tests.tiny import link_cache, tiny_architecture

SPLIT = """\
name: few-motions
version: 1
source: generated
licence: none
generator: {name: motions, seed: 0, size: 32, frames: 8, fps: 8, clips: 8}
subsets:
  base: [grows, moves-left, moves-right, shrinks, rotates-clockwise]
  val: [moves-down, moves-up]
  novel: [brightens, darkens]
"""


def training_folder(folder: Path) -> Path:
    """Architecture and split, and decoded clips."""
    tiny_architecture(folder)
    link_cache(folder)
    (folder / "few.yaml").write_text(SPLIT, encoding="utf-8")
    return folder


def settings(folder: Path, output: Path, **changes: Any) -> dict[str, Any]:
    """Keys of a training that takes a fraction of a second."""
    return {
        "split": str(folder / "few.yaml"),
        "encoder": {
            "name": "tiny",
            "architecture": str(folder / "tiny.json"),
            "pretrained": "random",
            "mean": 0.5,
            "std": 0.5,
        },
        "video": {"frames": 4, "crop": 1.0},
        # on every machine and in every process that a test starts
        "precision": "fp32",
        "adapter": "temporal-embedding",
        "head": "prototype:pooling=ordered,center=true",
        "way": 3,
        "shot": 1,
        "query": 2,
        "batch": 2,
        "clips": 6,
        "steps": 6,
        "lr": 0.01,
        "recipe": "none",
        "validation": {"every": 3, "episodes": 6, "shot": 1, "query": 2},
        "save_every": 2,
        "workers": 1,
        "device": "cpu",
        "cache": str(folder / "cache"),
        "output": str(output),
    } | changes


def train_config(folder: Path, output: Path, **changes: Any) -> TrainingConfig:
    """The configuration of such a training."""
    return load_train_config(settings(folder, output, **changes))
