"""The study of "none of these" from features: it chooses what `fit` chooses."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from fewshot_i2v import fit
from fewshot_i2v.data.splits.builder.labelled_clips import read_labelled_clips
from fewshot_i2v.evaluation.fitting import rejection
from fewshot_i2v.evaluation.fitting.job import FitJob
from fewshot_i2v.statistics.rejection import Rejection, choose_threshold
from tests.evaluation.fitting.conftest import Material

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "study_rejection.py"
HEAD = "prototype:pooling=ordered,center=true,tokens=grid2+motion2"


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Material:
    return Material(tmp_path_factory.mktemp("rejection"))


@pytest.fixture
def script() -> dict[str, Any]:
    values = runpy.run_path(str(SCRIPT))
    values["encode"].__globals__["HEAD"] = HEAD  # the tiny encoder has 2 x 2 patches
    return values


def test_it_chooses_what_fit_chooses(
    material: Material, script: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: dict[str, Rejection] = {}
    choose = rejection._choose_threshold

    def record(job: FitJob, score: str, *args: Any) -> Rejection:
        tried[score] = choose(job, score, *args)
        return tried[score]

    monkeypatch.setattr(rejection, "_choose_threshold", record)
    keys = material.keys(precision="fp32")
    fit(material.train, reject=0.2, head=HEAD, **keys)
    clips = script["encode"](read_labelled_clips(material.train), keys)
    every = [clip for members in clips.by_class.values() for clip in members]
    scored, groups = script["score_draw"](clips, clips.by_class, every, every)
    assert scored.keys() == tried.keys()
    for score, scores in scored.items():
        chosen = choose_threshold(
            scores.known,
            np.concatenate(scores.unknown),
            unknown_classes=[c for c, members in clips.by_class.items() for _ in members],
            reject_known=0.2,
            known_groups=groups,
            unknown_scores_of_fewer=scores.fewer,
        )
        expected = tried[score]
        assert chosen.threshold == pytest.approx(expected.threshold, rel=1e-3)
        # the clip that is the threshold may have an equal score where its class is left out
        assert abs(chosen.rejected_unknown.count - expected.rejected_unknown.count) <= 1
        assert chosen.rejected_by_class == pytest.approx(expected.rejected_by_class, abs=0.25)
        assert chosen.auroc == pytest.approx(expected.auroc, abs=0.01)


def test_it_adds_up_draws(material: Material, script: dict[str, Any], tmp_path: Path) -> None:
    flags = ["--encoder", "tiny", "--architecture", str(material.folder / "tiny.json")]
    flags += ["--pretrained", "random", "--mean", "0.5", "--std", "0.5", "--known", "4"]
    flags += ["--per-class", "5", "--draws", "3", "--cache", str(material.folder / "cache")]
    out = tmp_path / "study.json"
    arguments = [str(material.folder / "all"), *flags, "--out", str(out)]
    done = CliRunner().invoke(script["main"], arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    (result,) = json.loads(out.read_text()).values()
    assert (result["draws"], result["all_classes"]) == (3, 5)
    for name, kinds in script["SETS"].items():
        assert sum(result[name]["scores"].values()) == 3
        assert set(result[name]["scores"]) <= set(kinds)
        excess = result[name]["promised"] - result[name]["unknown"]
        assert result[name]["promised_too_much"] == pytest.approx(excess, abs=1e-3)
