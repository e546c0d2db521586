"""The script that makes starting points to ship."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from fewshot_i2v.models.checkpoints.starting_point import read_start

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = runpy.run_path(str(ROOT / "scripts" / "train_demo_starts.py"))


@pytest.mark.slow
def test_it_trains_and_writes_a_start_in_half_precision(tmp_path: Path) -> None:
    given = ["--work", str(tmp_path / "work"), "--out", str(tmp_path / "out"), "--steps", "1"]
    given += ["--adapter", "m-adapter", "--cache", str(tmp_path / "cache")]
    result = CliRunner().invoke(SCRIPT["main"], given, catch_exceptions=False)
    assert result.exit_code == 0
    start = read_start(tmp_path / "out" / "m-adapter", "m-adapter")
    assert start.facts.stored == "float16"
    assert {tensor.dtype for tensor in start.tensors.values()} == {torch.float32}
