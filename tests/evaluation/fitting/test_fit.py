"""Fitting a model: what is tried, what is promised, and what the file holds."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import fewshot_i2v
from fewshot_i2v import FewShotClassifier, fit
from fewshot_i2v.data.splits.builder.labelled_clips import read_labelled_clips
from fewshot_i2v.data.splits.split import Generator
from fewshot_i2v.data.splits.split_writer import write_split
from fewshot_i2v.data.synthetic.generate import write_missing_clips
from fewshot_i2v.errors import CheckpointError, UsageError
from fewshot_i2v.evaluation.fitting import job
from fewshot_i2v.evaluation.fitting.fit import run_fit
from fewshot_i2v.evaluation.fitting.test import TestResult, run_test
from fewshot_i2v.evaluation.fitting.text import (
    expectation_lines,
    percent,
    render_fit,
    render_test,
)
from fewshot_i2v.models.adapters.base.adapted_encoder import AdaptedEncoder
from fewshot_i2v.models.adapters.base.features import Features
from fewshot_i2v.models.cache_memory import CacheBytes
from fewshot_i2v.models.checkpoints.model_file import RejectionFacts
from fewshot_i2v.statistics.shares import Share, share_of
from fewshot_i2v.tuning import feature_caches
from fewshot_i2v.tuning.run_context import RunContext
from tests.evaluation.fitting.conftest import Material
from tests.pretended_cuda import pretended_cuda

HEAD = "prototype:pooling=ordered,center=true,tokens=summary+grid2"


def test_a_frozen_model_is_what_was_tried_and_chosen(material: Material, tmp_path: Path) -> None:
    result = run_fit(material.train, material.keys())
    shares = [candidate.accuracy for candidate in result.tried.candidates]
    assert len(shares) >= 2
    assert all(share is not None and share.clips == 20 for share in shares)
    best = max(share.mean for share in shares if share)
    assert result.tried.chosen.accuracy is not None
    assert best - result.tried.chosen.accuracy.mean < 0.2
    description = result.description
    assert list(description.checkpoint.classes) == sorted(material.classes)
    assert description.folds == 20, "every clip alone"
    assert description.rejection is not None
    assert description.rejection.rejected_known.count <= 1
    by_class = description.rejection.rejected_by_class
    assert by_class.keys() == set(material.classes)
    unknown = description.rejection.rejected_unknown
    assert np.mean(list(by_class.values())) == pytest.approx(unknown.count / unknown.clips)
    assert unknown.effective == 5, "classes are independent, not clips"
    text = render_fit(result)
    assert "5 classes, 20 clips (4 each), 4 frames, encoder tiny" in text
    assert re.search(r"^\*  frozen  +[A-E]  ", text, re.M)
    assert f": {result.tried.chosen.row.head.label}\n" in text
    assert max(map(len, text.splitlines())) <= 80
    assert "of 20 new clips" in text
    highest = max(by_class, key=by_class.__getitem__)
    assert f"and {100 * by_class[highest]:.0f} % of {highest} (most)" in " ".join(text.split())
    few, many = Share(**unknown.model_dump()).expected_count(5)
    expected = f"where only 5 other classes come, expect {20 * few} to {20 * many} % of their"
    assert expected in " ".join(text.split())


def test_held_out_predictions_are_those_of_models_without_the_clip(material: Material) -> None:
    """The shortcut of shared features gives what a model fitted without the clip says."""
    result = run_fit(material.train, material.keys(head=HEAD, reject=0))
    held_out = result.tried.chosen.held_out
    assert held_out is not None
    without = material.folder / "without"
    shutil.copytree(material.train, without, dirs_exist_ok=True)
    name = held_out.names[3]
    (without / name).unlink()
    model = fit(without, reject=0, **material.keys(head=HEAD))
    (prediction,) = model.predict([material.train / name])
    model_file = model.model
    assert model_file is not None
    raw = np.log(list(prediction.probabilities.values())) * model_file.description.temperature
    expected = held_out.logits[3] - held_out.logits[3].mean()
    np.testing.assert_allclose(raw - raw.mean(), expected, atol=1e-3)


@pytest.mark.parametrize("adapter", ["st-adapter", "lora"])
def test_an_adapter_is_tuned_on_all_clips(material: Material, adapter: str, tmp_path: Path) -> None:
    keys = material.keys(adapter=adapter, head=HEAD, tuning={"steps": 2, "lr": 0.01})
    path = tmp_path / "model.safetensors"
    model = fit(material.train, path, folds=2, **keys)
    description = model.model.description  # type: ignore[union-attr]
    assert description.checkpoint.adapter.name == adapter
    assert description.tuning["steps"] == 2
    loaded = FewShotClassifier.load(path, cache=material.folder / "cache", workers=1)
    clips = sorted(material.test.rglob("*.mp4"))
    expected, again = model.predict_proba(clips), loaded.predict_proba(clips)
    np.testing.assert_array_equal(expected, again)
    untuned = fit(material.train, folds=2, **material.keys(head=HEAD))
    assert np.abs(untuned.predict_proba(clips) - expected).max() > 1e-5
    # the same seed gives the same file
    fit(material.train, tmp_path / "again.safetensors", folds=2, **keys)
    assert path.read_bytes() == (tmp_path / "again.safetensors").read_bytes()


def test_a_recipe_with_untuned_logits_is_taken_without_them(
    material: Material, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model holds the tuned encoder alone, and promises what that one does."""
    keys = material.keys(
        adapter="lora", head=HEAD, reject=0, folds=2, tuning={"steps": 2, "lr": 0.1}
    )
    expected = run_fit(material.train, keys).tried.chosen.held_out
    resolve = job.resolve_tuning
    monkeypatch.setattr(
        job,
        "resolve_tuning",
        lambda *row: resolve(*row).model_copy(update={"untuned_weight": 0.5}),
    )
    found = run_fit(material.train, keys).tried.chosen.held_out
    assert found is not None
    assert expected is not None
    np.testing.assert_array_equal(found.logits, expected.logits)


def test_the_method_of_a_row_can_be_taken(material: Material, tmp_path: Path) -> None:
    keys = material.keys(adapter="lora", head=HEAD, tuning={"steps": 2, "lr": 0.01})
    split = tmp_path / "shapes.yaml"
    write_split(read_labelled_clips(material.train).split, split)
    run = {"split": str(split), "root": str(material.train), "way": 3, "query": 1, "episodes": 1}
    (row,) = fewshot_i2v.evaluate(run | keys, output=str(tmp_path / "run")).rows
    running = {key: keys[key] for key in ("workers", "cache", "device")}
    model = fit(material.train, like=row.folder, folds=2, **running)
    same = fit(material.train, folds=2, **keys)
    clips = sorted(material.test.rglob("*.mp4"))
    np.testing.assert_array_equal(model.predict_proba(clips), same.predict_proba(clips))
    other = fit(material.train, like=row.folder, folds=2, **running, adapter="frozen")
    assert other.model is not None
    assert other.model.description.checkpoint.adapter.name == "frozen"


def test_one_clip_of_each_class_is_enough_and_promises_nothing(
    material: Material, tmp_path: Path
) -> None:
    for name in material.classes:
        (tmp_path / name).mkdir()
        shutil.copy(material.train / name / f"{name}-000.mp4", tmp_path / name)
    result = run_fit(tmp_path, material.keys())
    assert result.description.accuracy is None
    assert result.description.rejection is None
    assert result.description.temperature == 1
    assert "cannot be said" in render_fit(result)
    tested = run_test(result.classifier, material.test)
    assert tested.promised is None
    assert tested.accuracy.clips == 10


def test_a_class_that_cannot_be_tested_is_named(material: Material, tmp_path: Path) -> None:
    shutil.copytree(material.train, tmp_path, dirs_exist_ok=True)
    name = material.classes[2]
    for clip in sorted((tmp_path / name).iterdir())[1:]:
        clip.unlink()
    result = run_fit(tmp_path, material.keys(head="prototype", folds=2))
    assert result.description.card["untested_classes"] == [name]
    assert f"this says nothing about {name}" in " ".join(render_fit(result).split())


def test_a_group_that_is_a_whole_class_is_noted(material: Material) -> None:
    keys = material.keys(head="prototype")
    result = run_fit(material.train, keys | {"folds": 2}, group="(mp4)")
    assert any("of one group" in note for note in result.tried.notes)


@pytest.mark.parametrize("key", ["episodes", "shot", "frame_order", "trials", "split", "subset"])
def test_keys_that_a_fit_does_not_take_are_refused(material: Material, key: str) -> None:
    with pytest.raises(UsageError, match=f"{key}: has no meaning for a fit"):
        run_fit(material.train, material.keys() | {key: 1})


def test_a_start_that_has_seen_the_classes_is_noted(tmp_path: Path) -> None:
    keys = {"adapter": "aim", "start": "demo-motions", "tuning": {"steps": 0}, "allow_seen": True}
    generator = Generator("motions", seed=0, size=64, frames=16, fps=8, clips=3)
    names = ["grows", "moves-left"]
    clips = [f"{name}/{name}-{i:03}.mp4" for name in names for i in range(3)]
    write_missing_clips(generator, clips, tmp_path / "clips")
    running = {"workers": 1, "cache": str(tmp_path / "cache"), "device": "cpu"}
    result = run_fit(tmp_path / "clips", {**keys, **running, "head": "prototype"})
    assert result.description.card["seen_start"]
    assert "too high" in render_fit(result)


def test_the_same_clip_in_two_classes_is_refused_and_twice_in_one_left_out(
    material: Material, tmp_path: Path
) -> None:
    shutil.copytree(material.train, tmp_path, dirs_exist_ok=True)
    first, second = material.classes[:2]
    clip = tmp_path / first / f"{first}-000.mp4"
    shutil.copy(clip, tmp_path / first / "copy.mp4")
    result = run_fit(tmp_path, material.keys(head="prototype", folds=2))
    assert any(f"{first}/" in note and "already" in note for note in result.tried.notes)
    assert sum(map(len, result.description.clips.values())) == 20
    shutil.copy(clip, tmp_path / second)
    with pytest.raises(UsageError, match="same clip with two labels"):
        run_fit(tmp_path, material.keys(head="prototype"))


def test_unreadable_clips_are_named_and_left_out_only_if_allowed(
    material: Material, tmp_path: Path
) -> None:
    shutil.copytree(material.train, tmp_path, dirs_exist_ok=True)
    bad = tmp_path / material.classes[0] / "bad.mp4"
    bad.write_bytes(b"\0" * 999)
    with pytest.raises(UsageError, match=r"1 clip cannot be read:\n.*bad\.mp4"):
        run_fit(tmp_path, material.keys(head="prototype"))
    keys = material.keys(head="prototype", folds=2, skip_unreadable=True)
    result = run_fit(tmp_path, keys)
    assert any("bad.mp4" in note for note in result.tried.notes)
    assert sum(map(len, result.description.clips.values())) == 20


def test_one_class_alone_is_refused(material: Material, tmp_path: Path) -> None:
    name = material.classes[0]
    shutil.copytree(material.train / name, tmp_path / name)
    with pytest.raises(UsageError, match="two classes or more"):
        run_fit(tmp_path, material.keys())


def test_another_encoder_is_refused_and_a_missing_one_named(
    material: Material, tmp_path: Path
) -> None:
    path = tmp_path / "model.safetensors"
    fit(material.train, path, folds=2, **material.keys(head="prototype"))
    with pytest.raises(CheckpointError, match="What differs"):
        FewShotClassifier.load(path, fewshot_i2v.load_encoder("demo"))
    gone = tmp_path / "gone.json"
    with pytest.raises(CheckpointError, match=r"needs its encoder, tiny.*--architecture"):
        FewShotClassifier.load(path, architecture=gone)
    with pytest.raises(CheckpointError, match=r"gone\.json cannot be loaded as that"):
        FewShotClassifier.load(path, architecture=gone)
    moved = shutil.copy(material.folder / "tiny.json", tmp_path / "moved.json")
    assert FewShotClassifier.load(path, architecture=moved).classes


def test_clips_of_the_fit_are_left_out_of_a_test(material: Material, tmp_path: Path) -> None:
    model = fit(material.train, folds=2, **material.keys())
    result = run_test(model, material.folder / "all")
    assert result.accuracy.clips == 10
    assert len(result.fitted_clips) == 20
    assert "left out, because the model was fitted on them: 20 clips" in render_test(result)
    assert run_test(model, material.folder / "all", allow_fitted=True).accuracy.clips == 30
    with pytest.raises(UsageError, match="20 it was fitted on"):
        run_test(model, material.train)


def test_classes_that_the_model_does_not_have_are_counted_apart(
    material: Material, tmp_path: Path
) -> None:
    shutil.copytree(material.train, tmp_path, dirs_exist_ok=True)
    left_out = material.classes[0]
    shutil.rmtree(tmp_path / left_out)
    model = fit(tmp_path, reject=0.2, **material.keys())
    result = run_test(model, material.test)
    assert result.accuracy.clips == 8
    assert result.unknown_classes == (left_out,)
    assert result.rejected_unknown is not None
    assert result.rejected_unknown.clips == 2
    assert result.promised_unknown is not None
    few, many = result.promised_unknown
    assert (few, many) in ((0, 0), (0, 2), (2, 2)), "clips of one class count as one"
    rejection = model.model.description.rejection  # type: ignore[union-attr]
    assert rejection is not None
    said = f"fit said {percent(rejection.rejected_unknown)}, on average over many other classes"
    text = " ".join(render_test(result).split())
    assert f"of clips of other classes ({result.rejected_unknown.count} of 2 clips): " in text
    assert f"{left_out} {said}" in text
    assert result.to_dict()["promised_unknown"] == (few, many)
    assert result.to_dict()["promised_unknown_share"] == rejection.rejected_unknown.model_dump()
    assert result.to_dict()["promised_share"] == model.model.description.accuracy.model_dump()  # type: ignore[union-attr]
    assert all(
        result.labels[name] != left_out or p.nearest for name, p in result.predictions.items()
    )


def _result(
    share: Share, promised: tuple[int, int], promised_unknown: tuple[int, int]
) -> TestResult:
    return TestResult(
        predictions={},
        labels={},
        accuracy=share_of([True, False, True, False, False]),
        promised=promised,
        promised_share=share,
        rejected_known=None,
        rejected_unknown=share_of([True, False, True, False, False]),
        promised_unknown=promised_unknown,
        promised_unknown_share=share,
        unknown_classes=("a", "b"),
        confusions=(),
        fitted_clips=(),
        unreadable=(),
    )


def test_a_promise_that_no_result_can_break_is_said_to_be_unchecked() -> None:
    share = share_of([True] * 9 + [False])
    said = f"fit said {percent(share)}"
    text = " ".join(render_test(_result(share, (0, 5), (0, 5))).split())
    assert f"too few clips to check what {said}: every result of 5 clips agrees with it" in text
    assert "as promised" not in text
    assert (
        f"{said}, on average over many other classes; 5 clips of 2 other classes are too few to "
        "check that"
    ) in text
    assert "0 to 5" not in text
    text = " ".join(render_test(_result(share, (3, 5), (1, 4))).split())
    assert f"NOT as promised: {said}, so 3 to 5 of 5 clips" in text
    assert f"{said}, on average over many other classes; so 1 to 4 of these 5 clips" in text


def test_the_rates_of_none_of_these_are_sentences_of_their_own(material: Material) -> None:
    model = fit(material.train, reject=0.2, **material.keys()).model
    assert model is not None
    rejection = model.description.rejection
    assert rejection is not None
    lines = list(expectation_lines(model.description))
    first = next(i for i, line in enumerate(lines) if '"none of these"' in line)
    own, others, measured, few = lines[first : first + 4]
    assert own.endswith("of clips of the classes")
    assert others == (
        f"of clips of other classes it rejects {percent(rejection.rejected_unknown)}, on average "
        "over many other classes"
    )
    assert measured.startswith("that was measured by leaving each class out: it rejected ")
    assert few.startswith("where only 5 other classes come, expect ")
    assert few.endswith(" % of their clips (95 %)")


def test_a_clip_below_the_threshold_has_no_class(material: Material) -> None:
    model = fit(material.train, reject=0.3, **material.keys())
    predictions = model.predict(sorted(material.test.rglob("*.mp4")))
    none = [p for p in predictions if p.class_name is None]
    assert none, "the threshold rejects about three in ten"
    assert none[0].to_dict()["reason"] == "none of these"
    assert none[0].nearest == max(none[0].probabilities, key=none[0].probabilities.__getitem__)


def test_predictions_go_on_after_a_clip_that_cannot_be_read(
    material: Material, tmp_path: Path
) -> None:
    model = fit(material.train, folds=2, **material.keys(head="prototype"))
    clips = sorted(material.test.rglob("*.mp4"))
    paths = [clips[0], tmp_path / "absent.mp4", *clips[1:] * 3]
    found = list(model.iterate(iter(paths)))
    assert [p.path for p in found] == paths
    assert [p.error is not None for p in found] == [False, True] + [False] * (len(paths) - 2)
    assert "absent.mp4" in str(found[1].to_dict()["path"])
    # a clip's probabilities do not depend on those that are read with it
    (alone,) = model.predict([clips[1]])
    torch.testing.assert_close(
        torch.tensor(list(alone.probabilities.values())),
        torch.tensor(list(found[2].probabilities.values())),
        atol=1e-6,
        rtol=0,
    )


def test_a_test_on_clips_of_groups_is_promised_less(material: Material) -> None:
    model = fit(material.train, folds=2, **material.keys(head="prototype"))
    single = run_test(model, material.test)
    grouped = run_test(model, material.test, group=r"-(\d)\d\d\.mp4")
    assert single.promised is not None
    assert grouped.promised is not None
    assert grouped.accuracy.effective < single.accuracy.effective
    assert grouped.promised[0] <= single.promised[0]
    assert grouped.promised[1] - grouped.promised[0] > single.promised[1] - single.promised[0]


def test_a_class_in_other_letters_is_refused_in_a_test(material: Material, tmp_path: Path) -> None:
    model = fit(material.train, folds=2, **material.keys(head="prototype"))
    name = material.classes[0]
    shutil.copytree(material.test, tmp_path, dirs_exist_ok=True)
    (tmp_path / name).rename(tmp_path / name.upper())
    with pytest.raises(UsageError, match=f"class '{name.upper()}': the model has '{name}'"):
        run_test(model, tmp_path)


def test_a_model_predicts_in_the_precision_of_its_fit(
    material: Material, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it promises of its accuracy was measured in it; frozen methods are of fp32 anyway."""
    products = "fewshot_i2v.utils.environment.has_bfloat16_products"
    monkeypatch.setattr(products, lambda _device: True)
    path, clips = tmp_path / "model.safetensors", sorted(material.test.rglob("*.mp4"))
    keys = material.keys(head="prototype", adapter="st-adapter", tuning={"steps": 1})
    model = fit(material.train, path, folds=2, **keys)
    assert model.model is not None
    assert model.model.description.precision == "bf16"
    expected = model.predict_proba(clips)
    monkeypatch.setattr(products, lambda _device: False)
    loaded = FewShotClassifier.load(path, cache=material.folder / "cache", workers=1)
    np.testing.assert_array_equal(loaded.predict_proba(clips), expected)
    other = fit(material.train, folds=2, **keys)
    assert other.model is not None
    assert other.model.description.precision == "fp32"


def test_a_model_of_bfloat16_of_an_earlier_version_predicts_as_before(
    material: Material, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The default was bf16 where the machine has it, also for methods of the frozen encoder."""
    path, clips = tmp_path / "model.safetensors", sorted(material.test.rglob("*.mp4"))
    keys = material.keys(head="prototype", precision="bf16")
    expected = fit(material.train, path, folds=2, **keys).predict_proba(clips)
    monkeypatch.setattr("fewshot_i2v.utils.environment.has_bfloat16_products", lambda _: True)
    loaded = FewShotClassifier.load(path, cache=material.folder / "cache", workers=1)
    np.testing.assert_array_equal(loaded.predict_proba(clips), expected)
    assert loaded.scorer.encoder.tower.dtype == torch.bfloat16
    exact = fit(material.train, folds=2, **material.keys(head="prototype", precision="fp32"))
    assert (exact.predict_proba(clips) != expected).any()


def test_a_model_of_an_earlier_version_has_no_rates_of_single_classes(material: Material) -> None:
    model = fit(material.train, reject=0.2, **material.keys(head=HEAD)).model
    assert model is not None
    assert model.description.rejection is not None
    facts = model.description.rejection.model_dump()
    del facts["rejected_by_class"]
    earlier = RejectionFacts.model_validate(facts)
    description = model.description.model_copy(update={"rejection": earlier})
    lines = list(expectation_lines(description))
    assert "that was measured by leaving each class out" in lines
    assert not any("where only" in line for line in lines)


def _probabilities(model: fewshot_i2v.FewShotClassifier, clips: list[Path]) -> np.ndarray:
    return np.array([list(p.probabilities.values()) for p in model.predict(clips)])


def test_a_fit_on_a_device_without_memory_for_all_clips_is_the_same(
    material: Material, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = material.keys(head=HEAD, adapter="m-adapter", tuning={"steps": 2})
    clips = sorted(material.test.rglob("*.mp4"))
    expected = _probabilities(fit(material.train, **keys), clips)
    monkeypatch.setattr(feature_caches, "cache_limits", lambda *_: CacheBytes(60_000, 1 << 24))
    real, n_failed = AdaptedEncoder.forward, 0

    def forward(encoder: AdaptedEncoder, *args: Any, **options: Any) -> Features:
        nonlocal n_failed
        features = real(encoder, *args, **options)
        if not torch.is_grad_enabled() and features.clip.shape[:2].numel() > 12:
            n_failed += 1
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return features

    monkeypatch.setattr(AdaptedEncoder, "forward", forward)
    result = run_fit(material.train, keys)
    assert n_failed
    notes = "\n".join(result.tried.notes)
    assert "too small to predict all clips of a batch at once" in notes
    assert "in host memory; reading those takes longer" in notes
    model = fit(material.train, **keys)
    np.testing.assert_allclose(_probabilities(model, clips), expected, atol=1e-4)


def test_encoding_a_clip_gets_the_memory_of_the_caches(
    material: Material, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With one clip at a time out of memory, cached clips move to the host, and it goes on."""
    keys = material.keys(head=HEAD, adapter="frozen", reject=0)
    expected = run_fit(material.train, keys).tried.chosen.held_out
    real, n_failed = RunContext._features, 0

    def features(context: RunContext, *args: Any) -> Features:
        nonlocal n_failed
        result = real(context, *args)
        if context.caches.memory.held.device > 10_000:
            n_failed += 1
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return result

    monkeypatch.setattr(RunContext, "_features", features)
    with pretended_cuda():
        result = run_fit(material.train, {**keys, "device": "cuda"})
    assert n_failed == 1
    held_out = result.tried.chosen.held_out
    assert held_out is not None
    assert expected is not None
    np.testing.assert_allclose(held_out.logits, expected.logits, atol=1e-3)
    assert any("in host memory" in note for note in result.tried.notes)
