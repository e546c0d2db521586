"""Small splits for tests."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from fewshot_i2v.data.splits.split import Clip, Split


def make_split(
    classes: int = 8,
    clips: int = 10,
    *,
    size_of_group: int = 0,
    scope: Literal["class", "global"] = "class",
) -> Split:
    """A split with equal classes `c0`, `c1`, ...; groups of neighbouring clips where wanted."""
    novel = {
        f"c{c}": tuple(
            Clip(f"c{c}/v{i:03d}.mp4", f"g{i // size_of_group}" if size_of_group else None)
            for i in range(clips)
        )
        for c in range(classes)
    }
    return Split(name="sample", subsets={"novel": novel}, group_scope=scope)


def grouped(groups: Mapping[str, Sequence[str]], scope: Literal["class", "global"]) -> Split:
    """A split from the group of every clip, class by class."""
    novel = {
        name: tuple(Clip(f"{name}/{i}.mp4", group) for i, group in enumerate(row))
        for name, row in groups.items()
    }
    return Split(name="sample", subsets={"novel": novel}, group_scope=scope)


def run_python(code: str, **environment: str) -> str:
    """Standard output of a fresh interpreter."""
    root = Path(__file__).resolve().parents[3]
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=root,
        env={"PATH": "", "PYTHONPATH": str(root), **environment},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    ).stdout
