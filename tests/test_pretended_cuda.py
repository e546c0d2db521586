"""What runs on the CPU runs on a CUDA device too, and no step of fine-tuning waits for it."""

from __future__ import annotations

import contextlib
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from fewshot_i2v import registry
from fewshot_i2v.data.video.clip_cache import ClipCache
from fewshot_i2v.errors import VideoUnreadable
from fewshot_i2v.evaluation import evaluate, inputs_ahead
from fewshot_i2v.evaluation.adapters_ahead import AdaptersAhead
from fewshot_i2v.evaluation.context import EvaluationContext
from fewshot_i2v.evaluation.inputs_ahead import InputsAhead
from fewshot_i2v.evaluation.results import EvaluationResult
from fewshot_i2v.models.adapters.base.frozen_prefix import PrefixSpec
from fewshot_i2v.models.encoders.transfer import send
from fewshot_i2v.runs.run_folder import read_run
from fewshot_i2v.tuning.optimizers import AdamW
from tests.pretended_cuda import CUDA, Log, pretended_cuda
from tests.tiny import tiny_folder, tiny_run

_ORDERED = "prototype:pooling=ordered,center=true"
_AUGMENTED = {
    "views": 2,
    "crop_scale": [0.6, 1.0],
    "colour": 0.3,
    "temporal": True,
    "flip": "auto",
}
HEADS = [
    *("linear", "logistic", "otam", "bi-mhm", "trx", "context-prototype", "nearest:tokens=motion"),
    *(_ORDERED, f"{_ORDERED},tokens=summary+grid2+frozen-motion,weights=loo"),
]
ADAPTERS = [name for name in registry.method_names("adapters") if name != "frozen"]
CASES: dict[str, dict[str, Any]] = {
    **{name: {"adapter": name, "head": "linear"} for name in ADAPTERS},
    **{head: {"head": head, "shot": 2} for head in HEADS if head != "linear"},
    **{f"frozen {head}": {"adapter": "frozen", "head": head, "shot": 2} for head in HEADS[3:5]},
    "augmented": {"head": _ORDERED, "tuning": _AUGMENTED},
    "mini-batches": {"head": "linear", "shot": 2, "tuning": {"batch": 2}},
    "mixed": {"precision": "mixed", "head": HEADS[-1], "shot": 2},
    "mixed augmented": {"precision": "mixed", "head": HEADS[-1], "tuning": _AUGMENTED},
    "mixed frozen": {"precision": "mixed", "adapter": "frozen", "head": HEADS[-2]},
    "deterministic": {"head": f"{_ORDERED},tokens=grid2", "deterministic": True},
    **{
        f"{name} grid and motion": {"adapter": name, "head": f"{_ORDERED},tokens=grid2+motion"}
        for name in ADAPTERS
    },
    "mini-batches augmented": {"head": "linear", "shot": 2, "tuning": {**_AUGMENTED, "batch": 2}},
    "bf16": {"precision": "bf16", "adapter": "aim", "head": "linear"},
    "uneven shots": {"head": "trx", "shot": "1-3", "uneven_shots": True},
    "shuffled": {"head": "otam", "frame_order": "shuffled"},
    "untuned logits": {"head": _ORDERED, "shot": 2, "tuning": {"untuned_weight": 0.5}},
    "untuned episodes": {"head": _ORDERED, "shot": 2, "tuning": {"min_loss": 2.25}},
    "clipped gradients": {"head": "linear", "tuning": {"clip_norm": 0.1}},
    **{
        f"demo {head}": {"encoder": {"name": "demo"}, "adapter": "bitfit", "head": head}
        for head in ("tip", "text-prototype")
    },
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_folder(tmp_path_factory.mktemp("pretended"))


def run(folder: Path, name: str, steps: int, device: str) -> EvaluationResult:
    case = {"adapter": "st-adapter", **CASES[name]}
    case["tuning"] = {"steps": steps, "recipe": "none", **case.get("tuning", {})}
    output = folder / "runs" / f"{name}-{steps}-{device}".replace(":", "_")
    config = tiny_run(folder, output, episodes=2, at_once=2, device=device, **case)
    return evaluate.run(config)


def run_pretended(folder: Path, name: str, steps: int) -> tuple[EvaluationResult, Log]:
    with pretended_cuda() as log:
        return run(folder, name, steps, "cuda"), log


@pytest.mark.parametrize("name", ["zeroi2v", f"frozen {HEADS[3]}", HEADS[-1], "augmented"])
def test_the_result_is_that_of_the_cpu(folder: Path, name: str) -> None:
    result, _ = run_pretended(folder, name, 2)
    for rows in zip(result.rows, run(folder, name, 2, "cpu").rows, strict=True):
        for ours, theirs in zip(
            *(read_run(row.folder).records.values() for row in rows), strict=True
        ):
            # attention has another kernel there
            torch.testing.assert_close(
                torch.tensor(ours.probabilities),
                torch.tensor(theirs.probabilities),
                atol=1e-3,
                rtol=0,
            )


@pytest.mark.parametrize("name", CASES)
def test_it_runs_on_the_device_and_no_step_waits_for_it(
    folder: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits_after_steps: list[Counter[str]] = []
    real = AdamW.step

    def step(optimizer: AdamW) -> None:
        real(optimizer)
        waits_after_steps.append(log.waits.copy())

    monkeypatch.setattr(AdamW, "step", step)
    with pretended_cuda() as log:
        run(folder, name, 2, "cuda")
    assert not log.faults
    # episodes of another shape come after them, with steps of their own
    first, second = waits_after_steps[:2] or (Counter(), Counter())
    assert not second - first


def test_of_the_untuned_episodes_one_is_tuned(folder: Path) -> None:
    result, log = run_pretended(folder, "untuned episodes", 3)
    assert not log.faults
    (row,) = result.rows
    losses = [record.losses for record in read_run(row.folder).records.values()]
    assert sorted(map(len, losses)) == [1, 3]


@pytest.mark.parametrize("name", ["aim", "m-adapter"])
def test_adapters_of_the_next_episodes_are_built_ahead(
    folder: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    built: dict[str, list[int]] = {"cuda": [], "cpu": []}
    close = AdaptersAhead.close
    for device, counts in built.items():
        with monkeypatch.context() as patch, contextlib.ExitStack() as stack:
            if device == "cuda":
                log = stack.enter_context(pretended_cuda())

            def count(ahead: AdaptersAhead, counts: list[int] = counts) -> None:
                counts.append(ahead.n_ahead)
                close(ahead)

            patch.setattr(AdaptersAhead, "close", count)
            config = tiny_run(
                folder, folder / "runs" / f"ahead-{name}-{device}",
                episodes=5, at_once=2, device=device, adapter=name, head="linear",
            )  # fmt: skip
            result = evaluate.run(config)
        records = read_run(result.rows[0].folder).records
        probabilities = torch.tensor([records[i].probabilities for i in range(5)])
        if device == "cuda":
            expected = probabilities
    assert built == {"cuda": [3], "cpu": [0]}
    assert not log.faults
    torch.testing.assert_close(probabilities, expected, atol=1e-3, rtol=0)


def _probabilities(result: EvaluationResult) -> list[object]:
    records = read_run(result.rows[0].folder).records
    return [records[i].probabilities for i in range(len(records))]


@pytest.mark.parametrize(
    ("case", "n_batches"),
    [
        ({"adapter": "frozen", "head": "prototype"}, 0),
        ({"adapter": "bitfit", "head": "linear"}, 0),
        ({"adapter": "m-adapter:tokens=summary", "head": "linear"}, 0),
        ({"adapter": "bitfit", "head": _ORDERED, "tuning": _AUGMENTED}, 3),
        ({"adapter": "bitfit", "head": "linear", "shot": 2, "tuning": {"batch": 2}}, 0),
        ({"adapter": "bitfit", "head": "prototype:tokens=summary+frozen-summary"}, 0),
    ],
    ids=str,
)
def test_clips_of_the_next_episodes_are_read_ahead(
    tmp_path: Path, case: dict[str, Any], n_batches: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three batches; the first run decodes, the second one reads what the first one wrote."""
    (tmp_path / "own").mkdir()
    folder = tiny_folder(tmp_path / "own")
    case = {"episodes": 5, "at_once": 2, **case}
    case["tuning"] = {"steps": 2, "recipe": "none", **case.get("tuning", {})}
    counts: list[tuple[int, int]] = []
    leave = InputsAhead.__exit__

    def count(ahead: InputsAhead, *error: Any) -> None:
        counts.append((ahead.n_clips, ahead.n_batches))
        leave(ahead, *error)

    monkeypatch.setattr(InputsAhead, "__exit__", count)
    results = []
    with pretended_cuda() as log:
        for name in ("first", "second", "plain"):
            if name == "plain":
                monkeypatch.setattr(InputsAhead, "start", lambda *_: None)
            config = tiny_run(folder, folder / "runs" / name, device="cuda", **case)
            results.append(_probabilities(evaluate.run(config)))
    episodes = EvaluationContext.of(config.model_copy(update={"device": "cpu"})).episodes
    used = {name for episode in episodes[config.shot[0]] for name in episode.clip_names()}
    assert counts == [(len(used), n_batches)] * 2 + [(0, 0)]
    assert results[0] == results[1] == results[2]
    assert not log.faults
    config = tiny_run(folder, folder / "runs" / "cpu", device="cpu", **case)
    expected = _probabilities(evaluate.run(config))
    assert counts[-1] == (0, 0)
    torch.testing.assert_close(torch.tensor(results[0]), torch.tensor(expected), atol=1e-3, rtol=0)


def test_a_clip_that_cannot_be_read_ahead_fails_its_episodes_alone(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = {"episodes": 5, "at_once": 2, "adapter": "frozen", "head": "prototype", "query": 1}
    case |= {"feature_cache": False, "max_failed": 5}
    config = tiny_run(folder, folder / "runs" / "whole", device="cuda", **case)
    context = EvaluationContext.of(config.model_copy(update={"device": "cpu"}))
    episodes = context.episodes[1]
    first = set(episodes[0].clip_names()) | set(episodes[1].clip_names())
    bad = next(name for e in episodes[2:] for name in e.clip_names() if name not in first)
    get = ClipCache.get

    def _get(cache: ClipCache, path: Path) -> object:
        if path == context.clip_path(bad):
            raise VideoUnreadable(path, "cannot be decoded here")
        return get(cache, path)

    with pretended_cuda():
        whole = read_run(evaluate.run(config).rows[0].folder).records
        monkeypatch.setattr(ClipCache, "get", _get)
        config = tiny_run(folder, folder / "runs" / "failed", device="cuda", **case)
        records = read_run(evaluate.run(config).rows[0].folder).records
    for episode in episodes:
        has_failed = bad in episode.clip_names()
        assert records[episode.index].status == ("failed" if has_failed else "ok")
        if not has_failed:
            assert records[episode.index].predictions == whole[episode.index].predictions


def test_the_memory_for_clips_ahead_is_bounded(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inputs_ahead, "MAX_CLIPS_AHEAD", 2)
    most: list[int] = []
    take = InputsAhead.take_clip

    def _take(ahead: InputsAhead, name: str, spec: PrefixSpec) -> object:
        most.append(len(ahead._clips))
        # what was read for one prefix is never given to another
        assert take(ahead, name, replace(spec, grid_sizes=(2,))) is None
        return take(ahead, name, spec)

    monkeypatch.setattr(InputsAhead, "take_clip", _take)
    case = {"episodes": 5, "at_once": 2, "adapter": "frozen", "head": "prototype"}
    with pretended_cuda():
        evaluate.run(tiny_run(folder, folder / "runs" / "bounded", device="cuda", **case))
    assert len(most) > 10
    assert max(most) == 2


def test_faults_are_noticed() -> None:
    with pretended_cuda() as log:
        x = torch.ones(3, device="cuda")
        with pytest.raises(RuntimeError, match="one device"):
            x + torch.ones(3)
        x.cumsum(0)
        float(x.sum())
        torch.ones(3).to("cuda")
        assert send(torch.ones(3), CUDA).device == CUDA
        with pytest.raises(TypeError, match="numpy"):
            x.numpy()
    assert len(log.faults) == 2
    assert sum(log.waits.values()) == 2  # not that of `send`
