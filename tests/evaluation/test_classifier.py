"""An export classifies clips as the run did."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from fewshot_i2v import FewShotClassifier
from fewshot_i2v.errors import (
    CheckpointError,
    DeviceMemoryError,
    HeadError,
    UsageError,
    VideoUnreadable,
)
from fewshot_i2v.evaluation.context import EvaluationContext
from fewshot_i2v.models.adapters.base.adapted_encoder import AdaptedEncoder
from fewshot_i2v.models.adapters.base.features import Features
from fewshot_i2v.models.checkpoints.files import write_checkpoint
from fewshot_i2v.runs.episode_record import EpisodeRecord
from fewshot_i2v.runs.run_folder import read_run
from tests.evaluation.exports import EPISODE, Runs

ROWS: dict[str, dict[str, Any]] = {
    "linear": {"adapter": "lora", "head": "linear", "video": {"frames": 4, "policy": "uniform"}},
    "otam": {"adapter": "st-adapter", "head": "otam", "video": {"frames": 4, "crop": 0.5}},
    "grid": {"adapter": "lora", "head": "prototype:tokens=grid2"},
}


class Exports:
    """Rows, their exports, and the files of their clips."""

    def __init__(self, folder: Path) -> None:
        self.runs = Runs(folder)
        self.rows = {name: self.runs.row(name, **more) for name, more in ROWS.items()}
        self.folders = {
            name: self.runs.export(row, folder / "exported" / name).folder
            for name, row in self.rows.items()
        }

    def load(self, name: str) -> FewShotClassifier:
        encoder = self.runs.encoder() if name == "otam" else None
        cache = self.runs.folder / "cache"
        return FewShotClassifier.load(self.folders[name], encoder, cache=cache, workers=1)

    def clips(self, name: str) -> tuple[EpisodeRecord, dict[str, list[Path]], list[Path]]:
        """The record, its support clips by class and its query clips."""
        kept = read_run(self.rows[name]).records[EPISODE]
        work = EvaluationContext.of(self.runs.config("x", **ROWS[name]))
        support = {
            name: [work.clip_path(clip) for clip in clips]
            for name, clips in zip(kept.classes, kept.support, strict=True)
        }
        return kept, support, [work.clip_path(clip) for clips in kept.query for clip in clips]


@pytest.fixture(scope="module")
def exports(tmp_path_factory: pytest.TempPathFactory) -> Exports:
    return Exports(tmp_path_factory.mktemp("classify"))


@pytest.mark.parametrize("name", ROWS)
def test_clips_are_classified_as_they_were_recorded(exports: Exports, name: str) -> None:
    kept, support, query = exports.clips(name)
    classifier = exports.load(name)
    found = classifier.predict([str(path) for path in query])
    assert [one.path for one in found] == query
    assert list(found[0].probabilities) == kept.classes
    for one, row, index in zip(found, kept.probabilities, kept.predictions, strict=True):
        assert list(one.probabilities.values()) == pytest.approx(row, abs=1e-4)
        assert one.class_name == kept.classes[index]
    alone = classifier.predict(query[-1:])[0]
    assert alone.probabilities == pytest.approx(found[-1].probabilities, abs=1e-5)
    assert classifier.predict([]) == []
    # its own support clips given again, in another order: that of the classes is the export's
    assert classifier.set_support(dict(reversed(support.items()))) is classifier
    for one, again in zip(found, classifier.predict(query), strict=True):
        assert list(again.probabilities) == kept.classes
        assert again.probabilities == pytest.approx(one.probabilities, abs=1e-4)


def test_features_of_support_clips_are_stored_where_the_head_reads_them(exports: Exports) -> None:
    for name in ROWS:
        tensors = load_file(exports.folders[name] / "adapter.safetensors")
        stored = {key for key in tensors if key.startswith("support.")}
        assert stored == (set() if name == "linear" else {"support.features", "support.labels"})


def test_a_folder_without_its_support_clips_says_what_to_do(
    exports: Exports, tmp_path: Path
) -> None:
    """As folders were written before support clips were stored."""
    _, support, query = exports.clips("grid")
    copy = Path(shutil.copytree(exports.folders["grid"], tmp_path / "x"))
    plain = json.loads((copy / "adapter.json").read_text(encoding="utf-8"))
    tensors = load_file(copy / "adapter.safetensors")
    kept = {key: value for key, value in tensors.items() if not key.startswith("support.")}
    plain.pop("tensors")
    write_checkpoint(copy, plain, kept)
    classifier = FewShotClassifier.load(copy, cache=exports.runs.folder / "cache", workers=1)
    with pytest.raises(HeadError, match=r"export the episode again.*set_support"):
        classifier.predict(query)
    assert classifier.set_support(support).predict(query)


def test_an_adapter_that_was_not_merged_is_loaded_with_the_encoder_of_the_run(
    exports: Exports,
) -> None:
    kept, _, query = exports.clips("otam")
    places = {"architecture": exports.runs.folder / "tiny.json", "workers": 1}
    places["cache"] = exports.runs.folder / "cache"
    classifier = FewShotClassifier.load(exports.folders["otam"], **places)  # type: ignore[arg-type]
    for one, row in zip(classifier.predict(query), kept.probabilities, strict=True):
        assert list(one.probabilities.values()) == pytest.approx(row, abs=1e-4)


def test_support_clips_change_nothing_for_a_head_that_does_not_read_them(exports: Exports) -> None:
    _, support, query = exports.clips("linear")
    classifier = exports.load("linear")
    before = classifier.predict(query)
    assert classifier.set_support(support).predict(query) == before


def test_a_head_without_parameters_takes_other_classes(exports: Exports) -> None:
    _, support, _ = exports.clips("grid")
    names = list(support)
    classifier = exports.load("grid")
    two = {"that": support[names[2]], "this": support[names[0]]}
    found = classifier.set_support(two).predict([support[names[0]][0], support[names[2]][0]])
    assert classifier.classes == ("that", "this")
    assert [one.class_name for one in found] == ["this", "that"]
    assert [sum(one.probabilities.values()) for one in found] == pytest.approx([1, 1])
    with pytest.raises(UsageError, match=r"'linear' was tuned .*\(differs in .*this\)"):
        exports.load("linear").set_support(support | {"this": support[names[0]]})


def test_unreadable_clips_are_named_with_the_reason(exports: Exports, tmp_path: Path) -> None:
    _, support, query = exports.clips("grid")
    bad = [tmp_path / "a.mp4", tmp_path / "b.mp4"]
    bad[0].write_bytes(b"no video")
    classifier = exports.load("grid")
    with pytest.raises(VideoUnreadable, match=r"a\.mp4: .*; 1 more cannot be read: .*b\.mp4: "):
        classifier.set_support(support).predict([query[0], *bad])
    with pytest.raises(VideoUnreadable, match=r"b\.mp4: ") as error:
        classifier.set_support(support | {next(iter(support)): bad[1:]})
    assert error.value.path == str(bad[1])


def test_lists_are_lists(exports: Exports) -> None:
    classifier = exports.load("grid")
    with pytest.raises(UsageError, match="got 'clips'; expected a list"):
        classifier.predict("clips")
    wrong: list[dict[str, Any]] = [{"a": "a.mp4"}, {"a": []}]
    for support in wrong:
        with pytest.raises(UsageError, match=r"support of 'a': got .*expected a list"):
            classifier.set_support(support)
    with pytest.raises(UsageError, match="got no class"):
        classifier.set_support({})


def test_the_encoder_is_given_where_it_is_needed_and_nowhere_else(exports: Exports) -> None:
    with pytest.raises(CheckpointError, match=r"needs its encoder, tiny .*--architecture"):
        FewShotClassifier.load(exports.folders["otam"])
    with pytest.raises(CheckpointError, match="leave out `encoder`"):
        FewShotClassifier.load(exports.folders["grid"], exports.runs.encoder())


def test_a_folder_must_say_how_clips_were_read_and_have_a_head(
    exports: Exports, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(exports.folders["otam"], tmp_path / "x"))
    path = copy / "adapter.json"
    plain = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(plain | {"about": {}}), encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"does not say how its clips were read"):
        FewShotClassifier.load(copy, exports.runs.encoder())
    about = {"config": {"video": {"frames": 4, "polcy": "dense"}}}
    path.write_text(json.dumps(plain | {"about": about}), encoding="utf-8")
    with pytest.raises(UsageError, match=r"'polcy'; did you mean 'policy'"):
        FewShotClassifier.load(copy, exports.runs.encoder())


@pytest.mark.parametrize("name", ROWS)
def test_a_device_without_memory_for_all_clips_classifies_them_in_parts(
    exports: Exports, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, support, query = exports.clips(name)
    expected = exports.load(name).set_support(support).predict(query)
    classifier = exports.load(name)
    real, sizes = AdaptedEncoder.forward, list[int]()

    def forward(encoder: AdaptedEncoder, tokens: Tensor, **keys: Any) -> Features:
        features = real(encoder, tokens, **keys)  # memory ends late, when much was computed
        sizes.append(features.clip.shape[1])
        if sizes[-1] > 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate")
        return features

    monkeypatch.setattr(AdaptedEncoder, "forward", forward)
    predictions = classifier.set_support(support).predict(query)
    for ours, theirs in zip(predictions, expected, strict=True):
        assert ours.probabilities == pytest.approx(theirs.probabilities, abs=1e-5)
    assert sum(size > 2 for size in sizes) <= 2, "a size that did not fit was tried again"
    assert "the memory of the device was too small" in classifier.scorer.notes[-1]
    assert len(classifier.scorer.notes) == sum(size > 2 for size in sizes)


def test_a_clip_that_does_not_fit_is_an_error_that_says_what_to_change(
    exports: Exports, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, _, query = exports.clips("linear")
    classifier = exports.load("linear")

    def forward(*_: object, **__: object) -> Features:
        raise torch.OutOfMemoryError("CUDA out of memory.\nmore lines")

    monkeypatch.setattr(AdaptedEncoder, "forward", forward)
    with pytest.raises(DeviceMemoryError, match="one clip at a time; give the device cpu") as error:
        classifier.predict(query)
    assert "more lines" not in str(error.value)
