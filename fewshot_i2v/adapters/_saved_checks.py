"""Whether what is loaded, and what it is loaded for, belong to a saved adapter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fewshot_i2v import plugins
from fewshot_i2v.adapters._saved import INFO, AdapterInfo, check_file, facts_of
from fewshot_i2v.encoders._model_folder import CONFIG, WEIGHTS
from fewshot_i2v.encoders.clip import Encoder
from fewshot_i2v.errors import CheckpointError, UnknownNameError

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


def class_of(kind: plugins.Kind, name: str, folder: Path) -> type[Any]:
    """The class behind a saved name, which may be that of a plug-in that is not here.

    Raises:
        UnknownNameError: naming the folder, and what to do.
        UsageError: as `plugins.load` does.
    """
    try:
        return plugins.load(kind, name)
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
