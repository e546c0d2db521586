"""Which values of a configuration are paths of files, and how they are written."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

_TAG_AND_PATH = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)@(.+)")
YAML_SUFFIXES = (".yaml", ".yml")
_WEIGHTS_SUFFIXES = (".safetensors", ".pt", ".pth", ".bin", ".ckpt")
_FILE_SUFFIXES = (*YAML_SUFFIXES, ".jsonl", ".jsonl.gz", *_WEIGHTS_SUFFIXES)


def is_path(text: str) -> bool:
    """Whether a split or pretrained weights are a file and not a name."""
    if "://" in text or text.startswith("hf-hub:"):
        return False
    return text.lower().endswith(_FILE_SUFFIXES) or text.startswith(("/", "./", "../", "~"))


def parse_pretrained(pretrained: str) -> tuple[str | None, str | None]:
    """Parse `pretrained` into tag and file; None for what it does not name.

    Args:
        pretrained: "TAG", a path, or "TAG@PATH": the tag's settings with the bytes of the file.
    """
    tagged = _TAG_AND_PATH.fullmatch(pretrained)
    if tagged is not None:
        return tagged[1], str(Path(tagged[2]).expanduser())
    if is_path(pretrained):
        return None, str(Path(pretrained).expanduser())
    return pretrained, None


def map_weights_file(pretrained: str, change: Callable[[str], str]) -> str:
    """Apply `change` to the file in `pretrained`, if it names one."""
    tag, file = parse_pretrained(pretrained)
    if file is None:
        return pretrained
    return change(file) if tag is None else f"{tag}@{change(file)}"


def file_name(path: str) -> str:
    """The file name of a path; only this decides results."""
    return Path(path).name


@dataclass(frozen=True)
class RelativeToFile:
    """Marks a key that may name files: in a YAML file, these are relative to its folder.

    Attributes:
        resolve: makes the value that counts of a value in a YAML file and the file's folder.
    """

    resolve: Callable[[str, Path], str]


def join_path(path: str, folder: Path) -> str:
    """A path that is relative to a folder."""
    return str(folder / Path(path).expanduser())


FILE = RelativeToFile(lambda path, folder: join_path(path, folder) if path else path)
NAME_OR_FILE = RelativeToFile(
    lambda text, folder: join_path(text, folder) if is_path(text) else text
)
WEIGHTS = RelativeToFile(
    lambda pretrained, folder: map_weights_file(pretrained, lambda file: join_path(file, folder))
)
