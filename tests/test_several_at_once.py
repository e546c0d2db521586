"""Several starts at once on an empty cache: all end well, with the same result."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from fewshot_i2v.runs.episode_record import TIMING_KEYS

ROOT = Path(__file__).resolve().parents[1]
COMMAND = [sys.executable, "-m", "fewshot_i2v"]
EVALUATE = ["evaluate", "--adapter", "frozen", "--shot", "1", "--episodes", "4", "--quiet"]
TRAIN = ["train", "--steps", "2", "--set", "validation.episodes=4", "--set", "clips=4", "--quiet"]
# what an evaluation does before anything is computed, in the order in which it does it
PREPARE = """
import hashlib, sys
from pathlib import Path
from fewshot_i2v.data.splits.split import Generator
from fewshot_i2v.data.synthetic import generate as synthetic
from fewshot_i2v.data.video.clip_cache import ClipCache, DecodeOptions
home = Path(sys.argv[1])
names = [synthetic.clip_name("grows", n) for n in range(6)]
synthetic.write_missing_clips(Generator("motions", size=32, frames=4), names, home / "generated")
paths = [home / "generated" / name for name in names]
store = ClipCache(home / "clips", DecodeOptions(frames=4, size=16), workers=1)
failures = store.prepare(paths)
print(failures, hashlib.sha256(b"".join(store.get(p).tobytes() for p in paths)).hexdigest())
"""


def start(arguments: Sequence[str], home: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        arguments,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "FEWSHOT_I2V_HOME": str(home), "PYTHONPATH": str(ROOT)},
    )


def ended(processes: Sequence[subprocess.Popen[str]]) -> list[str]:
    """What processes said that ended with status 0."""
    said = [process.communicate(timeout=900)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * len(processes), "\n".join(said)
    return said


def records(output: Path) -> list[dict[str, Any]]:
    """The records of an evaluation of one row, without time and memory."""
    (file,) = output.rglob("episodes.jsonl")
    found = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    return [{key: r[key] for key in r if key not in TIMING_KEYS} for r in found]


def left_behind(home: Path) -> list[Path]:
    return list(home.rglob(".*.tmp"))


def test_three_processes_generate_and_decode_the_same_clips(tmp_path: Path) -> None:
    processes = [start([sys.executable, "-c", PREPARE, str(tmp_path)], tmp_path) for _ in range(3)]
    said = ended(processes)
    assert said[0].startswith("{} ")
    assert len(set(said)) == 1
    assert left_behind(tmp_path) == []


@pytest.mark.slow
@pytest.mark.parametrize("number", range(20))
def test_six_evaluations_of_which_some_are_killed(number: int, tmp_path: Path) -> None:
    draws, home = random.Random(number), tmp_path / "home"
    outputs = [tmp_path / f"run-{n}" for n in range(6)]
    processes = [start([*COMMAND, *EVALUATE, "-o", str(output)], home) for output in outputs]
    killed = draws.sample(range(6), draws.randrange(4))
    for n in killed:
        time.sleep(draws.uniform(0, 4))
        processes[n].kill()
        processes[n].communicate()
    ended([process for n, process in enumerate(processes) if n not in killed])
    # whoever was killed goes on, and sweeps
    ended([start([*COMMAND, *EVALUATE, "-o", str(outputs[n])], home) for n in killed])
    found = [records(output) for output in outputs]
    assert len(found[0]) == 4
    assert all(each == found[0] for each in found)
    assert left_behind(home) == []


@pytest.mark.slow
def test_four_trainings_beside_an_evaluation(tmp_path: Path) -> None:
    runs = [[*COMMAND, *TRAIN, "-o", str(tmp_path / f"start-{n}")] for n in range(4)]
    runs.append([*COMMAND, *EVALUATE, "-o", str(tmp_path / "run")])
    ended([start(run, tmp_path / "home") for run in runs])
    tensors = {(tmp_path / f"start-{n}" / "adapter.safetensors").read_bytes() for n in range(4)}
    assert len(tensors) == 1
