"""Output folder of a training: its checks, its lock, and the writing of the starting point."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from safetensors import SafetensorError

from fewshot_i2v.errors import CheckpointError, ConfigError, ExportError
from fewshot_i2v.models.checkpoints.files import METADATA_FILE, TENSORS_FILE, read_metadata
from fewshot_i2v.models.checkpoints.metadata import CheckpointMetadata
from fewshot_i2v.models.checkpoints.start_index import MAX_METADATA_BYTES
from fewshot_i2v.models.checkpoints.starting_point import TrainingFacts, read_start
from fewshot_i2v.runs.lock import RunLock
from fewshot_i2v.training.earlier_start import history_digest
from fewshot_i2v.training.state import STATE_FILE, STATE_FOLDER, check_same_training
from fewshot_i2v.utils.files import sync_file, sync_folder
from fewshot_i2v.utils.input_files import MAX_JSON_VALUES, count_json_values

START_KEY = "start"
"""Key of `CheckpointMetadata.about` under which a starting point says how it was trained."""
_DRAFT_FOLDER = "new"
_STATE_FILE_PREFIXES = ("running", STATE_FILE, f".{STATE_FILE}.", _DRAFT_FOLDER)
"""How the names of all begin that a training keeps in its hidden folder."""
_METADATA_RESERVE, _VALUES_RESERVE = 1 << 20, 1 << 17
"""Bytes and values of `adapter.json` that are not known yet, with room for a long curve."""


def load_finished(output: Path, identity: Mapping[str, Any]) -> CheckpointMetadata | None:
    """Loads the finished training of the folder, as `read_finished`; removes its old state."""
    info = read_finished(output, identity)
    if info is not None:
        clear_state_folder(output)  # of a run killed in its last moment
    return info


def read_finished(output: Path, identity: Mapping[str, Any]) -> CheckpointMetadata | None:
    """Reads the finished training of the folder; None where there is none.

    Args:
        output: may be absent.
        identity: what decides the result of the requested training.

    Raises:
        CheckpointError: when the folder holds another training, a damaged one, or something else.
    """
    check_output(output)
    if not (output / METADATA_FILE).exists():
        return None
    info = read_metadata(output)
    if not isinstance(info.about.get(START_KEY), dict):
        raise CheckpointError(f"{output}: holds an adapter that is no start; give a new --output")
    start = read_start(output, info.adapter.name)
    try:
        TrainingFacts.model_validate(info.about[START_KEY])
    except ValidationError as error:
        first_error = error.errors()[0]
        key_path = ".".join(map(str, ("about", START_KEY, *first_error["loc"])))
        raise CheckpointError(
            f"{output / METADATA_FILE}: damaged: {key_path}: {first_error['msg']}"
        ) from error
    requested = {
        key: identity[key]
        for key in ("config", "split", "encoder", "device", "start")
        if key in identity
    }
    facts = info.about[START_KEY]
    begun_from = facts.get("begun_from")
    stored = {
        "config": facts.get("config"),
        "split": start.facts.split.digest,
        "encoder": info.encoder.digest,
        "device": facts.get("device"),
        **({"start": history_digest(begun_from)} if begun_from else {}),
    }
    check_same_training(output, stored, requested)
    if start.digest != facts.get("digest"):
        raise CheckpointError(
            f"{output}: the tensors have the sha256 {start.digest}, and {METADATA_FILE} says "
            f"{facts.get('digest')}; delete the folder to train again"
        )
    return info


def check_output(output: Path) -> None:
    """Checks that a training can be written to, or is in, the folder; leaves it as it is.

    Raises:
        CheckpointError: for a file, and for a folder that holds files but no training.
    """
    for path in (output, *output.parents):
        if path.is_file():
            raise CheckpointError(
                f"--output {output}: {path} is a file; expected a folder, which may be new"
            )
    if not (output / METADATA_FILE).exists():
        _refuse_foreign_folder(output)


def _refuse_foreign_folder(output: Path) -> None:
    """Raises for a folder that holds files but no training."""
    if not output.exists():
        return
    state_folder = output / STATE_FOLDER
    if not state_folder.is_dir():
        entries = list(output.iterdir())
    else:
        entries = [
            path
            for path in state_folder.iterdir()
            if not path.name.startswith(_STATE_FILE_PREFIXES)
        ]
    if entries:
        raise CheckpointError(
            f"{output}: holds {entries[0].relative_to(output)} and no training; give a new --output"
        )


def clear_state_folder(output: Path) -> None:
    """Removes the saved training state, and nothing else.

    Args:
        output: folder of the training.
    """
    state_folder = output / STATE_FOLDER
    shutil.rmtree(state_folder / _DRAFT_FOLDER, ignore_errors=True)
    with suppress(OSError):  # what stays is in nobody's way
        for path in state_folder.iterdir():
            if path.name.startswith(_STATE_FILE_PREFIXES):
                path.unlink()
        state_folder.rmdir()


@contextmanager
def lock_output(output: Path) -> Iterator[None]:
    """Locks the folder against a second training process.

    Raises:
        ExportError: when the folder cannot be made.
        RecordError: when another process holds the lock.
    """
    try:
        (output / STATE_FOLDER).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ExportError(f"{output}: cannot be written: {error.strerror or error}") from error
    lock = RunLock(output / STATE_FOLDER)
    try:
        yield
    finally:
        lock.release()


def check_metadata_size(facts: Mapping[str, Any], output: Path) -> None:
    """Raises before the first step when the lists of classes and clips are too long to write.

    Args:
        facts: what the starting point will record about its training.
        output: folder of the training.

    Raises:
        ConfigError: naming the size.
    """
    text = json.dumps({"about": {START_KEY: facts}}, indent=2)
    problem = ""
    if len(text) > MAX_METADATA_BYTES - _METADATA_RESERVE:
        problem = f"would have {len(text)} bytes; at most {MAX_METADATA_BYTES} are read"
    elif count_json_values(text) > MAX_JSON_VALUES - _VALUES_RESERVE:
        problem = f"would have {count_json_values(text)} values; at most {MAX_JSON_VALUES} are read"
    if not problem:
        return
    earlier = " and of those that it began from" if facts.get("begun_from") else ""
    raise ConfigError(
        f"{output / METADATA_FILE}: {problem}. Most of them are names of clips of this training"
        f"{earlier}: train on a split of fewer clips" + (", or without start" if earlier else "")
    )


@contextmanager
def start_draft(output: Path) -> Iterator[Path]:
    """Yields a folder for the files of the starting point, which then move to the output.

    It is complete once `adapter.json`, the last file, is there.

    Args:
        output: locked by this process.

    Raises:
        ExportError: when the disk refuses; the saved state stays then.
    """
    draft = output / STATE_FOLDER / _DRAFT_FOLDER
    try:
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir()
        yield draft
        for name in (TENSORS_FILE, METADATA_FILE):
            sync_file(draft / name)
            (draft / name).replace(output / name)
            sync_folder(output, ignore_errors=True)
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ExportError(f"{output}: cannot be written: {reason}") from error
