"""Fine-tuned methods stop where they cannot be chosen any more; the choice is as without that."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fewshot_i2v.data.episodes.episode import Episode
from fewshot_i2v.evaluation.deployment.card import model_card
from fewshot_i2v.evaluation.engines.jobs import Outcome
from fewshot_i2v.evaluation.fitting import model_fit, workers
from fewshot_i2v.evaluation.fitting.fit import FitResult, run_fit
from fewshot_i2v.evaluation.fitting.held_out import Logits
from fewshot_i2v.evaluation.fitting.text import render_fit
from fewshot_i2v.evaluation.row_runner import RowRunner
from tests.evaluation.fitting.conftest import Material
from tests.evaluation.fitting.test_workers import TUNED, WorkersHere

FOLDS, CLIPS = 5, 20


class Answers:
    """Gives methods right and wrong clips instead of tuning them.

    Args:
        right: of each adapter, how many of the clips of each fold are right.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **right: Sequence[int]) -> None:
        self._right = right
        self.asked: dict[str, list[int]] = {name: [] for name in right}
        monkeypatch.setattr(workers, "predict_batch", self.predict)

    def predict(self, runner: RowRunner, batch: Sequence[Episode]) -> Logits:
        name, logits = runner.row.adapter.name.replace("-", "_"), []
        for episode in batch:
            self.asked[name].append(episode.index)
            count = self._right[name][episode.index]
            labels = [c for c, clips in enumerate(episode.query) for _ in clips]
            values = np.zeros((len(labels), len(episode.classes)))
            for position, label in enumerate(labels):
                values[position, label if position < count else label - 1] = 1
            logits.append(values)
        return tuple(logits)


def _keys(material: Material, **more: Any) -> dict[str, Any]:
    return material.keys(**TUNED) | {"folds": FOLDS, "reject": 0, "at_once": 1} | more


def _clips_of(result: FitResult) -> dict[str, int]:
    return {
        candidate.row.adapter.name: len(candidate.held_out.names) if candidate.held_out else 0
        for candidate in result.tried.candidates
    }


def test_a_method_stops_where_it_cannot_be_chosen(
    material: Material, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = {"frozen": (4, 4, 4, 4, 3), "st_adapter": (3, 4, 4, 3, 4), "lora": (1, 2, 4, 4, 4)}
    answers = Answers(monkeypatch, **right)
    result = run_fit(material.train, _keys(material))
    # st-adapter has no more than 19 after its first fold, 18 after its fourth; lora 17, then 15
    assert answers.asked == {"frozen": [*range(5)], "st_adapter": [0], "lora": [0]}
    assert _clips_of(result) == {"frozen": 20, "st-adapter": 4, "lora": 4}
    assert [c.is_stopped for c in result.tried.candidates] == [False, True, True]
    assert [t["stopped"] for t in result.description.card["tried"]] == [False, True, True]
    text = render_fit(result)
    assert "x stopped: not ahead even if all of its remaining clips had been right" in text
    assert "x  st-adapter" in text
    assert "3/4" in text
    result.classifier.save(tmp_path / "m.safetensors")
    assert "(stopped early)" in model_card(tmp_path / "m.safetensors")
    answers.asked["lora"].clear()
    without = run_fit(material.train, _keys(material, race=False))
    assert answers.asked["lora"] == [*range(5)]
    assert _clips_of(without) == {"frozen": 20, "st-adapter": 20, "lora": 20}
    assert without.tried.chosen.label == result.tried.chosen.label
    assert "stopped" not in render_fit(without)


def test_a_method_that_may_still_be_chosen_goes_on(
    material: Material, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = {"frozen": (2, 2, 2, 2, 2), "st_adapter": (0, 2, 2, 1, 4), "lora": (4, 4, 4, 4, 4)}
    answers = Answers(monkeypatch, **right)
    result = run_fit(material.train, _keys(material, adapter=["frozen", "lora"]))
    assert answers.asked["lora"] == [*range(5)]
    assert result.tried.chosen.row.adapter.name == "lora"
    # one that is simpler than the best, and was stopped, is finished before the choice
    answers = Answers(monkeypatch, **right)
    result = run_fit(material.train, _keys(material))
    assert answers.asked["st_adapter"] == [*range(5)]
    assert answers.asked["frozen"] == [*range(5)]
    assert not any(c.is_stopped for c in result.tried.candidates)
    assert result.tried.chosen.row.adapter.name == "lora"


def test_nothing_stops_without_a_method_that_is_not_tuned(
    material: Material, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = Answers(monkeypatch, st_adapter=(4, 4, 4, 4, 4), lora=(0, 0, 0, 0, 0))
    run_fit(material.train, _keys(material, adapter=["st-adapter", "lora"]))
    assert answers.asked["lora"] == [*range(5)]


class FirstDoneFirst(WorkersHere):
    """Workers that are equally fast."""

    def wait(self, seconds: float | None = None) -> list[Outcome]:
        self.waiting.reverse()
        outcomes = super().wait(seconds)
        self.waiting.reverse()
        return outcomes


@pytest.mark.parametrize("pool", [WorkersHere, FirstDoneFirst])
def test_a_race_of_workers_ends_as_that_of_one_process(
    material: Material, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pool: type[WorkersHere]
) -> None:
    """Workers may be ahead with folds that a stopped method does not need."""
    monkeypatch.setattr(model_fit, "ProcessPool", pool)
    right = {"frozen": (4, 4, 4, 4, 3), "st_adapter": (4, 3, 4, 4, 4), "lora": (1, 2, 4, 4, 4)}
    files = []
    for processes in (None, 2):
        answers = Answers(monkeypatch, **right)
        result = run_fit(material.train, _keys(material, processes=processes))
        result.classifier.save(path := tmp_path / f"{processes}.safetensors")
        files.append(path.read_bytes())
        assert _clips_of(result) == {"frozen": 20, "st-adapter": 8, "lora": 4}
    assert files[0] == files[1]
    if pool is FirstDoneFirst:
        assert answers.asked == {"frozen": [*range(5)], "st_adapter": [0, 1, 2], "lora": [0]}


def test_a_race_of_real_methods_chooses_as_without_it(material: Material) -> None:
    """Steps that are too long make an adapter worse."""
    tuning = {"steps": 3, "lr": 1.0, "recipe": "none"}
    more = {"head": "prototype", "folds": 10}
    keys = _keys(material, tuning=tuning, adapter=["frozen", "lora"], **more)
    result = run_fit(material.train, keys)
    without = run_fit(material.train, keys | {"race": False})
    assert result.tried.candidates[1].is_stopped
    assert not without.tried.candidates[1].is_stopped
    assert result.tried.chosen.row == without.tried.chosen.row
    before, after = (r.tried.candidates[1].held_out for r in (result, without))
    assert before is not None
    assert after is not None
    rows = [after.names.index(name) for name in before.names]
    np.testing.assert_array_equal(before.logits, after.logits[rows])
