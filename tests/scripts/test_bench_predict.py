"""The benchmark of `predict`: the joined video is as its truth says, and segments are compared."""

from __future__ import annotations

import itertools
import json
import runpy
import sys
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from click.testing import CliRunner

FOLDER = Path(__file__).resolve().parents[2] / "scripts" / "benchmarks"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setattr(sys, "path", [str(FOLDER), *sys.path])  # as for a script that is run
    return runpy.run_path(str(FOLDER / "bench_predict.py"))


def test_time_is_right_of_another_class_or_none(script: dict[str, Any]) -> None:
    truth = [(0.0, 2.0, "a"), (4.0, 6.0, "b")]
    segments = [
        {"start": 0.0, "end": 1.0, "class": "a"},
        {"start": 1.0, "end": 3.0, "class": None},
        {"start": 3.0, "end": 8.0, "class": "a"},
    ]
    shares = script["compare_with_truth"](segments, truth)
    assert shares["time_in_clips_right"] == pytest.approx(1 / 4)
    assert shares["time_in_clips_of_another_class"] == pytest.approx(2 / 4)
    assert shares["time_in_pauses_none"] == pytest.approx(1 / 4)


def test_clips_are_joined_with_pauses(script: dict[str, Any], tmp_path: Path) -> None:
    clips = script["generated_clips"](tmp_path / "clips", ["grows", "moves-up"], 2)
    truth = script["join_clips"](clips, 0.2, tmp_path / "long.mp4")
    frames = [f.to_ndarray(format="gray") for f in av.open(str(tmp_path / "long.mp4")).decode()]
    times = np.arange(1, len(frames)) / 8
    change = np.array([np.abs(b.astype(int) - a).mean() for a, b in itertools.pairwise(frames)])
    in_clip = np.zeros(len(times), dtype=bool)
    in_pause = in_clip.copy()
    for (start, end, name), following in itertools.pairwise(truth):
        assert name in clips
        assert 1 <= following[0] - end <= 4
        in_clip |= (times > start) & (times < end)
        in_pause |= (times > end) & (times < following[0])
    assert change[in_clip].mean() > 5 * change[in_pause].mean()
    assert 12 <= len(frames) / 8 < 12 + 6


def test_a_command_is_watched(script: dict[str, Any], tmp_path: Path) -> None:
    code = "import time; print('done'); time.sleep(0.2)"
    result = script["watched"]([sys.executable, "-c", code], tmp_path / "out")
    assert (tmp_path / "out").read_text() == "done\n"
    assert result["seconds"] >= 0.2


@pytest.mark.slow
def test_it_runs(script: dict[str, Any], tmp_path: Path) -> None:
    record, threads = tmp_path / "predict.json", torch.get_num_threads()
    flags = ["--quick", "--encoder", "demo", "--size", "64", "--json", str(record)]
    try:
        CliRunner().invoke(script["main"], flags, catch_exceptions=False)
    finally:
        torch.set_num_threads(threads)
    result = json.loads(record.read_text())
    clips = result["clips"]
    assert clips["seen clips"]["seconds_of_parts"]["decoding"] < 0.1
    assert clips["new clips"]["seconds_of_parts"]["encoding"] > 0
    assert result["long_video"]["clips"] > 5
