"""Shipped files (splits, configurations, starting points) and the folder of the cache."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from fewshot_i2v.errors import UnknownNameError

CLIPS_FOLDER = "clips"
GENERATED_FOLDER = "generated"
CHECKS_FOLDER = "checks"
ENCODERS_FOLDER = "encoders"
"""Folders of a cache folder: decoded clips and features, generated clips, results of
`episodes check`, facts of encoders."""

SPLIT_DIGEST_LENGTH = 16
"""Digits of a split's digest in the name of the folder of its generated clips."""


def default_cache_folder() -> Path:
    """The folder for files that can be recreated, such as decoded clips.

    The first of these that is set: `FEWSHOT_I2V_HOME`; `XDG_CACHE_HOME`/fewshot-i2v; the cache
    folder of the platform (`~/.cache/fewshot-i2v` on Linux). An empty variable counts as not set,
    and a relative `XDG_CACHE_HOME` is ignored, as XDG rules say.

    Returns:
        The folder, absolute, `~` expanded. It is not created.
    """
    home = os.environ.get("FEWSHOT_I2V_HOME")
    if home:
        return Path(home).expanduser().absolute()
    xdg = os.environ.get("XDG_CACHE_HOME")
    if xdg and Path(xdg).is_absolute():
        return Path(xdg) / "fewshot-i2v"
    # imported here: most commands never ask for the platform's folder
    import platformdirs

    return Path(platformdirs.user_cache_dir("fewshot-i2v", appauthor=False))


DataKind = Literal["episodes", "configs"]
PACKAGE_FOLDER = Path(__file__).parents[1]


def data_folder(kind: DataKind) -> Path:
    """The folder of shipped splits ("episodes") or configurations ("configs").

    It is beside the package in a checkout, and inside the package once installed.
    """
    inside = PACKAGE_FOLDER / "_data" / kind
    return inside if inside.is_dir() else PACKAGE_FOLDER.parent / kind


def data_file(kind: DataKind, name: str, suggested: Sequence[str] | None = None) -> Path:
    """The YAML file of a shipped split or configuration, by name (`folder/name` below it).

    Args:
        kind: what it is.
        name: its name.
        suggested: names for the error where there is no such file; None: all.

    Raises:
        UnknownNameError: naming what exists.
    """
    folder = data_folder(kind)
    existing_names = data_names(kind)
    if name not in existing_names:
        label = "split" if kind == "episodes" else "config"
        example = "" if any(sign in name for sign in "/\\.") else f", such as {name}.yaml"
        hint = f"A path to a YAML file works too{example}."
        raise UnknownNameError(
            label, name, existing_names if suggested is None else suggested, hint
        )
    return folder / f"{name}.yaml"


def data_names(kind: DataKind) -> list[str]:
    """Names of the shipped splits or configurations of runs, sorted."""
    folder = data_folder(kind)
    names = (path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.yaml"))
    # recipes are parts of a configuration
    return sorted(name for name in names if not name.startswith("recipes/"))
