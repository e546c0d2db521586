"""README.md and the guides: the example runs as it stands, every link leads somewhere."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

import fewshot_i2v
from fewshot_i2v.cli._root import cli
from fewshot_i2v.data.synthetic.generate import class_names, encode, render_clip

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
    fewer = code.replace("episodes=6", "episodes=6, way=2, query=1, tuning={'steps': 1}")
    exec(compile(fewer, "README.md", "exec"), {})  # noqa: S102 - that is the point
    printed = capsys.readouterr().out
    assert re.search(r"st-adapter \(base-trained\) 1-shot: \d+\.\d %", printed)
    assert "accuracy % [95 %]" in printed
    assert "\nWhat would change that:\n- " in printed
    assert (tmp_path / "runs" / "example").is_dir()


def _commands() -> list[str]:
    """Every command of the package in README.md, in blocks and in running text, each once."""
    text = README.read_text(encoding="utf-8").replace("\\\n", " ")
    pattern = r"^(?:\$ |.* && )?(fewshot-i2v .+)$|`(fewshot-i2v [^`]+)`"
    commands = (in_block or in_text for in_block, in_text in re.findall(pattern, text, re.M))
    return list(dict.fromkeys(" ".join(command.split()) for command in commands))


SMALLER = {
    "evaluate": "--episodes 6 --query 1 --steps 1 --workers 1",
    "fit": "--frames 2 --workers 1",
    "predict": "--workers 1",
}
"""Flags by command that make it quick."""


def _runnable(command: str, folder: Path) -> list[str]:
    """The arguments of a command for the files in `folder`, without a network and quick."""
    known = command.replace("ViT-B-16 --pretrained openai", "demo")
    known = known.replace("runs/motions-starts", "runs/quickstart").replace(" --shot 5", "")
    _, name, *arguments = shlex.split(known)
    if name == "evaluate" and not arguments:
        arguments = ["--adapter", "frozen", "--adapter", "aim"]
    elif name == "evaluate":
        arguments += ["--frames", "2"]  # the starts of the other run need eight
    arguments = [
        str(path)
        for word in arguments
        for path in (sorted(folder.glob(word)) if "*.mp4" in word else [word])
    ]
    if name == "evaluate" and "--way" not in arguments:
        arguments += ["--way", "2"]
    return [name, *arguments, *SMALLER.get(name, "").split()]


def _write_clips(folder: Path) -> None:
    """Write clips named as those of the walk-through, and one without a label."""
    for name in class_names("motions")[:5]:
        for number in range(7):
            path = folder / "CLIPS" / name / f"testvideo_{name.replace('-', '')}_{number}.mp4"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(encode(render_clip("motions", name, number, size=32, frames=8), 8))
    (folder / "new").mkdir()
    path.rename(folder / "new" / "clip.mp4")


def test_every_command_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _write_clips(tmp_path)
    monkeypatch.chdir(tmp_path)
    commands = _commands()
    names = {command.split()[1] for command in commands}
    assert names >= {"evaluate", "episodes", "show", "recommend", "compare", "plan", "report"}
    assert names >= {"fit", "predict", "doctor", "list", "config"}
    for command in commands:
        result = CliRunner().invoke(cli, _runnable(command, tmp_path), prog_name="fewshot-i2v")
        assert result.exit_code == 0, f"{command}\n{result.output}"
    assert (tmp_path / "report.html").stat().st_size > 10_000
    assert (tmp_path / "gestures.safetensors").is_file()


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="not a checkout")
def test_the_clone_has_what_the_next_command_installs(tmp_path: Path) -> None:
    command = _block("clone-command").partition(" && ")[0]
    words = [str(ROOT) if word == "ADDRESS" else word for word in command.split()]
    subprocess.run([*words, "--quiet"], cwd=tmp_path, check=True)
    assert (tmp_path / "fewshot-i2v" / "pyproject.toml").is_file()


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
    """That of README.md comes after its first screen, the first command and its output."""
    text = _without_code(guide.read_text(encoding="utf-8"))
    if len(text.splitlines()) <= SCREEN_LINES:
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
