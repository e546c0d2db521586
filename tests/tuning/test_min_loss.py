"""Episodes whose support loss is small before the first step are left as they are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from fewshot_i2v.config.base import FinetuneConfig
from fewshot_i2v.evaluation import evaluate
from fewshot_i2v.models.adapters.base.adapted_encoder import AdaptedEncoder
from fewshot_i2v.models.heads.base.head import Head
from fewshot_i2v.runs.run_folder import RunData, read_run
from fewshot_i2v.tuning import finetune as module
from fewshot_i2v.tuning.finetune import FinetuneResult, finetune_and_predict, predict
from tests.tiny import tiny_folder, tiny_run, tiny_tower
from tests.tuning.test_finetune import _build, _episodes

SEEDS = [11, 12, 13]
ADAPTERS = ("st-adapter", "full", "aim")


def _tune(
    adapter: str, head: str, rows: list[int], **recipe: Any
) -> tuple[AdaptedEncoder, Head, FinetuneResult, Tensor]:
    """Tunes some of three episodes; also the logits before the first step."""
    tower = tiny_tower()
    encoder, built = _build(tower, [SEEDS[row] for row in rows], adapter, head)
    episodes = _episodes(tower, encoder, rows)
    untuned = predict(encoder, built, episodes)
    config = FinetuneConfig(
        **{"steps": 4, "lr": 1e-2, "head_lr": 1e-2, "weight_decay": 0.1} | recipe
    )
    return encoder, built, finetune_and_predict(encoder, built, episodes, config), untuned


def _second_smallest(losses: Tensor) -> float:
    """A bar that the episode with the smallest first loss alone is below."""
    first = losses[:, 0].sort().values
    return float((first[0] + first[1]) / 2)


@pytest.mark.parametrize("adapter", ADAPTERS)
@pytest.mark.parametrize("head", ["linear", "prototype"])
def test_one_is_left_as_it_is_and_the_others_are_tuned_as_without_it(
    adapter: str, head: str
) -> None:
    *_, plain, _ = _tune(adapter, head, [0, 1, 2])
    bar = _second_smallest(plain.losses)
    small = int(plain.losses[:, 0].argmin())
    encoder, built, result, untuned = _tune(adapter, head, [0, 1, 2], min_loss=bar)
    torch.testing.assert_close(result.logits[small], untuned[small])
    assert result.losses_of(small) == pytest.approx([plain.losses[small, 0].item()])
    fresh_encoder, fresh_head, *_ = _tune(adapter, head, [0, 1, 2], min_loss=1e9)
    pairs = [(encoder.adapter, fresh_encoder.adapter), (built, fresh_head)]
    for tuned_module, first_module in pairs:
        for tuned, first in zip(tuned_module.parameters(), first_module.parameters(), strict=True):
            assert torch.equal(tuned[small], first[small])
    for e in {0, 1, 2} - {small}:
        torch.testing.assert_close(result.logits[e], plain.logits[e])
        assert result.losses_of(e) == pytest.approx(plain.losses[e].tolist())
        assert not torch.allclose(result.logits[e], untuned[e])
    for e in range(3):
        *_, alone, _ = _tune(adapter, head, [e], min_loss=bar)
        torch.testing.assert_close(alone.logits[0], result.logits[e], atol=1e-4, rtol=1e-4)
        assert len(alone.losses_of(0)) == len(result.losses_of(e))


def test_where_all_are_left_no_step_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "make_optimizer", lambda *_: pytest.fail("a step was prepared"))
    *_, result, untuned = _tune("st-adapter", "prototype", [0, 1], min_loss=100.0)
    torch.testing.assert_close(result.logits, untuned)
    assert [len(result.losses_of(e)) for e in range(2)] == [1, 1]


def test_a_bar_that_no_episode_is_below_changes_nothing() -> None:
    *_, plain, _ = _tune("st-adapter", "linear", [0, 1])
    *_, result, _ = _tune("st-adapter", "linear", [0, 1], min_loss=1e-9)
    assert torch.equal(plain.logits, result.logits)
    assert torch.equal(plain.losses, result.losses)


def test_untuned_logits_beside_those_of_an_untuned_episode_are_its_own() -> None:
    *_, result, untuned = _tune("aim", "prototype", [0, 1], min_loss=100.0, untuned_weight=0.5)
    torch.testing.assert_close(result.logits, untuned)


def _run(folder: Path, name: str, **changes: Any) -> RunData:
    keys = {"adapter": "aim", "head": "prototype", "shot": [2], "query": 3, "episodes": 6}
    tuning = {"recipe": "none", "steps": 3, "lr": 0.1} | changes.pop("tuning", {})
    config = tiny_run(folder, folder / name, tuning=tuning, **keys | changes)
    return read_run(evaluate.run(config).rows[0].folder)


def test_the_run_says_that_episodes_are_left_untuned(tmp_path: Path) -> None:
    folder = tiny_folder(tmp_path)
    keys = {"adapter": ["frozen", "aim"], "head": "prototype", "shot": [2], "query": 3}
    for bar, notes in ((0.5, 1), (0.0, 0)):
        tuning = {"recipe": "none", "steps": 1, "min_loss": bar}
        result = evaluate.run(tiny_run(folder, folder / str(bar), tuning=tuning, **keys))
        told = [note for note in result.remarks if "support loss is below 0.5 before" in note]
        assert len(told) == notes
        assert all(note.startswith("aim: ") for note in told)


def test_records_have_the_losses_of_the_steps_that_were_made(tmp_path: Path) -> None:
    folder = tiny_folder(tmp_path)
    plain = _run(folder, "plain")
    first = sorted(record.losses[0] for record in plain.records.values())
    bar = (first[2] + first[3]) / 2
    alone, together = (
        _run(folder, f"at-{size}", tuning={"min_loss": bar}, at_once=size) for size in (1, 6)
    )
    assert alone.header["identity"]["config"]["tuning"]["min_loss"] == bar
    assert "min_loss" not in plain.header["identity"]["config"]["tuning"]
    for run in (alone, together):
        assert sorted(len(record.losses) for record in run.records.values()) == [1, 1, 1, 3, 3, 3]
        for index, record in run.records.items():
            assert (len(record.losses) == 1) == (plain.records[index].losses[0] < bar)
            assert record.predictions == alone.records[index].predictions
            json.dumps(record.to_dict(), allow_nan=False)
