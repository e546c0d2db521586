"""The two files of an adapter checkpoint: reading, writing and checking them.

Nothing in them is trusted: sizes are bounded, `adapter.json` is checked key by key, tensors are
data only. Each file names the digest of the other.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from pydantic import BaseModel, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from fewshot_i2v.errors import CheckpointError, ExportError
from fewshot_i2v.models.checkpoints.metadata import CheckpointMetadata, FileMetadata
from fewshot_i2v.models.checkpoints.start_index import MAX_METADATA_BYTES
from fewshot_i2v.utils.files import remove_leftovers, sync_file, sync_folder, temporary_path
from fewshot_i2v.utils.input_files import parse_json, read_regular, refuse_constant

if TYPE_CHECKING:
    from fewshot_i2v.models.adapters.base.adapter import Adapter
    from fewshot_i2v.models.heads.base.head import Head

Model = TypeVar("Model", bound=BaseModel)

SCHEMA_VERSION = 1
"""Version of the layout of the two files."""
METADATA_FILE = "adapter.json"
TENSORS_FILE = "adapter.safetensors"
CONFIG_FILE, WEIGHTS_FILE = "open_clip_config.json", "open_clip_model.safetensors"
"""Files of merged weights: the model's configuration and tensors, as open_clip looks for them."""
MERGED_MODEL_FILES = (CONFIG_FILE, WEIGHTS_FILE)

_HEADER_LIMIT = 4 << 20
_METADATA_DIGEST_KEY = "info_sha256"


@contextmanager
def atomic_folder(folder: Path) -> Iterator[Path]:
    """Yields a temporary folder that gets its final name once all is written and durable.

    Args:
        folder: must be absent or empty.

    Raises:
        CheckpointError: when it holds something.
        ExportError: when the disk refuses; nothing is left behind then.
    """
    require_empty(folder)
    folder = folder.resolve()
    temporary = temporary_path(folder)
    try:
        remove_leftovers(folder)
        temporary.mkdir(parents=True)
        yield temporary
        for path in temporary.iterdir():
            sync_file(path)
        sync_folder(temporary, ignore_errors=True)
        if folder.exists():
            folder.rmdir()
        temporary.rename(folder)
        sync_folder(folder.parent, ignore_errors=True)
    except (OSError, SafetensorError) as error:
        raise ExportError(f"{folder}: cannot be written: {error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def require_empty(folder: Path) -> None:
    """Refuses a folder that is not empty, and a file.

    Raises:
        CheckpointError: naming it.
    """
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise CheckpointError(f"{folder}: exists, and nothing is written over; give a new folder")


def write_checkpoint(
    folder: Path, metadata: Mapping[str, Any], tensors: Mapping[str, Tensor]
) -> CheckpointMetadata:
    """Writes the two files of an adapter checkpoint.

    Args:
        folder: exists and has neither.
        metadata: `CheckpointMetadata` in plain values, all keys but `tensors`.
        tensors: on the CPU.

    Raises:
        CheckpointError: when a tensor is not finite, or `metadata` has values that JSON does not
            have or is larger than will be read.
    """
    path = folder / TENSORS_FILE
    _check_finite(tensors, path)
    try:
        metadata_digest = _metadata_digest(metadata)
    except (TypeError, ValueError) as error:
        raise CheckpointError(
            f"{folder / METADATA_FILE}: {error}; expected plain JSON values"
        ) from error
    save_file(dict(tensors), path, metadata={_METADATA_DIGEST_KEY: metadata_digest})
    complete_metadata = CheckpointMetadata.model_validate(
        {**metadata, "tensors": file_metadata(path).model_dump()}
    )
    json_text = json.dumps(_explicit_keys(complete_metadata), indent=2, allow_nan=False) + "\n"
    if len(json_text) > MAX_METADATA_BYTES:
        raise CheckpointError(
            f"{folder / METADATA_FILE}: {len(json_text)} bytes; at most {MAX_METADATA_BYTES} are "
            "read"
        )
    (folder / METADATA_FILE).write_text(json_text, encoding="utf-8")
    shutil.copymode(folder / METADATA_FILE, path)  # safetensors lets nobody else read
    return complete_metadata


def read_metadata(folder: Path) -> CheckpointMetadata:
    """Reads `adapter.json`.

    Raises:
        CheckpointError: when it is absent, damaged, or of another schema version.
    """
    path = folder / METADATA_FILE
    try:
        plain = parse_json(read_regular(path, MAX_METADATA_BYTES), parse_constant=refuse_constant)
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: no such file; {_missing_file_hint(folder)}") from error
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror}; not one that was written") from error
    except ValueError as error:
        raise CheckpointError(f"{path}: damaged: {error}") from error
    return validate_schema(path, plain, CheckpointMetadata, SCHEMA_VERSION)


def validate_schema(
    path: Path, plain: object, model: type[Model], version: int, advice: str = ""
) -> Model:
    """Validates what was read from a file that states the version of its schema.

    Args:
        path: of the file.
        plain: plain values.
        model: of the schema.
        version: that can be read.
        advice: what else to do about another version.

    Raises:
        CheckpointError: for another version, or naming the first bad key.
    """
    found = plain.get("schema_version") if isinstance(plain, dict) else None
    if found != version:
        raise CheckpointError(
            f"{path}: schema version {found!r}; this version of fewshot-i2v reads {version}. Use "
            f"the version that wrote it{advice}"
        )
    try:
        return model.model_validate(plain)
    except ValidationError as error:
        problem = error.errors()[0]
        key_path = ".".join(map(str, problem["loc"]))
        raise CheckpointError(f"{path}: damaged: {key_path}: {problem['msg']}") from error


def read_tensors(folder: Path, metadata: CheckpointMetadata) -> dict[str, Tensor]:
    """Reads `adapter.safetensors` after checking that it is the file that `metadata` belongs to.

    Tensors of a starting point that is stored in half precision become float32.

    Raises:
        CheckpointError: when it is absent, cut short, changed, or not finite, or was written with
            another `adapter.json`.
    """
    path = folder / TENSORS_FILE
    verify_file(path, metadata.tensors)
    with path.open("rb") as file:
        header_bytes = int.from_bytes(file.read(8), "little")
    if header_bytes > _HEADER_LIMIT:
        raise CheckpointError(f"{path}: a header of {header_bytes} bytes; at most {_HEADER_LIMIT}")
    try:
        with safe_open(path, framework="pt") as tensor_file:
            metadata_digest = (tensor_file.metadata() or {}).get(_METADATA_DIGEST_KEY)
            # copies: what is mapped ends the process where somebody shortens the file later
            tensor_names = list(tensor_file.keys())
            tensors = {name: tensor_file.get_tensor(name).clone() for name in tensor_names}
    except SafetensorError as error:
        raise CheckpointError(f"{path}: not a safetensors file: {error}") from error
    if metadata_digest != _metadata_digest(
        {k: v for k, v in _explicit_keys(metadata).items() if k != "tensors"}
    ):
        raise CheckpointError(
            f"{folder / METADATA_FILE}: changed since it was written, or from another folder: it "
            f"is not the one that {TENSORS_FILE} was written with"
        )
    _check_finite(tensors, path)
    start = metadata.about.get("start")
    # only where the starting point says so: elsewhere half precision is damage
    if not isinstance(start, dict) or start.get("stored") != "float16":
        return tensors
    return {n: t.float() if t.dtype == torch.float16 else t for n, t in tensors.items()}


def file_metadata(path: Path) -> FileMetadata:
    """Length in bytes and sha256 of a file."""
    return FileMetadata(bytes=path.stat().st_size, sha256=_file_digest(path))


def verify_file(path: Path, expected: FileMetadata) -> None:
    """Checks that a file is unchanged since the checkpoint was written.

    Raises:
        CheckpointError: when it is absent, cut short or changed.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file, though {METADATA_FILE} is there")
    size = path.stat().st_size
    if size != expected.bytes:
        raise CheckpointError(
            f"{path}: {size} bytes where {METADATA_FILE} says {expected.bytes}: damaged"
        )
    sha256 = _file_digest(path)
    if sha256 != expected.sha256:
        raise CheckpointError(
            f"{path}: sha256 {sha256[:12]}... where {METADATA_FILE} says "
            f"{expected.sha256[:12]}...: it was changed since it was written, or the two files do "
            "not belong together"
        )


def _missing_file_hint(folder: Path) -> str:
    """Says what a folder without `adapter.json` is, and what to do."""
    if not folder.is_dir():
        return "there is no such folder"
    run_folders = [folder, *sorted(path.parent for path in folder.glob("*/run.json"))]
    run_folder = next((path for path in run_folders if (path / "run.json").is_file()), None)
    if run_folder is None:
        return "expected a folder with a saved adapter"
    return (
        "this is a run, which has predictions and no parameters. Write the adapter of an episode "
        f"with `fewshot-i2v export {run_folder} --episode 0 --out NEW_FOLDER`, and load that folder"
    )


def _explicit_keys(metadata: CheckpointMetadata) -> dict[str, Any]:
    """Keys that were set or read: checkpoints from before a key was added keep their keys."""
    return metadata.model_dump(exclude_unset=True)


def _metadata_digest(metadata: Mapping[str, Any]) -> str:
    json_text = json.dumps(dict(metadata), sort_keys=True, allow_nan=False)
    return hashlib.sha256(json_text.encode()).hexdigest()


def _file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check_finite(tensors: Mapping[str, Tensor], path: Path) -> None:
    non_finite = [
        n for n, t in tensors.items() if t.is_floating_point() and not torch.isfinite(t).all()
    ]
    if non_finite:
        raise CheckpointError(f"{path}: NaN or infinite values in {', '.join(non_finite[:5])}")


def episode_tensors(kind: str, module: Adapter | Head, episode: int) -> dict[str, Tensor]:
    """Copies one episode's tensors to the CPU, each with a leading axis of 1.

    Args:
        kind: prefix of the names, before a dot.
        module: of E copies.
        episode: which of the E copies.

    Raises:
        CheckpointError: when there is no such copy, or a tensor has no episode axis.
    """
    if not 0 <= episode < module.episodes:
        raise CheckpointError(
            f"episode {episode}: the {kind} holds copies 0 to {module.episodes - 1}"
        )
    tensors = {}
    for name, tensor in module.state_dict().items():
        if tensor.shape[:1] != (module.episodes,):
            raise CheckpointError(f"{kind}.{name}: {tuple(tensor.shape)} has no episode axis")
        tensors[f"{kind}.{name}"] = tensor[episode, None].to("cpu", copy=True).contiguous()
    return tensors


def load_tensors(
    folder: Path,
    metadata: CheckpointMetadata,
    modules: Mapping[str, nn.Module],
    tensors: Mapping[str, Tensor],
    frames: int,
) -> None:
    """Loads tensors into modules, which must have exactly these names, shapes and types.

    Args:
        folder: where the tensors are from.
        metadata: of the checkpoint.
        modules: of one copy, by kind.
        tensors: named as by `episode_tensors`.
        frames: frames T that the modules were built for.

    Raises:
        CheckpointError: naming tensors that are missing, unexpected or of another shape, and where
            the number of frames can be the cause, both numbers.
    """
    states = {kind: module.state_dict() for kind, module in modules.items()}
    expected_tensors = {
        f"{kind}.{n}": t for kind, state in states.items() for n, t in state.items()
    }
    mismatched_names = sorted(expected_tensors.keys() ^ tensors.keys())
    if mismatched_names:
        raise CheckpointError(
            f"{folder / TENSORS_FILE}: does not fit {metadata.adapter.name} with these options and "
            f"this encoder: {len(mismatched_names)} tensors are missing or too many "
            f"({', '.join(mismatched_names[:5])})"
        )
    for name, expected in expected_tensors.items():
        actual = tensors[name]
        if (actual.shape, actual.dtype) == (expected.shape, expected.dtype):
            continue
        mismatch = f"{name} is {_type_and_shape(actual)} and should be {_type_and_shape(expected)}"
        if frames != metadata.frames:
            raise CheckpointError(
                f"{folder}: trained on clips of {metadata.frames} frames; you ask for {frames}, "
                f"and its parameters depend on them: {mismatch}"
            )
        raise CheckpointError(f"{folder / TENSORS_FILE}: {mismatch}")
    for kind, module in modules.items():
        module.load_state_dict({name: tensors[f"{kind}.{name}"] for name in states[kind]})


def _type_and_shape(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"
