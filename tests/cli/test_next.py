"""The last line of a command: what is useful next, with the paths of this run."""

from __future__ import annotations

import shlex
from pathlib import Path

import click
import pytest
from click.testing import Result

from fewshot_i2v.cli._root import cli
from fewshot_i2v.evaluation.row_expansion import expand_rows, load_config
from fewshot_i2v.runs.run_index import read_row
from tests.cli.conftest import Invoke
from tests.cli.pilots import some, write

SHIPPED = [
    ("list", "list adapters"),
    ("list adapters", "list adapters st-adapter"),
    ("list heads", "list heads otam"),
    ("list splits", "episodes show motions"),
    ("list encoders", "list adapters --encoder ViT-B-16"),
    ("list configs", "config show quickstart"),
    ("list starts", "evaluate --start demo-motions"),
    ("list adapters aim", "evaluate --adapter frozen --adapter aim"),
    ("list heads otam", "evaluate --head otam"),
    ("config show quickstart", "evaluate quickstart --dry-run"),
    ("episodes show motions", "evaluate --split motions"),
    ("episodes counts motions", "episodes show motions"),
    ("episodes audit motions", "episodes show motions"),
    ("plan --half-width 2", "evaluate --until 2"),
]


def _next_command(result: Result) -> str:
    assert result.exit_code == 0, result.output
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("next: ")]
    assert f"\n{line}\n" in result.stderr
    return line.removeprefix("next: ")


def _resolves(words: list[str]) -> bool:
    """Whether the words begin with the name of a command."""
    command: click.Command | None = cli
    while isinstance(command, click.Group):
        command = command.get_command(click.Context(command), words.pop(0))
    return command is not None


@pytest.mark.parametrize(("arguments", "expected"), SHIPPED)
def test_commands_end_with_the_next_one(invoke: Invoke, arguments: str, expected: str) -> None:
    command = _next_command(invoke(*arguments.split()))
    assert command == f"fewshot-i2v {expected}"
    assert _resolves(shlex.split(command)[1:])


@pytest.mark.parametrize(("arguments", "_expected"), SHIPPED)
def test_json_ends_without(invoke: Invoke, arguments: str, _expected: str) -> None:
    result = invoke(*arguments.split(), "--json")
    assert result.exit_code == 0
    assert "next:" not in result.output


def test_runs_are_named_as_they_were(invoke: Invoke, tmp_path: Path) -> None:
    pilot = tmp_path / "my pilot"
    for adapter, accuracy in (("frozen", 0.6), ("aim", 0.8)):
        write(pilot, adapter, some(3, accuracy), shot=1)
    command = _next_command(invoke("compare", str(pilot)))
    assert shlex.split(command)[1:] == ["recommend", str(pilot)]
    again = _next_command(invoke("plan", str(pilot), "--half-width", "1.5"))
    assert shlex.split(again)[1:] == ["config", "show", str(pilot), ">", "my pilot-again.yaml"]


def test_the_next_command_goes_on_with_a_run(
    invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for adapter in ("frozen", "aim"):
        write(Path("pilot"), adapter, some(3, 0.6, episodes=4), shot=1)
    before = {path: path.read_bytes() for path in tmp_path.rglob("run.json")}
    show, evaluate = [
        shlex.split(line.removeprefix("next: "))
        for line in invoke("plan", "pilot").stderr.strip().splitlines()
    ]
    *words, arrow, file = show[1:]
    assert arrow == ">"
    Path(file).write_text(invoke(*words).stdout)
    assert evaluate[:3] == ["fewshot-i2v", "evaluate", file]
    config = load_config(file, {"output": "pilot"})
    rows = {Path("pilot") / row.slug: row for row in expand_rows(config)}
    assert {folder.resolve() / "run.json" for folder in rows} == before.keys()
    for folder, row in rows.items():
        assert read_row(folder).config == row.identity()


def _small_split(path: Path, subsets: str, generator: bool = True) -> str:
    """Write a split of generated clips, or of listed ones."""
    source = "{name: motions, seed: 0, size: 32, frames: 8, fps: 8, clips: 8}"
    more = f"generator: {source}\n" if generator else ""
    path.write_text(f"name: {path.stem}\nversion: 1\n{more}subsets:\n{subsets}")
    return str(path)


@pytest.mark.parametrize(
    ("subsets", "options"),
    [
        ("  base: [grows, shrinks]\n  novel: [moves-up, moves-down]\n", "--way 2"),
        (
            "  base: [grows, shrinks]\n  val: [moves-up, brightens, darkens]\n",
            "--subset val --way 3",
        ),
    ],
)
def test_the_evaluation_of_a_split_takes_what_the_split_has(
    invoke: Invoke, tmp_path: Path, subsets: str, options: str
) -> None:
    split = _small_split(tmp_path / "mine.yaml", subsets)
    command = _next_command(invoke("episodes", "show", split))
    assert command == f"fewshot-i2v evaluate --split {split} {options}"
    words = options.split()
    drawn = invoke("episodes", "freeze", split, str(tmp_path / "e"), *words, "--episodes", "1")
    assert drawn.exit_code == 0, drawn.output
    planned = invoke("plan", "--split", split, *words)
    assert _next_command(planned) == f"fewshot-i2v evaluate --split {split} {options} --until 1"


def test_the_folder_of_the_clips_is_asked_for_only_where_the_split_has_none(
    invoke: Invoke, tmp_path: Path
) -> None:
    (tmp_path / "clips").mkdir()
    classes = "  novel: {a: [a.mp4, b.mp4, c.mp4], b: [d.mp4, e.mp4, f.mp4]}\n"
    split = _small_split(tmp_path / "mine.yaml", classes, generator=False)
    drawn = ("episodes", "freeze", split, str(tmp_path / "e"), "--force", "--way", "2")
    drawn += ("--query", "1", "--episodes", "1")
    planned = ("plan", "--split", split, "--way", "2", "--query", "2")
    for words in (("episodes", "show", split), drawn, planned):
        assert "--root CLIPS" in _next_command(invoke(*words))
    with Path(split).open("a") as file:
        file.write("root: clips\n")
    for words in (("episodes", "show", split), drawn, planned, ("episodes", "audit", split)):
        assert "--root" not in _next_command(invoke(*words))
    root = str(tmp_path / "clips")
    for command in ("show", "counts", "audit"):
        found = _next_command(invoke("episodes", command, split, "--root", root))
        assert found.endswith(f"--root {root}")
