"""Predictions of windows become segments."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fewshot_i2v import fit
from fewshot_i2v.data.video.windows import WindowPlan
from fewshot_i2v.errors import VideoUnreadable
from fewshot_i2v.evaluation.prediction import Prediction
from fewshot_i2v.evaluation.segments import Segment, SegmentMerger, find_segments
from tests.evaluation.fitting.conftest import Material


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Material:
    return Material(tmp_path_factory.mktemp("segments"))


def merge_windows(predictions: Sequence[Prediction], plan: WindowPlan) -> list[Segment]:
    """Segments of the predictions of all windows of a video."""
    merger = SegmentMerger(plan)
    segments = [s for number, p in enumerate(predictions) for s in merger.add(number, p)]
    return segments + merger.finish(plan.duration)


def _predictions(names: str) -> list[Prediction]:
    """Of a text such as aab-: classes a and b, - for none."""
    table = {"a": {"a": 1.0, "b": 0.0}, "b": {"a": 0.0, "b": 1.0}, "-": {"a": 0.6, "b": 0.4}}
    return [
        Prediction(Path("v"), None if n == "-" else n, table[n], "a" if n == "-" else n)
        for n in names
    ]


def _none(nearest: str, probability: float) -> Prediction:
    rest = {"a": 1 - probability, "b": 1 - probability}
    return Prediction(Path("v"), None, rest | {nearest: probability}, nearest)


def test_windows_side_by_side() -> None:
    plan = WindowPlan.of(5.0, 1.0, 1.0)
    assert merge_windows(_predictions("aabb-"), plan) == [
        Segment(0.0, 2.0, "a", 1.0),
        Segment(2.0, 4.0, "b", 1.0),
        Segment(4.0, 5.0, None, 0.6, nearest="a"),
    ]


def test_of_overlapping_windows_the_surest_decides() -> None:
    plan = WindowPlan.of(4.0, 2.0, 1.0)
    # cells are covered by windows 0; 0, 1; 1, 2; 2; the surest window decides
    unsure = Prediction(Path("v"), "a", {"a": 0.7, "b": 0.3}, "a")
    first, last = merge_windows([unsure, unsure, *_predictions("b")], plan)
    assert (first.start, first.end, first.class_name) == (0.0, 2.0, "a")
    assert first.probability == pytest.approx(0.7)
    assert last == Segment(2.0, 4.0, "b", 1.0)


def test_a_segment_of_none_names_the_class_that_is_nearest_in_most_of_it() -> None:
    plan = WindowPlan.of(3.0, 1.0, 1.0)
    (segment,) = merge_windows([_none("a", 0.9), _none("b", 0.6), _none("b", 0.6)], plan)
    assert (segment.class_name, segment.nearest) == (None, "b")
    assert segment.probability == pytest.approx(0.7)
    plain = segment.to_dict()
    assert (plain["class"], plain["reason"], plain["nearest"]) == (None, "none of these", "b")
    (segment,) = merge_windows(_predictions("aaa"), plan)
    assert "nearest" not in segment.to_dict()


@given(st.text("ab-", min_size=1, max_size=12), st.floats(0.1, 3), st.floats(0.1, 1))
def test_segments_cover_the_video_without_gaps(names: str, window: float, share: float) -> None:
    stride = share * window
    plan = WindowPlan.of(window + stride * (len(names) - 1), window, stride)
    segments = merge_windows(_predictions(names), plan)
    assert segments[0].start == 0
    assert segments[-1].end == pytest.approx(plan.duration, abs=2e-3 * stride)
    for before, after in pairwise(segments):
        assert before.end == after.start
        assert before.class_name != after.class_name
    assert all(0 <= s.probability <= 1 + 1e-9 for s in segments)


@pytest.mark.parametrize("window", [0.9, 1.0, 2.1, 7.9, 8.1, 40.0, 300.0])
def test_a_video_that_is_much_shorter_than_its_windows_is_one_segment(window: float) -> None:
    plan = WindowPlan.of(1.0, window, window / 4)
    segments = merge_windows(_predictions("a" * plan.count), plan)
    assert segments == [Segment(0.0, 1.0, "a", 1.0)]


def test_merging_as_windows_come_keeps_few_of_them() -> None:
    merger = SegmentMerger(WindowPlan.endless(2.0, 0.5))
    names = "aabb-bab" * 100
    ended = [s for k, p in enumerate(_predictions(names)) for s in merger.add(k, p)]
    assert len(merger._windows) <= 5, "those that cover the next cell"
    together = merge_windows(_predictions(names), WindowPlan.of(401.5, 2.0, 0.5))
    assert ended + merger.finish(401.5) == together
    assert merger.finish(401.5) == []


def test_a_stretch_whose_windows_were_dropped_is_in_no_segment() -> None:
    merger = SegmentMerger(WindowPlan.endless(1.0, 1.0))
    first, second, third = _predictions("aaa")
    ended = [*merger.add(0, first), *merger.add(4, second), *merger.add(5, third)]
    assert [(s.start, s.end) for s in ended + merger.finish(6.0)] == [(0.0, 1.0), (4.0, 6.0)]


def test_no_window_gives_no_segment() -> None:
    assert merge_windows([], WindowPlan.of(1.0, 1.0, 1.0)) == []


def test_a_video_none_of_whose_frames_come_is_named(
    material: Material, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = fit(material.train, reject=0, folds=2, **material.keys(head="prototype"))
    monkeypatch.setattr(type(model.scorer), "read_windows", lambda *_: iter(()))
    clip = next(material.test.rglob("*.mp4"))
    with pytest.raises(VideoUnreadable, match=rf"{clip.name}.*no frame that can be decoded"):
        find_segments(model, clip, 1.0, 0.5)


def _join(clips: list[Path], out: Path) -> None:
    """Writes the frames of clips one after the other, without loss."""
    frames: list[np.ndarray] = []
    for clip in clips:
        with av.open(str(clip)) as container:
            frames += [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    with av.open(str(out), "w") as container:
        stream = container.add_stream("ffv1", rate=8)
        stream.width, stream.height = frames[0].shape[1::-1]
        stream.pix_fmt = "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())


def test_clips_that_are_joined_are_told_as_they_are_one_by_one(
    material: Material, tmp_path: Path
) -> None:
    """With windows of the length of a clip, each window is a clip."""
    clips = [sorted((material.test / name).iterdir())[0] for name in material.classes[:3]]
    _join(clips, tmp_path / "long.mkv")
    singles = [tmp_path / f"{number}.mkv" for number in range(3)]
    for clip, single in zip(clips, singles, strict=True):
        _join([clip], single)
    head = "prototype:pooling=ordered,center=true,tokens=summary+grid2"
    model = fit(material.train, reject=0, **material.keys(head=head))
    expected = [prediction.nearest for prediction in model.predict(singles)]
    segments = find_segments(model, tmp_path / "long.mkv", 1.0, 1.0)
    assert segments[-1].end == pytest.approx(3.0)
    names = [s.class_name for s in segments for _ in range(round(s.end - s.start))]
    assert names == expected
