"""The study of base training on other people: its halves, and what it compares."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

from fewshot_i2v.data.splits.split_file import load_split
from tests.scripts.run_samples import write_sample_row

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "study_other_people.py"
FIRST, SECOND = "serials-1-11", "serials-12-22"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.syspath_prepend(str(SCRIPT.parent))  # as Python does for a script that is run
    return runpy.run_path(str(SCRIPT))


def call(script: dict[str, Any], work: Path, *args: str) -> str:
    shared = ["--root", "clips", "--architecture", "vit.json", "--pretrained", "vit.st"]
    result = CliRunner().invoke(
        script["main"], [*shared, "--work", str(work), *args], catch_exceptions=False
    )
    assert result.exit_code == 0
    return result.output


def test_the_halves_share_no_group_and_have_all_classes(
    script: dict[str, Any], tmp_path: Path
) -> None:
    call(script, tmp_path, "split")
    splits = [load_split(tmp_path / f"egogestar-{half}.yaml") for half in (FIRST, SECOND)]
    groups = []
    for split in splits:
        assert {name: len(classes) for name, classes in split.subsets.items()} == {
            "base": 5,
            "novel": 5,
        }
        clips = [
            clip
            for classes in split.subsets.values()
            for listed in classes.values()
            for clip in listed
        ]
        assert len(clips) == 60
        groups.append({int(str(clip.group)) for clip in clips})
    assert not groups[0] & groups[1]
    # the clips nearest to the other half are those left out
    assert max(groups[0]) < 11


def test_a_class_of_too_few_clips_is_refused(script: dict[str, Any]) -> None:
    split = {"name": "s", "subsets": {"base": {"up": ["up/v_1.mp4", "up/v_20.mp4"]}}}
    assert script["split_half"](split, FIRST, 1)["subsets"] == {"base": {"up": ["up/v_1.mp4"]}}
    with pytest.raises(ValueError, match="class up: 1 clips, 2 are needed"):
        script["split_half"](split, FIRST, 2)
    with pytest.raises(ValueError, match=r"up/x\.mp4: its name has no serial number"):
        script["serial_of"]("up/x.mp4")


def test_starts_are_compared_on_their_own_half_and_on_the_other(
    script: dict[str, Any], tmp_path: Path
) -> None:
    """A start is worth 20 points, 6 more on its own half; the second half is 10 points easier."""
    evaluated = []

    def evaluate(config: dict[str, Any]) -> SimpleNamespace:
        evaluated.append(config)
        tested = Path(config["split"]).stem.removeprefix("egogestar-")
        rows: list[Any] = []
        for number, start in enumerate(config["start"]):
            value = 0.5 + 0.1 * (tested == SECOND) + 0.2 * (start != "fresh")
            value += 0.06 * (tested in start)
            accuracies = {i: value + 0.01 * (i * (number + 1) % 3) for i in range(12)}
            marks = {} if start == "fresh" else {"start": {"kind": "base-trained"}}
            for head in config["head"]:
                settings = {"adapter": config["adapter"][0], "head": head, "shot": config["shot"]}
                folder = Path(config["output"]) / f"{number}-{len(rows)}"
                rows.append(write_sample_row(folder, settings, accuracies, **marks))
        return SimpleNamespace(rows=rows)

    script["Study"].rows.__globals__["evaluate"] = evaluate
    said = call(script, tmp_path, "report", "--adapter", "aim")
    assert "aim 1-shot" in said
    assert {(len(c["start"]), c["query"], *c["shot"]) for c in evaluated} == {
        (1, 5, 1),
        (1, 1, 5),
        (3, 5, 1),
        (3, 1, 5),
    }
    lines = json.loads((tmp_path / "report.json").read_text())["lines"]
    assert len(lines) == 2 * 3  # shots and readouts
    for line in lines:
        assert line["same people over other people"]["gain"] == pytest.approx(6.0, abs=0.01)
        assert line["other people over frozen"]["gain"] == pytest.approx(20.0, abs=0.5)
        halves = line["tested on"]
        assert halves[SECOND]["frozen"] == pytest.approx(halves[FIRST]["frozen"] + 10, abs=0.01)
    # once more: lines of the adapter are replaced
    call(script, tmp_path, "report", "--adapter", "aim")
    assert len(json.loads((tmp_path / "report.json").read_text())["lines"]) == 6


def test_the_mean_over_halves_has_the_half_width_of_two_that_are_independent(
    script: dict[str, Any],
) -> None:
    mean = script["mean_of_halves"]
    gains = [{"gain": 1.0, "half_width": 3.0}, {"gain": 2.0, "half_width": 4.0}]
    assert mean(gains) == {"gain": 1.5, "half_width": 2.5}
    assert mean([gains[0], {"gain": 0.0, "half_width": None}])["half_width"] is None
