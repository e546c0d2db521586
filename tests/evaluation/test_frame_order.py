"""Evaluations with the frames of every clip in another order."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from fewshot_i2v.cli._root import cli
from fewshot_i2v.config.evaluation import EvaluationConfig
from fewshot_i2v.config.loading import load_train_config
from fewshot_i2v.errors import RecordError, UnknownNameError, UsageError
from fewshot_i2v.evaluation import evaluate
from fewshot_i2v.evaluation.context import EvaluationContext, frame_permutation, shuffle_by_name
from fewshot_i2v.evaluation.export import export_episode
from fewshot_i2v.evaluation.results import EvaluationResult
from fewshot_i2v.models.encoders.tower import Tower
from fewshot_i2v.runs.run_folder import read_run
from tests.tiny import tiny_folder, tiny_run

ORDERED = "prototype:pooling=ordered"
HEADS = ["prototype", ORDERED]


@dataclass
class Runs:
    """One small evaluation in every order."""

    folder: Path

    def config(self, order: str, output: str = "") -> EvaluationConfig:
        out = self.folder / (output or order)
        return tiny_run(self.folder, out, frame_order=order, head=HEADS, episodes=5)

    def run(self, order: str, output: str = "") -> EvaluationResult:
        return evaluate.run(self.config(order, output))

    def probabilities(self, order: str, head: int) -> np.ndarray:
        folder = self.run(order).rows[head].folder
        return np.array([r.probabilities for r in read_run(folder).records.values()])


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    folder = tmp_path_factory.mktemp("orders")
    tiny_folder(folder)
    return Runs(folder)


def test_a_shuffle_is_the_clips_own_and_never_the_natural_order() -> None:
    orders = {name: shuffle_by_name(name, 4) for name in map(str, range(200))}
    for name, order in orders.items():
        assert sorted(order) == [0, 1, 2, 3]
        assert list(order) != [0, 1, 2, 3]
        assert (order == shuffle_by_name(name, 4)).all()
    assert len({tuple(order) for order in orders.values()}) == 23
    assert list(shuffle_by_name("alone", 1)) == [0]
    assert list(shuffle_by_name("two", 2)) == [1, 0]


def test_the_frames_are_the_same_in_another_order(runs: Runs) -> None:
    works = {order: EvaluationContext.of(runs.config(order)) for order in ("natural", "reversed")}
    clip = works["natural"].episodes[1][0].clip_names()[0]
    for work in works.values():
        work.decode_clips([clip], progress=False)
    natural, turned = (work.frames(clip) for work in works.values())
    assert (natural[::-1] == turned).all()
    assert (natural != turned).any()


def test_a_single_frame_stands_in_every_place_and_the_cache_keeps_all(runs: Runs) -> None:
    one, natural = (EvaluationContext.of(runs.config(order)) for order in ("single", "natural"))
    clip = one.episodes[1][0].clip_names()[0]
    for work in (one, natural):
        work.decode_clips([clip], progress=False)
    frames, whole = one.frames(clip), natural.frames(clip)
    assert (frames == frames[0]).all()
    assert (frames[0] == whole[len(whole) // 2]).all()
    assert (frames.shape, frames.dtype) == (whole.shape, whole.dtype)
    assert (whole != frames).any(), "what was decoded has all its frames"
    assert one.config.frame_order == "single"


def test_adapters_see_as_many_frames_of_a_single_one(
    runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, ...]] = []
    real = Tower.normalize

    def _pixels(tower: Tower, frames: torch.Tensor) -> torch.Tensor:
        seen.append(tuple(frames.shape))
        assert (frames == frames[..., :1, :, :, :]).all()
        return real(tower, frames)

    monkeypatch.setattr(Tower, "normalize", _pixels)
    config = tiny_run(
        runs.folder, runs.folder / "tuned", frame_order="single", adapter=["st-adapter"],
        head=["prototype"], episodes=2, tuning={"steps": 1}, shot=[1],
    )  # fmt: skip
    assert evaluate.run(config).rows[0].episodes == 2
    assert {shape[-4] for shape in seen} == {config.video.frames}
    assert config.video.frames > 1


def test_the_middle_is_the_later_one_of_two() -> None:
    assert frame_permutation("single", "a", 1).tolist() == [0]
    assert frame_permutation("single", "a", 2).tolist() == [1, 1]
    assert frame_permutation("single", "a", 5).tolist() == [2] * 5
    assert frame_permutation("reversed", "a", 3).tolist() == [2, 1, 0]
    assert frame_permutation("shuffled", "a", 4).tolist() == shuffle_by_name("a", 4).tolist()


@pytest.mark.parametrize("order", ["shuffled", "reversed"])
def test_means_over_frames_do_not_notice(runs: Runs, order: str) -> None:
    natural, other = runs.probabilities("natural", 0), runs.probabilities(order, 0)
    np.testing.assert_allclose(natural, other, atol=1e-5)


def test_comparing_in_order_notices_a_shuffle_but_not_a_reversal(runs: Runs) -> None:
    natural = runs.probabilities("natural", 1)
    assert abs(natural - runs.probabilities("shuffled", 1)).max() > 1e-4
    np.testing.assert_allclose(natural, runs.probabilities("reversed", 1), atol=1e-5)


def test_the_table_says_it(runs: Runs) -> None:
    result = runs.run("shuffled")
    assert "frozen (frames shuffled)" in result.table()
    assert "frozen (frames shuffled)" in result.matrix()
    assert "frozen (frames single)" in runs.run("single").table()
    assert {row.note for row in runs.run("single").rows} == {"frames single"}
    assert {row.note for row in runs.run("natural").rows} == {""}


def test_another_order_is_another_run(runs: Runs) -> None:
    runs.run("natural")
    with pytest.raises(RecordError, match="frame_order"):
        runs.run("reversed", output="natural")


def test_only_natural_order_is_trained_and_exported(runs: Runs, tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="frame_order"):
        load_train_config("motions", {"frame_order": "shuffled"})
    for order in ("shuffled", "single"):
        row = runs.run(order).rows[0].folder
        with pytest.raises(UsageError, match=f"frames were {order}"):
            export_episode(row, 0, tmp_path / "out")


def test_runs_of_two_orders_are_compared_where_that_is_said(runs: Runs) -> None:
    folders = [str(runs.run(order).rows[1].folder) for order in ("natural", "single")]
    refused = CliRunner().invoke(cli, ["compare", *folders])
    assert refused.exit_code == 2
    assert "frame_order: single and natural" in refused.output
    assert "--across frame_order" in refused.output
    assert "--common" not in refused.output
    done = CliRunner().invoke(cli, ["compare", *folders, "--across", "frame_order", "--json"])
    assert done.exit_code == 0, done.output
    (found,) = json.loads(done.stdout)["comparisons"]
    assert found["across"] == ["frame_order: single and natural"]
    assert (found["name"], found["baseline_name"]) == ("frozen (frames single)", "frozen")
    assert found["episodes"] == 5
