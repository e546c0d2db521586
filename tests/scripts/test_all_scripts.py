"""Every script can be started: none has fallen behind the package."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = sorted(
    file.relative_to(ROOT).as_posix()
    for folder in ("scripts", "scripts/benchmarks")
    for file in (ROOT / folder).glob("*.py")
    if not file.name.startswith("_")
)


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_says_what_it_does(script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # as Python does for a script that is run
    monkeypatch.setattr(sys, "path", [str((ROOT / script).parent), *sys.path])
    main = runpy.run_path(str(ROOT / script))["main"]
    asked = CliRunner().invoke(main, ["--help"])
    assert asked.exit_code == 0, asked.output
    assert "Usage:" in asked.output
