"""A small evaluation over several adapters, and exports of its rows."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from fewshot_i2v import load_encoder
from fewshot_i2v.config.evaluation import EvaluationConfig
from fewshot_i2v.evaluation.evaluate import run
from fewshot_i2v.evaluation.export import ExportResult, export_episode
from fewshot_i2v.models.encoders.loading import Encoder
from tests.tiny import tiny_folder, tiny_run

EPISODE = 4
MERGEABLE = ("bitfit", "full", "lora", "zeroi2v")
OTHERS = ("frozen", "st-adapter", "m-adapter")


class Runs:
    """One small evaluation, and its exports."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        tiny_folder(folder)

    def config(self, name: str, **changes: Any) -> EvaluationConfig:
        settings: dict[str, Any] = {
            "head": "linear",
            "episodes": 5,
            "tuning": {"steps": 3, "lr": 0.02, "untuned_weight": 0.0},  # an export has none
            "at_once": 3,
        }
        config = tiny_run(self.folder, self.folder / name, **settings | changes)
        if "encoder" in changes:
            return config
        encoder = config.encoder.model_copy(update={"std": 0.25})
        return config.model_copy(update={"encoder": encoder})

    def row(self, name: str, **changes: Any) -> Path:
        """The folder of the first row of a run."""
        return run(self.config(name, **changes)).rows[0].folder

    def export(self, row: Path, out: Path, episode: int = EPISODE, **more: Any) -> ExportResult:
        places = {"architecture": self.folder / "tiny.json", "cache": self.folder / "cache"}
        return export_episode(row, episode, out, **places | more)

    @cache  # noqa: B019 - the object lives as long as the tests of this file
    def rows(self) -> dict[str, Path]:
        result = run(self.config("all", adapter=[*MERGEABLE, *OTHERS]))
        return {row.adapter: row.folder for row in result.rows}

    @cache  # noqa: B019
    def exported(self, name: str) -> ExportResult:
        """The default export of an adapter."""
        return self.export(self.rows()[name], self.folder / "exported" / name)

    def encoder(self, **changes: Any) -> Encoder:
        e = self.config("x", adapter="frozen").encoder
        return load_encoder(**(vars(e) | changes))
