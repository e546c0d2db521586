"""Several readouts from the command line, with the encoder and clips of the quick start."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Invoke

HEAD = "prototype:pooling=ordered,center=true,readouts=summary+grid4+motion,weights=loo"
QUICK = ("--adapter", "frozen", "--way", "3", "--query", "2", "--json")


def test_the_quick_start_reads_several_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, invoke: Invoke
) -> None:
    monkeypatch.chdir(tmp_path)
    flags = ("--episodes", "2", "--head", HEAD, "--shot", "5", "--output", "out")
    result = invoke("evaluate", "quickstart", *QUICK, *flags)
    assert result.exit_code == 0, result.stderr
    (row,) = json.loads(result.stdout)["rows"]
    assert row["episodes"] == 2
    assert (row["adapter"], row["shot"]) == ("frozen", 5)
    (records,) = Path("out").rglob("episodes.jsonl")
    probabilities = [
        json.loads(line)["probabilities"] for line in records.read_text("utf-8").splitlines()
    ]
    assert all(len(clip) == 3 for episode in probabilities for clip in episode)

    fewer = ("--episodes", "1", "--shot", "1", "--output", "other")
    tokens = ("--head", "prototype", "--tokens", "grid4+motion")
    result = invoke("evaluate", "quickstart", *QUICK, *fewer, *tokens)
    assert result.exit_code == 0, result.stderr
    (row,) = json.loads(result.stdout)["rows"]
    assert row["head"] == "prototype:tokens=grid4+motion"


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--tokens", "moton"), "expected 'summary', 'projected', 'gridN', 'motion' or 'motionN'"),
        (
            ("--head", "prototype", "--tokens", "grid4+motion5"),
            "4 x 4 patches at this image size; give at most grid4",
        ),
        (("--head", "prototype:weights=[1, 2]"), "expected one number for each of summary"),
        (("--head", "linear:weights=loo"), "unknown option 'weights'"),
    ],
)
def test_what_cannot_be_read_is_said_before_a_clip_is_made(
    flags: tuple[str, ...], said: str, tmp_path: Path, invoke: Invoke
) -> None:
    output = tmp_path / "out"
    result = invoke("evaluate", "quickstart", *QUICK, *flags, "--output", str(output))
    assert result.exit_code != 0
    assert said in " ".join(result.stderr.split())
    assert not output.exists()
