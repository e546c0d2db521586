"""The script of the study on real clips: what it chooses, trains, and sums up."""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from fewshot_i2v.config.training import TrainingConfig

ROOT = Path(__file__).resolve().parents[2]
ACCURACY = {"classify": 0.8, "episodic": 0.95, "both": 0.9}


class Study:
    """The script with trainings and evaluations that only write down what was asked."""

    def __init__(self, work: Path) -> None:
        self.work = work
        self.tuned_by_rate = {0.0: 0.7, 0.0001: 0.72, 0.0003: 0.75, 0.001: 0.6}
        self.trained: list[TrainingConfig] = []
        self.evaluated: list[dict[str, Any]] = []
        self.script = runpy.run_path(str(ROOT / "scripts" / "study_egogestar.py"))
        for function in (self.script["Study"]._train, self.script["Study"].evaluate):
            function.__globals__.update(train=self._train, evaluate=self._evaluate)

    def call(self, *args: str) -> Result:
        given = ["--root", "clips", "--architecture", "vit.json", "--pretrained", "vit.st"]
        given += ["--work", str(self.work), *args]
        return CliRunner().invoke(self.script["main"], given, catch_exceptions=False)

    def _train(self, config: TrainingConfig, **_: Any) -> SimpleNamespace:
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
        tuning = config["tuning"]
        tuned = self.tuned_by_rate[tuning["lr"] if tuning["steps"] else 0.0] - 0.7
        rows = []
        for adapter in config["adapter"]:
            for number, start in enumerate(starts):
                accuracy = 0.5 + 0.1 * number + tuned * (1 + number)
                rows += [
                    SimpleNamespace(
                        adapter=adapter,
                        start="fresh" if start == "fresh" else "base-trained",
                        start_name=Path(start).name,
                        head=head,
                        shot=shot,
                        episodes=config["episodes"],
                        interval=SimpleNamespace(mean=accuracy, half_width=0.02),
                        accuracies=dict.fromkeys(range(config["episodes"]), accuracy),
                    )
                    for head in config["head"]
                    for shot in config["shot"]
                ]
        return SimpleNamespace(rows=rows)


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    monkeypatch.setattr(sys, "path", [str(ROOT / "scripts"), *sys.path])
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


def test_the_rate_of_tuning_is_chosen_on_held_out_base_classes(study: Study) -> None:
    assert "run `choose` first" in study.call("choose-tuning").output
    study.call("choose")
    assert "chosen: 0.0003" in study.call("choose-tuning").output
    assert len(study.evaluated) == 12  # three folds, untuned and three rates
    for config in study.evaluated:
        split = yaml.safe_load(Path(config["split"]).read_text(encoding="utf-8"))
        assert set(split["subsets"]) == {"base", "val"}
        held = list(split["subsets"]["val"])
        assert config["subset"] == "val"
        assert config["way"] == len(held) == 2
        # the starting point is the training in which these two were held out
        assert Path(config["start"][0]).name.endswith("-".join(held))
        assert config["allow_seen"]  # it was watched on them
        every = {name for subset in split["subsets"].values() for name in subset}
        assert every == {"up", "left", "square", "tick", "star"}
    chosen = json.loads((study.work / "choose" / "chosen.json").read_text())
    assert {tuning["rate"] for tuning in chosen["tuning"].values()} == {0.0003}
    assert len(chosen["tuning"]) == 2


def test_the_report_sums_up_the_seeds(study: Study) -> None:
    study.call("choose")
    assert "run `choose-tuning` first" in study.call("report").output
    study.call("choose-tuning")
    study.evaluated.clear()
    table = study.call("report").output
    assert {config["subset"] for config in study.evaluated} == {"novel"}
    assert not [config for config in study.evaluated if config.get("allow_seen")]
    written = json.loads((study.work / "report.json").read_text())
    tuned = [config for config in study.evaluated if config["tuning"]["steps"]]
    assert [len(config["start"]) for config in tuned] == [3, 3]
    assert {config["tuning"]["lr"] for config in tuned} == {0.0003}
    gains = written["gains_of_tuning"]
    assert len(gains) == 5 * 2 * 2
    for gain in gains:
        # the rows above say 5, 10 and 15 points
        assert gain["gain"] == pytest.approx(0.1)
        assert gain["between_seeds"] == pytest.approx(0.05)
        assert (gain["seeds"], gain["episodes"]) == (3, 20)
    lines = written["lines"]
    (line,) = [
        x
        for x in lines
        if (x["rows"], x["adapter"], x["head"], x["shot"]) == ("started", "aim", "prototype", 5)
    ]
    assert line["accuracy"] == pytest.approx(0.6)
    assert line["between_seeds"] == pytest.approx(0.1)
    assert line["seeds"] == 3
    assert "| started | aim | base-trained | prototype | 60.0 ± 2.0 (seeds 10.0) |" in table
