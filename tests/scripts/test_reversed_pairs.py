"""The script that looks at motions played backwards."""

from __future__ import annotations

import runpy
from pathlib import Path
from types import SimpleNamespace

from fewshot_i2v import load_split

SCRIPT = runpy.run_path(str(Path(__file__).resolve().parents[2] / "scripts" / "reversed_pairs.py"))


def test_every_novel_class_has_its_reverse() -> None:
    assert sorted(SCRIPT["REVERSE"]) == sorted(load_split("motions").classes("novel"))
    assert all(SCRIPT["REVERSE"][SCRIPT["REVERSE"][name]] == name for name in SCRIPT["REVERSE"])


def test_only_clips_whose_reverse_is_there_count() -> None:
    episode = SimpleNamespace(
        status="ok",
        classes=["moves-up", "spirals-in", "moves-down"],
        labels=[0, 1, 2],
        probabilities=[[0.4, 0.5, 0.1], [0.1, 0.8, 0.1], [0.6, 0.0, 0.4]],
    )
    failed = SimpleNamespace(status="failed")
    assert SCRIPT["told_apart"]([episode, failed]) == (1, 2)
