"""`fewshot-i2v recommend`: the sentence, the same as JSON, and no torch."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Invoke
from tests.cli.test_show import write


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    write(tmp_path, "aim:scale=0.5", [1.0, 1.0, 0.75] * 3)
    write(tmp_path, "frozen", [0.5, 0.75, 0.25] * 3)
    return tmp_path


def test_it_recommends_and_says_what_to_do_next(invoke: Invoke, runs: Path) -> None:
    done = invoke("recommend", str(runs))
    assert done.exit_code == 0, done.output
    assert "encoder demo" in done.stdout
    assert "Use aim:scale=0.5: it beats frozen by 41.7" in done.stdout
    assert "with 325 trained parameters and 1.2 s an episode." in " ".join(done.stdout.split())
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert f"next: fewshot-i2v report {runs}" in done.stderr


def test_json_has_the_same(invoke: Invoke, runs: Path) -> None:
    (table,) = json.loads(invoke("recommend", str(runs), "--json").stdout)
    (answer,) = table["recommendations"]
    assert (answer["adapter"], answer["shot"], answer["start"]) == ("aim:scale=0.5", 1, "fresh")
    assert answer["gain"]["mean"] == pytest.approx(5 / 12)
    assert Path(answer["baseline_folder"]).name == "frozen-linear-1shot"
    assert answer["may_be_as_good"] == []
    assert " ".join(table["sentences"]).startswith("Use aim:scale=0.5")


def test_a_folder_without_runs_is_refused(invoke: Invoke, tmp_path: Path) -> None:
    done = invoke("recommend", str(tmp_path))
    assert done.exit_code == 2
    assert "no run.json in it" in done.stderr


def test_help_shows_an_example_on_a_line_of_its_own(invoke: Invoke) -> None:
    lines = invoke("recommend", "--help").stdout.splitlines()
    assert "fewshot-i2v recommend runs/quickstart" in map(str.strip, lines)


def test_it_needs_no_torch(runs: Path) -> None:
    code = (
        "import sys; from fewshot_i2v.cli._root import cli; "
        f"cli(['recommend', {str(runs)!r}], standalone_mode=False); "
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
