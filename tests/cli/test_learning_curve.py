"""`fewshot-i2v learning-curve`: how many labelled clips per class an accuracy takes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import fewshot_i2v
from fewshot_i2v.data.splits.split_file import load_split
from fewshot_i2v.errors import UsageError
from fewshot_i2v.statistics.learning_curve import fit_learning_curve
from tests.cli.conftest import Invoke
from tests.cli.pilots import some, write

MEANS = {1: 0.5, 2: 0.6, 5: 0.75}


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    for shot, mean in MEANS.items():
        write(tmp_path, "frozen", some(shot, mean), shot=shot)
        write(tmp_path, "aim", some(10 + shot, mean + 0.2), shot=shot)
    return tmp_path


def _text(invoke: Invoke, *arguments: object) -> str:
    result = invoke("learning-curve", *map(str, arguments))
    assert result.exit_code == 0, result.output
    return " ".join(result.stdout.split())


def test_rows_say_how_many_clips_reach_an_accuracy(invoke: Invoke, sweep: Path) -> None:
    values = {shot: some(shot, mean).mean(axis=(1, 2)) for shot, mean in MEANS.items()}
    accuracies = {shot: dict(enumerate(row.tolist())) for shot, row in values.items()}
    needed = fit_learning_curve(accuracies, dict.fromkeys(MEANS, 1000)).shots_for(0.8)
    assert needed.expected is not None
    assert needed.least is not None
    assert 5 < needed.least < needed.expected < 20
    text = _text(invoke, sweep, "--accuracy", 80)
    assert (
        f"frozen: {100 * values[5].mean():.1f} % with 5 clips of each class; 80 % takes about "
        f"{needed.expected} if it grows as so far, at least {needed.least} if it grows 1.5 times "
        "as fast."
    ) in text
    shown = some(12, 0.8).mean()
    assert f"aim: 2 clips of each class reach 80 % ({100 * shown:.1f} %" in text


def test_a_target_that_the_interval_does_not_make_sure_is_said_so(
    invoke: Invoke, sweep: Path
) -> None:
    shown = 100 * some(12, 0.8).mean()
    sure, unsure = _text(invoke, sweep, "--accuracy", 70), _text(invoke, sweep, "--accuracy", shown)
    assert "of which the interval does not make sure" not in sure
    assert f"({shown:.1f} %, of which the interval does not make sure)" in unsure


def test_targets_far_away_have_no_number(invoke: Invoke, sweep: Path) -> None:
    text = _text(invoke, sweep, "--accuracy", 99.9)
    assert "frozen: " in text
    assert "99.9 % takes more than 20, even if it grows 1.5 times as fast as so far." in text


def test_an_accuracy_that_more_clips_lose_again_is_not_reached(
    invoke: Invoke, tmp_path: Path
) -> None:
    for shot, mean in {1: 0.9, 2: 0.6, 5: 0.7}.items():
        write(tmp_path, "frozen", some(shot, mean), shot=shot)
    text = _text(invoke, tmp_path, "--accuracy", 85)
    assert "reach 85 %" not in text


def test_measured_and_expected_are_tables(invoke: Invoke, sweep: Path) -> None:
    lines = invoke("learning-curve", str(sweep)).stdout.splitlines()
    frozen = [line.split() for line in lines if line.startswith("frozen")]
    means = [f"{100 * some(shot, mean).mean():.1f}" for shot, mean in MEANS.items()]
    assert frozen[0] == ["frozen", *means]
    assert len(frozen) == 2
    headings = [line.split() for line in lines if line.startswith("row")]
    assert headings == [["row", "1", "2", "5"], ["row", "10", "20"]]


def test_python_and_json_say_the_same(invoke: Invoke, sweep: Path) -> None:
    result = invoke("learning-curve", str(sweep), "--accuracy", "80", "--level", "0.9", "--json")
    curves = fewshot_i2v.learning_curve(sweep, accuracy=80, level=0.9)
    assert json.loads(result.stdout) == json.loads(json.dumps(curves.to_dict()))
    assert curves.rows[0].expected[0].shot == 10


def test_the_next_command_measures_twice_the_clips_if_there_are(
    invoke: Invoke, sweep: Path
) -> None:
    assert "--shot 10" in invoke("learning-curve", str(sweep)).stderr


def test_the_clips_of_the_split_are_a_limit(invoke: Invoke, tmp_path: Path) -> None:
    most = min(load_split("motions").class_sizes("novel").values()) - 5
    for shot in (10, 30, most):
        write(tmp_path, "frozen", some(shot, 0.7), shot=shot)
    result = invoke("learning-curve", str(tmp_path))
    text = " ".join(result.stdout.split())
    assert f"clips for at most {most} beside the query clips" in text
    assert "next" not in result.stderr


def test_rows_with_too_few_numbers_of_clips_are_named(invoke: Invoke, sweep: Path) -> None:
    write(sweep, "st-adapter", some(3, 0.6), shot=1)
    write(sweep, "zeroi2v", some(4, 0.6, episodes=3), shot=1)
    text = _text(invoke, sweep, "--accuracy", 80)
    assert "Nothing is expected of st-adapter: fewer than 3 numbers of clips" in text
    assert "zeroi2v: 1-shot left out, 3 episodes that succeeded; expected at least 6." in text
    assert "80 % is not reached" in text


def test_the_command_needs_no_torch(sweep: Path) -> None:
    program = (
        "import sys\nfrom fewshot_i2v.cli import cli\n"
        "cli(['learning-curve', sys.argv[1]], standalone_mode=False)\n"
        "print(*sorted({'torch', 'scipy.stats'} & sys.modules.keys()), file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(sweep)], capture_output=True, text=True
    )
    assert (done.returncode, "Expected accuracy" in done.stdout) == (0, True), done.stderr
    assert "torch" not in done.stderr.split()


def test_two_numbers_of_clips_are_refused(invoke: Invoke, tmp_path: Path) -> None:
    for shot in (1, 5):
        write(tmp_path, "frozen", some(shot, 0.6), shot=shot)
    result = invoke("learning-curve", str(tmp_path))
    assert result.exit_code == 2
    message = " ".join(result.stderr.split())
    assert f"{tmp_path}: shots 1, 5; expected a row with at least 3 numbers of labelled" in message
    assert "--shot 1 --shot 2 --shot 5" in message


@pytest.mark.parametrize("accuracy", [0.95, 0, 101, np.nan])
def test_an_accuracy_that_is_no_percent_is_refused(sweep: Path, accuracy: float) -> None:
    with pytest.raises(UsageError, match="expected percent from 1 to 100, such as 90"):
        fewshot_i2v.learning_curve(sweep, accuracy=accuracy)
