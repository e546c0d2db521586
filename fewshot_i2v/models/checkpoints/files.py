"""The files of a saved adapter: what they say, and how they are written and read.

Nothing in them is trusted: sizes are bounded, `adapter.json` is checked key by key, tensors are
data only. Each file names the other's digest.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from fewshot_i2v import registry
from fewshot_i2v.errors import CheckpointError, ExportError, UnknownNameError
from fewshot_i2v.models.checkpoints.metadata import (
    AdapterInfo,
    EncoderFacts,
    FileFacts,
    HeadFacts,
    MethodFacts,
    facts_of,
)
from fewshot_i2v.models.checkpoints.start_index import INFO_LIMIT
from fewshot_i2v.models.encoders.loading import Encoder
from fewshot_i2v.models.encoders.to_open_clip import CONFIG, WEIGHTS
from fewshot_i2v.utils.files import sweep, sync_folder_if_possible, temporary_of
from fewshot_i2v.utils.input_files import parse_json, read_regular

if TYPE_CHECKING:
    from fewshot_i2v.models.adapters.base.adapter import Adapter
    from fewshot_i2v.models.heads.base.head import Head

__all__ = [
    "INFO",
    "INFO_LIMIT",
    "SCHEMA",
    "TENSORS",
    "AdapterInfo",
    "EncoderFacts",
    "FileFacts",
    "HeadFacts",
    "MethodFacts",
    "check_file",
    "check_free",
    "facts_of",
    "facts_of_file",
    "fresh_folder",
    "read_info",
    "read_tensors",
    "read_values",
    "write_files",
]

SCHEMA = 1
"""Version of the layout of the two files."""
INFO = "adapter.json"
TENSORS = "adapter.safetensors"

_HEADER_LIMIT = 4 << 20
_LINK = "info_sha256"


@contextmanager
def fresh_folder(folder: Path) -> Iterator[Path]:
    """A folder to write to that takes its name once all is written and durable.

    Args:
        folder: must be absent or empty.

    Raises:
        CheckpointError: when it holds something.
        ExportError: when the disk refuses; nothing is left behind then.
    """
    check_free(folder)
    folder = folder.resolve()
    new = temporary_of(folder)
    try:
        sweep(folder)
        new.mkdir(parents=True)
        yield new
        for path in new.iterdir():
            with path.open("rb+") as file:
                os.fsync(file.fileno())
        sync_folder_if_possible(new)
        if folder.exists():
            folder.rmdir()
        new.rename(folder)
        sync_folder_if_possible(folder.parent)
    except (OSError, SafetensorError) as error:
        raise ExportError(f"{folder}: cannot be written: {error}") from error
    finally:
        shutil.rmtree(new, ignore_errors=True)


def check_free(folder: Path) -> None:
    """Refuses a folder with something in it, and a file.

    Raises:
        CheckpointError: naming it.
    """
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise CheckpointError(f"{folder}: exists, and nothing is written over; give a new folder")


def write_files(
    folder: Path, info: Mapping[str, Any], tensors: Mapping[str, Tensor]
) -> AdapterInfo:
    """Writes the two files of a saved adapter.

    Args:
        folder: exists and has neither.
        info: `AdapterInfo` in plain values, all of them but `tensors`.
        tensors: on the CPU.

    Raises:
        CheckpointError: when a tensor is not finite, or `info` is nothing for JSON or more than
            will be read.
    """
    path = folder / TENSORS
    _check_finite(tensors, path)
    try:
        link = _digest_of(info)
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{folder / INFO}: {error}; expected plain JSON values") from error
    save_file(dict(tensors), path, metadata={_LINK: link})
    whole = AdapterInfo.model_validate({**info, "tensors": facts_of_file(path).model_dump()})
    text = json.dumps(_written(whole), indent=2, allow_nan=False) + "\n"
    if len(text) > INFO_LIMIT:
        raise CheckpointError(f"{folder / INFO}: {len(text)} bytes; at most {INFO_LIMIT} are read")
    (folder / INFO).write_text(text, encoding="utf-8")
    shutil.copymode(folder / INFO, path)  # safetensors lets nobody else read
    return whole


def read_info(folder: Path) -> AdapterInfo:
    """Reads `adapter.json`.

    Raises:
        CheckpointError: when it is absent, damaged, or of another schema version.
    """
    path = folder / INFO
    try:
        plain = parse_json(read_regular(path, INFO_LIMIT), parse_constant=_refuse)
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: no such file; {_instead(folder)}") from error
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror}; not one that was written") from error
    except ValueError as error:
        raise CheckpointError(f"{path}: damaged: {error}") from error
    version = plain.get("schema_version") if isinstance(plain, dict) else None
    if version != SCHEMA:
        raise CheckpointError(
            f"{path}: schema version {version!r}; this version of fewshot-i2v reads {SCHEMA}. "
            "Use the version that wrote it"
        )
    try:
        return AdapterInfo.model_validate(plain)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise CheckpointError(f"{path}: damaged: {where}: {first['msg']}") from error


def read_tensors(folder: Path, info: AdapterInfo) -> dict[str, Tensor]:
    """Reads `adapter.safetensors` after checking that it is the file that `info` belongs to.

    Raises:
        CheckpointError: when it is absent, cut short, changed, or not finite, or was written with
            another `adapter.json`.
    """
    path = folder / TENSORS
    check_file(path, info.tensors)
    with path.open("rb") as file:
        header = int.from_bytes(file.read(8), "little")
    if header > _HEADER_LIMIT:
        raise CheckpointError(f"{path}: a header of {header} bytes; at most {_HEADER_LIMIT}")
    try:
        with safe_open(path, framework="pt") as opened:
            link = (opened.metadata() or {}).get(_LINK)
            # copies: what is mapped ends the process where somebody shortens the file later
            names = list(opened.keys())
            tensors = {name: opened.get_tensor(name).clone() for name in names}
    except SafetensorError as error:
        raise CheckpointError(f"{path}: not a safetensors file: {error}") from error
    if link != _digest_of({k: v for k, v in _written(info).items() if k != "tensors"}):
        raise CheckpointError(
            f"{folder / INFO}: changed since it was written, or from another folder: it is not the "
            f"one that {TENSORS} was written with"
        )
    _check_finite(tensors, path)
    return tensors


def read_values(folder: Path, info: AdapterInfo) -> dict[str, Tensor]:
    """The tensors as they are used: those of a starting point in half precision in float32.

    Only where `about["start"]["stored"]` says "float16"; elsewhere half precision is damage.

    Raises:
        CheckpointError: as `read_tensors`.
    """
    tensors = read_tensors(folder, info)
    start = info.about.get("start")
    if not isinstance(start, dict) or start.get("stored") != "float16":
        return tensors
    return {n: t.float() if t.dtype == torch.float16 else t for n, t in tensors.items()}


def facts_of_file(path: Path) -> FileFacts:
    """Length and sha256 of a file."""
    return FileFacts(bytes=path.stat().st_size, sha256=_file_digest(path))


def check_file(path: Path, facts: FileFacts) -> None:
    """Checks that a file is the one that was written.

    Raises:
        CheckpointError: when it is absent, cut short or changed.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file, though {INFO} is there")
    size = path.stat().st_size
    if size != facts.bytes:
        raise CheckpointError(f"{path}: {size} bytes where {INFO} says {facts.bytes}: damaged")
    found = _file_digest(path)
    if found != facts.sha256:
        raise CheckpointError(
            f"{path}: sha256 {found[:12]}... where {INFO} says {facts.sha256[:12]}...: it was "
            "changed since it was written, or the two files do not belong together"
        )


def _instead(folder: Path) -> str:
    """What a folder without a description is, and what to do."""
    if not folder.is_dir():
        return "there is no such folder"
    rows = [folder, *sorted(path.parent for path in folder.glob("*/run.json"))]
    row = next((path for path in rows if (path / "run.json").is_file()), None)
    if row is None:
        return "expected a folder with a saved adapter"
    return (
        "this is a run, which keeps predictions and no parameters. Write the adapter of an episode "
        f"with `fewshot-i2v export {row} --episode 0 --out NEW_FOLDER`, and load that folder"
    )


def _written(info: AdapterInfo) -> dict[str, Any]:
    """The keys that were given or read: folders from before a key was added stay what they were."""
    return info.model_dump(exclude_unset=True)


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not a number that JSON has")


def _digest_of(info: Mapping[str, Any]) -> str:
    text = json.dumps(dict(info), sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check_finite(tensors: Mapping[str, Tensor], path: Path) -> None:
    bad = [n for n, t in tensors.items() if t.is_floating_point() and not torch.isfinite(t).all()]
    if bad:
        raise CheckpointError(f"{path}: NaN or infinite values in {', '.join(bad[:5])}")


MODEL_FILES = (CONFIG, WEIGHTS)
"""Names of the files of merged weights."""


def check_merged(folder: Path, info: AdapterInfo) -> None:
    """Checks that an adapter was merged and that the merged weights are those that were written.

    Raises:
        CheckpointError: naming the file that is absent or was changed.
    """
    if info.merged_from is None:
        raise CheckpointError(
            f"{folder}: {info.adapter.name} was saved beside its encoder, not merged into it; use "
            "load_adapter"
        )
    if info.files.keys() != set(MODEL_FILES):
        raise CheckpointError(
            f"{folder / INFO}: does not say which {' and '.join(MODEL_FILES)} belong to it, as "
            "older versions did not; export the episode again"
        )
    for name in MODEL_FILES:
        check_file(folder / name, info.files[name])


def check_encoder(folder: Path, info: AdapterInfo, encoder: Encoder) -> None:
    """Refuses another encoder than the one an adapter was trained on.

    Raises:
        CheckpointError: naming both and what differs.
    """
    given, wanted = facts_of(encoder), info.encoder
    if (given.digest, given.image_size) == (wanted.digest, wanted.image_size):
        return
    if info.merged_from is not None and wanted.digest != given.digest:
        raise CheckpointError(
            f"{folder}: what remains of {info.adapter.name} after it was merged into "
            f"{info.merged_from.label}. It belongs to the merged weights in this folder, not to "
            f"{given.label}: use load_merged"
        )
    raise CheckpointError(
        f"{folder}: {info.adapter.name} was trained on {wanted.label}; you gave {given.label}. "
        f"What differs: {given.differences(wanted)}. Load the encoder that it was trained on"
    )


def class_of(kind: registry.Kind, name: str, folder: Path) -> type[Any]:
    """The class behind a saved name, which may be that of a plug-in that is not here.

    Raises:
        UnknownNameError: naming the folder, and what to do.
        UsageError: as `plugins.load` does.
    """
    try:
        return registry.load(kind, name)
    except UnknownNameError as error:
        file = f"{kind}/{name.replace('-', '_')}.py"
        hint = (
            f"{folder} was saved with it: let FEWSHOT_I2V_PLUGINS name the folder that holds {file}"
        )
        raise UnknownNameError(error.kind, name, error.known, hint) from error


def check_is_encoder(encoder: object) -> None:
    """Refuses what is no encoder, such as the name of one.

    Raises:
        CheckpointError: naming it.
    """
    if not isinstance(encoder, Encoder):
        raise CheckpointError(
            f"encoder: got {encoder!r} ({type(encoder).__name__}); expected what "
            "fewshot_i2v.load_encoder returns, such as load_encoder('demo')"
        )


def copy_of(kind: str, module: Adapter | Head, episode: int) -> dict[str, Tensor]:
    """One episode's tensors, each with a leading axis of 1, on the CPU.

    Args:
        kind: put before the names with a dot.
        module: of E copies.
        episode: which of them.

    Raises:
        CheckpointError: when there is no such copy, or a tensor has no episode axis.
    """
    if not 0 <= episode < module.episodes:
        raise CheckpointError(
            f"episode {episode}: the {kind} holds copies 0 to {module.episodes - 1}"
        )
    out = {}
    for name, tensor in module.state_dict().items():
        if tensor.shape[:1] != (module.episodes,):
            raise CheckpointError(f"{kind}.{name}: {tuple(tensor.shape)} has no episode axis")
        out[f"{kind}.{name}"] = tensor[episode, None].to("cpu", copy=True).contiguous()
    return out


def digest_of(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 (hexadecimal) of tensors: their names, types, shapes and bytes."""
    content = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        content.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        content.update(tensor.numpy().tobytes())
    return content.hexdigest()


def fill(
    folder: Path,
    info: AdapterInfo,
    modules: Mapping[str, nn.Module],
    tensors: Mapping[str, Tensor],
    frames: int,
) -> None:
    """Puts tensors into modules, which must have exactly these, of these shapes and types.

    Args:
        folder: where the tensors are from.
        info: what it says of them.
        modules: of one copy, by kind.
        tensors: named as by `copy_of`.
        frames: that the modules were built for.

    Raises:
        CheckpointError: naming what is missing, too many or of another shape, and where the number
            of frames can be the cause, both numbers.
    """
    states = {kind: module.state_dict() for kind, module in modules.items()}
    wanted = {f"{kind}.{n}": t for kind, state in states.items() for n, t in state.items()}
    odd = sorted(wanted.keys() ^ tensors.keys())
    if odd:
        raise CheckpointError(
            f"{folder / TENSORS}: does not fit {info.adapter.name} with these options and this "
            f"encoder: {len(odd)} tensors are missing or too many ({', '.join(odd[:5])})"
        )
    for name, expected in wanted.items():
        found = tensors[name]
        if (found.shape, found.dtype) == (expected.shape, expected.dtype):
            continue
        here = f"{name} is {_kind(found)} and should be {_kind(expected)}"
        if frames != info.frames:
            raise CheckpointError(
                f"{folder}: trained on clips of {info.frames} frames; you ask for {frames}, and "
                f"its parameters depend on them: {here}"
            )
        raise CheckpointError(f"{folder / TENSORS}: {here}")
    for kind, module in modules.items():
        module.load_state_dict({name: tensors[f"{kind}.{name}"] for name in states[kind]})


def _kind(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"
