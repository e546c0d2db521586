"""The study of fitted models: what it draws, moves and adds up."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.evaluation.fitting.conftest import Material

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "study_fit.py"


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Material:
    return Material(tmp_path_factory.mktemp("study"))


def test_clips_are_moved_to_another_class() -> None:
    clips = {c: [f"{c}/{i}" for i in range(10)] for c in "abcd"}
    labelled, moved = runpy.run_path(str(SCRIPT))["mislabel"](clips, 3, 0.05)
    assert len(moved) == 2
    for label, names in labelled.items():
        assert all((name[0] != label) == (name in moved) for name in names)
    assert {n for names in labelled.values() for n in names} == {
        n for names in clips.values() for n in names
    }


def test_promises_are_counted(material: Material, tmp_path: Path) -> None:
    record = tmp_path / "study.json"
    architecture = str(material.folder / "tiny.json")
    flags = ["--encoder", "tiny", "--architecture", architecture, "--pretrained", "random"]
    flags += ["--mean", "0.5", "--std", "0.5", "--per-class", "5", "--moved", "0.2"]
    flags += ["--cache", str(material.folder / "cache"), "--out", str(record)]
    main = runpy.run_path(str(SCRIPT))["main"]
    done = CliRunner().invoke(
        main, [str(material.folder / "all"), *flags, "--draws", "1"], catch_exceptions=False
    )
    assert done.exit_code == 0, done.output
    result = json.loads(record.read_text())
    summary = result["summary"]
    assert summary["all_classes"]["draws"] == 1
    assert result["all_classes"][0]["accuracy"]["clips"] == 5
    assert result["half_of_the_classes"][0]["accuracy"]["clips"] == 2
    labels = summary["labels"]
    assert (labels["clean"]["clips"], labels["clean"]["moved"]) == (25, 0)
    assert labels["clean"]["moved_named"] == 0
    assert labels["mislabelled"]["moved"] == 5
    # draws that are in the file are not done again
    again = CliRunner().invoke(
        main, [str(material.folder / "all"), *flags, "--draws", "1"], catch_exceptions=False
    )
    assert again.output == ""


def test_the_intervals_of_none_of_these_are_looked_at() -> None:
    script = runpy.run_path(str(SCRIPT))

    def share(count: int, low: float, high: float) -> dict[str, float]:
        return {
            "count": count,
            "clips": 10,
            "effective": 5.0,
            "low": low,
            "high": high,
            "level": 0.95,
        }

    def draw(unknown: int, promised: tuple[int, int]) -> dict[str, object]:
        return {
            "as_promised": True,
            "accuracy": share(9, 0.5, 1.0),
            "promised_accuracy": share(9, 0.5, 1.0),
            "rejection": {
                "rejected_known": share(1, 0.0, 0.3),
                "rejected_unknown": share(6, 0.4, 0.8),
            },
            "rejected_known": share(1, 0.0, 1.0),
            "rejected_unknown": share(unknown, 0.0, 1.0),
            "promised_unknown": promised,
        }

    summary = script["summarise"]([draw(5, (0, 10)), draw(9, (0, 10)), draw(10, (2, 9))])
    assert summary["rejected_unknown_in_interval"] == 1
    assert summary["rejected_unknown_as_promised"] == 2
    assert summary["rejected_unknown"] == pytest.approx(0.8)
