"""CONTRIBUTING.md's walk-through: its files work, its commands run, its list is complete."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from fewshot_i2v.cli._root import cli
from fewshot_i2v.models.adapters.base.adapter import Adapter

ROOT = Path(__file__).resolve().parents[1]
SECTION = re.search(
    r"^## Adding\n(.*?)^## ",
    (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"),
    re.DOTALL | re.MULTILINE,
)
ADDING = SECTION.group(1) if SECTION else ""
FILES = dict(re.findall(r"<!-- (\w+/\w+\.py) -->\n```python\n(.*?)```", ADDING, re.DOTALL))
COMMANDS = re.findall(r"<!-- commands -->\n```sh\n(.*?)```", ADDING, re.DOTALL)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder with the walk-through's files where it says that they lie."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    for name, text in FILES.items():
        path = tmp_path / "mine" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return tmp_path


def _lines(block: str) -> list[list[str]]:
    joined = block.replace("\\\n", " ")
    words = [shlex.split(line, comments=True) for line in joined.splitlines()]
    return [[re.sub(r"(^|=)~/", rf"\1{Path.home()}/", word) for word in line] for line in words]


def test_the_commands_run_and_the_files_keep_the_contract(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert list(FILES) == ["adapters/frame_difference.py", "heads/closest_frames.py"]
    monkeypatch.chdir(home)
    shown = []
    for program, *arguments in _lines(COMMANDS[0]):
        if program == "export":
            monkeypatch.setenv(*arguments[0].split("=", 1))
        else:
            assert program == "fewshot-i2v"
            # one step shows that the methods can be tuned; the contract tests that they learn
            few = ["--steps", "1"] if arguments[0] == "evaluate" else []
            result = CliRunner().invoke(cli, [*arguments, *few])
            assert result.exit_code == 0, result.output
            shown.append(result.stdout)
    of_adapter, of_head, listed, table = shown
    assert re.search(r"^frame-difference +Frame difference: every token also", listed, re.MULTILINE)
    assert {"frozen", "frame-difference"} <= set(table.split())
    assert (home / "mine" / "run" / "frame-difference-closest-frames-1shot").is_dir()
    assert re.search(r"^all 3\d promises hold; use it with:", of_adapter, re.MULTILINE)
    assert re.search(r"^all \d\d promises hold; use it with:", of_head, re.MULTILINE)
    assert f"FEWSHOT_I2V_PLUGINS={home / 'mine'} fewshot-i2v evaluate" in of_adapter


def test_every_member_of_an_adapter_is_in_the_list() -> None:
    members = {name for name in vars(Adapter) if not name.startswith("_")}
    members |= {name for name in Adapter.__annotations__ if not name.startswith("_")}
    said = set(re.findall(r"`(\w+)`", ADDING))
    assert members - said == {"parse"}


@pytest.mark.parametrize("check", [["check"], ["format", "--check"]], ids=str)
def test_the_files_are_written_like_the_package(home: Path, check: list[str]) -> None:
    settings = ["--no-cache", "--config", str(ROOT / "pyproject.toml")]
    command = [sys.executable, "-m", "ruff", *check, *settings, str(home / "mine")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
