"""Limits are for safety: each can be raised, and its message says how."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fewshot_i2v.config.base import LimitsConfig
from fewshot_i2v.data.video import worker_pool
from fewshot_i2v.data.video.clip_cache import ClipCache
from fewshot_i2v.data.video.reader import DecodeOptions
from fewshot_i2v.data.video.worker_pool import Job, run_jobs
from fewshot_i2v.errors import VideoUnreadable
from fewshot_i2v.utils.limits import ClipLimits
from tests.data.video.made_videos import HEIGHT, WIDTH, write_video

Clips = Callable[[str], Path]


def prepared(path: Path, folder: Path, **limits: Any) -> dict[Path, VideoUnreadable]:
    """What a store with these limits cannot read."""
    given = LimitsConfig(**limits)
    options = DecodeOptions(2, size=16)
    return ClipCache(folder, options, workers=1, limits=given.for_clips()).prepare([path])


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        ({"frames": 29}, "has more than 29 frames; --max-frames"),
        ({"pixels": 6143}, f"has frames of {WIDTH * HEIGHT} pixels, more than 6143; --max-pixels"),
    ],
    ids=("frames", "pixels"),
)
def test_every_limit_names_its_flag(
    limits: dict[str, Any], words: str, clips: Clips, tmp_path: Path
) -> None:
    path = clips("h264.mp4")
    reason = prepared(path, tmp_path, **limits)[path].reason
    assert re.match(words, reason)


def test_the_limit_of_memory_names_its_flag(tmp_path: Path) -> None:
    path = write_video(tmp_path / "8k.avi", "mjpeg", 1, size=(8192, 4096), layout="yuvj420p")
    reason = prepared(path, tmp_path, memory=0.5)[path].reason
    assert re.match("needs more memory to decode than .*; --max-memory", reason)


def test_limits_that_are_just_met_refuse_nothing(clips: Clips, tmp_path: Path) -> None:
    path = clips("h264.mp4")
    assert not prepared(path, tmp_path, frames=30, pixels=WIDTH * HEIGHT, seconds=20, memory=2)


def test_only_computing_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    # a busy machine must not decide this test by its clock
    monkeypatch.setattr(worker_pool, "_WALL_CLOCK_FACTOR", 1000.0)
    path = Path("clip")
    jobs = [Job(path, "time:sleep", (0.8,)), Job(path, "math:factorial", (10**7,))]
    (_, waited), (_, computed) = run_jobs(jobs, 1, ClipLimits(seconds=0.5))
    assert waited is None
    start = "took more than 0.5 s of processor time: the decoder was stopped; --max-seconds raises"
    assert computed.reason.startswith(start)


@pytest.mark.slow
def test_an_hour_of_video_passes(tmp_path: Path) -> None:
    path = write_video(
        tmp_path / "hour.mp4", "libx264", 108_100, options={"preset": "ultrafast"}, size=(32, 32)
    )
    assert not prepared(path, tmp_path / "store")
