"""scripts/install_learn2learn.sh, with a stand-in for Python, and what it leaves installed."""

from __future__ import annotations

import os
import subprocess
from importlib.metadata import version
from pathlib import Path

import pytest

from tests.needs_learn2learn import learn2learn_algorithms

SCRIPT = Path(__file__).resolve().parents[1] / "scripts" / "install_learn2learn.sh"


def _run(folder: Path, body: str, *arguments: str) -> tuple[subprocess.CompletedProcess[str], str]:
    """Runs the script with a Python that notes its arguments; also what was noted."""
    python, temporary, notes = folder / "python", folder / "tmp", folder / "notes"
    python.write_text(f'#!/bin/bash\nprintf "%s " "$@" | tr "\\n" " " >>"{notes}"\n{body}\n')
    python.chmod(0o755)
    temporary.mkdir()
    done = subprocess.run(
        [str(SCRIPT), *arguments],
        env=os.environ | {"PATH": f"{folder}:{os.environ['PATH']}", "TMPDIR": str(temporary)},
        capture_output=True,
        text=True,
    )
    assert not list(temporary.iterdir()), "its folder is removed"
    return done, notes.read_text()


@pytest.mark.parametrize("given", [True, False])
def test_it_installs_into_the_python_that_is_given(tmp_path: Path, given: bool) -> None:
    done, notes = _run(tmp_path, "", *([str(tmp_path / "python")] if given else []))
    assert done.returncode == 0, done.stderr
    assert "import torch" in notes
    assert "--no-deps --config-settings=--global-option=build_ext learn2learn==0.2.0" in notes
    assert "Cython>=0.29.35,<3.1" in notes
    assert "qpth" not in notes


def test_an_environment_without_pytorch_is_refused(tmp_path: Path) -> None:
    done, notes = _run(tmp_path, "exit 1")
    assert done.returncode == 1
    assert "has no PyTorch" in done.stderr
    assert "pip" not in notes


@pytest.mark.parametrize("failing", ["*learn2learn==*", '"-P -"'])
def test_every_failure_ends_it(tmp_path: Path, failing: str) -> None:
    done, _ = _run(tmp_path, f'[[ "$*" != {failing} ]]')
    assert done.returncode != 0


@pytest.mark.learn2learn
def test_what_it_installed_works() -> None:
    found = learn2learn_algorithms()
    assert {"MAML", "MetaSGD"} <= set(dir(found))
    assert version("learn2learn") == "0.2.0"
    assert int(version("numpy").split(".")[0]) >= 2, "NumPy was not replaced by an older one"
