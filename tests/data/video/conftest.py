"""Clips that several tests read, each made once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.data.video.made_videos import write_packed_avi, write_video


@pytest.fixture(scope="session")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Makes a clip by name, once; 30 numbered frames unless the name says otherwise."""
    folder = tmp_path_factory.mktemp("clips")
    # gaps between 10 and 90 ms
    uneven = np.cumsum(10 + (np.arange(30) * 37) % 80).tolist()
    made: dict[str, Callable[[Path], Path]] = {
        "h264.mp4": lambda p: write_video(p, "libx264", options={"bf": "3", "g": "12"}),
        "front.mp4": lambda p: write_video(p, "libx264", mux={"movflags": "faststart"}),
        "open-gop.mkv": lambda p: write_video(
            p, "libx264", options={"x264-params": "open-gop=1:keyint=8:bframes=3"}
        ),
        "vfr.mp4": lambda p: write_video(p, "libx264", times=uneven),
        "vfr.mkv": lambda p: write_video(p, "libx264", times=uneven),
        "h264.ts": lambda p: write_video(p, "libx264"),
        "interlaced.mp4": lambda p: write_video(
            p, "libx264", options={"x264-params": "interlaced=1"}
        ),
        "mpeg4.avi": lambda p: write_video(p, "mpeg4", options={"bf": "2"}),
        "mpeg4.mp4": lambda p: write_video(p, "mpeg4", options={"bf": "2"}),
        "packed.avi": write_packed_avi,
        "animated.gif": lambda p: write_video(p, "gif", layout="rgb8"),
        "av1.mkv": lambda p: write_video(p, "libsvtav1", options={"preset": "12"}),
        "vp8.webm": lambda p: write_video(
            p, "libvpx", options={"auto-alt-ref": "1", "lag-in-frames": "16", "deadline": "good"}
        ),
        "vp9-odd.webm": lambda p: write_video(
            p, "libvpx-vp9", size=(97, 65), options={"cpu-used": "8"}
        ),
        "ten-bit.mp4": lambda p: write_video(p, "libx264", layout="yuv420p10le"),
        "single.mp4": lambda p: write_video(p, "libx264", frames=1),
    }

    def clip(name: str) -> Path:
        path = folder / name
        if not path.exists():
            made[name](path)
        return path

    return clip
