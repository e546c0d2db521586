"""Tiny stand-ins that tests build on: random towers, a split of generated clips."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from fewshot_i2v import registry
from fewshot_i2v.config.evaluation import EvaluationConfig
from fewshot_i2v.evaluation import context
from fewshot_i2v.evaluation.row_expansion import load_config
from fewshot_i2v.models.cost import macs_per_clip
from fewshot_i2v.models.encoders.tower import Tower
from fewshot_i2v.tuning.contract.tiny_encoder import tiny_tower as tiny_tower


@contextmanager
def multiply_accumulates_counted_once() -> Iterator[None]:
    """Rows of the same adapter, options and sizes share a count, in all runs of the block.

    Counting takes half the time of a tiny run. `tests/models/test_cost.py` checks the counts.
    """
    counts: dict[tuple[object, ...], float | None] = {}

    def count(
        tower: Tower, adapter: str, options: Mapping[str, Any], *, frames: int
    ) -> float | None:
        if type(tower) is not Tower:  # without blocks, so without these sizes
            return macs_per_clip(tower, adapter, options, frames=frames)
        method = registry.load_method("adapters", adapter)
        sizes = tower.image_size, tower.patch, tower.width, tower.layers, tower.heads, tower.pool
        key = method, repr(options), frames, sizes
        if key not in counts:
            counts[key] = macs_per_clip(tower, adapter, options, frames=frames)
        return counts[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(context, "macs_per_clip", count)
        yield


def tiny_architecture(folder: Path) -> Path:
    """An open_clip model configuration of a few thousand parameters."""
    vision = {"layers": 2, "width": 32, "head_width": 16, "patch_size": 16, "image_size": 32}
    path = folder / "tiny.json"
    path.write_text(json.dumps({"embed_dim": 32, "vision_cfg": vision}), encoding="utf-8")
    return path


def tiny_split(folder: Path, *, clips: int = 8) -> Path:
    """A split of generated clips, small enough to make in a test."""
    path = folder / "tiny.yaml"
    path.write_text(
        "name: tiny\nversion: 1\nsource: generated\nlicence: none\n"
        f"generator: {{name: shapes, seed: 0, size: 32, frames: 8, fps: 8, clips: {clips}}}\n"
        "subsets:\n  novel: [" + ", ".join(_shape_classes(4)) + "]\n",
        encoding="utf-8",
    )
    return path


def link_cache(folder: Path) -> None:
    """Makes `cache` in a folder of a test a link, so that a session decodes its clips once."""
    shared = folder.parent / "decoded"
    shared.mkdir(exist_ok=True)
    (folder / "cache").symlink_to(shared, target_is_directory=True)


def tiny_folder(folder: Path) -> Path:
    """The folder, with the architecture and the split of `tiny_run` in it, and decoded clips."""
    tiny_architecture(folder)
    tiny_split(folder)
    link_cache(folder)
    return folder


def tiny_run(folder: Path, output: Path, /, **changes: Any) -> EvaluationConfig:
    """A small evaluation on the architecture and split of `tiny_folder`.

    Args:
        folder: with both; decoded clips are cached there, for all tests that share it.
        output: of the run.
        changes: keys that replace or add to these, `output` too.
    """
    settings: dict[str, Any] = {
        "split": str(folder / "tiny.yaml"),
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
        "adapter": ["frozen"],
        "way": 3,
        "query": 2,
        # by default there are ten times as many, which no test of a run needs
        "tuning": {"steps": 3},
        "workers": 1,
        "cache": str(folder / "cache"),
        "output": str(output),
    }
    return load_config(settings | changes, {})


def _shape_classes(count: int) -> list[str]:
    from fewshot_i2v.data.synthetic.generate import class_names

    return list(class_names("shapes")[:count])
