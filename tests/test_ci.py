"""`.ci/run` and README.md: one place says how to install and test."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = ROOT / ".ci" / "run"
TOOL = '#!/bin/bash\necho "ran $(basename "$0") $*"\n'


def test_it_is_executable_and_valid_bash() -> None:
    assert os.access(SCRIPT, os.X_OK)
    assert subprocess.run(["bash", "-n", str(SCRIPT)]).returncode == 0


def test_the_readme_marks_its_two_commands() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = dict(re.findall(r"^<!-- (\w+-command) -->\n```\w*\n(.*?)^```", text, re.M | re.S))
    assert "fewshot-i2v evaluate" in blocks["run-command"]
    assert "-m pytest" in blocks["test-command"]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout with a README and a Python whose environments have stand-ins for all tools."""
    folder = tmp_path / "checkout"
    (folder / ".ci").mkdir(parents=True)
    shutil.copy(SCRIPT, folder / ".ci" / "run")
    (folder / "scripts").mkdir()
    (folder / "scripts" / "install_learn2learn.sh").write_text('echo "ran install for $1"\n')
    (folder / "tests").mkdir()
    (folder / "tests" / "test_a.py").write_text("@pytest.mark.learn2learn\n")
    (folder / "tests" / "test_b.py").write_text("# other tests\n")
    (folder / "README.md").write_text(
        "<!-- run-command -->\n```bash\necho wrong block\n```\n\n<!-- test-command -->\n"
        "```bash\npython -m pytest\necho shared=${FEWSHOT_I2V_REQUIRE_SHARED:-}\n```\n"
        "```bash\necho wrong block\n```\n"
    )
    python = tmp_path / "python"
    python.write_text(
        '#!/bin/bash\nmkdir -p "$3/bin"\nfor tool in python ruff mypy; do\n'
        f"  printf '%s' '{TOOL}' > \"$3/bin/$tool\"; chmod +x \"$3/bin/$tool\"\ndone\n"
    )
    python.chmod(0o755)
    return folder


def run(checkout: Path, **env: str) -> subprocess.CompletedProcess[str]:
    temporary = checkout.parent / "tmp"
    temporary.mkdir(exist_ok=True)
    kept = {k: v for k, v in os.environ.items() if k not in {"CI", "FEWSHOT_I2V_SHARED"}}
    kept.pop("FEWSHOT_I2V_REQUIRE_SHARED", None)
    return subprocess.run(
        [str(checkout / ".ci" / "run")],
        env=kept | {"PYTHON": str(checkout.parent / "python"), "TMPDIR": str(temporary)} | env,
        capture_output=True,
        text=True,
    )


def test_it_runs_the_block_of_the_readme_and_then_the_checks(checkout: Path) -> None:
    done = run(checkout)
    assert done.returncode == 0, done.stderr
    ran = [line for line in done.stdout.splitlines() if line.startswith(("ran", "shared", "wrong"))]
    assert ran == [
        "ran python -m pytest",
        "shared=",
        "ran ruff check .",
        "ran ruff format --check .",
        "ran mypy ",
        "ran install for python",
        "ran python -m pytest -q -n 0 -m learn2learn tests/test_a.py",
    ]
    assert re.search(r"^== lint: \d+ s$", done.stdout, re.M)
    assert not list((checkout.parent / "tmp").iterdir()), "the environment is removed"


def test_shared_material_is_required_where_it_should_be_there(checkout: Path) -> None:
    assert "shared=1" in run(checkout, CI="true").stdout
    (checkout.parent / "shared").mkdir()
    assert "shared=1" in run(checkout).stdout


def test_the_first_failure_ends_it(checkout: Path) -> None:
    readme = checkout / "README.md"
    readme.write_text(readme.read_text().replace("python -m pytest", "false"))
    done = run(checkout)
    assert done.returncode == 1
    assert "ran ruff" not in done.stdout
    assert not list((checkout.parent / "tmp").iterdir())


def test_a_readme_without_the_marker_is_an_error(checkout: Path) -> None:
    (checkout / "README.md").write_text("```bash\npython -m pytest\n```\n")
    done = run(checkout)
    assert (done.returncode, "<!-- test-command -->" in done.stderr) == (1, True)
