"""The script of the study on real clips: what it chooses, trains, and sums up."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner, Result

from fewshot_i2v.train_config import TrainConfig

ROOT = Path(__file__).resolve().parents[2]
ACCURACY = {"classify": 0.8, "episodic": 0.95, "both": 0.9}


class Study:
    """The script with trainings and evaluations that only write down what was asked."""

    def __init__(self, work: Path) -> None:
        self.work = work
        self.trained: list[TrainConfig] = []
        self.evaluated: list[dict[str, Any]] = []
        self.script = runpy.run_path(str(ROOT / "scripts" / "study_egogestar.py"))
        for function in (self.script["Study"]._train, self.script["Study"].evaluate):
            function.__globals__.update(train=self._train, evaluate=self._evaluate)

    def call(self, *args: str) -> Result:
        given = ["--root", "clips", "--architecture", "vit.json", "--pretrained", "vit.st"]
        given += ["--work", str(self.work), *args]
        return CliRunner().invoke(self.script["main"], given, catch_exceptions=False)

    def _train(self, config: TrainConfig, **_: Any) -> SimpleNamespace:
        self.trained.append(config)
        assert config.output is not None
        config.output.mkdir(parents=True)
        last = ACCURACY[config.objective]
        if config.adapter.name == "m-adapter":
            last *= config.lr
        curve = [{"accuracy": 0.5}, {"accuracy": last}]
        return SimpleNamespace(info=SimpleNamespace(about={"start": {"curve": curve}}))

    def _evaluate(self, config: dict[str, Any]) -> SimpleNamespace:
        self.evaluated.append(config)
        starts = config.get("start", ["fresh"])
        rows = [
            SimpleNamespace(
                adapter=adapter,
                start="fresh" if start == "fresh" else "base-trained",
                head=head,
                shot=shot,
                episodes=config["episodes"],
                interval=SimpleNamespace(mean=0.5 + 0.1 * number, half_width=0.02),
            )
            for adapter in config["adapter"]
            for number, start in enumerate(starts)
            for head in config["head"]
            for shot in config["shot"]
        ]
        return SimpleNamespace(rows=rows)


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return Study(tmp_path / "work")


def test_settings_are_chosen_within_the_base_classes(study: Study) -> None:
    assert "chosen: episodic" in study.call("choose").output
    for config in study.trained:
        assert (config.subset, config.validation.subset) == ("base", None)
        assert len(config.validation.classes) == 2
        assert config.way == 3
    names = [config.adapter.name for config in study.trained]
    assert names == ["st-adapter"] * 12 + ["m-adapter"] * 9
    held = {name for config in study.trained for name in config.validation.classes}
    assert held == {"up", "left", "square", "tick", "star"}


def test_every_adapter_is_trained_from_every_seed_as_was_chosen(study: Study) -> None:
    assert "run `choose` first" in study.call("train").output
    study.call("choose")
    study.trained.clear()
    assert study.call("train").exit_code == 0
    assert len({(c.adapter.name, c.seed) for c in study.trained}) == 15
    for config in study.trained:
        assert config.objective == "episodic"
        assert config.validation.subset is None
        assert not config.validation.classes
        assert config.lr == {"m-adapter": 0.02}.get(config.adapter.name, 0.001)


def test_the_report_sums_up_the_seeds(study: Study) -> None:
    study.call("choose")
    table = study.call("report").output
    assert {config["subset"] for config in study.evaluated} == {"novel"}
    lines = json.loads((study.work / "report.json").read_text())["lines"]
    (line,) = [
        x
        for x in lines
        if (x["rows"], x["adapter"], x["head"], x["shot"]) == ("started", "aim", "prototype", 5)
    ]
    assert line["accuracy"] == pytest.approx(0.6)
    assert line["between_seeds"] == pytest.approx(0.1)
    assert line["seeds"] == 3
    assert "| started | aim | base-trained | prototype | 60.0 ± 2.0 (seeds 10.0) |" in table
