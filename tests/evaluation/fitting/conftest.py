"""Class folders of generated clips, and the tiny encoder that reads them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from fewshot_i2v.data.splits.split import Generator
from fewshot_i2v.data.synthetic.generate import class_names, write_missing_clips
from tests.tiny import link_cache, tiny_architecture

CLASSES = 5
CLIPS = 6


class Material:
    """Folders of labelled clips, and the keys of a fit to them."""

    def __init__(self, folder: Path) -> None:
        tiny_architecture(folder)
        link_cache(folder)
        names = list(class_names("shapes")[:CLASSES])
        generator = Generator("shapes", seed=0, size=32, frames=8, fps=8, clips=CLIPS)
        clips = [f"{name}/{name}-{i:03}.mp4" for name in names for i in range(CLIPS)]
        write_missing_clips(generator, clips, folder / "all")
        self.folder, self.classes = folder, names
        self.train, self.test = folder / "train", folder / "test"
        for name in names:
            for i in range(CLIPS):
                target = (self.train if i < CLIPS - 2 else self.test) / name
                target.mkdir(parents=True, exist_ok=True)
                shutil.copy(folder / "all" / name / f"{name}-{i:03}.mp4", target)

    def keys(self, **more: Any) -> dict[str, Any]:
        encoder = {
            "name": "tiny",
            "architecture": str(self.folder / "tiny.json"),
            "pretrained": "random",
            "mean": 0.5,
            "std": 0.5,
        }
        keys = {
            "encoder": encoder,
            "video": {"frames": 4, "crop": 1.0},
            "workers": 1,
            "cache": str(self.folder / "cache"),
            "device": "cpu",
        }
        return keys | more


@pytest.fixture(scope="session")
def material(tmp_path_factory: pytest.TempPathFactory) -> Material:
    return Material(tmp_path_factory.mktemp("fit"))
