"""The README's example runs as it stands, and its pictures of the output are not made up."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

README = Path(__file__).resolve().parents[1] / "README.md"


def _block(marker: str) -> str:
    text = README.read_text(encoding="utf-8")
    found = re.search(rf"<!-- {marker} -->\n```\w+\n(.*?)```", text, re.DOTALL)
    if found is None:
        raise AssertionError(f"README.md has no code block marked {marker}")
    return found.group(1)


def test_the_python_example_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code = _block("python-example")
    assert len([line for line in code.splitlines() if line.strip()]) <= 10
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "README.md", "exec"), {})  # noqa: S102 - that is the point
    printed = capsys.readouterr().out
    assert re.search(r"st-adapter \(base-trained\) 1-shot: \d+\.\d %", printed)
    assert "95 % interval" in printed
    assert (tmp_path / "runs" / "example").is_dir()


def test_every_file_and_folder_it_links_exists() -> None:
    text = README.read_text(encoding="utf-8")
    links = [t for t in re.findall(r"\]\(([^)#]+)\)", text) if not t.startswith("https://")]
    assert links
    assert [t for t in links if not (README.parent / t).exists()] == []
