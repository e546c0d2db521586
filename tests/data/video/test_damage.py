"""Files with holes are refused, in every container, and no whole file is."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from fewshot_i2v.data.video.completeness import describe_time_gaps
from fewshot_i2v.data.video.probe import probe_clip
from fewshot_i2v.data.video.worker_pool import Job, run_jobs
from fewshot_i2v.errors import VideoUnreadable
from fewshot_i2v.utils.limits import ClipLimits
from tests.data.video import video_mutants
from tests.data.video.made_videos import write_video
from tests.data.video.video_mutants import CLIPS, HOLES, KINDS, mutants, write_textured


def verdicts(
    folder: Path, names: list[str], kinds: tuple[str, ...], each: int, frames: int
) -> tuple[Counter[str], list[str]]:
    """What became of damaged clips, and the names of those that came out changed in silence."""
    source = {name: write_textured(folder / name, frames) for name in names}
    whole = dict.fromkeys(source.values(), "")
    for name, path in source.items():
        for copy, content in mutants(path, kinds, each):
            # names of mutants may be alike in two clips: "h264-bytes-0"
            target = folder / f"{name.partition('.')[2]}-{copy}"
            target.write_bytes(content)
            whole[target] = str(path)
    function = f"{video_mutants.__name__}:every_frame"
    jobs = [Job(path, function, (str(path),)) for path in whole]
    read = {job.path: result for job, result in run_jobs(jobs, 2, ClipLimits(seconds=60))}
    assert all(isinstance(read[path], str) for path in source.values())
    counts: Counter[str] = Counter()
    silent = []
    for path, origin in whole.items():
        if origin:
            refused = isinstance(read[path], VideoUnreadable)
            same = not refused and read[path] == read[Path(origin)]
            counts["refused" if refused else "same" if same else "silent"] += 1
            silent += [] if refused or same else [path.name]
    return counts, silent


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    names = [name for name in CLIPS if name != "hevc.mov"]
    counts, silent = verdicts(tmp_path, names, KINDS, each=2, frames=30)
    assert sum(counts.values()) == 60
    assert counts["refused"] > 45
    assert len(silent) <= 2, silent


def test_holes_in_hevc_are_refused(tmp_path: Path) -> None:
    _, silent = verdicts(tmp_path, ["hevc.mov"], HOLES, each=4, frames=30)
    assert silent == []


@pytest.mark.slow
def test_many_damaged_files_are_refused(tmp_path: Path) -> None:
    names = [name for name in CLIPS if name != "hevc.mov"]
    counts, silent = verdicts(tmp_path, names, KINDS, each=30, frames=100)
    assert len(silent) <= 0.03 * (counts["refused"] + counts["silent"]), silent


@pytest.mark.slow
def test_many_holes_in_hevc_are_refused(tmp_path: Path) -> None:
    counts, silent = verdicts(tmp_path, ["hevc.mov"], HOLES, each=60, frames=100)
    assert len(silent) <= 0.03 * counts["refused"], silent


def test_both_counts_are_told_of_an_avi_with_a_hole(tmp_path: Path) -> None:
    path = write_video(tmp_path / "hole.avi", "mjpeg", 60, layout="yuvj420p")
    content = bytearray(path.read_bytes())
    start, end = (len(content) * part // 5 for part in (2, 3))
    content[start:end] = bytes(end - start)
    path.write_bytes(content)
    with pytest.raises(VideoUnreadable, match=r"damaged .*: 4\d of the 60 frames"):
        probe_clip(path)


@pytest.mark.shared
def test_the_damaged_avi_of_the_cases(shared: Path) -> None:
    with pytest.raises(VideoUnreadable, match="46 of the 60 frames that its index names"):
        probe_clip(shared / "cases/damaged/avi_index_60_frames_46.avi")


def test_gaps_in_time_are_told_where_nothing_tells_how_much_there_should_be(tmp_path: Path) -> None:
    times = [40 * n + (2000 if n >= 12 else 0) + (400 if n >= 20 else 0) for n in range(30)]
    words = "2 gaps in time, the longest 2.04 s at 0.44 s: frames may be missing"
    for name in ("stream.ts", "stream.flv", "stream.mkv"):
        path = write_video(tmp_path / name, "libx264", times=times, options={"bf": "0"})
        assert probe_clip(path).notes == (() if name.endswith("mkv") else (words,))
    assert describe_time_gaps([], None) == describe_time_gaps([5], None) == ""
