"""Evaluations with the frames of every clip in another order."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from fewshot_i2v import evaluation
from fewshot_i2v._workspace import Workspace, shuffled
from fewshot_i2v.config import RunConfig
from fewshot_i2v.errors import RecordError, UnknownNameError, UsageError
from fewshot_i2v.export import export_episode
from fewshot_i2v.records import read_run
from fewshot_i2v.results import EvaluationResult
from fewshot_i2v.train_config import load_train_config
from tests.tiny import tiny_folder, tiny_run

ORDERED = "prototype:pooling=ordered"
HEADS = ["prototype", ORDERED]


@dataclass
class Runs:
    """One small evaluation in every order."""

    folder: Path

    def config(self, order: str, output: str = "") -> RunConfig:
        out = self.folder / (output or order)
        return tiny_run(self.folder, out, frame_order=order, head=HEADS, episodes=5)

    def run(self, order: str, output: str = "") -> EvaluationResult:
        return evaluation.run(self.config(order, output))

    def probabilities(self, order: str, head: int) -> np.ndarray:
        folder = self.run(order).rows[head].folder
        return np.array([r.probabilities for r in read_run(folder).records.values()])


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    folder = tmp_path_factory.mktemp("orders")
    tiny_folder(folder)
    return Runs(folder)


def test_a_shuffle_is_the_clips_own_and_never_the_natural_order() -> None:
    orders = {name: shuffled(name, 4) for name in map(str, range(200))}
    for name, order in orders.items():
        assert sorted(order) == [0, 1, 2, 3]
        assert list(order) != [0, 1, 2, 3]
        assert (order == shuffled(name, 4)).all()
    assert len({tuple(order) for order in orders.values()}) == 23
    assert list(shuffled("alone", 1)) == [0]
    assert list(shuffled("two", 2)) == [1, 0]


def test_the_frames_are_the_same_in_another_order(runs: Runs) -> None:
    works = {order: Workspace.of(runs.config(order)) for order in ("natural", "reversed")}
    clip = works["natural"].specs[1][0].clips()[0]
    for work in works.values():
        work.prepare([clip], progress=False)
    natural, turned = (work.frames(clip) for work in works.values())
    assert (natural[::-1] == turned).all()
    assert (natural != turned).any()


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
    assert {row.note for row in runs.run("natural").rows} == {""}


def test_another_order_is_another_run(runs: Runs) -> None:
    runs.run("natural")
    with pytest.raises(RecordError, match="frame_order"):
        runs.run("reversed", output="natural")


def test_only_natural_order_is_trained_and_exported(runs: Runs, tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="frame_order"):
        load_train_config("motions", {"frame_order": "shuffled"})
    row = runs.run("shuffled").rows[0].folder
    with pytest.raises(UsageError, match="frames were shuffled"):
        export_episode(row, 0, tmp_path / "out")
