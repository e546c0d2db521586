"""Which values of a configuration are paths of files, and how they are written."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

_TAGGED = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)@(.+)")
YAML_SUFFIXES = (".yaml", ".yml")
_FILES = (*YAML_SUFFIXES, ".jsonl", ".jsonl.gz", ".safetensors", ".pt", ".pth", ".bin", ".ckpt")


def is_path(text: str) -> bool:
    """Whether a split or pretrained weights are given as a file and not by name."""
    if "://" in text or text.startswith("hf-hub:"):
        return False
    return text.lower().endswith(_FILES) or text.startswith(("/", "./", "../", "~"))


def split_weights(pretrained: str) -> tuple[str | None, str | None]:
    """Tag and file of what is given as `pretrained`; None for what it does not name.

    Args:
        pretrained: "TAG", a path, or "TAG@PATH": the tag's settings with the bytes of the file.
    """
    tagged = _TAGGED.fullmatch(pretrained)
    if tagged is not None:
        return tagged[1], str(Path(tagged[2]).expanduser())
    if is_path(pretrained):
        return None, str(Path(pretrained).expanduser())
    return pretrained, None


def with_file(pretrained: str, change: Callable[[str], str]) -> str:
    """The same choice of weights, with its file, if it names one, written in another way."""
    tag, file = split_weights(pretrained)
    if file is None:
        return pretrained
    return change(file) if tag is None else f"{tag}@{change(file)}"


def file_name(path: str) -> str:
    """The last part of a path: all of it that decides results."""
    return Path(path).name
