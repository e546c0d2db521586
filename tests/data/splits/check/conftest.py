"""Clips that checks are tried on."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from fewshot_i2v.data.video import clip_digest
from tests.data.video.made_videos import write_video


@pytest.fixture(autouse=True)
def _settled_at_once() -> Iterator[None]:
    """Clips are written moments before they are checked; their times tell all the same here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clip_digest, "_TICK", 0)
        yield


@pytest.fixture(scope="session")
def three(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Videos of 8, 9 and 5 frames."""
    folder = tmp_path_factory.mktemp("three")
    return [write_video(folder / f"{n}.mp4", "mpeg4", n, size=(32, 32)) for n in (8, 9, 5)]


@pytest.fixture
def root(three: list[Path], tmp_path: Path) -> Path:
    """`wave` with two videos and an empty file, `run` with a short one and a broken one."""
    folder = tmp_path / "clips"
    for name, source in {"wave/a": three[0], "wave/b": three[1], "run/a": three[2]}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, folder / f"{name}.mp4")
    (folder / "wave/c.mp4").touch()
    (folder / "run/b.mp4").write_bytes(three[1].read_bytes()[:-200])
    return folder
