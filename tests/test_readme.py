"""README.md and the guides: the example runs as it stands, every link leads somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import fewshot_i2v

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
GUIDES = [
    README,
    ROOT / "CONTRIBUTING.md",
    ROOT / "episodes" / "README.md",
    ROOT / "configs" / "README.md",
    ROOT / "scripts" / "README.md",
    ROOT / "fewshot_i2v" / "evaluation" / "README.md",
    ROOT / "fewshot_i2v" / "models" / "README.md",
    ROOT / "fewshot_i2v" / "statistics" / "README.md",
]
MAX_README_LINES = 250
SCREEN_LINES = 120
LINK = re.compile(r"\]\(([^)\s]+)\)")
over_guides = pytest.mark.parametrize(
    "guide", GUIDES, ids=lambda path: path.relative_to(ROOT).as_posix()
)


def _block(marker: str) -> str:
    text = README.read_text(encoding="utf-8")
    found = re.search(rf"<!-- {marker} -->\n```\w+\n(.*?)```", text, re.DOTALL)
    if found is None:
        raise AssertionError(f"README.md has no code block marked {marker}")
    return found.group(1)


def _without_code(text: str) -> str:
    return re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)


def _anchors(guide: Path) -> set[str]:
    """Anchors of the headings, as the pages of a repository make them."""
    headings = re.findall(r"^#+ (.+)$", _without_code(guide.read_text(encoding="utf-8")), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_python_example_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code = _block("python-example")
    assert code.count("episodes=6") == 1
    assert len([line for line in code.splitlines() if line.strip()]) <= 10
    monkeypatch.chdir(tmp_path)
    # six episodes are the least that have an interval
    fewer = code.replace("episodes=6", "episodes=6, query=1, tuning={'steps': 1}")
    exec(compile(fewer, "README.md", "exec"), {})  # noqa: S102 - that is the point
    printed = capsys.readouterr().out
    assert re.search(r"st-adapter \(base-trained\) 1-shot: \d+\.\d %", printed)
    assert "accuracy % [95 %]" in printed
    assert "What would change that: " in printed
    assert (tmp_path / "runs" / "example").is_dir()


def test_the_readme_is_for_the_first_ten_minutes() -> None:
    assert len(README.read_text(encoding="utf-8").splitlines()) <= MAX_README_LINES


def test_the_readme_leads_to_every_guide() -> None:
    targets = {(README.parent / t.partition("#")[0]).resolve() for t in _links(README)}
    assert set(GUIDES) - targets == {README}


@over_guides
def test_every_link_leads_to_a_file_and_a_heading(guide: Path) -> None:
    links = _links(guide)
    assert links
    broken = []
    for link in links:
        path, _, anchor = link.partition("#")
        target = (guide.parent / path).resolve() if path else guide
        if not target.exists() or (anchor and anchor not in _anchors(target)):
            broken.append(link)
    assert broken == []


def _links(guide: Path) -> list[str]:
    text = _without_code(guide.read_text(encoding="utf-8"))
    return [link for link in LINK.findall(text) if not link.startswith("https://")]


@over_guides
def test_a_long_page_begins_with_its_contents(guide: Path) -> None:
    """README.md aside, whose first screen is the first command and its output."""
    text = _without_code(guide.read_text(encoding="utf-8"))
    if guide == README or len(text.splitlines()) <= SCREEN_LINES:
        return
    top = text[: text.index("\n## ")]
    sections = {re.sub(r"[^\w\- ]", "", h.lower()) for h in re.findall(r"^## (.+)$", text, re.M)}
    listed = {link[1:].replace("-", " ") for link in LINK.findall(top) if link.startswith("#")}
    assert {section.replace("-", " ") for section in sections} <= listed


@over_guides
def test_the_files_that_it_names_exist(guide: Path) -> None:
    """Paths in code marks that begin with a folder of the repository or of the package."""
    text = _without_code(guide.read_text(encoding="utf-8"))
    missing = []
    for name in re.findall(r"`((?:\w+/)+[\w.-]*\.(?:py|md|sh|json|yaml))`", text):
        folders = (ROOT, ROOT / "fewshot_i2v", guide.parent)
        if not any((folder / name).exists() for folder in folders):
            missing.append(name)
    assert missing == []


@over_guides
def test_the_python_names_that_it_uses_are_public(guide: Path) -> None:
    text = guide.read_text(encoding="utf-8")
    names = set(re.findall(r"\bfewshot_i2v\.([A-Za-z]\w*)\(", text))
    for line in re.findall(r"^from fewshot_i2v import (.+)$", text, re.M):
        names |= {name.strip() for name in line.split(",")}
    assert names <= set(fewshot_i2v.__all__)
