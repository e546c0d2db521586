"""Nothing in the current folder is run, whatever it is called."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import fewshot_i2v
from fewshot_i2v.data.splits.split import Generator
from fewshot_i2v.data.synthetic import generate
from fewshot_i2v.data.video.worker_pool import Job, run_jobs
from fewshot_i2v.utils.search_path import without_current_folder

HOME = Path(fewshot_i2v.__file__).parents[1]
NAMES = (
    *("json", "_json", "re", "enum", "types", "operator", "collections", "functools", "keyword"),
    *("copyreg", "signal", "threading", "tempfile", "importlib", "numpy", "av", "PIL", "decord"),
    *("torch", "yaml", "pydantic", "click", "tqdm", "sitecustomize", "usercustomize", "__future__"),
)


@pytest.fixture
def trap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with files that leave a note when they are imported."""
    folder = tmp_path / "trap"
    folder.mkdir()
    for name in NAMES:
        text = f"open({str(folder / 'canary')!r}, 'a').write({name + ' '!r})\n1 / 0\n"
        (folder / f"{name}.py").write_text(text)
    monkeypatch.chdir(folder)
    return folder


def bitten(trap: Path) -> str:
    note = trap / "canary"
    return note.read_text() if note.exists() else ""


def test_a_decoding_process_imports_nothing_from_the_current_folder(
    trap: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # as in `python -c` and notebooks, as in `python -m`, and as where PYTHONPATH ends in a colon
    monkeypatch.setattr(sys, "path", ["", str(trap), *sys.path, str(trap)])
    monkeypatch.setenv("PYTHONPATH", f"{HOME}{os.pathsep}")
    ((_, found),) = run_jobs([Job(Path("a"), "os:getcwd", ())], 1)
    assert (found, bitten(trap)) == (str(trap), "")


def test_the_command_imports_nothing_from_the_current_folder(
    trap: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [generate.clip_name(c, n) for c in ("grows", "shrinks") for n in range(2)]
    generate.write_missing_clips(Generator("motions", size=32), names, tmp_path / "clips")
    script = tmp_path / "bin" / "fewshot-i2v"
    script.parent.mkdir()
    script.write_text("import sys\nfrom fewshot_i2v.cli import main\nsys.exit(main())\n")
    monkeypatch.setenv("PYTHONPATH", str(HOME))
    new = ["episodes", "new", "mine.yaml", "--root", str(tmp_path / "clips")]
    for words in (new, ["episodes", "check", "mine.yaml", "--root", str(tmp_path / "clips")]):
        done = subprocess.run(
            [sys.executable, str(script), *words], capture_output=True, text=True, cwd=trap
        )
        assert (done.returncode, bitten(trap)) == (0, ""), done.stdout + done.stderr


def test_as_a_module_only_what_python_itself_needs_can_be_shadowed(trap: Path) -> None:
    for name in NAMES:
        if name not in ("json", "numpy", "click", "signal", "yaml", "tqdm", "tempfile"):
            (trap / f"{name}.py").unlink()
    done = subprocess.run(
        [sys.executable, "-m", "fewshot_i2v", "list", "configs"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(HOME)},
    )
    assert (done.returncode, bitten(trap)) == (0, ""), done.stdout + done.stderr


def test_what_the_user_asked_for_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), "/usr/elsewhere", str(HOME), ""])
    assert without_current_folder() == ["/usr/elsewhere", str(HOME)]
    monkeypatch.setenv("PYTHONPATH", f"/other{os.pathsep}{tmp_path}")
    assert without_current_folder() == [str(tmp_path), "/usr/elsewhere", str(HOME)]


def test_a_checkout_that_is_used_where_it_lies_stands_before_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(HOME)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    monkeypatch.setattr(sys, "path", ["", str(HOME), "/usr/elsewhere"])
    assert without_current_folder() == ["/usr/elsewhere", str(HOME)]
