"""A run with a limit of the cache: older clips go, its own stay, and it says what it needs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fewshot_i2v.config.evaluation import EvaluationConfig
from fewshot_i2v.data.cache_folder import list_cache
from fewshot_i2v.evaluation.row_expansion import load_config
from fewshot_i2v.tuning.run_context import RunContext

CLIPS = [f"grows/grows-{number:03d}.mp4" for number in range(4)]


def _config(cache: Path, limit: str) -> EvaluationConfig:
    return load_config("quickstart", {"cache": cache, "cache_limit": limit, "workers": 1})


def _decoded(cache: Path) -> int:
    return sum(bool(file.key) for file in list_cache(cache))


def test_a_run_makes_room_for_its_clips(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    context = RunContext.open(_config(tmp_path, "1GB"))
    context.decode_clips(CLIPS[:3], progress=True)
    entries = [file for file in list_cache(tmp_path) if file.key]
    del context
    for entry in entries:
        os.utime(entry.path, (1e9, 1e9))
    limit = f"{2 * entries[0].size + 10}B"
    context = RunContext.open(_config(tmp_path, limit))
    context.decode_clips(CLIPS[3:], progress=True)
    assert _decoded(tmp_path) <= 2
    assert context.frames(CLIPS[3]).shape == (8, 64, 64, 3)
    assert "note:" not in capsys.readouterr().err


def test_a_run_that_needs_more_says_so_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    context = RunContext.open(_config(tmp_path, "10kB"))
    for last in (2, 3, 4):
        context.decode_clips(CLIPS[:last], progress=True)
    assert _decoded(tmp_path) == 4
    said = capsys.readouterr().err
    assert said.count("note: clips in use take ") == 1
    assert "more than --cache-limit 10kB; they stay" in said
    assert context.store.n_decoded == 4


def test_quiet_runs_say_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    RunContext.open(_config(tmp_path, "10kB")).decode_clips(CLIPS[:2], progress=False)
    assert "note:" not in capsys.readouterr().err
