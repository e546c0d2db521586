"""`fewshot-i2v doctor`: one screen, and an exit status."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Invoke


def test_it_fits_a_screen_and_ends_with_the_next_command(
    invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEWSHOT_I2V_HOME", "/tmp/none-such")  # noqa: S108 - short, and not made
    result = invoke("doctor")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 80
    assert "An evaluation can run." in lines
    assert "next: fewshot-i2v evaluate" in result.stderr
    assert not Path("/tmp/none-such").exists()  # noqa: S108


def test_what_is_wrong_is_said_with_what_to_do(invoke: Invoke, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    result = invoke("doctor", "--cache", str(tmp_path / "file" / "cache"))
    assert result.exit_code == 1
    assert "\nPROBLEM  cache     " in result.stdout
    assert "-> choose another folder: --cache FOLDER" in result.stdout
    assert "An evaluation cannot run. Mend first: cache." in result.stdout
    assert "next: fewshot-i2v doctor" in result.stderr


def test_json_has_every_fact(invoke: Invoke, tmp_path: Path) -> None:
    result = invoke("doctor", "--json", "--cache", str(tmp_path))
    facts = json.loads(result.stdout)
    assert facts["ok"] is True
    assert "next:" not in result.output
    names = [check["name"] for check in facts["checks"]]
    assert names[:3] == ["python", "packages", "torch"]
    (cache,) = [check["values"] for check in facts["checks"] if check["name"] == "cache"]
    assert (cache["folder"], cache["files"]) == (str(tmp_path), 0)
