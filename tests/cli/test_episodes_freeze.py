"""`fewshot-i2v episodes freeze`, and the group it belongs to."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from fewshot_i2v.cli._root import cli
from fewshot_i2v.data.episodes.episode_file import read_episode_file
from fewshot_i2v.data.episodes.sampler import EpisodeSampler
from tests.data.splits.published import NAMES, published, run_on_read_splits
from tests.tiny import tiny_folder

FREEZE = ("episodes", "freeze")


def _freeze(split: str, *args: str | Path) -> Result:
    command = [*FREEZE, split, *map(str, args)]
    return run_on_read_splits(*command) if split in NAMES else CliRunner().invoke(cli, command)


def said(split: str, *args: str | Path) -> str:
    result = _freeze(split, *args)
    assert result.exit_code == 0, result.output
    return result.stdout + result.stderr


def refused(split: str, *args: str | Path) -> str:
    result = _freeze(split, *args)
    assert result.exit_code == 2, result.output
    return result.stderr


def test_the_episodes_are_those_of_the_sampler(tmp_path: Path) -> None:
    out = tmp_path / "e.jsonl"
    text = said("hmdb51-arn", out, "--shot", "5", "--query", "1", "--episodes", "3", "--seed", "4")
    sampler = EpisodeSampler(published()["hmdb51-arn"], seed=4, way=5, shot=5, query=1)
    frozen = read_episode_file(out)
    assert [frozen[i] for i in range(3)] == [sampler[i] for i in range(3)]
    assert f"fewshot-i2v evaluate --split hmdb51-arn --trials {out}" in text
    assert frozen.digest[:16] in text
    assert (frozen.settings["seed"], frozen.settings["shot"]) == (4, 5)


def test_every_kind_can_be_frozen(tmp_path: Path) -> None:
    disjoint = json.loads(
        said("hmdb51-arn", tmp_path / "d.jsonl.gz", "--sampling", "disjoint", "--query", "1",
             "--episodes", "all", "--json")
    )  # fmt: skip
    assert (disjoint["episodes"], disjoint["clips"]) == (129, 1290)
    draws = json.loads(
        said("hmdb51-kshot", tmp_path / "k.jsonl", "--subset", "test", "--way", "all", "--query",
             "all", "--shot", "5", "--draws", "a5", "--episodes", "all", "--json")
    )  # fmt: skip
    assert draws["episodes"] == 10
    uneven = ("--way", "3-5", "--shot", "1-4", "--uneven-shots", "--episodes", "5", "--json")
    ranged = json.loads(said("motions", tmp_path / "r.jsonl", *uneven))
    assert ranged["digest"] == read_episode_file(tmp_path / "r.jsonl").digest


def test_names_are_for_other_programs(tmp_path: Path) -> None:
    out = tmp_path / "e.jsonl"
    text = said("hmdb51-arn", out, "--names", "--episodes", "2")
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert [line["index"] for line in lines] == [0, 1]
    assert lines[0]["support"][0][0].count("/") == 1
    assert "--trials" not in text


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--episodes", "all"), "--episodes all: expected a number from 1, or all where"),
        (("--episodes", "0"), "--episodes 0: expected a number from 1"),
        (("--way", "11"), "way: got 11; expected at most 10, the number"),
        (("--way", "some"), "way: got 'some'; expected a whole number"),
        (("--subset", "test"), "unknown subset 'test'"),
        (("--draws", "a5"), "unknown draws 'a5'"),
    ],
)
def test_what_cannot_be_frozen_is_named(
    tmp_path: Path, args: tuple[str, str], message: str
) -> None:
    assert message in refused("hmdb51-arn", tmp_path / "e.jsonl", *args)
    assert not list(tmp_path.iterdir())


def test_a_file_that_is_there_needs_force(tmp_path: Path) -> None:
    out = tmp_path / "e.jsonl"
    out.write_text("mine")
    assert "is already there" in refused("motions", out, "--episodes", "1")
    said("motions", out, "--episodes", "1", "--force")
    assert read_episode_file(out).count == 1


@pytest.mark.parametrize("name", ["e.jsonl", "my trials"])
def test_the_command_that_is_printed_asks_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "some clips"
    folder.mkdir()
    tiny_folder(folder)
    asked = ("--way", "2-3", "--shot", "1-2", "--query", "1", "--episodes", "3", "--seed", "5")
    text = said("some clips/tiny.yaml", name, *asked)
    program, *command = shlex.split(text.partition("next: ")[2])
    assert (program, command[0]) == ("fewshot-i2v", "evaluate")
    more = ["--dry-run", "--json", "--quiet", "--adapter", "frozen", "--head", "nearest"]
    done = CliRunner().invoke(cli, [*command, *more, "--cache", "cache", "--output", "out"])
    assert done.exit_code == 0, done.output
    plan = json.loads(done.stdout)
    first = read_episode_file(tmp_path / name)[0]
    assert plan["first_episode"]["classes"] == list(first.classes)
    assert plan["config"]["way"] == "2-3"
    assert len(plan["cost"]["rows"]) == 1
    assert not (tmp_path / "out").exists()


def test_the_printed_command_names_the_folder_of_the_clips(tmp_path: Path) -> None:
    (tmp_path / "my clips").mkdir()
    text = said("hmdb51-arn", tmp_path / "e", "--root", tmp_path / "my clips", "--episodes", "1")
    command = shlex.split(text.partition("next: ")[2])
    assert command[-2:] == ["--root", str(tmp_path / "my clips")]
