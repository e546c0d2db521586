"""Exports of runs whose episodes are disjoint or frozen, and from another folder than the run's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from fewshot_i2v.cli._root import cli
from fewshot_i2v.data.episodes.episode_file import make_episode_file, write_episode_file
from fewshot_i2v.data.splits.split_file import load_split
from fewshot_i2v.evaluation import evaluate
from fewshot_i2v.evaluation.context import EvaluationContext
from fewshot_i2v.evaluation.export import export_episode
from fewshot_i2v.evaluation.row_expansion import load_config
from fewshot_i2v.runs.run_folder import read_run
from tests.tiny import tiny_folder, tiny_run

TUNED: dict[str, Any] = {"adapter": "bitfit", "head": "linear", "tuning": {"steps": 1}}
KEPT: dict[str, Any] = {
    "split": "tiny.yaml",
    "encoder": {
        "name": "tiny",
        "architecture": "tiny.json",
        "pretrained": "random",
        "mean": 0.5,
        "std": 0.5,
    },
    "video": {"frames": 4, "crop": 1.0},
    "workers": 1,
    "cache": "cache",
    **TUNED,
}
"""As from the command line: paths are relative to the folder that one is in."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_folder(tmp_path_factory.mktemp("export-kinds"))


@pytest.fixture(scope="module")
def frozen(folder: Path) -> Path:
    """A row of frozen episodes; every file was named by a path relative to the folder."""
    config = tiny_run(folder, folder / "x", way=2, shot=1, episodes=3)
    split = load_split(folder / "tiny.yaml")
    episodes = make_episode_file(split, "novel", EvaluationContext.of(config).episodes[1], {})
    write_episode_file(episodes, folder / "e.jsonl")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        given = {"trials": "e.jsonl", "output": "runs"}
        return evaluate.run(load_config(KEPT, given)).rows[0].folder.resolve()


def export(folder: Path, row: Path, out: Path, *more: str | Path) -> Result:
    given = ["export", row, "--episode", 1, "--out", out, "--cache", folder / "cache", *more]
    return CliRunner().invoke(cli, list(map(str, given)), prog_name="fewshot-i2v")


@pytest.mark.parametrize("episode", [7, 12])
def test_an_episode_of_a_later_partition_is_exported(
    folder: Path, tmp_path: Path, episode: int
) -> None:
    drawn: dict[str, Any] = {"sampling": "disjoint", "way": 2, "query": 1, "shot": 1}
    asked = TUNED | drawn | {"partitions": 2, "episodes": "all", "at_once": 4}
    row = evaluate.run(tiny_run(folder, folder / "apart", **asked)).rows[0]
    assert row.episodes == 16, "of 8 in each partition"
    done = export_episode(row.folder, episode, tmp_path / "out", cache=folder / "cache")
    assert done.difference < 1e-5


def test_a_run_of_relative_paths_is_exported_from_another_folder(
    folder: Path, frozen: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    header = read_run(frozen).header
    assert header["trials"]["path"] == str(folder.resolve() / "e.jsonl")
    assert header["split"]["path"] == str(folder.resolve() / "tiny.yaml")
    assert header["encoder"]["architecture"] == str(folder.resolve() / "tiny.json")
    assert header["encoder"]["pretrained"] == "random (seed 0)"
    monkeypatch.chdir(tmp_path)
    done = export(folder, frozen, Path("out"))
    assert done.exit_code == 0, done.output
    assert "episode 1: tuned again, same predictions" in done.output


def test_a_link_keeps_its_name(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("tiny.yaml", "tiny.json"):
        (tmp_path / name).symlink_to(folder / name)
    monkeypatch.chdir(tmp_path)
    given = {"way": 2, "episodes": 1, "output": "runs", "cache": str(folder / "cache")}
    (tmp_path / "tiny.yaml").rename(tmp_path / "linked.yaml")
    config = load_config(KEPT | {"split": "linked.yaml"}, given)
    row = evaluate.run(config).rows[0].folder
    assert read_run(row).header["split"]["path"] == str(tmp_path.resolve() / "linked.yaml")


def test_trials_that_moved_are_named_and_can_be_given(
    folder: Path, frozen: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved = (folder / "e.jsonl").rename(tmp_path / "moved.jsonl")
    try:
        done = export(folder, frozen, tmp_path / "out")
        assert done.exit_code == 2
        assert "e.jsonl, which is not there (any more). Give --trials" in done.stderr
        assert not (tmp_path / "out").exists()
        monkeypatch.chdir(tmp_path)
        done = export(folder, frozen, tmp_path / "out", "--trials", "moved.jsonl")
        assert done.exit_code == 0, done.output
    finally:
        moved.rename(folder / "e.jsonl")


def test_other_trials_are_refused(folder: Path, frozen: Path, tmp_path: Path) -> None:
    split = load_split(folder / "tiny.yaml")
    config = tiny_run(folder, folder / "x", way=2, shot=1, episodes=3, seed=8)
    others = make_episode_file(split, "novel", EvaluationContext.of(config).episodes[1], {})
    write_episode_file(others, tmp_path / "others.jsonl")
    done = export(folder, frozen, tmp_path / "out", "--trials", tmp_path / "others.jsonl")
    assert done.exit_code == 2
    assert f"others.jsonl has sha256 {others.digest}; the run was of" in done.stderr
    drawn = evaluate.run(tiny_run(folder, folder / "drawn", **TUNED, way=2, episodes=2))
    row = drawn.rows[0].folder
    done = export(folder, row, tmp_path / "out", "--trials", tmp_path / "others.jsonl")
    assert done.exit_code == 2
    assert "its episodes were drawn; leave out --trials" in done.stderr


def test_an_export_reads_the_clips_in_the_root_of_its_run(folder: Path, tmp_path: Path) -> None:
    root = tmp_path / "clips"
    root.mkdir()
    config = tiny_run(folder, tmp_path / "runs", episodes=2, root=str(root), **TUNED)
    (row,) = evaluate.run(config).rows
    assert read_run(row.folder).header["split"]["root"] == str(root)
    clips = sorted(root.rglob("*.mp4"))
    assert clips
    cache = tmp_path / "another cache"
    exported = export_episode(
        row.folder, 1, tmp_path / "out", cache=cache, architecture=folder / "tiny.json"
    )
    assert exported.difference < 1e-4
    assert sorted(root.rglob("*.mp4")) == clips
    assert not (cache / "generated").exists()
