"""An evaluation on a device that is too small for the episodes side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from fewshot_i2v.config.evaluation import EvaluationConfig
from fewshot_i2v.data.episodes.episode import Episode
from fewshot_i2v.errors import TuningError
from fewshot_i2v.evaluation import evaluate, row_runner, step_memory
from fewshot_i2v.evaluation.results import EvaluationResult
from fewshot_i2v.evaluation.row_execution import clip_names
from fewshot_i2v.evaluation.row_runner import RowRunner, TunedGroup
from fewshot_i2v.models.adapters.base.adapted_encoder import AdaptedEncoder
from fewshot_i2v.models.adapters.base.features import Features
from fewshot_i2v.models.adapters.base.frozen_prefix import ClipTokens
from fewshot_i2v.models.cache_memory import CacheBytes
from fewshot_i2v.models.heads.base.head import Head
from fewshot_i2v.runs.run_folder import read_run
from fewshot_i2v.tuning import feature_caches
from tests.evaluation.engines.test_processes import PoolOfThisProcess
from tests.pretended_cuda import pretended_cuda
from tests.tiny import tiny_folder, tiny_run


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_folder(tmp_path_factory.mktemp("memory"))


def _config(folder: Path, name: str, **changes: Any) -> EvaluationConfig:
    settings = {"episodes": 4, "at_once": 4, "adapter": ["st-adapter"], **changes}
    return tiny_run(folder, folder / "runs" / name, **settings)


@pytest.fixture(scope="module")
def expected(folder: Path) -> EvaluationResult:
    return evaluate.run(_config(folder, "enough"))


# each place of a batch: what computes it, and how many episodes, from the arguments
PLACES: dict[str, tuple[object, str, Callable[..., int]]] = {
    "building": (RowRunner, "build_encoder", lambda _runner, indices, *_: len(indices)),
    "loading": (row_runner, "load_inputs", lambda _row, _context, group, _encoder: len(group)),
    "tuning": (
        row_runner,
        "finetune_and_predict",
        lambda _encoder, _head, episodes, *_: len(episodes.labels),
    ),
    "frozen": (row_runner, "predict_from_features", lambda *args: len(args[-1])),
}
TUNED = ["building", "loading", "tuning"]


def _limit_memory(patch: pytest.MonkeyPatch, place: str, capacity: int) -> None:
    """Let a place of a batch compute at most so many episodes."""
    owner, name, count = PLACES[place]
    function = getattr(owner, name)

    def limited(*args: object, **keys: object) -> object:
        result = function(*args, **keys)  # memory ends late, when much was computed
        if count(*args) > capacity:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate\nmore lines")
        return result

    patch.setattr(owner, name, limited)


def _probabilities(result: EvaluationResult) -> np.ndarray:
    records = read_run(result.rows[0].folder).records
    assert sorted(records) == [0, 1, 2, 3]
    return np.array([records[i].probabilities for i in range(4)])


@pytest.mark.parametrize("place", TUNED)
def test_fewer_episodes_at_a_time_give_the_same(
    place: str, folder: Path, expected: EvaluationResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    _limit_memory(monkeypatch, place, 2)
    result = evaluate.run(_config(folder, place))
    np.testing.assert_allclose(_probabilities(result), _probabilities(expected), atol=1e-5)
    (remark,) = (text for text in result.remarks if "memory" in text)
    assert "too small for 4 episodes side by side; 2 episodes at a time ran" in remark
    assert not any("memory" in text for text in expected.remarks)


@pytest.mark.parametrize("place", TUNED)
def test_one_episode_that_is_too_large_is_an_error_that_says_what_to_change(
    place: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = evaluate.EvaluationContext.of(_config(folder, "nothing"))
    (runner,) = evaluate.build_row_runners(context)
    context.decode_episodes(runner.episodes, runner.row.tuning, progress=False)
    _limit_memory(monkeypatch, place, 0)
    with pytest.raises(TuningError, match="episode 0: the device is out of memory") as error:
        runner.run(runner.episodes)
    assert "--precision bf16" in str(error.value)
    assert "more lines" not in str(error.value)


def test_frozen_rows_survive_too(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = _config(folder, "frozen", adapter=["frozen"], head=["prototype"])
    enough = evaluate.run(config)
    _limit_memory(monkeypatch, "frozen", 1)
    result = evaluate.run(_config(folder, "frozen-small", adapter=["frozen"], head=["prototype"]))
    np.testing.assert_allclose(_probabilities(result), _probabilities(enough), atol=1e-5)


class _SmallDevice:
    """Passes through a module that has memory for so many clips at once, all copies counted."""

    def __init__(self, capacity: int) -> None:
        self.capacity, self.sizes, self.n_failed = capacity, list[int](), 0

    def check(self, clips: Tensor) -> None:
        """Raises where clips, (E, C, ...), are too many; only without gradients."""
        if not torch.is_grad_enabled():
            self.sizes.append(clips.shape[0] * clips.shape[1])
            if self.sizes[-1] > self.capacity:
                self.n_failed += 1
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate\nmore lines")

    def limit_encoder(self, patch: pytest.MonkeyPatch) -> None:
        real = AdaptedEncoder.forward

        def forward(encoder: AdaptedEncoder, tokens: ClipTokens, **keys: Any) -> Features:
            features = real(encoder, tokens, **keys)  # memory ends late, when much was computed
            self.check(features.clip)
            return features

        patch.setattr(AdaptedEncoder, "forward", forward)

    def limit_head(self, patch: pytest.MonkeyPatch, name: str) -> None:
        real = getattr(Head, name)

        def limited(head: Head, query: Features, support: Features, labels: Tensor) -> Tensor:
            logits: Tensor = real(head, query, support, labels)
            self.check(query.clip)
            return logits

        patch.setattr(Head, name, limited)


@pytest.mark.parametrize("place", ["encoder", "head"])
def test_a_prediction_in_parts_gives_the_same_and_is_remembered(
    place: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = _SmallDevice(5)
    config = _config(folder, f"prediction-{place}", at_once=2)
    same_batches = evaluate.run(_config(folder, f"prediction-{place}-enough", at_once=2))
    if place == "encoder":
        device.limit_encoder(monkeypatch)
    else:
        device.limit_head(monkeypatch, "forward")
    result = evaluate.run(config)
    np.testing.assert_allclose(_probabilities(result), _probabilities(same_batches), atol=1e-5)
    assert 1 <= device.n_failed <= 2, "a size that did not fit was tried again"
    assert min(device.sizes) >= 2, "the episodes stay side by side"
    (remark,) = (text for text in result.remarks if "memory" in text)
    assert "too small to predict all clips of a batch at once; 2 clips at a time ran" in remark


def test_a_frozen_head_in_parts_gives_the_same(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = {"adapter": ["frozen"], "head": ["prototype"]}
    enough = evaluate.run(_config(folder, "head-enough", **row))
    device = _SmallDevice(9)
    device.limit_head(monkeypatch, "selected_logits")
    result = evaluate.run(_config(folder, "head-small", **row))
    np.testing.assert_allclose(_probabilities(result), _probabilities(enough), atol=1e-5)
    assert device.n_failed
    assert any("4 clips at a time ran" in text for text in result.remarks)


def _limit_caches(patch: pytest.MonkeyPatch, device: int, host: int) -> None:
    """Gives all caches of a run so many bytes."""
    patch.setattr(feature_caches, "cache_limits", lambda *_: CacheBytes(device, host))


@pytest.mark.parametrize(
    ("host", "text"), [(1 << 20, "in host memory; reading those"), (0, "to be computed again")]
)
def test_what_a_full_device_does_to_cached_clips_is_said(
    host: int, text: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = {"adapter": ["m-adapter", "frozen"], "episodes": 4, "at_once": 1}
    enough = evaluate.run(_config(folder, f"bank-enough-{host}", **row))
    assert not any("computed once" in text for text in enough.remarks)
    _limit_caches(monkeypatch, 60_000, host)
    result = evaluate.run(_config(folder, f"bank-small-{host}", **row))
    np.testing.assert_array_equal(_probabilities(result), _probabilities(enough))
    (remark,) = (note for note in result.remarks if "computed once" in note)
    assert remark.startswith(result.rows[0].folder.name)
    assert text in remark


def test_episodes_that_do_not_fit_into_the_free_memory_are_fewer_from_the_start(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = _config(folder, "free-memory", device="cuda")
    with pretended_cuda():
        runners = evaluate.build_row_runners(evaluate.EvaluationContext.of(config))
        assert runners[0].first_limit is None, "100 GiB are free"
        enough = evaluate.run(_config(folder, "free-memory-enough", device="cuda"))
        monkeypatch.setattr(step_memory, "free_device_memory", lambda _: 0)
        tight = evaluate.build_row_runners(evaluate.EvaluationContext.of(config))[0].first_limit
        assert tight is not None
        assert tight.episodes == 1
        free = 3 * tight.episode_bytes
        spec, tower = runners[0].sizes.prefix_spec, runners[0].context.encoder.tower
        clip_bytes = (
            prod(spec.clip_shape(tower, runners[0].row.video.frames)) * tower.dtype.itemsize
        )
        cached = len(clip_names(runners[0].episodes)) * clip_bytes
        assert tight.episode_bytes > 16 * runners[0].parameters + 3 * 10 * clip_bytes
        monkeypatch.setattr(step_memory, "free_device_memory", lambda _: free + cached)
        sizes: list[int] = []
        real = RowRunner.run_group

        def run_group(runner: RowRunner, group: Sequence[Episode], *more: Any) -> TunedGroup:
            sizes.append(len(group))
            return real(runner, group, *more)

        monkeypatch.setattr(RowRunner, "run_group", run_group)
        result = evaluate.run(config)
    assert sizes == [2, 2], "no batch was tried that does not fit"
    np.testing.assert_allclose(_probabilities(result), _probabilities(enough), atol=1e-5)
    (remark,) = (text for text in result.remarks if "memory" in text)
    assert "of free memory, and an episode takes about" in remark
    assert "too little for 4 episodes side by side; 2 episodes at a time ran" in remark


def test_the_last_episode_gets_the_memory_of_the_caches(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With one episode at a time still out of memory, cached clips move to the host."""
    real, n_failed = row_runner.finetune_and_predict, 0

    def limited(*args: Any, **keys: Any) -> object:
        nonlocal n_failed
        result = real(*args, **keys)
        if context.caches.memory.held.device:
            n_failed += 1
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return result

    config = _config(folder, "caches-away", device="cuda", episodes=2, at_once=1)
    with pretended_cuda():
        enough = evaluate.run(_config(folder, "caches-stay", device="cuda", episodes=2, at_once=1))
        context = evaluate.EvaluationContext.of(config)
        (runner,) = evaluate.build_row_runners(context)
        context.decode_episodes(runner.episodes, runner.row.tuning, progress=False)
        monkeypatch.setattr(row_runner, "finetune_and_predict", limited)
        records = runner.run(runner.episodes[:1]) + runner.run(runner.episodes[1:])
    recorded = read_run(enough.rows[0].folder).records
    assert [r.probabilities for r in records] == [recorded[i].probabilities for i in range(2)]
    assert n_failed == 1
    assert any("in host memory" in note for note in runner.memory_notes)


def test_what_workers_say_about_memory_reaches_the_user(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _limit_memory(monkeypatch, "tuning", 2)
    _limit_caches(monkeypatch, 20_000, 1 << 20)
    config = _config(folder, "workers")
    result = evaluate.run(config, pool=PoolOfThisProcess(config))
    parts, cached = (text for text in result.remarks if "memory" in text)
    assert "too small for 4 episodes side by side; 2 episodes at a time ran" in parts
    assert "in host memory; reading those takes longer" in cached
