"""Estimates of a dry run: what is measured once for several rows, and what is counted."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from fewshot_i2v.cli._dry_run import evaluation_lines
from fewshot_i2v.config.evaluation import EvaluationConfig
from fewshot_i2v.data.splits.builder.labelled_clips import read_labelled_clips
from fewshot_i2v.data.splits.split_writer import write_split
from fewshot_i2v.evaluation import evaluate, time_estimate
from fewshot_i2v.evaluation.context import EvaluationContext
from fewshot_i2v.evaluation.row_expansion import load_config
from fewshot_i2v.evaluation.row_runner import RowRunner
from fewshot_i2v.evaluation.row_work import RowWork, count_work
from tests.tiny import tiny_architecture, tiny_run, tiny_split


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("estimate")
    tiny_split(folder)
    tiny_architecture(folder)
    return folder


def _config(folder: Path, **changes: Any) -> EvaluationConfig:
    given = {"adapter": ["frozen", "aim"], "head": "prototype", "query": 2, "episodes": 4}
    return tiny_run(folder, folder / "out", **(given | changes))


def _work(config: EvaluationConfig) -> list[RowWork]:
    context = EvaluationContext.of(config)
    return count_work(evaluate.build_row_runners(context))


def test_the_work_of_rows_is_counted_from_episodes_and_recipe(folder: Path) -> None:
    frozen, aim = _work(_config(folder, way=2, shot=[2], tuning={"steps": 3, "recipe": "none"}))
    assert (frozen.steps, frozen.passes_per_episode, frozen.episodes) == (0, 0, 4)
    assert frozen.first_clips > 0
    # 4 support clips forth and back in each of 3 steps; then these and 4 query clips
    assert (aim.step_clips, aim.predicted_clips) == (4, 8)
    assert aim.passes_per_episode == 3 * 4 * 3 + 8


def test_heads_of_equal_grids_may_read_the_frozen_encoder(folder: Path) -> None:
    """The trial of an adapter for one head has no features of the frozen encoder for the other."""
    heads = [f"prototype:tokens={tokens}" for tokens in ("grid2", "grid2+frozen-grid2")]
    config = _config(folder, adapter=["aim"], head=heads, way=2, tuning={"steps": 1})
    cost = evaluate.dry_run(config)["cost"]
    assert [row["head"] for row in cost["rows"]] == heads
    assert cost["trials"] == {"adapters": 1, "heads": 2}


def test_mini_batches_and_views_count(folder: Path) -> None:
    tuning = {"steps": 3, "recipe": "none", "views": 2, "colour": 0.1, "batch": 2}
    (_, aim) = _work(_config(folder, way=2, shot=[2], head="linear", tuning=tuning))
    assert aim.step_clips == 4


def test_what_an_earlier_row_keeps_is_encoded_once(folder: Path) -> None:
    rows = _work(_config(folder, way=2, shot=[1, 2], tuning={"steps": 2, "recipe": "none"}))
    for adapter in (rows[:2], rows[2:]):
        assert adapter[0].first_clips > 0
        assert adapter[1].first_clips < adapter[0].first_clips


def test_a_row_has_the_memory_of_its_own_clips_and_not_of_rows_before(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time_estimate, "peak_memory_mb", lambda *_: 500.0)
    monkeypatch.setattr(time_estimate, "_BLOCK_WIDTHS", 10**6)  # a pass is all of the memory
    heads = ["prototype", "linear", "prototype:tokens=grid2"]
    config = _config(folder, adapter=["frozen"], head=heads, way=2, tuning={"steps": 1})
    cost = evaluate.dry_run(config)["cost"]
    assert cost["trials"] == {"adapters": 1, "heads": 3}
    # clips are encoded one by one; of a linear head only the head is trained, and no block computed
    prototype, linear, _ = (row["memory_mb"] for row in cost["rows"])
    assert 500 < linear == prototype
    monkeypatch.setattr(time_estimate, "_BLOCK_WIDTHS", 0)
    monkeypatch.setattr(time_estimate, "_HEAD_COPIES", 10**4)
    summary, _, grid = (row["memory_mb"] for row in evaluate.dry_run(config)["cost"]["rows"])
    assert 510 < summary < grid
    monkeypatch.setattr(time_estimate, "_HEAD_COPIES", 0)
    assert 500 <= evaluate.dry_run(config)["cost"]["rows"][0]["memory_mb"] < 510


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Trials that were measured: "forward" or "step" of an adapter."""
    timed: list[str] = []
    for kind in ("forward", "step"):
        real = getattr(time_estimate, f"_time_{kind}")

        def _count(
            runner: RowRunner, *trial: object, kind: str = kind, real: Callable[..., Any] = real
        ) -> object:
            timed.append(f"{kind} {runner.row.adapter.name}")
            return real(runner, *trial)

        monkeypatch.setattr(time_estimate, f"_time_{kind}", _count)
    return timed


def test_rows_of_one_adapter_share_a_trial(folder: Path, timed: list[str]) -> None:
    config = _config(folder, way=2, shot=[1, 2], head=["prototype", "nearest"])
    cost = evaluate.dry_run(config)["cost"]
    assert timed == ["forward frozen", "forward aim", "step aim"]
    assert len(cost["rows"]) == 8
    assert cost["trials"]["adapters"] == 2
    assert cost["seconds"] == pytest.approx(sum(row["seconds"] for row in cost["rows"]), abs=0.1)


def test_tuned_and_untuned_rows_share_a_trial(timed: list[str]) -> None:
    """Those of the quickstart, where one step has augmentation."""
    changes = {"adapter": ["frozen", "aim"], "shot": [1], "episodes": 2}
    cost = evaluate.dry_run(load_config("quickstart", changes))["cost"]
    assert [row["start"] for row in cost["rows"]] == ["fresh"] * 2 + ["demo-motions"] * 2
    assert timed == ["forward frozen", "forward aim", "step aim"]
    assert cost["trials"]["adapters"] == 2


def test_seconds_and_memory_grow_with_what_is_counted(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a clock that counts clips the estimate is the counted work to the digit."""

    def _clips(
        run: Callable[[int], object], n_clips: int, _device: object, calls: int = 2
    ) -> float:
        assert calls
        run(n_clips)
        return float(n_clips)

    monkeypatch.setattr(time_estimate, "_best_seconds", _clips)
    tuning = {"steps": 3, "recipe": "none"}
    _, aim = evaluate.dry_run(_config(folder, way=2, shot=[2], tuning=tuning))["cost"]["rows"]
    # a clip takes 1 s in each kind of pass: 3 steps of 4, then 8; the head takes some of 4 steps
    head = 4 / aim["at_once"]
    assert aim["seconds_per_episode"] == pytest.approx(3 * 4 + 8 + head, rel=1e-3)
    one, four = (
        evaluate.dry_run(_config(folder, way=2, shot=[2], at_once=n, tuning=tuning))["cost"]["rows"]
        for n in (1, 4)
    )
    assert four[1]["memory_mb"] >= one[1]["memory_mb"] > 0


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Threads of each trial, with a clock on which two threads halve the second of a clip."""
    counts: list[int] = []

    def _clips(run: Callable[[int], object], n_clips: int, *_device: object, **_: int) -> float:
        run(n_clips)
        counts.append(torch.get_num_threads())
        return n_clips / counts[-1]

    monkeypatch.setattr(time_estimate, "_best_seconds", _clips)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield counts
    torch.set_num_threads(before)


def test_small_encoders_take_one_thread_and_are_estimated_for_all(
    folder: Path, threads: list[int]
) -> None:
    config = _config(folder, way=2, shot=[2], tuning={"steps": 3, "recipe": "none"})
    with_all = evaluate.dry_run(config)["cost"]
    assert set(threads) == {2}
    n_trials = len(threads)
    threads.clear()
    with_one = evaluate.dry_run(config, one_thread=True)["cost"]
    # the heads, and the frozen encoder in two parts once more, have all threads
    assert (threads.count(1), threads.count(2)) == (n_trials - 3, 3 + 2)
    assert torch.get_num_threads() == 2
    keys = ("seconds", "seconds_per_episode")
    for one, two in zip(with_one["rows"], with_all["rows"], strict=True):
        assert [one[key] for key in keys] == pytest.approx([two[key] for key in keys])
        assert one["seconds"] > 0
        # the times of the test are cut in half by two threads, but for those of the heads
        assert two["one_thread_seconds"] is None
        assert one["seconds"] < one["one_thread_seconds"] <= 2 * one["seconds"] + 0.1


def test_processes_of_one_thread_share_the_rows(
    folder: Path, threads: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluate, "count_cores", lambda: 3)
    config = _config(folder, way=2, shot=[2], tuning={"steps": 3, "recipe": "none"})
    cost = evaluate.dry_run(config, one_thread=True)["cost"]
    alone = sum(row["one_thread_seconds"] for row in cost["rows"])
    assert cost["processes"]["count"] == 3
    assert cost["processes"]["seconds"] == pytest.approx(5 + alone / 3, abs=0.1)
    assert cost["processes"]["memory_mb"] == 3 * cost["memory_mb"]
    assert evaluate.dry_run(config)["cost"]["processes"] is None
    monkeypatch.setattr(evaluate, "count_cores", lambda: 1)
    assert evaluate.dry_run(config, one_thread=True)["cost"]["processes"] is None
    assert threads


@pytest.mark.parametrize(
    ("seconds", "in_processes", "is_named"),
    [(300, 160, True), (300, 230, False), (80, 30, False), (9000, 8000, False)],
)
def test_processes_are_named_where_they_save_much(
    seconds: float, in_processes: float, is_named: bool
) -> None:
    row = {"adapter": "aim", "start": "fresh", "head": "linear", "shot": 1, "steps": 10}
    row |= {"episodes": 4, "clips": 3, "seconds": seconds, "memory_mb": 900}
    processes = {"count": 2, "seconds": in_processes, "memory_mb": 1800}
    cost = {"clips": 3, "device": "cpu", "rows": [row], "seconds": seconds, "memory_mb": 900}
    cost |= {"trials": {"adapters": 1, "heads": 1}, "missing_clips": [], "processes": processes}
    cost |= {"clips_to_generate": 0}
    text = " ".join(evaluation_lines({"cost": cost, "config": {}, "notes": []}))
    assert ("--engine processes divides the episodes among 2 processes" in text) == is_named
    assert ("1,800 MiB" in text) == is_named


def test_an_encoder_that_keeps_all_threads_busy_has_them(
    folder: Path, threads: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time_estimate, "_TRIAL_ELEMENTS", {"cpu": 1})
    evaluate.dry_run(_config(folder, way=2, shot=[2], tuning={"steps": 2}), one_thread=True)
    assert set(threads) == {2}


@pytest.mark.parametrize("tuning", [{"recipe": "auto"}, {"recipe": "none", "steps": 0}])
def test_recipes_with_and_without_augmentation_are_estimated(
    folder: Path, tuning: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = time_estimate._best_seconds
    # what is faster is rounded to 0
    monkeypatch.setattr(
        time_estimate, "_best_seconds", lambda *trial, **calls: max(real(*trial, **calls), 1e-3)
    )
    rows = evaluate.dry_run(_config(folder, shot=[1], tuning=tuning))["cost"]["rows"]
    assert all(row["seconds_per_episode"] > 0 for row in rows)


def test_a_dry_run_imports_nothing_that_takes_longer_than_it(folder: Path) -> None:
    """The optimiser imports torch's compiler, and open_clip all of torchvision and timm.

    PyAV is imported where clips are to be generated: two of them are, to measure it.
    """
    code = (
        "import sys\n"
        "from fewshot_i2v.evaluation import evaluate\n"
        "from fewshot_i2v.evaluation.row_expansion import load_config\n"
        "changes = {'adapter': ['frozen', 'aim'], 'start': ['fresh'], 'shot': [1], 'episodes': 2}\n"
        "evaluate.dry_run(load_config('quickstart', changes))\n"
        "heavy = ('open_clip', 'torch._dynamo', 'sympy', 'sklearn')\n"
        "print([n for n in heavy if n in sys.modules])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=folder
    )
    assert done.stdout.strip() == "[]"
    assert not (folder / "runs").exists()


def test_a_dry_run_names_clips_without_a_file(tmp_path: Path) -> None:
    tiny_architecture(tmp_path)
    for name in ("wave/1.mp4", "wave/2.mp4", "clap/1.mp4", "clap/2.mp4"):
        (tmp_path / "clips" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "clips" / name).write_bytes(b"x")
    split = tmp_path / "mine.yaml"
    write_split(read_labelled_clips(tmp_path / "clips").split, split)
    (tmp_path / "clips" / "wave" / "2.mp4").unlink()
    encoder = {"name": "tiny", "architecture": str(tmp_path / "tiny.json"), "pretrained": "random"}
    keys = {"split": str(split), "way": 2, "query": 1, "episodes": 3, "encoder": encoder}
    keys |= {"adapter": "frozen", "head": "prototype", "device": "cpu"}
    plan = evaluate.dry_run(load_config({**keys, "root": str(tmp_path / "clips")}))
    assert plan["cost"]["missing_clips"] == ["wave/2.mp4"]
    assert plan["cost"]["clips_to_generate"] == 0
    assert "1 of the 4 clips have no file, such as wave/2.mp4" in " ".join(evaluation_lines(plan))
    assert len(evaluate.dry_run(load_config(keys))["cost"]["missing_clips"]) == 4
