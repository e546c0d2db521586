"""Say what a path is that stands where another file was expected, and which command it is for."""

from __future__ import annotations

import mimetypes
import shlex
from pathlib import Path

TRAIN_FLAGS = " --adapter aim --val-subset off"
"""What a training of a split takes that has classes to train on, and none to validate on."""

_MAX_NAMED = 3


def explain_folder(folder: Path, command: str = "evaluate") -> str:
    """Describe a folder that is given in place of a configuration or split, and what to type.

    Args:
        folder: it must exist.
        command: "evaluate" or "train".

    Returns:
        The end of a message that begins with the folder's name.
    """
    shown = shlex.quote(str(folder))
    if _has_file(folder, "run.json"):
        return (
            f"is a folder of results; `fewshot-i2v show {shown}` shows its table. To continue the "
            "evaluation, give the command that began it"
        )
    if _has_file(folder, "adapter.json"):
        return f"is a starting point; use it with `fewshot-i2v evaluate --start {shown}`"
    yaml_files = sorted(path for path in folder.iterdir() if path.suffix in (".yaml", ".yml"))
    if yaml_files:
        example = shlex.quote(str(yaml_files[0]))
        return f"is a folder; expected one file of it: `fewshot-i2v {command} {example}`"
    subfolders = sorted(
        path.name for path in folder.iterdir() if path.is_dir() and path.name[0] != "."
    )
    if not subfolders:
        return (
            "is a folder without class folders; expected the clips of each class in a folder of "
            "its own. Then make a split of them: "
            f"`fewshot-i2v episodes new mine.yaml --root {shown}`"
        )
    return f"is a folder of {_list_names(subfolders)}. {_split_advice(folder, command)}"


def explain_file(path: Path, command: str = "evaluate") -> str:
    """Describe a file that is given in place of a configuration, by its name alone; "" for others.

    Args:
        path: of the file.
        command: "evaluate" or "train".
    """
    if path.suffix.lower() in (".yaml", ".yml"):
        return ""
    kind = mimetypes.guess_type(path.name)[0] or ""
    if path.name.endswith((".jsonl", ".jsonl.gz")):
        shown = shlex.quote(str(path))
        return f"is a file of episodes; use it with `fewshot-i2v evaluate --trials {shown}`"
    if kind.startswith(("video/", "image/")):
        return f"is a clip; expected a YAML file. {_split_advice(None, command)}"
    return ""


def _has_file(folder: Path, name: str) -> bool:
    """Whether a folder, or one of the two levels below it, has a file of that name."""
    patterns = (name, f"*/{name}", f"*/*/{name}")
    return any(next(folder.glob(pattern), None) is not None for pattern in patterns)


def _list_names(names: list[str]) -> str:
    listed = ", ".join(names[:_MAX_NAMED]) + (", ..." if len(names) > _MAX_NAMED else "")
    return f"{len(names)} folder{'s' if len(names) > 1 else ''} ({listed})"


def _split_advice(folder: Path | None, command: str) -> str:
    """The commands that evaluate, or train on, the clips in a folder of class folders."""
    root = "CLIPS" if folder is None else shlex.quote(str(folder))
    name = "mine" if folder is None else folder.resolve().name or "mine"
    file = shlex.quote(f"{name}.yaml")
    base, method = (" --base 0.5", TRAIN_FLAGS) if command == "train" else ("", "")
    return (
        "For clips in one folder per class, make a split and use it:\n"
        f"  fewshot-i2v episodes new {file} --root {root}{base}\n"
        f"  fewshot-i2v {command} --split {file} --root {root}{method}"
    )
