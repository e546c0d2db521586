"""Flags that divide an evaluation: what they mean together, and the range of episodes."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from click.testing import CliRunner

from fewshot_i2v.cli._engine import EngineFlags, take_episode_range
from fewshot_i2v.cli._root import cli
from fewshot_i2v.errors import UsageError


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--shard 3/2", "expected K/N with K from 1 to N"),
        ("--shard x", "shard: got 'x'; expected K/N"),
        ("--shard auto", "for jobs of a SLURM array"),
        ("--shard 1/2 --engine processes", "give one of them"),
        ("--episodes 4:8 --engine processes", "a range beside --engine"),
        ("--processes 2", "processes: is for --engine"),
        ("--gpus 0", "gpus: is for --engine"),
        ("--engine slurm", "give the number of jobs, such as --processes 32"),
        ("--submit", "submit: is for --engine slurm"),
        ("--engine slurm --processes 2 --wait", "wait: is for --submit"),
        ("--engine slurm --processes 2 --job partition=a", "job: is for --submit"),
        ("--engine slurm --processes 2 --submit --job gpu", "got 'gpu'; expected KEY=VALUE"),
        ("--engine processes --gpus 0,0", "different numbers, such as 0,1,2"),
        ("--engine processes --gpus 0,1 --processes 3", "got 3 beside 2 GPUs"),
        ("--engine processes --ray-address auto", "ray-address: is for --engine ray"),
        ("--engine ray --gpus 0", "gpus: is for --engine processes"),
        ("--until 3 --shard 1/2", "until: looks at the episodes of all shards"),
        ("--episodes 8:4", "expected A:B with A below B"),
    ],
)
def test_flags_that_mean_nothing_are_refused(words: str, message: str) -> None:
    result = CliRunner().invoke(cli, ["evaluate", "--quiet", *words.split()])
    text = str(result.exception) + result.output
    assert message in text
    assert result.exit_code != 0


def test_workers_start_before_this_process_imports_torch() -> None:
    """Starting takes seconds, which both spend at the same time."""
    code = (
        "import sys; import fewshot_i2v.cli._engine, fewshot_i2v.evaluation.engines.pools; "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_workers_end_with_a_configuration_that_cannot_be_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ended: list[str] = []

    class Pool:
        def close(self) -> None:
            ended.append("closed")

    monkeypatch.setattr(EngineFlags, "_start", lambda *_: Pool())
    words = ["evaluate", "--quiet", "--engine", "processes", "--processes", "1", "--way", "50"]
    result = CliRunner().invoke(cli, words)
    assert (result.exit_code, "expected at most" in result.output) == (2, True)
    assert ended


def test_a_range_is_its_end_and_its_first_episode() -> None:
    for value, first, end in (("40:80", 40, 80), (80, 0, 80), ("all", 0, "all")):
        overrides: dict[str, Any] = {"episodes": value}
        assert (take_episode_range(overrides), overrides["episodes"]) == (first, end)
    assert take_episode_range({}) == 0
    with pytest.raises(UsageError, match="got 3:3"):
        take_episode_range({"episodes": "3:3"})
