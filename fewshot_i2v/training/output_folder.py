"""The folder of a training: what may be in it, who holds it, and how it becomes a start."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from safetensors import SafetensorError

from fewshot_i2v.config.method import Choice
from fewshot_i2v.errors import CheckpointError, ConfigError, ExportError
from fewshot_i2v.models.adapters.base.adapter import Adapter
from fewshot_i2v.models.checkpoints.adapter_checkpoint import write_adapter
from fewshot_i2v.models.checkpoints.files import INFO, TENSORS, read_info
from fewshot_i2v.models.checkpoints.metadata import AdapterInfo
from fewshot_i2v.models.checkpoints.start_index import INFO_LIMIT
from fewshot_i2v.models.checkpoints.starting_point import TrainingFacts, read_start
from fewshot_i2v.models.encoders.loading import Encoder
from fewshot_i2v.runs.lock import RunMarker
from fewshot_i2v.training.state import FILE, FOLDER, refuse_other
from fewshot_i2v.utils.files import sync_folder_if_possible

START = "start"
"""Key of `AdapterInfo.about` under which a starting point says how it was trained."""
_NEW = "new"
_OURS = ("running", f"{FILE}.", FILE, _NEW)
"""How the names of all begin that a training keeps in its hidden folder."""
_ROOM = 1 << 20
"""Bytes of `adapter.json` that are not lists of classes and clips, with room for a long curve."""


def finished(output: Path, identity: Mapping[str, Any]) -> AdapterInfo | None:
    """What a finished training in the folder says; None where there is none.

    Args:
        output: may be absent.
        identity: what decides the result of the training that is asked for.

    Raises:
        CheckpointError: when the folder holds another training, a damaged one, or something else.
    """
    if not (output / INFO).exists():
        _refuse_strangers(output)
        return None
    info = read_info(output)
    if not isinstance(info.about.get(START), dict):
        raise CheckpointError(f"{output}: holds an adapter that is no start; give a new --output")
    start = read_start(output, info.adapter.name)
    try:
        TrainingFacts.model_validate(info.about[START])
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, ("about", START, *first["loc"])))
        raise CheckpointError(f"{output / INFO}: damaged: {where}: {first['msg']}") from error
    asked = {key: identity[key] for key in ("config", "split", "encoder", "device")}
    about = info.about[START]
    stored = {
        "config": about.get("config"),
        "split": start.facts.split.digest,
        "encoder": info.encoder.digest,
        "device": about.get("device"),
    }
    refuse_other(output, stored, asked)
    if start.digest != about.get("digest"):
        raise CheckpointError(
            f"{output}: the tensors have the sha256 {start.digest}, and {INFO} says "
            f"{about.get('digest')}; delete the folder to train again"
        )
    clear(output)  # of a run killed in its last moment
    return info


def _refuse_strangers(output: Path) -> None:
    """Refuses a folder that holds something and no training, and leaves it as it is."""
    if not output.exists():
        return
    if output.is_file():
        raise CheckpointError(f"{output}: is a file; give the --output of a training, a folder")
    inside = output / FOLDER
    if not inside.is_dir():
        odd = list(output.iterdir())
    else:
        odd = [path for path in inside.iterdir() if not path.name.startswith(_OURS)]
    if odd:
        raise CheckpointError(
            f"{output}: holds {odd[0].relative_to(output)} and no training; give a new --output"
        )


def clear(output: Path) -> None:
    """Removes what a training kept to go on from, and nothing else.

    Args:
        output: folder of the training.
    """
    inside = output / FOLDER
    shutil.rmtree(inside / _NEW, ignore_errors=True)
    with suppress(OSError):  # what stays is in nobody's way
        for path in inside.iterdir():
            if path.name.startswith(_OURS):
                path.unlink()
        inside.rmdir()


@contextmanager
def held(output: Path) -> Iterator[None]:
    """Keeps a second process from training into the same folder.

    Raises:
        ExportError: when the folder cannot be made.
        RecordError: when another process holds it.
    """
    try:
        (output / FOLDER).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ExportError(f"{output}: cannot be written: {error.strerror or error}") from error
    marker = RunMarker(output / FOLDER)
    try:
        yield
    finally:
        marker.release()


def check_room(about: Mapping[str, Any], output: Path) -> None:
    """Refuses lists of classes and clips that are too long to be written, before any step.

    Args:
        about: what the starting point will say of its training.
        output: where.

    Raises:
        ConfigError: naming the size.
    """
    size = len(json.dumps(about, indent=2))
    if size > INFO_LIMIT - _ROOM:
        raise ConfigError(
            f"{output / INFO}: would have {size} bytes, most of them names of clips; at most "
            f"{INFO_LIMIT} are read. Train on a split of fewer clips"
        )


def write(
    output: Path, encoder: Encoder, choice: Choice, adapter: Adapter, about: Mapping[str, Any]
) -> AdapterInfo:
    """Makes the folder a starting point: whole once `adapter.json` is there, which comes last.

    Args:
        output: held by this process.
        encoder: that the adapter was trained with.
        choice: the method.
        adapter: of one copy.
        about: how it was trained.

    Raises:
        ExportError: when the disk refuses; the state to go on from is kept then.
    """
    new = output / FOLDER / _NEW
    preset = choice.options.get("preset")
    try:
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir()
        info = write_adapter(
            new,
            encoder,
            choice.name,
            adapter,
            preset=None if preset is None else str(preset),
            about={START: json.loads(json.dumps(about))},
        )
        for name in (TENSORS, INFO):
            with (new / name).open("rb+") as file:
                os.fsync(file.fileno())
            (new / name).replace(output / name)
            sync_folder_if_possible(output)
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ExportError(f"{output}: cannot be written: {reason}") from error
    return info
