"""The frame that comes back is the frame asked for, whatever the coding, container and policy.

Every clip goes through the store that `evaluate` reads from.
"""

from __future__ import annotations

import itertools
from pathlib import Path

import av
import pytest

from fewshot_i2v.data.video.clip_cache import ClipCache
from fewshot_i2v.data.video.decord_reader import decord_present
from fewshot_i2v.data.video.frame_sampling import POLICIES, SEGMENT_THIRDS, frame_indices
from fewshot_i2v.data.video.probe import probe_clip
from fewshot_i2v.data.video.reader import (
    BACKENDS,
    DecodeOptions,
    count_frames,
    read_frames,
)
from fewshot_i2v.errors import VideoUnreadable
from tests.data.video.video_kinds import CUT, REFUSED, SIDE, WHOLE, Kind, numbers

COUNTS = (1, 8, 16, 32)
FEW = [
    ("segment-center", 1, 1),
    ("segment-center", 32, 1),
    ("uniform", 8, 1),
    ("dense", 8, 2),
    (SEGMENT_THIRDS, 24, 1),
]
ALL = [
    *itertools.product(POLICIES, COUNTS, (1,)),
    *itertools.product(("dense",), COUNTS, (2,)),
]
SHOWN: dict[str, list[int]] = {kind.name: list(kind.shown) for kind in (*WHOLE, *CUT)}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """All kinds, each made once."""
    folder = tmp_path_factory.mktemp("kinds")
    return {kind.name: kind.write(folder) for kind in (*WHOLE, *CUT, *REFUSED)}


def _options(policy: str, count: int, stride: int, backend: str = "pyav") -> DecodeOptions:
    return DecodeOptions(
        frames=count, policy=policy, stride=stride, size=SIDE, crop=1.0, backend=backend
    )


def _read(
    options: DecodeOptions, paths: list[Path], folder: Path, workers: int
) -> tuple[dict[str, list[int]], dict[str, str]]:
    """The numbers in the frames of each file, and the reasons why others cannot be read."""
    store = ClipCache(folder / options.settings_key().replace("/", "-"), options, workers=workers)
    failures = store.prepare(paths)
    read = {path.name: numbers(store.get(path)) for path in paths if path not in failures}
    return read, {path.name: error.reason for path, error in failures.items()}


def _asked_for(options: DecodeOptions) -> dict[str, list[int]]:
    asked = {}
    for name, shown in SHOWN.items():
        chosen = frame_indices(options.policy, len(shown), options.frames, stride=options.stride)
        asked[name] = [shown[i] for i in chosen]
    return asked


@pytest.mark.parametrize(("policy", "count", "stride"), FEW)
def test_the_frames_asked_for_come_back(
    policy: str, count: int, stride: int, files: dict[str, Path], tmp_path: Path
) -> None:
    options = _options(policy, count, stride)
    read, failures = _read(options, [files[name] for name in SHOWN], tmp_path, workers=0)
    assert failures == {}
    assert read == _asked_for(options)


@pytest.mark.skipif(not decord_present(), reason="decord has no wheel here")
@pytest.mark.parametrize("choice", [("segment-center", 8, 1)])
def test_both_back_ends_in_worker_processes(
    choice: tuple[str, int, int], files: dict[str, Path], tmp_path: Path
) -> None:
    paths = [files[name] for name in SHOWN]
    for backend in BACKENDS:
        options = _options(*choice, backend=backend)
        read, failures = _read(options, paths, tmp_path, workers=2)
        asked = _asked_for(options)
        assert read == {name: asked[name] for name in read}
        if backend == "pyav":
            assert len(read) == len(SHOWN)
        else:
            # what decord would read wrongly, or with other pixels, it does not read at all
            assert len(read) >= 15
            assert all("cannot be read exactly by decord" in why for why in failures.values())


@pytest.mark.slow
@pytest.mark.skipif(not decord_present(), reason="decord has no wheel here")
@pytest.mark.parametrize(("policy", "count", "stride"), ALL)
def test_every_choice_through_both_back_ends_in_worker_processes(
    policy: str, count: int, stride: int, files: dict[str, Path], tmp_path: Path
) -> None:
    test_both_back_ends_in_worker_processes((policy, count, stride), files, tmp_path)


@pytest.mark.parametrize("kind", REFUSED, ids=lambda kind: kind.name)
def test_copies_that_begin_between_key_frames_are_told_how_to_mend_them(
    kind: Kind, files: dict[str, Path], tmp_path: Path
) -> None:
    _, failures = _read(_options("uniform", 8, 1), [files[kind.name]], tmp_path, workers=0)
    reason = failures[kind.name]
    assert "was cut out of a longer file without encoding it again" in reason
    assert "ffmpeg -i IN" in reason
    assert "damaged" not in reason


@pytest.mark.parametrize("kind", [*WHOLE, *CUT], ids=lambda kind: kind.name)
def test_a_check_counts_the_frames_that_evaluate_reads(kind: Kind, files: dict[str, Path]) -> None:
    assert count_frames(str(files[kind.name]))[0] == len(kind.shown)


def test_pictures_that_a_cut_left_out_are_told(files: dict[str, Path]) -> None:
    (note,) = probe_clip(files["hevc-open-cut.mkv"]).notes
    assert "are shown before its first key frame" in note
    assert probe_clip(files["hevc-open.mkv"]).notes == ()


def test_which_of_two_streams_is_read_is_told(files: dict[str, Path], tmp_path: Path) -> None:
    path = tmp_path / "two.mkv"
    with (
        av.open(str(files["h264-closed.mp4"])) as first,
        av.open(str(files["hevc-closed.mp4"])) as second,
        av.open(str(path), "w") as both,
    ):
        streams = [both.add_stream_from_template(f.streams.video[0]) for f in (first, second)]
        for stream, file in zip(streams, (first, second), strict=True):
            for packet in file.demux(video=0):
                if packet.size:
                    packet.stream = stream
                    both.mux(packet)
    found = probe_clip(path)
    assert found.notes == (f"holds 2 video streams: number 0, of {SIDE} x {SIDE} pixels, is read",)
    assert count_frames(str(path)) == (44, found.notes[0])


def test_an_encrypted_file_is_called_encrypted(tmp_path: Path) -> None:
    protection = {
        "encryption_scheme": "cenc-aes-ctr",
        "encryption_key": "76a6c65c5ea762046bd749a2e632ccbb",
        "encryption_kid": "a7e61c373e219033c21091fa607bf3b8",
    }
    path = Kind("encrypted.mp4", mux=protection).write(tmp_path)
    with pytest.raises(VideoUnreadable, match="is encrypted: "):
        probe_clip(path)


@pytest.mark.shared
@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("x264_open_key10_60.mp4", range(60)),
        ("x265_key10_60.mp4", range(60)),
        ("frag50.mp4", range(1000)),
        ("cut_copy_h264_open.mkv", range(20, 60)),
    ],
)
def test_files_that_were_once_read_wrongly(name: str, shown: range, shared: Path) -> None:
    path = shared / "cases" / "frames" / name
    for policy, count in itertools.product(POLICIES, COUNTS[::2]):
        chosen = frame_indices(policy, len(shown), count)
        read = read_frames(path, lambda n, p=policy, c=count: frame_indices(p, n, c))
        assert numbers(read) == [shown[i] for i in chosen]


@pytest.mark.shared
def test_a_copy_of_900_frames_that_begins_in_the_middle(shared: Path) -> None:
    with pytest.raises(VideoUnreadable, match="was cut out of a longer file"):
        count_frames(str(shared / "cases" / "damaged" / "copy_cut_900_frames.mkv"))
