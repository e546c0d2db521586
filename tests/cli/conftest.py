"""A stand-in for the evaluation, so that the command line is tested without torch."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from click.testing import CliRunner, Result

import fewshot_i2v.evaluation
from fewshot_i2v.cli._root import cli
from fewshot_i2v.config.evaluation import EvaluationConfig
from fewshot_i2v.evaluation.results import EvaluationResult
from fewshot_i2v.runs.row_summary import RowSummary

Invoke = Callable[..., Result]


class FakeEvaluation(ModuleType):
    """What `fewshot_i2v.evaluation.evaluate` offers; remembers what it was asked."""

    def __init__(self) -> None:
        super().__init__("fewshot_i2v.evaluation.evaluate")
        self.config: EvaluationConfig | None = None
        self.asked: dict[str, Any] = {}
        self.failed = 0
        self.raises: BaseException | None = None

    def run(self, config: EvaluationConfig, **asked: Any) -> EvaluationResult:
        self.config, self.asked = config, asked
        if self.raises is not None:
            raise self.raises
        accuracies = {0: 0.5, 1: 0.75}
        row = RowSummary(
            adapter="frozen",
            head="linear",
            shot=1,
            failed=self.failed,
            parameters=325,
            seconds_per_episode=0.5,
            peak_memory_mb=100.0,
            folder=Path("runs/x/frozen-linear-1shot"),
            accuracies=accuracies,
        )
        return EvaluationResult((row,), Path("runs/x"), 5, "motions", "demo")

    def dry_run(
        self, config: EvaluationConfig, *, progress: bool, one_thread: bool
    ) -> dict[str, Any]:
        self.config = config
        row = {"adapter": "frozen", "start": "fresh", "head": "linear", "shot": 1}
        row |= {"episodes": 4, "clips": 3, "seconds": 130.0, "memory_mb": 1200}
        cost = {"clips": 3, "device": "cpu", "rows": [row], "seconds": 130.0, "memory_mb": 1200}
        cost["trials"] = {"adapters": 1, "heads": 2}
        cost["missing_clips"] = []
        cost |= {"clips_to_generate": 3, "generation_seconds": 2.0}
        plan = {"config": config.model_dump(mode="json"), "first_episode": {}}
        return plan | {"notes": ["slow"], "cost": cost}


@pytest.fixture(autouse=True)
def _this_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes that a test starts import the package that the test imports."""
    monkeypatch.setenv("PYTHONPATH", str(Path(fewshot_i2v.__file__).parents[1]))


@pytest.fixture
def evaluation(monkeypatch: pytest.MonkeyPatch) -> FakeEvaluation:
    fake = FakeEvaluation()
    monkeypatch.setitem(sys.modules, "fewshot_i2v.evaluation.evaluate", fake)
    monkeypatch.setattr(fewshot_i2v.evaluation, "evaluate", fake, raising=False)
    return fake


@pytest.fixture
def invoke() -> Invoke:
    """Runs the command line in this process."""

    def run(*args: str) -> Result:
        return CliRunner().invoke(cli, list(args), prog_name="fewshot-i2v")

    return run
