"""Models fitted to a few generated clips, by adapter and head."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest

from fewshot_i2v import FewShotClassifier, fit
from tests.evaluation.fitting.conftest import Material


class Models:
    """Files of models, each fitted when it is first needed."""

    def __init__(self, folder: Path) -> None:
        self.material = Material(folder)
        self.folder = folder

    @cache  # noqa: B019 - the object lives as long as the tests of this folder
    def path(self, adapter: str, head: str, reject: float = 0.0) -> Path:
        name = f"{adapter}-{head}-{reject}".translate(str.maketrans(":=,+/", "-----"))
        keys = {"tuning": {"steps": 2, "lr": 0.02}} if adapter != "frozen" else {}
        return self.fit(self.folder / f"{name}.safetensors", adapter, head, reject, **keys)

    def fit(self, path: Path, adapter: str, head: str, reject: float = 0.0, **keys: Any) -> Path:
        keys = self.material.keys(adapter=adapter, head=head, **keys)
        folds = None if reject else 2
        fit(self.material.train, path, folds=folds, reject=reject, **keys)
        return path

    def load(self, path: Path) -> FewShotClassifier:
        return FewShotClassifier.load(path, cache=self.material.folder / "cache", workers=1)

    def clips(self) -> list[Path]:
        return sorted(self.material.test.rglob("*.mp4"))


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    return Models(tmp_path_factory.mktemp("deployment"))
