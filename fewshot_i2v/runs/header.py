"""`run.json`: the identity and facts of a run, and the check of a resumed run's identity."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import NoneType
from typing import Any

from fewshot_i2v.errors import RecordError, RecordWriteError
from fewshot_i2v.utils.files import create_file, replace_file, sync_folder
from fewshot_i2v.utils.input_files import refuse_constant
from fewshot_i2v.utils.patience import Patience
from fewshot_i2v.utils.text_table import join_names

SCHEMA = 1
"""Version of the layout of a run folder."""
_ABSENT = object()
_MAX_VALUE_CHARS, _MAX_DIFFERENCES = 120, 40
"""Characters of a value, and keys that differ, that an error shows at most."""
_MAX_BYTES, _MAX_LEVELS, _MAX_NUMBER = 64 << 20, 32, 1 << 63
_KEY_TYPES: dict[str, tuple[tuple[type, ...], str]] = {
    "an object": (
        (dict,),
        "identity.config.encoder identity.config.video identity.config.tuning "
        "identity.config.adapter.options identity.config.head.options "
        "identity.config.class_texts? identity.start? "
        "identity.trials? identity.text? identity.versions? marks? split? encoder? start? trials? "
        "identity.methods? identity.methods.adapter? identity.methods.adapter.options? "
        "identity.methods.head? identity.methods.head.options? settings? settings.limits?",
    ),
    "an object or null": ((dict, NoneType), "marks.start? marks.start.seen?"),
    "text": (
        (str,),
        "identity.config.split identity.config.subset identity.config.encoder.name "
        "identity.config.video.policy identity.config.adapter.name identity.config.head.name "
        "identity.config.start? identity.config.sampling? identity.config.frame_order? "
        "identity.config.precision? "
        "identity.split.digest identity.encoder.digest identity.device? citation? marks.note? "
        "identity.trials.digest? name? split.name? "
        "marks.start.kind? marks.start.name? marks.start.digest? split.path? split.root? "
        "start.path? "
        "trials.path? settings.device?",
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
        "partitions? planned? cached_clips? settings.max_failed?",
    ),
    "a whole number or null": ((int, NoneType), "identity.config.encoder.image_size"),
    "a number or null": ((int, float, NoneType), "macs_per_clip?"),
    "a whole number or text": (
        (int, str),
        "identity.config.way identity.config.shot identity.config.query",
    ),
    "a whole number or auto": ((int, str), "settings.at_once?"),
    "a number": ((int, float), "identity.config.video.crop"),
    "true or false": ((bool,), "marks.uses_names? marks.disjoint?"),
}
"""What readers of a header rely on: nested keys with dots, "?" where one may be absent."""
_METHOD_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def write_json(
    path: Path,
    content: Mapping[str, Any],
    patience: Patience = Patience(),  # noqa: B008 - frozen
) -> None:
    """Replaces a JSON file of a run folder, atomically and durably.

    Where the disk refuses, it waits as long as `patience` says.

    Raises:
        RecordError: when JSON cannot carry it (objects, numbers that are not finite).
        RecordWriteError: when the disk refuses; the old content stays then.
    """
    data = _to_json(path, content)

    def _write() -> None:
        replace_file(path, data)
        sync_folder(path.parent)

    try:
        patience.run(path, _write)
    except OSError as error:
        raise RecordWriteError(path, error) from error


def _to_json(path: Path, content: Mapping[str, Any]) -> bytes:
    try:
        return (json.dumps(content, indent=2, allow_nan=False) + "\n").encode("ascii")
    except (TypeError, ValueError, RecursionError) as error:
        raise RecordError(f"{path}: not written: {error}; expected plain JSON values") from error


def recorded_root(header: Mapping[str, Any]) -> Path | None:
    """Returns the folder of the clips that a run was given, if it is still there."""
    root = header.get("split", {}).get("root")
    return Path(root) if root and Path(root).is_dir() else None


def read_header(path: Path) -> dict[str, Any] | None:
    """Reads `run.json`.

    Returns:
        Its content, or None where there is no such file.

    Raises:
        RecordError: when it is damaged or of another schema version.
    """
    header = read_json_object(path, "Choose another --output")
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
    for expected, (kinds, keys) in _KEY_TYPES.items():
        for key in keys.split():
            value = _nested_value(header, key.removesuffix("?"))
            if not (_has_type(value, kinds) or (value is _ABSENT and key.endswith("?"))):
                raise _damaged_error(path, key.removesuffix("?"), value, expected)
    for key in ("identity.config.adapter.name", "identity.config.head.name"):
        name = _nested_value(header, key)
        if not _METHOD_NAME.fullmatch(str(name)):
            raise _damaged_error(path, key, name, "a name of letters, digits, dots and dashes")
    return header


def _nested_value(header: Mapping[str, Any], key: str) -> object:
    value: object = header
    for name in key.split("."):
        value = value.get(name, _ABSENT) if isinstance(value, dict) else _ABSENT
    return value


def _has_type(value: object, kinds: tuple[type, ...]) -> bool:
    """Whether a value has one of the types; negative integers are refused."""
    return type(value) in kinds and not (isinstance(value, int) and value < 0)


def _damaged_error(path: Path, key: str, value: object, expected: str) -> RecordError:
    return RecordError(
        f"{path}: damaged: {key} is {_short_json(value)}; expected {expected}. Restore the file: "
        "nothing else says which run the records belong to"
    )


def read_json_object(path: Path, advice: str) -> dict[str, Any] | None:
    """Reads a JSON object from a file of a run folder.

    `advice` says, for the error, what to do where it is damaged.

    Returns:
        The object, within the limits of depth and of numbers that its readers rely on; None where
        there is no such file.

    Raises:
        RecordError: when it cannot be read, or is damaged.
    """
    try:
        if path.exists() and not path.is_file():
            raise RecordError(f"{path}: not a regular file; expected JSON. {advice}")
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise RecordError(f"{path}: cannot be read: {error.strerror or error}") from error
    try:
        if len(data) > _MAX_BYTES:
            raise ValueError(f"more than {_MAX_BYTES} bytes")
        content = json.loads(data, parse_constant=refuse_constant)
        _check_json_values(content)
    except (ValueError, RecursionError) as error:
        raise RecordError(f"{path}: damaged: {error}; expected JSON. {advice}") from error
    if not isinstance(content, dict):
        raise RecordError(f"{path}: damaged: no JSON object. {advice}")
    return content


def _check_json_values(content: object) -> None:
    """Raises for values that are nested too deeply, and for numbers that are too large or NaN."""
    level = [content]
    for _ in range(_MAX_LEVELS):
        for value in level:
            if isinstance(value, int | float) and not abs(value) < _MAX_NUMBER:
                raise ValueError(f"a number of {_MAX_NUMBER} or more")
        inner = [value for value in level if isinstance(value, dict | list)]
        level = [v for item in inner for v in (item.values() if isinstance(item, dict) else item)]
    if level:
        raise ValueError(f"nested more than {_MAX_LEVELS} levels deep")


def write_or_verify_header(
    folder: Path, header: Mapping[str, Any], identity: Mapping[str, Any], *, has_records: bool
) -> dict[str, Any]:
    """Writes `run.json`, or verifies that the existing one has the same identity.

    The facts of `header`, beside the identity, are not compared. The content of the file is
    returned.

    Raises:
        RecordError: naming every key of the identity that differs, with both values.
        RecordWriteError: when the disk refuses.
    """
    path = folder / "run.json"
    required = {"schema": SCHEMA, "identity": identity}
    # as JSON has it: tuples become lists
    requested: dict[str, Any] = json.loads(_to_json(path, {**required, **header, **required}))
    stored = verify_header(folder, identity, has_records=has_records)
    if stored is None and _create_json(path, requested):
        return requested
    # without one another shard was faster
    return stored or verify_header(folder, identity, has_records=has_records) or requested


def verify_header(
    folder: Path, identity: Mapping[str, Any], *, has_records: bool
) -> dict[str, Any] | None:
    """Verifies that an existing `run.json` has this identity, and returns its content, or None.

    Raises:
        RecordError: as `write_or_verify_header`.
    """
    path = folder / "run.json"
    stored = read_header(path)
    if stored is not None:
        _check_identity(path, stored["identity"], json.loads(_to_json(path, identity)))
    elif has_records:
        raise RecordError(
            f"{path}: absent, beside an episodes.jsonl, so nothing says which run the records "
            "belong to. Restore it, or choose another --output"
        )
    return stored


def _create_json(path: Path, content: Mapping[str, Any]) -> bool:
    """Writes a file that only one of several processes writes; returns whether it was this one."""
    try:
        is_created = create_file(path, _to_json(path, content))
        sync_folder(path.parent)
    except OSError as error:
        raise RecordWriteError(path, error) from error
    return is_created


def _check_identity(path: Path, stored: Mapping[str, Any], requested: Mapping[str, Any]) -> None:
    differing = list(differences(stored, requested))
    # runs of earlier versions had no recipe, and today's default is one
    has_none = any(line.startswith('config.tuning.recipe: "none" in') for line in differing)
    advice = "; this run was tuned without a recipe: --recipe none" if has_none else ""
    advice += precision_advice(stored, differing)
    if any(line.startswith("config.class_texts") for line in differing):
        command = shlex.join(["fewshot-i2v", "config", "show", str(path.parent.parent)])
        advice += f"; its texts of classes are in the configuration that `{command}` prints"
    if len(differing) > _MAX_DIFFERENCES:
        differing[_MAX_DIFFERENCES:] = [f"... and {len(differing) - _MAX_DIFFERENCES} more"]
    if differing:
        raise RecordError(
            f"{path}: the folder holds another run:\n  "
            + "\n  ".join(differing)
            + "\nChoose another --output for the new run, or use the settings of the folder"
            + advice
        )


def add_clip_digests(
    path: Path, header: Mapping[str, Any], digests: Mapping[str, str], n_cached: int | None = None
) -> dict[str, Any]:
    """Adds digests of clips, by name, to `run.json`; verifies those that it has; returns it anew.

    `n_cached`: clips whose features were in the cache, if the file has no such number yet.

    Raises:
        RecordError: naming clips that changed since an earlier start of the run.
        RecordWriteError: when the disk refuses.
    """
    recorded = header.get("clips", {})
    if not isinstance(recorded, dict):
        raise RecordError(f"{path}: damaged: its clips have no names. Choose another --output")
    check_clip_digests(path, recorded, digests)
    if digests.keys() <= recorded.keys():
        return dict(header)
    counts = {} if n_cached is None else {"cached_clips": n_cached}
    updated = {**counts, **header, "clips": {**recorded, **digests}}
    write_json(path, updated)
    return updated


def check_clip_digests(path: Path, recorded: Mapping[str, str], digests: Mapping[str, str]) -> None:
    """Verifies that clips are those that a file of the run has recorded.

    Raises:
        RecordError: naming clips that changed.
    """
    changed = sorted(name for name in digests if recorded.get(name, digests[name]) != digests[name])
    if changed:
        raise RecordError(
            f"{path}: these clips are not what they were when the run began: "
            f"{join_names(changed, 5)}. Put the former files back, or evaluate "
            "the new ones with another --output: a run has one file of each clip, also where "
            "--retry-failed runs episodes again"
        )


@dataclass(frozen=True, eq=False)
class _AbsentKey:
    """A key that a section of an identity leaves out.

    Attributes:
        key: with dots.
        section: the keys beside it.
    """

    key: str
    section: Mapping[str, Any]

    def __str__(self) -> str:
        """Says what its absence stands for."""
        # here, since readers of records do without pydantic
        from fewshot_i2v.config.absent_keys import values_of_absent_keys

        values = values_of_absent_keys()
        if self.key in values:
            return _short_json(values[self.key])
        if self.key == "config.training_seed":  # another seed, not a value of its own
            return f"not set (seed {self.section.get('seed')} is used)"
        return "absent"


def precision_advice(stored: Mapping[str, Any], differing: Iterable[str]) -> str:
    """Returns the flag that continues a run of another precision, after a semicolon, or "".

    "auto" stands for another precision on another machine.

    Args:
        stored: identity of the run in the folder.
        differing: lines of `differences`.
    """
    if not any(line.startswith("config.precision:") for line in differing):
        return ""
    return f"; its precision: --precision {stored['config'].get('precision', 'fp32')}"


def differences(stored: object, requested: object, key: str = "") -> Iterator[str]:
    """Yields one line for each key, nested ones with dots, with unequal values.

    A key of a configuration that is absent, for it has its default, is shown with that.
    """
    if isinstance(stored, dict) and isinstance(requested, dict):
        for name in [*stored, *(name for name in requested if name not in stored)]:
            nested_key = f"{key}.{name}" if key else name
            yield from differences(
                stored.get(name, _AbsentKey(nested_key, stored)),
                requested.get(name, _AbsentKey(nested_key, requested)),
                nested_key,
            )
    elif stored != requested or isinstance(stored, bool) != isinstance(requested, bool):
        texts = [_value_text(key, value) for value in (stored, requested)]
        yield f"{key}: {texts[0]} in the folder, {texts[1]} requested"


def _value_text(key: str, value: object) -> str:
    if value is None:
        from fewshot_i2v.config.absent_keys import keys_with_off

        value = "off" if key in keys_with_off() else None
    return str(value) if isinstance(value, _AbsentKey) else _short_json(value)


def _short_json(value: object) -> str:
    encoded = "absent" if value is _ABSENT else json.dumps(value)
    return encoded if len(encoded) <= _MAX_VALUE_CHARS else f"{encoded[: _MAX_VALUE_CHARS - 3]}..."
