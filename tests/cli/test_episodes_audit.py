"""`episodes audit` as it is called: what its switches print."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Invoke

SPLIT = """
name: mine
defects: [Too few people.]
subsets:
  base: {sit: [sit/1, sit/2]}
  novel: {Clap: [clap/1, clap/2], push up: [up/1, up/2], pour: [pour/1, pour/2]}
"""


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str]:
    """Two files of splits with one name."""
    first, second = tmp_path / "first.yaml", tmp_path / "second.yaml"
    first.write_text(SPLIT)
    second.write_text(SPLIT.replace("  base: {sit: [sit/1, sit/2]}\n", ""))
    return str(first), str(second)


def test_classes_that_were_seen_are_named(invoke: Invoke, files: tuple[str, str]) -> None:
    text = invoke("episodes", "audit", files[0], "--seen-by", "kinetics400").stdout
    assert "\n      push up; Clap (clapping)\n" in text
    assert "pour;" not in text
    kinetics = ("episodes", "audit", "kinetics100-cmn", "--seen-by", "kinetics400")
    assert "zumba" not in invoke(*kinetics).stdout.lower()
    assert "shuffling cards" in " ".join(invoke(*kinetics, "--classes").stdout.split())


def test_splits_of_one_name_are_called_by_their_files(
    invoke: Invoke, files: tuple[str, str]
) -> None:
    result = invoke("episodes", "audit", *files)
    heads = [line for line in result.stdout.splitlines() if line and not line.startswith(" ")]
    assert heads == [*files, f"{files[0]} and {files[1]}"]
    for file in files:
        assert f"known defects of the list: 1; see `episodes show {file}`" in result.stdout
    data = json.loads(invoke("episodes", "audit", files[0], files[0], "--json").stdout)
    assert list(data) == ["mine", "mine #2", "mine and mine #2"]


def test_strict_is_for_grave_findings(invoke: Invoke, tmp_path: Path) -> None:
    twice = tmp_path / "twice.yaml"
    twice.write_text("name: t\nsubsets: {base: {sit down: [a]}, novel: {Sit_Down: [b]}}\n")
    assert invoke("episodes", "audit", str(twice)).exit_code == 0
    result = invoke("episodes", "audit", str(twice), "--strict")
    assert result.exit_code == 1
    assert result.stdout.splitlines()[1].startswith("  ! 1 class is there more than once")
