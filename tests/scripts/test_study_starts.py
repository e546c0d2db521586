"""The study of starting points on real clips: which rows it runs, pairs, and records."""

from __future__ import annotations

import json
import runpy
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner, Result

from tests.scripts.run_samples import write_sample_row

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "study_starts.py"


class Study:
    """The script with evaluations that only write down their configuration.

    A row is 10 points better for each of: an adapter, tuning, the order of the frames. Odd episodes
    are 2 points above even ones, and the second seed is 4 above the first. The first row of a run
    is one of summary tokens at 1 shot; in others some episodes are 1 or 2 points above that.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.evaluated: list[dict[str, Any]] = []
        self.script = runpy.run_path(str(SCRIPT))
        self.script["Study"].rows.__globals__["evaluate"] = self._evaluate
        for seed, adapters in enumerate((("aim", "full"), ("aim",))):
            for adapter in adapters:
                start = folder / f"seed-{seed}" / adapter
                start.mkdir(parents=True)
                (start / "adapter.json").touch()

    def call(self, *args: str, work: Path | None = None) -> Result:
        shared = ["--root", "clips", "--architecture", "vit.json", "--pretrained", "vit.st"]
        shared += ["--work", str(work or self.folder), "--start", str(self.folder / "seed-0")]
        shared += ["--start", str(self.folder / "seed-1"), *args]
        return CliRunner().invoke(self.script["main"], shared, catch_exceptions=False)

    def report(self) -> dict[str, Any]:
        report: dict[str, Any] = json.loads((self.folder / "report.json").read_text())
        return report

    def _evaluate(self, config: dict[str, Any]) -> SimpleNamespace:
        self.evaluated.append(config)
        (adapter,) = config["adapter"]
        value = 0.5 + 0.1 * (adapter != "frozen")
        value += 0.1 * (config.get("tuning", {}).get("recipe") != "none")
        value -= 0.1 * ("frame_order" in config)
        output = Path(config["output"])
        rows = []
        for seed, start in enumerate(config["start"]):
            for number, (head, shot) in enumerate(product(config["head"], config["shot"])):
                settings = {"adapter": adapter, "head": head, "shot": [shot]}
                settings |= {k: config[k] for k in ("tuning", "frame_order") if k in config}
                # the rows of a run differ a little, so that the mean of differences has a spread
                accuracies = {
                    i: value + 0.02 * (i % 2) + 0.04 * seed + 0.01 * (i * number % 3)
                    for i in range(config["episodes"])
                }
                marks = {} if start == "fresh" else {"start": {"kind": "base-trained"}}
                folder = output / f"{seed}-{number}"
                rows.append(write_sample_row(folder, settings, accuracies, **marks))
        return SimpleNamespace(rows=rows)


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    monkeypatch.syspath_prepend(str(SCRIPT.parent))  # as Python does for a script that is run
    return Study(tmp_path)


def one_shot_line(lines: list[dict[str, Any]], adapter: str) -> dict[str, Any]:
    """The line of an adapter, read from summary tokens at 1 shot."""
    (line,) = [
        line
        for line in lines
        if (line["adapter"], line["shot"]) == (adapter, 1) and line["head"].endswith("=summary")
    ]
    return line


def test_starts_are_read_beside_the_frozen_encoder(study: Study) -> None:
    assert study.call("read", "--episodes", "6").exit_code == 0
    assert [c["adapter"] for c in study.evaluated] == [["frozen"], ["aim"], ["full"]]
    assert [len(c["start"]) for c in study.evaluated] == [1, 2, 1]
    assert all(c["tuning"] == {"steps": 0, "recipe": "none"} for c in study.evaluated)
    lines = study.report()["read"]
    assert len(lines) == 3 * 6 * 2  # frozen and two adapters, six readouts, 1 and 5 shots
    aim = one_shot_line(lines, "aim")
    assert (aim["seeds"], aim["episodes"], aim["by_seed"]) == (2, 6, [61.0, 65.0])
    assert aim["accuracy"] == 63.0
    same_readout = aim["over"]["frozen in the same readout"]
    # the same in every episode: no interval
    assert (same_readout["gain"], same_readout["half_width"]) == (12.0, None)


def test_the_same_adapters_from_other_starts_are_compared_with(study: Study) -> None:
    earlier = study.folder
    study.call("read", "--episodes", "6")
    (earlier / "seed-1" / "aim" / "adapter.json").unlink()
    study.call("read", "--episodes", "6", "--against", str(earlier), work=earlier / "later")
    lines = json.loads((earlier / "later" / "report.json").read_text())["read"]
    # the first seed alone is 2 points below the mean of both
    assert one_shot_line(lines, "aim")["over"][earlier.name]["gain"] == -2.0
    assert one_shot_line(lines, "full")["over"][earlier.name]["gain"] == 0.0
    assert earlier.name not in one_shot_line(lines, "frozen")["over"]


def test_gains_have_an_interval_for_other_clips(study: Study) -> None:
    assert study.call("read", "--episodes", "20").exit_code == 0
    lines = study.report()["read"]
    aim = one_shot_line(lines, "aim")
    gain = aim["over"]["best training-free"]
    assert set(gain) == {"gain", "half_width", "other clips"}
    others = gain["other clips"]
    assert others["mean"] == gain["gain"]
    assert others["low"] < gain["gain"] - gain["half_width"]
    assert others["high"] > gain["gain"] + gain["half_width"]


def test_tuned_rows_are_compared_with_the_same_untuned(study: Study) -> None:
    study.call("tune", "--adapter", "aim", "--shot", "1", "--episodes", "4")
    untuned, _, tuned = study.evaluated
    assert (tuned["start"], "tuning" in tuned) == (untuned["start"], False)
    (line,) = study.report()["tuned"]
    assert line["start"] == "base-trained"
    assert line["over"]["the same untuned"]["gain"] == 10.0
    assert line["over"]["best training-free"]["gain"] == 22.0


def test_fresh_rows_take_no_start_and_stand_beside_the_others(study: Study) -> None:
    few = ("tune", "--adapter", "aim", "--shot", "1", "--episodes", "4")
    study.call(*few)
    study.call(*few, "--fresh")
    study.call(*few, "--fresh")
    assert study.evaluated[-1]["start"] == ["fresh"]
    outputs = {c["output"] for c in study.evaluated}
    assert len(outputs) == 5  # the frozen row is shared, and what was repeated is the same run
    assert [line["start"] for line in study.report()["tuned"]] == ["base-trained", "fresh"]


def test_shuffled_frames_are_compared_with_natural_ones(study: Study) -> None:
    study.call("shuffle", "--episodes", "4")
    assert {c.get("frame_order") for c in study.evaluated} == {None, "shuffled"}
    lines = study.report()["shuffled"]
    assert {line["over"]["natural order"]["gain"] for line in lines} == {-10.0}
