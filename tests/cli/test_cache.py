"""`fewshot-i2v cache`: what is there, and removing it, but no file of others or in use."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from fewshot_i2v.cli._root import cli
from fewshot_i2v.data.cache_folder import list_cache
from fewshot_i2v.data.video.clip_cache import ClipCache
from fewshot_i2v.data.video.reader import DecodeOptions
from tests.cli.conftest import Invoke
from tests.data.test_cache_folder import NOT_OURS, filled_cache


def _own_files(folder: Path) -> list[str]:
    """Files of the package, without the lock that running commands share."""
    files = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return sorted(set(files) - {*NOT_OURS, "clips/use.lock"})


def test_the_list_says_what_how_large_and_when(invoke: Invoke, tmp_path: Path) -> None:
    filled_cache(tmp_path)
    result = invoke("cache", "list", "--cache", str(tmp_path))
    lines = result.stdout.splitlines()
    assert str(tmp_path) in lines[0]
    assert " free on its disk" in lines[0]
    assert max(map(len, lines[1:])) <= 80
    rows = [" ".join(line.split()) for line in lines]
    assert "decoded clips, 8 frames of 16 pixels 2 13 kB just now" in rows
    assert "results, of episodes check 1 2 B just now" in rows
    total = sum(file.size for file in list_cache(tmp_path))
    facts = json.loads(invoke("cache", "list", "--json", "--cache", str(tmp_path)).stdout)
    assert facts["size"] == total
    assert [group["kind"] for group in facts["groups"]][-2:] == ["generated", "checks"]
    expected = f"next: fewshot-i2v cache clear --older-than 30d --cache {tmp_path}"
    assert expected in result.stderr


def test_an_empty_cache_is_no_error(invoke: Invoke, tmp_path: Path) -> None:
    folder = str(tmp_path / "absent")
    assert "nothing is there" in invoke("cache", "list", "--cache", folder).stdout
    assert "nothing to remove" in invoke("cache", "clear", "--cache", folder).stdout
    assert not (tmp_path / "absent").exists()


def test_clear_asks_first(tmp_path: Path) -> None:
    filled_cache(tmp_path)
    before = _own_files(tmp_path)
    command = ["cache", "clear", "--cache", str(tmp_path)]
    declined = CliRunner().invoke(cli, command, input="n\n")
    assert "decoded clips, 4 frames of 16 pixels" in declined.stdout
    assert "nothing was removed" in declined.stderr
    silent = CliRunner().invoke(cli, command, input="")
    assert silent.exit_code == 2
    assert "nobody can answer here: nothing was removed; give --yes" in silent.stderr
    assert _own_files(tmp_path) == before
    accepted = CliRunner().invoke(cli, command, input="y\n")
    assert accepted.exit_code == 0
    assert _own_files(tmp_path) == []


def test_clear_removes_all_that_is_ours_and_nothing_else(invoke: Invoke, tmp_path: Path) -> None:
    filled_cache(tmp_path)
    size = sum(file.size for file in list_cache(tmp_path))
    n_files = len(list_cache(tmp_path))
    result = invoke("cache", "clear", "--yes", "--json", "--cache", str(tmp_path))
    assert json.loads(result.stdout) == {
        "folder": str(tmp_path),
        "files": n_files,
        "size": size,
        "in_use": 0,
    }
    assert _own_files(tmp_path) == []
    assert all((tmp_path / name).read_text() == "mine" for name in NOT_OURS)
    # folders that were emptied are gone
    assert {path.name for path in (tmp_path / "clips").iterdir()} == {
        *("ab", "abc", "mine.npy", "use.lock")
    }


@pytest.mark.parametrize("kind", ["decoded", "generated", "checks"])
def test_clear_by_kind(invoke: Invoke, tmp_path: Path, kind: str) -> None:
    filled_cache(tmp_path)
    others = {file.path for file in list_cache(tmp_path) if file.kind != kind}
    assert invoke("cache", "clear", "-y", "--kind", kind, "--cache", str(tmp_path)).exit_code == 0
    assert {file.path for file in list_cache(tmp_path)} == others


def test_clear_by_age(invoke: Invoke, tmp_path: Path) -> None:
    filled_cache(tmp_path)
    old = next(file for file in list_cache(tmp_path) if file.key)
    os.utime(old.path, (1e9, 1e9))
    arguments = ("cache", "clear", "-y", "--cache", str(tmp_path), "--older-than")
    assert "removed 1 files" in invoke(*arguments, "30d").stdout
    assert not old.path.exists()
    assert "nothing to remove" in invoke(*arguments, "1w").stdout
    result = invoke(*arguments, "a month")
    assert result.exit_code == 2
    assert (
        "--older-than: got 'a month'; expected an age in hours, days or weeks, such as 12h"
        in result.stderr
    )


def test_clear_leaves_what_a_running_command_uses(invoke: Invoke, tmp_path: Path) -> None:
    clips = filled_cache(tmp_path)
    store = ClipCache(tmp_path / "clips", DecodeOptions(frames=4, size=16), workers=0)
    assert store.prepare(clips[:1]) == {}
    result = invoke("cache", "clear", "-y", "--cache", str(tmp_path))
    # an entry, and the generated clips, which it may read again
    assert f"; {1 + len(clips)} in use by running commands stay" in result.stdout
    kinds = [file.kind for file in list_cache(tmp_path)]
    assert (kinds.count("decoded"), kinds.count("generated")) == (1, len(clips))
    assert store.get(clips[0]).shape == (4, 16, 16, 3)
    assert store.n_decoded == 0


def test_json_without_yes_is_refused(invoke: Invoke) -> None:
    result = invoke("cache", "clear", "--json")
    assert result.exit_code == 2
    assert "--json: asks no question; give --yes with it" in result.stderr
