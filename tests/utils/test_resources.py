"""Where the package keeps files of its own."""

from __future__ import annotations

from pathlib import Path

import platformdirs
import pytest

from fewshot_i2v.utils.resources import default_cache_folder


def test_the_first_variable_that_is_set_wins(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("FEWSHOT_I2V_HOME", str(tmp_path / "own"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert default_cache_folder() == tmp_path / "own"
    monkeypatch.setenv("FEWSHOT_I2V_HOME", "~/clips")
    assert default_cache_folder() == Path.home() / "clips"
    monkeypatch.setenv("FEWSHOT_I2V_HOME", "")
    assert default_cache_folder() == tmp_path / "xdg" / "fewshot-i2v"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert default_cache_folder() == Path(
        platformdirs.user_cache_dir("fewshot-i2v", appauthor=False)
    )
    assert default_cache_folder().is_absolute()
    assert not (tmp_path / "own").exists()
