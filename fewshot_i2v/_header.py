"""`run.json`: what a run is, and whether a folder belongs to the run that asks for it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from fewshot_i2v._journal import write_atomically
from fewshot_i2v.errors import RecordError

SCHEMA = 1
"""Version of the layout of a run folder."""
_ABSENT = object()


def to_json(path: Path, content: Mapping[str, Any]) -> bytes:
    """Indented JSON with a newline at the end.

    Args:
        path: the file it is for, named in the error.
        content: plain JSON values.

    Raises:
        RecordError: when JSON cannot carry it (objects, numbers that are not finite).
    """
    try:
        return (json.dumps(content, indent=2, allow_nan=False) + "\n").encode("ascii")
    except (TypeError, ValueError, RecursionError) as error:
        raise RecordError(f"{path}: not written: {error}; expected plain JSON values") from error


def read_header(path: Path) -> dict[str, Any] | None:
    """Content of `run.json`.

    Args:
        path: the file.

    Returns:
        Its content, or None where there is no such file.

    Raises:
        RecordError: when it is damaged or of another schema version.
    """
    try:
        header = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise RecordError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise RecordError(
            f"{path}: damaged: {error}; expected JSON. Choose another --output"
        ) from error
    version = header.get("schema") if isinstance(header, dict) else None
    if version != SCHEMA:
        raise RecordError(
            f"{path}: schema version {version!r}; this version of fewshot-i2v reads {SCHEMA}. Use "
            "the version that wrote it, or another --output"
        )
    if not isinstance(header.get("identity"), dict):
        raise RecordError(f"{path}: damaged: it has no identity. Choose another --output")
    return dict(header)


def start_or_compare(
    folder: Path, header: Mapping[str, Any], identity: Mapping[str, Any]
) -> dict[str, Any]:
    """Write `run.json`, or check that the one that is there has the same identity.

    Args:
        folder: the run folder.
        header: facts beside the identity; not compared.
        identity: what decides the results.

    Returns:
        The content of the file.

    Raises:
        RecordError: naming every key of the identity that differs, with both values.
        RecordWriteError: when the disk refuses.
    """
    path, journal = folder / "run.json", folder / "episodes.jsonl"
    own = {"schema": SCHEMA, "identity": identity}
    asked_json = to_json(path, {**own, **header, **own})
    asked: dict[str, Any] = json.loads(asked_json)
    stored = read_header(path)
    if stored is None:
        if journal.exists():
            raise RecordError(
                f"{path}: absent, beside an episodes.jsonl, so nothing says which run the records "
                "belong to. Restore it, or choose another --output"
            )
        write_atomically(path, asked_json)
        return asked
    differing = list(differences(stored["identity"], asked["identity"]))
    if differing:
        raise RecordError(
            f"{path}: the folder holds another run:\n  "
            + "\n  ".join(differing)
            + "\nChoose another --output for the new run, or ask for what is in the folder"
        )
    return stored


def with_clips(
    path: Path, header: Mapping[str, Any], contents: Mapping[str, str]
) -> dict[str, Any]:
    """Add the contents of clips to `run.json`, or check that they are those that it names.

    Args:
        path: the file.
        header: what is in it.
        contents: clip name -> digest of its content.

    Returns:
        What is in the file then.

    Raises:
        RecordError: naming clips that are not what they were at an earlier start of the run.
        RecordWriteError: when the disk refuses.
    """
    known = header.get("clips", {})
    if not isinstance(known, dict):
        raise RecordError(f"{path}: damaged: its clips have no names. Choose another --output")
    changed = sorted(name for name in contents if known.get(name, contents[name]) != contents[name])
    if changed:
        more = f" and {len(changed) - 5} more" if len(changed) > 5 else ""
        raise RecordError(
            f"{path}: these clips are not what they were when the run began: "
            f"{', '.join(changed[:5])}{more}. Put the former files back, or choose another --output"
        )
    if contents.keys() <= known.keys():
        return dict(header)
    new = {**header, "clips": {**known, **contents}}
    write_atomically(path, to_json(path, new))
    return new


def differences(stored: object, asked: object, key: str = "") -> Iterator[str]:
    """One line for each key, nested ones with dots, whose values differ."""
    if isinstance(stored, dict) and isinstance(asked, dict):
        for name in [*stored, *(name for name in asked if name not in stored)]:
            inner = f"{key}.{name}" if key else name
            yield from differences(stored.get(name, _ABSENT), asked.get(name, _ABSENT), inner)
    elif stored != asked or isinstance(stored, bool) != isinstance(asked, bool):
        yield f"{key}: {_shown(stored)} in the folder, {_shown(asked)} asked for"


def _shown(value: object) -> str:
    return "absent" if value is _ABSENT else json.dumps(value)
