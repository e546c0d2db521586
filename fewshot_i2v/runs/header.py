"""`run.json`: what a run is, and whether a folder belongs to the run that asks for it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import NoneType
from typing import Any, NoReturn

from fewshot_i2v.errors import RecordError
from fewshot_i2v.utils.files import write_atomically

SCHEMA = 1
"""Version of the layout of a run folder."""
_ABSENT = object()
_LONG, _MANY = 120, 40
"""Characters of a value, and keys that differ, that an error shows at most."""
_MOST_BYTES, _MOST_LEVELS, _HUGE = 64 << 20, 32, 1 << 63
_FORM: dict[str, tuple[tuple[type, ...], str]] = {
    "an object": (
        (dict,),
        "identity.config.encoder identity.config.video identity.config.tuning "
        "identity.config.adapter.options identity.config.head.options identity.start? "
        "identity.trials? identity.text? identity.versions? marks? split? encoder? start? trials?",
    ),
    "an object or null": ((dict, NoneType), "marks.start? marks.start.seen?"),
    "text": (
        (str,),
        "identity.config.split identity.config.subset identity.config.encoder.name "
        "identity.config.video.policy identity.config.adapter.name identity.config.head.name "
        "identity.config.start? identity.config.sampling? identity.config.frame_order? "
        "identity.split.digest identity.encoder.digest identity.device? marks.note? "
        "marks.start.kind? marks.start.name? marks.start.digest? split.path? start.path? "
        "trials.path?",
    ),
    "text or null": (
        (str, NoneType),
        "identity.config.encoder.pretrained identity.config.encoder.architecture "
        "encoder.pretrained? encoder.architecture?",
    ),
    "a whole number": (
        (int,),
        "identity.config.seed identity.config.video.frames identity.config.video.stride "
        "identity.config.training_seed? identity.at_once? position? parameters? threads? "
        "partitions?",
    ),
    "a whole number or null": ((int, NoneType), "identity.config.encoder.image_size"),
    "a number or null": ((int, float, NoneType), "macs_per_clip?"),
    "a whole number or text": (
        (int, str),
        "identity.config.way identity.config.shot identity.config.query",
    ),
    "a number": ((int, float), "identity.config.video.crop"),
    "true or false": ((bool,), "marks.uses_names? marks.disjoint?"),
}
"""What readers of a header rely on: nested keys with dots, "?" where one may be absent."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


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
    header = read_object(path, "Choose another --output")
    if header is None:
        return None
    version = header.get("schema")
    if version != SCHEMA:
        raise RecordError(
            f"{path}: schema version {version!r}; this version of fewshot-i2v reads {SCHEMA}. Use "
            "the version that wrote it, or another --output"
        )
    if not isinstance(header.get("identity"), dict):
        raise RecordError(f"{path}: damaged: it has no identity. Choose another --output")
    for expected, (kinds, keys) in _FORM.items():
        for key in keys.split():
            value = _value(header, key.removesuffix("?"))
            if not (_fits(value, kinds) or (value is _ABSENT and key.endswith("?"))):
                raise _damaged(path, key.removesuffix("?"), value, expected)
    for key in ("identity.config.adapter.name", "identity.config.head.name"):
        name = _value(header, key)
        if not _NAME.fullmatch(str(name)):
            raise _damaged(path, key, name, "a name of letters, digits, dots and dashes")
    return header


def _value(header: Mapping[str, Any], key: str) -> object:
    value: object = header
    for part in key.split("."):
        value = value.get(part, _ABSENT) if isinstance(value, dict) else _ABSENT
    return value


def _fits(value: object, kinds: tuple[type, ...]) -> bool:
    """Whether a value is of one of the types; no count is negative."""
    return type(value) in kinds and not (isinstance(value, int) and value < 0)


def _damaged(path: Path, key: str, value: object, expected: str) -> RecordError:
    return RecordError(
        f"{path}: damaged: {key} is {_shown(value)}; expected {expected}. Restore the file: "
        "nothing else says which run the records belong to"
    )


def read_object(path: Path, advice: str) -> dict[str, Any] | None:
    """A JSON object from a file of a run folder.

    Args:
        path: the file.
        advice: what to do where it is damaged, said in the error.

    Returns:
        The object, no deeper and with no larger numbers than a program that reads it expects; None
        where there is no such file.

    Raises:
        RecordError: when it cannot be read, or is damaged.
    """
    try:
        if path.exists() and not path.is_file():
            raise RecordError(f"{path}: not a regular file; expected JSON. {advice}")
        with path.open("rb") as file:
            data = file.read(_MOST_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise RecordError(f"{path}: cannot be read: {error.strerror or error}") from error
    try:
        if len(data) > _MOST_BYTES:
            raise ValueError(f"more than {_MOST_BYTES} bytes")
        content = json.loads(data, parse_constant=_refuse)
        _check_values(content)
    except (ValueError, RecursionError) as error:
        raise RecordError(f"{path}: damaged: {error}; expected JSON. {advice}") from error
    if not isinstance(content, dict):
        raise RecordError(f"{path}: damaged: no JSON object. {advice}")
    return content


def _check_values(content: object) -> None:
    """Refuses what is nested too deeply, and numbers that are none or that nothing counts to."""
    level = [content]
    for _ in range(_MOST_LEVELS):
        for value in level:
            if isinstance(value, int | float) and not abs(value) < _HUGE:
                raise ValueError(f"a number of {_HUGE} or more")
        inner = [value for value in level if isinstance(value, dict | list)]
        level = [v for one in inner for v in (one.values() if isinstance(one, dict) else one)]
    if level:
        raise ValueError(f"nested more than {_MOST_LEVELS} levels deep")


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not a number that JSON has")


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
    if len(differing) > _MANY:
        differing[_MANY:] = [f"... and {len(differing) - _MANY} more"]
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
    text = "absent" if value is _ABSENT else json.dumps(value)
    return text if len(text) <= _LONG else f"{text[: _LONG - 3]}..."
