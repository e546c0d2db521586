"""Runs on clips that were seen before: nothing frozen is computed or decoded again."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import save_file

from fewshot_i2v.config.evaluation import EvaluationConfig
from fewshot_i2v.data.cache_folder import CacheFile, clear_files, list_cache
from fewshot_i2v.data.episodes.episode import Episode
from fewshot_i2v.data.synthetic.generate import write_missing_clips
from fewshot_i2v.data.video import clip_cache
from fewshot_i2v.data.video.clip_cache import ClipCache
from fewshot_i2v.errors import (
    EncoderError,
    TooManyFailuresError,
    VideoChangedError,
    VideoUnreadable,
)
from fewshot_i2v.evaluation import evaluate
from fewshot_i2v.evaluation.context import EvaluationContext
from fewshot_i2v.evaluation.engines.jobs import BatchJob
from fewshot_i2v.evaluation.engines.worker import Worker
from fewshot_i2v.evaluation.fitting.fit import fit
from fewshot_i2v.evaluation.row_execution import RowExecution
from fewshot_i2v.models import prefix_store
from fewshot_i2v.models.encoders import deferred
from fewshot_i2v.models.encoders.architectures import build_visual_tower, find_architecture
from fewshot_i2v.models.encoders.deferred import DeferredTower
from fewshot_i2v.models.encoders.loading import Encoder
from fewshot_i2v.models.encoders.mixed_tower import MixedTower
from fewshot_i2v.models.encoders.weights import randomise_weights
from fewshot_i2v.runs.episode_record import TIMING_KEYS
from fewshot_i2v.runs.run_folder import read_run
from fewshot_i2v.runs.shards import Shard
from tests.evaluation.engines.test_processes import begin_run
from tests.tiny import tiny_architecture, tiny_run, tiny_split

UNCHANGED = {"steps": 2, "recipe": "none"}
"""Tuning without augmentation."""


class Counts:
    """Forward passes of the frozen tower, reads of decoded clips, and decoded clips."""

    def __init__(self) -> None:
        self.passes = self.reads = self.decoded = 0

    def __iter__(self) -> Iterator[int]:
        return iter((self.passes, self.reads, self.decoded))


@contextmanager
def counted() -> Iterator[Counts]:
    """Counts within the block, in this process."""
    counts = Counts()
    compute, get, decode = prefix_store.compute_prefix, ClipCache.get, clip_cache.decode

    def _compute(*args: Any) -> object:
        counts.passes += 1
        return compute(*args)

    def _get(self: ClipCache, path: Path) -> object:
        counts.reads += 1
        return get(self, path)

    def _decode(*args: Any) -> object:
        counts.decoded += 1
        return decode(*args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prefix_store, "compute_prefix", _compute)
        patch.setattr(ClipCache, "get", _get)
        patch.setattr(clip_cache, "decode", _decode)
        yield counts


class Runs:
    """Runs of one evaluation in one folder, whose cache begins empty."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.number = folder, 0
        tiny_architecture(folder)
        split = tiny_split(folder)
        config = self.config()
        context = EvaluationContext.of(config)
        assert context.split.generator is not None
        names = context.split.clip_names()
        write_missing_clips(context.split.generator, names, context.folder)
        assert split.exists()
        time.sleep(0.2)  # of a file that was just written, no digest is stored

    def config(self, **changes: Any) -> EvaluationConfig:
        self.number += 1
        output = self.folder / "runs" / str(self.number)
        return tiny_run(self.folder, output, **{"episodes": 3} | changes)

    def run(self, **changes: Any) -> tuple[list[dict[str, Any]], Counts, list[dict[str, Any]]]:
        """Records without times, counts, and headers of a new run."""
        with counted() as counts:
            rows = evaluate.run(self.config(**changes)).rows
        records = [
            {key: value for key, value in record.to_dict().items() if key not in TIMING_KEYS}
            for row in rows
            for record in read_run(row.folder).records.values()
        ]
        headers = [json.loads((row.folder / "run.json").read_text()) for row in rows]
        return records, counts, headers

    def forget_frames(self) -> int:
        """Removes all decoded clips; returns how many."""
        gc.collect()  # the runs so far use them
        cache = self.folder / "cache"
        decoded = [f for f in list_cache(cache) if f.kind == "decoded" and f.key]
        return clear_files(cache, decoded).files

    def file_encoder(self) -> dict[str, Any]:
        """Weights in a file, of an architecture that takes open_clip to build."""
        path = self.folder / "tiny.json"
        content = json.loads(path.read_text())
        content["vision_cfg"] |= {"ls_init_value": 0.5}
        own = self.folder / "own.json"
        own.write_text(json.dumps(content))
        self.write_weights(seed=0)
        weights = self.folder / "own.safetensors"
        keys = {"name": "own", "architecture": str(own), "pretrained": str(weights)}
        return keys | {"mean": 0.5, "std": 0.5}

    def write_weights(self, *, seed: int) -> None:
        model = find_architecture("own", self.folder / "own.json")
        visual = build_visual_tower(model, in_memory=True)
        randomise_weights(visual, seed)
        save_file(visual.state_dict(), self.folder / "own.safetensors")

    def features(self) -> list[CacheFile]:
        return [file for file in list_cache(self.folder / "cache") if file.kind == "features"]


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    return Runs(tmp_path)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"tokens": "grid2"},
        {"adapter": ["m-adapter:tokens=summary"], "tuning": UNCHANGED},
        {"precision": "bf16"},
        {"frame_order": "shuffled"},
    ],
    ids=str,
)
def test_a_second_run_reads_no_frames_and_encodes_nothing(
    runs: Runs, changes: dict[str, Any]
) -> None:
    records, counts, (header,) = runs.run(**changes)
    n_clips = len(header["clips"])
    assert list(counts) == [n_clips] * 3
    assert header["cached_clips"] == 0
    again, counts, (header,) = runs.run(**changes)
    assert list(counts) == [0, 0, 0]
    assert header["cached_clips"] == n_clips
    assert again == records
    without, counts, (header,) = runs.run(**changes, feature_cache=False)
    assert list(counts) == [n_clips, n_clips, 0]
    assert header["cached_clips"] == 0
    assert without == records


def test_frames_that_are_gone_are_not_decoded_again(runs: Runs) -> None:
    records, _, (header,) = runs.run()
    assert runs.forget_frames() == len(header["clips"])
    again, counts, _ = runs.run()
    assert list(counts) == [0, 0, 0]
    assert again == records


def test_what_a_killed_process_left_of_a_generated_clip_is_removed_by_whoever_reads_features(
    runs: Runs,
) -> None:
    runs.run()
    context = EvaluationContext.of(runs.config())
    clip = next(context.folder.glob("*/*.mp4"))
    left = clip.with_name(f".{clip.name}.{'0' * 32}.tmp")
    left.write_bytes(clip.read_bytes()[:100])
    _, counts, _ = runs.run()
    assert list(counts) == [0, 0, 0]
    assert not left.exists()
    assert clip.exists()


def test_tuned_rows_read_the_frames_of_support_clips_for_augmentation_alone(runs: Runs) -> None:
    changes = {"adapter": ["m-adapter:tokens=summary"], "tuning": UNCHANGED | {"colour": 0.2}}
    records, _, _ = runs.run(**changes)
    runs.forget_frames()
    again, counts, (header,) = runs.run(**changes)
    support = {name for record in records for clips in record["support"] for name in clips}
    assert counts.decoded == len(support) < len(header["clips"])
    assert again == records


def test_a_damaged_entry_is_computed_again_from_frames_that_are_gone(
    runs: Runs, capsys: pytest.CaptureFixture[str]
) -> None:
    records, _, (header,) = runs.run()
    runs.forget_frames()
    _damage(runs.features()[0].path)
    with counted() as counts:
        row = evaluate.run(runs.config(), progress=True).rows[0]
    assert list(counts) == [1, 1, 1]
    assert capsys.readouterr().err.count("note: damaged features are computed again") == 1
    again = read_run(row.folder).records.values()
    assert [r.probabilities for r in again] == [r["probabilities"] for r in records]
    assert len(runs.features()) == len(header["clips"]) + 1  # with the damaged one, moved aside


def _refuse_to_decode(monkeypatch: pytest.MonkeyPatch, clips: Collection[Path]) -> None:
    """Lets clips be unreadable from now on, though nothing was written to their files."""
    decode = clip_cache.decode

    def _decode(path: Path, *args: Any) -> object:
        if path in clips:
            raise VideoUnreadable(path, "cannot be decoded here")
        return decode(path, *args)

    monkeypatch.setattr(clip_cache, "decode", _decode)


def _damage(path: Path) -> None:
    path.chmod(0o644)
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


@pytest.mark.parametrize("at_once", [1, 3])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"adapter": ["m-adapter:tokens=summary"], "tuning": UNCHANGED},
        {"adapter": ["m-adapter:tokens=summary"], "tuning": UNCHANGED | {"flip": "on"}},
    ],
    ids=str,
)
def test_damage_that_cannot_be_mended_fails_the_episodes_of_the_clip_alone(
    runs: Runs, changes: dict[str, Any], at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = changes | {"episodes": 6, "query": 1, "at_once": at_once}
    records, _, (header,) = runs.run(**changes)
    is_augmented = changes.get("tuning", {}).get("flip") == "on"
    n_with_clip: Counter[str] = Counter(name for r in records for name in _clips_of(r))
    support = [name for r in records for clips in r["support"] for name in clips]
    chosen = min(support, key=lambda name: (n_with_clip[name], name))
    clip = EvaluationContext.of(runs.config()).clip_path(chosen)
    gc.collect()
    if is_augmented:  # its frames are read: damage those
        decoded = [f.path for f in list_cache(runs.folder / "cache") if f.kind == "decoded"]
        damaged = [p for p in decoded if p.suffix == ".npy"]
    else:
        runs.forget_frames()
        damaged = [file.path for file in runs.features()]
    for path in damaged:
        _damage(path)
    _refuse_to_decode(monkeypatch, {clip})
    found: list[int] = []
    record_failed = RowExecution.record_failed

    def _record(self: RowExecution, failures: Sequence[tuple[Episode, str, str]]) -> None:
        found.append(len(failures))
        record_failed(self, failures)

    monkeypatch.setattr(RowExecution, "record_failed", _record)
    again, _, _ = runs.run(**changes, max_failed=6)
    assert found[0] == 0, "nothing is wrong until the clip is needed"
    failed = [r["index"] for r in again if r["status"] == "failed"]
    assert failed == [r["index"] for r in records if chosen in _clips_of(r)]
    assert 0 < len(failed) < 6
    assert {tuple(r["error"].values()) for r in again if r["error"]} == {
        (str(clip), "cannot be decoded here")
    }
    for ours, theirs in zip(again, records, strict=True):
        if ours["status"] == "ok":
            np.testing.assert_allclose(ours["probabilities"], theirs["probabilities"], atol=1e-5)
    assert len(header["clips"]) > len(failed)
    with pytest.raises(TooManyFailuresError, match="cannot be decoded here"):
        runs.run(**changes)


def _clips_of(record: dict[str, Any]) -> list[str]:
    return [name for key in ("support", "query") for clips in record[key] for name in clips]


def test_a_worker_records_what_only_it_cannot_read(
    runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = {"episodes": 2, "query": 1, "at_once": 2}
    records, _, _ = runs.run(**changes)
    runs.forget_frames()
    for file in runs.features():
        _damage(file.path)
    only_first = sorted(set(_clips_of(records[0])) - set(_clips_of(records[1])))[0]
    config = runs.config(**changes, max_failed=1)
    worker = Worker(config, Shard(1, 1), None)
    begin_run(worker)
    _refuse_to_decode(monkeypatch, {worker.context.clip_path(only_first)})
    outcome = worker.run(BatchJob(0, 0, (0, 1)))
    worker.close()
    assert len(outcome.accuracies) == 1
    again = read_run(config.output_folder / worker._runners[0].row.slug).records
    assert [again[i].status for i in range(2)] == ["failed", "ok"]


def test_a_file_that_changed_is_encoded_again(runs: Runs) -> None:
    runs.run()
    context = EvaluationContext.of(runs.config())
    first, second = (context.clip_path(name) for name in context.episodes[1][0].clip_names()[:2])
    first.write_bytes(second.read_bytes())
    time.sleep(0.2)
    _, counts, _ = runs.run()
    # its content is that of another clip, whose features are there
    assert list(counts) == [0, 0, 0]
    _, counts, (header,) = runs.run(video={"frames": 3})
    assert counts.passes == len(header["clips"]) - 1


def test_rows_share_what_they_have_in_common(runs: Runs) -> None:
    _, counts, headers = runs.run(adapter=["frozen"], head=["prototype", "otam"])
    assert counts.passes == len(headers[0]["clips"])
    assert len(runs.features()) == len(headers[0]["clips"])


def test_a_worker_uses_the_same_cache(runs: Runs) -> None:
    runs.run(at_once=1)
    config = runs.config(at_once=1)
    worker = Worker(config, Shard(1, 1), None)
    begin_run(worker)
    with counted() as counts:
        execution = worker._open(worker._runners[0])
        execution.prepare(progress=False)
        execution.run_episodes(execution.episodes_of({0}))
    worker.close()
    assert list(counts) == [0, 0, 0]


def test_a_limit_counts_features_too(runs: Runs) -> None:
    records, _, _ = runs.run()
    size = sum(file.size for file in list_cache(runs.folder / "cache") if file.key)
    kept, counts, _ = runs.run(cache_limit=f"{size // 2}B", seed=1)
    del counts
    assert len(kept) == len(records)
    again, _, _ = runs.run()
    assert again == records


def test_a_cache_that_refuses_features_is_said_once(
    runs: Runs, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from fewshot_i2v.data.video import feature_files

    records, _, _ = runs.run(feature_cache=False)

    def _full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(feature_files, "write_shared", _full)
    with counted() as counts:
        row = evaluate.run(runs.config(), progress=True).rows[0]
    assert counts.passes > 1
    said = capsys.readouterr().err
    assert said.count("note: features cannot be written") == 1
    assert "No space left on device" in said
    again = read_run(row.folder).records.values()
    assert [r.probabilities for r in again] == [r["probabilities"] for r in records]
    assert runs.features() == []


def test_fit_and_predict_use_the_same_cache(runs: Runs) -> None:
    context = EvaluationContext.of(runs.config())
    labelled = runs.folder / "labelled"
    for name in context.split.classes("novel")[:2]:
        (labelled / name).mkdir(parents=True)
        for clip in context.split.clips("novel", name)[:4]:
            source = context.clip_path(clip.name)
            (labelled / name / source.name).write_bytes(source.read_bytes())
    time.sleep(0.2)
    encoder = {"name": "tiny", "architecture": str(runs.folder / "tiny.json")}
    encoder |= {"pretrained": "random", "mean": 0.5, "std": 0.5}
    keys = {"encoder": encoder, "video": {"frames": 4}, "cache": runs.folder / "cache"}
    results = []
    for expected in (8, 0):
        with counted() as counts:
            model = fit(labelled, **keys, workers=1, head=["prototype"])
            results.append(model.predict(sorted(labelled.glob("*/*"))))
        assert counts.passes == counts.reads == expected
    first, second = ([p.probabilities for p in predictions] for predictions in results)
    assert first == second
    for file in runs.features():
        file.path.chmod(0o644)
        file.path.write_bytes(file.path.read_bytes()[:-1] + b"!")
    again = model.predict(sorted(labelled.glob("*/*")))
    assert [p.probabilities for p in again] == first
    assert len(model.scorer.notes) == 8
    assert "damaged features are computed again" in model.scorer.notes[0]


HEAVY = ("torch._dynamo", "torch._inductor", "sympy", "torchvision", "timm", "open_clip", "av")
"""Their import takes longer than a short run: PyTorch's compiler, open_clip and what it imports."""


def test_a_frozen_row_on_seen_clips_imports_nothing_heavy(runs: Runs) -> None:
    changes = {"head": ["prototype"], "tuning": {"steps": 0}, "encoder": runs.file_encoder()}
    config = runs.config(**changes)
    records = evaluate.run(config).rows
    code = (
        "import json, sys\n"
        "from fewshot_i2v.evaluation.evaluate import run\n"
        "from fewshot_i2v.evaluation.row_expansion import load_config\n"
        "row = run(load_config(json.loads(sys.argv[1]), {})).rows[0]\n"
        f"print([name for name in {HEAVY} if name in sys.modules], dict(row.accuracies))\n"
    )
    changed = config.model_dump(mode="json", exclude_unset=True)
    changed |= {"output": str(runs.folder / "alone")}
    command = [sys.executable, "-c", code, json.dumps(changed)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == f"[] {dict(records[0].accuracies)}"


@pytest.mark.parametrize("head", ["otam", "otam:tokens=summary+projected"])
@pytest.mark.parametrize("precision", ["fp32", "bf16", "mixed"])
def test_weights_that_nobody_computes_with_are_not_loaded(
    runs: Runs, precision: str, head: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[str] = []
    original = deferred.load_encoder

    def _load(**source: Any) -> Encoder:
        loaded.append(str(source["name"]))
        return original(**source)

    monkeypatch.setattr(deferred, "load_encoder", _load)
    changes = {"encoder": runs.file_encoder(), "precision": precision, "head": [head]}
    changes |= {"tuning": {"steps": 0}}
    records, _, (first,) = runs.run(**changes)
    assert len(loaded) == 1
    again, counts, (header,) = runs.run(**changes)
    assert len(loaded) == 1
    assert list(counts) == [0, 0, 0]
    assert again == records
    differing = {"cached_clips", "threads", "commit"}
    assert {k: v for k, v in header.items() if k not in differing} == {
        k: v for k, v in first.items() if k not in differing
    }
    # clips that are new load the weights, once
    more, counts, _ = runs.run(**changes, query=3)
    assert counts.passes > 0
    assert len(loaded) == 2
    without, _, _ = runs.run(**changes, query=3, feature_cache=False)
    assert more == without
    # so does another order of rows: one that is tuned
    runs.run(**changes | {"adapter": ["frozen", "bitfit"], "tuning": UNCHANGED, "head": ["linear"]})
    assert len(loaded) == 2


def test_a_projection_is_read_without_the_tower_in_bf16_of_a_mixed_one(runs: Runs) -> None:
    """It is the same in both towers, and no block computes anything in bf16 here."""
    changes = {"encoder": runs.file_encoder(), "precision": "mixed"}
    changes |= {"head": ["otam:tokens=projected"], "tuning": {"steps": 0}}
    for is_recorded in (False, True):
        context = EvaluationContext.of(runs.config(**changes))
        (runner,) = evaluate.build_row_runners(context)
        assert runner.build_head([0]).projection is not None
        tower = context.encoder.tower
        assert isinstance(tower, MixedTower)
        assert not tower.is_loaded
        assert isinstance(tower.exact, DeferredTower) == is_recorded


def test_other_weights_under_the_same_name_are_other_features(runs: Runs) -> None:
    changes = {"encoder": runs.file_encoder()}
    records, _, _ = runs.run(**changes)
    runs.write_weights(seed=1)
    other, counts, (header,) = runs.run(**changes)
    assert counts.passes == len(header["clips"])
    assert other != records
    runs.write_weights(seed=0)
    again, counts, _ = runs.run(**changes)
    assert list(counts) == [0, 0, 0]
    assert again == records


@pytest.mark.parametrize("position", [4, 40, 300, -1])
def test_a_damaged_record_of_an_encoder_is_not_used(
    runs: Runs, position: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = {"encoder": runs.file_encoder()}
    records, _, _ = runs.run(**changes)
    (path,) = (runs.folder / "cache" / "encoders").iterdir()
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)
    loaded = []
    original = deferred.load_encoder
    monkeypatch.setattr(
        deferred, "load_encoder", lambda **source: loaded.append(source) or original(**source)
    )
    again, counts, _ = runs.run(**changes)
    assert len(loaded) == 1
    assert list(counts) == [0, 0, 0]
    assert again == records
    runs.run(**changes)
    assert len(loaded) == 1


def test_weights_that_change_during_a_run_are_refused(
    runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = {"encoder": runs.file_encoder()}
    runs.run(**changes)
    context = EvaluationContext.of(runs.config(**changes))
    runs.write_weights(seed=1)
    with pytest.raises(EncoderError, match="changed while it was in use"):
        _ = context.encoder.tower.blocks


def test_weights_that_change_while_they_are_loaded_are_not_recorded_under_the_old_name(
    runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = {"encoder": runs.file_encoder()}
    original = deferred.load_encoder

    def _load(**source: Any) -> Encoder:
        runs.write_weights(seed=1)
        return original(**source)

    with monkeypatch.context() as patch:
        patch.setattr(deferred, "load_encoder", _load)
        EvaluationContext.of(runs.config(**changes))
    runs.write_weights(seed=0)
    opened = EvaluationContext.of(runs.config(**changes)).encoder
    assert opened.digest == original(**runs.file_encoder()).digest


@pytest.mark.parametrize("seen", [True, False])
@pytest.mark.parametrize("swapped", [True, False])
@pytest.mark.parametrize("tuning", [UNCHANGED, {"steps": 2, "flip": "on"}])
def test_a_clip_that_changes_after_it_was_recorded_stops_the_run(
    runs: Runs,
    *,
    seen: bool,
    swapped: bool,
    tuning: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if seen:
        runs.run(tuning=tuning)
    run_all = RowExecution.run_all

    def _change_first(self: RowExecution, *args: Any) -> None:
        context, episode = self.runner.context, self.runner.episodes[0]
        clips = [context.clip_path(clips[0]) for clips in episode.support[:2]]
        first, second = (clip.read_bytes() for clip in clips)
        clips[0].write_bytes(second if swapped else second + bytes(8))
        clips[1].write_bytes(first)
        run_all(self, *args)

    monkeypatch.setattr(RowExecution, "run_all", _change_first)
    with pytest.raises(VideoChangedError, match="changed since this run began: run again"):
        runs.run(tuning=tuning)
